//! A disk that counts what is read of it, and how many files are open. Nobody changes it in a pause.

use crate::disk::Simulated;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use volhook_journal::Disk;
use volhook_journal::DiskFile;
use volhook_journal::Lock;

/// What was done since the counting began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) open: usize,
    pub(crate) most_open: usize,
    pub(crate) read: u64,
    pub(crate) largest_read: usize,
    /// The files of which something was read.
    pub(crate) names: BTreeSet<String>,
}

/// What comes in between before the file of a name is opened.
type Before = Option<(String, Box<dyn FnOnce() + Send>)>;

#[derive(Clone, Default)]
pub(crate) struct Counted {
    disk: Simulated,
    counts: Arc<Mutex<Counts>>,
    before: Arc<Mutex<Before>>,
}

impl Counted {
    pub(crate) fn new(disk: &Simulated) -> Self {
        Self { disk: disk.clone(), ..Self::default() }
    }

    /// Has `then` come in between before the file called `name` is opened next.
    pub(crate) fn before_opening(&self, name: &str, then: impl FnOnce() + Send + 'static) {
        *self.before.lock().unwrap() = Some((name.to_owned(), Box::new(then)));
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts.lock().unwrap().clone()
    }

    fn opened(&self, name: &str, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let mut counts = self.counts.lock().unwrap();
        counts.open += 1;
        counts.most_open = counts.most_open.max(counts.open);
        Box::new(CountedFile { name: name.to_owned(), file, counts: self.counts.clone() })
    }
}

impl Disk for Counted {
    fn path(&self) -> &Path {
        self.disk.path()
    }

    fn lock(&self, deadline: Instant) -> io::Result<Option<Box<dyn Lock>>> {
        self.disk.lock(deadline)
    }

    fn open(&self, name: &str, write: bool) -> io::Result<Option<Box<dyn DiskFile>>> {
        let before = self.before.lock().unwrap().take_if(|(of, _)| of == name);
        if let Some((_, then)) = before {
            then();
        }
        Ok(self.disk.open(name, write)?.map(|file| self.opened(name, file)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.opened(name, self.disk.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn pause(&self, _time: Duration) {}
}

struct CountedFile {
    name: String,
    file: Box<dyn DiskFile>,
    counts: Arc<Mutex<Counts>>,
}

impl Drop for CountedFile {
    fn drop(&mut self) {
        self.counts.lock().unwrap().open -= 1;
    }
}

impl DiskFile for CountedFile {
    fn identity(&self) -> (u64, u64) {
        self.file.identity()
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, offset)?;
        let mut counts = self.counts.lock().unwrap();
        counts.read += read as u64;
        counts.largest_read = counts.largest_read.max(buffer.len());
        counts.names.insert(self.name.clone());
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.reserve(offset, length)
    }

    fn space(&self) -> io::Result<u64> {
        self.file.space()
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}
