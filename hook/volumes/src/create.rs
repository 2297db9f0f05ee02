//! Building a volume where nobody sees it, and putting it in its place whole.

use crate::error::StoreError;
use crate::files;
use crate::image;
use crate::links::Names;
use crate::links::is_storage_of;
use crate::origin;
use crate::remove;
use crate::storage;
use crate::store::DATA;
use crate::store::IMAGE;
use crate::store::Looked;
use crate::store::SIDECAR;
use crate::store::SIDECAR_LIMIT;
use crate::store::Store;
use crate::store::VOLUMES;
use rustix::fs::AtFlags;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::fs::Uid;
use rustix::io::Errno;
use std::fs::DirBuilder;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;
use volhook_core::decision::Backing;
use volhook_core::decision::Directory;
use volhook_core::volume::SIDECAR_FORMAT;
use volhook_core::volume::Volume;
use volhook_locks::Held;
use volhook_locks::Lock;

pub(crate) const STAGING: &str = "staging";
/// The lower 12 bits of a mode.
const MODE_BITS: u32 = 0o7777;
/// How often somebody else may come in between before we give up.
pub(crate) const ATTEMPTS: u32 = 100;
pub(crate) const PAUSE: Duration = Duration::from_millis(1);
/// How long the removal of a volume may take that was not finished.
const REMOVING: Duration = Duration::from_secs(600);
/// How long is spent on what others left on the way to something else: a container may wait for its volume.
pub(crate) const CLEANING: Duration = Duration::from_millis(500);
/// A creator that lives has locked its folder by then.
const LOCKED_BY_THEN: Duration = Duration::from_secs(60);

/// Whose volume it became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The one asked for.
    New(Volume),
    /// One of that name that exists already, perhaps made at this moment by another process.
    Existing(Volume),
}

impl Created {
    /// The volume that stands in the store now.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        match self {
            Self::New(volume) | Self::Existing(volume) => volume,
        }
    }
}

impl Store {
    /// Creates `volume` unless one of its name exists. When this returns, the volume survives a power cut.
    ///
    /// `deadline` bounds the programs that are run; they are killed then.
    ///
    /// # Errors
    /// Those of [`find`](Self::find), and every variant of [`StoreError`] that says "cannot create volume".
    pub fn create(&self, volume: &Volume, deadline: Instant) -> Result<Created, StoreError> {
        self.create_with(volume, |stage| stage.make_content(deadline))
    }

    /// The same with a content that `make` makes in the staging folder; it returns that, open, and its name.
    pub(crate) fn create_with(
        &self,
        volume: &Volume,
        make: impl FnOnce(&Stage) -> Result<Option<Content>, StoreError>,
    ) -> Result<Created, StoreError> {
        self.create_in(&volume.uuid, volume, make)
    }

    /// The same in a staging folder of this name.
    pub(crate) fn create_in(
        &self,
        staging_name: &str,
        volume: &Volume,
        make: impl FnOnce(&Stage) -> Result<Option<Content>, StoreError>,
    ) -> Result<Created, StoreError> {
        check(volume)?;
        if let Some(existing) = self.existing(volume)? {
            self.mend_links(&existing);
            return Ok(Created::Existing(existing));
        }
        let places = self.make_places(volume)?;
        clean(&places.staging, Instant::now() + CLEANING);
        let mut stage = Stage::begin_in(staging_name, self, volume, &places.staging)?;
        stage.build(make)?;
        // As long as this is held, no link of a creator that lives is without what it is for.
        let names = match &volume.storage {
            Some(_) => Some(self.names(volume)?),
            None => None,
        };
        for _ in 0..ATTEMPTS {
            // The winner's volume may be gone again by now; then the name is free once more.
            if let Some(existing) = self.existing(volume)? {
                return Ok(Created::Existing(existing));
            }
            let made = match (&volume.storage, &names) {
                (Some(storage), Some(names)) => {
                    let made = self.reserve("create", names, volume, &storage.parts, true)?;
                    names.sync_pods().map_err(|errno| {
                        failed(volume, "sync", self.pods_path(&volume.id.tenant))(errno.into())
                    })?;
                    Some(made)
                }
                _ => None,
            };
            let name = volume.id.name.as_str();
            let moved = rustix::fs::renameat_with(
                &places.staging,
                staging_name,
                &places.tenant,
                name,
                RenameFlags::NOREPLACE,
            );
            if moved.is_ok() {
                stage.done = true;
                return self.settle(volume, &places);
            }
            if let (Some(made), Some(names)) = (made, &names) {
                made.undo(names);
            }
            if let Err(errno) = moved
                && errno != Errno::EXIST
            {
                return Err(failed(volume, "move it to", self.folder(&volume.id))(errno.into()));
            }
            self.make_way(volume, names.as_ref())?;
        }
        Err(failed(volume, "move it to", self.folder(&volume.id))(Errno::EXIST.into()))
    }

