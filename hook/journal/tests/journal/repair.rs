//! After damage: what can be read is found, a new file takes the damaged one's place, and the story stays whole.

use crate::counted::Counted;
use crate::damage::leases;
use crate::damage::open;
use crate::damage::sample;
use crate::disk::Left;
use crate::disk::Simulated;
use crate::fold::held;
use crate::records::BOOT;
use crate::records::at;
use crate::records::container;
use crate::records::created;
use crate::records::granted;
use crate::records::holder;
use crate::records::note;
use crate::records::released;
use crate::records::soon;
use volhook_core::lease::Grant;
use volhook_core::record::LeaseRecord;
use volhook_journal::Event;
use volhook_journal::EventRecord;
use volhook_journal::FileState;
use volhook_journal::Journal;
use volhook_journal::JournalError;
use volhook_journal::Lost;

const VOLUMES: &str = "volumes";

fn damaged(name: &str, place: usize) -> (Simulated, Vec<Event>) {
    let (disk, events) = sample();
    let mut bytes = disk.live(name).unwrap();
    bytes[place] ^= 1 << (place % 8);
    disk.put(name, bytes);
    (disk, events)
}

fn attempts<'a>(grants: impl IntoIterator<Item = &'a Grant>) -> Vec<&'a str> {
    grants.into_iter().map(|grant| grant.attempt.as_str()).collect()
}

fn rising(events: &[Event]) -> bool {
    events.windows(2).all(|pair| pair[0].seq < pair[1].seq)
}

fn state(journal: &Journal, name: &str) -> FileState {
    let files = journal.check().unwrap().files;
    files.into_iter().find(|file| file.name == name).unwrap().state
}

fn in_parallel(count: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for first in 0..32 {
            let work = &work;
            scope.spawn(move || (first..count).step_by(32).for_each(work));
        }
    });
}

#[test]
fn whatever_byte_is_hit_the_file_is_rebuilt_and_the_story_stays_whole() {
    let length = sample().0.live(&leases()).unwrap().len();
    in_parallel(length, |place| {
        let (disk, events) = damaged(&leases(), place);
        let journal = open(&disk);
        let salvaged = journal.salvage().unwrap().expect("it is damaged");
        assert!(salvaged.offset <= place as u64);
        let hit = salvaged.lost.iter().any(|l| (l.offset..l.offset + l.length).contains(&(place as u64)));
        assert!(hit, "byte {place} is not in {:?}", salvaged.lost);
        let known = attempts(&salvaged.grants);
        assert!(known.iter().all(|attempt| ["a", "b", "c"].contains(attempt)));
        assert!(known.len() + 1 >= 2, "one frame is lost at most");
        assert!(salvaged.released.iter().all(|attempt| attempt == "a"));

        let rebuilt = journal.rebuild(soon(), at(9), &salvaged, &salvaged.grants).unwrap().expect("needed");
        assert_eq!(rebuilt.kept as usize, salvaged.grants.len());
        let table = held(&journal.read().unwrap());
        assert_eq!(table.into_values().collect::<Vec<_>>(), salvaged.grants);
        assert_eq!(state(&journal, &leases()), FileState::Sound);
        let told = journal.events().unwrap();
        assert!(rising(&told), "{told:#?}");
        let missing = events.iter().filter(|event| !told.contains(event)).count();
        assert!(missing <= 1, "more than the frame that was hit is gone");
        let copy = rebuilt.copy.as_ref().unwrap().file_name().unwrap().to_str().unwrap();
        let record =
            LeaseRecord::Rebuilt { kept: rebuilt.kept, lost_at: salvaged.offset, copy: copy.to_owned() };
        let last = events.last().unwrap().seq;
        let begun = told.iter().position(|event| event.record == EventRecord::Lease(record.clone()));
        let begun = begun.expect("the story says that the file was rebuilt");
        assert!(told[begun].seq >= last && told[..begun].iter().all(|event| events.contains(event)));

        assert_eq!(open(&disk).salvage().unwrap(), None);
        let again = open(&disk).rebuild(soon(), at(9), &salvaged, &[]).unwrap();
        assert_eq!(again, None, "somebody else has rebuilt it");
        open(&disk).lock(soon()).unwrap().append(at(10), &[granted("z", &["one"])]).unwrap();
    });
}

