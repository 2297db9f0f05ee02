//! Loading of precompiled code: the one thing that wasmtime offers only as `unsafe`.
#![expect(unsafe_code, reason = "wasmtime has no safe way to load precompiled code, which it trusts")]

use crate::builtin::BuiltIn;
use crate::installed::TrustedCode;
use std::os::fd::AsRawFd;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Loads a built-in plugin.
///
/// # Errors
/// When `engine` has other settings than the build script used.
pub(crate) fn built_in(engine: &Engine, plugin: &'static BuiltIn) -> wasmtime::Result<Component> {
    // SAFETY: a `BuiltIn` exists only in the table that the build script wrote from wasmtime's own output.
    unsafe { Component::deserialize(engine, plugin.code()) }
}

/// Loads an installed plugin.
///
/// # Errors
/// When `engine` has other settings than the installing volhook had.
pub(crate) fn installed(engine: &Engine, code: &TrustedCode) -> wasmtime::Result<Component> {
    // The descriptor, not a path, so that what is mapped is what was checked.
    let path = format!("/proc/self/fd/{}", code.file().as_raw_fd());
    // SAFETY: a `TrustedCode` is a file that only we may write, whose digest is the one that the installing volhook
    // recorded of wasmtime's output. It is never changed in place: a new installation replaces the folder.
    unsafe { Component::deserialize_file(engine, path) }
}
