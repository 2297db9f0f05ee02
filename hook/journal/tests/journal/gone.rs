//! A file of leases that is not there: a boot that begins, or damage, as a witness says who knows it from elsewhere.

use crate::damage::leases;
use crate::damage::open;
use crate::damage::sample;
use crate::disk::Simulated;
use crate::fold::held;
use crate::records::BOOT;
use crate::records::at;
use crate::records::created;
use crate::records::granted;
use crate::records::soon;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use volhook_core::lease::Grant;
use volhook_core::record::LeaseRecord;
use volhook_journal::Content;
use volhook_journal::EventRecord;
use volhook_journal::FileState;
use volhook_journal::Interest;
use volhook_journal::Journal;
use volhook_journal::JournalError;
use volhook_journal::Retention;
use volhook_journal::Witness;

const GONE: &str = "it is gone, and containers that began in this boot hold volumes";

/// A witness who says the same to everybody, and counts who asks.
#[derive(Clone, Default)]
struct Saying {
    held: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    /// Whether somebody has been told that nobody holds anything.
    told: Arc<AtomicBool>,
}

impl Saying {
    fn boxed(held: bool) -> Box<Self> {
        Box::new(Self { held: Arc::new(AtomicBool::new(held)), ..Self::default() })
    }
}

impl Witness for Saying {
    fn anybody_holds(&self) -> bool {
        // Whoever finds that out may have to wait.
        volhook_locks::waits("a witness");
        self.asked.fetch_add(1, Ordering::Relaxed);
        let held = self.held.load(Ordering::Relaxed);
        self.told.store(!held, Ordering::Relaxed);
        held
    }

    fn is_news(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.held.load(Ordering::Relaxed) || !self.told.load(Ordering::Relaxed)
    }
}

/// A handle whose witness says that somebody holds something.
fn knowing(disk: &Simulated) -> Journal {
    open(disk).with_witness(Saying::boxed(true))
}

/// What is left of a file of leases that somebody removed, or wrote over with nothing.
fn remains() -> Vec<(&'static str, Option<Vec<u8>>)> {
    vec![
        ("removed", None),
        ("empty", Some(Vec::new())),
        ("short", Some(b"VOLHOOK".to_vec())),
        ("zeros", Some(vec![0; 200])),
    ]
}

/// A journal of which so much is left; without the checkpoint's file, which may say that there was more.
fn gone(left: Option<&[u8]>) -> Simulated {
    let disk = sample().0;
    let index = format!("{}.index", leases());
    if disk.names_now().contains(&index) {
        disk.remove_now(&index);
    }
    match left {
        None => disk.remove_now(&leases()),
        Some(bytes) => disk.put(&leases(), bytes.to_vec()),
    }
    disk
}

fn grants() -> Vec<Grant> {
    let record = granted("b", &["two"]);
    let LeaseRecord::Granted(grant) = record else { unreachable!("that is what it makes") };
    vec![grant]
}

fn assert_damaged<T>(what: &str, result: Result<T, JournalError>) {
    match result {
        Err(JournalError::Damaged { offset: 0, reason: GONE, copy: None, file }) => {
            assert!(file.ends_with(leases()), "{what}: {}", file.display());
        }
        Err(error) => panic!("{what}: {error}"),
        Ok(_) => panic!("{what} takes what is gone for a journal in which nothing was granted"),
    }
}

#[test]
fn what_is_gone_is_damage_for_everybody_and_nobody_changes_it() {
    for (left, bytes) in remains() {
        let disk = gone(bytes.as_deref());
        let before = disk.names_now();
        let journal = knowing(&disk);
        assert_damaged(left, journal.lock(soon()));
        assert_damaged(left, journal.read());
        assert_damaged(left, journal.read_about(&Interest { attempts: &["b"], ..Interest::default() }));
        assert_damaged(left, journal.append_volumes(soon(), at(5), &[created("v9")]));
        let all = Retention { age: Duration::ZERO, bytes: 0 };
        disk.put("leases-00000000-0d6c-4f0e-9c6e-000000000000", sample().0.live(&leases()).unwrap());
        assert_damaged(left, journal.retain(soon(), at(5), &all));
        disk.remove_now("leases-00000000-0d6c-4f0e-9c6e-000000000000");

        let report = journal.check().unwrap();
        assert!(!report.is_sound(), "{left}");
        let of_boot: Vec<_> = report.files.iter().filter(|file| file.kind == Content::ThisBoot).collect();
        let damaged = FileState::Damaged { offset: 0, reason: GONE.to_owned() };
        assert_eq!(
            of_boot.iter().map(|file| (&*file.name, &file.state)).collect::<Vec<_>>(),
            [(&*leases(), &damaged)]
        );
        let salvaged = journal.salvage().unwrap().expect("it is damaged");
        assert!(salvaged.gone && salvaged.offset == 0 && salvaged.reason == GONE, "{left}: {salvaged:?}");
        assert!(salvaged.grants.is_empty() && salvaged.released.is_empty() && salvaged.lost.is_empty());
        assert_eq!(disk.names_now(), before, "{left}: something was written");
        assert_eq!(disk.live(&leases()), bytes, "{left}: something was written");
    }
}

