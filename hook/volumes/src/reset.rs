//! Throwing away what single volumes in a pod's storage hold, and what killed ones left in its top directory.
//!
//! What is thrown away is moved into a folder `reset-<uuid>` and deleted there. The sidecar forgets the part first: killed
//! before the move, the part is still there, whole, and is taken as it is.
//!
//! A part with others below it cannot be moved as one. Its entries are moved one by one, and until that is done a link
//! `of` in the folder says which part it is: the next one to fill or reset goes on, unless the part is recorded again.

use crate::change::Changing;
use crate::create::CLEANING;
use crate::error::StoreError;
use crate::failpoint;
use crate::files;
use crate::populate::ON_THE_WAY;
use crate::remove;
use crate::storage;
use crate::storage::UPPER;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::RenameFlags;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::ffi::CStr;
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;
use uuid::Uuid;
use volhook_core::decision::Population;
use volhook_core::names::Target;
use volhook_core::names::is_below_or_at;
use volhook_core::volume::FILES;
use volhook_core::volume::Part;
use volhook_core::volume::PodStorage;

/// Parts while they are copied: with a uuid behind it, a folder in the top directory.
pub(crate) const FILLING: &str = "filling-";
/// What is thrown away, in the same way.
const RESETTING: &str = "reset-";
/// The link that says what is being moved entry by entry.
const OF: &str = "of";
/// Says to overlayfs that nothing below is seen in this directory (`Documentation/filesystems/overlayfs.rst`).
pub(crate) const OPAQUE: &CStr = c"trusted.overlay.opaque";

impl Changing<'_> {
    /// Throws away what the part holds that is this member of the pod, and forgets it: it is filled anew when it is wanted
    /// next. Parts below it stay. `top` is the storage's top directory: that of its directory, or the root of its mounted
    /// image. Nobody may use the storage meanwhile. Returns how many bytes of the disk that gives back.
    ///
    /// When this returns, the part is gone also after a power cut. What cannot be deleted until `deadline` is left to the
    /// next one to fill or reset.
    ///
    /// # Errors
    /// [`StoreError::Impossible`] where there is no such part, [`StoreError::Change`].
    pub fn reset(&mut self, top: BorrowedFd<'_>, member: &str, deadline: Instant) -> Result<u64, StoreError> {
        let storage = self.storage()?.clone();
        self.finish_leftovers(top)?;
        let Some(gone) = storage.member(member).cloned() else {
            return Err(self.impossible(format!("no {member:?} lies in it")));
        };
        let kept: Vec<Part> = storage.parts.iter().filter(|part| **part != gone).cloned().collect();
        let reset = Resetting::begin(self, top, &storage, &kept, &gone)?;
        self.reached("reset.begun")?;
        self.forget_part(PodStorage { parts: kept, ..storage.clone() }, &gone)?;
        self.reached("reset.forgotten")?;
        reset.move_away(self, &gone)?;
        self.reached("reset.moved")?;
        storage::lay_out(top, storage.population).map_err(self.failed("make the folders of", ""))?;
        volhook_locks::flush(self.readable(top)?).map_err(|errno| self.failed("sync", "")(errno.into()))?;
        let mut bytes = 0;
        remove_folder(top, &reset.name, &reset.folder, deadline, &mut bytes);
        Ok(bytes)
    }

    fn reached(&self, step: &str) -> Result<(), StoreError> {
        failpoint::reached(step).map_err(|errno| self.failed("sync", "")(errno.into()))
    }

    /// Takes a part out of the sidecar, and its name back.
    fn forget_part(&mut self, storage: PodStorage, gone: &Part) -> Result<(), StoreError> {
        let names = self.names()?;
        self.write_storage(storage)?;
        // What stays names nobody.
        let _ = self.store.release_part(&names, gone);
        Ok(())
    }

    /// Removes what those left who were killed, and ends what they began.
    pub(crate) fn finish_leftovers(&self, top: BorrowedFd<'_>) -> Result<(), StoreError> {
        let folder = self.readable(top)?;
        let is_leftover = |name: &String| {
            let uuid = name.strip_prefix(FILLING).or_else(|| name.strip_prefix(RESETTING));
            uuid.is_some_and(files::is_uuid)
        };
        for name in files::names(&folder).map_err(self.failed("read", ""))?.into_iter().filter(is_leftover) {
            let left = match files::folder_below(&folder, Path::new(&name)) {
                Ok(left) => left,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(self.failed("open", &name)(errno.into())),
            };
            let mut reset =
                Resetting { top, name, folder: left, population: self.storage()?.population, below: vec![] };
            if reset.name.starts_with(RESETTING) {
                reset.finish(self)?;
            }
            remove_folder(top, &reset.name, &reset.folder, Instant::now() + CLEANING, &mut 0);
        }
        Ok(())
    }

    /// The top directory for reading and syncing, which a mere handle does not allow.
    fn readable(&self, top: BorrowedFd<'_>) -> Result<OwnedFd, StoreError> {
        files::folder_on_same_mount(top, c".").map_err(|errno| self.failed("open", "")(errno.into()))
    }
}

