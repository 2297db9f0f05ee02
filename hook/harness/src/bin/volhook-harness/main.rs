//! The program `volhook-harness`: runs test scripts of OCI hooks, volhook's or any other, and tells what became of them.

// Where nobody reads any more, they panic.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod args;
mod commands;
mod output;

use std::process::ExitCode;

fn main() -> ExitCode {
    args::run()
}
