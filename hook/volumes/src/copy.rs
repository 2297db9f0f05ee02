//! Copying trees and files from one open folder to another, as `cp -a` does, with hostile content on both sides.
//!
//! Everything is done by file descriptor: no symlink is followed, no mount is crossed, nothing that is not a regular
//! file is opened. One thread walks the folders ([`walk`]) and hands the files to a few others ([`entry`], [`data`]).
//! What a folder is to be like in the end ([`metadata`]) is set when the last of its entries is there, because each
//! of them changes its time.

mod data;
mod entry;
mod error;
mod links;
mod metadata;
mod pack;
mod unpack;
mod walk;

pub use error::CopyError;
pub use pack::Packed;
pub use pack::pack;
pub use unpack::unpack;

use crate::files;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

/// How many lists of files may wait for a thread: each keeps two folders open.
const QUEUE: usize = 32;
/// The most threads that copy files. More only wait for the same disk.
const THREADS: usize = 8;

/// What a copy keeps of the rights on the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Everything, as `cp -a`: owners, set-id bits, capabilities, access lists, all extended attributes, devices.
    Keep,
    /// Everything belongs to this user and group. What gives more rights than the permission bits say is left out,
    /// so that no container's file becomes a set-id program or an open device on the host: set-id bits, access
    /// lists, all extended attributes but `user.*`, and devices.
    Give {
        /// The user id.
        uid: u32,
        /// The group id.
        gid: u32,
    },
}

impl Rights {
    /// Everything belongs to the user and group of this process.
    #[must_use]
    pub fn mine() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self::Give { uid, gid }
    }
}

/// What may be in the place to which is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nothing, and nobody else gets there: what is found is an error.
    Empty,
    /// Anything, and others may change it meanwhile. Folders are filled up and otherwise left as they are, other
    /// entries are replaced; a folder is never replaced by something else, nor something else by a folder.
    Merge,
}

/// How to copy.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// What is kept of rights.
    pub rights: Rights,
    /// What may be there already.
    pub place: Place,
}

/// By what a copy is stopped, and whom it tells how far it is.
pub struct Watch<'a> {
    /// When it gives up.
    pub deadline: Instant,
    /// Whether somebody wants it to stop. Asked often, from several threads.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
    /// Told what is done so far, often, from several threads.
    pub progress: &'a (dyn Fn(&Copied) + Sync),
}

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Entries that are no directories.
    pub files: u64,
    /// Directories, the top itself not counted.
    pub directories: u64,
    /// Bytes of content. Holes do not count.
    pub bytes: u64,
    /// How many of these bytes share the original's place on the disk (`FICLONE`).
    pub reflinked: u64,
    /// Devices that were left out ([`Rights::Give`]).
    pub left_out: u64,
    /// Extended attributes that the filesystem of the copy does not know.
    pub attributes_lost: u64,
}

/// Copies what is in the folder `from` into the folder `to`, and with `and_top` also what `from` itself is like: owner,
/// mode, times, attributes.
///
/// Names that vanish meanwhile are not copied; whoever wants one point in time sees to it that nobody writes. Depth and
/// number of entries are only bounded by the filesystem. Nothing is synced.
///
/// # Errors
/// [`CopyError`]. What was copied until then stays.
pub fn copy_tree(
    from: OwnedFd,
    to: OwnedFd,
    and_top: bool,
    how: How,
    watch: &Watch<'_>,
) -> Result<Copied, CopyError> {
    let engine = Engine::new(how, watch, [from.as_fd(), to.as_fd()]);
    engine.run(|queue| walk::tree(&engine, queue, from, to, and_top))
}

/// The same, with what the folders themselves are like, for several of them at once.
///
/// # Errors
/// As [`copy_tree`].
pub fn copy_trees(trees: Vec<(OwnedFd, OwnedFd)>, how: How, watch: &Watch<'_>) -> Result<Copied, CopyError> {
    let engine = Engine::new(how, watch, trees.iter().flat_map(|(from, to)| [from.as_fd(), to.as_fd()]));
    engine
        .run(|queue| trees.into_iter().try_for_each(|(from, to)| walk::tree(&engine, queue, from, to, true)))
}

