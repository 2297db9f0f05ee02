//! Giving the filesystem of an image another size through the kernel, while it is mounted.

use crate::error::Error;
use crate::source;
use crate::source::Detached;
use crate::sys;
use crate::sys::SyscallError;
use rustix::fs::OFlags;
use std::ffi::c_void;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use volhook_core::decision::Filesystem;

/// `_IOW('f', 16, __u64)` of linux/ext4.h.
const EXT4_IOC_RESIZE_FS: u32 = 0x4008_6610;
/// `_IOR('X', 100, struct xfs_fsop_geom_v1)` of xfsprogs' xfs_fs.h.
const XFS_IOC_FSGEOMETRY_V1: u32 = 0x8070_5864;
/// `_IOW('X', 110, struct xfs_growfs_data)` of the same.
const XFS_IOC_FSGROWFSDATA: u32 = 0x4010_586e;
/// `_IOW(0x94, 3, struct btrfs_ioctl_vol_args)` of linux/btrfs.h.
const BTRFS_IOC_RESIZE: u32 = 0x5000_9403;

/// `struct xfs_fsop_geom_v1` of xfs_fs.h.
#[repr(C)]
#[derive(Default)]
struct XfsGeometry {
    block_size: u32,
    before: [u32; 6],
    /// The most space that inodes may take, in percent.
    inode_percent: u32,
    after: [u64; 10],
}

/// `struct xfs_growfs_data` of xfs_fs.h.
#[repr(C)]
struct XfsGrow {
    blocks: u64,
    inode_percent: u32,
}

/// `struct btrfs_ioctl_vol_args` of linux/btrfs.h.
#[repr(C)]
struct BtrfsArguments {
    fd: i64,
    name: [u8; 4088],
}

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
    let file = source::open_image(image, OFlags::RDONLY)?;
    let size = sys::newest_status(file.as_fd()).map_err(failed)?.size;
    let root = root(&mount).map_err(failed)?;
    match filesystem {
        Filesystem::Ext4 => grow_ext4(root.as_fd(), size),
        Filesystem::Xfs => grow_xfs(root.as_fd(), size),
        Filesystem::Btrfs => resize_btrfs(root.as_fd(), "max"),
    }
    .map_err(failed)
}

/// Makes the btrfs in `image`, which nobody has mounted, `size` bytes large. The file stays as it is.
///
/// # Errors
/// Those of [`mount_image`](source::mount_image), and [`Error::Grow`], with `ENOSPC` when its content needs more.
pub fn shrink_btrfs(image: &Path, size: u64) -> Result<(), Error> {
    let (_device, mount) = source::mount_anew(image, Filesystem::Btrfs)?;
    let resized = root(&mount).and_then(|root| resize_btrfs(root.as_fd(), &size.to_string()));
    resized.map_err(|source| Error::Grow { image: image.to_owned(), filesystem: "btrfs", source })
}

fn root(mount: &Detached) -> sys::Result<OwnedFd> {
    sys::openat(mount.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY)
}

fn block_size(root: BorrowedFd<'_>) -> sys::Result<u64> {
    let stat = rustix::fs::fstatvfs(root)
        .map_err(|errno| SyscallError::new("fstatvfs(the mounted image)", errno))?;
    Ok(stat.f_frsize)
}

fn grow_ext4(root: BorrowedFd<'_>, size: u64) -> sys::Result<()> {
    let mut blocks = size / block_size(root)?;
    ask(root, EXT4_IOC_RESIZE_FS, &mut blocks, "EXT4_IOC_RESIZE_FS")
}

fn grow_xfs(root: BorrowedFd<'_>, size: u64) -> sys::Result<()> {
    let mut geometry = XfsGeometry::default();
    ask(root, XFS_IOC_FSGEOMETRY_V1, &mut geometry, "XFS_IOC_FSGEOMETRY_V1")?;
    let blocks = size / u64::from(geometry.block_size.max(1));
    let mut grow = XfsGrow { blocks, inode_percent: geometry.inode_percent };
    ask(root, XFS_IOC_FSGROWFSDATA, &mut grow, "XFS_IOC_FSGROWFSDATA")
}

/// `to` is a size in bytes, or `max` for that of the device.
fn resize_btrfs(root: BorrowedFd<'_>, to: &str) -> sys::Result<()> {
    let mut arguments = BtrfsArguments { fd: 0, name: [0; 4088] };
    arguments.name[..to.len()].copy_from_slice(to.as_bytes());
    ask(root, BTRFS_IOC_RESIZE, &mut arguments, &format!("BTRFS_IOC_RESIZE, {to}"))
}

/// Calls an ioctl whose argument is a structure of the size that its number says.
#[expect(unsafe_code, reason = "no library has the resizing ioctls of filesystems")]
fn ask<T>(root: BorrowedFd<'_>, number: u32, argument: &mut T, call: &str) -> sys::Result<()> {
    // _IOC_SIZE of asm-generic/ioctl.h: what the kernel reads and writes.
    assert_eq!((number >> 16) & 0x3fff, u32::try_from(size_of::<T>()).unwrap_or(u32::MAX), "{call}");
    let argument: *mut c_void = std::ptr::from_mut(argument).cast();
    // SAFETY: the kernel accesses as many bytes as the structure has, which was just checked, only during the call; its
    // fields are integers, of which every bit pattern is a value. The descriptor is borrowed, so it stays open.
    let result = unsafe { libc::ioctl(root.as_raw_fd(), number as _, argument) };
    if result < 0 {
        return Err(SyscallError::new(format!("ioctl(the mounted image, {call})"), sys::last_errno()));
    }
    Ok(())
}
