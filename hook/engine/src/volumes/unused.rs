//! Which volumes no container has had for some days.

use crate::context::Context;
use crate::failure::Failure;
use jiff::SignedDuration;
use jiff::Timestamp;
use volhook_api::Kind;
use volhook_core::lease::LeaseTable;
use volhook_core::unused::Known;
use volhook_core::unused::Unused;
use volhook_core::unused::Uses;
use volhook_core::volume::Volume;
use volhook_journal::Event;
use volhook_journal::EventRecord;
use volhook_journal::Follow;
use volhook_leases::clock;

/// What the history says of the use of volumes, and goes on saying.
pub(crate) struct History<'a> {
    uses: Uses,
    known: Known,
    news: Follow<'a>,
    /// What was last used before is unused.
    before: Timestamp,
}

impl<'a> History<'a> {
    /// Reads it; volumes count as unused after `days`.
    pub(crate) fn read(context: &'a Context<'_>, days: u32) -> Result<Self, Failure> {
        let mut story = context.ledger.journal()?.story().map_err(Failure::new)?.to_be_followed();
        let mut uses = Uses::default();
        while let Some(event) = story.next().map_err(Failure::new)? {
            add(&mut uses, &event);
        }
        // What is missing in a damaged file may be a use.
        if let Some(error) = story.damage().into_iter().next() {
            return Err(Failure::new(error));
        }
        let news = story.follow();
        // A clock that was set ahead makes nothing unused.
        let now = clock::no_later_than_now(&context.ledger)?;
        let age = SignedDuration::from_hours(24 * i64::from(days));
        let before = now.checked_sub(age).unwrap_or(Timestamp::MIN);
        Ok(Self { uses, known: known(context, now)?, news, before })
    }

    /// Since when nobody has used a volume, if that is long enough ago.
    pub(crate) fn unused(&self, volume: &Volume, table: &LeaseTable) -> Option<Unused> {
        if table.holders(&volume.id).next().is_some() {
            return None;
        }
        let last = self.uses.unused(volume, self.known)?;
        (last.since <= self.before).then_some(last)
    }

    /// Fails if a container had the volume after somebody was told that none did. To be asked by who alone holds the volume.
    pub(crate) fn still_unused(&mut self, volume: &Volume) -> Result<(), Failure> {
        loop {
            let events = self.news.poll().map_err(Failure::new)?;
            if events.is_empty() {
                break;
            }
            events.iter().for_each(|event| add(&mut self.uses, event));
        }
        match self.unused(volume, &LeaseTable::default()) {
            Some(_) => Ok(()),
            None => {
                let failure = Failure::new(format!("volume {:?} was claimed meanwhile and stays", volume.id));
                Err(Failure { kind: Kind::Held, ..failure }.about(volume.id.clone()))
            }
        }
    }
}

fn add(uses: &mut Uses, event: &Event) {
    if let EventRecord::Lease(record) = &event.record {
        uses.add(event.time, record);
    }
}

/// How far what is known of the use of volumes reaches.
fn known(context: &Context<'_>, now: Timestamp) -> Result<Known, Failure> {
    let since_boot = SignedDuration::try_from(clock::since_boot()).unwrap_or(SignedDuration::MAX);
    let boot = now.checked_sub(since_boot).unwrap_or(Timestamp::MIN);
    let history = context.ledger.journal()?.history_begins().map_err(Failure::new)?.unwrap_or(now);
    Ok(Known { history, boot })
}

#[cfg(test)]
mod tests {
    use super::History;
    use crate::context::Context;
    use crate::engine::Engine;
    use crate::engine::Places;
    use jiff::SignedDuration;
    use jiff::Timestamp;
    use std::time::Duration;
    use std::time::Instant;
    use tempfile::TempDir;
    use volhook_core::decision::Access;
    use volhook_core::decision::Backing;
    use volhook_core::decision::Creation;
    use volhook_core::decision::Directory;
    use volhook_core::decision::Sharing;
    use volhook_core::lease::Grant;
    use volhook_core::lease::LeasedVolume;
    use volhook_core::names::ContainerId;
    use volhook_core::names::Tenant;
    use volhook_core::names::VolumeId;
    use volhook_core::names::VolumeName;
    use volhook_core::plan::new_volume;
    use volhook_core::record::LeaseRecord;
    use volhook_core::record::ReleaseReason;
    use volhook_core::volume::Volume;
    use volhook_journal::Journal;
    use volhook_leases::Quiet;
    use volhook_leases::Work;
    use volhook_leases::clock;

    const DAYS: u32 = 30;

    fn ago(days: i64) -> Timestamp {
        Timestamp::now().checked_sub(SignedDuration::from_hours(24 * days)).unwrap()
    }

