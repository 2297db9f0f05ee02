//! Volumes and stores for tests.

use jiff::Timestamp;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use uuid::Uuid;
use volhook_core::decision::Backing;
use volhook_core::decision::Directory;
use volhook_core::decision::Filesystem;
use volhook_core::decision::Image;
use volhook_core::names::Pod;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::volume::CopyUp;
use volhook_core::volume::PodMember;
use volhook_core::volume::SIDECAR_FORMAT;
use volhook_core::volume::Volume;
use volhook_volumes::Emptied;
use volhook_volumes::Store;

pub(crate) const UUID: &str = "6a1f0f2e-9a52-4be1-8f0e-0e6d7c1c9a01";

/// The environment variable that tells a process of a test to be one, and where.
pub(crate) const ROOT: &str = "VOLUMES_TEST_ROOT";

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// A store in a root that does not exist yet.
pub(crate) fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(&root(&folder));
    (folder, store)
}

pub(crate) fn root(folder: &TempDir) -> PathBuf {
    folder.path().join("state")
}

pub(crate) fn id(name: &str) -> VolumeId {
    VolumeId { tenant: Tenant::default(), name: VolumeName::new(name).unwrap() }
}

/// What was deleted, by name.
pub(crate) fn ids(emptied: &Emptied) -> Vec<VolumeId> {
    emptied.volumes.iter().map(|deleted| deleted.id.clone()).collect()
}

pub(crate) fn directory(name: &str) -> Volume {
    Volume {
        format: SIDECAR_FORMAT,
        renamed_from: None,
        uuid: UUID.to_owned(),
        id: id(name),
        driver: "local".to_owned(),
        backing: Backing::Directory(Directory { mode: 0o1750, uid: 1000, gid: 2000 }),
        options: vec![("mode".to_owned(), "1750".to_owned())],
        labels: vec![("team".to_owned(), "a \"b\"\n".to_owned())],
        limit: None,
        sharing: None,
        pod: Some(PodMember { pod: Pod::new("p1").unwrap(), member: "etc".to_owned() }),
        storage: None,
        copy_up: CopyUp::Over,
        created: "2026-11-20T10:00:00.5Z".parse().unwrap(),
    }
}

pub(crate) fn image(name: &str, size: u64) -> Volume {
    Volume {
        driver: "block".to_owned(),
        backing: Backing::Image(Image::new(size, Filesystem::Ext4)),
        options: vec![("size".to_owned(), size.to_string())],
        limit: Some(size),
        sharing: None,
        pod: None,
        ..directory(name)
    }
}

/// The same with a uuid of its own.
pub(crate) fn fresh(volume: Volume) -> Volume {
    Volume { uuid: Uuid::new_v4().to_string(), ..volume }
}

/// A time: so many seconds after some moment.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// Starts the test `name` once more as a process that is told `root`.
pub(crate) fn start(name: &str, root: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ROOT, root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// All paths below `folder`, relative and sorted.
pub(crate) fn tree(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            paths.push(entry.path().strip_prefix(folder).unwrap().display().to_string());
        }
    }
    paths.sort();
    paths
}

/// The rounds of a test that something has to happen in: as many as `least`, and more of them, up to ten times as many,
/// until it has. How long a process takes to get there is the host's affair.
#[derive(Debug)]
pub(crate) struct Rounds {
    least: u64,
    next: u64,
}

impl Rounds {
    /// None is over yet.
    pub(crate) fn at_least(least: u64) -> Rounds {
        Rounds { least, next: 0 }
    }

    /// The number of the next round, if there is to be one; `enough` is whether it has happened.
    pub(crate) fn next(&mut self, enough: bool) -> Option<u64> {
        let wanted = if enough { self.least } else { self.least * 10 };
        let round = self.next;
        self.next += 1;
        (round < wanted).then_some(round)
    }
}

/// When to kill a process so that about one in six has ended before, however fast the host is at the moment:
/// the time within which the moments lie follows what became of the processes before.
#[derive(Debug)]
pub(crate) struct Moments {
    within: Duration,
    number: u32,
}

impl Moments {
    /// Begins at `whole`, which one process needed that nobody killed.
    pub(crate) fn new(whole: Duration) -> Moments {
        Moments { within: whole, number: 0 }
    }

    /// How long the next process may live. Spread evenly, in an order without a pattern.
    pub(crate) fn next(&mut self) -> Duration {
        self.number += 1;
        let fraction = f64::from(self.number) * 0.618_034;
        self.within.mul_f64(0.2 + fraction.fract())
    }

    /// Says what became of the last one.
    pub(crate) fn ended_before(&mut self, ended: bool) {
        self.within = self.within.mul_f64(if ended { 0.7 } else { 1.08 });
    }
}