/// Removes a folder of the top directory with all that is in it, as far as it goes.
fn remove_folder(top: BorrowedFd<'_>, name: &str, folder: &OwnedFd, deadline: Instant, bytes: &mut u64) {
    let content = files::folder_on_same_mount(folder, c".");
    if content.is_ok_and(|content| remove::remove_content(content, &[], deadline, bytes).is_ok()) {
        let _ = rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR);
    }
}

/// Where an entry stays that cannot be thrown away.
enum Kept {
    /// It is a part.
    Part,
    /// A part is below it.
    OnTheWay,
}

/// Something that is being thrown away.
struct Resetting<'a> {
    top: BorrowedFd<'a>,
    /// The folder into which it is moved.
    name: String,
    folder: OwnedFd,
    population: Population,
    /// The parts below it, which stay.
    below: Vec<Part>,
}

impl<'a> Resetting<'a> {
    fn begin(
        changing: &Changing<'_>,
        top: BorrowedFd<'a>,
        storage: &PodStorage,
        kept: &[Part],
        gone: &Part,
    ) -> Result<Self, StoreError> {
        let name = format!("{RESETTING}{}", Uuid::new_v4());
        let failed = |step| {
            let failed = changing.failed(step, &name);
            move |errno: Errno| failed(errno.into())
        };
        rustix::fs::mkdirat(top, &*name, files::PRIVATE).map_err(failed("make"))?;
        let folder = files::folder_below(top, Path::new(&name)).map_err(failed("open"))?;
        let below = parts_below(kept, &gone.path);
        if !below.is_empty() {
            rustix::fs::symlinkat(gone.path.as_str(), &folder, OF)
                .and_then(|()| volhook_locks::flush(&folder))
                .and_then(|()| volhook_locks::flush(files::folder_on_same_mount(top, c".")?))
                .map_err(failed("note what is reset in"))?;
        }
        Ok(Self { top, name, folder, population: storage.population, below })
    }

    /// Goes on with what somebody began who was killed, unless the part is in use again.
    fn finish(&mut self, changing: &Changing<'_>) -> Result<(), StoreError> {
        let Ok(text) = rustix::fs::readlinkat(&self.folder, OF, Vec::new()) else { return Ok(()) };
        let Some(path) = text.to_str().ok().and_then(|text| Target::new(text).ok()) else { return Ok(()) };
        let parts = &changing.storage()?.parts;
        if parts.iter().any(|part| part.path == path) {
            return Ok(());
        }
        self.below = parts_below(parts, &path);
        self.move_entries(changing, &path)
    }

    fn failed(
        &self,
        changing: &Changing<'_>,
        step: &'static str,
        path: &str,
    ) -> impl FnOnce(Errno) -> StoreError + use<> {
        let failed = changing.failed(step, path);
        move |errno| failed(io::Error::from(errno))
    }

    fn move_away(&self, changing: &Changing<'_>, gone: &Part) -> Result<(), StoreError> {
        if self.below.is_empty() {
            self.move_part(changing, &gone.path)
        } else {
            self.move_entries(changing, &gone.path)
        }
    }

