//! volhook: an OCI hook that gives containers volumes.
//!
//! This crate is a face: it parses what it is told, calls [`volhook_engine`], and prints. [`hook`] is what runtimes call,
//! [`wrapper`] what stands in for one, [`commands`] what people type.

// Where nobody reads any more, they panic.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod args;
mod commands;
mod format;
mod hook;
mod long_list;
mod progress;
mod shape;
mod signals;
mod streams;
mod trace;
mod typed;
mod watch;
mod worker;
mod wrapper;

use std::process::ExitCode;
use volhook_face::output;

/// musl's own allocator asks the kernel for memory too often for a program of two milliseconds.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    args::run()
}
