//! System calls as this crate uses them: always close-on-exec, and with their arguments in the error.

use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::StatxFlags;
use rustix::io::Errno;
use rustix::mount::MoveMountFlags;
use rustix::mount::OpenTreeFlags;
use rustix::mount::UnmountFlags;
use std::ffi::OsString;
use std::fmt;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

/// A system call that failed, with its arguments.
#[derive(Debug)]
pub struct SyscallError {
    call: String,
    errno: Errno,
}

impl SyscallError {
    /// The failure of `call` (its name and arguments) with the error number `errno` (errno(3)).
    #[must_use]
    pub fn from_raw_os_error(call: &str, errno: i32) -> Self {
        Self { call: call.to_owned(), errno: Errno::from_raw_os_error(errno) }
    }

    pub(crate) fn new(call: impl Into<String>, errno: Errno) -> Self {
        Self { call: call.into(), errno }
    }

    /// Whether the kernel does not have this call, or something that looks at calls (seccomp(2)) says so.
    #[must_use]
    pub fn is_not_supported(&self) -> bool {
        self.errno == Errno::NOSYS
    }

    /// The error as a number (errno(3)).
    #[must_use]
    pub fn raw_os_error(&self) -> i32 {
        self.errno.raw_os_error()
    }

    pub(crate) fn is(&self, errno: Errno) -> bool {
        self.errno == errno
    }
}

impl fmt::Display for SyscallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.errno)
    }
}

impl std::error::Error for SyscallError {}

pub(crate) type Result<T> = std::result::Result<T, SyscallError>;

/// How often openat2(2) is tried again: with `RESOLVE_IN_ROOT` it gives up on `..` whenever anything on the host
/// was renamed or mounted meanwhile.
const OPENAT2_ATTEMPTS: u32 = 1000;

/// `fd` for messages, by the path that it has now.
fn name(fd: BorrowedFd<'_>) -> String {
    match fd_path(fd) {
        Ok(path) => format!("fd of {path:?}"),
        Err(_) => format!("fd {}", fd.as_raw_fd()),
    }
}

/// The path of `fd` from the root of the mount namespace in which it lies (`/proc/PID/fd/N`, proc_pid_fd(5)).
pub(crate) fn fd_path(fd: BorrowedFd<'_>) -> Result<PathBuf> {
    let link = format!("/proc/thread-self/fd/{}", fd.as_raw_fd());
    let path = rustix::fs::readlink(&link, Vec::new())
        .map_err(|e| SyscallError::new(format!("readlink({link:?})"), e))?;
    Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
}

/// openat2(2). `O_CLOEXEC` is added, and links that only the kernel can follow never are.
pub(crate) fn openat2(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    let mut attempts = 0;
    loop {
        let opened = rustix::fs::openat2(
            dir,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve | ResolveFlags::NO_MAGICLINKS,
        );
        match opened {
            Err(Errno::AGAIN | Errno::INTR) if attempts < OPENAT2_ATTEMPTS => attempts += 1,
            result => {
                return result.map_err(|e| {
                    SyscallError::new(format!("openat2({}, {path:?}, {flags:?}, {resolve:?})", name(dir)), e)
                });
            }
        }
    }
}

/// openat(2) for trees that the kernel or the host's administrator made. `O_CLOEXEC` is added.
pub(crate) fn openat(dir: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::openat(dir, path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| SyscallError::new(format!("openat({}, {path:?}, {flags:?})", name(dir)), e))
}

/// open(2) for paths of the host. `O_CLOEXEC` is added.
pub(crate) fn open(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| SyscallError::new(format!("open({path:?}, {flags:?})"), e))
}

