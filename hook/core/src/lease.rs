//! Leases: who holds what. The records of the journal fold into it (see [`crate::record`]).

use crate::decision::Access;
use crate::decision::Sharing;
use crate::names::ContainerId;
use crate::names::Target;
use crate::names::VolumeId;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// What ties a lease to one run of one container's init process.
///
/// All fields are as the hook saw them; whoever compares them must be in the same pid namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// `/etc/machine-id` (machine-id(5)).
    pub machine_id: String,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Inode of the pid namespace in which `pid` is counted (`/proc/PID/ns/pid` of the hook).
    pub pid_namespace: u64,
    /// The container's init process.
    pub pid: i32,
    /// Its start time in clock ticks since boot (field 22 of `/proc/PID/stat`, proc(5)).
    pub start_time: u64,
    /// Inode of its mount namespace. The kernel gives the inode of a dead namespace to the next new one.
    pub mount_namespace: u64,
    /// The number of its mount namespace that no other ever has in this boot (`NS_GET_MNTNS_ID`, Linux 6.11).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_namespace_id: Option<u64>,
}

/// One volume of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeasedVolume {
    /// The volume.
    pub volume: VolumeId,
    /// Its uuid, so that a later volume of the same name is not taken for it.
    pub uuid: String,
    /// The driver that decided.
    pub driver: String,
    /// The access granted.
    pub access: Access,
    /// With whom the lease may coexist.
    pub sharing: Sharing,
    /// Whether the volume is a filesystem image: then its file's lock is evidence of use.
    pub image: bool,
    /// Where it appears in the container, or on the host for `volhook volume mount`; nowhere while another command
    /// works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// All leases of one attempt to start one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Identifies the attempt; unique on this host.
    pub attempt: String,
    /// The container.
    pub container: ContainerId,
    /// The container's init process; `None` while the grant is pending (spec stage).
    pub holder: Option<Holder>,
    /// What it holds.
    pub leases: Vec<LeasedVolume>,
    /// When it was granted.
    pub since: Timestamp,
    /// The same by the clock that nobody sets: milliseconds since the boot, the time in which the host slept included
    /// (`CLOCK_BOOTTIME`, clock_gettime(2)). Older versions did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_boot_ms: Option<u64>,
}

/// Who holds what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTable {
    grants: BTreeMap<String, Grant>,
}

impl LeaseTable {
    /// Puts a grant in, in the place of one that the attempt had.
    pub fn insert(&mut self, grant: Grant) {
        self.grants.insert(grant.attempt.clone(), grant);
    }

    /// Ties an attempt's grant to a container's process. Without a grant nothing is changed.
    pub fn bind(&mut self, attempt: &str, container: &ContainerId, holder: &Holder) {
        if let Some(grant) = self.grants.get_mut(attempt) {
            grant.container = container.clone();
            grant.holder = Some(holder.clone());
        }
    }

    /// Takes an attempt's grant out, if it is there.
    pub fn remove(&mut self, attempt: &str) {
        self.grants.remove(attempt);
    }

    /// All grants, by attempt.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values()
    }

    /// The grant of one attempt.
    #[must_use]
    pub fn grant(&self, attempt: &str) -> Option<&Grant> {
        self.grants.get(attempt)
    }

    /// The grants that include `volume`, each with its lease on it.
    pub fn holders<'a>(
        &'a self,
        volume: &'a VolumeId,
    ) -> impl Iterator<Item = (&'a Grant, &'a LeasedVolume)> {
        self.grants.values().flat_map(move |grant| {
            grant.leases.iter().filter(move |l| l.volume == *volume).map(move |l| (grant, l))
        })
    }

    /// The grants of one container id. There may be several: two runtimes can each have a `c1`.
    pub fn of_container<'a>(&'a self, container: &'a ContainerId) -> impl Iterator<Item = &'a Grant> {
        self.grants.values().filter(move |grant| grant.container == *container)
    }
}

impl FromIterator<Grant> for LeaseTable {
    /// The table of these grants; of two for one attempt the later counts.
    fn from_iter<T: IntoIterator<Item = Grant>>(grants: T) -> Self {
        Self { grants: grants.into_iter().map(|grant| (grant.attempt.clone(), grant)).collect() }
    }
}

/// Whether a new lease with (`access`, `sharing`) may stand beside one with (`held_access`, `held_sharing`).
///
/// Exclusive stands alone; two writers stand together only if both are shared.
#[must_use]
pub fn compatible(access: Access, sharing: Sharing, held_access: Access, held_sharing: Sharing) -> bool {
    let alone = sharing == Sharing::Exclusive || held_sharing == Sharing::Exclusive;
    let single_writer = sharing == Sharing::SingleWriter || held_sharing == Sharing::SingleWriter;
    let both_write = access == Access::ReadWrite && held_access == Access::ReadWrite;
    !(alone || single_writer && both_write)
}
