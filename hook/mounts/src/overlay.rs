//! Overlays as detached mounts: the changes of containers over a root filesystem that stays as it is.
//!
//! What an overlay is made of is given to the kernel as `/proc/self/fd/N`: a path could be too long for fsconfig(2), hold
//! what the kernel takes for a separator, or mean something else by then. The kernel takes from it what is on that one mount,
//! and nothing of what is mounted below. Since Linux 6.15 such a layer may lie on a mount that is attached nowhere. Before,
//! it is attached in a mount namespace that nobody else sees.

use crate::error::Error;
use crate::error::join_logs;
use crate::last_overlay;
use crate::source::Detached;
use crate::source::attach_privately;
use crate::source::clone_directory;
use crate::superblock;
use crate::superblock::Failed;
use crate::superblock::MountOption;
use crate::superblock::Wanted;
use crate::sys;
use crate::sys::SyscallError;
use crate::users;
use crate::users::Users;
use crate::users::as_user;
use rustix::fs::AtFlags;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::SeekFrom;
use rustix::fs::StatVfsMountFlags;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use volhook_locks::Held;
use volhook_locks::Lock;

/// The directories of an overlay's changes: what differs from below, and the kernel's room for preparing that.
const UPPER: &str = "upper";
const WORK: &str = "work";
/// The upper directory before it has its owner and mode.
const UNFINISHED: &str = "upper.new";

/// How long the lock of the changes is waited for: others have it for less than a millisecond, unless the host is busy.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait before each further look at changes in use, in milliseconds: of a container that was killed the kernel
/// may not have unmounted everything yet. Each look puts an error into the kernel's log, so these are few.
const USE_PAUSES: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];

/// `OVERLAYFS_SUPER_MAGIC` of linux/magic.h.
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

/// The same of ext4 (and ext2, ext3), XFS and btrfs.
const PLAIN: [u64; 3] = [0xef53, 0x5846_5342, 0x9123_683e];

/// What an overlay is made of: a directory, with nothing of what is mounted below it.
#[derive(Debug)]
pub enum Layer {
    /// One of this mount namespace. Each mount that is dropped again takes a moment, so this is the cheap way.
    Directory(OwnedFd),
    /// A mount that is attached nowhere: an image, a part of one ([`Detached::subpath`]), a clone of a directory.
    Mount(Detached),
}

impl From<OwnedFd> for Layer {
    fn from(directory: OwnedFd) -> Self {
        Self::Directory(directory)
    }
}

impl From<Detached> for Layer {
    fn from(mount: Detached) -> Self {
        Self::Mount(mount)
    }
}

impl AsFd for Layer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Directory(directory) => directory.as_fd(),
            Self::Mount(mount) => mount.as_fd(),
        }
    }
}

impl Layer {
    /// As a mount of its own.
    fn into_mount(self) -> Result<Detached, Error> {
        match self {
            Self::Directory(directory) => clone_directory(directory.as_fd()),
            Self::Mount(mount) => Ok(mount),
        }
    }
}

