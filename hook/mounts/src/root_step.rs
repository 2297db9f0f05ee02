//! The exchange of a container's root filesystem for its pod's overlay, between the runtime's pivot and the container's process.
//!
//! What the container has mounted goes along, moved and not copied, and stays what it is. The rest is the kernel's: after
//! pivot_root(2) processes that had the old root as their root or working directory have the new one. Nothing is taken back
//! when something fails: then the container does not start.

use crate::error::Error;
use crate::last_step::Step;
use crate::mountinfo;
use crate::mountinfo::Mount;
use crate::process;
use crate::process::Process;
use crate::rootfs::deepest;
use crate::rootfs::entry_kind;
use crate::source::make_entries;
use crate::sys;
use crate::sys::Status;
use crate::sys::SyscallError;
use crate::users;
use crate::users::as_user;
use rustix::fs::AtFlags;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::thread::ThreadNameSpaceType;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::decision::EntryKind;
use volhook_core::last_step;

/// Before the container's process nobody makes links, so one is an image's or a pod's, and no place of a mount.
const NO_LINKS: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_SYMLINKS);

/// Makes the overlay of `step` the root of its container, and checks the outcome.
///
/// # Errors
/// [`Error::NotForRoot`], [`Error::RootStep`], and failures to look at or enter the container. It must not start then.
pub(crate) fn perform(step: &Step<'_>) -> Result<(), Error> {
    let work = || {
        // Opened before the thread leaves the host's namespace: a container's /proc may show anything.
        let own = process::own()?;
        rustix::thread::move_into_thread_name_spaces(step.namespace.as_fd(), ThreadNameSpaceType::MOUNT)
            .map_err(|errno| {
                let call = format!("setns(mount namespace of process {})", step.process.pid());
                let source = SyscallError::new(call, errno);
                Error::EnterNamespace { pid: step.process.pid(), source }
            })?;
        if step.overlay.is_mapped_for().is_some() {
            users::keep_capabilities().map_err(|source| Error::Helper { source })?;
        }
        Exchange::new(step, own)?.run()
    };
    sys::on_helper_thread(work).map_err(|source| Error::Helper { source })?
}

fn doing(intention: impl Into<String>) -> impl FnOnce(SyscallError) -> Error {
    let intention = intention.into();
    move |source| Error::RootStep { intention, source }
}

fn unfit(reason: impl Into<String>) -> Error {
    Error::NotForRoot { reason: reason.into() }
}

/// One exchange at work, on a thread in the container's mount namespace.
struct Exchange<'a> {
    step: &'a Step<'a>,
    own: Process,
    /// The root of the runtime's mount, and that of the overlay.
    old: OwnedFd,
    new: OwnedFd,
    /// The mount id of the overlay.
    overlay: u64,
    /// The working directory of the container's process.
    directory: Status,
    /// The container's mounts as the runtime made them, by their paths in the container.
    before: Vec<Mount>,
}

