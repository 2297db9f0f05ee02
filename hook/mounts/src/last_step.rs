//! The last step of a pod's start ([`volhook_core::last_step`]), and the process that a hook leaves behind for it.
//!
//! A container's root can only be exchanged once its runtime has pivoted into the one that it made, when no hook of the host
//! runs any more. So a copy of the hook stays behind, with little more than the overlay and the ends of two FIFOs. It waits for
//! the question that the container's own program asks, and ends with the container's process, whatever becomes of that.

use crate::error::Error;
use crate::inject::Injected;
use crate::mountinfo;
use crate::process;
use crate::process::Process;
use crate::root_step;
use crate::rootfs;
use crate::source::Detached;
use crate::step_program::Line;
use crate::sys;
use crate::sys::SyscallError;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use std::ffi::OsString;
use std::io::PipeReader;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use volhook_core::decision::EntryKind;
use volhook_core::last_step::FOLDER;
use volhook_core::last_step::WhyFolders;

/// What the process that is left behind is called (proc_pid_comm(5)).
pub const NAME: &str = "volhook-step";

/// Why the overlay of a pod cannot become the root of this container, whose runtime has made its mounts and not yet pivoted
/// into `rootfs`.
///
/// # Errors
/// When the container or the caller's own mounts cannot be looked at.
pub fn obstacle(process: &Process, rootfs: &Path) -> Result<Option<WhyFolders>, Error> {
    let failed = |source| Error::OpenRootfs { path: rootfs.to_owned(), source };
    let (root, path) = rootfs::open_in(process, rootfs)?;
    let found = sys::status(root.as_fd()).map_err(failed)?;
    let host = sys::open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)
        .and_then(|host| sys::status(host.as_fd()))
        .map_err(failed)?;
    let mount = process.first_mounts()?.iter().find(|mount| mount.id == found.mount);
    Ok(match mount {
        _ if (found.device, found.inode) == (host.device, host.inode) => Some(WhyFolders::NoOwnRoot),
        Some(mount) if mount.mount_point == path && mount.shared => Some(WhyFolders::Propagates),
        Some(mount) if mount.mount_point == path && is_read_only(&root)? => Some(WhyFolders::ReadOnly),
        Some(mount) if mount.mount_point == path => {
            (!has_own_dev(process, rootfs)?).then_some(WhyFolders::NoOwnDev)
        }
        _ => Some(WhyFolders::NoOwnRoot),
    })
}

/// Whether nothing can be written through `directory` (statvfs(3)): because of its mount or its filesystem.
fn is_read_only(directory: &OwnedFd) -> Result<bool, Error> {
    match rustix::fs::fstatvfs(directory) {
        Ok(found) => Ok(found.f_flag.contains(StatVfsMountFlags::RDONLY)),
        Err(errno) => {
            let source = SyscallError::new("fstatvfs(the root)", errno);
            Err(Error::RootStep { intention: "look at the container's root".to_owned(), source })
        }
    }
}

/// The place of a mount that is still to be made.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Where it is inside the root filesystem.
    pub path: &'a str,
    /// Whether a directory is mounted.
    pub is_folder: bool,
}

