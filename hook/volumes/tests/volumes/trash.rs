//! Into the trash and out of it again, several at once, and killed in between.

use crate::fixture::ROOT;
use crate::fixture::Rounds;
use crate::fixture::at;
use crate::fixture::directory;
use crate::fixture::fresh;
use crate::fixture::id;
use crate::fixture::ids;
use crate::fixture::image;
use crate::fixture::root;
use crate::fixture::soon;
use crate::fixture::start;
use crate::fixture::store;
use crate::fixture::tree;
use std::collections::HashSet;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;
use volhook_core::decision::Usage;
use volhook_core::names::Tenant;
use volhook_core::volume::Volume;
use volhook_volumes::Created;
use volhook_volumes::Discarded;
use volhook_volumes::OtherKind;
use volhook_volumes::Store;
use volhook_volumes::StoreError;

fn fill(store: &Store, volume: &Volume) {
    let data = store.directory_path(&volume.id);
    for number in 0..10 {
        std::fs::write(data.join(number.to_string()), volume.uuid.as_bytes()).unwrap();
    }
}

fn is_full(folder: &Path, volume: &Volume) -> bool {
    (0..10).all(|number| {
        std::fs::read_to_string(folder.join("data").join(number.to_string()))
            .is_ok_and(|text| text == volume.uuid)
    })
}

#[test]
fn a_discarded_volume_is_whole_in_the_trash_and_no_volume_any_more() {
    let (folder, store) = store();
    let root = root(&folder);
    let volume = directory("v1");
    assert!(store.trash().unwrap().volumes.is_empty());
    assert!(!root.exists(), "looking makes nothing");
    store.create(&volume, soon()).unwrap();
    fill(&store, &volume);
    let discarded = store.discard(&volume, at(0)).unwrap();
    let path = root.join("trash").join(&volume.uuid);
    assert_eq!(discarded, Discarded { volume: volume.clone(), since: at(0), path: path.clone() });
    assert!(is_full(&path, &volume));
    assert_eq!(
        std::fs::read_to_string(path.join("trashed.json")).unwrap(),
        "{\"format\":1,\"when\":\"2027-01-15T08:00:00Z\"}\n"
    );
    assert_eq!(store.find(&volume.id).unwrap(), None);
    let listing = store.list().unwrap();
    assert_eq!((listing.volumes, listing.others), (vec![], vec![]));
    assert_eq!(store.usage(&Tenant::default(), &vec![]).unwrap(), Usage::default());
    let trash = store.trash().unwrap();
    assert_eq!((trash.volumes, trash.others), (vec![discarded.clone()], vec![]));
    store.clean_staging(soon()).unwrap();

    assert_eq!(store.restore(&discarded).unwrap(), volume);
    assert_eq!(store.list().unwrap().volumes, std::slice::from_ref(&volume));
    assert!(is_full(&root.join("volumes/default/v1"), &volume));
    assert!(!root.join("volumes/default/v1/trashed.json").exists());
    assert_eq!(tree(&root.join("trash")), Vec::<String>::new());
}

