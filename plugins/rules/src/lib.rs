//! The built-in policy `rules`: containers get the volumes that the configuration lists.
//!
//! Which containers it is asked for is the host's to say (`[[policies]]`).

mod mount;

use volhook_plugin::Policy;
use volhook_plugin::policy::Claim;
use volhook_plugin::policy::ClaimsRequest;
use volhook_plugin::policy::Grant;
use volhook_plugin::policy::Info;
use volhook_plugin::policy::OptionInfo;
use volhook_plugin::policy::OptionKind;
use volhook_plugin::policy::Refusal;

/// The policy.
#[derive(Debug)]
pub struct Rules;

/// The table of claims.
const CLAIMS: &str = "claims";

impl Policy for Rules {
    fn describe() -> Info {
        Info {
            name: "rules".to_owned(),
            about: "Gives containers the volumes that the configuration lists".to_owned(),
            settings: vec![OptionInfo::new(
                CLAIMS,
                OptionKind::Table,
                "A claim for each name, written as docker's --mount: source=data,target=/data,volume-label=team=a",
            )],
            ..Info::default()
        }
    }

    fn claims(request: ClaimsRequest) -> Result<Grant, Refusal> {
        let claims: Vec<Claim> = request
            .settings
            .iter()
            .filter_map(|(name, text)| Some((name.strip_prefix(CLAIMS)?.strip_prefix('.')?, text)))
            .map(|(member, text)| {
                mount::parse(member, text)
                    .map_err(|reason| Refusal::new(format!("rule {member:?} is not a valid claim: {reason}")))
            })
            .collect::<Result<_, _>>()?;
        if claims.is_empty() {
            return Err(Refusal::new("no rule says which volumes a container gets")
                .with_hint("list claims under [plugins.rules.claims] in the configuration"));
        }
        Ok(Grant::of(claims))
    }
}

volhook_plugin::export_policy!(Rules);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use volhook_plugin::testing::claims_request;

    #[test]
    fn one_claim_for_each_rule() {
        let settings = [
            ("claims.cache", "source=dev-cache,target=/home/u/.cache,volume-label=dev=true"),
            ("claims.lock", "source=dev-lock,target=/home/u/.config/lock.json,volume-subpath=lock.json"),
        ];
        let claims = Rules::claims(claims_request(None, &settings)).unwrap().claims;
        let seen: Vec<(&str, &str, &str)> = claims
            .iter()
            .map(|claim| (claim.member.as_str(), claim.volume.as_str(), claim.target.as_str()))
            .collect();
        assert_eq!(
            seen,
            [("cache", "dev-cache", "/home/u/.cache"), ("lock", "dev-lock", "/home/u/.config/lock.json")]
        );
        assert_eq!(claims[0].labels, [("dev".to_owned(), "true".to_owned())]);
        assert_eq!(claims[1].subpath.as_deref(), Some("lock.json"));
    }

    #[test]
    fn a_rule_that_is_none_is_named() {
        let refusal = Rules::claims(claims_request(None, &[("claims.cache", "source=a")])).unwrap_err();
        assert_eq!(refusal.reason, "rule \"cache\" is not a valid claim: it names no target");
    }

    #[test]
    fn without_rules_nothing_is_guessed() {
        let refusal = Rules::claims(claims_request(Some("p1"), &[])).unwrap_err();
        assert!(refusal.hint.is_some_and(|hint| hint.contains("[plugins.rules.claims]")));
    }

    proptest! {
        #[test]
        fn any_settings_get_an_answer(name in "claims\\.[a-z.]{0,9}|\\PC{0,20}", text in "\\PC{0,80}") {
            let _ = Rules::claims(claims_request(None, &[(&name, &text)]));
        }
    }
}
