//! What can go wrong with the volume store, named after what was being done.

use crate::copy::CopyError;
use crate::links::Holder;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use volhook_core::mkfs::MkfsError;
use volhook_core::names::Pod;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;

fn of_pod(pod: Option<&Pod>) -> String {
    pod.map_or_else(String::new, |pod| format!(", which holds the volumes of pod {pod:?}"))
}

/// A failure of the volume store. After a failed creation nothing is left behind, except that a volume stays whose
/// name could not be synced: it is complete and others may use it already.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A volume could not be looked up.
    #[error("cannot look up volume \"{volume}\" at {}", path.display())]
    Find {
        /// The volume.
        volume: VolumeId,
        /// What could not be opened or read.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// What stands in a volume's place was not made by volhook.
    #[error("{} is in the place of volume \"{volume}\" and is none: {reason}", path.display())]
    Foreign {
        /// The volume.
        volume: VolumeId,
        /// What stands there.
        path: PathBuf,
        /// Why it is none.
        reason: &'static str,
    },
    /// A name is that of a part of a volume.
    #[error("volume \"{volume}\" is a part of volume \"{storage}\"{}", of_pod(pod.as_ref()))]
    IsPart {
        /// The part.
        volume: VolumeId,
        /// The volume of the same tenant in which it lies.
        storage: VolumeName,
        /// The pod whose volumes lie there.
        pod: Option<Pod>,
    },
    /// A volume of a pod cannot have its name.
    #[error("cannot {work} volume \"{volume}\": the name \"{name}\" of one of its parts is that of {by}")]
    NameHeld {
        /// What was being done, such as `create`.
        work: &'static str,
        /// The volume of which it was to be a part.
        volume: VolumeId,
        /// The name.
        name: VolumeName,
        /// Whose it is.
        by: Holder,
    },
    /// There is no place to try something out.
    #[error("cannot make an empty directory in {}", path.display())]
    Scratch {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A sidecar cannot be understood.
    #[error("the sidecar {} of volume \"{volume}\" is damaged", path.display())]
    DamagedSidecar {
        /// The volume.
        volume: VolumeId,
        /// The sidecar.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A sidecar is that of another volume: its folder was copied or renamed.
    #[error("the sidecar {} of volume \"{volume}\" says that it is volume \"{found}\"", path.display())]
    OtherVolume {
        /// The volume looked for.
        volume: VolumeId,
        /// The sidecar.
        path: PathBuf,
        /// Whose it is by its own account.
        found: VolumeId,
    },
    /// A sidecar was written by a newer volhook.
    #[error(
        "the sidecar {} of volume \"{volume}\" has format {format}, this volhook reads up to {newest}",
        path.display()
    )]
    NewerSidecar {
        /// The volume.
        volume: VolumeId,
        /// The sidecar.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// The newest format that this version reads.
        newest: u32,
    },
    /// A folder of the store could not be read.
    #[error("cannot list the volumes in {}", path.display())]
    List {
        /// The folder.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// The content of a volume could not be measured.
    #[error("cannot measure volume \"{volume}\" at {}", path.display())]
    Measure {
        /// The volume.
        volume: VolumeId,
        /// Where.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// A volume's directory is not there.
    #[error("volume \"{volume}\" has lost its directory {}", path.display())]
    DirectoryMissing {
        /// The volume.
        volume: VolumeId,
        /// Where it was.
        path: PathBuf,
    },
    /// A volume's image is not there.
    #[error("volume \"{volume}\" has lost its image {}", path.display())]
    ImageMissing {
        /// The volume.
        volume: VolumeId,
        /// Where it was.
        path: PathBuf,
    },
    /// A volume's image is shorter than it was made.
    #[error("the image {} of volume \"{volume}\" is truncated: {have} of {want} bytes", path.display())]
    ImageTruncated {
        /// The volume.
        volume: VolumeId,
        /// The image.
        path: PathBuf,
        /// Its size in bytes.
        have: u64,
        /// Its recorded size in bytes.
        want: u64,
    },
    /// A volume has another backing than the one asked for.
    #[error("volume \"{volume}\" is not backed by {wanted}")]
    OtherBacking {
        /// The volume.
        volume: VolumeId,
        /// What was asked for: `a directory`, `an image`.
        wanted: &'static str,
    },
    /// A volume's description cannot be carried out.
    #[error("cannot create volume \"{volume}\": {reason}")]
    Invalid {
        /// The volume.
        volume: VolumeId,
        /// What is wrong.
        reason: &'static str,
    },
    /// An image can never be filled on this filesystem.
    #[error(
        "cannot create volume \"{volume}\": {} is more than the whole filesystem of {} has ({})",
        volhook_core::size::format(*size),
        path.display(),
        volhook_core::size::format(*capacity)
    )]
    LargerThanFilesystem {
        /// The volume.
        volume: VolumeId,
        /// The folder of the store.
        path: PathBuf,
        /// The size wanted in bytes.
        size: u64,
        /// The filesystem's size in bytes.
        capacity: u64,
    },
    /// An image whose bytes are to be taken at once does not fit now.
    #[error(
        "cannot create volume \"{volume}\": {size} bytes are more than are free on the filesystem of {} ({free} bytes)",
        path.display()
    )]
    NoRoom {
        /// The volume.
        volume: VolumeId,
        /// The image.
        path: PathBuf,
        /// The size wanted in bytes.
        size: u64,
        /// How many bytes are free.
        free: u64,
    },
    /// A setting of a filesystem's maker is not acceptable.
    #[error("cannot create volume \"{volume}\"")]
    MkfsSetting {
        /// The volume.
        volume: VolumeId,
        /// What is wrong with it.
        source: MkfsError,
    },
    /// A new filesystem could not be made ready.
    #[error("cannot create volume \"{volume}\": its new filesystem cannot be made ready")]
    Prepare {
        /// The volume.
        volume: VolumeId,
        /// The failure.
        source: Box<volhook_mounts::Error>,
    },
    /// A step of a creation failed.
    #[error("cannot create volume \"{volume}\": cannot {step} {}", path.display())]
    Create {
        /// The volume.
        volume: VolumeId,
        /// What was being done, such as `make`, `sync`.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// The content of a volume could not be copied.
    #[error("cannot clone volume \"{volume}\"")]
    Copy {
        /// The volume.
        volume: VolumeId,
        /// The failure; paths are told from the volume's root.
        source: CopyError,
    },
    /// A volume could not be given what an image has.
    #[error("cannot copy what the image has into volume \"{volume}\"")]
    Populate {
        /// The volume, or the one in which the volumes of a pod lie.
        volume: VolumeId,
        /// The failure; paths are told from the top of what is copied.
        source: CopyError,
    },
    /// A program is not installed.
    #[error(
        "cannot {work} volume \"{volume}\": {program} is not installed (on Debian: apt-get install {package})"
    )]
    ProgramMissing {
        /// What was being done to the volume: `create`, `check`, `resize`.
        work: &'static str,
        /// The volume.
        volume: VolumeId,
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program could not be run to its end.
    #[error("cannot {work} volume \"{volume}\": {program} did not come to its end")]
    ProgramUnfinished {
        /// What was being done to the volume: `create`, `check`, `resize`.
        work: &'static str,
        /// The volume.
        volume: VolumeId,
        /// The program.
        program: &'static str,
        /// The failure.
        source: Box<volhook_mounts::Error>,
    },
    /// A program failed.
    #[error("cannot {work} volume \"{volume}\": {program} failed ({status}): {output}")]
    ProgramFailed {
        /// What was being done to the volume: `create`, `check`, `resize`.
        work: &'static str,
        /// The volume.
        volume: VolumeId,
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it said, one line.
        output: String,
    },
    /// A volume's image or its filesystem cannot be worked on.
    #[error("cannot {work} volume \"{volume}\"")]
    Image {
        /// What was being done: `check`, `resize`.
        work: &'static str,
        /// The volume.
        volume: VolumeId,
        /// The failure.
        source: Box<volhook_mounts::Error>,
    },
    /// What was asked for is nothing that can be done with this volume.
    #[error("cannot {work} volume \"{volume}\": {reason}")]
    Impossible {
        /// What was asked for.
        work: &'static str,
        /// The volume.
        volume: VolumeId,
        /// Why not.
        reason: String,
    },
    /// A step of a change failed. The volume is as it was or as it should be.
    #[error("cannot {work} volume \"{volume}\": cannot {step} {}", path.display())]
    Change {
        /// What was being done, such as `resize`, `rename`.
        work: &'static str,
        /// The volume.
        volume: VolumeId,
        /// The step, such as `write`, `sync`.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// What was made elsewhere cannot become a volume.
    #[error("cannot make {} a volume: {reason}", path.display())]
    Adopt {
        /// What was to become a volume.
        path: PathBuf,
        /// Why it cannot.
        reason: String,
    },
    /// A volume is not (any more) where it was.
    #[error("there is no volume \"{volume}\" with the uuid {uuid} at {}", path.display())]
    Gone {
        /// The volume.
        volume: VolumeId,
        /// The uuid of the one that was meant.
        uuid: String,
        /// Where it was.
        path: PathBuf,
    },
    /// A step of a removal into the trash failed. The volume is where it was, or in the trash, whole.
    #[error("cannot remove volume \"{volume}\": cannot {step} {}", path.display())]
    Discard {
        /// The volume.
        volume: VolumeId,
        /// What was being done, such as `write`, `sync`.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// A volume's name is in use again.
    #[error("cannot restore volume \"{volume}\" from {}: {} exists again", from.display(), path.display())]
    NameTaken {
        /// The volume.
        volume: VolumeId,
        /// Where it is in the trash.
        from: PathBuf,
        /// What stands in its place.
        path: PathBuf,
    },
    /// What is in the trash is not the volume that was meant.
    #[error("cannot restore volume \"{volume}\" from {}: {reason}", path.display())]
    NotDiscarded {
        /// The volume.
        volume: VolumeId,
        /// Where it should be in the trash.
        path: PathBuf,
        /// Why it is not.
        reason: String,
    },
    /// A volume in the trash has lost a part of its content already.
    #[error("cannot restore volume \"{volume}\" from {}: its deletion has begun", path.display())]
    HalfDeleted {
        /// The volume.
        volume: VolumeId,
        /// Where it is in the trash.
        path: PathBuf,
    },
    /// A step of a restoration failed. The volume is in the trash or back in its place, whole.
    #[error("cannot restore volume \"{volume}\": cannot {step} {}", path.display())]
    Restore {
        /// The volume.
        volume: VolumeId,
        /// What was being done, such as `lock`, `sync`.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// What was deleted could not be synced: a power cut may bring it back into the trash.
    #[error("cannot sync the trash {}", path.display())]
    SyncTrash {
        /// The trash.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
}
