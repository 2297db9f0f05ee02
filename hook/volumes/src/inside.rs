//! Looking up paths in a tree that somebody else may have prepared: symlinks lead nowhere outside of it.

use crate::files;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;
use volhook_mounts::source::Detached;

/// As many symlinks as the kernel follows in one path (path_resolution(7)).
const MOST_SYMLINKS: u32 = 40;

/// A path could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error("cannot look up {}", files::shown(path))]
pub struct LookupError {
    /// The path.
    pub path: PathBuf,
    /// The failure.
    pub source: io::Error,
}

/// The root of a tree: of a volume, or of the host.
#[derive(Debug)]
pub struct Inside {
    root: OwnedFd,
    /// Goes with this.
    _mount: Option<Detached>,
}

/// What a path leads to.
#[derive(Debug)]
pub enum Found {
    /// A directory, open for reading.
    Directory(OwnedFd),
    /// Something else: the directory that it is in, and its name there.
    Entry(OwnedFd, OsString),
    /// Nothing, in a directory that is there.
    Missing(OwnedFd, OsString),
}

impl Inside {
    /// The root directory of the host, as this process sees it.
    ///
    /// # Errors
    /// [`LookupError`].
    pub fn host() -> Result<Self, LookupError> {
        Self::open(CWD, "/", None)
    }

    /// The root of a mount, which lasts as long as this.
    ///
    /// # Errors
    /// [`LookupError`].
    pub fn mount(mount: Detached) -> Result<Self, LookupError> {
        let opened = Self::open(&mount, ".", None)?;
        Ok(Self { _mount: Some(mount), ..opened })
    }

    fn open(at: impl std::os::fd::AsFd, path: &str, mount: Option<Detached>) -> Result<Self, LookupError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(at, path, flags, Mode::empty()) {
            Ok(root) => Ok(Self { root, _mount: mount }),
            Err(errno) => Err(LookupError { path: PathBuf::from("/"), source: errno.into() }),
        }
    }

    /// Looks up `path`, which is taken from the root whether it begins with a slash or not. Symlinks on the way are
    /// followed inside the tree, and one at its end with `follow`.
    ///
    /// # Errors
    /// [`LookupError`]; also when the directory that `path` should be in is not there.
    pub fn find(&self, path: &Path, follow: bool) -> Result<Found, LookupError> {
        self.look_up(path.to_owned(), follow)
            .map_err(|errno| LookupError { path: path.to_owned(), source: errno.into() })
    }

    fn look_up(&self, mut path: PathBuf, follow: bool) -> Result<Found, Errno> {
        for _ in 0..MOST_SYMLINKS {
            let bytes = path.as_os_str().as_bytes();
            let (above, name) = match bytes.iter().rposition(|byte| *byte == b'/') {
                Some(at) => (&bytes[..at], &bytes[at + 1..]),
                None => (&bytes[..0], bytes),
            };
            if matches!(name, b"" | b"." | b"..") {
                return self.folder(&path).map(Found::Directory);
            }
            let (above, name) = (Path::new(OsStr::from_bytes(above)), OsStr::from_bytes(name));
            let folder = self.folder(above)?;
            let kind = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => return Ok(Found::Missing(folder, name.to_owned())),
                Err(errno) => return Err(errno),
            };
            match kind {
                FileType::Directory => {
                    return files::folder_below(&folder, Path::new(name)).map(Found::Directory);
                }
                FileType::Symlink if follow => {
                    let target = rustix::fs::readlinkat(&folder, name, Vec::new())?.into_bytes();
                    let target = PathBuf::from(OsString::from_vec(target));
                    path = if target.is_absolute() { target } else { above.join(target) };
                }
                _ => return Ok(Found::Entry(folder, name.to_owned())),
            }
        }
        Err(Errno::LOOP)
    }

    fn folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        files::open_in_root(&self.root, path, flags, ResolveFlags::empty())
    }

    /// Writes out all that was changed in the filesystem of this tree.
    ///
    /// # Errors
    /// The kernel's, also for what could not be written earlier.
    pub fn sync(&self) -> io::Result<()> {
        Ok(volhook_locks::flush_filesystem(&self.root)?)
    }
}
