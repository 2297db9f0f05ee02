//! What a pod has in its storage: how much there is in each part, and what of it hides files of the image.

use crate::files;
use crate::reset::OPAQUE;
use crate::storage::UPPER;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::collections::HashSet;
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
use volhook_core::decision::Population;
use volhook_core::volume::FILES;
use volhook_core::volume::Part;

/// Says to overlayfs that nothing is there, on a file without content (`Documentation/filesystems/overlayfs.rst`).
const WHITEOUT: &CStr = c"trusted.overlay.whiteout";
/// How many folders on the way down are kept open. Those above are found again through `..`.
const OPEN_FOLDERS: usize = 32;

/// What a part has of its own. What lies in another part below it is that one's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Entries that are no directories. What only says that something is gone is none.
    pub files: u64,
    /// Directories below its own.
    pub directories: u64,
    /// Bytes of the disk that it takes. A file with several names counts once.
    pub bytes: u64,
    /// Entries of the image that are gone in an overlay.
    pub whiteouts: u64,
    /// Directories in an overlay in which nothing of the image's is seen.
    pub opaque: u64,
    /// How many of the files, whiteouts and opaque directories are instead of something that the image has; 0 where the
    /// image is not shown.
    pub shadowing: u64,
}

/// Counts what is in each of `parts` of the storage with the top directory `top`. `image` is the root filesystem on which
/// nothing else is mounted. What a container has made there may be of any depth and may change meanwhile; no symlink
/// is followed and no mount crossed.
///
/// # Errors
/// Those of reading; [`io::ErrorKind::TimedOut`] at the time `deadline`.
pub fn changes(
    top: BorrowedFd<'_>,
    population: Population,
    parts: &[Part],
    image: Option<BorrowedFd<'_>>,
    deadline: Instant,
) -> io::Result<Vec<Changes>> {
    let base = match population {
        Population::Overlay => UPPER,
        Population::Copy | Population::Empty => FILES,
    };
    let mut all = vec![Changes::default(); parts.len()];
    let mut several_names = HashSet::new();
    for (index, part) in parts.iter().enumerate() {
        let relative = Path::new(part.path.as_str().trim_start_matches('/'));
        let folder = match files::folder_below(top, &Path::new(base).join(relative)) {
            Ok(folder) => folder,
            // Nothing of its own, or something else in its place.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let below = image.and_then(|image| files::folder_below(image, relative).ok());
        let is_part = |path: &Path| parts.iter().any(|other| Path::new(other.path.as_str()) == path);
        let changes = &mut all[index];
        let start = Path::new(part.path.as_str());
        walk(folder, below, population, start, deadline, &mut |found| {
            if found.kind == Kind::Directory && found.path() != start && is_part(&found.path()) {
                return false;
            }
            let counts = found.stat.st_nlink == 1
                || found.kind == Kind::Directory
                || several_names.insert((found.stat.st_dev, found.stat.st_ino));
            if counts {
                changes.bytes += files::allocated(found.stat);
            }
            match found.kind {
                Kind::Directory => changes.directories += u64::from(found.name.is_some()),
                Kind::Whiteout => changes.whiteouts += 1,
                Kind::Other => changes.files += 1,
            }
            changes.opaque += u64::from(found.is_opaque);
            changes.shadowing += u64::from(found.is_shadowing());
            true
        })?;
    }
    Ok(all)
}

/// The paths in an overlay's changes that hide something of an image: files and whiteouts where the image has something,
/// directories that show nothing of the image's or are where the image has no directory. Sorted. `top` is the storage's top
/// directory, `image` the root filesystem on which nothing else is mounted.
///
/// # Errors
/// As [`changes`].
pub fn shadowed(top: BorrowedFd<'_>, image: BorrowedFd<'_>, deadline: Instant) -> io::Result<Vec<PathBuf>> {
    let upper = match files::folder_below(top, Path::new(UPPER)) {
        Ok(upper) => upper,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(errno.into()),
    };
    let image = files::folder_on_same_mount(image, c".")?;
    let mut paths = Vec::new();
    walk(upper, Some(image), Population::Overlay, Path::new("/"), deadline, &mut |found| {
        if found.is_shadowing() {
            paths.push(found.path());
        }
        true
    })?;
    paths.sort();
    Ok(paths)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Whiteout,
    Other,
}

/// An entry that the walk has come to.
struct Found<'a> {
    /// The folder that it is in.
    folder: &'a Path,
    /// Its name; `None` for the top itself.
    name: Option<&'a CStr>,
    kind: Kind,
    stat: &'a Stat,
    /// Whether nothing of the image is seen in this directory.
    is_opaque: bool,
    /// What the image has at its place.
    below: Option<FileType>,
}

impl Found<'_> {
    fn path(&self) -> PathBuf {
        match self.name {
            Some(name) => self.folder.join(OsStr::from_bytes(name.to_bytes())),
            None => self.folder.to_owned(),
        }
    }

    fn is_shadowing(&self) -> bool {
        match (self.kind, self.below) {
            (_, None) => false,
            (Kind::Directory, Some(FileType::Directory)) => self.is_opaque,
            _ => true,
        }
    }
}

