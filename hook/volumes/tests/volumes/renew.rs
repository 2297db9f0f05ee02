//! Storages that begin anew: what takes whose place, and what is in the trash then.

use crate::copy::patient;
use crate::fixture::at;
use crate::fixture::directory;
use crate::fixture::fresh;
use crate::fixture::id;
use crate::fixture::image;
use crate::fixture::root;
use crate::fixture::soon;
use crate::fixture::store;
use crate::fixture::tree;
use crate::pods::made;
use crate::pods::part;
use crate::pods::pod;
use crate::pods::storage;
use crate::populate;
use crate::populate::wanted;
use std::path::Path;
use tempfile::TempDir;
use volhook_core::decision::Population;
use volhook_core::names::Tenant;
use volhook_core::volume::PodStorage;
use volhook_core::volume::Volume;
use volhook_volumes::Store;
use volhook_volumes::StoreError;

fn anew(old: &Volume, paths: &[&str]) -> Volume {
    let parts = paths.iter().map(|path| part("alice", path)).collect();
    let storage = old.storage.as_ref().map(|storage| PodStorage { parts, ..storage.clone() });
    fresh(Volume { storage, ..old.clone() })
}

/// A storage of the pod alice with a file in it.
fn used(population: Population, paths: &[&str]) -> (TempDir, Store, Volume) {
    let (folder, store) = store();
    let old = made(&store, storage("alice", population, paths));
    std::fs::write(store.directory_path(&old.id).join("mine"), "mine").unwrap();
    (folder, store, old)
}

fn staged(folder: &TempDir) -> Vec<String> {
    tree(&root(folder).join("staging"))
}

fn is_part(store: &Store, name: &str) -> bool {
    store.find_part(&id(name)).unwrap().is_some()
}

#[test]
fn what_it_had_is_in_the_trash_and_its_names_are_those_of_the_fresh_one() {
    let (folder, store, old) = used(Population::Overlay, &["/etc", "/opt"]);
    let new = anew(&old, &["/etc", "/var"]);
    let renewal = store.renew(&new, soon()).unwrap();
    assert_eq!(store.find(&old.id).unwrap(), Some(old.clone()), "nothing is changed yet");
    let discarded = renewal.replace(&old.uuid, at(1)).unwrap();
    assert_eq!((&discarded.volume, discarded.since), (&old, at(1)));
    assert_eq!(store.pod_storage(&Tenant::default(), &pod("alice")).unwrap(), Some(new.clone()));
    assert!(is_part(&store, "vol-alice-etc") && is_part(&store, "vol-alice-var"));
    assert_eq!(store.find(&id("vol-alice-opt")).unwrap(), None);
    assert_eq!(std::fs::read_to_string(discarded.path.join("data/mine")).unwrap(), "mine");
    assert_eq!(tree(&store.directory_path(&new.id)), ["upper", "work"]);
    // Its name is taken, and when it is not it comes back.
    assert!(matches!(store.restore(&discarded).unwrap_err(), StoreError::NameTaken { .. }));
    store.discard(&new, at(2)).unwrap();
    assert_eq!(store.restore(&discarded).unwrap(), old);
    assert!(is_part(&store, "vol-alice-opt"));
    assert_eq!((staged(&folder), store.list().unwrap().others), (vec![], vec![]));
}

#[test]
fn copies_are_made_before_anything_is_changed() {
    let (folder, store, old) = used(Population::Copy, &["/etc"]);
    let from = folder.path().join("image");
    std::fs::create_dir(&from).unwrap();
    populate::image(&from);
    let new = anew(&old, &[]);
    let mut renewal = store.renew(&new, soon()).unwrap();
    renewal.fill(&wanted(&from, &["/etc", "/usr"]), &patient()).unwrap();
    let filled = renewal.volume().clone();
    assert_eq!(store.find(&old.id).unwrap(), Some(old.clone()));
    renewal.replace(&old.uuid, at(1)).unwrap();
    assert_eq!(store.find(&old.id).unwrap(), Some(filled.clone()));
    assert_eq!(filled.storage.unwrap().parts, [part("alice", "/etc"), part("alice", "/usr")]);
    assert!(is_part(&store, "vol-alice-etc") && is_part(&store, "vol-alice-usr"));
    assert!(store.directory_path(&new.id).join("files/etc").is_dir());
    // Dropped, one leaves nothing.
    let another = anew(&old, &[]);
    drop(store.renew(&another, soon()).unwrap());
    assert_eq!(staged(&folder), Vec::<String>::new());
}

