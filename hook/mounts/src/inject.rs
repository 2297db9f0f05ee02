//! Putting volumes into a container's mount namespace, before the runtime pivots into its root filesystem.
//!
//! A volume covers what the runtime mounted below its target. Those mounts are moved on top of it, not copied:
//! a runtime may still change their attributes, and does so by what it mounted itself.

use crate::error::Error;
use crate::mountinfo;
use crate::mountinfo::Mount;
use crate::process;
use crate::process::Process;
use crate::rootfs;
use crate::rootfs::deepest;
use crate::rootfs::entry_kind;
use crate::rootfs::relative;
use crate::source::Detached;
use crate::source::make_entries;
use crate::sys;
use crate::sys::MountState;
use crate::sys::SyscallError;
use crate::users;
use crate::users::Users;
use crate::users::as_user;
use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::thread::ThreadNameSpaceType;
use std::cell::OnceCell;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::decision::EntryKind;
use volhook_core::decision::MountFlags;
use volhook_core::resolved::Resolved;

/// A volume and its place.
#[derive(Debug)]
pub struct Injection {
    /// The volume.
    pub mount: Detached,
    /// Where it goes; only its `path` is used, and looked at anew.
    pub target: Resolved,
    /// Whether the container may only read it. No wall against a container with `CAP_SYS_ADMIN`.
    pub read_only: bool,
    /// Restrictions asked for.
    pub flags: MountFlags,
    /// Mounts of the container below the target, by their paths inside the root filesystem, that stay covered. The
    /// others are moved on top of the volume, also those inside a covered one.
    pub covers: Vec<String>,
}

/// What [`inject`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Injected {
    /// The volumes' mounts, in order.
    pub mounts: Vec<InjectedMount>,
}

/// A volume's mount in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InjectedMount {
    /// Its mount id (first field of proc_pid_mountinfo(5)).
    pub id: u64,
    /// Its target inside the root filesystem.
    pub target: String,
    /// Where it is in the container's mount namespace, as long as the runtime has not pivoted.
    pub path: PathBuf,
    /// The container's own mounts that were moved on top of it, by the same kind of path.
    pub moved: Vec<PathBuf>,
}

/// Mounts the volumes in the mount namespace of `process`, in the given order, in the root filesystem that is at
/// `rootfs` in that namespace.
///
/// Missing mount points are made. Mounts below a target end up on top of the volume. Each volume is private
/// (nothing propagates from or to it) and, for a container with a user namespace, idmapped, unless it is so already
/// ([`Detached::mapped_for`]): what belongs to root in the volume belongs to the container's root. Afterwards the container's mount table is checked.
///
/// # Errors
/// [`Error::HostNamespace`], [`Error::SharedParent`], [`Error::KindMismatch`], [`Error::MountPointSymlink`],
/// [`Error::MakeMountPoint`], [`Error::OtherUsers`], [`Error::Prepare`], [`Error::Attach`],
/// [`Error::MoveNested`], [`Error::NotInPlace`], and failures to look at or enter the container. Whatever this call mounted is taken
/// out again then; [`Error::Undo`] if even that fails. Mount points that it made stay, as they do otherwise.
pub fn inject(process: &Process, rootfs: &Path, injections: Vec<Injection>) -> Result<Injected, Error> {
    if injections.is_empty() {
        return Ok(Injected::default());
    }
    let namespace = process::container_namespace(process)?;
    let users = Users::of_process(process)?;
    let (root, path) = rootfs::open_in(process, rootfs)?;
    let mounts = process.first_mounts()?.to_vec();
    let work = move || {
        // Opened before the thread leaves the host's namespace: a container's /proc may show anything.
        let own = process::own()?;
        rustix::thread::move_into_thread_name_spaces(namespace.as_fd(), ThreadNameSpaceType::MOUNT).map_err(
            |errno| Error::EnterNamespace {
                pid: process.pid(),
                source: SyscallError::new(
                    format!("setns(mount namespace of process {})", process.pid()),
                    errno,
                ),
            },
        )?;
        let mut session = Session { own, root, path, mounts, users, done: Vec::new() };
        session.run(injections)
    };
    sys::on_helper_thread(work).map_err(|source| Error::Helper { source })?
}

/// A volume that is in place.
struct Done {
    volume: Detached,
    read_only: bool,
    /// What it covers: the place where it was mounted, seen from below it.
    place: OwnedFd,
    nested: Vec<Nested>,
    report: InjectedMount,
}

/// One of the container's mounts below a target.
struct Nested {
    mount: OwnedFd,
    id: u64,
    /// Its path below the target.
    below: PathBuf,
    /// Whether it is on top of the volume already.
    moved: bool,
}

