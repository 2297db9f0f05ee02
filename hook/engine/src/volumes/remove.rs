//! Removing volumes: what would go is said first, as data, and is looked at anew when it goes.

use crate::context::Context;
use crate::engine::Engine;
use crate::failpoint;
use crate::failure::Failure;
use crate::named;
use crate::volumes::filter::Matcher;
use crate::volumes::unused::History;
use jiff::Timestamp;
use std::collections::BTreeSet;
use volhook_api::PodRef;
use volhook_api::VolumeRef;
use volhook_api::filter::Filter;
use volhook_api::volume::Removable;
use volhook_api::volume::Removal;
use volhook_api::volume::Removed;
use volhook_api::volume::Selection;
use volhook_core::decision::Backing;
use volhook_core::names::Command;
use volhook_core::names::Tenant;
use volhook_core::record::VolumeRecord;
use volhook_core::volume::Volume;
use volhook_leases::Hold;
use volhook_leases::Need;
use volhook_leases::Work;
use volhook_mounts::source;

/// What would be removed of what is meant.
///
/// # Errors
/// When the store or the journal cannot be read, and when a filter makes no sense. A volume that cannot be removed is part of
/// the outcome.
pub fn removable(engine: &Engine, meant: &Selection, work: &Work<'_>) -> Result<Removal, Failure> {
    let context = &Context::new(engine, *work);
    let mut removal = Removal { volumes: Vec::new(), unused_for: None, failed: Vec::new() };
    match meant {
        Selection::Named(names) => {
            let mut seen = BTreeSet::new();
            for name in names.iter().filter(|name| seen.insert(*name)) {
                match named(context, name) {
                    Ok(volume) => removal.volumes.push(said(volume, None)),
                    Err(failure) => removal.failed.push(failure.as_failed()),
                }
            }
        }
        Selection::All { tenant, filter } => {
            let volumes = of_nobody(context, tenant, filter)?;
            removal.volumes.extend(volumes.into_iter().map(|volume| said(volume, None)));
        }
        Selection::Unused { tenant, filter, days } => {
            let history = History::read(context, *days)?;
            let table = context.seen()?;
            removal.unused_for = Some(*days);
            for volume in of_nobody(context, tenant, filter)? {
                if let Some(last) = history.unused(&volume, &table) {
                    let time = last.since.strftime("%Y-%m-%d %H:%M");
                    removal.volumes.push(said(volume, Some(format!("{}, {time}", last.event))));
                }
            }
        }
    }
    Ok(removal)
}

/// Removes what was said to be removable, as far as it is the same by now: each volume goes to the trash, unless somebody
/// holds it.
///
/// # Errors
/// When nothing can be looked at. A volume that stays is part of the outcome.
pub fn remove(engine: &Engine, removal: &Removal, work: &Work<'_>) -> Result<Removed, Failure> {
    let context = &Context::new(engine, *work);
    let mut history = removal.unused_for.map(|days| History::read(context, days)).transpose()?;
    let mut outcome = Removed::default();
    for removable in &removal.volumes {
        let gone = named(context, &removable.name).and_then(|volume| {
            if volume.uuid != removable.uuid {
                return Err(replaced(&volume));
            }
            discard_if(context, &volume, || match &mut history {
                Some(history) => history.still_unused(&volume),
                None => Ok(()),
            })
        });
        match gone {
            Ok(()) => outcome.removed.push(removable.name.clone()),
            Err(failure) => outcome.failed.push(failure.as_failed()),
        }
    }
    Ok(outcome)
}

/// A volume that may be removed by its name: not one that has all that a pod keeps.
fn named(context: &Context<'_>, name: &VolumeRef) -> Result<Volume, Failure> {
    match named::existing(context, name.id())? {
        Volume { id, storage: Some(_), pod: Some(member), .. } => {
            Err(Failure::new(format!("volume {id:?} has all that pod {:?} keeps", member.pod.as_str()))
                .hint(format!("`volhook pod rm {}` removes the pod", PodRef::of(&id, &member)))
                .about(id))
        }
        volume => Ok(volume),
    }
}

fn said(volume: Volume, unused: Option<String>) -> Removable {
    let Volume { id, uuid, driver, created, .. } = volume;
    Removable { name: id.into(), uuid, driver, created, unused }
}

fn replaced(volume: &Volume) -> Failure {
    Failure::new(format!("volume {:?} is another one by now, and stays", volume.id)).about(volume.id.clone())
}

/// Everything that is nobody's in particular: what belongs to a pod goes with its pod only.
fn of_nobody(context: &Context<'_>, tenant: &Tenant, filter: &Filter) -> Result<Vec<Volume>, Failure> {
    let filter = Matcher::new(filter)?;
    let listing = context.store.list().map_err(Failure::new)?;
    let table = context.seen()?;
    let meant = |volume: &Volume| {
        volume.id.tenant == *tenant
            && volume.pod.is_none()
            && filter.matches(volume, table.holders(&volume.id).next().is_some())
    };
    Ok(listing.volumes.into_iter().filter(meant).collect())
}

/// Moves one volume to the trash, unless somebody holds it. Under a lease, so that nobody else has one meanwhile.
///
/// # Errors
/// [`Kind::Held`](volhook_api::Kind), and when it cannot be moved.
pub fn discard(context: &Context<'_>, volume: &Volume) -> Result<(), Failure> {
    discard_if(context, volume, || Ok(()))
}

/// The same if `judge` has nothing against it, which is asked when nobody else can have the volume any more.
fn discard_if(
    context: &Context<'_>,
    volume: &Volume,
    judge: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let id = &volume.id;
    let hold = Hold::take(&context.ledger, Command::Reset, &[Need::alone(volume)], &context.work());
    let _hold = hold.map_err(|error| match error {
        error @ volhook_leases::Error::Held { .. } => Failure::from(error),
        error => Failure::from(error).during(format!("cannot remove volume {id:?}")),
    })?;
    judge()?;
    let discarding = context.store.discarding(volume).map_err(Failure::new)?;
    // Whatever the leases say: what the kernel has mounted stays.
    let _locked = match volume.backing {
        Backing::Image(_) => match source::lock_image(&context.store.image_path(volume)) {
            Ok(locked) => Some(locked),
            // One that has lost its image can go.
            Err(volhook_mounts::Error::ImageMissing { .. }) => None,
            Err(error) => {
                return Err(Failure::context(format!("volume {id:?} cannot be removed now"), error)
                    .hint("`losetup --list` shows what is mounted from which file")
                    .about(id.clone()));
            }
        },
        _ => None,
    };
    let now = Timestamp::now();
    discarding.into_trash(now).map_err(Failure::new)?;
    failpoint::reached("discarded")?;
    // Before the lease ends: from then on whoever found the volume earlier looks again.
    context.append_volumes(&[VolumeRecord::Removed { volume: id.clone(), uuid: volume.uuid.clone() }])
}
