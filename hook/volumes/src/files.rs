//! Opening files below a folder by descriptor: never through a symlink, never out of the folder, never waiting.

use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::ffi::CStr;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use uuid::Uuid;

/// `st_blocks` counts units of 512 bytes on every filesystem (inode(7)).
const BLOCK: u64 = 512;
/// How often something is opened that seems to be moved at that instant.
const OPEN_ATTEMPTS: u32 = 16;
/// How often something is opened whose way has a `..` in it.
const ROOTED_ATTEMPTS: u32 = 10_000;
/// The mode of the folders that volhook makes for itself.
pub(crate) const PRIVATE: Mode = Mode::RWXU;

const SAME_MOUNT: ResolveFlags =
    ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_XDEV).union(ResolveFlags::NO_MAGICLINKS);
const READ_FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

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
    opened(|| rustix::fs::openat2(folder.as_fd(), path, flags, Mode::empty(), resolve))
}

/// Opens the folder `path` below `folder`, for reading and syncing.
pub(crate) fn folder_below(folder: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    open_below(folder, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens the folder `name` in `parent`, made and synced by name if it is missing.
pub(crate) fn make_folder(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(parent, name, PRIVATE) {
        Ok(()) => volhook_locks::flush(parent)?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(folder_below(parent, Path::new(name))?)
}

/// Opens the folder `name` in `folder`, for reading, unless something is mounted on it ([`Errno::XDEV`]).
pub(crate) fn folder_on_same_mount(folder: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | SAME_MOUNT;
    opened(|| rustix::fs::openat2(folder.as_fd(), name, READ_FOLDER, Mode::empty(), resolve))
}

/// Opens the entry `name` of `folder` as a mere handle (`O_PATH`): nothing is done to a FIFO or a device, and a symlink
/// is itself. [`Errno::XDEV`] if something is mounted on it.
pub(crate) fn entry_on_same_mount(folder: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | SAME_MOUNT;
    opened(|| rustix::fs::openat2(folder.as_fd(), name, flags, Mode::empty(), resolve))
}

/// The path by which the kernel gives what is open: for calls that take no handle (`O_PATH`).
pub(crate) fn link_to(opened: impl AsFd) -> String {
    format!("/proc/self/fd/{}", opened.as_fd().as_raw_fd())
}

/// A path for one line of text: hostile names are escaped, and deep ones cut.
pub(crate) fn shown(path: &Path) -> String {
    volhook_core::names::shorten(&format!("{path:?}"))
}

/// Tries again what openat2(2) refuses because somebody moves what is being opened out of the folder at that instant:
/// with `RESOLVE_BENEATH` that looks like an escape. Afterwards it is gone, and a mount stays a mount.
fn opened(open: impl Fn() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    for _ in 1..OPEN_ATTEMPTS {
        match open() {
            Err(Errno::XDEV | Errno::AGAIN) => {}
            result => return result,
        }
    }
    open()
}

/// Opens `path` with `root` as the root of everything that it leads through (`RESOLVE_IN_ROOT`).
pub(crate) fn open_in_root(
    root: impl AsFd,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut attempts = 0;
    loop {
        match rustix::fs::openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // The kernel gives up on `..` whenever anything is renamed or mounted on the host at that instant.
            Err(Errno::AGAIN | Errno::INTR) if attempts < ROOTED_ATTEMPTS => attempts += 1,
            opened => return opened,
        }
    }
}

/// Opens the folder that `folder` is in. Whoever asks checks that it is the expected one: a folder may be moved.
pub(crate) fn parent(folder: impl AsFd) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(folder, c"..", READ_FOLDER, Mode::empty(), SAME_MOUNT)
}

/// What tells a file or folder from all others while it is open: device and inode.
pub(crate) fn identity(opened: impl AsFd) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(opened)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Whether the name still stands for what is open.
pub(crate) fn is_named(opened: impl AsFd, folder: impl AsFd, name: &str) -> Result<bool, Errno> {
    let named = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(identity(opened)? == (named.st_dev, named.st_ino))
}

/// The bytes of the disk that a file or folder takes.
pub(crate) fn allocated(stat: &Stat) -> u64 {
    stat.st_blocks.unsigned_abs() * BLOCK
}

/// Whether `name` is a UUID as volhook writes it, so that it can be a file name.
pub(crate) fn is_uuid(name: &str) -> bool {
    Uuid::parse_str(name).is_ok_and(|uuid| uuid.hyphenated().to_string() == name)
}

/// Reads the regular file `name` in `folder`, of at most `limit` bytes.
pub(crate) fn read_below(folder: impl AsFd, name: &str, limit: u64) -> io::Result<Vec<u8>> {
    let file = open_below(folder, Path::new(name), OFlags::RDONLY)?;
    if !FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode).is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    read_bounded(file, limit)
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
    Ok(entries(folder)?.into_iter().map(|(name, _)| name).collect())
}

/// The same with what each of them is, where the filesystem says that.
pub(crate) fn entries(folder: impl AsFd) -> io::Result<Vec<(String, FileType)>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            entries.push((name, entry.file_type()));
        }
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

/// The names in a folder as they are, and what each is where the filesystem says that. They are read before anything is
/// done with them: a folder that changes may show an entry twice.
pub(crate) fn raw_entries(folder: impl AsFd) -> Result<Vec<(CString, FileType)>, Errno> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            entries.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(entries)
}

/// Whether nothing is in a folder but what is called `besides`.
pub(crate) fn is_empty(folder: impl AsFd, besides: &CStr) -> Result<bool, Errno> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") && entry.file_name() != besides {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::folder_below;
    use super::folder_on_same_mount;
    use super::open_folder;
    use rustix::io::Errno;
    use std::path::Path;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    #[test]
    fn a_folder_that_is_moved_away_is_there_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (folder.path().join("here"), folder.path().join("there"));
        std::fs::create_dir_all(here.join("moved")).unwrap();
        std::fs::create_dir(&there).unwrap();
        let opened = open_folder(&here).unwrap();
        let done = AtomicBool::new(false);
        let (seen, errors) = std::thread::scope(|scope| {
            let looker = || {
                let (mut seen, mut errors) = (0, Vec::new());
                while !done.load(Ordering::Relaxed) {
                    let results =
                        [folder_below(&opened, Path::new("moved")), folder_on_same_mount(&opened, c"moved")];
                    for result in results {
                        match result {
                            Ok(_) => seen += 1,
                            Err(Errno::NOENT) => {}
                            Err(errno) => errors.push(errno),
                        }
                    }
                }
                (seen, errors)
            };
            let lookers: Vec<_> = (0..3).map(|_| scope.spawn(looker)).collect();
            for _ in 0..50_000 {
                std::fs::rename(here.join("moved"), there.join("moved")).unwrap();
                std::fs::rename(there.join("moved"), here.join("moved")).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            let results = lookers.into_iter().map(|looker| looker.join().unwrap());
            results.fold((0, Vec::new()), |all, one| (all.0 + one.0, [all.1, one.1].concat()))
        });
        assert!(seen > 0);
        assert_eq!(errors, []);
    }
}