/// Lays an overlay over `lower`, whose changes are kept in `upper/` and `work/` below `changes`. Missing directories are
/// made, `upper` with the owner and mode of `lower`.
///
/// For a container with a user namespace `changes` is idmapped, so that the disk has 0 for the container's root. `lower`
/// is taken as it is: an engine has given it the container's ids. The overlay itself is [`Detached::mapped_for`] `users`.
///
/// The options are those under which changes of `lower` between two mounts are defined (the kernel's documentation of
/// overlayfs, "Changes to underlying filesystems"). rename(2) of a directory of `lower` is then EXDEV.
///
/// # Errors
/// [`Error::OverlayChanges`] if the directories cannot be made or mapped; [`Error::OverlayBusy`] if another overlay has
/// them, which the kernel would accept; [`Error::MountOverlay`]; [`Error::OverlayReadOnly`];
/// [`Error::ExamineOverlay`], [`Error::Helper`].
pub fn mount_overlay(
    lower: impl Into<Layer>,
    changes: impl Into<Layer>,
    users: Option<&Users>,
) -> Result<Detached, Error> {
    let mut changes = changes.into();
    if let Some(users) = users {
        let mount = changes.into_mount()?;
        let namespace = Some(users.namespace());
        sys::set_private_attributes(mount.as_fd(), MountAttrFlags::empty(), namespace)
            .map_err(|source| Error::OverlayChanges { source })?;
        changes = Layer::Mount(mount);
    }
    let layers = Layers { lower: lower.into(), changes, users };
    let overlay = match layers.mount_detached() {
        // One of many things that can be wrong, so the kernel is asked whether it was this one.
        Err(Error::MountOverlay { source, .. }) if source.is(Errno::INVAL) && !layers.are_taken() => {
            layers.attachable()?.mount_attached()?
        }
        result => result?,
    };
    let overlay = Detached::new(overlay);
    Ok(match users {
        Some(users) => overlay.mapped_for(users),
        None => overlay,
    })
}

/// Whether an overlay of any mount namespace keeps its changes in `upper/` below the directory `changes`, also one of which
/// only a part is still mounted. One that is just being made counts.
///
/// If its [`trace`] does not tell that there is none, the kernel is asked for a second overlay with the same directory. When
/// it refuses it writes an error to its log (`lowerdir is in-use as upperdir/workdir of another mount`).
///
/// # Errors
/// [`Error::OverlayChanges`], [`Error::ExamineOverlay`]; [`Error::CloneDirectory`] before Linux 6.15 if `changes` is on a
/// mount that is attached nowhere.
pub fn is_in_use(changes: BorrowedFd<'_>) -> Result<bool, Error> {
    let failed = |source| Error::OverlayChanges { source };
    let root = sys::openat(changes, ".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
    let Some(upper) = open_layer(root.as_fd(), UPPER).map_err(failed)? else { return Ok(false) };
    let Some(_held) = lock(root.as_fd())? else { return Ok(true) };
    if last_is_gone(root.as_fd()).map_err(failed)? == Some(true) {
        return Ok(false);
    }
    // Where a detached mount cannot be cloned it is no layer either, and the answer would be wrong.
    clone_directory(changes)?;
    has_overlay(upper.as_fd())
}

/// What the last overlay over some changes has left of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// None was ever laid, or it is provably gone.
    Gone,
    /// It may be there; what has its number now may also be something else.
    There,
    /// Nothing: an older version has laid it, or the kernel does not tell.
    Untold,
}

