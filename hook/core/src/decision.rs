//! What a plugin is asked and what it answers, in volhook's own words.
//!
//! These are the latest forms: `hook/plugin-host` converts whatever WIT version a plugin was built for to
//! and from these types at its edge, so nothing else ever sees generated types. The interface itself is
//! documented in `wit/`.

use crate::names::AbsolutePath;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;

/// Names and values in the order in which they were given; a name stands at most once.
pub type Pairs = Vec<(String, String)>;

/// `pairs` with the last of each name only, as docker takes what is said twice.
#[must_use]
pub fn last_of_each(pairs: &Pairs) -> Pairs {
    let again = |index: usize, name: &str| pairs[index + 1..].iter().any(|(other, _)| other == name);
    pairs
        .iter()
        .enumerate()
        .filter(|(index, (name, _))| !again(*index, name))
        .map(|(_, pair)| pair.clone())
        .collect()
}

/// What a plugin is for: the hook point that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginKind {
    /// Decides how a volume is backed and who may hold it.
    Driver,
    /// Decides which volumes a container gets without asking.
    Policy,
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Driver => "driver",
            Self::Policy => "policy",
        })
    }
}

/// A plugin's description of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginInfo {
    /// The name under which claims refer to it.
    pub name: String,
    /// One sentence for people.
    pub about: String,
    /// The options that a claim may give for a driver's volume; none for a policy.
    #[serde(default)]
    pub options: Vec<OptionInfo>,
    /// The settings that it understands.
    #[serde(default)]
    pub settings: Vec<OptionInfo>,
}

/// One option or setting that a plugin understands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionInfo {
    /// Its key.
    pub name: String,
    /// What values it takes.
    pub kind: OptionKind,
    /// The value used when it is not given.
    pub default: Option<String>,
    /// One sentence for people.
    pub about: String,
}

/// The type of an option's value. The host checks values before it asks the plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptionKind {
    /// Any text.
    Text,
    /// A whole number.
    Integer,
    /// An amount of storage, such as `10G` ([`crate::size`]).
    Size,
    /// `true` or `false`.
    Boolean,
    /// One of a list.
    Choice(Vec<String>),
    /// Texts with keys of their own: each is an option `NAME.KEY`.
    Table,
}

/// Who asks: the container in which a volume is to appear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// The runtime's id for it; empty while it is not known yet.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// The pod that it belongs to, if any.
    pub pod: Option<String>,
}

/// What a tenant already uses, for drivers that ration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Number of volumes.
    pub volumes: u64,
    /// Sum of their limits in bytes; volumes without a limit count as 0.
    pub bytes: u64,
    /// The same of those alone that share a label with the new volume: one entry for each of its labels.
    #[serde(default)]
    pub labels: Vec<LabelUsage>,
}

/// What those volumes of a tenant use that have a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelUsage {
    /// The label.
    pub label: (String, String),
    /// Number of volumes.
    pub volumes: u64,
    /// Sum of their limits in bytes; volumes without a limit count as 0.
    pub bytes: u64,
}

/// Asks a driver how to back a volume that does not exist yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateRequest {
    /// The volume's name.
    pub volume: String,
    /// Whose it will be.
    pub tenant: String,
    /// The pod that it will belong to, if any.
    pub pod: Option<String>,
    /// The claim's options for this driver; names and types are checked already.
    pub options: Pairs,
    /// The claim's labels.
    pub labels: Pairs,
    /// The operator's settings, `[plugins.NAME]` of the configuration.
    pub settings: Pairs,
    /// What the tenant already uses.
    pub usage: Usage,
}

/// A driver's answer to [`CreateRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creation {
    /// What the host is to build.
    pub backing: Backing,
    /// The options in force, defaults filled in; recorded with the volume.
    pub options: Pairs,
    /// The most bytes that the volume can hold, where the backing bounds it.
    pub limit: Option<u64>,
    /// With whom every lease may coexist, where that depends on nothing that `attach` is told: then the driver
    /// is not asked any more.
    pub sharing: Option<Sharing>,
    /// Remarks for the operator.
    pub notes: Vec<String>,
}

