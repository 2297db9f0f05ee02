//! A pod's storage begins anew: a fresh one takes its place, and it goes to the trash whole.
//!
//! The fresh one is built and filled in the staging folder, where nobody sees it. Until it is whole nothing else is
//! changed; then two renames do it, in a folder whose names are locked.
//!
//! | killed | left | who goes on |
//! |---|---|---|
//! | building or filling | a folder in `staging` | the next one to create a volume |
//! | after the old one went to the trash | the same; no storage has the name | the pod's next container makes one, or a person restores the old one |
//! | after the fresh one took its place | both, perhaps with links of parts that the fresh one has not | [`Store::clean_staging`] |
//! | taking it back, after the fresh one was moved away | a folder in `staging`; no storage has the name | as above |
//! | taking it back, after that | the old one in its place, a folder in `staging` | the next one to create a volume |

use crate::change::Changing;
use crate::check;
use crate::copy::Copied;
use crate::copy::Watch;
use crate::create;
use crate::create::CLEANING;
use crate::create::Places;
use crate::create::STAGING;
use crate::create::Stage;
use crate::error::StoreError;
use crate::failpoint;
use crate::files;
use crate::links::Holder;
use crate::populate::Wanted;
use crate::program::Work;
use crate::store::DATA;
use crate::store::IMAGE;
use crate::store::Store;
use crate::trash;
use crate::trash::DELETING;
use crate::trash::Discarded;
use crate::trash::Standing;
use crate::trash::TRASH;
use crate::trash::TRASHED;
use jiff::Timestamp;
use rustix::fs::AtFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;
use volhook_core::decision::Backing;
use volhook_core::names::VolumeId;
use volhook_core::volume::Part;
use volhook_core::volume::Volume;
use volhook_locks::Held;
use volhook_mounts::source;
use volhook_mounts::source::ImageUse;

/// What is being done, for messages.
const WORK: Work = "reset";

/// A storage that is to take the place of the one that its pod has. Nobody sees it yet; dropped, it is gone.
pub struct Renewal<'a> {
    store: &'a Store,
    places: Places,
    stage: Stage,
    volume: Volume,
}