    /// An engine with a root of its own.
    fn host() -> (TempDir, Engine) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let places = Places {
            root: at("root"),
            run_dir: at("run"),
            config: at("config.toml"),
            program: None,
            environment: Vec::new(),
        };
        (folder, Engine::at(places))
    }

    fn at_work(engine: &Engine) -> Context<'_> {
        Context::new(engine, Work { until: Instant::now() + Duration::from_secs(60), watcher: &Quiet })
    }

    fn append(context: &Context<'_>, time: Timestamp, record: LeaseRecord) {
        append_to(context.ledger.journal().unwrap(), time, record);
    }

    fn append_to(journal: &Journal, time: Timestamp, record: LeaseRecord) {
        let mut locked = journal.lock(Instant::now() + Duration::from_secs(10)).unwrap();
        locked.append(time, &[record]).unwrap();
    }

    /// In an earlier boot, somebody got the volume so many days ago and gave it back a day later.
    fn was_used(context: &Context<'_>, days: i64) {
        let folder = context.places.root.join("journal");
        let journal = Journal::open(&folder, "8d1c4f0e-5b0f-4f6e-9d0a-3a1c2b7e9f10").unwrap();
        append_to(&journal, ago(days), granted("a"));
        append_to(&journal, ago(days - 1), released("a"));
    }

    fn volume(created: Timestamp) -> Volume {
        let id = VolumeId { tenant: Tenant::default(), name: VolumeName::new("v").unwrap() };
        let backing = Backing::Directory(Directory::default());
        let creation = Creation { backing, options: vec![], limit: None, sharing: None, notes: vec![] };
        new_volume(id, &vec![], None, "local", creation, "u".into(), created)
    }

    fn granted(attempt: &str) -> LeaseRecord {
        let lease = LeasedVolume {
            volume: volume(Timestamp::UNIX_EPOCH).id,
            uuid: "u".into(),
            driver: "local".into(),
            access: Access::ReadWrite,
            sharing: Sharing::Shared,
            image: false,
            target: None,
        };
        let container = ContainerId::new("c1").unwrap();
        let (attempt, leases) = (attempt.to_owned(), vec![lease]);
        LeaseRecord::Granted(Grant {
            attempt,
            container,
            holder: None,
            leases,
            since: ago(45),
            since_boot_ms: None,
        })
    }

    fn released(attempt: &str) -> LeaseRecord {
        LeaseRecord::Released {
            attempt: attempt.into(),
            container: ContainerId::new("c1").unwrap(),
            reason: ReleaseReason::Poststop,
            evidence: String::new(),
            steps: Vec::new(),
        }
    }

    fn is_listed(context: &Context<'_>, volume: &Volume) -> bool {
        let history = History::read(context, DAYS).unwrap();
        history.unused(volume, &context.grants().unwrap()).is_some()
    }

    #[test]
    fn what_a_container_gave_back_just_now_is_kept() {
        let (_folder, engine) = host();
        let context = at_work(&engine);
        let volume = volume(ago(50));
        append(&context, ago(45), granted("a"));
        assert!(!is_listed(&context, &volume), "it is held");
        append(&context, ago(0), released("a"));
        assert!(!is_listed(&context, &volume), "it was in use a moment ago");
    }

    #[test]
    fn what_was_given_back_long_ago_goes_and_what_nobody_knows_of_stays() {
        let (_folder, engine) = host();
        let context = at_work(&engine);
        was_used(&context, 45);
        assert!(is_listed(&context, &volume(ago(50))));
        let (_folder, young) = host();
        let young = at_work(&young);
        assert!(!is_listed(&young, &volume(ago(50))), "it may have been in use before the history begins");
    }

    /// It shows 31 days more than this boot's journal can be old.
    #[test]
    fn a_clock_that_was_set_ahead_makes_nothing_unused() {
        let (_folder, engine) = host();
        let context = at_work(&engine);
        let volume = volume(ago(50));
        was_used(&context, 33);
        assert!(is_listed(&context, &volume), "nothing tells that the clock is wrong");
        let since_boot = SignedDuration::try_from(clock::since_boot()).unwrap();
        let begun = ago(31).checked_sub(since_boot).unwrap();
        append(&context, begun, released("another"));
        assert!(!is_listed(&context, &volume), "it was used a day ago");
        assert!(History::read(&context, 0).unwrap().unused(&volume, &context.grants().unwrap()).is_some());
    }

    #[test]
    fn who_comes_while_a_person_thinks_keeps_it() {
        let (_folder, engine) = host();
        let context = at_work(&engine);
        let volume = volume(ago(50));
        was_used(&context, 45);
        let mut history = History::read(&context, DAYS).unwrap();
        history.still_unused(&volume).unwrap();
        append(&context, ago(0), granted("b"));
        append(&context, ago(0), released("b"));
        let failure = history.still_unused(&volume).unwrap_err();
        assert!(failure.cause_line().contains("was claimed meanwhile"), "{}", failure.cause_line());
    }
}
