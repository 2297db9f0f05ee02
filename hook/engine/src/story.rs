//! What happened, one event for each volume that it is about; and the story of one container, also long after it is gone.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use jiff::SignedDuration;
use std::collections::BTreeSet;
use std::time::Duration;
use std::time::Instant;
use volhook_api::Remark;
use volhook_api::VolumeRef;
use volhook_api::story::Event;
use volhook_api::story::Explain;
use volhook_api::story::Held;
use volhook_api::story::Story;
use volhook_core::claims::Claim;
use volhook_core::last_step::PodRoot;
use volhook_core::lease::Grant;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;
use volhook_core::record::LeaseRecord;
use volhook_core::record::PlannedVolume;
use volhook_core::record::ReleaseReason;
use volhook_core::record::VolumeRecord;
use volhook_core::size;
use volhook_core::stage::Apply;
use volhook_core::stage::Stage;
use volhook_journal as journal;
use volhook_journal::EventRecord;
use volhook_journal::Follow;
use volhook_journal::Journal;
use volhook_journal::JournalError;
use volhook_leases::Work;
use volhook_leases::judge;

/// How often a damaged journal is read again by somebody who follows it.
const DAMAGED_PAUSE: Duration = Duration::from_secs(5);

/// Everything that happened, as far as it is kept.
///
/// # Errors
/// When the journal cannot be read.
pub fn events(engine: &Engine, work: &Work<'_>) -> Result<Vec<Event>, Failure> {
    Ok(recorded(engine, work)?.iter().flat_map(told).collect())
}

/// What stands in the journal. Of a damaged one what can be read of it, and the watcher is told.
fn recorded(engine: &Engine, work: &Work<'_>) -> Result<Vec<journal::Event>, Failure> {
    let (events, damage) = engine.ledger.journal()?.readable_events().map_err(Failure::new)?;
    for error in damage {
        work.watcher.told(&Remark::SeenDamaged { cause: error.to_string() });
    }
    Ok(events)
}

/// What happens from now on, and before it all that did.
pub struct Following<'a> {
    journal: &'a Journal,
    follow: Follow<'a>,
    /// The number of the last event that was given out.
    after: u64,
    /// When a damaged journal was read last.
    damaged: Option<Instant>,
}

/// Follows the story.
///
/// # Errors
/// When the journal cannot be opened.
pub fn follow(engine: &Engine) -> Result<Following<'_>, Failure> {
    let journal = engine.ledger.journal()?;
    Ok(Following { journal, follow: journal.follow(0), after: 0, damaged: None })
}

impl Following<'_> {
    /// The events since the last call; it waits for none. Of a damaged journal what can be read, until somebody has rebuilt it.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn next(&mut self, work: &Work<'_>) -> Result<Vec<Event>, Failure> {
        let events = match self.follow.poll() {
            Ok(events) => {
                self.damaged = None;
                events
            }
            Err(JournalError::Damaged { .. }) => self.readable(work)?,
            Err(error) => return Err(Failure::new(error)),
        };
        let new = events.into_iter().filter(|event| event.seq > self.after).collect::<Vec<_>>();
        self.after = new.iter().map(|event| event.seq).max().unwrap_or(self.after);
        Ok(new.iter().flat_map(told).collect())
    }

    fn readable(&mut self, work: &Work<'_>) -> Result<Vec<journal::Event>, Failure> {
        if self.damaged.is_some_and(|since| since.elapsed() < DAMAGED_PAUSE) {
            return Ok(Vec::new());
        }
        let (events, damage) = self.journal.readable_events().map_err(Failure::new)?;
        if self.damaged.replace(Instant::now()).is_none() {
            for error in damage {
                work.watcher.told(&Remark::SeenDamaged { cause: error.to_string() });
            }
        }
        Ok(events)
    }
}

