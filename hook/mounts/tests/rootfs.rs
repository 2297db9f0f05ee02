//! Where targets really are.

use crate::container::Container;
use crate::container::own_mounts;
use crate::container::private_host;
use std::os::fd::AsFd;
use std::path::Path;
use volhook_core::decision::EntryKind;
use volhook_core::names::Target;
use volhook_core::resolved::Resolved;
use volhook_mounts::Error;
use volhook_mounts::rootfs::Rootfs;
use volhook_mounts::rootfs::open_directory;

fn image() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    crate::container::shell(
        "mkdir -p $ROOT/etc $ROOT/usr/lib $ROOT/proc/sys; cd $ROOT; echo x >etc/passwd; mkfifo fifo
         ln -s /../../etc escaping; ln -s /usr/lib absolute; ln -s usr/lib relative
         ln -s ../../../../usr/lib etc/climbing; ln -s /etc/climbing chained; ln -s loop2 loop1; ln -s loop1 loop2
         ln -s /nowhere/at/all dangling; ln -s / toroot; ln -s /proc/sys tosys; ln -s self selfloop",
        &[("ROOT", folder.path())],
    );
    folder
}

fn resolve(root: &Path, target: &str) -> Result<Resolved, Error> {
    Rootfs::on_host(root).unwrap().resolve(&Target::new(target).unwrap())
}

fn found(root: &Path, target: &str) -> (String, Option<EntryKind>) {
    let resolved = resolve(root, target).unwrap();
    (resolved.path, resolved.kind)
}

#[test]
fn symlinks_are_followed_inside_the_root_filesystem() {
    let image = image();
    let directory = Some(EntryKind::Directory);
    for (target, path, kind) in [
        ("/etc", "/etc", directory),
        ("/etc/passwd", "/etc/passwd", Some(EntryKind::File)),
        ("/fifo", "/fifo", Some(EntryKind::Other)),
        ("/escaping", "/etc", directory),
        ("/escaping/passwd", "/etc/passwd", Some(EntryKind::File)),
        ("/absolute", "/usr/lib", directory),
        ("/relative", "/usr/lib", directory),
        ("/etc/climbing", "/usr/lib", directory),
        ("/chained", "/usr/lib", directory),
        ("/new", "/new", None),
        ("/new/deep/er", "/new/deep/er", None),
        ("/chained/new/deep", "/usr/lib/new/deep", None),
    ] {
        assert_eq!(found(image.path(), target), (path.to_owned(), kind), "{target}");
    }
}

