//! What is adopted, on its way into a volume: where it came from stands beside it, so that whoever finds it unfinished puts it
//! back there. Nobody deletes it.
//!
//! It lies in `staging/adopt-<uuid>/` as the content of the volume that is being built there, with its origin in
//! `origin.json`. That is on the disk before the content is moved, and is removed when the volume is in its place; a volume's
//! own folder with an `origin.json` in it was finished by somebody who was killed then. No version that does not know of
//! all this cleans up a folder of that name.

use crate::create;
use crate::create::CLEANING;
use crate::create::STAGING;
use crate::create::lock;
use crate::error::StoreError;
use crate::files;
use crate::store::DATA;
use crate::store::IMAGE;
use crate::store::Store;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;
use serde::Deserialize;
use serde::Serialize;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

/// The file that says where the content beside it came from.
pub(crate) const ORIGIN: &str = "origin.json";

/// How the name of a staging folder begins whose content came from elsewhere.
const PREFIX: &str = "adopt-";

/// The version of the file.
const FORMAT: u32 = 1;

/// As large as the longest path, written as numbers.
const LIMIT: u64 = 64 << 10;

/// Where something came from. Paths are kept as the bytes that they are.
#[derive(Debug, Serialize, Deserialize)]
struct Origin {
    format: u32,
    /// The folder that it was in, by a path without symlinks.
    folder: OsString,
    /// That folder's inode: another one in its place is not where it came from.
    inode: u64,
    /// Its name there.
    name: OsString,
}

/// What `volume adopt` had moved when it was killed, and cannot be put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranded {
    /// Where it lies.
    pub path: PathBuf,
    /// Where it came from, if that is known.
    pub origin: Option<PathBuf>,
    /// Why it cannot be put back there.
    pub reason: String,
}

impl fmt::Display for Stranded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.origin.as_deref().map_or("what was somewhere else".into(), files::shown);
        write!(f, "{what} lies at {} since its adoption was killed: {}", self.path.display(), self.reason)
    }
}

/// The name of the staging folder in which the volume with this uuid is built from what was elsewhere.
pub(crate) fn staging_name(uuid: &str) -> String {
    format!("{PREFIX}{uuid}")
}

/// Whether a staging folder of this name has a content that came from elsewhere.
pub(crate) fn is_adoption(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(files::is_uuid)
}

/// Writes down in `staged` that its content comes from `name` in `parent`. When this returns, that survives a power cut, as far
/// as the folder itself does.
pub(crate) fn write_down(staged: &OwnedFd, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let folder = rustix::fs::readlink(files::link_to(parent), Vec::new())?;
    let folder = std::os::unix::ffi::OsStringExt::from_vec(folder.into_bytes());
    let origin = Origin { format: FORMAT, folder, inode: files::identity(parent)?.1, name: name.to_owned() };
    let text = serde_json::to_vec(&origin)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(staged, ORIGIN, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(&text)?;
    volhook_locks::flush(&file)?;
    Ok(volhook_locks::flush(staged)?)
}

/// Puts what lies in `staged` back where it came from; nothing may lie there any more.
///
/// # Errors
/// Where it came from, as far as that is known, and why it cannot be put there: then it stays.
pub(crate) fn put_back(staged: &OwnedFd) -> Result<(), (Option<PathBuf>, String)> {
    let Some(content) = content_of(staged) else { return Ok(()) };
    let (origin, path) = read(staged).map_err(|reason| (None, reason))?;
    let back = place_of(&origin).and_then(|parent| {
        let flags = RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(staged, content, &parent, &origin.name, flags).map_err(told)?;
        // Both, so that it is in one of them whatever the filesystem writes first.
        let _ = volhook_locks::flush(&parent).and_then(|()| volhook_locks::flush(staged));
        Ok(())
    });
    back.map_err(|reason| (Some(path), reason))
}

/// What keeps the content of `staged` from being put back, for somebody who only looks; `None` where nothing does.
fn obstacle(staged: &OwnedFd) -> Option<(Option<PathBuf>, String)> {
    content_of(staged)?;
    let (origin, path) = match read(staged) {
        Ok(read) => read,
        Err(reason) => return Some((None, reason)),
    };
    let free = place_of(&origin).and_then(|parent| {
        match rustix::fs::statat(&parent, &origin.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Ok(_) => Err(told(Errno::EXIST)),
            Err(errno) => Err(told(errno)),
        }
    });
    free.err().map(|reason| (Some(path), reason))
}

/// Whether nothing keeps the staging folder of this name from being cleaned up.
pub(crate) fn is_free(name: &str, staged: &OwnedFd) -> bool {
    !is_adoption(name) || obstacle(staged).is_none()
}

/// What of `staged` came from elsewhere. What cannot be looked at is there.
fn content_of(staged: &OwnedFd) -> Option<&'static str> {
    let is_there = |name: &&str| {
        rustix::fs::statat(staged, *name, AtFlags::SYMLINK_NOFOLLOW).err() != Some(Errno::NOENT)
    };
    [DATA, IMAGE].into_iter().find(is_there)
}

