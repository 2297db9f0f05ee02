//! Renaming: killed anywhere, the volume has its old name or its new one.

use crate::fixture::directory;
use crate::fixture::fresh;
use crate::fixture::id;
use crate::fixture::root;
use crate::fixture::soon;
use crate::fixture::store;
use std::fs;
use volhook_core::names::VolumeName;
use volhook_core::volume::Volume;

fn name(text: &str) -> VolumeName {
    VolumeName::new(text).unwrap()
}

#[test]
fn a_renamed_volume_is_the_same_under_its_new_name() {
    let (_folder, store) = store();
    let volume = fresh(directory("old"));
    store.create(&volume, soon()).unwrap();
    fs::write(store.directory_path(&volume.id).join("file"), "kept").unwrap();
    let renamed = store.change("rename", &volume).unwrap().rename(name("new")).unwrap();
    assert_eq!(store.find(&id("old")).unwrap(), None);
    let found = store.find(&id("new")).unwrap().unwrap();
    assert_eq!(found, renamed);
    assert_eq!(found, Volume { id: id("new"), renamed_from: Some(name("old")), ..volume.clone() });
    assert_eq!(fs::read_to_string(store.directory_path(&id("new")).join("file")).unwrap(), "kept");
    // And back, as often as wanted; the old name is free for another volume.
    store.create(&fresh(directory("old")), soon()).unwrap();
    let taken = store.change("rename", &found).unwrap().rename(name("old")).unwrap_err();
    assert_eq!(taken.to_string(), "cannot rename volume \"new\": there is a volume \"old\" already");
    assert_eq!(store.find(&id("new")).unwrap().unwrap().uuid, volume.uuid);
    store.change("rename", &found).unwrap().rename(name("third")).unwrap();
    assert_eq!(store.find(&id("third")).unwrap().unwrap().uuid, volume.uuid);
    assert_eq!(store.list().unwrap().volumes.len(), 2);
}

#[test]
fn killed_before_the_folder_is_renamed_it_has_its_old_name() {
    let (folder, store) = store();
    let volume = fresh(directory("old"));
    store.create(&volume, soon()).unwrap();
    let sidecar = root(&folder).join("volumes/default/old/volume.json");
    let half = Volume { id: id("new"), renamed_from: Some(name("old")), ..volume.clone() };
    fs::write(&sidecar, serde_json::to_vec(&half).unwrap()).unwrap();
    fs::write(sidecar.with_file_name("volume.json.new"), "half").unwrap();
    assert_eq!(store.find(&id("old")).unwrap(), Some(volume.clone()));
    assert_eq!(store.find(&id("new")).unwrap(), None);
    assert_eq!(store.list().unwrap().volumes, std::slice::from_ref(&volume));
    // The name that it would have had is anybody's, and it can be renamed to another.
    store.create(&fresh(directory("new")), soon()).unwrap();
    let renamed = store.change("rename", &volume).unwrap().rename(name("other")).unwrap();
    assert_eq!(store.find(&id("other")).unwrap(), Some(renamed));
    assert_eq!(store.list().unwrap().others, []);
}

#[test]
fn what_is_no_volume_is_not_replaced() {
    let (folder, store) = store();
    let volume = fresh(directory("old"));
    store.create(&volume, soon()).unwrap();
    fs::write(root(&folder).join("volumes/default/new"), "foreign").unwrap();
    store.change("rename", &volume).unwrap().rename(name("new")).unwrap_err();
    assert_eq!(store.find(&id("old")).unwrap(), Some(volume.clone()));
    assert_eq!(fs::read_to_string(root(&folder).join("volumes/default/new")).unwrap(), "foreign");
    // A change waits for another, but not for ever.
    let changing = store.change("rename", &volume).unwrap();
    let other = || store.change("resize", &volume).map(drop).unwrap_err();
    let refused = std::thread::scope(|scope| scope.spawn(other).join().unwrap());
    assert_eq!(refused.to_string(), "cannot resize volume \"old\": another command is changing it");
    drop(changing);
    store.change("resize", &volume).unwrap();
}
