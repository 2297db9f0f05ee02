//! The command line of `volhook driver`.

use crate::args::Output;
use crate::commands;
use crate::watch::Watch;
use clap::Subcommand;
use volhook_engine::Engine;
use volhook_engine::Failure;

#[derive(Subcommand)]
pub(super) enum Driver {
    /// List drivers.
    Ls {
        #[command(flatten)]
        output: Output,
    },
    /// Show a driver's options: their types, defaults and what they mean.
    Inspect {
        /// The driver.
        name: String,
        #[command(flatten)]
        output: Output,
    },
}

/// Does what a command line says.
pub(super) fn run(engine: &Engine, watch: &Watch, command: &Driver) -> Result<(), Failure> {
    match command {
        Driver::Ls { output } => commands::driver::ls(engine, watch, output.json),
        Driver::Inspect { name, output } => commands::driver::inspect(engine, watch, name, output.json),
    }
}
