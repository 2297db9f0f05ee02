//! Who holds what, for people, and giving back what nobody can prove to be dead.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use jiff::Timestamp;
use std::collections::BTreeSet;
use volhook_api::Remark;
use volhook_api::VolumeRef;
use volhook_api::lease::Break;
use volhook_api::lease::Breakable;
use volhook_api::lease::Lease;
use volhook_api::lease::Leases;
use volhook_api::lease::Standing;
use volhook_core::lease::Grant;
use volhook_core::lease::LeasedVolume;
use volhook_core::names::VolumeId;
use volhook_core::record::LeaseRecord;
use volhook_core::record::ReleaseReason;
use volhook_journal::Interest;
use volhook_leases::Work;
use volhook_leases::judge;
use volhook_leases::judge::Over;

/// All leases, by volume and container.
///
/// # Errors
/// When the journal cannot be read.
pub fn list(engine: &Engine, asked: &Leases, work: &Work<'_>) -> Result<Vec<Lease>, Failure> {
    let context = &Context::new(engine, *work);
    let table = context.seen()?;
    let mut leases: Vec<Lease> = Vec::new();
    for grant in table.grants() {
        let standing = asked.judged.then(|| judge::standing(&context.ledger, grant));
        leases.extend(grant.leases.iter().map(|lease| told(grant, lease, standing.as_ref())));
    }
    leases.sort_by(|a, b| {
        (a.volume.id(), &a.container, &a.attempt).cmp(&(b.volume.id(), &b.container, &b.attempt))
    });
    Ok(leases)
}

/// What [`break_leases`] would give back. Nothing is changed.
///
/// # Errors
/// When the container holds no lease on the volume, and when the journal cannot be read.
pub fn breakable(engine: &Engine, asked: &Break, work: &Work<'_>) -> Result<Breakable, Failure> {
    let context = &Context::new(engine, *work);
    let Break { volume, container } = asked;
    let table = context.seen()?;
    let held = table.holders(volume.id()).filter(|(grant, _)| grant.container == *container);
    let leases: Vec<Lease> = held
        .map(|(grant, lease)| told(grant, lease, Some(&judge::standing(&context.ledger, grant))))
        .collect();
    if leases.is_empty() {
        let reason = format!("container {container:?} holds no lease on volume {:?}", volume.id());
        return Err(Failure::new(reason).hint("`volhook lease ls` shows who holds what"));
    }
    Ok(Breakable { volume: volume.clone(), container: container.clone(), leases })
}

/// Gives back the leases that somebody has looked at: all of them, or none.
///
/// # Errors
/// When one of them is another one by now, and when the journal cannot be written: then nothing was changed.
pub fn break_leases(engine: &Engine, breakable: &Breakable, work: &Work<'_>) -> Result<(), Failure> {
    let context = &Context::new(engine, *work);
    let Breakable { volume, container, leases } = breakable;
    let is_meant = |lease: &Lease| lease.volume == *volume && lease.container == *container;
    if leases.is_empty() || !leases.iter().all(is_meant) {
        return Err(Failure::usage(format!(
            "these are no leases of container {container:?} on volume {:?}",
            volume.id()
        )));
    }
    let attempts: BTreeSet<&str> = leases.iter().map(|lease| lease.attempt.as_str()).collect();
    let attempts: Vec<&str> = attempts.into_iter().collect();
    let mut locked = context.lock(context.deadline)?;
    let table =
        locked.about(&Interest { attempts: &attempts, ..Interest::default() }).map_err(Failure::new)?;
    let mut records = Vec::new();
    for &attempt in &attempts {
        let seen = leases.iter().filter(|lease| lease.attempt == attempt);
        let stands = |grant: &&Grant| {
            let now: Vec<Lease> = grant.leases.iter().map(|lease| told(grant, lease, None)).collect();
            seen.clone().all(|seen| now.iter().any(|now| now.is_same(seen)))
        };
        let Some(grant) = table.grant(attempt).filter(stands) else {
            let reason = format!(
                "what container {container:?} holds of volume {:?} changed meanwhile; nothing was changed",
                volume.id()
            );
            return Err(Failure::new(reason).hint("look again").about(volume.id().clone()));
        };
        let evidence = seen.clone().next().map(standing).unwrap_or_default();
        records.extend(without(grant, volume.id(), &evidence));
    }
    locked.append(Timestamp::now(), &records).map_err(Failure::new)?;
    drop(locked);
    for attempt in attempts {
        let records = context.ledger.attempts();
        let is_pending = table.grant(attempt).is_some_and(|grant| grant.holder.is_none());
        let removed =
            if is_pending { records.remove_all(attempt) } else { records.without(attempt, volume.id()) };
        if let Err(error) = removed {
            work.watcher.told(&Remark::NotRecorded { cause: error.line() });
        }
    }
    Ok(())
}

/// How a lease stood, and what showed it.
fn standing(lease: &Lease) -> String {
    let state = lease.state.map(|state| state.to_string()).unwrap_or_default();
    format!("{state}: {}", lease.evidence.as_deref().unwrap_or_default())
}

fn told(grant: &Grant, lease: &LeasedVolume, standing: Option<&(Standing, String)>) -> Lease {
    Lease {
        volume: VolumeRef::from(&lease.volume),
        tenant: lease.volume.tenant.clone(),
        uuid: lease.uuid.clone(),
        container: grant.container.clone(),
        driver: lease.driver.clone(),
        access: lease.access.to_string(),
        sharing: lease.sharing.to_string(),
        target: lease.target.clone(),
        pid: grant.holder.as_ref().map(|holder| holder.pid),
        attempt: grant.attempt.clone(),
        since: grant.since,
        state: standing.map(|(state, _)| *state),
        evidence: standing.map(|(_, evidence)| evidence.clone()),
    }
}

/// The records that take `volume` out of `grant`.
fn without(grant: &Grant, volume: &VolumeId, evidence: &str) -> Vec<LeaseRecord> {
    let broken = LeaseRecord::Broken {
        attempt: grant.attempt.clone(),
        container: grant.container.clone(),
        volume: volume.clone(),
        evidence: evidence.to_owned(),
    };
    let mut rest = grant.clone();
    rest.leases.retain(|lease| lease.volume != *volume);
    // A container that has not started yet would still get what was planned for it.
    let after = if rest.leases.is_empty() || grant.holder.is_none() {
        Over::new(grant, ReleaseReason::Broken, evidence.to_owned()).record
    } else {
        LeaseRecord::Granted(rest)
    };
    vec![broken, after]
}
