//! The names of a pod's volumes, and how a pod's storage is found: symbolic links, whose text is read and which are
//! never followed.

use crate::create::ATTEMPTS;
use crate::error::StoreError;
use crate::files;
use crate::list::Other;
use crate::list::OtherKind;
use crate::store::Looked;
use crate::store::Store;
use crate::store::VOLUMES;
use crate::store::below;
use rustix::fs::AtFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use volhook_core::names::Pod;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::volume::Part;
use volhook_core::volume::Volume;
use volhook_locks::Held;
use volhook_locks::Lock;

pub(crate) const PODS: &str = "pods";
/// How long the names of a tenant are waited for, which others hold for a few syncs at a time.
const LOCKING: Duration = Duration::from_secs(10);
/// What stands in a volume's place and is not a link of ours.
const ODD: &str = "it is a symbolic link that volhook did not make";

/// Where a part is, as the link in its place says: `<storage>/<member>`.
struct Pointer {
    storage: VolumeName,
    member: VolumeName,
}

impl Pointer {
    fn parse(text: &[u8]) -> Option<Self> {
        let (storage, member) = std::str::from_utf8(text).ok()?.split_once('/')?;
        Some(Self { storage: VolumeName::new(storage).ok()?, member: VolumeName::new(member).ok()? })
    }
}

/// The text of the link to this part of `storage`.
fn pointer_text(storage: &VolumeId, part: &Part) -> String {
    format!("{}/{}", storage.name, part.member)
}

/// What stands in the place of a link.
enum Link {
    Nothing,
    /// Anything but a symbolic link.
    Other,
    Text(Vec<u8>),
}

/// A part in a list of what the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPart {
    /// Its identity, as that of any volume.
    pub id: VolumeId,
    /// The volume in which it lies.
    pub storage: VolumeId,
    /// The pod whose volume it is.
    pub pod: Option<Pod>,
    /// What that volume's sidecar says of it.
    pub part: Part,
}

impl ListedPart {
    pub(crate) fn new(storage: &Volume, part: Part) -> Self {
        Self {
            id: VolumeId { tenant: storage.id.tenant.clone(), name: part.name.clone() },
            storage: storage.id.clone(),
            pod: storage.pod.as_ref().map(|member| member.pod.clone()),
            part,
        }
    }

    /// The parts of a volume, which has none if it is no storage.
    pub(crate) fn all_in(volume: &Volume) -> impl Iterator<Item = Self> {
        volume.storage.iter().flat_map(|storage| &storage.parts).map(|part| Self::new(volume, part.clone()))
    }

    fn pointer(&self) -> String {
        pointer_text(&self.storage, &self.part)
    }
}

/// Who has a name that a pod's volume was to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A volume of that name.
    Volume,
    /// A part of this volume of the same tenant.
    PartOf(VolumeName),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume => f.write_str("another volume"),
            Self::PartOf(storage) => write!(f, "a part of volume \"{storage}\""),
        }
    }
}

/// A tenant's names while nobody else gives any of them to a pod's volume, or takes one back.
pub(crate) struct Names {
    tenant: Tenant,
    /// The links to storages, by pod. Locked (flock(2)).
    pods: OwnedFd,
    /// The volumes, and the links in the places of parts.
    volumes: OwnedFd,
    _held: Held,
}

/// Links that were made and are not to stay if what they are for fails.
#[derive(Default)]
pub(crate) struct Made {
    parts: Vec<VolumeName>,
    pod: Option<Pod>,
}

impl Made {
    pub(crate) fn undo(self, names: &Names) {
        for name in self.parts {
            let _ = rustix::fs::unlinkat(&names.volumes, name.as_str(), AtFlags::empty());
        }
        if let Some(pod) = self.pod {
            let _ = rustix::fs::unlinkat(&names.pods, pod.as_str(), AtFlags::empty());
        }
    }
}

impl Names {
    /// Makes the links to storages survive a power cut.
    pub(crate) fn sync_pods(&self) -> Result<(), Errno> {
        volhook_locks::flush(&self.pods)
    }

    /// The same for volumes and the links in the places of parts.
    pub(crate) fn sync_volumes(&self) -> Result<(), Errno> {
        volhook_locks::flush(&self.volumes)
    }
}

