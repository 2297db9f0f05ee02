//! The built-in policy `universal`: a pod keeps its system folders, as a personal machine would.

use volhook_plugin::Policy;
use volhook_plugin::policy::Claim;
use volhook_plugin::policy::ClaimsRequest;
use volhook_plugin::policy::Info;
use volhook_plugin::policy::OptionInfo;
use volhook_plugin::policy::OptionKind;
use volhook_plugin::policy::Refusal;
use volhook_plugin::value;

/// The policy.
#[derive(Debug)]
pub struct Universal;

/// The setting that the names of all volumes begin with.
const PREFIX: &str = "prefix";
/// The setting that says which folders are kept.
const SET: &str = "set";

const DEFAULT_PREFIX: &str = "vol";

/// The set `eight`: names and targets. What is temporary (`/tmp`, `/run`) or the kernel's is not kept.
const EIGHT: [(&str, &str); 8] = [
    ("workspace", "/workspace"),
    ("home", "/home"),
    ("root", "/root"),
    ("etc", "/etc"),
    ("usr-local", "/usr/local"),
    ("opt", "/opt"),
    ("var", "/var"),
    ("srv", "/srv"),
];
const EIGHT_NAME: &str = "eight";

/// The most bytes of a volume's name.
const MAX_NAME: usize = 128;

impl Policy for Universal {
    fn describe() -> Info {
        Info {
            name: "universal".to_owned(),
            about: "Keeps a pod's system folders, each in a volume of its own".to_owned(),
            options: vec![
                OptionInfo::new(PREFIX, OptionKind::Text, "What the names of the volumes begin with")
                    .with_default(DEFAULT_PREFIX),
                OptionInfo::new(
                    SET,
                    OptionKind::Choice(vec![EIGHT_NAME.to_owned()]),
                    "Which folders are kept",
                )
                .with_default(EIGHT_NAME),
            ],
            ..Info::default()
        }
    }

    fn claims(request: ClaimsRequest) -> Result<Vec<Claim>, Refusal> {
        let pod = request.container.pod.as_deref().filter(|pod| !pod.is_empty()).ok_or_else(|| {
            Refusal::new("the container belongs to no pod, so its volumes would have no name")
                .with_hint("name its pod in the annotation dev.volhook.pod")
        })?;
        let set = value(&request.settings, SET).unwrap_or(EIGHT_NAME);
        if set != EIGHT_NAME {
            return Err(Refusal::new(format!("unknown set {set:?}")).with_hint("give set=eight"));
        }
        let prefix = value(&request.settings, PREFIX).unwrap_or(DEFAULT_PREFIX);
        if !prefix.starts_with(|c: char| c.is_ascii_alphanumeric()) || !prefix.bytes().all(is_name_byte) {
            return Err(Refusal::new(format!("no volume name can begin with the prefix {prefix:?}"))
                .with_hint("give a prefix of letters, digits, _ . and -, beginning with a letter or digit"));
        }
        EIGHT.iter().map(|(member, target)| claim(prefix, pod, member, target)).collect()
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

fn claim(prefix: &str, pod: &str, member: &str, target: &str) -> Result<Claim, Refusal> {
    let volume = format!("{prefix}-{pod}-{member}");
    if volume.len() > MAX_NAME {
        return Err(Refusal::new(format!("the volume name {volume:?} is longer than {MAX_NAME} characters"))
            .with_hint("shorten the pod's name or the policy's prefix"));
    }
    Ok(Claim::new(volume, member, target))
}

volhook_plugin::export_policy!(Universal);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use volhook_plugin::policy::Access;
    use volhook_plugin::testing::claims_request;

    fn claims(pod: &str, settings: &[(&str, &str)]) -> Result<Vec<Claim>, Refusal> {
        Universal::claims(claims_request(Some(pod), settings))
    }

    #[test]
    fn the_eight_volumes_of_a_pod() {
        let claims = claims("abc123", &[]).unwrap();
        let seen: Vec<(&str, &str, &str)> = claims
            .iter()
            .map(|claim| (claim.volume.as_str(), claim.member.as_str(), claim.target.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("vol-abc123-workspace", "workspace", "/workspace"),
                ("vol-abc123-home", "home", "/home"),
                ("vol-abc123-root", "root", "/root"),
                ("vol-abc123-etc", "etc", "/etc"),
                ("vol-abc123-usr-local", "usr-local", "/usr/local"),
                ("vol-abc123-opt", "opt", "/opt"),
                ("vol-abc123-var", "var", "/var"),
                ("vol-abc123-srv", "srv", "/srv"),
            ]
        );
        assert!(claims.iter().all(|claim| claim.driver.is_none() && claim.access == Access::ReadWrite));
    }

    #[test]
    fn the_prefix_is_a_setting() {
        let claims = claims("p", &[("prefix", "pinned"), ("set", "eight")]).unwrap();
        assert_eq!(claims[0].volume, "pinned-p-workspace");
        assert!(claims.iter().all(|claim| claim.volume.starts_with("pinned-p-")));
    }

    #[test]
    fn a_container_without_a_pod_is_refused_with_a_hint() {
        for pod in [None, Some("")] {
            let refusal = Universal::claims(claims_request(pod, &[])).unwrap_err();
            assert!(refusal.reason.contains("no pod"));
            assert!(refusal.hint.unwrap().contains("dev.volhook.pod"));
        }
    }

    #[test]
    fn unusable_settings_are_refused() {
        for prefix in ["", "-a", ".", "a/b", "a b", "é"] {
            let refusal = claims("p", &[("prefix", prefix)]).unwrap_err();
            assert!(refusal.reason.contains("prefix"), "{prefix}");
        }
        assert!(claims("p", &[("set", "nine")]).unwrap_err().reason.contains("\"nine\""));
    }

    #[test]
    fn the_longest_name_is_a_names_limit() {
        // "vol-" and "-workspace" leave 114 of 128 characters.
        assert_eq!(claims(&"p".repeat(114), &[]).unwrap()[0].volume.len(), 128);
        let refusal = claims(&"p".repeat(115), &[]).unwrap_err();
        assert!(refusal.reason.contains("longer than 128"));
        assert!(refusal.hint.is_some());
    }

    proptest! {
        #[test]
        fn volumes_of_any_pod_are_distinct_and_named_by_the_grammar(
            pod in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}",
            prefix in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,40}",
        ) {
            match claims(&pod, &[("prefix", &prefix)]) {
                Ok(claims) => {
                    let mut names: Vec<_> = claims.iter().map(|claim| claim.volume.clone()).collect();
                    for name in &names {
                        prop_assert!(name.len() <= MAX_NAME && name.bytes().all(is_name_byte));
                    }
                    names.sort();
                    names.dedup();
                    prop_assert_eq!(names.len(), 8);
                }
                Err(refusal) => {
                    prop_assert!(prefix.len() + pod.len() + "--workspace".len() > MAX_NAME, "{}", refusal.reason);
                }
            }
        }
    }
}
