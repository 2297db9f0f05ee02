//! What is torn, what is damage, what is newer: each has its outcome.

use crate::disk::Simulated;
use crate::records::BOOT;
use crate::records::at;
use crate::records::created;
use crate::records::granted;
use crate::records::released;
use crate::records::soon;
use proptest::prelude::*;
use volhook_core::record::LeaseRecord;
use volhook_journal::Event;
use volhook_journal::Interest;
use volhook_journal::Journal;
use volhook_journal::JournalError;

pub(crate) fn open(disk: &Simulated) -> Journal {
    Journal::on(Box::new(disk.clone()), BOOT).unwrap()
}

pub(crate) fn leases() -> String {
    format!("leases-{BOOT}")
}

/// A journal with a few appends in both files.
pub(crate) fn sample() -> (Simulated, Vec<Event>) {
    let disk = Simulated::default();
    let journal = open(&disk);
    journal.append_volumes(soon(), at(0), &[created("v1")]).unwrap();
    let grants = [granted("a", &["one"]), granted("b", &["two"])];
    journal.lock(soon()).unwrap().append(at(1), &grants).unwrap();
    journal.append_volumes(soon(), at(2), &[created("v2"), created("v3")]).unwrap();
    let mut locked = journal.lock(soon()).unwrap();
    locked.append(at(3), &[released("a")]).unwrap();
    locked.append(at(4), &[granted("c", &["three", "four", "five"])]).unwrap();
    drop(locked);
    let events = journal.events().unwrap();
    (disk, events)
}

/// What can be told, whatever is damaged.
fn told(journal: &Journal) -> Vec<Event> {
    let mut story = journal.story().unwrap();
    std::iter::from_fn(|| story.next().unwrap()).collect()
}

fn with(name: &str, bytes: Vec<u8>) -> Simulated {
    let disk = sample().0;
    disk.put(name, bytes);
    disk
}

#[test]
fn every_truncation_is_a_prefix_and_written_on_where_no_lease_is_lost() {
    let (disk, events) = sample();
    for name in [leases(), "volumes".to_owned()] {
        let whole = disk.live(&name).unwrap();
        in_parallel(whole.len(), |length| {
            let disk = with(&name, whole[..length].to_vec());
            let journal = open(&disk);
            let seen = told(&journal);
            assert!(seen.iter().all(|event| events.contains(event)), "{name} cut at {length}");
            let kept: Vec<_> = events.iter().filter(|event| seen.contains(event)).cloned().collect();
            assert_eq!(seen, kept, "{name} cut at {length}");
            // Leases that were acknowledged are gone: that is for the caller to settle, and is not written over.
            let lost = name == leases();
            if lost {
                assert!(matches!(journal.read_about(&ABOUT_A), Err(JournalError::Damaged { .. })));
                assert!(matches!(journal.lock(soon()), Err(JournalError::Damaged { copy: Some(_), .. })));
                assert_eq!(disk.live(&name).unwrap(), whole[..length], "nothing was written");
                let salvaged = journal.salvage().unwrap().expect("what lock calls damage can be rebuilt");
                journal.rebuild(soon(), at(8), &salvaged, &salvaged.grants).unwrap().expect("needed");
            }
            journal.lock(soon()).unwrap().append(at(9), &[granted("z", &["nine"])]).unwrap();
            journal.append_volumes(soon(), at(9), &[created("v9")]).unwrap();
            let after = open(&disk).events().unwrap();
            assert!(seen.iter().all(|event| after.contains(event)), "{name} cut at {length}");
            assert!(lost || after.len() == seen.len() + 2, "{name} cut at {length}");
        });
    }
}

const ABOUT_A: Interest<'_> =
    Interest { volumes: &[], but_sharers: false, container: None, attempts: &["a"] };

/// Reading waits for a moment before it calls something damage, so the work is shared out.
fn in_parallel(count: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for first in 0..32 {
            let work = &work;
            scope.spawn(move || (first..count).step_by(32).for_each(work));
        }
    });
}

#[test]
fn a_tail_of_zeros_is_cut() {
    let (disk, events) = sample();
    for name in [leases(), "volumes".to_owned()] {
        let whole = disk.live(&name).unwrap();
        for zeros in [1, 7, 8, 39, 40, 511, 4096, 70_000] {
            let mut bytes = whole.clone();
            bytes.resize(whole.len() + zeros, 0);
            let disk = with(&name, bytes);
            let journal = open(&disk);
            assert_eq!(journal.events().unwrap(), events, "{name} and {zeros} zeros");
            journal.lock(soon()).unwrap().append(at(9), &[granted("z", &["nine"])]).unwrap();
            journal.append_volumes(soon(), at(9), &[created("v9")]).unwrap();
            assert_eq!(open(&disk).events().unwrap().len(), events.len() + 2);
        }
        let disk = with(&name, vec![0; whole.len()]);
        assert!(told(&open(&disk)).len() < events.len());
        let written = open(&disk).append_volumes(soon(), at(9), &[created("v9")]);
        match written {
            Err(JournalError::Damaged { offset: 0, .. }) => assert_eq!(name, leases()),
            other => assert!(other.is_ok() && name == "volumes", "{other:?}"),
        }
    }
}