fn read(staged: &OwnedFd) -> Result<(Origin, PathBuf), String> {
    let unknown = |error: &dyn fmt::Display| format!("where it came from cannot be read: {error}");
    let text = files::read_below(staged, ORIGIN, LIMIT).map_err(|error| unknown(&error))?;
    let origin: Origin = serde_json::from_slice(&text).map_err(|error| unknown(&error))?;
    if origin.format > FORMAT {
        return Err("a newer volhook had moved it".to_owned());
    }
    let path = Path::new(&origin.folder).join(&origin.name);
    Ok((origin, path))
}

/// The folder that it was in, if that is still there.
fn place_of(origin: &Origin) -> Result<OwnedFd, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = Path::new(&origin.folder);
    let opened = rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve);
    let folder = opened.map_err(|errno| match errno {
        Errno::NOENT => "the folder that it was in is gone".to_owned(),
        Errno::LOOP | Errno::NOTDIR => {
            "something else is in the place of the folder that it was in".to_owned()
        }
        errno => format!("the folder that it was in cannot be opened: {}", io::Error::from(errno)),
    })?;
    if files::identity(&folder).map_err(told)?.1 == origin.inode && path.is_absolute() {
        Ok(folder)
    } else {
        Err("another folder is in the place of the one that it was in".to_owned())
    }
}

fn told(errno: Errno) -> String {
    match errno {
        Errno::EXIST => "something else has its place".to_owned(),
        errno => format!("it cannot be moved: {}", io::Error::from(errno)),
    }
}

impl Store {
    /// Puts back what adoptions that were killed had moved, and returns what cannot be put back.
    ///
    /// # Errors
    /// Those of [`stranded`](Self::stranded).
    pub fn put_back_adopted(&self) -> Result<Vec<Stranded>, StoreError> {
        let staging = files::open_folder(&self.root.join(STAGING));
        for name in staging.as_ref().map(files::names).into_iter().flatten().flatten() {
            if let Ok(staging) = &staging
                && is_adoption(&name)
                && let Some((folder, _held)) = lock(staging, &name)
            {
                create::remove(staging, &name, &folder, Instant::now() + CLEANING);
            }
        }
        self.stranded()
    }

    /// What adoptions that were killed had moved and [`clean_staging`](Self::clean_staging) cannot put back. Nothing is
    /// changed.
    ///
    /// # Errors
    /// [`StoreError::List`] when the folder cannot be opened or read.
    pub fn stranded(&self) -> Result<Vec<Stranded>, StoreError> {
        let path = self.root.join(STAGING);
        let failed = |source| StoreError::List { path: path.clone(), source };
        let staging = match files::open_folder(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(failed)?,
        };
        let mut stranded = Vec::new();
        for name in files::names(&staging).map_err(failed)?.into_iter().filter(|name| is_adoption(name)) {
            let Some((folder, _held)) = lock(&staging, &name) else { continue };
            let Some((origin, reason)) = obstacle(&folder) else { continue };
            let content = content_of(&folder).unwrap_or_default();
            stranded.push(Stranded { path: path.join(&name).join(content), origin, reason });
        }
        Ok(stranded)
    }
}
