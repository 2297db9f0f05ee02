//! Leases: who holds what. The records of the journal and the table that they fold into.

use crate::claims::Claim;
use crate::claims::Origin;
use crate::decision::Access;
use crate::decision::Sharing;
use crate::last_step::PodRoot;
use crate::names::ContainerId;
use crate::names::Pod;
use crate::names::SubPath;
use crate::names::Target;
use crate::names::VolumeId;
use crate::stage::Apply;
use crate::stage::Stage;
use crate::volume::Volume;
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

/// Why an attempt's leases were given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseReason {
    /// The runtime called poststop.
    Poststop,
    /// Someone who needed the volume, or `gc`, found the holder dead.
    Reaped,
    /// The start failed and was undone.
    Undone,
    /// A new attempt of the same container took the place of a pending one.
    Superseded,
    /// A pending attempt's deadline passed.
    Expired,
    /// A person gave them back without proof that the container is dead.
    Broken,
    /// The command that held them was done.
    Done,
}

/// One volume of a plan, as it is recorded: why the container gets it, and where and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedVolume {
    /// Who asked for it.
    pub origin: Origin,
    /// The volume.
    pub volume: VolumeId,
    /// Its driver, which decided.
    pub driver: String,
    /// Where it was asked for.
    pub target: Target,
    /// Where that is inside the root filesystem, if symlinks lead elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The part of it that is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subpath: Option<SubPath>,
    /// Whether the container may write.
    pub access: Access,
    /// With whom it is shared.
    pub sharing: Sharing,
    /// Who mounts it.
    pub apply: Apply,
}

/// A record of the journal file `leases-<boot id>`: what holds, and what was said, in this boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LeaseRecord {
    /// What an attempt asked for was decided; its leases follow.
    Planned {
        /// The attempt.
        attempt: String,
        /// The container.
        container: ContainerId,
        /// When the plan is applied.
        stage: Stage,
        /// The pod that the container belongs to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pod: Option<Pod>,
        /// What of the pod's overlay it has, where that keeps everything in it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<PodRoot>,
        /// The volumes, in the order in which they are mounted.
        volumes: Vec<PlannedVolume>,
    },
    /// Leases were granted.
    Granted(Grant),
    /// A pending grant was tied to a container's process.
    Bound {
        /// The attempt.
        attempt: String,
        /// The container's id as the runtime says it.
        container: ContainerId,
        /// Its init process.
        holder: Holder,
    },
    /// All mounts of the attempt are in place.
    Mounted {
        /// The attempt.
        attempt: String,
        /// The container.
        container: ContainerId,
    },
    /// Leases were given back.
    Released {
        /// The attempt.
        attempt: String,
        /// The container.
        container: ContainerId,
        /// Why.
        reason: ReleaseReason,
        /// What proved it, for people.
        evidence: String,
    },
    /// A person broke one lease of an attempt; what is left of the attempt follows.
    Broken {
        /// The attempt.
        attempt: String,
        /// The container.
        container: ContainerId,
        /// The volume.
        volume: VolumeId,
        /// How the lease stood then, for people.
        evidence: String,
    },
    /// A container was refused its volumes.
    Refused {
        /// The container.
        container: ContainerId,
        /// The volume at fault, if it was one.
        volume: Option<VolumeId>,
        /// The cause, one line.
        reason: String,
        /// What it had asked for, as far as that was understood.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        asked: Vec<Claim>,
    },
    /// Something went wrong where nothing could be refused any more.
    Fault {
        /// The container.
        container: ContainerId,
        /// What was being done.
        stage: String,
        /// The cause, one line.
        reason: String,
    },
    /// A remark about a decision: a claim that stepped back, a plugin's note.
    Note {
        /// The container.
        container: ContainerId,
        /// The volume that it is about, if it is about one.
        volume: Option<VolumeId>,
        /// The remark.
        text: String,
    },
    /// A journal file was damaged and begun anew.
    Rebuilt {
        /// How many grants (or, of the file of volumes, records) were taken over.
        kept: u32,
        /// Offset in the damaged file from which on it could not be trusted.
        lost_at: u64,
        /// The name of the copy of the damaged file, in the journal's folder; empty where the file was gone.
        copy: String,
    },
}

