//! The work that is measured: one container's nine leases, granted, noted as mounted, and given back.

use crate::rivals::Bare;
use crate::rivals::Sqlite;
use jiff::Timestamp;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use volhook_core::claims::Origin;
use volhook_core::decision::Access;
use volhook_core::decision::Sharing;
use volhook_core::lease::Grant;
use volhook_core::lease::Holder;
use volhook_core::lease::LeasedVolume;
use volhook_core::names::ContainerId;
use volhook_core::names::Target;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::record::LeaseRecord;
use volhook_core::record::PlannedVolume;
use volhook_core::record::ReleaseReason;
use volhook_core::stage::Apply;
use volhook_core::stage::Stage;
use volhook_journal::Interest;
use volhook_journal::Journal;

const BOOT: &str = "7f1f0c4e-0d6c-4f0e-9c6e-3f6a1c0f2b11";
const MEMBERS: [&str; 9] = ["etc", "home", "opt", "root", "srv", "usr", "var", "data", "cache"];

/// Something that can do the work.
pub(crate) enum Engine {
    Journal(PathBuf),
    Bare(Bare),
    BareRecords(Bare),
    Sqlite(Sqlite),
}

impl Engine {
    pub(crate) fn open(name: &str, folder: &Path) -> Self {
        match name {
            "journal" => Self::Journal(folder.to_owned()),
            "bare" => Self::Bare(Bare::new(folder, &story(&grant("c-bare-0")))),
            "bare-records" => Self::BareRecords(Bare::new(folder, &story(&grant("c-bare-0")))),
            "sqlite-normal" => Self::Sqlite(Sqlite::new(folder, "NORMAL")),
            "sqlite-full" => Self::Sqlite(Sqlite::new(folder, "FULL")),
            other => panic!("no engine {other}"),
        }
    }

    /// Leaves so many containers live.
    pub(crate) fn fill(&mut self, containers: usize) {
        for number in 0..containers {
            let grant = grant(&format!("live-{number}"));
            match self {
                Self::Journal(folder) => append(folder, &[LeaseRecord::Granted(grant)]),
                Self::Bare(_) | Self::BareRecords(_) => {}
                Self::Sqlite(sqlite) => sqlite.fill(&grant),
            }
        }
    }

    /// One container from its start to its end: the work of its prestart hook and of its poststop hook, which are two
    /// processes and open everything anew.
    pub(crate) fn cycle(&mut self, worker: usize, round: u64) {
        match self {
            Self::Bare(bare) => bare.cycle(),
            Self::BareRecords(bare) => bare.cycle_of(&story(&grant(&format!("w{worker}-{round}")))),
            Self::Journal(folder) => {
                let grant = grant(&format!("w{worker}-{round}"));
                let [granted, mounted, released] = story(&grant);
                prestart(folder, &grant, &granted, &mounted);
                poststop(folder, &grant, &released);
            }
            Self::Sqlite(sqlite) => {
                let grant = grant(&format!("w{worker}-{round}"));
                sqlite.prestart(&grant);
                sqlite.poststop(&grant);
            }
        }
    }
}

/// Looks who holds the volumes, takes the lock, looks again, grants; later notes that they are mounted.
fn prestart(folder: &Path, grant: &Grant, granted: &[LeaseRecord], mounted: &[LeaseRecord]) {
    let journal = open(folder);
    let volumes: Vec<_> = grant.leases.iter().map(|lease| lease.volume.clone()).collect();
    let interest = Interest { volumes: &volumes, container: Some(&grant.container), ..Interest::default() };
    let holders = journal.read_about(&interest).unwrap();
    assert_eq!(holders.grants().count(), 0, "nobody else uses these volumes");
    let mut locked = journal.lock(soon()).unwrap();
    let holders = locked.about(&Interest { container: None, ..interest }).unwrap();
    assert_eq!(holders.grants().count(), 0, "nobody else uses these volumes");
    locked.append(grant.since, granted).unwrap();
    drop(locked);
    journal.lock(soon()).unwrap().append(grant.since, mounted).unwrap();
}

