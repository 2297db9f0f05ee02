//! Plugins: which there are, what they say of themselves, and what becomes of installed ones.

use crate::failed::Failed;
use serde::Deserialize;
use serde::Serialize;
use volhook_core::decision::OptionInfo;
use volhook_core::decision::OptionKind;
use volhook_core::question::Decision;

/// A plugin in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// What it is called.
    pub name: String,
    /// `driver` or `policy`.
    pub kind: String,
    /// The version of the interface that it is made for.
    pub api_version: String,
    /// Where it comes from.
    pub source: Source,
    /// SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// Size of its component in bytes.
    pub size: u64,
}

/// Where a plugin comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It is part of the binary.
    Builtin,
    /// Somebody installed it.
    Installed,
}

/// A driver and its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// What it is called.
    pub name: String,
    /// One sentence of its own.
    pub about: String,
    /// Where it comes from.
    pub source: Source,
    /// The version of the interface that it is made for.
    pub api_version: String,
    /// What its volumes can be given.
    pub options: Vec<Given>,
}

/// All that is known of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// What it is called.
    pub name: String,
    /// `driver` or `policy`.
    pub kind: String,
    /// One sentence of its own.
    pub about: String,
    /// The version of the interface that it is made for.
    pub api_version: String,
    /// Where it comes from.
    pub source: Source,
    /// SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// Size of its component in bytes.
    pub size: u64,
    /// Size of its machine code in bytes, of an installed one.
    pub code_size: Option<u64>,
    /// The engine and settings that an installed one was compiled for.
    pub profile: Option<String>,
    /// SHA-256 of the component that it has replaced.
    pub previous: Option<String>,
    /// What a driver's volumes can be given.
    pub options: Vec<Given>,
    /// What the configuration can give it.
    pub settings: Vec<Given>,
    /// What it was asked when it failed last, and what happened.
    pub last_failure: Option<Decision>,
}

/// What a plugin can be given: an option or a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Its key.
    pub name: String,
    /// What values it takes: `text`, `integer`, `size`, `boolean`, `choice` or `table`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The values of a `choice`.
    pub choices: Option<Vec<String>>,
    /// The value where none is given.
    pub default: Option<String>,
    /// One sentence for people.
    pub about: String,
}

impl From<OptionInfo> for Given {
    fn from(info: OptionInfo) -> Self {
        let OptionInfo { name, kind, default, about } = info;
        let (kind, choices) = match kind {
            OptionKind::Text => ("text", None),
            OptionKind::Integer => ("integer", None),
            OptionKind::Size => ("size", None),
            OptionKind::Boolean => ("boolean", None),
            OptionKind::Choice(choices) => ("choice", Some(choices)),
            OptionKind::Table => ("table", None),
        };
        Self { name, kind: kind.to_owned(), choices, default, about }
    }
}

impl From<Given> for OptionInfo {
    fn from(given: Given) -> Self {
        let Given { name, kind, choices, default, about } = given;
        let kind = match (kind.as_str(), choices) {
            (_, Some(choices)) => OptionKind::Choice(choices),
            ("integer", _) => OptionKind::Integer,
            ("size", _) => OptionKind::Size,
            ("boolean", _) => OptionKind::Boolean,
            ("table", _) => OptionKind::Table,
            _ => OptionKind::Text,
        };
        Self { name, kind, default, about }
    }
}

/// Installed plugins that were looked through, or removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Those of which it went well.
    pub plugins: Vec<Named>,
    /// Why it did not of the others.
    pub failed: Vec<Failed>,
}

/// A plugin by its name and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// What it is called.
    pub name: String,
    /// `driver` or `policy`; nothing where that is not known any more.
    pub kind: Option<String>,
    /// SHA-256 of its component; nothing where that is not known any more.
    pub digest: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::Given;
    use volhook_core::decision::OptionInfo;
    use volhook_core::decision::OptionKind;

    #[test]
    fn an_option_is_the_same_as_data() {
        let choices = OptionKind::Choice(vec!["a".to_owned(), "b".to_owned()]);
        let all = [
            OptionKind::Text,
            OptionKind::Integer,
            OptionKind::Size,
            OptionKind::Boolean,
            choices,
            OptionKind::Table,
        ];
        for kind in all {
            let info = OptionInfo { name: "n".to_owned(), kind, default: None, about: "a".to_owned() };
            assert_eq!(OptionInfo::from(Given::from(info.clone())), info);
        }
    }
}
