//! Paths in trees that are not to be trusted.

use crate::copy::folder;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use volhook_mounts::source;
use volhook_volumes::Found;
use volhook_volumes::Inside;

fn kind(found: &Found) -> String {
    match found {
        Found::Directory(_) => "directory".to_owned(),
        Found::Entry(_, name) => format!("entry {}", name.display()),
        Found::Missing(_, name) => format!("missing {}", name.display()),
    }
}

#[test]
fn privileged_symlinks_stay_inside() {
    let top = tempfile::tempdir().unwrap();
    std::fs::write(top.path().join("outside"), "x").unwrap();
    let inside = top.path().join("inside");
    std::fs::create_dir_all(inside.join("usr/lib")).unwrap();
    std::fs::write(inside.join("usr/lib/file"), "x").unwrap();
    for (target, name) in [
        ("usr/lib", "lib"),
        ("/usr/lib/file", "absolute"),
        ("../../../../outside", "up"),
        ("/etc/passwd", "passwd"),
        ("loop", "loop"),
        ("../../usr/lib", "usr/lib/round"),
        ("../new", "usr/new"),
    ] {
        symlink(target, inside.join(name)).unwrap();
    }
    let mount = source::clone_directory(folder(&inside).as_fd())
        .expect("mounting needs root: run the privileged_ tests as root");
    let root = Inside::mount(mount).unwrap();
    let find = |path: &str, follow: bool| match root.find(Path::new(path), follow) {
        Ok(found) => kind(&found),
        Err(error) => error.source.to_string(),
    };
    for (path, follow, wanted) in [
        ("", true, "directory"),
        ("/", true, "directory"),
        ("/..", true, "directory"),
        ("../../usr/.", true, "directory"),
        ("usr/lib/", false, "directory"),
        ("lib", false, "entry lib"),
        ("lib", true, "directory"),
        ("lib/", false, "directory"),
        ("lib/file", false, "entry file"),
        ("lib/round/round/file", true, "entry file"),
        ("absolute", true, "entry file"),
        ("absolute", false, "entry absolute"),
        ("up", true, "missing outside"),
        ("passwd", true, "No such file or directory (os error 2)"),
        ("usr/new", true, "missing new"),
        ("absent", true, "missing absent"),
        ("absent/absent", true, "No such file or directory (os error 2)"),
        ("absolute/", true, "Not a directory (os error 20)"),
        ("loop", true, "Too many levels of symbolic links (os error 40)"),
        ("loop/x", true, "Too many levels of symbolic links (os error 40)"),
    ] {
        assert_eq!(find(path, follow), wanted, "{path:?} {follow}");
    }
    let host = Inside::host().unwrap();
    assert_eq!(kind(&host.find(&inside.join("absolute"), false).unwrap()), "entry absolute");
    assert_eq!(kind(&host.find(&inside.join("up"), false).unwrap()), "entry up");
}
