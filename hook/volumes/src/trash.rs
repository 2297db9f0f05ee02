//! Removed volumes that can still be had back: into the trash, what is in it, and out of it again.

use crate::create::ATTEMPTS;
use crate::create::PAUSE;
use crate::error::StoreError;
use crate::failpoint;
use crate::files;
use crate::links::Made;
use crate::links::Names;
use crate::list::Other;
use crate::list::OtherKind;
use crate::store;
use crate::store::Looked;
use crate::store::Misread;
use crate::store::SIDECAR;
use crate::store::SIDECAR_LIMIT;
use crate::store::Store;
use crate::store::VOLUMES;
use jiff::Timestamp;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use serde::Deserialize;
use serde::Serialize;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use volhook_core::names::Pod;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::volume::SIDECAR_FORMAT;
use volhook_core::volume::Volume;
use volhook_locks::Held;
use volhook_locks::Lock;

pub(crate) const TRASH: &str = "trash";
/// Says since when a volume is in the trash. It means nothing anywhere else.
pub(crate) const TRASHED: &str = "trashed.json";
/// Stands in a discarded volume whose deletion has begun.
pub(crate) const DELETING: &str = "deleting";
/// How long whoever holds the folder of a volume is waited for.
const LOCKING: Duration = Duration::from_secs(5);
const TRASHED_FORMAT: u32 = 1;
const TRASHED_LIMIT: u64 = 1 << 10;

/// A removed volume that is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discarded {
    /// The volume, as it was.
    pub volume: Volume,
    /// When it was removed.
    pub since: Timestamp,
    /// Its folder in the trash.
    pub path: PathBuf,
}

/// What stands in the trash, sorted.
#[derive(Debug, Default)]
pub struct Trash {
    /// The removed volumes, by tenant and name, then by time of removal.
    pub volumes: Vec<Discarded>,
    /// What else is there, by path. It is never touched.
    pub others: Vec<Other>,
}

/// A volume in its place, whose folder is locked: nobody else changes or moves it.
pub(crate) struct Standing {
    root: OwnedFd,
    /// The folder of its tenant's volumes.
    pub(crate) tenant: OwnedFd,
    pub(crate) folder: OwnedFd,
    pub(crate) volume: Volume,
    _held: Held,
}

/// A volume that is about to be removed; dropped, it stays.
pub struct Discarding<'a> {
    store: &'a Store,
    standing: Standing,
}

impl Discarding<'_> {
    /// Removes it into the trash; see [`Store::discard`].
    ///
    /// # Errors
    /// [`StoreError::Discard`].
    pub fn into_trash(self, now: Timestamp) -> Result<Discarded, StoreError> {
        let Self { store, standing } = self;
        let discarded = store.put_into_trash(&standing, now)?;
        if discarded.volume.storage.is_some() {
            // What is left of them names nobody, and is removed by the next one to clean up.
            let _ = store
                .lock_names(&discarded.volume.id.tenant)
                .map(|names| store.release(&names, &discarded.volume));
        }
        Ok(discarded)
    }
}

/// The content of [`TRASHED`].
#[derive(Serialize, Deserialize)]
struct Trashed {
    format: u32,
    when: Timestamp,
}

/// Why an entry of the trash is no discarded volume.
pub(crate) enum NotDiscarded {
    Gone,
    Other(OtherKind, String),
}

impl NotDiscarded {
    fn foreign(reason: &str) -> Self {
        Self::Other(OtherKind::Foreign, reason.to_owned())
    }

    fn damaged(reason: String) -> Self {
        Self::Other(OtherKind::Damaged, reason)
    }
}

impl Store {
    /// Removes `volume` into the trash, from where it can be [restored](Self::restore). When this returns, it is
    /// there also after a power cut; a power cut before leaves it in its place or in the trash, whole.
    ///
    /// Only what still is that volume, by its uuid, is moved. That nobody holds it is the caller's to know, who keeps
    /// anybody from beginning to.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when it is not there (any more), those of [`find`](Self::find) for what else may stand in
    /// its place, [`StoreError::Discard`].
    pub fn discard(&self, volume: &Volume, now: Timestamp) -> Result<Discarded, StoreError> {
        self.discarding(volume)?.into_trash(now)
    }

