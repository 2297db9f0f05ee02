//! Deleting what is in a folder, whatever a container made of it.

use crate::files;
use crate::files::shown;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::IFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

/// How many folders on the way down are kept open. Those above are found again through `..`.
const OPEN_FOLDERS: usize = 32;

/// What is in the way of a deletion.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Obstacle {
    #[error("something is mounted on {}; unmount it first", shown(.0))]
    Mount(PathBuf),
    #[error("{} is immutable or append-only; `chattr -i -a` it first", shown(.0))]
    Attributes(PathBuf),
    #[error("its image is in use: another process or a mount holds its lock")]
    ImageLocked,
    #[error("its image is in use: it is attached to {0}")]
    ImageAttached(String),
    #[error("another process is working on it")]
    Busy,
    #[error("the time ran out; the next time goes on from here")]
    Deadline,
    #[error("{} was moved to somewhere else meanwhile", shown(.0))]
    Moved(PathBuf),
    #[error("cannot {step} {}: {source}", shown(path))]
    Failed { step: &'static str, path: PathBuf, source: io::Error },
}

/// A folder that is being emptied.
struct Level {
    /// Its name in the one above.
    name: CString,
    /// Its device and inode.
    identity: (u64, u64),
    /// The open folder, at the place up to which it was read. `None` if it is too far up.
    dir: Option<Dir>,
    /// Whether something was removed since it was read from the start.
    removed: bool,
    /// What the folder itself takes on the disk, in bytes.
    bytes: u64,
}

/// Deletes everything in `top` but what is called like one of `keep`. Adds to `bytes` what that gives back.
///
/// No symlink is followed and no mount is crossed. Depth and number of entries are only bounded by the filesystem.
pub(crate) fn remove_content(
    top: OwnedFd,
    keep: &[&str],
    deadline: Instant,
    bytes: &mut u64,
) -> Result<(), Obstacle> {
    let is_kept = |name: &CStr| keep.iter().any(|kept| kept.as_bytes() == name.to_bytes());
    let mut walk = Walk { levels: Vec::new(), bytes };
    walk.enter(CString::default(), top)?;
    loop {
        if Instant::now() >= deadline {
            return Err(Obstacle::Deadline);
        }
        match walk.next_entry()? {
            Some((name, _)) if walk.levels.len() == 1 && is_kept(&name) => {}
            Some((name, kind)) => walk.remove_or_enter(name, kind)?,
            None if walk.levels.len() == 1 => return Ok(()),
            None => walk.leave()?,
        }
    }
}

struct Walk<'a> {
    levels: Vec<Level>,
    bytes: &'a mut u64,
}

