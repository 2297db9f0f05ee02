//! The command line of `volhook driver`.

use crate::args::Shaped;
use crate::args::ShapedOne;
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
        shaped: Shaped,
    },
    /// Show a driver's options: their types, defaults and what they mean.
    Inspect {
        /// The driver.
        name: String,
        #[command(flatten)]
        shaped: ShapedOne,
    },
}

/// Does what a command line says.
pub(super) fn run(engine: &Engine, watch: &Watch, command: &Driver) -> Result<(), Failure> {
    match command {
        Driver::Ls { shaped } => commands::driver::ls(engine, watch, &shaped.shape()?),
        Driver::Inspect { name, shaped } => commands::driver::inspect(engine, watch, name, &shaped.shape()?),
    }
}
