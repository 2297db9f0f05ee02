//! The records of attempts: every format is read, and one that cannot be read counts as held.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use volhook_leases::Error;
use volhook_leases::Ledger;
use volhook_leases::Quiet;
use volhook_leases::Work;
use volhook_leases::attempts::Attempts;
use volhook_leases::attempts::FORMAT;
use volhook_leases::attempts::Record;

/// As volhook wrote it that knew no formats yet.
const FIRST: &str = include_str!("fixtures/attempt-0.json");
const ATTEMPT: &str = "7bbd61cd-0f32-4c21-a644-e45c92e9dba8";

/// A run directory with one record.
fn with_record(text: &str) -> (TempDir, Attempts) {
    let folder = TempDir::new().unwrap();
    let attempts = folder.path().join("attempts");
    fs::create_dir(&attempts).unwrap();
    fs::write(attempts.join(format!("{ATTEMPT}.json")), text).unwrap();
    let attempts = Attempts::below(folder.path());
    (folder, attempts)
}

fn work() -> Work<'static> {
    Work { until: Instant::now() + Duration::from_secs(60), watcher: &Quiet }
}

/// A state root with a journal that is damaged from its first record on.
fn damaged(root: &Path, run_dir: &Path) -> Ledger {
    fs::create_dir_all(root.join("journal")).unwrap();
    let ledger = Ledger::at(root, &root.join("no records"));
    for _ in 0..2 {
        let mut locked = ledger.lock(&work()).unwrap();
        let note = volhook_core::record::LeaseRecord::Note {
            container: volhook_core::names::ContainerId::new("c1").unwrap(),
            volume: None,
            text: "nothing".to_owned(),
        };
        locked.append(jiff::Timestamp::now(), &[note]).unwrap();
    }
    let boot_id = &ledger.host().unwrap().boot_id;
    let file = root.join("journal").join(format!("leases-{boot_id}"));
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle - 100..middle].fill(0xff);
    fs::write(&file, bytes).unwrap();
    Ledger::at(root, run_dir)
}

#[test]
fn the_first_format_is_read() {
    let (_folder, attempts) = with_record(FIRST);
    let record = attempts.read(ATTEMPT).unwrap();
    assert_eq!(record.format, 0);
    assert_eq!((record.plan.container.as_str(), record.plan.leases.len()), ("c1", 2));
    let grant = attempts.grant(ATTEMPT).unwrap().unwrap();
    assert_eq!(grant.leases, record.plan.leases);
    assert_eq!(grant.holder, record.holder);
}

#[test]
fn what_is_written_is_read() {
    let (_folder, attempts) = with_record(FIRST);
    let first = attempts.read(ATTEMPT).unwrap();
    let now = Record::new(first.plan, first.holder, first.spec);
    attempts.write(&now).unwrap();
    let again = attempts.read(ATTEMPT).unwrap();
    assert_eq!(again.format, FORMAT);
    assert_eq!((&again.plan, &again.holder, &again.spec), (&now.plan, &now.holder, &now.spec));
    assert_eq!(attempts.list().unwrap(), [ATTEMPT]);
    attempts.remove(ATTEMPT).unwrap();
    assert!(attempts.grant(ATTEMPT).unwrap().is_none());
}

/// Of a newer format, who holds what is read, and nothing else.
#[test]
fn a_newer_format_is_held_and_not_used() {
    let mut newer: serde_json::Value = serde_json::from_str(FIRST).unwrap();
    newer["format"] = (FORMAT + 1).into();
    newer["plan"]["mounts"] = "in another way".into();
    let (_folder, attempts) = with_record(&newer.to_string());
    assert!(matches!(attempts.read(ATTEMPT), Err(Error::NewerRecord { .. })));
    assert_eq!(attempts.grant(ATTEMPT).unwrap().unwrap().leases.len(), 2);
}

#[test]
fn names_that_are_no_attempts_lead_nowhere() {
    let (_folder, attempts) = with_record(FIRST);
    for name in ["", ".", "..", "../attempts", "x/7bbd61cd-0f32-4c21-a644-e45c92e9dba8"] {
        assert!(matches!(attempts.read(name), Err(Error::NotAnAttempt { .. })), "{name}");
    }
}

/// A journal is rebuilt with what the records say, whoever wrote them.
#[test]
fn a_journal_is_rebuilt_from_records_of_the_first_format() {
    let (run_dir, _) = with_record(FIRST);
    let root = TempDir::new().unwrap();
    // The process is another machine's: nobody can say that it is dead.
    let table = damaged(root.path(), run_dir.path()).all(&work()).unwrap();
    let grant = table.grant(ATTEMPT).unwrap();
    assert_eq!((grant.container.as_str(), grant.leases.len()), ("c1", 2));
}

/// What nobody can read may be the only thing that says who holds a volume.
#[test]
fn a_record_that_cannot_be_read_is_never_nothing() {
    for text in ["{", "[]", "{\"plan\": 1}"] {
        let (run_dir, _) = with_record(text);
        let root = TempDir::new().unwrap();
        let error = damaged(root.path(), run_dir.path()).all(&work()).unwrap_err();
        assert!(matches!(error, Error::DamagedRecord { .. }), "{text:?}: {error}");
        // What was being written when its process died was never a record.
        let folder = run_dir.path().join("attempts");
        fs::rename(folder.join(format!("{ATTEMPT}.json")), folder.join(format!(".{ATTEMPT}"))).unwrap();
        assert!(Ledger::at(root.path(), run_dir.path()).all(&work()).unwrap().grants().next().is_none());
    }
}

/// A record has its content before its name: one without is what a power cut left, of a boot whose leases are history.
#[test]
fn an_emptied_record_says_nothing() {
    let (run_dir, _) = with_record("");
    let root = TempDir::new().unwrap();
    assert!(damaged(root.path(), run_dir.path()).all(&work()).unwrap().grants().next().is_none());
}

/// Records are nobody else's business: they hold the containers' specs.
#[test]
fn records_are_private() {
    let (folder, attempts) = with_record(FIRST);
    let first = attempts.read(ATTEMPT).unwrap();
    let folder = folder.path().join("new");
    let attempts = Attempts::below(&folder);
    attempts.write(&Record::new(first.plan, first.holder, first.spec)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.join("attempts")), 0o700);
    assert_eq!(mode(&folder.join("attempts").join(format!("{ATTEMPT}.json"))), 0o600);
}
