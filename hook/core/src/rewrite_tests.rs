//! Tests of spec edits: undone edits leave no trace, and nothing that was visible gets hidden.

use super::*;
use crate::claims::Claim;
use crate::decision::Attachment;
use crate::decision::Backing;
use crate::decision::Creation;
use crate::decision::Directory;
use crate::decision::EntryKind;
use crate::decision::MountFlags;
use crate::decision::Sharing;
use crate::grants::Grants;
use crate::lease::LeaseTable;
use crate::names::ContainerId;
use crate::names::Tenant;
use crate::names::is_below_or_at;
use crate::plan::Decided;
use crate::plan::Facts;
use crate::plan::new_volume;
use crate::plan::plan;
use crate::stage::Stage;
use proptest::prelude::*;

const PREFIX: &str = "dev.volhook";

fn ours(source: &str) -> bool {
    source.starts_with("/volumes/")
}

fn claims_on(targets: &[String]) -> Vec<Claim> {
    let annotations = targets
        .iter()
        .enumerate()
        .map(|(i, target)| (format!("{PREFIX}.mount.m{i}"), format!("source=v{i},target={target}")))
        .collect();
    crate::claims::from_annotations(&annotations, PREFIX).unwrap().claims
}

fn decided(claims: Vec<Claim>) -> Vec<Decided> {
    claims
        .into_iter()
        .map(|claim| {
            let id = VolumeId { tenant: Tenant::default(), name: claim.volume.clone() };
            let creation = Creation {
                backing: Backing::Directory(Directory { mode: 0o755, uid: 0, gid: 0 }),
                options: vec![],
                limit: None,
                sharing: None,
                notes: vec![],
            };
            let attachment = Attachment {
                access: Access::ReadWrite,
                sharing: Sharing::Shared,
                flags: MountFlags::default(),
                notes: vec![],
            };
            let volume = new_volume(
                id,
                &claim.labels,
                claim.member.as_ref(),
                "local",
                creation,
                "u".into(),
                jiff::Timestamp::UNIX_EPOCH,
            );
            Decided { claim, volume, new: true, met: None, has_source: false, attachment }
        })
        .collect()
}

fn resolve(paths: impl Iterator<Item = String>) -> BTreeMap<String, Result<Resolved, String>> {
    paths
        .map(|path| {
            let resolved = Resolved { path: path.clone(), kind: Some(EntryKind::Directory), shared: false };
            (path, Ok(resolved))
        })
        .collect()
}

fn hook(path: &str, args: Vec<String>, env: Vec<String>) -> Hook {
    let mut hook = Hook::default();
    hook.set_path(path.into()).set_args(Some(args)).set_env(Some(env)).set_timeout(Some(10));
    hook
}

fn plan_and_apply(spec: &mut Spec, attempt: &str, targets: &[String]) -> Option<Plan> {
    let mounts = spec.mounts().unwrap();
    let resolved = resolve(mounts.iter().map(|m| m.destination.clone()).chain(targets.iter().cloned()));
    let (claims, _) = crate::claims::settle(claims_on(targets), vec![], &mounts, &resolved).ok()?;
    let container = ContainerId::new("c1").unwrap();
    let facts = Facts {
        attempt,
        stage: Stage::Spec,
        container: &container,
        tenant: &Tenant::default(),
        pod: None,
        mounts: &mounts,
        user_namespace: false,
        keeps_all: false,
        folders: None,
        resolved: &resolved,
        table: &LeaseTable::default(),
        stepped_back: &[],
        remarks: &[],
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let plan = plan(&facts, decided(claims)).unwrap();
    crate::check::check(&plan, &BTreeMap::new(), &Grants::default(), &LeaseTable::default()).unwrap();
    let args = vec!["volhook".into(), "hook".into(), "createRuntime".into(), token(attempt)];
    let hook = hook("/usr/bin/volhook", args, vec![]);
    let source = |id: &VolumeId| format!("/volumes/{id}").into();
    apply(spec, &plan, PREFIX, &resolved, &source, &[("createRuntime", hook)]).unwrap();
    Some(plan)
}

/// What a container sees: a mount is hidden by a later one at or above it.
fn visible(mounts: &[SpecMount]) -> Vec<(&str, &str)> {
    let hidden = |i: usize| {
        mounts[i + 1..].iter().any(|later| is_below_or_at(&mounts[i].destination, &later.destination))
    };
    (0..mounts.len())
        .filter(|i| !hidden(*i))
        .map(|i| (mounts[i].destination.as_str(), mounts[i].source.as_str()))
        .collect()
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "etc", "lib"]), 1..4)
        .prop_map(|parts| format!("/{}", parts.join("/")))
}

