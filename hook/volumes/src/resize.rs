//! Giving an image another size.
//!
//! The file is never smaller than the size in the sidecar, nor smaller than its filesystem: growing extends the file,
//! then the filesystem, then says so; shrinking goes the other way round. The kernel does either in transactions of the
//! filesystem's journal. What it cannot do is make an ext4 smaller, and resize2fs(8) has no journal: it works on a copy, which
//! then takes the image's place. Killed anywhere, the volume can be used, and the same command again goes on.

use crate::change::Changing;
use crate::check;
use crate::check::Checked;
use crate::copy;
use crate::copy::Watch;
use crate::error::StoreError;
use crate::store::IMAGE;
use rustix::fs::AtFlags;
use rustix::fs::FallocateFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;
use volhook_core::decision::Backing;
use volhook_core::decision::Filesystem;
use volhook_core::decision::Image;
use volhook_core::size;
use volhook_core::volume::Volume;
use volhook_mounts::grow;
use volhook_mounts::recognize::recognize;
use volhook_mounts::source;
use volhook_mounts::source::LockedImage;

/// The name of the option that drivers of images give their size in.
const SIZE: &str = "size";
/// The smaller copy of an image while it is made.
pub(crate) const NEW_IMAGE: &str = "volume.img.new";
/// The unit that resize2fs(8) calls `s`.
const SECTOR: u64 = 512;
/// The smallest size in bytes that the kernel gives a btrfs that exists (`btrfs_ioctl_resize` in fs/btrfs/ioctl.c).
const LEAST_BTRFS: u64 = 256 << 20;

