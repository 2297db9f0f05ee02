//! Volumes as detached mounts, made in the host's mount namespace and attached nowhere in it.

use crate::btrfs;
use crate::error::Error;
use crate::loop_device;
use crate::loop_device::LoopDevice;
use crate::rootfs::deepest;
use crate::rootfs::entry_kind;
use crate::superblock;
use crate::superblock::Failed;
use crate::superblock::MountOption;
use crate::superblock::Wanted;
use crate::sys;
use crate::sys::Status;
use crate::sys::SyscallError;
use crate::users;
use crate::users::RootIds;
use crate::users::Users;
use crate::users::as_user;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::StatVfsMountFlags;
use rustix::fs::Uid;
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use volhook_core::decision::Directory;
use volhook_core::decision::EntryKind;
use volhook_core::decision::Filesystem;
use volhook_core::decision::Image;
use volhook_core::decision::Tmpfs;
use volhook_core::names::SubPath;
use volhook_locks::Held;
use volhook_locks::Lock;

/// How often a lock is tried, and how long to wait between: whoever looks whether an image is free
/// ([`image_is_free`]) holds its lock for an instant.
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// How long a command waits for the kernel to let go of an image that was unmounted.
const LETTING_GO: Duration = Duration::from_secs(1);

/// A mount that is attached nowhere. Dropped without being attached, it is gone, and an image's loop device with it.
#[derive(Debug)]
pub struct Detached {
    mount: OwnedFd,
    /// Whose root user files in it belong to where the host would say 0, if that was settled below this mount.
    mapped_for: Option<RootIds>,
}

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }
}

/// Makes a mount of the directory or file `source`, without the mounts below it (open_tree(2)).
///
/// The mount has the restrictions (`nosuid`, `nodev`, `noexec`, `ro`) of the mount on which `source` lies.
///
/// # Errors
/// [`Error::CloneDirectory`].
pub fn clone_directory(source: BorrowedFd<'_>) -> Result<Detached, Error> {
    sys::clone_mount(source).map(Detached::new).map_err(|source| Error::CloneDirectory { source })
}

/// Whether an image may be in use elsewhere at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageUse {
    /// It must not be.
    Exclusive,
    /// It may be, in another container of this host: both then use one loop device and one superblock.
    Shared,
}

/// Mounts a filesystem image, which is as `described`.
///
/// The image file is locked (flock(2)) before it is attached to a loop device. The device keeps that open file, so
/// the kernel holds the lock until the last mount is gone, whatever happens to the processes involved. The device
/// lets go of the file by itself then. The filesystem is always mounted read-write; read-only is a matter of the
/// single mount.
///
/// A larger file than described is accepted.
///
/// # Errors
/// [`Error::ImageMissing`], [`Error::OpenImage`], [`Error::ImageNotFile`], [`Error::ImageTruncated`];
/// [`Error::ImageBusy`] if it is locked; [`Error::ImageAttached`] if a loop device has it without that lock, or for
/// shared use more than one has it; [`Error::LoopDevice`], [`Error::MountImage`], [`Error::ImageReadOnly`],
/// [`Error::ImageElsewhere`].
pub fn mount_image(image: &Path, described: &Image, image_use: ImageUse) -> Result<Detached, Error> {
    let options = superblock::options(described.filesystem, Some(described.discard));
    mount_with(image, described, image_use, &options)
}