    /// The volume that there is already instead of a new one.
    fn existing(&self, volume: &Volume) -> Result<Option<Volume>, StoreError> {
        let (Some(_), Some(member)) = (&volume.storage, &volume.pod) else {
            return self.find(&volume.id);
        };
        if let Some(found) = self.pod_storage(&volume.id.tenant, &member.pod)? {
            return Ok(Some(found));
        }
        match self.find(&volume.id)? {
            Some(found) if is_storage_of(&found, &member.pod) => Ok(Some(found)),
            Some(_) => Err(StoreError::Impossible {
                work: "create",
                volume: volume.id.clone(),
                reason: format!(
                    "a volume of that name exists that is not the one for the volumes of pod {:?}",
                    member.pod
                ),
            }),
            None => Ok(None),
        }
    }

    fn names(&self, volume: &Volume) -> Result<Names, StoreError> {
        let tenant = &volume.id.tenant;
        self.lock_names(tenant).map_err(failed(volume, "lock", self.pods_path(tenant)))
    }

    /// Removes the link that is left over in a new volume's place, if it is one.
    fn make_way(&self, volume: &Volume, names: Option<&Names>) -> Result<(), StoreError> {
        if !matches!(self.look(&volume.id)?, Looked::Symlink) {
            return Ok(());
        }
        let removed = match names {
            Some(names) => self.remove_dangling(names, &volume.id),
            None => self.remove_dangling(&self.names(volume)?, &volume.id),
        };
        removed.map_err(|errno| failed(volume, "make place in", self.folder(&volume.id))(errno.into()))
    }

    /// Makes a new volume's name survive a power cut. It stays where that fails: others may use it already.
    fn settle(&self, volume: &Volume, places: &Places) -> Result<Created, StoreError> {
        let path = self.root.join(VOLUMES).join(volume.id.tenant.as_str());
        volhook_locks::flush(&places.tenant).map_err(|errno| failed(volume, "sync", path)(errno.into()))?;
        Ok(Created::New(volume.clone()))
    }

