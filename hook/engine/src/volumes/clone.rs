//! A volume made as a copy of another.

use crate::ask;
use crate::ask::Wanted;
use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::named;
use crate::volumes::copying::Copying;
use jiff::Timestamp;
use volhook_api::Kind;
use volhook_api::volume::CloneVolume;
use volhook_api::volume::Cloned;
use volhook_core::decision::Access;
use volhook_core::decision::Backing;
use volhook_core::decision::last_of_each;
use volhook_core::names::Command;
use volhook_core::names::VolumeId;
use volhook_core::record::VolumeRecord;
use volhook_core::volume::Volume;
use volhook_journal::Interest;
use volhook_leases::Hold;
use volhook_leases::Need;
use volhook_leases::Work;
use volhook_volumes::Cloning;
use volhook_volumes::Created;

/// Makes a volume as a copy of another.
///
/// # Errors
/// [`Kind::Exists`], [`Kind::Held`] for an image, when the driver refuses another one, when it cannot be copied whole, and when
/// the work is not wanted any more.
pub fn clone(engine: &Engine, asked: &CloneVolume, work: &Work<'_>) -> Result<Cloned, Failure> {
    let context = &Context::new(engine, *work);
    let id = asked.name.id();
    let labels = last_of_each(&asked.labels);
    let original = named::existing(context, asked.original.id())?;
    if context.store.find(id).map_err(Failure::new)?.is_some() {
        return Err(taken(id));
    }
    // A driver that rations what a tenant has is asked as for any new volume; what it would make is what there is.
    let wanted = Wanted {
        id,
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
    let copying = Copying::begin(*work, total);
    let cloned = context.store.clone_volume(&original, &cloning, &copying.watch());
    let (created, copied) = cloned.map_err(|error| Failure::new(error).about(original.id.clone()))?;
    let Created::New(volume) = created else {
        return Err(taken(id));
    };
    writers.extend(self::writers(context, &original)?);
    drop(hold);
    context.append_volumes(&[VolumeRecord::created(&volume, None)])?;
    writers.sort();
    writers.dedup();
    Ok(Cloned { name: asked.name.clone(), writers, attributes_lost: copied.attributes_lost })
}

fn taken(id: &VolumeId) -> Failure {
    let failure = Failure::new(format!("volume {id:?} exists already")).hint("choose another name");
    Failure { kind: Kind::Exists, ..failure.about(id.clone()) }
}

/// Who may write to a volume at this time.
fn writers(context: &Context<'_>, volume: &Volume) -> Result<Vec<String>, Failure> {
    let volumes = [volume.id.clone()];
    let table = context.grants_about(&Interest { volumes: &volumes, ..Interest::default() })?;
    let writing = table.holders(&volume.id).filter(|(_, lease)| lease.access == Access::ReadWrite);
    Ok(writing.map(|(grant, _)| volhook_core::plan::whom(&grant.container)).collect())
}