/// Looks, without the kernel's noticing, whether the last overlay with its changes in `changes` is gone.
///
/// # Errors
/// [`Error::OverlayChanges`], [`Error::ExamineOverlay`].
pub fn trace(changes: BorrowedFd<'_>) -> Result<Trace, Error> {
    let failed = |source| Error::OverlayChanges { source };
    let root = sys::openat(changes, ".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
    if open_layer(root.as_fd(), UPPER).map_err(failed)?.is_none() {
        return Ok(Trace::Gone);
    }
    let Some(_held) = lock(root.as_fd())? else { return Ok(Trace::There) };
    Ok(match last_is_gone(root.as_fd()).map_err(failed)? {
        Some(true) => Trace::Gone,
        Some(false) => Trace::There,
        None => Trace::Untold,
    })
}

/// Whether an overlay with its changes on the filesystem of `scratch`, an empty directory, can be laid over `lower`. It is
/// tried, and `scratch` is empty again afterwards.
///
/// The inner error is the reason why not, for a person.
///
/// # Errors
/// When that cannot be told: those of [`mount_overlay`] but [`Error::MountOverlay`] and [`Error::OverlayReadOnly`], and
/// [`Error::CloneDirectory`] of `scratch`.
pub fn stacking(lower: impl Into<Layer>, scratch: BorrowedFd<'_>) -> Result<Result<(), String>, Error> {
    let lower = lower.into();
    let on_overlay = is_overlay(lower.as_fd())?;
    let answer = match mount_overlay(lower, clone_directory(scratch)?, None) {
        Ok(_) => keeps_marks(scratch),
        Err(Error::MountOverlay { log, source }) => Ok(Err(if is_overlay(scratch)? {
            because("an overlay's changes cannot be kept on an overlay", &log, &source)
        } else if on_overlay && source.is(Errno::INVAL) {
            because(
                "the root filesystem is an overlay over an overlay, and Linux lays no third one over that",
                &log,
                &source,
            )
        } else {
            because("Linux lays no overlay over the root filesystem", &log, &source)
        })),
        Err(error @ Error::OverlayReadOnly { .. }) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    };
    let cleared = clear(scratch).map_err(|source| Error::OverlayChanges { source });
    answer.and_then(|answer| cleared.map(|()| answer))
}

/// Whether a directory is on a filesystem that overlays are known to take in either place, with nothing stacked: ext4, XFS
/// or btrfs (statfs(2)). Where both are, [`stacking`] need not be asked, which takes more than a millisecond.
///
/// # Errors
/// [`Error::ExamineOverlay`].
pub fn is_plain(directory: BorrowedFd<'_>) -> Result<bool, Error> {
    let found = rustix::fs::fstatfs(directory)
        .map_err(|errno| Error::ExamineOverlay { source: SyscallError::new("fstatfs(a layer)", errno) })?;
    Ok(u64::try_from(found.f_type).is_ok_and(|kind| PLAIN.contains(&kind)))
}

fn because(what: &str, log: &str, source: &SyscallError) -> String {
    if log.is_empty() { format!("{what} ({source})") } else { format!("{what} ({log})") }
}

/// Removes what [`mount_overlay`] and the kernel have made in a directory for changes, which are empty.
fn clear(changes: BorrowedFd<'_>) -> sys::Result<()> {
    let remove =
        |directory: BorrowedFd<'_>, name| match sys::unlinkat(directory, Path::new(name), AtFlags::REMOVEDIR)
        {
            Err(error) if !error.is(Errno::NOENT) => Err(error),
            _ => Ok(()),
        };
    if let Some(work) = open_layer(changes, WORK)? {
        remove(work.as_fd(), last_overlay::ROOM)?;
    }
    [WORK, UPPER, UNFINISHED].into_iter().try_for_each(|name| remove(changes, name))
}

/// Without the attributes with which an overlay marks what is hidden, the kernel mounts it all the same, but what was
/// removed could appear again.
fn keeps_marks(changes: BorrowedFd<'_>) -> Result<Result<(), String>, Error> {
    let failed = |source| Error::OverlayChanges { source };
    let Some(upper) = open_layer(changes, UPPER).map_err(failed)? else { return Ok(Ok(())) };
    match rustix::fs::fsetxattr(&upper, "trusted.volhook", b"y", XattrFlags::empty()) {
        Ok(()) => Ok(Ok(())),
        Err(errno @ Errno::OPNOTSUPP) => Ok(Err(format!(
            "the filesystem for the changes has no attributes of the kind `trusted.` ({errno})"
        ))),
        Err(errno) => Err(failed(SyscallError::new("fsetxattr(upper, \"trusted.volhook\")", errno))),
    }
}

fn is_overlay(directory: BorrowedFd<'_>) -> Result<bool, Error> {
    match rustix::fs::fstatfs(directory) {
        Ok(found) => Ok(u64::try_from(found.f_type) == Ok(OVERLAYFS_MAGIC)),
        Err(errno) => Err(Error::ExamineOverlay { source: SyscallError::new("fstatfs(a layer)", errno) }),
    }
}

/// Whether the kernel works with mounts that are attached nowhere as it does with others.
fn takes_detached(mount: &Detached) -> bool {
    !matches!(sys::clone_mount(mount.as_fd()), Err(error) if error.is(Errno::INVAL))
}

struct Layers<'a> {
    lower: Layer,
    changes: Layer,
    users: Option<&'a Users>,
}

