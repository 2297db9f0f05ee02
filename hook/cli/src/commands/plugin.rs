//! `volhook plugin`: which plugins there are, and what becomes of installed ones.

use crate::commands::driver::option_documents;
use crate::commands::removal::report_all;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use crate::output::warn;
use serde_json::Value;
use serde_json::json;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::options;
use volhook_core::question::Answer;
use volhook_core::question::Decision;
use volhook_core::question::Outcome;
use volhook_core::question::Question;
use volhook_core::size;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_engine::bundle::read_limited;
use volhook_face::compiler;
use volhook_plugin_host::Inspected;
use volhook_plugin_host::MAX_COMPONENT_BYTES;
use volhook_plugin_host::PluginSource;

/// `volhook plugin ls`.
pub(crate) fn ls(context: &Context<'_>, as_json: bool) -> Result<(), Failure> {
    let plugins = context.plugins().list().map_err(Failure::new)?;
    for problem in context.plugins().unusable().map_err(Failure::new)? {
        warn(&Failure::new(problem).cause_line());
    }
    if as_json {
        let documents = plugins.iter().map(|plugin| {
            json!({
                "name": plugin.name,
                "kind": plugin.kind.to_string(),
                "api_version": plugin.api_version,
                "source": plugin.source,
                "digest": plugin.digest,
                "size": plugin.size,
            })
        });
        return print_json(&documents.collect::<Vec<_>>().into());
    }
    let rows = plugins.iter().map(|plugin| {
        vec![
            plugin.name.clone(),
            plugin.kind.to_string(),
            plugin.api_version.clone(),
            origin(plugin.source).to_owned(),
            size::format(plugin.size),
            plugin.digest.chars().take(19).collect(),
        ]
    });
    print_table(&["name", "kind", "api", "source", "size", "digest"], rows.collect())
}

fn origin(source: PluginSource) -> &'static str {
    match source {
        PluginSource::Builtin => "built in",
        PluginSource::Installed => "installed",
    }
}

/// `volhook plugin inspect NAME`.
pub(crate) fn inspect(context: &Context<'_>, name: &str, as_json: bool) -> Result<(), Failure> {
    let entries = context.plugins().list().map_err(Failure::new)?;
    let builtin =
        entries.into_iter().find(|entry| entry.name == name && entry.source == PluginSource::Builtin);
    let inspected = match builtin {
        Some(entry) => {
            let question = Question::Describe;
            let asked = context.plugins().ask(name, entry.kind, &question).map_err(Failure::new)?;
            let Answer::Info(info) = asked.answer else {
                return Err(Failure::internal(format!("plugin {name:?} describes something else")));
            };
            Inspected { entry, info, code_size: 0, profile: String::new(), previous: None }
        }
        None => verified(context, name)?,
    };
    let failure = last_failure(context, name)?;
    if as_json {
        return print_json(&document(&inspected, failure.as_ref()));
    }
    let Inspected { entry, info, code_size, profile, previous } = &inspected;
    out(&format!("{} {}: {}\n", entry.kind, entry.name, info.about))?;
    out(&format!("api {}, {}, {}\n", entry.api_version, origin(entry.source), entry.digest))?;
    if entry.source == PluginSource::Installed {
        let [component, code] = [entry.size, *code_size].map(size::format);
        out(&format!("component {component}, machine code {code} for {profile}\n"))?;
    }
    if let Some(previous) = previous {
        out(&format!("replaced {previous}: `volhook plugin rollback {name}` brings it back\n"))?;
    }
    for (what, options) in [("option", &info.options), ("setting", &info.settings)] {
        if !options.is_empty() {
            let rows = options.iter().map(|option| vec![options::describe(option), option.about.clone()]);
            print_table(&[what, "about"], rows.collect())?;
        }
    }
    if let Some(Decision { time, question, outcome: Outcome::Fault(fault), .. }) = &failure {
        out(&format!("last failure, at {time}, in {}: {fault}\n", question.call()))?;
        out(&format!("what it was asked: {}\n", context.decisions().failure(name).display()))?;
    }
    Ok(())
}