    pub(crate) fn make_places(&self, volume: &Volume) -> Result<Places, StoreError> {
        let path = |name: &str| self.root.join(name);
        if !self.root.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.root).map_err(failed(
                volume,
                "make",
                self.root.clone(),
            ))?;
            if let Some(parent) = self.root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                let synced = files::open_folder(parent).and_then(|f| Ok(volhook_locks::flush(f)?));
                synced.map_err(failed(volume, "sync", parent.to_owned()))?;
            }
        }
        let root = files::open_folder(&self.root).map_err(failed(volume, "open", self.root.clone()))?;
        let staging = files::make_folder(&root, STAGING).map_err(failed(volume, "make", path(STAGING)))?;
        let top = files::make_folder(&root, VOLUMES).map_err(failed(volume, "make", path(VOLUMES)))?;
        let tenant = volume.id.tenant.as_str();
        let tenant =
            files::make_folder(&top, tenant).map_err(failed(volume, "make", path(VOLUMES).join(tenant)))?;
        Ok(Places { staging, tenant })
    }

    /// Removes what creators and changes that died left: in the staging folder, which [`create`](Self::create) does on its
    /// way as far as it gets in half a second, with what was being adopted put back where it was; the links of pods' volumes that are not there, and what was on its way to the place
    /// of a volume's content or sidecar.
    ///
    /// # Errors
    /// [`StoreError::List`] when a folder cannot be opened or read, [`StoreError::Change`]: the first failure, after everything
    /// else was tried. What cannot be removed until `deadline` stays for the next.
    pub fn clean_staging(&self, deadline: Instant) -> Result<(), StoreError> {
        let path = self.root.join(STAGING);
        let staging = match files::open_folder(&path) {
            Ok(staging) => {
                clean(&staging, deadline);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(StoreError::List { path, source }),
        };
        let links = self.remove_leftover_links();
        let unfinished = self.remove_unfinished(deadline);
        staging.and(links).and(unfinished)
    }
}

impl Store {
    /// What creators and changes that died left, by path, which [`clean_staging`](Self::clean_staging) removes: what has stood
    /// in the staging folder for a minute and nobody is working on, the links of pods' volumes that have not been there for as
    /// long, and what is on its way in a volume that nobody is changing. Nothing is changed.
    ///
    /// # Errors
    /// [`StoreError::List`] when a folder cannot be opened or read.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>, StoreError> {
        let path = self.root.join(STAGING);
        let failed = |source| StoreError::List { path: path.clone(), source };
        let old = |path: &Path| {
            let stat = std::fs::symlink_metadata(path).and_then(|data| data.modified());
            stat.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > LOCKED_BY_THEN))
        };
        let mut left: Vec<PathBuf> = match files::open_folder(&path) {
            Ok(staging) => {
                let names = files::names(&staging).map_err(failed)?.into_iter();
                // A creator makes its folder and then locks it; who locks it in between, and does not remove it, is in
                // its way.
                let is_left = |name: &String| {
                    let unused =
                        || lock(&staging, name).is_some_and(|(folder, _held)| origin::is_free(name, &folder));
                    is_staged(name) && old(&path.join(name)) && unused()
                };
                names.filter(is_left).map(|name| path.join(name)).collect()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        left.extend(self.leftover_links()?.into_iter().map(|other| other.path).filter(|path| old(path)));
        left.extend(self.unfinished()?);
        left.sort();
        Ok(left)
    }
}

/// The folders that a creation works in.
pub(crate) struct Places {
    pub(crate) staging: OwnedFd,
    pub(crate) tenant: OwnedFd,
}

pub(crate) fn failed(
    volume: &Volume,
    step: &'static str,
    path: PathBuf,
) -> impl FnOnce(io::Error) -> StoreError {
    let volume = volume.id.clone();
    move |source| StoreError::Create { volume, step, path, source }
}

pub(crate) fn check(volume: &Volume) -> Result<(), StoreError> {
    let invalid = |reason| Err(StoreError::Invalid { volume: volume.id.clone(), reason });
    if let Some(reason) = volume.storage.as_ref().and_then(|storage| storage::fault(volume, storage)) {
        return invalid(reason);
    }
    // The uuid becomes a file name.
    if !files::is_uuid(&volume.uuid) {
        return invalid("its uuid is not a lower-case UUID");
    }
    if volume.format != SIDECAR_FORMAT {
        return invalid("its record is of another format");
    }
    let root = match &volume.backing {
        Backing::Directory(directory) => directory,
        Backing::Image(image) => &image.root,
        Backing::Tmpfs(tmpfs) => &tmpfs.root,
        Backing::HostPath(_) | Backing::Device(_) => return Ok(()),
    };
    if root.mode & !MODE_BITS != 0 {
        return invalid("its mode has more than permission bits");
    }
    // These values mean "leave as it is" to fchown(2).
    if root.uid == u32::MAX || root.gid == u32::MAX {
        return invalid("its owner is not a user or group id");
    }
    Ok(())
}

