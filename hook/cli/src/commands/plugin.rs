//! `volhook plugin`: which plugins there are, and installing them.

use crate::context::Context;
use crate::error::Failure;
use crate::hook::read_limited;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use crate::output::warn;
use serde_json::json;
use std::path::Path;
use std::process::Command;
use volhook_core::size;
use volhook_plugin_host::MAX_COMPONENT_BYTES;
use volhook_plugin_host::PluginSource;

/// `volhook plugin ls`.
pub(crate) fn ls(context: &Context, as_json: bool) -> Result<(), Failure> {
    let plugins = context.plugins.list().map_err(Failure::new)?;
    for problem in context.plugins.unusable().map_err(Failure::new)? {
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
            match plugin.source {
                PluginSource::Builtin => "built in",
                PluginSource::Installed => "installed",
            }
            .to_owned(),
            size::format(plugin.size),
            plugin.digest.chars().take(19).collect(),
        ]
    });
    print_table(&["name", "kind", "api", "source", "size", "digest"], rows.collect())
}

/// `volhook plugin install FILE`.
pub(crate) fn install(context: &Context, file: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::context(format!("cannot read the component {}", file.display()), error);
    let component =
        read_limited(std::fs::File::open(file).map_err(failed)?, MAX_COMPONENT_BYTES).map_err(failed)?;
    let program = std::env::current_exe()
        .map_err(|error| Failure::context("cannot tell the path of the volhook program", error))?;
    let entry = volhook_plugin_host::install(&context.paths.root.join("plugins"), &component, |component| {
        let mut child = Command::new(program);
        child.env_clear().args(["plugin", "compile"]);
        volhook_plugin_host::compile_in(child, component)
    })
    .map_err(|error| Failure::context(format!("cannot install {}", file.display()), error))?;
    out(&format!("{} {} {}\n", entry.kind, entry.name, entry.digest))
}

/// `volhook plugin compile`: what `install` runs in a child of its own, because a compiler that is fed hostile
/// input may fail in any way.
pub(crate) fn compile() -> Result<(), Failure> {
    volhook_plugin_host::compile_stdin().map_err(Failure::new)
}
