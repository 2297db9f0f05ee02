//! Finding a volume by its name, and what belongs to it.

use crate::error::StoreError;
use crate::files;
use rustix::fs::FileType;
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Deserialize;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use volhook_core::decision::Backing;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::volume::SIDECAR_FORMAT;
use volhook_core::volume::Volume;

pub(crate) const VOLUMES: &str = "volumes";
pub(crate) const SIDECAR: &str = "volume.json";
pub(crate) const DATA: &str = "data";
pub(crate) const IMAGE: &str = "volume.img";
/// How often a volume's place is looked at before it is said that what stands there is none.
const LOOKS: u32 = 4;
/// Far more than any options and labels need.
pub(crate) const SIDECAR_LIMIT: u64 = 1 << 20;

/// What stands in a volume's place.
pub(crate) enum Looked {
    Volume(Box<Volume>),
    Nothing,
    /// What may say that the name is that of a part.
    Symlink,
}

/// The volumes below one state root.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) root: PathBuf,
    opened: Arc<OnceLock<OwnedFd>>,
}

impl Store {
    /// The store below `root`. Nothing is read or made.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), opened: Arc::default() }
    }

    /// The volume called `id`; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError::IsPart`] for the name of a part of another volume; [`StoreError::Foreign`],
    /// [`StoreError::DamagedSidecar`], [`StoreError::OtherVolume`] and [`StoreError::NewerSidecar`] when something
    /// else stands in its place, [`StoreError::Find`] for failures of I/O.
    pub fn find(&self, id: &VolumeId) -> Result<Option<Volume>, StoreError> {
        match self.look(id)? {
            Looked::Volume(volume) => Ok(Some(*volume)),
            Looked::Nothing => Ok(None),
            Looked::Symlink => match self.find_part(id)? {
                Some((storage, _)) => {
                    let pod = storage.pod.map(|member| member.pod);
                    Err(StoreError::IsPart { volume: id.clone(), storage: storage.id.name, pod })
                }
                None => Ok(None),
            },
        }
    }

    /// What stands in a volume's place.
    pub(crate) fn look(&self, id: &VolumeId) -> Result<Looked, StoreError> {
        for _ in 1..LOOKS {
            match self.look_once(id) {
                // What stands there may have become another thing between two system calls: nothing a link, a link a volume.
                Err(StoreError::Foreign { .. }) => {}
                looked => return looked,
            }
        }
        self.look_once(id)
    }

    fn look_once(&self, id: &VolumeId) -> Result<Looked, StoreError> {
        let path = self.folder(id).join(SIDECAR);
        let failed = |source: io::Error| StoreError::Find { volume: id.clone(), path: path.clone(), source };
        let root = match self.root() {
            Ok(root) => root,
            Err(Errno::NOENT) => return Ok(Looked::Nothing),
            Err(errno) => return Err(failed(errno.into())),
        };
        let sidecar = match files::open_below(root, &below(id).join(SIDECAR), OFlags::RDONLY) {
            Ok(sidecar) => sidecar,
            Err(Errno::NOENT) => match self.look_again(id, root)? {
                Some(sidecar) => sidecar,
                None => return Ok(Looked::Nothing),
            },
            // Its own place, and no folder on the way to it.
            Err(Errno::LOOP) if self.is_symlink(id) => return Ok(Looked::Symlink),
            Err(errno) => return Err(self.unusable(id, &path, errno)),
        };
        let metadata = rustix::fs::fstat(&sidecar).map_err(|errno| failed(errno.into()))?;
        if !FileType::from_raw_mode(metadata.st_mode).is_file() {
            let reason = "its sidecar is not a regular file";
            return Err(StoreError::Foreign { volume: id.clone(), path, reason });
        }
        let bytes = files::read_bounded(sidecar, SIDECAR_LIMIT).map_err(failed)?;
        parse(id, &path, &bytes).map(|volume| Looked::Volume(Box::new(volume)))
    }

    fn is_symlink(&self, id: &VolumeId) -> bool {
        self.root()
            .and_then(|root| files::open_below(root, &below(id), OFlags::PATH))
            .and_then(rustix::fs::fstat)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
    }

    /// Where no sidecar was found there must be no folder either, unless the volume was put there just now.
    fn look_again(&self, id: &VolumeId, root: &OwnedFd) -> Result<Option<OwnedFd>, StoreError> {
        let path = self.folder(id);
        let folder = match files::open_below(root, &below(id), OFlags::PATH | OFlags::DIRECTORY) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.unusable(id, &path, errno)),
        };
        match files::open_below(folder, Path::new(SIDECAR), OFlags::RDONLY) {
            Ok(sidecar) => Ok(Some(sidecar)),
            Err(Errno::NOENT) => {
                Err(StoreError::Foreign { volume: id.clone(), path, reason: "it has no volume.json" })
            }
            Err(errno) => Err(self.unusable(id, &path, errno)),
        }
    }

    pub(crate) fn unusable(&self, id: &VolumeId, path: &Path, errno: Errno) -> StoreError {
        let reason = match errno {
            Errno::LOOP => "a symbolic link is on the way",
            Errno::NOTDIR => "it is not a directory",
            errno => {
                return StoreError::Find { volume: id.clone(), path: path.to_owned(), source: errno.into() };
            }
        };
        StoreError::Foreign { volume: id.clone(), path: self.folder(id), reason }
    }

    /// Opens the root directory of a directory volume, for reading.
    ///
    /// # Errors
    /// [`StoreError::OtherBacking`], [`StoreError::DirectoryMissing`], [`StoreError::Foreign`] for a symlink,
    /// [`StoreError::Find`].
    pub fn open_directory(&self, volume: &Volume) -> Result<OwnedFd, StoreError> {
        let id = &volume.id;
        if !matches!(volume.backing, Backing::Directory(_)) {
            return Err(StoreError::OtherBacking { volume: id.clone(), wanted: "a directory" });
        }
        let path = self.folder(id).join(DATA);
        match self.open_part(id, DATA, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(directory) => Ok(directory),
            Err(Errno::NOENT) => Err(StoreError::DirectoryMissing { volume: id.clone(), path }),
            Err(errno) => Err(self.unusable(id, &path, errno)),
        }
    }

    /// Where the root directory of a directory volume is, for a spec or a message.
    #[must_use]
    pub fn directory_path(&self, volume: &VolumeId) -> PathBuf {
        self.folder(volume).join(DATA)
    }

    /// Where the image of a volume is. Only for messages and programs: whoever mounts it uses
    /// [`open_image`](Self::open_image).
    #[must_use]
    pub fn image_path(&self, volume: &Volume) -> PathBuf {
        self.folder(&volume.id).join(IMAGE)
    }

    /// Where a volume's content is, for people.
    #[must_use]
    pub fn place(&self, volume: &Volume) -> PathBuf {
        match &volume.backing {
            Backing::Directory(_) => self.directory_path(&volume.id),
            Backing::Image(_) => self.image_path(volume),
            Backing::HostPath(host) => PathBuf::from(host.path.as_str()),
            Backing::Device(device) => PathBuf::from(device.path.as_str()),
            // It is nowhere but in containers.
            Backing::Tmpfs(_) => self.folder(&volume.id),
        }
    }

    /// Opens the image of an image volume, for reading and writing, and checks its size.
    ///
    /// # Errors
    /// [`StoreError::OtherBacking`], [`StoreError::ImageMissing`], [`StoreError::ImageTruncated`],
    /// [`StoreError::Foreign`] for anything but a regular file, [`StoreError::Find`].
    pub fn open_image(&self, volume: &Volume) -> Result<OwnedFd, StoreError> {
        self.open_image_for(volume, OFlags::RDWR)
    }

    pub(crate) fn open_image_for(&self, volume: &Volume, access: OFlags) -> Result<OwnedFd, StoreError> {
        let id = &volume.id;
        let Backing::Image(image) = &volume.backing else {
            return Err(StoreError::OtherBacking { volume: id.clone(), wanted: "an image" });
        };
        let path = self.image_path(volume);
        let file = match self.open_part(id, IMAGE, access) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(StoreError::ImageMissing { volume: id.clone(), path }),
            Err(errno) => return Err(self.unusable(id, &path, errno)),
        };
        let metadata = rustix::fs::fstat(&file).map_err(|errno| self.unusable(id, &path, errno))?;
        if !FileType::from_raw_mode(metadata.st_mode).is_file() {
            let reason = "its image is not a regular file";
            return Err(StoreError::Foreign { volume: id.clone(), path, reason });
        }
        let have = metadata.st_size.unsigned_abs();
        if have < image.size {
            return Err(StoreError::ImageTruncated { volume: id.clone(), path, have, want: image.size });
        }
        Ok(file)
    }

    fn open_part(&self, id: &VolumeId, part: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        files::open_below(self.root()?, &below(id).join(part), flags)
    }

    /// The root as a descriptor, opened once: a container may have many volumes.
    pub(crate) fn root(&self) -> Result<&OwnedFd, Errno> {
        if let Some(root) = self.opened.get() {
            return Ok(root);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.root, flags, rustix::fs::Mode::empty())?;
        Ok(self.opened.get_or_init(|| root))
    }

    /// A volume's folder, for messages.
    pub(crate) fn folder(&self, id: &VolumeId) -> PathBuf {
        self.root.join(below(id))
    }
}

