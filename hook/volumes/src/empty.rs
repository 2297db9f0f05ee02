//! Emptying the trash: deleting removed volumes for good.

use crate::create::STAGING;
use crate::error::StoreError;
use crate::failpoint;
use crate::files;
use crate::remove;
use crate::remove::Obstacle;
use crate::store::IMAGE;
use crate::store::SIDECAR;
use crate::store::Store;
use crate::trash;
use crate::trash::DELETING;
use crate::trash::Discarded;
use crate::trash::TRASH;
use crate::trash::TRASHED;
use jiff::Timestamp;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;
use volhook_core::names::VolumeId;
use volhook_core::volume::Volume;
use volhook_mounts::mountinfo;
use volhook_mounts::source;

/// A volume that was deleted for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// Its name, as it was.
    pub id: VolumeId,
    /// Its uuid.
    pub uuid: String,
}

/// What became of the volumes whose time was over.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Emptied {
    /// Those that this deleted, the longest removed first. What another restored or deleted meanwhile is not among them.
    pub volumes: Vec<Deleted>,
    /// The bytes of the disk that were given back, also by volumes of which only a part could be deleted.
    pub bytes: u64,
    /// Those that could not be deleted, or not wholly: their folders in the trash, and why, one line. The next time
    /// tries again.
    pub kept: Vec<(PathBuf, String)>,
}

impl Store {
    /// Deletes the volumes for good that were removed before the time `before`. At the time `deadline` it stops; the
    /// next time goes on.
    ///
    /// A volume in which something is mounted, or whose image is in use, is left whole. One of which a part is
    /// deleted cannot be restored any more.
    ///
    /// # Errors
    /// [`StoreError::List`] when the trash cannot be read, [`StoreError::SyncTrash`]. A volume that cannot be deleted
    /// is part of the result, not an error.
    pub fn empty_trash(&self, before: Timestamp, deadline: Instant) -> Result<Emptied, StoreError> {
        let mut emptied = Emptied::default();
        let Some(trash) = self.open_trash()? else {
            return Ok(emptied);
        };
        let mut over = self.trash()?.volumes;
        over.retain(|discarded| discarded.since < before);
        over.sort_by_key(|discarded| discarded.since);
        failpoint::reached("trash.listed")
            .map_err(|errno| StoreError::List { path: self.root.join(TRASH), source: errno.into() })?;
        for discarded in over {
            match self.delete(&trash, &discarded, deadline, &mut emptied.bytes) {
                Ok(true) => {
                    let Volume { id, uuid, .. } = discarded.volume;
                    emptied.volumes.push(Deleted { id, uuid });
                }
                Ok(false) => {}
                Err(obstacle) => emptied.kept.push((discarded.path, obstacle.to_string())),
            }
        }
        if !emptied.volumes.is_empty() {
            volhook_locks::flush(&trash).map_err(|errno| StoreError::SyncTrash {
                path: self.root.join(TRASH),
                source: errno.into(),
            })?;
        }
        Ok(emptied)
    }

