//! What can be wrong with a plan: an invariant for each variant.

use crate::decision::Sharing;
use crate::names::AbsolutePath;
use crate::names::ContainerId;
use crate::names::Pod;
use crate::names::VolumeId;
use crate::names::VolumeName;

/// A broken invariant. `at` is where a mount is planned, inside the root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A volume has more than one lease.
    #[error("volume {volume:?} is leased twice")]
    LeasedTwice {
        /// The volume.
        volume: VolumeId,
    },
    /// A lease that no mount needs: it would keep others away for nothing.
    #[error("volume {volume:?} is leased and not mounted")]
    NotMounted {
        /// The volume.
        volume: VolumeId,
    },
    /// A tenant would get what is another's.
    #[error("volume {volume:?} is another tenant's")]
    OtherTenant {
        /// The volume.
        volume: VolumeId,
    },
    /// Nothing is known of a volume.
    #[error("volume {volume:?} is neither there nor to be created")]
    NotThere {
        /// The volume.
        volume: VolumeId,
    },
    /// The lease is on an earlier or later volume of the same name.
    #[error("volume {volume:?} is leased as {leased}, and is {found}")]
    OtherUuid {
        /// The volume.
        volume: VolumeId,
        /// The uuid of the lease.
        leased: String,
        /// The volume's uuid.
        found: String,
    },
    /// The lease names another driver than the volume has.
    #[error("volume {volume:?} is leased by driver {leased}, and has driver {found}")]
    OtherDriver {
        /// The volume.
        volume: VolumeId,
        /// The driver of the lease.
        leased: String,
        /// The volume's driver.
        found: String,
    },
    /// What proves the lease dead would be looked for in the wrong place.
    #[error("volume {volume:?} is leased as {}, which it is not", evidence(*leased))]
    OtherEvidence {
        /// The volume.
        volume: VolumeId,
        /// Whether the lease says that it is an image.
        leased: bool,
    },
    /// Two would hold a volume that do not go together.
    #[error("volume {volume:?} would have two incompatible holders, {holder:?} and the container")]
    Conflict {
        /// The volume.
        volume: VolumeId,
        /// Who holds it.
        holder: ContainerId,
    },
    /// The kernel lets a device have one holder.
    #[error("volume {volume:?} is a device, and its lease is {sharing}")]
    SharedDevice {
        /// The volume.
        volume: VolumeId,
        /// The lease's sharing.
        sharing: Sharing,
    },
    /// The kernel lets two overlays have the same changes, and breaks them.
    #[error("volume {volume:?} lies over an image, and its lease is {sharing}")]
    SharedOverlay {
        /// The volume.
        volume: VolumeId,
        /// The lease's sharing.
        sharing: Sharing,
    },
    /// The driver has said once and for all how the volume is shared.
    #[error("volume {volume:?} is always {said}, and its lease is {sharing}")]
    LooserThanSaid {
        /// The volume.
        volume: VolumeId,
        /// The lease's sharing.
        sharing: Sharing,
        /// The volume's.
        said: Sharing,
    },
    /// Something of the host that its operator has not granted.
    #[error("volume {volume:?} is {path:?} of the host, which is not granted")]
    NotGranted {
        /// The volume.
        volume: VolumeId,
        /// The directory or device.
        path: AbsolutePath,
    },
    /// A volume stands twice among those to be created.
    #[error("volume {volume:?} is created twice")]
    CreatedTwice {
        /// The volume.
        volume: VolumeId,
    },
    /// A volume is created without a lease on it.
    #[error("volume {volume:?} is created for nobody")]
    CreatedForNobody {
        /// The volume.
        volume: VolumeId,
    },
    /// A volume is created that is there.
    #[error("volume {volume:?} is created, and is there already")]
    CreatedAgain {
        /// The volume.
        volume: VolumeId,
    },
    /// A volume is created as one that an image's files may be copied into, and has no place for them.
    #[error("volume {volume:?} is created as due for an image's files, which it cannot have")]
    NeverDue {
        /// The volume.
        volume: VolumeId,
    },
    /// A volume is filled without a lease on it.
    #[error("volume {volume:?} is filled for nobody")]
    FilledForNobody {
        /// The volume.
        volume: VolumeId,
    },
    /// A volume is filled that has its content, or is no place for an image's files.
    #[error("volume {volume:?} is filled, and is not due for an image's files")]
    NotDue {
        /// The volume.
        volume: VolumeId,
    },
    /// A volume is filled while somebody has it.
    #[error("volume {volume:?} is filled while {holder:?} holds it")]
    FilledWhileHeld {
        /// The volume.
        volume: VolumeId,
        /// Who has it.
        holder: ContainerId,
    },
    /// A volume is filled with what the image has at another place.
    #[error("volume {volume:?} is filled from {from:?}, where it is not mounted")]
    FilledFromElsewhere {
        /// The volume.
        volume: VolumeId,
        /// The directory inside the root filesystem.
        from: String,
    },
    /// A container would see what was begun to be copied and not ended.
    #[error("volume {volume:?} is half filled, and would be seen so")]
    HalfFilled {
        /// The volume.
        volume: VolumeId,
    },
    /// A part is made without a lease on the storage.
    #[error("storage {storage:?} gets part {part:?} for nobody")]
    PartForNobody {
        /// The storage.
        storage: VolumeId,
        /// The part.
        part: VolumeName,
    },
    /// A part is made over what is there.
    #[error("storage {storage:?} gets part {part:?}, and has it already")]
    PartThere {
        /// The storage.
        storage: VolumeId,
        /// The part.
        part: VolumeName,
    },
    /// The image's files are copied where they are seen without it, or not wanted.
    #[error("storage {storage:?} gets a copy for part {part:?}, and is not populated so")]
    CopiedPart {
        /// The storage.
        storage: VolumeId,
        /// The part.
        part: VolumeName,
    },
    /// Parts are looked for in a volume that has none.
    #[error("volume {volume:?} is no storage, and part {part:?} is wanted of it")]
    NoStorage {
        /// The volume.
        volume: VolumeId,
        /// The part.
        part: VolumeName,
    },
    /// Two things would become of one storage that meets another image.
    #[error("storage {volume:?} begins anew or follows its image twice")]
    ChangedTwice {
        /// The storage.
        volume: VolumeId,
    },
    /// A storage would begin anew or follow an image that the container does not lease.
    #[error("storage {volume:?} begins anew or follows its image for nobody")]
    ChangedForNobody {
        /// The storage.
        volume: VolumeId,
    },
    /// A container's image would decide about another pod.
    #[error(
        "storage {volume:?} begins anew or follows its image in pod {pod:?}, which is not the container's"
    )]
    ChangedForAnother {
        /// The storage.
        volume: VolumeId,
        /// The pod.
        pod: Pod,
    },
    /// The image is the one that the storage belongs to.
    #[error("storage {volume:?} begins anew or follows its image, and that is the same")]
    SameImage {
        /// The storage.
        volume: VolumeId,
    },
    /// What would go to the trash is what takes its place.
    #[error("storage {volume:?} begins anew as itself")]
    NotAnew {
        /// The storage.
        volume: VolumeId,
    },
    /// What takes a storage's place is not the same storage of the same pod, empty, for the container's image.
    #[error("storage {volume:?} begins anew as another one")]
    AnewAsAnother {
        /// The storage.
        volume: VolumeId,
    },
    /// What somebody sees would go to the trash.
    #[error("storage {volume:?} begins anew while {:?} holds it", holder.as_str())]
    AnewWhileHeld {
        /// The storage.
        volume: VolumeId,
        /// The holder.
        holder: ContainerId,
    },
    /// A volume is mounted without a lease on it.
    #[error("volume {volume:?} is mounted without a lease")]
    NotLeased {
        /// The volume.
        volume: VolumeId,
    },
    /// A mount is writable, and the lease is not.
    #[error("volume {volume:?} is mounted on {at:?} with more access than leased")]
    MoreThanLeased {
        /// The volume.
        volume: VolumeId,
        /// The place.
        at: String,
    },
    /// A mount is writable, and the operator's grant is not.
    #[error("volume {volume:?} is mounted on {at:?} with more access than its operator grants")]
    MoreThanGranted {
        /// The volume.
        volume: VolumeId,
        /// The place.
        at: String,
    },
    /// A mount is shared otherwise than its lease.
    #[error("volume {volume:?} is mounted {mounted} on {at:?}, and its lease is {leased}")]
    OtherSharing {
        /// The volume.
        volume: VolumeId,
        /// The place.
        at: String,
        /// The mount's sharing.
        mounted: Sharing,
        /// The lease's.
        leased: Sharing,
    },
    /// What is mounted is not what holds the volume's data.
    #[error("what is mounted on {at:?} is not what holds volume {volume:?}")]
    OtherBacking {
        /// The volume.
        volume: VolumeId,
        /// The place.
        at: String,
    },
    /// A target that is not strictly inside the root filesystem, or in a tree of the kernel's.
    #[error("target {at:?} is outside of what a volume may cover")]
    Outside {
        /// The place.
        at: String,
    },
    /// The volume would stay behind on the host.
    #[error("target {at:?} propagates to the host")]
    Propagates {
        /// The place.
        at: String,
    },
    /// An earlier mount of the plan would be out of sight.
    #[error("target {at:?} would hide a mount made before it")]
    Hides {
        /// The place.
        at: String,
    },
    /// The runtime cannot mount this, or will not read the spec any more.
    #[error("target {at:?} cannot be mounted by the spec")]
    NotForSpec {
        /// The place.
        at: String,
    },
    /// Nobody looks any more at what is at a target.
    #[error("target {at:?} was not seen and will not be looked at")]
    NeverSeen {
        /// The place.
        at: String,
    },
    /// All of a pod's volumes, and what volhook keeps beside them.
    #[error("storage {volume:?} would be seen as a whole on {at:?}")]
    WholeStorage {
        /// The storage.
        volume: VolumeId,
        /// The place.
        at: String,
    },
    /// A part is mounted that the storage neither has nor gets.
    #[error("storage {storage:?} has no part {part:?}")]
    NoPart {
        /// The storage.
        storage: VolumeId,
        /// The part.
        part: VolumeName,
    },
    /// What is mounted is something else in the storage than the part.
    #[error("what is mounted on {at:?} is not in part {part:?} of storage {storage:?}")]
    OutsidePart {
        /// The storage.
        storage: VolumeId,
        /// The part.
        part: VolumeName,
        /// The place.
        at: String,
    },
    /// Changes would be seen without the image, or content as changes.
    #[error("volume {volume:?} is mounted on {at:?} as what it is not: changes to an image, or content")]
    OtherLayer {
        /// The volume.
        volume: VolumeId,
        /// The place.
        at: String,
    },
    /// Changes to one image would be laid over another.
    #[error("storage {volume:?} lies over the image of pod {pod:?}, which is not the container's")]
    OtherPod {
        /// The storage.
        volume: VolumeId,
        /// Its pod.
        pod: Pod,
    },
    /// The container would get a root that is not its own pod's.
    #[error("the container's root would be an overlay of which it has no folder, or several")]
    RootOfNobody,
    /// The container's root would be writable, and the lease is not.
    #[error("storage {volume:?} becomes the container's root, with more access than leased")]
    RootMoreThanLeased {
        /// The storage.
        volume: VolumeId,
    },
    /// A remark would be told to another tenant.
    #[error("a note is about volume {volume:?}, which is another tenant's")]
    OtherTenantsNote {
        /// The volume.
        volume: VolumeId,
    },
}

fn evidence(image: bool) -> &'static str {
    if image { "a filesystem image" } else { "something else than a filesystem image" }
}
