//! The second half of the way: volumes are created, leases taken, mounts made, in the order of the plan.

use crate::context::Context;
use crate::error::Failure;
use crate::failpoint;
use crate::fill;
use crate::gather;
use crate::gather::Claimed;
use crate::gather::Proposal;
use crate::gather::Subject;
use crate::grants;
use crate::image::Image;
use crate::storage;
use crate::storage::Top;
use crate::timings::Timings;
use jiff::Timestamp;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use volhook_core::check::check;
use volhook_core::decision::Access;
use volhook_core::decision::Backing;
use volhook_core::decision::Sharing;
use volhook_core::lease::Grant;
use volhook_core::lease::Holder;
use volhook_core::lease::LeaseRecord;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::ReleaseReason;
use volhook_core::lease::VolumeRecord;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;
use volhook_core::plan;
use volhook_core::plan::Apply;
use volhook_core::plan::Layer;
use volhook_core::plan::Plan;
use volhook_core::plan::PlanError;
use volhook_core::plan::PlannedMount;
use volhook_core::volume::Volume;
use volhook_journal::Interest;
use volhook_leases::judge;
use volhook_leases::judge::Over;
use volhook_leases::patience;
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
use volhook_volumes::Created;
use volhook_volumes::Watch;

/// How often drivers are asked again because holders changed while they were deciding.
const ASK_AGAIN: usize = 3;

/// Proposes, creates what is missing, and takes the leases. Afterwards the plan holds until it is released.
/// `None` when this very process holds leases already: it was called at both live stages.
///
/// `holder` is the container's process at the live stage; at the spec stage the grant stays pending.
pub(crate) fn acquire(
    context: &Context,
    subject: &Subject,
    claimed: &Claimed,
    image: &Image<'_>,
    holder: Option<&Holder>,
    timings: &mut Timings,
) -> Result<Option<Proposal>, Failure> {
    let watch = Watch { deadline: context.deadline, cancelled: &|| false, progress: &|_| {} };
    fill::renew(context, claimed, &watch)?;
    let making = Making { context, container: Some(&subject.container), image, watch: &watch };
    let volumes = leased_volumes(subject, claimed);
    let interest = Interest { volumes: &volumes, container: Some(&subject.container), attempts: &[] };
    let patience = Instant::now() + patience::DYING;
    let mut asked = 0;
    let mut earlier_answers = None;
    loop {
        let table = context.grants_about(&interest)?;
        if holder.is_some()
            && table.of_container(&subject.container).any(|grant| grant.holder.as_ref() == holder)
        {
            return Ok(None);
        }
        // Shared holders are in nobody's way; only others are worth a look at the kernel.
        let examined = table.grants().filter(|grant| {
            supersedes(subject, grant)
                || grant.leases.iter().any(|l| l.sharing != Sharing::Shared && volumes.contains(&l.volume))
        });
        let (dead, dying) = context.dead(examined.filter(|grant| !supersedes(subject, grant)));
        let superseded = table.grants().filter(|grant| supersedes(subject, grant)).map(|grant| {
            let evidence = format!("attempt {} took its place", subject.attempt);
            Over::new(grant, ReleaseReason::Superseded, evidence)
        });
        let over: Vec<Over> = dead.into_iter().chain(superseded).collect();
        timings.lap("journal");
        let living = judge::after(&table, over.iter().map(|over| &over.record));
        let proposal = match gather::propose(context, subject, claimed, image, &living, timings) {
            Err(failure) if dying && is_busy(&failure) && Instant::now() < patience.min(context.deadline) => {
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            Err(failure) if is_being_filled(&failure) && Instant::now() < context.deadline => {
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            other => other?,
        };
        if making.make(&proposal, context.deadline, timings)? {
            continue;
        }
        let unchanged = earlier_answers.as_ref() == Some(&proposal.answers);
        if take(context, subject, holder, &proposal, &over, asked >= ASK_AGAIN && unchanged, timings)? {
            storage::follow(context, claimed)?;
            return Ok(Some(proposal));
        }
        asked += 1;
        if asked > ASK_AGAIN && !unchanged {
            return Err(Failure::new("the holders of a claimed volume keep changing")
                .hint("start the container again once the others have started"));
        }
        earlier_answers = Some(proposal.answers);
    }
}

/// Records why a container whose claims all stepped back gets nothing.
pub(crate) fn note_stepped_back(
    context: &Context,
    subject: &Subject,
    claimed: &Claimed,
) -> Result<(), Failure> {
    if claimed.stepped_back.is_empty() {
        return Ok(());
    }
    let notes: Vec<LeaseRecord> = claimed
        .stepped_back
        .iter()
        .map(|back| {
            let volume = VolumeId { tenant: subject.tenant.clone(), name: back.volume.clone() };
            let text = format!("not mounted on {}: {}", back.target, back.reason);
            LeaseRecord::Note { container: subject.container.clone(), volume: Some(volume), text }
        })
        .collect();
    let mut locked = context.lock(context.deadline)?;
    locked.append(Timestamp::now(), &notes).map_err(Failure::new)
}

/// Whether someone holds a volume that was claimed.
fn is_busy(failure: &Failure) -> bool {
    matches!(failure.cause.downcast_ref::<PlanError>(), Some(PlanError::Busy { .. }))
}

/// Whether what is in the way is somebody who fills the volume, who is done soon.
fn is_being_filled(failure: &Failure) -> bool {
    match failure.cause.downcast_ref::<PlanError>() {
        Some(PlanError::Busy { container, .. }) => fill::is_filling(container),
        _ => false,
    }
}

/// Whether `grant` is an earlier attempt of this very container that never got as far as a process.
fn supersedes(subject: &Subject, grant: &Grant) -> bool {
    grant.holder.is_none() && grant.container == subject.container
}

/// The volumes on which a container with these claims takes leases.
pub(crate) fn leased_volumes(subject: &Subject, claimed: &Claimed) -> Vec<VolumeId> {
    let named = claimed.claims.iter().map(|claim| claim.storage.as_ref().unwrap_or(&claim.volume));
    let mut volumes: Vec<VolumeId> =
        named.map(|name| VolumeId { tenant: subject.tenant.clone(), name: name.clone() }).collect();
    volumes.dedup();
    volumes
}

/// What makes the volumes of a plan.
pub(crate) struct Making<'a> {
    pub(crate) context: &'a Context,
    /// For whom.
    pub(crate) container: Option<&'a ContainerId>,
    pub(crate) image: &'a Image<'a>,
    pub(crate) watch: &'a Watch<'a>,
}

impl Making<'_> {
    /// Does the next of what has to be done before the leases can be taken. `false`: nothing was to be done.
    pub(crate) fn make(
        &self,
        proposal: &Proposal,
        deadline: Instant,
        timings: &mut Timings,
    ) -> Result<bool, Failure> {
        let plan = &proposal.plan;
        if !plan.create.is_empty() {
            self.create(plan, deadline, timings)?;
            return Ok(true);
        }
        if plan.copy_up.is_empty() && plan.parts.is_empty() {
            return Ok(false);
        }
        if Instant::now() >= deadline {
            let reason = "the volumes of the container could not be filled from its image in time";
            return Err(Failure::new(reason));
        }
        fill::fill(self.context, self.container, plan, &proposal.volumes, self.image, self.watch)?;
        timings.lap("fill");
        Ok(true)
    }

    /// Creates the plan's new volumes and records them. Whoever else creates the same volume at the same time may
    /// win; the next proposal finds the winner's.
    fn create(&self, plan: &Plan, deadline: Instant, timings: &mut Timings) -> Result<(), Failure> {
        let context = self.context;
        let mut records = Vec::new();
        for volume in &plan.create {
            let created = context.store.create(volume, deadline).map_err(|error| {
                Failure::context(format!("cannot create volume {:?}", volume.id), error)
                    .about(volume.id.clone())
            })?;
            if let Created::New(volume) = created {
                records.push(VolumeRecord::Created {
                    volume: volume.id,
                    uuid: volume.uuid,
                    driver: volume.driver,
                    container: self.container.cloned(),
                });
            }
        }
        timings.lap("volumes");
        failpoint::reached("volumes-created");
        if !records.is_empty() {
            context.append_volumes(&records)?;
            // A start that creates volumes waits for the disk anyway, and comes by often enough. A container's start does not
            // depend on it.
            if let Err(failure) = context.trim_history() {
                eprintln!("volhook: {}", failure.cause_line());
            }
        }
        timings.lap("journal");
        Ok(())
    }
}

