//! Making a filesystem's superblock and a detached mount of it, with fsopen(2) and its kin.

use crate::sys::SyscallError;
use rustix::io::Errno;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use volhook_core::decision::Filesystem;

/// A filesystem as the kernel is asked for it.
pub(crate) struct Wanted<'a> {
    /// The kernel's name for it.
    pub(crate) kind: &'a str,
    /// The device that it is on; none for one in memory.
    pub(crate) source: &'a str,
    /// Its mount options.
    pub(crate) options: &'a [MountOption],
    /// Whether it must not be mounted anywhere yet.
    pub(crate) exclusive: bool,
}

/// A failed call, and what the kernel said about it.
pub(crate) struct Failed {
    pub(crate) source: SyscallError,
    /// One line; may be empty.
    pub(crate) log: String,
}

/// A mount option: a name, and a value unless it is a flag.
pub(crate) type MountOption = (&'static str, Option<String>);

/// The options with which volhook mounts a filesystem on a block device. `discard` says whether what is deleted is
/// given back to the device; without a word the filesystem decides.
pub(crate) fn options(filesystem: Filesystem, discard: Option<bool>) -> Vec<MountOption> {
    let discard = discard.map(|discard| (if discard { "discard" } else { "nodiscard" }, None));
    // A copy of a volume has its uuid. That the same image is not mounted twice is guarded by more than that.
    let nouuid = (filesystem == Filesystem::Xfs).then_some(("nouuid", None));
    discard.into_iter().chain(nouuid).collect()
}

/// Mounts it, attached nowhere.
pub(crate) fn mount(wanted: &Wanted<'_>) -> Result<OwnedFd, Failed> {
    let Wanted { kind, source, .. } = *wanted;
    let failed =
        |call: String, log: String| move |errno| Failed { source: SyscallError::new(call, errno), log };
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(failed(format!("fsopen({kind:?})"), String::new()))?;
    rustix::mount::fsconfig_set_string(&context, "source", source)
        .map_err(failed(format!("fsconfig(SET_STRING, \"source\", {source:?})"), String::new()))?;
    for (name, value) in wanted.options {
        let (set, call) = match value {
            Some(value) => (
                rustix::mount::fsconfig_set_string(&context, *name, value),
                format!("fsconfig(SET_STRING, {name:?}, {value:?})"),
            ),
            None => {
                (rustix::mount::fsconfig_set_flag(&context, *name), format!("fsconfig(SET_FLAG, {name:?})"))
            }
        };
        if let Err(errno) = set {
            return Err(failed(call, log(context.as_fd()))(errno));
        }
    }
    let created = if wanted.exclusive {
        match rustix::mount::fsconfig_create_exclusive(&context) {
            // Before Linux 6.6 there is no such command; other guards have to do then.
            Err(Errno::OPNOTSUPP) => rustix::mount::fsconfig_create(&context),
            result => result,
        }
    } else {
        rustix::mount::fsconfig_create(&context)
    };
    if let Err(errno) = created {
        let call = format!("fsconfig(CREATE) of {kind:?} on {source:?}");
        return Err(failed(call, log(context.as_fd()))(errno));
    }
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .map_err(failed(format!("fsmount of {kind:?} on {source:?}"), String::new()))
}

/// What the kernel has to say about a filesystem context, one line.
fn log(context: BorrowedFd<'_>) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0_u8; 1024];
    while let Ok(length) = rustix::io::read(context, &mut buffer) {
        let line = String::from_utf8_lossy(&buffer[..length]);
        // Each message starts with its kind: `e `, `w ` or `i `.
        lines.push(line.get(2..).unwrap_or_default().trim().to_owned());
    }
    lines.join("; ")
}
