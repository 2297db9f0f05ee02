//! What is in the parts of a storage, and throwing it away.

use crate::copy::folder;
use crate::copy::patient;
use crate::copy::run;
use crate::copy_hostile::Mounted;
use crate::copy_hostile::deep;
use crate::fixture::ROOT;
use crate::fixture::id;
use crate::fixture::root;
use crate::fixture::store;
use crate::fixture::tree;
use crate::listing::assert_alike;
use crate::pods::made;
use crate::pods::part;
use crate::pods::pod;
use crate::pods::storage;
use crate::populate;
use crate::populate::wanted;
use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use tempfile::TempDir;
use volhook_core::decision::Population;
use volhook_core::names::Tenant;
use volhook_core::volume::Volume;
use volhook_volumes::Changes;
use volhook_volumes::Store;
use volhook_volumes::StoreError;
use volhook_volumes::changes;
use volhook_volumes::shadowed;

const PATHS: [&str; 4] = ["/etc", "/usr", "/usr/local", "/var"];

fn filled() -> (TempDir, Store, Volume, PathBuf) {
    let (folder, store) = store();
    let volume = made(&store, storage("alice", Population::Copy, &[]));
    let image = folder.path().join("image");
    std::fs::create_dir(&image).unwrap();
    populate::image(&image);
    fill(&store, &volume, &image);
    (folder, store, volume, image)
}

fn fill(store: &Store, volume: &Volume, image: &Path) {
    let mut changing = store.change("fill", volume).unwrap();
    let top = folder(&store.directory_path(&volume.id));
    changing.fill(top.as_fd(), &wanted(image, &PATHS), &patient()).unwrap();
}

fn reset(store: &Store, volume: &Volume, member: &str) -> Result<u64, StoreError> {
    let top = folder(&store.directory_path(&volume.id));
    store.change("reset", volume)?.reset(top.as_fd(), member, patient().deadline)
}

fn recorded(store: &Store, volume: &Volume) -> Vec<String> {
    let parts = store.find(&volume.id).unwrap().unwrap().storage.unwrap().parts;
    parts.iter().map(|part| part.path.as_str().to_owned()).collect()
}

#[test]
fn a_part_that_is_reset_is_filled_anew_and_the_others_stay() {
    let (_folder, store, volume, image) = filled();
    let files = store.directory_path(&volume.id).join("files");
    for name in ["etc/own", "usr/own", "usr/local/own", "var/own"] {
        std::fs::write(files.join(name), vec![1; 100_000]).unwrap();
    }
    let bytes = reset(&store, &volume, "etc").unwrap();
    assert!(bytes >= 100_000, "{bytes}");
    assert_eq!(recorded(&store, &volume), ["/usr", "/usr/local", "/var"]);
    assert_eq!(store.find(&id("vol-alice-etc")).unwrap(), None);
    assert!(!files.join("etc").exists());
    reset(&store, &volume, "usr").unwrap();
    assert_eq!(recorded(&store, &volume), ["/usr/local", "/var"]);
    assert_eq!(std::fs::read_dir(files.join("usr")).unwrap().count(), 1);
    fill(&store, &volume, &image);
    assert_alike(&image.join("etc"), &files.join("etc"));
    for (name, there) in [("usr/own", false), ("usr/local/own", true), ("var/own", true)] {
        assert_eq!(files.join(name).exists(), there, "{name}");
    }
    std::fs::remove_file(files.join("usr/local/own")).unwrap();
    run(Command::new("touch").arg("-r").arg(image.join("usr/local")).arg(files.join("usr/local")));
    assert_alike(&image.join("usr"), &files.join("usr"));
    let error = reset(&store, &volume, "srv").unwrap_err();
    assert_eq!(error.to_string(), "cannot reset volume \"pod-alice\": no \"srv\" lies in it");
    for member in ["usr-local", "var", "usr", "etc"] {
        reset(&store, &volume, member).unwrap();
    }
    assert_eq!(recorded(&store, &volume), Vec::<String>::new());
    assert_eq!(store.list().unwrap().others, []);
}

/// An image and the changes to it that overlayfs made, with a storage of these parts.
fn overlaid() -> (TempDir, Store, Volume, PathBuf) {
    let (top, store) = store();
    let volume = made(&store, storage("alice", Population::Overlay, &PATHS));
    let image = top.path().join("image");
    std::fs::create_dir(&image).unwrap();
    populate::image(&image);
    (top, store, volume, image)
}

/// Works in the overlay of the image and the storage's changes.
fn in_overlay<T>(store: &Store, volume: &Volume, image: &Path, work: impl FnOnce(&Path) -> T) -> T {
    let data = store.directory_path(&volume.id);
    let merged = tempfile::tempdir().unwrap();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        image.to_str().unwrap(),
        data.join("upper").to_str().unwrap(),
        data.join("work").to_str().unwrap()
    );
    let _mounted = Mounted::new(merged.path(), &["-t", "overlay", "none", "-o", &options]);
    work(merged.path())
}

