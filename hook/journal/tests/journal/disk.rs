//! A disk in memory that knows what was synced and what was not, and that can stop at any step.

use std::collections::BTreeMap;
use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use volhook_journal::Disk;
use volhook_journal::DiskFile;
use volhook_journal::Lock;

/// A file: what processes see, and what a power cut leaves.
#[derive(Clone, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Whether the name survives a power cut.
    named: bool,
    identity: u64,
    /// Space that it has, at least its length.
    space: usize,
    /// What a failed sync left: the bytes that no later sync takes to the disk unless they are written again.
    lost: Range<usize>,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<String, Content>,
    next_identity: u64,
    /// Names changed since names were synced: from, to, and the file that had it.
    renamed: Vec<(String, String, Option<Content>)>,
    steps: u64,
    /// The step that is not completed, and how many bytes of it are, if it is a write.
    stop: Option<(u64, usize)>,
    /// How many bytes all files together may have.
    capacity: Option<usize>,
    /// How many bytes of a write find room; the rest is refused, as on a full disk.
    room: Option<usize>,
    /// Whether syncs fail, without anything reaching the disk.
    failing_sync: bool,
    /// What comes in between behind the next sync, and whether that fails, which is told once.
    at_sync: Option<(Box<dyn FnOnce() + Send>, bool)>,
    reserves: u64,
    /// How many bytes were asked for, of all files.
    read: u64,
    /// How often each file was synced.
    syncs: BTreeMap<String, u64>,
}

/// Shared by all handles of all "processes" on it.
#[derive(Clone, Default)]
pub(crate) struct Simulated(Arc<Mutex<Inner>>);

/// What of the unsynced data a power cut leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    All,
    /// The first half of what was added.
    Prefix,
    /// The length, with zeros in place of every other sector of what was added, beginning with the first (0) or
    /// the second (1).
    Sectors(usize),
}

impl Simulated {
    pub(crate) fn steps(&self) -> u64 {
        self.0.lock().unwrap().steps
    }

    /// Fails everything from step `step` on; a write then gets as far as `bytes`.
    pub(crate) fn stop_at(&self, step: u64, bytes: usize) {
        self.0.lock().unwrap().stop = Some((step, bytes));
    }

    /// Lets everything go on after a stop, as in the next process.
    pub(crate) fn go_on(&self) {
        self.0.lock().unwrap().stop = None;
    }

    /// How often space was set aside.
    pub(crate) fn reserves(&self) -> u64 {
        self.0.lock().unwrap().reserves
    }

    /// Tells this disk from one that another process, or another boot, would find otherwise.
    pub(crate) fn state(&self) -> u64 {
        let inner = self.0.lock().unwrap();
        let mut hasher = DefaultHasher::new();
        for (name, file) in &inner.files {
            (name, &file.live, &file.durable, file.named, file.space, &file.lost).hash(&mut hasher);
        }
        for (from, to, replaced) in &inner.renamed {
            (from, to, replaced.as_ref().map(|file| (&file.live, &file.durable))).hash(&mut hasher);
        }
        hasher.finish()
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.0.lock().unwrap().read
    }

    pub(crate) fn fail_syncs(&self, fail: bool) {
        self.0.lock().unwrap().failing_sync = fail;
    }

    /// Fails the next sync, and only that; `then` comes in between before whoever synced goes on.
    pub(crate) fn fail_next_sync(&self, then: impl FnOnce() + Send + 'static) {
        self.0.lock().unwrap().at_sync = Some((Box::new(then), true));
    }

    /// Has `then` come in between behind the next sync.
    pub(crate) fn at_next_sync(&self, then: impl FnOnce() + Send + 'static) {
        self.0.lock().unwrap().at_sync = Some((Box::new(then), false));
    }

    pub(crate) fn leave_room(&self, bytes: Option<usize>) {
        self.0.lock().unwrap().room = bytes;
    }

    /// Leaves so many bytes free beside what there is; `None` for as many as anybody wants.
    pub(crate) fn leave_free(&self, bytes: Option<usize>) {
        let mut inner = self.0.lock().unwrap();
        inner.capacity = bytes.map(|bytes| inner.used() + bytes);
    }

