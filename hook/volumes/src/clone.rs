//! A volume made as a copy of another.

use crate::check;
use crate::copy;
use crate::copy::Copied;
use crate::copy::CopyError;
use crate::copy::How;
use crate::copy::Place;
use crate::copy::Rights;
use crate::copy::Watch;
use crate::create::Created;
use crate::create::Stage;
use crate::error::StoreError;
use crate::files;
use crate::program::Program;
use crate::store::DATA;
use crate::store::IMAGE;
use crate::store::Store;
use jiff::Timestamp;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;
use volhook_core::decision::Backing;
use volhook_core::decision::Filesystem;
use volhook_core::decision::Image;
use volhook_core::decision::Pairs;
use volhook_core::names::VolumeId;
use volhook_core::volume::Volume;
use volhook_mounts::source;
use volhook_mounts::source::ImageUse;

/// What e2fsck(8) exits with when it had something to correct and did.
const CORRECTED: i32 = 1;

/// What a clone has for itself. All else is that of the original.
#[derive(Debug, Clone)]
pub struct Cloning {
    /// Its identity.
    pub id: VolumeId,
    /// Its uuid, which becomes that of its filesystem as well.
    pub uuid: String,
    /// Labels besides those of the original; of one name these count.
    pub labels: Pairs,
    /// When it is made.
    pub created: Timestamp,
}

impl Store {
    /// Makes a volume with the driver, options, labels and content of `original`, unless one of its name exists. When
    /// this returns, the volume survives a power cut. A clone belongs to no pod.
    ///
    /// A directory is copied as it is at that time: if containers write to it meanwhile, the copy is not of one moment.
    /// An image must be free; its filesystem's journal is replayed in the copy, which is checked and gets a uuid of its
    /// own.
    ///
    /// # Errors
    /// Those of [`create`](Self::create); [`StoreError::Copy`], [`StoreError::Image`] when an image is in use,
    /// [`StoreError::Impossible`] for what holds the volumes of a pod.
    pub fn clone_volume(
        &self,
        original: &Volume,
        cloning: &Cloning,
        watch: &Watch<'_>,
    ) -> Result<(Created, Copied), StoreError> {
        if original.storage.is_some() {
            let reason = "it holds the volumes of a pod, and a pod has only one such volume".to_owned();
            return Err(StoreError::Impossible { work: "clone", volume: original.id.clone(), reason });
        }
        let mut copied = Copied::default();
        let created = match &original.backing {
            Backing::Directory(_) => {
                let from = self.open_directory(original)?;
                self.create_with(&clone_of(original, cloning), |stage| {
                    let content;
                    (content, copied) = stage.copy_directory(original, from, watch)?;
                    Ok(Some((content, DATA)))
                })?
            }
            Backing::Image(_) => {
                // Nobody resizes it meanwhile.
                let changing = self.change("clone", original)?;
                let original = changing.volume();
                let image = changing.image()?;
                let from = self.open_image(original)?;
                self.create_with(&clone_of(original, cloning), |stage| {
                    let locked = source::lock_image(&self.image_path(original));
                    let locked = locked.map_err(changing.image_failed())?;
                    let content;
                    (content, copied) = stage.copy_image(original, &from, watch)?;
                    drop(locked);
                    stage.renew(image.filesystem, watch.deadline)?;
                    Ok(Some((content, IMAGE)))
                })?
            }
            // Nothing of it is in the store but its description.
            Backing::Tmpfs(_) | Backing::HostPath(_) | Backing::Device(_) => {
                return Err(StoreError::OtherBacking {
                    volume: original.id.clone(),
                    wanted: "anything that volhook keeps",
                });
            }
        };
        Ok((created, copied))
    }
}

