//! A crash at every step of an operation sequence, with every kind of remains, in the same boot and after a
//! reboot; and again while the next process or boot goes on from there.

use crate::disk::Left;
use crate::disk::Simulated;
use crate::fold::held;
use crate::records::BOOT;
use crate::records::NEXT_BOOT;
use crate::records::at;
use crate::records::container;
use crate::records::created;
use crate::records::granted;
use crate::records::released;
use crate::records::soon;
use crate::records::volume;
use std::collections::HashSet;
use std::time::Instant;
use volhook_core::lease::LeaseTable;
use volhook_core::record;
use volhook_core::record::LeaseRecord;
use volhook_core::record::VolumeRecord;
use volhook_journal::Event;
use volhook_journal::EventRecord;
use volhook_journal::IndexState;
use volhook_journal::Interest;
use volhook_journal::Journal;
use volhook_journal::JournalError;

#[derive(Debug, Clone)]
enum Operation {
    Leases(Vec<LeaseRecord>),
    Volumes(Vec<VolumeRecord>),
}

/// What was acknowledged, and what was under way at the crash.
#[derive(Debug, Clone, Default)]
struct Model {
    leases: Vec<LeaseRecord>,
    volumes: Vec<VolumeRecord>,
    /// Left by a killed process and seen by later ones, but not acknowledged until a later append is.
    loose: Vec<VolumeRecord>,
    under_way: Option<Operation>,
}

/// Runs until the end or the crash.
fn run(disk: &Simulated, boot: &str, operations: &[Operation], mut model: Model) -> Model {
    let journal = Journal::on(Box::new(disk.clone()), boot).unwrap();
    for operation in operations {
        let done = match operation {
            Operation::Leases(records) => {
                journal.lock(soon()).and_then(|mut locked| locked.append(at(1), records))
            }
            Operation::Volumes(records) => journal.append_volumes(soon(), at(2), records),
        };
        match (done, operation) {
            (Ok(()), Operation::Leases(records)) => model.leases.extend(records.iter().cloned()),
            (Ok(()), Operation::Volumes(records)) => {
                model.volumes.append(&mut model.loose);
                model.volumes.extend(records.iter().cloned());
            }
            (Err(_), operation) => {
                model.under_way = Some(operation.clone());
                break;
            }
        }
    }
    model
}

fn fold(records: &[LeaseRecord]) -> LeaseTable {
    let mut table = LeaseTable::default();
    for record in records {
        record::fold(&mut table, record);
    }
    table
}

/// Checks what a new process finds against what was acknowledged, and returns the model that it goes on from.
fn check(disk: &Simulated, boot: &str, model: &Model) -> Model {
    let journal = Journal::on(Box::new(disk.clone()), boot).unwrap();
    // A crash may have left it unusable, but never wrong.
    assert_ne!(journal.check().unwrap().index, IndexState::Disagrees);
    let read = journal.read().expect("nothing here is damage");
    let table = journal.lock(soon()).expect("nobody has to repair anything").table().unwrap();
    assert_eq!(table, read, "with and without the lock the table is the same");
    for interest in [
        Interest { volumes: &[volume("one")], ..Interest::default() },
        Interest { container: Some(&container("c1")), ..Interest::default() },
        Interest { container: Some(&container("c2")), attempts: &["a"], ..Interest::default() },
    ] {
        let mut expected = held(&table);
        expected.retain(|attempt, grant| {
            interest.attempts.contains(&attempt.as_str())
                || interest.container == Some(&grant.container)
                || grant.leases.iter().any(|lease| interest.volumes.contains(&lease.volume))
        });
        assert_eq!(held(&journal.read_about(&interest).unwrap()), expected);
        assert_eq!(held(&journal.lock(soon()).unwrap().about(&interest).unwrap()), expected);
    }

    let events = journal.events().expect("the story can be told");
    assert!(events.windows(2).all(|pair| pair[0].seq < pair[1].seq), "sequence numbers rise: {events:#?}");
    let volumes: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.record {
            EventRecord::Volume(record) => Some(record.clone()),
            EventRecord::Lease(_) => None,
        })
        .collect();
    let mut unacknowledged = model.loose.clone();
    if let Some(Operation::Volumes(records)) = &model.under_way {
        unacknowledged.extend(records.iter().cloned());
    }
    assert!(volumes.starts_with(&model.volumes), "an acknowledged volume is lost: {volumes:#?} {model:#?}");
    let loose = volumes[model.volumes.len()..].to_vec();
    assert!(unacknowledged.starts_with(&loose), "more than a prefix: {volumes:#?} {model:#?}");

    let mut leases = model.leases.clone();
    if let Some(Operation::Leases(records)) = &model.under_way {
        let here = (0..=records.len()).find(|n| {
            let mut all = model.leases.clone();
            all.extend_from_slice(&records[..*n]);
            lease_records(&events, boot, disk) == all
        });
        leases
            .extend_from_slice(&records[..here.expect("the file holds what was acknowledged and a prefix")]);
    } else {
        assert_eq!(lease_records(&events, boot, disk), leases);
    }
    assert_eq!(table, fold(&leases), "the table is the fold of the records");
    Model { leases, volumes: model.volumes.clone(), loose, under_way: None }
}