#[test]
fn a_file_that_lost_its_end_is_rebuilt() {
    let (disk, _) = sample();
    let bytes = disk.live(&leases()).unwrap();
    let last = bytes.windows(4).rposition(|window| window == b"VHF1").unwrap();
    disk.put(&leases(), bytes[..last].to_vec());
    let salvaged = open(&disk).salvage().unwrap().expect("a record is gone");
    assert_eq!((salvaged.offset, attempts(&salvaged.grants)), (last as u64, vec!["b"]));
    open(&disk).rebuild(soon(), at(9), &salvaged, &salvaged.grants).unwrap().expect("needed");
    assert_eq!(state(&open(&disk), &leases()), FileState::Sound);
}

#[test]
fn what_is_lost_between_readable_records_is_named() {
    let disk = Simulated::default();
    let bound = LeaseRecord::Bound { attempt: "b".to_owned(), container: container("c2"), holder: holder(9) };
    let story =
        [granted("a", &["one"]), granted("b", &["two"]), bound, granted("c", &["three"]), released("a")];
    open(&disk).lock(soon()).unwrap().append(at(0), &story).unwrap();
    let mut bytes = disk.live(&leases()).unwrap();
    let frames: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"VHF1")).collect();
    bytes[frames[3] + 60] ^= 1;
    disk.put(&leases(), bytes);
    let salvaged = open(&disk).salvage().unwrap().unwrap();
    assert_eq!(attempts(&salvaged.grants), ["b"]);
    assert_eq!(salvaged.grants[0].container, container("c2"));
    assert_eq!(salvaged.grants[0].holder, Some(holder(9)));
    assert_eq!(salvaged.released.iter().collect::<Vec<_>>(), ["a"]);
    let lost = Lost { offset: frames[3] as u64, length: (frames[4] - frames[3]) as u64 };
    assert_eq!(salvaged.lost, [lost]);
}

#[test]
fn appends_since_the_salvage_are_taken_over_and_other_damage_is_not() {
    let disk = Simulated::default();
    let journal = || open(&disk);
    let story = [granted("a", &["one"]), granted("b", &["two"]), granted("c", &["three"])];
    for record in story {
        journal().lock(soon()).unwrap().append(at(0), &[record]).unwrap();
    }
    let mut bytes = disk.live(&leases()).unwrap();
    bytes[100] ^= 1;
    disk.put(&leases(), bytes);
    let salvaged = journal().salvage().unwrap().unwrap();
    assert_eq!(attempts(&salvaged.grants), ["b", "c"]);
    // The damage lies before the index's end, so nobody who needs other volumes has met it.
    let later = [released("b"), granted("d", &["four"])];
    journal().lock(soon()).unwrap().append(at(1), &later).unwrap();
    let mut elsewhere = disk.live(&leases()).unwrap();
    elsewhere[700] ^= 1;
    let other = disk.after_kill();
    other.put(&leases(), elsewhere);
    let refused = open(&other).rebuild(soon(), at(9), &salvaged, &salvaged.grants);
    assert!(matches!(refused, Err(JournalError::Damaged { .. })), "{refused:?}");

    journal().rebuild(soon(), at(9), &salvaged, &salvaged.grants).unwrap().unwrap();
    assert_eq!(held(&journal().read().unwrap()).keys().collect::<Vec<_>>(), ["c", "d"]);
}