/// Looks what the container holds, takes the lock, looks whether that is still so, gives it back.
fn poststop(folder: &Path, grant: &Grant, released: &[LeaseRecord]) {
    let journal = open(folder);
    let interest = Interest { container: Some(&grant.container), ..Interest::default() };
    let held = journal.read_about(&interest).unwrap();
    assert_eq!(held.grants().count(), 1, "that was granted");
    let mut locked = journal.lock(soon()).unwrap();
    let interest = Interest { attempts: &[&grant.attempt], ..Interest::default() };
    assert!(locked.about(&interest).unwrap().grant(&grant.attempt).is_some());
    locked.append(grant.since, released).unwrap();
}

fn open(folder: &Path) -> Journal {
    Journal::open(folder, BOOT).unwrap()
}

fn append(folder: &Path, records: &[LeaseRecord]) {
    let journal = open(folder);
    journal.lock(soon()).unwrap().append(Timestamp::now(), records).unwrap();
}

/// Fills a journal with so many grants that were given back, and one that was not.
pub(crate) fn write_history(folder: &Path, grants: usize) {
    let mut records = Vec::new();
    for number in 0..grants {
        let grant = grant(&format!("gone-{number}"));
        let [_, _, released] = story(&grant);
        records.push(LeaseRecord::Granted(grant));
        records.extend(released);
        if records.len() >= 2000 {
            append(folder, &records);
            records.clear();
        }
    }
    records.push(LeaseRecord::Granted(grant("stays")));
    append(folder, &records);
}

/// What a hook does first: opens the journal and looks up a container.
pub(crate) fn look(folder: &Path) {
    let journal = open(folder);
    let container = ContainerId::new("stays").unwrap();
    let interest = Interest { container: Some(&container), ..Interest::default() };
    assert_eq!(journal.read_about(&interest).unwrap().grants().count(), 1);
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// What is appended in a container's life, lock by lock.
fn story(grant: &Grant) -> [Vec<LeaseRecord>; 3] {
    let (attempt, container) = (grant.attempt.clone(), grant.container.clone());
    let planned = |lease: &LeasedVolume| PlannedVolume {
        origin: Origin::Policy("universal".to_owned()),
        volume: lease.volume.clone(),
        driver: lease.driver.clone(),
        target: lease.target.clone().expect("leases of a container have one"),
        path: None,
        subpath: None,
        access: lease.access,
        sharing: lease.sharing,
        apply: Apply::Inject,
    };
    let planned = LeaseRecord::Planned {
        attempt: attempt.clone(),
        container: container.clone(),
        stage: Stage::Live,
        pod: None,
        root: None,
        volumes: grant.leases.iter().map(planned).collect(),
    };
    [
        vec![planned, LeaseRecord::Granted(grant.clone())],
        vec![LeaseRecord::Mounted {
            attempt: attempt.clone(),
            container: container.clone(),
            steps: Vec::new(),
        }],
        vec![LeaseRecord::Released {
            attempt,
            container,
            reason: ReleaseReason::Poststop,
            evidence: "pid 4242 is gone".to_owned(),
            steps: Vec::new(),
        }],
    ]
}

fn grant(container: &str) -> Grant {
    let lease = |member: &str| LeasedVolume {
        volume: VolumeId {
            tenant: Tenant::default(),
            name: VolumeName::new(format!("{container}-{member}")).unwrap(),
        },
        uuid: "6a1f0f2e-9a52-4be1-8f0e-0e6d7c1c9a01".to_owned(),
        driver: "local".to_owned(),
        access: Access::ReadWrite,
        sharing: Sharing::SingleWriter,
        image: false,
        target: Some(Target::new(&format!("/{member}")).unwrap()),
    };
    Grant {
        attempt: format!("{container}-0d6c4f0e9c6e3f6a"),
        container: ContainerId::new(container).unwrap(),
        holder: Some(Holder {
            machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
            boot_id: BOOT.to_owned(),
            pid_namespace: 4_026_531_836,
            pid: 4242,
            start_time: 123_456,
            mount_namespace: 4_026_532_000,
            mount_namespace_id: None,
        }),
        leases: MEMBERS.iter().map(|member| lease(member)).collect(),
        since: Timestamp::now(),
        since_boot_ms: None,
    }
}
