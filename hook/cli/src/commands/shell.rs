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
use std::ffi::OsString;
use std::path::Path;
use volhook_core::decision::PluginKind;
use volhook_core::lease::LeaseRecord;
use volhook_engine::Context;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_journal::EventRecord;

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
            let context = Context::new(&engine, watch.work());
            let names: BTreeSet<String> = list(&context).unwrap_or_default().into_iter().collect();
            names.into_iter().map(CompletionCandidate::new).collect()
        })),
        None => arg,
    };
    command.mut_args(values).mut_subcommands(|sub| knowing(sub, &path, engine))
}

/// What an argument may be, from what is on this host.
type Names = fn(&Context<'_>) -> Option<Vec<String>>;

/// Where the values of the argument `id` of the command `path` come from.
fn candidates(path: &str, id: &str) -> Option<Names> {
    let names: Names = match (path, id) {
        (" volhook volume create" | " volhook volume adopt", "name") => return None,
        (" volhook trash restore", "name") => |context| {
            let trash = context.store.trash().ok()?.volumes;
            Some(trash.into_iter().map(|removed| removed.volume.id.name.to_string()).collect())
        },
        (_, "driver") => |context| {
            let plugins = context.plugins().list().ok()?.into_iter();
            Some(
                plugins
                    .filter(|plugin| plugin.kind == PluginKind::Driver)
                    .map(|plugin| plugin.name)
                    .collect(),
            )
        },
        (_, "options") => |context| {
            let plugins = context.plugins().list().ok()?;
            let drivers = plugins.iter().filter(|plugin| plugin.kind == PluginKind::Driver);
            let infos =
                drivers.filter_map(|plugin| context.plugins().driver(&plugin.name).ok()?.describe().ok());
            Some(infos.flat_map(|info| info.options).map(|option| format!("{}=", option.name)).collect())
        },
        (_, "container") => |context| {
            let events = context.ledger.journal().ok()?.events().ok()?.into_iter();
            let granted = events.filter_map(|event| match event.record {
                EventRecord::Lease(LeaseRecord::Granted(grant)) => Some(grant.container.to_string()),
                EventRecord::Lease(LeaseRecord::Refused { container, .. }) => Some(container.to_string()),
                _ => None,
            });
            Some(granted.collect())
        },
        (_, "tenant") => |context| {
            Some(context.store.list().ok()?.volumes.into_iter().map(|v| v.id.tenant.to_string()).collect())
        },
        (_, "filter") => {
            |_| Some(["driver=", "label=", "dangling=", "name=", "pod="].map(str::to_owned).into())
        }
        (path, "name" | "names" | "old" | "volume")
            if path.starts_with(" volhook volume") || path.starts_with(" volhook lease") =>
        {
            |context| {
                Some(context.store.list().ok()?.volumes.into_iter().map(|v| v.id.name.to_string()).collect())
            }
        }
        _ => return None,
    };
    Some(names)
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
