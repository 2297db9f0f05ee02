//! The command line of `volhook plugin` for those who write plugins.

use crate::args::Output;
use crate::commands::plugin_dev as commands;
use crate::commands::plugin_dev::Replaying;
use clap::Subcommand;
use clap::ValueEnum;
use std::path::PathBuf;
use volhook_core::decision::PluginKind;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_plugin_dev::Asked;
use volhook_plugin_dev::LanguageName;
use volhook_plugin_dev::NewProject;
use volhook_plugin_dev::Only;

#[derive(Subcommand)]
pub(super) enum PluginDev {
    /// Begin a plugin: a project that builds and passes its own tests as it is.
    New {
        /// The plugin's name.
        name: String,
        /// What it decides: how volumes are backed and who may hold them, or which volumes containers get.
        #[arg(long, default_value = "driver")]
        kind: Kind,
        /// What it is written in.
        #[arg(long, default_value_t = LanguageName::Rust)]
        lang: LanguageName,
        /// The folder to make; named after the plugin without this.
        #[arg(long, value_name = "DIR")]
        path: Option<PathBuf>,
    },
    /// Build a project's component, to build/NAME.wasm in it.
    Build {
        /// The project.
        #[arg(value_name = "DIR", default_value = ".")]
        project: PathBuf,
    },
    /// Run a project's tests and fixtures, outside and inside the sandbox.
    Test {
        /// The project.
        #[arg(value_name = "DIR", default_value = ".")]
        project: PathBuf,
        /// Write what is answered into the fixtures that expect something else, or nothing.
        #[arg(long)]
        accept: bool,
        /// Only fixtures with this in their name or about.
        #[arg(long, value_name = "TEXT")]
        filter: Option<String>,
        /// Only in one of the two places.
        #[arg(long, value_name = "PLACE")]
        only: Option<Place>,
        #[command(flatten)]
        output: Output,
    },
    /// Ask a plugin what a fixture asks, and print its decision.
    Run {
        /// A component, or a project, which is built first.
        file: PathBuf,
        /// The fixture; what it expects does not matter.
        #[arg(long, value_name = "FILE")]
        fixture: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Check that a component is fit to be installed: without imports, described, the same each time, within limits.
    Check {
        /// A component, or a project, which is built first.
        #[arg(default_value = ".")]
        file: PathBuf,
        /// What to ask it; a project's own fixtures, or questions made from what it describes, without this.
        #[arg(long, value_name = "DIR")]
        fixtures: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Measure what decisions take: time, warm and in a fresh process, fuel and memory.
    Bench {
        /// A component, or a project, which is built first.
        #[arg(default_value = ".")]
        file: PathBuf,
        /// What to ask it; a project's own fixtures, or questions made from what it describes, without this.
        #[arg(long, value_name = "DIR")]
        fixtures: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Show what another build would have decided otherwise than what is recorded; fails if it is anything.
    Replay {
        /// A component, or a project, which is built first.
        file: PathBuf,
        /// The plugin whose decisions are replayed; the one that the build calls itself without this.
        #[arg(long, value_name = "NAME")]
        plugin: Option<String>,
        /// The recorded decisions, a line of JSON each; those of this host without this.
        #[arg(long, value_name = "FILE")]
        recorded: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Build what runs a project outside of the sandbox, and print how it is started: for a debugger. It reads questions as
    /// `record.decisions` writes them, one a line, and answers each in a line.
    Native {
        /// The project.
        #[arg(value_name = "DIR", default_value = ".")]
        project: PathBuf,
    },
    /// Decide, for `check` and `bench`: the question comes on standard input, the nanoseconds go to standard output, a line
    /// for each time.
    #[command(hide = true)]
    Decide {
        /// The folder of plugins.
        folder: PathBuf,
        /// The plugin's kind.
        kind: Kind,
        /// The plugin.
        name: String,
        /// How often. The first time it is loaded, too.
        #[arg(long, default_value_t = 1)]
        times: u32,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Kind {
    Driver,
    Policy,
}

impl From<Kind> for PluginKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Driver => Self::Driver,
            Kind::Policy => Self::Policy,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Place {
    Native,
    Sandbox,
}

/// Does what a command line says.
pub(super) fn run(context: &Context<'_>, command: &PluginDev) -> Result<(), Failure> {
    match command {
        PluginDev::New { name, kind, lang, path } => commands::new(NewProject {
            name: name.clone(),
            kind: (*kind).into(),
            language: *lang,
            folder: path.clone(),
        }),
        PluginDev::Build { project } => commands::build(project),
        PluginDev::Test { project, accept, filter, only, output } => {
            let only = only.map(|place| match place {
                Place::Native => Only::Native,
                Place::Sandbox => Only::Sandbox,
            });
            let asked = Asked { accept: *accept, filter: filter.as_deref(), only };
            commands::test(context, project, asked, output.json)
        }
        PluginDev::Run { file, fixture, output } => commands::run(context, file, fixture, output.json),
        PluginDev::Check { file, fixtures, output } => {
            commands::check(context, file, fixtures.as_deref(), output.json)
        }
        PluginDev::Bench { file, fixtures, output } => {
            commands::bench(context, file, fixtures.as_deref(), output.json)
        }
        PluginDev::Replay { file, plugin, recorded, output } => {
            let (plugin, recorded) = (plugin.as_deref(), recorded.as_deref());
            commands::replay(context, &Replaying { file, plugin, recorded, as_json: output.json })
        }
        PluginDev::Native { project } => commands::native(project),
        PluginDev::Decide { folder, kind, name, times } => {
            commands::decide(context, folder, (*kind).into(), name, *times)
        }
    }
}