/// What a container asked for, what was planned, granted, mounted, refused and given back, and what it holds now.
///
/// # Errors
/// When nothing is known of it, and when the journal cannot be read.
pub fn explain(engine: &Engine, asked: &Explain, work: &Work<'_>) -> Result<Story, Failure> {
    let context = &Context::new(engine, *work);
    let Explain { container } = asked;
    let recorded = recorded(engine, work)?;
    let attempts = attempts_of(&recorded, container);
    let events: Vec<Event> = recorded
        .iter()
        .filter(|event| concerns(event, container, &attempts))
        .flat_map(told_in_full)
        .collect();
    // The watcher knows by now if the journal is damaged.
    let table = engine.ledger.seen(&Work { watcher: &volhook_leases::Quiet, ..*work })?;
    let held: Vec<Held> = table.of_container(container).map(|grant| held(context, grant)).collect();
    if events.is_empty() && held.is_empty() {
        let reason = format!("volhook has never heard of container {:?}", container.as_str());
        return Err(Failure::new(reason).hint(
            "only containers that claim volumes are recorded, by the id that the runtime has; \
             `volhook events` lists them",
        ));
    }
    Ok(Story { container: container.clone(), events, held })
}

fn held(context: &Context<'_>, grant: &Grant) -> Held {
    let (state, evidence) = judge::standing(&context.ledger, grant);
    Held {
        attempt: grant.attempt.clone(),
        volumes: grant.leases.iter().map(|lease| VolumeRef::from(&lease.volume)).collect(),
        since: grant.since,
        state,
        evidence,
    }
}

/// A record as events: a grant is one for each of its volumes.
fn told(event: &journal::Event) -> Vec<Event> {
    let line = |kind, volume: Option<&VolumeId>, container: Option<&ContainerId>, what: String| {
        one(event, kind, volume, container, what)
    };
    let record = match &event.record {
        EventRecord::Volume(record) => {
            return vec![match record {
                VolumeRecord::Created { volume, driver, container, .. } => {
                    line("created", Some(volume), container.as_ref(), format!("driver {driver}"))
                }
                VolumeRecord::Removed { volume, .. } => line("removed", Some(volume), None, String::new()),
                VolumeRecord::Restored { volume, .. } => line("restored", Some(volume), None, String::new()),
                VolumeRecord::Resized { volume, size, .. } => {
                    line("resized", Some(volume), None, format!("to {}", size::format(*size)))
                }
                VolumeRecord::Populated { volume, entries, bytes, container, .. } => {
                    let what = format!("{entries} entries, {} from the image", size::format(*bytes));
                    line("populated", Some(volume), container.as_ref(), what)
                }
                VolumeRecord::Reset { volume, .. } => {
                    line("reset", Some(volume), None, "to the image".to_owned())
                }
                VolumeRecord::Upgraded { volume, image, .. } => {
                    line("upgraded", Some(volume), None, format!("to {image}"))
                }
                VolumeRecord::Renamed { volume, to, .. } => {
                    line("renamed", Some(volume), None, format!("to {to}"))
                }
                VolumeRecord::Deleted { volume, .. } => line("deleted", Some(volume), None, String::new()),
            }];
        }
        EventRecord::Lease(record) => record,
    };
    match record {
        // What is left of a grant is written again, with the time of the first.
        LeaseRecord::Granted(grant)
            if event.time.duration_since(grant.since) > SignedDuration::from_millis(1) =>
        {
            let rest: Vec<String> = grant.leases.iter().map(|lease| lease.volume.to_string()).collect();
            vec![line("kept", None, Some(&grant.container), rest.join(", "))]
        }
        LeaseRecord::Granted(grant) => grant
            .leases
            .iter()
            .map(|lease| {
                let target = lease.target.as_ref().map_or(String::new(), |target| format!(" on {target}"));
                let what = format!("{} {}{target}", lease.access, lease.sharing);
                line("granted", Some(&lease.volume), Some(&grant.container), what)
            })
            .collect(),
        LeaseRecord::Planned { container, stage, pod, root, volumes, .. } => {
            let pod = pod.as_ref().map_or(String::new(), |pod| format!(", pod {pod}"));
            let root = match root {
                Some(PodRoot::Overlay) => ", whose files are to become the container's root at its start",
                Some(PodRoot::Folders(_)) => ", of which the container has the folders",
                None => "",
            };
            let stage = if *stage == Stage::Spec { "spec" } else { "live" };
            vec![line(
                "planned",
                None,
                Some(container),
                format!("{} volumes, {stage} stage{pod}{root}", volumes.len()),
            )]
        }
        LeaseRecord::Bound { container, holder, .. } => {
            vec![line("bound", None, Some(container), format!("pid {}", holder.pid))]
        }
        LeaseRecord::Mounted { container, .. } => vec![line("mounted", None, Some(container), String::new())],
        LeaseRecord::Released { container, reason, evidence, .. } => {
            vec![line("released", None, Some(container), format!("{}: {evidence}", why(*reason)))]
        }
        LeaseRecord::Broken { container, volume, evidence, .. } => {
            vec![line("broken", Some(volume), Some(container), evidence.clone())]
        }
        LeaseRecord::Refused { container, volume, reason, .. } => {
            vec![line("refused", volume.as_ref(), Some(container), reason.clone())]
        }
        LeaseRecord::Fault { container, stage, reason } => {
            vec![line("fault", None, Some(container), format!("{stage}: {reason}"))]
        }
        LeaseRecord::Rebuilt { kept, lost_at, copy } => {
            let what = format!("{kept} records kept; damaged at offset {lost_at}, see {copy}");
            vec![line("rebuilt", None, None, what)]
        }
        LeaseRecord::Note { container, volume, text } => {
            vec![line("note", volume.as_ref(), Some(container), text.clone())]
        }
    }
}

