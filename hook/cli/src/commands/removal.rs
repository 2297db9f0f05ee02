//! `volhook volume rm` and `volhook trash`: removing volumes, and the time in which that can be taken back.

use crate::filter::Filter;
use crate::output::complain;
use crate::output::confirm;
use crate::output::note;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use crate::output::warn;
use crate::progress;
use jiff::SignedDuration;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;
use volhook_api::Kind;
use volhook_core::decision::Backing;
use volhook_core::lease::VolumeRecord;
use volhook_core::names::Tenant;
use volhook_core::volume::Volume;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_engine::named;
use volhook_mounts::source;
use volhook_volumes::Discarded;
use volhook_volumes::StoreError;

/// What `volhook volume rm` is told.
pub(crate) struct Removal<'a> {
    pub(crate) names: &'a [String],
    /// Instead of names: all volumes but those of pods.
    pub(crate) all: bool,
    pub(crate) filter: &'a [String],
    pub(crate) tenant: &'a str,
    /// Skips the question, never the guard.
    pub(crate) force: bool,
}

/// `volhook volume rm`: all that can go goes to the trash, the rest is reported.
pub(crate) fn rm(context: &Context<'_>, removal: &Removal<'_>) -> Result<(), Failure> {
    let mut failures = Vec::new();
    let volumes = if removal.all {
        all(context, &Tenant::new(removal.tenant).map_err(Failure::usage)?, removal.filter)?
    } else {
        let mut volumes = Vec::new();
        for name in removal.names {
            match named::existing(context, &named::volume_id(removal.tenant, name)?) {
                Ok(Volume { id, storage: Some(_), pod: Some(member), .. }) => failures.push(
                    Failure::new(format!("volume {id:?} has all that pod {:?} keeps", member.pod.as_str()))
                        .hint(format!("`volhook pod rm {}` removes the pod", member.pod))
                        .about(id),
                ),
                Ok(volume) => volumes.push(volume),
                Err(failure) => failures.push(failure),
            }
        }
        volumes
    };
    if !volumes.is_empty() && !removal.force {
        for volume in &volumes {
            note(&format!("{} (driver {}, created {})", volume.id, volume.driver, volume.created));
        }
        if !confirm("Remove these volumes?")? {
            return Err(Failure::new("nothing was removed"));
        }
    }
    for volume in &volumes {
        match remove(context, volume) {
            Ok(()) => out(&format!("{}\n", volume.id))?,
            Err(failure) => failures.push(failure),
        }
    }
    report_all(failures)
}

/// Everything that is nobody's in particular: what belongs to a pod goes with its pod only.
pub(crate) fn all(context: &Context<'_>, tenant: &Tenant, filter: &[String]) -> Result<Vec<Volume>, Failure> {
    let filter = Filter::parse(filter)?;
    let listing = context.store.list().map_err(Failure::new)?;
    let table = context.grants()?;
    let meant = |volume: &Volume| {
        volume.id.tenant == *tenant
            && volume.pod.is_none()
            && filter.matches(volume, table.holders(&volume.id).next().is_some())
    };
    Ok(listing.volumes.into_iter().filter(meant).collect())
}

/// Prints all failures but the last, which decides how the command ends.
pub(crate) fn report_all(mut failures: Vec<Failure>) -> Result<(), Failure> {
    let Some(last) = failures.pop() else { return Ok(()) };
    for failure in failures {
        complain(&failure, false);
    }
    Err(last)
}

/// Moves one volume to the trash, unless somebody holds it. Under the lock, so that nobody takes a lease meanwhile.
pub(crate) fn remove(context: &Context<'_>, volume: &Volume) -> Result<(), Failure> {
    remove_if(context, volume, || Ok(()))
}

/// The same if `judge` has nothing against it, which is asked under the lock.
pub(crate) fn remove_if(
    context: &Context<'_>,
    volume: &Volume,
    judge: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let id = &volume.id;
    let (mut locked, table) = context
        .ledger
        .lock_volumes(std::slice::from_ref(id), &context.work())
        .map_err(Failure::from)
        .map_err(|failure| failure.during(format!("cannot remove volume {id:?}")))?;
    volhook_leases::refuse_held(&table, id)?;
    judge()?;
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
    context.store.discard(volume, now).map_err(Failure::new)?;
    let removed = VolumeRecord::Removed { volume: id.clone(), uuid: volume.uuid.clone() };
    locked.append_volumes(now, &[removed]).map_err(Failure::new)
}

