//! Giving a volume what an image has at its place, once: when its first container has something to copy (copy-up).
//!
//! A directory is copied beside the volume's own, which must be empty, and takes its place whole. In an image there is
//! only one root directory, so the sidecar says first that what is there is nobody's, and last that it is the volume's.
//!
//! | killed | left | who goes on |
//! |---|---|---|
//! | copying a directory | `data.new`, and the empty volume | the next copy-up removes the former |
//! | after it took the volume's place | the filled volume, which the sidecar calls due | the next copy-up finds it filled |
//! | copying into an image | what the sidecar calls begun | the next copy-up empties it first |

use crate::change::Changing;
use crate::check;
use crate::copy;
use crate::copy::Copied;
use crate::copy::CopyError;
use crate::copy::How;
use crate::copy::Place;
use crate::copy::Rights;
use crate::copy::Watch;
use crate::error::StoreError;
use crate::failpoint;
use crate::files;
use crate::remove;
use crate::store::DATA;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use volhook_core::decision::Backing;
use volhook_core::volume::CopyUp;
use volhook_core::volume::Volume;
use volhook_mounts::source;
use volhook_mounts::source::ImageUse;

/// The directory of a volume while it is copied.
pub(crate) const NEW_DATA: &str = "data.new";
/// What e2fsck(8) may make in a filesystem, which does not make a volume filled.
const LOST_AND_FOUND: &CStr = c"lost+found";
const NOTHING: &CStr = c"";
/// How long the removal of a copy may take that was not finished; the next one goes on with it.
const WITHDRAWING: Duration = Duration::from_secs(2);

/// What became of a volume that may be given what an image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// It has that now.
    Copied(Copied),
    /// The image has an empty directory there. Nothing was changed, and another container may have more to copy.
    SourceEmpty,
    /// It had something in it, which was not touched, and stays without what the image has.
    HadData,
    /// It was over before.
    Over,
}

