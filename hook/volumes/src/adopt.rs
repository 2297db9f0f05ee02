//! Taking in what was made before volhook: a directory or an image becomes a volume, moved without being copied.
//!
//! The volume is created empty, and what is adopted takes the place of its content by one rename. Killed before that, an
//! empty volume is there and what was to be adopted is where it was.

use crate::create::Created;
use crate::error::StoreError;
use crate::files;
use crate::store::DATA;
use crate::store::IMAGE;
use crate::store::SIDECAR;
use crate::store::Store;
use crate::store::below;
use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::decision::Backing;
use volhook_core::decision::Directory;
use volhook_core::decision::Image;
use volhook_core::volume::Volume;
use volhook_mounts::recognize::recognize;
use volhook_mounts::source;
use volhook_mounts::source::LockedImage;

/// Something that can become a volume.
#[derive(Debug)]
pub struct Adoptable {
    path: PathBuf,
    /// The folder that it is in, and its name there.
    parent: OwnedFd,
    name: OsString,
    backing: Backing,
}

impl Adoptable {
    /// Looks at `path`: a directory, or an image with a filesystem that volhook can mount.
    ///
    /// # Errors
    /// [`StoreError::Adopt`] for anything else.
    pub fn look(path: &Path) -> Result<Self, StoreError> {
        let failed = |reason: String| StoreError::Adopt { path: path.to_owned(), reason };
        let broken = |error: io::Error| failed(error.to_string());
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent, name.to_owned()),
            _ => return Err(failed("it has no name of its own".to_owned())),
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let parent = files::open_folder(parent).map_err(broken)?;
        let opened = match files::open_below(&parent, Path::new(&name), OFlags::RDONLY) {
            Err(Errno::LOOP) => {
                return Err(failed("it is a symbolic link; name what it leads to".to_owned()));
            }
            result => result.map_err(|errno| broken(errno.into()))?,
        };
        let stat = rustix::fs::fstat(&opened).map_err(|errno| broken(errno.into()))?;
        let backing = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let mode = stat.st_mode & 0o7777;
                Backing::Directory(Directory { mode, uid: stat.st_uid, gid: stat.st_gid })
            }
            FileType::RegularFile => {
                let Some(found) = recognize(&opened) else {
                    return Err(failed("there is no filesystem in it that volhook can mount".to_owned()));
                };
                let size = stat.st_size.unsigned_abs();
                Backing::Image(Image::new(size, found.filesystem))
            }
            _ => return Err(failed("it is neither a directory nor a regular file".to_owned())),
        };
        Ok(Self { path: path.to_owned(), parent, name, backing })
    }

    /// What it is, as the backing of a volume.
    #[must_use]
    pub fn backing(&self) -> &Backing {
        &self.backing
    }

    fn failed(&self, reason: String) -> StoreError {
        StoreError::Adopt { path: self.path.clone(), reason }
    }

    fn lock(&self) -> Result<LockedImage, StoreError> {
        source::lock_image(&self.path).map_err(|error| self.failed(format!("it cannot be locked: {error}")))
    }

    /// Why it cannot be brought into the store.
    fn immovable(&self, errno: Errno) -> StoreError {
        self.failed(match errno {
            Errno::XDEV => "it is on another filesystem than the volumes".to_owned(),
            Errno::BUSY => "something is mounted on it".to_owned(),
            errno => format!("it cannot be moved: {}", io::Error::from(errno)),
        })
    }
}

impl Store {
    /// Makes `volume`, whose backing is the image `found`, and gives the image a second name in it: it stays where it is as
    /// well.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt).
    pub fn adopt_in_place(&self, found: &Adoptable, volume: &Volume) -> Result<Created, StoreError> {
        let _locked = found.lock()?;
        self.create_with(volume, |stage| {
            let folder = stage.folder();
            let linked =
                rustix::fs::linkat(&found.parent, &found.name, folder, IMAGE, rustix::fs::AtFlags::empty())
                    .and_then(|()| files::open_below(folder, Path::new(IMAGE), OFlags::RDWR));
            Ok(Some((linked.map_err(|errno| found.immovable(errno))?, IMAGE)))
        })
    }

    /// Makes `volume`, whose backing is that of `found`, and moves what was found into it.
    ///
    /// # Errors
    /// [`StoreError::Adopt`] when it is in use, on another filesystem than the store, or cannot be moved, and those of
    /// [`create`](Self::create).
    pub fn adopt(&self, found: &Adoptable, volume: &Volume) -> Result<Created, StoreError> {
        let is_image = matches!(volume.backing, Backing::Image(_));
        let _locked = if is_image { Some(found.lock()?) } else { None };
        let created = self.create_with(volume, |stage| match &volume.backing {
            Backing::Directory(directory) => Ok(Some((stage.make_directory(directory)?, DATA))),
            _ => Ok(Some((stage.new_file(IMAGE)?, IMAGE))),
        })?;
        let Created::New(made) = &created else { return Ok(created) };
        let folder = self.root().and_then(|root| files::folder_below(root, &below(&made.id)));
        let moved = folder.and_then(|folder| {
            let content = if is_image { IMAGE } else { DATA };
            rustix::fs::renameat(&found.parent, &found.name, &folder, content)?;
            volhook_locks::flush(&folder)?;
            volhook_locks::flush(&found.parent)
        });
        match moved {
            Ok(()) => Ok(created),
            Err(errno) => {
                self.withdraw(made);
                Err(found.immovable(errno))
            }
        }
    }

    /// Removes a volume that was made a moment ago and is still empty.
    fn withdraw(&self, volume: &Volume) {
        let path = self.folder(&volume.id);
        let image = path.join(IMAGE);
        // Only what is empty: remove_dir fails for anything else.
        let is_empty = |image: &Path| std::fs::symlink_metadata(image).is_ok_and(|it| it.len() == 0);
        let emptied = if matches!(volume.backing, Backing::Image(_)) {
            is_empty(&image) && std::fs::remove_file(image).is_ok()
        } else {
            std::fs::remove_dir(path.join(DATA)).is_ok()
        };
        if emptied {
            let _ = std::fs::remove_file(path.join(SIDECAR));
            let _ = std::fs::remove_dir(path);
        }
    }
}