fn look(store: &Store, volume: &Volume, image: &Path) -> Vec<Changes> {
    let top = folder(&store.directory_path(&volume.id));
    let parts = &volume.storage.as_ref().unwrap().parts;
    let image = folder(image);
    changes(top.as_fd(), Population::Overlay, parts, Some(image.as_fd()), patient().deadline).unwrap()
}

fn hidden(store: &Store, volume: &Volume, image: &Path) -> Vec<String> {
    let top = folder(&store.directory_path(&volume.id));
    let paths = shadowed(top.as_fd(), folder(image).as_fd(), patient().deadline).unwrap();
    paths.into_iter().map(|path| path.to_str().unwrap().to_owned()).collect()
}

#[test]
fn privileged_changes_in_an_overlay_are_counted_by_part_and_those_that_hide_files_are_named() {
    let (_top, store, volume, image) = overlaid();
    assert_eq!(look(&store, &volume, &image), [Changes::default(); 4]);
    in_overlay(&store, &volume, &image, |merged| {
        std::fs::write(merged.join("etc/new"), vec![1; 50_000]).unwrap();
        std::fs::hard_link(merged.join("etc/new"), merged.join("etc/newer")).unwrap();
        std::fs::write(merged.join("etc/file0"), "changed").unwrap();
        std::fs::remove_file(merged.join("etc/file5")).unwrap();
        std::fs::remove_dir_all(merged.join("usr/share")).unwrap();
        std::fs::create_dir(merged.join("usr/share")).unwrap();
        std::fs::write(merged.join("usr/share/new"), "x").unwrap();
        std::fs::write(merged.join("usr/local/bin/file2"), "x").unwrap();
        std::fs::remove_file(merged.join("usr/sbin")).unwrap();
        std::fs::create_dir(merged.join("usr/sbin")).unwrap();
    });
    let found = look(&store, &volume, &image);
    let numbers = |changes: &Changes| {
        [changes.files, changes.directories, changes.whiteouts, changes.opaque, changes.shadowing]
    };
    assert_eq!(numbers(&found[0]), [3, 0, 1, 0, 2], "{:?}", found[0]);
    // One for the directory instead of a symlink.
    assert_eq!(numbers(&found[1]), [1, 2, 0, 2, 2], "{:?}", found[1]);
    assert_eq!(numbers(&found[2]), [1, 1, 0, 0, 1], "{:?}", found[2]);
    assert_eq!(found[3], Changes::default());
    assert!((50_000..100_000).contains(&found[0].bytes), "{:?}", found[0]);
    assert_eq!(
        hidden(&store, &volume, &image),
        ["/etc/file0", "/etc/file5", "/usr/local/bin/file2", "/usr/sbin", "/usr/share"]
    );
}

