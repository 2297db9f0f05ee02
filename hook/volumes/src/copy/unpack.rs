//! Unpacking a tar stream (tar(5)) from anybody into a folder that somebody else may have prepared.
//!
//! Symlinks on the way to an entry are followed inside the folder, whether they were there or came with the stream.

use super::Copied;
use super::CopyError;
use super::Engine;
use super::Finish;
use super::Folder;
use super::How;
use super::Place;
use super::Rights;
use super::Watch;
use super::metadata;
use super::metadata::Handle;
use super::pack::ATTRIBUTE;
use crate::files;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use tar::Archive;
use tar::Entry;
use tar::EntryType;

/// How much is read at a time, in bytes.
const BUFFER: usize = 256 << 10;
/// As much of a name as a header holds, in bytes.
const NAME_FIELD: usize = 100;
/// Directories that an archive does not mention but needs.
const UNMENTIONED: u32 = 0o755;

/// Unpacks `input` into the folder `to`. What is there is handled as in [`Place::Merge`]. With [`Rights::Give`] owners
/// are those, not the archive's.
///
/// # Errors
/// [`CopyError`]. What was unpacked until then stays.
pub fn unpack(input: impl Read, to: OwnedFd, rights: Rights, watch: &Watch<'_>) -> Result<Copied, CopyError> {
    let how = How { rights, place: Place::Merge };
    let engine = Engine::new(how, watch, [to.as_fd(), to.as_fd()]);
    let mut unpacker = Unpacker { engine: &engine, top: to, made: BTreeMap::new(), here: None };
    let mut archive = Archive::new(input);
    for entry in archive.entries().map_err(unreadable)? {
        engine.check()?;
        unpacker.entry(entry.map_err(unreadable)?)?;
    }
    unpacker.finish()?;
    Ok(engine.counters.now())
}

fn unreadable(source: io::Error) -> CopyError {
    CopyError::Archive { step: "read", source }
}

/// What an archive says of an entry.
struct Told {
    kind: FileType,
    uid: u32,
    gid: u32,
    mode: u32,
    modified: Timespec,
    attributes: Vec<(CString, Vec<u8>)>,
    device: u64,
}

