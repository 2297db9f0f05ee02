//! Whether a volume is meant by a filter.

use crate::failure::Failure;
use regex_lite::Regex;
use volhook_api::filter::Filter;
use volhook_api::filter::Label;
use volhook_core::volume::Volume;

/// A filter that can be asked.
pub(crate) struct Matcher<'a> {
    filter: &'a Filter,
    names: Vec<Regex>,
}

impl<'a> Matcher<'a> {
    /// Fails if an expression for names is none.
    pub(crate) fn new(filter: &'a Filter) -> Result<Self, Failure> {
        let compile = |text: &String| {
            Regex::new(text).map_err(|error| {
                Failure::usage(error)
                    .during(format!("invalid filter \"name={text}\""))
                    .hint("name= takes a regular expression, such as name=^db- or name=cache")
            })
        };
        Ok(Self { filter, names: filter.names.iter().map(compile).collect::<Result<_, _>>()? })
    }

    /// Whether `volume` is meant; `held` says that somebody holds it.
    pub(crate) fn matches(&self, volume: &Volume, held: bool) -> bool {
        let one_of = |wanted: &[String], is: Option<&str>| {
            wanted.is_empty() || wanted.iter().any(|wanted| Some(wanted.as_str()) == is)
        };
        let pod = volume.pod.as_ref().map(|member| member.pod.as_str());
        let name = volume.id.name.as_str();
        one_of(&self.filter.drivers, Some(&volume.driver))
            && one_of(&self.filter.pods, pod)
            && (self.names.is_empty() || self.names.iter().any(|names| names.is_match(name)))
            && self.filter.labels.iter().all(|label| has(volume, label))
            && !self.filter.without_labels.iter().any(|label| has(volume, label))
            && self.filter.dangling.is_none_or(|dangling| dangling != held)
    }
}

fn has(volume: &Volume, label: &Label) -> bool {
    let same = |(name, value): &(String, String)| {
        *name == label.name && label.value.as_ref().is_none_or(|wanted| wanted == value)
    };
    volume.labels.iter().any(same)
}

#[cfg(test)]
mod tests {
    use super::Matcher;
    use volhook_api::filter::Filter;
    use volhook_core::volume::Volume;

    fn volume() -> Volume {
        serde_json::from_value(serde_json::json!({
            "format": 1, "uuid": "u", "id": {"tenant": "default", "name": "mydb"}, "driver": "block",
            "backing": {"directory": {"mode": 493, "uid": 0, "gid": 0}}, "options": [],
            "labels": [["team", "a"], ["env", "prod"], ["only", ""]], "limit": null, "pod": null,
            "created": "2026-01-01T00:00:00Z",
        }))
        .unwrap()
    }

    fn matches(filters: &[&str], held: bool) -> bool {
        let texts: Vec<String> = filters.iter().map(ToString::to_string).collect();
        Matcher::new(&Filter::parse(&texts).unwrap()).unwrap().matches(&volume(), held)
    }

    #[test]
    fn kinds_are_joined_by_and_and_values_by_or() {
        assert!(matches(&[], true));
        assert!(matches(&["driver=local", "driver=block"], true));
        assert!(!matches(&["driver=local", "name=my"], true));
        assert!(matches(&["label=team", "label=env=prod"], true));
        assert!(!matches(&["label=team", "label=env=test"], true));
        assert!(matches(&["dangling=true"], false) && !matches(&["dangling=true"], true));
        assert!(matches(&["dangling=false"], true) && !matches(&["dangling=false"], false));
        assert!(!matches(&["pod=p1"], true));
    }

    #[test]
    fn names_are_regular_expressions() {
        assert!(
            matches(&["name=db"], false) && matches(&["name=^my"], false) && matches(&["name=^mydb$"], false)
        );
        assert!(!matches(&["name=^db"], false) && !matches(&["name=MYDB"], false));
        assert!(matches(&["name=^x", "name=b$"], false), "one of several is enough");
        let filter = Filter::parse(&["name=(".to_owned()]).unwrap();
        let failure = Matcher::new(&filter).err().unwrap();
        assert!(failure.cause_line().starts_with("invalid filter \"name=(\""), "{}", failure.cause_line());
    }

    #[test]
    fn labels_can_be_asked_not_to_be_there() {
        assert!(matches(&["label!=nope"], false) && matches(&["label!=team=b"], false));
        assert!(!matches(&["label!=team"], false) && !matches(&["label!=team=a"], false));
        assert!(!matches(&["label!=nope", "label!=env"], false), "none of them may be there");
        assert!(matches(&["label=only"], false) && matches(&["label=only="], false));
    }
}
