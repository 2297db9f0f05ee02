//! What happened, one event for each volume that it is about; and the story of one container, also long after it is gone.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use jiff::SignedDuration;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::hash::RandomState;
use std::time::Duration;
use std::time::Instant;
use volhook_api::Kind;
use volhook_api::Remark;
use volhook_api::VolumeRef;
use volhook_api::story::Event;
use volhook_api::story::Explain;
use volhook_api::story::Held;
use volhook_api::story::Story;
use volhook_core::claims::Claim;
use volhook_core::cursor::Cursor;
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
use volhook_leases::Quiet;
use volhook_leases::Work;
use volhook_leases::judge;

/// How often a damaged journal is read again by somebody who follows it.
const DAMAGED_PAUSE: Duration = Duration::from_secs(5);

/// Everything that happened, one event after the other; made by [`events`].
pub struct Events<'a> {
    story: journal::Story<'a>,
    told: VecDeque<Event>,
}

/// Everything that happened, as far as it is kept, or what happened behind an event. It is read as it is told.
///
/// # Errors
/// [`Kind::NoSuchEvent`], and when the journal cannot be read.
pub fn events<'a>(engine: &'a Engine, since: Option<&Cursor>) -> Result<Events<'a>, Failure> {
    let journal = engine.ledger.journal()?;
    let story = since.map_or_else(|| begin(journal), |cursor| begin_behind(journal, cursor))?;
    Ok(Events { story, told: VecDeque::new() })
}

impl Events<'_> {
    /// The next event; `None` at the end. The watcher is told what is damaged when the story comes there; of that, what can be
    /// read is told.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn next(&mut self, work: &Work<'_>) -> Result<Option<Event>, Failure> {
        while self.told.is_empty() {
            let Some(event) = recorded(&mut self.story, work, &mut false)? else { return Ok(None) };
            self.told.extend(told(&event));
        }
        Ok(self.told.pop_front())
    }
}

fn begin(journal: &Journal) -> Result<journal::Story<'_>, Failure> {
    journal.story().map_err(Failure::new)
}

fn begin_behind<'a>(journal: &'a Journal, cursor: &Cursor) -> Result<journal::Story<'a>, Failure> {
    journal.story_since(cursor).map_err(|error| {
        let hint = match &error {
            JournalError::Gone { boot_is_known: true, .. } => {
                "it was deleted with old history, or a power cut took it before it reached the disk; without --since, \
                 `volhook events` tells what there is"
            }
            JournalError::Gone { .. } => {
                "nothing of that boot is kept: its history was deleted, or it is another host's; without --since, \
                 `volhook events` tells what there is"
            }
            _ => return Failure::new(error),
        };
        Failure { kind: Kind::NoSuchEvent, ..Failure::new(error) }.hint(hint)
    })
}

/// The next record. The watcher is told of damage that was met; `damaged` says then that there is some.
fn recorded(
    story: &mut journal::Story<'_>,
    work: &Work<'_>,
    damaged: &mut bool,
) -> Result<Option<journal::Event>, Failure> {
    let next = story.next();
    for error in story.damage() {
        work.watcher.told(&Remark::SeenDamaged { cause: error.to_string() });
        *damaged = true;
    }
    next.map_err(Failure::new)
}

/// What happens from now on, and before it all that did in this boot, or behind an event.
pub struct Following<'a> {
    journal: &'a Journal,
    /// What was behind the event.
    since: Option<journal::Story<'a>>,
    follow: Follow<'a>,
    told: VecDeque<Event>,
    /// The number of the last event that was given out.
    after: u64,
    /// When a damaged journal was read last.
    damaged: Option<Instant>,
    /// A damaged journal that is being read.
    readable: Option<journal::Story<'a>>,
    /// Whether the watcher knows of the damage.
    known: bool,
}

/// Follows the story, from an event on if one is named.
///
/// # Errors
/// [`Kind::NoSuchEvent`], and when the journal cannot be opened.
pub fn follow<'a>(engine: &'a Engine, since: Option<&Cursor>) -> Result<Following<'a>, Failure> {
    let journal = engine.ledger.journal()?;
    let after = since.map_or(0, |cursor| cursor.seq);
    let since = since.map(|cursor| begin_behind(journal, cursor)).transpose()?;
    Ok(Following {
        journal,
        since: since.map(journal::Story::to_be_followed),
        follow: journal.follow(0),
        told: VecDeque::new(),
        after,
        damaged: None,
        readable: None,
        known: false,
    })
}