/// One injection at work, on a thread in the container's mount namespace.
struct Session {
    own: Process,
    root: OwnedFd,
    /// Where the root filesystem is in the namespace.
    path: PathBuf,
    /// The namespace's mounts, kept up to date with what is done.
    mounts: Vec<Mount>,
    users: Option<Users>,
    done: Vec<Done>,
}

/// Inside volumes and for targets resolved before, a symlink is an attack or a race.
const NO_LINKS: ResolveFlags = ResolveFlags::NO_SYMLINKS;

impl Session {
    fn run(&mut self, injections: Vec<Injection>) -> Result<Injected, Error> {
        let result = self.prepare_thread().and_then(|()| {
            injections.into_iter().try_for_each(|injection| self.place(injection))?;
            self.verify()
        });
        match result {
            Ok(()) => Ok(Injected { mounts: self.done.iter().map(|done| done.report.clone()).collect() }),
            Err(error) => match self.undo() {
                Ok(()) => Err(error),
                Err(undo) => Err(Error::Undo { undo: undo.to_string(), source: Box::new(error) }),
            },
        }
    }

    /// Lets this thread act as the container's root user where it makes files, without losing its capabilities.
    fn prepare_thread(&self) -> Result<(), Error> {
        if self.users.is_none() {
            return Ok(());
        }
        users::keep_capabilities().map_err(|source| Error::Helper { source })
    }

    fn place(&mut self, injection: Injection) -> Result<(), Error> {
        let target = injection.target.path.clone();
        let absolute = self.path.join(relative(&target));
        let attach_failed = |source| Error::Attach { target: target.clone(), source };
        let volume = sys::status(injection.mount.as_fd()).map_err(attach_failed)?;

        let place = self.open_target(&target, volume.kind)?;
        let covered = sys::status(place.as_fd()).map_err(attach_failed)?;
        if is_directory(volume.kind) != is_directory(covered.kind) {
            return Err(Error::KindMismatch {
                target,
                there: describe(covered.kind),
                what: "the volume",
                here: describe(volume.kind),
            });
        }

        let nested = self.open_nested(&injection, &absolute, covered.mount, &place)?;
        self.check_users(&target, &injection.mount)?;
        for nested in &nested {
            self.make_mount_point(&target, &injection.mount, nested)?;
        }
        self.set_attributes(&target, &injection)?;

        sys::move_mount(injection.mount.as_fd(), place.as_fd()).map_err(attach_failed)?;
        self.mounts.push(Mount {
            id: volume.mount,
            parent: covered.mount,
            device: volume.device,
            root: PathBuf::new(),
            mount_point: absolute.clone(),
            read_only: injection.read_only,
            shared: false,
            filesystem: String::new(),
            source: std::ffi::OsString::new(),
        });
        let report = InjectedMount { id: volume.mount, target, path: absolute, moved: Vec::new() };
        let mut done =
            Done { volume: injection.mount, read_only: injection.read_only, place, nested, report };
        let result = move_on_top(&mut self.mounts, &mut done);
        self.done.push(done);
        result
    }

    /// Opens the target without following symlinks, making what is missing of it.
    fn open_target(&mut self, target: &str, volume: FileType) -> Result<OwnedFd, Error> {
        let failed = |source| Error::ResolveTarget { target: target.to_owned(), source };
        let found = deepest(self.root.as_fd(), relative(target), NO_LINKS).map_err(failed)?;
        let on = sys::status(found.fd.as_fd()).map_err(failed)?;
        let parent =
            self.mounts.iter().find(|mount| mount.id == on.mount).ok_or_else(|| Error::NotInPlace {
                target: target.to_owned(),
                reason: format!(
                    "the mount on which it lies (id {}) is not in the container's table",
                    on.mount
                ),
            })?;
        if parent.shared {
            return Err(Error::SharedParent {
                target: target.to_owned(),
                parent: parent.mount_point.clone(),
            });
        }
        if found.missing.is_empty() {
            return Ok(found.fd);
        }
        let kind = if is_directory(volume) { EntryKind::Directory } else { EntryKind::File };
        let root = self.users.as_ref().map(Users::root);
        as_user(root, || make_entries(found.fd, found.missing, kind))
            .map_err(|source| Error::MakeMountPoint { target: target.to_owned(), source })
    }