/// Takes the leases if the volumes are held by the same attempts as when the drivers were asked, or if
/// `whatever_holders` says that asking again is of no use. Returns whether they were taken.
fn take(
    context: &Context,
    subject: &Subject,
    holder: Option<&Holder>,
    proposal: &Proposal,
    over: &[Over],
    whatever_holders: bool,
    timings: &mut Timings,
) -> Result<bool, Failure> {
    let mut locked = context.lock(context.deadline)?;
    let attempts: Vec<&str> = over.iter().map(Over::attempt).collect();
    let volumes: Vec<VolumeId> = proposal.volumes.keys().cloned().collect();
    let interest = Interest { volumes: &volumes, container: None, attempts: &attempts };
    let table = locked.about(&interest).map_err(Failure::new)?;
    // A grant that changed since it was judged has to be judged again.
    if over.iter().any(|over| table.grant(over.attempt()).is_some() && !over.stands_in(&table)) {
        return Ok(false);
    }
    let over: Vec<&Over> = over.iter().filter(|over| over.stands_in(&table)).collect();
    let living = judge::after(&table, over.iter().map(|over| &over.record));
    if gather::holders(&living, proposal.volumes.keys()) != proposal.seen && !whatever_holders {
        return Ok(false);
    }
    refuse_conflicts(context, proposal, &living)?;
    // Volumes are removed under this lock.
    if context.ledger.journal()?.volumes_mark().map_err(Failure::new)? != proposal.mark
        && !still_there(context, proposal)?
    {
        return Ok(false);
    }
    let now = Timestamp::now();
    let notes = proposal.plan.notes.iter().map(|note| LeaseRecord::Note {
        container: subject.container.clone(),
        volume: Some(note.volume.clone()),
        text: note.text.clone(),
    });
    let grant = LeaseRecord::Granted(Grant {
        attempt: subject.attempt.clone(),
        container: subject.container.clone(),
        holder: holder.cloned(),
        leases: proposal.plan.leases.clone(),
        since: now,
    });
    let records: Vec<LeaseRecord> = over
        .iter()
        .map(|over| over.record.clone())
        .chain(notes)
        .chain([proposal.plan.record(), grant])
        .collect();
    failpoint::reached("locked");
    locked.append(now, &records).map_err(Failure::new)?;
    failpoint::reached("granted-locked");
    drop(locked);
    failpoint::reached("granted");
    for over in over {
        context.ledger.attempts().remove(over.attempt())?;
    }
    timings.lap("journal");
    Ok(true)
}

