//! Old history goes, sequence numbers stay.

use crate::damage::open;
use crate::disk::Left;
use crate::disk::Simulated;
use crate::records::BOOT;
use crate::records::at;
use crate::records::created;
use crate::records::granted;
use crate::records::soon;
use std::time::Duration;
use volhook_journal::Journal;
use volhook_journal::JournalError;
use volhook_journal::Retention;

const ALL: Retention = Retention { age: Duration::MAX, bytes: u64::MAX };

fn boot(disk: &Simulated, number: u32) -> Journal {
    Journal::on(Box::new(disk.clone()), &format!("boot-{number}")).unwrap()
}

/// Five boots, the n-th at second 100·n, with a copy of damage in the second.
fn boots() -> Simulated {
    boots_at([100, 200, 300, 400, 500])
}

fn boots_at(seconds: [i64; 5]) -> Simulated {
    let times = seconds.map(at);
    let disk = Simulated::default();
    for number in 1..=5 {
        let journal = boot(&disk, number);
        let time = times[number as usize - 1];
        journal.lock(soon()).unwrap().append(time, &[granted(&format!("a{number}"), &["one"])]).unwrap();
        journal.append_volumes(soon(), time, &[created(&format!("v{number}"))]).unwrap();
    }
    disk.put("leases-boot-2.damaged-32", disk.live("leases-boot-2").unwrap());
    disk
}

fn names(disk: &Simulated) -> Vec<String> {
    disk.names_now().into_iter().filter(|name| name != "volumes" && !name.ends_with(".index")).collect()
}

fn retain(disk: &Simulated, retention: Retention) -> Vec<String> {
    let removed = boot(disk, 5).retain(soon(), at(510), &retention).unwrap();
    removed.into_iter().map(|removed| removed.name).collect()
}

#[test]
fn the_oldest_goes_first_and_this_boot_stays() {
    let disk = boots();
    assert_eq!(retain(&disk, ALL), Vec::<String>::new());
    let limit = Retention { age: Duration::from_secs(250), ..ALL };
    assert_eq!(retain(&disk, limit), ["leases-boot-1", "leases-boot-2", "leases-boot-2.damaged-32"]);
    assert_eq!(names(&disk), ["leases-boot-3", "leases-boot-4", "leases-boot-5"]);
    assert!(disk.live("leases-boot-1.index").is_none(), "an index goes with its file");
    assert!(disk.live("leases-boot-3.index").is_some());

    let size = |name: &str| disk.live(name).unwrap().len() as u64;
    let one = size("leases-boot-4") + size("leases-boot-4.index");
    assert_eq!(retain(&disk, Retention { bytes: one, ..ALL }), ["leases-boot-3"]);
    let none = Retention { age: Duration::ZERO, bytes: 0 };
    let removed = boot(&disk, 5).retain(soon(), at(510), &none).unwrap();
    assert_eq!((removed[0].name.as_str(), removed[0].bytes), ("leases-boot-4", one));
    assert_eq!(names(&disk), ["leases-boot-5"]);
    assert_eq!(retain(&disk, none), Vec::<String>::new());
    assert!(disk.live("volumes").is_some());
    assert_eq!(boot(&disk, 5).read().unwrap().grants().count(), 1);
}

#[test]
fn a_file_in_which_nothing_can_be_read_counts_as_the_oldest() {
    let disk = boots();
    disk.put("leases-zeros", vec![0; 5000]);
    let limit = Retention { age: Duration::from_secs(3600), ..ALL };
    assert_eq!(retain(&disk, limit), ["leases-zeros"]);
}

