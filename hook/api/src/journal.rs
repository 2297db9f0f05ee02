//! The journal's files: in what state they are, and what becomes of damaged ones.

use crate::volume_ref::VolumeRef;
use serde::Deserialize;
use serde::Serialize;
use volhook_core::names::ContainerId;

/// What reading every file of the journal from end to end has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The journal's folder.
    pub folder: String,
    /// Every file, by name.
    pub files: Vec<File>,
    /// Whether the index says what the leases of this boot say.
    pub index: Index,
    /// Copies of damaged files, kept as evidence.
    pub copies: Vec<Copy>,
    /// Whether nothing is wrong with any of it.
    pub sound: bool,
}

/// A file of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its name in the folder.
    pub name: String,
    /// What it holds.
    pub kind: Content,
    /// Its format, where its header could be read.
    pub format: Option<u32>,
    /// How many whole frames it has from its beginning on.
    pub frames: u64,
    /// How many of them hold a record.
    pub records: u64,
    /// Its length.
    pub bytes: u64,
    /// What is wrong with it.
    #[serde(flatten)]
    pub state: State,
}

/// What a file of the journal holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Leases of this boot.
    ThisBoot,
    /// Leases of an earlier boot, as history.
    EarlierBoot,
    /// What outlives a boot.
    Volumes,
}

/// In what state a file of the journal is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Every byte is what was written, and every record is understood.
    Sound,
    /// An append at the end was never finished; the next writer cuts it off. Of an earlier boot's leases a power cut may have
    /// taken the end.
    TornTail {
        /// Where it begins.
        offset: u64,
    },
    /// Bytes are not what was written, or are gone.
    Damaged {
        /// Where the damage begins.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A newer volhook wrote it: it is read, and never written.
    NewerFormat,
    /// It could not be opened or read.
    Unreadable {
        /// Why.
        error: String,
    },
    /// A record is whole and cannot be understood.
    UnknownRecord {
        /// Where its frame begins.
        offset: u64,
        /// What is wrong with it.
        error: String,
    },
}

/// How the index compares with the leases of this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Index {
    /// There is none; nobody needs one.
    Missing,
    /// It leads to all live grants and to nothing else.
    Agrees,
    /// It is of no use: it is ignored, and written anew some time.
    Unusable,
    /// It is whole and says something else.
    Disagrees,
    /// The leases cannot be read to their end.
    Unknown,
}

/// A copy of a damaged file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Its name in the folder.
    pub name: String,
    /// Its length; 0 where it cannot be opened.
    pub bytes: u64,
}

/// Asks for damaged files to be begun anew with what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What was, or dry would be, done about damaged files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mended {
    /// What was found damaged.
    pub damaged: Vec<Damaged>,
    /// What was begun anew; nothing in a dry run.
    pub rebuilt: Vec<Rebuilt>,
}

/// A damaged file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// Where it is.
    pub file: String,
    /// Where the damage begins.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
    /// Whether there is no file any more, of which a copy could be kept.
    pub gone: bool,
    /// The parts of it that cannot be read.
    pub lost: Vec<Lost>,
    /// How many records are kept of it, or grants.
    pub kept: usize,
    /// Who holds something by what is known; of a file of leases.
    pub held: Vec<Holds>,
}

/// A part of a file that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// Who holds something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// The container or command.
    pub container: ContainerId,
    /// What it holds.
    pub volumes: Vec<VolumeRef>,
}

/// A file that was begun anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// How many records it has now.
    pub kept: u32,
    /// Where the damage began.
    pub lost_at: u64,
    /// The copy of the damaged file; none where the file was gone.
    pub copy: Option<String>,
}
