//! Volumes: what is asked of them, and what is seen of them.

use crate::failed::Failed;
use crate::filter::Filter;
use crate::lease::Holder;
use crate::lease::Standing;
use crate::pairs;
use crate::volume_ref::VolumeRef;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::path::PathBuf;
use volhook_core::decision::Pairs;
use volhook_core::decision::Sharing;
use volhook_core::names::ContainerId;
use volhook_core::names::Pod;
use volhook_core::names::Target;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeName;

/// Asks for a volume that may be there already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// What it is to be called.
    pub name: VolumeRef,
    /// The driver; the default one where none is named.
    pub driver: Option<String>,
    /// Options for the driver. Of several of one name the last counts.
    #[serde(with = "pairs")]
    pub options: Pairs,
    /// Its labels. Of several of one name the last counts.
    #[serde(with = "pairs")]
    pub labels: Pairs,
}

/// A volume that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// What it is called.
    pub name: VolumeRef,
    /// Whether it is new; else it was there and is as it was asked for.
    pub new: bool,
}

/// Asks for a directory or filesystem image that exists to become a volume, as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopt {
    /// Where it is, absolute.
    pub path: PathBuf,
    /// What the volume is to be called.
    pub name: VolumeRef,
    /// Its driver: without one, `local` for a directory and `block` for an image.
    pub driver: Option<String>,
    /// Its labels. Of several of one name the last counts.
    #[serde(with = "pairs")]
    pub labels: Pairs,
    /// Whether it stays where it is; else it is moved.
    pub in_place: bool,
}

/// Asks for another name for a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rename {
    /// The volume.
    pub volume: VolumeRef,
    /// Its new name, of the same tenant.
    pub to: VolumeRef,
}

/// Asks for another size of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// The volume.
    pub volume: VolumeRef,
    /// Its new size, in bytes; rounded up to whole blocks.
    pub size: u64,
}

/// An image of another size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resized {
    /// The volume.
    pub name: VolumeRef,
    /// Its size now, in bytes.
    pub size: u64,
}

/// Asks whether an image's filesystem is sound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The volume.
    pub volume: VolumeRef,
    /// Whether what is found is to be mended.
    pub repair: bool,
}

/// A filesystem that is sound now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The volume.
    pub name: VolumeRef,
    /// What was mended; nothing if it was clean.
    pub repaired: Option<String>,
}

/// Asks for a volume that is a copy of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneVolume {
    /// The volume to copy.
    pub original: VolumeRef,
    /// What the copy is to be called.
    pub name: VolumeRef,
    /// Its labels besides those of the original. Of several of one name the last counts.
    #[serde(with = "pairs")]
    pub labels: Pairs,
}

/// A volume that is a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cloned {
    /// What it is called.
    pub name: VolumeRef,
    /// Who could write to the original meanwhile: then it is no copy of one point in time.
    pub writers: Vec<String>,
    /// How many extended attributes could not be kept.
    pub attributes_lost: u64,
}

/// Asks for files to be copied into a volume, or out of it, by the rules of `docker cp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyFiles {
    /// The volume.
    pub volume: VolumeRef,
    /// The path in it.
    pub path: PathBuf,
    /// The path on the host, absolute; a tar stream where there is none.
    pub host: Option<PathBuf>,
    /// Which way.
    pub way: Way,
    /// Whether owners and rights stay.
    pub archive: bool,
    /// Whether a symlink as the source is what it points to.
    pub follow: bool,
}

/// Which way files are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Into the volume.
    In,
    /// Out of it.
    Out,
}

/// What a copy has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// How many devices or sockets were left out.
    pub left_out: u64,
    /// How many extended attributes could not be kept.
    pub attributes_lost: u64,
}

/// Asks for an image to be mounted on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMount {
    /// The volume.
    pub volume: VolumeRef,
    /// An existing directory, absolute; one in the run directory is made where there is none.
    pub directory: Option<PathBuf>,
    /// Only for reading.
    pub read_only: bool,
}

/// An image that is mounted on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMounted {
    /// The volume.
    pub name: VolumeRef,
    /// Where.
    pub directory: PathBuf,
}

/// How much of a volume's size is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sizes {
    /// Nothing: counting takes its time.
    Unasked,
    /// What was counted not long ago, and what can be counted in a moment.
    Remembered,
    /// Counted anew, however long that takes.
    Counted,
}

/// Asks which volumes there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Those that are meant.
    pub filter: Filter,
    /// How much of their sizes is wanted.
    pub sizes: Sizes,
}

/// A volume in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// What it is called.
    pub name: VolumeRef,
    /// Whose it is.
    pub tenant: Tenant,
    /// The driver that decides about it.
    pub driver: String,
    /// What it takes of the disk, in bytes; a part of a pod's storage is counted with that.
    pub size: Option<u64>,
    /// When that was counted.
    pub size_counted: Option<Timestamp>,
    /// The most bytes that it can hold, where its backing bounds it.
    pub limit: Option<u64>,
    /// The containers and commands that hold it, sorted.
    pub holders: Vec<String>,
    /// When it was created.
    pub created: Timestamp,
    /// Its labels.
    #[serde(with = "pairs")]
    pub labels: Pairs,
    /// The options in force.
    #[serde(with = "pairs")]
    pub options: Pairs,
    /// Its directory on the host, where it has one.
    pub mountpoint: Option<String>,
    /// The pod that it belongs to.
    pub pod: Option<Pod>,
    /// The volume of the pod in which it lies.
    pub storage: Option<VolumeName>,
    /// Distinguishes it from an earlier one of the same name.
    pub uuid: String,
}