/// Whether everything that is mounted in the container so far, and what is still to be `planned`, can be brought along into
/// `overlay`: there is nothing, or something of the same kind, in each place. What is mounted below something else goes along
/// with that.
///
/// # Errors
/// When the container or the overlay cannot be looked at.
pub fn takes_all(
    process: &Process,
    rootfs: &Path,
    overlay: &Detached,
    planned: &[Place<'_>],
) -> Result<bool, Error> {
    let failed = |source| Error::OpenRootfs { path: rootfs.to_owned(), source };
    let (root, path) = rootfs::open_in(process, rootfs)?;
    let on = sys::status(root.as_fd()).map_err(failed)?.mount;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let mut places = Vec::new();
    for mount in mountinfo::visible_below(process.first_mounts()?, on, &path) {
        let inside = mount.mount_point.strip_prefix(&path).unwrap_or(Path::new(""));
        let here = sys::openat2(root.as_fd(), inside, OFlags::PATH, resolve)
            .and_then(|here| sys::status(here.as_fd()))
            .map_err(failed)?;
        places.push((inside, here.kind == FileType::Directory));
    }
    places.extend(planned.iter().map(|place| (Path::new(rootfs::relative(place.path)), place.is_folder)));
    let goes_along = |path: &Path| places.iter().any(|(other, _)| path != *other && path.starts_with(other));
    for (path, is_folder) in places.iter().filter(|(path, _)| !goes_along(path)) {
        match overlay.entry(path)? {
            None => {}
            Some(EntryKind::Symlink) => return Ok(false),
            // It may be something on the way there that is no directory.
            Some(EntryKind::Other) if !is_below_directories(overlay, path)? => return Ok(false),
            // As it is moved there: anything that is no directory takes anything that is none.
            Some(found) if (found == EntryKind::Directory) != *is_folder => return Ok(false),
            Some(_) => {}
        }
    }
    Ok(true)
}

/// Whether what is above `path` in the overlay is a directory.
fn is_below_directories(overlay: &Detached, path: &Path) -> Result<bool, Error> {
    match path.parent().filter(|above| !above.as_os_str().is_empty()) {
        None => Ok(true),
        Some(above) => Ok(overlay.entry(above)? == Some(EntryKind::Directory)),
    }
}

/// Whether the container's `/dev` is a filesystem in memory that only the container has and that can be written.
///
/// # Errors
/// When the container or the caller's own mounts cannot be looked at.
pub fn has_own_dev(process: &Process, rootfs: &Path) -> Result<bool, Error> {
    let failed = |source| Error::OpenRootfs { path: rootfs.to_owned(), source };
    let (root, path) = rootfs::open_in(process, rootfs)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let Ok(dev) = sys::openat2(root.as_fd(), Path::new("dev"), flags, resolve) else { return Ok(false) };
    let found = sys::status(dev.as_fd()).map_err(failed)?;
    let mount = process.first_mounts()?.iter().find(|mount| mount.id == found.mount);
    let is_memory = mount.is_some_and(|mount| {
        mount.filesystem == "tmpfs"
            && mount.mount_point == path.join("dev")
            && !mount.shared
            && !mount.read_only
    });
    if !is_memory {
        return Ok(false);
    }
    // An engine may have bound one of the host's.
    Ok(process::own()?.mounts()?.iter().all(|mount| mount.device != found.device))
}

/// The names at the top of the container's root filesystem at which something is mounted.
///
/// # Errors
/// When the container cannot be looked at.
pub fn mounted_at_top(process: &Process, rootfs: &Path) -> Result<Vec<OsString>, Error> {
    let (_, path) = rootfs::open_in(process, rootfs)?;
    let below =
        process.first_mounts()?.iter().filter(|mount| mount.mount_point.parent() == Some(path.as_path()));
    Ok(below.filter_map(|mount| mount.mount_point.file_name().map(ToOwned::to_owned)).collect())
}

/// Whether the program of the last step is in the container already.
///
/// # Errors
/// When the container cannot be looked at.
pub fn has_program(process: &Process, rootfs: &Path) -> Result<bool, Error> {
    let (root, _) = rootfs::open_in(process, rootfs)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let program = Path::new(volhook_core::last_step::PROGRAM);
    Ok(sys::openat2(root.as_fd(), program, OFlags::PATH, resolve).is_ok())
}

/// The exchange of a container's root, as it will be.
#[derive(Debug)]
pub struct Step<'a> {
    pub(crate) process: &'a Process,
    pub(crate) namespace: OwnedFd,
    pub(crate) overlay: &'a Detached,
    /// The mount id of the root that the runtime has made.
    pub(crate) root: u64,
    /// The mount ids of the pod's folders, which are mounted until it is exchanged.
    pub(crate) folders: Vec<u64>,
    /// The mount id of the program.
    pub(crate) program: u64,
}

