//! A journal that was removed while containers run: the records of attempts say that it is gone, and what stood in it.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use jiff::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Barrier;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use tempfile::TempDir;
use volhook_api::Remark;
use volhook_core::decision::Backing;
use volhook_core::decision::Directory;
use volhook_core::decision::Sharing;
use volhook_core::lease::Holder;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::LeasedVolume;
use volhook_core::names::ContainerId;
use volhook_core::names::Target;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::volume::CopyUp;
use volhook_core::volume::SIDECAR_FORMAT;
use volhook_core::volume::Volume;
use volhook_journal::Interest;
use volhook_leases::Error;
use volhook_leases::Hold;
use volhook_leases::Ledger;
use volhook_leases::Need;
use volhook_leases::Watcher;
use volhook_leases::Work;
use volhook_leases::attempts::Attempts;
use volhook_leases::attempts::FORMAT;
use volhook_leases::attempts::Record;
use volhook_mounts::process;
use volhook_mounts::process::Process;
use volhook_volumes::Store;

const RECORD: &str = include_str!("fixtures/attempt-0.json");
const UUID: &str = "6a1f0f2e-9a52-4be1-8f0e-0e6d7c1c9a01";

/// A record of an attempt, by what is to be known about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Alive,
    /// Alive, by a record that a newer version wrote.
    Newer,
    /// Its process is gone, and somebody is left in its mount namespace.
    Dying,
    Pending,
    /// Pending for longer than anybody waits.
    Expired,
    Dead,
    OtherBoot,
    OtherMachine,
    /// Alive, with a volume of another state root.
    OtherRoot,
    /// What a process that was killed was about to write.
    Torn,
}

const KINDS: [Kind; 10] = [
    Kind::Alive,
    Kind::Newer,
    Kind::Dying,
    Kind::Pending,
    Kind::Expired,
    Kind::Dead,
    Kind::OtherBoot,
    Kind::OtherMachine,
    Kind::OtherRoot,
    Kind::Torn,
];

/// Those whose leases nobody can prove to be over in this boot.
const HELD: [Kind; 4] = [Kind::Alive, Kind::Newer, Kind::Dying, Kind::Pending];

impl Kind {
    fn attempt(self) -> String {
        format!("7bbd61cd-0f32-4c21-a644-e45c92e9db{:02x}", self as u8)
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<Remark>>);

impl Watcher for Told {
    fn told(&self, remark: &Remark) {
        self.0.lock().unwrap().push(remark.clone());
    }
}

impl Told {
    fn rebuilt(&self) -> Vec<(u32, Option<String>)> {
        let told = self.0.lock().unwrap();
        let rebuilt = told.iter().filter_map(|remark| match remark {
            Remark::Rebuilt { kept, copy } => Some((*kept, copy.clone())),
            _ => None,
        });
        rebuilt.collect()
    }
}

/// A host with a volume, on which nothing was granted yet.
struct Host {
    folder: TempDir,
    root: PathBuf,
    run_dir: PathBuf,
    volume: Volume,
    alive: Holder,
    dead: Holder,
}

impl Host {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (root, run_dir) = (folder.path().join("root"), folder.path().join("run"));
        let volume = Volume {
            format: SIDECAR_FORMAT,
            renamed_from: None,
            uuid: UUID.to_owned(),
            id: VolumeId { tenant: Tenant::default(), name: VolumeName::new("mydb").unwrap() },
            driver: "local".to_owned(),
            backing: Backing::Directory(Directory { mode: 0o755, uid: 0, gid: 0 }),
            options: Vec::new(),
            labels: Vec::new(),
            limit: None,
            sharing: Some(Sharing::Exclusive),
            pod: None,
            storage: None,
            copy_up: CopyUp::Over,
            created: Timestamp::UNIX_EPOCH,
        };
        Store::new(&root).create(&volume, soon()).unwrap();
        let ledger = Ledger::at(&root, &run_dir);
        let holder = |pid: u32| {
            let process = Process::open(pid.cast_signed()).unwrap();
            process::holder(ledger.host().unwrap(), &process).unwrap()
        };
        let alive = holder(std::process::id());
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let dead = holder(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        Self { folder, root, run_dir, volume, alive, dead }
    }

