//! Trying the system calls that this crate needs, in a way that nobody notices.
//!
//! What is mounted here stays detached and is gone when this returns; where a call would need a place to mount
//! something at, it is given one that does not exist.

use crate::sys;
use crate::sys::SyscallError;
use rustix::fd::AsFd;
use rustix::fd::BorrowedFd;
use rustix::fd::OwnedFd;
use rustix::fs::MemfdFlags;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MoveMountFlags;
use std::path::Path;

/// How a system call went.
#[derive(Debug)]
pub struct Probe {
    /// Its name.
    pub call: &'static str,
    /// Whether it works for this process, and if not, what it said.
    pub result: Result<(), SyscallError>,
}

impl Probe {
    /// Whether the call was refused to this process. The kernel does so without CAP_SYS_ADMIN (capabilities(7)), filters of
    /// system calls (seccomp(2)) and security modules also with it.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        let denied = |error: &SyscallError| error.is(Errno::PERM) || error.is(Errno::ACCESS);
        self.result.as_ref().is_err_and(denied)
    }
}

/// Tries every call of the mount API that volumes need.
#[must_use]
pub fn mount_calls() -> Vec<Probe> {
    let root = sys::open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY);
    let root = match root {
        Ok(root) => root,
        Err(error) => return vec![Probe { call: "open", result: Err(error) }],
    };
    let openat2 = sys::openat2(root.as_fd(), Path::new("."), OFlags::PATH, ResolveFlags::IN_ROOT);
    let clone = sys::clone_mount(root.as_fd());
    let setattr = match &clone {
        Ok(mount) => sys::set_private_attributes(mount.as_fd(), MountAttrFlags::empty(), None),
        Err(_) => on_no_mount(),
    };
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| SyscallError::new("fsopen(\"tmpfs\")", errno));
    let mounted = context.as_ref().ok().map(|context| mount(context.as_fd()));
    let moved = nowhere(clone.as_ref().map_or(root.as_fd(), OwnedFd::as_fd));
    let mut probes = vec![
        Probe { call: "openat2", result: openat2.map(drop) },
        Probe { call: "open_tree", result: clone.map(drop) },
        Probe { call: "mount_setattr", result: setattr },
        Probe { call: "fsopen", result: context.map(drop) },
        Probe { call: "move_mount", result: moved },
    ];
    probes.extend(mounted.map(|result| Probe { call: "fsmount", result }));
    probes
}

/// mount_setattr(2) of what is no mount's root, and so cannot be changed: any other answer than that tells whether
/// the call is there and allowed.
fn on_no_mount() -> Result<(), SyscallError> {
    let file = rustix::fs::memfd_create("volhook", MemfdFlags::CLOEXEC)
        .map_err(|errno| SyscallError::new("memfd_create()", errno))?;
    match sys::set_private_attributes(file.as_fd(), MountAttrFlags::empty(), None) {
        Err(error) if error.is(Errno::INVAL) => Ok(()),
        other => other,
    }
}

/// fsconfig(2) and fsmount(2) of an empty tmpfs.
fn mount(context: BorrowedFd<'_>) -> Result<(), SyscallError> {
    rustix::mount::fsconfig_create(context)
        .map_err(|errno| SyscallError::new("fsconfig(tmpfs, FSCONFIG_CMD_CREATE)", errno))?;
    rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .map(drop)
        .map_err(|errno| SyscallError::new("fsmount(tmpfs)", errno))
}

/// move_mount(2) to a place below a file, where nothing can be.
fn nowhere(mount: BorrowedFd<'_>) -> Result<(), SyscallError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    match rustix::mount::move_mount(mount, "", rustix::fs::CWD, "/proc/self/status/nowhere", flags) {
        Ok(()) | Err(Errno::NOTDIR | Errno::NOENT) => Ok(()),
        Err(errno) => Err(SyscallError::new("move_mount()", errno)),
    }
}

/// Whether a device whose node is missing in `/dev` can be opened all the same: by the kernel's own folder of nodes.
///
/// # Errors
/// The system call that this host does not allow.
pub fn device_nodes() -> Result<(), SyscallError> {
    crate::loop_device::device_nodes().map(drop)
}

#[cfg(test)]
mod tests {
    use super::mount_calls;

    #[test]
    fn privileged_every_call_works_and_leaves_no_mount() {
        let table = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = |text: String| text.lines().filter(|line| line.contains("volhook")).count();
        let before = ours(table());
        for probe in mount_calls() {
            assert!(probe.result.is_ok(), "{probe:?}: this needs root");
        }
        assert_eq!(ours(table()), before);
    }
}
