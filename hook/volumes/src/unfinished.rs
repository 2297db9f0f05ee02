//! What changes of a volume leave in its folder when they are killed: each makes something new beside the old and then puts it
//! in its place. The same change again writes it over; if there is none, this removes it.

use crate::change::Changing;
use crate::change::NEW_SIDECAR;
use crate::copy_up::NEW_DATA;
use crate::error::StoreError;
use crate::origin::ORIGIN;
use crate::resize::NEW_IMAGE;
use crate::store::Store;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::path::PathBuf;
use std::time::Instant;

/// The names of what is on its way to the place of something, and of what says where a volume's content came from while it was
/// on its way.
const UNFINISHED: [&str; 4] = [NEW_SIDECAR, NEW_IMAGE, NEW_DATA, ORIGIN];

impl Store {
    /// What killed changes left in the folders of volumes, by path, as long as nobody is changing them.
    ///
    /// # Errors
    /// Those of [`list`](Self::list).
    pub(crate) fn unfinished(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut found = Vec::new();
        self.each_unfinished(|changing, name| {
            found.push(changing.store.folder(&changing.volume.id).join(name));
            Ok(())
        })?;
        Ok(found)
    }

    /// Removes it. What cannot be removed until `deadline` stays for the next, and so does what cannot be removed at all: that
    /// is in the way of nothing else.
    ///
    /// # Errors
    /// As [`unfinished`](Self::unfinished), and [`StoreError::Change`] for the first thing that cannot be removed.
    pub(crate) fn remove_unfinished(&self, deadline: Instant) -> Result<(), StoreError> {
        self.each_unfinished(|changing, name| changing.remove_unfinished(name, deadline))
    }

    /// Hands all of it to `found`, and returns the first failure afterwards.
    fn each_unfinished(
        &self,
        mut found: impl FnMut(&Changing<'_>, &'static str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut first_failure = Ok(());
        for volume in self.list()?.volumes {
            let folder = self.folder(&volume.id);
            // Mostly there is nothing, and nobody has to wait for that to be known.
            let is_there = |name: &&str| std::fs::symlink_metadata(folder.join(name)).is_ok();
            if !UNFINISHED.iter().any(is_there) {
                continue;
            }
            // Whoever is at work with it holds the lock, and who has removed the volume meanwhile has removed this.
            let Ok(changing) = self.change_within("clean", &volume, Instant::now()) else { continue };
            for name in UNFINISHED {
                if rustix::fs::statat(&changing.folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                    let result = found(&changing, name);
                    first_failure = first_failure.and(result);
                }
            }
        }
        first_failure
    }
}

impl Changing<'_> {
    fn remove_unfinished(&self, name: &'static str, deadline: Instant) -> Result<(), StoreError> {
        let failed = |errno: Errno| self.failed("remove", name)(errno.into());
        let stat = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()).map_err(failed);
        }
        self.remove_new_data(deadline);
        Ok(())
    }
}
