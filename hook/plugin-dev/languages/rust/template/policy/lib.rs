//! The policy `{{name}}`: decides which volumes a container gets without asking for them.
//!
//! A plugin is a pure function. It sees what it is asked and nothing else: no files, no network, no clock. It does
//! nothing but answer; volhook makes the volumes and mounts them. `kit/wit/` documents every field of questions and
//! answers, and `fixtures/` has questions with the answers that are right.

use volhook_plugin::Policy;
use volhook_plugin::policy::*;
use volhook_plugin::value;

struct {{type}};

const TARGET: &str = "/cache";

impl Policy for {{type}} {
    /// What the policy is, and the settings that an operator or a container's annotation may give. volhook refuses
    /// unknown ones itself. A default is for people to read: filling it in is up to `claims`.
    fn describe() -> Info {
        Info {
            name: "{{name}}".to_owned(),
            about: "A cache for each pod, which outlives its containers".to_owned(),
            settings: vec![
                OptionInfo::new("target", OptionKind::Text, "Where the cache appears in the container")
                    .with_default(TARGET),
            ],
            ..Info::default()
        }
    }

    /// Which volumes a container gets.
    fn claims(request: ClaimsRequest) -> Result<Grant, Refusal> {
        let Some(pod) = &request.container.pod else {
            // Notes are for the operator: `volhook explain` shows them.
            let notes = vec!["no pod, nothing to give".to_owned()];
            return Ok(Grant { notes, ..Grant::default() });
        };
        let target = value(&request.settings, "target").unwrap_or(TARGET);
        // A refusal keeps the container from its start, with words for whoever started it.
        if !target.starts_with('/') {
            return Err(Refusal::new(format!("target {target:?} is not absolute"))
                .with_hint(format!("such as {TARGET}")));
        }
        Ok(Grant::of(vec![Claim {
            driver: Some("local".to_owned()),
            ..Claim::new(format!("cache-{pod}"), "cache", target)
        }]))
    }
}

volhook_plugin::export_policy!({{type}});

/// A decision is an ordinary function call: unit tests need no WebAssembly and no volhook.
#[cfg(test)]
mod tests {
    use super::*;
    use volhook_plugin::testing;

    #[test]
    fn containers_of_one_pod_share_a_cache() {
        let volume = |pod| {
            let grant = {{type}}::claims(testing::claims_request(Some(pod), &[])).unwrap();
            grant.claims[0].volume.clone()
        };
        assert_eq!(volume("p1"), volume("p1"));
        assert_ne!(volume("p1"), volume("p2"));
    }
}
