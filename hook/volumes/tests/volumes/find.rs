//! Finding and listing, with foreign, damaged and hostile things in the way.

use crate::fixture::UUID;
use crate::fixture::directory;
use crate::fixture::id;
use crate::fixture::image;
use crate::fixture::root;
use crate::fixture::soon;
use crate::fixture::store;
use std::os::unix::fs::symlink;
use std::process::Command;
use volhook_core::decision::LabelUsage;
use volhook_core::decision::Usage;
use volhook_core::names::Tenant;
use volhook_core::volume::Volume;
use volhook_volumes::Created;
use volhook_volumes::OtherKind;
use volhook_volumes::StoreError;

fn uuid(number: u32) -> String {
    format!("{}{number:04}", &UUID[..32])
}

#[test]
fn a_sidecar_of_format_1_is_read_as_it_was() {
    let volume: Volume = serde_json::from_str(include_str!("volume-1.json")).unwrap();
    assert_eq!(volume, directory("v1"));
}

#[test]
fn privileged_lists_are_sorted_by_tenant_and_usage_is_a_tenants_own() {
    let (_folder, store) = store();
    assert!(store.list().unwrap().volumes.is_empty());
    assert_eq!(store.usage(&Tenant::default(), &vec![]).unwrap(), Usage::default());
    let named = |tenant: &str, volume: Volume, number| {
        let mut volume = Volume { uuid: uuid(number), ..volume };
        volume.id.tenant = Tenant::new(tenant).unwrap();
        volume
    };
    let of_team_red =
        |volume: Volume| Volume { labels: vec![("team".to_owned(), "red".to_owned())], ..volume };
    let volumes = [
        named("default", of_team_red(directory("a")), 1),
        named("default", image("b", 8 << 20), 2),
        named("default", of_team_red(image("c.1", 9 << 20)), 3),
        named("red", directory("a"), 4),
    ];
    for volume in volumes.iter().rev() {
        assert!(matches!(store.create(volume, soon()).unwrap(), Created::New(_)));
    }
    let listing = store.list().unwrap();
    assert_eq!(listing.volumes, volumes);
    assert_eq!(listing.others, []);
    let asked = vec![("team".to_owned(), "red".to_owned()), ("team".to_owned(), "none".to_owned())];
    let [of_red, of_none] = [(2, 9 << 20), (0, 0)];
    let labels = asked.iter().cloned().zip([of_red, of_none]);
    let labels =
        labels.map(|(label, (volumes, bytes))| LabelUsage { label, volumes, bytes }).collect::<Vec<_>>();
    let usage = store.usage(&Tenant::default(), &asked).unwrap();
    assert_eq!(usage, Usage { volumes: 3, bytes: 17 << 20, labels });
    let usage = store.usage(&Tenant::new("red").unwrap(), &vec![]).unwrap();
    assert_eq!(usage, Usage { volumes: 1, bytes: 0, labels: vec![] });
    assert_eq!(store.usage(&Tenant::new("blue").unwrap(), &vec![]).unwrap(), Usage::default());
}