impl Store {
    /// Builds `fresh`, which is to take the place of the storage of the same name. `deadline` bounds the programs that are
    /// run.
    ///
    /// # Errors
    /// As [`create`](Self::create); [`StoreError::NameHeld`] where another than that storage has the name of a part.
    pub fn renew(&self, fresh: &Volume, deadline: Instant) -> Result<Renewal<'_>, StoreError> {
        create::check(fresh)?;
        let Some(storage) = &fresh.storage else {
            return Err(impossible(&fresh.id, "it does not hold the volumes of a pod"));
        };
        self.refuse_held_names(&fresh.id, &storage.parts)?;
        let places = self.make_places(fresh)?;
        create::clean(&places.staging, Instant::now() + CLEANING);
        let stage = Stage::begin(self, fresh, &places.staging)?;
        stage.build(|stage| stage.make_content(deadline))?;
        reached(fresh, "renew.built")?;
        Ok(Renewal { store: self, places, stage, volume: fresh.clone() })
    }

    /// Refuses names that somebody has who is not the storage `id` itself.
    fn refuse_held_names(&self, id: &VolumeId, parts: &[Part]) -> Result<(), StoreError> {
        for part in parts {
            let named = VolumeId { tenant: id.tenant.clone(), name: part.name.clone() };
            let by = match self.find(&named) {
                Ok(None) => continue,
                Ok(Some(_)) => Holder::Volume,
                Err(StoreError::IsPart { storage, .. }) if storage == id.name => continue,
                Err(StoreError::IsPart { storage, .. }) => Holder::PartOf(storage),
                Err(error) => return Err(error),
            };
            return Err(StoreError::NameHeld { work: WORK, volume: id.clone(), name: named.name, by });
        }
        Ok(())
    }

    /// Takes back that `fresh` has the place of the storage that is in the trash with the uuid `discarded`: that has its
    /// place again, and `fresh` is deleted. Nobody may have used it. What cannot be deleted until `deadline` is left to the
    /// next one to create a volume.
    ///
    /// # Errors
    /// [`StoreError::Gone`] where `fresh` is not in its place any more, [`StoreError::NotDiscarded`] and
    /// [`StoreError::HalfDeleted`] where the other cannot be had back, [`StoreError::Restore`].
    pub fn take_back(
        &self,
        fresh: &Volume,
        discarded: &str,
        deadline: Instant,
    ) -> Result<Volume, StoreError> {
        let id = &fresh.id;
        let failed = |step, path: PathBuf| {
            move |source: io::Error| StoreError::Restore { volume: id.clone(), step, path, source }
        };
        let standing = self.standing(id, &fresh.uuid)?;
        let (trash, (old_folder, _held), old) = self.discarded(id, discarded)?;
        let staging_path = self.root.join(STAGING);
        let staging = files::open_folder(&self.root)
            .and_then(|root| files::make_folder(&root, STAGING))
            .map_err(failed("make", staging_path.clone()))?;
        let names = self.lock_names(&id.tenant).map_err(failed("lock", self.pods_path(&id.tenant)))?;
        let (place, name) = (&standing.tenant, id.name.as_str());
        rustix::fs::renameat_with(place, name, &staging, &fresh.uuid, RenameFlags::NOREPLACE)
            .map_err(|errno| failed("move it to", staging_path.join(&fresh.uuid))(errno.into()))?;
        let back = failpoint::reached("renew.emptied")
            .and_then(|()| rustix::fs::renameat_with(&trash, discarded, place, name, RenameFlags::NOREPLACE));
        if let Err(errno) = back {
            // Better that one than none.
            let _ = rustix::fs::renameat_with(&staging, &fresh.uuid, place, name, RenameFlags::NOREPLACE);
            return Err(failed("move it to", self.folder(id))(errno.into()));
        }
        volhook_locks::flush(place).map_err(|errno| failed("sync", self.folder(id))(errno.into()))?;
        volhook_locks::flush(&trash).map_err(|errno| failed("sync", self.root.join(TRASH))(errno.into()))?;
        let _ = rustix::fs::unlinkat(&old_folder, TRASHED, AtFlags::empty());
        let parts = old.storage.as_ref().map_or(&[][..], |storage| &storage.parts);
        // A name that somebody has taken meanwhile stays theirs: the volume can be used without it.
        let _ = self.reserve("restore", &names, &old, parts, true);
        let _ = self.release(&names, fresh);
        drop(names);
        create::remove(&staging, &fresh.uuid, &standing.folder, deadline);
        Ok(old)
    }

    /// The storage `id` in the trash with this uuid, locked, as far as it can be restored: the trash, its folder, and what
    /// it is.
    fn discarded(&self, id: &VolumeId, uuid: &str) -> Result<(OwnedFd, (OwnedFd, Held), Volume), StoreError> {
        let path = self.root.join(TRASH).join(uuid);
        let not = |reason: &str| StoreError::NotDiscarded {
            volume: id.clone(),
            path: path.clone(),
            reason: reason.to_owned(),
        };
        let Some(trash) = self.open_trash()? else { return Err(not("there is no trash")) };
        let (folder, held) = trash::lock_discarded(&trash, uuid).map_err(|errno| not(&errno.to_string()))?;
        let (_, volume, _) = trash::read_entry(&trash, uuid).map_err(|why| match why {
            trash::NotDiscarded::Gone => not("it is not there any more"),
            trash::NotDiscarded::Other(_, reason) => not(&reason),
        })?;
        if volume.id != *id {
            return Err(not(&format!("that is volume \"{}\"", volume.id)));
        }
        match rustix::fs::statat(&folder, DELETING, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok((trash, (folder, held), volume)),
            Ok(_) => Err(StoreError::HalfDeleted { volume: id.clone(), path }),
            Err(errno) => Err(not(&errno.to_string())),
        }
    }
}