/// Gives a new filesystem the root directory that is `described`.
///
/// # Errors
/// Those of [`mount_image`], and [`Error::PrepareImage`].
pub fn prepare_image(image: &Path, described: &Image) -> Result<(), Error> {
    let options = superblock::options(described.filesystem, Some(false));
    let mount = mount_with(image, described, ImageUse::Exclusive, &options)?;
    let failed = |source| Error::PrepareImage { image: image.to_owned(), source };
    let root = sys::openat(mount.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
    let Directory { mode, uid, gid } = described.root;
    rustix::fs::fchown(&root, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(|errno| {
        failed(SyscallError::new(format!("fchown(the root directory, {uid}, {gid})"), errno))
    })?;
    // After the owner: changing that clears the set-id bits.
    rustix::fs::fchmod(&root, Mode::from_raw_mode(mode))
        .map_err(|errno| failed(SyscallError::new(format!("fchmod(the root directory, {mode:#o})"), errno)))
}

/// Removes the directory that mke2fs(8) puts into every ext4 and e2fsck(8) makes again when it needs it: programs that ask
/// for an empty directory refuse one with `lost+found` in it. One with something in it stays.
///
/// It is done here because it takes next to nothing while the filesystem is mounted anyway, and a second program as long
/// as mke2fs itself.
fn remove_lost_and_found(mount: &OwnedFd) -> sys::Result<()> {
    let root = sys::openat(mount.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    match sys::unlinkat(root.as_fd(), Path::new("lost+found"), AtFlags::REMOVEDIR) {
        Err(error)
            if ![Errno::NOENT, Errno::NOTEMPTY, Errno::NOTDIR].iter().any(|known| error.is(*known)) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

fn mount_with(
    image: &Path,
    described: &Image,
    image_use: ImageUse,
    options: &[MountOption],
) -> Result<Detached, Error> {
    let file = open_image(image, OFlags::RDWR)?;
    let status = image_status(image, file.as_fd())?;
    if status.size < described.size {
        return Err(Error::ImageTruncated {
            image: image.to_owned(),
            size: status.size,
            expected: described.size,
        });
    }
    let device = lock_and_attach(image, file, &status, image_use)?;
    mount_device(image, described.filesystem, image_use, &device, options)
    // `device` stays open until here: only the mount keeps the loop device from now on.
}

/// Mounts an image in whatever state it is in: on the loop device that has it already, or on a new one.
pub(crate) fn mount_anew(image: &Path, filesystem: Filesystem) -> Result<(LoopDevice, Detached), Error> {
    let file = open_image(image, OFlags::RDWR)?;
    let status = image_status(image, file.as_fd())?;
    let device = lock_and_attach(image, file, &status, ImageUse::Shared)?;
    let mount =
        mount_device(image, filesystem, ImageUse::Shared, &device, &superblock::options(filesystem, None))?;
    Ok((device, mount))
}

/// An image that nobody mounts as long as this lives.
#[derive(Debug)]
pub struct LockedImage {
    file: OwnedFd,
    _held: Held,
}

impl AsFd for LockedImage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Takes the lock of an image that is mounted nowhere, to work on its filesystem (flock(2)). One that was unmounted just now
/// is waited for: the kernel lets go of it in the background.
///
/// # Errors
/// [`Error::ImageMissing`], [`Error::OpenImage`], [`Error::ImageNotFile`]; [`Error::ImageBusy`] if it is mounted or
/// locked by another; [`Error::ImageAttached`] if a loop device has it without that lock; [`Error::LoopDevice`].
pub fn lock_image(image: &Path) -> Result<LockedImage, Error> {
    let file = open_image(image, OFlags::RDWR)?;
    let status = image_status(image, file.as_fd())?;
    let failed = |source| Error::LoopDevice { image: image.to_owned(), source };
    let held = volhook_locks::hold(Lock::Image);
    let patience = Instant::now() + LETTING_GO;
    loop {
        let locked = try_lock(image, file.as_fd())?;
        match (locked, loop_device::attached_to(&status).map_err(failed)?.pop()) {
            (true, None) => return Ok(LockedImage { file, _held: held }),
            (true, Some(device)) => {
                return Err(Error::ImageAttached { image: image.to_owned(), device: device.path });
            }
            (false, device) if Instant::now() >= patience => {
                return Err(Error::ImageBusy { image: image.to_owned(), device: device.map(|d| d.path) });
            }
            (false, _) => std::thread::sleep(LOCK_PAUSE),
        }
    }
}

/// Mounts an empty filesystem in memory.
///
/// # Errors
/// [`Error::MountTmpfs`].
pub fn mount_tmpfs(described: &Tmpfs) -> Result<Detached, Error> {
    let Directory { mode, uid, gid } = described.root;
    let mut options = vec![
        ("mode", Some(format!("{mode:o}"))),
        ("uid", Some(uid.to_string())),
        ("gid", Some(gid.to_string())),
    ];
    options.extend(described.size.map(|size| ("size", Some(size.to_string()))));
    options.extend(described.inodes.map(|inodes| ("nr_inodes", Some(inodes.to_string()))));
    let wanted = Wanted { kind: "tmpfs", source: "volhook", options: &options, exclusive: false };
    superblock::mount(&wanted)
        .map(Detached::new)
        .map_err(|Failed { source, log }| Error::MountTmpfs { log, source })
}

/// Whether no mount of the image exists, by the lock that [`mount_image`] leaves with the kernel.
///
/// # Errors
/// [`Error::ImageMissing`], [`Error::OpenImage`].
pub fn image_is_free(image: &Path) -> Result<bool, Error> {
    let file = open_image(image, OFlags::RDONLY)?;
    let taken = volhook_locks::try_take(Lock::Image, &file).map_err(|errno| not_locked(image, errno))?;
    Ok(taken.is_some())
}

pub(crate) fn open_image(image: &Path, access: OFlags) -> Result<OwnedFd, Error> {
    // O_NONBLOCK: what should be a file may be a FIFO that nobody writes to.
    sys::open(image, access | OFlags::NOFOLLOW | OFlags::NONBLOCK).map_err(|source| {
        if source.is(Errno::NOENT) {
            Error::ImageMissing { image: image.to_owned() }
        } else {
            Error::OpenImage { image: image.to_owned(), source }
        }
    })
}

fn image_status(image: &Path, file: BorrowedFd<'_>) -> Result<Status, Error> {
    let status =
        sys::newest_status(file).map_err(|source| Error::OpenImage { image: image.to_owned(), source })?;
    if status.kind == FileType::RegularFile {
        Ok(status)
    } else {
        Err(Error::ImageNotFile { image: image.to_owned() })
    }
}

fn try_lock(image: &Path, file: BorrowedFd<'_>) -> Result<bool, Error> {
    volhook_locks::wait(file, Instant::now()).map_err(|errno| not_locked(image, errno))
}

fn not_locked(image: &Path, errno: Errno) -> Error {
    let source = SyscallError::new(format!("flock({image:?}, LOCK_EX | LOCK_NB)"), errno);
    Error::OpenImage { image: image.to_owned(), source }
}

fn lock_and_attach(
    image: &Path,
    file: OwnedFd,
    status: &Status,
    image_use: ImageUse,
) -> Result<LoopDevice, Error> {
    let failed = |source| Error::LoopDevice { image: image.to_owned(), source };
    let _held = volhook_locks::hold(Lock::Image);
    for attempt in 1.. {
        let locked = try_lock(image, file.as_fd())?;
        let mut devices = loop_device::attached_to(status).map_err(failed)?;
        match (locked, devices.pop()) {
            (true, None) => return loop_device::attach(file.as_fd(), status).map_err(failed),
            (true, Some(device)) => {
                return Err(Error::ImageAttached { image: image.to_owned(), device: device.path });
            }
            (false, Some(device)) if image_use == ImageUse::Shared && devices.is_empty() => {
                return Ok(device);
            }
            (false, Some(device)) if image_use == ImageUse::Shared => {
                return Err(Error::ImageAttached { image: image.to_owned(), device: device.path });
            }
            (false, device) if attempt == LOCK_ATTEMPTS => {
                return Err(Error::ImageBusy { image: image.to_owned(), device: device.map(|d| d.path) });
            }
            (false, _) => std::thread::sleep(LOCK_PAUSE),
        }
    }
    unreachable!("the last attempt returns")
}

fn mount_device(
    image: &Path,
    filesystem: Filesystem,
    image_use: ImageUse,
    device: &LoopDevice,
    options: &[MountOption],
) -> Result<Detached, Error> {
    let failed = |log: String, source: SyscallError| Error::MountImage {
        image: image.to_owned(),
        filesystem: filesystem.as_str(),
        log,
        source,
    };
    let examined = |source| failed(String::new(), source);
    let exclusive = image_use == ImageUse::Exclusive;
    let wanted = Wanted { kind: filesystem.as_str(), source: &device.source, options, exclusive };
    let mount = superblock::mount(&wanted).map_err(|Failed { source, log }| failed(log, source))?;
    let number = sys::status(device.fd.as_fd()).map_err(examined)?.stands_for;
    if !is_on(mount.as_fd(), number).map_err(examined)? {
        return Err(Error::ImageElsewhere { image: image.to_owned(), device: device.path.clone() });
    }
    let flags = rustix::fs::fstatvfs(&mount)
        .map_err(|errno| examined(SyscallError::new("fstatvfs(the new mount)", errno)))?
        .f_flag;
    if flags.contains(StatVfsMountFlags::RDONLY) {
        return Err(Error::ImageReadOnly { image: image.to_owned() });
    }
    if filesystem == Filesystem::Ext4 {
        remove_lost_and_found(&mount).map_err(examined)?;
    }
    Ok(Detached::new(mount))
}

/// Whether `mount` shows the filesystem on `device`, as (major, minor): between the path of a device and the kernel's
/// looking it up somebody might change what it stands for.
pub(crate) fn is_on(mount: BorrowedFd<'_>, device: (u32, u32)) -> sys::Result<bool> {
    if btrfs::is_it(mount)? { btrfs::is_on(mount, device) } else { Ok(sys::status(mount)?.device == device) }
}

impl Detached {
    pub(crate) fn new(mount: OwnedFd) -> Self {
        Self { mount, mapped_for: None }
    }

    /// Says that the mount shows its files as those of `users` already, because what it is made of is idmapped
    /// (an overlay's layers). It is then not mapped once more, and what is made in it is made as their root user.
    #[must_use]
    pub fn mapped_for(self, users: &Users) -> Self {
        Self { mapped_for: Some(users.root()), ..self }
    }

    /// Whether it shows a directory.
    ///
    /// # Errors
    /// [`Error::CloneDirectory`].
    pub fn is_directory(&self) -> Result<bool, Error> {
        let found = sys::status(self.as_fd()).map_err(|source| Error::CloneDirectory { source })?;
        Ok(found.kind == FileType::Directory)
    }

    pub(crate) fn is_mapped_for(&self) -> Option<RootIds> {
        self.mapped_for
    }

    /// What is at `path` inside the volume; a symlink on the way counts as what is there. `None` if nothing is.
    ///
    /// # Errors
    /// [`Error::SubPath`].
    pub fn entry(&self, path: &Path) -> Result<Option<EntryKind>, Error> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let found = sys::openat2(self.as_fd(), path, OFlags::PATH | OFlags::NOFOLLOW, resolve)
            .and_then(|found| sys::status(found.as_fd()));
        match found {
            Ok(found) => Ok(Some(entry_kind(found.kind))),
            Err(error) if error.is(Errno::NOENT) => Ok(None),
            Err(error) if error.is(Errno::LOOP) => Ok(Some(EntryKind::Symlink)),
            Err(error) if error.is(Errno::NOTDIR) => Ok(Some(EntryKind::Other)),
            Err(source) => Err(Error::SubPath { path: path.display().to_string(), source }),
        }
    }

    /// Makes an empty directory at the top, of the root user of `users`, where the filesystem takes one. For whom it is nothing
    /// worse if there is none: it looks afterwards what is there.
    ///
    /// # Errors
    /// [`Error::SubPath`] where the filesystem would take one at another time: it is full, or fails.
    pub fn make_folder(&self, name: &str, users: Option<&Users>) -> Result<(), Error> {
        let make = || -> sys::Result<()> {
            sys::mkdirat(self.as_fd(), Path::new(name))?;
            let Some((user, group)) = users.map(Users::root) else { return Ok(()) };
            // By its descriptor: another container of the same files may have put something else there by now.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let folder = sys::openat(self.as_fd(), name, flags)?;
            rustix::fs::fchown(&folder, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
                .map_err(|errno| SyscallError::new(format!("fchown({name:?})"), errno))
        };
        // Others never take one: they are immutable, idmapped for others, or do not know what is wanted.
        let another_time = [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
        match make() {
            Err(source) if another_time.iter().any(|errno| source.is(*errno)) => {
                Err(Error::SubPath { path: name.to_owned(), source })
            }
            _ => Ok(()),
        }
    }

    /// A mount of only what is at `sub` inside the volume. If nothing is there, an empty entry of the kind
    /// `create` is made, with the directories above it.
    ///
    /// The content of a volume is a container's, so no symlink is followed.
    ///
    /// # Errors
    /// [`Error::SubPathSymlink`], [`Error::SubPathKind`] if `create` or what is there is neither a directory nor a
    /// regular file, [`Error::SubPath`], [`Error::Helper`].
    pub fn subpath(mut self, sub: &SubPath, create: EntryKind) -> Result<Self, Error> {
        self.part(sub, create)
    }

    /// [`Detached::subpath`] of a mount of which more is wanted.
    ///
    /// # Errors
    /// As for that.
    pub fn part(&mut self, sub: &SubPath, create: EntryKind) -> Result<Self, Error> {
        let failed = |source: SyscallError| {
            if source.is(Errno::LOOP) {
                Error::SubPathSymlink { path: sub.as_str().to_owned() }
            } else {
                Error::SubPath { path: sub.as_str().to_owned(), source }
            }
        };
        let wrong_kind = || Error::SubPathKind { path: sub.as_str().to_owned() };
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let found = deepest(self.as_fd(), sub.as_str(), resolve).map_err(failed)?;
        let entry = if found.missing.is_empty() {
            found.fd
        } else {
            if !matches!(create, EntryKind::Directory | EntryKind::File) {
                return Err(wrong_kind());
            }
            let make = || {
                if self.mapped_for.is_some() {
                    users::keep_capabilities()?;
                }
                Ok(as_user(self.mapped_for, || make_entries(found.fd, found.missing, create)))
            };
            sys::on_helper_thread(make)
                .and_then(|made| made)
                .map_err(|source| Error::Helper { source })?
                .map_err(failed)?
        };
        match sys::status(entry.as_fd()).map_err(failed)?.kind {
            FileType::Directory | FileType::RegularFile => {}
            _ => return Err(wrong_kind()),
        }
        match sys::clone_mount(entry.as_fd()) {
            Ok(mount) => Ok(Self { mount, mapped_for: self.mapped_for }),
            // Before Linux 6.15 only a mount that is attached somewhere can be cloned.
            Err(error) if error.is(Errno::INVAL) => self.part_attached(sub),
            Err(error) => Err(failed(error)),
        }
    }

    /// Clones the existing `sub` after attaching the volume in a mount namespace that nobody else sees.
    fn part_attached(&mut self, sub: &SubPath) -> Result<Self, Error> {
        let work = || -> sys::Result<(OwnedFd, OwnedFd)> {
            attach_privately(&[self.as_fd()])?;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            let entry = sys::openat2(self.as_fd(), Path::new(sub.as_str()), OFlags::PATH, resolve)?;
            Ok((sys::clone_mount(entry.as_fd())?, sys::clone_mount(self.as_fd())?))
        };
        let (part, whole) = sys::on_helper_thread(work)
            .map_err(|source| Error::Helper { source })?
            .map_err(|source| Error::SubPath { path: sub.as_str().to_owned(), source })?;
        // The mount that was attached is gone with its namespace.
        self.mount = whole;
        Ok(Self { mount: part, mapped_for: self.mapped_for })
    }
}

/// Attaches detached mounts in a new mount namespace of this thread, which must be its own: a helper's. They are there for
/// as long as the thread is.
pub(crate) fn attach_privately(mounts: &[BorrowedFd<'_>]) -> sys::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(|errno| SyscallError::new("unshare(CLONE_NEWNS)", Errno::from_raw_os_error(errno as i32)))?;
    sys::make_all_private()?;
    // What is on top of the thread's root hides nothing from it: paths start below.
    let place = sys::open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
    mounts.iter().try_for_each(|mount| sys::move_mount(*mount, place.as_fd()))
}

/// Makes `missing` below `directory`, its last component of the kind `last`, and opens that (`O_PATH`).
///
/// Nobody removes what was made: somebody else may have mounted something there meanwhile, in another mount namespace, and
/// would lose it (rmdir(2) and unlink(2) refuse only what is a mount point in the caller's own).
pub(crate) fn make_entries(directory: OwnedFd, missing: &str, last: EntryKind) -> sys::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let mut here = directory;
    let mut components = missing.split('/').filter(|component| !component.is_empty()).peekable();
    while let Some(component) = components.next() {
        let name = Path::new(component);
        let kind = if components.peek().is_some() { EntryKind::Directory } else { last };
        let result = match kind {
            EntryKind::Directory => sys::mkdirat(here.as_fd(), name),
            _ => sys::create_file_at(here.as_fd(), name),
        };
        match result {
            Ok(()) => {}
            // Another container of the same volume may have been faster.
            Err(error) if error.is(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        here = sys::openat2(here.as_fd(), name, OFlags::PATH, resolve)?;
    }
    Ok(here)
}

#[cfg(test)]
mod tests {
    use super::clone_directory;
    use std::os::fd::AsFd;
    use volhook_core::decision::EntryKind;
    use volhook_core::names::SubPath;

    /// The way of older kernels, which the public function does not take on newer ones.
    #[test]
    fn privileged_a_subpath_can_be_cloned_through_a_private_namespace() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/here"), "x").unwrap();
        let before = std::fs::read("/proc/thread-self/mountinfo").unwrap();
        let directory = std::fs::File::open(folder.path()).unwrap();
        let mut volume = clone_directory(directory.as_fd())
            .expect("mounting needs root: run the privileged_ tests as root");
        let part = volume.part_attached(&SubPath::new("a/b").unwrap()).unwrap();
        let again = volume.part_attached(&SubPath::new("a").unwrap()).unwrap();
        let found = rustix::fs::openat(&again, "b/here", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
        assert!(found.is_ok(), "more of it can be had: {found:?}");
        let found = rustix::fs::openat(&part, "here", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
        assert!(found.is_ok(), "{found:?}");
        assert_eq!(before, std::fs::read("/proc/thread-self/mountinfo").unwrap());
        assert_eq!(
            EntryKind::Directory,
            crate::rootfs::entry_kind(crate::sys::status(part.as_fd()).unwrap().kind)
        );
    }
}
