//! Turns a component into machine code; the build script of `volhook-plugin-host` includes this file.

use crate::profile;
use wasmtime::Engine;
use wasmtime::OptLevel;
use wasmtime::Strategy;

/// Compiles `component` for the target triple `target`.
///
/// # Errors
/// When it is not a component, or not one that the profile allows. Hostile input may also make the compiler
/// panic or take gigabytes.
pub(crate) fn compile(component: &[u8], id: &str, target: &str) -> wasmtime::Result<Vec<u8>> {
    let mut config = profile::config(id, target)?;
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true);
    Engine::new(&config)?.precompile_component(component)
}
