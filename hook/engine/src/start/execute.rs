//! The second half of the way: the mounts of a plan, made in the container's mount namespace.

use crate::context::Context;
use crate::failpoint;
use crate::failure::Failure;
use crate::host_grants;
use crate::image::Image;
use crate::start::root;
use crate::start::root::Called;
use crate::start::root::Container;
use crate::start::root::LeftOut;
use crate::start::storage::Top;
use jiff::Timestamp;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use tracing::debug_span;
use volhook_core::decision::Access;
use volhook_core::decision::Backing;
use volhook_core::decision::Sharing;
use volhook_core::last_step::PodRoot;
use volhook_core::lease::Grant;
use volhook_core::names::VolumeId;
use volhook_core::plan;
use volhook_core::plan::Layer;
use volhook_core::plan::Plan;
use volhook_core::plan::PlannedMount;
use volhook_core::record::LeaseRecord;
use volhook_core::record::Step;
use volhook_core::stage::Apply;
use volhook_core::volume::UPPER;
use volhook_core::volume::Volume;
use volhook_journal::Interest;
use volhook_journal::Locked;
use volhook_mounts::device::mount_device;
use volhook_mounts::inject::Injection;
use volhook_mounts::inject::inject;
use volhook_mounts::overlay;
use volhook_mounts::process::Process;
use volhook_mounts::rootfs::Rootfs;
use volhook_mounts::source;
use volhook_mounts::source::Detached;
use volhook_mounts::source::ImageUse;
use volhook_mounts::users::Users;

/// How many remarks about one start are recorded.
const MOST_REMARKS: usize = 20;

/// Brings the plan's injected mounts into the container, and says so in the journal.
pub(crate) fn mount(
    context: &Context<'_>,
    plan: &Plan,
    volumes: &BTreeMap<VolumeId, Volume>,
    process: &Process,
    rootfs: &Path,
    called: &Called,
) -> Result<(), Failure> {
    let seen = Rootfs::of_process(process, rootfs)
        .map_err(|error| Failure::context("cannot look at the container's root filesystem", error))?;
    let image = Image::new(rootfs, &seen, &BTreeMap::new());
    let called = called.seen_in(&seen);
    let container = Container { plan, called: &called, process, rootfs };
    let sources = Sources { context, volumes, container, image: &image, filesystems: RefCell::default() };
    mount_all(&sources)
}