fn one(
    event: &journal::Event,
    kind: &str,
    volume: Option<&VolumeId>,
    container: Option<&ContainerId>,
    what: String,
) -> Event {
    Event {
        seq: event.seq,
        time: event.time,
        kind: kind.to_owned(),
        volume: volume.map(VolumeRef::from),
        tenant: volume.map(|volume| volume.tenant.clone()),
        container: container.cloned(),
        what,
    }
}

fn why(reason: ReleaseReason) -> &'static str {
    match reason {
        ReleaseReason::Poststop => "poststop",
        ReleaseReason::Reaped => "reaped",
        ReleaseReason::Undone => "undone",
        ReleaseReason::Superseded => "superseded",
        ReleaseReason::Expired => "expired",
        ReleaseReason::Broken => "broken",
        ReleaseReason::Done => "done",
    }
}

/// The attempts that were this container's. Before its process was known, the spec stage may have called it
/// something else.
fn attempts_of(events: &[journal::Event], container: &ContainerId) -> BTreeSet<String> {
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

fn concerns(event: &journal::Event, container: &ContainerId, attempts: &BTreeSet<String>) -> bool {
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
fn told_in_full(event: &journal::Event) -> Vec<Event> {
    let line = |kind, volume: Option<&VolumeId>, container: &ContainerId, what| {
        one(event, kind, volume, Some(container), what)
    };
    match &event.record {
        EventRecord::Lease(LeaseRecord::Planned { container, volumes, .. }) => {
            let asked = volumes.iter().map(|volume| {
                line(
                    "asked",
                    Some(&volume.volume),
                    container,
                    format!("on {} by {}", volume.target, volume.origin),
                )
            });
            let planned = volumes
                .iter()
                .map(|volume| line("planned", Some(&volume.volume), container, placement(volume)));
            told(event).into_iter().chain(asked).chain(planned).collect()
        }
        EventRecord::Lease(LeaseRecord::Refused { container, asked, .. }) => {
            let asked = asked.iter().map(|claim| line("asked", None, container, wish(claim)));
            asked.chain(told(event)).collect()
        }
        _ => told(event),
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