struct Unpacker<'a> {
    engine: &'a Engine<'a>,
    top: OwnedFd,
    /// The directories that were made: device and inode, and what they are to be in the end.
    made: BTreeMap<PathBuf, ((u64, u64), Told)>,
    /// The directory in which the last entry was put.
    here: Option<(PathBuf, Arc<Folder>)>,
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<(), CopyError> {
        let engine = self.engine;
        let path = inside(&entry.path_bytes())?;
        let (told, lost) = told(&mut entry)?;
        if lost > 0 {
            let header = entry.header();
            let names = [Some(header.path_bytes()), header.link_name_bytes()];
            // What was lost may be the whole name, of which the header has as much as it holds.
            if names.iter().flatten().any(|name| name.len() >= NAME_FIELD) {
                let reason = "a name of more than 100 bytes has a line feed in it";
                return Err(unreadable(io::Error::new(io::ErrorKind::Unsupported, reason)));
            }
            engine.count(&engine.counters.attributes_lost, lost);
        }
        let (Some(name), Some(above)) = (path.file_name(), path.parent()) else {
            // The folder itself, which is there.
            return Ok(());
        };
        let new_name = CString::new(name.as_bytes())
            .map_err(|_| CopyError::failed("make", path.clone())(Errno::INVAL))?;
        let folder = self.folder(above)?;
        let failed = |step| CopyError::failed(step, path.clone());
        let kind = entry.header().entry_type();
        match kind {
            EntryType::Directory => return self.directory(&folder, &path, &new_name, told),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = engine.make(&folder, &new_name, || {
                    rustix::fs::openat(&folder.to, &new_name, flags, Mode::RUSR | Mode::WUSR)
                })?;
                let mut file = File::from(file);
                self.content(&mut entry, &mut file, &path)?;
                self.apply(Handle::Opened(file.as_fd()), &told, folder.inherits, &path)?;
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = inside(&target)?;
                let (Some(first), Some(above)) = (target.file_name(), target.parent()) else {
                    return Err(CopyError::failed("link", target)(Errno::ISDIR));
                };
                let first = CString::new(first.as_bytes()).map_err(|_| failed("link")(Errno::INVAL))?;
                let copy = self
                    .open(above)
                    .and_then(|above| files::entry_on_same_mount(above, &first))
                    .map_err(CopyError::failed("find", target.clone()))?;
                if !engine.link(&folder, &new_name, &copy)? {
                    return Err(failed("link")(Errno::MLINK));
                }
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                engine.make(&folder, &new_name, || rustix::fs::symlinkat(&*target, &folder.to, &new_name))?;
                let made = engine.made(&folder, &new_name, FileType::Symlink, 0)?;
                self.apply(Handle::Path(made.as_fd()), &told, folder.inherits, &path)?;
            }
            EntryType::Char | EntryType::Block if engine.how.rights != Rights::Keep => {
                engine.count(&engine.counters.left_out, 1);
                return Ok(());
            }
            EntryType::Fifo | EntryType::Char | EntryType::Block => {
                let mode = Mode::RUSR | Mode::WUSR;
                engine.make(&folder, &new_name, || {
                    rustix::fs::mknodat(&folder.to, &new_name, told.kind, mode, told.device)
                })?;
                let made = engine.made(&folder, &new_name, told.kind, told.device)?;
                self.apply(Handle::Path(made.as_fd()), &told, folder.inherits, &path)?;
            }
            // Of the archive, not of a file.
            EntryType::XGlobalHeader => return Ok(()),
            _ => return Err(failed("unpack an entry of an unknown kind,")(Errno::OPNOTSUPP)),
        }
        if kind != EntryType::Link {
            engine.count(&engine.counters.files, 1);
        }
        Ok(())
    }

    fn content(&self, from: &mut impl Read, to: &mut File, path: &Path) -> Result<(), CopyError> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(error)),
            };
            to.write_all(&buffer[..length]).map_err(|source| CopyError::Failed {
                step: "write",
                path: path.to_owned(),
                source,
            })?;
            self.engine.count(&self.engine.counters.bytes, length as u64);
            self.engine.check()?;
        }
    }

    fn directory(
        &mut self,
        folder: &Folder,
        path: &Path,
        new_name: &CString,
        told: Told,
    ) -> Result<(), CopyError> {
        if let Some((_, known)) = self.made.get_mut(path) {
            *known = told;
            return Ok(());
        }
        match rustix::fs::mkdirat(&folder.to, new_name, files::PRIVATE) {
            Ok(()) => self.note(folder, path, new_name, told),
            // One that is there, or a symlink to one, stays as it is.
            Err(Errno::EXIST) => match self.open(path) {
                Ok(_) => Ok(()),
                Err(_) => Err(CopyError::InTheWay {
                    path: path.to_owned(),
                    reason: "something of that name is there that is no directory",
                }),
            },
            Err(errno) => Err(CopyError::failed("make", path.to_owned())(errno)),
        }
    }

    /// Remembers a directory that was made.
    fn note(&mut self, above: &Folder, path: &Path, name: &CString, told: Told) -> Result<(), CopyError> {
        let engine = self.engine;
        let made = files::folder_on_same_mount(&above.to, name)
            .map_err(CopyError::failed("open", path.to_owned()))?;
        if !super::walk::is_untouched(&made) {
            return Err(CopyError::Changed(path.to_owned()));
        }
        if above.inherits {
            metadata::take_inherited(made.as_fd())
                .map_err(CopyError::failed("change the access list of", path.to_owned()))?;
        }
        let identity = files::identity(&made).map_err(CopyError::failed("examine", path.to_owned()))?;
        self.made.insert(path.to_owned(), (identity, told));
        engine.count(&engine.counters.directories, 1);
        Ok(())
    }

    /// The directory `path` of the tree, made if it is missing.
    fn folder(&mut self, path: &Path) -> Result<Arc<Folder>, CopyError> {
        if let Some((known, folder)) = &self.here
            && known == path
        {
            return Ok(Arc::clone(folder));
        }
        let failed = |step| CopyError::failed(step, path.to_owned());
        let opened = match self.open(path) {
            Err(Errno::NOENT) => {
                self.make_above(path)?;
                self.open(path)
            }
            result => result,
        };
        let to = opened.map_err(failed("open"))?;
        let from = rustix::io::fcntl_dupfd_cloexec(&to, 0).map_err(failed("open"))?;
        let inherits = metadata::gives_access_lists(to.as_fd());
        let folder = Folder { from, to, inherits, finish: Arc::new(Finish { original: None }) };
        let folder = Arc::new(folder);
        self.here = Some((path.to_owned(), Arc::clone(&folder)));
        Ok(folder)
    }

    /// Makes the directories of `path` that are missing.
    fn make_above(&mut self, path: &Path) -> Result<(), CopyError> {
        let mut here = PathBuf::new();
        for component in path.components() {
            let above = here.clone();
            here.push(component);
            if !matches!(self.open(&here), Err(Errno::NOENT)) {
                continue;
            }
            let failed = |step| CopyError::failed(step, here.clone());
            let name =
                CString::new(component.as_os_str().as_bytes()).map_err(|_| failed("make")(Errno::INVAL))?;
            let folder = self.folder(&above)?;
            rustix::fs::mkdirat(&folder.to, &name, files::PRIVATE).map_err(failed("make"))?;
            let told = Told {
                kind: FileType::Directory,
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
                mode: UNMENTIONED,
                modified: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
                attributes: Vec::new(),
                device: 0,
            };
            self.note(&folder, &here, &name, told)?;
        }
        Ok(())
    }

    /// Opens a directory of the tree.
    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        files::open_in_root(&self.top, path, flags, ResolveFlags::NO_XDEV)
    }

    /// Makes the directories what they are to be, those below first: what is put into them changes their times.
    fn finish(mut self) -> Result<(), CopyError> {
        self.here = None;
        for (path, (identity, told)) in self.made.iter().rev() {
            let folder = self.open(path).map_err(CopyError::failed("open", path.clone()))?;
            if files::identity(&folder) != Ok(*identity) {
                return Err(CopyError::Changed(path.clone()));
            }
            self.apply(Handle::Opened(folder.as_fd()), told, false, path)?;
        }
        Ok(())
    }

    fn apply(&self, to: Handle<'_>, told: &Told, inherits: bool, path: &Path) -> Result<(), CopyError> {
        let failed = |step| CopyError::failed(step, path.to_owned());
        let rights = self.engine.how.rights;
        let (uid, gid, mode) = match rights {
            Rights::Keep => (told.uid, told.gid, told.mode & 0o7777),
            Rights::Give { uid, gid } => (uid, gid, told.mode & 0o1777),
        };
        to.chown(Uid::from_raw(uid), Gid::from_raw(gid)).map_err(failed("change the owner of"))?;
        if inherits && told.kind != FileType::Symlink {
            to.take_access_list().map_err(failed("change the access list of"))?;
        }
        // After the owner: changing that clears the set-id bits.
        if told.kind != FileType::Symlink {
            to.chmod(Mode::from_raw_mode(mode)).map_err(failed("change the mode of"))?;
        }
        for (name, value) in &told.attributes {
            if rights == Rights::Keep || name.to_bytes().starts_with(b"user.") {
                self.engine
                    .set_attribute(to, name, value)
                    .map_err(failed("set the extended attributes of"))?;
            }
        }
        let times = Timestamps { last_access: told.modified, last_modification: told.modified };
        to.set_times(&times).map_err(failed("set the times of"))
    }
}

