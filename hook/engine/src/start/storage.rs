//! The storage of a container's pod: what its policy is told about it, and what a new one is to be.

use crate::ask;
use crate::ask::Wanted;
use crate::context::Context;
use crate::failure::Failure;
use crate::image::Image;
use crate::start::subject::PodFacts;
use crate::start::subject::Proposal;
use crate::start::subject::Subject;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::Instant;
use volhook_core::claims::StorageWish;
use volhook_core::decision::Backing;
use volhook_core::decision::ImageState;
use volhook_core::decision::PodState;
use volhook_core::decision::Population;
use volhook_core::image::ImageIdentity;
use volhook_core::lease::LeaseTable;
use volhook_core::names::Pod;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::plan::Plan;
use volhook_core::record::VolumeRecord;
use volhook_core::volume::CopyUp;
use volhook_core::volume::FILES;
use volhook_core::volume::Offer;
use volhook_core::volume::PodMember;
use volhook_core::volume::PodStorage;
use volhook_core::volume::STORAGE;
use volhook_core::volume::UPPER;
use volhook_core::volume::Volume;
use volhook_leases::patience;
use volhook_mounts::overlay;
use volhook_mounts::source;
use volhook_mounts::source::Detached;
use volhook_mounts::source::ImageUse;
use volhook_volumes::Changing;
use volhook_volumes::identify;

/// Finds out what is known of a pod.
pub(crate) fn facts(
    context: &Context<'_>,
    tenant: &Tenant,
    pod: &Pod,
    image: &Image<'_>,
) -> Result<PodFacts, Failure> {
    let Some(volume) = context.store.pod_storage(tenant, pod).map_err(Failure::new)? else {
        let no_overlay = no_overlay(context, image)?;
        return Ok(PodFacts { image: image.identity(None)?, storage: None, state: None, no_overlay });
    };
    let storage = of(&volume)?;
    let recorded = storage.image.as_ref();
    let now = image.identity(recorded)?;
    let beside = recorded.map_or(ImageState::Unknown, |recorded| recorded.beside(&now));
    let installed = beside == ImageState::Changed && has_own_packages(context, &volume, storage)?;
    let state = PodState { population: storage.population, image: beside, installed };
    Ok(PodFacts { image: now, storage: Some(volume.id), state: Some(state), no_overlay: None })
}

/// After a container of a pod was refused: records the image that it came with, if that is another than the pod's, so that
/// a person can accept it (`volhook pod upgrade`).
pub(crate) fn offer(
    context: &Context<'_>,
    subject: &Subject,
    image: &Image<'_>,
    refusal: Failure,
) -> Failure {
    let offered = || -> Result<(), Failure> {
        let Some(pod) = subject.wishes.pod() else { return Ok(()) };
        let found = context.store.pod_storage(&subject.tenant, pod).map_err(Failure::new)?;
        let Some(volume) = found else { return Ok(()) };
        let storage = of(&volume)?;
        let Some(recorded) = &storage.image else { return Ok(()) };
        let offer = Offer { image: image.identity(Some(recorded))?, rootfs: image.place()? };
        if recorded.beside(&offer.image) != ImageState::Changed || storage.offered.as_ref() == Some(&offer) {
            return Ok(());
        }
        // It is a refusal that waits for this.
        let until = context.deadline.min(Instant::now() + patience::UNDOING);
        let mut changing = change(context, &volume, until)?;
        changing.offer_image(offer).map_err(Failure::new)
    };
    match offered() {
        Ok(()) => refusal,
        Err(failure) => refusal.hint(format!("and noting its image failed: {}", failure.cause_line())),
    }
}

/// Has the pod's storages follow their image as the plan says.
pub(crate) fn follow(context: &Context<'_>, proposal: &Proposal) -> Result<(), Failure> {
    for planned in &proposal.plan.follow {
        let volume = proposal.volumes.get(&planned.storage).ok_or_else(|| {
            Failure::internal(format!("volume {:?} of the plan was not looked up", planned.storage))
        })?;
        bring_to(context, volume, &planned.to, context.deadline)?;
    }
    Ok(())
}

/// Takes that back, unless others than the plan's container have the storage by now. `table` says who has it.
pub(crate) fn unfollow(context: &Context<'_>, plan: &Plan, table: &LeaseTable) -> Result<(), Failure> {
    // Undoing is what the time after the deadline is for.
    let patience = context.work().at_least(Instant::now() + patience::UNDOING).until;
    for planned in &plan.follow {
        let id = &planned.storage;
        let is_alone = table.holders(id).all(|(grant, _)| grant.attempt == plan.attempt);
        let Some(volume) = context.store.find(id).map_err(Failure::new)? else { continue };
        let has_followed = volume.uuid == planned.uuid && of(&volume)?.image.as_ref() == Some(&planned.to);
        if is_alone && has_followed {
            bring_to(context, &volume, &planned.from, patience)?;
        }
    }
    Ok(())
}

/// Records that a pod's storage belongs to `image` from now on. Whoever changes the storage is waited for until `patience`.
pub(crate) fn bring_to(
    context: &Context<'_>,
    volume: &Volume,
    image: &ImageIdentity,
    patience: Instant,
) -> Result<(), Failure> {
    let mut changing = change(context, volume, patience)?;
    changing.set_image(Some(image.clone())).map_err(Failure::new)?;
    context.append_volumes(&[VolumeRecord::Upgraded {
        volume: volume.id.clone(),
        uuid: volume.uuid.clone(),
        image: image.describe(),
    }])
}

