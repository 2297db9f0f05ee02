//! Compiling in another process, the program `volhook-compile`: what is said to it, and what it answers.

use crate::builtin;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::poll;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// The compiler's name.
pub const PROGRAM: &str = "volhook-compile";

/// The argument to which the compiler answers with its [`identity`].
pub const VERSION: &str = "--version";

/// The most bytes of a component. One with a Python interpreter in it has 18 MB.
pub const MAX_COMPONENT_BYTES: usize = 64 << 20;

/// Seconds of processor time that compiling may take; a component with a Python interpreter takes 15.
pub const SECONDS: u64 = 120;
/// Bytes of address space that compiling may take; a component with a Python interpreter takes 440 MB.
pub const MEMORY: u64 = 3 << 29;

/// How long a person waits for it, on a host that has other things to do as well.
pub const PATIENCE: Duration = Duration::from_secs(5 * SECONDS);
/// The most bytes of machine code that are taken; a component with a Python interpreter becomes 50 MB.
pub const MAX_CODE_BYTES: usize = 256 << 20;

/// First byte of what the compiler writes behind its identity: machine code follows.
pub const COMPILED: u8 = 0;
/// First byte of what the compiler writes behind its identity: the reason against follows.
pub const REFUSED: u8 = 1;

/// Bytes of an identity that are read.
const MAX_IDENTITY: usize = 200;
/// How long a program is waited for that is to say who it is.
const SAYING_WHO: Duration = Duration::from_secs(60);

/// What a compiler calls itself that is of this version and has this profile. It begins its output with that, on a line.
#[must_use]
pub fn identity() -> String {
    format!("{PROGRAM} {} {}", env!("CARGO_PKG_VERSION"), builtin::PROFILE_ID)
}

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The compiler refuses it.
    #[error("{reason}")]
    Refused {
        /// What the compiler says.
        reason: String,
    },
    /// There is no compiler.
    #[error("{reason}")]
    NoCompiler {
        /// Where it was looked for.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// The compiler cannot be started or talked to.
    #[error("cannot run the compiler {}", program.display())]
    Run {
        /// The compiler.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was started is another compiler than this volhook needs, or none.
    #[error("{} is not the compiler of this volhook: it is {found}, and {needed} is needed", program.display())]
    Other {
        /// What was started.
        program: PathBuf,
        /// What it calls itself.
        found: String,
        /// What it should call itself.
        needed: String,
    },
    /// The compiler died, most likely because the component made it use more than it may.
    #[error("the compiler {} died ({status}); it may use {SECONDS} s of processor time and {} MiB", program.display(), MEMORY >> 20)]
    Died {
        /// The compiler.
        program: PathBuf,
        /// How.
        status: ExitStatus,
    },
    /// The compiler was not done in time, and was ended.
    #[error("the compiler {} was not done in time", program.display())]
    Late {
        /// The compiler.
        program: PathBuf,
    },
    /// The compiler wrote more than any plugin needs, and was ended.
    #[error("the compiler {} made more than {} MiB of one component", program.display(), MAX_CODE_BYTES >> 20)]
    TooMuch {
        /// The compiler.
        program: PathBuf,
    },
}

impl CompileError {
    /// The compiler's own reason against a component, as far as it can be printed.
    #[must_use]
    pub fn refused(reason: &str) -> Self {
        Self::Refused { reason: crate::answer::printable(reason) }
    }

    /// What to do about it, where the component is not to blame.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoCompiler { hint, .. } => Some(hint.clone()),
            Self::Other { .. } => Some(format!("install volhook and {PROGRAM} together, of one version")),
            Self::Late { .. } => Some("try it again when the host has less to do".to_owned()),
            Self::Refused { .. } | Self::Run { .. } | Self::Died { .. } | Self::TooMuch { .. } => None,
        }
    }
}

/// Compiles `component` by the compiler that `command` starts, at most until `until`.
///
/// # Errors
/// [`CompileError`].
pub fn compile_in(command: Command, component: &[u8], until: Instant) -> Result<Vec<u8>, CompileError> {
    let program = PathBuf::from(command.get_program());
    let failed = |source| CompileError::Run { program: program.clone(), source };
    let asked = Asked { input: component, most: MAX_IDENTITY + MAX_CODE_BYTES, enough: &is_another, until };
    let answer = exchange(command, &asked).map_err(failed)?;
    let Some(code) = identified(&answer.output) else { return Err(other(program, &answer)) };
    match (answer.end, code.split_first()) {
        (End::Late, _) => Err(CompileError::Late { program }),
        (End::Enough, _) => Err(CompileError::TooMuch { program }),
        (End::Ended(status), Some((&COMPILED, code))) if status.success() => Ok(code.to_vec()),
        (End::Ended(status), Some((&REFUSED, reason))) if status.success() => {
            Err(CompileError::refused(&String::from_utf8_lossy(reason)))
        }
        (End::Ended(status), _) => Err(CompileError::Died { program, status }),
    }
}