fn clone_of(original: &Volume, cloning: &Cloning) -> Volume {
    let Cloning { id, uuid, labels, created } = cloning.clone();
    let kept = original.labels.iter().filter(|(name, _)| labels.iter().all(|(own, _)| own != name));
    let labels = kept.cloned().chain(labels.iter().cloned()).collect();
    Volume { id, uuid, labels, created, pod: None, storage: None, renamed_from: None, ..original.clone() }
}

impl Stage {
    fn copy_directory(
        &self,
        original: &Volume,
        from: OwnedFd,
        watch: &Watch<'_>,
    ) -> Result<(OwnedFd, Copied), StoreError> {
        let to = self.new_data()?;
        // What somebody mounted in the volume on the host is not the volume's. Where that cannot be left out, it is
        // refused.
        let from = match source::clone_directory(from.as_fd()) {
            Ok(mount) => files::folder_on_same_mount(&mount, c".")
                .map_err(self.failed("open the original of", DATA))?,
            Err(_) => from,
        };
        let how = How { rights: Rights::Keep, place: Place::Empty };
        let data = rustix::io::fcntl_dupfd_cloexec(&to, 0).map_err(self.failed("open", DATA))?;
        let copied = copy::copy_tree(from, to, true, how, watch).map_err(not_copied(original))?;
        // Once for everything: syncing each file is many times slower.
        volhook_locks::flush_filesystem(&data).map_err(self.failed("sync", DATA))?;
        Ok((data, copied))
    }

    fn copy_image(
        &self,
        original: &Volume,
        from: &OwnedFd,
        watch: &Watch<'_>,
    ) -> Result<(OwnedFd, Copied), StoreError> {
        let to = self.new_file(IMAGE)?;
        let copied = copy::copy_contents(from, &to, IMAGE, watch).map_err(not_copied(original))?;
        Ok((to, copied))
    }

    /// Gives the filesystem the volume's uuid: two of one uuid confuse whoever mounts by it.
    fn renew(&self, filesystem: Filesystem, deadline: Instant) -> Result<(), StoreError> {
        let image = self.path.join(IMAGE);
        let uuid = self.volume.uuid.as_str();
        let program = |name, package| Program::find("clone", &self.volume.id, name, package);
        match filesystem {
            Filesystem::Ext4 => {
                // tune2fs(8) wants it checked just before.
                let check = program("e2fsck", "e2fsprogs")?.args(["-f", "-p"]).args([&image]);
                check.run(&[0, CORRECTED], deadline)?;
                // The check makes an empty one; volumes begin without. One with something in it stays.
                let remove = program("debugfs", "e2fsprogs")?.args(["-w", "-R", "rmdir lost+found"]);
                remove.args([&image]).run(&[0], deadline)?;
                program("tune2fs", "e2fsprogs")?.args(["-U", uuid]).args([&image]).run(&[0], deadline)?;
            }
            Filesystem::Xfs => {
                self.replay(&image, filesystem)?;
                program("xfs_admin", "xfsprogs")?.args(["-U", uuid]).args([&image]).run(&[0], deadline)?;
            }
            Filesystem::Btrfs => {
                self.replay(&image, filesystem)?;
                let renew = program("btrfstune", "btrfs-progs")?.args(["-f", "-U", uuid]);
                renew.args([&image]).run(&[0], deadline)?;
            }
        }
        Ok(())
    }

    /// Mounts the image for a moment, so that its journal is replayed.
    fn replay(&self, image: &Path, filesystem: Filesystem) -> Result<(), StoreError> {
        let failed = |source| StoreError::Image {
            work: "clone",
            volume: self.volume.id.clone(),
            source: Box::new(source),
        };
        let described = Image::new(0, filesystem);
        source::mount_image(image, &described, ImageUse::Exclusive).map_err(failed)?;
        check::lock_soon(image).map(drop).map_err(failed)
    }
}

fn not_copied(original: &Volume) -> impl FnOnce(CopyError) -> StoreError {
    let volume = original.id.clone();
    move |source| StoreError::Copy { volume, source }
}
