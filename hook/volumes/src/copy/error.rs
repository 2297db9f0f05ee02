//! What can go wrong while copying.

use crate::files::shown;
use std::io;
use std::path::PathBuf;

/// Why a copy was not made. Paths are told from the top of what is copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A mount was found where only the volume's own content should be.
    #[error("something is mounted on {}", shown(.0))]
    Mount(PathBuf),
    /// An entry was replaced by one of another kind, again and again, or a new one by another.
    #[error("{} was replaced by something else while it was being copied", shown(.0))]
    Changed(PathBuf),
    /// A folder is not any more in the one in which it was found.
    #[error("{} was moved to somewhere else while it was being copied", shown(.0))]
    Moved(PathBuf),
    /// The copy's place is taken.
    #[error("cannot make {}: {reason}", shown(path))]
    InTheWay {
        /// What was to be made.
        path: PathBuf,
        /// What is there, one line.
        reason: &'static str,
    },
    /// A step failed.
    #[error("cannot {step} {}", shown(path))]
    Failed {
        /// What was being done, such as `write`.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// The failure, such as a full disk.
        source: io::Error,
    },
    /// The copy lies in what is copied, and would never end.
    #[error("a folder cannot be copied into itself: the copy is in {}", shown(.0))]
    IntoItself(PathBuf),
    /// An archive has an entry that leads out of the folder.
    #[error("the archive has an entry {}, which leads out of the folder", shown(.0))]
    Outside(PathBuf),
    /// An archive cannot be read or written.
    #[error("cannot {step} the archive")]
    Archive {
        /// What was being done: `read`, `write`.
        step: &'static str,
        /// The failure.
        source: io::Error,
    },
    /// The time is over.
    #[error("the time ran out")]
    Deadline,
    /// Somebody stopped it.
    #[error("interrupted")]
    Cancelled,
}