    /// Deletes one volume; `false` when somebody else restored or deleted it meanwhile.
    fn delete(
        &self,
        trash: &OwnedFd,
        discarded: &Discarded,
        deadline: Instant,
        bytes: &mut u64,
    ) -> Result<bool, Obstacle> {
        let uuid = &discarded.volume.uuid;
        let failed = |step, path: PathBuf| move |source: io::Error| Obstacle::Failed { step, path, source };
        if Instant::now() >= deadline {
            return Err(Obstacle::Deadline);
        }
        let _held = match trash::lock_discarded(trash, uuid) {
            Ok(held) => held,
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::WOULDBLOCK) => return Err(Obstacle::Busy),
            Err(errno) => return Err(failed("lock", discarded.path.clone())(errno.into())),
        };
        // Until the lock was ours it may have been restored, and removed once more.
        let folder = match trash::read_entry(trash, uuid) {
            Ok((folder, _, since)) if since == discarded.since => folder,
            _ => return Ok(false),
        };
        check_mounts(&folder)?;
        check_image(&folder, &discarded.path.join(IMAGE))?;
        mark(&folder).map_err(|errno| failed("write", discarded.path.join(DELETING))(errno.into()))?;
        let content = files::folder_on_same_mount(&folder, c".");
        let content = content.map_err(|errno| failed("read", discarded.path.clone())(errno.into()))?;
        remove::remove_content(content, &[SIDECAR, TRASHED, DELETING], deadline, bytes)?;
        self.forget(trash, uuid, &folder)?;
        Ok(true)
    }

    /// Removes a volume of which only the sidecars are left. In one step it is no discarded volume any more but a
    /// leftover in the staging folder, which whoever is killed here leaves to the next creator.
    fn forget(&self, trash: &OwnedFd, uuid: &str, folder: &OwnedFd) -> Result<(), Obstacle> {
        let path = self.root.join(STAGING);
        let failed = |step, path| move |source: io::Error| Obstacle::Failed { step, path, source };
        let staging = files::open_folder(&self.root).and_then(|root| files::make_folder(&root, STAGING));
        let staging = staging.map_err(failed("make", path.clone()))?;
        rustix::fs::renameat_with(trash, uuid, &staging, uuid, RenameFlags::NOREPLACE)
            .map_err(|errno| failed("move it to", path.join(uuid))(errno.into()))?;
        for name in [SIDECAR, TRASHED, DELETING] {
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::empty());
        }
        let _ = rustix::fs::unlinkat(&staging, uuid, AtFlags::REMOVEDIR);
        Ok(())
    }
}

/// Says durably that a part of the volume may be missing from now on.
fn mark(folder: &OwnedFd) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, DELETING, flags, Mode::RUSR | Mode::WUSR)?;
    volhook_locks::flush(folder)
}

/// Refuses a folder with a mount in it before anything is deleted. The deletion itself also crosses none.
fn check_mounts(folder: &OwnedFd) -> Result<(), Obstacle> {
    let failed = |path: &str| {
        let path = PathBuf::from(path);
        move |source| Obstacle::Failed { step: "read", path, source }
    };
    // As the table of mounts has it: without symlinks, from this process's root directory.
    let link = format!("/proc/self/fd/{}", folder.as_raw_fd());
    let place = std::fs::read_link(&link).map_err(failed(&link))?;
    let table = "/proc/thread-self/mountinfo";
    let mounts = std::fs::read(table)
        .and_then(|text| mountinfo::parse(&text).map_err(io::Error::other))
        .map_err(failed(table))?;
    match mounts.into_iter().find(|mount| mount.mount_point.starts_with(&place)) {
        Some(mount) => Err(Obstacle::Mount(mount.mount_point)),
        None => Ok(()),
    }
}

/// Refuses an image that is locked, as one is that volhook mounted, or attached to a loop device.
fn check_image(folder: &OwnedFd, path: &Path) -> Result<(), Obstacle> {
    let failed = |source| Obstacle::Failed { step: "examine", path: path.to_owned(), source };
    let image = match rustix::fs::statat(folder, IMAGE, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => stat,
        Ok(_) | Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed(errno.into())),
    };
    // First the device: it tells more than the lock, which is held as long as the device has the image.
    if let Some(device) = attached(&image).map_err(failed)? {
        return Err(Obstacle::ImageAttached(device));
    }
    match source::image_is_free(path) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Obstacle::ImageLocked),
        Err(error) => Err(failed(io::Error::other(error))),
    }
}

/// The loop device that a file is attached to, by the name under which the kernel now knows the file
/// (`/sys/block/loopN/loop/backing_file`).
fn attached(image: &Stat) -> io::Result<Option<String>> {
    for entry in std::fs::read_dir("/sys/block")? {
        let entry = entry?;
        // None for what is no loop device, or has nothing attached (any more).
        let Ok(mut file) = std::fs::read(entry.path().join("loop/backing_file")) else {
            continue;
        };
        if file.last() == Some(&b'\n') {
            file.pop();
        }
        let same = std::fs::symlink_metadata(Path::new(OsStr::from_bytes(&file)))
            .is_ok_and(|found| (found.dev(), found.ino()) == (image.st_dev, image.st_ino));
        if same {
            return Ok(Some(format!("/dev/{}", entry.file_name().to_string_lossy())));
        }
    }
    Ok(None)
}
