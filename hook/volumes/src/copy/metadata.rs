//! What is known of a file besides its content: owner, mode, extended attributes and access lists, times.

use super::CopyError;
use super::Engine;
use super::Rights;
use super::is_unable;
use crate::files;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Stat;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::ffi::CStr;
use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

/// Extended attributes that hold POSIX access lists (acl(5)).
const ACCESS_LIST: &CStr = c"system.posix_acl_access";
const DEFAULT_ACCESS_LIST: &CStr = c"system.posix_acl_default";

/// An open file, or a handle (`O_PATH`) of what must not be opened. Most calls that take the one do not take the other.
#[derive(Clone, Copy)]
pub(super) enum Handle<'a> {
    Opened(BorrowedFd<'a>),
    Path(BorrowedFd<'a>),
}

impl Handle<'_> {
    pub(super) fn chown(self, uid: Uid, gid: Gid) -> Result<(), Errno> {
        match self {
            Self::Opened(fd) => rustix::fs::fchown(fd, Some(uid), Some(gid)),
            Self::Path(fd) => rustix::fs::chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH),
        }
    }

    fn stat(self) -> Result<Stat, Errno> {
        let (Self::Opened(fd) | Self::Path(fd)) = self;
        rustix::fs::fstat(fd)
    }

    pub(super) fn chmod(self, mode: Mode) -> Result<(), Errno> {
        match self {
            Self::Opened(fd) => rustix::fs::fchmod(fd, mode),
            Self::Path(fd) => rustix::fs::chmodat(CWD, files::link_to(fd), mode, AtFlags::empty()),
        }
    }

    pub(super) fn set_times(self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Self::Opened(fd) => rustix::fs::futimens(fd, times),
            Self::Path(fd) => rustix::fs::utimensat(fd, c"", times, AtFlags::EMPTY_PATH),
        }
    }

    fn list(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Opened(fd) => rustix::fs::flistxattr(fd, buffer),
            Self::Path(fd) => rustix::fs::listxattr(files::link_to(fd), buffer),
        }
    }

    fn get(self, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Opened(fd) => rustix::fs::fgetxattr(fd, name, buffer),
            Self::Path(fd) => rustix::fs::getxattr(files::link_to(fd), name, buffer),
        }
    }

    fn set(self, name: &CStr, value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Opened(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Path(fd) => rustix::fs::setxattr(files::link_to(fd), name, value, XattrFlags::empty()),
        }
    }

    fn remove(self, name: &CStr) -> Result<(), Errno> {
        match self {
            Self::Opened(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Path(fd) => rustix::fs::removexattr(files::link_to(fd), name),
        }
    }

    /// Takes away an access list that it inherited.
    pub(super) fn take_access_list(self) -> Result<(), Errno> {
        match self.remove(ACCESS_LIST) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(errno) if is_unable(errno) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// The value of an extended attribute; `None` if it is gone meanwhile, or shown to nobody.
    pub(super) fn value(self, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
        match grown(256, |buffer| self.get(name, buffer)) {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The names of its extended attributes.
    pub(super) fn names(self) -> Result<Vec<CString>, Errno> {
        let list = match grown(1024, |buffer| self.list(buffer)) {
            Err(errno) if is_unable(errno) => return Ok(Vec::new()),
            result => result?,
        };
        let names = list.split_inclusive(|byte| *byte == 0);
        Ok(names.filter_map(|name| CStr::from_bytes_with_nul(name).ok()).map(CStr::to_owned).collect())
    }
}

/// Reads what has no limit known beforehand, and may grow meanwhile.
fn grown(mut size: usize, read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    /// XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h.
    const MOST: usize = 65536;
    loop {
        let mut buffer = vec![0; size];
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if size < MOST => size = MOST,
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether what is made in this folder inherits an access list from it.
pub(super) fn gives_access_lists(folder: BorrowedFd<'_>) -> bool {
    let mut nothing = [0; 0];
    rustix::fs::fgetxattr(folder, DEFAULT_ACCESS_LIST, &mut nothing[..]).is_ok()
}

/// Takes away from a new folder what it inherited, so that what is made in it inherits nothing.
pub(super) fn take_inherited(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    for name in [DEFAULT_ACCESS_LIST, ACCESS_LIST] {
        match rustix::fs::fremovexattr(folder, name) {
            Err(Errno::NODATA) | Ok(()) => {}
            Err(errno) if is_unable(errno) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

impl Engine<'_> {
    /// Makes `to` like `from`, which had the status `original` before it was read. `inherits`: whether `to` was made
    /// where it inherited an access list.
    pub(super) fn copy_metadata(
        &self,
        from: Handle<'_>,
        to: Handle<'_>,
        original: &Stat,
        inherits: bool,
        path: &dyn Fn() -> PathBuf,
    ) -> Result<(), CopyError> {
        let failed = |step| move |errno| CopyError::failed(step, path())(errno);
        let kind = FileType::from_raw_mode(original.st_mode);
        let (uid, gid, mode) = match self.how.rights {
            Rights::Keep => (original.st_uid, original.st_gid, original.st_mode & 0o7777),
            Rights::Give { uid, gid } => (uid, gid, original.st_mode & 0o1777),
        };
        // Most files are right as they were made, and each change is a write to the filesystem's journal.
        let made = to.stat().map_err(failed("examine the copy of"))?;
        let is_owned = (made.st_uid, made.st_gid) == (uid, gid);
        if !is_owned {
            to.chown(Uid::from_raw(uid), Gid::from_raw(gid)).map_err(failed("change the owner of"))?;
        }
        // After the owner: changing that clears the set-id bits, and capabilities as well.
        if kind != FileType::Symlink && !(is_owned && made.st_mode & 0o7777 == mode) {
            to.chmod(Mode::from_raw_mode(mode)).map_err(failed("change the mode of"))?;
        }
        let names = from.names().map_err(failed("list the attributes of"))?;
        for name in &names {
            self.copy_attribute(from, to, name).map_err(failed("copy the extended attributes of"))?;
        }
        let has_access_list =
            self.how.rights == Rights::Keep && names.iter().any(|name| **name == *ACCESS_LIST);
        if inherits && kind != FileType::Symlink && !has_access_list {
            to.take_access_list().map_err(failed("change the access list of"))?;
        }
        // Last, because all else may count as a change.
        to.set_times(&times(original)).map_err(failed("set the times of"))
    }

    fn copy_attribute(&self, from: Handle<'_>, to: Handle<'_>, name: &CStr) -> Result<(), Errno> {
        if self.how.rights != Rights::Keep && !name.to_bytes().starts_with(b"user.") {
            return Ok(());
        }
        match from.value(name)? {
            Some(value) => self.set_attribute(to, name, &value),
            None => Ok(()),
        }
    }

    pub(super) fn set_attribute(&self, to: Handle<'_>, name: &CStr, value: &[u8]) -> Result<(), Errno> {
        match to.set(name, value) {
            Err(errno) if is_unable(errno) => {
                self.count(&self.counters.attributes_lost, 1);
                Ok(())
            }
            result => result,
        }
    }

    /// Makes the copy of a folder, all entries of which are there, what it is to be.
    pub(super) fn finish_folder(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        original: &Stat,
    ) -> Result<(), CopyError> {
        let path = || self.path(from, c".");
        self.copy_metadata(Handle::Opened(from), Handle::Opened(to), original, false, &path)
    }
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Platforms have different types for nanoseconds.
fn time(seconds: i64, nanoseconds: impl TryInto<i64>) -> Timespec {
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds.try_into().unwrap_or_default() }
}
