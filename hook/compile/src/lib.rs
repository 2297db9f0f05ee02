//! The compiler of plugins. It is in no other program: whatever installs plugins starts `volhook-compile`, because a compiler
//! that is fed hostile input may fail in any way, and because what starts containers needs none.
//!
//! [`serve`] is what that program does, and [`volhook_plugin_host::compile_in`] who talks to it. The settings that both must
//! have alike are those of [`volhook_plugin_host::profile`].

// Where nobody reads any more, they panic.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod compiler;

use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::Signal;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use volhook_plugin_host::CompileError;
use volhook_plugin_host::MAX_COMPONENT_BYTES;
use volhook_plugin_host::compiling;
use volhook_plugin_host::profile;

/// Limits this process, reads a component from standard input, and writes what [`volhook_plugin_host::compile_in`] reads to
/// standard output. The process dies with the one that started it.
///
/// # Errors
/// When it cannot limit itself, read or write. That the compiler refuses the component is written to the output and no error.
pub fn serve() -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    // First of all: whatever ends it later is then told as the compiler's end.
    stdout.write_all(format!("{}\n", compiling::identity()).as_bytes())?;
    stdout.flush()?;
    limit_myself()?;
    let mut component = Vec::new();
    io::stdin().lock().take(MAX_COMPONENT_BYTES as u64).read_to_end(&mut component)?;
    let (kind, bytes) = match compile(&component) {
        Ok(code) => (compiling::COMPILED, code),
        Err(error) => (compiling::REFUSED, error.to_string().into_bytes()),
    };
    stdout.write_all(&[kind])?;
    stdout.write_all(&bytes)?;
    stdout.flush()
}

fn limit_myself() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    for (resource, limit) in
        [(Resource::Cpu, compiling::SECONDS), (Resource::As, compiling::MEMORY), (Resource::Core, 0)]
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
    compiler::compile(component, volhook_plugin_host::profile_id(), volhook_plugin_host::target())
        .map_err(|error| CompileError::refused(&error.root_cause().to_string()))
}