/// All bytes of the file `path` below `dir`.
pub(crate) fn read_at(dir: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>> {
    let failed = |errno| SyscallError::new(format!("read({path:?} below {})", name(dir)), errno);
    read_all(&openat(dir, path, OFlags::RDONLY)?).map_err(failed)
}

/// All bytes of a file of the host.
pub(crate) fn read(path: &str) -> Result<Vec<u8>> {
    let failed = |errno| SyscallError::new(format!("read({path:?})"), errno);
    read_all(&open(Path::new(path), OFlags::RDONLY)?).map_err(failed)
}

/// Reads in large pieces: files of proc(5) are made anew for each read.
fn read_all(file: &OwnedFd) -> std::result::Result<Vec<u8>, Errno> {
    let mut bytes = Vec::with_capacity(16 * 1024);
    loop {
        bytes.reserve(8 * 1024);
        match rustix::io::read(file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

pub(crate) fn mkdirat(dir: BorrowedFd<'_>, entry: &Path) -> Result<()> {
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(dir, entry, mode)
        .map_err(|e| SyscallError::new(format!("mkdirat({}, {entry:?}, 0o755)", name(dir)), e))
}

/// Makes an empty file that did not exist.
pub(crate) fn create_file_at(dir: BorrowedFd<'_>, entry: &Path) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, entry, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) => Ok(()),
        Err(e) => Err(SyscallError::new(format!("openat({}, {entry:?}, {flags:?}, 0o644)", name(dir)), e)),
    }
}

pub(crate) fn unlinkat(dir: BorrowedFd<'_>, entry: &Path, flags: AtFlags) -> Result<()> {
    rustix::fs::unlinkat(dir, entry, flags)
        .map_err(|e| SyscallError::new(format!("unlinkat({}, {entry:?}, {flags:?})", name(dir)), e))
}

/// What is known of an open file without reading it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status {
    /// The mount through which it was opened (`STATX_MNT_ID`, the first field of proc_pid_mountinfo(5)).
    pub(crate) mount: u64,
    /// The device number of its filesystem, as (major, minor).
    pub(crate) device: (u32, u32),
    /// The device number that it stands for, if it is a device file.
    pub(crate) stands_for: (u32, u32),
    pub(crate) inode: u64,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) kind: FileType,
}

/// statx(2) of an open file, by what this host knows of it: a container may have mounted what a server has that does not answer.
pub(crate) fn status(fd: BorrowedFd<'_>) -> Result<Status> {
    status_with(fd, AtFlags::STATX_DONT_SYNC)
}

/// The same, whose server is asked, for the size of a file that another host may have changed.
pub(crate) fn newest_status(fd: BorrowedFd<'_>) -> Result<Status> {
    status_with(fd, AtFlags::empty())
}

fn status_with(fd: BorrowedFd<'_>, flags: AtFlags) -> Result<Status> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH | flags, wanted)
        .map_err(|e| SyscallError::new(format!("statx({})", name(fd)), e))?;
    Ok(Status {
        mount: stat.stx_mnt_id,
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        stands_for: (stat.stx_rdev_major, stat.stx_rdev_minor),
        inode: stat.stx_ino,
        size: stat.stx_size,
        kind: FileType::from_raw_mode(stat.stx_mode.into()),
    })
}

/// The inode of what the kernel's link `path` below `dir` stands for (statx(2)).
pub(crate) fn inode_at(dir: BorrowedFd<'_>, path: &str) -> Result<u64> {
    match rustix::fs::statx(dir, path, AtFlags::empty(), StatxFlags::INO) {
        Ok(stat) => Ok(stat.stx_ino),
        Err(errno) => Err(SyscallError::new(format!("statx({}, {path:?})", name(dir)), errno)),
    }
}

/// The inode of what the host's `path` stands for (statx(2)).
pub(crate) fn inode_of(path: &Path) -> Result<u64> {
    match rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::INO) {
        Ok(stat) => Ok(stat.stx_ino),
        Err(errno) => Err(SyscallError::new(format!("statx({path:?})"), errno)),
    }
}

/// statx(2) of an entry, symlinks not followed.
pub(crate) fn kind_at(dir: BorrowedFd<'_>, entry: &Path) -> Result<FileType> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = rustix::fs::statx(dir, entry, flags, StatxFlags::TYPE)
        .map_err(|e| SyscallError::new(format!("statx({}, {entry:?})", name(dir)), e))?;
    Ok(FileType::from_raw_mode(stat.stx_mode.into()))
}

/// open_tree(2): a detached copy of the mount that `fd` is in, with `fd` as its root and nothing below it.
pub(crate) fn clone_mount(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(fd, "", flags)
        .map_err(|e| SyscallError::new(format!("open_tree({}, OPEN_TREE_CLONE)", name(fd)), e))
}

/// move_mount(2) of the mount `from` onto `to`.
pub(crate) fn move_mount(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(from, "", to, "", flags)
        .map_err(|e| SyscallError::new(format!("move_mount({}, {})", name(from), name(to)), e))
}