    pub(crate) fn syncs(&self, name: &str) -> u64 {
        self.0.lock().unwrap().syncs.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn live(&self, name: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().files.get(name).map(|file| file.live.clone())
    }

    pub(crate) fn put(&self, name: &str, live: Vec<u8>) {
        let mut inner = self.0.lock().unwrap();
        inner.next_identity += 1;
        let identity = inner.next_identity;
        let new = || Content { identity, ..Content::default() };
        inner.files.entry(name.to_owned()).or_insert_with(new).live = live;
    }

    pub(crate) fn remove_now(&self, name: &str) {
        self.0.lock().unwrap().files.remove(name).expect("it is there");
    }

    pub(crate) fn names_now(&self) -> Vec<String> {
        self.0.lock().unwrap().files.keys().cloned().collect()
    }

    /// The disk as the next process of the same boot finds it.
    pub(crate) fn after_kill(&self) -> Self {
        let inner = self.0.lock().unwrap();
        Self(Arc::new(Mutex::new(Inner {
            files: inner.files.clone(),
            renamed: inner.renamed.clone(),
            next_identity: inner.next_identity,
            capacity: inner.capacity,
            ..Inner::default()
        })))
    }

    /// The disk as the next boot finds it.
    pub(crate) fn after_power_cut(&self, left: Left) -> Self {
        let inner = self.0.lock().unwrap();
        let mut files = BTreeMap::new();
        let mut here = inner.files.clone();
        if left == Left::Nothing {
            for (from, to, replaced) in inner.renamed.iter().rev() {
                let file = here.remove(to).unwrap();
                here.insert(from.clone(), file);
                here.extend(replaced.clone().map(|file| (to.clone(), file)));
            }
        }
        for (name, file) in &here {
            if !file.named && left == Left::Nothing {
                continue;
            }
            let content = remains(file, left);
            let durable = content.clone();
            files.insert(
                name.clone(),
                Content {
                    space: content.len(),
                    live: content,
                    durable,
                    named: true,
                    identity: file.identity,
                    lost: 0..0,
                },
            );
        }
        Self(Arc::new(Mutex::new(Inner { files, next_identity: inner.next_identity, ..Inner::default() })))
    }
}

fn remains(file: &Content, left: Left) -> Vec<u8> {
    let common = file.durable.iter().zip(&file.live).take_while(|(a, b)| a == b).count();
    let added = file.live.len().saturating_sub(common);
    match left {
        Left::Nothing => file.durable.clone(),
        Left::All => file.live.clone(),
        Left::Prefix if added > 0 => file.live[..common + added / 2].to_vec(),
        Left::Prefix => file.durable.clone(),
        Left::Sectors(first) => {
            let mut bytes = file.live.clone();
            for (at, byte) in bytes.iter_mut().enumerate().skip(common) {
                if (at / 512 - common / 512) % 2 == first {
                    *byte = 0;
                }
            }
            bytes
        }
    }
}

impl Inner {
    /// An open file, whatever its name is by now.
    fn file(&mut self, identity: u64) -> &mut Content {
        self.files
            .values_mut()
            .find(|file| file.identity == identity)
            .expect("nobody uses a file that is gone")
    }

    fn used(&self) -> usize {
        self.files.values().map(|file| file.space.max(file.live.len())).sum()
    }

    /// Has the file get space up to `end`, or as much as there is, and says where its space ends.
    fn grow(&mut self, identity: u64, end: usize) -> usize {
        let free = self.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(self.used()));
        let file = self.file(identity);
        let has = file.space.max(file.live.len());
        file.space = has.max(end.min(has.saturating_add(free)));
        file.space
    }

    /// Counts a step; the number of bytes that get through, or an error from the stop on.
    fn step(&mut self, bytes: usize) -> Result<(), usize> {
        let now = self.steps;
        self.steps += 1;
        match self.stop {
            Some((stop, partial)) if now == stop => Err(partial.min(bytes)),
            Some((stop, _)) if now > stop => Err(0),
            _ => Ok(()),
        }
    }
}

fn crashed() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}

struct Free;
impl Lock for Free {}

impl Disk for Simulated {
    fn path(&self) -> &Path {
        Path::new("/simulated")
    }

    fn lock(&self, _deadline: Instant) -> io::Result<Option<Box<dyn Lock>>> {
        Ok(Some(Box::new(Free)))
    }

