//! Which leases are provably dead: the facts of the kernel applied to the lease table.

use crate::clock;
use crate::error::Error;
use crate::ground::Ground;
use crate::work::Work;
use jiff::SignedDuration;
use jiff::Timestamp;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use volhook_api::Remark;
use volhook_api::lease::Standing;
use volhook_core::decision::Backing;
use volhook_core::decision::Population;
use volhook_core::decision::Sharing;
use volhook_core::lease::Grant;
use volhook_core::lease::Holder;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::LeasedVolume;
use volhook_core::names::Command;
use volhook_core::record;
use volhook_core::record::LeaseRecord;
use volhook_core::record::ReleaseReason;
use volhook_core::record::Steps;
use volhook_core::volume::Volume;
use volhook_mounts::device::device_is_free;
use volhook_mounts::overlay;
use volhook_mounts::overlay::Trace;
use volhook_mounts::process;
use volhook_mounts::process::Life;
use volhook_mounts::source::image_is_free;
use volhook_volumes::StoreError;

/// How long a grant of the spec stage waits for its container's createRuntime hook.
const PENDING_LIMIT: SignedDuration = SignedDuration::from_secs(300);

/// What can be said about a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Provably dead.
    Dead {
        /// How it is given back.
        reason: ReleaseReason,
        /// What proves it.
        evidence: String,
    },
    /// Its process was killed and is not gone yet, or it is and the kernel has not yet let go of the volume.
    Dying {
        /// What shows it.
        evidence: String,
    },
    /// Alive, or not provably dead.
    Held {
        /// What shows it.
        evidence: String,
    },
}

/// Judges one grant.
///
/// # Errors
/// When the host or the volumes cannot be looked at. Then it counts as held.
pub fn judge(ground: &Ground, grant: &Grant) -> Result<Verdict, Error> {
    let Some(holder) = &grant.holder else {
        return Ok(pending(waited(grant, Timestamp::now(), clock::since_boot())));
    };
    let host = ground.host()?;
    let evidence = match process::life(host, holder) {
        Life::Dead { evidence } => evidence,
        Life::Dying { evidence } => return Ok(Verdict::Dying { evidence }),
        Life::Alive { evidence } | Life::Unknown { evidence } => return Ok(Verdict::Held { evidence }),
    };
    let on_host = grant.container.command().is_some_and(|(command, _)| command == Command::Mount);
    for lease in grant.leases.iter().filter(|lease| on_host || lease.sharing != Sharing::Shared) {
        if let Some(user) = last_user(ground, lease, holder)? {
            return Ok(match &lease.target {
                Some(place) if on_host => {
                    Verdict::Held { evidence: format!("its image is mounted on {place}") }
                }
                _ => Verdict::Dying { evidence: format!("{evidence}, and {user}") },
            });
        }
    }
    Ok(Verdict::Dead { reason: ReleaseReason::Reaped, evidence })
}

/// For how long a grant of this boot has been there.
fn waited(grant: &Grant, now: Timestamp, since_boot: Duration) -> SignedDuration {
    match grant.since_boot_ms {
        Some(then) => {
            let waited = since_boot.saturating_sub(Duration::from_millis(then));
            SignedDuration::try_from(waited).unwrap_or(SignedDuration::MAX)
        }
        // An older version knew only the clock that people set.
        None => now.duration_since(grant.since),
    }
}

/// What is said of a grant that has waited for its container for so long.
fn pending(waited: SignedDuration) -> Verdict {
    let limit = PENDING_LIMIT.as_secs();
    if waited > PENDING_LIMIT {
        let evidence = format!("no createRuntime hook within {limit} s");
        Verdict::Dead { reason: ReleaseReason::Expired, evidence }
    } else {
        let evidence =
            format!("its spec was planned {} s ago, of {limit} s that are waited", waited.as_secs());
        Verdict::Held { evidence }
    }
}

/// What the kernel still knows of a dead holder's use of a volume.
fn last_user(ground: &Ground, lease: &LeasedVolume, holder: &Holder) -> Result<Option<String>, Error> {
    let untold = |what: &'static str| {
        move |source| Error::InUse { what, volume: lease.volume.clone(), source: Box::new(source) }
    };
    let found = ground.store().find(&lease.volume)?;
    match found.filter(|volume| volume.uuid == lease.uuid) {
        Some(volume @ Volume { backing: Backing::Image(_), .. }) => {
            let free = match image_is_free(&ground.store().image_path(&volume)) {
                Err(volhook_mounts::Error::ImageMissing { .. }) => true,
                other => other.map_err(untold("image"))?,
            };
            Ok((!free).then(|| "its image is still attached".to_owned()))
        }
        Some(Volume { backing: Backing::Device(device), .. }) => {
            let free = device_is_free(Path::new(device.path.as_str())).map_err(untold("device"))?;
            Ok((!free).then(|| "its device is still in use".to_owned()))
        }
        // A volume that is gone, or another one by now, is not held by this lease.
        None if lease.image => Ok(None),
        // A command, which mounts directories nowhere.
        _ if lease.target.is_none() => Ok(None),
        Some(volume) if is_laid_over(&volume) => left_of_overlay(ground, &volume, holder, &untold("overlay")),
        _ => process::left_of_mount_namespace(holder).map_err(Error::Processes),
    }
}

