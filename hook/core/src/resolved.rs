//! Where a target really is, inside a root filesystem: facts that the planner is given.

use crate::decision::EntryKind;
use serde::Deserialize;
use serde::Serialize;

/// A target as the kernel would find it, symlinks followed inside the root filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Absolute path inside the root filesystem without symlinks; components that do not exist yet stand at
    /// its end as they were asked for.
    pub path: String,
    /// What is there; `None` when a mount point has to be created.
    pub kind: Option<EntryKind>,
    /// Whether the mount on which it lies propagates to others (`shared:` in proc_pid_mountinfo(5)).
    pub shared: bool,
}
