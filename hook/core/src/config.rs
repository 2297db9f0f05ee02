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
    /// The policies that are asked for containers whose annotations name neither a pod nor a policy.
    pub policies: Vec<PolicyRule>,
    /// The OCI runtime behind `volhook runtime`: a path, or a name to be found in PATH.
    pub runtime: Option<String>,
    /// How much history is kept.
    pub history: History,
    /// How long removed volumes are kept.
    pub trash: Trash,
    /// What of the host may be a volume.
    pub grants: Grants,
    /// What one call of a plugin may use.
    pub limits: Limits,
    /// Whether decisions of plugins are recorded.
    pub record: Record,
    /// Settings of plugins, by plugin name. Values are texts, whole numbers, booleans or tables of these.
    pub plugins: BTreeMap<String, BTreeMap<String, serde_json::Value>>,
}

/// `[[policies]]`: a policy for containers that did not ask for one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRule {
    /// The plugin.
    pub policy: String,
    /// The containers.
    #[serde(rename = "match")]
    pub containers: Containers,
    /// Settings that take the place of those in `[plugins.NAME]`.
    #[serde(default)]
    pub settings: BTreeMap<String, serde_json::Value>,
}

/// Which containers a rule is for: `"all"`, or `{ annotation = …, value = … }`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Containers {
    /// Every one.
    All(All),
    /// Those with an annotation.
    Annotated(Annotated),
}

/// The word `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum All {
    /// It.
    All,
}

/// Containers with an annotation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotated {
    /// Its key.
    pub annotation: String,
    /// Its value; any when there is none.
    pub value: Option<String>,
}

impl PolicyRule {
    /// Whether the rule is for a container with these annotations.
    #[must_use]
    pub fn is_for(&self, annotations: &BTreeMap<String, String>) -> bool {
        match &self.containers {
            Containers::All(All::All) => true,
            Containers::Annotated(Annotated { annotation, value }) => {
                annotations.get(annotation).is_some_and(|has| value.as_ref().is_none_or(|value| value == has))
            }
        }
    }

    /// Its settings as texts.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn settings(&self) -> Result<Pairs, SettingError> {
        flat(&self.policy, &self.settings)
    }
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

/// `[limits]`: what one call of a plugin may use. One that wants more has failed, and what it was asked for is refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Units of computation. A decision takes a few thousand in Rust and C and a few hundred thousand in JavaScript. One in
    /// Python takes twelve million: each byte of initial data costs one, and its interpreter has eleven million of them.
    pub fuel: u64,
    /// Milliseconds of processor time of one call. Built-in plugins are not watched.
    pub time: u64,
    /// Milliseconds of processor time for all calls of one plugin in one process, such as one start: a driver is asked for
    /// each volume of a container.
    pub total_time: u64,
    /// Bytes of memory, as a number or with a unit (`64M`).
    #[serde(deserialize_with = "size")]
    pub memory: u64,
    /// Bytes of an answer, as a number or with a unit (`1M`).
    #[serde(deserialize_with = "size")]
    pub answer: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { fuel: 30_000_000, time: 50, total_time: 500, memory: 64 << 20, answer: 1 << 20 }
    }
}

/// `[record]`: whether what plugins are asked and answer is written down, for `volhook plugin replay`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Record {
    /// Whether it is.
    pub decisions: bool,
    /// The most bytes that are kept, as a number or with a unit (`16M`); the older half goes when there are more.
    #[serde(deserialize_with = "size")]
    pub size: u64,
}

impl Default for Record {
    fn default() -> Self {
        Self { decisions: false, size: 16 << 20 }
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
            policies: Vec::new(),
            runtime: None,
            history: History::default(),
            trash: Trash::default(),
            grants: Grants::default(),
            limits: Limits::default(),
            record: Record::default(),
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
        self.plugins.get(plugin).map_or(Ok(Pairs::new()), |settings| flat(plugin, settings))
    }
}

fn flat(plugin: &str, settings: &BTreeMap<String, serde_json::Value>) -> Result<Pairs, SettingError> {
    let mut pairs = Pairs::new();
    for (name, value) in settings {
        let fail = |setting: &str| SettingError { plugin: plugin.to_owned(), setting: setting.to_owned() };
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

fn text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Bool(yes) => Some(yes.to_string()),
        serde_json::Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn tables_of_settings_become_names_with_a_dot() {
        let config = config(
            "[plugins.rules]\nplain = 5\n[plugins.rules.claims]\nb = \"source=b,target=/b\"\na = \"source=a,target=/a\"\n\
             [plugins.bad.table]\nlist = [1]\n[plugins.worse.table.table]\nx = 1",
        );
        let mut settings = config.settings("rules").unwrap();
        settings.sort();
        let names: Vec<&str> = settings.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["claims.a", "claims.b", "plain"]);
        assert_eq!(config.settings("other").unwrap(), []);
        assert_eq!(config.settings("bad").unwrap_err().setting, "table.list");
        assert_eq!(config.settings("worse").unwrap_err().setting, "table.table");
    }

    #[test]
    fn a_rule_says_whom_it_is_for() {
        let config = config(
            "[[policies]]\npolicy = \"rules\"\nmatch = \"all\"\n\
             [[policies]]\npolicy = \"rules\"\nmatch = { annotation = \"dev\" }\n\
             [[policies]]\npolicy = \"rules\"\nmatch = { annotation = \"dev\", value = \"yes\" }\n",
        );
        let matching = |pairs: &[(&str, &str)]| -> Vec<bool> {
            let annotations = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            config.policies.iter().map(|rule| rule.is_for(&annotations)).collect()
        };
        assert_eq!(matching(&[]), [true, false, false]);
        assert_eq!(matching(&[("dev", "no")]), [true, true, false]);
        assert_eq!(matching(&[("dev", "yes"), ("other", "")]), [true, true, true]);
    }

    #[test]
    fn a_rule_for_nobody_in_particular_is_a_mistake() {
        for text in [
            "[[policies]]\npolicy = \"rules\"",
            "[[policies]]\npolicy = \"rules\"\nmatch = \"some\"",
            "[[policies]]\npolicy = \"rules\"\nmatch = {}",
            "[[policies]]\npolicy = \"rules\"\nmatch = { annotation = \"a\", values = \"x\" }",
            "[[policies]]\nmatch = \"all\"",
        ] {
            assert!(toml::from_str::<Config>(text).is_err(), "{text}");
        }
    }
}