impl Changing<'_> {
    /// Makes the image larger. With `mounted` it grows under the containers that have it mounted; an ext4 filesystem does
    /// so for a process with `CAP_SYS_RESOURCE` only.
    ///
    /// # Errors
    /// [`StoreError::Impossible`] for more than the host's filesystem has, [`StoreError::Image`], [`StoreError::Change`],
    /// and those of programs.
    pub fn grow(&mut self, size: u64, mounted: bool, deadline: Instant) -> Result<(), StoreError> {
        let image = self.image()?;
        if image.filesystem == Filesystem::Btrfs && size < LEAST_BTRFS {
            return Err(self.impossible(format!("a btrfs grows to {} or more", size::format(LEAST_BTRFS))));
        }
        let path = self.store.image_path(&self.volume);
        let locked = if mounted { None } else { Some(self.lock_image(&path)?) };
        let file = self.store.open_image(&self.volume)?;
        let host = rustix::fs::fstatvfs(&file)
            .map_err(|errno| self.failed("examine the filesystem of", IMAGE)(errno.into()))?;
        let capacity = host.f_blocks.saturating_mul(host.f_frsize);
        if size > capacity {
            let (size, capacity) = (size::format(size), size::format(capacity));
            return Err(
                self.impossible(format!("{size} are more than the host's filesystem has ({capacity})"))
            );
        }
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.failed("examine", IMAGE)(errno.into()))?;
        if stat.st_size.unsigned_abs() < size {
            rustix::fs::ftruncate(&file, size).map_err(|errno| self.failed("extend", IMAGE)(errno.into()))?;
        }
        if image.preallocated {
            rustix::io::retry_on_intr(|| rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size))
                .map_err(|errno| self.failed("allocate", IMAGE)(errno.into()))?;
        }
        // The kernel takes the lock while it has it mounted.
        drop(locked);
        match grow::grow_image(&path, image.filesystem) {
            Err(volhook_mounts::Error::Grow { source, .. })
                if !mounted && source.raw_os_error() == Errno::PERM.raw_os_error() =>
            {
                let _locked = check::lock_soon(&path).map_err(self.image_failed())?;
                return self.replace_ext4(image, size, deadline);
            }
            grown => grown.map_err(self.image_failed())?,
        }
        self.sync_image(&file)?;
        self.write(resized(&self.volume, image, size))
    }

    /// Makes the image smaller. Nobody may have it mounted.
    ///
    /// # Errors
    /// [`StoreError::Image`] when it is in use, [`StoreError::Impossible`] when its content needs more, or when it is
    /// damaged, [`StoreError::Change`], and those of programs.
    pub fn shrink(&mut self, size: u64, deadline: Instant) -> Result<(), StoreError> {
        let image = self.image()?;
        let path = self.store.image_path(&self.volume);
        let mut locked = self.lock_image(&path)?;
        let file = self.store.open_image(&self.volume)?;
        match image.filesystem {
            Filesystem::Ext4 => return self.replace_ext4(image, size, deadline),
            Filesystem::Btrfs if size < LEAST_BTRFS => {
                let least = size::format(LEAST_BTRFS);
                return Err(
                    self.impossible(format!("a btrfs filesystem cannot be made smaller than {least}"))
                );
            }
            Filesystem::Btrfs => {
                drop(locked);
                grow::shrink_btrfs(&path, size).map_err(self.image_failed())?;
                locked = self.lock_image(&path)?;
            }
            Filesystem::Xfs => return Err(self.impossible("an XFS filesystem cannot be made smaller")),
        }
        self.sync_image(&file)?;
        self.write(resized(&self.volume, image, size))?;
        rustix::fs::ftruncate(&file, size).map_err(|errno| self.failed("shorten", IMAGE)(errno.into()))?;
        drop(locked);
        self.sync_image(&file)
    }

    fn lock_image(&self, path: &Path) -> Result<LockedImage, StoreError> {
        source::lock_image(path).map_err(self.image_failed())
    }

    /// Makes a copy of another size and puts it in the image's place: resize2fs(8) has no journal, and leaves damage where it
    /// is killed. A copy that is left of an earlier attempt is written over.
    fn replace_ext4(&mut self, image: Image, size: u64, deadline: Instant) -> Result<(), StoreError> {
        let failed = |step| self.failed(step, NEW_IMAGE);
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let copy = rustix::fs::openat(&self.folder, NEW_IMAGE, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| failed("make")(errno.into()))?;
        let made = self.make_resized(&copy, &image, size, deadline);
        if made.is_err() {
            let _ = rustix::fs::unlinkat(&self.folder, NEW_IMAGE, AtFlags::empty());
        }
        made?;
        self.write(resized(&self.volume, image, size))?;
        rustix::fs::renameat(&self.folder, NEW_IMAGE, &self.folder, IMAGE)
            .map_err(|errno| self.failed("replace", IMAGE)(errno.into()))?;
        volhook_locks::flush(&self.folder).map_err(|errno| self.failed("sync", "")(errno.into()))
    }

    fn make_resized(
        &self,
        copy: &OwnedFd,
        image: &Image,
        size: u64,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let original = self.store.open_image(&self.volume)?;
        let watch = Watch { deadline, cancelled: &|| false, progress: &|_| {} };
        copy::copy_contents(&original, copy, IMAGE, &watch)
            .map_err(|source| StoreError::Copy { volume: self.volume.id.clone(), source })?;
        let path = self.store.image_path(&self.volume).with_file_name(NEW_IMAGE);
        self.resize_ext4(&path, size, deadline)?;
        let failed = |step| self.failed(step, NEW_IMAGE);
        rustix::fs::ftruncate(copy, size).map_err(|errno| failed("cut")(errno.into()))?;
        if image.preallocated {
            rustix::io::retry_on_intr(|| rustix::fs::fallocate(copy, FallocateFlags::empty(), 0, size))
                .map_err(|errno| failed("allocate")(errno.into()))?;
        }
        volhook_locks::flush(copy).map_err(|errno| failed("sync")(errno.into()))
    }

    fn resize_ext4(&self, path: &Path, size: u64, deadline: Instant) -> Result<(), StoreError> {
        if let Checked::Damaged(said) = self.check_ext4(path, false, deadline)? {
            return Err(self.impossible(format!("its filesystem has errors: {said}")));
        }
        // resize2fs asks for a check that the superblock tells of.
        self.program("e2fsck")?.args(["-f", "-y"]).args([path]).run(&[0, 1], deadline)?;
        let sectors = format!("{}s", size / SECTOR);
        let resize = self.program("resize2fs")?.args([path.as_os_str(), sectors.as_ref()]);
        let resized = resize.run(&[0], deadline);
        let debugfs = self.program("debugfs")?.args(["-w", "-R", "rmdir lost+found"]);
        debugfs.args([path]).run(&[0], deadline)?;
        let Err(error) = resized else { return Ok(()) };
        Err(match self.smallest_ext4(path, deadline)? {
            Some(least) if size < least => {
                let least = size::format(least.next_multiple_of(1 << 20));
                self.impossible(format!("what is in it needs at least {least}"))
            }
            _ => error,
        })
    }

    /// The bytes that an ext4 filesystem can be shrunk to, by resize2fs's own estimate.
    fn smallest_ext4(&self, path: &Path, deadline: Instant) -> Result<Option<u64>, StoreError> {
        let found = recognize(self.store.open_image(&self.volume)?);
        let Some(block) = found.map(|found| u64::from(found.block_size)) else { return Ok(None) };
        let output = self.program("resize2fs")?.args(["-P".as_ref(), path.as_os_str()]).output(deadline)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let blocks: Option<u64> = text.rsplit(' ').next().and_then(|word| word.trim().parse().ok());
        Ok(blocks.map(|blocks| blocks.saturating_mul(block)))
    }

    fn sync_image(&self, file: &std::os::fd::OwnedFd) -> Result<(), StoreError> {
        volhook_locks::flush(file).map_err(|errno: Errno| self.failed("sync", IMAGE)(errno.into()))
    }
}

/// The volume with the new size in everything that tells it.
fn resized(volume: &Volume, image: Image, size: u64) -> Volume {
    let mut changed = volume.clone();
    changed.backing = Backing::Image(Image { size, ..image });
    changed.limit = changed.limit.map(|_| size);
    for (name, value) in &mut changed.options {
        if name == SIZE {
            *value = size::exact(size);
        }
    }
    changed
}