impl<'a> Exchange<'a> {
    /// Looks whether everything is as it has to be. Nothing is done yet.
    fn new(step: &'a Step<'a>, own: Process) -> Result<Self, Error> {
        let look = || doing("look at the container's root");
        let (root, directory) = (step.process.root()?, step.process.directory()?);
        let root = sys::status(root.as_fd()).map_err(look())?;
        let directory = sys::status(directory.as_fd()).map_err(look())?;
        let old = sys::open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY).map_err(look())?;
        let found = sys::status(old.as_fd()).map_err(look())?;
        if root.mount != step.root || (found.mount, found.inode) != (root.mount, root.inode) {
            return Err(unfit("its process has another root than the runtime has made"));
        }
        let before = own.mounts()?;
        let mount = before.iter().find(|mount| mount.id == step.root);
        let mount = mount.ok_or_else(|| unfit("its root is not in the mount table"))?;
        if mount.shared {
            return Err(unfit("its root propagates mounts to the host"));
        }
        if directory.mount == root.mount && directory.inode != root.inode {
            return Err(unfit("its working directory is no folder of the pod"));
        }
        let new = sys::openat(step.overlay.as_fd(), ".", OFlags::PATH | OFlags::DIRECTORY).map_err(look())?;
        let overlay = sys::status(new.as_fd()).map_err(look())?.mount;
        Ok(Self { step, own, old, new, overlay, directory, before })
    }

    fn run(&self) -> Result<(), Error> {
        let read_only = self.take_attributes()?;
        sys::move_mount(self.new.as_fd(), self.old.as_fd()).map_err(doing("mount them over the image"))?;
        let moved = self.visible();
        moved.iter().try_for_each(|mount| self.bring_along(mount))?;
        sys::fchdir(self.new.as_fd()).map_err(doing("enter them"))?;
        rustix::process::pivot_root(".", ".")
            .map_err(|errno| SyscallError::new("pivot_root(\".\", \".\")", errno))
            .map_err(doing("make them the root"))?;
        sys::fchdir(self.old.as_fd()).map_err(doing("enter the image"))?;
        sys::detach(Path::new(".")).map_err(doing("let go of the image"))?;
        self.remove_program()?;
        self.verify(&moved, read_only)
    }

    /// Makes the overlay private, and read-only if the root is that it takes the place of; whether it is. Other restrictions of
    /// that are the engine's for its own files, and the pod's folders never had them: programs of a machine may be set-id.
    fn take_attributes(&self) -> Result<bool, Error> {
        let flags = rustix::fs::fstatvfs(&self.old)
            .map_err(|errno| SyscallError::new("fstatvfs(the root)", errno))
            .map_err(doing("look at the container's root"))?
            .f_flag;
        let read_only = flags.contains(StatVfsMountFlags::RDONLY);
        let set = if read_only { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
        sys::set_private_attributes(self.step.overlay.as_fd(), set, None)
            .map_err(doing("give them the attributes of the container's root"))?;
        Ok(read_only)
    }

    /// The mounts that go along: what is seen of the container's own. A folder of the pod needs no mount of its own any more,
    /// unless the container's process is in it, and gives what is on it.
    fn visible(&self) -> Vec<&Mount> {
        let mut left = mountinfo::visible_below(&self.before, self.step.root, Path::new("/"));
        let mut visible = Vec::new();
        while let Some(mount) = left.pop() {
            let is_folder = self.step.folders.contains(&mount.id);
            if is_folder && self.directory.mount != mount.id {
                left.extend(mountinfo::visible_below(&self.before, mount.id, &mount.mount_point));
            } else {
                visible.push(mount);
            }
        }
        visible
    }

    /// Moves a mount to the same place in the overlay.
    fn bring_along(&self, mount: &Mount) -> Result<(), Error> {
        let at = inside(&mount.mount_point);
        let intention = || doing(format!("bring the container's mount {:?} along", mount.mount_point));
        let here = sys::openat2(self.old.as_fd(), at, OFlags::PATH, NO_LINKS).map_err(intention())?;
        let found = sys::status(here.as_fd()).map_err(intention())?;
        if found.mount != mount.id {
            return Err(unfit(format!("{:?} is another mount than the table says", mount.mount_point)));
        }
        let kind = entry_kind(found.kind);
        let there = self.place(at, kind).map_err(intention())?;
        let present = sys::status(there.as_fd()).map_err(intention())?.kind;
        if (entry_kind(present) == EntryKind::Directory) != (kind == EntryKind::Directory) {
            return Err(unfit(format!(
                "the container has a mount at {:?}, and the pod something of another kind there",
                mount.mount_point
            )));
        }
        sys::move_mount(here.as_fd(), there.as_fd()).map_err(intention())
    }

    /// The place in the overlay for a mount, which is made where the pod has removed it.
    fn place(&self, at: &Path, kind: EntryKind) -> sys::Result<OwnedFd> {
        match sys::openat2(self.new.as_fd(), at, OFlags::PATH, NO_LINKS) {
            Err(error) if error.is(Errno::NOENT) => {}
            opened => return opened,
        }
        let text = at.to_str().ok_or_else(|| SyscallError::new(format!("{at:?} as text"), Errno::ILSEQ))?;
        let found = deepest(self.new.as_fd(), text, ResolveFlags::NO_SYMLINKS)?;
        let kind = if kind == EntryKind::Directory { kind } else { EntryKind::File };
        as_user(self.step.overlay.is_mapped_for(), || make_entries(found.fd, found.missing, kind))
    }

    /// Removes the program, which is running, from the container.
    fn remove_program(&self) -> Result<(), Error> {
        let remove = || -> sys::Result<()> {
            let path = Path::new(last_step::FOLDER);
            let parent = inside(path.parent().unwrap_or(path));
            let folder = sys::openat2(self.new.as_fd(), parent, OFlags::PATH | OFlags::DIRECTORY, NO_LINKS)?;
            sys::fchdir(folder.as_fd())?;
            let name = Path::new(path.file_name().unwrap_or_default());
            sys::detach(name)?;
            // An empty folder that stays is no reason to keep a container from starting.
            let _ = sys::unlinkat(folder.as_fd(), name, AtFlags::REMOVEDIR);
            Ok(())
        };
        remove().map_err(doing("remove the program of the last step"))
    }

    /// Asks the kernel whether everything is as it was meant to be.
    fn verify(&self, moved: &[&Mount], read_only: bool) -> Result<(), Error> {
        let look = || doing("look at the container's root");
        let seen = |directory: OwnedFd| sys::status(directory.as_fd()).map_err(look());
        let wanted = sys::status(self.new.as_fd()).map_err(look())?;
        let is_wanted = |found: &Status| (found.mount, found.inode) == (self.overlay, wanted.inode);
        let root = seen(sys::open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY).map_err(look())?)?;
        if !is_wanted(&root) {
            return Err(unfit("something else is at / now"));
        }
        if !is_wanted(&seen(self.step.process.root()?)?) {
            return Err(unfit("its process has another root now"));
        }
        let after = self.own.mounts()?;
        let directory = seen(self.step.process.directory()?)?.mount;
        if !after.iter().any(|mount| mount.id == directory) {
            return Err(unfit("the working directory of its process is not in it any more"));
        }
        let overlay = after.iter().find(|mount| mount.id == self.overlay);
        let overlay = overlay.ok_or_else(|| unfit("they are not in the mount table"))?;
        if overlay.mount_point != Path::new("/") || overlay.shared || overlay.read_only != read_only {
            return Err(unfit("they are not at /, propagate, or can be written where the root cannot"));
        }
        self.compare(moved, &after)?;
        for mount in moved {
            let there = sys::openat2(self.new.as_fd(), inside(&mount.mount_point), OFlags::PATH, NO_LINKS);
            let there = there.and_then(|there| sys::status(there.as_fd())).map_err(look())?;
            if there.mount != mount.id {
                return Err(unfit(format!("the container's mount {:?} is covered", mount.mount_point)));
            }
        }
        Ok(())
    }

    /// Compares what was to be brought along, with everything that is on it, with what is there.
    fn compare(&self, moved: &[&Mount], after: &[Mount]) -> Result<(), Error> {
        let on = |id: u64| self.before.iter().filter(move |mount| mount.parent == id && mount.id != id);
        let mut wanted: BTreeMap<u64, Mount> = BTreeMap::new();
        let mut left: Vec<Mount> =
            moved.iter().map(|mount| Mount { parent: self.overlay, ..(*mount).clone() }).collect();
        while let Some(mount) = left.pop() {
            if mount.id == self.step.program {
                continue;
            }
            left.extend(on(mount.id).cloned());
            wanted.insert(mount.id, mount);
        }
        let found: BTreeMap<u64, &Mount> = after.iter().map(|mount| (mount.id, mount)).collect();
        for (id, mount) in &wanted {
            match found.get(id) {
                Some(found) if *found == mount => {}
                Some(found) => {
                    return Err(unfit(format!("the container's mount {mount:?} is {found:?} now")));
                }
                None => return Err(unfit(format!("the container's mount {:?} is gone", mount.mount_point))),
            }
        }
        let strange: BTreeSet<&PathBuf> = after
            .iter()
            .filter(|mount| mount.id != self.overlay && !wanted.contains_key(&mount.id))
            .map(|mount| &mount.mount_point)
            .collect();
        match strange.first() {
            None => Ok(()),
            Some(place) => Err(unfit(format!("there is a mount at {place:?} that should not be there"))),
        }
    }
}

/// A path in the container from its root.
fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}
