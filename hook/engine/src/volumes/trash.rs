//! The time in which removing a volume can be taken back.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use jiff::SignedDuration;
use jiff::Timestamp;
use volhook_api::Kind;
use volhook_api::PodRef;
use volhook_api::Remark;
use volhook_api::VolumeRef;
use volhook_api::volume::Emptied;
use volhook_api::volume::Restore;
use volhook_api::volume::Trashed;
use volhook_core::record::VolumeRecord;
use volhook_core::volume::Volume;
use volhook_leases::Work;
use volhook_leases::clock;
use volhook_volumes::Deleted;
use volhook_volumes::Discarded;
use volhook_volumes::StoreError;

/// What is in the trash. What stands there and is no removed volume is told.
///
/// # Errors
/// When the trash cannot be read.
pub fn list(engine: &Engine, work: &Work<'_>) -> Result<Vec<Trashed>, Failure> {
    let context = &Context::new(engine, *work);
    let trash = context.store.trash().map_err(Failure::new)?;
    for other in &trash.others {
        let cause = format!("{} is no removed volume: {}", other.path.display(), other.reason);
        work.watcher.told(&Remark::PassedOver { cause });
    }
    // Whoever needs room is not to mend the configuration first.
    let grace = if trash.volumes.is_empty() {
        Err(())
    } else {
        grace(context).map_err(|failure| {
            let cause =
                format!("nobody can tell until when removed volumes are kept: {}", failure.cause_line());
            work.watcher.told(&Remark::PassedOver { cause });
        })
    };
    let document = |Discarded { volume, since, .. }: Discarded| Trashed {
        name: VolumeRef::from(&volume.id),
        tenant: volume.id.tenant,
        driver: volume.driver,
        uuid: volume.uuid,
        removed: since,
        kept_until: grace.ok().map(|grace| since.checked_add(grace).unwrap_or(Timestamp::MAX)),
    };
    Ok(trash.volumes.into_iter().map(document).collect())
}

/// Takes a removed volume back: the newest of that name, or the one with this uuid.
///
/// # Errors
/// [`Kind::NoSuchVolume`], and [`Kind::Exists`] where its name is taken by now.
pub fn restore(engine: &Engine, asked: &Restore, work: &Work<'_>) -> Result<VolumeRef, Failure> {
    let context = &Context::new(engine, *work);
    let trash = context.store.trash().map_err(Failure::new)?;
    let name = VolumeRef::parse(&asked.which, &asked.tenant).ok();
    let meant = |discarded: &&Discarded| {
        name.as_ref().is_some_and(|name| *name.id() == discarded.volume.id)
            || discarded.volume.uuid == asked.which
    };
    let Some(discarded) = trash.volumes.iter().filter(meant).max_by_key(|discarded| discarded.since) else {
        let failure = Failure::new(format!("no removed volume is called {:?}", asked.which));
        let failure = failure.hint("`volhook trash ls` shows which there are");
        return Err(Failure { kind: Kind::NoSuchVolume, ..failure });
    };
    let volume = context.store.restore(discarded).map_err(|error| not_restored(discarded, error))?;
    context.append_volumes(&[VolumeRecord::Restored { volume: volume.id.clone(), uuid: volume.uuid }])?;
    Ok(volume.id.into())
}

/// Why a volume stays in the trash, with what can be done about it.
fn not_restored(discarded: &Discarded, error: StoreError) -> Failure {
    let Volume { id, uuid, pod, .. } = &discarded.volume;
    let is_taken = matches!(error, StoreError::NameTaken { .. });
    let failure = Failure::new(error).about(id.clone());
    if !is_taken {
        return failure;
    }
    let make_way = match pod {
        Some(member) => format!("volhook pod rm {}", PodRef::of(id, member)),
        None => format!("volhook volume rm {id}"),
    };
    let hint = format!("`{make_way}` moves what is there to the trash; then `volhook trash restore {uuid}`");
    Failure { kind: Kind::Exists, ..failure.hint(hint) }
}

/// Deletes for good what was removed before `before`.
///
/// # Errors
/// When the trash cannot be read, and when what is gone cannot be written down. A volume that stays is part of the outcome.
pub fn empty(engine: &Engine, before: Timestamp, work: &Work<'_>) -> Result<Emptied, Failure> {
    let context = &Context::new(engine, *work);
    // Somebody waits for this, not a container.
    let emptied = context.store.empty_trash(before, context.long_deadline()).map_err(Failure::new)?;
    let record =
        |deleted: &Deleted| VolumeRecord::Deleted { volume: deleted.id.clone(), uuid: deleted.uuid.clone() };
    if !emptied.volumes.is_empty() {
        context.append_volumes(&emptied.volumes.iter().map(record).collect::<Vec<_>>())?;
    }
    let kept = emptied.kept.iter();
    let kept = kept.map(|(path, why)| Failure::new(format!("{} cannot be deleted: {why}", path.display())));
    Ok(Emptied {
        deleted: emptied.volumes.iter().map(|deleted| VolumeRef::from(&deleted.id)).collect(),
        failed: kept.map(|failure| failure.as_failed()).collect(),
    })
}

/// Deletes for good what was removed longer ago than the configuration says.
///
/// # Errors
/// As [`empty`].
pub fn expire(engine: &Engine, work: &Work<'_>) -> Result<Emptied, Failure> {
    let context = &Context::new(engine, *work);
    let (grace, now) = (grace(context)?, clock::no_later_than_now(&context.ledger)?);
    empty(engine, now.checked_sub(grace).unwrap_or(Timestamp::MIN), work)
}

/// How long a removed volume is kept.
fn grace(context: &Context<'_>) -> Result<SignedDuration, Failure> {
    Ok(SignedDuration::from_hours(24 * i64::from(context.config()?.trash.days)))
}