/// What holds a new volume's data, open, and its name in the volume's folder.
pub(crate) type Content = (OwnedFd, &'static str);

/// A volume under construction. Dropping it before it is done removes it, the lock still held, and puts back what was adopted.
pub(crate) struct Stage {
    pub(crate) volume: Volume,
    name: String,
    staging: OwnedFd,
    pub(crate) path: PathBuf,
    pub(crate) folder: OwnedFd,
    _held: Held,
    /// Whether it is in its place.
    pub(crate) done: bool,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.done {
            remove(&self.staging, &self.name, &self.folder, Instant::now() + REMOVING);
        }
    }
}

impl Stage {
    /// Makes its folder.
    pub(crate) fn begin(store: &Store, volume: &Volume, staging: &OwnedFd) -> Result<Self, StoreError> {
        Self::begin_in(&volume.uuid, store, volume, staging)
    }

    /// The same with a folder of this name.
    fn begin_in(name: &str, store: &Store, volume: &Volume, staging: &OwnedFd) -> Result<Self, StoreError> {
        let path = store.root.join(STAGING).join(name);
        let staging = rustix::io::fcntl_dupfd_cloexec(staging, 0)
            .map_err(|errno| failed(volume, "open", store.root.join(STAGING))(errno.into()))?;
        match make_locked(&staging, name) {
            Ok((folder, held)) => {
                let (volume, name) = (volume.clone(), name.to_owned());
                Ok(Self { volume, name, staging, path, folder, _held: held, done: false })
            }
            Err((step, errno)) => Err(failed(volume, step, path)(errno.into())),
        }
    }

    pub(crate) fn failed(&self, step: &'static str, part: &str) -> impl FnOnce(Errno) -> StoreError {
        let failed = failed(&self.volume, step, self.path.join(part));
        move |errno| failed(errno.into())
    }

    pub(crate) fn make_content(&self, deadline: Instant) -> Result<Option<Content>, StoreError> {
        let population = self.volume.storage.as_ref().map(|storage| storage.population);
        Ok(match &self.volume.backing {
            Backing::Directory(directory) => {
                let data = self.make_directory(directory)?;
                if let Some(population) = population {
                    storage::lay_out(data.as_fd(), population).map_err(failed(
                        &self.volume,
                        "make the folders of",
                        self.path.join(DATA),
                    ))?;
                }
                Some((data, DATA))
            }
            Backing::Image(image) => {
                let file = self.new_file(IMAGE)?;
                image::make(&self.volume, image, &file, &self.path.join(IMAGE), population, deadline)?;
                Some((file, IMAGE))
            }
            // Their content is not in the store.
            Backing::Tmpfs(_) | Backing::HostPath(_) | Backing::Device(_) => None,
        })
    }

    pub(crate) fn build(
        &self,
        make: impl FnOnce(&Self) -> Result<Option<Content>, StoreError>,
    ) -> Result<(), StoreError> {
        let content = make(self)?;
        let sidecar = self.write_sidecar()?;
        // All at the end: on most filesystems the first then writes out what the others would.
        volhook_locks::flush(sidecar).map_err(self.failed("sync", SIDECAR))?;
        if let Some((content, part)) = content {
            volhook_locks::flush(content).map_err(self.failed("sync", part))?;
        }
        volhook_locks::flush(&self.folder).map_err(self.failed("sync", ""))
    }

    /// Makes the folder's name survive a power cut, so that what is moved into it does.
    pub(crate) fn sync_name(&self) -> Result<(), Errno> {
        volhook_locks::flush(&self.staging)
    }

    /// The folder that becomes the volume's.
    pub(crate) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    pub(crate) fn make_directory(&self, directory: &Directory) -> Result<OwnedFd, StoreError> {
        let data = self.new_data()?;
        let (uid, gid) = (Uid::from_raw(directory.uid), Gid::from_raw(directory.gid));
        rustix::fs::fchown(&data, Some(uid), Some(gid)).map_err(self.failed("change the owner of", DATA))?;
        // After the owner: changing that clears the set-id bits.
        rustix::fs::fchmod(&data, Mode::from_raw_mode(directory.mode))
            .map_err(self.failed("change the mode of", DATA))?;
        Ok(data)
    }

