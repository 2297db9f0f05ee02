//! Everything that stands in the store: volumes, their parts, and what is none.

use crate::error::StoreError;
use crate::files;
use crate::links::ListedPart;
use crate::links::PODS;
use crate::store::Store;
use crate::store::VOLUMES;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::error::Error;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::decision::LabelUsage;
use volhook_core::decision::Pairs;
use volhook_core::decision::Usage;
use volhook_core::names::Pod;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::volume::Volume;

const LEFT_OVER: &str = "it is the link of a pod's volume that is not there; a creator was killed";

/// What stands in the store, sorted.
#[derive(Debug, Default)]
pub struct Listing {
    /// The volumes, by tenant and name.
    pub volumes: Vec<Volume>,
    /// The volumes of pods that lie in one of these, by tenant and name.
    pub parts: Vec<ListedPart>,
    /// What else stands in their places, by path.
    pub others: Vec<Other>,
}

/// An entry of the store that is no usable volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: OtherKind,
    /// Why it is no usable volume, one line.
    pub reason: String,
}

/// What an [`Other`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherKind {
    /// Not made by volhook.
    Foreign,
    /// A volume whose sidecar cannot be read or understood.
    Damaged,
    /// A volume of a newer volhook.
    Newer,
    /// The link of a pod's volume that is not there (any more). It names nobody, and goes with
    /// [`clean_staging`](Store::clean_staging).
    Leftover,
}

impl Other {
    fn foreign(path: PathBuf, reason: &str) -> Self {
        Self { path, kind: OtherKind::Foreign, reason: reason.to_owned() }
    }

    fn leftover(path: PathBuf) -> Self {
        Self { path, kind: OtherKind::Leftover, reason: LEFT_OVER.to_owned() }
    }

    fn failed(path: PathBuf, error: &StoreError) -> Self {
        let kind = match error {
            StoreError::Foreign { .. } => OtherKind::Foreign,
            StoreError::NewerSidecar { .. } => OtherKind::Newer,
            _ => OtherKind::Damaged,
        };
        let source = error.source().map_or_else(String::new, |source| format!(": {source}"));
        Self { path, kind, reason: format!("{error}{source}") }
    }
}

