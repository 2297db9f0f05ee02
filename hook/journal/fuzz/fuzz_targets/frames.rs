//! Journal files of any content: nothing panics, hangs or eats memory, and what was damaged is never told as the truth.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use volhook_core::record::LeaseRecord;
use volhook_core::record::VolumeRecord;
use volhook_journal::EventRecord;
use volhook_journal::FileState;
use volhook_journal::Interest;
use volhook_journal::Journal;
use volhook_journal::Report;
use volhook_journal_fuzz::disk::Memory;
use volhook_journal_fuzz::forge;
use volhook_journal_fuzz::model::Model;
use volhook_journal_fuzz::model::held;
use volhook_journal_fuzz::records::BOOT;
use volhook_journal_fuzz::records::INDEX;
use volhook_journal_fuzz::records::LEASES;
use volhook_journal_fuzz::records::Record;
use volhook_journal_fuzz::records::VOLUMES;
use volhook_journal_fuzz::records::at;
use volhook_journal_fuzz::records::container;
use volhook_journal_fuzz::records::open;
use volhook_journal_fuzz::records::soon;
use volhook_journal_fuzz::records::volume;
use volhook_journal_fuzz::records::volume_record;

#[derive(Debug, Arbitrary)]
enum Input {
    /// Any bytes at all.
    Bytes { leases: Vec<u8>, volumes: Vec<u8>, index: Vec<u8> },
    /// Right checksums around any content.
    Forged { leases: forge::File, volumes: forge::File, index: Option<forge::Index> },
    /// What the journal wrote, and what became of it.
    Damaged { story: Vec<Said>, mishaps: Vec<(Place, Mishap)> },
}

