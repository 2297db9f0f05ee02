//! `volhook volume clone`: a volume made as a copy of another.

use crate::output::note;
use crate::output::out;
use crate::progress;
use crate::typed;
use crate::watch::Watch;
use volhook_api::VolumeRef;
use volhook_api::volume::CloneVolume;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::named;
use volhook_engine::volumes::clone;

/// `volhook volume clone NAME NEW`: prints the new volume's name.
pub(crate) fn clone(
    engine: &Engine,
    watch: &Watch,
    volumes: (&str, &str, &str),
    labels: &[String],
) -> Result<(), Failure> {
    let (tenant, name, new) = volumes;
    let request = CloneVolume {
        original: VolumeRef::from(named::volume_id(tenant, name)?),
        name: VolumeRef::from(named::volume_id(tenant, new)?),
        labels: typed::labels(labels)?,
    };
    let cloned = progress::stoppable(watch, |work| clone::clone(engine, &request, work))?;
    if !cloned.writers.is_empty() {
        note(&format!(
            "Note: {} could write to volume {:?} meanwhile; {:?} is not a copy of one point in time",
            cloned.writers.join(", "),
            request.original,
            request.name
        ));
    }
    if cloned.attributes_lost > 0 {
        note(&format!("Warning: {} extended attributes could not be kept", cloned.attributes_lost));
    }
    out(&format!("{}\n", cloned.name))
}
