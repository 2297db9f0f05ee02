//! The one seam between the journal and a disk: what it needs of files, and the real folder that gives it.

use rustix::fs::FallocateFlags;
use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::Metadata;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// A folder of files with plain names. Everything that the journal does to storage goes through this trait,
/// so that a test can put a disk under it that crashes at any step.
pub trait Disk: Send + Sync {
    /// The folder's path, for messages.
    fn path(&self) -> &Path;

    /// Makes the folder where it is missing and waits for the exclusive lock until `deadline`. The lock is held
    /// until the returned value is dropped or the process ends. `None` when the deadline passed.
    ///
    /// # Errors
    /// Any failure to make the folder or to use the lock file.
    fn lock(&self, deadline: Instant) -> io::Result<Option<Box<dyn Lock>>>;

    /// Opens a file, for reading and, if `write`, for writing. `None` where there is no such file.
    ///
    /// # Errors
    /// Any failure of open(2), and `name` being something else than a regular file.
    fn open(&self, name: &str, write: bool) -> io::Result<Option<Box<dyn DiskFile>>>;

    /// The file that has this name now. `None` where there is no such file.
    ///
    /// # Errors
    /// Any failure of stat(2).
    fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
        self.open(name, false)?.map(|file| file.stat()).transpose()
    }

    /// What is known of `file` now, if it still is the file called `name`: nobody but volhook takes names from files here, which
    /// it does by removing them or by giving the name to another. `None` when it is not.
    ///
    /// # Errors
    /// Any failure of fstat(2) or stat(2).
    fn stat_of(&self, name: &str, file: &dyn DiskFile) -> io::Result<Option<Stat>> {
        Ok(self.stat(name)?.filter(|there| there.identity == file.identity()))
    }

    /// Creates a file, which must not exist, and opens it for reading and writing.
    ///
    /// # Errors
    /// Any failure of open(2).
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, in one step, taking that of the file which has it so far.
    ///
    /// # Errors
    /// Any failure of rename(2).
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Any failure of unlink(2).
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names of files created so far, and the folder's own, survive a power cut.
    ///
    /// # Errors
    /// Any failure of fsync(2).
    fn sync_names(&self) -> io::Result<()>;

    /// The names in the folder, in no order; none where there is no folder.
    ///
    /// # Errors
    /// Any failure to read the folder.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Waits before something is looked at again that another process may be changing. Nobody else changes a disk that
    /// one process has to itself, so it need not wait.
    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Proof of holding the journal's lock; dropping it gives the lock back.
pub trait Lock {}

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Tells it from every other file, as long as either is open.
    pub identity: (u64, u64),
    /// Its length in bytes.
    pub size: u64,
    /// How many bytes of disk space it has, what is set aside included (`st_blocks` of stat(3type)).
    pub space: u64,
}

/// One open file.
pub trait DiskFile: Send {
    /// Tells this file from a later one of the same name.
    fn identity(&self) -> (u64, u64);

