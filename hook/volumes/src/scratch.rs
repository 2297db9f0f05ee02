//! An empty directory beside the volumes, to try out what their filesystem can do.

use crate::create;
use crate::create::STAGING;
use crate::error::StoreError;
use crate::files;
use crate::remove;
use crate::store::Store;
use rustix::fs::AtFlags;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;
use volhook_locks::Held;

/// How long removing it may take.
const REMOVING: Duration = Duration::from_secs(10);

/// The directory, in a folder of its own so that whoever uses it can lock it.
const ROOM: &str = "room";

/// An empty directory, removed with what is in it when this is dropped. What a killed process leaves of it is removed
/// with what creators leave.
#[derive(Debug)]
pub struct Scratch {
    staging: OwnedFd,
    name: String,
    /// Locked, so that it is not taken for a dead creator's.
    folder: OwnedFd,
    _held: Held,
    room: OwnedFd,
}

impl AsFd for Scratch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.room.as_fd()
    }
}

impl Store {
    /// Makes an empty directory on the filesystem of the volumes, root's own.
    ///
    /// # Errors
    /// [`StoreError::Scratch`].
    pub fn scratch(&self) -> Result<Scratch, StoreError> {
        let make = || -> io::Result<Scratch> {
            if !self.root.is_dir() {
                DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
            }
            let root = files::open_folder(&self.root)?;
            let staging = files::make_folder(&root, STAGING)?;
            let name = Uuid::new_v4().to_string();
            let (folder, held) = create::make_locked(&staging, &name).map_err(|(_, errno)| errno)?;
            rustix::fs::mkdirat(&folder, ROOM, files::PRIVATE)?;
            let room = files::folder_below(&folder, Path::new(ROOM))?;
            Ok(Scratch { staging, name, folder, _held: held, room })
        };
        make().map_err(|source| StoreError::Scratch { path: self.root.join(STAGING), source })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let content = files::folder_on_same_mount(&self.folder, c".");
        let deadline = Instant::now() + REMOVING;
        if content.is_ok_and(|content| remove::remove_content(content, &[], deadline, &mut 0).is_ok()) {
            let _ = rustix::fs::unlinkat(&self.staging, &self.name, AtFlags::REMOVEDIR);
        }
    }
}