impl Store {
    /// Everything that stands in the store.
    ///
    /// # Errors
    /// [`StoreError::List`]. An entry that is no usable volume is part of the list, not an error.
    pub fn list(&self) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        self.each_tenant(VOLUMES, &mut listing, Self::list_tenant)?;
        self.each_tenant(PODS, &mut listing, Self::list_pods)?;
        listing.others.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listing)
    }

    /// Goes through the folders of all tenants in the folder `top` of the root.
    fn each_tenant(
        &self,
        top: &str,
        listing: &mut Listing,
        list: fn(&Self, &Tenant, &OwnedFd, &mut Listing) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let path = self.root.join(top);
        let Some(folder) = self.open_places(top)? else {
            return Ok(());
        };
        for name in files::names(&folder).map_err(unlistable(&path))? {
            let path = path.join(&name);
            let Ok(tenant) = Tenant::new(name.clone()) else {
                listing.others.push(Other::foreign(path, "its name is not that of a tenant"));
                continue;
            };
            match files::folder_below(&folder, Path::new(&name)) {
                Ok(folder) => list(self, &tenant, &folder, listing)?,
                Err(Errno::NOENT) => {}
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    listing.others.push(Other::foreign(path, "it is not a directory"));
                }
                Err(errno) => return Err(unlistable(&path)(errno.into())),
            }
        }
        Ok(())
    }

    fn list_tenant(
        &self,
        tenant: &Tenant,
        folder: &OwnedFd,
        listing: &mut Listing,
    ) -> Result<(), StoreError> {
        let top = self.root.join(VOLUMES).join(tenant.as_str());
        let first = listing.volumes.len();
        let mut links = Vec::new();
        for (name, kind) in files::entries(folder).map_err(unlistable(&top))? {
            let path = top.join(&name);
            let Ok(name) = VolumeName::new(name) else {
                listing.others.push(Other::foreign(path, "its name is not that of a volume"));
                continue;
            };
            let id = VolumeId { tenant: tenant.clone(), name };
            if kind == FileType::Symlink {
                links.push((id, path));
                continue;
            }
            match self.find(&id) {
                Ok(found) => listing.volumes.extend(found),
                // It became one at this moment, or the filesystem does not say what an entry is.
                Err(StoreError::IsPart { .. }) => links.push((id, path)),
                Err(error) => listing.others.push(Other::failed(path, &error)),
            }
        }
        // Afterwards: one reading of a storage does for all its parts.
        let known = listing.volumes[first..].iter().flat_map(ListedPart::all_in);
        let known: Vec<ListedPart> = known.collect();
        for (id, path) in links {
            if let Some(part) = known.iter().find(|part| part.id == id)
                && self.is_link_to(part)
            {
                listing.parts.push(part.clone());
                continue;
            }
            match self.find_part(&id) {
                Ok(Some((storage, part))) => listing.parts.push(ListedPart::new(&storage, part)),
                Ok(None) => listing.others.push(Other::leftover(path)),
                Err(error) => listing.others.push(Other::failed(path, &error)),
            }
        }
        Ok(())
    }

    fn list_pods(&self, tenant: &Tenant, folder: &OwnedFd, listing: &mut Listing) -> Result<(), StoreError> {
        let top = self.root.join(PODS).join(tenant.as_str());
        for (name, kind) in files::entries(folder).map_err(unlistable(&top))? {
            let path = top.join(&name);
            let Ok(pod) = Pod::new(name) else {
                listing.others.push(Other::foreign(path, "its name is not that of a pod"));
                continue;
            };
            // Some filesystems do not say what an entry is.
            if !matches!(kind, FileType::Symlink | FileType::Unknown) {
                listing.others.push(Other::foreign(path, "it is not a symbolic link"));
                continue;
            }
            match self.pod_storage(tenant, &pod) {
                Ok(Some(_)) => {}
                Ok(None) => listing.others.push(Other::leftover(path)),
                // Told where the volume is.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// What a tenant's volumes add up to, and those of them that have each of `labels`. A volume whose sidecar cannot be read counts as one without a limit; what lies
    /// in another volume does not count.
    ///
    /// # Errors
    /// [`StoreError::List`].
    pub fn usage(&self, tenant: &Tenant, labels: &Pairs) -> Result<Usage, StoreError> {
        let mut listing = Listing::default();
        let Some(top) = self.open_places(VOLUMES)? else {
            return Ok(used(&[], labels));
        };
        match files::folder_below(&top, Path::new(tenant.as_str())) {
            Ok(folder) => self.list_tenant(tenant, &folder, &mut listing)?,
            Err(Errno::NOENT) => {}
            Err(errno) => {
                let path = self.root.join(VOLUMES).join(tenant.as_str());
                return Err(unlistable(&path)(errno.into()));
            }
        }
        let is_volume = |other: &&Other| !matches!(other.kind, OtherKind::Foreign | OtherKind::Leftover);
        let damaged = listing.others.iter().filter(is_volume).count();
        let used = used(&listing.volumes, labels);
        Ok(Usage { volumes: used.volumes + damaged as u64, ..used })
    }

    /// The folder `name` of the root; `None` where there is none.
    fn open_places(&self, name: &str) -> Result<Option<OwnedFd>, StoreError> {
        let path = self.root.join(name);
        match files::open_folder(&self.root) {
            Ok(root) => match files::folder_below(&root, Path::new(name)) {
                Ok(folder) => Ok(Some(folder)),
                Err(Errno::NOENT) => Ok(None),
                Err(errno) => Err(unlistable(&path)(errno.into())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unlistable(&path)(error)),
        }
    }
}

fn unlistable(path: &Path) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::List { path, source }
}

/// What `volumes` add up to, and those of them that have each of `labels`.
fn used(volumes: &[Volume], labels: &Pairs) -> Usage {
    let nothing = |label: &(String, String)| LabelUsage { label: label.clone(), volumes: 0, bytes: 0 };
    let mut usage = Usage { labels: labels.iter().map(nothing).collect(), ..Usage::default() };
    volumes.iter().for_each(|volume| volume.add_to(&mut usage));
    usage
}