/// A folder on the way down, with what the image has at its place.
struct Level {
    folder: Option<OwnedFd>,
    below: Option<OwnedFd>,
    /// Device and inode of both.
    identities: [Option<(u64, u64)>; 2],
    /// The folders in it that are still to be read.
    waiting: Vec<CString>,
}

/// Shows everything in `top` and `top` itself to `show`, which says whether to go into a directory.
fn walk(
    top: OwnedFd,
    below: Option<OwnedFd>,
    population: Population,
    start: &Path,
    deadline: Instant,
    show: &mut dyn FnMut(&Found<'_>) -> bool,
) -> io::Result<()> {
    let mut path = start.to_owned();
    let stat = rustix::fs::fstat(&top)?;
    let is_opaque = population == Population::Overlay && is_opaque(&top);
    let kind = below.as_ref().map(|_| FileType::Directory);
    let itself =
        Found { folder: &path, name: None, kind: Kind::Directory, stat: &stat, is_opaque, below: kind };
    if !show(&itself) {
        return Ok(());
    }
    let mut levels = vec![read(top, below, population, &path, show)?];
    while let Some(level) = levels.last_mut() {
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let Some(folder) = &level.folder else { break };
        let Some(name) = level.waiting.pop() else {
            path.pop();
            leave(&mut levels, path.strip_prefix(start).unwrap_or(Path::new("")))?;
            continue;
        };
        let inner = match files::folder_on_same_mount(folder, &name) {
            Ok(inner) => inner,
            // Gone, something else by now, or not the storage's.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let below = level.below.as_ref().and_then(|below| files::folder_on_same_mount(below, &name).ok());
        path.push(OsStr::from_bytes(name.to_bytes()));
        levels.push(read(inner, below, population, &path, show)?);
        if let Some(far) = levels.len().checked_sub(OPEN_FOLDERS + 1).filter(|far| *far > 0) {
            (levels[far].folder, levels[far].below) = (None, None);
        }
    }
    Ok(())
}

/// Shows what is in a folder.
fn read(
    folder: OwnedFd,
    below: Option<OwnedFd>,
    population: Population,
    path: &Path,
    show: &mut dyn FnMut(&Found<'_>) -> bool,
) -> io::Result<Level> {
    let mut waiting = Vec::new();
    for (name, _) in files::raw_entries(&folder)? {
        let stat = match rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            _ if population == Population::Overlay && is_whiteout(&folder, &name, &stat) => Kind::Whiteout,
            _ => Kind::Other,
        };
        let is_opaque = kind == Kind::Directory
            && population == Population::Overlay
            && files::folder_on_same_mount(&folder, &name).is_ok_and(|inner| is_opaque(&inner));
        let in_image = below.as_ref().and_then(|below| {
            let stat = rustix::fs::statat(below, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            Some(FileType::from_raw_mode(stat.st_mode))
        });
        let found = Found { folder: path, name: Some(&name), kind, stat: &stat, is_opaque, below: in_image };
        if show(&found) && kind == Kind::Directory {
            waiting.push(name);
        }
    }
    let of = |opened: Option<&OwnedFd>| opened.map(files::identity).transpose();
    let identities = [of(Some(&folder))?, of(below.as_ref())?];
    Ok(Level { folder: Some(folder), below, identities, waiting })
}

/// Goes back to the folder above, at `path` below the top, which is opened again if it was too far up.
fn leave(levels: &mut Vec<Level>, path: &Path) -> io::Result<()> {
    let Some(done) = levels.pop() else { return Ok(()) };
    // The first one is always open.
    let image = levels.first().and_then(|top| top.below.as_ref());
    let is_closed = levels.last().is_some_and(|above| above.folder.is_none());
    let below = image.filter(|_| is_closed).and_then(|image| files::folder_below(image, path).ok());
    let Some(above) = levels.last_mut().filter(|_| is_closed) else { return Ok(()) };
    let parent = files::parent(done.folder.as_ref().ok_or(Errno::BADF)?)?;
    if Some(files::identity(&parent)?) != above.identities[0] {
        return Err(Errno::STALE.into());
    }
    above.folder = Some(parent);
    // A path that is too long for the kernel shows nothing of the image any more.
    above.below = below.filter(|below| files::identity(below).ok() == above.identities[1]);
    Ok(())
}

fn is_opaque(folder: &OwnedFd) -> bool {
    let mut value = [0; 1];
    rustix::fs::fgetxattr(folder, OPAQUE, &mut value[..]).is_ok_and(|length| &value[..length] == b"y")
}

fn is_whiteout(folder: impl AsFd, name: &CStr, stat: &Stat) -> bool {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => stat.st_rdev == 0,
        FileType::RegularFile if stat.st_size == 0 => {
            let mut nothing = [0; 0];
            files::entry_on_same_mount(folder, name).is_ok_and(|file| {
                rustix::fs::getxattr(files::link_to(&file), WHITEOUT, &mut nothing[..]).is_ok()
            })
        }
        _ => false,
    }
}