/// What the host builds for a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backing {
    /// A directory `data/` in the volume's folder.
    Directory(Directory),
    /// A filesystem image `volume.img` in the volume's folder.
    Image(Image),
    /// Memory: an empty filesystem for each container, gone with it.
    Tmpfs(Tmpfs),
    /// A directory of the host, which its operator has granted.
    HostPath(HostPath),
    /// A filesystem on a block device of the host, which its operator has granted.
    Device(Device),
}

impl Backing {
    /// Whether it is a whole directory of the store, which a runtime can find by its path.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }
}

/// A directory backing, or the root directory of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Permission bits of the root directory (the lower 12 bits).
    pub mode: u32,
    /// Owner of the root directory.
    pub uid: u32,
    /// Group of the root directory.
    pub gid: u32,
}

impl Default for Directory {
    /// What mkfs(8) makes of a root directory: mode 0755, root's.
    fn default() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0 }
    }
}

/// A filesystem image backing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Size of the image file in bytes.
    pub size: u64,
    /// The filesystem made in it.
    pub filesystem: Filesystem,
    /// Its root directory.
    #[serde(default)]
    pub root: Directory,
    /// How the filesystem is made, beyond what volhook settles itself ([`crate::mkfs`]).
    #[serde(default)]
    pub mkfs: Pairs,
    /// Whether what is deleted in it is given back to the filesystem that the image lies on.
    #[serde(default)]
    pub discard: bool,
    /// Whether all its bytes are taken from that filesystem at the creation; it is sparse otherwise.
    #[serde(default)]
    pub preallocated: bool,
}

impl Image {
    /// A sparse image, its root directory root's, that keeps what was written once.
    #[must_use]
    pub fn new(size: u64, filesystem: Filesystem) -> Self {
        let (root, mkfs) = (Directory::default(), Pairs::new());
        Self { size, filesystem, root, mkfs, discard: false, preallocated: false }
    }
}

/// Filesystems that the host can make and mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filesystem {
    /// ext4, made by e2fsprogs.
    Ext4,
    /// XFS, made by xfsprogs.
    Xfs,
    /// btrfs, made by btrfs-progs.
    Btrfs,
}

impl Filesystem {
    /// The kernel's name for it, as in `/proc/filesystems`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

/// A tmpfs(5) backing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// The most bytes that one container can put into it; the kernel's default, half of the memory, when `None`.
    pub size: Option<u64>,
    /// The most files, directories and links; the kernel's default when `None`.
    pub inodes: Option<u64>,
    /// Its root directory.
    pub root: Directory,
}

/// A directory of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPath {
    /// Where it is.
    pub path: AbsolutePath,
}

/// A block device of the host with a filesystem on it, which volhook never makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where it is.
    pub path: AbsolutePath,
    /// What is on it.
    pub filesystem: Filesystem,
}

/// Whether a container may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// The mount is read-only.
    ReadOnly,
    /// The mount is writable.
    ReadWrite,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "ro",
            Self::ReadWrite => "rw",
        })
    }
}

/// With whom a lease may coexist; a stricter one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// Any number of holders.
    Shared,
    /// Any number of readers beside one writer.
    SingleWriter,
    /// One holder.
    Exclusive,
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "shared",
            Self::SingleWriter => "single-writer",
            Self::Exclusive => "exclusive",
        })
    }
}

/// Someone who holds the volume now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderInfo {
    /// The holder's container id.
    pub container: String,
    /// Whether it may write.
    pub access: Access,
    /// With whom it shares.
    pub sharing: Sharing,
}

/// Asks a driver whether and how a container may hold a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    /// The volume's name.
    pub volume: String,
    /// The volume's options, as recorded at its creation.
    pub options: Pairs,
    /// The volume's labels.
    pub labels: Pairs,
    /// Who asks.
    pub container: ContainerInfo,
    /// Who holds it already.
    pub holders: Vec<HolderInfo>,
    /// The access that the claim asks for.
    pub access: Access,
    /// The operator's settings, `[plugins.NAME]` of the configuration.
    pub settings: Pairs,
}

