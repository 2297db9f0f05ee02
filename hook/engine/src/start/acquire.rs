//! The middle of the way: volumes are created and filled, what begins anew is built, and the leases taken, in the order of
//! the plan. What fails once they are taken is undone here, and nowhere else.

use crate::context::Context;
use crate::failpoint;
use crate::failure::Failure;
use crate::image::Image;
use crate::start::fill;
use crate::start::leased::Leased;
use crate::start::make::Making;
use crate::start::propose;
use crate::start::renew;
use crate::start::renew::Renewals;
use crate::start::storage;
use crate::start::subject;
use crate::start::subject::Claimed;
use crate::start::subject::Proposal;
use crate::start::subject::Subject;
use crate::start::undo;
use jiff::Timestamp;
use std::time::Instant;
use tracing::debug;
use tracing::debug_span;
use volhook_core::check::check;
use volhook_core::decision::ImageState;
use volhook_core::decision::Sharing;
use volhook_core::lease::Grant;
use volhook_core::lease::Holder;
use volhook_core::lease::LeaseTable;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;
use volhook_core::plan;
use volhook_core::plan::Plan;
use volhook_core::plan::PlanError;
use volhook_core::record::LeaseRecord;
use volhook_core::record::ReleaseReason;
use volhook_core::record::Step;
use volhook_journal::Encoded;
use volhook_journal::Interest;
use volhook_leases::clock;
use volhook_leases::judge;
use volhook_leases::judge::Over;
use volhook_leases::patience;
use volhook_volumes::Watch;

/// How often drivers are asked again because holders changed while they were deciding.
const ASK_AGAIN: usize = 3;

/// Proposes, creates what is missing, takes the leases, and does `rest` under them. Afterwards the plan holds until it is
/// released; if anything fails, all of it is given back. `None` when this very process holds leases already: it was called
/// at both live stages.
///
/// `holder` is the container's process at the live stage; at the spec stage the grant stays pending.
pub(crate) fn acquire<T>(
    context: &Context<'_>,
    subject: &Subject,
    claimed: &Claimed,
    image: &Image<'_>,
    holder: Option<&Holder>,
    rest: impl FnOnce(&Proposal) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    let asked = |failure: Failure| failure.asked(&claimed.claims);
    let watch = Watch { deadline: context.deadline, cancelled: &|| false, progress: &|_| {} };
    let making = Making { context, container: Some(&subject.container), image, watch: &watch };
    let taken = taken(subject, claimed, holder, &making)
        .map_err(|failure| asked(undo::undone(context, &subject.attempt, None, failure)))?;
    let Some((proposal, renewals)) = taken else { return Ok(None) };
    let settle = || {
        failpoint::reached("granted")
            .and_then(|()| renewals.replace())
            .and_then(|()| storage::follow(context, &proposal))
            .and_then(|()| failpoint::reached("settled"))
    };
    let settling = context.enter(Step::Pod, debug_span!("pod"));
    let settled = settle();
    drop(settling);
    let done = settled.and_then(|()| rest(&proposal));
    done.map(Some).map_err(|failure| undo::undone(context, &subject.attempt, Some(&proposal.plan), failure))
}

/// The plan, as soon as its leases are taken, with what is to be put in the place of others.
fn taken<'a>(
    subject: &Subject,
    claimed: &Claimed,
    holder: Option<&Holder>,
    making: &Making<'a>,
) -> Result<Option<(Proposal, Renewals<'a>)>, Failure> {
    let context = making.context;
    let mut renewals = Renewals::new(making);
    let teardown = context.work().teardown();
    let patience = Patience { teardown, renewal: teardown.min(Instant::now() + patience::DYING) };
    let mut asked = 0;
    let mut earlier_answers = None;
    loop {
        let leased = Leased::by(context, subject, claimed);
        let volumes = &leased.volumes;
        let but_sharers = leased.are_shared();
        let interest =
            Interest { volumes, but_sharers, container: Some(&subject.container), ..Interest::default() };
        let looking = context.enter(Step::Journal, debug_span!("journal"));
        let table = context.grants_about(&interest)?;
        if holder.is_some()
            && table.of_container(&subject.container).any(|grant| grant.holder.as_ref() == holder)
        {
            return Ok(None);
        }
        let (mut over, dying) = over(context, subject, volumes, &table);
        // They end when the leases are taken.
        over.extend(renewals.holds());
        drop(looking);
        let living = judge::after(&table, over.iter().map(|over| &over.record));
        let proposal = match propose::propose(context, subject, claimed, making.image, &leased, &living) {
            Err(failure) => {
                let Some(until) = worth_waiting(context, &failure, dying, claimed, &patience) else {
                    return Err(failure);
                };
                debug!(container = %subject.container, reason = %failure.cause, "waits");
                // Drivers are asked again when there is something else to decide about.
                let seen = (attempts(&over), dying);
                let busy = busy(&failure).map(|(volume, _)| volume.clone());
                let in_the_way = |table: &LeaseTable| -> Vec<Grant> {
                    let of_busy = busy.iter().flat_map(|volume| table.holders(volume));
                    of_busy.map(|(grant, _)| grant.clone()).collect()
                };
                let held = in_the_way(&table);
                let is_news = |now: &LeaseTable| {
                    in_the_way(now) != held || {
                        let (mut over, dying) = self::over(context, subject, volumes, now);
                        over.extend(renewals.holds());
                        (attempts(&over), dying) != seen
                    }
                };
                context.ledger.await_news(&interest, until, &context.work(), is_news)?;
                continue;
            }
            Ok(proposal) => proposal,
        };
        if making.make(&proposal, context.deadline)? || renewals.build(&proposal.plan)? {
            continue;
        }
        let unchanged = earlier_answers.as_ref() == Some(&proposal.answers);
        let looked = Looked { over: &over, but_sharers, whatever_holders: asked >= ASK_AGAIN && unchanged };
        if take(context, subject, holder, &proposal, &looked)? {
            renewals.handed_over();
            return Ok(Some((proposal, renewals)));
        }
        asked += 1;
        if asked > ASK_AGAIN && !unchanged {
            return Err(Failure::new("the holders of a claimed volume keep changing")
                .hint("start the container again once the others have started"));
        }
        earlier_answers = Some(proposal.answers);
    }
}