#[test]
fn privileged_several_of_one_name_wait_in_the_trash_and_a_name_in_use_is_not_replaced() {
    let (folder, store) = store();
    let volumes: Vec<_> = (0..3).map(|_| fresh(image("v1", 8 << 20))).collect();
    for (number, volume) in volumes.iter().enumerate() {
        assert!(matches!(store.create(volume, soon()).unwrap(), Created::New(_)));
        store.discard(volume, at(-i64::try_from(number).unwrap())).unwrap();
    }
    let other = fresh(directory("a"));
    store.create(&other, soon()).unwrap();
    store.discard(&other, at(5)).unwrap();
    let listed = store.trash().unwrap().volumes;
    let uuids: Vec<_> = listed.iter().map(|discarded| discarded.volume.uuid.as_str()).collect();
    assert_eq!(uuids, [&other, &volumes[2], &volumes[1], &volumes[0]].map(|volume| volume.uuid.as_str()));

    store.restore(&listed[2]).unwrap();
    store.open_image(&volumes[1]).unwrap();
    let error = store.restore(&listed[1]).unwrap_err();
    assert!(matches!(error, StoreError::NameTaken { .. }), "{error:?}");
    let text = error.to_string();
    for part in ["\"v1\"", &listed[1].path.display().to_string(), "volumes/default/v1 exists again"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(store.find(&id("v1")).unwrap().as_ref(), Some(&volumes[1]));
    assert_eq!(store.trash().unwrap().volumes.len(), 3);
    let error = store.restore(&listed[2]).unwrap_err();
    assert!(matches!(error, StoreError::NotDiscarded { .. }), "{error:?}");

    // The tenant's folder is made again where somebody removed it.
    store.discard(&volumes[1], at(9)).unwrap();
    std::fs::remove_dir(root(&folder).join("volumes/default")).unwrap();
    assert_eq!(store.restore(&listed[0]).unwrap(), other);
}

#[test]
fn only_the_volume_that_was_meant_is_discarded() {
    let (folder, store) = store();
    let volume = directory("v1");
    let gone = |volume: &Volume| {
        let error = store.discard(volume, at(0)).unwrap_err();
        assert!(matches!(error, StoreError::Gone { .. }), "{error:?}");
    };
    gone(&volume);
    store.create(&volume, soon()).unwrap();
    gone(&fresh(volume.clone()));
    gone(&directory("v2"));
    let strange = Volume { uuid: "../../away".to_owned(), ..volume.clone() };
    assert!(matches!(store.discard(&strange, at(0)), Err(StoreError::Foreign { .. })));
    let tenant = root(&folder).join("volumes/default");
    std::fs::create_dir(tenant.join("empty")).unwrap();
    assert!(matches!(store.discard(&directory("empty"), at(0)), Err(StoreError::Foreign { .. })));
    symlink("v1", tenant.join("linked")).unwrap();
    assert!(matches!(store.discard(&directory("linked"), at(0)), Err(StoreError::Foreign { .. })));
    std::fs::create_dir(tenant.join("newer")).unwrap();
    std::fs::write(tenant.join("newer/volume.json"), r#"{"format": 2}"#).unwrap();
    assert!(matches!(store.discard(&directory("newer"), at(0)), Err(StoreError::NewerSidecar { .. })));
    let before = tree(&tenant);
    // Nothing in the trash is replaced either.
    std::fs::create_dir_all(root(&folder).join("trash").join(&volume.uuid)).unwrap();
    let error = store.discard(&volume, at(0)).unwrap_err();
    assert!(matches!(error, StoreError::Discard { step: "move it to", .. }), "{error:?}");
    assert_eq!(tree(&tenant), before);
}

#[test]
fn a_leftover_of_an_earlier_attempt_changes_nothing() {
    let (folder, store) = store();
    let volume = directory("v1");
    store.create(&volume, soon()).unwrap();
    let leftover = root(&folder).join("volumes/default/v1/trashed.json");
    let mine = folder.path().join("mine");
    std::fs::write(&mine, "mine").unwrap();
    let kinds: [&dyn Fn(); 3] = [
        &|| std::fs::write(&leftover, r#"{"format":1,"when":"2020-01-01T00:00:00Z"}"#).unwrap(),
        &|| std::fs::write(&leftover, "{\"for").unwrap(),
        &|| symlink(&mine, &leftover).unwrap(),
    ];
    for (round, leave) in kinds.iter().enumerate() {
        leave();
        assert_eq!(store.find(&volume.id).unwrap().as_ref(), Some(&volume));
        assert_eq!(store.list().unwrap().volumes, std::slice::from_ref(&volume));
        assert_eq!(store.create(&volume, soon()).unwrap(), Created::Existing(volume.clone()));
        store.open_directory(&volume).unwrap();
        let since = at(i64::try_from(round).unwrap());
        let discarded = store.discard(&volume, since).unwrap();
        assert_eq!(store.trash().unwrap().volumes, std::slice::from_ref(&discarded));
        assert_eq!(discarded.since, since);
        store.restore(&discarded).unwrap();
    }
    assert_eq!(std::fs::read_to_string(mine).unwrap(), "mine");
}

#[test]
fn what_is_no_discarded_volume_is_shown_and_never_touched() {
    let (folder, store) = store();
    let volume = directory("v1");
    store.create(&volume, soon()).unwrap();
    let good = store.discard(&volume, at(0)).unwrap();
    let trash = root(&folder).join("trash");
    let sidecar = std::fs::read_to_string(good.path.join("volume.json")).unwrap();
    let when = std::fs::read_to_string(good.path.join("trashed.json")).unwrap();
    let uuid = |number: u32| format!("{}-0000-4000-8000-{number:012}", "00000000");
    let put = |number: u32, files: &[(&str, &str)]| {
        let path = trash.join(uuid(number));
        std::fs::create_dir_all(path.join("data/sub")).unwrap();
        for (name, text) in files {
            std::fs::write(path.join(name), text).unwrap();
        }
    };
    let own = |number| sidecar.replace(&volume.uuid, &uuid(number));
    put(1, &[]);
    put(2, &[("volume.json", &own(2))]);
    put(3, &[("trashed.json", &when)]);
    put(4, &[("volume.json", &sidecar), ("trashed.json", &when)]);
    put(5, &[("volume.json", &own(5)), ("trashed.json", &when[..9])]);
    put(6, &[("volume.json", "{\"format\": 7}"), ("trashed.json", &when)]);
    put(7, &[("volume.json", &own(7)), ("trashed.json", "{\"format\": 2}")]);
    put(8, &[("volume.json", "{"), ("trashed.json", &when)]);
    std::fs::write(trash.join(uuid(9)), "a file").unwrap();
    symlink(&good.path, trash.join(uuid(10))).unwrap();
    std::fs::create_dir_all(trash.join("photos/2020")).unwrap();
    std::fs::write(trash.join("photos/volume.json"), &sidecar).unwrap();
    std::fs::write(trash.join("photos/trashed.json"), &when).unwrap();

    let listed = store.trash().unwrap();
    assert_eq!(listed.volumes, std::slice::from_ref(&good));
    let kinds: Vec<_> = listed.others.iter().map(|other| other.kind).collect();
    let [foreign, damaged, newer] = [OtherKind::Foreign, OtherKind::Damaged, OtherKind::Newer];
    assert_eq!(
        kinds,
        [foreign, foreign, foreign, damaged, damaged, newer, newer, damaged, foreign, foreign, foreign],
        "{listed:#?}"
    );
    assert_eq!(listed.others[10].path, trash.join("photos"));
    assert_eq!(store.list().unwrap().others, []);

    let before: Vec<_> = tree(&trash).into_iter().filter(|path| !path.starts_with(&volume.uuid)).collect();
    assert_eq!(ids(&store.empty_trash(at(1000), soon()).unwrap()), [id("v1")]);
    store.create(&fresh(directory("v2")), soon()).unwrap();
    assert_eq!(tree(&trash), before);
    for number in 1..=10 {
        let volume = Volume { uuid: uuid(number), ..volume.clone() };
        let discarded = Discarded { path: trash.join(&volume.uuid), volume, since: at(0) };
        assert!(store.restore(&discarded).is_err(), "{number}");
    }
    assert_eq!(tree(&trash), before);
}

#[test]
fn of_eight_that_discard_or_restore_one_volume_one_does() {
    let (_folder, store) = store();
    let volume = directory("v1");
    store.create(&volume, soon()).unwrap();
    fill(&store, &volume);
    for round in 0..40 {
        let at_once = |work: &(dyn Fn() -> Result<(), StoreError> + Sync)| -> Vec<StoreError> {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
                threads.into_iter().filter_map(|thread| thread.join().unwrap().err()).collect()
            })
        };
        let lost = at_once(&|| store.discard(&volume, at(round)).map(drop));
        assert_eq!(lost.len(), 7, "{lost:?}");
        assert!(lost.iter().all(|error| matches!(error, StoreError::Gone { .. })), "{lost:?}");
        let discarded = store.trash().unwrap();
        assert_eq!((discarded.volumes.len(), discarded.others.len()), (1, 0));
        let lost = at_once(&|| store.restore(&discarded.volumes[0]).map(drop));
        assert_eq!(lost.len(), 7, "{lost:?}");
        assert!(lost.iter().all(|error| matches!(error, StoreError::NotDiscarded { .. })), "{lost:?}");
        assert!(is_full(store.directory_path(&volume.id).parent().unwrap(), &volume));
    }
}

#[test]
fn of_a_restoration_and_a_creation_one_gets_the_name() {
    let (_folder, store) = store();
    let mut restored = 0;
    for round in 0..60_u64 {
        let old = fresh(directory("v1"));
        store.create(&old, soon()).unwrap();
        let discarded = store.discard(&old, at(0)).unwrap();
        let new = fresh(directory("v1"));
        let (created, back) = std::thread::scope(|scope| {
            let created = scope.spawn(|| store.create(&new, soon()).unwrap());
            std::thread::sleep(Duration::from_micros(round * 40));
            let back = store.restore(&discarded);
            (created.join().unwrap(), back)
        });
        let stands = store.find(&id("v1")).unwrap().unwrap();
        match back {
            Ok(volume) => {
                assert_eq!((&volume, &stands), (&old, &old));
                assert_eq!(created, Created::Existing(old));
                restored += 1;
            }
            Err(StoreError::NameTaken { .. }) => {
                assert_eq!(stands, new);
                assert_eq!(created, Created::New(new));
                assert_eq!(store.trash().unwrap().volumes, [discarded]);
            }
            Err(error) => panic!("{error:?}"),
        }
        store.discard(&stands, at(1)).unwrap();
        assert_eq!(store.empty_trash(at(2), soon()).unwrap().kept, []);
        assert!(store.trash().unwrap().volumes.is_empty());
    }
    println!("{restored} of 60 were restored");
}

#[test]
fn killed_anywhere_every_volume_is_live_or_discarded_and_whole_or_being_deleted() {
    if let Some(root) = std::env::var_os(ROOT) {
        let store = Store::new(Path::new(&root));
        println!("begun");
        loop {
            for volume in store.list().unwrap().volumes {
                store.discard(&volume, at(0)).unwrap();
            }
            for (number, discarded) in store.trash().unwrap().volumes.iter().enumerate() {
                // What an earlier process began to delete cannot be had back.
                if number % 3 > 0 {
                    match store.restore(discarded) {
                        Ok(volume) if number % 3 == 1 => drop(store.discard(&volume, at(10)).unwrap()),
                        Ok(_) | Err(StoreError::HalfDeleted { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
            store.empty_trash(at(5), soon()).unwrap();
            for _ in 0..10 {
                let volume = fresh(directory(&format!("v{}", Uuid::new_v4())));
                store.create(&volume, soon()).unwrap();
                fill(&store, &volume);
                std::fs::write(store.directory_path(&volume.id).parent().unwrap().join("full"), "").unwrap();
            }
        }
    }
    let (folder, store) = store();
    let root = root(&folder);
    let name = "trash::killed_anywhere_every_volume_is_live_or_discarded_and_whole_or_being_deleted";
    let mut seen = [0; 4];
    let mut rounds = Rounds::at_least(24);
    while let Some(round) = rounds.next(seen[0] > 0 && seen[1] > 0) {
        let mut child = start(name, &root);
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        assert!(lines.any(|line| line.unwrap() == "begun"));
        std::thread::sleep(Duration::from_millis(40 + round * 11));
        child.kill().unwrap();
        child.wait().unwrap();

        let (live, trash) = (store.list().unwrap(), store.trash().unwrap());
        assert_eq!((live.others, trash.others), (vec![], vec![]));
        let mut uuids = HashSet::new();
        let live =
            live.volumes.into_iter().map(|v| (root.join("volumes/default").join(v.id.name.as_str()), v));
        let trash = trash.volumes.into_iter().map(|d| (d.path, d.volume));
        for (path, volume) in live.chain(trash) {
            assert!(uuids.insert(volume.uuid.clone()), "{path:?} is there twice");
            let deleting = path.join("deleting").exists();
            let in_trash = path.starts_with(root.join("trash"));
            assert!(in_trash || !deleting, "{path:?}");
            assert!(deleting || !path.join("full").exists() || is_full(&path, &volume), "{path:?}");
            seen[usize::from(in_trash)] += 1;
            seen[2] += usize::from(deleting);
            seen[3] += usize::from(!in_trash && path.join("trashed.json").exists());
        }
    }
    println!("live, discarded, being deleted, with a leftover: {seen:?}");
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    let emptied = store.empty_trash(at(1000), soon()).unwrap();
    assert_eq!(emptied.kept, []);
    store.clean_staging(soon()).unwrap();
    assert_eq!(tree(&root.join("trash")), Vec::<String>::new());
    assert_eq!(tree(&root.join("staging")), Vec::<String>::new());
}
