//! Which devices a mounted btrfs is on: unlike that of other filesystems, its `st_dev` does not say it.

use crate::sys;
use crate::sys::SyscallError;
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `BTRFS_IOC_FS_INFO` and `BTRFS_IOC_DEV_INFO` of linux/btrfs.h.
const BTRFS_IOC_FS_INFO: u32 = 0x8400_941f;
const BTRFS_IOC_DEV_INFO: u32 = 0xd000_941e;

/// `BTRFS_SUPER_MAGIC` of linux/magic.h.
const MAGIC: u64 = 0x9123_683e;

/// The most devices that are looked at.
const MAX_DEVICES: u64 = 64;

/// `struct btrfs_ioctl_fs_info_args` of linux/btrfs.h.
#[repr(C)]
struct FsInfo {
    max_id: u64,
    rest: [u64; 127],
}

/// `struct btrfs_ioctl_dev_info_args` of linux/btrfs.h.
#[repr(C)]
struct DeviceInfo {
    devid: u64,
    rest: [u64; 383],
    path: [u8; 1024],
}

/// Whether what is `opened` lies on a btrfs.
pub(crate) fn is_it(opened: BorrowedFd<'_>) -> sys::Result<bool> {
    match rustix::fs::fstatfs(opened) {
        Ok(stat) => Ok(u64::try_from(stat.f_type) == Ok(MAGIC)),
        Err(errno) => Err(SyscallError::new("fstatfs", errno)),
    }
}

/// Whether `device`, as (major, minor), is one of those of the btrfs that `mount` shows.
pub(crate) fn is_on(mount: BorrowedFd<'_>, device: (u32, u32)) -> sys::Result<bool> {
    let root = sys::openat(mount, ".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    for id in 1..=last_device(&root)?.min(MAX_DEVICES) {
        let Some(path) = device_path(&root, id)? else { continue };
        let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
        let path = Path::new(OsStr::from_bytes(&path[..end]));
        let opened = sys::open(path, OFlags::PATH)?;
        if sys::status(opened.as_fd())?.stands_for == device {
            return Ok(true);
        }
    }
    Ok(false)
}

#[expect(unsafe_code, reason = "no library has the ioctls of btrfs")]
fn last_device(root: &OwnedFd) -> sys::Result<u64> {
    let mut info = FsInfo { max_id: 0, rest: [0; 127] };
    // SAFETY: `info` has the size and layout of the structure that this ioctl fills during the call; every bit
    // pattern is a value of its integer fields.
    let result = unsafe { libc::ioctl(root.as_raw_fd(), BTRFS_IOC_FS_INFO as _, &raw mut info) };
    if result < 0 {
        return Err(SyscallError::new("ioctl(a btrfs, BTRFS_IOC_FS_INFO)", sys::last_errno()));
    }
    Ok(info.max_id)
}

/// The path of one device; `None` when there is none of that number.
#[expect(unsafe_code, reason = "no library has the ioctls of btrfs")]
fn device_path(root: &OwnedFd, devid: u64) -> sys::Result<Option<[u8; 1024]>> {
    let mut info = DeviceInfo { devid, rest: [0; 383], path: [0; 1024] };
    // SAFETY: `info` has the size and layout of the structure that this ioctl reads and fills during the call; every
    // bit pattern is a value of its integer fields.
    let result = unsafe { libc::ioctl(root.as_raw_fd(), BTRFS_IOC_DEV_INFO as _, &raw mut info) };
    if result == 0 {
        return Ok(Some(info.path));
    }
    match sys::last_errno() {
        rustix::io::Errno::NODEV => Ok(None),
        errno => Err(SyscallError::new(format!("ioctl(a btrfs, BTRFS_IOC_DEV_INFO, {devid})"), errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceInfo;
    use super::FsInfo;

    #[test]
    fn the_structures_have_the_kernel_s_sizes() {
        assert_eq!(size_of::<FsInfo>(), 1024);
        assert_eq!(size_of::<DeviceInfo>(), 4096);
    }
}