    /// Opens the mounts that the volume would hide and is not meant to.
    fn open_nested(
        &self,
        injection: &Injection,
        absolute: &Path,
        on: u64,
        place: &OwnedFd,
    ) -> Result<Vec<Nested>, Error> {
        let target = &injection.target.path;
        let covered: Vec<PathBuf> =
            injection.covers.iter().map(|path| self.path.join(relative(path))).collect();
        let mut wanted = mountinfo::visible_below(&self.mounts, on, absolute);
        while let Some(index) = wanted.iter().position(|mount| covered.contains(&mount.mount_point)) {
            let mount = wanted.remove(index);
            wanted.extend(mountinfo::visible_below(&self.mounts, mount.id, &mount.mount_point));
        }
        wanted
            .into_iter()
            .map(|mount| {
                let failed = |source| Error::MoveNested {
                    target: target.to_owned(),
                    nested: mount.mount_point.clone(),
                    source,
                };
                let below = mount.mount_point.strip_prefix(absolute).unwrap_or(Path::new("")).to_owned();
                let fd = open_beneath(place, &below).map_err(failed)?;
                let found = sys::status(fd.as_fd()).map_err(failed)?.mount;
                if found != mount.id {
                    return Err(Error::NotInPlace {
                        target: target.to_owned(),
                        reason: format!("{:?} is mount {found}, not mount {}", mount.mount_point, mount.id),
                    });
                }
                Ok(Nested { mount: fd, id: mount.id, below, moved: false })
            })
            .collect()
    }

    /// Makes the place in the still detached volume where one of the container's mounts will be.
    fn make_mount_point(&mut self, target: &str, volume: &Detached, nested: &Nested) -> Result<(), Error> {
        let there = Path::new(target).join(&nested.below).display().to_string();
        let failed = |source: SyscallError| {
            if source.is(Errno::LOOP) {
                Error::MountPointSymlink { target: target.to_owned(), at: nested.below.clone() }
            } else {
                Error::MakeMountPoint { target: there.clone(), source }
            }
        };
        let not_text =
            || failed(SyscallError::new(format!("a path as text: {:?}", nested.below), Errno::ILSEQ));
        let below = nested.below.to_str().ok_or_else(not_text)?;
        let wanted = sys::status(nested.mount.as_fd()).map_err(failed)?.kind;
        let kind = if is_directory(wanted) { EntryKind::Directory } else { EntryKind::File };
        let found = deepest(volume.as_fd(), below, NO_LINKS).map_err(failed)?;
        let point = if found.missing.is_empty() {
            found.fd
        } else {
            as_user(volume.is_mapped_for(), || make_entries(found.fd, found.missing, kind)).map_err(failed)?
        };
        let present = sys::status(point.as_fd()).map_err(failed)?.kind;
        if is_directory(present) == is_directory(wanted) {
            return Ok(());
        }
        Err(Error::KindMismatch {
            target: there,
            there: describe(present),
            what: "the mount to be put back",
            here: describe(wanted),
        })
    }

    /// A volume that is mapped already has to be mapped for this container's users.
    fn check_users(&self, target: &str, volume: &Detached) -> Result<(), Error> {
        let mapped = volume.is_mapped_for();
        if mapped.is_some() && mapped != self.users.as_ref().map(Users::root) {
            return Err(Error::OtherUsers { target: target.to_owned() });
        }
        Ok(())
    }