/// Asks for all that is known of some volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspect {
    /// The volumes.
    pub volumes: Vec<VolumeRef>,
    /// Whether their sizes are wanted.
    pub sizes: bool,
}

/// What is known of some volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    /// Those that are there, in the order in which they were asked for.
    pub volumes: Vec<Details>,
    /// Why others, or parts of what is known of these, are missing.
    pub failed: Vec<Failed>,
}

/// All that is known of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// What it is called.
    pub name: VolumeRef,
    /// Whose it is.
    pub tenant: Tenant,
    /// The driver that decides about it; nothing where its record cannot be read.
    pub driver: Option<String>,
    /// `directory`, `tmpfs`, or the filesystem in its image or on its device.
    pub format: Option<String>,
    /// Its directory on the host, where it has one.
    pub mountpoint: Option<String>,
    /// The file that its filesystem is in, where it is in one.
    pub image: Option<String>,
    /// The device that its filesystem is on, where it is on one.
    pub device: Option<String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Its labels.
    #[serde(with = "pairs")]
    pub labels: Pairs,
    /// The options in force.
    #[serde(with = "pairs")]
    pub options: Pairs,
    /// What it takes of the disk, in bytes; nothing where that was not asked for or cannot be told.
    pub size: Option<u64>,
    /// The most bytes that it can hold, where its backing bounds it.
    pub limit: Option<u64>,
    /// The pod that it belongs to.
    pub pod: Option<Pod>,
    /// The volume of the pod in which it lies.
    pub storage: Option<VolumeName>,
    /// Who holds it.
    pub holders: Vec<Holding>,
    /// Distinguishes it from an earlier one of the same name.
    pub uuid: Option<String>,
    /// Its folder in the store, or that of the volume in which it lies.
    pub place: Option<String>,
}

/// Which volumes are to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// These.
    Named(Vec<VolumeRef>),
    /// A tenant's that belong to no pod.
    All {
        /// The tenant.
        tenant: Tenant,
        /// Of them those that are meant.
        filter: Filter,
    },
    /// Of these those that no container has had for so many days, as far as the history proves it.
    Unused {
        /// The tenant.
        tenant: Tenant,
        /// Of them those that are meant.
        filter: Filter,
        /// Days since the last container gave it back.
        days: u32,
    },
}

/// What would be removed, for somebody to agree to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The volumes.
    pub volumes: Vec<Removable>,
    /// Days that none of them may have been in use; judged anew when they go.
    pub unused_for: Option<u32>,
    /// Why others stay.
    pub failed: Vec<Failed>,
}

/// A volume that would be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removable {
    /// What it is called.
    pub name: VolumeRef,
    /// Distinguishes it from a later one of the same name, which stays.
    pub uuid: String,
    /// The driver that decides about it.
    pub driver: String,
    /// When it was created.
    pub created: Timestamp,
    /// Since when it is in nobody's use, and what is known of that.
    pub unused: Option<String>,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The volumes that are in the trash now.
    pub removed: Vec<VolumeRef>,
    /// Why others stay.
    pub failed: Vec<Failed>,
}

/// A removed volume that can be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trashed {
    /// What it was called.
    pub name: VolumeRef,
    /// Whose it was.
    pub tenant: Tenant,
    /// Its driver.
    pub driver: String,
    /// Distinguishes it from others of the same name.
    pub uuid: String,
    /// When it was removed.
    pub removed: Timestamp,
    /// Until when it is kept; nothing where the configuration that says how long is not usable.
    pub kept_until: Option<Timestamp>,
}

/// Asks for a removed volume back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// Its uuid, or its name: the newest of that name is meant.
    pub which: String,
    /// Whose it was, where the name does not say it.
    pub tenant: Tenant,
}

/// What was deleted of the trash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emptied {
    /// The volumes that are gone.
    pub deleted: Vec<VolumeRef>,
    /// Why others stay.
    pub failed: Vec<Failed>,
}

/// What somebody holds of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Whose end is that of the lease.
    #[serde(flatten)]
    pub holder: Holder,
    /// The container or command.
    pub container: ContainerId,
    /// `rw` or `ro`.
    pub access: String,
    /// With whom it shares it.
    pub sharing: Sharing,
    /// Where it has it.
    pub target: Option<Target>,
    /// Since when.
    pub since: Timestamp,
    /// Whether the lease stands.
    pub state: Standing,
    /// By what that is known.
    pub evidence: String,
}

/// What one kind of thing takes of the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// How many there are.
    pub total: usize,
    /// How many of them somebody holds.
    pub active: usize,
    /// Their bytes.
    pub size: u64,
    /// The bytes that removing everything that nobody holds would give back.
    pub reclaimable: u64,
}

/// The filesystem that everything is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Its size, in bytes.
    pub size: u64,
    /// What is free of it.
    pub free: u64,
    /// To what the volumes with a limit may grow together.
    pub promised: u64,
}

/// What everything takes of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The filesystem that it is on.
    pub filesystem: Room,
    /// Volumes that belong to no pod.
    pub volumes: Taken,
    /// Volumes that belong to pods.
    pub pods: Taken,
    /// Removed volumes.
    pub trash: Taken,
    /// The journal.
    pub journal: Taken,
    /// Installed plugins.
    pub plugins: Taken,
}