impl<'a> Step<'a> {
    /// The exchange of the root of `process`, which the runtime has made at `rootfs`, for `overlay`. `injected` is what was
    /// mounted so far: the program, and among others those `folders` of the overlay, by their targets, that it shows by itself
    /// in the same way.
    ///
    /// # Errors
    /// [`Error::NotForRoot`] if the program is not among them; [`Error::OpenRootfs`], and failures to look at the process.
    pub fn new(
        process: &'a Process,
        rootfs: &Path,
        overlay: &'a Detached,
        injected: &Injected,
        folders: &[String],
    ) -> Result<Self, Error> {
        let failed = |source| Error::OpenRootfs { path: rootfs.to_owned(), source };
        let namespace = process::container_namespace(process)?;
        let (root, _) = rootfs::open_in(process, rootfs)?;
        let root = sys::status(root.as_fd()).map_err(failed)?.mount;
        let program = injected.mounts.iter().find(|mount| mount.target == FOLDER);
        let program =
            program.ok_or_else(|| Error::NotForRoot { reason: "its program is missing".to_owned() })?.id;
        let folders = injected.mounts.iter().filter(|mount| folders.contains(&mount.target));
        let folders = folders.map(|mount| mount.id);
        Ok(Self { process, namespace, overlay, root, folders: folders.collect(), program })
    }

    /// Exchanges it now.
    ///
    /// # Errors
    /// [`Error::NotForRoot`], [`Error::RootStep`], [`Error::EnterNamespace`], [`Error::Helper`], and failures to look at the
    /// container. It must not start then.
    pub fn perform(&self) -> Result<(), Error> {
        root_step::perform(self)
    }
}

/// Leaves a process behind that waits for the container's program to ask for `step`, does it and answers, or ends with the
/// container's process. A failure is `told` there before it is the answer; nothing of the caller's is open then, and it must
/// not be used. So is it if the step takes longer than `patience`, because something that the container has mounted does not
/// answer; whatever is done of the step by then, the container must not start.
///
/// For a process with a single thread, as its last act: what the other side does is its own from then on. The caller's other
/// descriptors are not open there, nor does anything keep its terminal, its folder or its parents waiting.
///
/// # Errors
/// [`Error::LeaveBehind`], [`Error::ProcessGone`], and failures to look at the process.
pub fn leave_behind(
    step: &Step<'_>,
    line: &Line,
    patience: Duration,
    told: impl FnOnce(&str),
) -> Result<(), Error> {
    let failed = |errno: Errno| Error::LeaveBehind { source: errno.into() };
    let pid = Pid::from_raw(step.process.pid()).ok_or(Error::InvalidPid { pid: step.process.pid() })?;
    let ended = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
    // If it is still the same one, the descriptor is of that.
    step.process.start_time()?;
    let null = sys::open(Path::new("/dev/null"), OFlags::RDWR).map_err(|source| Error::LeaveBehind {
        source: Errno::from_raw_os_error(source.raw_os_error()).into(),
    })?;
    let kept = [
        step.process.as_fd().as_raw_fd(),
        step.namespace.as_raw_fd(),
        step.overlay.as_fd().as_raw_fd(),
        line.ask.as_raw_fd(),
        line.answer.as_raw_fd(),
        ended.as_raw_fd(),
    ];
    let work = || {
        if leave_everything(&null, &kept).is_ok() {
            wait(step, line, &ended, patience, told);
        }
    };
    fork(work).map_err(failed)
}

