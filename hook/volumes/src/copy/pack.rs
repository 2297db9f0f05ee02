//! Writing what is in a tree as a tar stream (tar(5)), with the same care as a copy.

use super::Copied;
use super::CopyError;
use super::Engine;
use super::How;
use super::Place;
use super::Rights;
use super::Watch;
use super::entry::Original;
use super::metadata::Handle;
use crate::files;
use rustix::fs::CWD;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;
use tar::Builder;
use tar::EntryType;
use tar::Header;

/// How many folders on the way down are kept open. Those above are found again through `..`.
const OPEN_FOLDERS: usize = 32;
/// How extended attributes are called in an archive, as GNU tar and libarchive have it.
pub(super) const ATTRIBUTE: &str = "SCHILY.xattr.";
/// As much of a symlink's target as a header holds.
const SHORT_LINK: usize = 100;

/// What is packed.
#[derive(Debug)]
pub enum Packed {
    /// What is in a folder, by the names that it has there.
    Content(OwnedFd),
    /// A folder and what is in it, under this name.
    Directory(OwnedFd, OsString),
    /// An entry of a folder, under its own name.
    Entry(OwnedFd, OsString),
}

/// Writes `what` to `out`. Sockets are left out: an archive cannot hold them.
///
/// # Errors
/// [`CopyError`].
pub fn pack(what: Packed, out: impl Write, watch: &Watch<'_>) -> Result<Copied, CopyError> {
    let (Packed::Content(folder) | Packed::Directory(folder, _) | Packed::Entry(folder, _)) = &what;
    let how = How { rights: Rights::Keep, place: Place::Empty };
    let engine = Engine::new(how, watch, [folder.as_fd(), folder.as_fd()]);
    let mut packer = Packer {
        engine: &engine,
        builder: Builder::new(out),
        levels: Vec::new(),
        path: PathBuf::new(),
        links: HashMap::new(),
    };
    match what {
        Packed::Content(folder) => packer.enter(CString::default(), folder, Path::new(""))?,
        Packed::Directory(folder, name) => packer.enter(CString::default(), folder, Path::new(&name))?,
        Packed::Entry(folder, name) => {
            let c_name = CString::new(name.as_bytes())
                .map_err(|_| CopyError::failed("find", PathBuf::from(&name))(Errno::INVAL))?;
            let original = engine.original(&folder, &c_name)?;
            let original = original.ok_or_else(|| engine.failed("find", &folder, &c_name)(Errno::NOENT))?;
            packer.append(&folder, &c_name, &original)?;
        }
    }
    packer.walk()?;
    let mut out = packer.builder.into_inner().map_err(written)?;
    out.flush().map_err(written)?;
    Ok(engine.counters.now())
}

fn written(source: io::Error) -> CopyError {
    CopyError::Archive { step: "write", source }
}

struct Level {
    identity: (u64, u64),
    below: Vec<CString>,
    /// `None` if it is too far up to be kept open.
    folder: Option<OwnedFd>,
}