#[derive(Debug, Arbitrary)]
enum Said {
    Lease(Record),
    Volume(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
enum Place {
    Leases,
    Volumes,
    Index,
}

/// Offsets count bytes or, with their highest bit set, frames.
#[derive(Debug, Arbitrary)]
enum Mishap {
    Flip {
        at: u16,
        mask: u8,
    },
    Cut {
        at: u16,
    },
    Remove {
        from: u16,
        length: u16,
    },
    Zero {
        at: u16,
        length: u8,
    },
    /// A range comes a second time, in front of what stands at `to`.
    Insert {
        from: u16,
        length: u16,
        to: u16,
    },
    /// The same, over what stands there.
    Overwrite {
        from: u16,
        length: u16,
        to: u16,
    },
}

fuzz_target!(|input: Input| {
    match input {
        Input::Bytes { leases, volumes, index } => {
            let disk = Memory::default();
            disk.put(LEASES, leases);
            disk.put(VOLUMES, volumes);
            disk.put(INDEX, index);
            use_all_of(&disk);
        }
        Input::Forged { leases, volumes, index } => {
            let disk = Memory::default();
            let (leases, header, last) = leases.encode(1, LEASES);
            disk.put(LEASES, leases);
            disk.put(VOLUMES, volumes.encode(2, VOLUMES).0);
            if let (Some(index), Some(last)) = (index, last) {
                disk.put(INDEX, index.encode(header, last));
            }
            use_all_of(&disk);
        }
        Input::Damaged { story, mishaps } => damage(&story, &mishaps),
    }
});

/// Everything that can be asked of a journal and done to it, whatever comes of it.
fn use_all_of(disk: &Memory) {
    let journal = || open(disk, BOOT);
    let ids = [volume(0), volume(1)];
    let interest = Interest { volumes: &ids, but_sharers: false, container: Some(&container(0)), attempts: &["a0", ""] };
    let look = || {
        let _ = (journal().read(), journal().read_about(&interest), journal().events());
        let _ = (journal().check().expect("the names can be read"), journal().follow(1).poll());
    };
    look();
    let append = || {
        let handle = journal();
        let Ok(mut locked) = handle.lock(soon()) else { return };
        let _ = (locked.table(), locked.about(&interest));
        let _ = locked.append(at(1), &[granted("new")]);
        let _ = (locked.table(), locked.about(&interest));
        drop(locked);
        let _ = handle.append_volumes(soon(), at(2), &[volume_record(0)]);
    };
    append();
    look();
    if let Ok(Some(salvaged)) = journal().salvage() {
        let _ = journal().rebuild(soon(), at(3), &salvaged, &salvaged.grants);
    }
    let _ = journal().rebuild_volumes(soon(), at(4));
    append();
    look();
}

fn granted(attempt: &str) -> LeaseRecord {
    let LeaseRecord::Granted(mut grant) = Record::Grant(0, 0, None, 1).build() else {
        unreachable!("that is a grant")
    };
    attempt.clone_into(&mut grant.attempt);
    LeaseRecord::Granted(grant)
}

/// A journal, record by record.
#[derive(Default)]
struct Original {
    leases: Vec<LeaseRecord>,
    volumes: Vec<VolumeRecord>,
    /// Where the frames of the file of leases begin and end; those without a record, too.
    frames: Vec<Frame>,
}

struct Frame {
    bytes: Vec<u8>,
    /// The record in it, counted.
    record: Option<usize>,
}

impl Original {
    fn write(story: &[Said], journal: &Journal, disk: &Memory) -> Self {
        let mut original = Self::default();
        let mut written = 32;
        for said in story {
            let record = match said {
                Said::Lease(record) => {
                    let record = record.build();
                    let mut locked = journal.lock(soon()).expect("nothing is wrong with it yet");
                    locked.append(at(0), std::slice::from_ref(&record)).expect("a memory has room");
                    original.leases.push(record);
                    Some(original.leases.len() - 1)
                }
                Said::Volume(which) => {
                    let record = volume_record(*which);
                    let records = std::slice::from_ref(&record);
                    journal.append_volumes(soon(), at(0), records).expect("a memory has room");
                    original.volumes.push(record);
                    None
                }
            };
            let bytes = disk.bytes(LEASES);
            if bytes.len() > written {
                original.frames.push(Frame { bytes: bytes[written..].to_vec(), record });
                written = bytes.len();
            }
        }
        original
    }

    /// The records whose frames can still be found where a frame may stand.
    fn readable<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'a LeaseRecord> {
        let places = || (0..bytes.len()).step_by(8);
        let there = move |frame: &&Frame| places().any(|at| bytes[at..].starts_with(&frame.bytes));
        let records = self.frames.iter().filter(there).filter_map(|frame| frame.record);
        records.map(|record| &self.leases[record])
    }
}

fn damage(story: &[Said], mishaps: &[(Place, Mishap)]) {
    let disk = Memory::default();
    let journal = open(&disk, BOOT);
    let original = Original::write(&story[..story.len().min(24)], &journal, &disk);
    let goal = Model::of(&original.leases).held();
    assert_eq!(held(&journal.read().expect("nothing is wrong with it")), goal);

    let names = [(Place::Leases, LEASES), (Place::Volumes, VOLUMES), (Place::Index, INDEX)];
    let before = names.map(|(_, name)| disk.bytes(name));
    for (place, mishap) in mishaps.iter().take(6) {
        let (_, name) = names[*place as usize];
        disk.change(name, |bytes| mishap.befall(bytes));
    }
    let after = names.map(|(_, name)| disk.bytes(name));
    let hit = |place: Place| before[place as usize] != after[place as usize];

    let journal = open(&disk, BOOT);
    let report = journal.check().expect("the names can be read");
    let told = |name: &str| state(&report, name) != Some(&FileState::Sound);
    let read = journal.read();
    if !hit(Place::Leases) {
        assert_eq!(held(read.as_ref().expect("the file of leases is whole")), goal);
    } else if !told(LEASES) {
        // Only who takes the end of the file and the note of it can hide a loss.
        assert!(hit(Place::Index), "a change went unnoticed: {report:#?}");
        assert!(before[0].starts_with(&after[0]), "more than a loss went unnoticed");
    }
    if !told(LEASES) && !hit(Place::Index) {
        assert_eq!(held(read.as_ref().expect("it is said to be sound")), goal);
    }
    if hit(Place::Volumes) && !told(VOLUMES) {
        assert!(before[1].starts_with(&after[1]), "more than a loss went unnoticed");
    }
    check_events(&journal, &original);
    check_salvage(&disk, &report, &original, &after[0]);
    check_append(&disk);
}

impl Mishap {
    fn befall(&self, bytes: &mut Vec<u8>) {
        let marks: Vec<usize> =
            (0..bytes.len()).step_by(8).filter(|at| bytes[*at..].starts_with(b"VHF1")).collect();
        let length = bytes.len();
        let offset = |at: u16| match usize::from(at) {
            at if at >= 0x8000 && !marks.is_empty() => marks[(at - 0x8000) % marks.len()],
            at => at % (length + 1),
        };
        let range = |from: u16, length: u16| {
            let from = offset(from);
            // A length may as well lead to a frame's beginning.
            let end = if length >= 0x8000 { offset(length) } else { from + usize::from(length) };
            from..end.clamp(from, bytes.len())
        };
        match *self {
            Self::Flip { at, mask } => {
                let at = offset(at);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= mask;
                }
            }
            Self::Cut { at } => bytes.truncate(offset(at)),
            Self::Zero { at, length } => {
                let range = range(at, length.into());
                bytes[range].fill(0);
            }
            Self::Remove { from, length } => drop(bytes.drain(range(from, length))),
            Self::Insert { from, length, to } => {
                let (piece, to) = (bytes[range(from, length)].to_vec(), offset(to));
                bytes.splice(to..to, piece);
            }
            Self::Overwrite { from, length, to } => {
                let (piece, to) = (bytes[range(from, length)].to_vec(), offset(to));
                let end = bytes.len().min(to + piece.len());
                bytes.splice(to..end, piece);
            }
        }
    }
}

