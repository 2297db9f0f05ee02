//! `volhook driver`: which drivers there are, and which options each takes.

use crate::output::dash;
use crate::output::note;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use serde_json::Value;
use serde_json::json;
use volhook_core::decision::OptionInfo;
use volhook_core::decision::OptionKind;
use volhook_core::decision::PluginInfo;
use volhook_core::decision::PluginKind;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_plugin_host::PluginEntry;

/// `volhook driver ls`.
pub(crate) fn ls(context: &Context<'_>, as_json: bool) -> Result<(), Failure> {
    let mut described = Vec::new();
    for problem in context.plugins().unusable().map_err(Failure::new)? {
        note(&format!("Warning: {}", Failure::new(problem).cause_line()));
    }
    for entry in context.plugins().list().map_err(Failure::new)? {
        if entry.kind != PluginKind::Driver {
            continue;
        }
        match describe(context, &entry.name) {
            Ok(info) => described.push((entry, info)),
            Err(failure) => note(&format!("Warning: {}", failure.cause_line())),
        }
    }
    if as_json {
        let documents = described.iter().map(|(entry, info)| document(entry, info));
        return print_json(&documents.collect::<Vec<_>>().into());
    }
    let rows = described.iter().map(|(entry, info)| {
        let options: Vec<&str> = info.options.iter().map(|option| option.name.as_str()).collect();
        vec![entry.name.clone(), dash(Some(options.join(","))), info.about.clone()]
    });
    print_table(&["name", "options", "about"], rows.collect())
}

/// `volhook driver inspect NAME`.
pub(crate) fn inspect(context: &Context<'_>, name: &str, as_json: bool) -> Result<(), Failure> {
    let info = describe(context, name)?;
    if as_json {
        let entries = context.plugins().list().map_err(Failure::new)?;
        let entry = entries.iter().find(|entry| entry.name == name);
        let entry =
            entry.ok_or_else(|| Failure::internal(format!("driver {name:?} is used and not listed")))?;
        return print_json(&document(entry, &info));
    }
    out(&format!("{}: {}\n", info.name, info.about))?;
    if info.options.is_empty() {
        return out("It has no options.\n");
    }
    let rows = info.options.iter().map(|option| {
        vec![option.name.clone(), kind(option), dash(option.default.clone()), option.about.clone()]
    });
    print_table(&["option", "type", "default", "about"], rows.collect())
}

/// The options of all drivers, for help. A driver that cannot be asked is left out: help is not the place to say so.
pub(crate) fn options(context: &Context<'_>) -> String {
    let drivers = context.plugins().list().unwrap_or_default().into_iter();
    let drivers = drivers.filter(|entry| entry.kind == PluginKind::Driver);
    let infos = drivers.filter_map(|entry| describe(context, &entry.name).ok());
    let text = infos.map(|info| {
        let options = info.options.iter().map(|option| {
            format!("  -o {}\n          {}\n", volhook_core::options::describe(option), option.about)
        });
        format!("Driver {}: {}\n{}", info.name, info.about, options.collect::<String>())
    });
    text.collect::<Vec<_>>().join("\n")
}

fn describe(context: &Context<'_>, name: &str) -> Result<PluginInfo, Failure> {
    let driver = context.plugins().driver(name).map_err(Failure::new)?;
    driver.describe().map_err(Failure::new)
}

fn document(entry: &PluginEntry, info: &PluginInfo) -> Value {
    json!({
        "name": entry.name,
        "about": info.about,
        "source": entry.source,
        "api_version": entry.api_version,
        "options": option_documents(&info.options),
    })
}

/// Options, or settings, as JSON.
pub(crate) fn option_documents(options: &[OptionInfo]) -> Vec<Value> {
    let document = |option: &OptionInfo| {
        let choices = match &option.kind {
            OptionKind::Choice(choices) => Some(choices),
            _ => None,
        };
        json!({
            "name": option.name,
            "type": type_name(&option.kind),
            "choices": choices,
            "default": option.default,
            "about": option.about,
        })
    };
    options.iter().map(document).collect()
}

fn type_name(kind: &OptionKind) -> &'static str {
    match kind {
        OptionKind::Text => "text",
        OptionKind::Integer => "integer",
        OptionKind::Size => "size",
        OptionKind::Boolean => "boolean",
        OptionKind::Choice(_) => "choice",
        OptionKind::Table => "table",
    }
}

/// The type for people: of a choice, what there is to choose.
fn kind(option: &OptionInfo) -> String {
    match &option.kind {
        OptionKind::Choice(choices) => choices.join("|"),
        OptionKind::Boolean => "true|false".to_owned(),
        other => type_name(other).to_owned(),
    }
}
