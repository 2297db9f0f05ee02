//! Running a program (mkfs and the like) that must neither outlive the hook nor hold its files open.

use crate::error::Error;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// Where programs are looked for: runtimes call hooks with any PATH or none.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of each output stream is kept, in bytes.
const OUTPUT_LIMIT: usize = 64 * 1024;

/// Runs `command` and waits for it, at most until `deadline`.
///
/// It gets [`PATH`] as its whole environment, no input, and its output is captured (the first 64 KiB of each
/// stream). It is killed at the deadline, with the processes of its group, and when the calling thread ends
/// (`PR_SET_PDEATHSIG`). What a process that it left behind still writes is not waited for.
///
/// # Errors
/// [`Error::RunProgram`] if it cannot be started or watched, [`Error::ProgramDeadline`]. A program that ran and
/// failed is not an error here: see the status.
pub fn run(mut command: Command, deadline: Instant) -> Result<Output, Error> {
    volhook_locks::waits("a program");
    let program = command.get_program().to_string_lossy().into_owned();
    command.env_clear().env("PATH", PATH).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    die_with_parent(&mut command);
    let failed = |source| Error::RunProgram { program: program.clone(), source };
    let mut child = command.spawn().map_err(failed)?;
    let watched = watch(&mut child, deadline);
    if !matches!(watched, Ok(Some(_))) {
        let group = rustix::process::Pid::from_child(&child);
        // The child is not reaped yet, so this is still its group.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = child.wait();
    }
    watched.map_err(failed)?.ok_or(Error::ProgramDeadline { program })
}

#[expect(unsafe_code, reason = "code between fork and exec can only be given to the standard library so")]
fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let prepare = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // A parent that died before that call sends nothing any more.
        if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; these are two plain system calls,
    // and making an `io::Error` of an error number does not allocate.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// The output of `child`, or `None` at the deadline.
fn watch(child: &mut Child, deadline: Instant) -> io::Result<Option<Output>> {
    let ended = rustix::process::pidfd_open(rustix::process::Pid::from_child(child), PidfdFlags::empty())?;
    let mut streams = [child.stdout.take().map(Into::into), child.stderr.take().map(Into::into)]
        .map(|fd: Option<std::os::fd::OwnedFd>| Stream { fd, kept: Vec::new() });
    for stream in &streams {
        if let Some(fd) = &stream.fd {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            return Ok(None);
        }
        let mut polled = vec![PollFd::new(&ended, PollFlags::IN)];
        for fd in streams.iter().filter_map(|stream| stream.fd.as_ref()) {
            polled.push(PollFd::new(fd, PollFlags::IN));
        }
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let has_ended = polled[0].revents().contains(PollFlags::IN);
        for stream in &mut streams {
            stream.read()?;
        }
        if has_ended {
            let status: ExitStatus = child.wait()?;
            // What it wrote last before it ended is in the pipes by now.
            let [stdout, stderr] = streams;
            return Ok(Some(Output { status, stdout: stdout.kept, stderr: stderr.kept }));
        }
    }
}

struct Stream {
    fd: Option<std::os::fd::OwnedFd>,
    kept: Vec<u8>,
}

impl Stream {
    /// Takes what is there, but no more than a pipe holds twice: a program that writes without end must not keep
    /// us from its deadline. Beyond the limit it is thrown away.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0_u8; 4096];
        for _ in 0..32 {
            let Some(fd) = &self.fd else { break };
            match rustix::io::read(fd.as_fd(), &mut buffer) {
                Ok(0) => self.fd = None,
                Ok(length) => {
                    let room = OUTPUT_LIMIT.saturating_sub(self.kept.len());
                    self.kept.extend_from_slice(&buffer[..length.min(room)]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}
