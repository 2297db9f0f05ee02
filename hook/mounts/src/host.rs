//! Mounting an image on the host, for a person who wants to look into it. Containers never need this.

use crate::error::Error;
use crate::loop_device;
use crate::source;
use crate::source::Detached;
use crate::sys;
use crate::sys::SyscallError;
use rustix::fs::OFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::UnmountFlags;
use std::os::fd::AsFd;
use std::path::Path;

/// Puts `mount` on `directory`, which must exist. What containers wrote into it has no power over the host: set-id bits and
/// device files mean nothing there.
///
/// # Errors
/// [`Error::HostMount`].
pub fn attach(mount: &Detached, directory: &Path, read_only: bool) -> Result<(), Error> {
    let failed = |source| Error::HostMount { directory: directory.to_owned(), source };
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    if read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    sys::set_private_attributes(mount.as_fd(), attributes, None).map_err(failed)?;
    let place = sys::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW).map_err(failed)?;
    sys::move_mount(mount.as_fd(), place.as_fd()).map_err(failed)
}

/// Unmounts `directory` if `image` is what is mounted there; says whether it was (umount2(2)).
///
/// # Errors
/// [`Error::HostUnmount`], also when something there is in use; those of opening the image, and [`Error::LoopDevice`].
pub fn detach(image: &Path, directory: &Path) -> Result<bool, Error> {
    let failed = |source| Error::HostUnmount { directory: directory.to_owned(), source };
    let file = source::open_image(image, OFlags::RDONLY)?;
    let devices = sys::status(file.as_fd()).and_then(|status| loop_device::attached_to(&status));
    let devices = devices.map_err(|source| Error::LoopDevice { image: image.to_owned(), source })?;
    let place = match sys::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
        Err(error) if error.is(rustix::io::Errno::NOENT) => return Ok(false),
        opened => opened.map_err(failed)?,
    };
    let is_here = |device: &loop_device::LoopDevice| {
        let number = sys::status(device.fd.as_fd())?.stands_for;
        source::is_on(place.as_fd(), number)
    };
    let here = devices.iter().any(|device| is_here(device).unwrap_or(false));
    drop(place);
    if !here {
        return Ok(false);
    }
    // The devices let go of the file with their last user.
    drop(devices);
    rustix::mount::unmount(directory, UnmountFlags::NOFOLLOW).map_err(|errno| {
        failed(SyscallError::new(format!("umount2({directory:?}, UMOUNT_NOFOLLOW)"), errno))
    })?;
    Ok(true)
}