impl Changing<'_> {
    /// Gives the volume what is in the directory `from` of an image, and its owner, mode, times and attributes, if it is to
    /// get that and is empty. Nothing may be mounted in `from`, and nobody may use the volume meanwhile: its directory is
    /// replaced, its image mounted exclusively. When this returns, the result survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Populate`], after which the volume is empty and still to be filled, also at the deadline;
    /// [`StoreError::Image`] when an image is in use, [`StoreError::Impossible`] for a volume whose content is not in the
    /// store, [`StoreError::Change`].
    pub fn copy_up(&mut self, from: OwnedFd, watch: &Watch<'_>) -> Result<Filled, StoreError> {
        if self.volume.copy_up.is_over() {
            return Ok(Filled::Over);
        }
        match &self.volume.backing {
            Backing::Directory(_) => self.fill_directory(&from, watch),
            Backing::Image(image) => {
                let path = self.store.image_path(&self.volume);
                let mount =
                    source::mount_image(&path, image, ImageUse::Exclusive).map_err(self.image_failed())?;
                let top = files::folder_on_same_mount(&mount, c".").map_err(self.not("open"))?;
                let filled = self.copy_up_into(top.as_fd(), &from, watch);
                drop((top, mount));
                // Who fills a volume mounts it next.
                check::lock_soon(&path).map_err(self.image_failed())?;
                filled
            }
            Backing::Tmpfs(_) | Backing::HostPath(_) | Backing::Device(_) => {
                Err(self.impossible("volhook does not keep its content"))
            }
        }
    }

    /// The same for an image volume whose filesystem is mounted already, for nobody else yet, with the root `top`.
    ///
    /// # Errors
    /// As [`copy_up`](Self::copy_up).
    pub fn copy_up_into(
        &mut self,
        top: BorrowedFd<'_>,
        from: &OwnedFd,
        watch: &Watch<'_>,
    ) -> Result<Filled, StoreError> {
        if self.volume.copy_up.is_over() {
            return Ok(Filled::Over);
        }
        self.image()?;
        let top = files::folder_on_same_mount(top, c".").map_err(self.not("open"))?;
        if self.volume.copy_up == CopyUp::Begun {
            self.empty(&top, watch.deadline)?;
        } else if !files::is_empty(&top, LOST_AND_FOUND).map_err(self.not("read"))? {
            self.say(CopyUp::Over)?;
            return Ok(Filled::HadData);
        }
        let from = files::folder_on_same_mount(from, c".").map_err(self.not("open what is copied into"))?;
        if files::is_empty(&from, NOTHING).map_err(self.not("read what is copied into"))? {
            self.say(CopyUp::Due)?;
            return Ok(Filled::SourceEmpty);
        }
        self.say(CopyUp::Begun)?;
        failpoint::reached("copy_up.begun").map_err(self.not("copy into"))?;
        let has_lost_and_found = !files::is_empty(&top, NOTHING).map_err(self.not("read"))?;
        let place = if has_lost_and_found { Place::Merge } else { Place::Empty };
        match copy_to(from, &top, place, watch) {
            Ok(copied) => {
                failpoint::reached("copy_up.copied").map_err(self.not("sync"))?;
                volhook_locks::flush_filesystem(&top).map_err(self.not("sync"))?;
                failpoint::reached("copy_up.synced").map_err(self.not("sync"))?;
                self.say(CopyUp::Over)?;
                Ok(Filled::Copied(copied))
            }
            Err(source) => {
                // Where that fails it stays begun, and the next one does it.
                if self.empty(&top, Instant::now() + WITHDRAWING).is_ok() {
                    self.say(CopyUp::Due)?;
                }
                Err(self.not_populated()(source))
            }
        }
    }

    fn fill_directory(&mut self, from: &OwnedFd, watch: &Watch<'_>) -> Result<Filled, StoreError> {
        self.remove_new_data(Instant::now() + WITHDRAWING);
        let data = self.store.open_directory(&self.volume)?;
        if !files::is_empty(&data, NOTHING).map_err(self.not("read"))? {
            self.say(CopyUp::Over)?;
            return Ok(Filled::HadData);
        }
        let from = files::folder_on_same_mount(from, c".").map_err(self.not("open what is copied into"))?;
        if files::is_empty(&from, NOTHING).map_err(self.not("read what is copied into"))? {
            return Ok(Filled::SourceEmpty);
        }
        rustix::fs::mkdirat(&self.folder, NEW_DATA, files::PRIVATE)
            .map_err(self.not("make a new directory for"))?;
        let new = files::folder_below(&self.folder, Path::new(NEW_DATA));
        let new = new.map_err(self.not("open the new directory of"))?;
        let copied = match copy_to(from, &new, Place::Empty, watch) {
            Ok(copied) => copied,
            Err(source) => {
                self.remove_new_data(Instant::now() + WITHDRAWING);
                return Err(self.not_populated()(source));
            }
        };
        failpoint::reached("copy_up.copied").map_err(self.not("sync"))?;
        volhook_locks::flush_filesystem(&new).map_err(self.not("sync"))?;
        failpoint::reached("copy_up.synced").map_err(self.not("sync"))?;
        // Only an empty directory is replaced (rename(2)), whatever was put into it meanwhile.
        let filled = match rustix::fs::renameat(&self.folder, NEW_DATA, &self.folder, DATA) {
            Ok(()) => Filled::Copied(copied),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                self.remove_new_data(Instant::now() + WITHDRAWING);
                Filled::HadData
            }
            Err(errno) => {
                self.remove_new_data(Instant::now() + WITHDRAWING);
                return Err(self.not("replace the directory of")(errno));
            }
        };
        failpoint::reached("copy_up.replaced").map_err(self.not("sync"))?;
        volhook_locks::flush(&self.folder).map_err(self.not("sync"))?;
        self.say(CopyUp::Over)?;
        Ok(filled)
    }

    /// Removes a copy that somebody did not finish, as far as it goes: it is in nobody's way but its own.
    pub(crate) fn remove_new_data(&self, deadline: Instant) {
        let content = files::folder_below(&self.folder, Path::new(NEW_DATA))
            .and_then(|folder| files::folder_on_same_mount(folder, c"."));
        if let Ok(content) = content
            && remove::remove_content(content, &[], deadline, &mut 0).is_ok()
        {
            let _ = rustix::fs::unlinkat(&self.folder, NEW_DATA, AtFlags::REMOVEDIR);
        }
    }

    /// Removes what is in an image, and is nobody's.
    fn empty(&self, top: &OwnedFd, deadline: Instant) -> Result<(), StoreError> {
        let content = files::folder_on_same_mount(top, c".").map_err(self.not("open"))?;
        let keep = LOST_AND_FOUND.to_str().unwrap_or_default();
        remove::remove_content(content, &[keep], deadline, &mut 0).map_err(|obstacle| match obstacle {
            remove::Obstacle::Deadline => self.not_populated()(CopyError::Deadline),
            obstacle => self.impossible(format!("what an earlier copy left is in the way: {obstacle}")),
        })?;
        volhook_locks::flush_filesystem(top).map_err(self.not("sync"))
    }

    /// Records how far it is.
    fn say(&mut self, copy_up: CopyUp) -> Result<(), StoreError> {
        if self.volume.copy_up == copy_up {
            return Ok(());
        }
        self.write(Volume { copy_up, ..self.volume.clone() })
    }

    fn not(&self, step: &'static str) -> impl FnOnce(Errno) -> StoreError + use<> {
        let failed = self.failed(step, "");
        move |errno| failed(io::Error::from(errno))
    }
}

fn copy_to(from: OwnedFd, to: &OwnedFd, place: Place, watch: &Watch<'_>) -> Result<Copied, CopyError> {
    let to = rustix::io::fcntl_dupfd_cloexec(to, 0).map_err(|errno| CopyError::Failed {
        step: "open",
        path: Path::new(".").to_owned(),
        source: errno.into(),
    })?;
    copy::copy_tree(from, to, true, How { rights: Rights::Keep, place }, watch)
}