/// The grants that are over: of the dead, and of earlier attempts of this container. `true`: somebody is dying.
fn over(
    context: &Context<'_>,
    subject: &Subject,
    volumes: &[VolumeId],
    table: &LeaseTable,
) -> (Vec<Over>, bool) {
    // Shared holders are in nobody's way; only others are worth a look at the kernel.
    let matters = |grant: &&Grant| {
        !supersedes(subject, grant)
            && grant.leases.iter().any(|l| l.sharing != Sharing::Shared && volumes.contains(&l.volume))
    };
    let (dead, dying) = context.dead(table.grants().filter(matters));
    let superseded = table.grants().filter(|grant| supersedes(subject, grant)).map(|grant| {
        let evidence = format!("attempt {} took its place", subject.attempt);
        Over::new(grant, ReleaseReason::Superseded, evidence)
    });
    (dead.into_iter().chain(superseded).collect(), dying)
}

/// Records why a container whose claims all stepped back gets nothing.
pub(crate) fn note_stepped_back(
    context: &Context<'_>,
    subject: &Subject,
    claimed: &Claimed,
) -> Result<(), Failure> {
    if claimed.stepped_back.is_empty() {
        return Ok(());
    }
    let notes: Vec<LeaseRecord> = claimed
        .stepped_back
        .iter()
        .map(|back| {
            let volume = VolumeId { tenant: subject.tenant.clone(), name: back.volume.clone() };
            let text = format!("not mounted on {}: {}", back.target, back.reason);
            LeaseRecord::Note { container: subject.container.clone(), volume: Some(volume), text }
        })
        .collect();
    let mut locked = context.lock(context.deadline)?;
    locked.append(Timestamp::now(), &notes).map_err(Failure::new)
}

/// Until when who holds a claimed volume is worth waiting for: he is dying, it is a pod that another of its containers is
/// making anew from this image, or a command that is soon done. `None` when that is not so, or not any more.
fn worth_waiting(
    context: &Context<'_>,
    failure: &Failure,
    dying: bool,
    claimed: &Claimed,
    patience: &Patience,
) -> Option<Instant> {
    let (_, container) = busy(failure)?;
    let meets_another = claimed.pod.state.is_some_and(|state| state.image == ImageState::Changed);
    let limits = [
        (dying, patience.teardown),
        (meets_another, patience.renewal),
        (fill::is_soon_done(container), context.deadline),
    ];
    let longest = limits.into_iter().filter(|(applies, _)| *applies).map(|(_, until)| until).max();
    longest.filter(|until| Instant::now() < *until)
}

/// Which volume somebody has, and who, where that is what failed.
fn busy(failure: &Failure) -> Option<(&VolumeId, &ContainerId)> {
    match failure.cause.downcast_ref::<PlanError>() {
        Some(PlanError::Busy { volume, container, .. }) => Some((volume, container)),
        _ => None,
    }
}

/// Whose grants are over.
fn attempts(over: &[Over]) -> Vec<String> {
    over.iter().map(|over| over.attempt().to_owned()).collect()
}

/// Until when others are waited for.
struct Patience {
    teardown: Instant,
    renewal: Instant,
}

/// Whether `grant` is an earlier attempt of this very container that never got as far as a process.
fn supersedes(subject: &Subject, grant: &Grant) -> bool {
    grant.holder.is_none() && grant.container == subject.container
}

