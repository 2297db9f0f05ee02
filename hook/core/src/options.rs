//! Checks options and settings against what a plugin says that it understands.

use crate::decision::OptionInfo;
use crate::decision::OptionKind;
use crate::decision::Pairs;
use crate::decision::PluginKind;
use crate::names::shorten;
use crate::size;
use std::fmt;

/// An option that a plugin does not understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {name:?} of {kind} {plugin}{}: {reason}", given, whose.as_ref().map_or(String::new(), |w| format!(" for {w}")))]
pub struct OptionError {
    /// What was given to it.
    pub given: Given,
    /// The plugin's kind.
    pub kind: PluginKind,
    /// The plugin's name.
    pub plugin: String,
    /// For what it was given, such as `volume "x"`.
    pub whose: Option<String>,
    /// The option.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
    /// What the plugin understands, one entry an option.
    pub known: Vec<String>,
}

/// What a plugin can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// By a claim, for a volume.
    Option,
    /// By the operator, or for a policy by a container's annotation.
    Setting,
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Option => "option",
            Self::Setting => "setting",
        })
    }
}

impl OptionError {
    /// The list of what the plugin understands.
    #[must_use]
    pub fn hint(&self) -> String {
        if self.known.is_empty() {
            format!("{} {} has no {}s", self.kind, self.plugin, self.given)
        } else {
            format!("{}s of {} {}: {}", self.given, self.kind, self.plugin, self.known.join(", "))
        }
    }
}

/// Checks `given` for a plugin that describes `known`, its options or its settings.
///
/// # Errors
/// [`OptionError`] for the first that is unknown or has a value of the wrong type.
pub fn check(
    (kind, plugin): (PluginKind, &str),
    what: Given,
    whose: Option<&str>,
    known: &[OptionInfo],
    given: &Pairs,
) -> Result<(), Box<OptionError>> {
    for (name, value) in given {
        let takes = |option: &&OptionInfo| match &option.kind {
            OptionKind::Table => name.split_once('.').is_some_and(|(table, _)| table == option.name),
            _ => option.name == *name,
        };
        let problem = match known.iter().find(takes) {
            None => Some(format!("there is no such {what}")),
            Some(option) => mismatch(&option.kind, value),
        };
        if let Some(reason) = problem {
            return Err(Box::new(OptionError {
                given: what,
                kind,
                plugin: plugin.to_owned(),
                whose: whose.map(str::to_owned),
                name: shorten(name),
                reason,
                known: known.iter().map(describe).collect(),
            }));
        }
    }
    Ok(())
}

/// One option in a few words: `size=SIZE (default 10G)`.
#[must_use]
pub fn describe(option: &OptionInfo) -> String {
    let value = match &option.kind {
        OptionKind::Text => "TEXT".to_owned(),
        OptionKind::Integer => "NUMBER".to_owned(),
        OptionKind::Size => "SIZE".to_owned(),
        OptionKind::Boolean => "true|false".to_owned(),
        OptionKind::Choice(choices) => choices.join("|"),
        OptionKind::Table => return format!("{}.KEY=TEXT", option.name),
    };
    match &option.default {
        Some(default) => format!("{}={value} (default {default})", option.name),
        None => format!("{}={value}", option.name),
    }
}

fn mismatch(kind: &OptionKind, value: &str) -> Option<String> {
    let given = shorten(value);
    match kind {
        OptionKind::Text | OptionKind::Table => None,
        OptionKind::Integer => {
            value.parse::<i64>().is_err().then(|| format!("{given:?} is not a whole number"))
        }
        OptionKind::Size => size::parse(value).err().map(|error| error.to_string()),
        OptionKind::Boolean => {
            (!matches!(value, "true" | "false")).then(|| format!("{given:?} is not true or false"))
        }
        OptionKind::Choice(choices) => (!choices.iter().any(|choice| choice == value))
            .then(|| format!("{given:?} is not one of {}", choices.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Vec<OptionInfo> {
        let option = |name: &str, kind, default: &str| OptionInfo {
            name: name.into(),
            kind,
            default: Some(default.into()),
            about: String::new(),
        };
        vec![
            option("size", OptionKind::Size, "10G"),
            option("fs", OptionKind::Choice(vec!["ext4".into()]), "ext4"),
        ]
    }

    fn message(name: &str, value: &str) -> Option<String> {
        let given = vec![(name.to_owned(), value.to_owned())];
        check((PluginKind::Driver, "block"), Given::Option, Some("volume \"x\""), &block(), &given)
            .err()
            .map(|error| format!("{error}; {}", error.hint()))
    }

    #[test]
    fn messages_name_the_option_and_list_the_others() {
        assert_eq!(message("size", "1G"), None);
        assert_eq!(
            message("sise", "1G").unwrap(),
            "option \"sise\" of driver block for volume \"x\": there is no such option; options of driver block: \
             size=SIZE (default 10G), fs=ext4 (default ext4)"
        );
        assert!(message("size", "big").unwrap().contains("invalid size \"big\""));
        assert!(message("fs", "ntfs").unwrap().contains("\"ntfs\" is not one of ext4"));
    }

    #[test]
    fn a_table_takes_what_has_a_key() {
        let options = [OptionInfo {
            name: "claims".into(),
            kind: OptionKind::Table,
            default: None,
            about: String::new(),
        }];
        let checked = |name: &str| {
            let given = vec![(name.to_owned(), "x".to_owned())];
            check((PluginKind::Policy, "rules"), Given::Setting, None, &options, &given)
                .map_err(|error| error.hint())
        };
        assert_eq!(checked("claims.a"), Ok(()));
        for other in ["claims", "claim.a", "claimsa"] {
            assert_eq!(checked(other), Err("settings of policy rules: claims.KEY=TEXT".to_owned()));
        }
    }

    #[test]
    fn every_kind_has_wrong_values() {
        for (kind, good, bad) in [
            (OptionKind::Integer, "-5", "five"),
            (OptionKind::Boolean, "true", "yes"),
            (OptionKind::Size, "1M", "-1"),
        ] {
            assert!(mismatch(&kind, good).is_none() && mismatch(&kind, bad).is_some());
        }
        assert!(mismatch(&OptionKind::Text, "").is_none());
    }
}