impl Renewal<'_> {
    /// The storage as it is to be.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Makes and fills parts, and records them in its sidecar. When this returns, that survives a power cut.
    ///
    /// # Errors
    /// As [`Changing::fill`], after which the storage is to be dropped.
    pub fn fill(&mut self, wanted: &[Wanted], watch: &Watch<'_>) -> Result<Copied, StoreError> {
        let folder = rustix::io::fcntl_dupfd_cloexec(self.stage.folder(), 0)
            .map_err(|errno| failed(&self.volume, "open", self.stage.path.clone())(errno))?;
        let mut changing =
            Changing { store: self.store, work: WORK, volume: self.volume.clone(), folder, _held: None };
        let parts = changing.unrecorded(wanted.iter().map(|wanted| wanted.part.clone()).collect())?;
        self.store.refuse_held_names(&self.volume.id, &parts)?;
        let copied = match &self.volume.backing {
            Backing::Image(image) => {
                let path = self.stage.path.join(IMAGE);
                let mount = source::mount_image(&path, image, ImageUse::Exclusive)
                    .map_err(changing.image_failed())?;
                let copied = changing.place(mount.as_fd(), wanted, &parts, watch)?;
                drop(mount);
                // Who renews a storage mounts it next.
                check::lock_soon(&path).map_err(changing.image_failed())?;
                copied
            }
            _ => {
                let data = files::folder_below(self.stage.folder(), Path::new(DATA))
                    .map_err(|errno| failed(&self.volume, "open", self.stage.path.join(DATA))(errno))?;
                changing.place(data.as_fd(), wanted, &parts, watch)?
            }
        };
        let mut storage = changing.storage()?.clone();
        storage.parts.extend(parts);
        changing.write_storage(storage)?;
        self.volume = changing.volume;
        reached(&self.volume, "renew.filled")?;
        Ok(copied)
    }

    /// Puts it in the place of the storage with the uuid `old`, which goes to the trash. Nobody may hold that one. When this
    /// returns, it survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Gone`] where that one is not there any more, [`StoreError::Discard`], [`StoreError::NameHeld`],
    /// [`StoreError::Change`]; then the old one is in its place.
    pub fn replace(mut self, old: &str, now: Timestamp) -> Result<Discarded, StoreError> {
        let id = self.volume.id.clone();
        let standing = self.store.standing(&id, old)?;
        let names = self.store.lock_names(&id.tenant);
        let names = names.map_err(|source| self.changed("lock", self.store.pods_path(&id.tenant), source))?;
        reached(&self.volume, "renew.locked")?;
        let discarded = self.store.put_into_trash(&standing, now)?;
        let parts = self.volume.storage.as_ref().map_or(&[][..], |storage| &storage.parts);
        let placed = reached(&self.volume, "renew.discarded")
            .and_then(|()| self.store.reserve(WORK, &names, &self.volume, parts, true))
            .and_then(|_| {
                let synced = names.sync_pods().and_then(|()| {
                    let (uuid, name) = (&self.volume.uuid, id.name.as_str());
                    let (from, to) = (&self.places.staging, &self.places.tenant);
                    rustix::fs::renameat_with(from, uuid, to, name, RenameFlags::NOREPLACE)
                });
                synced.map_err(|errno| self.changed("move it to", self.store.folder(&id), errno.into()))
            });
        if let Err(error) = placed {
            drop(names);
            self.put_back(&standing, &discarded);
            return Err(error);
        }
        self.stage.done = true;
        // It is in its place: what fails from here on is undone by whoever takes it back.
        volhook_locks::flush(&self.places.tenant)
            .map_err(|errno| self.changed("sync", self.store.folder(&id), errno.into()))?;
        // What is left of them names nobody.
        let _ = self.store.release(&names, &standing.volume);
        reached(&self.volume, "renew.placed")?;
        Ok(discarded)
    }

    fn put_back(&self, standing: &Standing, discarded: &Discarded) {
        // It stays where a person can restore it.
        let Ok(Some(trash)) = self.store.open_trash() else { return };
        let (uuid, name) = (&discarded.volume.uuid, standing.volume.id.name.as_str());
        if rustix::fs::renameat_with(&trash, uuid, &standing.tenant, name, RenameFlags::NOREPLACE).is_ok() {
            let _ = rustix::fs::unlinkat(&standing.folder, TRASHED, AtFlags::empty());
            let _ = volhook_locks::flush(&standing.tenant).and_then(|()| volhook_locks::flush(&trash));
            self.store.mend_links(&standing.volume);
        }
    }

    fn changed(&self, step: &'static str, path: PathBuf, source: io::Error) -> StoreError {
        StoreError::Change { work: WORK, volume: self.volume.id.clone(), step, path, source }
    }
}

fn failed(volume: &Volume, step: &'static str, path: PathBuf) -> impl FnOnce(Errno) -> StoreError {
    let volume = volume.id.clone();
    move |errno| StoreError::Change { work: WORK, volume, step, path, source: errno.into() }
}

fn reached(volume: &Volume, step: &str) -> Result<(), StoreError> {
    failpoint::reached(step).map_err(failed(volume, "go on with", PathBuf::from(step)))
}

fn impossible(id: &VolumeId, reason: &str) -> StoreError {
    StoreError::Impossible { work: WORK, volume: id.clone(), reason: reason.to_owned() }
}
