//! Upkeep: leases of the dead, what else is left of them, and what is past its time. Each thing is done by itself: trouble with
//! one is in the way of no other.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::volumes::trash;
use jiff::Timestamp;
use volhook_api::Failed;
use volhook_api::upkeep::Forgotten;
use volhook_api::upkeep::GivenBack;
use volhook_api::upkeep::Sweep;
use volhook_api::upkeep::Swept;
use volhook_core::record::LeaseRecord;
use volhook_journal::Encoded;
use volhook_journal::Interest;
use volhook_leases::Work;
use volhook_leases::judge::Over;

/// Does away with what is left over, or, dry, says whose leases would be given back.
#[must_use]
pub fn gc(engine: &Engine, asked: &Sweep, work: &Work<'_>) -> Swept {
    let context = &Context::new(engine, *work);
    let mut swept = Swept::default();
    if asked.dry_run {
        match context.seen() {
            Ok(table) => {
                let (dead, _) = context.dead(table.grants());
                swept.leases.extend(dead.iter().filter_map(given_back));
            }
            Err(failure) => swept.failed.push(failure.as_failed()),
        }
        return swept;
    }
    leases(context, &mut swept);
    if let Err(error) = context.store.clean_staging(context.long_deadline()) {
        swept.failed.push(Failure::new(error).as_failed());
    }
    match context.store.stranded() {
        Ok(stranded) => swept.failed.extend(stranded.iter().map(|it| Failure::from(it).as_failed())),
        Err(error) => swept.failed.push(Failure::new(error).as_failed()),
    }
    match trash::expire(engine, work) {
        Ok(emptied) => {
            swept.deleted = emptied.deleted;
            swept.failed.extend(emptied.failed);
        }
        Err(failure) => swept.failed.push(failure.during("cannot empty the trash").as_failed()),
    }
    match context.trim_history() {
        Ok(removed) => swept.history.extend(
            removed.into_iter().map(|removed| Forgotten { name: removed.name, bytes: removed.bytes }),
        ),
        Err(failure) => swept.failed.push(failure.during("cannot remove old history").as_failed()),
    }
    swept
}

/// Gives back the leases of the dead, and removes the records of their attempts.
fn leases(context: &Context<'_>, swept: &mut Swept) {
    // Before the leases are looked at: a grant is written before its record is, and given back before its record is removed.
    // What was there before, and is not among the leases, is left over.
    let kept = context.ledger.attempts().list().unwrap_or_else(|error| {
        swept.failed.push(Failure::from(error).as_failed());
        Vec::new()
    });
    let table = match context.grants() {
        Ok(table) => table,
        Err(failure) => return swept.failed.push(failure.as_failed()),
    };
    let dead = give_back(context, context.dead(table.grants()).0).unwrap_or_else(|failure| {
        let failure = failure.during("cannot give back the leases of the dead");
        swept.failed.push(failure.as_failed());
        Vec::new()
    });
    swept.leases.extend(dead.iter().filter_map(given_back));
    let left_over = kept.into_iter().filter(|attempt| table.grant(attempt).is_none());
    let over = dead.iter().map(|over| over.attempt().to_owned()).chain(left_over);
    let removed = over.map(|attempt| context.ledger.attempts().remove_all(&attempt));
    let failed = removed.filter_map(Result::err).map(|error| Failure::from(error).as_failed());
    swept.failed.extend(failed.collect::<Vec<Failed>>());
}

/// Those of `dead` that were so under the lock as well.
fn give_back(context: &Context<'_>, dead: Vec<Over>) -> Result<Vec<Over>, Failure> {
    if dead.is_empty() {
        return Ok(dead);
    }
    let encoded: Result<Vec<Encoded>, _> = dead.iter().map(|over| Encoded::of(&over.record)).collect();
    let dead: Vec<(Over, Encoded)> = dead.into_iter().zip(encoded.map_err(Failure::new)?).collect();
    let attempts: Vec<&str> = dead.iter().map(|(over, _)| over.attempt()).collect();
    let mut locked = context.lock(context.deadline)?;
    let interest = Interest { attempts: &attempts, ..Interest::default() };
    let now = locked.about(&interest).map_err(Failure::new)?;
    let dead = dead.into_iter().filter(|(over, _)| over.stands_in(&now));
    let (dead, records): (Vec<Over>, Vec<Encoded>) = dead.unzip();
    locked.append_encoded(Timestamp::now(), records).map_err(Failure::new)?;
    Ok(dead)
}

fn given_back(over: &Over) -> Option<GivenBack> {
    match &over.record {
        LeaseRecord::Released { attempt, container, evidence, .. } => Some(GivenBack {
            container: container.clone(),
            attempt: attempt.clone(),
            evidence: evidence.clone(),
        }),
        _ => None,
    }
}
