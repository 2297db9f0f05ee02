//! Giving a volume another name.

use crate::change::Changing;
use crate::error::StoreError;
use crate::files;
use crate::store::VOLUMES;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::path::Path;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::volume::Volume;

impl Changing<'_> {
    /// Renames the volume; nothing is replaced. When this returns, the new name survives a power cut.
    ///
    /// The sidecar says the new name first, and what the old one was; the folder is renamed then. Between the two the
    /// volume has its old name, by its folder.
    ///
    /// # Errors
    /// [`StoreError::Impossible`] when the name is taken, and for what holds the volumes of a pod: the pod's policy has
    /// named it and them. [`StoreError::Change`].
    pub fn rename(mut self, to: VolumeName) -> Result<Volume, StoreError> {
        if self.volume.storage.is_some() {
            return Err(self.impossible("it holds the volumes of a pod, whose policy gives the names"));
        }
        let before = self.volume.clone();
        let (old, new) = (before.id.name.clone(), to.clone());
        let id = VolumeId { name: to, ..before.id.clone() };
        if self.store.find(&id)?.is_some() {
            return Err(self.impossible(format!("there is a volume \"{id}\" already")));
        }
        self.write(Volume { id: id.clone(), renamed_from: Some(old.clone()), ..before.clone() })?;
        // Messages are about the volume as it is called until it is done.
        self.volume.id = before.id.clone();
        let tenant: std::path::PathBuf = [VOLUMES, before.id.tenant.as_str()].iter().collect();
        let open = |path: &Path| self.store.root().and_then(|root| files::folder_below(root, path));
        let tenant = open(&tenant).map_err(|errno| self.failed("open the folder of", "")(errno.into()))?;
        let moved =
            rustix::fs::renameat_with(&tenant, old.as_str(), &tenant, new.as_str(), RenameFlags::NOREPLACE);
        match moved {
            Ok(()) => {}
            Err(errno) => {
                self.write(before)?;
                return Err(match errno {
                    Errno::EXIST => self.impossible(format!("something called \"{id}\" is there already")),
                    errno => self.failed("rename", "")(errno.into()),
                });
            }
        }
        let renamed = Volume { id, renamed_from: Some(old), ..self.volume.clone() };
        volhook_locks::flush(&tenant).map_err(|errno| self.failed("sync the folder of", "")(errno.into()))?;
        Ok(renamed)
    }
}
