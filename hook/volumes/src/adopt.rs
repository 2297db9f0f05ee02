//! Taking in what was made before volhook: a directory or an image becomes a volume, moved without being copied.
//!
//! What is adopted is moved into the staging folder in which its volume is built, and the volume is put in its place with all that
//! is in it. Killed in between, it lies there, and the next one to create or adopt a volume, or `gc`, puts it back where it was
//! (the module `origin`).

use crate::create::Content;
use crate::create::Created;
use crate::create::STAGING;
use crate::create::Stage;
use crate::error::StoreError;
use crate::failpoint;
use crate::files;
use crate::origin;
use crate::origin::ORIGIN;
use crate::store::DATA;
use crate::store::IMAGE;
use crate::store::Store;
use crate::store::below;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
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
    /// Device and inode.
    identity: (u64, u64),
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
        let identity = (stat.st_dev, stat.st_ino);
        Ok(Self { path: path.to_owned(), parent, name, identity, backing })
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
        let locked = source::lock_image(&self.path)
            .map_err(|error| self.failed(format!("it cannot be locked: {error}")))?;
        self.refuse_another(&locked)?;
        Ok(locked)
    }

    /// Fails if `opened` is not what was looked at.
    fn refuse_another(&self, opened: impl AsFd) -> Result<(), StoreError> {
        match files::identity(opened) {
            Ok(identity) if identity == self.identity => Ok(()),
            _ => Err(self.failed("another took its place meanwhile".to_owned())),
        }
    }

    /// Moves it into the staging folder of its volume, where it is called `content`.
    fn move_into(&self, stage: &Stage, content: &'static str) -> Result<Content, StoreError> {
        let broken = |errno: Errno| self.failed(io::Error::from(errno).to_string());
        // Before it is moved, and on the disk: from then on nobody takes it for a half volume.
        origin::write_down(stage.folder(), &self.parent, &self.name)
            .map_err(|error| self.failed(format!("it cannot be written down where it was: {error}")))?;
        stage.sync_name().and_then(|()| failpoint::reached("adopt.recorded")).map_err(broken)?;
        let flags = RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(&self.parent, &self.name, stage.folder(), content, flags)
            .map_err(|errno| self.immovable(errno))?;
        failpoint::reached("adopt.moved").map_err(broken)?;
        let moved = files::open_below(stage.folder(), Path::new(content), OFlags::RDONLY).map_err(broken)?;
        self.refuse_another(&moved)?;
        volhook_locks::flush(&self.parent).map_err(broken)?;
        Ok((moved, content))
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
            let linked = linked.map_err(|errno| found.immovable(errno))?;
            found.refuse_another(&linked)?;
            Ok(Some((linked, IMAGE)))
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
        let name = origin::staging_name(&volume.uuid);
        let content = if is_image { IMAGE } else { DATA };
        let adopted = self.create_in(&name, volume, |stage| found.move_into(stage, content).map(Some));
        match &adopted {
            Ok(Created::New(made)) => self.forget_origin(made),
            failed => {
                let place = self.root.join(STAGING).join(&name);
                if let Some(stranded) = self.stranded()?.into_iter().find(|it| it.path.starts_with(&place)) {
                    let why =
                        failed.as_ref().err().map_or("its name is taken".to_owned(), ToString::to_string);
                    let (path, reason) = (stranded.path.display(), stranded.reason);
                    return Err(found.failed(format!("{why}; it lies at {path} now: {reason}")));
                }
            }
        }
        adopted
    }

    /// Removes from a volume that is in its place what says where its content came from. Where that fails it means nothing, and
    /// `gc` removes it.
    fn forget_origin(&self, volume: &Volume) {
        let _ = failpoint::reached("adopt.placed")
            .and_then(|()| self.root())
            .and_then(|root| files::folder_below(root, &below(&volume.id)))
            .and_then(|folder| rustix::fs::unlinkat(&folder, ORIGIN, AtFlags::empty()));
    }
}
