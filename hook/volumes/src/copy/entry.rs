//! One entry that is no directory: a file, a symlink, or what is only a name for something (FIFO, socket, device).

use super::CopyError;
use super::Engine;
use super::Entry;
use super::Folder;
use super::Place;
use super::Rights;
use super::data;
use super::metadata::Handle;
use crate::files;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

/// How often a name is tried that somebody else gives to something else again and again.
pub(super) const ATTEMPTS: u32 = 64;

/// An original, held by a handle (`O_PATH`) so that it stays the same whatever happens to its name.
pub(super) struct Original {
    pub(super) fd: OwnedFd,
    pub(super) stat: Stat,
}

impl Original {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(super) fn identity(&self) -> (u64, u64) {
        (self.stat.st_dev, self.stat.st_ino)
    }
}

/// A regular file of which an empty copy is made already.
pub(super) struct Begun {
    pub(super) original: Original,
    pub(super) copy: OwnedFd,
}

impl Engine<'_> {
    /// Finds an original; `None` when it is gone.
    pub(super) fn original(&self, from: impl AsFd, name: &CStr) -> Result<Option<Original>, CopyError> {
        let fd = match files::entry_on_same_mount(from.as_fd(), name) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::XDEV) => return Err(CopyError::Mount(self.path(from, name))),
            Err(errno) => return Err(self.failed("open", from, name)(errno)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(self.failed("examine", from, name))?;
        Ok(Some(Original { fd, stat }))
    }

    pub(super) fn copy_entry(&self, folder: &Folder, entry: Entry) -> Result<(), CopyError> {
        let Entry { name, new_name, begun } = entry;
        let begun = match begun {
            Some(begun) => begun,
            None => match self.original(&folder.from, &name)? {
                None => return Ok(()),
                Some(original) if original.kind() == FileType::RegularFile => {
                    self.begin(folder, &new_name, original)?
                }
                Some(original) => {
                    return self.copy_special(folder, &name, &new_name, &original).map(drop);
                }
            },
        };
        self.complete(folder, &name, &begun)
    }

    /// Makes an empty file that will be the copy of `original`.
    pub(super) fn begin(
        &self,
        folder: &Folder,
        new_name: &CStr,
        original: Original,
    ) -> Result<Begun, CopyError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = match self.how.place {
            // Nobody else gets there, so it may have what it is to have in the end.
            Place::Empty => Mode::from_raw_mode(original.stat.st_mode & 0o777) | Mode::WUSR,
            Place::Merge => Mode::RUSR | Mode::WUSR,
        };
        let copy = self.make(folder, new_name, || rustix::fs::openat(&folder.to, new_name, flags, mode))?;
        Ok(Begun { original, copy })
    }

    fn complete(&self, folder: &Folder, name: &CStr, begun: &Begun) -> Result<(), CopyError> {
        let Begun { original, copy } = begun;
        let path = || self.path(&folder.from, name);
        // Through the handle: its name may stand for a device by now.
        let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
        let from = rustix::fs::openat(CWD, files::link_to(&original.fd), flags, Mode::empty())
            .map_err(self.failed("open", &folder.from, name))?;
        data::copy(self, &from, copy, &original.stat, &path)?;
        let (from, to) = (Handle::Opened(from.as_fd()), Handle::Opened(copy.as_fd()));
        self.copy_metadata(from, to, &original.stat, folder.inherits, &path)?;
        self.count(&self.counters.files, 1);
        Ok(())
    }

    /// Copies what has no content; returns a handle of the copy, `None` if it is left out.
    pub(super) fn copy_special(
        &self,
        folder: &Folder,
        name: &CStr,
        new_name: &CStr,
        original: &Original,
    ) -> Result<Option<OwnedFd>, CopyError> {
        let kind = original.kind();
        match kind {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&original.fd, c"", Vec::new()).map_err(self.failed(
                    "read",
                    &folder.from,
                    name,
                ))?;
                self.make(folder, new_name, || rustix::fs::symlinkat(&*target, &folder.to, new_name))?;
            }
            FileType::CharacterDevice | FileType::BlockDevice if self.how.rights != Rights::Keep => {
                self.count(&self.counters.left_out, 1);
                return Ok(None);
            }
            FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => {
                let device = original.stat.st_rdev;
                self.make(folder, new_name, || {
                    rustix::fs::mknodat(&folder.to, new_name, kind, Mode::RUSR | Mode::WUSR, device)
                })?;
            }
            // The walk saw something else, or whoever calls this took it for something else.
            _ => return Err(CopyError::Changed(self.path(&folder.from, name))),
        }
        let copy = self.made(folder, new_name, kind, original.stat.st_rdev)?;
        let path = || self.path(&folder.from, name);
        let (from, to) = (Handle::Path(original.fd.as_fd()), Handle::Path(copy.as_fd()));
        self.copy_metadata(from, to, &original.stat, folder.inherits, &path)?;
        self.count(&self.counters.files, 1);
        Ok(Some(copy))
    }

    /// A handle of what was made just now under a name, with a look whether it can be that: others may be there.
    pub(super) fn made(
        &self,
        folder: &Folder,
        new_name: &CStr,
        kind: FileType,
        device: u64,
    ) -> Result<OwnedFd, CopyError> {
        let fd = files::entry_on_same_mount(&folder.to, new_name).map_err(self.failed(
            "open the new",
            &folder.to,
            new_name,
        ))?;
        let stat = rustix::fs::fstat(&fd).map_err(self.failed("examine", &folder.to, new_name))?;
        let mine = FileType::from_raw_mode(stat.st_mode) == kind
            && stat.st_rdev == device
            && stat.st_nlink == 1
            && stat.st_uid == rustix::process::geteuid().as_raw();
        if mine { Ok(fd) } else { Err(CopyError::Changed(self.path(&folder.to, new_name))) }
    }

    /// Gives another name to what was copied already, and says whether the filesystem allowed that.
    pub(super) fn link(&self, folder: &Folder, new_name: &CStr, copy: &OwnedFd) -> Result<bool, CopyError> {
        let link = || match rustix::fs::linkat(copy, c"", &folder.to, new_name, AtFlags::EMPTY_PATH) {
            // Without CAP_DAC_READ_SEARCH.
            Err(Errno::NOENT) => {
                let copy = files::link_to(copy);
                rustix::fs::linkat(CWD, copy, &folder.to, new_name, AtFlags::SYMLINK_FOLLOW)
            }
            result => result,
        };
        let link = || match link() {
            Ok(()) => Ok(true),
            // So many names are not possible everywhere; or nobody can link it any more.
            Err(Errno::MLINK | Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        };
        let linked = self.make(folder, new_name, link)?;
        self.counters.files.fetch_add(u64::from(linked), Ordering::Relaxed);
        Ok(linked)
    }

    /// Calls `make`, which gives the new name to something, after removing what has it, if that may be.
    pub(super) fn make<T>(
        &self,
        folder: &Folder,
        new_name: &CStr,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, CopyError> {
        let in_the_way = |reason| CopyError::InTheWay { path: self.path(&folder.to, new_name), reason };
        for _ in 0..ATTEMPTS {
            match make() {
                Ok(made) => return Ok(made),
                Err(Errno::EXIST) if self.how.place == Place::Merge => {}
                Err(Errno::EXIST) => return Err(in_the_way("something of that name is there")),
                Err(errno) => return Err(self.failed("make", &folder.to, new_name)(errno)),
            }
            match rustix::fs::unlinkat(&folder.to, new_name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => return Err(in_the_way("a directory of that name is there")),
                Err(Errno::BUSY) => return Err(CopyError::Mount(self.path(&folder.to, new_name))),
                Err(errno) => return Err(self.failed("replace", &folder.to, new_name)(errno)),
            }
        }
        Err(CopyError::Changed(self.path(&folder.to, new_name)))
    }
}