#[test]
fn a_cut_is_noticed_by_a_handle_that_knew_more() {
    let (disk, _) = sample();
    let whole = disk.live(&leases()).unwrap();
    let frames: Vec<_> = (0..whole.len()).filter(|at| whole[*at..].starts_with(b"VHF1")).collect();
    for place in frames {
        let journal = open(&disk);
        assert_eq!(journal.read_about(&ABOUT_A).unwrap().grants().count(), 0);
        disk.put(&leases(), whole[..place].to_vec());
        let error = journal.lock(soon()).err().expect("records are gone");
        assert!(matches!(error, JournalError::Damaged { offset, .. } if offset == place as u64), "{error:?}");
        disk.put(&leases(), whole.clone());
        journal.lock(soon()).expect("they are there again");
    }
}

/// A flipped byte never changes what is read: it is an error that names the place, or, while it only tears the
/// log's tail, nothing else than what was written.
fn check_flip(name: &str, place: usize, mask: u8) {
    let (disk, _) = sample();
    let mut bytes = disk.live(name).unwrap();
    bytes[place] ^= mask;
    disk.put(name, bytes.clone());
    let journal = open(&disk);
    let error = if name == "volumes" {
        let read = journal.events();
        let written = journal.append_volumes(soon(), at(9), &[created("v9")]);
        assert!(read.is_err(), "{name} byte {place} ^ {mask:#x}: read without complaint");
        written.expect_err("damage is not written over")
    } else {
        // What the index leads past nobody has to read: what is read is right, and a check of the whole file says it.
        let report = journal.check().unwrap();
        assert!(!report.is_sound(), "{name} byte {place} ^ {mask:#x}: called sound");
        if let Ok(table) = journal.read() {
            assert_eq!(table, open(&sample().0).read().unwrap(), "{name} byte {place} ^ {mask:#x}");
        }
        disk.remove_now(&format!("{name}.index"));
        assert!(journal.read().is_err(), "{name} byte {place} ^ {mask:#x}: read without complaint");
        journal.lock(soon()).err().expect("damage is not written over")
    };
    match error {
        JournalError::Damaged { file, offset, copy, .. } => {
            assert!(file.ends_with(name));
            assert!(offset <= place as u64, "damage at {place} reported at {offset}");
            let copy = copy.expect("a copy is kept");
            let copy = copy.file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(disk.live(&copy).unwrap(), bytes);
        }
        other => panic!("{name} byte {place} ^ {mask:#x}: {other:?}"),
    }
    assert_eq!(disk.live(name).unwrap(), bytes, "nothing was written");
}

#[test]
fn every_flipped_byte_is_found() {
    let (disk, _) = sample();
    // Reading waits for a moment before it calls something damage, so the flips are shared out.
    std::thread::scope(|scope| {
        for name in [leases(), "volumes".to_owned()] {
            let length = disk.live(&name).unwrap().len();
            for first in 0..24 {
                let name = name.clone();
                scope.spawn(move || {
                    for place in (first..length).step_by(24) {
                        check_flip(&name, place, 1 << (place % 8));
                    }
                });
            }
        }
    });
}