impl Walk<'_> {
    fn last(&mut self) -> &mut Level {
        self.levels.last_mut().expect("the top is left only by the end of the walk")
    }

    /// The path of the folder being emptied, from the top.
    fn folder_path(&self) -> PathBuf {
        match &self.levels[..] {
            [] | [_] => PathBuf::from("."),
            [_, below @ ..] => below.iter().map(|level| OsStr::from_bytes(level.name.to_bytes())).collect(),
        }
    }

    /// The path of its entry `name`.
    fn path(&self, name: &CStr) -> PathBuf {
        let name = OsStr::from_bytes(name.to_bytes());
        if self.levels.len() > 1 { self.folder_path().join(name) } else { PathBuf::from(name) }
    }

    fn failed(&self, step: &'static str, name: &CStr) -> impl FnOnce(Errno) -> Obstacle {
        // The path only when it is needed: it may be very long.
        move |errno| Obstacle::Failed { step, path: self.path(name), source: errno.into() }
    }

    fn enter(&mut self, name: CString, folder: OwnedFd) -> Result<(), Obstacle> {
        let stat = rustix::fs::fstat(&folder).map_err(self.failed("examine", &name))?;
        let dir = Dir::new(folder).map_err(self.failed("read", &name))?;
        let level = Level {
            name,
            identity: (stat.st_dev, stat.st_ino),
            dir: Some(dir),
            removed: false,
            bytes: files::allocated(&stat),
        };
        self.levels.push(level);
        if let Some(far) = self.levels.len().checked_sub(OPEN_FOLDERS + 1) {
            self.levels[far].dir = None;
        }
        Ok(())
    }

    /// The next entry of the folder being emptied; `None` when nothing is left in it.
    fn next_entry(&mut self) -> Result<Option<(CString, FileType)>, Obstacle> {
        let level = self.last();
        let dir = level.dir.as_mut().expect("the lowest folder is open");
        loop {
            match dir.read() {
                Some(Ok(entry)) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Some(Ok(entry)) => return Ok(Some((entry.file_name().to_owned(), entry.file_type()))),
                Some(Err(errno)) => {
                    let path = self.folder_path();
                    return Err(Obstacle::Failed { step: "read", path, source: errno.into() });
                }
                // Not every filesystem shows all entries to who removes some meanwhile.
                None if level.removed => {
                    level.removed = false;
                    dir.rewind();
                }
                None => return Ok(None),
            }
        }
    }

    fn remove_or_enter(&mut self, name: CString, kind: FileType) -> Result<(), Obstacle> {
        if kind != FileType::Directory && self.unlink(&name)? {
            return Ok(());
        }
        let folder = self.folder().map_err(self.failed("open", &name))?;
        match files::folder_on_same_mount(folder, &name) {
            Ok(inner) => self.enter(name, inner),
            Err(Errno::NOENT) => Ok(()),
            Err(Errno::XDEV) => Err(Obstacle::Mount(self.path(&name))),
            Err(errno) => Err(self.failed("open", &name)(errno)),
        }
    }

    /// Removes an entry unless it is a folder; says whether it was none.
    fn unlink(&mut self, name: &CStr) -> Result<bool, Obstacle> {
        let folder = self.folder().map_err(self.failed("remove", name))?;
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => return Ok(false),
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(true),
            Err(errno) => return Err(self.failed("examine", name)(errno)),
        };
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            // Only the last of its names gives back what it takes.
            Ok(()) if stat.st_nlink == 1 => *self.bytes += files::allocated(&stat),
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(self.not_removed(folder, name, errno)),
        }
        self.last().removed = true;
        Ok(true)
    }

    /// Removes the folder that was emptied, and goes on in the one above.
    fn leave(&mut self) -> Result<(), Obstacle> {
        let Some(done) = self.levels.pop() else {
            return Ok(());
        };
        let above = self.levels.last().expect("only what is below the top is left");
        if above.dir.is_none() {
            let parent = done.dir.as_ref().map_or(Err(Errno::BADF), Dir::fd).and_then(files::parent);
            let parent = match parent {
                Ok(parent) if files::identity(&parent) == Ok(above.identity) => parent,
                Ok(_) | Err(Errno::XDEV) => return Err(Obstacle::Moved(self.path(&done.name))),
                Err(errno) => return Err(self.failed("open the folder of", &done.name)(errno)),
            };
            let dir = Dir::new(parent).map_err(self.failed("read the folder of", &done.name))?;
            self.last().dir = Some(dir);
        }
        let folder = self.folder().map_err(self.failed("remove", &done.name))?;
        match rustix::fs::unlinkat(folder, &done.name, AtFlags::REMOVEDIR) {
            Ok(()) => *self.bytes += done.bytes,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(self.not_removed(folder, &done.name, errno)),
        }
        self.last().removed = true;
        Ok(())
    }

    fn not_removed(&self, folder: BorrowedFd<'_>, name: &CStr, errno: Errno) -> Obstacle {
        match errno {
            Errno::BUSY => Obstacle::Mount(self.path(name)),
            Errno::PERM if is_fixed(folder) => Obstacle::Attributes(self.folder_path()),
            Errno::PERM if is_fixed_entry(folder, name) => Obstacle::Attributes(self.path(name)),
            errno => self.failed("remove", name)(errno),
        }
    }

    /// The folder that is being emptied.
    fn folder(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.levels.last().and_then(|level| level.dir.as_ref()).map_or(Err(Errno::BADF), Dir::fd)
    }
}

/// Whether an attribute keeps it, or what is in it, from being removed (ioctl_iflags(2)).
fn is_fixed(opened: impl AsFd) -> bool {
    rustix::fs::ioctl_getflags(opened).is_ok_and(|flags| flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND))
}

/// Nothing is asked of devices and FIFOs: opening them may do something.
fn is_fixed_entry(folder: BorrowedFd<'_>, name: &CStr) -> bool {
    let kind = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .map(|stat| FileType::from_raw_mode(stat.st_mode));
    let path = Path::new(OsStr::from_bytes(name.to_bytes()));
    matches!(kind, Ok(FileType::RegularFile | FileType::Directory))
        && files::open_below(folder, path, OFlags::RDONLY).is_ok_and(is_fixed)
}
