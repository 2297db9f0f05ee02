//! Volumes get what the image has at their places, before anybody mounts them.
//!
//! Whoever fills a volume holds it meanwhile, as any command does that works on volumes: containers that come at the same
//! time wait. Killed anywhere, it is begun anew by the next container.

use crate::context::Context;
use crate::failpoint;
use crate::failure::Failure;
use crate::image::Image;
use crate::start::storage;
use crate::start::storage::Top;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::time::Instant;
use volhook_api::PodRef;
use volhook_core::decision::Access;
use volhook_core::decision::Population;
use volhook_core::lease::LeaseTable;
use volhook_core::names::Command;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;
use volhook_core::plan::Plan;
use volhook_core::plan::PlannedCopyUp;
use volhook_core::plan::PlannedPart;
use volhook_core::record::VolumeRecord;
use volhook_core::volume::Part;
use volhook_core::volume::Volume;
use volhook_journal::Interest;
use volhook_leases::Hold;
use volhook_leases::Need;
use volhook_volumes::Changing;
use volhook_volumes::Copied;
use volhook_volumes::CopyError;
use volhook_volumes::Filled;
use volhook_volumes::StoreError;
use volhook_volumes::Wanted;
use volhook_volumes::Watch;

/// Does what `plan` says of filling, as far as nobody else does it just now: the next plan shows what is left.
pub(crate) fn fill(
    context: &Context<'_>,
    container: Option<&ContainerId>,
    plan: &Plan,
    volumes: &BTreeMap<VolumeId, Volume>,
    image: &Image<'_>,
    watch: &Watch<'_>,
) -> Result<(), Failure> {
    let mut records = Vec::new();
    for planned in &plan.copy_up {
        records.extend(copy_up(
            context,
            container,
            planned,
            volume_of(volumes, &planned.volume)?,
            image,
            watch,
        )?);
    }
    let storages: BTreeSet<&VolumeId> = plan.parts.iter().map(|planned| &planned.storage).collect();
    for id in storages {
        let parts: Vec<&PlannedPart> = plan.parts.iter().filter(|planned| planned.storage == *id).collect();
        records.extend(fill_parts(context, container, volume_of(volumes, id)?, &parts, image, watch)?);
    }
    failpoint::reached("filled")?;
    if records.is_empty() { Ok(()) } else { context.append_volumes(&records) }
}

fn volume_of<'a>(volumes: &'a BTreeMap<VolumeId, Volume>, id: &VolumeId) -> Result<&'a Volume, Failure> {
    volumes.get(id).ok_or_else(|| Failure::internal(format!("volume {id:?} of the plan was not looked up")))
}

/// The failure to fill a volume, with what can be done about it.
pub(crate) fn failed(volume: &Volume, error: StoreError) -> Failure {
    let timed_out = matches!(&error, StoreError::Populate { source: CopyError::Deadline, .. });
    let no_room = match &error {
        StoreError::Populate { source: CopyError::Failed { source, .. }, .. } => {
            matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        }
        _ => false,
    };
    let failure = Failure::new(error).about(volume.id.clone());
    match &volume.pod {
        Some(member) if no_room && volume.limit.is_some() => {
            let pod = PodRef::of(&volume.id, member);
            failure.hint(format!("`volhook pod resize {pod} SIZE` gives it more room"))
        }
        Some(member) if timed_out => failure.hint(format!(
            "`volhook pod prepare {} --rootfs DIR` does it ahead of a start, and takes its time",
            PodRef::of(&volume.id, member)
        )),
        None if timed_out => {
            failure.hint("give the hook a longer timeout, or claim the volume with volume-nocopy")
        }
        _ => failure,
    }
}

fn copy_up(
    context: &Context<'_>,
    container: Option<&ContainerId>,
    planned: &PlannedCopyUp,
    volume: &Volume,
    image: &Image<'_>,
    watch: &Watch<'_>,
) -> Result<Option<VolumeRecord>, Failure> {
    let Some(_hold) = hold(context, &Need::alone(volume), watch)? else { return Ok(None) };
    // Where the image has nothing, what somebody began is still to be done away with.
    let scratch;
    let source = match image.directory(&planned.from)? {
        Some(source) => source,
        None => {
            scratch = context.store.scratch().map_err(Failure::new)?;
            scratch.as_fd().try_clone_to_owned().map_err(Failure::internal)?
        }
    };
    let mut changing = change(context, volume, watch)?;
    let filled = changing.copy_up(source, watch).map_err(|error| failed(volume, error))?;
    Ok(match filled {
        Filled::Copied(copied) => Some(record(container, volume, &volume.id, copied)),
        // Another may have done it before this one held it.
        Filled::HadData | Filled::SourceEmpty | Filled::Over => None,
    })
}

