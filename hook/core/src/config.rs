//! The operator's configuration, as data. The binary reads the file; everything has a default.

use crate::decision::Pairs;
use crate::grants::Grants;
use serde::Deserialize;
use std::collections::BTreeMap;

/// `config.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Annotations that begin with this and a dot are claims. An installer for an engine that copies an
    /// image's annotations onto the container chooses one that images cannot know.
    pub annotation_prefix: String,
    /// The annotation, set by the engine, that says whose a container is. Without it there is one tenant.
    pub tenant_annotation: Option<String>,
    /// The driver of volumes whose claim names none.
    pub default_driver: String,
    /// The policy plugin that is asked for containers with a pod annotation.
    pub policy: String,
    /// The OCI runtime behind `volhook runtime`: a path, or a name to be found in PATH.
    pub runtime: Option<String>,
    /// How much history is kept.
    pub history: History,
    /// How long removed volumes are kept.
    pub trash: Trash,
    /// What of the host may be a volume.
    pub grants: Grants,
    /// Settings of plugins, by plugin name. Values are texts, whole numbers, booleans or tables of these.
    pub plugins: BTreeMap<String, BTreeMap<String, serde_json::Value>>,
}

/// `[history]`: how long what happened in earlier boots is remembered. This boot's events are always kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Days.
    pub days: u32,
    /// The most bytes, as a number or with a unit (`64M`).
    #[serde(deserialize_with = "size")]
    pub size: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { days: 90, size: 256 << 20 }
    }
}

/// `[trash]`: how long a removed volume can be taken back. `gc` deletes what was removed longer ago.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trash {
    /// Days.
    pub days: u32,
}

impl Default for Trash {
    fn default() -> Self {
        Self { days: 7 }
    }
}

fn size<'de, D: serde::Deserializer<'de>>(value: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Bytes(u64),
        Text(String),
    }
    match Written::deserialize(value)? {
        Written::Bytes(bytes) => Ok(bytes),
        Written::Text(text) => crate::size::parse(&text).map_err(serde::de::Error::custom),
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            annotation_prefix: "dev.volhook".to_owned(),
            tenant_annotation: None,
            default_driver: "local".to_owned(),
            policy: "universal".to_owned(),
            runtime: None,
            history: History::default(),
            trash: Trash::default(),
            grants: Grants::default(),
            plugins: BTreeMap::new(),
        }
    }
}

/// A setting that cannot be handed to a plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "setting {setting:?} of [plugins.{plugin}] must be a text, a whole number, true, false or a table of these"
)]
pub struct SettingError {
    /// The plugin's name.
    pub plugin: String,
    /// The setting's name.
    pub setting: String,
}

impl Config {
    /// The settings of one plugin as texts. What stands in a table is named `TABLE.KEY`.
    ///
    /// # Errors
    /// [`SettingError`] for a value that is a list, a fraction or a table in a table.
    pub fn settings(&self, plugin: &str) -> Result<Pairs, SettingError> {
        let mut pairs = Pairs::new();
        for (name, value) in self.plugins.get(plugin).into_iter().flatten() {
            let fail =
                |setting: &str| SettingError { plugin: plugin.to_owned(), setting: setting.to_owned() };
            match value {
                serde_json::Value::Object(table) => {
                    for (key, value) in table {
                        let name = format!("{name}.{key}");
                        let text = text(value).ok_or_else(|| fail(&name))?;
                        pairs.push((name, text));
                    }
                }
                value => pairs.push((name.clone(), text(value).ok_or_else(|| fail(name))?)),
            }
        }
        Ok(pairs)
    }
}

fn text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Bool(yes) => Some(yes.to_string()),
        serde_json::Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}
