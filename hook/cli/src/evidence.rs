//! Which leases are provably dead: the facts of the kernel applied to the lease table.

use crate::context::Context;
use crate::error::Failure;
use jiff::SignedDuration;
use jiff::Timestamp;
use std::path::Path;
use volhook_core::decision::Backing;
use volhook_core::decision::Sharing;
use volhook_core::lease::Grant;
use volhook_core::lease::Holder;
use volhook_core::lease::LeaseRecord;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::LeasedVolume;
use volhook_core::lease::ReleaseReason;
use volhook_core::names::Command;
use volhook_core::volume::Volume;
use volhook_mounts::device::device_is_free;
use volhook_mounts::process;
use volhook_mounts::process::Life;
use volhook_mounts::source::image_is_free;

/// How long a grant of the spec stage waits for its container's createRuntime hook.
const PENDING_LIMIT: SignedDuration = SignedDuration::from_secs(300);

/// What can be said about a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Provably dead.
    Dead { reason: ReleaseReason, evidence: String },
    /// Its process is dead, and the kernel has not yet let go of the volume.
    Dying { evidence: String },
    /// Alive, or not provably dead.
    Held { evidence: String },
}

/// Judges one grant.
pub(crate) fn judge(context: &Context, grant: &Grant) -> Result<Verdict, Failure> {
    let Some(holder) = &grant.holder else {
        let waited = Timestamp::now().duration_since(grant.since);
        let limit = PENDING_LIMIT.as_secs();
        return Ok(if waited > PENDING_LIMIT {
            let evidence = format!("no createRuntime hook within {limit} s");
            Verdict::Dead { reason: ReleaseReason::Expired, evidence }
        } else {
            let evidence =
                format!("its spec was planned {} s ago, of {limit} s that are waited", waited.as_secs());
            Verdict::Held { evidence }
        });
    };
    let host = context.host()?;
    let evidence = match process::life(host, holder) {
        Life::Dead { evidence } => evidence,
        Life::Alive { evidence } | Life::Unknown { evidence } => return Ok(Verdict::Held { evidence }),
    };
    let on_host = grant.container.command().is_some_and(|(command, _)| command == Command::Mount);
    for lease in grant.leases.iter().filter(|lease| on_host || lease.sharing != Sharing::Shared) {
        if let Some(user) = last_user(context, lease, holder)? {
            return Ok(match &lease.target {
                Some(place) if on_host => {
                    Verdict::Held { evidence: format!("its image is mounted on {place}") }
                }
                _ => Verdict::Dying { evidence: format!("{evidence}, and {user}") },
            });
        }
    }
    Ok(Verdict::Dead { reason: ReleaseReason::Reaped, evidence })
}

/// What the kernel still knows of a dead holder's use of a volume.
fn last_user(context: &Context, lease: &LeasedVolume, holder: &Holder) -> Result<Option<String>, Failure> {
    let untold = |what: &str| {
        let intention = format!("cannot tell whether the {what} of volume {:?} is in use", lease.volume);
        move |error| Failure::context(intention, error)
    };
    let found = context.store.find(&lease.volume).map_err(Failure::new)?;
    match found.filter(|volume| volume.uuid == lease.uuid) {
        Some(volume @ Volume { backing: Backing::Image(_), .. }) => {
            let free = match image_is_free(&context.store.image_path(&volume)) {
                Err(volhook_mounts::Error::ImageMissing { .. }) => true,
                other => other.map_err(untold("image"))?,
            };
            Ok((!free).then(|| "its image is still attached".to_owned()))
        }
        Some(Volume { backing: Backing::Device(device), .. }) => {
            let free = device_is_free(Path::new(device.path.as_str())).map_err(untold("device"))?;
            Ok((!free).then(|| "its device is still in use".to_owned()))
        }
        // A volume that is gone, or another one by now, is not held by this lease.
        None if lease.image => Ok(None),
        // A command, which mounts directories nowhere.
        _ if lease.target.is_none() => Ok(None),
        _ => {
            let (inode, id) = (holder.mount_namespace, holder.mount_namespace_id);
            let left = process::processes_in_mount_namespace(inode, id)
                .map_err(|error| Failure::context("cannot look for processes of a dead container", error))?;
            Ok(left.first().map(|pid| format!("process {pid} is left in its mount namespace")))
        }
    }
}

/// How a grant stands, in one word, and what shows it; for people.
pub(crate) fn standing(context: &Context, grant: &Grant) -> (&'static str, String) {
    match judge(context, grant) {
        Ok(Verdict::Dead { evidence, .. }) => ("dead", evidence),
        Ok(Verdict::Dying { evidence }) => ("dying", evidence),
        Ok(Verdict::Held { evidence }) if grant.holder.is_none() => ("pending", evidence),
        Ok(Verdict::Held { evidence }) => ("held", evidence),
        Err(failure) => ("held", failure.cause_line()),
    }
}

/// A grant that was judged to be over, and the record that gives it back.
#[derive(Debug, Clone)]
pub(crate) struct Over {
    grant: Grant,
    pub(crate) record: LeaseRecord,
}

impl Over {
    pub(crate) fn new(grant: &Grant, reason: ReleaseReason, evidence: String) -> Self {
        Self { grant: grant.clone(), record: release(grant, reason, evidence) }
    }

    /// The attempt.
    pub(crate) fn attempt(&self) -> &str {
        &self.grant.attempt
    }

    /// Whether `table` still has the grant as it was judged. One that was tied to a process meanwhile is not
    /// over at all.
    pub(crate) fn stands_in(&self, table: &LeaseTable) -> bool {
        table.grant(&self.grant.attempt) == Some(&self.grant)
    }
}

/// The dead among `grants`; and whether some are dying. A grant that cannot be judged is held.
pub(crate) fn dead<'a>(context: &Context, grants: impl Iterator<Item = &'a Grant>) -> (Vec<Over>, bool) {
    let mut dead = Vec::new();
    let mut dying = false;
    for grant in grants {
        match judge(context, grant) {
            Ok(Verdict::Dead { reason, evidence }) => dead.push(Over::new(grant, reason, evidence)),
            Ok(Verdict::Dying { .. }) => dying = true,
            Ok(Verdict::Held { .. }) => {}
            Err(failure) => eprintln!("volhook: {}", failure.cause_line()),
        }
    }
    (dead, dying)
}

/// The record that gives a grant back.
fn release(grant: &Grant, reason: ReleaseReason, evidence: String) -> LeaseRecord {
    LeaseRecord::Released {
        attempt: grant.attempt.clone(),
        container: grant.container.clone(),
        reason,
        evidence,
    }
}

/// `table` with `records` applied.
pub(crate) fn after<'a>(table: &LeaseTable, records: impl Iterator<Item = &'a LeaseRecord>) -> LeaseTable {
    let mut table = table.clone();
    for record in records {
        table.apply(record);
    }
    table
}