#[test]
fn a_handle_notices_that_the_file_was_replaced() {
    let disk = Simulated::default();
    let (mine, other) = (open(&disk), open(&disk));
    let story = [granted("a", &["one"]), granted("b", &["two"])];
    mine.lock(soon()).unwrap().append(at(0), &story).unwrap();
    let mut bytes = disk.live(&leases()).unwrap();
    bytes[100] ^= 1;
    disk.put(&leases(), bytes);
    let salvaged = other.salvage().unwrap().unwrap();
    other.rebuild(soon(), at(9), &salvaged, &salvaged.grants).unwrap().unwrap();
    let mut locked = mine.lock(soon()).unwrap();
    assert_eq!(held(&locked.table().unwrap()).keys().collect::<Vec<_>>(), ["b"]);
    locked.append(at(10), &[granted("c", &["one"])]).unwrap();
    drop(locked);
    assert_eq!(held(&other.read().unwrap()).keys().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(state(&other, &leases()), FileState::Sound);
}

#[test]
fn a_handle_on_a_real_folder_notices_that_too() {
    let folder = tempfile::tempdir().unwrap();
    let journal = || Journal::open(folder.path(), BOOT).unwrap();
    let (mine, other) = (journal(), journal());
    mine.lock(soon()).unwrap().append(at(0), &[granted("a", &["one"]), granted("b", &["two"])]).unwrap();
    let file = folder.path().join(leases());
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let salvaged = other.salvage().unwrap().unwrap();
    other.rebuild(soon(), at(9), &salvaged, &salvaged.grants).unwrap().unwrap();
    mine.lock(soon()).unwrap().append(at(10), &[granted("c", &["one"])]).unwrap();
    assert_eq!(held(&journal().read().unwrap()).keys().collect::<Vec<_>>(), ["b", "c"]);

    // Somebody began the journal anew.
    std::fs::remove_dir_all(folder.path()).unwrap();
    mine.lock(soon()).unwrap().append(at(11), &[granted("d", &["one"])]).unwrap();
    assert_eq!(held(&journal().read().unwrap()).keys().collect::<Vec<_>>(), ["d"]);
    assert!(journal().check().unwrap().is_sound());
}

#[test]
fn damage_at_the_same_place_twice_keeps_both_copies_and_the_story() {
    let (disk, _) = damaged(&leases(), 40);
    let mut before = Vec::new();
    for round in 0..3 {
        let journal = open(&disk);
        assert!(!journal.check().unwrap().is_sound(), "it is damaged");
        let salvaged = journal.salvage().unwrap().unwrap();
        journal.rebuild(soon(), at(20 + round), &salvaged, &salvaged.grants).unwrap().unwrap();
        let events = journal.events().unwrap();
        assert!(rising(&events));
        assert!(before.iter().all(|event| events.contains(event)), "round {round}");
        before = events;
        // The first frame says that the file was rebuilt; it is in the copies of the next rounds only in part.
        before.retain(|event| !matches!(&event.record, EventRecord::Lease(LeaseRecord::Rebuilt { .. })));
        let mut bytes = disk.live(&leases()).unwrap();
        bytes[40] ^= 1;
        disk.put(&leases(), bytes);
    }
    assert_eq!(open(&disk).check().unwrap().copies.len(), 3);
}

#[test]
fn a_damaged_file_of_volumes_is_begun_anew_with_what_is_readable() {
    let length = sample().0.live(VOLUMES).unwrap().len();
    in_parallel(length, |place| {
        let (disk, events) = damaged(VOLUMES, place);
        let journal = open(&disk);
        let rebuilt = journal.rebuild_volumes(soon(), at(9)).unwrap().expect("it is damaged");
        assert!((2..=3).contains(&rebuilt.kept), "one frame is lost at most");
        assert_eq!(state(&journal, VOLUMES), FileState::Sound);
        assert_eq!(journal.rebuild_volumes(soon(), at(9)).unwrap(), None);
        journal.append_volumes(soon(), at(10), &[created("v9")]).unwrap();
        let told = journal.events().unwrap();
        assert!(rising(&told));
        assert_eq!(told.len(), events.len() - 3 + rebuilt.kept as usize + 2);
        let after = disk.after_power_cut(Left::Nothing);
        let kept = open(&after).events().unwrap();
        let volumes = kept.iter().filter(|event| matches!(event.record, EventRecord::Volume(_))).count();
        assert_eq!(volumes, rebuilt.kept as usize + 1, "it is durable when it is acknowledged");
    });
}

/// Wherever a rebuild was killed: what others then append is on the disk when it is acknowledged, under the name that counts.
#[test]
fn what_is_appended_to_a_rebuilt_file_of_volumes_survives_a_power_cut() {
    let disk = damaged(VOLUMES, 80).0.after_power_cut(Left::All);
    let trial = disk.after_kill();
    open(&trial).rebuild_volumes(soon(), at(-5)).unwrap().unwrap();
    let mut appended = 0;
    for step in 0..=trial.steps() {
        let stopped = disk.after_kill();
        stopped.stop_at(step, 0);
        // Whatever the clock says.
        let _ = open(&stopped).rebuild_volumes(soon(), at(-5));
        let killed = stopped.after_kill();
        if open(&killed).append_volumes(soon(), at(-5), &[created("v9")]).is_err() {
            continue;
        }
        appended += 1;
        let told = open(&killed.after_power_cut(Left::Nothing)).events().expect("nothing is damaged");
        let is_there = told.iter().any(|event| event.record == EventRecord::Volume(created("v9")));
        assert!(is_there, "stopped at step {step}: {told:#?}");
    }
    assert!(appended > 1, "in one of them the name is not on the disk yet");
}

/// A disk that is full for longer fills no further.
#[test]
fn a_rebuild_that_fails_leaves_nothing_behind() {
    for name in [leases(), VOLUMES.to_owned()] {
        let (disk, _) = damaged(&name, 80);
        let names = disk.names_now().len();
        disk.leave_free(Some(disk.live(&name).unwrap().len()));
        for _ in 0..2 {
            let journal = open(&disk);
            let failed = if name == VOLUMES {
                journal.rebuild_volumes(soon(), at(9)).unwrap_err()
            } else {
                let salvaged = journal.salvage().unwrap().unwrap();
                journal.rebuild(soon(), at(9), &salvaged, &salvaged.grants).unwrap_err()
            };
            assert!(matches!(failed, JournalError::Full { .. } | JournalError::Write { .. }), "{failed:?}");
            assert_eq!(disk.names_now().len(), names + 1, "its copy is there: {:?}", disk.names_now());
        }
        disk.leave_free(None);
    }
}

/// The damaged file or the complete new one, whatever step is not completed.
#[test]
fn a_crash_while_rebuilding_leaves_the_damaged_file_or_the_new_one() {
    let mut states = 0;
    for name in [leases(), VOLUMES.to_owned()] {
        let place = 80;
        let (disk, events) = damaged(&name, place);
        // The damage is on the disk, not on its way there.
        let disk = disk.after_power_cut(Left::All);
        let rebuild = |disk: &Simulated| -> Result<bool, JournalError> {
            let journal = open(disk);
            if name == VOLUMES {
                return Ok(journal.rebuild_volumes(soon(), at(9))?.is_some());
            }
            let Some(salvaged) = journal.salvage()? else { return Ok(false) };
            Ok(journal.rebuild(soon(), at(9), &salvaged, &salvaged.grants)?.is_some())
        };
        let trial = disk.after_kill();
        assert!(rebuild(&trial).unwrap());
        let goal = held(&open(&trial).read().unwrap());
        let readable: Vec<_> =
            open(&trial).events().unwrap().into_iter().filter(|e| events.contains(e)).collect();
        let check = |disk: &Simulated| {
            // An earlier step may have got through: then nothing is left to do.
            rebuild(disk).expect("it can be rebuilt after a crash");
            let journal = open(disk);
            assert_eq!(held(&journal.read().unwrap()), goal);
            assert_eq!(state(&journal, &name), FileState::Sound);
            let told = journal.events().unwrap();
            assert!(rising(&told));
            assert!(readable.iter().all(|event| told.contains(event)), "a part of the story is gone");
            journal.lock(soon()).unwrap().append(at(10), &[granted("z", &["nine"])]).unwrap();
            journal.append_volumes(soon(), at(10), &[created("v9")]).unwrap();
            let left = disk.names_now().into_iter().filter(|name| name.contains("rebuilding"));
            assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new(), "nothing is left over");
        };
        for step in 0..trial.steps() {
            for bytes in [0, 1, 33, 500, usize::MAX] {
                let stopped = disk.after_kill();
                stopped.stop_at(step, bytes);
                let _ = rebuild(&stopped);
                let killed = stopped.after_kill();
                states += 1;
                if name == VOLUMES {
                    for left in [Left::Nothing, Left::All, Left::Prefix] {
                        let cut = with_durable_leases(&stopped, left);
                        states += 1;
                        check(&cut);
                    }
                }
                check(&killed);
            }
        }
    }
    println!("{states} crash states explored while rebuilding, 0 violations");
    assert!(states > 100, "only {states} states were reached");
}

