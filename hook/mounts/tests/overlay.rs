//! Overlays: where changes go, what the kernel does not lay over what, and what stays of an overlay.

use crate::container::Container;
use crate::container::directory;
use crate::container::own_mounts;
use crate::container::private_host;
use crate::container::shell;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use volhook_core::decision::EntryKind;
use volhook_core::decision::Filesystem;
use volhook_core::decision::Image;
use volhook_core::names::SubPath;
use volhook_mounts::Error;
use volhook_mounts::overlay::Trace;
use volhook_mounts::overlay::is_in_use;
use volhook_mounts::overlay::mount_overlay;
use volhook_mounts::overlay::stacking;
use volhook_mounts::overlay::trace;
use volhook_mounts::rootfs::Rootfs;
use volhook_mounts::source::Detached;
use volhook_mounts::source::ImageUse;
use volhook_mounts::source::mount_image;
use volhook_mounts::users::Users;

/// A root filesystem and a place for its changes.
struct Layers {
    folder: tempfile::TempDir,
}

impl Layers {
    fn new(files: &str) -> Self {
        let layers = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(layers.path("lower/usr")).unwrap();
        std::fs::create_dir(layers.path("changes")).unwrap();
        shell(files, &[("LOWER", &layers.path("lower"))]);
        layers
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn bare(&self) -> Detached {
        Rootfs::on_host(&self.path("lower")).unwrap().bare().unwrap()
    }

    fn mount(&self) -> Result<Detached, Error> {
        mount_overlay(self.bare(), directory(&self.path("changes")), None)
    }

    fn is_in_use(&self) -> bool {
        is_in_use(std::fs::File::open(self.path("changes")).unwrap().as_fd()).unwrap()
    }

    #[track_caller]
    fn eventually_free(&self) {
        let start = Instant::now();
        while self.is_in_use() {
            assert!(start.elapsed() < Duration::from_secs(5), "still in use");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Where a mount that is attached nowhere can be looked into.
fn inside(mount: &Detached, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/fd/{}/{path}", std::process::id(), mount.as_fd().as_raw_fd()))
}

fn part(mount: &mut Detached, path: &str) -> Detached {
    mount.part(&SubPath::new(path).unwrap(), EntryKind::Directory).unwrap()
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn privileged_changes_are_kept_above_and_the_image_stays_as_it_is() {
    private_host();
    let layers = Layers::new(
        "cd $LOWER; chmod 1751 .; chown 3:4 .; echo image >usr/file; echo image >usr/gone
         echo image >usr/tool; chmod 4755 usr/tool; mkdir usr/removed; touch usr/removed/file",
    );
    let attribute = "user.origin";
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(layers.path("lower/usr/file"), attribute, b"image", flags).unwrap();
    let image = || shell("cd $LOWER; ls -lnR .; cat usr/file", &[("LOWER", &layers.path("lower"))]);
    let (before, image_before) = (own_mounts(), image());
    let mut overlay = layers.mount().unwrap();
    let usr = part(&mut overlay, "usr");
    let made = part(&mut overlay, "opt/made");
    assert_eq!(read(inside(&usr, "file")), "image\n");
    std::fs::write(inside(&usr, "file"), "changed").unwrap();
    std::fs::write(inside(&usr, "new"), "new").unwrap();
    std::fs::write(inside(&made, "new"), "new").unwrap();
    std::fs::remove_file(inside(&usr, "gone")).unwrap();
    std::fs::remove_dir_all(inside(&usr, "removed")).unwrap();
    std::fs::create_dir(inside(&usr, "removed")).unwrap();
    assert!(entries(&inside(&usr, "removed")).is_empty(), "what was in it does not come back");
    std::os::unix::fs::chown(inside(&usr, "tool"), Some(0), Some(0)).unwrap();
    std::fs::set_permissions(inside(&usr, "tool"), PermissionsExt::from_mode(0o4711)).unwrap();
    assert!(std::fs::rename(inside(&usr, "removed"), inside(&usr, "moved")).is_ok(), "it is a new directory");

    let upper = layers.path("changes/upper");
    assert_eq!((read(upper.join("usr/file")), read(upper.join("usr/new"))), ("changed".into(), "new".into()));
    assert_eq!(read(upper.join("opt/made/new")), "new");
    assert!(upper.join("usr/gone").symlink_metadata().unwrap().file_type().is_char_device());
    assert_eq!(upper.join("usr/tool").metadata().unwrap().mode() & 0o7777, 0o4711);
    let mut value = [0_u8; 5];
    rustix::fs::getxattr(upper.join("usr/file"), attribute, &mut value).unwrap();
    assert_eq!(&value, b"image");
    let root = upper.metadata().unwrap();
    assert_eq!((root.mode() & 0o7777, root.uid(), root.gid()), (0o1751, 3, 4), "as the image's own");
    assert_eq!(image(), image_before);
    assert_eq!(own_mounts(), before);
}

#[test]
fn privileged_what_is_new_in_the_image_appears_at_the_next_mount() {
    private_host();
    let layers = Layers::new("mkdir $LOWER/usr/dir");
    let overlay = layers.mount().unwrap();
    std::fs::write(inside(&overlay, "usr/dir/change"), "change").unwrap();
    drop(overlay);
    layers.eventually_free();
    std::fs::write(layers.path("lower/usr/dir/newer"), "newer").unwrap();
    let overlay = layers.mount().unwrap();
    assert_eq!(read(inside(&overlay, "usr/dir/newer")), "newer");
    assert_eq!(read(inside(&overlay, "usr/dir/change")), "change");
}

/// As under an engine whose storage is overlays, and as under one that runs in a container of such an engine.
#[test]
fn privileged_a_second_overlay_is_laid_and_a_third_refused_with_the_reason() {
    private_host();
    let layers = Layers::new("echo image >$LOWER/usr/file");
    let scratch = layers.path("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let open = std::fs::File::open(&scratch).unwrap();
    assert_eq!(stacking(layers.bare(), open.as_fd()).unwrap(), Ok(()));
    assert!(entries(&scratch).is_empty());

    let first = layers.mount().unwrap();
    let whole = |mount: &Detached| directory(&inside(mount, "."));
    assert_eq!(stacking(whole(&first), open.as_fd()).unwrap(), Ok(()));
    std::fs::create_dir(layers.path("second")).unwrap();
    let second = mount_overlay(whole(&first), directory(&layers.path("second")), None).unwrap();
    std::fs::write(inside(&second, "usr/file"), "second").unwrap();
    assert_eq!(read(inside(&first, "usr/file")), "image\n");

    let reason = stacking(whole(&second), open.as_fd()).unwrap().unwrap_err();
    assert!(reason.starts_with("the root filesystem is an overlay over an overlay, "), "{reason}");
    assert!(entries(&scratch).is_empty());
    std::fs::create_dir(layers.path("third")).unwrap();
    let error = mount_overlay(whole(&second), directory(&layers.path("third")), None).unwrap_err();
    assert!(matches!(error, Error::MountOverlay { .. }), "{error}");

    std::fs::create_dir(inside(&first, "scratch")).unwrap();
    let on_overlay = std::fs::File::open(inside(&first, "scratch")).unwrap();
    let reason = stacking(layers.bare(), on_overlay.as_fd()).unwrap().unwrap_err();
    assert!(reason.starts_with("an overlay's changes cannot be kept on an overlay "), "{reason}");
    assert!(entries(&inside(&first, "scratch")).is_empty());
}

#[test]
fn privileged_a_filesystem_that_keeps_no_marks_is_no_place_for_changes() {
    private_host();
    let layers = Layers::new("mkdir $LOWER/../scratch; mount -t ramfs none $LOWER/../scratch");
    let scratch = layers.path("scratch");
    let reason =
        stacking(layers.bare(), std::fs::File::open(&scratch).unwrap().as_fd()).unwrap().unwrap_err();
    assert!(reason.starts_with("the filesystem for the changes has no attributes"), "{reason}");
    assert!(entries(&scratch).is_empty());
    let overlay = mount_overlay(layers.bare(), directory(&scratch), None).unwrap();
    let error = mount_overlay(layers.bare(), directory(&scratch), None).unwrap_err();
    assert!(
        matches!(error, Error::OverlayBusy),
        "it has no file handles either, so this is asked otherwise: {error}"
    );
    drop(overlay);
    mount_overlay(layers.bare(), directory(&scratch), None).unwrap();
    shell("umount $DIR", &[("DIR", &scratch)]);
}

#[test]
fn privileged_the_same_changes_are_never_mounted_twice() {
    private_host();
    let layers = Layers::new("");
    assert!(!layers.is_in_use(), "there are none yet");
    let container = Container::start("mkdir $ROOT/usr", "");
    let mut overlay = layers.mount().unwrap();
    let refused = || {
        let error = layers.mount().unwrap_err();
        assert!(matches!(error, Error::OverlayBusy), "{error}");
        assert!(layers.is_in_use());
    };
    refused();
    let usr = part(&mut overlay, "usr");
    drop(overlay);
    refused();
    container.inject(vec![container.injection(usr, "/usr")]).unwrap();
    std::fs::write(container.path("/usr/file"), "kept").unwrap();
    refused();
    let mounts = container.mounts();
    let line = mounts.lines().find(|line| line.contains(" - overlay ")).unwrap();
    assert!(line.contains("redirect_dir=nofollow"), "{line}");
    for bad in ["index=on", "metacopy=on", "xino=on", "xino=auto", "nfs_export=on", "userxattr", "shared:"] {
        assert!(!line.contains(bad), "{bad}: {line}");
    }
    drop(container);
    layers.eventually_free();
    assert_eq!(entries(&layers.path("changes/work/work")), [""; 0], "a look leaves nothing");
    let overlay = layers.mount().unwrap();
    assert_eq!(read(inside(&overlay, "usr/file")), "kept");
}

/// Directories serve as mounts do: what is mounted below them is nobody's business.
#[test]
fn privileged_an_overlay_of_directories_has_nothing_that_is_mounted_below() {
    private_host();
    let layers = Layers::new(
        "echo image >$LOWER/usr/file; mkdir -p $LOWER/../changes/upper
         mount -t tmpfs none $LOWER/usr; echo secret >$LOWER/usr/secret",
    );
    let before = own_mounts();
    let lower = Rootfs::on_host(&layers.path("lower")).unwrap().into_directory();
    let changes = std::os::fd::OwnedFd::from(std::fs::File::open(layers.path("changes")).unwrap());
    let overlay = mount_overlay(lower, changes, None).unwrap();
    assert_eq!(entries(&inside(&overlay, "usr")), ["file"]);
    std::fs::write(inside(&overlay, "usr/file"), "changed").unwrap();
    assert_eq!(read(layers.path("changes/upper/usr/file")), "changed");
    assert!(layers.is_in_use());
    drop(overlay);
    assert!(!layers.is_in_use());
    assert_eq!(own_mounts(), before);
    shell("umount $LOWER/usr; cat $LOWER/usr/file", &[("LOWER", &layers.path("lower"))]);
}

/// What one look tells is what the kernel says when it is asked for a second overlay.
#[test]
fn privileged_the_last_overlay_leaves_a_trace() {
    private_host();
    let layers = Layers::new("");
    let trace = || trace(std::fs::File::open(layers.path("changes")).unwrap().as_fd()).unwrap();
    let told = |told| if cfg!(target_arch = "x86_64") { told } else { Trace::Untold };
    assert_eq!(trace(), Trace::Gone);
    let overlay = layers.mount().unwrap();
    assert_eq!((trace(), layers.is_in_use()), (told(Trace::There), true));
    let open = std::fs::File::open(inside(&overlay, "usr")).unwrap();
    drop(overlay);
    assert_eq!((trace(), layers.is_in_use()), (told(Trace::There), true), "a descriptor holds it");
    drop(open);
    // Another test's filesystem may have its number by now.
    assert!(!layers.is_in_use());
    let other_test = Instant::now() + Duration::from_secs(5);
    while trace() != told(Trace::Gone) && Instant::now() < other_test {
        drop(layers.mount().unwrap());
    }
    assert_eq!(trace(), told(Trace::Gone));

    // As an older version does it, which knows nothing of traces.
    let mount = "mount -t overlay -o lowerdir=lower,upperdir=changes/upper,workdir=changes/work none lower";
    shell(&format!("cd $FOLDER; {mount}"), &[("FOLDER", layers.folder.path())]);
    assert_eq!((trace(), layers.is_in_use()), (Trace::Untold, true));
    assert!(matches!(layers.mount(), Err(Error::OverlayBusy)));
    shell("umount $DIR", &[("DIR", &layers.path("lower"))]);
    assert_eq!((trace(), layers.is_in_use()), (Trace::Untold, false));
    let overlay = layers.mount().unwrap();
    assert_eq!(trace(), told(Trace::There));
    drop(overlay);
}

#[test]
fn privileged_of_many_at_once_one_gets_the_changes() {
    private_host();
    let layers = Layers::new("");
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| layers.mount())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1, "{lost:?}");
    assert!(lost.iter().all(|result| matches!(result, Err(Error::OverlayBusy))), "{lost:?}");
}

#[test]
fn privileged_a_container_that_is_just_going_is_waited_for() {
    private_host();
    let layers = Layers::new("");
    let going = layers.mount().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(8));
            drop(going);
        });
        layers.mount().unwrap();
    });
}

