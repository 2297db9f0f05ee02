//! The compiler of plugins, as the program beside this one: started with nothing of this one's surroundings.

use crate::beside::Beside;
use crate::beside::NotThere;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;
use volhook_plugin_host::CompileError;
use volhook_plugin_host::check_compiler;
use volhook_plugin_host::compile_in;
use volhook_plugin_host::compiling;

/// The compiler.
pub const COMPILER: Beside = Beside { name: compiling::PROGRAM, purpose: "which compiles plugins" };

impl From<NotThere> for CompileError {
    fn from(error: NotThere) -> Self {
        Self::NoCompiler { reason: error.line(), hint: error.hint() }
    }
}

/// Compiles a component.
///
/// # Errors
/// [`CompileError`].
pub fn compile(component: &[u8]) -> Result<Vec<u8>, CompileError> {
    compile_in(bare(&COMPILER.path()?), component, Instant::now() + compiling::PATIENCE)
}

/// Checks that the compiler is there and fits this program; where it is.
///
/// # Errors
/// [`CompileError`].
pub fn check() -> Result<PathBuf, CompileError> {
    let program = COMPILER.path()?;
    check_compiler(bare(&program))?;
    Ok(program)
}

fn bare(program: &PathBuf) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    command
}