/// Checks that what `command` starts is the compiler of this volhook.
///
/// # Errors
/// [`CompileError`].
pub fn check_compiler(command: Command) -> Result<(), CompileError> {
    let program = PathBuf::from(command.get_program());
    let answer = ask_version(command);
    let answer = answer.map_err(|source| CompileError::Run { program: program.clone(), source })?;
    identified(&answer.output).map(drop).ok_or_else(|| other(program, &answer))
}

/// What a program says first that `command` starts, when it is asked for its version: little of it, and soon.
///
/// # Errors
/// When it cannot be run.
pub fn version_of(command: Command) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&ask_version(command)?.output).into_owned())
}

fn ask_version(mut command: Command) -> io::Result<Answer> {
    command.arg(VERSION);
    let until = Instant::now() + SAYING_WHO;
    exchange(command, &Asked { input: &[], most: MAX_IDENTITY, enough: &|_| false, until })
}

/// What is behind the right identity.
fn identified(output: &[u8]) -> Option<&[u8]> {
    output.strip_prefix(identity().as_bytes())?.strip_prefix(b"\n")
}

/// Whether what has been said so far is another's identity, whole or as much of it as is read.
fn is_another(output: &[u8]) -> bool {
    let is_whole = output.len() >= MAX_IDENTITY || output.contains(&b'\n');
    is_whole && identified(output).is_none()
}

fn other(program: PathBuf, answer: &Answer) -> CompileError {
    let line = answer.output.iter().take(MAX_IDENTITY).take_while(|byte| **byte != b'\n');
    let line = String::from_utf8_lossy(&line.copied().collect::<Vec<_>>()).into_owned();
    let found = match answer.end {
        _ if line.starts_with(PROGRAM) => crate::answer::printable(&line),
        End::Ended(status) if !status.success() => format!("another program, which died ({status})"),
        End::Late if answer.output.is_empty() => "another program, which says nothing".to_owned(),
        _ => "another program".to_owned(),
    };
    CompileError::Other { program, found, needed: identity() }
}

/// What a program is given, and what of its answer is wanted.
struct Asked<'a> {
    input: &'a [u8],
    /// The most bytes of its output.
    most: usize,
    /// Whether no more of the output is wanted than there is.
    enough: &'a dyn Fn(&[u8]) -> bool,
    until: Instant,
}

/// What a program wrote to its standard output, and how that ended.
struct Answer {
    output: Vec<u8>,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    /// By itself.
    Ended(ExitStatus),
    /// It was killed, because nobody wanted more of its output.
    Enough,
    /// It was killed, because its time was over.
    Late,
}

/// Starts a program, gives it its input while its output is taken, and sees it end.
fn exchange(mut command: Command, asked: &Asked<'_>) -> io::Result<Answer> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut output = Vec::new();
    let end = converse(&mut child, asked, &mut output);
    if !matches!(end, Ok(End::Ended(_))) {
        // What has ended cannot be killed, and is waited for all the same.
        let _ = child.kill();
        child.wait()?;
    }
    Ok(Answer { output, end: end? })
}

fn converse(child: &mut Child, asked: &Asked<'_>, output: &mut Vec<u8>) -> io::Result<End> {
    let ended = rustix::process::pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut left = asked.input;
    let mut stdin = child.stdin.take().filter(|_| !left.is_empty());
    let mut stdout = child.stdout.take();
    for fd in stdin.iter().map(AsFd::as_fd).chain(stdout.iter().map(AsFd::as_fd)) {
        rustix::io::ioctl_fionbio(fd, true)?;
    }
    let mut buffer = vec![0; 1 << 16];
    loop {
        let time = asked.until.saturating_duration_since(Instant::now());
        if time.is_zero() {
            return Ok(End::Late);
        }
        // The end of its output comes before its own.
        let first = match &stdout {
            Some(stdout) => PollFd::new(stdout, PollFlags::IN),
            None => PollFd::new(&ended, PollFlags::IN),
        };
        let mut polled = vec![first];
        polled.extend(stdin.iter().map(|stdin| PollFd::new(stdin, PollFlags::OUT)));
        match poll(&mut polled, Some(&Timespec::try_from(time).map_err(io::Error::other)?)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let (is_first, is_second) =
            (!polled[0].revents().is_empty(), polled.get(1).is_some_and(|other| !other.revents().is_empty()));
        if is_second && let Some(pipe) = &stdin {
            match rustix::io::write(pipe, &left[..left.len().min(buffer.len())]) {
                Ok(length) => left = &left[length..],
                Err(Errno::INTR | Errno::AGAIN) => {}
                // It died early; its status says more than this error.
                Err(Errno::PIPE) => left = &[],
                Err(errno) => return Err(errno.into()),
            }
            stdin = stdin.filter(|_| !left.is_empty());
        }
        if !is_first {
            continue;
        }
        let Some(pipe) = &stdout else { return Ok(End::Ended(child.wait()?)) };
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => stdout = None,
            Ok(length) => output.extend_from_slice(&buffer[..length.min(asked.most - output.len())]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        if output.len() >= asked.most || (asked.enough)(output) {
            return Ok(End::Enough);
        }
    }
}
