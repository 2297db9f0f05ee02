//! Tests of the claim grammar and of settling claims.

use super::*;
use crate::decision::PolicyClaim;
use crate::decision::StorageClaim;
use proptest::prelude::*;

fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn one(value: &str) -> Result<Claim, ClaimError> {
    from_annotations(&annotations(&[("dev.volhook.mount.x", value)]), "dev.volhook")
        .map(|mut wishes| wishes.claims.remove(0))
}

#[test]
fn the_whole_grammar() {
    let claim = one("type=volume,source=mydb,target=/data/,volume-driver=block,volume-opt=size=10G,\
                     \"volume-label=team=a,b\",readonly,volume-nocopy,volume-subpath=dir/lazy-lock.json")
    .unwrap();
    assert_eq!(claim.volume.as_str(), "mydb");
    assert_eq!(claim.target.as_str(), "/data");
    assert_eq!(claim.driver.as_deref(), Some("block"));
    assert_eq!(claim.options, [("size".to_owned(), "10G".to_owned())]);
    assert_eq!(claim.labels, [("team".to_owned(), "a,b".to_owned())]);
    assert_eq!((claim.access, claim.no_copy), (Access::ReadOnly, true));
    assert_eq!(claim.subpath.unwrap().as_str(), "dir/lazy-lock.json");
    let short = one("src=v,dst=/a//b/./c,ro=false").unwrap();
    assert_eq!((short.target.as_str(), short.access), ("/a/b/c", Access::ReadWrite));
}

#[test]
fn bad_claims_say_what_is_wrong() {
    for (value, part) in [
        ("source=v,target=/d,colour=red", "unknown field \"colour\""),
        ("source=v,target=d", "must be an absolute path"),
        ("source=v,target=/a/../b", "`..` is not allowed"),
        ("source=v,target=/", "root cannot be a volume"),
        ("source=v,target=/proc", "belong to the kernel"),
        ("source=v,target=/proc/sys/kernel", "belong to the kernel"),
        ("source=v,target=/sys/x", "belong to the kernel"),
        ("source=v,target=/dev/shm", "belong to the kernel"),
        ("source=-v,target=/d", "invalid volume name"),
        ("source=../v,target=/d", "invalid volume name"),
        ("source=,target=/d", "needs a value"),
        ("source=v", "no target"),
        ("target=/d", "no volume"),
        ("type=bind,source=v,target=/d", "is not \"volume\""),
        ("source=v,source=w,target=/d", "stands twice"),
        ("source=v,target=/d,volume-opt=size=1,volume-opt=size=2", "stands twice"),
        ("source=v,target=/d,readonly=maybe", "must be true or false"),
        ("source=v,target=/d,volume-subpath=../x", "`..` is not allowed"),
        ("source=v,target=/d,volume-subpath=/x", "must be relative"),
        ("source=v,,target=/d", "empty field"),
        ("\"source=v,target=/d", "not closed"),
        ("", "empty field"),
        ("source=v,target=/d\u{7}", "control characters"),
    ] {
        let error = one(value).unwrap_err().to_string();
        assert!(error.contains(part), "{value}: {error}");
        assert!(error.contains("dev.volhook.mount.x"), "{error}");
    }
    let long = format!("source={},target=/d", "v".repeat(129));
    assert!(one(&long).is_err());
}

#[test]
fn keys_under_the_prefix_are_ours() {
    for key in [
        "dev.volhook.mounts.x",
        "dev.volhook.mount",
        "dev.volhook.mount.",
        "dev.volhook.",
        "dev.volhook.pods",
    ] {
        let error = from_annotations(&annotations(&[(key, "x")]), "dev.volhook").unwrap_err();
        assert!(matches!(error, ClaimError::UnknownKey { .. }), "{key}");
    }
    for key in ["dev.volhookx.mount.a", "dev.volhook", "org.other.pod"] {
        assert!(from_annotations(&annotations(&[(key, "x")]), "dev.volhook").unwrap().is_empty(), "{key}");
    }
}

#[test]
fn pods_and_policies() {
    let wishes = from_annotations(
        &annotations(&[("dev.volhook.pod", "p1"), ("dev.volhook.policy", "universal,set=eight")]),
        "dev.volhook",
    )
    .unwrap();
    let policy = &wishes.policies[0];
    assert_eq!(policy.plugin.as_deref(), Some("universal"));
    assert_eq!(policy.settings, [("set".to_owned(), "eight".to_owned())]);
    assert_eq!(policy.pod.as_ref().unwrap().as_str(), "p1");
    for bad in ["", "..", "a/b", "-x"] {
        assert!(
            from_annotations(&annotations(&[("dev.volhook.pod", bad)]), "dev.volhook").is_err(),
            "{bad:?}"
        );
    }
    assert!(
        from_annotations(&annotations(&[("dev.volhook.policy", "universal,eight")]), "dev.volhook").is_err()
    );
}

