//! Plugins, for people: which there are, what they say of themselves, and installed ones looked through, put back and removed.

use crate::ask;
use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use std::io::ErrorKind;
use std::path::PathBuf;
use volhook_api::Remark;
use volhook_api::plugin::Details;
use volhook_api::plugin::Done;
use volhook_api::plugin::Driver;
use volhook_api::plugin::Given;
use volhook_api::plugin::Named;
use volhook_api::plugin::Plugin;
use volhook_api::plugin::Source;
use volhook_core::decision::OptionInfo;
use volhook_core::decision::PluginInfo;
use volhook_core::decision::PluginKind;
use volhook_core::question::Answer;
use volhook_core::question::Decision;
use volhook_core::question::Question;
use volhook_leases::Work;
use volhook_plugin_host::Inspected;
use volhook_plugin_host::PluginEntry;
use volhook_plugin_host::PluginSource;

/// All plugins. Installed ones that cannot be used are told.
///
/// # Errors
/// When the folder of plugins cannot be read.
pub fn list(engine: &Engine, work: &Work<'_>) -> Result<Vec<Plugin>, Failure> {
    let plugins = engine.plugins().list().map_err(Failure::new)?;
    tell_unusable(engine, work)?;
    let document = |PluginEntry { name, kind, api_version, source, digest, size }: PluginEntry| Plugin {
        name,
        kind: kind.to_string(),
        api_version,
        source: whence(source),
        digest,
        size,
    };
    Ok(plugins.into_iter().map(document).collect())
}

/// All drivers. Those that cannot be used are told.
///
/// # Errors
/// When the folder of plugins cannot be read.
pub fn drivers(engine: &Engine, work: &Work<'_>) -> Result<Vec<Driver>, Failure> {
    tell_unusable(engine, work)?;
    let mut drivers = Vec::new();
    for entry in engine.plugins().list().map_err(Failure::new)? {
        if entry.kind != PluginKind::Driver {
            continue;
        }
        match describe(engine, &entry.name) {
            Ok(info) => drivers.push(document(entry, info)),
            Err(failure) => work.watcher.told(&Remark::PassedOver { cause: failure.cause_line() }),
        }
    }
    Ok(drivers)
}

/// One driver.
///
/// # Errors
/// [`Kind::NoSuchPlugin`](volhook_api::Kind::NoSuchPlugin), and when it does not describe itself.
pub fn driver(engine: &Engine, name: &str, _work: &Work<'_>) -> Result<Driver, Failure> {
    let info = describe(engine, name)?;
    let entries = engine.plugins().list().map_err(Failure::new)?;
    let entry = entries.into_iter().find(|entry| entry.name == name && entry.kind == PluginKind::Driver);
    let entry = entry.ok_or_else(|| Failure::internal(format!("driver {name:?} is used and not listed")))?;
    Ok(document(entry, info))
}

fn tell_unusable(engine: &Engine, work: &Work<'_>) -> Result<(), Failure> {
    for problem in engine.plugins().unusable().map_err(Failure::new)? {
        work.watcher.told(&Remark::PassedOver { cause: Failure::new(problem).cause_line() });
    }
    Ok(())
}

fn describe(engine: &Engine, name: &str) -> Result<PluginInfo, Failure> {
    let driver = engine.plugins().driver(name).map_err(ask::failed)?;
    driver.describe().map_err(ask::failed)
}

fn document(entry: PluginEntry, info: PluginInfo) -> Driver {
    Driver {
        name: entry.name,
        about: info.about,
        source: whence(entry.source),
        api_version: entry.api_version,
        options: given(info.options),
    }
}

fn given(options: Vec<OptionInfo>) -> Vec<Given> {
    options.into_iter().map(Given::from).collect()
}

fn whence(source: PluginSource) -> Source {
    match source {
        PluginSource::Builtin => Source::Builtin,
        PluginSource::Installed => Source::Installed,
    }
}

/// All that is known of a plugin. An installed one is looked through.
///
/// # Errors
/// When there is none of that name, or it is not sound.
pub fn inspect(engine: &Engine, name: &str, work: &Work<'_>) -> Result<Details, Failure> {
    let context = &Context::new(engine, *work);
    let entries = context.plugins().list().map_err(Failure::new)?;
    let builtin =
        entries.into_iter().find(|entry| entry.name == name && entry.source == PluginSource::Builtin);
    let inspected = match builtin {
        Some(entry) => {
            let asked = context.plugins().ask(name, entry.kind, &Question::Describe).map_err(Failure::new)?;
            let Answer::Info(info) = asked.answer else {
                return Err(Failure::internal(format!("plugin {name:?} describes something else")));
            };
            Inspected { entry, info, code_size: 0, profile: String::new(), previous: None }
        }
        None => verified(context, name)?,
    };
    let last_failure = last_failure(context, name)?;
    let Inspected { entry, info, code_size, profile, previous } = inspected;
    let installed = entry.source == PluginSource::Installed;
    Ok(Details {
        name: entry.name,
        kind: entry.kind.to_string(),
        about: info.about,
        api_version: entry.api_version,
        source: whence(entry.source),
        digest: entry.digest,
        size: entry.size,
        code_size: installed.then_some(code_size),
        profile: installed.then_some(profile),
        previous,
        options: given(info.options),
        settings: given(info.settings),
        last_failure,
    })
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

/// Brings back the plugin that an installed one has replaced.
///
/// # Errors
/// When it has replaced none, or that one is not sound.
pub fn rollback(engine: &Engine, name: &str, _work: &Work<'_>) -> Result<Named, Failure> {
    let limits = &engine.config()?.limits;
    let entry = volhook_plugin_host::rollback(&folder(engine), name, limits)
        .map_err(|error| Failure::context(format!("cannot roll plugin {name:?} back"), error))?;
    Ok(named(entry))
}

/// Looks installed plugins through; all where none is named.
///
/// # Errors
/// When the folder of plugins cannot be read. A plugin that is not sound is part of the outcome.
pub fn verify(engine: &Engine, names: &[String], work: &Work<'_>) -> Result<Done, Failure> {
    let context = &Context::new(engine, *work);
    let names = match names {
        [] => volhook_plugin_host::installed_names(&folder(engine)).map_err(Failure::new)?,
        names => names.to_vec(),
    };
    let mut done = Done::default();
    for name in &names {
        match verified(context, name) {
            Ok(inspected) => done.plugins.push(named(inspected.entry)),
            Err(failure) => done.failed.push(failure.as_failed()),
        }
    }
    Ok(done)
}

fn named(entry: PluginEntry) -> Named {
    Named { name: entry.name, kind: Some(entry.kind.to_string()), digest: Some(entry.digest) }
}

fn verified(context: &Context<'_>, name: &str) -> Result<Inspected, Failure> {
    volhook_plugin_host::verify(&folder(context), name, &context.config()?.limits).map_err(Failure::new)
}

/// Removes installed plugins, those that nothing needs.
#[must_use]
pub fn remove(engine: &Engine, names: &[String], work: &Work<'_>) -> Done {
    let context = &Context::new(engine, *work);
    let mut done = Done::default();
    for name in names {
        match remove_one(context, name) {
            Ok(()) => done.plugins.push(Named { name: name.clone(), kind: None, digest: None }),
            Err(failure) => done.failed.push(failure.as_failed()),
        }
    }
    done
}

fn remove_one(context: &Context<'_>, name: &str) -> Result<(), Failure> {
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

fn folder(engine: &Engine) -> PathBuf {
    engine.places.root.join("plugins")
}
