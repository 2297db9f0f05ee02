//! What a component says of itself without being run, and questions to one that has no fixtures.

use crate::schema;
use serde_json::Value;
use serde_json::json;
use volhook_core::decision::OptionInfo;
use volhook_core::decision::OptionKind;
use volhook_core::decision::PluginInfo;
use volhook_core::decision::PluginKind;
use volhook_core::question::Question;
use volhook_plugin_host::NotAPlugin;
use wasmparser::Encoding;
use wasmparser::Parser;
use wasmparser::Payload;

/// A component's outer imports and exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) imports: Vec<String>,
    /// Those exports that are interfaces of `volhook:plugin`, with their versions.
    pub(crate) hook_points: Vec<String>,
}

/// Reads them.
///
/// # Errors
/// [`NotAPlugin`] for what is no component.
pub(crate) fn outline(component: &[u8]) -> Result<Outline, NotAPlugin> {
    if !component.starts_with(b"\0asm") {
        // The parser says so in ten lines.
        return Err(NotAPlugin::Invalid { reason: "it does not begin as WebAssembly does".to_owned() });
    }
    let invalid = |error: wasmparser::BinaryReaderError| NotAPlugin::Invalid { reason: error.to_string() };
    let mut outline = Outline { imports: Vec::new(), hook_points: Vec::new() };
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(invalid)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(NotAPlugin::Module);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    outline.imports.push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let name = export.map_err(invalid)?.name.name;
                    if name.starts_with("volhook:plugin/") {
                        outline.hook_points.push(name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(outline)
}

/// The kind of plugin that an outline shows.
pub(crate) fn kind(outline: &Outline) -> Option<PluginKind> {
    match outline.hook_points.as_slice() {
        [one] if one.starts_with("volhook:plugin/driver@") => Some(PluginKind::Driver),
        [one] if one.starts_with("volhook:plugin/policy@") => Some(PluginKind::Policy),
        _ => None,
    }
}

/// Questions made from what a plugin says of itself, each with a name: its options and settings one by one with every
/// kind of value that they take, and the ways in which a volume may be held.
pub(crate) fn questions(kind: PluginKind, info: &PluginInfo) -> Vec<(String, Question)> {
    let mut made = vec![("describe".to_owned(), json!({ "call": "describe" }))];
    let mut add = |name: String, call: &str, changes: Value| {
        let shape = schema::CALLS.iter().find(|known| known.name == call).and_then(|known| known.request);
        let mut request = shape.map(schema::Shape::defaults).unwrap_or_default();
        for (field, value) in changes.as_object().into_iter().flatten() {
            request[field] = value.clone();
        }
        made.push((name, json!({ "call": call, "request": request })));
    };
    match kind {
        PluginKind::Driver => {
            add("create".to_owned(), "create", json!({}));
            for (pairs, options) in [("options", &info.options), ("settings", &info.settings)] {
                for (name, value) in options.iter().flat_map(examples) {
                    add(format!("create {name}={value}"), "create", json!({ pairs: [[name, value]] }));
                }
            }
            let options = defaults(&info.options);
            let pod = json!({ "id": "c1", "tenant": "default", "pod": "p1" });
            add("attach".to_owned(), "attach", json!({ "options": options }));
            add(
                "attach read-only".to_owned(),
                "attach",
                json!({ "options": options, "access": "read-only" }),
            );
            add("attach in a pod".to_owned(), "attach", json!({ "options": options, "container": pod }));
            for sharing in ["shared", "single-writer", "exclusive"] {
                let holder = json!({ "container": "c2", "access": "read-write", "sharing": sharing });
                let changes = json!({ "options": options, "holders": [holder] });
                add(format!("attach beside a holder, {sharing}"), "attach", changes);
            }
        }
        PluginKind::Policy => {
            let pod = json!({ "id": "c1", "tenant": "default", "pod": "p1" });
            let names = ["bin", "etc", "home", "opt", "root", "srv", "usr", "var"];
            let rootfs: Vec<Value> =
                names.iter().map(|name| json!({ "name": name, "kind": "directory" })).collect();
            add("claims without a pod".to_owned(), "claims", json!({ "rootfs": rootfs }));
            add("claims of a pod".to_owned(), "claims", json!({ "container": pod, "rootfs": rootfs }));
            for (name, value) in info.settings.iter().flat_map(examples) {
                let changes = json!({ "container": pod, "rootfs": rootfs, "settings": [[name, value]] });
                add(format!("claims of a pod, {name}={value}"), "claims", changes);
            }
        }
    }
    let question = |(name, value)| Some((name, serde_json::from_value(value).ok()?));
    made.into_iter().filter_map(question).collect()
}

/// Values that an option takes.
fn examples(option: &OptionInfo) -> Vec<(String, String)> {
    let values: Vec<&str> = match &option.kind {
        OptionKind::Text => vec!["text"],
        OptionKind::Integer => vec!["0", "1", "-1"],
        OptionKind::Size => vec!["1M", "10G"],
        OptionKind::Boolean => vec!["true", "false"],
        OptionKind::Choice(choices) => choices.iter().map(String::as_str).collect(),
        OptionKind::Table => return vec![(format!("{}.key", option.name), "text".to_owned())],
    };
    let default = option.default.as_deref().filter(|default| !values.contains(default));
    values.into_iter().chain(default).map(|value| (option.name.clone(), value.to_owned())).collect()
}

fn defaults(options: &[OptionInfo]) -> Vec<Value> {
    options.iter().filter_map(|option| Some(json!([option.name, option.default.as_ref()?]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_follow_what_is_described() {
        let option = |name: &str, kind, default: Option<&str>| OptionInfo {
            name: name.to_owned(),
            kind,
            default: default.map(str::to_owned),
            about: String::new(),
        };
        let info = PluginInfo {
            name: "p".to_owned(),
            about: String::new(),
            options: vec![
                option("mode", OptionKind::Text, Some("0755")),
                option("fs", OptionKind::Choice(vec!["a".to_owned(), "b".to_owned()]), Some("a")),
            ],
            settings: vec![option("mkfs", OptionKind::Table, None)],
        };
        let names: Vec<String> =
            questions(PluginKind::Driver, &info).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names[..7],
            [
                "describe",
                "create",
                "create mode=text",
                "create mode=0755",
                "create fs=a",
                "create fs=b",
                "create mkfs.key=text"
            ]
        );
        assert_eq!(names.len(), 7 + 6);
        assert!(
            questions(PluginKind::Policy, &info)
                .iter()
                .all(|(_, question)| question.is_for(PluginKind::Policy))
        );
    }

    #[test]
    fn what_is_no_component_is_told() {
        assert!(matches!(outline(b"no wasm"), Err(NotAPlugin::Invalid { .. })));
        assert!(matches!(outline(&wat::parse_str("(module)").unwrap()), Err(NotAPlugin::Module)));
        let component = wat::parse_str("(component (import \"a:b/c@1.0.0\" (instance)))").unwrap();
        assert_eq!(outline(&component).unwrap().imports, ["a:b/c@1.0.0"]);
    }
}
