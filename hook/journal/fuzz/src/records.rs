//! Records from few bytes, over few attempts, containers and volumes, so that they meet.

use arbitrary::Arbitrary;
use jiff::Timestamp;
use std::time::Duration;
use std::time::Instant;
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
use volhook_core::record::ReleaseReason;
use volhook_core::record::VolumeRecord;
use volhook_journal::Journal;

use crate::disk::Memory;

/// The boot whose journal it is.
pub const BOOT: &str = "boot-0";
/// Its file of leases.
pub const LEASES: &str = "leases-boot-0";
/// That file's index.
pub const INDEX: &str = "leases-boot-0.index";
/// The file of what outlives a boot.
pub const VOLUMES: &str = "volumes";

/// Attempts; JSON escapes some of them.
pub const ATTEMPTS: [&str; 6] = ["a0", "a1", "", "a\"3", "a\\4\n", "ä5"];

/// A lease record in the making.
#[derive(Debug, Clone, Arbitrary)]
pub enum Record {
    /// `Granted`, with a holder of that pid, and a lease on each volume whose bit is set.
    Grant(u8, u8, Option<i8>, u8),
    /// `Bound`.
    Bind(u8, u8, i8),
    /// `Released`.
    Release(u8, String),
    /// `Mounted`.
    Mounted(u8, u8),
    /// `Note`.
    Note(u8, String),
    /// `Refused`.
    Refused(u8, String),
    /// `Fault`.
    Fault(u8, String),
    /// `Broken`, which by itself changes no lease.
    Broken(u8, u8),
}

impl Record {
    /// The record.
    #[must_use]
    pub fn build(&self) -> LeaseRecord {
        match self {
            Self::Grant(which, id, pid, volumes) => LeaseRecord::Granted(Grant {
                attempt: attempt(*which),
                container: container(*id),
                holder: pid.map(holder),
                leases: volumes_of(*volumes).map(lease).collect(),
                since: at(i64::from(*volumes)),
                since_boot_ms: None,
            }),
            Self::Bind(which, id, pid) => LeaseRecord::Bound {
                attempt: attempt(*which),
                container: container(*id),
                holder: holder(*pid),
            },
            Self::Release(which, text) => LeaseRecord::Released {
                attempt: attempt(*which),
                container: container(0),
                reason: ReleaseReason::Poststop,
                evidence: text.clone(),
                steps: Vec::new(),
            },
            Self::Mounted(which, id) => {
                LeaseRecord::Mounted {
                    attempt: attempt(*which),
                    container: container(*id),
                    steps: Vec::new(),
                }
            }
            Self::Note(id, text) => {
                LeaseRecord::Note { container: container(*id), volume: Some(volume(*id)), text: text.clone() }
            }
            Self::Refused(id, text) => LeaseRecord::Refused {
                container: container(*id),
                volume: None,
                reason: text.clone(),
                why: None,
                asked: Vec::new(),
            },
            Self::Fault(id, text) => LeaseRecord::Fault {
                container: container(*id),
                stage: "poststop".to_owned(),
                reason: text.clone(),
            },
            Self::Broken(which, id) => LeaseRecord::Broken {
                attempt: attempt(*which),
                container: container(0),
                volume: volume(*id),
                evidence: String::new(),
            },
        }
    }
}

/// `Created`, or `Removed` where the highest bit is set.
#[must_use]
pub fn volume_record(which: u8) -> VolumeRecord {
    let (volume, uuid) = (volume(which), uuid());
    if which >= 0x80 {
        VolumeRecord::Removed { volume, uuid }
    } else {
        VolumeRecord::Created { volume, uuid, driver: "local".to_owned(), container: None }
    }
}

fn uuid() -> String {
    "6a1f0f2e-9a52-4be1-8f0e-0e6d7c1c9a01".to_owned()
}

/// One of the attempts.
#[must_use]
pub fn attempt(which: u8) -> String {
    ATTEMPTS[usize::from(which) % ATTEMPTS.len()].to_owned()
}

/// One of four containers.
#[must_use]
pub fn container(which: u8) -> ContainerId {
    ContainerId::new(format!("c{}", which % 4)).expect("a valid id")
}

/// One of four volumes.
#[must_use]
pub fn volume(which: u8) -> VolumeId {
    let name = VolumeName::new(format!("v{}", which % 4)).expect("a valid name");
    VolumeId { tenant: Tenant::default(), name }
}

/// The volumes whose bits are set.
pub fn volumes_of(bits: u8) -> impl Iterator<Item = VolumeId> {
    (0..4).filter(move |which| bits & 1 << which != 0).map(volume)
}

fn lease(volume: VolumeId) -> LeasedVolume {
    LeasedVolume {
        target: Some(Target::new(&format!("/{}", volume.name)).expect("a valid target")),
        volume,
        uuid: uuid(),
        driver: "local".to_owned(),
        access: Access::ReadWrite,
        sharing: Sharing::Shared,
        image: false,
    }
}

fn holder(pid: i8) -> Holder {
    Holder {
        machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
        boot_id: BOOT.to_owned(),
        pid_namespace: 4_026_531_836,
        pid: pid.into(),
        start_time: 123_456,
        mount_namespace: 4_026_532_000,
        mount_namespace_id: None,
    }
}

/// A time.
#[must_use]
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).expect("a year of this century")
}

/// A deadline that a disk in memory never needs.
#[must_use]
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// A handle for a boot, as each process has its own.
#[must_use]
pub fn open(disk: &Memory, boot: &str) -> Journal {
    Journal::on(Box::new(disk.clone()), boot).expect("a valid boot id")
}
