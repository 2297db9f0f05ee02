//! The order in which locks are taken, and what never happens under the journal's.
//!
//! All of volhook's locks are flock(2) on a file or folder: the kernel gives them back whoever dies. They are taken in the
//! order of [`Lock`], each with a deadline, so that no two processes ever wait for each other. What is only tried, and not
//! waited for, is in nobody's way and may be tried at any time but under the journal's lock.
//!
//! The journal's lock is the last. Every start on the host takes it, so whoever has it waits for nothing: not for the disk
//! ([`flush`]), another lock, a plugin, a program, a process or a person. What wants to last is written under it, flushed
//! after it, and acknowledged after that. One thing is excepted, and not told here: the journal is rebuilt under its lock where
//! it is damaged.
//!
//! A lease is no lock: it is taken first, under the journal's lock for an instant, and held while the locks come and go.
//!
//! Debug builds assert all that, thread by thread: [`Held`] is known from when its lock is asked for until it is dropped.
//! Release builds know nothing and cost nothing.

#![forbid(unsafe_code)]

mod order;

pub use order::Held;
pub use order::Lock;
pub use order::hold;
pub use order::waits;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::time::Duration;
use std::time::Instant;

/// The shortest and the longest time between two looks at whether a lock is free.
const PAUSES: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(1));

/// Takes `lock`, which `file` carries, exclusively, and waits for it until `until`. It is held until the last descriptor of
/// this open file is closed, or until it is given back with flock(2). `None` when the time was over.
///
/// # Errors
/// Any failure of flock(2).
pub fn take(lock: Lock, file: impl AsFd, until: Instant) -> Result<Option<Held>, Errno> {
    let held = hold(lock);
    Ok(wait(file, until)?.then_some(held))
}

/// The same without waiting.
///
/// # Errors
/// Any failure of flock(2).
pub fn try_take(lock: Lock, file: impl AsFd) -> Result<Option<Held>, Errno> {
    let held = order::tried(lock);
    Ok(try_now(file)?.then_some(held))
}

/// Waits for the lock that `file` carries until `until`; for whoever tells [`hold`] himself. `false` when the time was over.
///
/// # Errors
/// Any failure of flock(2).
pub fn wait(file: impl AsFd, until: Instant) -> Result<bool, Errno> {
    // A blocking flock cannot be given a deadline without a signal, which is not a library's to use.
    let (shortest, longest) = PAUSES;
    let mut pause = Duration::ZERO;
    while !try_now(&file)? {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        if pause.is_zero() {
            std::thread::yield_now();
        } else {
            std::thread::sleep(pause.min(left));
        }
        pause = (pause * 2).clamp(shortest, longest);
    }
    Ok(true)
}

fn try_now(file: impl AsFd) -> Result<bool, Errno> {
    match rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Gives back the lock that `file` carries, before the file is closed.
///
/// # Errors
/// Any failure of flock(2).
pub fn give_back(file: impl AsFd) -> Result<(), Errno> {
    rustix::fs::flock(file, FlockOperation::Unlock)
}

/// Returns when a file or folder survives a power cut.
///
/// # Errors
/// Any failure of fsync(2); what is on the disk is then unknown.
pub fn flush(file: impl AsFd) -> Result<(), Errno> {
    waits("fsync(2)");
    rustix::fs::fsync(file)
}

/// Returns when what a file holds survives a power cut.
///
/// # Errors
/// Any failure of fdatasync(2); what is on the disk is then unknown.
pub fn flush_content(file: impl AsFd) -> Result<(), Errno> {
    waits("fdatasync(2)");
    rustix::fs::fdatasync(file)
}

/// Returns when everything on the filesystem of `file` survives a power cut, what others have written as well.
///
/// # Errors
/// Any failure of syncfs(2).
pub fn flush_filesystem(file: impl AsFd) -> Result<(), Errno> {
    waits("syncfs(2)");
    rustix::fs::syncfs(file)
}
