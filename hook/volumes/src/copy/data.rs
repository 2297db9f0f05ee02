//! The content of regular files.

use super::CopyError;
use super::Engine;
use super::is_unable;
use crate::files;
use rustix::fs::SeekFrom;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// How many bytes are copied before somebody may stop it, or is told.
const CHUNK: usize = 8 << 20;
/// The buffer where the kernel does not copy by itself, in bytes.
const BUFFER: usize = 256 << 10;

/// Copies the content of `from`, which has the status `stat`, into the empty file `to`. What is appended meanwhile is
/// not copied.
pub(super) fn copy(
    engine: &Engine<'_>,
    from: &OwnedFd,
    to: &OwnedFd,
    stat: &Stat,
    path: &dyn Fn() -> PathBuf,
) -> Result<(), CopyError> {
    let size = stat.st_size.unsigned_abs();
    if size == 0 {
        return Ok(());
    }
    let counters = &engine.counters;
    if engine.reflinks.load(Ordering::Relaxed) {
        match rustix::fs::ioctl_ficlone(to, from) {
            Ok(()) => {
                let bytes = size.min(files::allocated(stat));
                counters.reflinked.fetch_add(bytes, Ordering::Relaxed);
                engine.count(&counters.bytes, bytes);
                return Ok(());
            }
            Err(errno) if is_unable(errno) => engine.reflinks.store(false, Ordering::Relaxed),
            // Something about these two files, which the other ways may manage or say better.
            Err(_) => {}
        }
    }
    let mut pieces = Pieces { engine, from, to, path };
    if files::allocated(stat) >= size {
        pieces.copy(0, size)?;
        return Ok(());
    }
    let mut end = 0;
    while let Some((start, next)) = pieces.data_after(end, size)? {
        pieces.copy(start, next)?;
        end = next;
    }
    if end < size {
        rustix::fs::ftruncate(to, size).map_err(|errno| pieces.failed("extend", errno))?;
    }
    Ok(())
}

struct Pieces<'a> {
    engine: &'a Engine<'a>,
    from: &'a OwnedFd,
    to: &'a OwnedFd,
    path: &'a dyn Fn() -> PathBuf,
}

impl Pieces<'_> {
    fn failed(&self, step: &'static str, errno: Errno) -> CopyError {
        CopyError::failed(step, (self.path)())(errno)
    }

    /// Where the next data begin and end, from `at` on and up to `size`.
    fn data_after(&self, at: u64, size: u64) -> Result<Option<(u64, u64)>, CopyError> {
        if at >= size {
            return Ok(None);
        }
        let start = match rustix::fs::seek(self.from, SeekFrom::Data(at)) {
            Ok(start) if start < size => start,
            Ok(_) | Err(Errno::NXIO) => return Ok(None),
            // A filesystem that knows of no holes.
            Err(Errno::INVAL) => return Ok(Some((at, size))),
            Err(errno) => return Err(self.failed("find the data of", errno)),
        };
        match rustix::fs::seek(self.from, SeekFrom::Hole(start)) {
            Ok(end) => Ok(Some((start, end.clamp(start + 1, size)))),
            // It was cut meanwhile.
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(self.failed("find the data of", errno)),
        }
    }

    /// Copies the bytes from `at` up to `end`, or as far as there are any.
    fn copy(&mut self, mut at: u64, end: u64) -> Result<(), CopyError> {
        while at < end && self.engine.ranges.load(Ordering::Relaxed) {
            let length = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let (mut from, mut to) = (at, at);
            match rustix::fs::copy_file_range(self.from, Some(&mut from), self.to, Some(&mut to), length) {
                // The end; or a filesystem that says so and is wrong.
                Ok(0) => break,
                Ok(copied) => at += self.tell(copied)?,
                Err(Errno::INTR) => {}
                Err(errno) if is_unable(errno) => self.engine.ranges.store(false, Ordering::Relaxed),
                Err(Errno::INVAL | Errno::PERM | Errno::IO) => break,
                Err(errno) => return Err(self.failed("write", errno)),
            }
        }
        let mut buffer = Vec::new();
        while at < end {
            buffer.resize(usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER), 0);
            let length = match rustix::io::pread(self.from, &mut buffer[..], at) {
                Ok(0) => break,
                Ok(length) => length,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(self.failed("read", errno)),
            };
            let mut left = &buffer[..length];
            while !left.is_empty() {
                match rustix::io::pwrite(self.to, left, at) {
                    Ok(0) => return Err(self.failed("write", Errno::NOSPC)),
                    Ok(written) => {
                        left = &left[written..];
                        at += self.tell(written)?;
                    }
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(self.failed("write", errno)),
                }
            }
        }
        Ok(())
    }

    /// Counts what was copied.
    fn tell(&self, bytes: usize) -> Result<u64, CopyError> {
        let bytes = bytes as u64;
        self.engine.count(&self.engine.counters.bytes, bytes);
        self.engine.check()?;
        Ok(bytes)
    }
}