    fn ledger(&self) -> Ledger {
        Ledger::at(&self.root, &self.run_dir)
    }

    fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Removes the journal, and all records but these.
    fn forget(&self, kinds: &[Kind]) {
        let _ = fs::remove_dir_all(self.journal());
        let _ = fs::remove_dir_all(&self.run_dir);
        kinds.iter().for_each(|kind| self.record(*kind));
    }

    fn record(&self, kind: Kind) {
        let mut record: Record = serde_json::from_str(RECORD).unwrap();
        record.format = FORMAT;
        record.plan.attempt = kind.attempt();
        record.plan.container = ContainerId::new(format!("{kind:?}")).unwrap();
        record.plan.leases = vec![LeasedVolume {
            volume: self.volume.id.clone(),
            uuid: UUID.to_owned(),
            driver: "local".to_owned(),
            access: volhook_core::decision::Access::ReadWrite,
            sharing: if kind == Kind::Dead { Sharing::Shared } else { Sharing::Exclusive },
            image: false,
            target: Some(Target::new("/data").unwrap()),
        }];
        record.holder = match kind {
            Kind::Alive | Kind::Newer | Kind::OtherRoot => Some(self.alive.clone()),
            Kind::Dying | Kind::Dead => Some(self.dead.clone()),
            Kind::Pending | Kind::Expired | Kind::Torn => None,
            Kind::OtherBoot => Some(Holder { boot_id: UUID.to_owned(), ..self.alive.clone() }),
            Kind::OtherMachine => {
                let machine_id = "0123456789abcdef0123456789abcdef".to_owned();
                Some(Holder { boot_id: UUID.to_owned(), machine_id, ..self.alive.clone() })
            }
        };
        if kind == Kind::OtherRoot {
            record.plan.leases[0].uuid = "c99681be-20bc-4322-b0b1-4bf021686779".to_owned();
        }
        if kind == Kind::Newer {
            record.format = FORMAT + 1;
        }
        Attempts::below(&self.run_dir).write(&record).unwrap();
        let file = self.run_dir.join("attempts").join(format!("{}.json", kind.attempt()));
        match kind {
            Kind::Torn => fs::rename(&file, file.with_file_name(format!(".{}", kind.attempt()))).unwrap(),
            Kind::Expired => {
                let past = SystemTime::now() - Duration::from_secs(600);
                fs::File::options().write(true).open(&file).unwrap().set_modified(past).unwrap();
            }
            _ => {}
        }
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn attempts(table: &LeaseTable) -> BTreeSet<String> {
    table.grants().map(|grant| grant.attempt.clone()).collect()
}

/// All files below a folder, with their content.
fn everything(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    all
}

type Ask = fn(&Ledger, &Host, &Work<'_>) -> Result<LeaseTable, Error>;

/// Every way to ask who holds something, for those who may change something.
const WAYS: [(&str, Ask); 4] = [
    ("all", |ledger, _, work| ledger.all(work)),
    ("about", |ledger, host, work| {
        let volumes = [host.volume.id.clone()];
        ledger.about(&Interest { volumes: &volumes, ..Interest::default() }, work)
    }),
    ("lock", |ledger, _, work| Ok(ledger.lock(work)?.table()?)),
    ("append_volumes", |ledger, host, work| {
        ledger.append_volumes(&[volhook_core::record::VolumeRecord::created(&host.volume, None)], work)?;
        ledger.all(work)
    }),
];

/// Whatever records there are, each alone and with each other: a look shows what is held, says that the journal is damaged if
/// that is so, and changes nothing; and whoever may change something finds the same, having rebuilt it.
#[test]
fn whatever_records_there_are_nobody_is_forgotten_and_nobody_made_up() {
    let mut sets = vec![Vec::new(), KINDS.to_vec()];
    for (n, first) in KINDS.iter().enumerate() {
        sets.push(vec![*first]);
        sets.extend(KINDS[n + 1..].iter().map(|second| vec![*first, *second]));
    }
    std::thread::scope(|scope| {
        for (share, (_, ask)) in sets.chunks(sets.len().div_ceil(8)).zip(WAYS.into_iter().cycle()) {
            scope.spawn(move || {
                let host = Host::new();
                for kinds in share {
                    assert_found(&host, kinds, ask);
                }
            });
        }
    });
}

fn assert_found(host: &Host, kinds: &[Kind], ask: Ask) {
    host.forget(kinds);
    let held: BTreeSet<String> =
        kinds.iter().filter(|kind| HELD.contains(kind)).map(|kind| kind.attempt()).collect();
    let told = Told::default();
    let work = Work { until: soon(), watcher: &told };
    let before = everything(host.folder.path());
    let ledger = host.ledger();
    let is_sound = || ledger.journal().unwrap().check().unwrap().is_sound();
    assert_eq!(attempts(&ledger.seen(&work).unwrap()), held, "{kinds:?}");
    assert_eq!(is_sound(), held.is_empty(), "{kinds:?}");
    let is_told = told.0.lock().unwrap().iter().any(|remark| matches!(remark, Remark::SeenDamaged { .. }));
    assert_eq!(is_told, !held.is_empty(), "{kinds:?}");
    assert!(everything(host.folder.path()) == before, "{kinds:?}: a look has changed something");

    assert_eq!(attempts(&ask(&ledger, host, &work).unwrap()), held, "{kinds:?}");
    let kept = u32::try_from(held.len()).unwrap();
    let rebuilt: Vec<_> = if kept == 0 { Vec::new() } else { vec![(kept, None)] };
    assert_eq!(told.rebuilt(), rebuilt, "{kinds:?}");
    assert_eq!(attempts(&host.ledger().seen(&work).unwrap()), held, "{kinds:?}");
    assert!(is_sound(), "{kinds:?}");
}

/// What nobody can read may be the only thing that says who holds a volume.
#[test]
fn a_record_that_cannot_be_read_is_never_nothing() {
    let host = Host::new();
    for text in ["{", "[]", "{\"plan\": 1}"] {
        for (way, ask) in WAYS {
            host.forget(&[Kind::Dead]);
            let file = host.run_dir.join("attempts").join(format!("{}.json", Kind::Dead.attempt()));
            fs::write(&file, text).unwrap();
            let told = Told::default();
            let work = Work { until: soon(), watcher: &told };
            let error = ask(&host.ledger(), &host, &work).unwrap_err();
            assert!(matches!(error, Error::DamagedRecord { .. }), "{way} {text:?}: {error}");
            let error = host.ledger().seen(&work).unwrap_err();
            assert!(matches!(error, Error::DamagedRecord { .. }), "{way} {text:?}: {error}");
            assert!(!host.ledger().journal().unwrap().check().unwrap().is_sound());
            fs::remove_file(&file).unwrap();
            assert!(attempts(&ask(&host.ledger(), &host, &work).unwrap()).is_empty());
        }
    }
}

/// What a power cut has left of a record, in a run directory that outlives it, keeps nobody from starting.
#[test]
fn a_record_that_a_power_cut_has_emptied_is_nothing() {
    let host = Host::new();
    for (way, ask) in WAYS {
        host.forget(&[Kind::Dead]);
        let file = host.run_dir.join("attempts").join(format!("{}.json", Kind::Dead.attempt()));
        fs::write(&file, "").unwrap();
        let work = Work { until: soon(), watcher: &Told::default() };
        assert!(attempts(&ask(&host.ledger(), &host, &work).unwrap()).is_empty(), "{way}");
        assert!(host.ledger().seen(&work).unwrap().grants().next().is_none(), "{way}");
    }
}

/// The journal, or only its file of leases, goes while somebody has it open and others come all at once.
#[test]
fn of_many_who_notice_at_once_one_rebuilds_it() {
    let host = Host::new();
    for removal in ["file", "folder"] {
        host.forget(&[]);
        let told = Told::default();
        let work = Work { until: soon(), watcher: &told };
        let open: Vec<Mutex<Ledger>> = (0..4).map(|_| Mutex::new(host.ledger())).collect();
        for ledger in &open {
            let note = volhook_core::record::LeaseRecord::Note {
                container: ContainerId::new("c1").unwrap(),
                volume: None,
                text: "nothing".to_owned(),
            };
            let ledger = ledger.lock().unwrap();
            ledger.lock(&work).unwrap().append(Timestamp::now(), &[note]).unwrap();
        }
        host.record(Kind::Alive);
        if removal == "folder" {
            fs::remove_dir_all(host.journal()).unwrap();
        } else {
            let boot = host.alive.boot_id.clone();
            for name in [format!("leases-{boot}"), format!("leases-{boot}.index")] {
                let _ = fs::remove_file(host.journal().join(name));
            }
        }
        let start = Barrier::new(8);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (open, start, host, work) = (&open, &start, &host, &work);
                scope.spawn(move || {
                    start.wait();
                    let (_, ask) = WAYS[number % WAYS.len()];
                    // Half of them have had it open before.
                    let table = match open.get(number) {
                        Some(ledger) => ask(&ledger.lock().unwrap(), host, work),
                        None => ask(&host.ledger(), host, work),
                    };
                    assert_eq!(attempts(&table.unwrap()), BTreeSet::from([Kind::Alive.attempt()]));
                });
            }
        });
        assert_eq!(told.rebuilt(), [(1, None)], "{removal}");
    }
}

/// Between a look and the lock others may have begun a journal, and lost it.
#[test]
fn what_came_since_a_look_is_found_under_the_lock() {
    let host = Host::new();
    for first in [&[][..], &[Kind::Dead], &[Kind::Torn]] {
        host.forget(first);
        let told = Told::default();
        let work = Work { until: soon(), watcher: &told };
        let ledger = host.ledger();
        assert!(attempts(&ledger.all(&work).unwrap()).is_empty());
        host.record(Kind::Alive);
        let table = ledger.lock(&work).unwrap().table().unwrap();
        assert_eq!(attempts(&table), BTreeSet::from([Kind::Alive.attempt()]), "{first:?}");
    }
}

/// A command does not get what a container of the lost journal has.
#[test]
fn what_is_held_is_given_to_nobody() {
    let host = Host::new();
    for kind in HELD {
        host.forget(&[kind]);
        let told = Told::default();
        let work = Work { until: soon().min(Instant::now() + Duration::from_millis(100)), watcher: &told };
        let ledger = host.ledger();
        let need = Need::alone(&host.volume);
        let taken = Hold::take(&ledger, volhook_core::names::Command::Resize, &[need], &work).map(drop);
        assert!(matches!(taken, Err(Error::Held { .. })), "{kind:?}: {taken:?}");
    }
}

/// A lease that a person has broken does not come back, nor do others of its attempt go.
#[test]
fn what_was_broken_is_not_rebuilt() {
    let host = Host::new();
    host.forget(&[Kind::Alive, Kind::Pending]);
    let attempts_below = Attempts::below(&host.run_dir);
    let mut record = attempts_below.read(&Kind::Alive.attempt()).unwrap();
    let mut other = record.plan.leases[0].clone();
    other.volume.name = VolumeName::new("other").unwrap();
    record.plan.leases.push(other.clone());
    attempts_below.write(&record).unwrap();
    let told = Told::default();
    let work = Work { until: soon(), watcher: &told };
    attempts_below.without(&Kind::Alive.attempt(), &other.volume).unwrap();
    let table = host.ledger().all(&work).unwrap();
    let leases = |attempt: &str| table.grant(attempt).unwrap().leases.len();
    assert_eq!((leases(&Kind::Alive.attempt()), leases(&Kind::Pending.attempt())), (1, 1));

    fs::remove_dir_all(host.journal()).unwrap();
    attempts_below.without(&Kind::Alive.attempt(), &host.volume.id).unwrap();
    attempts_below.without(&Kind::Pending.attempt(), &host.volume.id).unwrap();
    assert!(attempts(&host.ledger().all(&work).unwrap()).is_empty());
    assert_eq!(attempts_below.list().unwrap(), Vec::<String>::new());
    // There is none any more.
    attempts_below.without(&Kind::Alive.attempt(), &host.volume.id).unwrap();
}
