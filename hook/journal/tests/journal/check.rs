//! A check never calls a journal sound that tells something else than what was written.

use crate::damage::leases;
use crate::damage::open;
use crate::damage::sample;
use crate::disk::Simulated;
use crate::fold::held;
use crate::records::BOOT;
use crate::records::at;
use crate::records::granted;
use crate::records::released;
use crate::records::soon;
use std::os::unix::fs::PermissionsExt;
use volhook_journal::Content;
use volhook_journal::FileState;
use volhook_journal::IndexState;
use volhook_journal::Journal;
use volhook_journal::JournalError;
use volhook_journal::Report;

fn state<'a>(report: &'a Report, name: &str) -> &'a FileState {
    &report.files.iter().find(|file| file.name == name).expect("every file is in the report").state
}

#[test]
fn a_sound_journal_is_described() {
    let (disk, _) = sample();
    let report = open(&disk).check().unwrap();
    assert!(report.is_sound(), "{report:#?}");
    let [leases_file, volumes] = &report.files[..] else { panic!("{report:#?}") };
    assert_eq!((leases_file.kind, leases_file.format), (Content::ThisBoot, Some(1)));
    assert_eq!((leases_file.frames, leases_file.records), (6, 4));
    assert_eq!(leases_file.bytes, disk.live(&leases()).unwrap().len() as u64);
    assert_eq!((volumes.kind, volumes.frames, volumes.records), (Content::Volumes, 3, 3));
    assert_eq!(report.index, IndexState::Agrees);
    assert_eq!(report.copies, []);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["files"][0]["kind"], "this_boot");
    assert_eq!(json["files"][0]["state"], "sound");
    assert_eq!(json["index"], "agrees");

    let next = Journal::on(Box::new(disk), crate::records::NEXT_BOOT).unwrap().check().unwrap();
    assert_eq!(next.files[0].kind, Content::EarlierBoot);
}

/// Leases are never synced, and nobody writes to another boot's file: what a power cut has taken of it stays away, and is missed
/// by nobody.
#[test]
fn an_earlier_boots_leases_that_a_power_cut_has_torn_are_sound() {
    let (disk, _) = sample();
    let whole = disk.live(&leases()).unwrap();
    let check = |disk: &Simulated| {
        let journal = Journal::on(Box::new(disk.clone()), crate::records::NEXT_BOOT).unwrap();
        let report = journal.check().unwrap();
        assert_eq!(report.files[0].kind, Content::EarlierBoot);
        report
    };
    let torn = std::sync::atomic::AtomicUsize::new(0);
    in_parallel(whole.len(), |length| {
        let (disk, _) = sample();
        disk.put(&leases(), whole[..length].to_vec());
        let report = check(&disk);
        assert!(report.is_sound(), "cut at {length}: {report:#?}");
        if matches!(state(&report, &leases()), FileState::TornTail { .. }) {
            torn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        // A disk tears no sector.
        if length % 512 == 0 && length > 0 {
            disk.put(&leases(), [&whole[..length], &vec![0; whole.len() - length][..]].concat());
            assert!(check(&disk).is_sound(), "zeros from {length}");
        }
    });
    assert!(torn.into_inner() > 100, "where it is torn is still told");
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 1;
    disk.put(&leases(), bytes);
    assert!(!check(&disk).is_sound(), "what a power cut does not do is told");
}

/// Puts other bytes in a file's place and checks; says whether the check called it sound, which it must not when the
/// table is another one.
fn called_sound(name: &str, bytes: Vec<u8>) -> bool {
    let (disk, _) = sample();
    let before = held(&open(&disk).read().unwrap());
    disk.put(name, bytes.clone());
    let report = open(&disk).check().unwrap();
    assert_eq!(disk.live(name).unwrap(), bytes, "a check changes nothing");
    let sound = *state(&report, name) == FileState::Sound;
    assert!(sound || !report.is_sound());
    match open(&disk).read() {
        Ok(table) => assert!(!sound || held(&table) == before, "{name} is not sound"),
        Err(JournalError::Damaged { offset, .. }) => {
            let found = state(&report, name);
            assert!(matches!(found, FileState::Damaged { offset: o, .. } if *o == offset), "{found:?}");
        }
        Err(other) => panic!("{other:?}"),
    }
    sound
}

/// A check waits for a moment before it complains, so the work is shared out.
fn in_parallel(count: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for first in 0..32 {
            let work = &work;
            scope.spawn(move || (first..count).step_by(32).for_each(work));
        }
    });
}