#[test]
fn what_is_no_volume_is_told_and_never_used() {
    let (folder, store) = store();
    store.create(&directory("good"), soon()).unwrap();
    let tenant = root(&folder).join("volumes/default");
    let sidecar = std::fs::read_to_string(tenant.join("good/volume.json")).unwrap();

    // A copy elsewhere, to which the symlinks below point.
    let away = folder.path().join("away");
    std::fs::create_dir_all(away.join("data")).unwrap();
    std::fs::write(away.join("volume.json"), sidecar.replace("\"good\"", "\"linked\"")).unwrap();
    symlink(&away, tenant.join("linked")).unwrap();
    std::fs::create_dir(tenant.join("inner")).unwrap();
    symlink(away.join("volume.json"), tenant.join("inner/volume.json")).unwrap();
    std::fs::create_dir(tenant.join("empty")).unwrap();
    std::fs::write(tenant.join("file"), "").unwrap();
    std::fs::create_dir_all(tenant.join("folder/volume.json")).unwrap();
    let fifo = tenant.join("fifo");
    std::fs::create_dir(&fifo).unwrap();
    assert!(Command::new("mkfifo").arg(fifo.join("volume.json")).status().unwrap().success());
    let put = |name: &str, text: &str| {
        std::fs::create_dir(tenant.join(name)).unwrap();
        std::fs::write(tenant.join(name).join("volume.json"), text).unwrap();
    };
    put("copied", &sidecar);
    put("garbage", "\u{0}\u{1}{");
    put("half", &sidecar[..sidecar.len() / 2]);
    put("newer", r#"{"format": 2, "something": "else"}"#);
    put("huge", &"x".repeat(2 << 20));

    let kind = |error: &StoreError| match error {
        StoreError::Foreign { .. } => OtherKind::Foreign,
        StoreError::NewerSidecar { format: 2, newest: 1, .. } => OtherKind::Newer,
        StoreError::DamagedSidecar { .. } | StoreError::OtherVolume { .. } | StoreError::Find { .. } => {
            OtherKind::Damaged
        }
        other => panic!("{other:?}"),
    };
    let expected = [
        ("copied", OtherKind::Damaged),
        ("empty", OtherKind::Foreign),
        ("fifo", OtherKind::Foreign),
        ("file", OtherKind::Foreign),
        ("folder", OtherKind::Foreign),
        ("garbage", OtherKind::Damaged),
        ("half", OtherKind::Damaged),
        ("huge", OtherKind::Damaged),
        ("inner", OtherKind::Foreign),
        ("linked", OtherKind::Foreign),
        ("newer", OtherKind::Newer),
    ];
    for (name, expected) in expected {
        let error = store.find(&id(name)).unwrap_err();
        assert_eq!(kind(&error), expected, "{name}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(&tenant.join(name).display().to_string()), "{text}");
        // Nor is anything made in its place, or through it.
        assert!(store.create(&directory(name), soon()).is_err(), "{name}");
    }
    std::fs::create_dir(tenant.join("-bad name")).unwrap();
    std::fs::create_dir(root(&folder).join("volumes/.hidden")).unwrap();
    symlink(&tenant, root(&folder).join("volumes/other")).unwrap();

    let listing = store.list().unwrap();
    assert_eq!(listing.volumes, [directory("good")]);
    let others: Vec<_> = listing
        .others
        .iter()
        .map(|other| {
            (other.path.strip_prefix(root(&folder).join("volumes")).unwrap().to_str().unwrap(), other.kind)
        })
        .collect();
    let mut all = vec![(".hidden".to_owned(), OtherKind::Foreign)];
    all.push(("default/-bad name".to_owned(), OtherKind::Foreign));
    all.extend(expected.iter().map(|(name, kind)| (format!("default/{name}"), *kind)));
    all.push(("other".to_owned(), OtherKind::Foreign));
    let all: Vec<_> = all.iter().map(|(path, kind)| (path.as_str(), *kind)).collect();
    assert_eq!(others, all);
    // Five volumes cannot be read but take their places: copied, garbage, half, huge, newer; and `good`.
    assert_eq!(store.usage(&Tenant::default(), &vec![]).unwrap().volumes, 6);
}

#[test]
fn a_symlinked_tenant_or_data_directory_is_not_followed() {
    let (folder, store) = store();
    let volume = directory("v1");
    store.create(&volume, soon()).unwrap();
    let data = root(&folder).join("volumes/default/v1/data");
    std::fs::remove_dir(&data).unwrap();
    assert!(matches!(store.open_directory(&volume), Err(StoreError::DirectoryMissing { .. })));
    symlink("/etc", &data).unwrap();
    assert!(matches!(store.open_directory(&volume), Err(StoreError::Foreign { .. })));
    let tenant = root(&folder).join("volumes/default");
    std::fs::rename(&tenant, folder.path().join("moved")).unwrap();
    symlink(folder.path().join("moved"), &tenant).unwrap();
    assert!(matches!(store.find(&volume.id), Err(StoreError::Foreign { .. })));
    assert!(store.create(&directory("v2"), soon()).is_err());
}

#[test]
fn the_size_of_a_directory_is_what_it_takes_on_the_disk() {
    let (folder, store) = store();
    let volume = directory("v1");
    store.create(&volume, soon()).unwrap();
    let data = root(&folder).join("volumes/default/v1/data");
    std::fs::write(data.join("a"), vec![1; 100_000]).unwrap();
    std::fs::hard_link(data.join("a"), data.join("b")).unwrap();
    std::fs::create_dir(data.join("sub")).unwrap();
    std::fs::hard_link(data.join("a"), data.join("sub/c")).unwrap();
    symlink("/", data.join("root")).unwrap();
    std::fs::File::create(data.join("sparse")).unwrap().set_len(1 << 30).unwrap();
    // Deeper than any path the kernel takes.
    let script =
        r#"cd "$1"; n=$(printf "%0200d" 0); for i in $(seq 60); do mkdir $n; cd $n; done; echo x > leaf"#;
    assert!(Command::new("bash").args(["-ec", script, "sh"]).arg(&data).status().unwrap().success());
    let du = Command::new("du").args(["-s", "-B1"]).arg(&data).output().unwrap();
    let du: u64 = String::from_utf8(du.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!(store.size(&volume).unwrap(), du);
    assert!((100_000..1_000_000).contains(&du), "{du}");
}