/// Looking for a moment must not cost another container its start.
#[test]
fn privileged_looking_whether_changes_are_in_use_does_not_disturb_their_next_user() {
    private_host();
    let layers = Layers::new("");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                layers.is_in_use();
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        let results: Vec<_> = (0..20).map(|_| layers.mount().map(drop)).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    });
}

/// The kernel would go on without its room for preparations, and the container would be the first to notice.
#[test]
fn privileged_an_overlay_that_would_be_read_only_is_refused() {
    private_host();
    let layers = Layers::new("");
    let image = ext4(&layers.path("image"));
    let changes = || mount_image(&image, &Image::new(SIZE, Filesystem::Ext4), ImageUse::Shared).unwrap();
    let held = changes();
    std::fs::create_dir(inside(&held, "work")).unwrap();
    shell("chattr +i $WORK", &[("WORK", &inside(&held, "work"))]);
    let error = mount_overlay(layers.bare(), changes(), None).unwrap_err();
    assert!(matches!(error, Error::OverlayReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("came up read-only"), "{error}");
    shell("chattr -i $WORK", &[("WORK", &inside(&held, "work"))]);
    mount_overlay(layers.bare(), changes(), None).unwrap();
}

const SIZE: u64 = 16 * 1024 * 1024;

fn ext4(image: &Path) -> PathBuf {
    shell("truncate -s 16M $IMAGE; mkfs.ext4 -q -b 4096 -m 0 $IMAGE", &[("IMAGE", image)]);
    image.to_owned()
}

#[test]
fn privileged_changes_can_be_kept_in_an_image_or_in_a_part_of_one() {
    private_host();
    let layers = Layers::new("echo image >$LOWER/usr/file");
    let image = ext4(&layers.path("image"));
    let before = own_mounts();
    let changes = || mount_image(&image, &Image::new(SIZE, Filesystem::Ext4), ImageUse::Shared).unwrap();
    let held = changes();
    let whole = mount_overlay(layers.bare(), changes(), None).unwrap();
    let deep = changes().subpath(&SubPath::new("deep/er").unwrap(), EntryKind::Directory).unwrap();
    let deep = mount_overlay(layers.bare(), deep, None).unwrap();
    std::fs::write(inside(&whole, "usr/file"), "whole").unwrap();
    std::fs::write(inside(&deep, "usr/file"), "deep").unwrap();
    assert_eq!(read(inside(&held, "upper/usr/file")), "whole");
    assert_eq!(read(inside(&held, "deep/er/upper/usr/file")), "deep");
    assert!(is_in_use(held.as_fd()).unwrap());
    drop(whole);
    assert!(!is_in_use(held.as_fd()).unwrap());
    drop(held);
    assert_eq!(read(inside(&deep, "usr/file")), "deep", "the overlay keeps its image");
    assert_eq!(own_mounts(), before);
}

#[test]
fn privileged_changes_behind_a_symlink_are_not_used() {
    private_host();
    let layers = Layers::new("");
    std::os::unix::fs::symlink(layers.path("lower"), layers.path("changes/upper")).unwrap();
    let error = layers.mount().unwrap_err();
    assert!(matches!(error, Error::OverlayChanges { .. }), "{error}");
}

#[test]
fn privileged_names_that_mean_something_to_overlayfs_do_no_harm() {
    private_host();
    let layers = Layers::new("");
    let name = format!("a:b,c\\d,upperdir=e\\:{}", "x".repeat(230));
    let (lower, changes) = (layers.path(&name).join("lower"), layers.path(&name).join("changes"));
    assert_eq!(name.len(), 250);
    std::fs::create_dir_all(&lower).unwrap();
    std::fs::create_dir(&changes).unwrap();
    std::fs::write(lower.join("file"), "image").unwrap();
    let overlay =
        mount_overlay(Rootfs::on_host(&lower).unwrap().bare().unwrap(), directory(&changes), None).unwrap();
    assert_eq!(read(inside(&overlay, "file")), "image");
    std::fs::write(inside(&overlay, "new"), "change").unwrap();
    assert_eq!(read(changes.join("upper/new")), "change");
}

#[test]
fn privileged_a_user_namespace_has_the_overlay_as_its_own() {
    private_host();
    let container = Container::start_with_users(
        "chmod 755 $DIR; mkdir -p $ROOT/usr/lib $ROOT/var; echo image >$ROOT/usr/file; chown -R 100000:100000 $ROOT
         mkdir $DIR/changes; echo engine >$DIR/conf",
        "touch $ROOT/etc/conf; mount --bind $DIR/conf $ROOT/etc/conf; mkdir $ROOT/var/deep
         mount -t tmpfs none $ROOT/var/deep; echo engine >$ROOT/var/deep/file",
    );
    let users = Users::of_process(&container.process()).unwrap().unwrap();
    let bare = || Rootfs::on_host(&container.root()).unwrap().bare().unwrap();
    let changes = container.folder.path().join("changes");
    let mut overlay = mount_overlay(bare(), directory(&changes), Some(&users)).unwrap();
    // As a container has left it: what is mounted there has to find a place again.
    std::fs::remove_file(inside(&overlay, "etc/conf")).unwrap();
    std::fs::remove_dir(inside(&overlay, "var/deep")).unwrap();
    let volumes = ["usr", "etc", "opt/made", "var"].map(|name| part(&mut overlay, name));
    let targets = ["/usr", "/etc", "/opt", "/var"];
    let injections =
        volumes.into_iter().zip(targets).map(|(volume, target)| container.injection(volume, target));
    container.inject(injections.collect()).unwrap();
    assert_eq!(container.read("/etc/conf"), "engine\n");
    assert_eq!(container.read("/var/deep/file"), "engine\n");

    let pid = container.pid().to_string();
    let script =
        "cd $0; echo changed >usr/file; echo x >usr/lib/new; echo x >opt/new; mkdir opt/dir; rm -r usr/lib
        stat -c '%u %g' usr usr/file opt opt/new etc";
    let output = std::process::Command::new("nsenter")
        .args(["--user", "--mount", "--target", &pid, "--setuid=0", "--setgid=0", "sh", "-euc", script])
        .arg(container.root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "0 0\n".repeat(5), "{}", String::from_utf8_lossy(&output.stderr));
    for path in
        ["", "usr", "usr/file", "opt", "opt/made", "opt/made/new", "opt/made/dir", "etc/conf", "var/deep"]
    {
        let stored = changes.join("upper").join(path).metadata().unwrap();
        assert_eq!((stored.uid(), stored.gid()), (0, 0), "{path:?} is stored as root's");
    }
    assert!(changes.join("upper/usr/lib").symlink_metadata().unwrap().file_type().is_char_device());
    assert_eq!(read(container.root().join("usr/file")), "image\n");
}

#[test]
fn privileged_an_overlay_for_one_user_namespace_is_not_for_another() {
    private_host();
    let container = Container::start_with_users("chown -R 100000:100000 $ROOT; mkdir $DIR/changes", "");
    let users = Users::of_process(&container.process()).unwrap().unwrap();
    let bare = Rootfs::on_host(&container.root()).unwrap().bare().unwrap();
    let changes = directory(&container.folder.path().join("changes"));
    let overlay = mount_overlay(bare, changes, Some(&users)).unwrap();
    let other = Container::start("mkdir $ROOT/data", "");
    let error = other.inject(vec![other.injection(overlay, "/data")]).unwrap_err();
    assert!(matches!(error, Error::OtherUsers { .. }), "{error}");
    assert!(Users::of_process(&other.process()).unwrap().is_none());
}
