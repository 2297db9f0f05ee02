//! Directories and images as detached mounts, and what stays of them.

use crate::container::Container;
use crate::container::directory;
use crate::container::own_mounts;
use crate::container::private_host;
use crate::container::shell;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use volhook_core::decision::EntryKind;
use volhook_core::decision::Filesystem;
use volhook_core::decision::Image;
use volhook_core::names::SubPath;
use volhook_mounts::Error;
use volhook_mounts::source::Detached;
use volhook_mounts::source::ImageUse;
use volhook_mounts::source::image_is_free;
use volhook_mounts::source::mount_image;

const SIZE: u64 = 16 * 1024 * 1024;

fn image(folder: &Path) -> PathBuf {
    let path = folder.join("volume.img");
    shell("truncate -s 16M $IMAGE; mkfs.ext4 -q -b 4096 -m 0 $IMAGE", &[("IMAGE", &path)]);
    path
}

fn mount(image: &Path, image_use: ImageUse) -> Result<Detached, Error> {
    mount_image(image, &Image::new(SIZE, Filesystem::Ext4), image_use)
}

/// The loop devices that have the image, as losetup(8) sees it.
fn loops(image: &Path) -> String {
    shell("losetup -n -O NAME,AUTOCLEAR,DIO,LOG-SEC -j $IMAGE", &[("IMAGE", image)])
}

#[track_caller]
fn eventually_free(image: &Path) {
    let start = Instant::now();
    while !image_is_free(image).unwrap() || !loops(image).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(5), "still attached: {}", loops(image));
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn privileged_an_image_goes_with_its_container() {
    private_host();
    let mut container = Container::start("mkdir $ROOT/data", "");
    let image = image(container.folder.path());
    let before = own_mounts();
    let volume = mount(&image, ImageUse::Exclusive).unwrap();
    container.inject(vec![container.injection(volume, "/data")]).unwrap();
    std::fs::write(container.path("/data/file"), "kept").unwrap();
    let attached = loops(&image);
    let columns: Vec<&str> = attached.split_whitespace().collect();
    assert_eq!(columns[1..], ["1", "1", "4096"], "autoclear, direct I/O, block size: {attached}");
    assert!(!image_is_free(&image).unwrap());
    assert_eq!(own_mounts(), before);
    container.kill();
    eventually_free(&image);

    let again = Container::start("mkdir $ROOT/data", "");
    again.inject(vec![again.injection(mount(&image, ImageUse::Exclusive).unwrap(), "/data")]).unwrap();
    assert_eq!(again.read("/data/file"), "kept");
    drop(again);
    eventually_free(&image);
}

#[test]
fn privileged_a_mount_that_is_never_used_leaves_nothing() {
    private_host();
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    let volume = mount(&image, ImageUse::Exclusive).unwrap();
    assert!(!loops(&image).is_empty());
    drop(volume);
    eventually_free(&image);
}

/// As in a container that has `/dev/loop-control` and what nodes there were when it was made.
#[test]
fn privileged_a_loop_device_needs_no_node_in_dev() {
    private_host();
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    shell(
        "mkdir \"$DIR/dev\"; for node in loop-control null; do cp -a /dev/$node \"$DIR/dev\"; done
         mount --bind \"$DIR/dev\" /dev",
        &[("DIR", folder.path())],
    );
    for image_use in [ImageUse::Exclusive, ImageUse::Shared] {
        let mounted = mount(&image, image_use).unwrap();
        assert!(!image_is_free(&image).unwrap());
        drop(mounted);
        eventually_free(&image);
    }
    assert!(!Path::new("/dev/loop0").exists());
}

#[test]
fn privileged_an_exclusive_image_is_busy_for_a_second() {
    private_host();
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    let first = mount(&image, ImageUse::Exclusive).unwrap();
    let other_name = folder.path().join("hard-link");
    std::fs::hard_link(&image, &other_name).unwrap();
    for path in [&image, &other_name] {
        let error = mount(path, ImageUse::Exclusive).unwrap_err();
        assert!(matches!(&error, Error::ImageBusy { device: Some(_), .. }), "{error}");
        assert!(error.to_string().contains("is in use through /dev/loop"), "{error}");
    }
    drop(first);
    eventually_free(&image);
}

#[test]
fn privileged_shared_use_has_one_filesystem() {
    private_host();
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    let a = Container::start("mkdir $ROOT/data", "");
    let b = Container::start("mkdir $ROOT/data", "");
    for container in [&a, &b] {
        let volume = mount(&image, ImageUse::Shared).unwrap();
        container.inject(vec![container.injection(volume, "/data")]).unwrap();
    }
    std::fs::write(a.path("/data/file"), "from a").unwrap();
    assert_eq!(b.read("/data/file"), "from a");
    assert_eq!(a.path("/data").metadata().unwrap().dev(), b.path("/data").metadata().unwrap().dev());
    assert_eq!(loops(&image).lines().count(), 1);
    drop(a);
    assert_eq!(b.read("/data/file"), "from a");
    assert!(!image_is_free(&image).unwrap());
    drop(b);
    eventually_free(&image);
}

#[test]
fn privileged_of_many_at_once_one_gets_an_exclusive_image() {
    private_host();
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| mount(&image, ImageUse::Exclusive))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1, "{lost:?}");
    assert!(lost.iter().all(|result| matches!(result, Err(Error::ImageBusy { .. }))), "{lost:?}");
}

