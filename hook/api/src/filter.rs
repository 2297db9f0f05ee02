//! Which volumes are meant, in docker's words.

use serde::Deserialize;
use serde::Serialize;

/// Conditions on volumes; all of them must hold, but of several of one kind one is enough, as with docker. Of labels each
/// must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Drivers, of which it has one.
    pub drivers: Vec<String>,
    /// Regular expressions, of which one is found in its name.
    pub names: Vec<String>,
    /// Pods, of which it belongs to one.
    pub pods: Vec<String>,
    /// Labels that it has.
    pub labels: Vec<Label>,
    /// Labels that it does not have.
    pub without_labels: Vec<Label>,
    /// Whether nobody holds it.
    pub dangling: Option<bool>,
}

/// A label, with any value or with this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Its name.
    pub name: String,
    /// Its value; any where there is none.
    pub value: Option<String>,
}

/// A text that is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter {text:?}")]
pub struct FilterError {
    /// The text.
    pub text: String,
}

impl FilterError {
    /// What filters there are.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        "filters: driver=NAME, label=KEY or label=KEY=VALUE, label!=…, dangling=true or dangling=false, name=REGEX, pod=NAME"
    }
}

impl Filter {
    /// Parses `KEY=VALUE` texts.
    ///
    /// # Errors
    /// When a text is no condition. Regular expressions are looked at where they are used.
    pub fn parse(texts: &[String]) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        for text in texts {
            let unknown = || FilterError { text: text.clone() };
            let (key, value) = text.split_once('=').ok_or_else(unknown)?;
            match key {
                "driver" => filter.drivers.push(value.to_owned()),
                "name" => filter.names.push(value.to_owned()),
                "pod" => filter.pods.push(value.to_owned()),
                "label" => filter.labels.push(label(value)),
                "label!" => filter.without_labels.push(label(value)),
                "dangling" => {
                    filter.dangling = Some(match value {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => return Err(unknown()),
                    });
                }
                _ => return Err(unknown()),
            }
        }
        Ok(filter)
    }
}

fn label(text: &str) -> Label {
    match text.split_once('=') {
        Some((name, value)) => Label { name: name.to_owned(), value: Some(value.to_owned()) },
        None => Label { name: text.to_owned(), value: None },
    }
}

#[cfg(test)]
mod tests {
    use super::Filter;

    #[test]
    fn what_is_no_filter_is_named() {
        for text in ["driver", "color=red", "dangling=perhaps"] {
            let error = Filter::parse(&[text.to_owned()]).unwrap_err();
            assert!(error.to_string().contains(text) && error.hint().contains("label=KEY"), "{error}");
        }
    }
}
