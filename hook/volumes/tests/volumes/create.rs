//! What a creation makes, and that a failed one leaves nothing.

use crate::fixture::UUID;
use crate::fixture::at;
use crate::fixture::directory;
use crate::fixture::fresh;
use crate::fixture::image;
use crate::fixture::image as image_volume;
use crate::fixture::root;
use crate::fixture::soon;
use crate::fixture::store;
use crate::fixture::tree;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Instant;
use volhook_core::decision::Backing;
use volhook_core::decision::Device;
use volhook_core::decision::Directory;
use volhook_core::decision::Filesystem;
use volhook_core::decision::HostPath;
use volhook_core::decision::Image;
use volhook_core::decision::Tmpfs;
use volhook_core::names::AbsolutePath;
use volhook_core::volume::Volume;
use volhook_mounts::source;
use volhook_mounts::source::ImageUse;
use volhook_volumes::Created;
use volhook_volumes::Store;
use volhook_volumes::StoreError;

#[test]
fn a_directory_volume_is_made_as_described_and_found_again() {
    let (folder, store) = store();
    let root = root(&folder);
    let volume = directory("v1");
    assert_eq!(store.find(&volume.id).unwrap(), None);
    assert!(!root.exists(), "looking makes nothing");
    assert_eq!(store.create(&volume, soon()).unwrap(), Created::New(volume.clone()));
    assert_eq!(store.find(&volume.id).unwrap(), Some(volume.clone()));
    assert_eq!(
        tree(&root),
        [
            "staging",
            "volumes",
            "volumes/default",
            "volumes/default/v1",
            "volumes/default/v1/data",
            "volumes/default/v1/volume.json"
        ]
    );
    let data = std::fs::metadata(root.join("volumes/default/v1/data")).unwrap();
    assert_eq!((data.mode() & 0o7777, data.uid(), data.gid()), (0o1750, 1000, 2000));
    for private in ["", "staging", "volumes", "volumes/default", "volumes/default/v1"] {
        let metadata = std::fs::metadata(root.join(private)).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o700, 0), "{private:?}");
    }
    let opened = std::fs::File::from(store.open_directory(&volume).unwrap()).metadata().unwrap();
    assert_eq!(opened.ino(), data.ino());

    let mut other = volume.clone();
    other.driver = "block".to_owned();
    other.uuid = UUID.replace('6', "7");
    assert_eq!(store.create(&other, soon()).unwrap(), Created::Existing(volume));
    assert_eq!(tree(&root.join("staging")), Vec::<String>::new());
}

#[test]
fn the_sidecar_is_written_as_it_was() {
    let (folder, store) = store();
    store.create(&directory("v1"), soon()).unwrap();
    let path = root(&folder).join("volumes/default/v1/volume.json");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), include_str!("volume-1.json"));
    assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn privileged_an_image_volume_is_a_sparse_ext4_with_blocks_of_4096_bytes_and_empty() {
    let (folder, store) = store();
    let volume = image("v1", 8 << 20);
    store.create(&volume, soon()).unwrap();
    let path = store.image_path(&volume);
    assert_eq!(path, root(&folder).join("volumes/default/v1/volume.img"));
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!((metadata.len(), metadata.mode() & 0o7777), (8 << 20, 0o600));
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks are allocated", metadata.blocks());
    assert_eq!(store.size(&volume).unwrap(), metadata.blocks() * 512);

    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).arg(&path).output().unwrap();
        assert!(output.status.success(), "{program}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let header = said("/usr/sbin/dumpe2fs", &["-h"]);
    let field = |name: &str| {
        let line = header.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {header}")).trim().to_owned()
    };
    assert_eq!(field("Block size:"), "4096");
    assert_eq!(field("Reserved block count:"), "0");
    assert_eq!(field("Filesystem UUID:"), UUID);
    assert!(field("Filesystem features:").contains("has_journal"));
    said("/usr/sbin/e2fsck", &["-fn"]);
    let Backing::Image(image) = &volume.backing else { panic!("it is an image") };
    let mount = source::mount_image(&path, image, ImageUse::Exclusive).unwrap();
    let mut names: Vec<_> = rustix::fs::Dir::read_from(root_of(&mount))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, [".", ".."], "a new volume is empty");
}

fn root_of(mount: impl AsFd) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(mount, ".", flags, Mode::empty()).unwrap()
}

