//! `volhook completions` and `volhook man`: what a shell and man(1) are to know of the command line, made from the command
//! line's own description.

use crate::output::out;
use crate::watch::Watch;
use clap::Arg;
use clap::Command;
use clap::ValueEnum;
use clap_complete::engine::ArgValueCandidates;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::CompleteEnv;
use clap_complete::env::Shells;
use clap_mangen::Man;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::Path;
use volhook_api::filter::Filter;
use volhook_api::pod;
use volhook_api::volume::List;
use volhook_api::volume::Listed;
use volhook_api::volume::Sizes;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::Quiet;
use volhook_engine::Work;
use volhook_engine::plugins;
use volhook_engine::pods;
use volhook_engine::story;
use volhook_engine::volumes::list;
use volhook_engine::volumes::trash;

/// The variable by which a shell asks for completions, with its own name as the value.
pub(crate) const VARIABLE: &str = "VOLHOOK_COMPLETE";

/// The section of manuals for tools of administrators.
const SECTION: &str = "8";

/// A shell that can be told of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// `volhook completions SHELL`: the code that a shell reads. It asks the binary, so that it knows what there is.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let name = match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let mut code = Vec::new();
    Shells::builtins()
        .completer(name)
        .ok_or_else(|| Failure::internal(format!("no completions for {name}")))?
        .write_registration(VARIABLE, "volhook", "volhook", "volhook", &mut code)
        .map_err(|error| Failure::context(format!("cannot make completions for {name}"), error))?;
    out(&String::from_utf8_lossy(&code))
}

/// Answers a shell that asks for completions; `false` where none does.
pub(crate) fn answered(args: &[OsString], command: impl Fn() -> Command, engine: fn() -> Engine) -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let here = std::env::current_dir().ok();
    let complete = CompleteEnv::with_factory(|| knowing(command(), "", engine)).var(VARIABLE);
    // A shell that cannot be answered completes nothing; there is nobody to tell.
    complete.try_complete(args, here.as_deref()).unwrap_or(true)
}

/// `command` with candidates for the values of its arguments: what there is on this host.
fn knowing(command: Command, parent: &str, engine: fn() -> Engine) -> Command {
    let path = format!("{parent} {}", command.get_name());
    let values = |arg: Arg| match candidates(&path, arg.get_id().as_str()) {
        Some(list) => arg.add(ArgValueCandidates::new(move || {
            let (engine, watch) = (engine(), Watch::begin());
            // A shell that completes shows no warnings.
            let work = Work { watcher: &Quiet, ..watch.work() };
            let names: BTreeSet<String> = list(&engine, &work).unwrap_or_default().into_iter().collect();
            names.into_iter().map(CompletionCandidate::new).collect()
        })),
        None => arg,
    };
    command.mut_args(values).mut_subcommands(|sub| knowing(sub, &path, engine))
}

/// How many of the last containers are known to a shell.
const CONTAINERS: usize = 10_000;

/// What an argument may be, from what is on this host.
type Names = fn(&Engine, &Work<'_>) -> Option<Vec<String>>;

/// Where the values of the argument `id` of the command `path` come from.
fn candidates(path: &str, id: &str) -> Option<Names> {
    let names: Names = match (path, id) {
        (" volhook volume create" | " volhook volume adopt", "name") => return None,
        (" volhook trash restore", "name") => |engine, work| {
            let removed = trash::list(engine, work).ok()?;
            Some(removed.into_iter().map(|removed| removed.name.to_string()).collect())
        },
        (_, "driver") => |engine, work| {
            let plugins = plugins::list(engine, work).ok()?.into_iter();
            Some(plugins.filter(|plugin| plugin.kind == "driver").map(|plugin| plugin.name).collect())
        },
        (_, "options") => |engine, work| {
            let options = plugins::drivers(engine, work).ok()?.into_iter().flat_map(|driver| driver.options);
            Some(options.map(|option| format!("{}=", option.name)).collect())
        },
        (_, "container") => |engine, work| {
            let mut events = story::events(engine, None).ok()?;
            let mut known = VecDeque::new();
            while let Some(event) = events.next(work).ok()? {
                let is_container = matches!(&*event.kind, "granted" | "refused");
                let id = event.container.filter(|_| is_container).map(|id| id.to_string());
                known.extend(id.filter(|id| known.back() != Some(id)));
                // Nobody wants to choose among all of a year.
                known.drain(..known.len().saturating_sub(CONTAINERS));
            }
            Some(known.into())
        },
        (_, "tenant") => |engine, work| {
            Some(volumes(engine, work)?.into_iter().map(|volume| volume.tenant.to_string()).collect())
        },
        (_, "filter") => {
            |_, _| Some(["driver=", "label=", "dangling=", "name=", "pod="].map(str::to_owned).into())
        }
        (path, "pod" | "pods") if path.starts_with(" volhook pod") && path != " volhook pod prepare" => {
            |engine, work| {
                let pods = pods::look::list(engine, &pod::List { sizes: false }, work).ok()?;
                Some(pods.into_iter().map(|pod| pod.name.to_string()).collect())
            }
        }
        (path, "name" | "names" | "old" | "volume")
            if path.starts_with(" volhook volume") || path.starts_with(" volhook lease") =>
        {
            |engine, work| {
                Some(volumes(engine, work)?.into_iter().map(|volume| volume.name.to_string()).collect())
            }
        }
        _ => return None,
    };
    Some(names)
}

/// The volumes but those that lie in others, which go and stay with their pods.
fn volumes(engine: &Engine, work: &Work<'_>) -> Option<Vec<Listed>> {
    let asked = List { filter: Filter::default(), sizes: Sizes::Unasked };
    let volumes = list::list(engine, &asked, work).ok()?.into_iter();
    Some(volumes.filter(|volume| volume.storage.is_none()).collect())
}

/// `volhook man [COMMAND…]`: the manual page of a command, or with `folder` all of them as files.
pub(crate) fn man(command: Command, words: &[String], folder: Option<&Path>) -> Result<(), Failure> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut found = &command;
    for word in words {
        found = found.find_subcommand(word).ok_or_else(|| {
            let failure = Failure::usage(format!("{} has no command {word:?}", spoken(found)));
            let known: Vec<&str> = visible(found).map(Command::get_name).collect();
            if known.is_empty() { failure } else { failure.hint(format!("commands: {}", known.join(", "))) }
        })?;
    }
    let Some(folder) = folder else {
        let text = page(found).map_err(|error| Failure::context("cannot make the manual page", error))?;
        return out(&String::from_utf8_lossy(&text));
    };
    let failed = |path: &Path, error| {
        Failure::context(format!("cannot write the manual pages to {}", path.display()), error)
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let mut left = vec![found];
    while let Some(command) = left.pop() {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let path = folder.join(format!("{name}.{SECTION}"));
        page(command).and_then(|text| std::fs::write(&path, text)).map_err(|error| failed(&path, error))?;
        out(&format!("{}\n", path.display()))?;
        left.extend(visible(command));
    }
    Ok(())
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set())
}

fn spoken(command: &Command) -> String {
    command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command.clone())
        .section(SECTION)
        .source(concat!("volhook ", env!("CARGO_PKG_VERSION")))
        .manual("volhook")
        .render(&mut text)?;
    Ok(text)
}
