//! Tests of the policy: what is kept, under which names, and what becomes of another image.

use super::*;
use proptest::prelude::*;
use volhook_plugin::policy::Access;
use volhook_plugin::policy::EntryKind;
use volhook_plugin::policy::RootEntry;
use volhook_plugin::testing::claims_request;
use volhook_plugin::testing::root_entry;

fn grant(pod: &str, settings: &[(&str, &str)]) -> Result<Grant, Refusal> {
    Universal::claims(claims_request(Some(pod), settings))
}

fn debian() -> Vec<RootEntry> {
    let folders = [
        "boot", "dev", "etc", "home", "lib.old", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys",
        "tmp", "usr", "var",
    ];
    let links = ["bin", "lib", "sbin"];
    let folders = folders.iter().map(|name| root_entry(name, EntryKind::Directory));
    folders.chain(links.iter().map(|name| root_entry(name, EntryKind::Symlink))).collect()
}

fn with_state(state: PodState, settings: &[(&str, &str)]) -> Result<Grant, Refusal> {
    Universal::claims(ClaimsRequest { pod: Some(state), ..claims_request(Some("p"), settings) })
}

fn seen(claims: &[Claim]) -> Vec<(&str, &str, &str)> {
    claims.iter().map(|claim| (&*claim.volume, &*claim.member, &*claim.target)).collect()
}

