//! The command line of `volhook lease`.

use crate::args::Shaped;
use crate::commands;
use crate::watch::Watch;
use clap::Subcommand;
use volhook_engine::Engine;
use volhook_engine::Failure;

#[derive(Subcommand)]
pub(super) enum Lease {
    /// List leases.
    Ls {
        /// Show how each stands, and the evidence.
        #[arg(long)]
        wide: bool,
        #[command(flatten)]
        shaped: Shaped,
    },
    /// Give back a lease that is not provably dead: the last resort, after looking at the evidence. Of a container that has not
    /// started yet all are given back, and what was planned for it with them.
    Break {
        /// The volume.
        volume: String,
        /// The container that holds it.
        container: String,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// Do not ask.
        #[arg(short, long)]
        force: bool,
    },
}

/// Does what a command line says.
pub(super) fn run(engine: &Engine, watch: &Watch, command: &Lease) -> Result<(), Failure> {
    match command {
        Lease::Ls { wide, shaped } => commands::lease::ls(engine, watch, *wide, &shaped.shape()?),
        Lease::Break { volume, container, tenant, force } => {
            commands::lease::break_lease(engine, watch, (tenant, volume), container, *force)
        }
    }
}