#[test]
fn symlinks_that_lead_nowhere_good_are_refused() {
    let image = image();
    let message = |target| resolve(image.path(), target).unwrap_err().to_string();
    for target in ["/loop1", "/loop1/below", "/loop2"] {
        let error = resolve(image.path(), target).unwrap_err();
        assert!(matches!(error, Error::TargetLoops { .. }), "{target}: {error}");
    }
    for target in ["/dangling", "/dangling/below", "/selfloop"] {
        let error = resolve(image.path(), target).unwrap_err();
        assert!(matches!(error, Error::TargetDangles { .. }), "{target}: {error}");
    }
    assert_eq!(
        message("/dangling/below"),
        r#"target "/dangling/below" cannot be made: "/dangling" is a symlink that leads to nothing"#
    );
    assert_eq!(
        message("/etc/passwd/x"),
        r#"target "/etc/passwd/x" cannot be made: "/etc/passwd" is not a directory"#
    );
    assert_eq!(message("/toroot"), r#"target "/toroot" leads to "/", where no volume may be"#);
    assert_eq!(
        message("/tosys/new"),
        r#"target "/tosys/new" leads to "/proc/sys/new", where no volume may be"#
    );
}

#[test]
fn the_top_level_is_listed() {
    let image = image();
    let entries = Rootfs::on_host(image.path()).unwrap().top_level().unwrap();
    let kind = |name: &str| entries.iter().find(|entry| entry.name == name).map(|entry| entry.kind);
    assert_eq!(kind("etc"), Some(EntryKind::Directory));
    assert_eq!(kind("escaping"), Some(EntryKind::Symlink));
    assert_eq!(kind("fifo"), Some(EntryKind::Other));
    assert_eq!(kind("."), None);
    assert!(entries.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn a_root_filesystem_that_is_not_there_is_an_error() {
    let error = Rootfs::on_host(Path::new("/nonexistent/rootfs")).unwrap_err();
    assert_eq!(error.to_string(), r#"cannot open the root filesystem "/nonexistent/rootfs""#);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        source,
        r#"open("/nonexistent/rootfs", OFlags(DIRECTORY | PATH)): No such file or directory (os error 2)"#
    );
}

#[test]
fn privileged_a_container_s_own_mounts_are_seen() {
    private_host();
    let container = Container::start(
        "mkdir -p $ROOT/a; ln -s /a/inside $ROOT/link",
        "mount -t tmpfs a $ROOT/a; mkdir $ROOT/a/inside; mount --make-shared $ROOT/a",
    );
    let resolve = |target: &str| container.rootfs().resolve(&Target::new(target).unwrap()).unwrap();
    let there = Resolved { path: "/a/inside".to_owned(), kind: Some(EntryKind::Directory), shared: true };
    assert_eq!(resolve("/link"), there);
    assert!(!resolve("/etc").shared);
    assert!(!container.root().join("a/inside").exists(), "the host does not see it");
}

/// The kernel's links in a mounted /proc would lead out of the root filesystem.
#[test]
fn privileged_magic_links_are_not_followed() {
    private_host();
    let container = Container::start(
        "mkdir $ROOT/proc; ln -s /proc/self/root/etc $ROOT/out",
        "mount -t proc proc $ROOT/proc",
    );
    let error = container.rootfs().resolve(&Target::new("/out").unwrap()).unwrap_err();
    assert!(matches!(error, Error::TargetLoops { .. }), "{error}");
}

#[test]
fn privileged_the_hosts_propagation_is_not_the_containers() {
    private_host();
    let image = image();
    // As systemd sets a host up.
    crate::container::shell("mount --make-rshared /", &[]);
    assert!(!resolve(image.path(), "/etc").unwrap().shared);
}

#[test]
fn privileged_the_bare_image_has_nothing_that_is_mounted_inside() {
    private_host();
    let image = image();
    let script =
        "mkdir $ROOT/run; echo image >$ROOT/run/file; ln -s /run $ROOT/var; ln -s /etc/passwd $ROOT/tofile
        mount --bind $ROOT $ROOT; mount -t tmpfs none $ROOT/run; touch $ROOT/run/mounted";
    crate::container::shell(script, &[("ROOT", image.path())]);
    let before = own_mounts();
    let rootfs = Rootfs::on_host(image.path()).unwrap();
    let bare = rootfs.bare().unwrap();
    let list = |path: &str| {
        open_directory(&bare, path).unwrap().map(|directory| {
            let entries = rustix::fs::Dir::read_from(directory).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned());
            let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
            names.sort();
            names
        })
    };
    for path in ["/run", "/var", "/escaping/../run", "/../var/"] {
        assert_eq!(list(path), Some(vec!["file".to_owned()]), "{path}");
    }
    assert_eq!(
        list("/escaping"),
        Some(vec!["climbing".to_owned(), "passwd".to_owned()]),
        "a symlink stays inside"
    );
    assert!(list("/").unwrap().contains(&"usr".to_owned()));
    for path in ["/missing", "/dangling", "/etc/passwd", "/tofile", "/fifo", "/etc/passwd/below"] {
        assert_eq!(list(path), None, "{path}");
    }
    let error = open_directory(&bare, "/loop1").unwrap_err();
    assert!(matches!(error, Error::TargetLoops { .. }), "{error}");
    assert_eq!(own_mounts(), before);
}

#[test]
fn privileged_a_root_filesystem_is_known_in_another_namespace() {
    private_host();
    let container = Container::start("mkdir $ROOT/sub", "mount -t tmpfs none $ROOT/etc");
    let host = |path: &Path| Rootfs::on_host(path).unwrap();
    let theirs = container.rootfs();
    assert!(theirs.is_same_directory(&host(&container.root())).unwrap());
    assert!(!theirs.is_same_directory(&host(&container.root().join("sub"))).unwrap());
    let hidden = Container::start("mkdir $ROOT/other", "mount -t tmpfs none $ROOT");
    assert!(!hidden.rootfs().is_same_directory(&host(&hidden.root())).unwrap());
    assert!(matches!(theirs.bare(), Err(Error::CloneDirectory { .. })), "it is another namespace's");
}

/// What a runtime mounted for a volume is known by its directory, by being a mount of its own and by staying private.
#[test]
fn privileged_a_runtime_s_bind_is_recognized() {
    private_host();
    let container = Container::start(
        "mkdir -p $DIR/volume/sub $DIR/other $ROOT/right $ROOT/wrong $ROOT/plain $ROOT/shared $ROOT/covered
         ln -s right $ROOT/link",
        "for at in right shared covered; do mount --bind $DIR/volume $ROOT/$at; done
         mount --make-shared $ROOT/shared; mount --bind $DIR/other $ROOT/wrong
         mount -t tmpfs none $ROOT/covered",
    );
    let volume = std::fs::File::open(container.folder.path().join("volume")).unwrap();
    let part = std::fs::File::open(container.folder.path().join("volume/sub")).unwrap();
    let shows = |at: &str, directory: &std::fs::File| {
        let target = Resolved { path: at.to_owned(), kind: None, shared: false };
        container.rootfs().shows(&target, directory.as_fd()).map_err(|error| error.to_string())
    };
    shows("/right", &volume).unwrap();
    for (at, directory, reason) in [
        ("/wrong", &volume, "something else"),
        ("/plain", &volume, "something else"),
        ("/covered", &volume, "something else"),
        ("/right", &part, "something else"),
        ("/right/sub", &part, "part of another mount"),
        ("/shared", &volume, "propagates"),
        ("/link", &volume, "/link"),
        ("/missing", &volume, "/missing"),
    ] {
        let message = shows(at, directory).unwrap_err();
        assert!(message.contains(reason), "{at}: {message}");
    }
}
