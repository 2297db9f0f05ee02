//! Whether something of the kernel's is gone: a mount namespace, or an overlay.
//!
//! Each is one question that takes a microsecond, however many processes and mounts the host has. The answer is "gone" only
//! where it is so, and none where it cannot be told: on an older kernel, where something that looks at calls refuses this one
//! (seccomp(2)), or where this process does not see everything. A number that the kernel has given to something else
//! meanwhile makes the answer "not gone", never the other way round.
//!
//! listmount(2) is not asked: of a namespace it says `ENOENT` also when somebody lives there who unmounted its root.

use crate::sys::last_errno;
use rustix::io::Errno;
use rustix::mount::FsOpenFlags;
use rustix::thread::CapabilitySet;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The inode of the first user namespace in nsfs (`USER_NS_INIT_INO` of linux/nsfs.h).
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// The inode of the first pid namespace (`PID_NS_INIT_INO`).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Where filesystems that wait for a server or a daemon have their number as a name: FUSE and NFS.
const WAITING: &str = "/sys/class/bdi";

/// What stands for the filesystem of all namespaces where a directory is asked for (`FD_NSFS_ROOT` of linux/fcntl.h).
const FD_NSFS_ROOT: libc::c_int = -10003;

/// The kind of file handles of namespaces (`FILEID_NSFS` of the kernel's exportfs.h).
const FILEID_NSFS: libc::c_int = 0xf1;

/// `struct file_handle` of open_by_handle_at(2) with `struct nsfs_file_handle` of linux/nsfs.h in it.
#[repr(C)]
struct NamespaceHandle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    id: u64,
    namespace: u32,
    inode: u32,
}

/// Whether the mount namespace with this id and inode is gone: nobody is in it, and nobody has it open. `None` before
/// Linux 6.18, and where it cannot be told.
pub(crate) fn mount_namespace_is_gone(id: u64, inode: u64) -> Option<bool> {
    if !sees_all_namespaces() {
        return None;
    }
    opened(open_namespace(id, u32::try_from(inode).ok()?).map(drop))
}

/// What an attempt to open a namespace says about it.
fn opened(result: Result<(), Errno>) -> Option<bool> {
    match result {
        Ok(()) => Some(false),
        Err(Errno::STALE) => Some(true),
        Err(_) => None,
    }
}

/// Whether the kernel hides no namespace from this process. One that may not see a namespace is told that it is gone.
fn sees_all_namespaces() -> bool {
    let is = |namespace: &str, first| {
        let path = Path::new("/proc/thread-self/ns").join(namespace);
        crate::sys::inode_of(&path).is_ok_and(|inode| inode == first)
    };
    // Kernels after 6.18 hide namespaces from other pid namespaces as well.
    let is_first = is("user", FIRST_USER_NAMESPACE) && is("pid", FIRST_PID_NAMESPACE);
    let may = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    // A security module can withhold what the capability would allow; a new filesystem context needs the same one.
    is_first && may && rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).is_ok()
}

#[expect(unsafe_code, reason = "neither rustix nor nix opens by handle")]
fn open_namespace(id: u64, inode: u32) -> Result<OwnedFd, Errno> {
    let handle = NamespaceHandle {
        bytes: 16,
        kind: FILEID_NSFS,
        id,
        namespace: libc::CLONE_NEWNS.cast_unsigned(),
        inode,
    };
    // SAFETY: `handle` has the layout of the kernel's `struct file_handle` with 16 bytes behind its head, as it says itself,
    // and the kernel only reads it during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            FD_NSFS_ROOT,
            &raw const handle,
            libc::O_RDONLY | libc::O_CLOEXEC,
        )
    };
    match i32::try_from(result) {
        // SAFETY: the call succeeded, so this is a descriptor that it opened and nobody else has.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(last_errno()),
    }
}

/// Whether no overlay has this device number, as (major, minor); one of the kernel's own, with 0 before the colon. `None`
/// where it cannot be told.
pub(crate) fn overlay_is_gone(device: (u32, u32)) -> Option<bool> {
    let waiting = Path::new(WAITING);
    // ustat(2) asks whatever has the number by now, and one of these may never answer.
    if waiting.join(format!("{}:{}", device.0, device.1)).symlink_metadata().is_ok() {
        return None;
    }
    waiting.symlink_metadata().ok()?;
    match ustat(device)? {
        Ok(()) => Some(false),
        Err(Errno::INVAL) => Some(true),
        Err(_) => None,
    }
}

/// ustat(2), with its answer left out. `None` on architectures that never had it.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "neither rustix nor nix has ustat, nor has libc its function")]
fn ustat((major, minor): (u32, u32)) -> Option<Result<(), Errno>> {
    // More than the kernel's `struct ustat`, which has 32 bytes.
    let mut answer = [0_u64; 8];
    // The kernel's `new_encode_dev`; beyond these bits a number cannot be said.
    let device = (major < 1 << 12 && minor < 1 << 20)
        .then_some((minor & 0xff) | major << 8 | (minor & !0xff) << 12)?;
    // SAFETY: the kernel writes less than the length of `answer` during the call, of which every bit pattern is a value.
    let result = unsafe { libc::syscall(libc::SYS_ustat, libc::c_ulong::from(device), &raw mut answer) };
    Some(if result == 0 { Ok(()) } else { Err(last_errno()) })
}

#[cfg(not(target_arch = "x86_64"))]
fn ustat(_device: (u32, u32)) -> Option<Result<(), Errno>> {
    None
}

