//! Opening files below a folder by descriptor: never through a symlink, never out of the folder, never waiting.

use rustix::fs::Dir;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A folder as a descriptor that can be read and synced. The path itself may go through symlinks: it is the operator's.
pub(crate) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens `path` below `folder` ([openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html)).
pub(crate) fn open_below(folder: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    // openat2 refuses flags that mean nothing together.
    if !flags.contains(OFlags::PATH) {
        flags |= OFlags::NOCTTY | OFlags::NONBLOCK;
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve)
}

/// Opens the folder `path` below `folder`, for reading and syncing.
pub(crate) fn folder_below(folder: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    open_below(folder, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Reads an open file of at most `limit` bytes.
pub(crate) fn read_bounded(file: OwnedFd, limit: u64) -> io::Result<Vec<u8>> {
    let file = File::from(file);
    // Room for what is usual, so that it is read at once.
    let mut bytes = Vec::with_capacity(2048);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// The names in a folder, sorted, without `.` and `..`. Names that are not UTF-8 come with replacement characters:
/// none of ours is such a name.
pub(crate) fn names(folder: impl AsFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