    /// The folder in which what is at `path` lies, and its name there; `None` where there is no such folder.
    fn parent<'p>(
        &self,
        changing: &Changing<'_>,
        path: &'p Target,
    ) -> Result<Option<(OwnedFd, &'p str)>, StoreError> {
        let (above, name) = path.as_str().rsplit_once('/').unwrap_or(("", path.as_str()));
        let base = match self.population {
            Population::Overlay => UPPER,
            Population::Copy | Population::Empty => FILES,
        };
        match files::folder_below(self.top, Path::new(&format!("{base}{above}"))) {
            Ok(folder) => Ok(Some((folder, name))),
            // A container has put something else there.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(self.failed(changing, "open", above)(errno)),
        }
    }

    /// Moves a part that has none below it.
    fn move_part(&self, changing: &Changing<'_>, path: &Target) -> Result<(), StoreError> {
        let Some((folder, name)) = self.parent(changing, path)? else { return Ok(()) };
        let failed = |step| self.failed(changing, step, path.as_str());
        match rustix::fs::renameat_with(&folder, name, &self.folder, "0", RenameFlags::NOREPLACE) {
            Ok(()) => volhook_locks::flush(&folder).map_err(failed("sync the folder of")),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("move away")(errno)),
        }
    }

    /// Moves what is in a part but for those below it.
    fn move_entries(&self, changing: &Changing<'_>, path: &Target) -> Result<(), StoreError> {
        let failed = |step| self.failed(changing, step, path.as_str());
        if let Some((folder, name)) = self.parent(changing, path)? {
            let folder = match files::folder_below(&folder, Path::new(name)) {
                Ok(folder) => Some(folder),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
                Err(errno) => return Err(failed("open")(errno)),
            };
            if let Some(folder) = folder {
                let mut number = 0;
                self.move_from(&folder, path.as_str(), &mut number).map_err(failed("empty"))?;
            }
        }
        let done = volhook_locks::flush(&self.folder)
            .and_then(|()| rustix::fs::unlinkat(&self.folder, OF, AtFlags::empty()));
        done.map_err(failed("end the reset of"))
    }

    fn move_from(&self, folder: &OwnedFd, path: &str, number: &mut u64) -> Result<(), Errno> {
        match self.population {
            Population::Overlay => self.show_below(folder, path)?,
            // It gets again what the image has besides the parts in it.
            Population::Copy | Population::Empty => rustix::fs::fchmod(folder, ON_THE_WAY)?,
        }
        for (name, _) in files::raw_entries(folder)? {
            match self.kept(path, &name) {
                Some(Kept::Part) => {}
                Some(Kept::OnTheWay) if is_folder(folder, &name) => {
                    let below = files::folder_on_same_mount(folder, &name)?;
                    self.move_from(&below, &join(path, &name), number)?;
                }
                _ => self.move_entry(folder, &name, number)?,
            }
        }
        volhook_locks::flush(folder)
    }

    fn move_entry(&self, folder: &OwnedFd, name: &CString, number: &mut u64) -> Result<(), Errno> {
        loop {
            let to = number.to_string();
            *number += 1;
            match rustix::fs::renameat_with(folder, name, &self.folder, to, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                Ok(()) | Err(Errno::NOENT) => {
                    return failpoint::reached("reset.entry");
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    /// What is below in the image is seen again in this folder, but not in the parts that stay, where it was not.
    fn show_below(&self, folder: &OwnedFd, path: &str) -> Result<(), Errno> {
        let mut nothing = [0; 0];
        if rustix::fs::fgetxattr(folder, OPAQUE, &mut nothing[..]).is_err() {
            return Ok(());
        }
        for (name, _) in files::raw_entries(folder)? {
            if self.kept(path, &name).is_some() && is_folder(folder, &name) {
                let below = files::folder_on_same_mount(folder, &name)?;
                rustix::fs::fsetxattr(&below, OPAQUE, b"y", XattrFlags::empty())?;
                volhook_locks::flush(&below)?;
            }
        }
        rustix::fs::fremovexattr(folder, OPAQUE)
    }

    fn kept(&self, path: &str, name: &CStr) -> Option<Kept> {
        let path = join(path, name);
        let is_part = |part: &&Part| part.path.as_str() == path;
        match self.below.iter().find(is_part) {
            Some(_) => Some(Kept::Part),
            None if self.below.iter().any(|part| is_below_or_at(part.path.as_str(), &path)) => {
                Some(Kept::OnTheWay)
            }
            None => None,
        }
    }
}

/// The path of an entry. Those of parts are UTF-8, and what is not is none of them.
fn join(path: &str, name: &CStr) -> String {
    format!("{path}/{}", name.to_string_lossy())
}

fn parts_below(parts: &[Part], path: &Target) -> Vec<Part> {
    let is_below = |part: &&Part| part.path != *path && is_below_or_at(part.path.as_str(), path.as_str());
    parts.iter().filter(is_below).cloned().collect()
}

fn is_folder(folder: impl AsFd, name: &CStr) -> bool {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