/// umount2(2) of the topmost mount at `entry` in the working directory, which must be the thread's own.
pub(crate) fn detach(entry: &Path) -> Result<()> {
    rustix::mount::unmount(entry, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .map_err(|e| SyscallError::new(format!("umount2({entry:?}, MNT_DETACH | UMOUNT_NOFOLLOW)"), e))
}

pub(crate) fn fchdir(dir: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(dir).map_err(|e| SyscallError::new(format!("fchdir({})", name(dir)), e))
}

/// What the kernel says of one mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MountState {
    /// Whether the mount itself is read-only.
    pub(crate) read_only: bool,
    /// Whether it propagates to others.
    pub(crate) shared: bool,
}

/// `STATX_MNT_ID_UNIQUE`, since Linux 6.8.
const STATX_MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
/// The number of statmount(2), the same on all architectures but alpha.
const SYS_STATMOUNT: libc::c_long = 457;
const STATMOUNT_MNT_BASIC: u64 = 2;

/// `struct mnt_id_req` of statmount(2), first version.
#[repr(C)]
struct MntIdReq {
    size: u32,
    spare: u32,
    mnt_id: u64,
    param: u64,
}

/// `struct statmount` of statmount(2), without the text behind it.
#[repr(C)]
struct StatMount {
    size: u32,
    mnt_opts: u32,
    mask: u64,
    sb_dev: [u32; 2],
    sb_magic: u64,
    sb_flags: u32,
    fs_type: u32,
    mnt_id: u64,
    mnt_parent_id: u64,
    mnt_id_old: u32,
    mnt_parent_id_old: u32,
    mnt_attr: u64,
    mnt_propagation: u64,
    rest: [u64; 54],
}

/// statmount(2) of the mount that `fd` is in, which must be in the thread's mount namespace. `None` where the kernel
/// is too old for it (Linux 6.8), or something that looks at calls refuses one that it does not know.
pub(crate) fn mount_state(fd: BorrowedFd<'_>) -> Result<Option<MountState>> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = rustix::fs::statx(fd, "", flags, STATX_MNT_ID_UNIQUE)
        .map_err(|e| SyscallError::new(format!("statx({}, STATX_MNT_ID_UNIQUE)", name(fd)), e))?;
    if stat.stx_mask & STATX_MNT_ID_UNIQUE.bits() == 0 {
        return Ok(None);
    }
    match statmount(stat.stx_mnt_id) {
        Ok(state) => Ok(Some(state)),
        Err(Errno::NOSYS | Errno::PERM) => Ok(None),
        Err(errno) => {
            Err(SyscallError::new(format!("statmount({:#x}, STATMOUNT_MNT_BASIC)", stat.stx_mnt_id), errno))
        }
    }
}

#[expect(unsafe_code, reason = "neither rustix nor nix has statmount")]
fn statmount(unique_id: u64) -> std::result::Result<MountState, Errno> {
    let size = u32::try_from(size_of::<MntIdReq>()).expect("24 bytes");
    let request = MntIdReq { size, spare: 0, mnt_id: unique_id, param: STATMOUNT_MNT_BASIC };
    let mut answer = StatMount {
        size: 0,
        mnt_opts: 0,
        mask: 0,
        sb_dev: [0; 2],
        sb_magic: 0,
        sb_flags: 0,
        fs_type: 0,
        mnt_id: 0,
        mnt_parent_id: 0,
        mnt_id_old: 0,
        mnt_parent_id_old: 0,
        mnt_attr: 0,
        mnt_propagation: 0,
        rest: [0; 54],
    };
    // SAFETY: both structures have the layout of the kernel's and their sizes are passed; the kernel reads the first
    // and fills the second during the call. Every bit pattern is a value of their integer fields.
    let result = unsafe {
        libc::syscall(
            SYS_STATMOUNT,
            &raw const request,
            &raw mut answer,
            size_of::<StatMount>(),
            0 as libc::c_uint,
        )
    };
    if result != 0 {
        return Err(last_errno());
    }
    if answer.mask & STATMOUNT_MNT_BASIC == 0 {
        return Err(Errno::NOSYS);
    }
    Ok(MountState {
        read_only: answer.mnt_attr & u64::from(rustix::mount::MountAttrFlags::MOUNT_ATTR_RDONLY.bits()) != 0,
        shared: answer.mnt_propagation & libc::MS_SHARED != 0,
    })
}

/// `NS_GET_MNTNS_ID` of linux/nsfs.h.
const NS_GET_MNTNS_ID: u32 = 0x8008_b705;