/// Makes the folder `to` what the folder `from` was when its status was `original`: owner, mode, times, attributes.
pub(crate) fn copy_top(
    from: &OwnedFd,
    to: &OwnedFd,
    original: &Stat,
    how: How,
    watch: &Watch<'_>,
) -> Result<(), CopyError> {
    let engine = Engine::new(how, watch, [from.as_fd(), to.as_fd()]);
    engine.finish_folder(from.as_fd(), to.as_fd(), original)
}

/// Copies the entry `name` of the folder `from`, of whatever kind and with all that is below it, into the folder `to`
/// as `new_name`. The names are single components. Symlinks are copied as such.
///
/// # Errors
/// [`CopyError`]; also when there is no such entry.
pub fn copy_entry(
    from: OwnedFd,
    name: &OsStr,
    to: OwnedFd,
    new_name: &OsStr,
    how: How,
    watch: &Watch<'_>,
) -> Result<Copied, CopyError> {
    let (name, new_name) = (component(name)?, component(new_name)?);
    let engine = Engine::new(how, watch, [from.as_fd(), to.as_fd()]);
    engine.run(|queue| walk::entry(&engine, queue, from, &name, to, &new_name))
}

/// Copies the folder `from` with all that is in it into the folder `to` as `new_name`, a single component.
///
/// # Errors
/// [`CopyError`].
pub fn copy_directory(
    from: OwnedFd,
    to: OwnedFd,
    new_name: &OsStr,
    how: How,
    watch: &Watch<'_>,
) -> Result<Copied, CopyError> {
    let new_name = component(new_name)?;
    let engine = Engine::new(how, watch, [from.as_fd(), to.as_fd()]);
    engine.run(|queue| walk::directory(&engine, queue, from, to, &new_name))
}

fn component(name: &OsStr) -> Result<CString, CopyError> {
    match CString::new(name.as_bytes()) {
        Ok(text) if !matches!(name.as_bytes(), b"" | b"." | b"..") && !name.as_bytes().contains(&b'/') => {
            Ok(text)
        }
        _ => Err(CopyError::failed("copy", PathBuf::from(name))(Errno::INVAL)),
    }
}

/// Copies the content of one regular file into another, which is empty: holes stay holes, and where the filesystem can
/// do that the two share their place on the disk.
///
/// # Errors
/// [`CopyError`], which calls it `name`.
pub fn copy_contents(
    from: &OwnedFd,
    to: &OwnedFd,
    name: &str,
    watch: &Watch<'_>,
) -> Result<Copied, CopyError> {
    let how = How { rights: Rights::Keep, place: Place::Empty };
    let engine = Engine::new(how, watch, [from.as_fd(), to.as_fd()]);
    let path = || PathBuf::from(name);
    let stat = rustix::fs::fstat(from).map_err(CopyError::failed("examine", path()))?;
    data::copy(&engine, from, to, &stat, &path)?;
    engine.counters.files.fetch_add(1, Ordering::Relaxed);
    Ok(engine.counters.now())
}

/// The copy as a whole, shared by its threads.
struct Engine<'a> {
    how: How,
    watch: &'a Watch<'a>,
    /// Where the tree and its copy are, as the kernel shows it: paths in messages are told from there.
    tops: Vec<PathBuf>,
    counters: Counters,
    /// Whether the filesystem is still believed to share content between files.
    reflinks: AtomicBool,
    /// Whether it is still believed to copy content by itself.
    ranges: AtomicBool,
    stopped: AtomicBool,
    failure: Mutex<Option<CopyError>>,
}

#[derive(Default)]
struct Counters {
    files: AtomicU64,
    directories: AtomicU64,
    bytes: AtomicU64,
    reflinked: AtomicU64,
    left_out: AtomicU64,
    attributes_lost: AtomicU64,
}

impl Counters {
    fn now(&self) -> Copied {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Copied {
            files: read(&self.files),
            directories: read(&self.directories),
            bytes: read(&self.bytes),
            reflinked: read(&self.reflinked),
            left_out: read(&self.left_out),
            attributes_lost: read(&self.attributes_lost),
        }
    }
}

/// A folder and its copy. The walk and the tasks share it; the last one closes it.
struct Folder {
    from: OwnedFd,
    to: OwnedFd,
    /// Whether what is made in the copy inherits an access list.
    inherits: bool,
    finish: Arc<Finish>,
}

/// What a folder's copy is to be like in the end. Everybody who still works in that folder holds it.
struct Finish {
    /// What the original was like before it was read; `None` to leave the copy alone.
    original: Option<Stat>,
}