/// Whether the plan's volumes are those that were found when it was made.
fn still_there(context: &Context, proposal: &Proposal) -> Result<bool, Failure> {
    for (id, volume) in &proposal.volumes {
        let found = context.store.find(id).map_err(Failure::new)?;
        if found.is_none_or(|found| found.uuid != volume.uuid) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn refuse_conflicts(context: &Context, proposal: &Proposal, table: &LeaseTable) -> Result<(), Failure> {
    let plan = &proposal.plan;
    for lease in &plan.leases {
        if let Some((grant, held)) = plan::conflicts(lease, table).next() {
            return Err(plan::busy(plan, grant, held).into());
        }
    }
    // Nothing is to be created any more: all volumes of the proposal are there.
    check(plan, &proposal.volumes, &context.config()?.grants, table)?;
    Ok(())
}

/// Brings the plan's injected mounts into the container, and says so in the journal.
pub(crate) fn mount(
    context: &Context,
    plan: &Plan,
    volumes: &BTreeMap<VolumeId, Volume>,
    process: &Process,
    rootfs: &Path,
    timings: &mut Timings,
) -> Result<(), Failure> {
    let sources = Sources { context, volumes, plan, process, rootfs, filesystems: RefCell::default() };
    let mut injections = Vec::new();
    for mount in plan.mounts.iter().filter(|mount| mount.apply == Apply::Inject) {
        injections.push(Injection {
            mount: sources.detached(mount)?,
            target: mount.resolved.clone(),
            read_only: mount.access == Access::ReadOnly,
            flags: mount.flags,
            covers: mount.covers.clone(),
        });
    }
    timings.lap("sources");
    failpoint::reached("sources-made");
    inject(process, rootfs, injections).map_err(|error| {
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
    timings.lap("mounts");
    failpoint::reached("mounted");
    let record = LeaseRecord::Mounted { attempt: plan.attempt.clone(), container: plan.container.clone() };
    let mut locked = context.lock(context.deadline)?;
    locked.append(Timestamp::now(), &[record]).map_err(Failure::new)?;
    timings.lap("journal");
    Ok(())
}

/// Checks that the runtime has mounted what the spec stage put into its spec.
fn verify_binds(
    context: &Context,
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
    context: &'a Context,
    volumes: &'a BTreeMap<VolumeId, Volume>,
    plan: &'a Plan,
    process: &'a Process,
    /// The root filesystem, as its path is on the host and in the container's mount namespace.
    rootfs: &'a Path,
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
                let folder = grants::open_host_path(self.context, volume, host)?;
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
                grants::most_access(self.context, volume)?;
                mount_device(Path::new(device.path.as_str()), device.filesystem)
                    .map_err(|error| grants::unusable(volume, error))
            }),
        }
    }

    /// A directory of what all volumes of the pod are parts of, which is mounted once.
    fn part(&self, mount: &PlannedMount) -> Result<Detached, Failure> {
        let Some((path, kind)) = &mount.subpath else {
            return Err(Failure::internal(format!("volume {:?} would be the whole storage", mount.shown())));
        };
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
        let storage = storage.ok_or_else(|| Failure::internal("a mount is gone that was just made"))?;
        storage.part(path, *kind).map_err(|error| {
            Failure::context(format!("cannot use {path:?} of volume {:?}", mount.shown()), error)
        })
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
        let seen = Rootfs::of_process(self.process, self.rootfs).map_err(failed)?;
        let lower = Image::new(self.rootfs, &seen, &BTreeMap::new()).layer()?;
        let changes = self.content(volume)?;
        let users = Users::of_process(self.process).map_err(failed)?;
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
        if self.plan.mounts.iter().filter(|other| other.volume == *id).count() == 1 {
            return Ok(mounted);
        }
        let clone = source::clone_directory(mounted.as_fd()).map_err(failed)?;
        self.filesystems.borrow_mut().insert(id.clone(), mounted);
        Ok(clone)
    }
}
