//! Which leases are provably dead: the facts of the kernel applied to the lease table.

use crate::context::Context;
use crate::error::Failure;
use jiff::SignedDuration;
use jiff::Timestamp;
use std::collections::BTreeMap;
use volhook_core::decision::Sharing;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseRecord;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::ReleaseReason;
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
    Held,
}

/// Judges one grant.
pub(crate) fn judge(context: &Context, grant: &Grant) -> Result<Verdict, Failure> {
    let Some(holder) = &grant.holder else {
        let waited = Timestamp::now().duration_since(grant.since);
        return Ok(if waited > PENDING_LIMIT {
            let evidence = format!("no createRuntime hook within {} s", PENDING_LIMIT.as_secs());
            Verdict::Dead { reason: ReleaseReason::Expired, evidence }
        } else {
            Verdict::Held
        });
    };
    let host = context.host()?;
    let Life::Dead { evidence } = process::life(host, holder) else { return Ok(Verdict::Held) };
    for lease in grant.leases.iter().filter(|lease| lease.sharing != Sharing::Shared) {
        if lease.image {
            // A missing image is held by nobody.
            let Some(volume) = context.store.find(&lease.volume).map_err(Failure::new)? else { continue };
            let free = match image_is_free(&context.store.image_path(&volume)) {
                Err(volhook_mounts::Error::ImageMissing { .. }) => true,
                other => other.map_err(|error| {
                    let intention =
                        format!("cannot tell whether the image of volume {:?} is in use", lease.volume);
                    Failure::context(intention, error)
                })?,
            };
            if !free {
                return Ok(Verdict::Dying {
                    evidence: format!("{evidence}, and its image is still attached"),
                });
            }
        } else {
            let left = process::processes_in_mount_namespace(holder.mount_namespace)
                .map_err(|error| Failure::context("cannot look for processes of a dead container", error))?;
            if let Some(pid) = left.first() {
                let evidence = format!("{evidence}, and process {pid} is left in its mount namespace");
                return Ok(Verdict::Dying { evidence });
            }
        }
    }
    Ok(Verdict::Dead { reason: ReleaseReason::Reaped, evidence })
}

/// The dead among `grants`, by attempt, as records of their release; and whether some are dying.
pub(crate) fn dead<'a>(
    context: &Context,
    grants: impl Iterator<Item = &'a Grant>,
) -> Result<(BTreeMap<String, LeaseRecord>, bool), Failure> {
    let mut dead = BTreeMap::new();
    let mut dying = false;
    for grant in grants {
        match judge(context, grant)? {
            Verdict::Dead { reason, evidence } => {
                dead.insert(grant.attempt.clone(), release(grant, reason, evidence));
            }
            Verdict::Dying { .. } => dying = true,
            Verdict::Held => {}
        }
    }
    Ok((dead, dying))
}

/// The record that gives a grant back.
pub(crate) fn release(grant: &Grant, reason: ReleaseReason, evidence: String) -> LeaseRecord {
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