#[test]
fn what_was_copied_is_counted_by_part() {
    let (_folder, store, volume, image) = filled();
    let volume = store.find(&volume.id).unwrap().unwrap();
    let parts = &volume.storage.as_ref().unwrap().parts;
    let top = folder(&store.directory_path(&volume.id));
    let found = changes(top.as_fd(), Population::Copy, parts, None, patient().deadline).unwrap();
    let all = crate::listing::list(&image);
    let directories = all.values().filter(|entry| entry.kind == "directory").count() as u64;
    let sum = |of: fn(&Changes) -> u64| found.iter().map(of).sum::<u64>();
    assert_eq!(sum(|changes| changes.files), all.len() as u64 - directories);
    // Without those of the parts and the top.
    assert_eq!(sum(|changes| changes.directories), directories - 5);
    assert!(sum(|changes| changes.bytes) > 1 << 20);
    let late = changes(top.as_fd(), Population::Copy, parts, None, std::time::Instant::now()).unwrap_err();
    assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn privileged_changes_of_any_depth_are_found() {
    let (_top, store, volume, image) = overlaid();
    let upper = store.directory_path(&volume.id).join("upper");
    std::fs::create_dir_all(upper.join("etc/a")).unwrap();
    deep(&upper.join("etc/a"), 2000);
    std::fs::create_dir(image.join("etc/a")).unwrap();
    deep(&image.join("etc/a"), 100);
    std::fs::write(image.join("etc/z"), "x").unwrap();
    std::fs::write(upper.join("etc/z"), "x").unwrap();
    let found = look(&store, &volume, &image)[0];
    assert_eq!((found.files, found.directories, found.shadowing), (2001, 2001, 101));
    assert_eq!(hidden(&store, &volume, &image).len(), 101);
}

#[test]
fn privileged_a_part_of_an_overlay_is_the_images_again() {
    let (_top, store, volume, image) = overlaid();
    let change = || {
        in_overlay(&store, &volume, &image, |merged| {
            for name in ["etc/own", "usr/own", "usr/local/own"] {
                std::fs::write(merged.join(name), "own").unwrap();
            }
            let _ = std::fs::remove_file(merged.join("usr/bin/large"));
            let _ = std::fs::remove_file(merged.join("usr/local/bin/file2"));
        });
    };
    let there = || {
        in_overlay(&store, &volume, &image, |merged| {
            ["etc/own", "usr/own", "usr/local/own", "usr/bin/large", "usr/local/bin/file2"]
                .map(|name| merged.join(name).exists())
        })
    };
    change();
    assert_eq!(there(), [true, true, true, false, false]);
    reset(&store, &volume, "usr").unwrap();
    assert_eq!(there(), [true, false, true, true, false]);
    let add = |path| {
        let mut changing = store.change("fill", &volume).unwrap();
        changing.add_parts(vec![part("alice", path)]).unwrap();
    };
    add("/usr");
    reset(&store, &volume, "usr-local").unwrap();
    assert_eq!(there(), [true, false, false, true, true]);
    add("/usr/local");
    // All of /usr made anew in the container: nothing of the image's is seen in it.
    in_overlay(&store, &volume, &image, |merged| {
        std::fs::remove_dir_all(merged.join("usr")).unwrap();
        std::fs::create_dir_all(merged.join("usr/local")).unwrap();
        std::fs::write(merged.join("usr/local/own"), "own").unwrap();
    });
    reset(&store, &volume, "usr").unwrap();
    assert_eq!(there(), [true, false, true, true, false]);
    in_overlay(&store, &volume, &image, |merged| assert_eq!(tree(&merged.join("usr/local")), ["own"]));
    reset(&store, &volume, "usr-local").unwrap();
    assert_eq!(there(), [true, false, false, true, true]);
}

#[test]
fn odd_things_in_the_place_of_a_part_are_never_followed() {
    let (top, store, volume, _image) = filled();
    let files = store.directory_path(&volume.id).join("files");
    let away = top.path().join("away");
    std::fs::create_dir_all(away.join("local")).unwrap();
    std::fs::write(away.join("local/secret"), "secret").unwrap();
    std::fs::remove_dir_all(files.join("usr")).unwrap();
    std::os::unix::fs::symlink(&away, files.join("usr")).unwrap();
    reset(&store, &volume, "usr-local").unwrap();
    reset(&store, &volume, "usr").unwrap();
    assert!(!files.join("usr").is_symlink());
    assert_eq!(tree(&away), ["local", "local/secret"]);
    let planted = store.directory_path(&volume.id).join("reset-00000000-0000-4000-8000-000000000000");
    std::os::unix::fs::symlink(&away, &planted).unwrap();
    reset(&store, &volume, "etc").unwrap();
    assert_eq!(tree(&away), ["local", "local/secret"]);
}

#[test]
fn killed_while_resetting_a_part_is_whole_or_gone_and_the_others_stay() {
    let name = "reset::killed_while_resetting_a_part_is_whole_or_gone_and_the_others_stay";
    if let Some(root) = std::env::var_os(ROOT) {
        let store = Store::new(Path::new(&root));
        let volume = store.pod_storage(&Tenant::default(), &pod("alice")).unwrap().unwrap();
        reset(&store, &volume, "usr").unwrap();
        return;
    }
    let (top, store, volume, image) = filled();
    let files = store.directory_path(&volume.id).join("files");
    for step in
        ["reset.begun", "sidecar.written", "sidecar.renamed", "reset.forgotten", "reset.entry", "reset.moved"]
    {
        std::fs::write(files.join("usr/bin/own"), "own").unwrap();
        std::fs::write(files.join("usr/local/own"), "own").unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(ROOT, root(&top))
            .env("VOLHOOK_FAILPOINT", step)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success(), "{step} was not reached");
        assert!(files.join("usr/local/own").exists(), "{step}");
        let was_forgotten = !recorded(&store, &volume).contains(&"/usr".to_owned());
        assert_eq!(was_forgotten, !matches!(step, "reset.begun" | "sidecar.written"), "{step}");
        fill(&store, &volume, &image);
        assert_eq!(files.join("usr/bin/own").exists(), !was_forgotten, "{step}");
        assert!(files.join("usr/local/own").exists(), "{step}");
        assert_eq!(recorded(&store, &volume).len(), 4);
        if was_forgotten {
            let names = std::fs::read_dir(store.directory_path(&volume.id)).unwrap().count();
            assert_eq!(names, 1, "{:?}", tree(&top.path().join("state")));
        } else {
            reset(&store, &volume, "usr").unwrap();
            fill(&store, &volume, &image);
        }
        std::fs::remove_file(files.join("usr/local/own")).unwrap();
        run(Command::new("touch").arg("-r").arg(image.join("usr/local")).arg(files.join("usr/local")));
        assert_alike(&image.join("usr"), &files.join("usr"));
    }
}
