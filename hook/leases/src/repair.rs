//! Rebuilding a damaged journal, from what can still be read of it, from the records of attempts and from the kernel.
//!
//! What these cannot settle stays held: a lease that nobody can prove to be dead is never lost.
//!
//! A journal that is not there at all is damaged where a record says that somebody holds something in this boot
//! (the module `records`). Whose container had no record yet when the journal was removed is lost.

use crate::error::Error;
use crate::ground::Ground;
use crate::judge;
use crate::records::stood_in_it;
use crate::work::Work;
use jiff::Timestamp;
use std::collections::BTreeMap;
use volhook_api::Remark;
use volhook_api::lease::Standing;
use volhook_core::lease::Grant;
use volhook_journal::JournalError;
use volhook_journal::Rebuilt;
use volhook_journal::Salvaged;

/// How often it is begun anew because the damaged file changed meanwhile.
const ATTEMPTS: usize = 3;

/// Rebuilds what is damaged; the same journal is rebuilt once, whoever notices first. Returns what was done.
///
/// # Errors
/// [`Error::Journal`], and when nobody can tell what a container holds: see [`grants`].
pub fn rebuild(ground: &Ground, work: &Work<'_>) -> Result<Vec<Rebuilt>, Error> {
    let journal = ground.journal()?;
    let mut done = Vec::new();
    for attempt in 1.. {
        let Some(damage) = journal.salvage()? else { break };
        let grants = grants(ground, &damage)?;
        match journal.rebuild(work.until, Timestamp::now(), &damage, &grants) {
            Err(JournalError::Damaged { .. }) if attempt < ATTEMPTS => {}
            other => {
                done.extend(other?);
                break;
            }
        }
    }
    done.extend(journal.rebuild_volumes(work.until, Timestamp::now())?);
    for rebuilt in &done {
        let copy = rebuilt.copy.as_ref().map(|copy| copy.display().to_string());
        work.watcher.told(&Remark::Rebuilt { kept: rebuilt.kept, copy });
    }
    Ok(done)
}

/// Who holds what, as far as anybody knows: the readable grants, and those of which only the attempt's record tells.
///
/// # Errors
/// When the records cannot be listed, or one of an attempt of which nothing else is known cannot be read: what it holds
/// would be given to others.
pub fn grants(ground: &Ground, damage: &Salvaged) -> Result<Vec<Grant>, Error> {
    let mut grants: BTreeMap<String, Grant> =
        damage.grants.iter().map(|grant| (grant.attempt.clone(), grant.clone())).collect();
    for attempt in ground.attempts().list()? {
        if damage.released.contains(&attempt) {
            continue;
        }
        let told = match ground.attempts().grant(&attempt) {
            Ok(Some(told)) => told,
            // It was being written when its process died: nothing was mounted then.
            Ok(None) => continue,
            // The journal says what it holds, if not who.
            Err(_) if grants.contains_key(&attempt) => continue,
            Err(error) => return Err(error),
        };
        if damage.gone && !stood_in_it(ground, &told) {
            continue;
        }
        let grant = grants.entry(attempt).or_insert_with(|| told.clone());
        if grant.holder.is_none() {
            (grant.holder, grant.container) = (told.holder, told.container);
        }
    }
    Ok(grants.into_values().filter(|grant| judge::standing(ground, grant).0 != Standing::Dead).collect())
}