#[test]
fn a_byte_turned_to_zero_is_found() {
    let (disk, _) = sample();
    let bytes = disk.live("volumes").unwrap();
    std::thread::scope(|scope| {
        for first in 0..24 {
            let bytes = &bytes;
            scope.spawn(move || {
                for place in (first..bytes.len()).step_by(24).filter(|place| bytes[*place] != 0) {
                    check_flip("volumes", place, bytes[place]);
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_never_read_as_records(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let disk = with(&leases(), bytes);
        if let Ok(table) = open(&disk).read() {
            prop_assert_eq!(table.grants().count(), 0);
        }
    }

    #[test]
    fn garbage_behind_the_last_frame_is_never_read_as_records(
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        let (disk, events) = sample();
        let mut all = disk.live("volumes").unwrap();
        all.extend(bytes);
        disk.put("volumes", all);
        if let Ok(seen) = open(&disk).events() {
            prop_assert_eq!(seen, events);
        }
    }
}

#[test]
fn a_hole_in_the_middle_is_damage() {
    let (disk, _) = sample();
    for name in [leases(), "volumes".to_owned()] {
        let mut bytes = disk.live(&name).unwrap();
        bytes[40..100].fill(0);
        let disk = with(&name, bytes.clone());
        assert!(matches!(open(&disk).events(), Err(JournalError::Damaged { .. })));
        assert_eq!(disk.live(&name).unwrap(), bytes);
    }
}

#[test]
fn damage_in_an_earlier_boots_file_is_history() {
    let (disk, events) = sample();
    let mut bytes = disk.live(&leases()).unwrap();
    bytes[40] ^= 1;
    disk.put(&leases(), bytes);
    let journal = Journal::on(Box::new(disk), crate::records::NEXT_BOOT).unwrap();
    let left = journal.events().unwrap();
    assert!(left.iter().all(|event| events.contains(event)));
    assert!(left.len() + 2 >= events.len(), "only the frame that was hit is missing");
    journal.lock(soon()).unwrap().append(at(9), &[granted("z", &["nine"])]).unwrap();
    assert!(journal.events().unwrap().last().unwrap().seq > events.last().unwrap().seq);
}

#[test]
fn a_file_of_another_name_is_not_taken_for_this_boots() {
    let (disk, _) = sample();
    let other = disk.live(&leases()).unwrap();
    disk.put(&format!("leases-{}", crate::records::NEXT_BOOT), other);
    let journal = Journal::on(Box::new(disk), crate::records::NEXT_BOOT).unwrap();
    assert!(matches!(journal.read(), Err(JournalError::Damaged { offset: 0, .. })));
}

/// Raises the format in the header and mends its checksum, which covers the file's name.
fn newer(bytes: &mut [u8], name: &str) {
    bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..28]), name.as_bytes());
    bytes[28..32].copy_from_slice(&sum.to_le_bytes());
    // The first frame repeats the header's checksum, and everything behind hangs on it.
    let mut previous = sum;
    let mut at = 32;
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        bytes[at + 32..at + 36].copy_from_slice(&previous.to_le_bytes());
        previous = crc32c::crc32c(&bytes[at..at + 36]);
        bytes[at + 36..at + 40].copy_from_slice(&previous.to_le_bytes());
        at += 40 + length;
    }
}

#[test]
fn a_newer_format_is_read_and_never_written() {
    for name in [leases(), "volumes".to_owned()] {
        let (disk, events) = sample();
        let mut bytes = disk.live(&name).unwrap();
        newer(&mut bytes, &name);
        disk.put(&name, bytes.clone());
        let journal = open(&disk);
        assert_eq!(journal.events().unwrap(), events);
        let written = journal.append_volumes(soon(), at(9), &[created("v9")]);
        match written {
            Err(JournalError::NewerFormat { file, version: 2, newest: 1 }) => assert!(file.ends_with(&name)),
            other => panic!("{other:?}"),
        }
        assert_eq!(disk.live(&name).unwrap(), bytes);
    }
}

/// Somebody's mistake with a right checksum: there is no number behind it.
#[test]
fn a_sequence_number_without_a_next_one_is_damage() {
    for name in [leases(), "volumes".to_owned()] {
        let (disk, _) = sample();
        let mut bytes = disk.live(&name).unwrap();
        let last = bytes.windows(4).rposition(|window| window == b"VHF1").unwrap();
        bytes[last + 8..last + 16].copy_from_slice(&u64::MAX.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[last..last + 36]);
        bytes[last + 36..last + 40].copy_from_slice(&sum.to_le_bytes());
        disk.put(&name, bytes);
        let journal = open(&disk);
        let written = journal.append_volumes(soon(), at(9), &[created("v9")]);
        assert!(matches!(written, Err(JournalError::Damaged { .. })), "{name}: {written:?}");
    }
}

#[test]
fn a_record_too_large_is_refused_before_anything_is_written() {
    let disk = Simulated::default();
    let journal = open(&disk);
    let note = LeaseRecord::Note {
        container: crate::records::container("c1"),
        volume: None,
        text: "x".repeat(70_000),
    };
    let mut locked = journal.lock(soon()).unwrap();
    let refused = locked.append(at(0), &[granted("a", &["one"]), note]);
    assert!(matches!(refused, Err(JournalError::RecordTooLarge { limit: 65_536, .. })), "{refused:?}");
    assert_eq!(locked.table().unwrap().grants().count(), 0);
    assert_eq!(disk.names_now(), Vec::<String>::new());
}
