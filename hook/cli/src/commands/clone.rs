//! `volhook volume clone`: a volume made as a copy of another.

use crate::output::note;
use crate::output::out;
use crate::output::pairs;
use crate::progress::Progress;
use jiff::Timestamp;
use volhook_core::decision::Access;
use volhook_core::decision::Backing;
use volhook_core::lease::VolumeRecord;
use volhook_core::names::Command;
use volhook_core::names::VolumeId;
use volhook_core::volume::Volume;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_engine::ask;
use volhook_engine::ask::Wanted;
use volhook_engine::named;
use volhook_journal::Interest;
use volhook_leases::Hold;
use volhook_leases::Need;
use volhook_volumes::Cloning;
use volhook_volumes::Created;

/// `volhook volume clone NAME NEW`: prints the new volume's name.
pub(crate) fn clone(
    context: &Context<'_>,
    tenant: &str,
    name: &str,
    new: &str,
    labels: &[String],
) -> Result<(), Failure> {
    let id = named::volume_id(tenant, new)?;
    let labels = pairs("--label", labels)?;
    let original = named::existing(context, &named::volume_id(tenant, name)?)?;
    if context.store.find(&id).map_err(Failure::new)?.is_some() {
        return Err(taken(&id));
    }
    // A driver that rations what a tenant has is asked as for any new volume; what it would make is what there is.
    let wanted = Wanted {
        id: &id,
        driver: Some(&original.driver),
        options: &original.options,
        labels: &labels,
        member: None,
        before: &[],
    };
    let uuid = ask::new_volume(context, &wanted)?.uuid;
    let hold = Hold::take(
        &context.ledger,
        Command::Clone,
        &[Need::of(&original, Access::ReadOnly)],
        &context.work(),
    )?;
    let mut writers = writers(context, &original)?;
    let total = match &original.backing {
        Backing::Image(_) => context.store.size(&original).ok(),
        // Counting first would take nearly as long as copying.
        _ => None,
    };
    let cloning = Cloning { id: id.clone(), uuid, labels, created: Timestamp::now() };
    let progress = Progress::begin(total)?;
    let (created, copied) = progress.watch(|watch| {
        context
            .store
            .clone_volume(&original, &cloning, watch)
            .map_err(|error| Failure::new(error).about(original.id.clone()))
    })?;
    let Created::New(volume) = created else {
        return Err(taken(&id));
    };
    writers.extend(self::writers(context, &original)?);
    drop(hold);
    context.append_volumes(&[VolumeRecord::Created {
        volume: volume.id,
        uuid: volume.uuid,
        driver: volume.driver,
        container: None,
    }])?;
    writers.sort();
    writers.dedup();
    if !writers.is_empty() {
        note(&format!(
            "Note: {} could write to volume {:?} meanwhile; {id:?} is not a copy of one point in time",
            writers.join(", "),
            original.id
        ));
    }
    if copied.attributes_lost > 0 {
        note(&format!("Warning: {} extended attributes could not be kept", copied.attributes_lost));
    }
    out(&format!("{}\n", id.name))
}

fn taken(id: &VolumeId) -> Failure {
    Failure::new(format!("volume {id:?} exists already")).hint("choose another name").about(id.clone())
}

/// Who may write to a volume at this time.
fn writers(context: &Context<'_>, volume: &Volume) -> Result<Vec<String>, Failure> {
    let volumes = [volume.id.clone()];
    let table = context.grants_about(&Interest { volumes: &volumes, ..Interest::default() })?;
    let writing = table.holders(&volume.id).filter(|(_, lease)| lease.access == Access::ReadWrite);
    Ok(writing.map(|(grant, _)| volhook_core::plan::whom(&grant.container)).collect())
}