/// The lease records of this boot among the events: those that a journal without older files tells.
fn lease_records(events: &[Event], boot: &str, disk: &Simulated) -> Vec<LeaseRecord> {
    let alone = disk.after_kill();
    for name in alone.names_now() {
        if name.starts_with("leases-") && name != format!("leases-{boot}") {
            alone.put(&name, Vec::new());
        }
    }
    let journal = Journal::on(Box::new(alone), boot).unwrap();
    let here = journal.events().unwrap();
    assert!(here.iter().all(|event| events.contains(event)));
    here.into_iter()
        .filter_map(|event| match event.record {
            EventRecord::Lease(record) => Some(record),
            EventRecord::Volume(_) => None,
        })
        .collect()
}

const LEFT: [Left; 5] = [Left::Nothing, Left::All, Left::Prefix, Left::Sectors(0), Left::Sectors(1)];

/// What was explored: states of the disk with what was acknowledged by then, each once.
#[derive(Default)]
struct Explored(HashSet<(usize, u64, String)>);

impl Explored {
    /// Whether this is a new state with so many rounds to come.
    fn is_new(&mut self, rounds: usize, disk: &Simulated, model: &Model) -> bool {
        self.0.insert((rounds, disk.state(), format!("{model:?}")))
    }

    fn states(&self) -> usize {
        self.0.len()
    }
}

fn explore(disk: &Simulated, boot: &str, model: &Model, rounds: &[Vec<Operation>], explored: &mut Explored) {
    let Some((operations, later)) = rounds.split_first() else {
        return;
    };
    let trial = disk.after_kill();
    run(&trial, boot, operations, model.clone());
    for step in 0..=trial.steps() {
        for bytes in [0, 1, 39, 500, usize::MAX] {
            let disk = disk.after_kill();
            disk.stop_at(step, bytes);
            let before = run(&disk, boot, operations, model.clone());
            let killed = disk.after_kill();
            if !explored.is_new(later.len(), &killed, &before) {
                continue;
            }
            let next = check(&killed, boot, &before);
            explore(&killed, boot, &next, later, explored);
            if boot != BOOT {
                continue;
            }
            for left in LEFT {
                let cut = disk.after_power_cut(left);
                // No lease outlives a boot, whatever is left of the old file.
                let before = Model { leases: Vec::new(), ..outlives(&before) };
                if explored.is_new(later.len(), &cut, &before) {
                    let next = check(&cut, NEXT_BOOT, &before);
                    explore(&cut, NEXT_BOOT, &next, later, explored);
                }
            }
        }
    }
}

fn outlives(model: &Model) -> Model {
    let under_way = model.under_way.clone().filter(|operation| matches!(operation, Operation::Volumes(_)));
    Model { under_way, ..model.clone() }
}

fn long(name: &str) -> VolumeRecord {
    let VolumeRecord::Created { volume, uuid, driver, .. } = created(name) else {
        unreachable!("that is what it makes");
    };
    let container = Some(crate::records::container(&"x".repeat(900)));
    VolumeRecord::Created { volume, uuid, driver, container }
}

#[test]
fn a_crash_anywhere_loses_nothing_and_needs_nobody() {
    let first = vec![
        Operation::Leases(vec![granted("a", &["one", "two"])]),
        Operation::Volumes(vec![created("v1")]),
        Operation::Leases(vec![released("a"), granted("b", &["one"])]),
        Operation::Volumes(vec![long("v2"), created("v3"), long("v4")]),
        Operation::Leases(vec![granted("c", &["three"])]),
    ];
    let second = vec![Operation::Volumes(vec![long("v5")]), Operation::Leases(vec![granted("d", &["four"])])];
    let mut explored = Explored::default();
    explore(&Simulated::default(), BOOT, &Model::default(), &[first, second], &mut explored);
    let states = explored.states();
    println!("{states} crash states explored, 0 violations");
    assert!(states > 10_000, "only {states} states were reached");
}

