//! `volhook explain CONTAINER`: the story of one container id, also long after it is gone.

use crate::commands::events::Line;
use crate::commands::events::lines;
use crate::output::dash;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use volhook_core::claims::Claim;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseRecord;
use volhook_core::lease::PlannedVolume;
use volhook_core::lease::VolumeRecord;
use volhook_core::names::ContainerId;
use volhook_core::stage::Apply;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_journal::Event;
use volhook_journal::EventRecord;
use volhook_leases::judge;

/// Prints what was asked, planned, granted, mounted, refused and given back, and what is held now.
pub(crate) fn explain(context: &Context<'_>, id: &str, as_json: bool) -> Result<(), Failure> {
    let container = ContainerId::recorded(id).map_err(Failure::usage)?;
    let events = context.ledger.journal()?.events().map_err(Failure::new)?;
    let attempts = attempts_of(&events, &container);
    let story: Vec<Line> =
        events.iter().filter(|event| concerns(event, &container, &attempts)).flat_map(tell).collect();
    let table = context.grants()?;
    let held: Vec<&Grant> = table.of_container(&container).collect();
    if story.is_empty() && held.is_empty() {
        return Err(Failure::new(format!("volhook has never heard of container {id:?}")).hint(
            "only containers that claim volumes are recorded, by the id that the runtime has; \
             `volhook events` lists them",
        ));
    }
    if as_json {
        let now: Vec<Value> = held.iter().map(|grant| standing(context, grant)).collect();
        let events: Vec<Value> = story.iter().map(Line::json).collect();
        return print_json(&json!({ "container": id, "events": events, "held": now }));
    }
    let row = |line: &Line| {
        let time = line.time.strftime("%Y-%m-%d %H:%M:%S").to_string();
        vec![
            time.into(),
            line.kind_cell(),
            dash(line.volume.as_ref().map(ToString::to_string)).into(),
            line.what.clone().into(),
        ]
    };
    print_table(&["time", "kind", "volume", "what"], story.iter().map(row).collect())?;
    if held.is_empty() {
        return out("It holds nothing now.\n");
    }
    for grant in held {
        let volumes: Vec<String> = grant.leases.iter().map(|lease| lease.volume.to_string()).collect();
        let (_, evidence) = judge::standing(&context.ledger, grant);
        out(&format!("It holds {} since {}: {evidence}.\n", volumes.join(", "), grant.since))?;
    }
    Ok(())
}

fn standing(context: &Context<'_>, grant: &Grant) -> Value {
    let (state, evidence) = judge::standing(&context.ledger, grant);
    json!({
        "attempt": grant.attempt,
        "volumes": grant.leases.iter().map(|lease| lease.volume.to_string()).collect::<Vec<_>>(),
        "since": grant.since.to_string(),
        "state": state,
        "evidence": evidence,
    })
}

/// The attempts that were this container's. Before its process was known, the spec stage may have called it
/// something else.
fn attempts_of(events: &[Event], container: &ContainerId) -> BTreeSet<String> {
    events
        .iter()
        .filter_map(|event| match &event.record {
            EventRecord::Lease(LeaseRecord::Granted(grant)) if grant.container == *container => {
                Some(grant.attempt.clone())
            }
            EventRecord::Lease(
                LeaseRecord::Bound { attempt, container: whose, .. }
                | LeaseRecord::Planned { attempt, container: whose, .. },
            ) if whose == container => Some(attempt.clone()),
            _ => None,
        })
        .collect()
}

fn concerns(event: &Event, container: &ContainerId, attempts: &BTreeSet<String>) -> bool {
    match &event.record {
        EventRecord::Volume(VolumeRecord::Created { container: whose, .. }) => {
            whose.as_ref() == Some(container)
        }
        EventRecord::Volume(_) => false,
        EventRecord::Lease(record) => match record {
            LeaseRecord::Granted(grant) => attempts.contains(&grant.attempt),
            LeaseRecord::Planned { attempt, .. }
            | LeaseRecord::Bound { attempt, .. }
            | LeaseRecord::Mounted { attempt, .. }
            | LeaseRecord::Broken { attempt, .. }
            | LeaseRecord::Released { attempt, .. } => attempts.contains(attempt),
            LeaseRecord::Refused { container: whose, .. }
            | LeaseRecord::Fault { container: whose, .. }
            | LeaseRecord::Note { container: whose, .. } => whose == container,
            LeaseRecord::Rebuilt { .. } => false,
        },
    }
}

/// An event as lines, with what was asked and planned in full.
fn tell(event: &Event) -> Vec<Line> {
    let line = |kind, volume, container: &ContainerId, what| Line {
        seq: event.seq,
        time: event.time,
        kind,
        volume,
        container: Some(container.clone()),
        what,
    };
    match &event.record {
        EventRecord::Lease(LeaseRecord::Planned { container, volumes, .. }) => {
            let asked = volumes.iter().map(|volume| {
                line(
                    "asked",
                    Some(volume.volume.clone()),
                    container,
                    format!("on {} by {}", volume.target, volume.origin),
                )
            });
            let planned = volumes
                .iter()
                .map(|volume| line("planned", Some(volume.volume.clone()), container, placement(volume)));
            lines(event).into_iter().chain(asked).chain(planned).collect()
        }
        EventRecord::Lease(LeaseRecord::Refused { container, asked, .. }) => {
            let asked = asked.iter().map(|claim| line("asked", None, container, wish(claim)));
            asked.chain(lines(event)).collect()
        }
        _ => lines(event),
    }
}

fn wish(claim: &Claim) -> String {
    let driver = claim.driver.as_ref().map_or(String::new(), |driver| format!(", driver {driver}"));
    format!("volume {:?} on {} by {}{driver}", claim.volume, claim.target, claim.origin)
}

fn placement(volume: &PlannedVolume) -> String {
    let at = volume.path.as_ref().map_or(String::new(), |path| format!(" at {path}"));
    let part = volume.subpath.as_ref().map_or(String::new(), |part| format!(", only {part:?} of it"));
    let by = match volume.apply {
        Apply::Spec => "mounted by the runtime",
        Apply::Inject => "mounted by volhook",
    };
    let PlannedVolume { driver, access, sharing, target, .. } = volume;
    format!("driver {driver} decided {access} {sharing}; on {target}{at}{part}, {by}")
}
