//! A container's root filesystem, seen from the host: where its targets really are.

use crate::error::Error;
use crate::mountinfo::Mount;
use crate::process::Process;
use crate::source;
use crate::source::Detached;
use crate::sys;
use crate::sys::SyscallError;
use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::decision::EntryKind;
use volhook_core::decision::RootEntry;
use volhook_core::names::Target;
use volhook_core::resolved::Resolved;

/// A root filesystem in some mount namespace.
#[derive(Debug)]
pub struct Rootfs {
    root: OwnedFd,
    /// Where it is, from the root of its mount namespace.
    path: PathBuf,
    /// The mounts of a container's namespace; `None` on the host, whose own say nothing about the container's.
    mounts: Option<Vec<Mount>>,
}

impl Rootfs {
    /// The root filesystem at `path` in the mount namespace of `process`, with that namespace's mounts. The
    /// namespace is looked into (`/proc/PID/root`), not entered.
    ///
    /// # Errors
    /// [`Error::OpenRootfs`], or what [`Process::mounts`] says.
    pub fn of_process(process: &Process, path: &Path) -> Result<Self, Error> {
        let (root, path) = open_in(process, path)?;
        Ok(Self { root, path, mounts: Some(process.first_mounts()?.to_vec()) })
    }

    /// The root filesystem at `path` in the caller's own mount namespace, for the spec stage. The container's
    /// mounts are not there yet: no target of it is `shared`, whatever the host's mounts are.
    ///
    /// # Errors
    /// As [`Rootfs::of_process`].
    pub fn on_host(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::OpenRootfs { path: path.to_owned(), source };
        let root = sys::open(path, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
        let real = sys::fd_path(root.as_fd()).map_err(failed)?;
        Ok(Self { root, path: real, mounts: None })
    }

    /// Where `target` really is. Symlinks are followed as in the container: an absolute one, and one that
    /// climbs with `..`, stay inside. Components that do not exist yet may end the target.
    ///
    /// # Errors
    /// [`Error::TargetLoops`], [`Error::TargetDangles`], [`Error::TargetNotBelowDirectory`],
    /// [`Error::TargetForbidden`] when the symlinks lead to the root itself or into one of the kernel's trees,
    /// [`Error::TargetUnnameable`], [`Error::ResolveTarget`].
    pub fn resolve(&self, target: &Target) -> Result<Resolved, Error> {
        let name = || target.as_str().to_owned();
        let failed = |source: SyscallError| Error::ResolveTarget { target: name(), source };
        let relative = relative(target.as_str());
        // Most targets are what they seem. Then nobody has to be asked where they are.
        let straight = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        if let Ok(fd) = sys::openat2(self.root.as_fd(), Path::new(relative), OFlags::PATH, straight) {
            let status = sys::status(fd.as_fd()).map_err(failed)?;
            return self.resolved(
                target,
                format!("/{relative}"),
                Some(entry_kind(status.kind)),
                status.mount,
            );
        }
        let found = deepest(self.root.as_fd(), relative, ResolveFlags::empty());
        let Deepest { fd, existing, missing } = match found {
            Ok(found) => found,
            Err(source) if source.is(Errno::LOOP) => return Err(Error::TargetLoops { target: name() }),
            Err(source) => return Err(failed(source)),
        };
        let status = sys::status(fd.as_fd()).map_err(failed)?;
        if let Some(first) = Path::new(missing).components().next() {
            if status.kind != FileType::Directory {
                return Err(Error::TargetNotBelowDirectory { target: name(), at: format!("/{existing}") });
            }
            match sys::kind_at(fd.as_fd(), first.as_os_str().as_ref()) {
                Err(error) if error.is(Errno::NOENT) => {}
                Err(source) => return Err(failed(source)),
                Ok(_) => {
                    let link = Path::new("/").join(existing).join(first);
                    return Err(Error::TargetDangles { target: name(), link: link.display().to_string() });
                }
            }
        }
        let real = sys::fd_path(fd.as_fd()).map_err(failed)?;
        let inside = real.strip_prefix(&self.path).ok().and_then(Path::to_str);
        let Some(inside) = inside else {
            return Err(Error::TargetUnnameable { target: name(), path: real });
        };
        let path = match (inside, missing) {
            (inside, "") => format!("/{inside}"),
            ("", missing) => format!("/{missing}"),
            (inside, missing) => format!("/{inside}/{missing}"),
        };
        // What symlinks lead to obeys the same rules as what was asked for.
        Target::new(&path).map_err(|source| Error::TargetForbidden {
            target: name(),
            path: path.clone(),
            source,
        })?;
        let kind = missing.is_empty().then(|| entry_kind(status.kind));
        self.resolved(target, path, kind, status.mount)
    }

    fn resolved(
        &self,
        target: &Target,
        path: String,
        kind: Option<EntryKind>,
        mount: u64,
    ) -> Result<Resolved, Error> {
        let shared = match &self.mounts {
            None => false,
            Some(mounts) => match mounts.iter().find(|known| known.id == mount) {
                Some(mount) => mount.shared,
                None => {
                    let (target, path) = (target.as_str().to_owned(), self.path.join(relative(&path)));
                    return Err(Error::TargetUnnameable { target, path });
                }
            },
        };
        Ok(Resolved { path, kind, shared })
    }

    /// Checks that the runtime has mounted `directory` of the host at `target`: it is seen there, as a mount of its
    /// own, and propagates nowhere. Whether it is read-only is not looked at: crun sets that later.
    ///
    /// # Errors
    /// [`Error::NotInPlace`], [`Error::ResolveTarget`], [`Error::TargetUnnameable`].
    pub fn shows(&self, target: &Resolved, directory: BorrowedFd<'_>) -> Result<(), Error> {
        let name = || target.path.clone();
        let failed = |source| Error::ResolveTarget { target: name(), source };
        let wrong = |reason: &str| Err(Error::NotInPlace { target: name(), reason: reason.to_owned() });
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let path = Path::new(relative(&target.path));
        let there = sys::openat2(self.root.as_fd(), path, OFlags::PATH, resolve).map_err(failed)?;
        let (there, wanted) =
            (sys::status(there.as_fd()).map_err(failed)?, sys::status(directory).map_err(failed)?);
        if (there.device, there.inode) != (wanted.device, wanted.inode) {
            return wrong("the container sees something else there");
        }
        let mount = self.mounts.iter().flatten().find(|mount| mount.id == there.mount);
        match mount {
            None => wrong("it is not in the container's mount table"),
            Some(mount) if mount.mount_point != self.path.join(path) => wrong("it is part of another mount"),
            Some(mount) if mount.shared => wrong("it propagates"),
            Some(_) => Ok(()),
        }
    }

    /// Whether both are one directory of one filesystem, wherever and however often that is mounted. So it can be said
    /// whether what the host has at a bundle's path is what the container's process got as its root filesystem: an
    /// engine may have mounted it where the host does not see it.
    ///
    /// # Errors
    /// [`Error::OpenRootfs`].
    pub fn is_same_directory(&self, other: &Self) -> Result<bool, Error> {
        let identity = |rootfs: &Self| match sys::status(rootfs.root.as_fd()) {
            Ok(status) => Ok((status.device, status.inode)),
            Err(source) => Err(Error::OpenRootfs { path: rootfs.path.clone(), source }),
        };
        Ok(identity(self)? == identity(other)?)
    }

    /// Its root directory, without access to what is in it (`O_PATH`).
    #[must_use]
    pub fn into_directory(self) -> OwnedFd {
        self.root
    }

    /// A mount of the root filesystem with nothing of what is mounted inside it: the image as it is, for overlays to
    /// lie over and for volumes to be filled from. Of [`Rootfs::on_host`] only, since what another mount namespace has
    /// cannot be cloned (open_tree(2)).
    ///
    /// # Errors
    /// [`Error::CloneDirectory`].
    pub fn bare(&self) -> Result<Detached, Error> {
        source::clone_directory(self.root.as_fd())
    }

    /// What is at the top level, sorted by name. What is not UTF-8 of a name is U+FFFD, so that somebody can say that nothing
    /// can be claimed there.
    ///
    /// # Errors
    /// [`Error::ListRootfs`].
    pub fn top_level(&self) -> Result<Vec<RootEntry>, Error> {
        let failed = |source| Error::ListRootfs { path: self.path.clone(), source };
        let mut entries = Vec::new();
        each_entry(self.root.as_fd(), |name, kind| {
            entries.push(RootEntry { name: name.to_string_lossy().into_owned(), kind });
            true
        })
        .map_err(failed)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }
}

/// The directories in a directory that `wanted` says yes to, sorted by name; of more than `most` so many, whichever come first.
/// A container may have made any number.
///
/// # Errors
/// [`Error::ListRootfs`].
pub fn folders_in(
    directory: BorrowedFd<'_>,
    most: usize,
    wanted: impl Fn(&OsStr) -> bool,
) -> Result<Vec<OsString>, Error> {
    let mut folders = Vec::new();
    each_entry(directory, |name, kind| {
        if kind == EntryKind::Directory && wanted(name) {
            folders.push(name.to_owned());
        }
        folders.len() < most
    })
    .map_err(|source| Error::ListRootfs { path: PathBuf::from("/"), source })?;
    folders.sort();
    Ok(folders)
}

/// Shows the entries of a directory to `show` until that says no.
fn each_entry(directory: BorrowedFd<'_>, mut show: impl FnMut(&OsStr, EntryKind) -> bool) -> sys::Result<()> {
    let directory = sys::openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let listing = |errno| SyscallError::new("getdents64", errno);
    for entry in rustix::fs::Dir::read_from(&directory).map_err(listing)? {
        let entry = entry.map_err(listing)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let name = OsStr::from_bytes(name.to_bytes());
        let kind = match entry.file_type() {
            FileType::Unknown => sys::kind_at(directory.as_fd(), Path::new(name))?,
            kind => kind,
        };
        if !show(name, entry_kind(kind)) {
            break;
        }
    }
    Ok(())
}

/// Opens the directory that `path` (absolute) leads to inside [`Rootfs::bare`], to be read. Symlinks are followed as in
/// the container: none leads out. `None` if there is nothing, or something that is not a directory: either way the
/// image has no such directory.
///
/// # Errors
/// [`Error::TargetLoops`], [`Error::ResolveTarget`].
pub fn open_directory(bare: &Detached, path: &str) -> Result<Option<OwnedFd>, Error> {
    let inside = match relative(path) {
        "" => ".",
        inside => inside,
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_XDEV;
    match sys::openat2(bare.as_fd(), Path::new(inside), OFlags::RDONLY | OFlags::DIRECTORY, resolve) {
        Ok(directory) => Ok(Some(directory)),
        Err(error) if error.is(Errno::NOENT) || error.is(Errno::NOTDIR) => Ok(None),
        Err(error) if error.is(Errno::LOOP) => Err(Error::TargetLoops { target: path.to_owned() }),
        Err(source) => Err(Error::ResolveTarget { target: path.to_owned(), source }),
    }
}

/// Opens the directory `path` in the mount namespace of `process`, and says where it really is there.
pub(crate) fn open_in(process: &Process, path: &Path) -> Result<(OwnedFd, PathBuf), Error> {
    let failed = |source| Error::OpenRootfs { path: path.to_owned(), source };
    let namespace = process.root()?;
    let directory =
        sys::openat2(namespace.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::IN_ROOT)
            .map_err(failed)?;
    let real = sys::fd_path(directory.as_fd()).map_err(failed)?;
    Ok((directory, real))
}

/// `target` without its leading slash.
pub(crate) fn relative(target: &str) -> &str {
    target.trim_start_matches('/')
}

pub(crate) fn entry_kind(kind: FileType) -> EntryKind {
    match kind {
        FileType::Directory => EntryKind::Directory,
        FileType::RegularFile => EntryKind::File,
        FileType::Symlink => EntryKind::Symlink,
        _ => EntryKind::Other,
    }
}

/// How far a path exists.
#[derive(Debug)]
pub(crate) struct Deepest<'a> {
    /// The last component that exists (`O_PATH`).
    pub(crate) fd: OwnedFd,
    /// Its part of the path; empty for the root.
    pub(crate) existing: &'a str,
    /// What is missing behind it, without a leading slash; empty if nothing is.
    pub(crate) missing: &'a str,
}

/// Opens as much of the relative `path` as exists below `root`, never leaving `root`.
pub(crate) fn deepest<'a>(
    root: BorrowedFd<'_>,
    path: &'a str,
    resolve: ResolveFlags,
) -> Result<Deepest<'a>, SyscallError> {
    let mut end = path.len();
    loop {
        let existing = if end == 0 { "." } else { &path[..end] };
        match sys::openat2(root, Path::new(existing), OFlags::PATH, resolve | ResolveFlags::IN_ROOT) {
            Ok(fd) => {
                let (existing, missing) = path.split_at(end);
                return Ok(Deepest { fd, existing, missing: missing.trim_start_matches('/') });
            }
            Err(error) if (error.is(Errno::NOENT) || error.is(Errno::NOTDIR)) && end > 0 => {
                end = path[..end].rfind('/').unwrap_or(0);
            }
            Err(error) => return Err(error),
        }
    }
}