    /// The directory of a directory volume, so far root's own.
    pub(crate) fn new_data(&self) -> Result<OwnedFd, StoreError> {
        rustix::fs::mkdirat(&self.folder, DATA, files::PRIVATE).map_err(self.failed("make", DATA))?;
        files::folder_below(&self.folder, Path::new(DATA)).map_err(self.failed("open", DATA))
    }

    fn write_sidecar(&self) -> Result<File, StoreError> {
        let failed = |step| failed(&self.volume, step, self.path.join(SIDECAR));
        let mut text = serde_json::to_vec_pretty(&self.volume).map_err(|e| failed("encode")(e.into()))?;
        text.push(b'\n');
        if text.len() as u64 > SIDECAR_LIMIT {
            let reason = "its options and labels are too large";
            return Err(StoreError::Invalid { volume: self.volume.id.clone(), reason });
        }
        let mut file = File::from(self.new_file(SIDECAR)?);
        file.write_all(&text).map_err(failed("write"))?;
        Ok(file)
    }

    pub(crate) fn new_file(&self, name: &str) -> Result<OwnedFd, StoreError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(self.failed("make", name))
    }
}

/// Makes the folder `name` and locks it, so that it is not taken for a dead creator's. An error says which of the two failed.
pub(crate) fn make_locked(staging: &OwnedFd, name: &str) -> Result<(OwnedFd, Held), (&'static str, Errno)> {
    for _ in 0..ATTEMPTS {
        match rustix::fs::mkdirat(staging, name, files::PRIVATE) {
            Ok(()) => {
                if let Some(locked) = lock(staging, name) {
                    return Ok(locked);
                }
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(("make", errno)),
        }
        // Somebody who cleans up found the folder before it was locked, and is removing it.
        std::thread::sleep(PAUSE);
    }
    Err(("lock", Errno::EXIST))
}

/// Locks the folder `name`; `None` when another holds it, or when it is not there (any more).
pub(crate) fn lock(staging: &OwnedFd, name: &str) -> Option<(OwnedFd, Held)> {
    let folder = files::folder_below(staging, Path::new(name)).ok()?;
    let held = volhook_locks::try_take(Lock::Staging, &folder).ok()??;
    // Until the lock was ours its holder may have moved it to its place as a finished volume, or removed it.
    files::is_named(&folder, staging, name).ok()?.then_some((folder, held))
}

/// Whether this is the name of a folder in which a volume is built.
fn is_staged(name: &str) -> bool {
    Uuid::parse_str(name).is_ok() || origin::is_adoption(name)
}

/// Removes the folders in `staging` whose creators are gone. What cannot be removed is the next one's to try.
pub(crate) fn clean(staging: &OwnedFd, deadline: Instant) {
    for name in files::names(staging).unwrap_or_default() {
        if !is_staged(&name) {
            continue;
        }
        if let Some((folder, _held)) = lock(staging, &name) {
            remove(staging, &name, &folder, deadline);
        }
    }
}

/// Removes what is left of a volume, as far as it goes: the next creator tries again. It may be a half copy of what a
/// container made, of any depth.
pub(crate) fn remove(staging: &OwnedFd, name: &str, folder: &OwnedFd, deadline: Instant) {
    // What was adopted is somebody's.
    if origin::is_adoption(name) && origin::put_back(folder).is_err() {
        return;
    }
    let content = files::folder_on_same_mount(folder, c".");
    if content.is_ok_and(|content| remove::remove_content(content, &[], deadline, &mut 0).is_ok()) {
        let _ = rustix::fs::unlinkat(staging, name, AtFlags::REMOVEDIR);
    }
}