impl Layers<'_> {
    /// Whether the kernel takes layers of these kinds.
    fn are_taken(&self) -> bool {
        let is_taken = |layer: &Layer| match layer {
            Layer::Directory(_) => true,
            Layer::Mount(mount) => takes_detached(mount),
        };
        is_taken(&self.lower) && is_taken(&self.changes)
    }

    /// All of them as mounts, which can be attached in another namespace.
    fn attachable(self) -> Result<Self, Error> {
        let (lower, changes) = (self.lower.into_mount()?, self.changes.into_mount()?);
        Ok(Self { lower: lower.into(), changes: changes.into(), users: self.users })
    }

    fn mount_detached(&self) -> Result<OwnedFd, Error> {
        if self.users.is_none() {
            return self.mount();
        }
        self.on_helper_thread(|| Ok(()))
    }

    /// Mounts it after attaching the layers in a mount namespace that nobody else sees.
    fn mount_attached(&self) -> Result<OwnedFd, Error> {
        self.on_helper_thread(|| {
            attach_privately(&[self.lower.as_fd(), self.changes.as_fd()])
                .map_err(|source| Error::OverlayChanges { source })
        })
    }

    /// Mounts it as the container's root user: as that user the kernel then makes the files of the overlay, and others
    /// do not exist in idmapped layers.
    fn on_helper_thread(&self, before: impl FnOnce() -> Result<(), Error> + Send) -> Result<OwnedFd, Error> {
        let work = || {
            before()?;
            if self.users.is_some() {
                users::keep_capabilities().map_err(|source| Error::Helper { source })?;
            }
            as_user(self.users.map(Users::root), || self.mount())
        };
        sys::on_helper_thread(work).map_err(|source| Error::Helper { source })?
    }

    fn mount(&self) -> Result<OwnedFd, Error> {
        let failed = |source| Error::OverlayChanges { source };
        let changes =
            sys::openat(self.changes.as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
        // From the look whether they are in use until they are: whoever comes meanwhile has to wait.
        let (upper, work) = self.take_directories(changes.as_fd())?;
        let overlay = match self.lay(upper.as_fd(), work.as_fd()) {
            Err(Error::MountOverlay { .. } | Error::OverlayReadOnly { .. }) => {
                // So that the kernel says again what it does not like, and somebody reads it.
                let kernel = KernelLog::from_now();
                self.lay(upper.as_fd(), work.as_fd()).map_err(|error| kernel.explain(error))?
            }
            laid => laid?,
        };
        if let Ok(Some(room)) = open_layer(work.as_fd(), last_overlay::ROOM) {
            last_overlay::note(room.as_fd(), overlay.as_fd());
        }
        Ok(overlay)
    }

    fn lay(&self, upper: BorrowedFd<'_>, work: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
        let options = [
            ("lowerdir", Some(by_fd(self.lower.as_fd()))),
            ("upperdir", Some(by_fd(upper))),
            ("workdir", Some(by_fd(work))),
            ("index", Some("off".to_owned())),
            ("metacopy", Some("off".to_owned())),
            ("nfs_export", Some("off".to_owned())),
            ("redirect_dir", Some("nofollow".to_owned())),
            ("xino", Some("off".to_owned())),
        ];
        let wanted = Wanted { kind: "overlay", source: "volhook", options: &options, exclusive: false };
        let mount = superblock::mount(&wanted)
            .map_err(|Failed { source, log }| Error::MountOverlay { log, source })?;
        let flags = rustix::fs::fstatvfs(&mount)
            .map_err(|errno| Error::ExamineOverlay {
                source: SyscallError::new("fstatvfs(the overlay)", errno),
            })?
            .f_flag;
        if flags.contains(StatVfsMountFlags::RDONLY) {
            return Err(Error::OverlayReadOnly { log: String::new() });
        }
        Ok(mount)
    }

    /// Locks the changes and opens their directories, which are then in nobody's use.
    fn take_directories(&self, changes: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd), Error> {
        let failed = |source| Error::OverlayChanges { source };
        let mut pauses = USE_PAUSES.iter();
        loop {
            let Some(_held) = lock(changes)? else { return Err(Error::OverlayBusy) };
            let known = open_layer(changes, UPPER).map_err(failed)?;
            // What is made now is in nobody's use.
            let is_free = known.is_none() || last_is_gone(changes).map_err(failed)? == Some(true);
            let upper = known.map_or_else(|| self.make_upper(changes), Ok).map_err(failed)?;
            if is_free || !has_overlay(upper.as_fd())? {
                return Ok((upper, open_or_make(changes, WORK).map_err(failed)?));
            }
            unlock(changes)?;
            match pauses.next() {
                Some(pause) => std::thread::sleep(Duration::from_millis(*pause)),
                None => return Err(Error::OverlayBusy),
            }
        }
    }

    /// It appears complete or not at all.
    fn make_upper(&self, changes: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
        let upper = open_or_make(changes, UNFINISHED)?;
        let below = rustix::fs::fstat(self.lower.as_fd())
            .map_err(|errno| SyscallError::new("fstat(the lower directory)", errno))?;
        let (user, group) = (Uid::from_raw(below.st_uid), Gid::from_raw(below.st_gid));
        match rustix::fs::fchown(&upper, Some(user), Some(group)) {
            // An owner whom the container does not know cannot be stored; its root user has made the directory.
            Ok(()) | Err(Errno::OVERFLOW | Errno::INVAL) => {}
            Err(errno) => {
                let call = format!("fchown({UNFINISHED:?}, {}, {})", below.st_uid, below.st_gid);
                return Err(SyscallError::new(call, errno));
            }
        }
        let mode = Mode::from_raw_mode(below.st_mode) & Mode::from_raw_mode(0o7777);
        rustix::fs::fchmod(&upper, mode)
            .map_err(|errno| SyscallError::new(format!("fchmod({UNFINISHED:?}, {mode:?})"), errno))?;
        rustix::fs::renameat(changes, UNFINISHED, changes, UPPER)
            .map_err(|errno| SyscallError::new(format!("renameat({UNFINISHED:?}, {UPPER:?})"), errno))?;
        Ok(upper)
    }
}

