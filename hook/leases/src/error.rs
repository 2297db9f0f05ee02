//! What can go wrong with leases, named after what was being done, with what a person can do about it.

use jiff::Timestamp;
use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use volhook_api::Kind;
use volhook_core::decision::Access;
use volhook_core::decision::Sharing;
use volhook_core::names::Command;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;
use volhook_core::plan::whom;
use volhook_journal::JournalError;
use volhook_volumes::StoreError;

/// Why leases could not be looked at, taken or given back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody can tell whose process is whose.
    #[error("cannot tell which host and boot this is")]
    Host(#[source] volhook_mounts::Error),
    /// There is no journal to look at.
    #[error("cannot open the journal in {}", folder.display())]
    Open {
        /// Its folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: JournalError,
    },
    /// The journal could not be locked, read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A volume could not be looked up.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// A process could not be looked at.
    #[error(transparent)]
    Process(volhook_mounts::Error),
    /// The kernel does not say whether a volume is still used.
    #[error("cannot tell whether the {what} of volume {volume:?} is in use")]
    InUse {
        /// Its image, its device or its overlay.
        what: &'static str,
        /// The volume.
        volume: VolumeId,
        /// Why.
        #[source]
        source: Box<volhook_mounts::Error>,
    },
    /// The processes of the host could not be looked through.
    #[error("cannot look for processes of a dead container")]
    Processes(#[source] volhook_mounts::Error),
    /// Somebody holds the volume.
    #[error("volume {volume:?} is held by {} ({} {}, since {since})", whom(by), how.0, how.1)]
    Held {
        /// The volume.
        volume: VolumeId,
        /// The holder.
        by: ContainerId,
        /// How it is held.
        how: (Access, Sharing),
        /// Since when.
        since: Timestamp,
    },
    /// The volume is not there, or not any more.
    #[error("no such volume: {volume:?}")]
    NoSuchVolume {
        /// Its name.
        volume: VolumeId,
    },
    /// A command could not look at who holds the volumes that it needs.
    #[error("cannot hold volume {} for this command", names(volumes))]
    Hold {
        /// The volumes.
        volumes: Vec<VolumeId>,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A bug: a command that needs one volume twice.
    #[error("volume {volume:?} is in the way of itself")]
    InItsOwnWay {
        /// The volume.
        volume: VolumeId,
    },
    /// A test wants a step to fail.
    #[error("the test wants step {step:?} to fail")]
    Stopped {
        /// The step.
        step: &'static str,
        /// The failure.
        #[source]
        source: io::Error,
    },
    /// What a spec names as its attempt is none.
    #[error("{attempt:?} is not an attempt of volhook's")]
    NotAnAttempt {
        /// What the spec says.
        attempt: String,
    },
    /// The record of an attempt could not be written.
    #[error("cannot write the container's record in {}", folder.display())]
    WriteRecord {
        /// The folder of the records.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The record of an attempt could not be read.
    #[error("cannot read the record of attempt {attempt}")]
    ReadRecord {
        /// The attempt.
        attempt: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The record of an attempt makes no sense.
    #[error("the record {} is damaged", path.display())]
    DamagedRecord {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The record of an attempt was written by a newer volhook.
    #[error("the record {} has format {format}, and this volhook reads up to {newest}", path.display())]
    NewerRecord {
        /// Its file.
        path: PathBuf,
        /// Its format.
        format: u64,
        /// The newest that this version reads.
        newest: u32,
    },
    /// The records could not be listed.
    #[error("cannot list the containers' records in {}", folder.display())]
    ListRecords {
        /// Their folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A record has no time.
    #[error("cannot tell when {} was written", path.display())]
    RecordTime {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A record could not be removed.
    #[error("cannot remove {}", path.display())]
    RemoveRecord {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

fn names(volumes: &[VolumeId]) -> String {
    volumes.iter().map(|id| format!("{id:?}")).collect::<Vec<_>>().join(" and ")
}

impl Error {
    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Held { .. } => Kind::Held,
            Self::NoSuchVolume { .. } => Kind::NoSuchVolume,
            Self::InItsOwnWay { .. } => Kind::Internal,
            Self::Hold { source, .. } => source.kind(),
            Self::Journal(JournalError::LockTimeout { .. }) => Kind::TooLate,
            Self::Journal(JournalError::Full { .. }) => Kind::NoRoom,
            _ => Kind::Failed,
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Held { by, .. } => Some(match by.command() {
                Some((Command::Mount, _)) => "`volhook volume umount` gives it back",
                _ if by.is_command() => "try again when that command is done",
                _ => "stop that container; --force does not touch what is held",
            }),
            Self::NoSuchVolume { .. } => Some("`volhook volume ls` shows which there are"),
            Self::ReadRecord { .. } => Some(
                "the spec was planned in another boot or run directory; start from the spec as it was before",
            ),
            Self::DamagedRecord { .. } => Some(
                "it may say who holds a volume, so nothing is given away; if that container is gone, remove the file",
            ),
            Self::NewerRecord { .. } => Some("a newer volhook has started the container: use that one"),
            Self::Hold { source, .. } => source.hint(),
            _ => None,
        }
    }

    /// The volume at fault.
    #[must_use]
    pub fn volume(&self) -> Option<&VolumeId> {
        match self {
            Self::Held { volume, .. }
            | Self::NoSuchVolume { volume }
            | Self::InUse { volume, .. }
            | Self::InItsOwnWay { volume } => Some(volume),
            Self::Hold { source, .. } => source.volume(),
            _ => None,
        }
    }

    /// The cause and what is behind it, in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            // Writing to a string cannot fail.
            let _ = write!(line, ": {error}");
            source = error.source();
        }
        line.replace('\n', " ")
    }
}