/// The path of an entry below the folder.
fn inside(bytes: &[u8]) -> Result<PathBuf, CopyError> {
    let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(CopyError::Outside(path.to_owned()));
            }
        }
    }
    Ok(inside)
}

/// What the archive says of an entry, and whether a part of that was not understood.
fn told<R: Read>(entry: &mut Entry<'_, R>) -> Result<(Told, u64), CopyError> {
    let mut lost = 0;
    let mut attributes = Vec::new();
    let mut modified = None;
    if let Some(extensions) = entry.pax_extensions().map_err(unreadable)? {
        for extension in extensions {
            // The library cannot read values with a line feed in them; a name then comes from the header.
            let Ok(extension) = extension else {
                lost = 1;
                continue;
            };
            let Ok(key) = extension.key() else { continue };
            if let Some(name) = key.strip_prefix(ATTRIBUTE).and_then(|name| CString::new(name).ok()) {
                attributes.push((name, extension.value_bytes().to_vec()));
            } else if key == "mtime" {
                modified = extension.value().ok().and_then(parse_time);
            }
        }
    }
    let header = entry.header();
    let id = |id: u64| u32::try_from(id).map_err(|error| unreadable(io::Error::other(error)));
    let kind = match header.entry_type() {
        EntryType::Directory => FileType::Directory,
        EntryType::Symlink => FileType::Symlink,
        EntryType::Fifo => FileType::Fifo,
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        _ => FileType::RegularFile,
    };
    let number = |number: io::Result<Option<u32>>| Ok(number.map_err(unreadable)?.unwrap_or(0));
    let device = match kind {
        FileType::CharacterDevice | FileType::BlockDevice => {
            rustix::fs::makedev(number(header.device_major())?, number(header.device_minor())?)
        }
        _ => 0,
    };
    let seconds = i64::try_from(header.mtime().map_err(unreadable)?).unwrap_or(i64::MAX);
    let told = Told {
        kind,
        uid: id(header.uid().map_err(unreadable)?)?,
        gid: id(header.gid().map_err(unreadable)?)?,
        mode: header.mode().map_err(unreadable)?,
        modified: modified.unwrap_or(Timespec { tv_sec: seconds, tv_nsec: 0 }),
        attributes,
        device,
    };
    Ok((told, lost))
}

/// A time in seconds, perhaps with a fraction (pax(1)).
fn parse_time(text: &str) -> Option<Timespec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let (seconds, nanoseconds): (i64, i64) = (seconds.parse().ok()?, digits.parse().ok()?);
    match (text.starts_with('-'), nanoseconds) {
        (_, 0) | (false, _) => Some(Timespec { tv_sec: seconds, tv_nsec: nanoseconds }),
        (true, _) => Some(Timespec { tv_sec: seconds - 1, tv_nsec: 1_000_000_000 - nanoseconds }),
    }
}