/// What is left of the overlay through which alone a container has a pod's volumes. It may outlast the mount namespace, in a
/// descriptor that somebody has open elsewhere.
fn left_of_overlay(
    ground: &Ground,
    storage: &Volume,
    holder: &Holder,
    untold: &dyn Fn(volhook_mounts::Error) -> Error,
) -> Result<Option<String>, Error> {
    let left_of_namespace = || process::left_of_mount_namespace(holder).map_err(Error::Processes);
    let changes = match ground.store().open_directory(storage) {
        Err(StoreError::DirectoryMissing { .. }) => return left_of_namespace(),
        opened => opened?,
    };
    let trace = overlay::trace(changes.as_fd()).map_err(untold)?;
    if trace == Trace::Gone {
        return Ok(None);
    }
    if let Some(left) = left_of_namespace()? {
        return Ok(Some(left));
    }
    let ask = || overlay::is_in_use(changes.as_fd()).map_err(untold);
    let in_use = ground.lasting.is_in_use(&storage.uuid, trace, Instant::now(), ask)?;
    Ok(in_use.then(|| "its overlay is still open somewhere".to_owned()))
}

/// Whether a volume is the storage of a pod whose changes lie over an image.
fn is_laid_over(volume: &Volume) -> bool {
    volume.storage.as_ref().is_some_and(|storage| storage.population == Population::Overlay)
}

/// How a grant stands, and what shows it, for people. What cannot be judged is held.
#[must_use]
pub fn standing(ground: &Ground, grant: &Grant) -> (Standing, String) {
    match judge(ground, grant) {
        Ok(Verdict::Dead { evidence, .. }) => (Standing::Dead, evidence),
        Ok(Verdict::Dying { evidence }) => (Standing::Dying, evidence),
        Ok(Verdict::Held { evidence }) if grant.holder.is_none() => (Standing::Pending, evidence),
        Ok(Verdict::Held { evidence }) => (Standing::Held, evidence),
        Err(error) => (Standing::Held, error.line()),
    }
}

/// A grant that was judged to be over, and the record that gives it back.
#[derive(Debug, Clone)]
pub struct Over {
    grant: Grant,
    /// The record.
    pub record: LeaseRecord,
}

impl Over {
    /// `grant`, which is over for this reason, as `evidence` shows.
    #[must_use]
    pub fn new(grant: &Grant, reason: ReleaseReason, evidence: String) -> Self {
        Self::timed(grant, reason, evidence, Steps::new())
    }

    /// The same at a container's stop, the parts of which took this long.
    #[must_use]
    pub fn timed(grant: &Grant, reason: ReleaseReason, evidence: String, steps: Steps) -> Self {
        let record = LeaseRecord::Released {
            attempt: grant.attempt.clone(),
            container: grant.container.clone(),
            reason,
            evidence,
            steps,
        };
        Self { grant: grant.clone(), record }
    }

    /// The attempt.
    #[must_use]
    pub fn attempt(&self) -> &str {
        &self.grant.attempt
    }

    /// Whether `table` still has the grant as it was judged. One that was tied to a process meanwhile is not
    /// over at all.
    #[must_use]
    pub fn stands_in(&self, table: &LeaseTable) -> bool {
        table.grant(&self.grant.attempt) == Some(&self.grant)
    }
}

/// The dead among `grants`; and whether some are dying. A grant that cannot be judged is held, and the watcher is told why, once
/// in each piece of work.
pub fn dead<'a>(
    ground: &Ground,
    grants: impl Iterator<Item = &'a Grant>,
    work: &Work<'_>,
) -> (Vec<Over>, bool) {
    let mut dead = Vec::new();
    let mut dying = false;
    for grant in grants {
        match judge(ground, grant) {
            Ok(Verdict::Dead { reason, evidence }) => dead.push(Over::new(grant, reason, evidence)),
            Ok(Verdict::Dying { .. }) => dying = true,
            Ok(Verdict::Held { .. }) => {}
            Err(error) if ground.is_news(work.until, &grant.attempt) => {
                work.watcher.told(&Remark::NotJudged { cause: error.line() });
            }
            Err(_) => {}
        }
    }
    (dead, dying)
}

