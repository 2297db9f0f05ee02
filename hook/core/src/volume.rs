//! A volume as recorded in its sidecar `volume.json`, which is the truth about it.

use crate::decision::Backing;
use crate::decision::Pairs;
use crate::decision::Sharing;
use crate::names::Pod;
use crate::names::VolumeId;
use crate::names::VolumeName;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// The newest sidecar format that this version reads and the one that it writes.
pub const SIDECAR_FORMAT: u32 = 1;

/// Named storage that volhook manages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Version of this record's layout; see [`SIDECAR_FORMAT`].
    pub format: u32,
    /// Distinguishes this volume from an earlier one of the same name (RFC 9562, version 4).
    pub uuid: String,
    /// Its identity.
    pub id: VolumeId,
    /// What it was called before. In a folder of that name it is still called so: the renaming was not finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<VolumeName>,
    /// The driver that decides about it.
    pub driver: String,
    /// What holds its data.
    pub backing: Backing,
    /// Options in force, defaults filled in.
    pub options: Pairs,
    /// Labels given by whoever created it.
    pub labels: Pairs,
    /// The most bytes that it can hold, where its backing bounds it.
    pub limit: Option<u64>,
    /// With whom every lease on it may coexist, where its driver said so once and for all.
    #[serde(default)]
    pub sharing: Option<Sharing>,
    /// The pod whose volume it is, if any.
    pub pod: Option<PodMember>,
    /// When it was created.
    pub created: Timestamp,
}

/// A volume's place in a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodMember {
    /// The pod.
    pub pod: Pod,
    /// Which of the pod's volumes it is, such as `etc`.
    pub member: String,
}