#[cfg(test)]
mod tests {
    use super::NamespaceHandle;
    use super::mount_namespace_is_gone;
    use super::opened;
    use super::overlay_is_gone;
    use crate::sys;
    use rustix::io::Errno;
    use rustix::mount::FsMountFlags;
    use rustix::mount::FsOpenFlags;
    use rustix::mount::MountAttrFlags;
    use std::os::fd::AsFd;
    use std::os::fd::OwnedFd;

    fn kernel_is(at_least: [u32; 2]) -> bool {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let version: Vec<u32> = release.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
        version >= at_least.to_vec()
    }

    /// A namespace that nothing but the descriptor holds, with its id and inode.
    fn held_namespace() -> (OwnedFd, u64, u64) {
        let opened = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
                .expect("this needs root: run the privileged_ tests as root");
            std::fs::File::open("/proc/thread-self/ns/mnt").unwrap().into()
        });
        let namespace: OwnedFd = opened.join().unwrap();
        let id = sys::mount_namespace_id(namespace.as_fd()).unwrap_or_default();
        let inode = sys::status(namespace.as_fd()).unwrap().inode;
        (namespace, id, inode)
    }

    fn memory() -> OwnedFd {
        let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)
            .expect("mounting needs root: run the privileged_ tests as root");
        rustix::mount::fsconfig_create(&context).unwrap();
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
    }

    #[test]
    fn the_structure_has_the_kernel_s_size() {
        assert_eq!(size_of::<NamespaceHandle>(), 24);
    }

    #[test]
    fn only_one_answer_means_that_a_namespace_is_gone() {
        assert_eq!((opened(Ok(())), opened(Err(Errno::STALE))), (Some(false), Some(true)));
        for errno in
            [Errno::NOSYS, Errno::PERM, Errno::ACCESS, Errno::BADF, Errno::INVAL, Errno::NOENT, Errno::MFILE]
        {
            assert_eq!(opened(Err(errno)), None, "{errno}");
        }
    }

    #[test]
    fn privileged_a_namespace_is_gone_when_nobody_has_it_open() {
        let (namespace, id, inode) = held_namespace();
        let told = kernel_is([6, 18]);
        assert_eq!(mount_namespace_is_gone(id, inode), told.then_some(false));
        drop(namespace);
        assert_eq!(mount_namespace_is_gone(id, inode), told.then_some(true));
    }

    /// What listmount(2) takes for gone.
    #[test]
    fn privileged_a_namespace_without_a_root_is_not_gone() {
        let (answer, wait) = std::sync::mpsc::channel();
        let (done, end) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
                .expect("this needs root: run the privileged_ tests as root");
            let namespace: OwnedFd = std::fs::File::open("/proc/thread-self/ns/mnt").unwrap().into();
            let id = sys::mount_namespace_id(namespace.as_fd()).unwrap_or_default();
            let inode = sys::status(namespace.as_fd()).unwrap().inode;
            drop(namespace);
            sys::make_all_private().unwrap();
            rustix::mount::unmount("/", rustix::mount::UnmountFlags::DETACH).unwrap();
            answer.send((id, inode)).unwrap();
            let _ = end.recv();
        });
        let (id, inode) = wait.recv().unwrap();
        assert_eq!(mount_namespace_is_gone(id, inode), kernel_is([6, 18]).then_some(false));
        drop(done);
        thread.join().unwrap();
    }

    #[test]
    fn privileged_a_overlay_is_gone_with_its_last_user() {
        let told = cfg!(target_arch = "x86_64");
        let mount = memory();
        let device = sys::status(mount.as_fd()).unwrap().device;
        let open = sys::openat(mount.as_fd(), ".", rustix::fs::OFlags::PATH).unwrap();
        assert_eq!(overlay_is_gone(device), told.then_some(false));
        drop(mount);
        assert_eq!(overlay_is_gone(device), told.then_some(false), "a descriptor holds it");
        drop(open);
        // Another test may have got the number.
        let gone = overlay_is_gone(device) == told.then_some(true);
        assert!(gone || sys::status(memory().as_fd()).unwrap().device != device);
    }

    /// A filter that refuses what it does not know, as engines' filters do.
    #[test]
    fn privileged_nothing_is_told_where_calls_are_refused() {
        for errno in [libc::ENOSYS, libc::EPERM] {
            let (namespace, id, inode) = held_namespace();
            drop(namespace);
            let told = std::thread::spawn(move || {
                refuse_calls(errno);
                (mount_namespace_is_gone(id, inode), overlay_is_gone((0, 0xf_ffff)))
            });
            assert_eq!(told.join().unwrap(), (None, None));
        }
        assert_eq!(overlay_is_gone((0, 0xf_ffff)), cfg!(target_arch = "x86_64").then_some(true));
    }

    /// Has this thread's calls of the two kinds fail from now on.
    #[expect(unsafe_code, reason = "no crate here has seccomp")]
    fn refuse_calls(errno: i32) {
        const REFUSED: [libc::c_long; 2] = [
            libc::SYS_open_by_handle_at,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_ustat,
            #[cfg(not(target_arch = "x86_64"))]
            -1,
        ];
        let step = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
        let is = |call: libc::c_long, jt, jf| {
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, u32::try_from(call).unwrap_or(u32::MAX))
        };
        let refused = libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
        let mut filter = [
            // The number of the call is what the kernel hands over first.
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            is(REFUSED[0], 1, 0),
            is(REFUSED[1], 0, 1),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, refused),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: 5, filter: filter.as_mut_ptr() };
        // SAFETY: `program` and the filter it points to live during the calls, which only read them. The filter ends
        // with the thread.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
        }
    }
}
