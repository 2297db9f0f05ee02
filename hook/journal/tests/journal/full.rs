//! On a full disk nothing new is granted, and everything that is held can be given back.

use crate::damage::leases;
use crate::damage::open;
use crate::disk::Simulated;
use crate::records::BOOT;
use crate::records::at;
use crate::records::container;
use crate::records::granted;
use crate::records::released;
use crate::records::soon;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use volhook_core::lease::Grant;
use volhook_core::names;
use volhook_core::names::ContainerId;
use volhook_core::record::LeaseRecord;
use volhook_journal::Journal;
use volhook_journal::JournalError;

fn refused() -> LeaseRecord {
    LeaseRecord::Refused {
        container: container("c1"),
        volume: None,
        reason: "no room".repeat(300),
        why: None,
        asked: Vec::new(),
    }
}

/// A grant of some 16 KiB, so that a disk is soon full.
fn large(attempt: &str) -> LeaseRecord {
    let names: Vec<_> = (0..60).map(|n| format!("volume-{n}")).collect();
    granted(attempt, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn append(journal: &Journal, record: LeaseRecord) -> Result<(), JournalError> {
    journal.lock(soon())?.append(at(0), &[record])
}

/// Grants until one is refused for want of room, notes refusals until there is no room for them either, and gives
/// everything back. `journal` opens a new handle each time.
fn fill_and_empty(journal: impl Fn() -> Journal, before: usize) {
    let mut held = before;
    let refusal = loop {
        assert!(held < 20_000, "the disk is never full");
        match append(&journal(), large(&format!("a{held}"))) {
            Ok(()) => held += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refusal, JournalError::Full { file, .. } if file.ends_with(leases())), "{refusal:?}");
    assert_eq!(journal().read().unwrap().grants().count(), held);
    let noted = (0..20_000).take_while(|_| append(&journal(), refused()).is_ok()).count();
    assert!((20..20_000).contains(&noted), "{noted} refusals were noted on a full disk");
    let table = journal().read().unwrap();
    for grant in table.grants() {
        append(&journal(), released(&grant.attempt)).expect("giving back needs no new room");
    }
    assert_eq!(journal().read().unwrap().grants().count(), 0);
}

#[test]
fn a_full_disk_refuses_grants_and_takes_releases() {
    for free in [0, 1, 3000, 70_000] {
        let disk = Simulated::default();
        let journal = || open(&disk);
        for number in 0..5 {
            append(&journal(), granted(&format!("a{number}"), &["one", "two"])).unwrap();
        }
        disk.leave_free(Some(free));
        fill_and_empty(journal, 5);
        disk.leave_free(None);
        append(&journal(), granted("later", &["one"])).unwrap();
    }
}

#[test]
fn the_first_grant_on_a_full_disk_is_refused_and_leaves_nothing_in_the_way() {
    let disk = Simulated::default();
    disk.leave_free(Some(10));
    let error = append(&open(&disk), granted("a", &["one"])).expect_err("there is no room");
    assert!(matches!(error, JournalError::Full { .. }), "{error:?}");
    assert_eq!(open(&disk).read().unwrap().grants().count(), 0);
    disk.leave_free(None);
    append(&open(&disk), granted("a", &["one"])).unwrap();
}

/// What makes room needs none but what is set aside for it.
#[test]
fn on_a_full_disk_a_volume_can_still_be_removed() {
    let disk = Simulated::default();
    append(&open(&disk), granted("a", &["one"])).unwrap();
    disk.leave_free(Some(0));
    let held = loop {
        if let Err(error) = append(&open(&disk), large("b")) {
            break error;
        }
        append(&open(&disk), released("b")).unwrap();
    };
    assert!(matches!(held, JournalError::Full { .. }), "{held:?}");
    for pid in 0..10 {
        let LeaseRecord::Granted(grant) = granted("rm", &["two"]) else { unreachable!("it is one") };
        let container = ContainerId::of_command(names::Command::Reset, pid);
        append(&open(&disk), LeaseRecord::Granted(Grant { container, ..grant })).expect("it takes little");
        append(&open(&disk), released("rm")).unwrap();
    }
}

/// A process that is killed while it gives back, on a full disk, keeps nobody else from doing so.
#[test]
fn a_torn_tail_on_a_full_disk_is_cut_and_written_over() {
    let disk = Simulated::default();
    for attempt in ["a", "b", "c"] {
        append(&open(&disk), granted(attempt, &["one"])).unwrap();
    }
    disk.leave_free(Some(0));
    for (attempt, bytes) in [("a", 1), ("b", 41), ("c", 100)] {
        disk.stop_at(disk.steps(), bytes);
        append(&open(&disk), released(attempt)).expect_err("it was killed");
        disk.go_on();
        append(&open(&disk), released(attempt)).expect("space is set aside again");
    }
    assert_eq!(open(&disk).read().unwrap().grants().count(), 0);
}

#[test]
fn space_is_asked_for_seldom() {
    let disk = Simulated::default();
    append(&open(&disk), granted("first", &["one"])).unwrap();
    let asked = disk.reserves();
    for number in 0..500 {
        let attempt = format!("a{number}");
        append(&open(&disk), granted(&attempt, &["one"])).unwrap();
        append(&open(&disk), released(&attempt)).unwrap();
    }
    assert!(disk.reserves() - asked <= 1, "asked {} times for half a megabyte", disk.reserves() - asked);
}

const WHERE: &str = "JOURNAL_TEST_FULL_DISK";

/// Starts this test's program again in a mount namespace of its own, with a filesystem mounted there.
fn in_namespace(test: &str, set_up: &str) {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-ec", &format!("{set_up}; exec \"$@\"")])
        .arg("sh")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(WHERE, folder.path())
        .status()
        .expect("unshare(1) can be run");
    assert!(status.success(), "this test needs root: {status}");
}

