//! The records of the journal, and how those of leases fold into the table of who holds what.

use crate::claims::Claim;
use crate::claims::Origin;
use crate::decision::Access;
use crate::decision::Sharing;
use crate::last_step::PodRoot;
use crate::lease::Grant;
use crate::lease::Holder;
use crate::lease::LeaseTable;
use crate::names::ContainerId;
use crate::names::Pod;
use crate::names::SubPath;
use crate::names::Target;
use crate::names::VolumeId;
use crate::stage::Apply;
use crate::stage::Stage;
use crate::volume::Volume;
use serde::Deserialize;
use serde::Serialize;

/// Why an attempt's leases were given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// A part of a container's start or stop of which the time is recorded; what a part waits for in another is that one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The container's spec and its claims are read.
    Spec,
    /// The container's process and root filesystem are looked at.
    Process,
    /// What a pod has is found, renewed or brought to another image.
    Pod,
    /// Plugins are asked.
    Plugins,
    /// Targets are resolved in the root filesystem.
    Resolve,
    /// Volumes are looked up and created.
    Volumes,
    /// The plan is made.
    Plan,
    /// Leases are looked at, taken and recorded.
    Journal,
    /// New volumes get what the image has.
    Fill,
    /// The attempt's record is written into the run directory.
    Record,
    /// What is to be mounted is made.
    Sources,
    /// It is mounted into the container.
    Mounts,
    /// What the container held is judged and given back.
    Release,
    /// All of it together.
    Total,
    /// A part that only a later version tells apart.
    #[serde(other)]
    Other,
}

/// How long the parts of a start or stop took, in microseconds, in the order in which they were entered first.
pub type Steps = Vec<(Step, u32)>;

/// What kind of cause a container was refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// Another than those below.
    Failed,
    /// Something was asked for in a way that makes no sense.
    Usage,
    /// There is no such volume.
    NoSuchVolume,
    /// There is no such pod.
    NoSuchPod,
    /// There is no such plugin.
    NoSuchPlugin,
    /// Somebody holds a volume.
    Held,
    /// A name is taken.
    Exists,
    /// It was not done within the time that there was.
    TooLate,
    /// There is no room: blocks, inodes or a quota.
    NoRoom,
    /// The configuration is not usable.
    Config,
    /// A bug in volhook.
    Internal,
    /// A signal stopped it.
    Interrupted,
    /// One that only a later version tells apart.
    #[serde(other)]
    Other,
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
        /// How long the parts of the start took up to here. Older versions did not record it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        steps: Steps,
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
        /// How long the parts of the stop took up to here, where a stop it was. Older versions did not record it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        steps: Steps,
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
        /// Of which kind the cause is. Older versions did not record it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<RefusalKind>,
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

/// What a record changes in the table of leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// An attempt holds this, and nothing that it held before.
    Granted(&'a Grant),
    /// What an attempt holds is a container's process's from now on.
    Bound {
        /// The attempt.
        attempt: &'a str,
        /// The container's id as the runtime says it.
        container: &'a ContainerId,
        /// Its init process.
        holder: &'a Holder,
    },
    /// An attempt holds nothing any more.
    Ended {
        /// The attempt.
        attempt: &'a str,
    },
}

impl<'a> Change<'a> {
    /// The attempt whose leases are changed.
    #[must_use]
    pub fn attempt(&self) -> &'a str {
        match self {
            Self::Granted(grant) => &grant.attempt,
            Self::Bound { attempt, .. } | Self::Ended { attempt } => attempt,
        }
    }
}

impl LeaseRecord {
    /// What the record changes in the table of leases; `None` where it only tells something. Whoever follows leases goes by
    /// this, so that all have the same idea of which records matter.
    #[must_use]
    pub fn change(&self) -> Option<Change<'_>> {
        match self {
            Self::Granted(grant) => Some(Change::Granted(grant)),
            Self::Bound { attempt, container, holder } => Some(Change::Bound { attempt, container, holder }),
            Self::Released { attempt, .. } => Some(Change::Ended { attempt }),
            // What is left of an attempt of which a lease was broken is granted anew behind it.
            Self::Broken { .. }
            | Self::Planned { .. }
            | Self::Mounted { .. }
            | Self::Refused { .. }
            | Self::Fault { .. }
            | Self::Note { .. }
            | Self::Rebuilt { .. } => None,
        }
    }
}

