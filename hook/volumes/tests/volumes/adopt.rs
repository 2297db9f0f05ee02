//! Adopting what was made before: it is moved, whole, or stays where it was.

use crate::fixture::directory;
use crate::fixture::fresh;
use crate::fixture::image;
use crate::fixture::root;
use crate::fixture::soon;
use crate::fixture::store;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use volhook_core::volume::Volume;
use volhook_volumes::Adoptable;
use volhook_volumes::Created;

fn make_ext4(path: &Path, block: &str) {
    fs::File::create(path).unwrap().set_len(16 << 20).unwrap();
    let output = Command::new("mkfs.ext4").args(["-q", "-F", "-b", block]).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_directory_becomes_a_volume_as_it_is() {
    let (folder, store) = store();
    let path = folder.path().join("made before");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), "kept").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o2711)).unwrap();
    let found = Adoptable::look(&path).unwrap();
    let volume = Volume { backing: found.backing().clone(), ..fresh(directory("v")) };
    assert!(matches!(store.adopt(&found, &volume).unwrap(), Created::New(_)));
    assert!(!path.exists());
    assert_eq!(store.find(&volume.id).unwrap(), Some(volume.clone()));
    let data = store.directory_path(&volume.id);
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "kept");
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o7777, 0o2711);

    // A name that is taken: nothing moves.
    fs::create_dir(&path).unwrap();
    let other = Adoptable::look(&path).unwrap();
    assert!(matches!(store.adopt(&other, &fresh(volume)).unwrap(), Created::Existing(_)));
    assert!(path.exists());
}

#[test]
fn an_image_becomes_a_volume_as_it_is() {
    let (folder, store) = store();
    let path = folder.path().join("old.img");
    make_ext4(&path, "1024");
    let found = Adoptable::look(&path).unwrap();
    let volume = Volume { backing: found.backing().clone(), ..fresh(image("v", 16 << 20)) };
    let before = fs::read(&path).unwrap();
    store.adopt(&found, &volume).unwrap();
    assert!(!path.exists());
    assert_eq!(fs::read(store.image_path(&volume)).unwrap(), before);
    store.open_image(&volume).unwrap();
}

#[test]
fn what_cannot_be_adopted_stays_and_leaves_no_volume() {
    let (folder, store) = store();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("text"), vec![b'x'; 4096]).unwrap();
    fs::create_dir(path("dir")).unwrap();
    symlink("dir", path("link")).unwrap();
    for (what, why) in [
        ("text", "no filesystem in it"),
        ("link", "symbolic link"),
        ("absent", "No such file"),
        ("..", "no name of its own"),
    ] {
        let error = Adoptable::look(&path(what)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    // Somebody uses the image.
    make_ext4(&path("used.img"), "4096");
    let file = fs::File::open(path("used.img")).unwrap();
    file.lock().unwrap();
    let found = Adoptable::look(&path("used.img")).unwrap();
    let volume = Volume { backing: found.backing().clone(), ..fresh(image("v", 16 << 20)) };
    let error = store.adopt(&found, &volume).unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    assert_eq!(store.find(&volume.id).unwrap(), None);
}

#[test]
fn privileged_across_filesystems_nothing_is_moved() {
    let (folder, store) = store();
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::write(shm.path().join("file"), "kept").unwrap();
    let found = Adoptable::look(shm.path()).unwrap();
    let volume = Volume { backing: found.backing().clone(), ..fresh(directory("v")) };
    let error = store.adopt(&found, &volume).unwrap_err().to_string();
    assert!(error.contains("on another filesystem than the volumes"), "{error}");
    assert_eq!(fs::read_to_string(shm.path().join("file")).unwrap(), "kept");
    assert_eq!(store.find(&volume.id).unwrap(), None);
    assert_eq!(fs::read_dir(root(&folder).join("volumes/default")).unwrap().count(), 0);
    store.create(&volume, soon()).unwrap();
}
