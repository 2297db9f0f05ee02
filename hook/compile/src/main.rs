//! The program `volhook-compile`: a component on standard input, its machine code on standard output. `volhook plugin install`
//! and `refresh` and `volhook-dev` start it, without arguments and with an empty environment; nobody types it.

// Where nobody reads any more, they panic.
#![deny(clippy::print_stderr, clippy::print_stdout)]

use std::io::Write as _;
use std::process::ExitCode;
use volhook_plugin_host::compiling;

const USAGE: &str = "volhook-compile compiles the plugin that comes on standard input, and is started by `volhook plugin install FILE`\n";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let done = match args.next() {
        None => volhook_compile::serve(),
        Some(word) if word == compiling::VERSION => {
            std::io::stdout().write_all(format!("{}\n", compiling::identity()).as_bytes())
        }
        Some(_) => {
            // Where standard error is gone nobody can be told.
            let _ = std::io::stderr().write_all(USAGE.as_bytes());
            return ExitCode::from(2);
        }
    };
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