fn on_a_small_filesystem() {
    let folder = std::env::var(WHERE).unwrap();
    let folder = Path::new(&folder).join("small");
    let journal = || Journal::open(&folder.join("journal"), BOOT).unwrap();
    for number in 0..20 {
        append(&journal(), granted(&format!("a{number}"), &["one", "two"])).unwrap();
    }
    let filler = folder.join("filler");
    let mut file = File::create(&filler).unwrap();
    let mut chunk = 64 << 10;
    while chunk > 0 {
        if let Err(error) = file.write_all(&vec![b'x'; chunk]) {
            assert_eq!(error.kind(), ErrorKind::StorageFull);
            // What the filesystem has only promised so far is written, so that it knows what is left.
            file.sync_data().unwrap();
            chunk /= 2;
        }
    }
    fill_and_empty(journal, 20);
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    append(&journal(), granted("later", &["one"])).expect("there is room again");
    assert!(journal().check().unwrap().is_sound());
}

#[test]
fn privileged_a_full_tmpfs_refuses_grants_and_takes_releases() {
    if std::env::var_os(WHERE).is_some() {
        return on_a_small_filesystem();
    }
    let mount = format!("mkdir \"${WHERE}/small\"; mount -t tmpfs -o size=1m none \"${WHERE}/small\"");
    in_namespace("full::privileged_a_full_tmpfs_refuses_grants_and_takes_releases", &mount);
}

#[test]
fn privileged_a_full_ext4_refuses_grants_and_takes_releases() {
    if std::env::var_os(WHERE).is_some() {
        return on_a_small_filesystem();
    }
    let mount = format!(
        "export PATH=\"$PATH:/usr/sbin:/sbin\"; cd \"${WHERE}\"; mkdir small; truncate -s 8M image; \
         mkfs.ext4 -q -F image; mount -o loop image small"
    );
    in_namespace("full::privileged_a_full_ext4_refuses_grants_and_takes_releases", &mount);
}
