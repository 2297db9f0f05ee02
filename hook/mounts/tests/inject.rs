//! Volumes in a container's mount namespace.

use crate::container::Container;
use crate::container::directory;
use crate::container::own_mounts;
use crate::container::private_host;
use crate::container::shell;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use volhook_core::decision::EntryKind;
use volhook_core::decision::MountFlags;
use volhook_core::names::SubPath;
use volhook_core::resolved::Resolved;
use volhook_mounts::Error;
use volhook_mounts::inject::Injection;

#[test]
fn privileged_a_directory_appears_in_the_container_and_nowhere_else() {
    private_host();
    let container = Container::start("mkdir $ROOT/data; echo image >$ROOT/data/below", "");
    let volume = container.volume("volume");
    let before = own_mounts();
    let injected = container.inject_directory(&volume, "/data").unwrap();
    assert_eq!(container.read("/data/marker"), "volume");
    std::fs::write(container.path("/data/written"), "by the container").unwrap();
    assert_eq!(std::fs::read_to_string(volume.join("written")).unwrap(), "by the container");
    assert_eq!(own_mounts(), before);
    assert!(container.root().join("data/below").exists(), "the host sees the image's own directory");
    let [mount] = injected.mounts.as_slice() else { panic!("{injected:?}") };
    let line = container
        .mounts()
        .lines()
        .find(|line| line.starts_with(&format!("{} ", mount.id)))
        .unwrap()
        .to_owned();
    assert!(line.contains(&format!(" {} ", mount.path.display())), "{line}");
    assert!(!line.contains("shared:") && !line.contains("master:"), "{line}");
}

/// As on most hosts, where everything is mounted shared.
#[test]
fn privileged_nothing_propagates_between_the_host_and_the_volume() {
    private_host();
    let container = Container::start("mkdir $ROOT/data", "");
    let volume = container.volume("volume");
    shell("mount -t tmpfs v $V; mount --make-shared $V; mkdir $V/sub", &[("V", &volume)]);
    container.inject_directory(&volume, "/data").unwrap();
    shell("mount -t tmpfs sub $V/sub; touch $V/sub/of-the-host", &[("V", &volume)]);
    let pid = container.pid().to_string();
    let data = container.root().join("data");
    shell(
        "nsenter --mount --target $PID mount -t tmpfs sub $DATA/sub",
        &[("PID", Path::new(&pid)), ("DATA", &data)],
    );
    assert!(!container.path("/data/sub/of-the-host").exists());
    assert!(volume.join("sub/of-the-host").exists());
    assert!(!container.mounts().lines().any(|line| line.contains("/data") && line.contains("shared:")));
    shell("umount -R $V", &[("V", &volume)]);
}

#[test]
fn privileged_mounts_below_the_target_stay_on_top() {
    private_host();
    let container = Container::start(
        "mkdir -p $ROOT/etc/ssl/certs $ROOT/etc-other
         echo image >$ROOT/etc/resolv.conf; echo image >$ROOT/etc/passwd
         echo engine >$DIR/resolv; mkdir $DIR/ssl $DIR/ssl/certs; echo certificates >$DIR/ssl/file",
        "mount --bind $DIR/resolv $ROOT/etc/resolv.conf
         mount --bind $DIR/ssl $ROOT/etc/ssl
         mount -t tmpfs certs $ROOT/etc/ssl/certs; echo nested >$ROOT/etc/ssl/certs/ca
         mount -t tmpfs other $ROOT/etc-other; echo other >$ROOT/etc-other/file",
    );
    let volume = container.volume("volume");
    let injected = container.inject_directory(&volume, "/etc").unwrap();
    assert_eq!(container.read("/etc/marker"), "volume");
    assert!(!container.path("/etc/passwd").exists(), "the volume covers the image's files");
    assert_eq!(container.read("/etc/resolv.conf"), "engine\n");
    assert_eq!(container.read("/etc/ssl/file"), "certificates\n");
    assert_eq!(container.read("/etc/ssl/certs/ca"), "nested\n");
    assert_eq!(container.read("/etc-other/file"), "other\n");
    let moved: Vec<_> =
        injected.mounts[0].moved.iter().map(|path| path.strip_prefix(container.root()).unwrap()).collect();
    assert_eq!(
        moved.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        ["etc/resolv.conf", "etc/ssl"]
    );
    assert_eq!(
        container.mounts().lines().filter(|line| line.contains("/etc/resolv.conf ")).count(),
        1,
        "moved, not copied: a runtime may still change the original"
    );
    assert_eq!(
        std::fs::read(volume.join("resolv.conf")).unwrap(),
        b"",
        "the mount point in the volume is an empty file"
    );
}