impl Store {
    /// The pod's volume called `id`: the volume in which it lies, and what that says of it. `None` where there is none,
    /// also where a volume of that name is no part of another.
    ///
    /// # Errors
    /// Those of [`find`](Self::find), which may be about the volume in which it lies.
    pub fn find_part(&self, id: &VolumeId) -> Result<Option<(Volume, Part)>, StoreError> {
        match self.link(&below(id)).map_err(|errno| self.unusable(id, &self.folder(id), errno))? {
            Link::Nothing | Link::Other => Ok(None),
            Link::Text(text) => self.pointed_to(id, &text),
        }
    }

    /// What the link with this text in the place of `id` leads to; `None` for one that is left over.
    fn pointed_to(&self, id: &VolumeId, text: &[u8]) -> Result<Option<(Volume, Part)>, StoreError> {
        let Some(pointer) = Pointer::parse(text) else {
            return Err(StoreError::Foreign { volume: id.clone(), path: self.folder(id), reason: ODD });
        };
        let storage = VolumeId { tenant: id.tenant.clone(), name: pointer.storage };
        Ok(match self.look(&storage)? {
            Looked::Volume(storage) => {
                let part = storage.storage.as_ref().and_then(|parts| parts.member(pointer.member.as_str()));
                let part = part.filter(|part| part.name == id.name).cloned();
                part.map(|part| (*storage, part))
            }
            Looked::Nothing | Looked::Symlink => None,
        })
    }

