//! The command line of `volhook plugin`.

use crate::args::passed::Authoring;
use crate::commands;
use clap::Subcommand;
use std::path::PathBuf;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_face::args::Output;

#[derive(Subcommand)]
pub(super) enum Plugin {
    /// List plugins.
    Ls {
        #[command(flatten)]
        output: Output,
    },
    /// Show all that is known of a plugin, its last failure among it.
    Inspect {
        /// The plugin.
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// Install a WebAssembly component. One of the same name is replaced, and kept for `rollback`.
    Install {
        /// The component.
        file: PathBuf,
    },
    /// Bring back what an installed plugin has replaced. Doing it twice changes nothing.
    Rollback {
        /// The plugin.
        name: String,
    },
    /// Check installed plugins: that nobody else could have changed them, that they are what was installed, and that they
    /// run.
    Verify {
        /// The plugins; all when there is none.
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Compile installed plugins anew that were compiled for another version of the engine.
    Refresh,
    /// Remove installed plugins. A driver of which there are volumes stays.
    Rm {
        /// The plugins.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    #[command(flatten)]
    Authoring(Authoring),
}

/// Does what a command line says.
pub(super) fn run(context: &Context<'_>, command: &Plugin) -> Result<(), Failure> {
    match command {
        Plugin::Ls { output } => commands::plugin::ls(context, output.json),
        Plugin::Inspect { name, output } => commands::plugin::inspect(context, name, output.json),
        Plugin::Install { file } => commands::plugin::install(context, file),
        Plugin::Rollback { name } => commands::plugin::rollback(context, name),
        Plugin::Verify { names } => commands::plugin::verify(context, names),
        Plugin::Refresh => commands::plugin::refresh(context),
        Plugin::Rm { names } => commands::plugin::rm(context, names),
        Plugin::Authoring(_) => Err(Failure::internal("another program does that")),
    }
}