fn fill_parts(
    context: &Context<'_>,
    container: Option<&ContainerId>,
    volume: &Volume,
    planned: &[&PlannedPart],
    image: &Image<'_>,
    watch: &Watch<'_>,
) -> Result<Vec<VolumeRecord>, Failure> {
    let Some(_hold) = hold(context, &Need::of(volume, Access::ReadWrite), watch)? else {
        return Ok(Vec::new());
    };
    let mut changing = change(context, volume, watch)?;
    let now = storage::of(changing.volume())?;
    let missing: Vec<&PlannedPart> =
        planned.iter().copied().filter(|planned| now.member(&planned.part.member).is_none()).collect();
    if now.population == Population::Overlay {
        let parts = missing.iter().map(|planned| planned.part.clone()).collect();
        changing.add_parts(parts).map_err(|error| failed(volume, error))?;
        return Ok(Vec::new());
    }
    let wanted = wanted(&missing, image)?;
    let top = Top::of(context, volume)?;
    let copied = changing.fill(top.as_fd(), &wanted, watch).map_err(|error| failed(volume, error))?;
    Ok(populated(container, volume, &missing, copied))
}

/// What is to be at the places of parts.
pub(crate) fn wanted(parts: &[&PlannedPart], image: &Image<'_>) -> Result<Vec<Wanted>, Failure> {
    let mut wanted = Vec::new();
    for planned in parts {
        let usable = planned.copy || !image.is_shifted();
        let from = if usable { image.directory(planned.part.path.as_str())? } else { None };
        wanted.push(Wanted { part: planned.part.clone(), from, copy: planned.copy });
    }
    Ok(wanted)
}

/// What the journal is told of parts that were filled.
pub(crate) fn populated(
    container: Option<&ContainerId>,
    volume: &Volume,
    parts: &[&PlannedPart],
    copied: Copied,
) -> Vec<VolumeRecord> {
    // What was copied was copied at once; it is told with the first.
    let told = parts.iter().enumerate().map(|(index, planned)| {
        let copied = if index == 0 { copied } else { Copied::default() };
        record(container, volume, &shown(volume, &planned.part), copied)
    });
    told.collect()
}

/// Whoever changes the volume already is waited for: it may be somebody who fills it.
fn change<'a>(context: &'a Context<'a>, volume: &Volume, watch: &Watch<'_>) -> Result<Changing<'a>, Failure> {
    context.store.change_within("fill", volume, watch.deadline).map_err(|error| failed(volume, error))
}

fn record(
    container: Option<&ContainerId>,
    volume: &Volume,
    shown: &VolumeId,
    copied: Copied,
) -> VolumeRecord {
    VolumeRecord::Populated {
        volume: shown.clone(),
        uuid: volume.uuid.clone(),
        entries: copied.files + copied.directories,
        bytes: copied.bytes,
        container: container.cloned(),
    }
}

/// Holds a volume to fill it; `None` when somebody else holds it or it is gone, so that there is nothing to fill any more.
/// Whoever else fills it is waited for.
fn hold<'a>(
    context: &'a Context<'a>,
    need: &Need<'_>,
    watch: &Watch<'_>,
) -> Result<Option<Hold<'a>>, Failure> {
    let volumes = [need.volume.id.clone()];
    let interest = Interest { volumes: &volumes, ..Interest::default() };
    loop {
        match Hold::take_unless_held(&context.ledger, Command::Populate, need, &context.work()) {
            // Who was waited for has removed it: what is to be there is planned anew.
            Err(volhook_leases::Error::NoSuchVolume { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
            Ok(Ok(hold)) => return Ok(Some(hold)),
            Ok(Err(holder)) if is_soon_done(&holder) && Instant::now() < watch.deadline => {
                let is_news = |table: &LeaseTable| {
                    let theirs = || table.grants().filter(|grant| grant.container == holder);
                    let (dead, dying) = context.dead(theirs());
                    theirs().next().is_none() || !dead.is_empty() || dying
                };
                context.ledger.await_news(&interest, watch.deadline, &context.work(), is_news)?;
            }
            Ok(Err(_)) => return Ok(None),
        }
    }
}

/// Whether a holder is there to make, fill or remove the volume, so that it is worth waiting for.
pub(crate) fn is_soon_done(holder: &ContainerId) -> bool {
    matches!(holder.command(), Some((Command::Populate | Command::Reset, _)))
}

/// Puts members of a pod's storage back to the image: what they hold is deleted.
pub(crate) fn reset(
    context: &Context<'_>,
    volume: &Volume,
    members: &[String],
    watch: &Watch<'_>,
) -> Result<(), Failure> {
    let hold = Hold::take(&context.ledger, Command::Reset, &[Need::alone(volume)], &context.work())?;
    let mut changing = context.store.change("reset", volume).map_err(Failure::new)?;
    let top = Top::of(context, volume)?;
    for member in members {
        changing.reset(top.as_fd(), member, watch.deadline).map_err(Failure::new)?;
    }
    drop(top);
    volhook_leases::await_free(&context.ledger, volume);
    drop(hold);
    let storage = storage::of(volume)?;
    let parts = members.iter().filter_map(|member| storage.member(member));
    let records: Vec<VolumeRecord> = parts
        .map(|part| VolumeRecord::Reset { volume: shown(volume, part), uuid: volume.uuid.clone() })
        .collect();
    context.append_volumes(&records)
}

/// A part of a storage, as people call it.
fn shown(storage: &Volume, part: &Part) -> VolumeId {
    VolumeId { tenant: storage.id.tenant.clone(), name: part.name.clone() }
}