/// Takes one record into account. A release of an attempt that is not there changes nothing: it may be written twice.
pub fn fold(table: &mut LeaseTable, record: &LeaseRecord) {
    match record.change() {
        Some(Change::Granted(grant)) => table.insert(grant.clone()),
        Some(Change::Bound { attempt, container, holder }) => table.bind(attempt, container, holder),
        Some(Change::Ended { attempt }) => table.remove(attempt),
        None => {}
    }
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

#[cfg(test)]
mod tests {
    use super::Change;
    use super::LeaseRecord;
    use super::RefusalKind;
    use super::ReleaseReason;
    use super::Step;
    use super::fold;
    use crate::lease::Grant;
    use crate::lease::Holder;
    use crate::lease::LeaseTable;
    use crate::names::ContainerId;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn container(name: &str) -> ContainerId {
        ContainerId::new(name).unwrap()
    }

    fn holder(pid: i32) -> Holder {
        Holder {
            machine_id: "m".into(),
            boot_id: "b".into(),
            pid_namespace: 1,
            pid,
            start_time: 2,
            mount_namespace: 3,
            mount_namespace_id: None,
        }
    }

    fn granted(attempt: &str, second: i64) -> LeaseRecord {
        LeaseRecord::Granted(Grant {
            attempt: attempt.into(),
            container: container("c1"),
            holder: None,
            leases: Vec::new(),
            since: Timestamp::from_second(second).unwrap(),
            since_boot_ms: None,
        })
    }

    fn record() -> impl Strategy<Value = LeaseRecord> {
        let attempt = prop::sample::select(vec!["a1", "a2", "a3"]).prop_map(str::to_owned);
        (0..5_u8, attempt, 1..100_i32).prop_map(|(kind, attempt, n)| match kind {
            0 => granted(&attempt, n.into()),
            1 => LeaseRecord::Bound { attempt, container: container("c2"), holder: holder(n) },
            2 => LeaseRecord::Released {
                attempt,
                container: container("c1"),
                reason: ReleaseReason::Reaped,
                evidence: String::new(),
                steps: Vec::new(),
            },
            3 => LeaseRecord::Mounted { attempt, container: container("c1"), steps: Vec::new() },
            _ => LeaseRecord::Note { container: container("c1"), volume: None, text: attempt },
        })
    }

    /// What an attempt holds, by what was said of it last.
    fn held(records: &[LeaseRecord], of: &str) -> Option<Grant> {
        let place = records
            .iter()
            .rposition(|record| matches!(record, LeaseRecord::Granted(grant) if grant.attempt == of))?;
        let LeaseRecord::Granted(mut grant) = records[place].clone() else { return None };
        for record in &records[place..] {
            match record {
                LeaseRecord::Released { attempt, .. } if attempt == of => return None,
                LeaseRecord::Bound { attempt, container, holder } if attempt == of => {
                    (grant.container, grant.holder) = (container.clone(), Some(holder.clone()));
                }
                _ => {}
            }
        }
        Some(grant)
    }

    /// What an older version wrote is read, and what it reads is what it wrote: what is new is left out where nothing is said.
    #[test]
    fn records_of_before_are_read_and_written_as_they_were() {
        let before = [
            r#"{"kind":"mounted","attempt":"a","container":"c"}"#,
            r#"{"kind":"released","attempt":"a","container":"c","reason":"done","evidence":"it is done"}"#,
            r#"{"kind":"refused","container":"c","volume":null,"reason":"no"}"#,
        ];
        for text in before {
            let record: LeaseRecord = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), text);
        }
    }

    /// What a later version tells apart is something else here.
    #[test]
    fn steps_and_kinds_of_a_later_version_are_read() {
        let text = r#"{"kind":"mounted","attempt":"a","container":"c","steps":[["plan",7],["later",8]]}"#;
        let LeaseRecord::Mounted { steps, .. } = serde_json::from_str(text).unwrap() else { panic!() };
        assert_eq!(steps, [(Step::Plan, 7), (Step::Other, 8)]);
        let text = r#"{"kind":"refused","container":"c","volume":null,"reason":"no","why":"later","new":1}"#;
        let LeaseRecord::Refused { why, .. } = serde_json::from_str(text).unwrap() else { panic!() };
        assert_eq!(why, Some(RefusalKind::Other));
    }

    proptest! {
        #[test]
        fn the_table_has_what_was_said_last(records in prop::collection::vec(record(), 0..20)) {
            let mut table = LeaseTable::default();
            for record in &records {
                fold(&mut table, record);
            }
            let folded: BTreeMap<&str, &Grant> =
                table.grants().map(|grant| (grant.attempt.as_str(), grant)).collect();
            let looked_for: BTreeMap<&str, Grant> =
                ["a1", "a2", "a3"].into_iter().filter_map(|of| Some((of, held(&records, of)?))).collect();
            prop_assert_eq!(folded, looked_for.iter().map(|(of, grant)| (*of, grant)).collect());
        }

        #[test]
        fn a_record_that_changes_nothing_leaves_every_table_as_it_is(
            before in prop::collection::vec(record(), 0..20),
            record in record(),
        ) {
            let mut table = LeaseTable::default();
            before.iter().for_each(|record| fold(&mut table, record));
            let untouched = table.clone();
            fold(&mut table, &record);
            match record.change() {
                None => prop_assert_eq!(&table, &untouched),
                // Of the others only their own attempt's grant.
                Some(change) => {
                    let others = |table: &LeaseTable| -> Vec<Grant> {
                        table.grants().filter(|grant| grant.attempt != change.attempt()).cloned().collect()
                    };
                    prop_assert_eq!(others(&table), others(&untouched));
                    if let Change::Ended { attempt } = change {
                        prop_assert!(table.grant(attempt).is_none());
                    }
                }
            }
        }
    }
}
