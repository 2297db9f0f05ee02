//! Compiling in another process, the program `volhook-compile`: what is said to it, and what it answers.

use crate::builtin;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;

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

/// First byte of what the compiler writes behind its identity: machine code follows.
pub const COMPILED: u8 = 0;
/// First byte of what the compiler writes behind its identity: the reason against follows.
pub const REFUSED: u8 = 1;

/// Bytes of an identity that are read.
const MAX_IDENTITY: usize = 200;

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
            Self::Refused { .. } | Self::Run { .. } | Self::Died { .. } => None,
        }
    }
}

/// Compiles `component` by the compiler that `command` starts.
///
/// # Errors
/// [`CompileError`].
pub fn compile_in(mut command: Command, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let program = PathBuf::from(command.get_program());
    let failed = |source| CompileError::Run { program: program.clone(), source };
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(failed)?;
    let output = exchange(&mut child, component);
    let status = child.wait().map_err(failed)?;
    let output = output.map_err(failed)?;
    if !status.success() {
        return Err(CompileError::Died { program, status });
    }
    let answer = identified(program.clone(), &output)?;
    match answer.split_first() {
        Some((&COMPILED, code)) => Ok(code.to_vec()),
        Some((&REFUSED, reason)) => Err(CompileError::refused(&String::from_utf8_lossy(reason))),
        _ => Err(CompileError::Died { program, status }),
    }
}

/// Checks that what `command` starts is the compiler of this volhook.
///
/// # Errors
/// [`CompileError`].
pub fn check_compiler(mut command: Command) -> Result<(), CompileError> {
    let program = PathBuf::from(command.get_program());
    let output = command.arg(VERSION).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.map_err(|source| CompileError::Run { program: program.clone(), source })?;
    identified(program, &output.stdout).map(drop)
}

/// What is behind the right identity.
fn identified(program: PathBuf, output: &[u8]) -> Result<&[u8], CompileError> {
    let needed = identity();
    if let Some(answer) = output.strip_prefix(needed.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n")) {
        return Ok(answer);
    }
    let line = output.iter().take(MAX_IDENTITY).take_while(|byte| **byte != b'\n');
    let line = String::from_utf8_lossy(&line.copied().collect::<Vec<_>>()).into_owned();
    let found = if line.starts_with(PROGRAM) {
        crate::answer::printable(&line)
    } else {
        "another program".to_owned()
    };
    Err(CompileError::Other { program, found, needed })
}

/// Gives the compiler all of its input and then takes all of its output.
fn exchange(child: &mut Child, component: &[u8]) -> io::Result<Vec<u8>> {
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(component) {
            // It died early; its status says more than this error.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
    }
    let mut output = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_end(&mut output)?;
    }
    Ok(output)
}