    /// The volume that holds the volumes of a pod; `None` where there is none.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn pod_storage(&self, tenant: &Tenant, pod: &Pod) -> Result<Option<Volume>, StoreError> {
        let path: PathBuf = [PODS, tenant.as_str(), pod.as_str()].iter().collect();
        let text = match self.link(&path) {
            Ok(Link::Text(text)) => text,
            Ok(Link::Nothing | Link::Other) => return Ok(None),
            Err(source) => {
                return Err(StoreError::List { path: self.root.join(path), source: source.into() });
            }
        };
        let Some(name) = std::str::from_utf8(&text).ok().and_then(|text| VolumeName::new(text).ok()) else {
            return Ok(None);
        };
        match self.look(&VolumeId { tenant: tenant.clone(), name })? {
            Looked::Volume(volume) if is_storage_of(&volume, pod) => Ok(Some(*volume)),
            _ => Ok(None),
        }
    }

    /// Reads a link below the root.
    fn link(&self, path: &Path) -> Result<Link, Errno> {
        let opened = match self.root().and_then(|root| files::open_below(root, path, OFlags::PATH)) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Ok(Link::Nothing),
            Err(errno) => return Err(errno),
        };
        match rustix::fs::readlinkat(&opened, c"", Vec::with_capacity(256)) {
            Ok(text) => Ok(Link::Text(text.into_bytes())),
            // What readlinkat(2) says of anything but a symbolic link.
            Err(Errno::INVAL | Errno::NOENT) => Ok(Link::Other),
            Err(errno) => Err(errno),
        }
    }

    /// Whether the link in a part's place is that part's.
    pub(crate) fn is_link_to(&self, part: &ListedPart) -> bool {
        matches!(self.link(&below(&part.id)), Ok(Link::Text(text)) if text == part.pointer().as_bytes())
    }

    /// Takes a tenant's names. The folders are made where they are missing.
    pub(crate) fn lock_names(&self, tenant: &Tenant) -> io::Result<Names> {
        let root = files::open_folder(&self.root)?;
        let folder = |name| {
            files::make_folder(&root, name).and_then(|folder| files::make_folder(&folder, tenant.as_str()))
        };
        let (pods, volumes) = (folder(PODS)?, folder(VOLUMES)?);
        let held = volhook_locks::take(Lock::Names, &pods, Instant::now() + LOCKING)?;
        let held = held.ok_or(io::Error::from(Errno::WOULDBLOCK))?;
        Ok(Names { tenant: tenant.clone(), pods, volumes, _held: held })
    }

    /// Where the lock of [`lock_names`](Self::lock_names) is, for messages.
    pub(crate) fn pods_path(&self, tenant: &Tenant) -> PathBuf {
        self.root.join(PODS).join(tenant.as_str())
    }

    /// Gives the names of `parts` to these parts of `storage`, and its pod to `storage` itself if `and_pod`. What is left
    /// over of others is replaced. When it fails, nothing is changed.
    pub(crate) fn reserve(
        &self,
        work: &'static str,
        names: &Names,
        storage: &Volume,
        parts: &[Part],
        and_pod: bool,
    ) -> Result<Made, StoreError> {
        let mut made = Made::default();
        let mut reserve = || {
            for part in parts {
                if self.reserve_part(work, names, storage, part)? {
                    made.parts.push(part.name.clone());
                }
            }
            if let Some(member) = storage.pod.as_ref().filter(|_| and_pod)
                && self.reserve_pod(work, names, storage, &member.pod)?
            {
                made.pod = Some(member.pod.clone());
            }
            Ok(())
        };
        match reserve() {
            Ok(()) => Ok(made),
            Err(error) => {
                made.undo(names);
                Err(error)
            }
        }
    }

    /// Says whether the link was not there.
    fn reserve_part(
        &self,
        work: &'static str,
        names: &Names,
        storage: &Volume,
        part: &Part,
    ) -> Result<bool, StoreError> {
        let id = VolumeId { tenant: names.tenant.clone(), name: part.name.clone() };
        let text = pointer_text(&storage.id, part);
        let failed = |step, errno: Errno| self.link_failed(work, storage, step, self.folder(&id), errno);
        let held =
            |by| StoreError::NameHeld { work, volume: storage.id.clone(), name: part.name.clone(), by };
        for _ in 0..ATTEMPTS {
            match rustix::fs::symlinkat(&text, &names.volumes, part.name.as_str()) {
                Ok(()) => return Ok(true),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed("make the link", errno)),
            }
            match self.link(&below(&id)).map_err(|errno| failed("read", errno))? {
                // Left by whoever was killed while doing the same.
                Link::Text(found) if found == text.as_bytes() => return Ok(false),
                Link::Text(found) => match self.pointed_to(&id, &found)? {
                    Some((other, _)) => return Err(held(Holder::PartOf(other.id.name))),
                    None => rustix::fs::unlinkat(&names.volumes, part.name.as_str(), AtFlags::empty())
                        .map_err(|errno| failed("remove", errno))?,
                },
                Link::Other => {
                    if self.find(&id)?.is_some() {
                        return Err(held(Holder::Volume));
                    }
                }
                Link::Nothing => {}
            }
        }
        Err(failed("make the link", Errno::EXIST))
    }

    /// Says whether the link was not there. That the pod has no other storage is known.
    fn reserve_pod(
        &self,
        work: &'static str,
        names: &Names,
        storage: &Volume,
        pod: &Pod,
    ) -> Result<bool, StoreError> {
        let path: PathBuf = [PODS, names.tenant.as_str(), pod.as_str()].iter().collect();
        let failed = |step, errno| self.link_failed(work, storage, step, self.root.join(&path), errno);
        let text = storage.id.name.as_str();
        match rustix::fs::symlinkat(text, &names.pods, pod.as_str()) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("make the link", errno)),
        }
        match self.link(&path).map_err(|errno| failed("read", errno))? {
            Link::Text(found) if found == text.as_bytes() => Ok(false),
            _ => rustix::fs::unlinkat(&names.pods, pod.as_str(), AtFlags::empty())
                .and_then(|()| rustix::fs::symlinkat(text, &names.pods, pod.as_str()))
                .map(|()| true)
                .map_err(|errno| failed("replace", errno)),
        }
    }

    fn link_failed(
        &self,
        work: &'static str,
        storage: &Volume,
        step: &'static str,
        path: PathBuf,
        errno: Errno,
    ) -> StoreError {
        StoreError::Change { work, volume: storage.id.clone(), step, path, source: errno.into() }
    }

    /// Makes links again that are missing, as after a restoration from a backup that has none. A name that somebody else
    /// has by now stays theirs: the volume can be used without it.
    pub(crate) fn mend_links(&self, storage: &Volume) {
        let Some(parts) = &storage.storage else { return };
        let tenant = &storage.id.tenant;
        let is = |path: PathBuf, wanted: &str| matches!(self.link(&path), Ok(Link::Text(text)) if text == wanted.as_bytes());
        let part_is_there = |part: &Part| {
            let id = VolumeId { tenant: tenant.clone(), name: part.name.clone() };
            is(below(&id), &pointer_text(&storage.id, part))
        };
        let pod_is_there = storage.pod.as_ref().is_none_or(|member| {
            let path = [PODS, tenant.as_str(), member.pod.as_str()].iter().collect();
            is(path, storage.id.name.as_str())
        });
        if pod_is_there && parts.parts.iter().all(part_is_there) {
            return;
        }
        let Ok(names) = self.lock_names(tenant) else { return };
        let other = storage.pod.as_ref().is_some_and(|member| {
            self.pod_storage(tenant, &member.pod)
                .is_ok_and(|found| found.is_some_and(|it| it.id != storage.id))
        });
        for part in &parts.parts {
            let _ = self.reserve("create", &names, storage, std::slice::from_ref(part), false);
        }
        let _ = self.reserve("create", &names, storage, &[], !other);
        let _ = names.sync_volumes().and_then(|()| names.sync_pods());
    }

    /// Removes the link in the place of `id` if it is left over.
    pub(crate) fn remove_dangling(&self, names: &Names, id: &VolumeId) -> Result<(), Errno> {
        if let Link::Text(text) = self.link(&below(id))?
            && matches!(self.pointed_to(id, &text), Ok(None))
        {
            rustix::fs::unlinkat(&names.volumes, id.name.as_str(), AtFlags::empty())?;
        }
        Ok(())
    }

    /// Removes the link to a pod's storage if it is left over.
    fn remove_dangling_pod(&self, names: &Names, pod: &Pod) -> Result<(), Errno> {
        let path: PathBuf = [PODS, names.tenant.as_str(), pod.as_str()].iter().collect();
        if let Link::Text(_) = self.link(&path)?
            && matches!(self.pod_storage(&names.tenant, pod), Ok(None))
        {
            rustix::fs::unlinkat(&names.pods, pod.as_str(), AtFlags::empty())?;
        }
        Ok(())
    }

    /// Removes all links that are left over. Nobody is between making a link and what it is for: the names are locked.
    pub(crate) fn remove_leftover_links(&self) -> Result<(), StoreError> {
        for Other { path, .. } in self.leftover_links()? {
            let names: Vec<&str> = path
                .strip_prefix(&self.root)
                .unwrap_or(&path)
                .iter()
                .filter_map(|name| name.to_str())
                .collect();
            let [top, tenant, name] = names[..] else { continue };
            let Ok(tenant) = Tenant::new(tenant) else { continue };
            let Ok(names) = self.lock_names(&tenant) else { continue };
            // What cannot be removed is the next one's to try.
            if top == PODS {
                let _ = Pod::new(name).map(|pod| self.remove_dangling_pod(&names, &pod));
            } else {
                let _ = VolumeName::new(name)
                    .map(|name| self.remove_dangling(&names, &VolumeId { tenant, name }));
            }
        }
        Ok(())
    }

    /// All links that are left over, or whose volume is being made at this moment.
    pub(crate) fn leftover_links(&self) -> Result<Vec<Other>, StoreError> {
        let mut others = self.list()?.others;
        others.retain(|other| other.kind == OtherKind::Leftover);
        Ok(others)
    }

    /// Removes the link to a part that its storage does not tell of any more.
    pub(crate) fn release_part(&self, names: &Names, part: &Part) -> Result<(), Errno> {
        self.remove_dangling(names, &VolumeId { tenant: names.tenant.clone(), name: part.name.clone() })
    }

    /// Removes the links of a storage that is not in its place any more.
    pub(crate) fn release(&self, names: &Names, storage: &Volume) -> Result<(), Errno> {
        for part in storage.storage.iter().flat_map(|storage| &storage.parts) {
            self.release_part(names, part)?;
        }
        match &storage.pod {
            Some(member) => self.remove_dangling_pod(names, &member.pod),
            None => Ok(()),
        }
    }
}

/// Whether `volume` is what holds the volumes of this pod.
pub(crate) fn is_storage_of(volume: &Volume, pod: &Pod) -> bool {
    volume.storage.is_some() && volume.pod.as_ref().is_some_and(|member| member.pod == *pod)
}
