//! Checking and repairing the filesystem of an image.

use crate::change::Changing;
use crate::error::StoreError;
use crate::program;
use crate::program::Program;
use std::path::Path;
use std::time::Instant;
use volhook_core::decision::Backing;
use volhook_core::decision::Filesystem;
use volhook_core::decision::Image;
use volhook_mounts::source;

/// What e2fsck(8) found: bits of its exit status.
const CORRECTED: i32 = 1;
const CORRECTED_REBOOT: i32 = 2;
const UNCORRECTED: i32 = 4;

/// How a filesystem was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// Without errors.
    Clean,
    /// With errors, which were repaired. What the checker said, one line.
    Repaired(String),
    /// With errors, which are still there. What the checker said, one line.
    Damaged(String),
}

impl Changing<'_> {
    /// Checks the filesystem of an image that nobody has mounted. Its journal is replayed first, as mounting it would
    /// do; errors are only repaired if `repair` says so.
    ///
    /// # Errors
    /// [`StoreError::Image`] when it is in use, [`StoreError::Impossible`] for a volume that is no image, and those of
    /// programs.
    pub fn check(&self, repair: bool, deadline: Instant) -> Result<Checked, StoreError> {
        let image = self.image()?;
        let path = self.store.image_path(&self.volume);
        let _locked = source::lock_image(&path).map_err(self.image_failed())?;
        match image.filesystem {
            Filesystem::Ext4 => self.check_ext4(&path, repair, deadline),
        }
    }

    /// The volume's image.
    pub(crate) fn image(&self) -> Result<Image, StoreError> {
        match &self.volume.backing {
            Backing::Image(image) => Ok(image.clone()),
            Backing::Directory(_) => {
                Err(self.impossible("it is a directory of the host's filesystem and has none of its own"))
            }
        }
    }

    pub(crate) fn program(&self, name: &'static str) -> Result<Program<'_>, StoreError> {
        Program::find(self.work, &self.volume.id, name, "e2fsprogs")
    }

    pub(crate) fn check_ext4(
        &self,
        path: &Path,
        repair: bool,
        deadline: Instant,
    ) -> Result<Checked, StoreError> {
        let replay = self.program("e2fsck")?.args(["-y", "-E", "journal_only"]);
        replay.args([path]).run(&[0, CORRECTED, CORRECTED_REBOOT], deadline)?;
        let how = if repair { "-y" } else { "-n" };
        let check = self.program("e2fsck")?.args(["-f", how]).args([path]);
        let output = check.run(&[0, CORRECTED, CORRECTED_REBOOT, UNCORRECTED], deadline)?;
        if repair {
            // e2fsck makes an empty one; a new volume has none either. One with something in it stays.
            let debugfs = self.program("debugfs")?.args(["-w", "-R", "rmdir lost+found"]);
            debugfs.args([path]).run(&[0], deadline)?;
        }
        let said = program::said(&output);
        Ok(match output.status.code() {
            Some(0) => Checked::Clean,
            Some(CORRECTED | CORRECTED_REBOOT) if only_lost_and_found(&said) => Checked::Clean,
            Some(CORRECTED | CORRECTED_REBOOT) => Checked::Repaired(said),
            _ => Checked::Damaged(said),
        })
    }
}

/// Whether all that e2fsck mended is the folder that volhook's filesystems do without.
fn only_lost_and_found(said: &str) -> bool {
    let questions = said.matches("? yes").count() + said.matches("FIXED").count();
    questions <= 1 && said.contains("lost+found not found")
}
