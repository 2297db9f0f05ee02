//! Sizes of many volumes at once: from the filesystem for images, counted for directories, and remembered for a while.
//!
//! What was counted is kept in `<root>/sizes.json`, by the volumes' uuids. It is a cache: whatever is wrong with it, the
//! sizes are counted anew.

use crate::error::StoreError;
use crate::files;
use crate::measure;
use crate::store::Store;
use crate::trash::TRASH;
use jiff::SignedDuration;
use jiff::Timestamp;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::time::Instant;
use volhook_core::decision::Backing;
use volhook_core::volume::Volume;

const CACHE: &str = "sizes.json";
const CACHE_FORMAT: u32 = 1;
/// A hundred bytes for each of half a million volumes.
const CACHE_LIMIT: u64 = 50 << 20;

/// What a volume's content takes, and when that was found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Bytes of the disk.
    pub bytes: u64,
    /// When they were counted.
    pub counted: Timestamp,
}

#[derive(Default, Serialize, Deserialize)]
struct Cache {
    format: u32,
    sizes: BTreeMap<String, Size>,
}

impl Store {
    /// How many bytes of the store's disk the volume's content takes: none when it is not in the store. A file with
    /// several names counts once; other filesystems mounted below do not count.
    ///
    /// # Errors
    /// Those of [`open_directory`](Self::open_directory) and [`open_image`](Self::open_image), and
    /// [`StoreError::Measure`].
    pub fn size(&self, volume: &Volume) -> Result<u64, StoreError> {
        let open = || match &volume.backing {
            Backing::Image(_) => self.open_image_for(volume, OFlags::RDONLY),
            _ => self.open_directory(volume),
        };
        if matches!(volume.backing, Backing::Tmpfs(_) | Backing::HostPath(_) | Backing::Device(_)) {
            return Ok(0);
        }
        let counted = measure::bytes_used(|| open().map_err(Uncounted::Store));
        counted.map_err(|error| error.about(self, volume))
    }

    /// The sizes of `volumes`, in their order. What was counted at most `age` before `now` is not counted again. `None`
    /// for a volume that could not be counted until `deadline` and never was before; otherwise the last count stands.
    ///
    /// Errors of single volumes are those of [`size`](Self::size).
    pub fn sizes(
        &self,
        volumes: &[&Volume],
        now: Timestamp,
        age: SignedDuration,
        deadline: Option<Instant>,
    ) -> Vec<Result<Option<Size>, StoreError>> {
        let mut cache = self.read_cache();
        let known = |cache: &Cache, volume: &Volume| cache.sizes.get(&volume.uuid).copied();
        // A time in the future is one of a clock that was set back since.
        let is_fresh = |size: Size| (SignedDuration::ZERO..=age).contains(&now.duration_since(size.counted));
        let is_counted = |volume: &Volume| matches!(volume.backing, Backing::Directory(_));
        let stale: Vec<&Volume> = volumes
            .iter()
            .copied()
            .filter(|volume| is_counted(volume) && !known(&cache, volume).is_some_and(is_fresh))
            .collect();
        let open = |nth: usize| self.open_directory(stale[nth]).map_err(Uncounted::Store);
        let counts = measure::bytes_of_trees(stale.len(), open, deadline);
        let mut errors = BTreeMap::new();
        let mut changed = false;
        for (volume, count) in stale.into_iter().zip(counts) {
            match count {
                Ok(Some(bytes)) => {
                    cache.sizes.insert(volume.uuid.clone(), Size { bytes, counted: now });
                    changed = true;
                }
                Ok(None) => {}
                Err(error) => drop(errors.insert(volume.uuid.as_str(), error.about(self, volume))),
            }
        }
        let size = |volume: &&Volume| {
            if !is_counted(volume) {
                return self.size(volume).map(|bytes| Some(Size { bytes, counted: now }));
            }
            errors.remove(volume.uuid.as_str()).map_or_else(|| Ok(known(&cache, volume)), Err)
        };
        let sizes = volumes.iter().map(size).collect();
        if changed {
            // A root that cannot be written to is no reason not to show sizes.
            let _ = self.write_cache(&cache);
        }
        sizes
    }

    /// How many bytes of the disk removed volumes take that are still in the trash. One that is deleted meanwhile counts
    /// as far as it was there.
    ///
    /// # Errors
    /// [`StoreError::List`].
    pub fn size_of_trash(&self) -> Result<u64, StoreError> {
        self.size_of_folder(TRASH)
    }

    /// How many bytes of the disk the folder `name` below the root takes; 0 where there is none.
    ///
    /// # Errors
    /// [`StoreError::List`].
    pub fn size_of_folder(&self, name: &str) -> Result<u64, StoreError> {
        let path = self.root.join(name);
        match measure::bytes_used(|| files::open_folder(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::List { path, source: error })
            }
            counted => Ok(counted.unwrap_or(0)),
        }
    }

    /// The size of the filesystem that the root is on, and how much of it can still be used (`Avail` of df(1)), in bytes.
    /// Where there is no root yet, it will be on that of the nearest folder above.
    ///
    /// # Errors
    /// [`StoreError::List`].
    pub fn host_filesystem(&self) -> Result<(u64, u64), StoreError> {
        let of = |folder: &Path| rustix::fs::statvfs(folder);
        let mut above = self.root.ancestors().map(of).skip_while(|stat| matches!(stat, Err(Errno::NOENT)));
        let stat = above.next().unwrap_or(Err(Errno::NOENT));
        let stat =
            stat.map_err(|errno| StoreError::List { path: self.root.clone(), source: errno.into() })?;
        Ok((stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    /// Forgets what was counted of volumes that are not among `volumes`, which are all that there are.
    pub fn forget_other_sizes(&self, volumes: &[Volume]) {
        let mut cache = self.read_cache();
        let before = cache.sizes.len();
        let uuids: std::collections::HashSet<&str> = volumes.iter().map(|v| v.uuid.as_str()).collect();
        cache.sizes.retain(|uuid, _| uuids.contains(uuid.as_str()));
        if cache.sizes.len() != before {
            let _ = self.write_cache(&cache);
        }
    }

    fn read_cache(&self) -> Cache {
        let read = || -> io::Result<Cache> {
            let bytes = files::read_below(self.root()?, CACHE, CACHE_LIMIT)?;
            Ok(serde_json::from_slice(&bytes)?)
        };
        let empty = Cache { format: CACHE_FORMAT, ..Cache::default() };
        read().ok().filter(|cache| cache.format == CACHE_FORMAT).unwrap_or(empty)
    }

    fn write_cache(&self, cache: &Cache) -> io::Result<()> {
        let root = self.root()?;
        let new = format!("{CACHE}.{}", std::process::id());
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(root, &new, flags, Mode::RUSR | Mode::WUSR)?;
        let written = File::from(file)
            .write_all(&serde_json::to_vec(cache)?)
            .and_then(|()| Ok(rustix::fs::renameat(root, &new, root, CACHE)?));
        if written.is_err() {
            let _ = rustix::fs::unlinkat(root, &new, rustix::fs::AtFlags::empty());
        }
        written
    }
}

/// Why a directory was not counted.
enum Uncounted {
    Store(StoreError),
    Read(io::Error),
}

impl From<io::Error> for Uncounted {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl Uncounted {
    fn about(self, store: &Store, volume: &Volume) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Read(source) => {
                let path = store.place(volume);
                StoreError::Measure { volume: volume.id.clone(), path, source }
            }
        }
    }
}
