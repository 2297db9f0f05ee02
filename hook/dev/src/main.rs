//! The program `volhook-dev`: what authors of plugins type. `volhook plugin new` and its like start it.

// Where nobody reads any more, they panic.
#![deny(clippy::print_stderr, clippy::print_stdout)]

mod args;
mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    args::run()
}