impl Following<'_> {
    /// The next event; `None` where there is none yet: it waits for none. Of a damaged journal what can be read, until somebody
    /// has rebuilt it.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn next(&mut self, work: &Work<'_>) -> Result<Option<Event>, Failure> {
        while self.told.is_empty() {
            if let Some(story) = &mut self.since {
                match recorded(story, work, &mut self.known)? {
                    Some(event) => {
                        self.told.extend(told(&event));
                        self.after = event.seq;
                    }
                    None => {
                        self.follow =
                            self.since.take().map_or_else(|| self.journal.follow(0), journal::Story::follow);
                    }
                }
                continue;
            }
            if self.readable.is_some() {
                if !self.read_on(work)? {
                    return Ok(None);
                }
                continue;
            }
            match self.follow.poll() {
                Ok(events) => {
                    (self.damaged, self.known) = (None, false);
                    if events.is_empty() {
                        return Ok(None);
                    }
                    let new = events.iter().filter(|event| event.seq > self.after);
                    self.told.extend(new.flat_map(told));
                    self.after = events.iter().map(|event| event.seq).fold(self.after, u64::max);
                }
                Err(JournalError::Damaged { .. }) => {
                    if self.damaged.is_some_and(|since| since.elapsed() < DAMAGED_PAUSE) {
                        return Ok(None);
                    }
                    self.damaged = Some(Instant::now());
                    self.readable = Some(self.journal.story_behind(self.after).map_err(Failure::new)?);
                }
                Err(error) => return Err(Failure::new(error)),
            }
        }
        Ok(self.told.pop_front())
    }

    /// Reads a record of a damaged journal; `false` at its end.
    fn read_on(&mut self, work: &Work<'_>) -> Result<bool, Failure> {
        let Some(story) = &mut self.readable else { return Ok(false) };
        let quiet = Work { watcher: &Quiet, ..*work };
        match recorded(story, if self.known { &quiet } else { work }, &mut false)? {
            Some(event) => {
                self.told.extend(told(&event));
                self.after = event.seq;
                Ok(true)
            }
            None => {
                (self.readable, self.known) = (None, true);
                Ok(false)
            }
        }
    }
}

/// The story of a container, one event after the other; made by [`explain`].
pub struct Explained<'a> {
    container: ContainerId,
    attempts: Attempts,
    story: journal::Story<'a>,
    told: VecDeque<Event>,
    held: Vec<Held>,
}

/// What a container asked for, what was planned, granted, mounted, refused and given back, and what it holds now. All that is
/// kept of the past is read twice, first for the container's attempts; nothing else of it is held.
///
/// # Errors
/// When nothing is known of the container, and when the journal cannot be read.
pub fn explain<'a>(engine: &'a Engine, asked: &Explain, work: &Work<'_>) -> Result<Explained<'a>, Failure> {
    let context = &Context::new(engine, *work);
    let container = asked.container.clone();
    let journal = engine.ledger.journal()?;
    let mut attempts = Attempts::default();
    let mut story = begin(journal)?;
    while let Some(event) = recorded(&mut story, work, &mut false)? {
        attempts.add(&event, &container);
    }
    // The watcher knows by now if the journal is damaged.
    let quiet = Work { watcher: &Quiet, ..*work };
    let table = engine.ledger.seen(&quiet)?;
    let held: Vec<Held> = table.of_container(&container).map(|grant| held(context, grant)).collect();
    let story = begin(journal)?;
    let mut explained = Explained { container, attempts, story, told: VecDeque::new(), held };
    if !explained.look_ahead()? && explained.held.is_empty() {
        let reason = format!("volhook has never heard of container {:?}", explained.container.as_str());
        return Err(Failure::new(reason).hint(
            "only containers that claim volumes are recorded, by the id that the runtime has; \
             `volhook events` lists them",
        ));
    }
    Ok(explained)
}

impl Explained<'_> {
    /// The container.
    #[must_use]
    pub fn container(&self) -> &ContainerId {
        &self.container
    }

    /// What happened next; `None` at the end.
    ///
    /// # Errors
    /// When the journal cannot be read.
    #[expect(clippy::should_implement_trait, reason = "what fails is the story, not one of its events")]
    pub fn next(&mut self) -> Result<Option<Event>, Failure> {
        self.look_ahead()?;
        Ok(self.told.pop_front())
    }

    /// What it holds now.
    #[must_use]
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// All of it at once.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn whole(mut self) -> Result<Story, Failure> {
        let mut events = Vec::new();
        while let Some(event) = self.next()? {
            events.push(event);
        }
        Ok(Story { container: self.container, events, held: self.held })
    }

    /// Has the next event at hand, if there is one.
    fn look_ahead(&mut self) -> Result<bool, Failure> {
        while self.told.is_empty() {
            let Some(event) = self.story.next().map_err(Failure::new)? else { return Ok(false) };
            if concerns(&event, &self.container, &self.attempts) {
                self.told.extend(told_in_full(&event));
            }
        }
        Ok(true)
    }
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
        LeaseRecord::Rebuilt { kept, copy, .. } if copy.is_empty() => {
            vec![line("rebuilt", None, None, format!("{kept} records kept; the file was gone"))]
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
        boot: event.boot.clone(),
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

/// The attempts that were a container's. Before its process was known, the spec stage may have called it something else. Of
/// each, what it hashes to is kept, by a secret of this process: there may be millions.
#[derive(Default)]
struct Attempts {
    hashes: HashSet<u64>,
    secret: RandomState,
}

impl Attempts {
    fn add(&mut self, event: &journal::Event, container: &ContainerId) {
        let attempt = match &event.record {
            EventRecord::Lease(LeaseRecord::Granted(grant)) if grant.container == *container => {
                &grant.attempt
            }
            EventRecord::Lease(
                LeaseRecord::Bound { attempt, container: whose, .. }
                | LeaseRecord::Planned { attempt, container: whose, .. },
            ) if whose == container => attempt,
            _ => return,
        };
        self.hashes.insert(self.secret.hash_one(attempt));
    }

    fn contains(&self, attempt: &String) -> bool {
        self.hashes.contains(&self.secret.hash_one(attempt))
    }
}

fn concerns(event: &journal::Event, container: &ContainerId, attempts: &Attempts) -> bool {
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