/// What a power cut leaves, but with this boot's file of leases as it was: only the other file is looked at.
fn with_durable_leases(disk: &Simulated, left: Left) -> Simulated {
    let cut = disk.after_power_cut(left);
    cut.put(&leases(), disk.live(&leases()).unwrap());
    cut
}

/// However long a damaged file is, pieces of it are held: what is lost of it, what is kept, and what is put in its place is found
/// out without reading it at once.
#[test]
fn a_long_file_is_salvaged_and_rebuilt_in_pieces() {
    const PIECE: usize = 1 << 20;
    let disk = Simulated::default();
    {
        let journal = open(&disk);
        let mut locked = journal.lock(soon()).unwrap();
        locked.append(at(0), &[granted("a", &["one"])]).unwrap();
        let long = note(&"x".repeat(60_000));
        for second in 0..50 {
            locked.append(at(second), std::slice::from_ref(&long)).unwrap();
        }
        locked.append(at(60), &[granted("b", &["two"])]).unwrap();
    }
    let length = disk.live(&leases()).unwrap().len();
    assert!(length > 2 * PIECE, "{length} bytes are not many");
    for place in [40, length - 3] {
        let disk = disk.after_kill();
        let mut bytes = disk.live(&leases()).unwrap();
        bytes[place] ^= 1;
        // Behind the last frame there is nothing readable, and much of it.
        bytes.extend(vec![0x55; PIECE]);
        disk.put(&leases(), bytes);
        let counted = Counted::new(&disk);
        let journal = Journal::on(Box::new(counted.clone()), BOOT).unwrap();
        let salvaged = journal.salvage().unwrap().expect("it is damaged");
        let kept = if place == 40 { "b" } else { "a" };
        let attempts: Vec<_> = salvaged.grants.iter().map(|grant| &grant.attempt).collect();
        assert_eq!(attempts, [kept]);
        assert_eq!(salvaged.lost.last().map(|lost| lost.offset + lost.length), Some((length + PIECE) as u64));
        journal.rebuild(soon(), at(99), &salvaged, &salvaged.grants).unwrap().expect("needed");
        let largest = counted.counts().largest_read;
        assert!(largest <= PIECE, "{largest} bytes were read at once");
        assert_eq!(held(&journal.read().unwrap()).keys().collect::<Vec<_>>(), [kept]);
    }
}