#[test]
fn it_is_taken_back_whole() {
    let (folder, store, old) = used(Population::Overlay, &["/etc", "/opt"]);
    let new = anew(&old, &["/etc", "/var"]);
    store.renew(&new, soon()).unwrap().replace(&old.uuid, at(1)).unwrap();
    assert_eq!(store.take_back(&new, &old.uuid, soon()).unwrap(), old);
    assert_eq!(store.find(&old.id).unwrap(), Some(old.clone()));
    assert!(is_part(&store, "vol-alice-opt") && !is_part(&store, "vol-alice-var"));
    assert!(store.trash().unwrap().volumes.is_empty() && staged(&folder).is_empty());
    assert_eq!(store.list().unwrap().others, []);
    assert!(!root(&folder).join("volumes/default/pod-alice/trashed.json").exists());
    // Not twice, and not one that is another by now.
    let error = store.take_back(&new, &old.uuid, soon()).unwrap_err();
    assert!(matches!(error, StoreError::Gone { .. }), "{error}");
}

#[test]
fn a_name_that_another_has_is_refused_before_anything_is_changed() {
    let (folder, store, old) = used(Population::Overlay, &["/etc"]);
    made(&store, fresh(directory("vol-alice-var")));
    let new = anew(&old, &["/etc", "/var"]);
    let error = store.renew(&new, soon()).err().unwrap();
    assert!(matches!(error, StoreError::NameHeld { .. }), "{error}");
    // Taken meanwhile, it goes back.
    let new = anew(&old, &["/etc", "/srv"]);
    let renewal = store.renew(&new, soon()).unwrap();
    made(&store, fresh(directory("vol-alice-srv")));
    let error = renewal.replace(&old.uuid, at(1)).unwrap_err();
    assert!(matches!(error, StoreError::NameHeld { .. }), "{error}");
    assert_eq!(store.find(&old.id).unwrap(), Some(old.clone()));
    assert!(is_part(&store, "vol-alice-etc") && store.trash().unwrap().volumes.is_empty());
    assert_eq!((staged(&folder), store.list().unwrap().others), (vec![], vec![]));
    // One that was replaced by another already is not replaced again.
    let new = anew(&old, &[]);
    let renewal = store.renew(&new, soon()).unwrap();
    let error = renewal.replace(&fresh(old.clone()).uuid, at(1)).unwrap_err();
    assert!(matches!(error, StoreError::Gone { .. }), "{error}");
}

#[test]
fn privileged_an_image_begins_anew_as_well() {
    let (folder, store) = store();
    let of_image = |volume: Volume| {
        let with = storage("alice", Population::Copy, &[]);
        Volume { id: with.id, pod: with.pod, storage: with.storage, ..fresh(volume) }
    };
    let old = made(&store, of_image(image("x", 16 << 20)));
    let from = folder.path().join("image");
    std::fs::create_dir(&from).unwrap();
    populate::image(&from);
    let new = anew(&old, &[]);
    let mut renewal = store.renew(&new, soon()).unwrap();
    renewal.fill(&wanted(&from, &["/etc"]), &patient()).unwrap();
    let discarded = renewal.replace(&old.uuid, at(1)).unwrap();
    let is_image = |folder: &Path| folder.join("volume.img").metadata().unwrap().len() == 16 << 20;
    assert!(is_image(&discarded.path) && is_image(&root(&folder).join("volumes/default/pod-alice")));
    assert_eq!(store.find(&old.id).unwrap().unwrap().storage.unwrap().parts.len(), 1);
}