/// Each way of writing an index meets a crash: from nothing, in place, laid out anew; grants that come, are bound to another container, and go.
#[test]
fn a_crash_while_an_index_is_written_changes_nothing() {
    let bound = LeaseRecord::Bound {
        attempt: "a".to_owned(),
        container: container("c2"),
        holder: crate::records::holder(7),
    };
    let many: Vec<_> = (0..16).map(|n| granted(&format!("many-{n}"), &["one", "two", "three"])).collect();
    let first = vec![
        Operation::Leases(vec![granted("a", &["one", "two"])]),
        Operation::Leases(vec![bound, granted("b", &["one"])]),
        Operation::Leases(vec![released("a")]),
        Operation::Leases(many),
        Operation::Leases(vec![released("b"), granted("a", &["two"])]),
    ];
    let second =
        vec![Operation::Leases(vec![released("b")]), Operation::Leases(vec![granted("d", &["one"])])];
    let mut explored = Explored::default();
    explore(&Simulated::default(), BOOT, &Model::default(), &[first, second], &mut explored);
    let states = explored.states();
    println!("{states} crash states explored with an index that grows, 0 violations");
    assert!(states > 2_000, "only {states} states were reached");
}

#[test]
fn leases_are_never_synced_and_volumes_always() {
    let disk = Simulated::default();
    let journal = Journal::on(Box::new(disk.clone()), BOOT).unwrap();
    for round in 0..200 {
        let attempt = format!("a{round}");
        let mut locked = journal.lock(soon()).unwrap();
        locked.append(at(round), &[granted(&attempt, &["one", "two", "three"])]).unwrap();
        locked.append(at(round), &[released(&attempt)]).unwrap();
    }
    for name in disk.names_now() {
        assert_eq!(disk.syncs(&name), 0, "{name} was synced");
    }
    assert!(disk.names_now().iter().any(|name| name.ends_with(".index")), "an index was written");
    for round in 1..=5 {
        journal.append_volumes(soon(), at(round), &[created("v")]).unwrap();
        assert!(disk.syncs("volumes") >= round.unsigned_abs());
    }
    assert_eq!(disk.syncs(&format!("leases-{BOOT}")), 0);
}

#[test]
fn a_failed_sync_poisons_the_handle_and_takes_the_record_back() {
    let disk = Simulated::default();
    let journal = Journal::on(Box::new(disk.clone()), BOOT).unwrap();
    journal.append_volumes(soon(), at(0), &[created("v1")]).unwrap();
    disk.fail_syncs(true);
    let failed = journal.append_volumes(soon(), at(1), &[created("v2")]);
    assert!(matches!(failed, Err(JournalError::Sync { .. })), "{failed:?}");
    let more = journal.append_volumes(soon(), at(1), &[created("v2")]);
    assert!(matches!(more, Err(JournalError::Poisoned { .. })), "{more:?}");
    assert!(matches!(journal.lock(soon()), Err(JournalError::Poisoned { .. })));
    disk.fail_syncs(false);

    let again = Journal::on(Box::new(disk), BOOT).unwrap();
    again.append_volumes(soon(), at(2), &[created("v3")]).unwrap();
    let story: Vec<_> = again.events().unwrap().into_iter().map(|event| event.record).collect();
    assert_eq!(story, [EventRecord::Volume(created("v1")), EventRecord::Volume(created("v3"))]);
}

/// That a flush failed is told once. Whoever comes before the record is taken back flushes it with his own.
#[test]
fn a_failed_sync_is_not_the_success_of_whoever_writes_behind_it() {
    let disk = Simulated::default();
    let open = |disk: &Simulated| Journal::on(Box::new(disk.clone()), BOOT).unwrap();
    let first = open(&disk);
    first.append_volumes(soon(), at(0), &[created("v1")]).unwrap();
    let other = disk.clone();
    disk.fail_next_sync(move || open(&other).append_volumes(soon(), at(1), &[created("v3")]).unwrap());
    let failed = first.append_volumes(soon(), at(1), &[created("v2")]);
    assert!(matches!(failed, Err(JournalError::Sync { .. })), "{failed:?}");
    let events = open(&disk.after_power_cut(Left::Nothing)).events().expect("nothing is damaged");
    let story: Vec<_> = events.into_iter().map(|event| event.record).collect();
    assert_eq!(story, ["v1", "v2", "v3"].map(|name| EventRecord::Volume(created(name))));
}