fn mount_all(sources: &Sources<'_>) -> Result<(), Failure> {
    let Sources { context, volumes, container, image, .. } = *sources;
    let Container { process, rootfs, .. } = container;
    let making = context.enter(Step::Sources, debug_span!("sources"));
    let mut remarks = Vec::new();
    let overlays = |mount: &&PlannedMount| mount.layer == Layer::Overlay;
    let storage = container.plan.mounts.iter().find(overlays);
    let mut made = Vec::new();
    for mount in container.plan.mounts.iter().filter(|mount| is_beside(mount)) {
        let _making = context.enter(Step::Sources, debug_span!("sources", volume = %mount.shown()));
        made.push((mount, sources.detached(mount)?));
    }
    let mut folders_alone = container.plan.clone();
    if container.plan.root == Some(PodRoot::Overlay)
        && let Some(storage) = storage
    {
        let unfit =
            sources.with_storage(storage, |overlay| root::unfit(&container, &made, overlay, image))?;
        let note = unfit.and_then(|why| plan::keep_folders(&mut folders_alone, why));
        remarks.extend(note.map(|note| (note.volume, note.text)));
    }
    let mut made = made.into_iter().map(|(_, source)| source);
    let plan = &folders_alone;
    let container = Container { plan, ..container };
    let storage = storage.map(|mount| &mount.volume);
    let mut injections = Vec::new();
    let mut folders = Vec::new();
    for mount in plan.mounts.iter().filter(|mount| mount.apply == Apply::Inject) {
        let _making = context.enter(Step::Sources, debug_span!("sources", volume = %mount.shown()));
        if plan.root.is_some() && mount.layer == Layer::Overlay {
            let left_out = |overlay: &mut Detached| root::left_out(plan, mount, overlay, image);
            let left_out =
                sources.with_storage(mount, left_out).map_err(|failure| failure.about(mount.shown()))?;
            if let Some(LeftOut::Told(reason)) = &left_out {
                remarks.push((mount.shown(), format!("not mounted on {}: {reason}", mount.target)));
            }
            if left_out.is_some() {
                continue;
            }
        }
        if root::is_shown_by(plan, mount) {
            folders.push(mount.resolved.path.clone());
        }
        injections.push(Injection {
            mount: match is_beside(mount) {
                true => made.next().ok_or_else(|| Failure::internal("a mount was not made"))?,
                false => sources.detached(mount)?,
            },
            target: mount.resolved.clone(),
            read_only: mount.access == Access::ReadOnly,
            flags: mount.flags,
            covers: mount.covers.clone(),
        });
    }
    let mut filesystems = sources.filesystems.borrow_mut();
    let overlay = storage.and_then(|storage| filesystems.get_mut(storage));
    let beside = container.beside(overlay, image)?;
    drop(filesystems);
    // What is in them comes after them.
    let injections = beside.injections.into_iter().chain(injections).collect();
    folders.extend(beside.folders);
    let told = |text| Some((storage?.clone(), text));
    remarks.extend(beside.remarks.into_iter().filter_map(told));
    drop(making);
    failpoint::reached("sources-made")?;
    let mounting = context.enter(Step::Mounts, debug_span!("mounts"));
    let injected = inject(process, rootfs, injections).map_err(|error| {
        let linked = matches!(error, volhook_mounts::Error::MountPointSymlink { .. });
        let failure =
            Failure::context(format!("cannot mount the volumes of container {:?}", plan.container), error);
        if linked {
            failure.hint("remove that link from the volume, or the mount from the container")
        } else {
            failure
        }
    })?;
    verify_binds(context, plan, volumes, process, rootfs)?;
    drop(mounting);
    failpoint::reached("mounted")?;
    let _recording = context.enter(Step::Journal, debug_span!("journal"));
    let mounted = LeaseRecord::Mounted {
        attempt: plan.attempt.clone(),
        container: plan.container.clone(),
        steps: context.steps(),
    };
    let mut locked = context.lock(context.deadline)?;
    let note =
        |(volume, text)| LeaseRecord::Note { container: plan.container.clone(), volume: Some(volume), text };
    let notes = few(remarks).into_iter().map(note);
    let records: Vec<LeaseRecord> =
        [mounted].into_iter().chain(last_leases(&locked, plan)?).chain(notes).collect();
    locked.append(Timestamp::now(), &records).map_err(Failure::new)?;
    drop(locked);
    let Some(line) = &beside.line else { return Ok(()) };
    let filesystems = sources.filesystems.borrow();
    let overlay = storage.and_then(|storage| filesystems.get(storage));
    let overlay = overlay.ok_or_else(|| Failure::internal("there is no overlay for the container's root"))?;
    failpoint::reached("last-step")?;
    container.leave_behind(context, overlay, &injected, &folders, line)
}

/// The remarks of a start, of which there may be as many as the image or the pod has folders.
fn few(mut remarks: Vec<(VolumeId, String)>) -> Vec<(VolumeId, String)> {
    let more = remarks.len().saturating_sub(MOST_REMARKS);
    if let Some((volume, _)) = remarks.get(MOST_REMARKS) {
        let rest = (volume.clone(), format!("{more} more remarks are left out"));
        remarks.truncate(MOST_REMARKS);
        remarks.push(rest);
    }
    remarks
}

/// Whether this start mounts it and it is nothing of a pod's overlay.
fn is_beside(mount: &PlannedMount) -> bool {
    mount.apply == Apply::Inject && mount.layer == Layer::Content
}

