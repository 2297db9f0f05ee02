//! Block devices of the host as detached mounts, each for one container at a time.
//!
//! The kernel itself says whether a device is free: while a filesystem on it is mounted anywhere, or it is a part of
//! another device, it cannot be opened exclusively (`O_EXCL`, open(2)). That holds as long as any mount of it does,
//! whatever happens to the processes involved. A lock (flock(2)) on the device covers the instant in which it is looked
//! at and mounted; udev(7) keeps away while it is held.

use crate::error::Error;
use crate::mountinfo;
use crate::source::Detached;
use crate::source::is_on;
use crate::superblock;
use crate::superblock::Wanted;
use crate::sys;
use crate::sys::SyscallError;
use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use volhook_core::decision::Filesystem;
use volhook_locks::Held;
use volhook_locks::Lock;

/// How long the lock is waited for: udev or another start may look at the device.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Mounts the filesystem on a block device, which must not be in use.
///
/// Symlinks in `path` are followed: `/dev/vg0/lv` is one.
///
/// # Errors
/// [`Error::DeviceMissing`], [`Error::OpenDevice`], [`Error::NotBlockDevice`], [`Error::DeviceBusy`],
/// [`Error::MountDevice`], [`Error::DeviceReadOnly`].
pub fn mount_device(path: &Path, filesystem: Filesystem) -> Result<Detached, Error> {
    let device = open(path)?;
    let _held = lock(path, device.as_fd())?;
    if !is_unclaimed(path, device.as_fd())? {
        return Err(busy(path, device.as_fd()));
    }
    let opened = |source| Error::OpenDevice { device: path.to_owned(), source };
    let real = sys::fd_path(device.as_fd()).map_err(opened)?;
    let wanted = Wanted {
        kind: filesystem.as_str(),
        source: &real.to_string_lossy(),
        options: &superblock::options(filesystem, None),
        exclusive: true,
    };
    let failed = |log: String| {
        move |source| Error::MountDevice {
            device: path.to_owned(),
            filesystem: filesystem.as_str(),
            log,
            source,
        }
    };
    let mount = superblock::mount(&wanted).map_err(|error| {
        if error.source.is(Errno::BUSY) {
            busy(path, device.as_fd())
        } else {
            failed(error.log)(error.source)
        }
    })?;
    let number = sys::status(device.as_fd()).map_err(opened)?.stands_for;
    if !is_on(mount.as_fd(), number).map_err(failed(String::new()))? {
        let source =
            SyscallError::new(format!("fsmount of {real:?}: another device was mounted"), Errno::STALE);
        return Err(failed(String::new())(source));
    }
    let flags = rustix::fs::fstatvfs(&mount)
        .map_err(|errno| failed(String::new())(SyscallError::new("fstatvfs(the new mount)", errno)))?
        .f_flag;
    if flags.contains(StatVfsMountFlags::RDONLY) {
        return Err(Error::DeviceReadOnly { device: path.to_owned() });
    }
    Ok(Detached::new(mount))
}

/// Checks that there is such a block device, in use or not.
///
/// # Errors
/// [`Error::DeviceMissing`], [`Error::OpenDevice`], [`Error::NotBlockDevice`].
pub fn check_device(path: &Path) -> Result<(), Error> {
    open(path).map(drop)
}

/// Whether no mount of the device exists, and nothing else has it to itself. A device that is not there is free.
///
/// # Errors
/// [`Error::OpenDevice`], [`Error::NotBlockDevice`].
pub fn device_is_free(path: &Path) -> Result<bool, Error> {
    match open(path) {
        Ok(device) => is_unclaimed(path, device.as_fd()),
        Err(Error::DeviceMissing { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Opens the device without asking anything of it before it is known to be one.
fn open(path: &Path) -> Result<OwnedFd, Error> {
    let failed = |source: SyscallError| {
        if [Errno::NOENT, Errno::NXIO, Errno::NODEV].iter().any(|errno| source.is(*errno)) {
            Error::DeviceMissing { device: path.to_owned() }
        } else {
            Error::OpenDevice { device: path.to_owned(), source }
        }
    };
    let found = sys::open(path, OFlags::PATH).map_err(failed)?;
    if sys::status(found.as_fd()).map_err(failed)?.kind != FileType::BlockDevice {
        return Err(Error::NotBlockDevice { device: path.to_owned() });
    }
    again(found.as_fd(), OFlags::RDONLY).map_err(failed)
}

/// Opens what is open once more.
fn again(opened: BorrowedFd<'_>, flags: OFlags) -> sys::Result<OwnedFd> {
    sys::open(Path::new(&format!("/proc/thread-self/fd/{}", opened.as_raw_fd())), flags)
}

fn lock(path: &Path, device: BorrowedFd<'_>) -> Result<Held, Error> {
    let taken = volhook_locks::take(Lock::Image, device, Instant::now() + LOCK_PATIENCE);
    let taken = taken.map_err(|errno| {
        let source = SyscallError::new(format!("flock({path:?}, LOCK_EX | LOCK_NB)"), errno);
        Error::OpenDevice { device: path.to_owned(), source }
    })?;
    taken.ok_or_else(|| busy(path, device))
}

fn is_unclaimed(path: &Path, device: BorrowedFd<'_>) -> Result<bool, Error> {
    // For reading: closing one that was open for writing makes udev look at the device.
    match again(device, OFlags::RDONLY | OFlags::EXCL) {
        Ok(_) => Ok(true),
        Err(error) if error.is(Errno::BUSY) => Ok(false),
        Err(source) => Err(Error::OpenDevice { device: path.to_owned(), source }),
    }
}

/// The error that says where the device is mounted on the host, if it is there.
fn busy(path: &Path, device: BorrowedFd<'_>) -> Error {
    let number = sys::status(device).map(|status| status.stands_for).ok();
    let real = sys::fd_path(device).ok();
    let mounts =
        sys::read("/proc/thread-self/mountinfo").ok().and_then(|table| mountinfo::parse(&table).ok());
    let here = mounts.into_iter().flatten().find(|mount| {
        Some(mount.device) == number
            || real.as_ref().is_some_and(|real| Path::new(&mount.source) == real.as_path())
    });
    Error::DeviceBusy { device: path.to_owned(), mounted_on: here.map(|mount| mount.mount_point) }
}