/// A volume's folder below the root.
pub(crate) fn below(id: &VolumeId) -> PathBuf {
    [VOLUMES, id.tenant.as_str(), id.name.as_str()].iter().collect()
}

/// The part of a sidecar that every format has.
#[derive(Deserialize)]
pub(crate) struct Format {
    pub(crate) format: u32,
}

/// Why bytes are no sidecar that can be used.
pub(crate) enum Misread {
    Newer(u32),
    Damaged(serde_json::Error),
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Volume, Misread> {
    let Format { format } = serde_json::from_slice(bytes).map_err(Misread::Damaged)?;
    if format > SIDECAR_FORMAT {
        return Err(Misread::Newer(format));
    }
    serde_json::from_slice(bytes).map_err(Misread::Damaged)
}

pub(crate) fn parse(id: &VolumeId, path: &Path, bytes: &[u8]) -> Result<Volume, StoreError> {
    let (named, path) = (id.clone(), path.to_owned());
    let mut volume = decode(bytes).map_err(|misread| match misread {
        Misread::Newer(format) => StoreError::NewerSidecar {
            volume: named.clone(),
            path: path.clone(),
            format,
            newest: SIDECAR_FORMAT,
        },
        Misread::Damaged(source) => {
            StoreError::DamagedSidecar { volume: named.clone(), path: path.clone(), source }
        }
    })?;
    let is_old_name = |old: &VolumeName| *old == named.name && volume.id.tenant == named.tenant;
    if volume.renamed_from.as_ref().is_some_and(is_old_name) {
        (volume.id, volume.renamed_from) = (named.clone(), None);
    }
    if volume.id == named {
        Ok(volume)
    } else {
        Err(StoreError::OtherVolume { volume: named, path, found: volume.id })
    }
}
