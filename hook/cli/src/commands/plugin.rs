//! `volhook plugin`: which plugins there are, and what becomes of installed ones.

use crate::output::out;
use crate::output::print_table;
use crate::output::report_all;
use crate::shape::Shape;
use crate::watch::Watch;
use std::path::Path;
use std::path::PathBuf;
use volhook_api::plugin::Details;
use volhook_api::plugin::Named;
use volhook_api::plugin::Source;
use volhook_core::options;
use volhook_core::question::Decision;
use volhook_core::question::Outcome;
use volhook_core::size;
use volhook_engine::Context;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::bundle::read_limited;
use volhook_engine::plugins;
use volhook_face::compiler;
use volhook_plugin_host::MAX_COMPONENT_BYTES;

/// `volhook plugin ls`.
pub(crate) fn ls(engine: &Engine, watch: &Watch, shape: &Shape) -> Result<(), Failure> {
    let plugins = plugins::list(engine, &watch.work())?;
    let rows = plugins.iter().map(|plugin| {
        vec![
            plugin.name.clone(),
            plugin.kind.clone(),
            plugin.api_version.clone(),
            origin(plugin.source).to_owned(),
            size::format(plugin.size),
            plugin.digest.chars().take(19).collect(),
        ]
    });
    let header = ["name", "kind", "api", "source", "size", "digest"];
    shape.print(&plugins, || print_table(&header, rows.collect()))
}

fn origin(source: Source) -> &'static str {
    match source {
        Source::Builtin => "built in",
        Source::Installed => "installed",
    }
}

/// `volhook plugin inspect NAME`.
pub(crate) fn inspect(engine: &Engine, watch: &Watch, name: &str, shape: &Shape) -> Result<(), Failure> {
    let details = plugins::inspect(engine, name, &watch.work())?;
    shape.print_one(&details, || print_details(engine, &details))
}

fn print_details(engine: &Engine, details: &Details) -> Result<(), Failure> {
    let name = &details.name;
    let Details { kind, about, api_version, source, digest, size, .. } = details;
    out(&format!("{kind} {name}: {about}\n"))?;
    out(&format!("api {api_version}, {}, {digest}\n", origin(*source)))?;
    if let (Some(code), Some(profile)) = (details.code_size, &details.profile) {
        let [component, code] = [*size, code].map(size::format);
        out(&format!("component {component}, machine code {code} for {profile}\n"))?;
    }
    if let Some(previous) = &details.previous {
        out(&format!("replaced {previous}: `volhook plugin rollback {name}` brings it back\n"))?;
    }
    for (what, given) in [("option", &details.options), ("setting", &details.settings)] {
        if !given.is_empty() {
            let rows = given
                .iter()
                .map(|option| vec![options::describe(&option.clone().into()), option.about.clone()]);
            print_table(&[what, "about"], rows.collect())?;
        }
    }
    if let Some(Decision { time, question, outcome: Outcome::Fault(fault), .. }) = &details.last_failure {
        out(&format!("last failure, at {time}, in {}: {fault}\n", question.call()))?;
        out(&format!("what it was asked: {}\n", engine.decisions().failure(name).display()))?;
    }
    Ok(())
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
pub(crate) fn rollback(engine: &Engine, watch: &Watch, name: &str) -> Result<(), Failure> {
    let Named { name, kind, digest } = plugins::rollback(engine, name, &watch.work())?;
    let (kind, digest) = (kind.unwrap_or_default(), digest.unwrap_or_default());
    out(&format!("{kind} {name} {digest}\n"))
}

/// `volhook plugin verify [NAME…]`.
pub(crate) fn verify(engine: &Engine, watch: &Watch, names: &[String]) -> Result<(), Failure> {
    let done = plugins::verify(engine, names, &watch.work())?;
    for Named { name, digest, .. } in done.plugins {
        out(&format!("{name}: sound, {}\n", digest.unwrap_or_default()))?;
    }
    report_all(done.failed.into_iter().map(Failure::from).collect())
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
pub(crate) fn rm(engine: &Engine, watch: &Watch, names: &[String]) -> Result<(), Failure> {
    let done = plugins::remove(engine, names, &watch.work());
    for Named { name, .. } in done.plugins {
        out(&format!("{name}\n"))?;
    }
    report_all(done.failed.into_iter().map(Failure::from).collect())
}

fn folder(context: &Context<'_>) -> PathBuf {
    context.places.root.join("plugins")
}