/// The leases from now on, where they were others while the container started.
fn last_leases(locked: &Locked<'_>, plan: &Plan) -> Result<Option<LeaseRecord>, Failure> {
    let first = plan.first_leases();
    if first == plan.leases {
        return Ok(None);
    }
    let interest = Interest { attempts: &[&plan.attempt], ..Interest::default() };
    let table = locked.about(&interest).map_err(Failure::new)?;
    let grant = table.grant(&plan.attempt).filter(|grant| grant.leases == first);
    Ok(grant.map(|grant| LeaseRecord::Granted(Grant { leases: plan.leases.clone(), ..grant.clone() })))
}

/// Checks that the runtime has mounted what the spec stage put into its spec.
fn verify_binds(
    context: &Context<'_>,
    plan: &Plan,
    volumes: &BTreeMap<VolumeId, Volume>,
    process: &Process,
    rootfs: &Path,
) -> Result<(), Failure> {
    let mut binds = plan.mounts.iter().filter(|mount| mount.apply == Apply::Spec).peekable();
    if binds.peek().is_none() {
        return Ok(());
    }
    let rootfs = Rootfs::of_process(process, rootfs).map_err(Failure::new)?;
    for mount in binds {
        let volume = volume_of(volumes, &mount.volume)?;
        let folder = context.store.open_directory(volume).map_err(Failure::new)?;
        rootfs.shows(&mount.resolved, folder.as_fd()).map_err(|error| {
            let intention = format!("the runtime has not mounted volume {:?} as its spec says", mount.volume);
            Failure::context(intention, error).about(mount.volume.clone())
        })?;
    }
    Ok(())
}

fn volume_of<'a>(volumes: &'a BTreeMap<VolumeId, Volume>, id: &VolumeId) -> Result<&'a Volume, Failure> {
    volumes.get(id).ok_or_else(|| Failure::internal(format!("volume {id:?} of the plan was not looked up")))
}

/// Detached mounts of volumes: a filesystem is mounted once, however many of its parts appear.
struct Sources<'a> {
    context: &'a Context<'a>,
    volumes: &'a BTreeMap<VolumeId, Volume>,
    container: Container<'a>,
    image: &'a Image<'a>,
    filesystems: RefCell<BTreeMap<VolumeId, Detached>>,
}

