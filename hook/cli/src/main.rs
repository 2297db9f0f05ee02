//! volhook: an OCI hook that gives containers volumes.
//!
//! This crate is the flow and the edge: it gathers facts, lets `volhook-core` decide, and carries the decision
//! out through the journal, the volume store and the kernel. [`hook`] has the stages, [`gather`], [`acquire`] and
//! [`execute`] the parts of the way, [`undo`] the way back, [`commands`] what people type.

mod acquire;
mod args;
mod commands;
mod context;
mod decisions;
mod error;
mod execute;
mod failpoint;
mod fill;
mod filter;
mod gather;
mod grants;
mod guard;
mod hook;
mod image;
mod output;
mod progress;
mod renew;
mod report;
mod spec_stage;
mod storage;
mod template;
mod timings;
mod undo;
mod wrapper;

use std::process::ExitCode;

/// musl's own allocator asks the kernel for memory too often for a program of two milliseconds.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    args::run()
}
