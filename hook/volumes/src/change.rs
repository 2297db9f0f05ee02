//! Changing volumes that exist: one at a time, and their sidecars as a whole or not at all.

use crate::create::ATTEMPTS;
use crate::create::PAUSE;
use crate::error::StoreError;
use crate::failpoint;
use crate::files;
use crate::program::Work;
use crate::store::SIDECAR;
use crate::store::SIDECAR_LIMIT;
use crate::store::Store;
use crate::store::below;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;
use volhook_core::volume::Volume;
use volhook_locks::Held;
use volhook_locks::Lock;

/// The sidecar while it is written. One that is left is written over by the next change.
pub(crate) const NEW_SIDECAR: &str = "volume.json.new";

/// A volume that is being changed. Nobody else changes it meanwhile; containers may use it.
#[derive(Debug)]
pub struct Changing<'a> {
    pub(crate) store: &'a Store,
    pub(crate) work: Work,
    pub(crate) volume: Volume,
    /// Its folder, locked (flock(2)).
    pub(crate) folder: OwnedFd,
    /// That lock, unless the folder is locked for another reason: a volume is being built in it.
    pub(crate) _held: Option<Held>,
}

impl Store {
    /// Locks a volume's folder for a change and reads its sidecar again. `work` is what is going to be done, for
    /// messages: `resize`, `rename`.
    ///
    /// # Errors
    /// [`StoreError::Gone`] where it is not there any more, [`StoreError::Impossible`] while another change takes its
    /// time, [`StoreError::Change`], and those of [`find`](Self::find).
    pub fn change(&self, work: Work, volume: &Volume) -> Result<Changing<'_>, StoreError> {
        self.change_within(work, volume, Instant::now() + PAUSE * ATTEMPTS)
    }

    /// The same, but waits for another change until `deadline`: a container waits for the one that fills its volume.
    ///
    /// # Errors
    /// As [`change`](Self::change).
    pub fn change_within(
        &self,
        work: Work,
        volume: &Volume,
        deadline: Instant,
    ) -> Result<Changing<'_>, StoreError> {
        let path = self.folder(&volume.id);
        let failed = |step, errno: Errno| StoreError::Change {
            work,
            volume: volume.id.clone(),
            step,
            path: path.clone(),
            source: errno.into(),
        };
        let root = self.root().map_err(|errno| failed("open", errno))?;
        let folder = files::folder_below(root, &below(&volume.id)).map_err(|errno| failed("open", errno))?;
        let taken = volhook_locks::take(Lock::Folder, &folder, deadline);
        let Some(held) = taken.map_err(|errno| failed("lock", errno))? else {
            let reason = "another command is changing it".to_owned();
            return Err(StoreError::Impossible { work, volume: volume.id.clone(), reason });
        };
        failpoint::reached("folder").map_err(|errno| failed("lock", errno))?;
        match self.find(&volume.id)? {
            Some(now) if now.uuid == volume.uuid => {
                Ok(Changing { store: self, work, volume: now, folder, _held: Some(held) })
            }
            _ => Err(StoreError::Gone { volume: volume.id.clone(), uuid: volume.uuid.clone(), path }),
        }
    }
}

impl Changing<'_> {
    /// The volume as it is.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    pub(crate) fn failed(
        &self,
        step: &'static str,
        part: &str,
    ) -> impl FnOnce(io::Error) -> StoreError + use<> {
        let (work, volume) = (self.work, self.volume.id.clone());
        let path = self.store.folder(&volume).join(part);
        move |source| StoreError::Change { work, volume, step, path, source }
    }

    pub(crate) fn impossible(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Impossible { work: self.work, volume: self.volume.id.clone(), reason: reason.into() }
    }

    pub(crate) fn image_failed(&self) -> impl Fn(volhook_mounts::Error) -> StoreError + use<> {
        let (work, volume) = (self.work, self.volume.id.clone());
        move |source| StoreError::Image { work, volume: volume.clone(), source: Box::new(source) }
    }

    /// Replaces the sidecar. When this returns, the change survives a power cut.
    pub(crate) fn write(&mut self, changed: Volume) -> Result<(), StoreError> {
        let failed = |step| self.failed(step, NEW_SIDECAR);
        let mut text = serde_json::to_vec_pretty(&changed).map_err(|e| failed("encode")(e.into()))?;
        text.push(b'\n');
        if text.len() as u64 > SIDECAR_LIMIT {
            return Err(self.impossible("its options and labels are too large"));
        }
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.folder, NEW_SIDECAR, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(file.map_err(|errno| failed("make")(errno.into()))?);
        file.write_all(&text).map_err(failed("write"))?;
        volhook_locks::flush(&file).map_err(|errno| failed("sync")(errno.into()))?;
        failpoint::reached("sidecar.written").map_err(|errno| failed("write")(errno.into()))?;
        rustix::fs::renameat(&self.folder, Path::new(NEW_SIDECAR), &self.folder, Path::new(SIDECAR))
            .map_err(|errno| self.failed("rename", NEW_SIDECAR)(errno.into()))?;
        failpoint::reached("sidecar.renamed").map_err(|errno| self.failed("sync", "")(errno.into()))?;
        volhook_locks::flush(&self.folder).map_err(|errno| self.failed("sync", "")(errno.into()))?;
        self.volume = changed;
        Ok(())
    }
}