/// An engine's anonymous volume for a database below a pod's own /var, and what a user has mounted in both.
#[test]
fn privileged_mounts_can_stay_covered_and_what_is_inside_them_is_moved_on_top() {
    private_host();
    let container = Container::start(
        "mkdir -p $ROOT/var/lib/db $ROOT/var/www",
        "mount -t tmpfs anonymous $ROOT/var/lib/db; echo lost >$ROOT/var/lib/db/rows
         mkdir -p $ROOT/var/lib/db/conf
         mount -t tmpfs users $ROOT/var/lib/db/conf; echo kept >$ROOT/var/lib/db/conf/file
         mount -t tmpfs www $ROOT/var/www; echo www >$ROOT/var/www/file",
    );
    let volume = container.volume("volume");
    let injection = container.injection(directory(&volume), "/var");
    container.inject(vec![Injection { covers: vec!["/var/lib/db".to_owned()], ..injection }]).unwrap();
    std::fs::write(container.path("/var/lib/db/rows"), "persistent").unwrap();
    assert_eq!(std::fs::read_to_string(volume.join("lib/db/rows")).unwrap(), "persistent");
    assert_eq!(container.read("/var/lib/db/conf/file"), "kept\n");
    assert_eq!(container.read("/var/www/file"), "www\n");
}

#[test]
fn privileged_the_uppermost_of_stacked_mounts_stays_on_top() {
    private_host();
    let container = Container::start(
        "mkdir -p $ROOT/var/log",
        "mount -t tmpfs lower $ROOT/var/log; echo lower >$ROOT/var/log/file
         mount -t tmpfs upper $ROOT/var/log; echo upper >$ROOT/var/log/file",
    );
    container.inject_directory(&container.volume("volume"), "/var").unwrap();
    assert_eq!(container.read("/var/marker"), "volume");
    assert_eq!(container.read("/var/log/file"), "upper\n");
}

#[test]
fn privileged_volumes_nest_in_each_other_in_either_order() {
    private_host();
    for outer_first in [true, false] {
        let container = Container::start(
            "mkdir -p $ROOT/var/lib $ROOT/usr",
            "mount -t tmpfs own $ROOT/var/lib; echo own >$ROOT/var/lib/file",
        );
        let mut injections = vec![
            container.injection(directory(&container.volume("var")), "/var"),
            container.injection(directory(&container.volume("deep")), "/var/lib/deep"),
            container.injection(directory(&container.volume("usr")), "/usr"),
        ];
        if !outer_first {
            injections.swap(0, 1);
        }
        let injected = container.inject(injections).unwrap();
        assert_eq!(injected.mounts.len(), 3);
        assert_eq!(container.read("/var/marker"), "var");
        assert_eq!(container.read("/var/lib/file"), "own\n");
        assert_eq!(container.read("/var/lib/deep/marker"), "deep");
        assert_eq!(container.read("/usr/marker"), "usr");
    }
}

#[test]
fn privileged_a_volume_can_cover_what_the_spec_mounts_at_its_target() {
    private_host();
    let container = Container::start(
        "mkdir -p $ROOT/data",
        "mount -t tmpfs anonymous $ROOT/data; mkdir $ROOT/data/sub
         mount -t tmpfs sub $ROOT/data/sub; echo sub >$ROOT/data/sub/file",
    );
    container.inject_directory(&container.volume("volume"), "/data").unwrap();
    assert_eq!(container.read("/data/marker"), "volume");
    assert_eq!(container.read("/data/sub/file"), "sub\n");
}