struct Packer<'a, W: Write> {
    engine: &'a Engine<'a>,
    builder: Builder<W>,
    levels: Vec<Level>,
    /// That of the folder being packed, in the archive.
    path: PathBuf,
    /// By device and inode, what has several names: the first of them in the archive.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<'_, W> {
    fn walk(&mut self) -> Result<(), CopyError> {
        let engine = self.engine;
        while let Some(level) = self.levels.last_mut() {
            engine.check()?;
            let Some(folder) = &level.folder else { return Ok(()) };
            if let Some(name) = level.below.pop() {
                match files::folder_on_same_mount(folder, &name) {
                    Ok(inner) => {
                        let path = self.path.join(OsStr::from_bytes(name.to_bytes()));
                        engine.count(&engine.counters.directories, 1);
                        self.enter(name, inner, &path)?;
                    }
                    Err(Errno::NOENT) => {}
                    Err(Errno::XDEV) => return Err(CopyError::Mount(engine.path(folder, &name))),
                    Err(Errno::NOTDIR | Errno::LOOP) => {
                        return Err(CopyError::Changed(engine.path(folder, &name)));
                    }
                    Err(errno) => return Err(engine.failed("open", folder, &name)(errno)),
                }
            } else {
                self.leave()?;
            }
        }
        Ok(())
    }

    /// Packs a folder itself and all in it that is none.
    fn enter(&mut self, name: CString, folder: OwnedFd, path: &Path) -> Result<(), CopyError> {
        let engine = self.engine;
        let stat = rustix::fs::fstat(&folder).map_err(engine.failed("examine", &folder, &name))?;
        self.path = path.to_owned();
        let handle = Handle::Opened(folder.as_fd());
        self.attributes(handle).map_err(engine.failed("list the attributes of", &folder, c"."))?;
        let mut header = header(&stat, EntryType::Directory);
        // With a slash at the end, as is usual for directories.
        let shown = if path.as_os_str().is_empty() { PathBuf::from("./") } else { path.join("") };
        self.builder.append_data(&mut header, shown, io::empty()).map_err(written)?;
        let mut below = Vec::new();
        let failed = |errno| engine.failed("read", &folder, c".")(errno);
        for entry in Dir::read_from(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if entry.file_type() == FileType::Directory {
                below.push(name.to_owned());
                continue;
            }
            engine.check()?;
            match engine.original(&folder, name)? {
                None => {}
                Some(original) if original.kind() == FileType::Directory => below.push(name.to_owned()),
                Some(original) => self.append(&folder, name, &original)?,
            }
        }
        self.levels.push(Level { identity: (stat.st_dev, stat.st_ino), below, folder: Some(folder) });
        if let Some(far) = self.levels.len().checked_sub(OPEN_FOLDERS + 1) {
            self.levels[far].folder = None;
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), CopyError> {
        let Some(Level { folder: Some(done), .. }) = self.levels.pop() else { return Ok(()) };
        self.path.pop();
        let engine = self.engine;
        if let Some(above) = self.levels.last_mut()
            && above.folder.is_none()
        {
            above.folder = Some(match files::parent(&done) {
                Ok(parent) if files::identity(&parent) == Ok(above.identity) => parent,
                Ok(_) | Err(Errno::XDEV) => return Err(CopyError::Moved(engine.path(&done, c"."))),
                Err(errno) => return Err(engine.failed("open the folder of", &done, c".")(errno)),
            });
        }
        Ok(())
    }

    fn append(&mut self, folder: &OwnedFd, name: &CStr, original: &Original) -> Result<(), CopyError> {
        let engine = self.engine;
        let path = self.path.join(OsStr::from_bytes(name.to_bytes()));
        let stat = &original.stat;
        let kind = match original.kind() {
            FileType::RegularFile => EntryType::Regular,
            FileType::Symlink => EntryType::Symlink,
            FileType::Fifo => EntryType::Fifo,
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            _ => {
                engine.count(&engine.counters.left_out, 1);
                return Ok(());
            }
        };
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&original.identity()) {
                let mut header = header(stat, EntryType::Link);
                header.set_size(0);
                append_link(&mut self.builder, &mut header, &path, first.as_os_str().as_bytes())?;
                engine.count(&engine.counters.files, 1);
                return Ok(());
            }
            self.links.insert(original.identity(), path.clone());
        }
        let mut header = header(stat, kind);
        let failed = |step| engine.failed(step, folder, name);
        if kind == EntryType::Regular {
            // Through the handle: its name may stand for a device by now.
            let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(CWD, files::link_to(&original.fd), flags, Mode::empty())
                .map_err(failed("open"))?;
            self.attributes(Handle::Opened(file.as_fd())).map_err(failed("list the attributes of"))?;
            let size = stat.st_size.unsigned_abs();
            header.set_size(size);
            let mut failure = None;
            let content = Content { engine, file: File::from(file), left: size, failure: &mut failure };
            let appended = self.builder.append_data(&mut header, &path, content);
            if let Some(failure) = failure {
                return Err(match failure {
                    Stopped::Told(error) => error,
                    Stopped::Read(source) => {
                        CopyError::Failed { step: "read", path: engine.path(folder, name), source }
                    }
                });
            }
            appended.map_err(written)?;
        } else if kind == EntryType::Symlink {
            self.attributes(Handle::Path(original.fd.as_fd())).map_err(failed("list the attributes of"))?;
            let target =
                rustix::fs::readlinkat(&original.fd, c"", Vec::new()).map_err(failed("read"))?.into_bytes();
            append_link(&mut self.builder, &mut header, &path, &target)?;
        } else {
            let numbers = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            header.set_device_major(numbers.0).map_err(written)?;
            header.set_device_minor(numbers.1).map_err(written)?;
            self.builder.append_data(&mut header, &path, io::empty()).map_err(written)?;
        }
        engine.count(&engine.counters.files, 1);
        Ok(())
    }

    /// Puts the extended attributes before the entry that they belong to.
    fn attributes(&mut self, handle: Handle<'_>) -> Result<(), Errno> {
        let mut found = Vec::new();
        for name in handle.names()? {
            if let (Some(value), Ok(name)) = (handle.value(&name)?, name.to_str()) {
                found.push((format!("{ATTRIBUTE}{name}"), value));
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        let found = found.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(found).map_err(|_| Errno::IO)
    }
}

fn append_link<W: Write>(
    builder: &mut Builder<W>,
    header: &mut Header,
    path: &Path,
    target: &[u8],
) -> Result<(), CopyError> {
    if target.len() <= SHORT_LINK {
        // As it is: the other way tidies it up.
        header.set_link_name_literal(target).map_err(written)?;
        return builder.append_data(header, path, io::empty()).map_err(written);
    }
    builder.append_link(header, path, OsStr::from_bytes(target)).map_err(written)
}

fn header(stat: &rustix::fs::Stat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(stat.st_mtime.try_into().unwrap_or(0));
    header.set_size(0);
    header
}

/// The content of a file that may become shorter or longer meanwhile; its header tells a size already.
struct Content<'a> {
    engine: &'a Engine<'a>,
    file: File,
    left: u64,
    failure: &'a mut Option<Stopped>,
}

enum Stopped {
    Told(CopyError),
    Read(io::Error),
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Err(error) = self.engine.check() {
            *self.failure = Some(Stopped::Told(error));
            return Err(io::Error::other("stopped"));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = match self.file.read(&mut buffer[..most]) {
            // It was cut: what is missing is zeros, as in a file that is extended again.
            Ok(0) => {
                buffer[..most].fill(0);
                most
            }
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                *self.failure = Some(Stopped::Read(error));
                return Err(io::Error::other("stopped"));
            }
        };
        self.left -= read as u64;
        self.engine.count(&self.engine.counters.bytes, read as u64);
        Ok(read)
    }
}