/// The id of a mount namespace that no other has until the next boot; `None` where the kernel is too old to tell
/// (Linux 6.11).
#[expect(unsafe_code, reason = "neither rustix nor nix has this ioctl")]
pub(crate) fn mount_namespace_id(namespace: BorrowedFd<'_>) -> Option<u64> {
    let mut id = 0_u64;
    // SAFETY: this ioctl writes one 64-bit number to where its argument points, during the call.
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_MNTNS_ID as _, &raw mut id) };
    (result == 0).then_some(id)
}

/// `struct mount_attr` of mount_setattr(2), first version.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// mount_setattr(2) of one mount: `set` (`MOUNT_ATTR_*`) is added, propagation becomes private, and with
/// `user_namespace` the mount is idmapped by it.
pub(crate) fn set_private_attributes(
    mount: BorrowedFd<'_>,
    set: rustix::mount::MountAttrFlags,
    user_namespace: Option<BorrowedFd<'_>>,
) -> Result<()> {
    mount_setattr(mount, set, user_namespace, libc::AT_EMPTY_PATH)
}

/// Makes all mounts of the thread's mount namespace private (mount_setattr(2)).
pub(crate) fn make_all_private() -> Result<()> {
    let root = open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    mount_setattr(root.as_fd(), rustix::mount::MountAttrFlags::empty(), None, flags)
}

#[expect(unsafe_code, reason = "neither rustix nor nix has mount_setattr")]
fn mount_setattr(
    mount: BorrowedFd<'_>,
    set: rustix::mount::MountAttrFlags,
    user_namespace: Option<BorrowedFd<'_>>,
    flags: libc::c_int,
) -> Result<()> {
    use rustix::mount::MountAttrFlags;
    let idmap =
        if user_namespace.is_some() { MountAttrFlags::MOUNT_ATTR_IDMAP } else { MountAttrFlags::empty() };
    let attributes = MountAttr {
        attr_set: (set | idmap).bits().into(),
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: user_namespace
            .map_or(0, |fd| u64::try_from(fd.as_raw_fd()).expect("an open descriptor is not negative")),
    };
    // SAFETY: the path is a C string that lives as long as the program; `attributes` has the layout of the
    // kernel's `struct mount_attr`, its size is passed, and the kernel only reads it during the call. The
    // descriptors are borrowed, so they stay open meanwhile.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    let errno = last_errno();
    let users = user_namespace.map(|fd| format!(", userns_fd = {}", name(fd))).unwrap_or_default();
    Err(SyscallError::new(
        format!("mount_setattr({}, {:?}, private{users})", name(mount), set | idmap),
        errno,
    ))
}

/// The error of the libc call that failed last in this thread.
pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Runs `work` on a thread of its own that shares neither root, working directory nor umask with the process
/// (unshare(2), `CLONE_FS`), and waits for it. Such a thread may enter mount namespaces: the rest of the process
/// does not notice. Its umask is 022.
///
/// The outer error says that there is no such thread.
pub(crate) fn on_helper_thread<T: Send>(work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("volhook-mounts".to_owned()).spawn_scoped(scope, || {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)?;
                rustix::process::umask(Mode::from_raw_mode(0o022));
                Ok(work())
            })?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::MntIdReq;
    use super::StatMount;
    use rustix::fs::OFlags;
    use std::os::fd::AsFd;

    #[test]
    fn the_structures_have_the_kernel_s_sizes() {
        assert_eq!(size_of::<MntIdReq>(), 24);
        assert_eq!(size_of::<StatMount>(), 512);
    }

    /// The call and the table are two ways to the same truth.
    #[test]
    fn the_state_of_mounts_is_that_of_the_mount_table() {
        let table = crate::mountinfo::parse(&std::fs::read("/proc/thread-self/mountinfo").unwrap()).unwrap();
        let mut compared = 0;
        for mount in table {
            let Ok(fd) = super::open(&mount.mount_point, OFlags::PATH) else { continue };
            if super::status(fd.as_fd()).unwrap().mount != mount.id {
                continue;
            }
            let Some(state) = super::mount_state(fd.as_fd()).unwrap() else { continue };
            assert_eq!((state.read_only, state.shared), (mount.read_only, mount.shared), "{mount:?}");
            compared += 1;
        }
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let version: Vec<u32> = release.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
        assert!(compared > 2 || version < vec![6, 8], "{compared} mounts compared on Linux {release}");
    }
}
