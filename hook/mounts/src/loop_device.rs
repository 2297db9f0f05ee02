//! Loop devices (loop(4)): finding those that a file is attached to, and attaching one.

use crate::recognize::recognize;
use crate::superblock;
use crate::superblock::Wanted;
use crate::sys;
use crate::sys::Status;
use crate::sys::SyscallError;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

const LOOP_GET_STATUS64: u32 = 0x4C05;
const LOOP_SET_CAPACITY: u32 = 0x4C07;
const LOOP_CONFIGURE: u32 = 0x4C0A;
const LOOP_CTL_GET_FREE: u32 = 0x4C82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// The logical block size of our loop devices, in bytes: that of the filesystems made for them, and what direct
/// I/O is aligned to. A filesystem with smaller blocks, made elsewhere, needs a device with such.
const BLOCK_SIZE: u32 = 4096;

/// How often another free device is tried when someone else was faster, and how long to wait between.
const ATTACH_ATTEMPTS: u32 = 200;
const ATTACH_PAUSE: Duration = Duration::from_millis(1);

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo64 {
    lo_device: u64,
    lo_inode: u64,
    lo_rdevice: u64,
    lo_offset: u64,
    lo_sizelimit: u64,
    lo_number: u32,
    lo_encrypt_type: u32,
    lo_encrypt_key_size: u32,
    lo_flags: u32,
    lo_file_name: [u8; 64],
    lo_crypt_name: [u8; 64],
    lo_encrypt_key: [u8; 32],
    lo_init: [u64; 2],
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

const EMPTY_INFO: LoopInfo64 = LoopInfo64 {
    lo_device: 0,
    lo_inode: 0,
    lo_rdevice: 0,
    lo_offset: 0,
    lo_sizelimit: 0,
    lo_number: 0,
    lo_encrypt_type: 0,
    lo_encrypt_key_size: 0,
    lo_flags: 0,
    lo_file_name: [0; 64],
    lo_crypt_name: [0; 64],
    lo_encrypt_key: [0; 32],
    lo_init: [0; 2],
};

/// An open loop device. As long as it is open, the kernel does not detach its file.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    pub(crate) fd: OwnedFd,
    /// Its path, such as `/dev/loop0`.
    pub(crate) path: String,
    /// The path by which the kernel is told of it.
    pub(crate) source: String,
}

impl LoopDevice {
    fn open(number: &str) -> sys::Result<Self> {
        let path = format!("/dev/loop{number}");
        match sys::open(Path::new(&path), OFlags::RDWR) {
            // In a container, /dev may be a folder that nobody adds to. The kernel has its own.
            Err(missing) if missing.is(Errno::NOENT) => {
                let nodes = device_nodes().map_err(|_| missing)?;
                let fd = sys::openat(nodes.as_fd(), &format!("loop{number}"), OFlags::RDWR)?;
                let source = format!("/proc/self/fd/{}", fd.as_raw_fd());
                Ok(Self { fd, path, source })
            }
            opened => Ok(Self { fd: opened?, source: path.clone(), path }),
        }
    }

    /// Makes the device as large as its file is now.
    #[expect(unsafe_code, reason = "no library has the ioctls of loop(4)")]
    pub(crate) fn take_capacity(&self) -> sys::Result<()> {
        // SAFETY: this ioctl takes no argument and touches no memory of ours.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), LOOP_SET_CAPACITY as _) };
        if result < 0 {
            let call = format!("ioctl({:?}, LOOP_SET_CAPACITY)", self.path);
            return Err(SyscallError::new(call, sys::last_errno()));
        }
        Ok(())
    }

