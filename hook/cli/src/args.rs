//! The command line: what there is to say, and where it goes.

mod driver;
mod journal;
mod lease;
mod passed;
mod plugin;
mod pod;
mod trash;
mod volume;

use crate::commands;
use crate::commands::shell::Shell;
use crate::hook;
use crate::shape::Shape;
use crate::trace;
use crate::watch::Watch;
use crate::worker;
use crate::wrapper;
use clap::Args;
use clap::CommandFactory as _;
use clap::FromArgMatches as _;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use driver::Driver;
use journal::Journal;
use lease::Lease;
use passed::Harness;
use plugin::Plugin;
use pod::Pod;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use trash::Trash;
use volhook_api::bundle;
use volhook_api::bundle::Install;
use volhook_api::bundle::Preview;
use volhook_core::cursor::Cursor;
use volhook_core::last_step;
use volhook_core::names::ContainerId;
use volhook_engine::Context;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::start::spec;
use volhook_face::args::Output;
use volhook_face::args::Places;
use volhook_face::args::misused;
use volhook_face::args::report;
use volhook_face::places::engine_from_environment;
use volhook_mounts::inherited;
use volhook_mounts::inherited::Inherited;
use volume::Volume;

/// Gives containers volumes: an OCI runtime hook with sandboxed drivers and an on-disk lease journal.
#[derive(Parser)]
#[command(name = "volhook", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    places: Places,
    /// Show the whole chain of causes of an error.
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed or refused, 2 wrong usage, 3 no such volume or pod, 70 a bug in volhook, 130 stopped with Ctrl-C.";

