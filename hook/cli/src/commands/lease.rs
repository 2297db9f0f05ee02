//! `volhook lease` and `volhook gc`: who holds what, and giving back what is dead.

use crate::commands::trash;
use crate::output::Shown;
use crate::output::Tone;
use crate::output::confirm;
use crate::output::dash;
use crate::output::note;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseRecord;
use volhook_core::lease::LeasedVolume;
use volhook_core::lease::ReleaseReason;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_engine::named;
use volhook_journal::Interest;
use volhook_leases::judge;
use volhook_leases::judge::Over;

/// `volhook lease ls`; with `wide`, and always as JSON, how each stands.
pub(crate) fn ls(context: &Context<'_>, wide: bool, as_json: bool) -> Result<(), Failure> {
    let table = context.grants()?;
    let mut leases: Vec<_> =
        table.grants().flat_map(|grant| grant.leases.iter().map(move |l| (l, grant))).collect();
    leases.sort_by(|(a, x), (b, y)| {
        (&a.volume, &x.container, &x.attempt).cmp(&(&b.volume, &y.container, &y.attempt))
    });
    let standing: BTreeMap<&str, (&str, String)> = if wide || as_json {
        table
            .grants()
            .map(|grant| (grant.attempt.as_str(), judge::standing(&context.ledger, grant)))
            .collect()
    } else {
        BTreeMap::new()
    };
    if as_json {
        let documents = leases.iter().map(|(lease, grant)| {
            let (state, evidence) = &standing[grant.attempt.as_str()];
            json!({
                "volume": lease.volume.name.as_str(),
                "tenant": lease.volume.tenant.as_str(),
                "container": grant.container.as_str(),
                "driver": lease.driver,
                "access": lease.access.to_string(),
                "sharing": lease.sharing.to_string(),
                "target": lease.target,
                "pid": grant.holder.as_ref().map(|holder| holder.pid),
                "attempt": grant.attempt,
                "since": grant.since.to_string(),
                "state": state,
                "evidence": evidence,
            })
        });
        return print_json(&documents.collect::<Vec<_>>().into());
    }
    let rows = leases.iter().map(|(lease, grant)| {
        let row = vec![
            lease.volume.to_string(),
            grant.container.to_string(),
            lease.driver.clone(),
            format!("{} {}", lease.access, lease.sharing),
            dash(lease.target.as_ref().map(ToString::to_string)),
            grant.holder.as_ref().map_or("pending".to_owned(), |holder| holder.pid.to_string()),
            grant.since.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        ];
        let mut row: Vec<Shown> = row.into_iter().map(Shown::from).collect();
        if let Some((state, evidence)) = standing.get(grant.attempt.as_str()) {
            let tone = if *state == "held" { Tone::Good } else { Tone::Doubtful };
            row.extend([Shown::new(*state, Some(tone)), evidence.clone().into()]);
        }
        row
    });
    let mut header = vec!["volume", "container", "driver", "access", "target", "pid", "since"];
    if wide {
        header.extend(["state", "evidence"]);
    }
    print_table(&header, rows.collect())
}

/// `volhook lease break VOLUME CONTAINER`: gives back what nobody can prove to be dead.
pub(crate) fn break_lease(
    context: &Context<'_>,
    tenant: &str,
    volume: &str,
    container: &str,
    force: bool,
) -> Result<(), Failure> {
    let id = named::volume_id(tenant, volume)?;
    let container = ContainerId::recorded(container).map_err(Failure::usage)?;
    let table = context.grants()?;
    let held: Vec<(&Grant, &LeasedVolume)> =
        table.holders(&id).filter(|(grant, _)| grant.container == container).collect();
    if held.is_empty() {
        return Err(Failure::new(format!("container {container:?} holds no lease on volume {id:?}"))
            .hint("`volhook lease ls` shows who holds what"));
    }
    let mut evidence = Vec::new();
    for (grant, lease) in &held {
        let (state, shown) = judge::standing(&context.ledger, grant);
        note(&format!(
            "{id}: {} {} by container {container} since {}; {state}: {shown}",
            lease.access, lease.sharing, grant.since
        ));
        evidence.push(format!("{state}: {shown}"));
    }
    note(
        "If the container still runs, it keeps the volume mounted, and the next one that gets it may destroy its data.",
    );
    if !force && !confirm("Break the lease all the same?")? {
        return Err(Failure::new("nothing was changed"));
    }
    let mut locked = context.lock(context.deadline)?;
    for ((grant, _), evidence) in held.iter().zip(evidence) {
        let interest = Interest { attempts: &[&grant.attempt], ..Interest::default() };
        if locked.about(&interest).map_err(Failure::new)?.grant(&grant.attempt) != Some(grant) {
            return Err(Failure::new("the lease changed meanwhile; nothing was changed").hint("look again"));
        }
        locked.append(Timestamp::now(), &without(grant, &id, evidence)).map_err(Failure::new)?;
    }
    out(&format!("{id}\n"))
}

/// The records that take `volume` out of `grant`.
fn without(grant: &Grant, volume: &VolumeId, evidence: String) -> Vec<LeaseRecord> {
    let broken = LeaseRecord::Broken {
        attempt: grant.attempt.clone(),
        container: grant.container.clone(),
        volume: volume.clone(),
        evidence: evidence.clone(),
    };
    let mut rest = grant.clone();
    rest.leases.retain(|lease| lease.volume != *volume);
    let after = if rest.leases.is_empty() {
        Over::new(grant, ReleaseReason::Broken, evidence).record
    } else {
        LeaseRecord::Granted(rest)
    };
    vec![broken, after]
}

/// `volhook gc`: leases of the dead, and what else is left of them.
pub(crate) fn gc(context: &Context<'_>, dry_run: bool) -> Result<(), Failure> {
    let kept = context.ledger.attempts().list()?;
    let table = context.grants()?;
    let (dead, _) = context.dead(table.grants());
    let told = |over: &Over| match &over.record {
        LeaseRecord::Released { container, evidence, .. } => out(&format!("{container}: {evidence}\n")),
        _ => Ok(()),
    };
    if dry_run {
        return dead.iter().try_for_each(told);
    }
    let mut locked = context
        .lock(context.deadline)
        .map_err(|failure| failure.during("cannot give back the leases of the dead"))?;
    let now = locked.table().map_err(Failure::new)?;
    let dead: Vec<Over> = dead.into_iter().filter(|over| over.stands_in(&now)).collect();
    let records: Vec<LeaseRecord> = dead.iter().map(|over| over.record.clone()).collect();
    locked.append(Timestamp::now(), &records).map_err(Failure::new)?;
    // A grant is written before its record is, and given back before its record is removed: what was there before the
    // table was read, and is not in it, is left over.
    let left_over = kept.into_iter().filter(|attempt| table.grant(attempt).is_none());
    drop(locked);
    for attempt in dead.iter().map(|over| over.attempt().to_owned()).chain(left_over) {
        context.ledger.attempts().remove_all(&attempt)?;
    }
    dead.iter().try_for_each(told)?;
    context.store.clean_staging(context.long_deadline()).map_err(Failure::new)?;
    trash::delete_expired(context, &context.work())?;
    context.trim_history()?.iter().try_for_each(|removed| out(&format!("history {}\n", removed.name)))
}
