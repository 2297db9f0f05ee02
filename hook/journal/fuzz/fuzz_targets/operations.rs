//! Any sequence of what processes do with a journal, some of them killed, against a plain model after each step.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use volhook_core::record::LeaseRecord;
use volhook_core::record::VolumeRecord;
use volhook_journal::IndexState;
use volhook_journal::EventRecord;
use volhook_journal::FileState;
use volhook_journal::Interest;
use volhook_journal::Journal;
use volhook_journal_fuzz::disk::Memory;
use volhook_journal_fuzz::model::Held;
use volhook_journal_fuzz::model::Model;
use volhook_journal_fuzz::model::held;
use volhook_journal_fuzz::records::Record;
use volhook_journal_fuzz::records::VOLUMES;
use volhook_journal_fuzz::records::at;
use volhook_journal_fuzz::records::attempt;
use volhook_journal_fuzz::records::container;
use volhook_journal_fuzz::records::open;
use volhook_journal_fuzz::records::soon;
use volhook_journal_fuzz::records::volume_record;
use volhook_journal_fuzz::records::volumes_of;

#[derive(Debug, Arbitrary)]
enum Step {
    /// A process that takes the lock. It may be the one from before, or be killed in the middle.
    Hold {
        new: bool,
        actions: Vec<Action>,
        killed_after: Option<u16>,
    },
    Read,
    ReadAbout(Wish),
    Events,
    Check,
    /// Something happens to the index's file.
    Flip {
        at: u16,
        mask: u8,
    },
    Cut {
        at: u16,
    },
    /// An earlier state of it comes back.
    Back,
    Reboot,
}

#[derive(Debug, Arbitrary)]
enum Action {
    Append(Vec<Record>),
    AppendVolumes(Vec<u8>),
    Table,
    About(Wish),
}

#[derive(Debug, Arbitrary)]
struct Wish {
    volumes: u8,
    but_sharers: bool,
    container: Option<u8>,
    attempts: Vec<u8>,
}

impl Wish {
    fn check(&self, model: &Model, ask: impl FnOnce(&Interest<'_>) -> Held) {
        let volumes: Vec<_> = volumes_of(self.volumes).collect();
        let container = self.container.map(container);
        let attempts: Vec<_> = self.attempts.iter().map(|which| attempt(*which)).collect();
        let attempts: Vec<&str> = attempts.iter().map(String::as_str).collect();
        let (but_sharers, container) = (self.but_sharers, container.as_ref());
        let found = ask(&Interest { volumes: &volumes, but_sharers, container, attempts: &attempts });
        // All leases of these records share.
        let volumes = if but_sharers { 0 } else { self.volumes };
        assert_eq!(found, model.about(volumes, self.container, &attempts), "{self:?}");
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let mut world = World::default();
    let mut journal = open(&world.disk, &world.boot());
    for step in steps.iter().take(40) {
        world.take(step, &mut journal);
    }
    world.check_events();
    assert_eq!(held(&open(&world.disk, &world.boot()).read().expect("sound")), world.model.held());
});

#[derive(Default)]
struct World {
    disk: Memory,
    boots: u32,
    /// What holds in this boot.
    model: Model,
    /// All that was recorded, of any boot.
    story: Vec<EventRecord>,
    /// The index as it once was.
    earlier: Vec<u8>,
    /// Whether something happened to the index in this boot.
    hit: bool,
}

impl World {
    fn boot(&self) -> String {
        format!("boot-{}", self.boots)
    }

    fn leases(&self) -> String {
        format!("leases-{}", self.boot())
    }

    fn index(&self) -> String {
        format!("{}.index", self.leases())
    }