proptest! {
    #[test]
    fn volumes_are_visible_and_hide_nothing(
        destinations in prop::collection::vec(path(), 0..6),
        targets in prop::collection::btree_set(path(), 1..5),
    ) {
        let mounts: Vec<Value> = destinations
            .iter()
            .enumerate()
            .map(|(i, d)| json!({"destination": d, "type": "bind", "source": format!("/s{i}"), "options": ["rbind", "rw"]}))
            .collect();
        let original = Spec::parse(json!({"mounts": mounts, "x-unknown": {"kept": [1, null]}}).to_string().as_bytes()).unwrap();
        let before = original.mounts().unwrap();
        let targets: Vec<String> = targets.into_iter().collect();
        let mut spec = original.clone();
        let Some(plan) = plan_and_apply(&mut spec, "t1", &targets) else { return Ok(()) };
        let after = spec.mounts().unwrap();
        let seen = visible(&after);
        for mount in &plan.mounts {
            let source = format!("/volumes/{}", mount.volume);
            let there = seen.contains(&(mount.target.as_str(), &*source));
            let covered = before.iter().any(|m| is_below_or_at(mount.target.as_str(), &m.destination));
            prop_assert_eq!(mount.apply, if covered { Apply::Inject } else { Apply::Spec });
            prop_assert_eq!(there, !covered, "{:?} in {:?}", mount, after);
        }
        for was in visible(&before) {
            prop_assert!(seen.contains(&was), "{was:?} is hidden in {after:?}");
        }

        let mut again = spec.clone();
        prop_assert_eq!(strip(&mut again, PREFIX, &ours).unwrap().unwrap().attempt, "t1");
        prop_assert_eq!(&again, &original);
        let second = plan_and_apply(&mut again, "t1", &targets).unwrap();
        prop_assert_eq!(second, plan);
        prop_assert_eq!(again, spec);
    }
}

/// What a newer spec, or another tool, may have anywhere: names that volhook does not know.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[ -~\u{e4}\u{fffd}]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            unknown(inner).prop_map(Value::Object),
        ]
    })
}

fn unknown(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("x-[a-z]{1,3}", value, 0..4).prop_map(|fields| fields.into_iter().collect())
}

fn with(mut object: Value, extra: Map<String, Value>) -> Value {
    object.as_object_mut().unwrap().extend(extra);
    object
}

proptest! {
    #[test]
    fn what_is_unknown_survives(
        at_top in unknown(anything()),
        in_mounts in prop::collection::vec(unknown(anything()), 0..4),
        in_hook in unknown(anything()),
        in_hooks in unknown(anything()),
        in_root in unknown(anything()),
        annotations in prop::collection::btree_map("x-[a-z]{1,3}", "[ -~\u{e4}]{0,8}", 0..3),
        targets in prop::collection::btree_set(path(), 1..4),
    ) {
        let mounts: Vec<Value> = in_mounts
            .into_iter()
            .enumerate()
            .map(|(i, extra)| with(json!({"destination": format!("/m{i}"), "type": "tmpfs"}), extra))
            .collect();
        let other = with(json!({"path": "/other", "args": ["other"]}), in_hook);
        let document = json!({
            "root": with(json!({"path": "rootfs"}), in_root),
            "mounts": mounts,
            "hooks": with(json!({"createRuntime": [other], "poststop": null}), in_hooks),
            "annotations": annotations,
        });
        let document = with(document, at_top);
        let original = Spec::parse(document.to_string().as_bytes()).unwrap();
        prop_assert_eq!(original.document(), &document);

        let targets: Vec<String> = targets.into_iter().collect();
        let mut spec = original.clone();
        let Some(plan) = plan_and_apply(&mut spec, "t1", &targets) else { return Ok(()) };
        let mut left = spec.document().clone();
        let added = |list: &mut Value, is_ours: &dyn Fn(&Value) -> bool| {
            let list = list.as_array_mut().unwrap();
            let all = list.len();
            list.retain(|entry| !is_ours(entry));
            all - list.len()
        };
        let mounted = plan.mounts.iter().filter(|mount| mount.apply == Apply::Spec).count();
        prop_assert_eq!(added(&mut left["mounts"], &|mount| mount["source"].as_str().is_some_and(ours)), mounted);
        prop_assert_eq!(added(&mut left["hooks"]["createRuntime"], &|entry| belongs_to(entry, "t1")), 1);
        left["annotations"].as_object_mut().unwrap().remove(&planned_key(PREFIX));
        prop_assert_eq!(&left, &document, "everything else is as it was");
        let orders = [&left, &document].map(|document| document.as_object().unwrap().keys().cloned().collect::<Vec<_>>());
        prop_assert_eq!(&orders[0], &orders[1]);

        let entry = hook("/usr/bin/volhook", vec!["volhook".into(), "hook".into(), "prestart".into()], vec![]);
        prop_assert!(install_hooks(&mut spec, &[("prestart", entry)]).unwrap());
        spec.document_mut()["hooks"].as_object_mut().unwrap().shift_remove("prestart");
        strip(&mut spec, PREFIX, &ours).unwrap();
        prop_assert_eq!(spec, original);
    }
}

