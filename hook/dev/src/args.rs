//! The command line.

use crate::commands;
use crate::commands::Replaying;
use clap::CommandFactory as _;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use clap_complete::env::CompleteEnv;
use std::path::PathBuf;
use std::process::ExitCode;
use volhook_core::decision::PluginKind;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_face::args::Output;
use volhook_face::args::Places;
use volhook_face::args::misused;
use volhook_face::args::report;
use volhook_plugin_dev::Asked;
use volhook_plugin_dev::LanguageName;
use volhook_plugin_dev::NewProject;
use volhook_plugin_dev::Only;

/// What authors of volhook's plugins need: begin, build, test and measure them.
#[derive(Parser)]
#[command(name = "volhook-dev", version)]
struct Cli {
    #[command(flatten)]
    places: Places,
    /// Show the whole chain of causes of an error.
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
enum Kind {
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
enum Place {
    Native,
    Sandbox,
}

/// Parses the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    // Where a shell asks for completions, as volhook does for it.
    CompleteEnv::with_factory(Cli::command).var("VOLHOOK_COMPLETE").complete();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    match done(&cli.places.engine(), &cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure, cli.verbose),
    }
}

fn done(engine: &Engine, command: &Command) -> Result<(), Failure> {
    match command {
        Command::New { name, kind, lang, path } => commands::new(NewProject {
            name: name.clone(),
            kind: (*kind).into(),
            language: *lang,
            folder: path.clone(),
        }),
        Command::Build { project } => commands::build(project),
        Command::Test { project, accept, filter, only, output } => {
            let only = only.map(|place| match place {
                Place::Native => Only::Native,
                Place::Sandbox => Only::Sandbox,
            });
            let asked = Asked { accept: *accept, filter: filter.as_deref(), only };
            commands::test(engine, project, asked, output.json)
        }
        Command::Run { file, fixture, output } => commands::run(engine, file, fixture, output.json),
        Command::Check { file, fixtures, output } => {
            commands::check(engine, file, fixtures.as_deref(), output.json)
        }
        Command::Bench { file, fixtures, output } => {
            commands::bench(engine, file, fixtures.as_deref(), output.json)
        }
        Command::Replay { file, plugin, recorded, output } => {
            let (plugin, recorded) = (plugin.as_deref(), recorded.as_deref());
            commands::replay(engine, &Replaying { file, plugin, recorded, as_json: output.json })
        }
        Command::Native { project } => commands::native(project),
        Command::Decide { folder, kind, name, times } => {
            commands::decide(engine, folder, (*kind).into(), name, *times)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