#[test]
fn privileged_every_filesystem_gets_its_uuid_owner_and_settings() {
    for (filesystem, size) in
        [(Filesystem::Ext4, 8 << 20), (Filesystem::Xfs, 300 << 20), (Filesystem::Btrfs, 109 << 20)]
    {
        let (_folder, store) = store();
        let root = Directory { mode: 0o2750, uid: 1000, gid: 2000 };
        let mkfs = vec![("label".to_owned(), "mine".to_owned())];
        let image = Image { root, mkfs, ..Image::new(size, filesystem) };
        let volume = Volume { backing: Backing::Image(image.clone()), ..image_volume("v1", size) };
        store.create(&volume, soon()).unwrap();
        let path = store.image_path(&volume);
        let said = Command::new("blkid").args(["-p", "-o", "export"]).arg(&path).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        for line in [format!("UUID={UUID}"), "LABEL=mine".to_owned(), format!("TYPE={}", filesystem.as_str())]
        {
            assert!(said.lines().any(|said| said == line), "no {line} in {said}");
        }
        let mount =
            volhook_mounts::source::mount_image(&path, &image, volhook_mounts::source::ImageUse::Exclusive)
                .unwrap();
        let stat = rustix::fs::fstat(&mount).unwrap();
        assert_eq!((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid), (0o2750, 1000, 2000));
    }
}

#[test]
fn privileged_a_preallocated_image_has_no_holes() {
    for filesystem in [Filesystem::Ext4, Filesystem::Btrfs] {
        let (_folder, store) = store();
        let size = 120 << 20;
        let image = Image { preallocated: true, ..Image::new(size, filesystem) };
        let volume = Volume { backing: Backing::Image(image), ..image_volume("v1", size) };
        store.create(&volume, soon()).unwrap();
        assert!(store.size(&volume).unwrap() >= size);
    }
}

#[test]
fn what_is_not_the_stores_has_only_a_record() {
    let (folder, store) = store();
    let host = folder.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "the host's").unwrap();
    let path = AbsolutePath::new(host.to_str().unwrap()).unwrap();
    for (name, backing) in [
        ("memory", Backing::Tmpfs(Tmpfs { size: Some(1), inodes: None, root: Directory::default() })),
        ("path", Backing::HostPath(HostPath { path: path.clone() })),
        ("device", Backing::Device(Device { path, filesystem: Filesystem::Xfs })),
    ] {
        let volume = fresh(Volume { backing, ..directory(name) });
        store.create(&volume, soon()).unwrap();
        assert_eq!(store.find(&volume.id).unwrap(), Some(volume.clone()));
        assert_eq!(store.size(&volume).unwrap(), 0);
        assert!(matches!(store.open_directory(&volume), Err(StoreError::OtherBacking { .. })));
        assert!(matches!(store.open_image(&volume), Err(StoreError::OtherBacking { .. })));
        let volumes = root(&folder).join("volumes/default");
        assert_eq!(tree(&volumes.join(name)), ["volume.json"]);
        store.discard(&volume, at(0)).unwrap();
    }
    store.empty_trash(at(1), soon()).unwrap();
    assert!(store.trash().unwrap().volumes.is_empty());
    assert_eq!(std::fs::read_to_string(host.join("file")).unwrap(), "the host's");
}

#[test]
fn privileged_a_missing_or_truncated_image_is_named() {
    let (_folder, store) = store();
    let volume = image("v1", 8 << 20);
    store.create(&volume, soon()).unwrap();
    store.open_image(&volume).unwrap();
    assert!(matches!(store.open_directory(&volume), Err(StoreError::OtherBacking { .. })));
    let path = store.image_path(&volume);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(5000).unwrap();
    let error = store.open_image(&volume).unwrap_err();
    assert!(matches!(error, StoreError::ImageTruncated { have: 5000, want: 8_388_608, .. }), "{error:?}");
    std::fs::remove_file(&path).unwrap();
    let error = store.open_image(&volume).unwrap_err();
    assert!(matches!(error, StoreError::ImageMissing { .. }), "{error:?}");
    assert!(error.to_string().contains("v1") && error.to_string().contains(&path.display().to_string()));
    std::fs::create_dir(&path).unwrap();
    assert!(store.open_image(&volume).is_err());
    std::fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert!(matches!(store.open_image(&volume), Err(StoreError::Foreign { .. })));
}

fn nothing_left(store: &Store, folder: &tempfile::TempDir) {
    let left: Vec<_> = tree(folder.path())
        .into_iter()
        .filter(|path| {
            !["state", "state/staging", "state/volumes", "state/volumes/default"].contains(&&**path)
        })
        .collect();
    assert_eq!(left, Vec::<String>::new());
    assert!(store.list().unwrap().volumes.is_empty());
}