/// What the clock said decides nothing where it cannot be right.
#[test]
fn a_clock_that_was_set_removes_no_history_too_early() {
    let limit = Retention { age: Duration::from_secs(250), ..ALL };
    let right = ["leases-boot-1", "leases-boot-2", "leases-boot-2.damaged-32"];
    // Back for a boot, or far ahead: it was written between its neighbours.
    for wrong in [1, 9_000_000] {
        let disk = boots_at([100, 200, wrong, 400, 500]);
        assert_eq!(retain(&disk, limit), right, "{wrong}");
    }
    // Back for good: what was written before is of the future, and stays.
    assert_eq!(retain(&boots_at([1000, 2000, 3000, 400, 500]), limit), Vec::<String>::new());
    // The last boot but this one may have ended just now.
    assert_eq!(retain(&boots_at([300, 310, 320, 5, 500]), limit), Vec::<String>::new());
    // The oldest is what was written first.
    let disk = boots_at([400, 300, 200, 100, 500]);
    let size = |name: &str| disk.live(name).unwrap().len() as u64;
    let one = size("leases-boot-4") + size("leases-boot-4.index");
    let gone = retain(&disk, Retention { bytes: one, ..ALL });
    assert_eq!(gone, ["leases-boot-1", "leases-boot-2", "leases-boot-2.damaged-32", "leases-boot-3"]);
}

/// Whatever is removed, whenever the machine stops, nothing ever gets a number that something had before.
#[test]
fn sequence_numbers_never_go_back() {
    let none = Retention { age: Duration::ZERO, bytes: 0 };
    let mut states = 0;
    // With a file of this boot that was never synced, and without one.
    for this in ["boot-5", BOOT] {
        let disk = boots().after_power_cut(Left::All);
        disk.remove_now("volumes");
        let seen = open(&disk).events().unwrap().last().unwrap().seq;
        if this == "boot-5" {
            let journal = Journal::on(Box::new(disk.clone()), this).unwrap();
            journal.lock(soon()).unwrap().append(at(505), &[granted("b", &["one"])]).unwrap();
        }
        let run = |disk: &Simulated| {
            Journal::on(Box::new(disk.clone()), this).unwrap().retain(soon(), at(510), &none)
        };
        let trial = disk.after_kill();
        assert!(run(&trial).unwrap().len() >= 4);
        for step in 0..=trial.steps() {
            for bytes in [0, 1, 40, usize::MAX] {
                let stopped = disk.after_kill();
                stopped.stop_at(step, bytes);
                let _ = run(&stopped);
                let mut ends = vec![stopped.after_kill()];
                ends.extend(
                    [Left::Nothing, Left::Prefix, Left::All].map(|left| stopped.after_power_cut(left)),
                );
                for end in ends {
                    states += 1;
                    let next = Journal::on(Box::new(end), "next").unwrap();
                    next.lock(soon()).unwrap().append(at(600), &[granted("z", &["one"])]).unwrap();
                    let last = next.events().unwrap().last().unwrap().seq;
                    assert!(last > seen, "{last} after {seen}, stopped at step {step}");
                }
            }
        }
    }
    assert!(states > 100, "only {states} states were reached");
}

/// A container's start trims history on its way and does not depend on it.
#[test]
fn a_failed_flush_removes_nothing_and_is_in_the_way_of_nothing() {
    let disk = boots();
    let limit = Retention { age: Duration::from_secs(250), ..ALL };
    let journal = boot(&disk, 5);
    journal.append_volumes(soon(), at(505), &[created("new")]).unwrap();
    let before = names(&disk);
    disk.fail_next_sync(|| {});
    let error = journal.retain(soon(), at(510), &limit).unwrap_err();
    assert!(matches!(error, JournalError::Sync { .. }), "{error}");
    assert_eq!(names(&disk), before);

    journal.lock(soon()).unwrap().append(at(511), &[granted("late", &["new"])]).unwrap();
    journal.append_volumes(soon(), at(512), &[created("newer")]).unwrap();
    let held: Vec<String> = journal.read().unwrap().grants().map(|grant| grant.attempt.clone()).collect();
    assert_eq!(held, ["a5", "late"]);
    let removed = journal.retain(soon(), at(513), &limit).unwrap();
    assert_eq!(removed.len(), 3, "{removed:?}");
    let seen = journal.events().unwrap().last().unwrap().seq;
    let next = open(&disk.after_power_cut(Left::Nothing));
    next.lock(soon()).unwrap().append(at(600), &[granted("z", &["one"])]).unwrap();
    assert!(next.events().unwrap().last().unwrap().seq > seen);
}
