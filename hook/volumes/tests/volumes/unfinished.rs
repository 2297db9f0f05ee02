//! What a killed change leaves in a volume's folder is told of and removed, but not under the hands of whoever makes it.

use crate::fixture::directory;
use crate::fixture::fresh;
use crate::fixture::root;
use crate::fixture::soon;
use crate::fixture::store;
use crate::fixture::tree;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;

#[test]
fn what_killed_changes_left_is_told_of_and_removed() {
    let (folder, store) = store();
    let volume = fresh(directory("v"));
    store.create(&volume, soon()).unwrap();
    fs::write(store.directory_path(&volume.id).join("file"), "kept").unwrap();
    let place = root(&folder).join("volumes/default/v");
    let before = tree(&root(&folder));
    let left = ["data.new", "origin.json", "volume.img.new", "volume.json.new"].map(|name| place.join(name));
    let leave = || {
        fs::create_dir_all(left[0].join("a/b")).unwrap();
        fs::write(left[0].join("a/b/c"), "half").unwrap();
        fs::write(&left[1], "half").unwrap();
        fs::write(&left[2], "half").unwrap();
        fs::write(&left[3], "half").unwrap();
    };
    leave();
    std::thread::scope(|scope| {
        let (is_held, held) = mpsc::channel();
        let (done, is_done) = mpsc::channel::<()>();
        let (store, volume) = (&store, &volume);
        // As whoever makes them has it: another process.
        scope.spawn(move || {
            let _changing = store.change("resize", volume).unwrap();
            is_held.send(()).unwrap();
            is_done.recv().unwrap_err();
        });
        held.recv().unwrap();
        assert_eq!(store.leftovers().unwrap(), [""; 0].map(std::path::PathBuf::from));
        store.clean_staging(soon()).unwrap();
        assert!(left.iter().all(|path| path.exists()), "it was taken from under somebody's hands");
        drop(done);
    });
    assert_eq!(store.leftovers().unwrap(), left);
    store.clean_staging(soon()).unwrap();
    assert_eq!(tree(&root(&folder)), before);
    assert_eq!(store.leftovers().unwrap().len(), 0);
    assert_eq!(store.find(&volume.id).unwrap(), Some(volume));
}

/// Such as what a person has made immutable, or what lies on a broken place of a disk.
#[test]
fn privileged_what_cannot_be_removed_is_told_and_keeps_nothing_else() {
    let (folder, store) = store();
    let place = |name: &str| root(&folder).join("volumes/default").join(name);
    let left: Vec<PathBuf> = ["u", "v", "w"]
        .into_iter()
        .flat_map(|name| {
            store.create(&fresh(directory(name)), soon()).unwrap();
            ["volume.json.new", "volume.img.new"].map(|left| place(name).join(left))
        })
        .collect();
    left.iter().for_each(|path| fs::write(path, "half").unwrap());
    let stuck = left[0].to_str().unwrap();
    let chattr =
        |change: &str| assert!(Command::new("chattr").args([change, stuck]).status().unwrap().success());
    chattr("+i");
    let cleaned = store.clean_staging(soon());
    chattr("-i");
    let error = cleaned.unwrap_err().to_string();
    assert!(error.contains("\"u\"") && error.contains(stuck), "{error}");
    assert_eq!(store.leftovers().unwrap(), left[..1]);
    // Neither does a staging folder that cannot be looked into.
    let staging = root(&folder).join("staging");
    fs::remove_dir(&staging).unwrap();
    fs::write(&staging, "").unwrap();
    let error = store.clean_staging(soon()).unwrap_err().to_string();
    assert!(error.contains(staging.to_str().unwrap()), "{error}");
    assert!(left.iter().all(|path| !path.exists()), "{error}");
}