#[test]
fn doubtful_annotations_are_noticed_without_a_configuration() {
    for key in ["dev.volhook.anything", "org.example.mount.data", "x.pod", "x.policy"] {
        assert!(could_be_claims(&annotations(&[(key, "")])), "{key}");
    }
    for key in ["io.kubernetes.pod.name", "org.opencontainers.image.title", "x.mount."] {
        assert!(!could_be_claims(&annotations(&[(key, "")])), "{key}");
    }
}

#[test]
fn tenants_are_required_once_they_are_configured() {
    let named = annotations(&[("io.kubernetes.pod.namespace", "team-a")]);
    assert_eq!(tenant(&named, None).unwrap(), Tenant::default());
    assert_eq!(tenant(&named, Some("io.kubernetes.pod.namespace")).unwrap().as_str(), "team-a");
    assert!(tenant(&annotations(&[]), Some("io.kubernetes.pod.namespace")).is_err());
}

fn spec_mount(kind: &str, source: &str, destination: &str, options: &[&str]) -> SpecMount {
    SpecMount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: options.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn spec_mounts_of_our_type() {
    let mounts = [
        spec_mount("bind", "/h", "/h", &[]),
        spec_mount("volhook", "mydb", "/data", &["driver=block", "size=1G", "ro", "nosuid", "label=a=b"]),
    ];
    let claims = from_spec_mounts(&mounts).unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].options, [("size".to_owned(), "1G".to_owned())]);
    assert_eq!(claims[0].labels, [("a".to_owned(), "b".to_owned())]);
    assert!(claims[0].flags.nosuid && claims[0].access == Access::ReadOnly);
    assert!(from_spec_mounts(&[spec_mount("volhook", "v", "/d", &["frobnicate"])]).is_err());
    assert!(from_spec_mounts(&[spec_mount("volhook", "", "/d", &[])]).is_err());
    let text = r#"{"mounts":[{"type":"volhook","source":"v","destination":"/a/../etc"}]}"#;
    let mounts = crate::spec::Spec::parse(text.as_bytes()).unwrap().mounts().unwrap();
    assert!(from_spec_mounts(&mounts).unwrap_err().to_string().contains("`..` is not allowed"));
}

fn resolved(pairs: &[(&str, &str)]) -> BTreeMap<String, Result<Resolved, String>> {
    pairs
        .iter()
        .map(|(asked, path)| {
            ((*asked).to_owned(), Ok(Resolved { path: (*path).to_owned(), kind: None, shared: false }))
        })
        .collect()
}

fn policy_claim(volume: &str, target: &str) -> Claim {
    let claim = PolicyClaim {
        volume: volume.into(),
        member: "m".into(),
        target: target.into(),
        driver: None,
        options: vec![],
        labels: vec![],
        access: Access::ReadWrite,
        subpath: Some("a/b".into()),
        no_copy: true,
    };
    let grant = PolicyGrant { claims: vec![claim], ..PolicyGrant::default() };
    from_policy("universal", None, grant).unwrap().claims.remove(0)
}

#[test]
fn a_storage_is_a_pod_s_and_its_volumes_are_distinct() {
    let storage = StorageClaim {
        volume: "vol-p-storage".into(),
        driver: None,
        options: vec![],
        labels: vec![],
        population: Population::Overlay,
        renew: false,
    };
    let claim = |volume: &str, member: &str| PolicyClaim {
        volume: volume.into(),
        member: member.into(),
        target: "/etc".into(),
        driver: None,
        options: vec![],
        labels: vec![],
        access: Access::ReadWrite,
        subpath: None,
        no_copy: false,
    };
    let ask = |pod: Option<&Pod>, claims| {
        let grant = PolicyGrant { storage: Some(storage.clone()), claims, notes: vec![] };
        from_policy("universal", pod, grant)
    };
    let pod = Pod::new("p").unwrap();
    let granted = ask(Some(&pod), vec![claim("a", "a"), claim("b", "b")]).unwrap();
    assert_eq!(granted.storage.unwrap().volume.as_str(), "vol-p-storage");
    assert!(granted.claims.iter().all(|claim| claim.storage.as_ref().unwrap().as_str() == "vol-p-storage"));
    assert!(ask(None, vec![]).unwrap_err().to_string().contains("without a pod"));
    for claims in [
        vec![claim("a", "a"), claim("a", "b")],
        vec![claim("a", "a"), claim("b", "a")],
        vec![claim("vol-p-storage", "a")],
    ] {
        assert!(ask(Some(&pod), claims).unwrap_err().to_string().contains("twice"));
    }
}