#[test]
fn the_eight_volumes_of_a_pod() {
    let rootfs = debian();
    let request = ClaimsRequest { rootfs, ..claims_request(Some("abc123"), &[("set", "eight")]) };
    let grant = Universal::claims(request).unwrap();
    assert_eq!(
        seen(&grant.claims),
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
    assert!(grant.claims.iter().all(|claim| claim.driver.is_none() && claim.access == Access::ReadWrite));
    assert_eq!(grant.storage, Some(Storage::new("vol-abc123-storage", Population::Overlay)));
}

#[test]
fn odd_names_are_passed_over() {
    let mut rootfs = debian();
    rootfs.extend(["a\nb", "bell\u{7}", "caf\u{fffd}"].map(|name| root_entry(name, EntryKind::Directory)));
    let request = ClaimsRequest { rootfs, ..claims_request(Some("p"), &[]) };
    let grant = Universal::claims(request).unwrap();
    assert!(grant.claims.iter().all(|claim| claim.target.chars().all(|c| c.is_ascii_graphic())));
    let notes = grant.notes.join("; ");
    assert!(notes.contains(r"/a\nb has no volume of its own") && grant.notes.len() == 3, "{notes}");
}

#[test]
fn all_that_is_neither_virtual_nor_temporary() {
    let grant =
        Universal::claims(ClaimsRequest { rootfs: debian(), ..claims_request(Some("p"), &[]) }).unwrap();
    let mut targets: Vec<&str> = grant.claims.iter().map(|claim| &*claim.target).collect();
    targets.sort_unstable();
    assert_eq!(
        targets,
        [
            "/boot",
            "/etc",
            "/home",
            "/lib.old",
            "/media",
            "/mnt",
            "/opt",
            "/root",
            "/srv",
            "/usr",
            "/usr/local",
            "/var",
            "/workspace"
        ]
    );
}

#[test]
fn folders_with_odd_names_have_volumes_too() {
    let rootfs = [".hidden", "a b", "storage", "é", "etc"];
    let rootfs = rootfs.iter().map(|name| root_entry(name, EntryKind::Directory)).collect();
    let grant = Universal::claims(ClaimsRequest { rootfs, ..claims_request(Some("p"), &[]) }).unwrap();
    let members: Vec<&str> = grant.claims[8..].iter().map(|claim| &*claim.member).collect();
    assert_eq!(members, ["d_2ehidden", "a_20b", "storage-folder", "d_c3_a9"]);
}

#[test]
fn what_should_be_a_folder_and_is_none_is_left_out_and_said() {
    let rootfs = vec![root_entry("etc", EntryKind::File)];
    let grant = Universal::claims(ClaimsRequest { rootfs, ..claims_request(Some("p"), &[]) }).unwrap();
    assert!(grant.claims.iter().all(|claim| claim.target != "/etc"));
    assert_eq!(grant.notes, ["/etc has no volume of its own: it is no directory in the image"]);
}

#[test]
fn names_follow_the_template() {
    let grant = grant("abc", &[("name", "pinacle-vol-{pod}-{name}")]).unwrap();
    assert_eq!(grant.claims[3].volume, "pinacle-vol-abc-etc");
    assert_eq!(grant.storage.unwrap().volume, "pinacle-vol-abc-storage");
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
    for name in
        ["", "vol", "{pod}", "{name}", "-{pod}-{name}", "a/{pod}-{name}", "{pod} {name}", "é{pod}{name}"]
    {
        let refusal = grant("p", &[("name", name)]).unwrap_err();
        assert!(refusal.reason.contains("template"), "{name}");
    }
    for setting in ["set", "population"] {
        assert!(grant("p", &[(setting, "nine")]).unwrap_err().reason.contains("\"nine\""));
    }
}

#[test]
fn the_longest_name_is_a_names_limit() {
    // "vol-" and "-workspace" leave 114 of 128 characters.
    let names = |pod: &str| grant(pod, &[]).map(|grant| grant.claims[0].volume.len());
    assert_eq!(names(&"p".repeat(114)).unwrap(), 128);
    assert!(names(&"p".repeat(115)).unwrap_err().reason.contains("longer than 128"));
}

#[test]
fn the_pod_s_limit_is_its_storage_s() {
    let storage = grant("p", &[("size", "10G")]).unwrap().storage.unwrap();
    assert_eq!(storage.options, [("size".to_owned(), "10G".to_owned())]);
}

#[test]
fn without_an_overlay_the_image_is_copied_or_the_container_refused() {
    let ask = |settings: &[(&str, &str)]| {
        let no_overlay = Some("too many layers".to_owned());
        Universal::claims(ClaimsRequest { no_overlay, ..claims_request(Some("p"), settings) })
    };
    let granted = ask(&[]).unwrap();
    assert_eq!(granted.storage.unwrap().population, Population::Copy);
    assert!(granted.notes[0].contains("too many layers"));
    let refusal = ask(&[("on-no-overlay", "refuse")]).unwrap_err();
    assert!(refusal.reason.contains("too many layers") && refusal.hint.unwrap().contains("population=copy"));
    // Who does not want one is not concerned.
    let granted = ask(&[("population", "empty"), ("on-no-overlay", "refuse")]).unwrap();
    assert_eq!((granted.storage.unwrap().population, granted.notes.len()), (Population::Empty, 0));
}

#[test]
fn a_pod_keeps_its_population() {
    for population in [Population::Copy, Population::Empty, Population::Overlay] {
        let granted = with_state(PodState::new(population), &[("population", "overlay")]).unwrap();
        assert_eq!(granted.storage.unwrap().population, population);
    }
}

#[test]
fn another_image() {
    use Population::Copy;
    use Population::Empty;
    use Population::Overlay;
    let answer = |population, installed, settings: &[(&str, &str)]| {
        let state = PodState { image: ImageState::Changed, installed, ..PodState::new(population) };
        with_state(state, settings).map(|grant| grant.storage.unwrap().renew)
    };
    let eight = ("set", "eight");
    for (population, installed, settings, expected) in [
        (Overlay, false, vec![], Some(false)),
        (Overlay, true, vec![], None),
        (Overlay, true, vec![("on-image-change", "follow")], Some(false)),
        (Overlay, true, vec![("on-image-change", "reset")], Some(true)),
        (Overlay, false, vec![("on-image-change", "refuse")], None),
        (Copy, true, vec![], Some(false)),
        (Copy, false, vec![eight], None),
        (Copy, false, vec![eight, ("on-image-change", "follow")], Some(false)),
        (Empty, true, vec![eight], Some(false)),
    ] {
        match answer(population, installed, &settings) {
            Ok(renew) => assert_eq!(Some(renew), expected, "{population:?} {installed} {settings:?}"),
            Err(refusal) => {
                assert_eq!(None, expected, "{population:?} {installed} {settings:?}");
                let hint = refusal.hint.unwrap();
                assert!(hint.contains("`volhook pod upgrade p`") && hint.contains("`volhook pod reset p`"));
            }
        }
    }
    for image in [ImageState::Same, ImageState::Unknown] {
        let state = PodState { image, installed: true, ..PodState::new(Overlay) };
        assert!(!with_state(state, &[("on-image-change", "reset")]).unwrap().storage.unwrap().renew);
    }
}

proptest! {
    #[test]
    fn volumes_of_any_pod_are_distinct_and_named_by_the_grammar(
        pod in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}",
        prefix in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,40}",
        folders in prop::collection::vec("[^/\\x00]{1,12}", 0..12),
    ) {
        let template = format!("{prefix}-{{pod}}-{{name}}");
        let rootfs = folders.iter().map(|name| root_entry(name, EntryKind::Directory)).collect();
        let request = ClaimsRequest { rootfs, ..claims_request(Some(&pod), &[("name", &template)]) };
        match Universal::claims(request) {
            Ok(grant) => {
                let mut names: Vec<_> = grant.claims.iter().map(|claim| claim.volume.clone()).collect();
                names.extend(grant.storage.map(|storage| storage.volume));
                let all = names.len();
                for name in &names {
                    prop_assert!(name.len() <= MAX_NAME && name.bytes().all(places::is_name_byte));
                }
                names.sort();
                names.dedup();
                prop_assert_eq!(names.len(), all);
            }
            Err(refusal) => {
                prop_assert!(refusal.reason.contains("longer than 128"), "{}", refusal.reason);
            }
        }
    }
}
