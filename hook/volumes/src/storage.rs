//! The volume that holds all volumes of a pod: its folders, and what its sidecar says.

use crate::change::Changing;
use crate::error::StoreError;
use crate::failpoint;
use crate::files;
use crate::links::Holder;
use crate::links::Names;
use rustix::fs::Mode;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use volhook_core::decision::Backing;
use volhook_core::decision::Population;
use volhook_core::image::ImageIdentity;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::volume::FILES;
use volhook_core::volume::Offer;
use volhook_core::volume::Part;
use volhook_core::volume::PodStorage;
use volhook_core::volume::Volume;

/// A pod's changes to the files of its image, for overlayfs.
pub(crate) const UPPER: &str = "upper";
/// What overlayfs works in.
pub(crate) const WORK: &str = "work";
/// The mode of `upper`, until it gets that of the root filesystem, and of `files`.
const OPEN: Mode = Mode::from_raw_mode(0o755);

/// Makes the folders of a storage in its top directory, those that are missing: `upper` and `work`, or `files`. Nothing
/// is synced.
///
/// # Errors
/// Those of mkdir(2). That something else has the name of a folder is none.
pub fn lay_out(top: BorrowedFd<'_>, population: Population) -> io::Result<()> {
    let folders: &[(&str, Mode)] = match population {
        Population::Overlay => &[(UPPER, OPEN), (WORK, files::PRIVATE)],
        Population::Copy | Population::Empty => &[(FILES, OPEN)],
    };
    for (name, mode) in folders {
        match rustix::fs::mkdirat(top, *name, *mode) {
            // Whatever the umask.
            Ok(()) => rustix::fs::chmodat(top, *name, *mode, rustix::fs::AtFlags::empty())?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// What is wrong with a storage that is to be made.
pub(crate) fn fault(volume: &Volume, storage: &PodStorage) -> Option<&'static str> {
    if volume.pod.is_none() {
        return Some("it is to hold the volumes of a pod and belongs to none");
    }
    if !matches!(volume.backing, Backing::Directory(_) | Backing::Image(_)) {
        return Some("what is to hold the volumes of a pod has to be a directory or an image");
    }
    fault_of_parts(volume, &storage.parts)
}

/// What is wrong with the parts that a storage is to have.
fn fault_of_parts(volume: &Volume, parts: &[Part]) -> Option<&'static str> {
    let (mut names, mut members, mut paths) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for part in parts {
        // A link tells the member.
        if VolumeName::new(part.member.as_str()).is_err() {
            return Some("the member that a part is has no acceptable name");
        }
        if part.name == volume.id.name || !names.insert(&part.name) {
            return Some("two of its parts, or a part and itself, would have one name");
        }
        if !members.insert(&part.member) || !paths.insert(part.path.as_str()) {
            return Some("two of its parts are the same member of the pod or have the same place");
        }
    }
    None
}

impl Changing<'_> {
    /// What the sidecar says of the volumes that lie in this one.
    ///
    /// # Errors
    /// [`StoreError::Impossible`] where it holds none.
    pub fn storage(&self) -> Result<&PodStorage, StoreError> {
        match &self.volume.storage {
            Some(storage) => Ok(storage),
            None => Err(self.impossible("it does not hold the volumes of a pod")),
        }
    }

    /// Records parts, and reserves their names. Those that are recorded already stay as they are. When this returns, it
    /// survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::NameHeld`] when another has one of the names, [`StoreError::Impossible`] when a part is another one
    /// than recorded, [`StoreError::Change`].
    pub fn add_parts(&mut self, parts: Vec<Part>) -> Result<(), StoreError> {
        let new = self.unrecorded(parts)?;
        if new.is_empty() {
            return Ok(());
        }
        let mut storage = self.storage()?.clone();
        storage.parts.extend(new.iter().cloned());
        let names = self.names()?;
        self.store.reserve(self.work, &names, &self.volume, &new, false)?;
        let linked = failpoint::reached("parts.linked");
        let synced = linked
            .and_then(|()| names.sync_volumes())
            .map_err(|errno| self.names_failed("sync")(errno.into()));
        let written = synced.and_then(|()| self.write_storage(storage));
        if written.is_err() {
            // Those that the sidecar names after all stay.
            for part in new {
                let _ = self.store.release_part(&names, &part);
            }
        }
        written
    }

    /// Those of `parts` that are not recorded yet.
    pub(crate) fn unrecorded(&self, parts: Vec<Part>) -> Result<Vec<Part>, StoreError> {
        let storage = self.storage()?;
        let is_recorded = |part: &Part| {
            let same = |known: &Part| {
                (&known.name, &known.member, &known.path) == (&part.name, &part.member, &part.path)
            };
            storage.parts.iter().any(same)
        };
        let new: Vec<Part> = parts.into_iter().filter(|part| !is_recorded(part)).collect();
        let all: Vec<Part> = storage.parts.iter().chain(&new).cloned().collect();
        match fault_of_parts(&self.volume, &all) {
            Some(fault) => Err(self.impossible(fault)),
            None => Ok(new),
        }
    }

    /// Refuses names that others have, before anything is done that takes its time.
    pub(crate) fn check_names(&self, parts: &[Part]) -> Result<(), StoreError> {
        for part in parts {
            let id = VolumeId { tenant: self.volume.id.tenant.clone(), name: part.name.clone() };
            let by = match self.store.find(&id) {
                Ok(None) => continue,
                Ok(Some(_)) => Holder::Volume,
                Err(StoreError::IsPart { storage, .. }) => Holder::PartOf(storage),
                Err(error) => return Err(error),
            };
            let (volume, name) = (self.volume.id.clone(), id.name);
            return Err(StoreError::NameHeld { work: self.work, volume, name, by });
        }
        Ok(())
    }

    pub(crate) fn names(&self) -> Result<Names, StoreError> {
        self.store.lock_names(&self.volume.id.tenant).map_err(self.names_failed("lock"))
    }

    pub(crate) fn names_failed(&self, step: &'static str) -> impl FnOnce(io::Error) -> StoreError + use<> {
        let volume = self.volume.id.clone();
        let (work, path) = (self.work, self.store.pods_path(&volume.tenant));
        move |source| StoreError::Change { work, volume, step, path, source }
    }

    /// Records the image that the storage was made from or has been brought up to. One that was offered is settled by that.
    ///
    /// # Errors
    /// [`StoreError::Impossible`] where it holds no pod's volumes, [`StoreError::Change`].
    pub fn set_image(&mut self, image: Option<ImageIdentity>) -> Result<(), StoreError> {
        let storage = PodStorage { image, offered: None, ..self.storage()?.clone() };
        self.write_storage(storage)
    }

    /// Records an image with which a start was refused.
    ///
    /// # Errors
    /// As [`set_image`](Self::set_image).
    pub fn offer_image(&mut self, offer: Offer) -> Result<(), StoreError> {
        let storage = PodStorage { offered: Some(offer), ..self.storage()?.clone() };
        self.write_storage(storage)
    }

    /// Nothing is written where nothing changes: the same is said at every start.
    pub(crate) fn write_storage(&mut self, storage: PodStorage) -> Result<(), StoreError> {
        // Images are the same whose lists of packages are, also where those are other files now.
        let stamp = |storage: &PodStorage| {
            storage.image.as_ref().and_then(|image| image.packages.as_ref()).and_then(|list| list.stamp)
        };
        let is_same = |known: &PodStorage| *known == storage && stamp(known) == stamp(&storage);
        if self.volume.storage.as_ref().is_some_and(is_same) {
            return Ok(());
        }
        self.write(Volume { storage: Some(storage), ..self.volume.clone() })
    }
}