/// What a handle knows to be on the disk it does not believe any more once it has cut something off.
#[test]
fn a_tail_that_was_cut_off_is_flushed_before_new_frames() {
    let disk = Simulated::default();
    let journal = Journal::on(Box::new(disk.clone()), BOOT).unwrap();
    journal.append_volumes(soon(), at(0), &[created("v1")]).unwrap();
    let whole = disk.live("volumes").unwrap();
    let torn = [&whole[..], &[0; 40]].concat();
    disk.put("volumes", torn);
    let syncs = disk.syncs("volumes");
    journal.append_volumes(soon(), at(1), &[created("v2")]).unwrap();
    assert_eq!(disk.syncs("volumes") - syncs, 3, "the tail, its absence, and the record");
}

/// Whoever is overtaken by others has no more time than he was given.
#[test]
fn an_append_that_others_overtake_keeps_its_deadline() {
    let disk = Simulated::default();
    let open = |disk: &Simulated| Journal::on(Box::new(disk.clone()), BOOT).unwrap();
    open(&disk).append_volumes(soon(), at(0), &[created("v1")]).unwrap();
    let late = Instant::now();
    open(&disk).append_volumes(late, at(1), &[created("v2")]).expect("nobody is in the way");
    let other = disk.clone();
    disk.at_next_sync(move || open(&other).append_volumes(soon(), at(1), &[created("v3")]).unwrap());
    let overtaken = open(&disk).append_volumes(late, at(1), &[created("v4")]);
    assert!(matches!(overtaken, Err(JournalError::LockTimeout { .. })), "{overtaken:?}");
}

/// Killed between an append and its flush, a record is seen by others. Nothing that any of them acknowledges is on the disk
/// without it.
#[test]
fn what_is_acknowledged_behind_an_unflushed_record_is_on_the_disk_with_it() {
    let disk = Simulated::default();
    let open = |disk: &Simulated| Journal::on(Box::new(disk.clone()), BOOT).unwrap();
    open(&disk).append_volumes(soon(), at(0), &[created("v1")]).unwrap();
    let begun = disk.after_kill();
    open(&begun).append_volumes(soon(), at(1), &[created("v2")]).unwrap();
    // The last step of an append is its flush.
    let killed = disk.after_kill();
    killed.stop_at(begun.steps() - 1, 0);
    let unflushed = open(&killed).append_volumes(soon(), at(1), &[created("v2")]);
    assert!(unflushed.is_err(), "it was not acknowledged");
    let killed = killed.after_kill();
    let story = |disk: &Simulated| -> Vec<EventRecord> {
        open(disk).events().unwrap().into_iter().map(|event| event.record).collect()
    };
    let volumes =
        |names: &[&str]| names.iter().map(|name| EventRecord::Volume(created(name))).collect::<Vec<_>>();
    assert_eq!(story(&killed), volumes(&["v1", "v2"]), "others see it");
    assert_eq!(story(&killed.after_power_cut(Left::Nothing)), volumes(&["v1"]));

    let next = killed.after_kill();
    open(&next).append_volumes(soon(), at(2), &[created("v3")]).unwrap();
    assert_eq!(story(&next.after_power_cut(Left::Nothing)), volumes(&["v1", "v2", "v3"]));
    // No frame ever stands behind one that was not flushed, so whatever is left is a prefix.
    let trial = killed.after_kill();
    open(&trial).append_volumes(soon(), at(2), &[created("v3")]).unwrap();
    for step in 0..trial.steps() {
        let stopped = killed.after_kill();
        stopped.stop_at(step, usize::MAX);
        let _ = open(&stopped).append_volumes(soon(), at(2), &[created("v3")]);
        for left in LEFT {
            let found = story(&stopped.after_power_cut(left));
            assert!(volumes(&["v1", "v2", "v3"]).starts_with(&found), "{step} {left:?}: {found:?}");
        }
    }
}

#[test]
fn a_full_disk_fails_the_append_and_leaves_nothing_half() {
    let disk = Simulated::default();
    let journal = Journal::on(Box::new(disk.clone()), BOOT).unwrap();
    let mut locked = journal.lock(soon()).unwrap();
    locked.append(at(0), &[granted("a", &["one"])]).unwrap();
    let name = format!("leases-{BOOT}");
    let before = disk.live(&name).unwrap();
    for room in [0, 1, 50, 700] {
        disk.leave_room(Some(room));
        let failed = locked.append(at(1), &[granted("b", &["one"]), granted("c", &["one"])]);
        assert!(matches!(failed, Err(JournalError::Write { .. })), "{failed:?}");
        assert_eq!(disk.live(&name).unwrap(), before);
        assert_eq!(locked.table().unwrap().grants().count(), 1);
    }
    disk.leave_room(None);
    locked.append(at(2), &[released("a")]).unwrap();
    assert_eq!(locked.table().unwrap().grants().count(), 0);
}