#[test]
fn privileged_read_only_and_restrictions_hold_for_the_one_mount() {
    private_host();
    let container = Container::start(
        "mkdir $ROOT/etc/sub $ROOT/rw; echo engine >$DIR/hosts; touch $ROOT/etc/hosts",
        "mount --bind $DIR/hosts $ROOT/etc/hosts",
    );
    let volume = container.volume("volume");
    let mut restricted = container.injection(directory(&volume), "/etc");
    restricted.read_only = true;
    restricted.flags = MountFlags { nosuid: true, nodev: true, noexec: true };
    let writable = container.injection(directory(&volume), "/rw");
    let injected = container.inject(vec![restricted, writable]).unwrap();
    let error = std::fs::write(container.path("/etc/new"), "x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    std::fs::write(container.path("/rw/new"), "x").unwrap();
    assert_eq!(container.read("/etc/new"), "x");
    std::fs::write(container.path("/etc/hosts"), "written").unwrap();
    let mounts = container.mounts();
    let options = |id: u64| {
        mounts.lines().find(|line| line.starts_with(&format!("{id} "))).unwrap().split(' ').nth(5).unwrap()
    };
    assert_eq!(options(injected.mounts[0].id), "ro,nosuid,nodev,noexec,relatime");
    assert_eq!(options(injected.mounts[1].id), "rw,relatime");
}

#[test]
fn privileged_a_file_of_a_volume_covers_a_file() {
    private_host();
    let container = Container::start(
        "mkdir $ROOT/srv; echo image >$ROOT/srv/lock.json; mkdir $DIR/ro; echo host >$DIR/ro/app.json; mkdir $ROOT/app",
        "mount --bind -o ro $DIR/ro $ROOT/app",
    );
    let volume = container.volume("volume");
    let part =
        |name: &str| directory(&volume).subpath(&SubPath::new(name).unwrap(), EntryKind::File).unwrap();
    container
        .inject(vec![
            container.injection(part("lock.json"), "/srv/lock.json"),
            container.injection(part("marker"), "/app/app.json"),
            container.injection(part("deep/er/new"), "/srv/made/here"),
        ])
        .unwrap();
    std::fs::write(container.path("/srv/lock.json"), "locked").unwrap();
    assert_eq!(std::fs::read_to_string(volume.join("lock.json")).unwrap(), "locked");
    assert_eq!(container.read("/app/app.json"), "volume");
    assert_eq!(container.read("/srv/made/here"), "");
    assert!(
        std::fs::write(container.path("/app/new"), "").is_err(),
        "the directory around it stays read-only"
    );
}

#[test]
fn privileged_missing_targets_are_made_with_usual_permissions() {
    private_host();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let container = Container::start("ln -s usr/lib $ROOT/lib; mkdir -p $ROOT/usr/lib", "");
    container.inject_directory(&container.volume("volume"), "/lib/new/deep").unwrap();
    assert_eq!(container.read("/usr/lib/new/deep/marker"), "volume");
    let made = std::fs::metadata(container.root().join("usr/lib/new")).unwrap();
    assert_eq!(made.permissions().mode() & 0o7777, 0o755);
}

#[test]
fn privileged_a_shared_parent_is_refused() {
    private_host();
    let container = Container::start(
        "mkdir -p $ROOT/shared/sub",
        "mount -t tmpfs s $ROOT/shared; mount --make-shared $ROOT/shared",
    );
    let rootfs = container.rootfs();
    let target = volhook_core::names::Target::new("/shared/new/sub").unwrap();
    let resolved = rootfs.resolve(&target).unwrap();
    assert_eq!(resolved, Resolved { path: "/shared/new/sub".to_owned(), kind: None, shared: true });
    let before = container.mounts();
    let error = container.inject_directory(&container.volume("volume"), "/shared/new/sub").unwrap_err();
    assert!(matches!(error, Error::SharedParent { .. }), "{error}");
    assert_eq!(container.mounts(), before);
    assert!(!container.path("/shared/new").exists());
}

#[test]
fn privileged_a_failure_takes_everything_back() {
    private_host();
    let container = Container::start(
        "mkdir -p $ROOT/etc $ROOT/opt; touch $ROOT/etc/hosts $ROOT/file; echo engine >$DIR/hosts",
        "mount --bind $DIR/hosts $ROOT/etc/hosts",
    );
    let before = container.mounts();
    let file =
        directory(&container.volume("c")).subpath(&SubPath::new("marker").unwrap(), EntryKind::File).unwrap();
    let mut injections = vec![
        container.injection(directory(&container.volume("a")), "/etc"),
        container.injection(directory(&container.volume("b")), "/new/place"),
        container.injection(file, "/made/file"),
        container.injection(directory(&container.volume("d")), "/opt"),
    ];
    injections[3].target.path = "/file".to_owned();
    let error = container.inject(injections).unwrap_err();
    assert!(matches!(error, Error::KindMismatch { .. }), "{error}");
    assert_eq!(error.to_string(), r#""/file" is a file in the container, but the volume is a directory"#);
    assert_eq!(container.mounts(), before);
    assert_eq!(container.read("/etc/hosts"), "engine\n");
    // Somebody else may have mounted something there meanwhile, and would lose it.
    assert!(container.root().join("new/place").is_dir() && container.root().join("made/file").is_file());
}

#[test]
fn privileged_a_symlink_that_appeared_since_is_not_followed() {
    private_host();
    let container = Container::start("mkdir $ROOT/data $DIR/outside", "");
    let injection = container.injection(directory(&container.volume("volume")), "/data/sub");
    std::fs::remove_dir(container.root().join("data")).unwrap();
    std::os::unix::fs::symlink(container.folder.path().join("outside"), container.root().join("data"))
        .unwrap();
    let error = container.inject(vec![injection]).unwrap_err();
    assert!(matches!(error, Error::ResolveTarget { .. }), "{error}");
    assert_eq!(std::fs::read_dir(container.folder.path().join("outside")).unwrap().count(), 0);
}

#[test]
fn privileged_a_volume_with_a_symlink_where_a_mount_belongs_is_refused() {
    private_host();
    let container = Container::start(
        "touch $ROOT/etc/resolv.conf $DIR/victim; echo engine >$DIR/resolv",
        "mount --bind $DIR/resolv $ROOT/etc/resolv.conf",
    );
    let volume = container.volume("volume");
    std::os::unix::fs::symlink(container.folder.path().join("victim"), volume.join("resolv.conf")).unwrap();
    let error = container.inject_directory(&volume, "/etc").unwrap_err();
    assert!(matches!(error, Error::MountPointSymlink { .. }), "{error}");
    assert_eq!(container.read("/etc/resolv.conf"), "engine\n");
}

#[test]
fn privileged_two_volumes_for_one_target_are_noticed() {
    private_host();
    let container = Container::start("mkdir $ROOT/data", "");
    let before = container.mounts();
    let volumes = ["a", "b"].map(|name| container.injection(directory(&container.volume(name)), "/data"));
    let error = container.inject(volumes.into()).unwrap_err();
    assert!(matches!(error, Error::NotInPlace { .. }), "{error}");
    assert_eq!(container.mounts(), before);
}

#[test]
fn privileged_a_user_namespace_sees_the_volume_as_its_own() {
    private_host();
    let container = Container::start_with_users(
        "chmod 755 $DIR; mkdir $ROOT/run; chown -R 100000:100000 $ROOT; mkdir $ROOT/host; echo engine >$DIR/hosts",
        "mount -t tmpfs own $ROOT/run; touch $ROOT/etc/hosts; mount --bind $DIR/hosts $ROOT/etc/hosts",
    );
    let volume = container.volume("volume");
    container
        .inject(vec![
            container.injection(directory(&volume), "/etc"),
            container.injection(directory(&container.volume("second")), "/new/place"),
            container.injection(directory(&container.volume("third")), "/etc/deeper/third"),
            container.injection(directory(&container.volume("fourth")), "/run/fourth"),
            container.injection(directory(&container.volume("fifth")), "/host/fifth"),
        ])
        .unwrap();
    let inside = |path: &str| container.path(path).metadata().map(|m| (m.uid(), m.gid())).unwrap();
    assert_eq!(
        inside("/etc/marker"),
        (100_000, 100_000),
        "root's files in the volume are the container root's"
    );
    assert_eq!(inside("/new"), (100_000, 100_000), "a mount point made in the image is the container root's");
    assert_eq!(inside("/etc/deeper"), (100_000, 100_000));
    let stored = |path: &str| volume.join(path).metadata().map(|m| (m.uid(), m.gid())).unwrap();
    assert_eq!(stored("deeper"), (0, 0), "and what is made in the volume is stored as root's");
    assert_eq!(stored("hosts"), (0, 0));
    let pid = container.pid().to_string();
    let written = std::process::Command::new("nsenter")
        .args(["--user", "--mount", "--target", &pid, "--setuid=0", "--setgid=0", "sh", "-euc"])
        .args(["echo x >$0/etc/by-root; mkdir $0/run/fourth/sub; stat -c %u $0/etc/by-root"])
        .arg(container.root())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&written.stdout),
        "0\n",
        "{}",
        String::from_utf8_lossy(&written.stderr)
    );
    assert_eq!(stored("by-root"), (0, 0));
}

#[test]
fn privileged_many_at_once_do_not_disturb_each_other() {
    private_host();
    let container = Container::start("mkdir $ROOT/data", "");
    let injected: Vec<Injection> = (0..50)
        .map(|number| {
            container
                .injection(directory(&container.volume(&format!("v{number}"))), &format!("/data/{number}"))
        })
        .collect();
    assert_eq!(container.inject(injected).unwrap().mounts.len(), 50);
    assert_eq!(container.read("/data/49/marker"), "v49");
}