#[test]
fn without_a_witness_or_with_one_who_knows_nobody_it_is_a_boot_that_begins() {
    for (left, bytes) in remains() {
        for witness in [false, true] {
            let disk = gone(bytes.as_deref());
            let journal = if witness { open(&disk).with_witness(Saying::boxed(false)) } else { open(&disk) };
            assert_eq!(journal.salvage().unwrap(), None, "{left}");
            assert_eq!(journal.read().unwrap().grants().count(), 0);
            let states = journal.check().unwrap().files;
            assert!(states.iter().all(|file| !matches!(file.state, FileState::Damaged { .. })), "{states:?}");
            journal.lock(soon()).unwrap().append(at(5), &[granted("z", &["one"])]).unwrap();
            assert_eq!(journal.read().unwrap().grants().count(), 1);
        }
    }
}

/// Where the file is there nobody asks: that would cost every start something.
#[test]
fn nobody_is_asked_as_long_as_the_file_is_there() {
    let disk = Simulated::default();
    let witness = Saying::default();
    let counting = |held: bool| {
        witness.held.store(held, Ordering::Relaxed);
        open(&disk).with_witness(Box::new(witness.clone()))
    };
    counting(false).lock(soon()).unwrap().append(at(0), &[granted("a", &["one"])]).unwrap();
    let first = witness.asked.load(Ordering::Relaxed);
    assert!((1..=3).contains(&first), "the boot's first start asks, and asks again under the lock: {first}");
    for _ in 0..2 {
        let journal = counting(true);
        journal.read().unwrap();
        journal.read_about(&Interest { attempts: &["a"], ..Interest::default() }).unwrap();
        journal.lock(soon()).unwrap().append(at(1), &[granted("b", &["two"])]).unwrap();
        journal.append_volumes(soon(), at(2), &[created("v1")]).unwrap();
        assert!(journal.check().unwrap().is_sound());
        assert_eq!(journal.salvage().unwrap(), None);
    }
    assert_eq!(witness.asked.load(Ordering::Relaxed), first);
}

#[test]
fn it_is_rebuilt_with_what_others_know_and_the_story_goes_on() {
    for (left, bytes) in remains() {
        let disk = gone(bytes.as_deref());
        // Of all that was, also of what is gone.
        let last = crate::damage::sample().1.last().unwrap().seq;
        let journal = knowing(&disk);
        let salvaged = journal.salvage().unwrap().unwrap();
        let rebuilt = journal.rebuild(soon(), at(9), &salvaged, &grants()).unwrap().expect("needed");
        assert_eq!((rebuilt.copy, rebuilt.kept, rebuilt.lost_at), (None, 1, 0), "{left}");
        let table = held(&journal.read().unwrap());
        assert_eq!(table.into_values().collect::<Vec<_>>(), grants());
        assert!(journal.check().unwrap().is_sound());
        let told = journal.events().unwrap();
        let record = LeaseRecord::Rebuilt { kept: 1, lost_at: 0, copy: String::new() };
        let begun = told.iter().find(|event| event.record == EventRecord::Lease(record.clone()));
        assert!(begun.expect("the story says so").seq > last);

        assert_eq!(journal.salvage().unwrap(), None);
        let again = knowing(&disk).rebuild(soon(), at(9), &salvaged, &[]).unwrap();
        assert_eq!(again, None, "somebody else has rebuilt it");
        journal.lock(soon()).unwrap().append(at(10), &[granted("z", &["one"])]).unwrap();
        assert_eq!(journal.read().unwrap().grants().count(), 2);
    }
}