#[test]
fn a_size_that_the_filesystem_can_never_hold_leaves_nothing() {
    let (folder, store) = store();
    for size in [1 << 55, u64::MAX] {
        let error = store.create(&image("v1", size), soon()).unwrap_err();
        assert!(matches!(error, StoreError::LargerThanFilesystem { .. }), "{error:?}");
        nothing_left(&store, &folder);
    }
}

#[test]
fn an_image_too_small_for_a_filesystem_leaves_nothing() {
    let (folder, store) = store();
    let error = store.create(&image("v1", 8192), soon()).unwrap_err();
    assert!(
        matches!(&error, StoreError::ProgramFailed { program: "mkfs.ext4", output, .. }
        if output.contains("Not enough space")),
        "{error:?}"
    );
    nothing_left(&store, &folder);
}

#[test]
fn a_deadline_leaves_nothing() {
    let (folder, store) = store();
    let error = store.create(&image("v1", 8 << 20), Instant::now()).unwrap_err();
    assert!(matches!(error, StoreError::ProgramUnfinished { program: "mkfs.ext4", .. }), "{error:?}");
    nothing_left(&store, &folder);
}

#[test]
fn what_cannot_be_carried_out_is_refused_first() {
    let (folder, store) = store();
    let mut no_mode = directory("v1");
    let mut no_uuid = directory("v1");
    let mut no_format = directory("v1");
    if let Backing::Directory(directory) = &mut no_mode.backing {
        directory.mode = 0o10_000;
    }
    no_uuid.uuid = "../../etc".to_owned();
    no_format.format += 1;
    for volume in [no_mode, no_uuid, no_format] {
        let error = store.create(&volume, soon()).unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
        assert_eq!(tree(folder.path()), Vec::<String>::new());
    }
}

const FULL: &str = "VOLUMES_TEST_FULL";

/// Runs itself once more in a mount namespace with a filesystem of 100 KiB.
#[test]
fn privileged_a_full_disk_leaves_nothing_behind() {
    let Some(small) = std::env::var_os(FULL) else {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"mount -t tmpfs -o size=100k none "$1" && exec "$2" --exact --nocapture "$3""#;
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-ec", script, "sh"])
            .arg(folder.path())
            .arg(std::env::current_exe().unwrap())
            .arg("create::privileged_a_full_disk_leaves_nothing_behind")
            .env(FULL, folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "run this as root: {output:?}");
        assert!(said.contains("both failed as they should"), "{said}");
        return;
    };
    let store = Store::new(std::path::Path::new(&small));
    std::fs::write(std::path::Path::new(&small).join("filler"), vec![1; 60 << 10]).unwrap();
    let tree_before = || {
        let mut tree = tree(std::path::Path::new(&small));
        tree.retain(|path| !["filler", "staging", "volumes", "volumes/default"].contains(&&**path));
        tree
    };
    let mut large = directory("v1");
    large.labels = vec![("a".to_owned(), "b".repeat(90 << 10))];
    let error = store.create(&large, soon()).unwrap_err();
    assert!(matches!(error, StoreError::Create { step: "write", .. }), "{error:?}");
    assert_eq!(tree_before(), Vec::<String>::new());
    // The size fits the filesystem, what mkfs writes does not fit what is left of it.
    let error = store.create(&image("v2", 96 << 10), soon()).unwrap_err();
    assert!(matches!(error, StoreError::ProgramFailed { .. }), "{error:?}");
    assert_eq!(tree_before(), Vec::<String>::new());
    println!("both failed as they should");
}

#[test]
fn leftovers_are_what_is_old_and_nobody_locks() {
    let (folder, store) = store();
    assert_eq!(store.leftovers().unwrap(), Vec::<std::path::PathBuf>::new());
    store.create(&directory("v1"), soon()).unwrap();
    let staging = root(&folder).join("staging");
    let names = ["11111111", "22222222", "33333333"].map(|start| format!("{start}{}", &UUID[8..]));
    for name in names.iter().map(String::as_str).chain(["notes"]) {
        std::fs::create_dir(staging.join(name)).unwrap();
    }
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let opened = names.clone().map(|name| std::fs::File::open(staging.join(name)).unwrap());
    // The third is young: its creator may be about to lock it.
    opened[0].set_modified(long_ago).unwrap();
    opened[1].set_modified(long_ago).unwrap();
    opened[1].lock().unwrap();
    let before = tree(&root(&folder));
    assert_eq!(store.leftovers().unwrap(), [staging.join(&names[0])]);
    assert_eq!(tree(&root(&folder)), before, "looking changes nothing");
    store.clean_staging(soon()).unwrap();
    assert_eq!(store.leftovers().unwrap(), Vec::<std::path::PathBuf>::new());
}
