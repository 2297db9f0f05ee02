//! What can go wrong in this crate, named after what was intended.

use crate::mountinfo::MountinfoError;
use crate::sys::SyscallError;
use std::io;
use std::path::PathBuf;
use volhook_core::names::NameError;

/// A failed intention of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number that cannot be a process id.
    #[error("{pid} is not a process id")]
    InvalidPid {
        /// The number as given.
        pid: i32,
    },
    /// The process does not exist, or ended meanwhile.
    #[error("process {pid} is gone")]
    ProcessGone {
        /// The process.
        pid: i32,
    },
    /// The process is in a mount namespace in which nothing may be mounted.
    #[error("process {pid} is in {whose} mount namespace, not in a container's own")]
    HostNamespace {
        /// The process.
        pid: i32,
        /// Whose namespace it is: `the hook's` or `the host's (pid 1's)`.
        whose: &'static str,
    },
    /// A file of a process in proc(5) cannot be read.
    #[error("cannot read {what} of process {pid}")]
    ReadProcess {
        /// The process.
        pid: i32,
        /// The file, relative to `/proc/PID`.
        what: &'static str,
        /// The failed call.
        source: SyscallError,
    },
    /// A file in proc(5) does not have the documented form.
    #[error("{file} has an unexpected form")]
    ProcForm {
        /// The file.
        file: String,
    },
    /// The mount table does not have the documented form.
    #[error("cannot make sense of the mount table")]
    Mountinfo {
        /// The line at fault.
        source: MountinfoError,
    },
    /// `/proc` belongs to another pid namespace, so its process ids mean other processes.
    #[error("/proc shows another pid namespace than the hook's own")]
    ForeignProc,
    /// A file that says which host and which boot this is cannot be read.
    #[error("cannot read {path}, which tells this host or boot from others")]
    ReadHost {
        /// The file.
        path: &'static str,
        /// Why not.
        source: SyscallError,
    },
    /// A root filesystem cannot be opened.
    #[error("cannot open the root filesystem {path:?}")]
    OpenRootfs {
        /// Its path in the namespace concerned.
        path: PathBuf,
        /// The failed call.
        source: SyscallError,
    },
    /// The top level of a root filesystem cannot be listed.
    #[error("cannot list the root filesystem {path:?}")]
    ListRootfs {
        /// Its path in the namespace concerned.
        path: PathBuf,
        /// Why not.
        source: SyscallError,
    },
    /// A target's symlinks loop, or pass a link that only the kernel can follow.
    #[error("target {target:?} is a symlink that loops or passes one of the kernel's links in /proc")]
    TargetLoops {
        /// The target.
        target: String,
    },
    /// A target passes a symlink that leads nowhere.
    #[error("target {target:?} cannot be made: {link:?} is a symlink that leads to nothing")]
    TargetDangles {
        /// The target.
        target: String,
        /// The symlink, as a path inside the root filesystem.
        link: String,
    },
    /// A target passes something that is not a directory.
    #[error("target {target:?} cannot be made: {at:?} is not a directory")]
    TargetNotBelowDirectory {
        /// The target.
        target: String,
        /// What is in the way, as a path inside the root filesystem.
        at: String,
    },
    /// A target's symlinks lead where no volume may be.
    #[error("target {target:?} leads to {path:?}, where no volume may be")]
    TargetForbidden {
        /// The target.
        target: String,
        /// Where it leads inside the root filesystem.
        path: String,
        /// The rule that it breaks.
        source: NameError,
    },
    /// Where a target really is cannot be said as text.
    #[error("target {target:?} leads to {path:?}, which is not a plain path inside the root filesystem")]
    TargetUnnameable {
        /// The target.
        target: String,
        /// What the kernel says.
        path: PathBuf,
    },
    /// A target cannot be resolved for another reason.
    #[error("cannot resolve target {target:?} in the container's root filesystem")]
    ResolveTarget {
        /// The target.
        target: String,
        /// The failed call.
        source: SyscallError,
    },
    /// A directory cannot be cloned as a mount.
    #[error("cannot make a mount of a volume's directory")]
    CloneDirectory {
        /// The failed call.
        source: SyscallError,
    },
    /// An image file does not exist.
    #[error("image {image:?} does not exist")]
    ImageMissing {
        /// The image.
        image: PathBuf,
    },
    /// An image file cannot be opened or examined.
    #[error("cannot open image {image:?}")]
    OpenImage {
        /// The image.
        image: PathBuf,
        /// The failed call.
        source: SyscallError,
    },
    /// An image is not a regular file.
    #[error("image {image:?} is not a regular file")]
    ImageNotFile {
        /// The image.
        image: PathBuf,
    },
    /// An image file is smaller than the volume's size.
    #[error("image {image:?} is truncated: {size} bytes, expected {expected}")]
    ImageTruncated {
        /// The image.
        image: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The size that it was made with, in bytes.
        expected: u64,
    },
    /// An image is locked: someone has it mounted, or is about to.
    #[error("image {image:?} is in use{}", device.as_deref().map(|d| format!(" through {d}")).unwrap_or_default())]
    ImageBusy {
        /// The image.
        image: PathBuf,
        /// The loop device that it is attached to, if one was found.
        device: Option<String>,
    },
    /// An image is attached to a loop device that volhook did not make.
    #[error("image {image:?} is already attached to {device}")]
    ImageAttached {
        /// The image.
        image: PathBuf,
        /// The loop device.
        device: String,
    },
    /// An image cannot be attached to a loop device, or the loop devices cannot be examined.
    #[error("cannot attach image {image:?} to a loop device")]
    LoopDevice {
        /// The image.
        image: PathBuf,
        /// The failed call.
        source: SyscallError,
    },
    /// The filesystem in an image cannot be mounted.
    #[error("cannot mount image {image:?} as {filesystem}{}", log_suffix(log))]
    MountImage {
        /// The image.
        image: PathBuf,
        /// The kernel's name of the filesystem.
        filesystem: &'static str,
        /// What the kernel said about it; may be empty.
        log: String,
        /// The failed call.
        source: SyscallError,
    },
    /// The filesystem in an image came up read-only.
    #[error("image {image:?} could only be mounted read-only: its filesystem may be damaged")]
    ImageReadOnly {
        /// The image.
        image: PathBuf,
    },
    /// What was mounted is not the image that was asked for.
    #[error("the mount of image {image:?} is not on {device}")]
    ImageElsewhere {
        /// The image.
        image: PathBuf,
        /// The loop device on which it should be.
        device: String,
    },
    /// The filesystem of an image cannot be made larger.
    #[error("cannot grow the {filesystem} filesystem of image {image:?}")]
    Grow {
        /// The image.
        image: PathBuf,
        /// The kernel's name of the filesystem.
        filesystem: &'static str,
        /// The failed call.
        source: SyscallError,
    },
    /// A volume cannot be mounted on the host.
    #[error("cannot mount on {directory:?}")]
    HostMount {
        /// Where.
        directory: PathBuf,
        /// The failed call.
        source: SyscallError,
    },
    /// A volume cannot be unmounted on the host.
    #[error("cannot unmount {directory:?}")]
    HostUnmount {
        /// Where.
        directory: PathBuf,
        /// The failed call.
        source: SyscallError,
    },
    /// The root directory of a new filesystem cannot be made as it should be.
    #[error("cannot prepare the root directory of image {image:?}")]
    PrepareImage {
        /// The image.
        image: PathBuf,
        /// The failed call.
        source: SyscallError,
    },
    /// A filesystem in memory cannot be made.
    #[error("cannot mount a tmpfs{}", log_suffix(log))]
    MountTmpfs {
        /// What the kernel said about it; may be empty.
        log: String,
        /// The failed call.
        source: SyscallError,
    },
    /// The directories for an overlay's changes cannot be made, opened or mapped.
    #[error("cannot prepare the directories for the changes over the root filesystem")]
    OverlayChanges {
        /// The failed call.
        source: SyscallError,
    },
    /// Another overlay has the same changes.
    #[error("the changes over the root filesystem are in use by another overlay")]
    OverlayBusy,
    /// An overlay, or whether there is one, cannot be examined.
    #[error("cannot examine an overlay")]
    ExamineOverlay {
        /// The failed call.
        source: SyscallError,
    },
    /// An overlay cannot be mounted.
    #[error("cannot lay an overlay over the root filesystem{}", log_suffix(log))]
    MountOverlay {
        /// What the kernel said about it; may be empty.
        log: String,
        /// The failed call.
        source: SyscallError,
    },
    /// An overlay came up read-only.
    #[error(
        "the overlay over the root filesystem came up read-only: the kernel cannot use its work directory{}",
        log_suffix(log)
    )]
    OverlayReadOnly {
        /// What the kernel said about it; may be empty.
        log: String,
    },
    /// There is no such device.
    #[error("device {device:?} does not exist")]
    DeviceMissing {
        /// The device.
        device: PathBuf,
    },
    /// A device cannot be opened or examined.
    #[error("cannot open device {device:?}")]
    OpenDevice {
        /// The device.
        device: PathBuf,
        /// The failed call.
        source: SyscallError,
    },
    /// What should be a device is something else.
    #[error("{device:?} is not a block device")]
    NotBlockDevice {
        /// Its path.
        device: PathBuf,
    },
    /// A device is mounted, a part of another one, or being looked at for too long.
    #[error("device {device:?} is in use{}", mounted_on.as_deref().map(|at| format!(": it is mounted on {at:?}")).unwrap_or_default())]
    DeviceBusy {
        /// The device.
        device: PathBuf,
        /// Where it is mounted on the host, if it is.
        mounted_on: Option<PathBuf>,
    },
    /// The filesystem on a device cannot be mounted.
    #[error("cannot mount device {device:?} as {filesystem}{}", log_suffix(log))]
    MountDevice {
        /// The device.
        device: PathBuf,
        /// The kernel's name of the filesystem.
        filesystem: &'static str,
        /// What the kernel said about it; may be empty.
        log: String,
        /// The failed call.
        source: SyscallError,
    },
    /// The filesystem on a device came up read-only.
    #[error("device {device:?} could only be mounted read-only: its filesystem may be damaged")]
    DeviceReadOnly {
        /// The device.
        device: PathBuf,
    },
    /// A directory of the host is not there.
    #[error("host path {path:?} does not exist")]
    HostPathMissing {
        /// The path.
        path: PathBuf,
    },
    /// A path of the host passes a symlink where containers may have put one.
    #[error("host path {path:?} passes a symlink below {granted:?}")]
    HostPathSymlink {
        /// The path.
        path: PathBuf,
        /// The directory that was granted.
        granted: PathBuf,
    },
    /// A path of the host is no directory.
    #[error("host path {path:?} is not a directory")]
    HostPathNotDirectory {
        /// The path.
        path: PathBuf,
    },
    /// A path of the host is volhook's own.
    #[error("host path {path:?} would show {kept:?}, which is volhook's own")]
    HostPathKept {
        /// The path.
        path: PathBuf,
        /// What of volhook's is in it, or has it in it.
        kept: PathBuf,
    },
    /// A path of the host cannot be opened.
    #[error("cannot open host path {path:?}")]
    OpenHostPath {
        /// The path.
        path: PathBuf,
        /// The failed call.
        source: SyscallError,
    },
    /// A sub-path of a volume passes a symlink.
    #[error("sub-path {path:?} of the volume passes a symlink")]
    SubPathSymlink {
        /// The sub-path.
        path: String,
    },
    /// A sub-path of a volume cannot be opened or made.
    #[error("cannot use sub-path {path:?} of the volume")]
    SubPath {
        /// The sub-path.
        path: String,
        /// The failed call.
        source: SyscallError,
    },
    /// An entry of a kind that cannot be made as a mount point.
    #[error("sub-path {path:?} of the volume is neither a directory nor a regular file")]
    SubPathKind {
        /// The sub-path.
        path: String,
    },
    /// The helper thread, which enters namespaces on the hook's behalf, cannot do its work.
    #[error("cannot run the helper thread")]
    Helper {
        /// Why not.
        source: io::Error,
    },
    /// A container's mount namespace cannot be entered.
    #[error("cannot enter the mount namespace of process {pid}")]
    EnterNamespace {
        /// The container's process.
        pid: i32,
        /// The failed call.
        source: SyscallError,
    },
    /// A container's user namespace does not map root, so there is nobody to own mount points.
    #[error("the user namespace of process {pid} does not map user and group 0")]
    RootNotMapped {
        /// The container's process.
        pid: i32,
    },
    /// A target lies on a mount that propagates: the volume would appear outside the container.
    #[error(
        "target {target:?} lies on the shared mount {parent:?}: the volume would propagate out of the container"
    )]
    SharedParent {
        /// The target.
        target: String,
        /// The mount's place in the container's namespace.
        parent: PathBuf,
    },
    /// A directory would have to cover a file or the other way round.
    #[error("{target:?} is a {there} in the container, but {what} is a {here}")]
    KindMismatch {
        /// The path in the container.
        target: String,
        /// What is there.
        there: &'static str,
        /// What is to be mounted: `the volume` or `the mount to be put back`.
        what: &'static str,
        /// What that is.
        here: &'static str,
    },
    /// A volume holds a symlink where a mount of the container has to stay on top of it.
    #[error(
        "the volume for {target:?} holds a symlink at {at:?}, where the container has a mount of its own"
    )]
    MountPointSymlink {
        /// The volume's target.
        target: String,
        /// The path inside the volume.
        at: PathBuf,
    },
    /// A mount point cannot be made.
    #[error("cannot make a mount point at {target:?}")]
    MakeMountPoint {
        /// The path in the container.
        target: String,
        /// The failed call.
        source: SyscallError,
    },
    /// The attributes of a volume's mount cannot be set.
    #[error("cannot prepare the volume for {target:?}{}", if *idmapped { " (with the container's id mapping)" } else { "" })]
    Prepare {
        /// The volume's target.
        target: String,
        /// Whether an id mapping was among the attributes.
        idmapped: bool,
        /// The failed call.
        source: SyscallError,
    },
    /// A volume whose files were mapped to a container's users, but not to this one's.
    #[error("the volume for {target:?} shows its files to the users of another user namespace")]
    OtherUsers {
        /// The volume's target.
        target: String,
    },
    /// A volume cannot be put at its target.
    #[error("cannot mount the volume at {target:?}")]
    Attach {
        /// The target.
        target: String,
        /// The failed call.
        source: SyscallError,
    },
    /// A mount of the container's own, below a target, cannot be put on top of the volume.
    #[error("cannot put the container's mount {nested:?} on top of the volume at {target:?}")]
    MoveNested {
        /// The volume's target.
        target: String,
        /// The mount's place in the container's namespace.
        nested: PathBuf,
        /// The failed call.
        source: SyscallError,
    },
    /// The mount table afterwards is not as intended.
    #[error("the mount for {target:?} is not as intended: {reason}")]
    NotInPlace {
        /// The volume's target.
        target: String,
        /// What is wrong.
        reason: String,
    },
    /// Injecting failed, and taking back what was done failed too.
    #[error("what was mounted before the failure could not be taken back ({undo})")]
    Undo {
        /// Why undoing failed.
        undo: String,
        /// Why injecting failed.
        source: Box<Error>,
    },
    /// The program that a container runs just before its process cannot be made.
    #[error("cannot make the program for the last step of the container's start")]
    StepProgram {
        /// The failed call.
        source: SyscallError,
    },
    /// A container's `/dev` is no filesystem of its own, so nothing of volhook's may be put there.
    #[error(
        "the container has no /dev of its own, where the program for the last step of its start could be"
    )]
    NoOwnDev,
    /// What does the last step cannot be left behind.
    #[error("cannot leave a process behind for the last step of the container's start")]
    LeaveBehind {
        /// Why not.
        source: io::Error,
    },
    /// A container that is not as the last step of its start needs it, or is not as it was meant to be afterwards.
    #[error("the pod's files cannot be the container's root: {reason}")]
    NotForRoot {
        /// What is wrong.
        reason: String,
    },
    /// One of the calls of the last step failed.
    #[error("the pod's files cannot be the container's root: cannot {intention}")]
    RootStep {
        /// What it was for.
        intention: String,
        /// The failed call.
        source: SyscallError,
    },
    /// A program cannot be run.
    #[error("cannot run {program:?}")]
    RunProgram {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// A program took too long and was killed.
    #[error("{program:?} was killed: it took longer than allowed")]
    ProgramDeadline {
        /// The program.
        program: String,
    },
}

/// What two logs of the kernel say about one thing.
pub(crate) fn join_logs(one: &str, other: &str) -> String {
    let said: Vec<&str> = [one, other].into_iter().filter(|log| !log.is_empty()).collect();
    said.join("; ")
}

fn log_suffix(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(" ({log})") }
}
