//! Rebuilding a damaged journal, from what can still be read of it, from the records of attempts and from the kernel.
//!
//! What these cannot settle stays held: a lease that nobody can prove to be dead is never lost.

use crate::context::Context;
use crate::error::Failure;
use crate::evidence;
use crate::record;
use jiff::Timestamp;
use std::collections::BTreeMap;
use volhook_core::lease::Grant;
use volhook_journal::JournalError;
use volhook_journal::Rebuilt;
use volhook_journal::Salvaged;

/// How often it is begun anew because the damaged file changed meanwhile.
const ATTEMPTS: usize = 3;

/// Rebuilds what is damaged; the same journal is rebuilt once, whoever notices first. Returns what was done.
pub(crate) fn rebuild(context: &Context) -> Result<Vec<Rebuilt>, Failure> {
    let journal = context.journal()?;
    let mut done = Vec::new();
    for attempt in 1.. {
        let Some(damage) = journal.salvage().map_err(Failure::new)? else { break };
        let grants = grants(context, &damage)?;
        match journal.rebuild(context.deadline, Timestamp::now(), &damage, &grants) {
            Err(JournalError::Damaged { .. }) if attempt < ATTEMPTS => {}
            other => {
                done.extend(other.map_err(Failure::new)?);
                break;
            }
        }
    }
    done.extend(journal.rebuild_volumes(context.deadline, Timestamp::now()).map_err(Failure::new)?);
    for rebuilt in &done {
        eprintln!(
            "volhook: rebuilt it with {} records; the damaged file is kept as {}",
            rebuilt.kept,
            rebuilt.copy.display()
        );
    }
    Ok(done)
}

/// Who holds what, as far as anybody knows: the readable grants, and those of which only the attempt's record tells.
pub(crate) fn grants(context: &Context, damage: &Salvaged) -> Result<Vec<Grant>, Failure> {
    let mut grants: BTreeMap<String, Grant> =
        damage.grants.iter().map(|grant| (grant.attempt.clone(), grant.clone())).collect();
    for attempt in record::list(context)? {
        if damage.released.contains(&attempt) {
            continue;
        }
        // A record that cannot be read was being written when its process died: nothing was mounted then.
        let Ok((record, since)) = record::read_with_time(context, &attempt) else { continue };
        let told = Grant {
            attempt: attempt.clone(),
            container: record.plan.container,
            holder: record.holder,
            leases: record.plan.leases,
            since,
        };
        let grant = grants.entry(attempt).or_insert_with(|| told.clone());
        if grant.holder.is_none() {
            (grant.holder, grant.container) = (told.holder, told.container);
        }
    }
    Ok(grants.into_values().filter(|grant| evidence::standing(context, grant).0 != "dead").collect())
}