/// Entries of one folder for a thread to copy. None of them is a directory.
struct Task {
    folder: Arc<Folder>,
    entries: Vec<Entry>,
}

/// One entry to copy.
struct Entry {
    name: CString,
    new_name: CString,
    /// For a file with several names: the original and the copy, which is made already so that others may be linked to
    /// it.
    begun: Option<entry::Begun>,
}

impl<'a> Engine<'a> {
    fn new<'f>(how: How, watch: &'a Watch<'a>, tops: impl IntoIterator<Item = BorrowedFd<'f>>) -> Self {
        Self {
            how,
            watch,
            tops: tops.into_iter().filter_map(|top| std::fs::read_link(files::link_to(top)).ok()).collect(),
            counters: Counters::default(),
            reflinks: AtomicBool::new(true),
            ranges: AtomicBool::new(true),
            stopped: AtomicBool::new(false),
            failure: Mutex::default(),
        }
    }

    /// Walks in this thread, and copies files in others.
    fn run(&self, walk: impl FnOnce(&dyn Fn(Task)) -> Result<(), CopyError>) -> Result<Copied, CopyError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        let (sender, receiver) = sync_channel(QUEUE);
        let receiver = Mutex::new(receiver);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| self.work(&receiver));
            }
            // The receiver outlives the sender: sending fails only if that were wrong.
            let queue = |task| drop(sender.send(task));
            if let Err(error) = walk(&queue) {
                self.fail(error);
            }
            drop(sender);
        });
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(failure) => Err(failure),
            None => Ok(self.counters.now()),
        }
    }

    fn work(&self, tasks: &Mutex<Receiver<Task>>) {
        loop {
            let next = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Task { folder, entries }) = next else { return };
            for entry in entries {
                // After a failure the queue is only emptied.
                if let Err(error) = self.check().and_then(|()| self.copy_entry(&folder, entry)) {
                    self.fail(error);
                }
            }
            if let Err(error) = self.release(folder) {
                self.fail(error);
            }
        }
    }

    /// Ends the copy. The first failure is the one that counts.
    fn fail(&self, error: CopyError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// An error when the copy should stop.
    fn check(&self) -> Result<(), CopyError> {
        if self.stopped.load(Ordering::Relaxed) || (self.watch.cancelled)() {
            Err(CopyError::Cancelled)
        } else if Instant::now() >= self.watch.deadline {
            Err(CopyError::Deadline)
        } else {
            Ok(())
        }
    }

    fn count(&self, counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Ordering::Relaxed);
        (self.watch.progress)(&self.counters.now());
    }

    /// Gives a folder back. Whoever is the last to do so makes it what it is to be in the end.
    fn release(&self, folder: Arc<Folder>) -> Result<(), CopyError> {
        let Some(Folder { from, to, finish, .. }) = Arc::into_inner(folder) else {
            return Ok(());
        };
        match Arc::into_inner(finish) {
            Some(Finish { original: Some(original) }) if !self.stopped.load(Ordering::Relaxed) => {
                self.finish_folder(from.as_fd(), to.as_fd(), &original)
            }
            _ => Ok(()),
        }
    }

    /// The path of an entry of `folder`, from the top of what is copied.
    fn path(&self, folder: impl AsFd, name: &CStr) -> PathBuf {
        let name = OsStr::from_bytes(name.to_bytes());
        let Ok(place) = std::fs::read_link(files::link_to(folder)) else {
            return PathBuf::from(name);
        };
        // The longer one: the top of a detached mount is the root.
        let below = self.tops.iter().filter_map(|top| place.strip_prefix(top).ok());
        let below = below.min_by_key(|below| below.as_os_str().len());
        match (below, name.as_bytes()) {
            (Some(below), b".") if !below.as_os_str().is_empty() => below.to_owned(),
            (None, b".") => place,
            (below, _) => below.unwrap_or(&place).join(name),
        }
    }

    fn failed(&self, step: &'static str, folder: impl AsFd, name: &CStr) -> impl FnOnce(Errno) -> CopyError {
        // The path only when it is needed.
        move |errno| CopyError::failed(step, self.path(folder, name))(errno)
    }
}

/// Which filesystem calls say that they cannot do something at all, rather than not now.
fn is_unable(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOTTY | Errno::XDEV)
}

impl CopyError {
    fn failed(step: &'static str, path: PathBuf) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::Failed { step, path, source: io::Error::from(errno) }
    }
}