    /// Locks `volume` for removing it, so that nobody changes or moves it: for whoever has to know something of it as it is
    /// then.
    ///
    /// # Errors
    /// Those of [`discard`](Self::discard), and [`StoreError::Impossible`] while somebody changes it for longer than a moment.
    pub fn discarding(&self, volume: &Volume) -> Result<Discarding<'_>, StoreError> {
        Ok(Discarding { store: self, standing: self.standing(&volume.id, &volume.uuid)? })
    }

    /// Locks the volume in its place that has this uuid.
    pub(crate) fn standing(&self, id: &VolumeId, uuid: &str) -> Result<Standing, StoreError> {
        let path = self.folder(id);
        let failed = |step, path: PathBuf| {
            move |source: io::Error| StoreError::Discard { volume: id.clone(), step, path, source }
        };
        let gone = || StoreError::Gone { volume: id.clone(), uuid: uuid.to_owned(), path: path.clone() };
        if !files::is_uuid(uuid) {
            let reason = "its uuid is not a lower-case UUID";
            return Err(StoreError::Foreign { volume: id.clone(), path, reason });
        }
        let root = match files::open_folder(&self.root) {
            Ok(root) => root,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone()),
            Err(error) => return Err(failed("open", self.root.clone())(error)),
        };
        let tenant_path = self.root.join(VOLUMES).join(id.tenant.as_str());
        let tenant = match files::folder_below(&root, &Path::new(VOLUMES).join(id.tenant.as_str())) {
            Ok(tenant) => tenant,
            Err(Errno::NOENT) => return Err(gone()),
            Err(errno) => return Err(self.unusable(id, &tenant_path, errno)),
        };
        let (folder, held) = match lock_standing(&tenant, id.name.as_str()) {
            Ok(locked) => locked,
            Err(Errno::NOENT) => return Err(gone()),
            Err(Errno::WOULDBLOCK) => {
                let reason = "another command is changing it".to_owned();
                return Err(StoreError::Impossible { work: "remove", volume: id.clone(), reason });
            }
            Err(errno) => return Err(self.unusable(id, &path, errno)),
        };
        failpoint::reached("folder").map_err(|errno| failed("lock", path.clone())(errno.into()))?;
        let sidecar = path.join(SIDECAR);
        let bytes = match files::read_below(&folder, SIDECAR, SIDECAR_LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Foreign {
                    volume: id.clone(),
                    path,
                    reason: "it has no volume.json",
                });
            }
            Err(source) => return Err(StoreError::Find { volume: id.clone(), path: sidecar, source }),
        };
        let volume = store::parse(id, &sidecar, &bytes)?;
        if volume.uuid != uuid {
            return Err(gone());
        }
        Ok(Standing { root, tenant, folder, volume, _held: held })
    }

    /// Moves a volume into the trash. Its links stay.
    pub(crate) fn put_into_trash(
        &self,
        standing: &Standing,
        now: Timestamp,
    ) -> Result<Discarded, StoreError> {
        let Standing { root, tenant, folder, volume, .. } = standing;
        let failed = |step, path: PathBuf| {
            let volume = volume.id.clone();
            move |source: io::Error| StoreError::Discard { volume, step, path, source }
        };
        let path = self.folder(&volume.id);
        let trash_path = self.root.join(TRASH);
        let trash = files::make_folder(root, TRASH).map_err(failed("make", trash_path.clone()))?;
        write_trashed(folder, now).map_err(failed("write", path.join(TRASHED)))?;
        let to = trash_path.join(&volume.uuid);
        let name = volume.id.name.as_str();
        let moved = rustix::fs::renameat_with(tenant, name, &trash, &volume.uuid, RenameFlags::NOREPLACE);
        if let Err(errno) = moved {
            // A leftover would mean nothing.
            let _ = rustix::fs::unlinkat(folder, TRASHED, AtFlags::empty());
            return Err(failed("move it to", to)(errno.into()));
        }
        // First where it is now, then where it is no more.
        volhook_locks::flush(&trash).map_err(|errno| failed("sync", trash_path)(errno.into()))?;
        let tenant_path = self.root.join(VOLUMES).join(volume.id.tenant.as_str());
        volhook_locks::flush(tenant).map_err(|errno| failed("sync", tenant_path)(errno.into()))?;
        Ok(Discarded { volume: volume.clone(), since: now, path: to })
    }

    /// Removes the storage of a pod, and with it all of the pod's volumes that lie there, as [`discard`](Self::discard)
    /// does; `None` where it has none.
    ///
    /// # Errors
    /// As [`discard`](Self::discard).
    pub fn discard_pod(
        &self,
        tenant: &Tenant,
        pod: &Pod,
        now: Timestamp,
    ) -> Result<Option<Discarded>, StoreError> {
        let storage = self.pod_storage(tenant, pod)?;
        storage.map(|storage| self.discard(&storage, now)).transpose()
    }

    /// Everything that stands in the trash.
    ///
    /// # Errors
    /// [`StoreError::List`]. An entry that is no discarded volume is part of the list, not an error.
    pub fn trash(&self) -> Result<Trash, StoreError> {
        let mut listed = Trash::default();
        let Some(trash) = self.open_trash()? else {
            return Ok(listed);
        };
        let path = self.root.join(TRASH);
        let names = files::names(&trash).map_err(|source| StoreError::List { path: path.clone(), source })?;
        for name in names {
            match read_entry(&trash, &name) {
                Ok((_, volume, since)) => {
                    listed.volumes.push(Discarded { volume, since, path: path.join(name) });
                }
                Err(NotDiscarded::Gone) => {}
                Err(NotDiscarded::Other(kind, reason)) => {
                    listed.others.push(Other { path: path.join(name), kind, reason });
                }
            }
        }
        listed.volumes.sort_by(|a, b| {
            let key = |d: &Discarded| (d.volume.id.tenant.clone(), d.volume.id.name.clone(), d.since);
            key(a).cmp(&key(b)).then_with(|| a.volume.uuid.cmp(&b.volume.uuid))
        });
        Ok(listed)
    }

    /// Puts a volume from the trash back in its place. When this returns, it is there also after a power cut.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] when a volume (or anything else) of that name, or a storage of that pod, exists again,
    /// [`StoreError::NameHeld`] when one of its parts cannot have its name any more,
    /// [`StoreError::NotDiscarded`] when it is not in the trash (any more), [`StoreError::HalfDeleted`],
    /// [`StoreError::Restore`].
    pub fn restore(&self, discarded: &Discarded) -> Result<Volume, StoreError> {
        let Volume { id, uuid, .. } = &discarded.volume;
        let trash_path = self.root.join(TRASH);
        let from = trash_path.join(uuid);
        let failed = |step, path: PathBuf| {
            move |source: io::Error| StoreError::Restore { volume: id.clone(), step, path, source }
        };
        let not = |reason: &str| StoreError::NotDiscarded {
            volume: id.clone(),
            path: from.clone(),
            reason: reason.to_owned(),
        };
        let Some(trash) = self.open_trash()? else {
            return Err(not("there is no trash"));
        };
        let gone = "it is not there any more";
        if !files::is_uuid(uuid) {
            return Err(not("its uuid is not a lower-case UUID"));
        }
        // Before anything is read: whoever else works on it may be moving or deleting it.
        let _held = match lock_discarded(&trash, uuid) {
            Ok(held) => held,
            Err(Errno::NOENT) => return Err(not(gone)),
            Err(errno) => return Err(failed("lock", from)(errno.into())),
        };
        let (folder, volume, _) = read_entry(&trash, uuid).map_err(|why| match why {
            NotDiscarded::Gone => not(gone),
            NotDiscarded::Other(_, reason) => not(&reason),
        })?;
        if volume.id != *id {
            return Err(not(&format!("that is volume \"{}\"", volume.id)));
        }
        match rustix::fs::statat(&folder, DELETING, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Ok(_) => return Err(StoreError::HalfDeleted { volume: id.clone(), path: from }),
            Err(errno) => return Err(failed("examine", from.join(DELETING))(errno.into())),
        }
        let tenant_path = self.root.join(VOLUMES).join(id.tenant.as_str());
        let tenant = files::open_folder(&self.root)
            .and_then(|root| files::make_folder(&root, VOLUMES))
            .and_then(|volumes| files::make_folder(&volumes, id.tenant.as_str()))
            .map_err(failed("make", tenant_path.clone()))?;
        let path = self.folder(id);
        let name = id.name.as_str();
        let reserved = self.reserve_restored(&volume, &from)?;
        let moved = || rustix::fs::renameat_with(&trash, uuid, &tenant, name, RenameFlags::NOREPLACE);
        let moved = match moved() {
            // It may be a link that is left over.
            Err(Errno::EXIST) if matches!(self.look(id)?, Looked::Symlink) => {
                let names = match &reserved {
                    Some(_) => None,
                    None => Some(self.lock_names(&id.tenant)),
                };
                let names = names.transpose().map_err(failed("lock", self.pods_path(&id.tenant)))?;
                if let Some(names) = names.as_ref().or(reserved.as_ref().map(|(names, _)| names)) {
                    let _ = self.remove_dangling(names, id);
                }
                moved()
            }
            moved => moved,
        };
        if let Err(errno) = moved {
            if let Some((names, made)) = reserved {
                made.undo(&names);
            }
            return Err(match errno {
                Errno::EXIST => StoreError::NameTaken { volume: id.clone(), from, path },
                errno => failed("move it to", path)(errno.into()),
            });
        }
        volhook_locks::flush(&tenant).map_err(|errno| failed("sync", tenant_path)(errno.into()))?;
        volhook_locks::flush(&trash).map_err(|errno| failed("sync", trash_path)(errno.into()))?;
        // It means nothing here; that it stays is no failure of what was asked for.
        let _ = rustix::fs::unlinkat(&folder, TRASHED, AtFlags::empty());
        let _ = volhook_locks::flush(&folder);
        Ok(volume)
    }

    /// Makes the links of a storage again that is about to be restored from `from`.
    fn reserve_restored(&self, volume: &Volume, from: &Path) -> Result<Option<(Names, Made)>, StoreError> {
        let (Some(storage), Some(member)) = (&volume.storage, &volume.pod) else { return Ok(None) };
        let tenant = &volume.id.tenant;
        let failed = |step| {
            let (volume, path) = (volume.id.clone(), self.pods_path(tenant));
            move |source: io::Error| StoreError::Restore { volume, step, path, source }
        };
        let names = self.lock_names(tenant).map_err(failed("lock"))?;
        if let Some(other) = self.pod_storage(tenant, &member.pod)? {
            let (volume, from) = (volume.id.clone(), from.to_owned());
            return Err(StoreError::NameTaken { volume, from, path: self.folder(&other.id) });
        }
        let made = self.reserve("restore", &names, volume, &storage.parts, true)?;
        names.sync_pods().map_err(|errno| failed("sync")(errno.into()))?;
        Ok(Some((names, made)))
    }

    /// The trash, for reading and syncing; `None` where there is none.
    pub(crate) fn open_trash(&self) -> Result<Option<OwnedFd>, StoreError> {
        let failed = |source| StoreError::List { path: self.root.join(TRASH), source };
        match files::open_folder(&self.root) {
            Ok(root) => match files::folder_below(&root, Path::new(TRASH)) {
                Ok(trash) => Ok(Some(trash)),
                Err(Errno::NOENT) => Ok(None),
                Err(errno) => Err(failed(errno.into())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

/// The discarded volume `name` in the trash: its open folder, the volume, and since when.
pub(crate) fn read_entry(trash: &OwnedFd, name: &str) -> Result<(OwnedFd, Volume, Timestamp), NotDiscarded> {
    if !files::is_uuid(name) {
        return Err(NotDiscarded::foreign("its name is not the uuid of a volume"));
    }
    let file_name = CString::new(name).expect("a uuid has no zero byte");
    let folder = files::folder_on_same_mount(trash, &file_name).map_err(|errno| match errno {
        Errno::NOENT => NotDiscarded::Gone,
        Errno::LOOP | Errno::NOTDIR => NotDiscarded::foreign("it is not a directory"),
        Errno::XDEV => NotDiscarded::foreign("it is a mount point"),
        errno => NotDiscarded::damaged(format!("it cannot be opened: {errno}")),
    })?;
    let unreadable = |file: &'static str| {
        let folder = &folder;
        move |error: io::Error| match error.kind() {
            // It may have been restored or deleted since it was opened.
            io::ErrorKind::NotFound if !files::is_named(folder, trash, name).unwrap_or(false) => {
                NotDiscarded::Gone
            }
            io::ErrorKind::NotFound => NotDiscarded::foreign(&format!("it has no {file}")),
            _ => NotDiscarded::damaged(format!("its {file} cannot be read: {error}")),
        }
    };
    let newer = |file: &str, format: u32, newest: u32| {
        let reason = format!("its {file} has format {format}, this volhook reads up to {newest}");
        NotDiscarded::Other(OtherKind::Newer, reason)
    };
    let damaged = |file: &str, error: serde_json::Error| {
        NotDiscarded::damaged(format!("its {file} is damaged: {error}"))
    };
    let bytes = files::read_below(&folder, SIDECAR, SIDECAR_LIMIT).map_err(unreadable(SIDECAR))?;
    let volume = store::decode(&bytes).map_err(|misread| match misread {
        Misread::Newer(format) => newer(SIDECAR, format, SIDECAR_FORMAT),
        Misread::Damaged(error) => damaged(SIDECAR, error),
    })?;
    if volume.uuid != name {
        return Err(NotDiscarded::damaged("its volume.json is that of another volume".to_owned()));
    }
    let bytes = files::read_below(&folder, TRASHED, TRASHED_LIMIT).map_err(unreadable(TRASHED))?;
    let store::Format { format } = serde_json::from_slice(&bytes).map_err(|error| damaged(TRASHED, error))?;
    if format > TRASHED_FORMAT {
        return Err(newer(TRASHED, format, TRASHED_FORMAT));
    }
    let trashed: Trashed = serde_json::from_slice(&bytes).map_err(|error| damaged(TRASHED, error))?;
    Ok((folder, volume, trashed.when))
}

/// Writes [`TRASHED`] and makes it survive a power cut.
fn write_trashed(folder: &OwnedFd, when: Timestamp) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, TRASHED, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut text = serde_json::to_vec(&Trashed { format: TRASHED_FORMAT, when })?;
    text.push(b'\n');
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(folder, TRASHED, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(&text)?;
    volhook_locks::flush(&file)?;
    Ok(volhook_locks::flush(folder)?)
}

/// Opens and locks (flock(2)) the folder `name` of a volume in its place. Its creator, or another who discards it, holds the
/// lock for a few syncs; they are waited for ([`Errno::WOULDBLOCK`] where that takes too long).
fn lock_standing(parent: &OwnedFd, name: &str) -> Result<(OwnedFd, Held), Errno> {
    let end = Instant::now() + LOCKING;
    loop {
        match lock(Lock::Folder, parent, name, end) {
            // Another volume may have its name by now.
            Err(Errno::NOENT) if files::folder_below(parent, Path::new(name)).is_ok() => {}
            locked => return locked,
        }
    }
}

/// Opens and locks the folder `name` in the trash, and lets others end what takes an instant. A deletion is not waited for.
pub(crate) fn lock_discarded(trash: &OwnedFd, name: &str) -> Result<(OwnedFd, Held), Errno> {
    lock(Lock::Trashed, trash, name, Instant::now() + PAUSE * ATTEMPTS)
}

/// Opens and locks the folder `name`, or says that another holds it until `end` ([`Errno::WOULDBLOCK`]) or that it is gone.
fn lock(kind: Lock, parent: &OwnedFd, name: &str, end: Instant) -> Result<(OwnedFd, Held), Errno> {
    let folder = files::folder_below(parent, Path::new(name))?;
    let held = volhook_locks::take(kind, &folder, end)?.ok_or(Errno::WOULDBLOCK)?;
    if files::is_named(&folder, parent, name)? { Ok((folder, held)) } else { Err(Errno::NOENT) }
}
