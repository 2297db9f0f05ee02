//! The program that a container runs just before its process, and what it asks through: a small filesystem of their own.
//!
//! The program comes from `step/main.rs`. It is there for as long as a container starts, in a place that only the container's
//! own `/dev` has, and nobody can write to it.

use crate::error::Error;
use crate::source::Detached;
use crate::source::mount_tmpfs;
use crate::sys;
use crate::sys::SyscallError;
use crate::users::Users;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use volhook_core::decision::Directory;
use volhook_core::decision::Tmpfs;
use volhook_core::last_step;

include!(concat!(env!("OUT_DIR"), "/step_program.rs"));

/// The names of the FIFOs, as the program has them.
const ASK: &str = "ask";
const ANSWER: &str = "answer";

/// What the program takes for "done".
const DONE: &[u8] = b"y";

/// The longest reason that one write into a FIFO passes as a whole (`PIPE_BUF`).
const LONGEST: usize = 4096;

/// Whether this volhook has the program for the architecture that it was built for.
#[must_use]
pub fn is_there() -> bool {
    PROGRAM.is_some()
}

/// Both ends of what the program asks through. As long as this is open the program waits.
#[derive(Debug)]
pub struct Line {
    pub(crate) ask: OwnedFd,
    pub(crate) answer: OwnedFd,
}

impl Line {
    /// Takes a question, if there is one.
    pub(crate) fn question(&self) -> bool {
        let mut question = [0_u8; 1];
        matches!(rustix::io::read(&self.ask, &mut question), Ok(1))
    }

    /// Lets the program end: well, or with a reason for people.
    pub(crate) fn answer(&self, reason: Option<&str>) {
        let text = match reason {
            None => DONE,
            Some("") => b"the last step was not done",
            Some(reason) => &reason.as_bytes()[..reason.floor_char_boundary(LONGEST)],
        };
        // Whoever does not listen any more has ended, and the container with it.
        let _ = rustix::io::write(&self.answer, text);
    }
}

/// The program alone: it has nobody to ask, and ends at once.
///
/// # Errors
/// [`Error::StepProgram`], [`Error::MountTmpfs`].
pub fn alone(users: Option<&Users>) -> Result<Detached, Error> {
    let memory = memory(users)?;
    put_program(memory.as_fd()).map_err(|source| Error::StepProgram { source })?;
    Ok(memory)
}

/// The program, with somebody to ask.
///
/// # Errors
/// [`Error::StepProgram`], [`Error::MountTmpfs`].
pub fn with_line(users: Option<&Users>) -> Result<(Detached, Line), Error> {
    let memory = alone(users)?;
    let line = || -> sys::Result<Line> {
        Ok(Line { ask: fifo(memory.as_fd(), ASK)?, answer: fifo(memory.as_fd(), ANSWER)? })
    };
    let line = line().map_err(|source| Error::StepProgram { source })?;
    Ok((memory, line))
}

/// What is in it is for everybody, whoever the container's users are on the host.
fn memory(users: Option<&Users>) -> Result<Detached, Error> {
    let root = Directory { mode: 0o555, uid: 0, gid: 0 };
    let memory = mount_tmpfs(&Tmpfs { size: Some(64 << 10), inodes: Some(8), root })?;
    Ok(match users {
        Some(users) => memory.mapped_for(users),
        None => memory,
    })
}

fn put_program(folder: BorrowedFd<'_>) -> sys::Result<()> {
    let call = "write(the program of the last step)";
    let program = PROGRAM.ok_or_else(|| SyscallError::new(call, Errno::NOEXEC))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o555);
    let failed = |errno| SyscallError::new(call, errno);
    let mut file = File::from(rustix::fs::openat(folder, last_step::NAME, flags, mode).map_err(failed)?);
    file.write_all(program).map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    // The umask is the caller's.
    rustix::fs::fchmod(&file, mode).map_err(failed)
}

/// Makes a FIFO and opens it at both ends: whoever opens one end finds the other open, and neither is at its end as long as
/// this one is.
fn fifo(folder: BorrowedFd<'_>, name: &str) -> sys::Result<OwnedFd> {
    let failed = |errno| SyscallError::new(format!("mknodat({name:?}, S_IFIFO)"), errno);
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(folder, name, FileType::Fifo, mode, 0).map_err(failed)?;
    let fifo = sys::openat(folder, name, OFlags::RDWR | OFlags::NONBLOCK)?;
    rustix::fs::fchmod(&fifo, mode).map_err(failed)?;
    Ok(fifo)
}