/// The last failure of a plugin, if it ever failed.
fn last_failure(context: &Context<'_>, name: &str) -> Result<Option<Decision>, Failure> {
    let path = context.decisions().failure(name);
    let failed = |error| Failure::context(format!("cannot read {}", path.display()), error);
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn document(inspected: &Inspected, failure: Option<&Decision>) -> Value {
    let Inspected { entry, info, code_size, profile, previous } = inspected;
    let installed = entry.source == PluginSource::Installed;
    json!({
        "name": entry.name,
        "kind": entry.kind.to_string(),
        "about": info.about,
        "api_version": entry.api_version,
        "source": entry.source,
        "digest": entry.digest,
        "size": entry.size,
        "code_size": installed.then_some(code_size),
        "profile": installed.then_some(profile),
        "previous": previous,
        "options": option_documents(&info.options),
        "settings": option_documents(&info.settings),
        "last_failure": failure,
    })
}

/// `volhook plugin install FILE`.
pub(crate) fn install(context: &Context<'_>, file: &Path) -> Result<(), Failure> {
    let component = read_component(file)?;
    let limits = &context.config()?.limits;
    let entry = volhook_plugin_host::install(&folder(context), &component, limits, compiler::compile)
        .map_err(|error| Failure::context(format!("cannot install {}", file.display()), error))?;
    out(&format!("{} {} {}\n", entry.kind, entry.name, entry.digest))
}

/// The bytes of a component; too many of them are not read.
fn read_component(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::context(format!("cannot read the component {}", file.display()), error);
    let open = std::fs::File::open(file).map_err(failed)?;
    if open.metadata().map_err(failed)?.len() > MAX_COMPONENT_BYTES as u64 {
        let most = size::format(MAX_COMPONENT_BYTES as u64);
        return Err(Failure::new(format!("{} is larger than {most}, as no plugin may be", file.display())));
    }
    read_limited(open, MAX_COMPONENT_BYTES).map_err(failed)
}

/// `volhook plugin rollback NAME`.
pub(crate) fn rollback(context: &Context<'_>, name: &str) -> Result<(), Failure> {
    let limits = &context.config()?.limits;
    let entry = volhook_plugin_host::rollback(&folder(context), name, limits)
        .map_err(|error| Failure::context(format!("cannot roll plugin {name:?} back"), error))?;
    out(&format!("{} {} {}\n", entry.kind, entry.name, entry.digest))
}

/// `volhook plugin verify [NAME…]`.
pub(crate) fn verify(context: &Context<'_>, names: &[String]) -> Result<(), Failure> {
    let names = match names {
        [] => volhook_plugin_host::installed_names(&folder(context)).map_err(Failure::new)?,
        names => names.to_vec(),
    };
    let mut failures = Vec::new();
    for name in &names {
        match verified(context, name) {
            Ok(inspected) => out(&format!("{name}: sound, {}\n", inspected.entry.digest))?,
            Err(failure) => failures.push(failure),
        }
    }
    report_all(failures)
}

fn verified(context: &Context<'_>, name: &str) -> Result<Inspected, Failure> {
    volhook_plugin_host::verify(&folder(context), name, &context.config()?.limits).map_err(Failure::new)
}

/// `volhook plugin refresh`.
pub(crate) fn refresh(context: &Context<'_>) -> Result<(), Failure> {
    let folder = folder(context);
    let mut failures = Vec::new();
    for name in volhook_plugin_host::installed_names(&folder).map_err(Failure::new)? {
        let limits = &context.config()?.limits;
        match volhook_plugin_host::refresh(&folder, &name, limits, compiler::compile) {
            Ok(true) => out(&format!("{name}: compiled anew\n"))?,
            Ok(false) => out(&format!("{name}: up to date\n"))?,
            Err(error) => failures.push(Failure::new(error)),
        }
    }
    report_all(failures)
}

/// `volhook plugin rm NAME…`.
pub(crate) fn rm(context: &Context<'_>, names: &[String]) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for name in names {
        match remove(context, name) {
            Ok(()) => out(&format!("{name}\n"))?,
            Err(failure) => failures.push(failure),
        }
    }
    report_all(failures)
}

/// Removes one plugin.
fn remove(context: &Context<'_>, name: &str) -> Result<(), Failure> {
    let installed = volhook_plugin_host::installed_names(&folder(context)).map_err(Failure::new)?;
    if installed.iter().any(|installed| installed == name) {
        missed_by(context, name)?;
    }
    volhook_plugin_host::remove(&folder(context), name).map_err(Failure::new)
}

/// Refuses to remove a plugin that volumes or the configuration need.
fn missed_by(context: &Context<'_>, name: &str) -> Result<(), Failure> {
    let volumes = context.store.list().map_err(Failure::new)?.volumes;
    let discarded = context.store.trash().map_err(Failure::new)?.volumes;
    let of_driver = volumes
        .iter()
        .map(|volume| (volume, ""))
        .chain(discarded.iter().map(|discarded| (&discarded.volume, " (in the trash)")));
    let mut theirs: Vec<String> = of_driver
        .filter(|(volume, _)| volume.driver == name)
        .map(|(volume, place)| format!("{}{place}", volume.id))
        .collect();
    if !theirs.is_empty() {
        let (count, more) = (theirs.len(), theirs.len().saturating_sub(NAMED));
        theirs.truncate(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Err(Failure::new(format!(
            "plugin {name:?} stays: it is the driver of {count} {}: {}{more}",
            if count == 1 { "volume" } else { "volumes" },
            theirs.join(", ")
        ))
        .hint("`volhook volume rm` removes volumes, `volhook trash empty` what was removed"));
    }
    let config = context.config()?;
    let rules = config.policies.iter().map(|rule| ("policies", &rule.policy));
    let named = [("default_driver", &config.default_driver), ("policy", &config.policy)];
    if let Some((setting, _)) = named.into_iter().chain(rules).find(|(_, plugin)| *plugin == name) {
        return Err(Failure::new(format!(
            "plugin {name:?} stays: the configuration {} names it in {setting}",
            context.places.config.display()
        )));
    }
    Ok(())
}

/// Volumes that a message names.
const NAMED: usize = 5;

fn folder(context: &Context<'_>) -> PathBuf {
    context.places.root.join("plugins")
}
