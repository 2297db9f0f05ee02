//! Making the filesystem image of a new volume.

use crate::check;
use crate::create;
use crate::error::StoreError;
use crate::files;
use crate::program::Program;
use crate::storage;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;
use volhook_core::decision::Directory;
use volhook_core::decision::Filesystem;
use volhook_core::decision::Image;
use volhook_core::decision::Population;
use volhook_core::mkfs;
use volhook_core::volume::Volume;
use volhook_mounts::source;
use volhook_mounts::source::ImageUse;

/// Makes the filesystem of `volume` in the empty `file` at `path`, which is `described`, with the folders that a
/// `population` of a pod's volumes needs.
///
/// # Errors
/// Those of [`Store::create`](crate::Store::create) that are about images.
pub(crate) fn make(
    volume: &Volume,
    described: &Image,
    file: &OwnedFd,
    path: &Path,
    population: Option<Population>,
    deadline: Instant,
) -> Result<(), StoreError> {
    let failed = |step: &'static str| {
        let failed = create::failed(volume, step, path.to_owned());
        move |errno: Errno| failed(errno.into())
    };
    let filesystem = rustix::fs::fstatvfs(file).map_err(failed("examine the filesystem of"))?;
    let bytes = |blocks: u64| blocks.saturating_mul(filesystem.f_frsize);
    let size = described.size;
    if size > bytes(filesystem.f_blocks) {
        return Err(StoreError::LargerThanFilesystem {
            volume: volume.id.clone(),
            path: path.to_owned(),
            size,
            capacity: bytes(filesystem.f_blocks),
        });
    }
    let no_room =
        |free: u64| StoreError::NoRoom { volume: volume.id.clone(), path: path.to_owned(), size, free };
    if described.preallocated && size > bytes(filesystem.f_bavail) {
        return Err(no_room(bytes(filesystem.f_bavail)));
    }
    rustix::fs::ftruncate(file, size).map_err(failed("extend"))?;
    make_filesystem(volume, described, path, deadline)?;
    if described.root != as_made(described) {
        source::prepare_image(path, described)
            .map_err(|source| StoreError::Prepare { volume: volume.id.clone(), source: Box::new(source) })?;
    }
    if let Some(population) = population {
        let prepare = |source| StoreError::Prepare { volume: volume.id.clone(), source: Box::new(source) };
        let mount = source::mount_image(path, described, ImageUse::Exclusive).map_err(prepare)?;
        let made = files::folder_on_same_mount(&mount, c".").map_err(io::Error::from).and_then(|top| {
            storage::lay_out(top.as_fd(), population)?;
            Ok(volhook_locks::flush_filesystem(&top)?)
        });
        made.map_err(create::failed(volume, "make the folders of", path.to_owned()))?;
        drop(mount);
        // Who creates a volume mounts it next.
        check::lock_soon(path).map_err(prepare)?;
    }
    if described.preallocated {
        // Last, so that nothing above can punch holes again.
        match rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size)) {
            Ok(()) => {}
            Err(Errno::NOSPC | Errno::DQUOT) => {
                let now = rustix::fs::fstatvfs(file).map_err(failed("examine the filesystem of"))?;
                return Err(no_room(now.f_bavail.saturating_mul(now.f_frsize)));
            }
            Err(errno) => return Err(failed("allocate")(errno)),
        }
    }
    Ok(())
}

/// The root directory that the filesystem's maker makes: mke2fs(8) can be told whose it is.
fn as_made(described: &Image) -> Directory {
    let made = Directory::default();
    match described.filesystem {
        Filesystem::Ext4 => Directory { mode: made.mode, ..described.root.clone() },
        Filesystem::Xfs | Filesystem::Btrfs => made,
    }
}

fn make_filesystem(
    volume: &Volume,
    described: &Image,
    path: &Path,
    deadline: Instant,
) -> Result<(), StoreError> {
    let uuid = volume.uuid.as_str();
    let Directory { uid, gid, .. } = described.root;
    let extended = format!("lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner={uid}:{gid}");
    // Blocks of 4096 bytes, which direct I/O on a loop device may need; nothing is reserved for root, and nothing is
    // written or discarded that the kernel can write later.
    let (program, package, own) = match described.filesystem {
        Filesystem::Ext4 => {
            ("mkfs.ext4", "e2fsprogs", vec!["-F", "-q", "-b", "4096", "-m", "0", "-U", uuid, "-E", &extended])
        }
        Filesystem::Xfs => {
            ("mkfs.xfs", "xfsprogs", vec!["-f", "-q", "-K", "-b", "size=4096", "-s", "size=4096"])
        }
        Filesystem::Btrfs => ("mkfs.btrfs", "btrfs-progs", vec!["-f", "-q", "-K", "-s", "4096", "-U", uuid]),
    };
    let settings = mkfs::arguments(described.filesystem, &described.mkfs)
        .map_err(|source| StoreError::MkfsSetting { volume: volume.id.clone(), source })?;
    let mut program = Program::find("create", &volume.id, program, package)?.args(own).args(settings);
    if described.filesystem == Filesystem::Xfs {
        program = program.args(["-m", &format!("uuid={uuid}")]);
    }
    program.args([path]).run(&[0], deadline)?;
    Ok(())
}