/// A driver's answer to [`AttachRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The access granted; never more than was asked.
    pub access: Access,
    /// With whom the lease may coexist.
    pub sharing: Sharing,
    /// Restrictions of the mount.
    pub flags: MountFlags,
    /// Remarks for the operator.
    pub notes: Vec<String>,
}

/// Per-mount restrictions, as in mount(8). None is set unless someone asks for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountFlags {
    /// Set-user-id bits have no effect.
    pub nosuid: bool,
    /// Device files cannot be opened.
    pub nodev: bool,
    /// Programs cannot be executed.
    pub noexec: bool,
}

/// A plugin's decision against: not a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why, one line.
    pub reason: String,
    /// What a person can do about it.
    pub hint: Option<String>,
}

/// Asks a policy which volumes a container gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimsRequest {
    /// Who asks.
    pub container: ContainerInfo,
    /// The top level of its root filesystem.
    pub rootfs: Vec<RootEntry>,
    /// The settings in force: the configuration's, overridden by the annotation's.
    pub settings: Pairs,
    /// The storage that the container's pod has already.
    pub pod: Option<PodState>,
    /// Why changes cannot be laid over this root filesystem; `None` where they can, and where the pod has its
    /// storage already.
    pub no_overlay: Option<String>,
}

/// How the volumes in a pod's storage come by what the image has at their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Population {
    /// The image's files are seen through the pod's changes (overlayfs).
    Overlay,
    /// They are copied when a volume is new.
    Copy,
    /// Not at all: new volumes are empty.
    Empty,
}

impl fmt::Display for Population {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overlay => "overlay",
            Self::Copy => "copy",
            Self::Empty => "empty",
        })
    }
}

/// Whether a container's image is the one that its pod's storage was made from, or was last brought up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageState {
    /// It is, as far as the files show that tell images apart.
    Same,
    /// It is another one.
    Changed,
    /// Nothing tells.
    Unknown,
}

/// A pod's storage as it is, for its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodState {
    /// How its volumes are populated.
    pub population: Population,
    /// The container's image beside that of the storage.
    pub image: ImageState,
    /// Whether the list of installed packages in the pod is its own, no more the image's.
    pub installed: bool,
}

/// An entry at the top level of a container's root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootEntry {
    /// Its name, without a slash.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
}

/// The type of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// Anything else.
    Other,
}

/// A claim that a policy makes for a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyClaim {
    /// The full name of the volume.
    pub volume: String,
    /// Which of the pod's volumes this is, such as `etc`.
    pub member: String,
    /// Where it appears in the container.
    pub target: String,
    /// The driver for a new volume; volhook's default when `None`.
    pub driver: Option<String>,
    /// Options for a new volume.
    pub options: Pairs,
    /// Labels for a new volume.
    pub labels: Pairs,
    /// The access wanted.
    pub access: Access,
    /// The part of the volume that is to appear.
    pub subpath: Option<String>,
    /// Whether the volume stays empty where the image has content at the target.
    pub no_copy: bool,
}

/// The volume that a policy wants to hold all volumes of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageClaim {
    /// Its full name.
    pub volume: String,
    /// The driver, when it has to be created; volhook's default when `None`.
    pub driver: Option<String>,
    /// Options for a new one.
    pub options: Pairs,
    /// Labels for a new one.
    pub labels: Pairs,
    /// How the volumes in a new one are populated.
    pub population: Population,
    /// Whether everything in it is to be thrown away first.
    pub renew: bool,
}

/// A policy's answer to [`ClaimsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyGrant {
    /// What holds the claimed volumes; each is a volume of its own when `None`.
    pub storage: Option<StorageClaim>,
    /// The volumes.
    pub claims: Vec<PolicyClaim>,
    /// Remarks for the operator.
    pub notes: Vec<String>,
}
