//! What tells one image from another, and what an image may hold to keep volhook from finding out.

use crate::copy::folder;
use crate::copy::run;
use crate::copy_hostile::Mounted;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use tempfile::TempDir;
use volhook_core::decision::ImageState;
use volhook_core::image::ImageIdentity;
use volhook_volumes::identify;
use volhook_volumes::identify_beside;

const STATUS: &str = "var/lib/dpkg/status";

fn look(rootfs: &Path) -> ImageIdentity {
    identify(folder(rootfs).as_fd(), None).unwrap()
}

fn look_beside(rootfs: &Path, recorded: &ImageIdentity) -> ImageIdentity {
    identify_beside(folder(rootfs).as_fd(), None, Some(recorded)).unwrap()
}

/// A root filesystem with these files.
fn rootfs(files: &[(&str, &str)]) -> TempDir {
    let top = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = top.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    top
}

#[test]
fn an_image_is_known_by_its_packages_and_its_system() {
    let release = "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n";
    let top = rootfs(&[(STATUS, "Package: a\n"), ("usr/lib/os-release", release)]);
    std::fs::create_dir(top.path().join("etc")).unwrap();
    symlink("../usr/lib/os-release", top.path().join("etc/os-release")).unwrap();
    let found = identify(folder(top.path()).as_fd(), Some("debian:13".to_owned())).unwrap();
    assert_eq!(found.name.as_deref(), Some("debian:13"));
    assert_eq!(found.system.as_deref(), Some("Debian GNU/Linux 13 (trixie)"));
    let packages = found.packages.clone().unwrap();
    // The size, eight bytes, and the content.
    let oracle = Command::new("sh")
        .arg("-c")
        .arg("printf '\\013\\0\\0\\0\\0\\0\\0\\0Package: a\\n' | sha256sum")
        .output()
        .unwrap();
    let oracle = String::from_utf8(oracle.stdout).unwrap();
    assert_eq!((packages.path.as_str(), packages.digest.as_str()), ("/var/lib/dpkg/status", &oracle[..64]));
    let same = rootfs(&[(STATUS, "Package: a\n")]);
    assert_eq!(found.beside(&look(same.path())), ImageState::Same);
    let other = rootfs(&[(STATUS, "Package: b\n"), ("usr/lib/os-release", release)]);
    assert_eq!(found.beside(&look(other.path())), ImageState::Changed);
    assert!(!look(rootfs(&[]).path()).is_known());
}

#[test]
fn each_package_manager_is_known_by_its_list() {
    let places = [
        "var/lib/dpkg/status",
        "lib/apk/db/installed",
        "usr/lib/apk/db/installed",
        "usr/lib/sysimage/rpm/rpmdb.sqlite",
        "var/lib/rpm/rpmdb.sqlite",
        "var/lib/rpm/Packages",
    ];
    for place in places {
        let found = look(rootfs(&[(place, "x")]).path());
        assert_eq!(found.packages.unwrap().path, format!("/{place}"));
    }
    // The folder of one of them is a link in some images.
    let top = rootfs(&[("usr/lib/sysimage/rpm/Packages", "x")]);
    std::fs::create_dir_all(top.path().join("var/lib")).unwrap();
    symlink("../../usr/lib/sysimage/rpm", top.path().join("var/lib/rpm")).unwrap();
    assert_eq!(look(top.path()).packages.unwrap().path, "/var/lib/rpm/Packages");
}

#[test]
fn a_list_that_is_the_same_file_is_not_read_again() {
    let top = rootfs(&[(STATUS, "Package: a\n")]);
    let found = look(top.path());
    let mut known = found.clone();
    known.packages.as_mut().unwrap().digest = "as recorded".to_owned();
    let again = look_beside(top.path(), &known);
    assert_eq!(again.packages.unwrap().digest, "as recorded");
    // Any change is one of its stamp, also with the size and the time of before.
    let file = File::options().write(true).open(top.path().join(STATUS)).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"P", 0).unwrap();
    file.set_modified(modified).unwrap();
    let again = look_beside(top.path(), &known);
    assert_eq!(again, found);
    assert_eq!(found.beside(&again), ImageState::Same);
    std::fs::write(top.path().join(STATUS), "Package: b\n").unwrap();
    assert_eq!(found.beside(&look_beside(top.path(), &found)), ImageState::Changed);
    // What was recorded without a stamp is read.
    known.packages.as_mut().unwrap().stamp = None;
    assert_eq!(look_beside(top.path(), &known), look(top.path()));
    let text = serde_json::to_string(&found).unwrap();
    let read: ImageIdentity = serde_json::from_str(&text).unwrap();
    assert_eq!(read.packages.unwrap().stamp, found.packages.unwrap().stamp);
}

#[test]
fn nothing_odd_keeps_anybody_waiting_or_is_read() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "PRETTY_NAME=secret").unwrap();
    let make: [&dyn Fn(&Path); 6] = [
        &|path| run(Command::new("mkfifo").arg(path)),
        &|path| std::fs::create_dir(path).unwrap(),
        &|path| symlink(secret.path(), path).unwrap(),
        &|path| symlink("/proc/self/root/etc/passwd", path).unwrap(),
        &|path| symlink(path.file_name().unwrap(), path).unwrap(),
        &|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
    ];
    let start = Instant::now();
    for make in make {
        let top = rootfs(&[]);
        for path in [STATUS, "etc/os-release", "lib/apk/db/installed"] {
            let path = top.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            make(&path);
        }
        assert!(!look(top.path()).is_known());
    }
    // A folder on the way that is a file or leads in a circle.
    let top = rootfs(&[("var", "x")]);
    symlink("etc", top.path().join("etc")).unwrap();
    assert!(!look(top.path()).is_known());
    // One line without end, and one of no text.
    let top = rootfs(&[("etc/os-release", &format!("PRETTY_NAME={}", "x".repeat(70_000)))]);
    assert!(!look(top.path()).is_known());
    std::fs::write(top.path().join("etc/os-release"), b"PRETTY_NAME=\xff").unwrap();
    assert!(!look(top.path()).is_known());
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn of_a_huge_list_the_beginning_and_the_size_count() {
    let top = rootfs(&[(STATUS, "Package: a\n")]);
    let file = File::options().write(true).open(top.path().join(STATUS)).unwrap();
    file.set_len(1 << 40).unwrap();
    let first = look(top.path());
    file.write_all_at(b"late", 65 << 20).unwrap();
    assert_eq!(look(top.path()), first);
    file.set_len((1 << 40) + 1).unwrap();
    assert_eq!(first.beside(&look(top.path())), ImageState::Changed);
}

#[test]
fn privileged_what_is_mounted_over_a_list_and_a_device_are_not_the_images() {
    let top = rootfs(&[(STATUS, "Package: a\n")]);
    let place = top.path().join("var/lib/dpkg");
    let mounted = Mounted::new(&place, &["-t", "tmpfs", "none"]);
    std::fs::write(place.join("status"), "the host's").unwrap();
    assert!(!look(top.path()).is_known());
    drop(mounted);
    assert!(look(top.path()).is_known());
    std::fs::remove_file(top.path().join(STATUS)).unwrap();
    run(Command::new("mknod").arg(top.path().join(STATUS)).args(["c", "1", "5"]));
    assert!(!look(top.path()).is_known());
}
