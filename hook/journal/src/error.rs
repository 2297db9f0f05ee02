//! What can go wrong with the journal, named after what was being done.

use std::io;
use std::path::PathBuf;
use volhook_core::cursor::Cursor;

/// A failure of the journal. Unless a variant says otherwise, nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The boot id cannot be part of a file name.
    #[error("invalid boot id {text:?}: must be 1 to 64 letters, digits and dashes")]
    BootId {
        /// The text as given.
        text: String,
    },
    /// The folder could not be made, or its lock file not be used.
    #[error("cannot lock the journal with {}", file.display())]
    Lock {
        /// The lock file.
        file: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// Others held the lock until the deadline.
    #[error("the journal stayed locked by another process until the deadline (lock file {})", file.display())]
    LockTimeout {
        /// The lock file.
        file: PathBuf,
    },
    /// The folder's names could not be read.
    #[error("cannot list the journal folder {}", folder.display())]
    List {
        /// The folder.
        folder: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// A file could not be opened or created.
    #[error("cannot open the journal file {}", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// A file could not be read.
    #[error("cannot read the journal file {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// A file could not be written. What was written of the records is cut off again, now or before the next
    /// write.
    #[error("cannot write to the journal file {} at offset {offset}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Where.
        offset: u64,
        /// The failure.
        source: io::Error,
    },
    /// The disk, or a quota, has no room for the records and what is set aside for giving leases back. Nothing was
    /// granted; giving back still works.
    #[error("no room for {needed} bytes behind the journal file {}", file.display())]
    Full {
        /// The file.
        file: PathBuf,
        /// How many bytes are missing at most.
        needed: u64,
        /// The failure.
        source: io::Error,
    },
    /// A file could not be synced: whether the records are on the disk is unknown. The handle writes no more.
    #[error("cannot sync the journal file {}: what is on the disk is unknown", file.display())]
    Sync {
        /// The file.
        file: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// An earlier sync through this handle failed.
    #[error("an earlier sync of the journal in {} failed; open the journal again", folder.display())]
    Poisoned {
        /// The folder.
        folder: PathBuf,
    },
    /// A file's content is not what was written.
    #[error("the journal file {} is damaged at offset {offset}: {reason}{}", file.display(), kept(copy.as_ref()))]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
        /// Where a copy of the file was put, if the lock was held and there was room for one.
        copy: Option<PathBuf>,
    },
    /// A damaged file could not be copied before it is replaced.
    #[error("cannot keep a copy of the damaged journal file {}", file.display())]
    Copy {
        /// The damaged file.
        file: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// A new file could not take the place of a damaged one.
    #[error("cannot replace the damaged journal file {}", file.display())]
    Replace {
        /// The damaged file.
        file: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// A file of old history could not be removed.
    #[error("cannot remove the old journal file {}", file.display())]
    Remove {
        /// The file.
        file: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// A file was written by a newer volhook; it is read, not written.
    #[error("the journal file {} has format {version}, this volhook writes up to {newest}", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// The file's format.
        version: u32,
        /// The newest format that this version writes.
        newest: u32,
    },
    /// A record with a right checksum has a content that this version does not understand.
    #[error("the journal file {} holds a record at offset {offset} that cannot be understood", file.display())]
    Record {
        /// The file.
        file: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There is no such event: its file was removed as old history, or it is lost, or it never was one.
    #[error("the journal has no event {cursor}")]
    Gone {
        /// The event.
        cursor: Cursor,
        /// Whether anything of its boot is left.
        boot_is_known: bool,
    },
    /// A record could not be turned into bytes.
    #[error("cannot encode a journal record")]
    Encode {
        /// The failure.
        source: serde_json::Error,
    },
    /// A record is larger than a frame may be.
    #[error("a journal record of {size} bytes is too large; the limit is {limit}")]
    RecordTooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most that it may have.
        limit: usize,
    },
}

/// Whether there is no room for what was to be written.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

fn kept(copy: Option<&PathBuf>) -> String {
    copy.map_or_else(String::new, |path| format!("; a copy is kept at {}", path.display()))
}