    fn open(&self, name: &str, _write: bool) -> io::Result<Option<Box<dyn DiskFile>>> {
        let inner = self.0.lock().unwrap();
        Ok(inner.files.get(name).map(|file| -> Box<dyn DiskFile> {
            Box::new(OpenFile { disk: self.clone(), name: name.to_owned(), identity: file.identity })
        }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.0.lock().unwrap();
        inner.step(0).map_err(|_| crashed())?;
        assert!(!inner.files.contains_key(name), "{name} exists");
        inner.next_identity += 1;
        let identity = inner.next_identity;
        inner.files.insert(name.to_owned(), Content { identity, ..Content::default() });
        Ok(Box::new(OpenFile { disk: self.clone(), name: name.to_owned(), identity }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        inner.step(0).map_err(|_| crashed())?;
        let file = inner.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        let replaced = inner.files.insert(to.to_owned(), file);
        inner.renamed.push((from.to_owned(), to.to_owned(), replaced));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        inner.step(0).map_err(|_| crashed())?;
        inner.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        volhook_locks::waits("a sync");
        let mut inner = self.0.lock().unwrap();
        inner.step(0).map_err(|_| crashed())?;
        inner.renamed.clear();
        for file in inner.files.values_mut() {
            file.named = true;
        }
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.names_now())
    }

    fn pause(&self, _time: Duration) {}
}

struct OpenFile {
    disk: Simulated,
    name: String,
    identity: u64,
}

impl OpenFile {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.disk.0.lock().unwrap())
    }
}

impl DiskFile for OpenFile {
    fn identity(&self) -> (u64, u64) {
        (0, self.identity)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.with(|inner| inner.file(self.identity).live.len()) as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|inner| {
            let file = inner.file(self.identity);
            let rest = file.live.get(offset as usize..).unwrap_or(&[]);
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            inner.read += count as u64;
            Ok(count)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|inner| {
            let through = match inner.room {
                Some(room) if room < bytes.len() => Err(room),
                _ => inner.step(bytes.len()),
            };
            let count = match through {
                Ok(()) => bytes.len(),
                Err(count) => count,
            };
            let wanted = offset as usize + count;
            let space = inner.grow(self.identity, wanted);
            let (count, through) = if space < wanted {
                (space.saturating_sub(offset as usize), Err(usize::MAX))
            } else {
                (count, through)
            };
            let live = &mut inner.file(self.identity).live;
            let end = offset as usize + count;
            if count > 0 && live.len() < end {
                live.resize(end, 0);
            }
            if count > 0 {
                live[offset as usize..end].copy_from_slice(&bytes[..count]);
            }
            let lost = &mut inner.file(self.identity).lost;
            if (offset as usize..end).contains(&lost.start) {
                lost.start = end.min(lost.end);
            }
            through
                .map_err(|end| if end == usize::MAX { io::ErrorKind::StorageFull.into() } else { crashed() })
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.with(|inner| {
            inner.step(0).map_err(|_| crashed())?;
            let file = inner.file(self.identity);
            file.live.resize(length as usize, 0);
            file.lost = file.lost.start.min(length as usize)..file.lost.end.min(length as usize);
            file.space = length as usize;
            Ok(())
        })
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        self.with(|inner| {
            inner.step(0).map_err(|_| crashed())?;
            let end = (offset + length) as usize;
            inner.reserves += 1;
            let before = inner.file(self.identity).space;
            if inner.grow(self.identity, end) < end {
                inner.file(self.identity).space = before;
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        })
    }

    fn space(&self) -> io::Result<u64> {
        Ok(self.with(|inner| {
            let file = inner.file(self.identity);
            file.space.max(file.live.len())
        }) as u64)
    }

    fn sync(&self) -> io::Result<()> {
        volhook_locks::waits("a sync");
        let then = self.with(|inner| {
            inner.step(0).map_err(|_| crashed())?;
            *inner.syncs.entry(self.name.clone()).or_default() += 1;
            if inner.failing_sync {
                return Err(io::Error::other("simulated I/O error"));
            }
            let then = inner.at_sync.take();
            let file = inner.file(self.identity);
            if then.as_ref().is_some_and(|(_, fails)| *fails) {
                let common = file.durable.iter().zip(&file.live).take_while(|(a, b)| a == b).count();
                file.lost = common..file.live.len();
                return Ok(then);
            }
            let (before, lost) = (std::mem::replace(&mut file.durable, file.live.clone()), file.lost.clone());
            for at in lost {
                file.durable[at] = before.get(at).copied().unwrap_or(0);
            }
            Ok(then)
        })?;
        let Some((then, fails)) = then else { return Ok(()) };
        then();
        if fails { Err(io::Error::other("simulated I/O error")) } else { Ok(()) }
    }
}