    fn set_attributes(&self, target: &str, injection: &Injection) -> Result<(), Error> {
        let MountFlags { nosuid, nodev, noexec } = injection.flags;
        let attributes: MountAttrFlags = [
            (injection.read_only, MountAttrFlags::MOUNT_ATTR_RDONLY),
            (nosuid, MountAttrFlags::MOUNT_ATTR_NOSUID),
            (nodev, MountAttrFlags::MOUNT_ATTR_NODEV),
            (noexec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        ]
        .into_iter()
        .filter_map(|(wanted, flag)| wanted.then_some(flag))
        .collect();
        // What is mapped already would be mapped twice, which the kernel refuses for an overlay anyway.
        let users =
            self.users.as_ref().filter(|_| injection.mount.is_mapped_for().is_none()).map(Users::namespace);
        sys::set_private_attributes(injection.mount.as_fd(), attributes, users)
            .map_err(|source| Error::Prepare { target: target.to_owned(), idmapped: users.is_some(), source })
    }

    /// Asks the kernel whether everything is as it was meant to be.
    fn verify(&self) -> Result<(), Error> {
        let table = OnceCell::new();
        for done in &self.done {
            let report = &done.report;
            let wrong =
                |reason: &str| Error::NotInPlace { target: report.target.clone(), reason: reason.to_owned() };
            let failed = |source| Error::ResolveTarget { target: report.target.clone(), source };
            let there = self.open_rooted(Path::new(relative(&report.target))).map_err(failed)?;
            if sys::status(there.as_fd()).map_err(failed)?.mount != report.id {
                return Err(wrong("something else is there, or covers it"));
            }
            let state = match sys::mount_state(there.as_fd()).map_err(failed)? {
                Some(state) => state,
                None => self
                    .state_in_table(&table, report.id)?
                    .ok_or_else(|| wrong("it is not in the container's mount table"))?,
            };
            if state.shared {
                return Err(wrong("it propagates"));
            }
            if done.read_only && !state.read_only {
                return Err(wrong("it is writable"));
            }
            for nested in &done.nested {
                let path = report.path.join(&nested.below);
                let below = Path::new(relative(&report.target)).join(&nested.below);
                let on_top =
                    self.open_rooted(&below).and_then(|fd| sys::status(fd.as_fd())).map_err(failed)?;
                // A volume placed later may cover it on purpose.
                let covered = self
                    .done
                    .iter()
                    .any(|other| other.report.id == on_top.mount && other.report.path == path);
                if on_top.mount != nested.id && !covered {
                    return Err(wrong(&format!("the container's mount {path:?} is not on top of it")));
                }
            }
        }
        Ok(())
    }

    fn open_rooted(&self, path: &Path) -> sys::Result<OwnedFd> {
        sys::openat2(self.root.as_fd(), path, OFlags::PATH, ROOTED)
    }

    /// The state of the mount with this id, by the namespace's mount table, which is read once.
    fn state_in_table(&self, table: &OnceCell<Vec<Mount>>, id: u64) -> Result<Option<MountState>, Error> {
        if table.get().is_none() {
            // Nobody else has set it meanwhile: this is its only place.
            let _ = table.set(self.own.mounts()?);
        }
        let found = table.get().into_iter().flatten().find(|mount| mount.id == id);
        Ok(found.map(|mount| MountState { read_only: mount.read_only, shared: mount.shared }))
    }

    /// Takes back what was done, last first; but not the mount points, which may be another container's by now.
    fn undo(&mut self) -> Result<(), Error> {
        while let Some(done) = self.done.pop() {
            let target = &done.report.target;
            for nested in done.nested.iter().rev().filter(|nested| nested.moved) {
                open_beneath(&done.place, &nested.below)
                    .and_then(|to| sys::move_mount(nested.mount.as_fd(), to.as_fd()))
                    .map_err(|source| Error::MoveNested {
                        target: target.clone(),
                        nested: nested.below.clone(),
                        source,
                    })?;
            }
            self.detach(&done).map_err(|source| Error::Attach { target: target.clone(), source })?;
        }
        Ok(())
    }

    fn detach(&self, done: &Done) -> sys::Result<()> {
        let relative = Path::new(relative(&done.report.target));
        let directory = match relative.parent() {
            Some(parent) if parent != Path::new("") => {
                sys::openat2(self.root.as_fd(), parent, OFlags::PATH | OFlags::DIRECTORY, ROOTED)?
            }
            _ => sys::openat(self.root.as_fd(), ".", OFlags::PATH | OFlags::DIRECTORY)?,
        };
        let name = Path::new(relative.file_name().unwrap_or_default());
        let top = sys::openat2(directory.as_fd(), name, OFlags::PATH, ResolveFlags::BENEATH | NO_LINKS)?;
        if sys::status(top.as_fd())?.mount != sys::status(done.volume.as_fd())?.mount {
            return Err(SyscallError::new(format!("looking for the volume at {relative:?}"), Errno::STALE));
        }
        drop(top);
        sys::fchdir(directory.as_fd())?;
        sys::detach(name)
    }
}

const ROOTED: ResolveFlags = ResolveFlags::IN_ROOT.union(NO_LINKS);

/// Moves the nested mounts of `done` on top of its volume.
fn move_on_top(mounts: &mut [Mount], done: &mut Done) -> Result<(), Error> {
    for nested in &mut done.nested {
        open_beneath(done.volume.as_fd(), &nested.below)
            .and_then(|point| sys::move_mount(nested.mount.as_fd(), point.as_fd()))
            .map_err(|source| Error::MoveNested {
                target: done.report.target.clone(),
                nested: nested.below.clone(),
                source,
            })?;
        nested.moved = true;
        done.report.moved.push(done.report.path.join(&nested.below));
        if let Some(mount) = mounts.iter_mut().find(|mount| mount.id == nested.id) {
            mount.parent = done.report.id;
        }
    }
    Ok(())
}

fn open_beneath(directory: impl AsFd, below: &Path) -> sys::Result<OwnedFd> {
    sys::openat2(directory.as_fd(), below, OFlags::PATH, ResolveFlags::BENEATH | NO_LINKS)
}

fn is_directory(kind: FileType) -> bool {
    kind == FileType::Directory
}

fn describe(kind: FileType) -> &'static str {
    match entry_kind(kind) {
        EntryKind::Directory => "directory",
        EntryKind::File => "file",
        EntryKind::Symlink => "symlink",
        EntryKind::Other => "special file",
    }
}