/// What the process that is left behind does.
fn wait(step: &Step<'_>, line: &Line, ended: &OwnedFd, patience: Duration, told: impl FnOnce(&str)) {
    loop {
        let mut polled = [PollFd::new(&line.ask, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        match rustix::event::poll(&mut polled, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return,
        }
        if !polled[1].revents().is_empty() {
            return;
        }
        if line.question() {
            break;
        }
    }
    let end = Instant::now() + patience;
    let failed = |reason: &str| {
        told(reason);
        line.answer(Some(reason));
    };
    let (over, at_work) = match std::io::pipe() {
        Ok(both) => both,
        Err(error) => return failed(&format!("there is no pipe for it: {error}")),
    };
    std::thread::scope(|scope| {
        let work = || {
            let performed = step.perform();
            drop(at_work);
            performed
        };
        let worker = match std::thread::Builder::new().spawn_scoped(scope, work) {
            Ok(worker) => worker,
            Err(error) => return failed(&format!("there is no thread for it: {error}")),
        };
        match until(&over, ended, end) {
            Waited::Over => match worker.join() {
                Ok(Ok(())) => line.answer(None),
                Ok(Err(error)) => failed(&in_one_line(&error)),
                Err(_) => failed("it broke off; this is a fault of volhook"),
            },
            // The thread may be waiting for what a mount of the container's does not answer. It ends with the process.
            Waited::Ended => end_now(1),
            Waited::TooLong => {
                failed(&format!(
                    "it took longer than {} s; something that the container has mounted may not answer",
                    patience.as_secs()
                ));
                end_now(1);
            }
        }
    });
}

/// What was first.
enum Waited {
    /// The step is over.
    Over,
    /// The container's process has ended.
    Ended,
    /// The time is up.
    TooLong,
}

/// Waits until nobody has the other end of `over` open any more.
fn until(over: &PipeReader, ended: &OwnedFd, end: Instant) -> Waited {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let Some(left) = Timespec::try_from(left).ok().filter(|_| !left.is_zero()) else {
            return Waited::TooLong;
        };
        let mut polled = [PollFd::new(over, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&left)) {
            Ok(_) if !polled[0].revents().is_empty() => return Waited::Over,
            Ok(_) if !polled[1].revents().is_empty() => return Waited::Ended,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Waited::TooLong,
        }
    }
}

/// An error with what is behind it.
fn in_one_line(error: &Error) -> String {
    let mut line = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        line = format!("{line}: {error}");
        source = error.source();
    }
    line
}

/// Lets go of everything that the caller had but `kept`.
fn leave_everything(null: &OwnedFd, kept: &[RawFd]) -> Result<(), Errno> {
    rustix::process::setsid()?;
    let _ = rustix::thread::set_name(&std::ffi::CString::new(NAME).unwrap_or_default());
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
    let standard =
        [nix::unistd::dup2_stdin(null), nix::unistd::dup2_stdout(null), nix::unistd::dup2_stderr(null)];
    if let Some(errno) = standard.into_iter().find_map(Result::err) {
        return Err(Errno::from_raw_os_error(errno as i32));
    }
    rustix::process::chdir("/")?;
    close_all_but(kept)
}

/// Closes all descriptors above the standard ones but `kept` (close_range(2)).
#[expect(unsafe_code, reason = "neither rustix nor nix has close_range")]
fn close_all_but(kept: &[RawFd]) -> Result<(), Errno> {
    let mut kept: Vec<libc::c_uint> = kept.iter().filter_map(|fd| libc::c_uint::try_from(*fd).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for next in kept.into_iter().map(Some).chain([None]) {
        let last = next.map_or(libc::c_uint::MAX, |next| next.saturating_sub(1));
        if first <= last {
            // SAFETY: the call touches no memory. Whoever owns one of these descriptors does not run in this process any more:
            // it is the copy that was left behind, which uses nothing but what is kept and never returns to them.
            let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            if result != 0 {
                return Err(sys::last_errno());
            }
        }
        let Some(next) = next else { break };
        first = next + 1;
    }
    Ok(())
}

/// Runs `work` in a copy of this process, which ends with it.
#[expect(unsafe_code, reason = "a copy of a process can only be made so")]
fn fork(work: impl FnOnce()) -> Result<(), Errno> {
    // SAFETY: the copy has only this thread. Those that this process had before are through with their work (they are scoped, or
    // joined), so none of them holds a lock that this one needs. It never returns from here: what its caller would drop or flush
    // stays undone.
    match unsafe { libc::fork() } {
        -1 => Err(sys::last_errno()),
        0 => {
            let ended = std::panic::catch_unwind(AssertUnwindSafe(work));
            end_now(ended.is_err().into())
        }
        _ => Ok(()),
    }
}

/// Ends this process at once, with all of its threads, without what is to be done at an exit.
#[expect(unsafe_code, reason = "neither rustix nor nix ends a process so")]
fn end_now(status: libc::c_int) -> ! {
    // SAFETY: the call touches no memory.
    unsafe { libc::_exit(status) }
}