/// Containers share a storage, and it is resized while they have it, which takes seconds.
fn change<'a>(context: &'a Context<'_>, volume: &Volume, patience: Instant) -> Result<Changing<'a>, Failure> {
    context.store.change_within("upgrade", volume, patience).map_err(Failure::new)
}

/// What makes `volume` a pod's storage.
pub(crate) fn of(volume: &Volume) -> Result<&PodStorage, Failure> {
    volume.storage.as_ref().ok_or_else(|| Failure::internal(format!("volume {:?} is no storage", volume.id)))
}

/// Why no overlay with its changes in the store can lie over the image.
fn no_overlay(context: &Context<'_>, image: &Image<'_>) -> Result<Option<String>, Failure> {
    // The root may not be there yet; then it will be on the filesystem of the folder above.
    let above = context.places.root.ancestors().find_map(|folder| File::open(folder).ok());
    if let Some(folder) = above
        && overlay::is_plain(folder.as_fd()).map_err(Failure::new)?
        && overlay::is_plain(image.bare()?.as_fd()).map_err(Failure::new)?
    {
        return Ok(None);
    }
    let scratch = context.store.scratch().map_err(Failure::new)?;
    match overlay::stacking(image.layer()?, scratch.as_fd()).map_err(Failure::new)? {
        Ok(()) => Ok(None),
        Err(reason) => Ok(Some(reason)),
    }
}

/// Whether the list of installed packages in a pod is its own.
fn has_own_packages(context: &Context<'_>, volume: &Volume, storage: &PodStorage) -> Result<bool, Failure> {
    let top = Top::of(context, volume)?;
    let folder = if storage.population == Population::Overlay { UPPER } else { FILES };
    let Some(folder) = top.folder(folder)? else { return Ok(false) };
    let own = identify(folder.as_fd(), None).map_err(|error| {
        Failure::context(format!("cannot tell what is installed in volume {:?}", volume.id), error)
    })?;
    let own = own.packages;
    let recorded = storage.image.as_ref().and_then(|image| image.packages.as_ref());
    Ok(own.is_some_and(|own| recorded.is_none_or(|recorded| recorded.digest != own.digest)))
}

/// The volume that a policy wants to hold a pod's volumes: the one that there is, or as it is to be made. `true`: it has
/// to be made.
pub(crate) fn wanted(
    context: &Context<'_>,
    tenant: &Tenant,
    wish: &StorageWish,
    image: &ImageIdentity,
    before: &[Volume],
) -> Result<(Volume, bool), Failure> {
    if let Some(volume) = context.store.pod_storage(tenant, &wish.pod).map_err(Failure::new)? {
        return Ok((volume, false));
    }
    let id = VolumeId { tenant: tenant.clone(), name: wish.volume.clone() };
    let member = PodMember { pod: wish.pod.clone(), member: STORAGE.to_owned() };
    if let Some(volume) = context.store.find(&id).map_err(|error| Failure::new(error).about(id.clone()))? {
        if volume.storage.is_some() && volume.pod.as_ref() == Some(&member) {
            return Ok((volume, false));
        }
        return Err(Failure::new(format!(
            "volume {id:?} exists already, and is not the storage of pod {:?}",
            wish.pod.as_str()
        ))
        .hint("remove or rename it, or give the policy another setting `name`")
        .about(id));
    }
    let asked = Wanted {
        id: &id,
        driver: wish.driver.as_deref(),
        options: &wish.options,
        labels: &wish.labels,
        member: Some(&member),
        before,
    };
    let volume = ask::new_volume(context, &asked)?;
    if !matches!(volume.backing, Backing::Directory(_) | Backing::Image(_)) {
        return Err(Failure::new(format!(
            "driver {} cannot back the storage of a pod: that is a directory or an image",
            volume.driver
        ))
        .about(id));
    }
    let storage = PodStorage {
        population: wish.population,
        parts: Vec::new(),
        image: image.is_known().then(|| image.clone()),
        offered: None,
    };
    Ok((Volume { storage: Some(storage), copy_up: CopyUp::Over, ..volume }, true))
}

/// The top directory of a storage.
pub(crate) enum Top {
    /// It is backed by one.
    Directory(OwnedFd),
    /// Mounted nowhere.
    Image(Detached),
}

impl Top {
    /// Opens it; an image is mounted for as long as this lives.
    pub(crate) fn of(context: &Context<'_>, volume: &Volume) -> Result<Self, Failure> {
        let failed = |error| {
            Failure::context(format!("cannot mount volume {:?}", volume.id), error).about(volume.id.clone())
        };
        match &volume.backing {
            Backing::Image(image) => {
                source::mount_image(&context.store.image_path(volume), image, ImageUse::Shared)
                    .map(Self::Image)
                    .map_err(failed)
            }
            _ => context.store.open_directory(volume).map(Self::Directory).map_err(Failure::new),
        }
    }

    /// The directory.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Directory(directory) => directory.as_fd(),
            Self::Image(mount) => mount.as_fd(),
        }
    }

    /// One of the folders in it, which volhook made.
    pub(crate) fn folder(&self, name: &str) -> Result<Option<OwnedFd>, Failure> {
        use rustix::fs::Mode;
        use rustix::fs::OFlags;
        use rustix::io::Errno;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(self.as_fd(), name, flags, Mode::empty()) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Failure::context(
                format!("cannot open {name} of a pod's storage"),
                std::io::Error::from(errno),
            )),
        }
    }
}