/// `fd` as a path that means this very directory.
fn by_fd(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn open_layer(changes: BorrowedFd<'_>, name: &str) -> sys::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match sys::openat2(changes, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY, resolve) {
        Ok(directory) => Ok(Some(directory)),
        Err(error) if error.is(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn open_or_make(changes: BorrowedFd<'_>, name: &str) -> sys::Result<OwnedFd> {
    if let Some(directory) = open_layer(changes, name)? {
        return Ok(directory);
    }
    sys::mkdirat(changes, Path::new(name))?;
    open_layer(changes, name)?
        .ok_or_else(|| SyscallError::new(format!("opening the new {name:?}"), Errno::NOENT))
}

/// Locks the directory of the changes (flock(2)), for as long as its descriptor is open; `None` where somebody else has it.
fn lock(changes: BorrowedFd<'_>) -> Result<Option<Held>, Error> {
    volhook_locks::take(Lock::Changes, changes, Instant::now() + LOCK_PATIENCE).map_err(|errno| {
        Error::ExamineOverlay { source: SyscallError::new("flock(the changes, LOCK_EX | LOCK_NB)", errno) }
    })
}

fn unlock(changes: BorrowedFd<'_>) -> Result<(), Error> {
    volhook_locks::give_back(changes).map_err(|errno| Error::ExamineOverlay {
        source: SyscallError::new("flock(the changes, LOCK_UN)", errno),
    })
}

/// Whether the last overlay over the changes, which are locked, is gone; `None` if that cannot be told.
fn last_is_gone(changes: BorrowedFd<'_>) -> sys::Result<Option<bool>> {
    let Some(work) = open_layer(changes, WORK)? else { return Ok(None) };
    Ok(open_layer(work.as_fd(), last_overlay::ROOM)?.and_then(|room| last_overlay::is_gone(room.as_fd())))
}

/// Whether an overlay has `upper` for its changes.
fn has_overlay(upper: BorrowedFd<'_>) -> Result<bool, Error> {
    match lay_over(upper) {
        Ok(IndexUsed::Yes) => Ok(false),
        Err(error) if error.is(Errno::BUSY) => Ok(true),
        _ => is_refused_as_upper(upper),
    }
}

/// Whether the kernel did what it was asked for with `index=on`, which not all filesystems allow.
enum IndexUsed {
    Yes,
    No,
}

/// Lays an overlay over `upper`, with its own changes in memory, and drops it. With `index=on` the kernel insists (EBUSY)
/// that what is below is not above in another overlay.
fn lay_over(upper: BorrowedFd<'_>) -> sys::Result<IndexUsed> {
    let create = |kind, options: &[MountOption]| {
        let wanted = Wanted { kind, source: "volhook", options, exclusive: false };
        superblock::mount(&wanted).map_err(|Failed { source, .. }| source)
    };
    let memory = create("tmpfs", &[("mode", Some("700".to_owned()))])?;
    let (changes, work) = (open_or_make(memory.as_fd(), UPPER)?, open_or_make(memory.as_fd(), WORK)?);
    create(
        "overlay",
        &[
            ("lowerdir", Some(by_fd(upper))),
            ("upperdir", Some(by_fd(changes.as_fd()))),
            ("workdir", Some(by_fd(work.as_fd()))),
            ("index", Some("on".to_owned())),
        ],
    )?;
    // The kernel goes on without an index where a filesystem has no file handles, and then insists on nothing.
    Ok(if open_layer(work.as_fd(), "index")?.is_some() { IndexUsed::Yes } else { IndexUsed::No })
}

/// Asks for an overlay with the changes `upper` that cannot be. With `index=on` the kernel insists on being the only one
/// with these (EBUSY); if it is, it goes on to find that the same directory cannot serve as its room for preparations
/// (EINVAL).
///
/// This works with all filesystems that can hold changes, but every time the kernel puts an error on the console, which
/// alarms people and takes milliseconds where that is a serial line.
fn is_refused_as_upper(upper: BorrowedFd<'_>) -> Result<bool, Error> {
    let upper = by_fd(upper);
    let options = [
        ("lowerdir", Some(upper.clone())),
        ("upperdir", Some(upper.clone())),
        ("workdir", Some(upper)),
        ("index", Some("on".to_owned())),
    ];
    let wanted = Wanted { kind: "overlay", source: "volhook", options: &options, exclusive: false };
    match superblock::mount(&wanted) {
        Err(Failed { source, .. }) if source.is(Errno::BUSY) => Ok(true),
        Err(Failed { source, .. }) if source.is(Errno::INVAL) => Ok(false),
        Err(Failed { source, .. }) => Err(Error::ExamineOverlay { source }),
        Ok(_) => Err(Error::ExamineOverlay {
            source: SyscallError::new("fsconfig(CREATE) of an overlay that cannot be", Errno::OPNOTSUPP),
        }),
    }
}

/// The kernel's log from a moment on (`/dev/kmsg`). Overlayfs says there, and mostly only there, what it does not like.
struct KernelLog(Option<OwnedFd>);

impl KernelLog {
    /// Where the log cannot be read nothing is said.
    fn from_now() -> Self {
        let log = sys::open(Path::new("/dev/kmsg"), OFlags::RDONLY | OFlags::NONBLOCK).ok();
        Self(log.filter(|log| rustix::fs::seek(log, SeekFrom::End(0)).is_ok()))
    }

    /// `error` with what it has said since.
    fn explain(&self, error: Error) -> Error {
        match error {
            Error::MountOverlay { log, source } => {
                Error::MountOverlay { log: join_logs(&log, &self.about_overlays()), source }
            }
            Error::OverlayReadOnly { .. } => Error::OverlayReadOnly { log: self.about_overlays() },
            other => other,
        }
    }

    /// What it has said about overlays since, one line; of any overlay, since the log does not say which.
    fn about_overlays(&self) -> String {
        let mut lines = Vec::new();
        let mut record = [0_u8; 8192];
        while let Some(length) = self.0.as_ref().and_then(|log| rustix::io::read(log, &mut record).ok()) {
            let record = String::from_utf8_lossy(&record[..length]);
            // `priority,number,time,flags;text`, and properties on further lines.
            let text = record.split_once(';').and_then(|(_, text)| text.lines().next());
            lines.extend(text.and_then(|text| text.strip_prefix("overlayfs: ")).map(str::to_owned));
        }
        lines.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::IndexUsed;
    use super::Layers;
    use super::clone_directory;
    use super::is_refused_as_upper;
    use super::lay_over;
    use super::mount_overlay;
    use super::takes_detached;
    use crate::error::Error;
    use rustix::io::Errno;
    use std::os::fd::AsFd;
    use std::os::fd::AsRawFd;

    /// The way of older kernels, which the public function does not take on newer ones.
    #[test]
    fn privileged_an_overlay_can_be_mounted_through_a_private_namespace() {
        let folder = tempfile::tempdir().unwrap();
        let directory = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            let directory = std::fs::File::open(&path).unwrap();
            clone_directory(directory.as_fd())
                .expect("mounting needs root: run the privileged_ tests as root")
        };
        let layers =
            || Layers { lower: directory("lower").into(), changes: directory("changes").into(), users: None };
        std::fs::create_dir(folder.path().join("lower")).unwrap();
        std::fs::write(folder.path().join("lower/file"), "image").unwrap();
        let before = std::fs::read("/proc/thread-self/mountinfo").unwrap();
        let overlay = layers().mount_attached().unwrap();
        let path = |name: &str| format!("/proc/self/fd/{}/{name}", overlay.as_raw_fd());
        assert_eq!(std::fs::read_to_string(path("file")).unwrap(), "image");
        std::fs::write(path("new"), "change").unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("changes/upper/new")).unwrap(), "change");
        assert_eq!(before, std::fs::read("/proc/thread-self/mountinfo").unwrap());
        assert!(matches!(layers().mount_attached(), Err(Error::OverlayBusy)), "it is asked there too");
    }

    /// The one is for filesystems that the other cannot ask about.
    #[test]
    fn privileged_both_ways_to_ask_say_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
            std::fs::File::open(folder.path().join(name)).unwrap()
        };
        let (lower, changes, upper) = (open("lower"), open("changes"), open("changes/upper"));
        let both = || {
            let over = match lay_over(upper.as_fd()) {
                Ok(IndexUsed::Yes) => false,
                Ok(IndexUsed::No) => panic!("the test's filesystem has file handles"),
                Err(error) if error.is(Errno::BUSY) => true,
                Err(error) => panic!("{error}"),
            };
            (over, is_refused_as_upper(upper.as_fd()).unwrap())
        };
        assert_eq!(both(), (false, false));
        let clone = |directory: &std::fs::File| clone_directory(directory.as_fd()).unwrap();
        let overlay = mount_overlay(clone(&lower), clone(&changes), None)
            .expect("mounting needs root: run the privileged_ tests as root");
        assert_eq!(both(), (true, true));
        drop(overlay);
        assert_eq!(both(), (false, false));
    }

    #[test]
    fn privileged_a_kernel_of_this_age_takes_detached_mounts() {
        let folder = tempfile::tempdir().unwrap();
        let directory = std::fs::File::open(folder.path()).unwrap();
        let mount = clone_directory(directory.as_fd())
            .expect("mounting needs root: run the privileged_ tests as root");
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let version: Vec<u32> = release.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
        assert_eq!(takes_detached(&mount), version >= vec![6, 15], "Linux {release}");
    }
}