    fn take(&mut self, step: &Step, journal: &mut Journal) {
        match step {
            Step::Hold { new, actions, killed_after } => {
                if *new {
                    *journal = open(&self.disk, &self.boot());
                }
                if let Some(after) = killed_after {
                    self.disk.stop_after(usize::from(*after));
                }
                let unsure = self.hold(journal, actions);
                let stopped = self.disk.go_on();
                assert!(stopped || unsure.is_none(), "a memory that goes on refused {unsure:?}");
                if stopped {
                    *journal = open(&self.disk, &self.boot());
                    self.settle(unsure.unwrap_or_default());
                }
            }
            Step::Read => assert_eq!(held(&journal.read().expect("sound")), self.model.held()),
            Step::ReadAbout(wish) => {
                wish.check(&self.model, |wish| held(&journal.read_about(wish).expect("sound")));
            }
            Step::Events => self.check_events(),
            Step::Check => self.check(journal),
            Step::Flip { at, mask } => self.hit_index(|bytes| {
                let at = usize::from(*at) % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= mask;
                }
            }),
            Step::Cut { at } => {
                self.hit_index(|bytes| bytes.truncate(usize::from(*at) % (bytes.len() + 1)));
            }
            Step::Back => {
                let now = self.disk.bytes(&self.index());
                let earlier = std::mem::replace(&mut self.earlier, now);
                self.hit_index(|bytes| *bytes = earlier);
            }
            Step::Reboot => {
                self.boots += 1;
                self.model = Model::default();
                self.earlier.clear();
                self.hit = false;
                *journal = open(&self.disk, &self.boot());
            }
        }
    }

    fn hit_index(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        self.disk.change(&self.index(), change);
        self.hit = true;
    }

    /// Does what a process does with the lock. If its last append failed, returns what that was of.
    fn hold(&mut self, journal: &Journal, actions: &[Action]) -> Option<Vec<EventRecord>> {
        let Ok(mut locked) = journal.lock(soon()) else { return Some(Vec::new()) };
        for action in actions.iter().take(12) {
            let records: Vec<LeaseRecord> = match action {
                Action::Table => {
                    assert_eq!(held(&locked.table().expect("sound")), self.model.held());
                    continue;
                }
                Action::About(wish) => {
                    wish.check(&self.model, |wish| held(&locked.about(wish).expect("sound")));
                    continue;
                }
                Action::Append(records) => {
                    records.iter().take(8).map(|record| record.build()).collect()
                }
                Action::AppendVolumes(which) => {
                    let records: Vec<VolumeRecord> =
                        which.iter().take(8).map(|which| volume_record(*which)).collect();
                    drop(locked);
                    let done = journal.append_volumes(soon(), at(2), &records);
                    let records = records.into_iter().map(EventRecord::Volume).collect();
                    if done.is_err() {
                        return Some(records);
                    }
                    self.say(records);
                    let Ok(again) = journal.lock(soon()) else { return Some(Vec::new()) };
                    locked = again;
                    continue;
                }
            };
            let done = locked.append(at(1), &records);
            let records = records.into_iter().map(EventRecord::Lease).collect();
            if done.is_err() {
                return Some(records);
            }
            self.say(records);
        }
        None
    }

    fn say(&mut self, records: Vec<EventRecord>) {
        for record in &records {
            if let EventRecord::Lease(record) = record {
                self.model.say(record);
            }
        }
        self.story.extend(records);
    }

    /// Finds out how many of the records of a killed process's append are there: the first few.
    fn settle(&mut self, unsure: Vec<EventRecord>) {
        let there = self.told().len();
        let new = there.checked_sub(self.story.len()).expect("what was acknowledged is there");
        let new = unsure.into_iter().take(new).collect();
        self.say(new);
        self.check_events();
        let read = open(&self.disk, &self.boot()).read().expect("sound");
        assert_eq!(held(&read), self.model.held());
    }

    fn told(&self) -> Vec<EventRecord> {
        let events = open(&self.disk, &self.boot()).events().expect("sound");
        assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq), "{events:#?}");
        events.into_iter().map(|event| event.record).collect()
    }

    fn check_events(&self) {
        assert_eq!(self.told(), self.story);
    }

    fn check(&self, journal: &Journal) {
        let report = journal.check().expect("the names can be read");
        for file in &report.files {
            // A killed process may have left its last append unfinished.
            let fine = matches!(file.state, FileState::Sound | FileState::TornTail { .. });
            let old = self.hit && file.name == self.leases();
            assert!(fine || old && file.name != VOLUMES, "{report:#?}");
        }
        let wrong = matches!(report.index, IndexState::Disagrees | IndexState::Unknown);
        assert!(!wrong || self.hit, "{report:#?}");
        assert_eq!(held(&journal.read().expect("sound")), self.model.held());
    }
}
