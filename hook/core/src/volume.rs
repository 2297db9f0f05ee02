//! A volume as recorded in its sidecar `volume.json`, which is the truth about it.

use crate::decision::Backing;
use crate::decision::Pairs;
use crate::decision::Population;
use crate::decision::Sharing;
use crate::decision::Usage;
use crate::image::ImageIdentity;
use crate::names::Pod;
use crate::names::Target;
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
    /// What lies in it, where it holds the volumes of a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<PodStorage>,
    /// Whether it may still be given what an image has at its place.
    #[serde(default, skip_serializing_if = "CopyUp::is_over")]
    pub copy_up: CopyUp,
    /// When it was created.
    pub created: Timestamp,
}

impl Volume {
    /// Adds what this volume uses to what its tenant does: to the whole, and to what is told of each of its labels.
    pub fn add_to(&self, usage: &mut Usage) {
        let bytes = self.limit.unwrap_or_default();
        usage.volumes += 1;
        usage.bytes = usage.bytes.saturating_add(bytes);
        for of_label in usage.labels.iter_mut().filter(|usage| self.labels.contains(&usage.label)) {
            of_label.volumes += 1;
            of_label.bytes = of_label.bytes.saturating_add(bytes);
        }
    }
}

/// A volume's place in a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodMember {
    /// The pod.
    pub pod: Pod,
    /// Which of the pod's volumes it is, such as `etc`.
    pub member: String,
}

/// What a volume that holds all of a pod's volumes consists of. In its top directory are `upper` and `work` of the
/// overlay over the container's whole root filesystem, or `files`, which has the parts at their paths in that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStorage {
    /// How its parts come by what the image has.
    pub population: Population,
    /// The pod's volumes.
    pub parts: Vec<Part>,
    /// The image that it was made from, or last brought up to.
    pub image: Option<ImageIdentity>,
    /// Another image with which a start was refused, for a person to accept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<Offer>,
}

/// An image that a pod was refused with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The image.
    pub image: ImageIdentity,
    /// Where the host had it: a root filesystem, which may be gone by now.
    pub rootfs: String,
}

impl PodStorage {
    /// The part that is this member of the pod.
    #[must_use]
    pub fn member(&self, member: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.member == member)
    }
}

/// A volume of a pod: a directory of the pod's storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name, as that of any volume.
    pub name: VolumeName,
    /// Which of the pod's volumes it is, such as `etc`.
    pub member: String,
    /// Where it is in the root filesystem, without symlinks: `/usr/lib` where the image has a link `/lib` to it.
    pub path: Target,
    /// When it was made.
    pub created: Timestamp,
}

/// What a pod's storage is called among the pod's members.
pub const STORAGE: &str = "storage";

/// The folder of a storage in which its parts lie that are no overlay.
pub const FILES: &str = "files";

/// The folder of a storage in which the changes of an overlay lie.
pub const UPPER: &str = "upper";

impl Part {
    /// Where it is in its storage, or in the overlay over the root filesystem.
    #[must_use]
    pub fn place(&self, population: Population) -> String {
        place_of(&self.path, population)
    }
}

/// Where what is at `path` in the root filesystem is in a pod's storage, or in the overlay.
#[must_use]
pub fn place_of(path: &Target, population: Population) -> String {
    let relative = path.as_str().trim_start_matches('/');
    match population {
        Population::Overlay => relative.to_owned(),
        Population::Copy | Population::Empty => format!("{FILES}/{relative}"),
    }
}

/// How far a volume is with getting what an image has at its place (copy-up).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CopyUp {
    /// It is over, or was never wanted.
    #[default]
    Over,
    /// Its first container with something to copy gives it that, if it is still empty then.
    Due,
    /// Somebody began to copy into its filesystem and was not seen to end: what is there is nobody's.
    Begun,
}

impl CopyUp {
    /// Whether nothing is to be done any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        *self == Self::Over
    }
}
