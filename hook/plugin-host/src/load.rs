//! Loading of precompiled code: the one thing that wasmtime offers only as `unsafe`.
#![expect(unsafe_code, reason = "wasmtime has no safe way to load precompiled code, which it trusts")]

use crate::builtin::BuiltIn;
use crate::installed::TrustedCode;
use rustix::mm::MprotectFlags;
use rustix::mm::mprotect;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use wasmtime::Config;
use wasmtime::CustomCodeMemory;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Lets an engine run code where it lies: that of the built-in plugins is a part of this program's file, which would
/// otherwise be copied at each start.
pub(crate) fn use_code_in_place(config: &mut Config) {
    config.with_custom_code_memory(Some(Arc::new(CodeInPlace)));
}

struct CodeInPlace;

impl CustomCodeMemory for CodeInPlace {
    fn required_alignment(&self) -> usize {
        rustix::param::page_size()
    }

    fn publish_executable(&self, start: *const u8, length: usize) -> wasmtime::Result<()> {
        protect(start, length, MprotectFlags::READ | MprotectFlags::EXEC)
    }

    fn unpublish_executable(&self, start: *const u8, length: usize) -> wasmtime::Result<()> {
        protect(start, length, MprotectFlags::READ)
    }
}

fn protect(start: *const u8, length: usize, flags: MprotectFlags) -> wasmtime::Result<()> {
    // SAFETY: the engine passes whole pages of the text section of code that it has loaded. Such pages hold nothing
    // else, are never written, and stay mapped and readable under all flags that are used here.
    unsafe { mprotect(start.cast_mut().cast(), length, flags) }.map_err(|error| {
        wasmtime::Error::msg(format!("cannot change the protection of machine code: {error}"))
    })
}

/// Loads a built-in plugin.
///
/// # Errors
/// When `engine` has other settings than the build script used.
pub(crate) fn built_in(engine: &Engine, plugin: &'static BuiltIn) -> wasmtime::Result<Component> {
    let code = plugin.code();
    // SAFETY: a `BuiltIn` exists only in the table that the build script wrote from wasmtime's own output. It is a
    // constant: it lives and stays the same as long as the program.
    unsafe {
        if code.as_ptr().addr().is_multiple_of(rustix::param::page_size()) {
            Component::deserialize_raw(engine, NonNull::from(code))
        } else {
            Component::deserialize(engine, code)
        }
    }
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
