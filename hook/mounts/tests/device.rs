//! Block devices as detached mounts, and filesystems in memory.

use crate::container::Container;
use crate::container::private_host;
use crate::container::shell;
use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use volhook_core::decision::Directory;
use volhook_core::decision::Filesystem;
use volhook_core::decision::Tmpfs;
use volhook_mounts::Error;
use volhook_mounts::device::check_device;
use volhook_mounts::device::device_is_free;
use volhook_mounts::device::mount_device;
use volhook_mounts::source::mount_tmpfs;

/// A loop device of the host's, as a device of its own.
struct Disk(PathBuf);

impl Disk {
    fn new(folder: &Path, make: &str) -> Self {
        let file = folder.join("disk");
        let script = format!("truncate -s 320M $FILE; {make} $FILE >&2; losetup --find --show $FILE");
        Self(PathBuf::from(shell(&script, &[("FILE", &file)]).trim()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        shell("losetup --detach $DEVICE", &[("DEVICE", &self.0)]);
    }
}

fn eventually_free(device: &Path) {
    let start = Instant::now();
    while !device_is_free(device).unwrap() {
        assert!(start.elapsed() < Duration::from_secs(5), "{device:?} is still in use");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn privileged_a_device_is_in_use_as_long_as_a_mount_of_it_is_there() {
    private_host();
    for (filesystem, make) in [
        (Filesystem::Ext4, "mkfs.ext4 -q"),
        (Filesystem::Xfs, "mkfs.xfs -q"),
        (Filesystem::Btrfs, "mkfs.btrfs -q"),
    ] {
        let container = Container::start("mkdir $ROOT/data", "");
        let disk = Disk::new(container.folder.path(), make);
        assert!(device_is_free(&disk.0).unwrap());
        let volume = mount_device(&disk.0, filesystem).unwrap();
        container.inject(vec![container.injection(volume, "/data")]).unwrap();
        std::fs::write(container.path("/data/file"), "kept").unwrap();
        assert!(!device_is_free(&disk.0).unwrap());
        let error = mount_device(&disk.0, filesystem).unwrap_err();
        assert!(matches!(error, Error::DeviceBusy { mounted_on: None, .. }), "{error:?}");
        drop(container);
        eventually_free(&disk.0);
        drop(mount_device(&disk.0, filesystem).unwrap());
        eventually_free(&disk.0);
    }
}

#[test]
fn privileged_what_is_no_device_with_that_filesystem_is_refused() {
    private_host();
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path(), "mkfs.ext4 -q");
    let error = mount_device(&disk.0, Filesystem::Xfs).unwrap_err();
    assert!(matches!(error, Error::MountDevice { filesystem: "xfs", .. }), "{error:?}");
    for (path, missing) in [("/dev/null", false), ("/dev/absent", true)] {
        let (checked, mounted) =
            (check_device(Path::new(path)), mount_device(Path::new(path), Filesystem::Ext4).map(drop));
        for error in [checked.unwrap_err(), mounted.unwrap_err()] {
            let as_expected = match error {
                Error::DeviceMissing { .. } => missing,
                Error::NotBlockDevice { .. } => !missing,
                _ => false,
            };
            assert!(as_expected, "{path}: {error:?}");
        }
    }
    assert!(device_is_free(Path::new("/dev/absent")).unwrap());
}

#[test]
fn privileged_memory_is_as_described_and_empty() {
    private_host();
    let root = Directory { mode: 0o1750, uid: 5, gid: 6 };
    let mount = mount_tmpfs(&Tmpfs { size: Some(1 << 20), inodes: Some(50), root }).unwrap();
    let stat = rustix::fs::fstat(mount.as_fd()).unwrap();
    assert_eq!((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid), (0o1750, 5, 6));
    let filesystem = rustix::fs::fstatvfs(mount.as_fd()).unwrap();
    assert_eq!((filesystem.f_blocks * filesystem.f_frsize, filesystem.f_files), (1 << 20, 50));
}