/// A record of the journal file `volumes`: what outlives a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum VolumeRecord {
    /// A volume was created.
    Created {
        /// The volume.
        volume: VolumeId,
        /// Its uuid.
        uuid: String,
        /// Its driver.
        driver: String,
        /// The container for which it was made, if it was made for one.
        container: Option<ContainerId>,
    },
    /// A volume was removed: it is in the trash.
    Removed {
        /// The volume.
        volume: VolumeId,
        /// Its uuid.
        uuid: String,
    },
    /// A volume was taken out of the trash.
    Restored {
        /// The volume.
        volume: VolumeId,
        /// Its uuid.
        uuid: String,
    },
    /// A volume's image got another size.
    Resized {
        /// The volume.
        volume: VolumeId,
        /// Its uuid.
        uuid: String,
        /// The image's size in bytes from now on.
        size: u64,
    },
    /// A volume got what an image has at its place.
    Populated {
        /// The volume.
        volume: VolumeId,
        /// Its uuid, or that of the storage in which it lies.
        uuid: String,
        /// How many entries were copied; 0 where it was made empty.
        entries: u64,
        /// How many bytes of content.
        bytes: u64,
        /// The container for which it was done, if it was done for one.
        container: Option<ContainerId>,
    },
    /// A volume of a pod, or a pod's whole storage, was put back to the image.
    Reset {
        /// The volume.
        volume: VolumeId,
        /// The uuid of the storage.
        uuid: String,
    },
    /// A pod's storage was brought to another image.
    Upgraded {
        /// The storage.
        volume: VolumeId,
        /// Its uuid.
        uuid: String,
        /// The image, for people.
        image: String,
    },
    /// A volume got another name.
    Renamed {
        /// The volume as it was called.
        volume: VolumeId,
        /// Its uuid.
        uuid: String,
        /// As it is called from now on.
        to: VolumeId,
    },
    /// A removed volume was deleted for good.
    Deleted {
        /// The volume.
        volume: VolumeId,
        /// Its uuid.
        uuid: String,
    },
}

impl VolumeRecord {
    /// What is told of `volume` when it was created, for `container` if it was made for one.
    #[must_use]
    pub fn created(volume: &Volume, container: Option<&ContainerId>) -> Self {
        Self::Created {
            volume: volume.id.clone(),
            uuid: volume.uuid.clone(),
            driver: volume.driver.clone(),
            container: container.cloned(),
        }
    }
}

/// Who holds what: the fold of a boot's [`LeaseRecord`]s.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTable {
    grants: BTreeMap<String, Grant>,
}

impl LeaseTable {
    /// Takes one record into account. Records that are not about leases change nothing, and a release of an
    /// attempt that is not there changes nothing either: a release may be written twice.
    pub fn apply(&mut self, record: &LeaseRecord) {
        match record {
            LeaseRecord::Granted(grant) => {
                self.grants.insert(grant.attempt.clone(), grant.clone());
            }
            LeaseRecord::Bound { attempt, container, holder } => {
                if let Some(grant) = self.grants.get_mut(attempt) {
                    grant.container = container.clone();
                    grant.holder = Some(holder.clone());
                }
            }
            LeaseRecord::Released { attempt, .. } => {
                self.grants.remove(attempt);
            }
            LeaseRecord::Planned { .. }
            | LeaseRecord::Mounted { .. }
            | LeaseRecord::Broken { .. }
            | LeaseRecord::Refused { .. }
            | LeaseRecord::Fault { .. }
            | LeaseRecord::Note { .. }
            | LeaseRecord::Rebuilt { .. } => {}
        }
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