    /// Whether the file with this status is attached. It stays so while `self` is open.
    fn has(&self, file: &Status) -> sys::Result<bool> {
        match get_status(self.fd.as_fd()) {
            Ok(info) => Ok(split_device(info.lo_device) == file.device && info.lo_inode == file.inode),
            Err(error) if error.is(Errno::NXIO) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The kernel's own folder of device nodes, mounted nowhere.
pub(crate) fn device_nodes() -> sys::Result<OwnedFd> {
    let wanted = Wanted { kind: "devtmpfs", source: "devtmpfs", options: &[], exclusive: false };
    superblock::mount(&wanted).map_err(|failed| failed.source)
}

/// The device number in `lo_device` as (major, minor); the kernel packs it with `huge_encode_dev`.
fn split_device(packed: u64) -> (u32, u32) {
    let major = (packed >> 8) & 0xfff;
    let minor = (packed & 0xff) | ((packed >> 12) & 0xf_ff00);
    (u32::try_from(major).expect("12 bits"), u32::try_from(minor).expect("20 bits"))
}

/// All loop devices that the file is attached to, open. The file is known by device and inode: it may have been
/// renamed, or attached through another of its names.
pub(crate) fn attached_to(file: &Status) -> sys::Result<Vec<LoopDevice>> {
    let block = sys::open(Path::new("/sys/block"), OFlags::RDONLY | OFlags::DIRECTORY)?;
    let failed = |errno| SyscallError::new("getdents64(\"/sys/block\")", errno);
    let mut devices = Vec::new();
    for entry in rustix::fs::Dir::read_from(&block).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(number) = entry.file_name().to_str().ok().and_then(|name| name.strip_prefix("loop")) else {
            continue;
        };
        // The kernel shows this directory while a file is attached.
        let bound = format!("loop{number}/loop");
        match sys::openat(block.as_fd(), &bound, OFlags::PATH) {
            Err(error) if error.is(Errno::NOENT) => continue,
            result => drop(result?),
        }
        let device = match LoopDevice::open(number) {
            Err(error) if error.is(Errno::NXIO) || error.is(Errno::NOENT) => continue,
            result => result?,
        };
        if device.has(file)? {
            devices.push(device);
        }
    }
    Ok(devices)
}

/// Attaches `file` to a free loop device that lets go of it when its last user is gone.
pub(crate) fn attach(file: BorrowedFd<'_>, status: &Status) -> sys::Result<LoopDevice> {
    let control = sys::open(Path::new("/dev/loop-control"), OFlags::RDWR)?;
    let block_size = recognize(file).map_or(BLOCK_SIZE, |found| found.sector_size.min(BLOCK_SIZE));
    let mut flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let number = get_free(control.as_fd())?;
        let device = LoopDevice::open(&number.to_string());
        let result = device.and_then(|device| configure(&device, file, flags, block_size).map(|()| device));
        match result {
            Ok(device) if device.has(status)? => return Ok(device),
            Ok(device) => {
                return Err(SyscallError::new(
                    format!("ioctl({}, LOOP_GET_STATUS64) after LOOP_CONFIGURE", device.path),
                    Errno::STALE,
                ));
            }
            // The filesystem below does not do direct I/O.
            Err(error) if error.is(Errno::INVAL) && flags & LO_FLAGS_DIRECT_IO != 0 => {
                flags &= !LO_FLAGS_DIRECT_IO;
            }
            Err(error)
                if attempts < ATTACH_ATTEMPTS
                    && [Errno::BUSY, Errno::AGAIN, Errno::NXIO, Errno::NODEV, Errno::NOENT]
                        .iter()
                        .any(|errno| error.is(*errno)) =>
            {
                std::thread::sleep(ATTACH_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

#[expect(unsafe_code, reason = "no library has the ioctls of loop(4)")]
fn get_free(control: BorrowedFd<'_>) -> sys::Result<i32> {
    // SAFETY: this ioctl takes no argument and touches no memory of ours.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
    if number < 0 {
        return Err(SyscallError::new("ioctl(\"/dev/loop-control\", LOOP_CTL_GET_FREE)", sys::last_errno()));
    }
    Ok(number)
}

#[expect(unsafe_code, reason = "no library has the ioctls of loop(4)")]
fn configure(device: &LoopDevice, file: BorrowedFd<'_>, flags: u32, block_size: u32) -> sys::Result<()> {
    let config = LoopConfig {
        fd: u32::try_from(file.as_raw_fd()).expect("an open descriptor is not negative"),
        block_size,
        info: LoopInfo64 { lo_flags: flags, ..EMPTY_INFO },
        reserved: [0; 8],
    };
    // SAFETY: `config` has the layout of the kernel's `struct loop_config`, which this ioctl only reads during
    // the call; both descriptors are borrowed, so they stay open meanwhile.
    let result = unsafe { libc::ioctl(device.fd.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
    if result < 0 {
        let call =
            format!("ioctl({:?}, LOOP_CONFIGURE, flags {flags:#x}, block size {block_size})", device.path);
        return Err(SyscallError::new(call, sys::last_errno()));
    }
    Ok(())
}

#[expect(unsafe_code, reason = "no library has the ioctls of loop(4)")]
fn get_status(device: BorrowedFd<'_>) -> sys::Result<LoopInfo64> {
    let mut info = EMPTY_INFO;
    // SAFETY: `info` has the layout of the kernel's `struct loop_info64`, which this ioctl fills during the call;
    // every bit pattern is a value of its integer fields.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64 as _, &raw mut info) };
    if result < 0 {
        return Err(SyscallError::new("ioctl(a loop device, LOOP_GET_STATUS64)", sys::last_errno()));
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::LoopConfig;
    use super::LoopInfo64;
    use super::split_device;

    #[test]
    fn the_structures_have_the_kernel_s_sizes() {
        assert_eq!(size_of::<LoopInfo64>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }

    #[test]
    fn packed_device_numbers_come_apart() {
        assert_eq!(split_device(0xfe00), (254, 0));
        assert_eq!(split_device(0x801), (8, 1));
        // Major 259, minor 0x12345: the minor's upper bits lie above the major.
        assert_eq!(split_device((259 << 8) | 0x45 | (0x12300 << 12)), (259, 0x12345));
    }
}
