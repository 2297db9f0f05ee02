//! Checking and repairing the filesystem of an image.

use crate::change::Changing;
use crate::error::StoreError;
use crate::program;
use crate::program::Program;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use volhook_core::decision::Backing;
use volhook_core::decision::Filesystem;
use volhook_core::decision::Image;
use volhook_mounts::source;
use volhook_mounts::source::ImageUse;
use volhook_mounts::source::LockedImage;

/// What e2fsck(8) found: bits of its exit status.
const CORRECTED: i32 = 1;
const CORRECTED_REBOOT: i32 = 2;
const UNCORRECTED: i32 = 4;

/// How long the kernel may take to write out a filesystem that was just unmounted.
const UNMOUNTING: Duration = Duration::from_secs(5);

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
        if image.filesystem != Filesystem::Ext4 {
            // Mounting replays the journal. Whether that works is what the check is about to find out.
            let _ = source::mount_image(&path, &image, ImageUse::Exclusive);
        }
        let _locked = lock_soon(&path).map_err(self.image_failed())?;
        match image.filesystem {
            Filesystem::Ext4 => self.check_ext4(&path, repair, deadline),
            Filesystem::Xfs => self.check_xfs(&path, repair, deadline),
            Filesystem::Btrfs if repair => {
                Err(self.impossible("the makers of btrfs warn of its repair; copy out what is readable"))
            }
            Filesystem::Btrfs => {
                let check = self.program_of("btrfs", "btrfs-progs")?.args(["check", "--readonly"]);
                let output = check.args([&path]).run(&[0, 1], deadline)?;
                let said = program::said(&output);
                Ok(if output.status.success() { Checked::Clean } else { Checked::Damaged(said) })
            }
        }
    }

    /// The volume's image.
    pub(crate) fn image(&self) -> Result<Image, StoreError> {
        match &self.volume.backing {
            Backing::Image(image) => Ok(image.clone()),
            Backing::Directory(_) | Backing::HostPath(_) => {
                Err(self.impossible("it is a directory of the host's filesystem and has none of its own"))
            }
            Backing::Tmpfs(_) | Backing::Device(_) => {
                Err(self.impossible("volhook did not make its filesystem"))
            }
        }
    }

    pub(crate) fn program(&self, name: &'static str) -> Result<Program<'_>, StoreError> {
        self.program_of(name, "e2fsprogs")
    }

    fn program_of(&self, name: &'static str, package: &'static str) -> Result<Program<'_>, StoreError> {
        Program::find(self.work, &self.volume.id, name, package)
    }

    fn check_xfs(&self, path: &Path, repair: bool, deadline: Instant) -> Result<Checked, StoreError> {
        let check = self.program_of("xfs_repair", "xfsprogs")?.args(["-n", "-f"]).args([path]);
        let output = check.run(&[0, 1], deadline)?;
        if output.status.success() {
            return Ok(Checked::Clean);
        }
        let said = program::said(&output);
        if !repair {
            return Ok(Checked::Damaged(said));
        }
        self.program_of("xfs_repair", "xfsprogs")?.args(["-f"]).args([path]).run(&[0], deadline)?;
        Ok(Checked::Repaired(said))
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

/// Takes an image's lock once the kernel has let go of a mount that is no more.
pub(crate) fn lock_soon(path: &Path) -> Result<LockedImage, volhook_mounts::Error> {
    let patience = Instant::now() + UNMOUNTING;
    loop {
        match source::lock_image(path) {
            Err(volhook_mounts::Error::ImageBusy { .. }) if Instant::now() < patience => {}
            locked => return locked,
        }
    }
}

/// Whether all that e2fsck mended is the folder that volhook's filesystems do without.
fn only_lost_and_found(said: &str) -> bool {
    let questions = said.matches("? yes").count() + said.matches("FIXED").count();
    questions <= 1 && said.contains("lost+found not found")
}
