//! The command line: what there is to say, and where it goes.

mod passed;
mod plugin;
mod pod;

use crate::commands;
use crate::commands::adopt::Adoption;
use crate::commands::copy::Copying;
use crate::commands::listing::Listed;
use crate::commands::prune::Pruning;
use crate::commands::removal::Removal;
use crate::commands::shell::Shell;
use crate::commands::volume::Asked;
use crate::hook;
use crate::watch::Watch;
use crate::wrapper;
use clap::CommandFactory as _;
use clap::FromArgMatches as _;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use passed::Harness;
use plugin::Plugin;
use pod::Pod;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
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

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed or refused, 2 wrong usage, 3 no such volume, 70 a bug in volhook, 130 stopped with Ctrl-C.";

#[derive(Subcommand)]
enum Command {
    /// Be an OCI hook: the container's state, or for precreate its spec, comes on standard input.
    Hook {
        stage: Stage,
        /// The attempt whose spec named this entry.
        #[arg(long, value_name = "TOKEN")]
        attempt: Option<String>,
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
        #[command(flatten)]
        output: Output,
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
        output: Output,
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
    /// Give back the leases of containers that are provably dead, and what else is left of them.
    Gc {
        /// Only show what would be given back.
        #[arg(long)]
        dry_run: bool,
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

#[derive(Subcommand)]
enum Volume {
    /// Create a volume and print its name. One that exists with the same driver and options is fine.
    Create {
        /// Its name; a random one where none is given.
        name: Option<String>,
        /// The driver that decides how it is backed and who may hold it.
        #[arg(short, long)]
        driver: Option<String>,
        /// An option of the driver; `volhook driver inspect DRIVER` lists them.
        #[arg(short, long = "opt", value_name = "KEY=VALUE")]
        options: Vec<String>,
        /// A label.
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// List volumes.
    Ls {
        /// Only those that match: driver=, label=, dangling=, name=, pod=.
        #[arg(short, long, value_name = "KEY=VALUE")]
        filter: Vec<String>,
        /// Only the names.
        #[arg(short, long)]
        quiet: bool,
        /// Count all sizes anew, however long that takes. Without it a size may be a minute old, or older if counting takes
        /// long; then its age is shown.
        #[arg(long, conflicts_with = "quiet")]
        count: bool,
        /// A line for each volume, such as '{{.Name}} {{.Size}}'.
        #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["quiet", "json"])]
        format: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Remove volumes: they go to the trash. What a container holds stays, whatever is said.
    Rm {
        /// The volumes.
        #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "NAME")]
        names: Vec<String>,
        /// All volumes that belong to no pod.
        #[arg(long)]
        all: bool,
        /// Of all volumes only those that match: driver=, label=, dangling=, name=.
        #[arg(long, requires = "all", value_name = "KEY=VALUE")]
        filter: Vec<String>,
        /// The tenant whose volumes they are.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// Do not ask.
        #[arg(short, long)]
        force: bool,
    },
    /// Remove volumes that no container has had for some days and that belong to no pod. Where the history does not reach
    /// back so far, they stay.
    Prune {
        /// So many days since the last container gave it back.
        #[arg(long, default_value_t = 30, value_name = "DAYS")]
        unused_for: u32,
        /// Only those that match: driver=, label=, name=.
        #[arg(long, value_name = "KEY=VALUE")]
        filter: Vec<String>,
        /// The tenant whose volumes they are.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// Only show which, and why.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(short, long)]
        force: bool,
    },
    /// Make a directory or filesystem image that exists a volume, as it is. It is moved, not copied.
    Adopt {
        /// The directory, or the image.
        path: PathBuf,
        /// The volume's name.
        name: String,
        /// The driver: without one, local for a directory and block for an image. An image of driver local stays an
        /// image, for one container at a time.
        #[arg(short, long)]
        driver: Option<String>,
        /// A label.
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
        /// Leave it where it is: a directory that the configuration grants, or an image on the filesystem of the volumes.
        #[arg(long)]
        in_place: bool,
        /// The tenant whose volume it will be.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Give a volume another name, while nobody holds it.
    Rename {
        /// The volume.
        old: String,
        /// Its new name.
        new: String,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Mount an image on the host for a look, and print where. Nobody else gets it until it is unmounted.
    Mount {
        /// The volume.
        name: String,
        /// An existing directory; one in the run directory is made without it.
        directory: Option<PathBuf>,
        /// Only for reading.
        #[arg(short, long)]
        read_only: bool,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Unmount what `mount` mounted.
    Umount {
        /// The volume.
        name: String,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Give an image another size: larger at any time, smaller while nobody holds it.
    Resize {
        /// The volume.
        name: String,
        /// Its new size, such as 20G.
        size: String,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Make a volume as a copy of another, and print its name. An image must be free.
    Clone {
        /// The volume to copy.
        name: String,
        /// The name of the new one.
        new: String,
        /// A label, besides those of the original.
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
        /// The tenant whose volumes they are.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Copy files into a volume or out of it, by docker's rules. One side is NAME:PATH, the other a path of the host,
    /// or - for a tar stream.
    Cp {
        /// What to copy; of a directory that ends in /. what is in it.
        #[arg(value_name = "FROM", allow_hyphen_values = true)]
        from: OsString,
        /// Where to. Into a volume everything becomes root's, out of it yours.
        #[arg(value_name = "TO", allow_hyphen_values = true)]
        to: OsString,
        /// Keep owners, set-id bits, capabilities, access lists and devices. Otherwise they are left out.
        #[arg(short, long)]
        archive: bool,
        /// Copy what the symlink FROM points to, not the symlink.
        #[arg(short = 'L', long)]
        follow_link: bool,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Check the filesystem of an image that nobody holds.
    Fsck {
        /// The volume.
        name: String,
        /// Mend what is found.
        #[arg(long)]
        repair: bool,
        /// The tenant whose volume it is.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
    /// Show all that is known of volumes, as JSON: where they are, how large, who holds them and since when.
    Inspect {
        /// The volumes.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// `docker` for docker's own field names, or a line for each volume, such as '{{.Mountpoint}}'.
        #[arg(short, long, value_name = "docker|TEMPLATE")]
        format: Option<String>,
        /// The tenant whose volumes they are.
        #[arg(long, default_value = "default")]
        tenant: String,
    },
}

#[derive(Subcommand)]
enum Trash {
    /// List removed volumes, and until when each can be taken back.
    Ls {
        #[command(flatten)]
        output: Output,
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

#[derive(Subcommand)]
enum Lease {
    /// List leases.
    Ls {
        /// Show how each stands, and the evidence.
        #[arg(long)]
        wide: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Give back a lease that is not provably dead: the last resort, after looking at the evidence.
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

#[derive(Subcommand)]
enum Journal {
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

#[derive(Subcommand)]
enum Driver {
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

/// Parses the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    let inherited = inherited::take();
    let mut args = std::env::args_os();
    if let Some(program) = args.next() {
        let engine = engine_from_environment();
        let configured = || engine.config().ok().and_then(|config| config.runtime.clone());
        if let Some(runtime) = wrapper::runtime_of_name(&program, configured) {
            let args: Vec<OsString> = args.collect();
            return wrapper::run(&engine, &Watch::begin(), inherited, Some(runtime), &args);
        }
    }
    if let Some((stage, attempt)) = plain_hook_call(&std::env::args_os().collect::<Vec<_>>()) {
        let (engine, watch) = (engine_from_environment(), Watch::begin());
        return be_hook(&engine, &watch, inherited, stage, attempt.as_deref());
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
        Command::Hook { stage, attempt } => {
            return be_hook(&engine, &watch, inherited, stage, attempt.as_deref());
        }
        Command::Runtime => return wrapper::run(&engine, &watch, inherited, None, &of_runtime),
        Command::Plan { bundle, id, output } => {
            commands::bundle::plan(&context, &bundle, id.as_deref(), output.json)
        }
        Command::Bundle(Bundle::Install { bundle, stage, timeout }) => {
            let stage = match stage {
                LiveStage::Prestart => "prestart",
                LiveStage::CreateRuntime => "createRuntime",
            };
            commands::bundle::install(&context, &bundle, stage, timeout)
        }
        Command::Volume(Volume::Create { name, driver, options, labels, tenant }) => {
            let (name, driver) = (name.as_deref(), driver.as_deref());
            let asked = Asked { name, tenant: &tenant, driver, options: &options, labels: &labels };
            commands::volume::create(&context, &asked)
        }
        Command::Volume(Volume::Ls { filter, quiet, count, format, output }) => {
            let (format, as_json) = (format.as_deref(), output.json);
            let how = Listed { filter: &filter, quiet, format, as_json, count };
            commands::listing::ls(&context, &how)
        }
        Command::Pod(command) => pod::run(&context, &command),
        Command::Df { output } => commands::listing::df(&context, output.json),
        Command::Volume(Volume::Rm { names, all, filter, tenant, force }) => {
            let removal = Removal { names: &names, all, filter: &filter, tenant: &tenant, force };
            commands::removal::rm(&context, &removal)
        }
        Command::Volume(Volume::Prune { unused_for, filter, tenant, dry_run, force }) => {
            let pruning = Pruning { days: unused_for, filter: &filter, tenant: &tenant, dry_run, force };
            commands::prune::prune(&context, &pruning)
        }
        Command::Trash(Trash::Ls { output }) => commands::removal::ls(&context, output.json),
        Command::Trash(Trash::Restore { name, tenant }) => {
            commands::removal::restore(&context, &tenant, &name)
        }
        Command::Trash(Trash::Empty { force }) => commands::removal::empty(&context, force),
        Command::Volume(Volume::Adopt { path, name, driver, labels, in_place, tenant }) => {
            let (path, driver, labels) = (path.as_path(), driver.as_deref(), labels.as_slice());
            let adoption = Adoption { path, name: &name, tenant: &tenant, driver, labels, in_place };
            commands::adopt::adopt(&context, &adoption)
        }
        Command::Volume(Volume::Rename { old, new, tenant }) => {
            commands::adopt::rename(&context, &tenant, &old, &new)
        }
        Command::Volume(Volume::Mount { name, directory, read_only, tenant }) => {
            commands::mount::mount(&context, &tenant, &name, directory.as_deref(), read_only)
        }
        Command::Volume(Volume::Umount { name, tenant }) => commands::mount::umount(&context, &tenant, &name),
        Command::Volume(Volume::Resize { name, size, tenant }) => {
            commands::filesystem::resize(&context, &tenant, &name, &size)
        }
        Command::Volume(Volume::Clone { name, new, labels, tenant }) => {
            commands::clone::clone(&context, &tenant, &name, &new, &labels)
        }
        Command::Volume(Volume::Cp { from, to, archive, follow_link: follow, tenant }) => {
            let copying = Copying { from: &from, to: &to, tenant: &tenant, archive, follow };
            commands::copy::cp(&context, &copying)
        }
        Command::Volume(Volume::Fsck { name, repair, tenant }) => {
            commands::filesystem::fsck(&context, &tenant, &name, repair)
        }
        Command::Volume(Volume::Inspect { names, format, tenant }) => {
            commands::volume::inspect(&context, &tenant, &names, format.as_deref())
        }
        Command::Lease(Lease::Ls { wide, output }) => commands::lease::ls(&context, wide, output.json),
        Command::Lease(Lease::Break { volume, container, tenant, force }) => {
            commands::lease::break_lease(&context, &tenant, &volume, &container, force)
        }
        Command::Journal(Journal::Check { output }) => commands::journal::check(&context, output.json),
        Command::Journal(Journal::Rebuild { dry_run }) => commands::journal::rebuild(&context, dry_run),
        Command::Driver(Driver::Ls { output }) => commands::driver::ls(&context, output.json),
        Command::Driver(Driver::Inspect { name, output }) => {
            commands::driver::inspect(&context, &name, output.json)
        }
        Command::Plugin(command) => plugin::run(&context, &command),
        Command::Harness(_) => Err(Failure::internal("another program does that")),
        Command::Events { follow, output } => commands::events::events(&context, follow, output.json),
        Command::Explain { container, output } => {
            commands::explain::explain(&context, &container, output.json)
        }
        Command::Doctor { output } => commands::doctor::doctor(&context, output.json),
        Command::Completions { shell } => commands::shell::completions(shell),
        Command::Man { words, out } => commands::shell::man(Cli::command(), &words, out.as_deref()),
        Command::Gc { dry_run } => commands::lease::gc(&context, dry_run),
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
    let options = commands::driver::options(&Context::new(&engine, watch.work()));
    let with_options = |create: clap::Command| create.after_help(options);
    let command = Cli::command();
    let command = command.mut_subcommand("volume", |volume| volume.mut_subcommand("create", with_options));
    Cli::from_arg_matches(&command.try_get_matches_from(args)?)
}

/// The hook call that volhook's own entries make: everything else that matters is in the environment. It is on
/// every container's way to its start, where building the whole command-line parser is a third of a millisecond.
fn plain_hook_call(args: &[OsString]) -> Option<(Stage, Option<String>)> {
    let texts: Vec<&str> = args.iter().skip(1).map(|arg| arg.to_str()).collect::<Option<_>>()?;
    let (stage, attempt) = match texts.as_slice() {
        ["hook", stage] => (stage, None),
        ["hook", stage, option] => (stage, Some(option.strip_prefix("--attempt=")?.to_owned())),
        _ => return None,
    };
    Some((Stage::from_str(stage, false).ok()?, attempt))
}

fn be_hook(
    engine: &Engine,
    watch: &Watch,
    inherited: Inherited,
    stage: Stage,
    attempt: Option<&str>,
) -> ExitCode {
    let _ = inherited.with_own_mask();
    match stage {
        Stage::Precreate => hook::precreate(engine, watch),
        Stage::Prestart => hook::start(engine, watch, "prestart", attempt),
        Stage::CreateRuntime => hook::start(engine, watch, "createRuntime", attempt),
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