/// `table` with `records` applied.
#[must_use]
pub fn after<'a>(table: &LeaseTable, records: impl Iterator<Item = &'a LeaseRecord>) -> LeaseTable {
    let mut table = table.clone();
    for record in records {
        record::fold(&mut table, record);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::Verdict;
    use super::dead;
    use super::pending;
    use super::waited;
    use crate::ground::Ground;
    use crate::work::Watcher;
    use crate::work::Work;
    use jiff::SignedDuration;
    use jiff::Timestamp;
    use std::process::Command;
    use std::process::Stdio;
    use std::sync::Mutex;
    use std::time::Duration;
    use std::time::Instant;
    use volhook_api::Remark;
    use volhook_core::decision::Access;
    use volhook_core::decision::Sharing;
    use volhook_core::lease::Grant;
    use volhook_core::lease::LeasedVolume;
    use volhook_core::names::ContainerId;
    use volhook_core::names::Tenant;
    use volhook_core::names::VolumeId;
    use volhook_core::names::VolumeName;
    use volhook_mounts::process;
    use volhook_mounts::process::Process;

    fn grant(since_boot_ms: Option<u64>) -> Grant {
        Grant {
            attempt: "a".to_owned(),
            container: ContainerId::new("c1").unwrap(),
            holder: None,
            leases: Vec::new(),
            since: Timestamp::from_second(1_000_000).unwrap(),
            since_boot_ms,
        }
    }

    /// Whoever sets the clock neither ends what is waited for nor makes it wait for ever.
    #[test]
    fn a_pending_grant_expires_by_the_time_since_the_boot() {
        let granted = grant(Some(50_000));
        for now in [-100_000_000, 1_000_000, 100_000_000] {
            let now = Timestamp::from_second(now).unwrap();
            let after = |seconds| pending(waited(&granted, now, Duration::from_secs(seconds)));
            assert!(matches!(after(50 + 10), Verdict::Held { .. }), "{now}");
            assert!(matches!(after(50 + 301), Verdict::Dead { .. }), "{now}");
            // In another time namespace it may be less.
            assert!(matches!(after(10), Verdict::Held { .. }), "{now}");
        }
    }

    #[test]
    fn one_of_an_older_version_expires_by_the_wall_clock() {
        let old = grant(None);
        let after = |seconds| {
            let now = old.since + SignedDuration::from_secs(seconds);
            pending(waited(&old, now, Duration::from_secs(1)))
        };
        assert!(matches!(after(299), Verdict::Held { .. }));
        assert!(matches!(after(301), Verdict::Dead { .. }));
        assert!(matches!(after(-100_000), Verdict::Held { .. }));
    }

    #[derive(Default)]
    struct Listening(Mutex<Vec<String>>);

    impl Watcher for Listening {
        fn told(&self, remark: &Remark) {
            self.0.lock().unwrap().push(remark.to_string());
        }
    }

    /// Who waits for a volume judges its holders every few milliseconds.
    #[test]
    fn what_keeps_a_grant_from_being_judged_is_told_once_in_each_work() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let ground = Ground::at(&root, &folder.path().join("run"), crate::records::witness);
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Process::open(child.id().cast_signed()).unwrap();
        let holder = process::holder(ground.host().unwrap(), &process).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let of = |attempt: &str, volume: &str| {
            let place = root.join("volumes/default").join(volume);
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join("volume.json"), "{").unwrap();
            let lease = LeasedVolume {
                volume: VolumeId { tenant: Tenant::default(), name: VolumeName::new(volume).unwrap() },
                uuid: "u".to_owned(),
                driver: "block".to_owned(),
                access: Access::ReadWrite,
                sharing: Sharing::Exclusive,
                image: true,
                target: None,
            };
            let (attempt, holder) = (attempt.to_owned(), Some(holder.clone()));
            Grant { attempt, holder, leases: vec![lease], ..grant(None) }
        };
        let grants = [of("a", "v"), of("b", "v"), of("c", "w")];
        let told = |until| {
            let listening = Listening::default();
            for _ in 0..100 {
                let (over, dying) = dead(&ground, grants.iter(), &Work { until, watcher: &listening });
                assert!(over.is_empty() && !dying);
            }
            listening.0.into_inner().unwrap()
        };
        for round in 0..2 {
            let told = told(Instant::now() + Duration::from_secs(60 + round));
            let about = ["v", "v", "w"].map(|name| format!("volume {name:?}"));
            assert_eq!(told.len(), about.len(), "{told:?}");
            assert!(told.iter().zip(&about).all(|(told, about)| told.contains(about)), "{told:?}");
        }
    }
}