/// What was seen of those who hold the volumes when the plan was made.
struct Looked<'a> {
    /// Whose grants are over.
    over: &'a [Over],
    /// Whether those who merely share a volume were left out.
    but_sharers: bool,
    /// Whether asking again, because others hold the volumes by now, is of no use.
    whatever_holders: bool,
}

/// Takes the leases if the volumes are held by the same attempts as when the drivers were asked, or if asking again is of no
/// use. Returns whether they were taken; a failure may come after they were.
fn take(
    context: &Context<'_>,
    subject: &Subject,
    holder: Option<&Holder>,
    proposal: &Proposal,
    looked: &Looked<'_>,
) -> Result<bool, Failure> {
    let Looked { over, but_sharers, whatever_holders } = *looked;
    if but_sharers && !proposal.plan.leases.iter().all(|lease| lease.sharing == Sharing::Shared) {
        return Err(Failure::internal("a volume that everybody shares is to be leased otherwise"));
    }
    let _taking = context.enter(Step::Journal, debug_span!("journal"));
    let now = Timestamp::now();
    let taken = Encoded::all(&records(subject, holder, &proposal.plan, now)).map_err(Failure::new)?;
    let ends: Result<Vec<Encoded>, _> = over.iter().map(|over| Encoded::of(&over.record)).collect();
    let ends = ends.map_err(Failure::new)?;
    let mut locked = context.lock(context.deadline)?;
    let attempts: Vec<&str> = over.iter().map(Over::attempt).collect();
    let volumes: Vec<VolumeId> = proposal.volumes.keys().cloned().collect();
    // The same as when the drivers were asked, so that what was seen then can be compared.
    let container = Some(&subject.container);
    let interest = Interest { volumes: &volumes, but_sharers, container, attempts: &attempts };
    let table = locked.about(&interest).map_err(Failure::new)?;
    // A grant that changed since it was judged has to be judged again.
    if over.iter().any(|over| table.grant(over.attempt()).is_some() && !over.stands_in(&table)) {
        return Ok(false);
    }
    let standing = over.iter().zip(ends).filter(|(over, _)| over.stands_in(&table));
    let (over, ends): (Vec<&Over>, Vec<Encoded>) = standing.unzip();
    let living = judge::after(&table, over.iter().map(|over| &over.record));
    if subject::holders(&living, proposal.volumes.keys()) != proposal.seen && !whatever_holders {
        return Ok(false);
    }
    refuse_conflicts(context, proposal, &living)?;
    // Volumes are removed and renamed under a lease that nobody else has, which may have come and gone since they were found.
    if !still_there(context, proposal)? {
        return Ok(false);
    }
    failpoint::reached("locked")?;
    locked.append_encoded(now, ends.into_iter().chain(taken).collect()).map_err(Failure::new)?;
    failpoint::reached("granted-locked")?;
    drop(locked);
    for over in over {
        // What stays of an attempt that is over is nobody's but `gc`'s.
        let _ = context.ledger.attempts().remove(over.attempt()).map_err(Failure::from);
    }
    Ok(true)
}

/// What the journal is told when a plan's leases are taken.
fn records(subject: &Subject, holder: Option<&Holder>, plan: &Plan, now: Timestamp) -> Vec<LeaseRecord> {
    let note = |note: &plan::Note| LeaseRecord::Note {
        container: subject.container.clone(),
        volume: Some(note.volume.clone()),
        text: note.text.clone(),
    };
    let grant = LeaseRecord::Granted(Grant {
        attempt: subject.attempt.clone(),
        container: subject.container.clone(),
        holder: holder.cloned(),
        leases: plan.first_leases(),
        since: now,
        since_boot_ms: clock::since_boot_ms(),
    });
    plan.notes.iter().map(note).chain([plan.record(), grant]).collect()
}

/// Whether the plan's volumes are those that were found when it was made.
fn still_there(context: &Context<'_>, proposal: &Proposal) -> Result<bool, Failure> {
    for (id, volume) in &proposal.volumes {
        let found = context.store.find(id).map_err(Failure::new)?;
        let uuid = renew::uuid_now(&proposal.plan, volume);
        if found.is_none_or(|found| found.uuid != uuid) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn refuse_conflicts(context: &Context<'_>, proposal: &Proposal, table: &LeaseTable) -> Result<(), Failure> {
    let plan = &proposal.plan;
    for lease in &plan.leases {
        if let Some((grant, held)) = plan::conflicts(lease, table).next() {
            return Err(plan::busy(plan, grant, held).into());
        }
    }
    // Nothing is to be created any more: all volumes of the proposal are there.
    check(plan, &proposal.volumes, &context.config()?.grants, table)?;
    Ok(())
}
