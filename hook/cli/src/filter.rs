//! `--filter KEY=VALUE` of the volume commands, in docker's words.

use volhook_core::volume::Volume;
use volhook_engine::Failure;

const KEYS: &str =
    "driver=NAME, label=KEY or label=KEY=VALUE, dangling=true or dangling=false, name=PART, pod=NAME";

/// Conditions on volumes; all of them must hold, but of several of one kind one is enough, as with docker.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    drivers: Vec<String>,
    names: Vec<String>,
    pods: Vec<String>,
    /// Each label must be there.
    labels: Vec<(String, Option<String>)>,
    dangling: Option<bool>,
}

impl Filter {
    pub(crate) fn parse(texts: &[String]) -> Result<Self, Failure> {
        let mut filter = Self::default();
        for text in texts {
            let unknown =
                || Failure::usage(format!("invalid filter {text:?}")).hint(format!("filters: {KEYS}"));
            let (key, value) = text.split_once('=').ok_or_else(unknown)?;
            match key {
                "driver" => filter.drivers.push(value.to_owned()),
                "name" => filter.names.push(value.to_owned()),
                "pod" => filter.pods.push(value.to_owned()),
                "label" => filter.labels.push(match value.split_once('=') {
                    Some((label, value)) => (label.to_owned(), Some(value.to_owned())),
                    None => (value.to_owned(), None),
                }),
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

    /// Whether `volume` is meant; `held` says that a container holds it.
    pub(crate) fn matches(&self, volume: &Volume, held: bool) -> bool {
        let one_of =
            |wanted: &[String], is: &dyn Fn(&str) -> bool| wanted.is_empty() || wanted.iter().any(|w| is(w));
        let pod = volume.pod.as_ref().map(|member| member.pod.as_str());
        let has_label = |(label, value): &(String, Option<String>)| {
            let same =
                |(name, has): &(String, String)| name == label && value.as_ref().is_none_or(|v| v == has);
            volume.labels.iter().any(same)
        };
        one_of(&self.drivers, &|driver| driver == volume.driver)
            && one_of(&self.names, &|part| volume.id.name.as_str().contains(part))
            && one_of(&self.pods, &|name| pod == Some(name))
            && self.labels.iter().all(has_label)
            && self.dangling.is_none_or(|dangling| dangling != held)
    }
}

#[cfg(test)]
mod tests {
    use super::Filter;
    use volhook_core::volume::Volume;

    fn volume() -> Volume {
        serde_json::from_value(serde_json::json!({
            "format": 1, "uuid": "u", "id": {"tenant": "default", "name": "mydb"}, "driver": "block",
            "backing": {"directory": {"mode": 493, "uid": 0, "gid": 0}}, "options": [],
            "labels": [["team", "a"], ["env", "prod"]], "limit": null, "pod": null,
            "created": "2026-01-01T00:00:00Z",
        }))
        .unwrap()
    }

    fn matches(filters: &[&str], held: bool) -> bool {
        let texts: Vec<String> = filters.iter().map(ToString::to_string).collect();
        Filter::parse(&texts).unwrap().matches(&volume(), held)
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
    fn what_is_no_filter_is_named() {
        for text in ["driver", "color=red", "dangling=perhaps"] {
            let failure = Filter::parse(&[text.to_owned()]).unwrap_err();
            assert!(
                failure.cause_line().contains(text) && failure.hints[0].contains("label=KEY"),
                "{failure:?}"
            );
        }
    }
}
