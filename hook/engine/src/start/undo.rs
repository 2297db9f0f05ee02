//! Giving back what a start has taken, and putting back what it has changed, when it fails.

use crate::context::Context;
use crate::failure::Failure;
use crate::start::renew;
use crate::start::storage;
use volhook_core::names::VolumeId;
use volhook_core::plan::Plan;
use volhook_core::record::ReleaseReason;
use volhook_core::record::Steps;
use volhook_journal::Interest;

/// Undoes an attempt after a failure, which is then told with what went wrong meanwhile. `plan` is what was done of it; the
/// record has it where the caller does not.
pub fn undone(context: &Context<'_>, attempt: &str, plan: Option<&Plan>, failure: Failure) -> Failure {
    let recorded = match plan {
        Some(_) => None,
        None => context.ledger.attempts().read(attempt).ok().map(|record| record.plan),
    };
    let undone = undo(context, attempt, plan.or(recorded.as_ref()), &failure);
    match undone.and_then(|()| context.ledger.attempts().remove(attempt).map_err(Failure::from)) {
        Ok(()) => failure,
        Err(second) => {
            let mut failure = failure.hint(format!("and undoing it failed: {}", second.cause_line()));
            failure.hints.extend(second.hints);
            failure
        }
    }
}

fn undo(context: &Context<'_>, attempt: &str, plan: Option<&Plan>, failure: &Failure) -> Result<(), Failure> {
    let volumes: Vec<VolumeId> =
        plan.map_or_else(Vec::new, |plan| plan.follow.iter().map(|follow| follow.storage.clone()).collect());
    let interest = Interest { attempts: &[attempt], volumes: &volumes, ..Interest::default() };
    let table = context.grants_about(&interest)?;
    let Some(grant) = table.grant(attempt) else { return Ok(()) };
    // Under the leases: nobody else comes in between.
    let put_back = plan.map_or(Ok(()), |plan| {
        let renewed = renew::take_back(context, plan, grant);
        renewed.and(storage::unfollow(context, plan, &table))
    });
    put_back.and(
        context
            .ledger
            .release(grant, ReleaseReason::Undone, failure.cause_line(), Steps::new(), &context.work())
            .map_err(Failure::from),
    )
}
