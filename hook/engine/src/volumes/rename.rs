//! Another name for a volume.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::named;
use volhook_api::VolumeRef;
use volhook_api::volume::Rename;
use volhook_core::names::Command;
use volhook_core::record::VolumeRecord;
use volhook_leases::Hold;
use volhook_leases::Need;
use volhook_leases::Work;

/// Gives a volume another name; what it is called then is the outcome.
///
/// # Errors
/// [`Kind::Held`](volhook_api::Kind), when the name is taken, and for a pod's volume.
pub fn rename(engine: &Engine, asked: &Rename, work: &Work<'_>) -> Result<VolumeRef, Failure> {
    let context = &Context::new(engine, *work);
    let volume = named::existing(context, asked.volume.id())?;
    let to = asked.to.id();
    if to.tenant != volume.id.tenant {
        return Err(Failure::usage(format!("volume {:?} cannot become tenant {:?}'s", volume.id, to.tenant))
            .hint("a volume stays its tenant's; `volhook volume clone` makes another tenant a copy"));
    }
    if let Some(member) = &volume.pod {
        return Err(Failure::new(format!("volume {:?} belongs to pod {:?}", volume.id, member.pod))
            .hint("its name is how the pod finds it"));
    }
    let _hold = Hold::take(&context.ledger, Command::Rename, &[Need::alone(&volume)], &context.work())?;
    let renamed =
        context.store.change("rename", &volume).and_then(|changing| changing.rename(to.name.clone()));
    let renamed = renamed.map_err(Failure::new)?;
    let record = VolumeRecord::Renamed {
        volume: volume.id.clone(),
        uuid: volume.uuid.clone(),
        to: renamed.id.clone(),
    };
    context.append_volumes(&[record])?;
    Ok(renamed.id.into())
}
