//! How much of the disk files and directory trees take, counted by all processors.

use crate::files;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Instant;

/// The kernel takes paths of up to 4096 bytes; deeper folders are reached from a nearer base.
const LONG_PATH: usize = 3000;

/// More threads than this only wait for the disk and for each other.
const MOST_THREADS: usize = 16;

/// The bytes allocated to what `open` opens: a file, or a directory with all below it on the same filesystem.
///
/// The tree's content may be hostile and may change meanwhile: no symlink is followed, depth and number of entries are
/// only bounded by the filesystem, and what vanishes is not counted.
pub(crate) fn bytes_used<E: From<io::Error> + Send>(
    open: impl Fn() -> Result<OwnedFd, E> + Sync,
) -> Result<u64, E> {
    let counted = bytes_of_trees(1, |_| open(), None).pop().expect("as many results as trees");
    counted.map(|bytes| bytes.expect("without a deadline every tree is finished"))
}

/// The same for `number` trees, of which `open` opens the nth: `None` for each that was not finished at the deadline.
pub(crate) fn bytes_of_trees<E: From<io::Error> + Send>(
    number: usize,
    open: impl Fn(usize) -> Result<OwnedFd, E> + Sync,
    deadline: Option<Instant>,
) -> Vec<Result<Option<u64>, E>> {
    let trees = (0..number).map(|_| Tree::default()).collect();
    // The first tree is the last on the stack, so that it is finished first.
    let waiting = (0..number).rev().map(Folder::Top).collect();
    let count = Count { state: Mutex::new(State { trees, waiting, busy: 0 }), changed: Condvar::new() };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    thread::scope(|scope| {
        for _ in 1..threads {
            // Where no more threads can be had, those that there are do the work.
            let worker = || count.work(&open, deadline);
            if thread::Builder::new().spawn_scoped(scope, worker).is_err() {
                break;
            }
        }
        count.work(&open, deadline);
    });
    let state = count.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let result = |tree: Tree<E>| match tree.error {
        Some(error) => Err(error),
        None => Ok((tree.unfinished == 0).then_some(tree.bytes)),
    };
    state.trees.into_iter().map(result).collect()
}

/// What is known of a tree so far.
struct Tree<E> {
    device: u64,
    bytes: u64,
    several_names: HashSet<u64>,
    /// Folders that are waiting or being read.
    unfinished: usize,
    error: Option<E>,
}

impl<E> Default for Tree<E> {
    fn default() -> Self {
        Self { device: 0, bytes: 0, several_names: HashSet::new(), unfinished: 1, error: None }
    }
}

/// A folder that is to be read.
enum Folder {
    /// The top of a tree. It is opened when its turn comes: there may be more trees than descriptors.
    Top(usize),
    Below {
        tree: usize,
        base: Arc<OwnedFd>,
        path: PathBuf,
    },
}

struct State<E> {
    trees: Vec<Tree<E>>,
    waiting: Vec<Folder>,
    /// Threads that are reading a folder, and may add others.
    busy: usize,
}

struct Count<E> {
    state: Mutex<State<E>>,
    changed: Condvar,
}

/// What one folder holds.
#[derive(Default)]
struct Found {
    bytes: u64,
    /// Files with several names: inode and bytes.
    several_names: Vec<(u64, u64)>,
    below: Vec<Folder>,
    /// The filesystem, when the folder is the top of its tree.
    device: Option<u64>,
}

impl<E: From<io::Error> + Send> Count<E> {
    fn lock(&self) -> MutexGuard<'_, State<E>> {
        // A thread that panicked takes the whole count with it when the threads are joined.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, open: &(impl Fn(usize) -> Result<OwnedFd, E> + Sync), deadline: Option<Instant>) {
        while let Some((folder, device)) = self.next(deadline) {
            let tree = match &folder {
                Folder::Top(tree) | Folder::Below { tree, .. } => *tree,
            };
            let found = match folder {
                Folder::Top(tree) => open(tree).and_then(|opened| Ok(read_top(tree, opened)?)),
                Folder::Below { tree, base, path } => read_below(tree, device, base, path).map_err(E::from),
            };
            self.add(tree, found);
        }
        self.changed.notify_all();
    }

    /// The next folder, with the filesystem of its tree; `None` when all is done or the time is over.
    fn next(&self, deadline: Option<Instant>) -> Option<(Folder, u64)> {
        let mut state = self.lock();
        loop {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return None;
            }
            if let Some(folder) = state.waiting.pop() {
                state.busy += 1;
                let device = match &folder {
                    Folder::Top(_) => 0,
                    Folder::Below { tree, .. } => state.trees[*tree].device,
                };
                return Some((folder, device));
            }
            if state.busy == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn add(&self, tree: usize, found: Result<Found, E>) {
        let mut state = self.lock();
        let State { trees, waiting, busy } = &mut *state;
        let tree = &mut trees[tree];
        tree.unfinished -= 1;
        *busy -= 1;
        match found {
            Ok(found) => {
                tree.device = found.device.unwrap_or(tree.device);
                tree.bytes = tree.bytes.saturating_add(found.bytes);
                for (inode, bytes) in found.several_names {
                    if tree.several_names.insert(inode) {
                        tree.bytes = tree.bytes.saturating_add(bytes);
                    }
                }
                tree.unfinished += found.below.len();
                waiting.extend(found.below);
            }
            Err(error) => tree.error = Some(error),
        }
        drop(state);
        self.changed.notify_all();
    }
}

fn read_top(tree: usize, opened: OwnedFd) -> io::Result<Found> {
    let top = rustix::fs::fstat(&opened)?;
    let mut found = Found { bytes: files::allocated(&top), device: Some(top.st_dev), ..Found::default() };
    if FileType::from_raw_mode(top.st_mode) == FileType::Directory {
        found.below.push(Folder::Below { tree, base: Arc::new(opened), path: PathBuf::from(".") });
    }
    Ok(found)
}

fn read_below(tree: usize, device: u64, base: Arc<OwnedFd>, path: PathBuf) -> io::Result<Found> {
    let mut found = Found::default();
    let folder = match files::folder_below(&*base, &path) {
        Ok(folder) => Arc::new(folder),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(found),
        Err(errno) => return Err(errno.into()),
    };
    let far = path.as_os_str().len() > LONG_PATH;
    for entry in Dir::read_from(&*folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match rustix::fs::statat(&*folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if stat.st_dev != device {
            continue;
        }
        let bytes = files::allocated(&stat);
        let name = OsStr::from_bytes(name.to_bytes());
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let (base, path) = if far { (&folder, PathBuf::from(name)) } else { (&base, path.join(name)) };
            found.below.push(Folder::Below { tree, base: Arc::clone(base), path });
        } else if stat.st_nlink > 1 {
            found.several_names.push((stat.st_ino, bytes));
            continue;
        }
        found.bytes = found.bytes.saturating_add(bytes);
    }
    Ok(found)
}