/// Somebody was writing it while the damaged file was salvaged: it was not read then, and is no older record.
#[test]
fn a_record_that_was_half_there_when_the_file_was_salvaged_is_taken_over() {
    let disk = Simulated::default();
    for record in [granted("a", &["one"]), granted("b", &["two"]), granted("c", &["three"])] {
        open(&disk).lock(soon()).unwrap().append(at(0), &[record]).unwrap();
    }
    let mut bytes = disk.live(&leases()).unwrap();
    bytes[40] ^= 1;
    let last = bytes.windows(4).rposition(|window| window == b"VHF1").unwrap();
    disk.put(&leases(), bytes[..last + 48].to_vec());
    let salvaged = open(&disk).salvage().unwrap().expect("it is damaged");
    assert_eq!(salvaged.grants.len(), 1);
    disk.put(&leases(), bytes);
    open(&disk).rebuild(soon(), at(9), &salvaged, &salvaged.grants).unwrap().expect("needed");
    assert_eq!(held(&open(&disk).read().unwrap()).keys().collect::<Vec<_>>(), ["b", "c"]);
}

/// A disk can show a block of another file. Whoever took it over would have a file that nobody understands.
#[test]
fn a_record_of_the_other_file_is_not_taken_over() {
    let (disk, _) = sample();
    let bytes = disk.live(VOLUMES).unwrap();
    let other = disk.live(&leases()).unwrap();
    disk.put(VOLUMES, [&bytes[..], &other[32..]].concat());
    let journal = open(&disk);
    assert_eq!(journal.salvage_volumes().unwrap().expect("it is damaged").records, 3);
    let rebuilt = journal.rebuild_volumes(soon(), at(9)).unwrap().expect("needed");
    assert_eq!(rebuilt.kept, 3);
    let events = open(&disk).events().expect("every record is understood");
    let volumes = events.iter().filter(|event| matches!(event.record, EventRecord::Volume(_)));
    assert_eq!(volumes.count(), 3);
}