fn state<'a>(report: &'a Report, name: &str) -> Option<&'a FileState> {
    report.files.iter().find(|file| file.name == name).map(|file| &file.state)
}

/// What is told of the story is its beginning, of each file.
fn check_events(journal: &Journal, original: &Original) {
    let Ok(events) = journal.events() else { return };
    assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq), "{events:#?}");
    let (mut leases, mut volumes) = (Vec::new(), Vec::new());
    for event in events {
        match event.record {
            EventRecord::Lease(record) => leases.push(record),
            EventRecord::Volume(record) => volumes.push(record),
        }
    }
    assert!(original.leases.starts_with(&leases), "{leases:#?}");
    assert!(original.volumes.starts_with(&volumes), "{volumes:#?}");
}

/// What is salvaged is what the readable records say, and stands in the new file.
fn check_salvage(disk: &Memory, report: &Report, original: &Original, bytes: &[u8]) {
    let damaged = matches!(state(report, LEASES), Some(FileState::Damaged { .. }));
    let salvaged = open(disk, BOOT).salvage().expect("a memory can be read");
    assert_eq!(damaged, salvaged.is_some(), "{report:#?}");
    let Some(salvaged) = salvaged else { return };
    let readable = Model::of(original.readable(bytes));
    let grants = readable.held();
    assert_eq!(salvaged.grants, grants.values().cloned().collect::<Vec<_>>());
    assert_eq!(salvaged.released, readable.released().into_iter().collect::<BTreeSet<_>>());
    // What follows happens to a copy; the damaged file is still to be appended to.
    let copy = Memory::default();
    for name in [LEASES, VOLUMES, INDEX] {
        copy.put(name, disk.bytes(name));
    }
    let salvaged = open(&copy, BOOT).salvage().expect("a memory can be read").expect("it is damaged");
    let rebuilt = open(&copy, BOOT).rebuild(soon(), at(9), &salvaged, &salvaged.grants);
    let rebuilt = rebuilt.expect("a memory has room").expect("it is damaged");
    assert_eq!(rebuilt.kept as usize, grants.len());
    assert_eq!(held(&open(&copy, BOOT).read().expect("it is new")), grants);
    let report = open(&copy, BOOT).check().expect("the names can be read");
    assert_eq!(state(&report, LEASES), Some(&FileState::Sound), "{report:#?}");
}

/// An append changes what it says and nothing else.
fn check_append(disk: &Memory) {
    let journal = open(disk, BOOT);
    let Ok(mut locked) = journal.lock(soon()) else { return };
    let Ok(table) = locked.table() else { return };
    let LeaseRecord::Granted(grant) = granted("new") else { unreachable!("that is a grant") };
    locked.append(at(1), &[LeaseRecord::Granted(grant.clone())]).expect("a memory has room");
    let mut goal = held(&table);
    goal.insert(grant.attempt.clone(), grant);
    assert_eq!(held(&locked.table().expect("it could be read before")), goal);
    assert_eq!(held(&journal.read().expect("it could be read before")), goal);
}