    /// Its length in bytes.
    ///
    /// # Errors
    /// Any failure of fstat(2).
    fn size(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on and returns how much there was: less only at the end of the file.
    ///
    /// # Errors
    /// Any failure of pread(2).
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`. After a failure any part of them may be written.
    ///
    /// # Errors
    /// Any failure of pwrite(2).
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file to `length` bytes, and gives back what space was set aside behind them.
    ///
    /// # Errors
    /// Any failure of ftruncate(2).
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Sets disk space aside for `length` bytes from `offset` on, without changing the file's length. On a filesystem that
    /// cannot do this, nothing is set aside, and that is no failure.
    ///
    /// # Errors
    /// Any other failure of fallocate(2) with `FALLOC_FL_KEEP_SIZE`.
    fn reserve(&self, offset: u64, length: u64) -> io::Result<()>;

    /// How many bytes of disk space the file has, what is set aside included (`st_blocks` of stat(3type)).
    ///
    /// # Errors
    /// Any failure of fstat(2).
    fn space(&self) -> io::Result<u64>;

    /// All of that at once.
    ///
    /// # Errors
    /// Any failure of fstat(2).
    fn stat(&self) -> io::Result<Stat> {
        Ok(Stat { identity: self.identity(), size: self.size()?, space: self.space()? })
    }

    /// The same, or `None` when the file has no name any more.
    ///
    /// # Errors
    /// Any failure of fstat(2).
    fn stat_if_named(&self) -> io::Result<Option<Stat>> {
        self.stat().map(Some)
    }

    /// The same, learnt when the file was opened or later.
    ///
    /// # Errors
    /// Any failure of fstat(2).
    fn opened(&self) -> io::Result<Stat> {
        self.stat()
    }

    /// Returns when what was written survives a power cut.
    ///
    /// # Errors
    /// Any failure of fdatasync(2); what is on the disk is then unknown.
    fn sync(&self) -> io::Result<()>;
}

/// The name of the file that only carries the lock. It is never written, renamed or removed.
pub(crate) const LOCK: &str = "lock";

/// A real folder.
pub(crate) struct Folder {
    path: PathBuf,
    /// The lock file while nobody holds it through this value.
    lock: Arc<Mutex<Option<File>>>,
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), lock: Arc::default() }
    }

    /// The lock file. One open file cannot keep out another user of itself, so each gets one of its own.
    fn lock_file(&self) -> io::Result<File> {
        let kept = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.map_or_else(|| self.open_lock(), Ok)
    }

    fn open_lock(&self) -> io::Result<File> {
        let mut options = options();
        options.write(true).create(true);
        let path = self.path.join(LOCK);
        match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
                options.open(&path)
            }
            other => other,
        }
    }
}

/// Never through a symlink, and never waiting for the other end of a FIFO.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    options.read(true).mode(0o600).custom_flags(flags.cast_signed());
    options
}

/// Opens an existing file so that reading it is not noted in its inode, which would be written anew for every look
/// behind an append. Only the file's owner may ask for that.
fn open_quietly(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let quiet = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOATIME).bits();
    match options.clone().custom_flags(quiet.cast_signed()).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options.open(path),
        other => other,
    }
}

impl Disk for Folder {
    fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self, deadline: Instant) -> io::Result<Option<Box<dyn Lock>>> {
        let mut file = self.lock_file()?;
        loop {
            if !volhook_locks::wait(&file, deadline)? {
                return Ok(None);
            }
            // It is never removed, but its folder may have been, by somebody who began the journal anew.
            if rustix::fs::fstat(&file)?.st_nlink > 0 {
                return Ok(Some(Box::new(HeldLock { file: Some(file), kept: self.lock.clone() })));
            }
            file = self.open_lock()?;
        }
    }

    fn open(&self, name: &str, write: bool) -> io::Result<Option<Box<dyn DiskFile>>> {
        match open_quietly(options().write(write), &self.path.join(name)) {
            Ok(file) => Ok(Some(Box::new(RealFile::new(file)?))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn stat(&self, name: &str) -> io::Result<Option<Stat>> {
        // Like open, never through a symlink.
        match std::fs::symlink_metadata(self.path.join(name)) {
            Ok(metadata) => Ok(Some(stat_of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn stat_of(&self, _name: &str, file: &dyn DiskFile) -> io::Result<Option<Stat>> {
        file.stat_if_named()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = options().write(true).create_new(true).open(self.path.join(name))?;
        Ok(Box::new(RealFile::new(file)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        // The folder itself may be new, and so may the state root above it.
        for folder in self.path.ancestors().take(3).filter(|p| !p.as_os_str().is_empty()) {
            volhook_locks::flush(File::open(folder)?)?;
        }
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 is none of the journal's.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }
}

struct HeldLock {
    file: Option<File>,
    kept: Arc<Mutex<Option<File>>>,
}

impl Lock for HeldLock {}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        // Where this fails the file is closed, which gives the lock back as well.
        if volhook_locks::give_back(&file).is_ok() {
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        }
    }
}

fn stat_of(metadata: &Metadata) -> Stat {
    Stat { identity: (metadata.dev(), metadata.ino()), size: metadata.len(), space: metadata.blocks() * 512 }
}

fn stat_of_open(stat: &rustix::fs::Stat) -> Stat {
    // The types of these fields are the architecture's; none of the numbers is negative.
    Stat {
        identity: (stat.st_dev, stat.st_ino),
        size: stat.st_size.cast_unsigned(),
        space: stat.st_blocks.cast_unsigned() * 512,
    }
}

struct RealFile {
    file: File,
    opened: Stat,
}

impl RealFile {
    fn new(file: File) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&file)?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(Self { opened: stat_of_open(&stat), file })
    }
}

impl DiskFile for RealFile {
    fn identity(&self) -> (u64, u64) {
        self.opened.identity
    }

    fn opened(&self) -> io::Result<Stat> {
        Ok(self.opened)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.stat()?.size)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, offset, length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            other => Ok(other?),
        }
    }

    fn space(&self) -> io::Result<u64> {
        Ok(self.stat()?.space)
    }

    fn stat(&self) -> io::Result<Stat> {
        Ok(stat_of_open(&rustix::fs::fstat(&self.file)?))
    }

    fn stat_if_named(&self) -> io::Result<Option<Stat>> {
        let stat = rustix::fs::fstat(&self.file)?;
        Ok((stat.st_nlink > 0).then(|| stat_of_open(&stat)))
    }

    fn sync(&self) -> io::Result<()> {
        Ok(volhook_locks::flush_content(&self.file)?)
    }
}
