//! The command line of `volhook trash`.

use crate::args::Shaped;
use crate::commands;
use crate::watch::Watch;
use clap::Subcommand;
use volhook_engine::Engine;
use volhook_engine::Failure;

#[derive(Subcommand)]
pub(super) enum Trash {
    /// List removed volumes, and until when each can be taken back.
    Ls {
        #[command(flatten)]
        shaped: Shaped,
    },
    /// Take a removed volume back.
    Restore {
        /// Its name, or its uuid where several had the name.
        name: String,
        /// The tenant whose volume it was.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Delete what is in the trash for good.
    Empty {
        /// Do not ask.
        #[arg(short, long)]
        force: bool,
    },
}

/// Does what a command line says.
pub(super) fn run(engine: &Engine, watch: &Watch, command: Trash) -> Result<(), Failure> {
    match command {
        Trash::Ls { shaped } => commands::trash::ls(engine, watch, &shaped.shape()?),
        Trash::Restore { name, tenant } => commands::trash::restore(engine, watch, &tenant, name),
        Trash::Empty { force } => commands::trash::empty(engine, watch, force),
    }
}