/// `volhook trash ls`.
pub(crate) fn ls(context: &Context<'_>, as_json: bool) -> Result<(), Failure> {
    let trash = context.store.trash().map_err(Failure::new)?;
    for other in &trash.others {
        warn(&format!("{} is no removed volume: {}", other.path.display(), other.reason));
    }
    let until = |discarded: &Discarded| -> Result<Timestamp, Failure> {
        Ok(discarded.since.checked_add(grace(context)?).unwrap_or(Timestamp::MAX))
    };
    if as_json {
        let documents: Result<Vec<Value>, Failure> = trash
            .volumes
            .iter()
            .map(|discarded| {
                Ok(json!({
                    "name": discarded.volume.id.name.as_str(),
                    "tenant": discarded.volume.id.tenant.as_str(),
                    "driver": discarded.volume.driver,
                    "uuid": discarded.volume.uuid,
                    "removed": discarded.since.to_string(),
                    "kept_until": until(discarded)?.to_string(),
                }))
            })
            .collect();
        return print_json(&documents?.into());
    }
    let rows: Result<Vec<Vec<String>>, Failure> = trash
        .volumes
        .iter()
        .map(|discarded| {
            Ok(vec![
                discarded.volume.id.to_string(),
                discarded.volume.driver.clone(),
                discarded.since.strftime("%Y-%m-%d %H:%M").to_string(),
                until(discarded)?.strftime("%Y-%m-%d %H:%M").to_string(),
                discarded.volume.uuid.clone(),
            ])
        })
        .collect();
    print_table(&["name", "driver", "removed", "kept until", "uuid"], rows?)
}

/// `volhook trash restore NAME`: the newest of that name, or the one with this uuid.
pub(crate) fn restore(context: &Context<'_>, tenant: &str, name: &str) -> Result<(), Failure> {
    let trash = context.store.trash().map_err(Failure::new)?;
    let named = |d: &&Discarded| {
        (d.volume.id.name.as_str() == name && d.volume.id.tenant.as_str() == tenant) || d.volume.uuid == name
    };
    let newest = trash.volumes.iter().filter(named).max_by_key(|discarded| discarded.since);
    let Some(discarded) = newest else {
        let failure = Failure::new(format!("no removed volume is called {name:?}"));
        return Err(Failure {
            kind: Kind::NoSuchVolume,
            ..failure.hint("`volhook trash ls` shows which there are")
        });
    };
    let mut locked = context
        .lock(context.deadline)
        .map_err(|failure| failure.during(format!("cannot restore volume {:?}", discarded.volume.id)))?;
    let volume = context.store.restore(discarded).map_err(|error| not_restored(discarded, error))?;
    let restored = VolumeRecord::Restored { volume: volume.id.clone(), uuid: volume.uuid };
    locked.append_volumes(Timestamp::now(), &[restored]).map_err(Failure::new)?;
    out(&format!("{}\n", volume.id))
}

/// Why a volume stays in the trash, with what can be done about it.
fn not_restored(discarded: &Discarded, error: StoreError) -> Failure {
    let Volume { id, uuid, pod, .. } = &discarded.volume;
    let is_taken = matches!(error, StoreError::NameTaken { .. });
    let failure = Failure::new(error).about(id.clone());
    let make_way = match pod {
        Some(member) => format!("volhook pod rm {}", member.pod),
        None => format!("volhook volume rm {}", id.name),
    };
    if is_taken {
        failure.hint(format!(
            "`{make_way}` moves what is there to the trash; then `volhook trash restore {uuid}`"
        ))
    } else {
        failure
    }
}

/// `volhook trash empty`: what is in the trash is deleted for good.
pub(crate) fn empty(context: &Context<'_>, force: bool) -> Result<(), Failure> {
    let trash = context.store.trash().map_err(Failure::new)?;
    if trash.volumes.is_empty() {
        return Ok(());
    }
    if !force {
        for discarded in &trash.volumes {
            note(&format!("{} (removed {})", discarded.volume.id, discarded.since));
        }
        if !confirm("Delete these volumes for good?")? {
            return Err(Failure::new("nothing was deleted"));
        }
    }
    delete_before(context, Timestamp::now())
}

/// Deletes what was removed longer ago than the configured time.
pub(crate) fn delete_expired(context: &Context<'_>) -> Result<(), Failure> {
    let now = Timestamp::now();
    delete_before(context, now.checked_sub(grace(context)?).unwrap_or(Timestamp::MIN))
}

fn grace(context: &Context<'_>) -> Result<SignedDuration, Failure> {
    Ok(SignedDuration::from_hours(24 * i64::from(context.config()?.trash.days)))
}

fn delete_before(context: &Context<'_>, before: Timestamp) -> Result<(), Failure> {
    let there =
        |context: &Context<'_>| context.store.trash().map(|trash| trash.volumes).map_err(Failure::new);
    let was = there(context)?;
    // A person waits for this, not a container.
    let empty = || context.store.empty_trash(before, context.long_deadline());
    let emptied = progress::spinning("deleting", empty).map_err(Failure::new)?;
    let left = there(context)?;
    let gone = was.iter().filter(|was| left.iter().all(|left| left.volume.uuid != was.volume.uuid));
    let gone: Vec<&Volume> = gone.map(|discarded| &discarded.volume).collect();
    let deleted =
        |volume: &&Volume| VolumeRecord::Deleted { volume: volume.id.clone(), uuid: volume.uuid.clone() };
    if !gone.is_empty() {
        context.append_volumes(&gone.iter().map(deleted).collect::<Vec<_>>())?;
    }
    for volume in gone {
        out(&format!("deleted {}\n", volume.id))?;
    }
    let kept = emptied
        .kept
        .iter()
        .map(|(path, reason)| Failure::new(format!("{} cannot be deleted: {reason}", path.display())));
    report_all(kept.collect())
}