#[test]
fn our_mount_type_is_rewritten_and_an_anonymous_volume_is_covered() {
    let hex = "ab".repeat(32);
    let original = Spec::parse(
        json!({"mounts": [
            {"destination": "/v1", "type": "volhook", "source": "v1"},
            {"destination": "/v1/nested", "type": "bind", "source": "/n"},
            {"destination": "/data", "type": "bind", "source": format!("/x/volumes/{hex}/_data")},
        ], "annotations": {"a": "b"}, "hooks": {"poststop": [{"path": "/x"}]}})
        .to_string()
        .as_bytes(),
    )
    .unwrap();
    let mut spec = original.clone();
    plan_and_apply(&mut spec, "t1", &["/data".into(), "/v1".into()]).unwrap();
    let after: Vec<_> = spec.mounts().unwrap().into_iter().map(|m| (m.destination, m.source)).collect();
    let anonymous = original.mounts().unwrap()[2].source.clone();
    let expected =
        [("/v1", "/volumes/v1"), ("/v1/nested", "/n"), ("/data", &*anonymous), ("/data", "/volumes/v0")];
    assert_eq!(after, expected.map(|(d, s)| (d.to_owned(), s.to_owned())));
    assert_eq!(spec.document()["hooks"]["poststop"], json!([{"path": "/x"}]));
    strip(&mut spec, PREFIX, &ours).unwrap();
    assert_eq!(spec, original);
}

#[test]
fn a_note_that_is_not_ours_is_refused() {
    let text = json!({"annotations": {"dev.volhook.planned": "{}"}}).to_string();
    assert!(strip(&mut Spec::parse(text.as_bytes()).unwrap(), PREFIX, &ours).is_err());
}

#[test]
fn a_forged_note_neither_adds_nor_removes_what_is_not_ours() {
    let forged = |planned: Value| {
        let text = json!({
            "mounts": [{"destination": "/etc/resolv.conf", "type": "bind", "source": "/engine/resolv.conf"}],
            "hooks": {"prestart": [{"path": "/x", "args": ["x", "--attempt=t"]}]},
            "annotations": {"dev.volhook.planned": planned.to_string()},
        });
        let mut spec = Spec::parse(text.to_string().as_bytes()).unwrap();
        let result = strip(&mut spec, PREFIX, &ours);
        (result, spec)
    };
    let mount = json!({"destination": "/h", "type": "bind", "source": "/", "options": ["rbind", "rw"]});
    let (result, _) = forged(json!({"attempt": "t", "added": [], "removed": [[0, mount]], "made": []}));
    assert!(result.is_err());
    let (result, spec) = forged(
        json!({"attempt": "t", "added": ["/etc/resolv.conf"], "removed": [], "made": ["/mounts", "/hooks"]}),
    );
    assert!(result.is_ok());
    assert_eq!(spec.mounts().unwrap().len(), 1);
    assert_eq!(spec.document()["hooks"]["prestart"].as_array().unwrap().len(), 1);
}

