//! Real processes on a real folder: they fight for the lock, and some are killed.
//!
//! A test starts its own program again, told by an environment variable to be one of the processes.

use crate::records::BOOT;
use crate::records::at;
use crate::records::created;
use crate::records::granted;
use crate::records::released;
use crate::records::soon;
use std::collections::BTreeSet;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use volhook_core::record::LeaseRecord;
use volhook_core::record::VolumeRecord;
use volhook_journal::EventRecord;
use volhook_journal::Interest;
use volhook_journal::Journal;
use volhook_journal::JournalError;

const FOLDER: &str = "JOURNAL_TEST_FOLDER";
const NUMBER: &str = "JOURNAL_TEST_NUMBER";

fn start(test: &str, folder: &Path, number: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(FOLDER, folder)
        .env(NUMBER, number.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Grants and gives back under ever new names, each acknowledged on stdout.
fn work(rounds: u32) {
    let folder = std::env::var(FOLDER).unwrap();
    let number = std::env::var(NUMBER).unwrap();
    let mut out = std::io::stdout();
    for round in 0..rounds {
        let attempt = format!("p{number}-{round}");
        // Hooks are short-lived: each look at the journal is a process's first.
        let journal = Journal::open(Path::new(&folder), BOOT).unwrap();
        journal.lock(soon()).unwrap().append(at(0), &[granted(&attempt, &["one", "two"])]).unwrap();
        writeln!(out, "granted {attempt}").unwrap();
        if round % 8 == 0 {
            journal.append_volumes(soon(), at(0), &[created(&attempt)]).unwrap();
            writeln!(out, "created {attempt}").unwrap();
        }
        if round % 4 != 3 {
            let mut locked = journal.lock(soon()).unwrap();
            let about = Interest { attempts: &[&attempt], ..Interest::default() };
            assert!(locked.about(&about).unwrap().grant(&attempt).is_some());
            locked.append(at(0), &[released(&attempt)]).unwrap();
            writeln!(out, "released {attempt}").unwrap();
        }
    }
}

/// What a process said before it ended.
fn acknowledged(child: &mut Child) -> Vec<String> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said =
        |line: &String| ["granted ", "created ", "released "].iter().any(|word| line.starts_with(word));
    // A line is one write to the pipe, so a killed process leaves whole ones.
    lines.map_while(Result::ok).filter(said).collect()
}

fn recorded(folder: &Path) -> BTreeSet<String> {
    let journal = Journal::open(folder, BOOT).unwrap();
    let events = journal.events().unwrap();
    assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    let mut table: BTreeSet<String> = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for event in events {
        match event.record {
            EventRecord::Lease(LeaseRecord::Granted(grant)) => {
                assert!(seen.insert(format!("granted {}", grant.attempt)), "granted twice");
                table.insert(grant.attempt);
            }
            EventRecord::Lease(LeaseRecord::Released { attempt, .. }) => {
                assert!(table.remove(&attempt), "{attempt} was given back without being held");
                seen.insert(format!("released {attempt}"));
            }
            EventRecord::Volume(VolumeRecord::Created { volume, .. }) => {
                seen.insert(format!("created {volume}"));
            }
            other => panic!("nobody wrote {other:?}"),
        }
    }
    let held = journal.read().unwrap();
    assert_eq!(held.grants().map(|grant| grant.attempt.clone()).collect::<BTreeSet<_>>(), table);
    seen
}

#[test]
fn nothing_is_lost_between_processes() {
    if std::env::var_os(FOLDER).is_some() {
        return work(60);
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("state/journal");
    let mut children: Vec<_> = (0..12)
        .map(|number| start("processes::nothing_is_lost_between_processes", &folder, number))
        .collect();
    let said: Vec<_> = children.iter_mut().flat_map(acknowledged).collect();
    assert!(children.iter_mut().all(|child| child.wait().unwrap().success()));
    assert_eq!(said.len(), 12 * (60 + 8 + 45));
    let seen = recorded(&folder);
    assert_eq!(seen, said.into_iter().collect());
    let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

#[test]
fn killed_processes_leave_a_journal_that_opens() {
    if std::env::var_os(FOLDER).is_some() {
        return work(u32::MAX);
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("journal");
    let mut said = BTreeSet::new();
    for round in 0..120_u32 {
        // How much they get done in a while is the host's affair.
        if round >= 12 && said.len() > 100 {
            break;
        }
        let name = "processes::killed_processes_leave_a_journal_that_opens";
        let mut children: Vec<_> = (0..4).map(|number| start(name, &folder, round * 4 + number)).collect();
        std::thread::sleep(Duration::from_millis(60 + u64::from(round) * 13));
        for child in &mut children {
            child.kill().unwrap();
        }
        said.extend(children.iter_mut().flat_map(acknowledged));
        for child in &mut children {
            child.wait().unwrap();
        }
        let seen = recorded(&folder);
        assert!(said.is_subset(&seen), "lost: {:?}", said.difference(&seen).collect::<Vec<_>>());
        let journal = Journal::open(&folder, BOOT).unwrap();
        journal.lock(soon()).expect("the kernel gave the lock back");
    }
    assert!(said.len() > 100, "the processes got to work before they were killed: {}", said.len());
}

#[test]
fn a_held_lock_is_an_error_at_the_deadline_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let held = Journal::open(folder.path(), BOOT).unwrap();
    let waiting = Journal::open(folder.path(), BOOT).unwrap();
    let locked = held.lock(soon()).unwrap();
    // In a thread of its own, as nobody waits for a lock that he has.
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let begin = Instant::now();
            let error = waiting.lock(begin + Duration::from_millis(50)).err().expect("it is held");
            assert!(begin.elapsed() >= Duration::from_millis(50) && begin.elapsed() < Duration::from_secs(5));
            assert!(matches!(&error, JournalError::LockTimeout { .. }));
            assert!(error.to_string().contains(&folder.path().join("lock").display().to_string()));
            // The same handle is no way around the lock either.
            assert!(matches!(held.lock(Instant::now()), Err(JournalError::LockTimeout { .. })));
        });
        others.join().unwrap();
    });
    drop(locked);
    waiting.lock(soon()).unwrap();
}

#[test]
fn reading_makes_nothing_and_wrong_things_in_the_way_are_named() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("journal");
    let journal = Journal::open(&folder, BOOT).unwrap();
    assert_eq!(journal.read().unwrap().grants().count(), 0);
    assert_eq!(journal.events().unwrap(), []);
    assert!(!folder.exists());

    let leases = folder.join(format!("leases-{BOOT}"));
    std::fs::create_dir_all(&leases).unwrap();
    let error = journal.lock(soon()).err().expect("a directory is no journal file");
    assert!(error.to_string().contains(&leases.display().to_string()), "{error}");
    std::fs::remove_dir(&leases).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &leases).unwrap();
    assert!(matches!(journal.read(), Err(JournalError::Open { .. })));
    std::fs::remove_file(&leases).unwrap();
    assert!(matches!(Journal::open(&folder, "../x"), Err(JournalError::BootId { .. })));
}