/// Whoever looked when it was gone takes nothing from whoever began it since.
#[test]
fn a_file_that_was_begun_meanwhile_stays() {
    for (left, bytes) in remains() {
        let disk = gone(bytes.as_deref());
        let salvaged = knowing(&disk).salvage().unwrap().unwrap();
        open(&disk).lock(soon()).unwrap().append(at(5), &[granted("z", &["one"])]).unwrap();
        let rebuilt = knowing(&disk).rebuild(soon(), at(9), &salvaged, &grants()).unwrap();
        assert_eq!(rebuilt, None, "{left}");
        assert_eq!(held(&knowing(&disk).read().unwrap()).keys().collect::<Vec<_>>(), ["z"]);
    }
}

/// The file that is gone, or the complete new one, whatever step is not completed.
#[test]
fn a_crash_while_rebuilding_what_is_gone_forgets_nobody() {
    let mut states = 0;
    for (left, bytes) in remains() {
        let disk = gone(bytes.as_deref());
        let rebuild = |disk: &Simulated| -> Result<(), JournalError> {
            let journal = knowing(disk);
            let Some(salvaged) = journal.salvage()? else { return Ok(()) };
            journal.rebuild(soon(), at(9), &salvaged, &grants()).map(drop)
        };
        let trial = disk.after_kill();
        rebuild(&trial).unwrap();
        for step in 0..trial.steps() {
            for bytes in [0, 1, 33, 500, usize::MAX] {
                let stopped = disk.after_kill();
                stopped.stop_at(step, bytes);
                let _ = rebuild(&stopped);
                let killed = stopped.after_kill();
                states += 1;
                match knowing(&killed).read() {
                    Err(JournalError::Damaged { offset: 0, reason: GONE, .. }) => {}
                    other => assert_eq!(held(&other.unwrap()).len(), 1, "{left}: killed at {step}"),
                }
                rebuild(&killed).expect("it can be rebuilt after a crash");
                let journal = knowing(&killed);
                assert_eq!(held(&journal.read().unwrap()).into_values().collect::<Vec<_>>(), grants());
                assert!(journal.check().unwrap().is_sound());
                let over = killed.names_now().into_iter().filter(|name| name.contains("rebuilding"));
                assert_eq!(over.count(), 0, "nothing is left over");
            }
        }
    }
    assert!(states > 50, "only {states} states were reached");
}

/// A handle that has read the file goes by what is there now, also where the whole folder is gone.
#[test]
fn who_has_the_file_open_notices_as_well() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("journal");
    let witness = Saying::default();
    let journal = Journal::open(&path, BOOT).unwrap().with_witness(Box::new(witness.clone()));
    journal.lock(soon()).unwrap().append(at(0), &[granted("b", &["two"])]).unwrap();
    witness.held.store(true, Ordering::Relaxed);
    for removal in ["file", "folder"] {
        if removal == "file" {
            std::fs::remove_file(path.join(leases())).unwrap();
            let _ = std::fs::remove_file(path.join(format!("{}.index", leases())));
        } else {
            std::fs::remove_dir_all(&path).unwrap();
        }
        assert_damaged(removal, journal.read());
        assert_damaged(removal, journal.read_about(&Interest { attempts: &["b"], ..Interest::default() }));
        assert_damaged(removal, journal.lock(soon()));
        let salvaged = journal.salvage().unwrap().unwrap();
        journal.rebuild(Instant::now() + Duration::from_secs(20), at(9), &salvaged, &grants()).unwrap();
        assert_eq!(held(&journal.read().unwrap()).len(), 1);
    }
}

/// What was so when somebody looked is not believed when he takes the lock.
#[test]
fn who_came_to_hold_something_since_a_look_is_not_forgotten() {
    let witness = Saying::default();
    let journal = open(&Simulated::default()).with_witness(Box::new(witness.clone()));
    assert_eq!(journal.read().unwrap().grants().count(), 0);
    witness.held.store(true, Ordering::Relaxed);
    assert_damaged("news", journal.lock(soon()));
    assert_damaged("news", journal.append_volumes(soon(), at(5), &[created("v9")]));
}
