//! Compiling in another process, which limits itself: a compiler that is fed hostile input may fail in any way.

use crate::builtin;
use crate::compiler;
use rustix::process::Resource;
use rustix::process::Rlimit;
use std::io;
use std::io::Read;
use std::io::Write;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;

/// The most bytes of a component. One with a Python interpreter in it has 18 MB.
pub const MAX_COMPONENT_BYTES: usize = 64 << 20;

/// Seconds of processor time that compiling may take; a component with a Python interpreter takes 15.
const COMPILE_SECONDS: u64 = 120;
/// Bytes of address space that compiling may take; a component with a Python interpreter takes 440 MB.
const COMPILE_MEMORY: u64 = 3 << 29;

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The compiler refuses it.
    #[error("{reason}")]
    Refused {
        /// What the compiler says.
        reason: String,
    },
    /// The compiling process cannot be started or talked to.
    #[error("cannot run the compiling process")]
    Run(#[source] io::Error),
    /// The compiling process died, most likely because the component made it use more than it may.
    #[error("the compiling process died ({status}); it may use {COMPILE_SECONDS} s of processor time and {} MiB", COMPILE_MEMORY >> 20)]
    Died {
        /// How.
        status: ExitStatus,
    },
}

/// Compiles `component` in the process that `command` starts, which must call [`compile_stdin`].
///
/// # Errors
/// [`CompileError`].
pub fn compile_in(mut command: Command, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(CompileError::Run)?;
    let output = exchange(&mut child, component);
    let status = child.wait().map_err(CompileError::Run)?;
    let output = output.map_err(CompileError::Run)?;
    if !status.success() {
        return Err(CompileError::Died { status });
    }
    match output.split_first() {
        Some((&COMPILED, code)) => Ok(code.to_vec()),
        Some((&REFUSED, reason)) => {
            Err(CompileError::Refused { reason: crate::answer::printable(&String::from_utf8_lossy(reason)) })
        }
        _ => Err(CompileError::Died { status }),
    }
}

/// Gives the compiling process all of its input and then takes all of its output.
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

/// First byte of what the compiling process writes: machine code follows.
const COMPILED: u8 = 0;
/// First byte of what the compiling process writes: the reason against follows.
const REFUSED: u8 = 1;

/// What the compiling process does: limits itself, reads a component from standard input, and writes what
/// [`compile_in`] reads to standard output. It dies with the process that started it.
///
/// # Errors
/// [`CompileError::Run`] when it cannot limit itself, read or write. That the compiler refuses the
/// component is written to the output and no error.
pub fn compile_stdin() -> Result<(), CompileError> {
    limit_myself().map_err(|error| CompileError::Run(error.into()))?;
    let mut component = Vec::new();
    let most = MAX_COMPONENT_BYTES as u64;
    io::stdin().lock().take(most).read_to_end(&mut component).map_err(CompileError::Run)?;
    let (kind, bytes) = match compile(&component) {
        Ok(code) => (COMPILED, code),
        Err(CompileError::Refused { reason }) => (REFUSED, reason.into_bytes()),
        Err(error) => return Err(error),
    };
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&[kind])
        .and_then(|()| stdout.write_all(&bytes))
        .and_then(|()| stdout.flush())
        .map_err(CompileError::Run)
}

fn limit_myself() -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    for (resource, limit) in
        [(Resource::Cpu, COMPILE_SECONDS), (Resource::As, COMPILE_MEMORY), (Resource::Core, 0)]
    {
        // Never more than it was started with, which a process of root's could do.
        let limit = rustix::process::getrlimit(resource).maximum.map_or(limit, |most| most.min(limit));
        rustix::process::setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    Ok(())
}

/// Compiles `component` in this process, without limits: for components that one trusts, such as a test's own.
///
/// # Errors
/// [`CompileError::Refused`].
pub fn compile(component: &[u8]) -> Result<Vec<u8>, CompileError> {
    compiler::compile(component, builtin::PROFILE_ID, builtin::TARGET).map_err(|error| {
        CompileError::Refused { reason: crate::answer::printable(&error.root_cause().to_string()) }
    })
}
