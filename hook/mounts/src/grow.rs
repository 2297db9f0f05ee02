//! Making the filesystem of an image larger, whether containers have it mounted or not.

use crate::error::Error;
use crate::source;
use crate::sys;
use crate::sys::SyscallError;
use rustix::fs::OFlags;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::path::Path;
use volhook_core::decision::Filesystem;

/// `_IOW('f', 16, __u64)` of linux/ext4.h.
const EXT4_IOC_RESIZE_FS: u32 = 0x4008_6610;

/// Makes the filesystem in `image` as large as the file, which was extended before.
///
/// Where containers have the image mounted, it grows under them: their loop device and superblock are used. Otherwise it
/// is mounted for this moment, attached nowhere.
///
/// # Errors
/// Those of [`mount_image`](source::mount_image) for shared use, and [`Error::Grow`].
pub fn grow_image(image: &Path, filesystem: Filesystem) -> Result<(), Error> {
    let (device, mount) = source::mount_anew(image, filesystem)?;
    let failed = |source| Error::Grow { image: image.to_owned(), filesystem: filesystem.as_str(), source };
    device.take_capacity().map_err(failed)?;
    let status = source::open_image(image, OFlags::RDONLY)?;
    let size = sys::status(status.as_fd()).map_err(failed)?.size;
    let root = sys::openat(mount.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
    match filesystem {
        Filesystem::Ext4 => grow_ext4(root.as_fd(), size).map_err(failed),
    }
}

#[expect(unsafe_code, reason = "no library has the ioctls of ext4")]
fn grow_ext4(root: BorrowedFd<'_>, size: u64) -> sys::Result<()> {
    let block = rustix::fs::fstatvfs(root)
        .map_err(|errno| SyscallError::new("fstatvfs(the mounted image)", errno))?
        .f_frsize;
    let blocks: u64 = size / block;
    // SAFETY: this ioctl reads one 64-bit number during the call; the descriptor is borrowed, so it stays open meanwhile.
    let result = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_RESIZE_FS as _, &raw const blocks) };
    if result < 0 {
        let call = format!("ioctl(the mounted image, EXT4_IOC_RESIZE_FS, {blocks} blocks of {block} bytes)");
        return Err(SyscallError::new(call, sys::last_errno()));
    }
    Ok(())
}