#[derive(Subcommand)]
enum Command {
    /// Be an OCI hook: the container's state, or for precreate its spec, comes on standard input.
    Hook {
        stage: Stage,
        /// The attempt whose spec named this entry.
        #[arg(long, value_name = "TOKEN")]
        attempt: Option<String>,
        /// The bundle of this entry has an entry for the last step of a pod's start: put its program into the container.
        #[arg(long, conflicts_with = "attempt")]
        last_step: bool,
    },
    /// Be an OCI runtime: give the bundle its volumes, then run the real runtime with all further arguments.
    Runtime,
    /// Show what the hook would do for a bundle, and do nothing.
    Plan {
        /// Folder with `config.json`.
        bundle: PathBuf,
        /// The container's id, where it matters to a driver.
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Prepare OCI bundles.
    #[command(subcommand)]
    Bundle(Bundle),
    /// Manage volumes.
    #[command(subcommand)]
    Volume(Volume),
    /// Manage pods: the personal machines whose files are kept.
    #[command(subcommand)]
    Pod(Pod),
    /// Show what volumes, the trash and volhook's own files take of the disk.
    Df {
        #[command(flatten)]
        output: Output,
    },
    /// Take removed volumes back, or delete them for good.
    #[command(subcommand)]
    Trash(Trash),
    /// See who holds what.
    #[command(subcommand)]
    Lease(Lease),
    /// Look at the journal's files, and rebuild what is damaged.
    #[command(subcommand)]
    Journal(Journal),
    /// See which drivers there are, and their options.
    #[command(subcommand)]
    Driver(Driver),
    /// Manage plugins, and begin, build and test some; the latter is done by the program volhook-dev.
    #[command(subcommand)]
    Plugin(Plugin),
    /// Test OCI hooks, volhook's or any other; done by the program volhook-harness.
    #[command(subcommand)]
    Harness(Harness),
    /// Show what happened: grants, refusals with reasons, releases, faults.
    Events {
        /// Go on with what happens next.
        #[arg(short, long)]
        follow: bool,
        /// Begin behind this event: its `boot` and `seq`, as `--format '{{.Boot}}:{{.Seq}}'` prints them.
        #[arg(long, value_name = "BOOT:SEQ", allow_hyphen_values = true)]
        since: Option<Cursor>,
        #[command(flatten)]
        shaped: Shaped,
    },
    /// Tell the story of a container: what it asked for, what was decided, planned, mounted or refused, and when.
    Explain {
        /// The container's id; it may be long gone.
        container: String,
        #[command(flatten)]
        output: Output,
    },
    /// Check whether this host can do what volhook needs, and what is left lying about. Changes nothing; fails if there is a
    /// problem.
    Doctor {
        #[command(flatten)]
        shaped: Shaped,
    },
    /// Print the code by which a shell completes volhook's command line, with the names of volumes, drivers and containers.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print a manual page.
    Man {
        /// The words of a command, such as `volume create`; without them the page of volhook.
        #[arg(value_name = "COMMAND")]
        words: Vec<String>,
        /// Instead, write the pages of the command and of all commands below it as files to this folder.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Do one request, a document on standard input; how far it is and its outcome come on standard output, a document in each
    /// line. For programs.
    Work,
    /// Give back the leases of containers that are provably dead, and what else is left of them.
    Gc {
        /// Only show what would be given back.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "camelCase")]
enum Stage {
    Precreate,
    Prestart,
    CreateRuntime,
    Poststop,
}

#[derive(Subcommand)]
enum Bundle {
    /// Put volhook's hook entries into a bundle's `config.json`; twice changes nothing.
    Install {
        /// Folder with `config.json`.
        bundle: PathBuf,
        /// The stage at which containers get their volumes.
        #[arg(long, default_value = "prestart")]
        stage: LiveStage,
        /// Seconds after which the runtime gives up on a hook.
        #[arg(long, default_value_t = spec::ENTRY_TIMEOUT_SECONDS, value_parser = clap::value_parser!(u32).range(1..=3600))]
        timeout: u32,
    },
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "camelCase")]
enum LiveStage {
    Prestart,
    CreateRuntime,
}

/// How a list is printed.
#[derive(Args)]
struct Shaped {
    /// One JSON document: sizes in bytes, times in RFC 3339.
    #[arg(long)]
    json: bool,
    /// As docker prints lists: `json`, a template for each such as '{{.Name}}', or `table` before one.
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    format: Option<String>,
}

impl Shaped {
    fn shape(&self) -> Result<Shape, Failure> {
        Shape::new(self.json, self.format.as_deref())
    }
}

/// How one thing is printed.
#[derive(Args)]
struct ShapedOne {
    /// One JSON document: sizes in bytes, times in RFC 3339.
    #[arg(long)]
    json: bool,
    /// As docker prints what it inspects: `json`, or a template such as '{{.Name}}'.
    #[arg(short, long, value_name = "TEMPLATE", conflicts_with = "json")]
    format: Option<String>,
}

impl ShapedOne {
    fn shape(&self) -> Result<Shape, Failure> {
        Shape::new(self.json, self.format.as_deref())
    }
}

/// Parses the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    let inherited = inherited::take();
    trace::listen();
    let mut args = std::env::args_os();
    if let Some(program) = args.next() {
        let engine = engine_from_environment();
        let configured = || engine.config().ok().and_then(|config| config.runtime.clone());
        if let Some(runtime) = wrapper::runtime_of_name(&program, configured) {
            let args: Vec<OsString> = args.collect();
            return wrapper::run(&engine, &Watch::begin(), inherited, Some(runtime), &args);
        }
    }
    if let Some(call) = plain_hook_call(&std::env::args_os().collect::<Vec<_>>()) {
        return be_hook(&engine_from_environment(), &Watch::begin(), inherited, &call);
    }
    let (own, of_runtime) = passed::split_at_runtime(std::env::args_os().collect());
    passed::pass_completion_on(&own);
    if commands::shell::answered(&own, Cli::command, engine_from_environment) {
        return ExitCode::SUCCESS;
    }
    if let Some(failure) = passed::pass_on(&own, &inherited) {
        return report(&failure, false);
    }
    let cli = match parse(own) {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let (engine, watch) = (cli.places.engine(), Watch::begin());
    let context = Context::new(&engine, watch.work());
    let result = match cli.command {
        Command::Hook { stage, attempt, last_step } => {
            return be_hook(&engine, &watch, inherited, &HookCall { stage, attempt, last_step });
        }
        Command::Work => return worker::work(&engine, &watch),
        Command::Runtime => return wrapper::run(&engine, &watch, inherited, None, &of_runtime),
        Command::Plan { bundle, id, output } => {
            let container = id.map(ContainerId::new).transpose().map_err(Failure::usage);
            container.and_then(|container| {
                commands::bundle::plan(&engine, &watch, &Preview { bundle, container }, output.json)
            })
        }
        Command::Bundle(Bundle::Install { bundle, stage, timeout }) => {
            let stage = match stage {
                LiveStage::Prestart => bundle::LiveStage::Prestart,
                LiveStage::CreateRuntime => bundle::LiveStage::CreateRuntime,
            };
            commands::bundle::install(&engine, &watch, &Install { bundle, stage, timeout })
        }
        Command::Volume(command) => volume::run(&engine, &watch, command),
        Command::Pod(command) => pod::run(&engine, &watch, command),
        Command::Df { output } => commands::listing::df(&engine, &watch, output.json),
        Command::Trash(command) => trash::run(&engine, &watch, command),
        Command::Lease(command) => lease::run(&engine, &watch, &command),
        Command::Journal(command) => journal::run(&engine, &watch, &command),
        Command::Driver(command) => driver::run(&engine, &watch, &command),
        Command::Plugin(command) => plugin::run(&context, &watch, &command),
        Command::Harness(_) => Err(Failure::internal("another program does that")),
        Command::Events { follow: true, since, shaped } => {
            shaped.shape().and_then(|shape| commands::events::follow(&engine, &watch, since.as_ref(), &shape))
        }
        Command::Events { follow: false, since, shaped } => {
            shaped.shape().and_then(|shape| commands::events::events(&engine, &watch, since.as_ref(), &shape))
        }
        Command::Explain { container, output } => {
            commands::explain::explain(&engine, &watch, &container, output.json)
        }
        Command::Doctor { shaped } => {
            shaped.shape().and_then(|shape| commands::doctor::doctor(&engine, &watch, &shape))
        }
        Command::Completions { shell } => commands::shell::completions(shell),
        Command::Man { words, out } => commands::shell::man(Cli::command(), &words, out.as_deref()),
        Command::Gc { dry_run, output } => commands::gc::gc(&engine, &watch, dry_run, output.json),
    };
    context.tell_untold();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure, cli.verbose),
    }
}

/// Parses the command line. The help of `volume create` has the options of the drivers that are there, by their own word.
fn parse(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let has = |word: &str| args.iter().any(|arg| arg == word);
    if !(has("create") && (has("--help") || has("-h"))) {
        return Cli::try_parse_from(args);
    }
    let (engine, watch) = (engine_from_environment(), Watch::begin());
    let options = commands::driver::options(&engine, &watch);
    let with_options = |create: clap::Command| create.after_help(options);
    let command = Cli::command();
    let command = command.mut_subcommand("volume", |volume| volume.mut_subcommand("create", with_options));
    Cli::from_arg_matches(&command.try_get_matches_from(args)?)
}

/// The hook call that volhook's own entries make: everything else that matters is in the environment. It is on
/// every container's way to its start, where building the whole command-line parser is a third of a millisecond.
fn plain_hook_call(args: &[OsString]) -> Option<HookCall> {
    let texts: Vec<&str> = args.iter().skip(1).map(|arg| arg.to_str()).collect::<Option<_>>()?;
    let (stage, attempt, last_step) = match texts.as_slice() {
        ["hook", stage] => (stage, None, false),
        ["hook", stage, last_step::MARK] => (stage, None, true),
        ["hook", stage, option] => (stage, Some(option.strip_prefix("--attempt=")?.to_owned()), false),
        _ => return None,
    };
    Some(HookCall { stage: Stage::from_str(stage, false).ok()?, attempt, last_step })
}

/// What an entry says beside its environment.
struct HookCall {
    stage: Stage,
    attempt: Option<String>,
    last_step: bool,
}

fn be_hook(engine: &Engine, watch: &Watch, inherited: Inherited, call: &HookCall) -> ExitCode {
    let _ = inherited.with_own_mask();
    let (attempt, marked) = (call.attempt.as_deref(), call.last_step);
    match call.stage {
        Stage::Precreate => hook::precreate(engine, watch),
        Stage::Prestart => hook::start(engine, watch, "prestart", attempt, marked),
        Stage::CreateRuntime => hook::start(engine, watch, "createRuntime", attempt, marked),
        Stage::Poststop => hook::stop(engine, watch, attempt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
