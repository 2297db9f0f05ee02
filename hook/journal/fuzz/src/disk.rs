//! A disk in memory, whose writers can be stopped in the middle of anything.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use volhook_journal::Disk;
use volhook_journal::DiskFile;
use volhook_journal::Lock;

/// The most bytes of a file, so that an offset read from a forged file costs no memory.
const LARGEST: u64 = 16 << 20;

/// A folder of files; a clone is the same folder.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Folder>>);

#[derive(Default)]
struct Folder {
    names: BTreeMap<String, Arc<Content>>,
    created: u64,
    /// How much may still be changed, if that is limited: a byte written counts 1, and so does each call.
    left: Option<usize>,
}

struct Content {
    identity: u64,
    bytes: Mutex<Vec<u8>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// Puts a file there, in place of any other of that name.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut folder = held(&self.0);
        folder.created += 1;
        let content = Content { identity: folder.created, bytes: Mutex::new(bytes) };
        folder.names.insert(name.to_owned(), Arc::new(content));
    }

    /// Changes the bytes of a file in place, if it is there.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(file) = held(&self.0).names.get(name) {
            change(&mut held(&file.bytes));
        }
    }

    /// The bytes of a file; none where there is no file.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        held(&self.0).names.get(name).map_or_else(Vec::new, |file| held(&file.bytes).clone())
    }

    /// Stops every writer after so much has been changed.
    pub fn stop_after(&self, left: usize) {
        held(&self.0).left = Some(left);
    }

    /// Lets writers write again, and says whether one was stopped.
    pub fn go_on(&self) -> bool {
        held(&self.0).left.take() == Some(0)
    }

    fn handle(&self, content: &Arc<Content>) -> Box<dyn DiskFile> {
        Box::new(Handle { folder: self.clone(), content: Arc::clone(content) })
    }
}

impl Folder {
    /// How many of `bytes` get through; all of them unless the writer is stopped here.
    fn change(&mut self, bytes: usize) -> usize {
        let Some(left) = self.left else { return bytes };
        let through = bytes.min(left.saturating_sub(1));
        self.left = Some(if left > bytes { left - bytes - 1 } else { 0 });
        if left > bytes { bytes } else { through }
    }

    fn step(&mut self) -> io::Result<()> {
        if self.left == Some(0) {
            return Err(stopped());
        }
        self.change(0);
        Ok(())
    }
}

fn stopped() -> io::Error {
    io::Error::other("the writer was stopped")
}

struct Nobody;
impl Lock for Nobody {}

impl Disk for Memory {
    fn path(&self) -> &Path {
        Path::new("/memory")
    }

    fn lock(&self, _deadline: Instant) -> io::Result<Option<Box<dyn Lock>>> {
        Ok(Some(Box::new(Nobody)))
    }

    fn open(&self, name: &str, _write: bool) -> io::Result<Option<Box<dyn DiskFile>>> {
        let found = held(&self.0).names.get(name).cloned();
        Ok(found.map(|content| self.handle(&content)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut folder = held(&self.0);
        folder.step()?;
        if folder.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        folder.created += 1;
        let content = Arc::new(Content { identity: folder.created, bytes: Mutex::default() });
        folder.names.insert(name.to_owned(), Arc::clone(&content));
        Ok(self.handle(&content))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut folder = held(&self.0);
        folder.step()?;
        let content = folder.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        folder.names.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut folder = held(&self.0);
        folder.step()?;
        folder.names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        held(&self.0).step()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(held(&self.0).names.keys().cloned().collect())
    }

    fn pause(&self, _time: Duration) {}
}

struct Handle {
    folder: Memory,
    content: Arc<Content>,
}

impl DiskFile for Handle {
    fn identity(&self) -> (u64, u64) {
        (0, self.content.identity)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(held(&self.content.bytes).len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = held(&self.content.bytes);
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or(&[]);
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= LARGEST);
        if end.is_none() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let (asked, offset) = (bytes.len(), offset as usize);
        let mut folder = held(&self.folder.0);
        let dead = folder.left == Some(0);
        let bytes = &bytes[..folder.change(asked)];
        let mut content = held(&self.content.bytes);
        if !bytes.is_empty() {
            let length = content.len().max(offset + bytes.len());
            content.resize(length, 0);
            content[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        if dead || bytes.len() < asked { Err(stopped()) } else { Ok(()) }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        if length > LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        held(&self.folder.0).step()?;
        held(&self.content.bytes).resize(length as usize, 0);
        Ok(())
    }

    fn reserve(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<u64> {
        self.size()
    }

    fn sync(&self) -> io::Result<()> {
        held(&self.folder.0).step()
    }
}
