//! Pods: what is asked of them, and what is seen of them.

use crate::failed::Failed;
use crate::pod_ref::PodRef;
use crate::volume_ref::VolumeRef;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::path::PathBuf;
use volhook_core::image::ImageIdentity;
use volhook_core::names::Tenant;

/// Asks which pods there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Whether it is wanted what they take of the disk: counting takes its time.
    pub sizes: bool,
}

/// A pod in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// What it is called.
    pub name: PodRef,
    /// Whose it is.
    pub tenant: Tenant,
    /// `overlay`, `copy` or `empty`: how its volumes come by the image's files.
    pub population: String,
    /// How many it has.
    pub volumes: usize,
    /// What they take together, in bytes; nothing where that was not asked for or cannot be counted.
    pub size: Option<u64>,
    /// The most bytes that they can have together.
    pub limit: Option<u64>,
    /// The containers and commands that hold it, sorted.
    pub holders: Vec<String>,
    /// The image that it was made from, or last brought to, in words.
    pub image: Option<String>,
    /// When it was made.
    pub created: Timestamp,
}

/// Asks for all that is known of some pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspect {
    /// The pods.
    pub pods: Vec<PodRef>,
}

/// What is known of some pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    /// Those that are there, in the order in which they were asked for.
    pub pods: Vec<Details>,
    /// Why others are missing.
    pub failed: Vec<Failed>,
}

/// All that is known of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// What it is called.
    pub name: PodRef,
    /// Whose it is.
    pub tenant: Tenant,
    /// The volume that holds the others.
    pub storage: VolumeRef,
    /// The driver of that.
    pub driver: String,
    /// `overlay`, `copy` or `empty`: how its volumes come by the image's files.
    pub population: String,
    /// What it takes, in bytes.
    pub size: u64,
    /// The most bytes that it can have.
    pub limit: Option<u64>,
    /// The containers and commands that hold it, sorted.
    pub holders: Vec<String>,
    /// The image that it was made from, or last brought to.
    pub image: Option<Image>,
    /// Another image with which a container was refused.
    pub refused_image: Option<Image>,
    /// Its volumes.
    pub volumes: Vec<Part>,
    /// When it was made.
    pub created: Timestamp,
    /// Distinguishes its storage from an earlier one.
    pub uuid: String,
}

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// What the engine calls it.
    pub name: Option<String>,
    /// The system that it says it is.
    pub system: Option<String>,
    /// Its list of installed packages.
    pub packages: Option<Packages>,
}

/// A list of installed packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packages {
    /// Where it is in the image.
    pub path: String,
    /// A digest of its content.
    pub digest: String,
}

impl From<&ImageIdentity> for Image {
    fn from(image: &ImageIdentity) -> Self {
        let packages = image.packages.as_ref();
        Self {
            name: image.name.clone(),
            system: image.system.clone(),
            packages: packages.map(|list| Packages { path: list.path.clone(), digest: list.digest.clone() }),
        }
    }
}

/// A volume of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it is called.
    pub name: VolumeRef,
    /// What it is in the pod, such as `etc`.
    pub member: String,
    /// Where it is in the root filesystem.
    pub path: String,
    /// When it was made.
    pub created: Timestamp,
    /// Files, directories and links in it; of an overlay those that the pod changed.
    pub entries: u64,
    /// What they take, in bytes.
    pub size: u64,
    /// Of an overlay: entries of the image that the pod removed.
    pub hidden: Option<u64>,
}

/// Asks for a pod's volumes to be made ahead of its first start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// The pod.
    pub pod: PodRef,
    /// The image: a root filesystem as its containers will have it.
    pub rootfs: PathBuf,
    /// The policy and its settings, as the annotation `policy` has them.
    pub policy: Option<String>,
}

/// Asks for another size of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// The pod.
    pub pod: PodRef,
    /// Its new size, in bytes.
    pub size: u64,
}

/// Asks for a pod to be put back to its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// The pod.
    pub pod: PodRef,
    /// Only these of its volumes, by their names or by what they are in the pod; everything where none is named.
    pub volumes: Vec<String>,
}

/// What would be put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resettable {
    /// The pod.
    pub pod: PodRef,
    /// What it has now: only that is put back.
    pub uuid: String,
    /// Only these of its volumes, by what they are in the pod; everything where there is none.
    pub members: Vec<String>,
}

/// A pod that was put back to its image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anew {
    /// The pod.
    pub pod: PodRef,
    /// Under this uuid all that it had is in the trash; nothing where only some of its volumes were put back.
    pub trashed: Option<String>,
}

/// Asks for another image to be accepted for a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// The pod.
    pub pod: PodRef,
    /// The image; the one with which its container was refused where none is named.
    pub rootfs: Option<PathBuf>,
}

/// A pod that belongs to another image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgraded {
    /// The pod.
    pub pod: PodRef,
    /// The image, in words.
    pub image: String,
    /// What the pod's own files hide of it.
    pub hidden: Hidden,
}

/// What a pod's own files hide of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hidden {
    /// These paths; one that is no text is quoted.
    Paths(Vec<String>),
    /// Everything that is where the pod has volumes: they are its own.
    Everything,
    /// Nobody can tell: why.
    Unknown(String),
}

/// Asks for pods to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remove {
    /// The pods.
    pub pods: Vec<PodRef>,
}

/// What would be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The pods.
    pub pods: Vec<Removable>,
    /// Why others cannot be.
    pub failed: Vec<Failed>,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The pods.
    pub pods: Vec<PodRef>,
    /// Why others stay.
    pub failed: Vec<Failed>,
}

/// A pod that would be removed, as it was when somebody looked: only that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removable {
    /// What it is called.
    pub name: PodRef,
    /// Distinguishes its storage from another of the same name.
    pub uuid: String,
    /// How many volumes it has.
    pub volumes: usize,
    /// When it was made.
    pub created: Timestamp,
}