#[test]
fn privileged_different_images_at_once_each_get_a_device() {
    private_host();
    let folder = tempfile::tempdir().unwrap();
    let first = image(folder.path());
    let images: Vec<PathBuf> = (0..12).map(|n| folder.path().join(format!("{n}.img"))).collect();
    for image in &images {
        std::fs::copy(&first, image).unwrap();
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            images.iter().map(|image| scope.spawn(|| mount(image, ImageUse::Exclusive))).collect();
        let mounted: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect();
        assert_eq!(mounted.len(), 12);
        assert!(images.iter().all(|image| loops(image).lines().count() == 1));
    });
    images.iter().for_each(|image| eventually_free(image));
}

#[test]
fn privileged_looking_whether_an_image_is_free_does_not_disturb_its_next_user() {
    private_host();
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                image_is_free(&image).unwrap();
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        let results: Vec<_> = (0..20)
            .map(|_| {
                let result = mount(&image, ImageUse::Exclusive).map(drop);
                while !loops(&image).is_empty() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                result
            })
            .collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    });
}

#[test]
fn privileged_an_image_attached_by_hand_is_refused() {
    private_host();
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    let device = shell("losetup -f --show $IMAGE", &[("IMAGE", &image)]).trim().to_owned();
    let results = [ImageUse::Exclusive, ImageUse::Shared].map(|image_use| mount(&image, image_use));
    shell(&format!("losetup -d {device}"), &[]);
    for result in results {
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), format!("image {image:?} is already attached to {device}"));
    }
}

#[test]
fn privileged_an_image_that_is_not_as_made_is_refused() {
    private_host();
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.img");
    assert!(matches!(mount(&missing, ImageUse::Exclusive), Err(Error::ImageMissing { .. })));
    assert!(matches!(image_is_free(&missing), Err(Error::ImageMissing { .. })));
    assert!(matches!(mount(folder.path(), ImageUse::Exclusive), Err(Error::OpenImage { .. })));
    let fifo = folder.path().join("fifo");
    shell("mkfifo $FIFO; ln -s volume.img $LINK", &[("FIFO", &fifo), ("LINK", &folder.path().join("link"))]);
    assert!(matches!(mount(&fifo, ImageUse::Exclusive), Err(Error::ImageNotFile { .. })));

    let image = image(folder.path());
    assert!(matches!(mount(&folder.path().join("link"), ImageUse::Exclusive), Err(Error::OpenImage { .. })));
    let file = std::fs::File::options().write(true).open(&image).unwrap();
    file.set_len(SIZE - 1).unwrap();
    let error = mount(&image, ImageUse::Exclusive).unwrap_err();
    assert_eq!(error.to_string(), format!("image {image:?} is truncated: 16777215 bytes, expected 16777216"));
    file.set_len(0).unwrap();
    file.set_len(SIZE).unwrap();
    let error = mount(&image, ImageUse::Exclusive).unwrap_err();
    assert!(matches!(error, Error::MountImage { .. }), "{error}");
    eventually_free(&image);
}

#[test]
fn privileged_an_image_on_a_filesystem_without_direct_io_works() {
    private_host();
    let folder = tempfile::tempdir().unwrap();
    shell("mount -t ramfs none $DIR", &[("DIR", folder.path())]);
    let image = image(folder.path());
    let volume = mount(&image, ImageUse::Exclusive).unwrap();
    assert!(loops(&image).contains(" 1   0 "), "no direct I/O: {}", loops(&image));
    drop(volume);
    eventually_free(&image);
    shell("umount $DIR", &[("DIR", folder.path())]);
}

#[test]
fn privileged_parts_of_volumes_can_be_mounted() {
    private_host();
    let container = Container::start("mkdir $ROOT/data $ROOT/part", "");
    let image = image(container.folder.path());
    let sub = |path: &str| SubPath::new(path).unwrap();
    let whole = mount(&image, ImageUse::Shared).unwrap();
    let part = mount(&image, ImageUse::Shared).unwrap().subpath(&sub("a/b"), EntryKind::Directory).unwrap();
    container.inject(vec![container.injection(whole, "/data"), container.injection(part, "/part")]).unwrap();
    std::fs::write(container.path("/part/file"), "x").unwrap();
    assert_eq!(container.read("/data/a/b/file"), "x");
}

#[test]
fn privileged_a_subpath_does_not_leave_the_volume() {
    private_host();
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("volume");
    shell(
        "mkdir -p $V/dir; cd $V; ln -s /etc out; ln -s dir in; mkfifo fifo; echo x >file",
        &[("V", &volume)],
    );
    let part = |path: &str, kind| directory(&volume).subpath(&SubPath::new(path).unwrap(), kind);
    for path in ["out", "out/passwd", "in", "in/new"] {
        let error = part(path, EntryKind::Directory).unwrap_err();
        assert!(matches!(error, Error::SubPathSymlink { .. }), "{path}: {error}");
    }
    assert!(matches!(part("fifo", EntryKind::File), Err(Error::SubPathKind { .. })));
    assert!(matches!(part("new", EntryKind::Symlink), Err(Error::SubPathKind { .. })));
    assert!(matches!(part("file/new", EntryKind::File), Err(Error::SubPath { .. })));
    part("dir/new/deep", EntryKind::File).unwrap();
    assert!(volume.join("dir/new/deep").is_file());
    part("file", EntryKind::Directory).unwrap();
}
