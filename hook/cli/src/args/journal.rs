//! The command line of `volhook journal`.

use crate::args::Output;
use crate::commands;
use crate::watch::Watch;
use clap::Subcommand;
use volhook_engine::Engine;
use volhook_engine::Failure;

#[derive(Subcommand)]
pub(super) enum Journal {
    /// Read every file from end to end; change nothing. Fails unless all is as it was written.
    Check {
        #[command(flatten)]
        output: Output,
    },
    /// Begin damaged files anew with what can be read, with containers' records and with what the kernel knows. A
    /// copy is kept. Hooks do the same when they meet damage.
    Rebuild {
        /// Only show what is lost and what would be kept.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Does what a command line says.
pub(super) fn run(engine: &Engine, watch: &Watch, command: &Journal) -> Result<(), Failure> {
    match command {
        Journal::Check { output } => commands::journal::check(engine, watch, output.json),
        Journal::Rebuild { dry_run } => commands::journal::rebuild(engine, watch, *dry_run),
    }
}