#[test]
fn no_flip_cut_hole_or_end_of_zeros_is_called_sound() {
    let (disk, _) = sample();
    for name in [leases(), "volumes".to_owned()] {
        let whole = disk.live(&name).unwrap();
        in_parallel(whole.len(), |place| {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << (place % 8);
            assert!(!called_sound(&name, bytes), "{name}: byte {place} flipped");
        });
        in_parallel(whole.len(), |length| {
            let sound = called_sound(&name, whole[..length].to_vec());
            // What is gone behind a whole frame of `volumes` nobody can tell; its leases are never concerned.
            assert!(!sound || name == "volumes", "{name} cut at {length}");
        });
        in_parallel(whole.len(), |from| {
            let mut bytes = whole.clone();
            bytes[from..].fill(0);
            assert!(!called_sound(&name, bytes), "{name}: zeros from {from}");
        });
        in_parallel(whole.len() / 8 - 8, |word| {
            let mut bytes = whole.clone();
            bytes[word * 8..word * 8 + 64].fill(0);
            assert!(!called_sound(&name, bytes), "{name}: a hole at {}", word * 8);
        });
    }
}

#[test]
fn an_index_is_compared_entry_by_entry() {
    let disk = Simulated::default();
    let index = format!("{}.index", leases());
    let journal = || open(&disk);
    let records = [granted("a", &["one", "two"]), granted("b", &["one"])];
    journal().lock(soon()).unwrap().append(at(0), &records).unwrap();
    let first = disk.live(&index).unwrap();
    assert_eq!(journal().check().unwrap().index, IndexState::Agrees);
    let log = disk.live(&leases()).unwrap();
    journal().lock(soon()).unwrap().append(at(0), &[released("a")]).unwrap();
    let second = disk.live(&index).unwrap();
    assert_eq!(journal().check().unwrap().index, IndexState::Agrees);
    // It stands for less than there is, which is no fault.
    disk.put(&index, first.clone());
    assert_eq!(journal().check().unwrap().index, IndexState::Agrees);
    // The buckets of one state under the head of the other.
    let mixed = [&second[..104], &first[104..]].concat();
    disk.put(&index, mixed);
    let report = journal().check().unwrap();
    assert_eq!(report.index, IndexState::Unusable);
    assert!(!report.is_sound());
    // Behind the four entries: an attempt, a container, a sharer and the number of sharers.
    let covered = 104 + 16 + 4 * 16;
    for place in 0..second.len() {
        let mut bytes = second.clone();
        bytes[place] ^= 0x10;
        disk.put(&index, bytes);
        let found = journal().check().unwrap().index;
        let expected = if place < covered { IndexState::Unusable } else { IndexState::Agrees };
        assert_eq!(found, expected, "byte {place}");
    }
    // It says something else than the log: a head made for it, as by a fault of this program.
    let mut forged = first;
    forged[24..52].copy_from_slice(&second[24..52]);
    let sum = crc32c::crc32c(&forged[..92]);
    forged[92..96].copy_from_slice(&sum.to_le_bytes());
    disk.put(&index, forged);
    assert_eq!(journal().check().unwrap().index, IndexState::Disagrees);
    disk.put(&leases(), log);
    assert!(!journal().check().unwrap().is_sound(), "records at its end are gone");
}

#[test]
fn what_cannot_be_read_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path(), BOOT).unwrap();
    assert_eq!(journal.check().unwrap().files, []);
    journal.lock(soon()).unwrap().append(at(0), &[granted("a", &["one"])]).unwrap();
    std::fs::create_dir(folder.path().join("volumes")).unwrap();
    std::os::unix::fs::symlink("/dev/null", folder.path().join("leases-other")).unwrap();
    std::fs::write(folder.path().join(format!("leases-{BOOT}.damaged-32")), "evidence").unwrap();
    std::fs::write(folder.path().join("unrelated"), "").unwrap();
    let report = journal.check().unwrap();
    assert!(
        matches!(state(&report, "volumes"), FileState::Unreadable { error } if error.contains("regular"))
    );
    assert!(matches!(state(&report, "leases-other"), FileState::Unreadable { .. }));
    assert_eq!(*state(&report, &leases()), FileState::Sound);
    assert_eq!(report.files.len(), 3);
    assert_eq!(report.copies.len(), 1);
    assert_eq!(report.copies[0].bytes, 8);
    assert!(!report.is_sound());
    let mode = std::fs::metadata(folder.path().join(leases())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_record_that_nobody_knows_is_named() {
    let (disk, _) = sample();
    let mut bytes = disk.live(&leases()).unwrap();
    // The kind of the last record, replaced in a frame whose checksums are mended.
    let at = bytes.windows(4).rposition(|window| window == b"VHF1").unwrap();
    let place = bytes.windows(9).rposition(|window| window == b"\"granted\"").unwrap();
    bytes[place..place + 9].copy_from_slice(b"\"grunted\"");
    let body = crc32c::crc32c(&bytes[at + 40..]);
    bytes[at + 28..at + 32].copy_from_slice(&body.to_le_bytes());
    let chain = crc32c::crc32c(&bytes[at..at + 36]);
    bytes[at + 36..at + 40].copy_from_slice(&chain.to_le_bytes());
    disk.put(&leases(), bytes);
    let report = open(&disk).check().unwrap();
    match state(&report, &leases()) {
        FileState::UnknownRecord { offset, error } => {
            assert_eq!(*offset, at as u64);
            assert!(error.contains("grunted"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(open(&disk).read(), Err(JournalError::Record { .. })));
}