impl Sources<'_> {
    fn detached(&self, mount: &PlannedMount) -> Result<Detached, Failure> {
        let id = &mount.volume;
        if mount.part.is_some() {
            return self.part(mount).map_err(|failure| failure.about(mount.shown()));
        }
        let whole = self.whole(mount).map_err(|failure| failure.about(id.clone()))?;
        match &mount.subpath {
            None => Ok(whole),
            Some((path, kind)) => whole.subpath(path, *kind).map_err(|error| {
                Failure::context(format!("cannot use {path:?} of volume {id:?}"), error).about(id.clone())
            }),
        }
    }

    fn whole(&self, mount: &PlannedMount) -> Result<Detached, Failure> {
        let id = &mount.volume;
        let volume = volume_of(self.volumes, id)?;
        let failed = |error| Failure::context(format!("cannot mount volume {id:?}"), error);
        match &volume.backing {
            Backing::Directory(_) => {
                let folder = self.context.store.open_directory(volume).map_err(Failure::new)?;
                source::clone_directory(folder.as_fd()).map_err(failed)
            }
            Backing::HostPath(host) => {
                let folder = host_grants::open_host_path(self.context, volume, host)?;
                source::clone_directory(folder.as_fd()).map_err(failed)
            }
            Backing::Image(image) => self.once(id, || {
                let sharing =
                    if mount.sharing == Sharing::Exclusive { ImageUse::Exclusive } else { ImageUse::Shared };
                let file = self.context.store.image_path(volume);
                source::mount_image(&file, image, sharing).map_err(failed)
            }),
            Backing::Tmpfs(tmpfs) => self.once(id, || source::mount_tmpfs(tmpfs).map_err(failed)),
            Backing::Device(device) => self.once(id, || {
                host_grants::most_access(self.context, volume)?;
                mount_device(Path::new(device.path.as_str()), device.filesystem)
                    .map_err(|error| host_grants::unusable(volume, error))
            }),
        }
    }

    /// A directory of what all volumes of the pod are parts of, which is mounted once.
    fn part(&self, mount: &PlannedMount) -> Result<Detached, Failure> {
        let Some((path, kind)) = &mount.subpath else {
            return Err(Failure::internal(format!("volume {:?} would be the whole storage", mount.shown())));
        };
        self.with_storage(mount, |storage| {
            storage.part(path, *kind).map_err(|error| {
                Failure::context(format!("cannot use {path:?} of volume {:?}", mount.shown()), error)
            })
        })
    }

    /// Does something with what `mount` is a part of, which is mounted if it is not yet.
    fn with_storage<T>(
        &self,
        mount: &PlannedMount,
        work: impl FnOnce(&mut Detached) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let id = &mount.volume;
        if !self.filesystems.borrow().contains_key(id) {
            let volume = volume_of(self.volumes, id)?;
            let storage = match mount.layer {
                Layer::Overlay => self.overlay(volume)?,
                Layer::Content => self.content(volume)?,
            };
            self.filesystems.borrow_mut().insert(id.clone(), storage);
        }
        let mut filesystems = self.filesystems.borrow_mut();
        let storage = filesystems.get_mut(id);
        work(storage.ok_or_else(|| Failure::internal("a mount is gone that was just made"))?)
    }

    /// What is in a pod's storage.
    fn content(&self, volume: &Volume) -> Result<Detached, Failure> {
        match Top::of(self.context, volume)? {
            Top::Image(mount) => Ok(mount),
            Top::Directory(directory) => source::clone_directory(directory.as_fd())
                .map_err(|error| Failure::context(format!("cannot mount volume {:?}", volume.id), error)),
        }
    }

    /// The container's root filesystem with a pod's changes above it.
    fn overlay(&self, volume: &Volume) -> Result<Detached, Failure> {
        let failed =
            |error| Failure::context(format!("cannot lay volume {:?} over the image", volume.id), error);
        let top = Top::of(self.context, volume)?;
        if self.container.plan.root.is_some() {
            let changes = top.folder(UPPER)?;
            let changes = changes.as_ref().map(OwnedFd::as_fd);
            self.container.make_places(changes, self.image)?;
        }
        let lower = self.image.layer()?;
        let changes = match top {
            Top::Image(mount) => overlay::Layer::from(mount),
            Top::Directory(directory) => directory.into(),
        };
        let users = Users::of_process(self.container.process).map_err(failed)?;
        overlay::mount_overlay(lower, changes, users.as_ref()).map_err(failed)
    }

    /// The filesystem that `make` makes: one for all places in which the volume appears.
    fn once(
        &self,
        id: &VolumeId,
        make: impl FnOnce() -> Result<Detached, Failure>,
    ) -> Result<Detached, Failure> {
        let failed = |error| Failure::context(format!("cannot mount volume {id:?}"), error);
        if let Some(mounted) = self.filesystems.borrow().get(id) {
            return source::clone_directory(mounted.as_fd()).map_err(failed);
        }
        let mounted = make()?;
        // Before Linux 6.15 a detached mount cannot be cloned, so only one that is needed again is.
        if self.container.plan.mounts.iter().filter(|other| other.volume == *id).count() == 1 {
            return Ok(mounted);
        }
        let clone = source::clone_directory(mounted.as_fd()).map_err(failed)?;
        self.filesystems.borrow_mut().insert(id.clone(), mounted);
        Ok(clone)
    }
}