#[test]
fn installed_hooks_replace_their_predecessors_and_nothing_else() {
    let entry = |path: &str, stage: &str| {
        hook(path, vec!["volhook".into(), "hook".into(), stage.into()], vec!["PATH=/bin".into()])
    };
    let mut spec = Spec::parse(
        json!({"x": 1, "hooks": {"prestart": [{"path": "/other", "zz": true}], "startContainer": [{"path": "/s"}]}})
            .to_string()
            .as_bytes(),
    )
    .unwrap();
    let old =
        [("prestart", entry("/old/volhook", "prestart")), ("poststop", entry("/old/volhook", "poststop"))];
    assert!(install_hooks(&mut spec, &old).unwrap());
    assert!(!install_hooks(&mut spec, &old).unwrap());
    let new = [
        ("createRuntime", entry("/new/volhook", "createRuntime")),
        ("poststop", entry("/new/volhook", "poststop")),
    ];
    assert!(install_hooks(&mut spec, &new).unwrap());
    assert!(!install_hooks(&mut spec, &new).unwrap());
    assert_eq!(
        *spec.document(),
        json!({"x": 1, "hooks": {
            "prestart": [{"path": "/other", "zz": true}],
            "startContainer": [{"path": "/s"}],
            "createRuntime": [{"path": "/new/volhook", "args": ["volhook", "hook", "createRuntime"], "env": ["PATH=/bin"], "timeout": 10}],
            "poststop": [{"path": "/new/volhook", "args": ["volhook", "hook", "poststop"], "env": ["PATH=/bin"], "timeout": 10}],
        }})
    );
}

/// Others that run just before the container's process are to find the pod's files.
#[test]
fn the_entry_of_the_last_step_comes_first_and_goes_again() {
    let original = Spec::parse(
        json!({"hooks": {"startContainer": [{"path": "/s"}]}, "annotations": {"a": "b"}})
            .to_string()
            .as_bytes(),
    )
    .unwrap();
    let paths = |spec: &Spec| {
        let entries = spec.document()["hooks"]["startContainer"].as_array().unwrap();
        entries.iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let live = hook(
        "/usr/bin/volhook",
        ["volhook", "hook", "prestart", last_step::MARK].map(str::to_owned).into(),
        vec![],
    );
    let mut spec = original.clone();
    assert!(!has_live_entry(&spec) && !last_step::has_entry(&spec));
    let hooks = [("prestart", live.clone()), ("startContainer", last_step::entry(None, 30))];
    assert!(install_hooks(&mut spec, &hooks).unwrap());
    assert!(!install_hooks(&mut spec, &hooks).unwrap());
    assert!(has_live_entry(&spec) && last_step::has_entry(&spec));
    assert_eq!(paths(&spec), [last_step::PROGRAM, "/s"]);
    assert!(install_hooks(&mut spec, &[("prestart", live)]).unwrap());
    assert_eq!(paths(&spec), ["/s"]);

    let attempt = "t1";
    let mut spec = original.clone();
    let mut plan = plan_and_apply(&mut spec, attempt, &["/data".into()]).unwrap();
    for (root, expected) in [
        (None, vec!["/s"]),
        (Some(PodRoot::Folders(last_step::WhyFolders::ReadOnly)), vec!["/s"]),
        (Some(PodRoot::Overlay), vec![last_step::PROGRAM, "/s"]),
    ] {
        plan.root = root;
        let mut spec = original.clone();
        let source = |id: &VolumeId| format!("/volumes/{id}").into();
        let hooks = [("startContainer", last_step::entry(Some(token(attempt)), 30))];
        apply(&mut spec, &plan, PREFIX, &BTreeMap::new(), &source, &hooks).unwrap();
        assert_eq!(paths(&spec), expected);
        // A bundle may have one already.
        let mut installed = original.clone();
        install_hooks(&mut installed, &[("startContainer", last_step::entry(None, 30))]).unwrap();
        apply(&mut installed, &plan, PREFIX, &BTreeMap::new(), &source, &hooks).unwrap();
        assert_eq!(paths(&installed), [last_step::PROGRAM, "/s"]);
        strip(&mut spec, PREFIX, &ours).unwrap();
        assert_eq!(spec, original);
    }
}