#[test]
fn who_steps_back_and_who_fails() {
    let hex = "ab".repeat(32);
    let mounts = [
        spec_mount("bind", "/host/etc", "/etc", &[]),
        spec_mount("bind", &format!("/x/volumes/{hex}/_data"), "/var/lib/db", &[]),
    ];
    let nothing = BTreeMap::new();
    let (standing, back) = settle(
        vec![one("src=a,dst=/var/lib/db").unwrap()],
        vec![
            policy_claim("p-etc", "/etc"),
            policy_claim("p-srv", "/srv"),
            policy_claim("p-db", "/var/lib/db"),
        ],
        &mounts,
        &nothing,
    )
    .unwrap();
    assert_eq!(standing.iter().map(|c| c.volume.as_str()).collect::<Vec<_>>(), ["a", "p-srv"]);
    assert_eq!(back.iter().map(|b| b.volume.as_str()).collect::<Vec<_>>(), ["p-etc", "p-db"]);

    let error = settle(vec![one("src=a,dst=/etc").unwrap()], vec![], &mounts, &nothing).unwrap_err();
    assert!(matches!(error, ClaimError::SpecMounts { .. }));
    let same = settle(
        vec![one("src=a,dst=/lib").unwrap(), one("src=b,dst=/usr/lib").unwrap()],
        vec![],
        &mounts,
        &resolved(&[("/lib", "/usr/lib"), ("/usr/lib", "/usr/lib")]),
    );
    assert!(matches!(same, Err(ClaimError::SameTarget { .. })));
}

#[test]
fn a_pods_folder_without_a_place_steps_back() {
    let mut folder = policy_claim("p-home", "/home");
    let places = BTreeMap::from([("/home".to_owned(), Err("\"/home\" leads to nothing".to_owned()))]);
    folder.member = Some(PodMember { pod: Pod::new("p").unwrap(), member: "home".to_owned() });
    let (standing, back) = settle(vec![], vec![folder.clone()], &[], &places).unwrap();
    assert!(standing.is_empty() && back[0].reason.contains("leads to nothing"), "{back:?}");
    // What was asked for by name is refused later.
    folder.member = None;
    assert_eq!(settle(vec![], vec![folder], &[], &places).unwrap().0.len(), 1);
}

proptest! {
    #[test]
    fn csv_reads_back_what_a_writer_quotes(fields in prop::collection::vec("[a-z,\"=]{1,8}", 1..6)) {
        let text = fields
            .iter()
            .map(|field| format!("\"{}\"", field.replace('"', "\"\"")))
            .collect::<Vec<_>>()
            .join(",");
        prop_assert_eq!(split_csv(&text), Ok(fields));
    }

    #[test]
    fn no_annotation_makes_it_panic(value in "\\PC{0,200}") {
        let _ = one(&value);
        let _ = parse_policy(&value);
    }

    #[test]
    fn accepted_targets_are_safe(text in "(/|[a-z]|\\.|\\.\\.|proc|dev|sys){1,8}") {
        if let Ok(target) = Target::new(&text) {
            let parts: Vec<_> = target.as_str().split('/').skip(1).collect();
            prop_assert!(!parts.is_empty());
            prop_assert!(parts.iter().all(|p| !p.is_empty() && *p != "." && *p != ".."));
            prop_assert!(!["proc", "sys", "dev"].contains(&parts[0]));
        }
    }
}

#[test]
fn rules_are_for_containers_that_name_no_policy() {
    let config: Config = toml::from_str(
        "[[policies]]\npolicy = \"rules\"\nmatch = { annotation = \"dev\" }\nsettings = { claims = { a = \"x\" } }\n\
         [[policies]]\npolicy = \"rules\"\nmatch = { annotation = \"bad\" }\nsettings = { list = [1] }\n",
    )
    .unwrap();
    let asked = |pairs: &[(&str, &str)]| {
        let wishes = wishes(&annotations(pairs), &config)?;
        Ok(wishes.policies.into_iter().map(|policy| (policy.plugin, policy.settings)).collect::<Vec<_>>())
    };
    let rule = (Some("rules".to_owned()), vec![("claims.a".to_owned(), "x".to_owned())]);
    assert_eq!(asked(&[]), Ok(vec![]));
    assert_eq!(asked(&[("dev", "")]), Ok(vec![rule.clone()]));
    assert_eq!(asked(&[("dev", ""), ("dev.volhook.mount.x", "source=v,target=/x")]), Ok(vec![rule]));
    assert_eq!(asked(&[("dev", ""), ("dev.volhook.pod", "p1")]), Ok(vec![(None, vec![])]));
    assert!(matches!(asked(&[("bad", "")]), Err(ClaimError::Setting(_))));
}
