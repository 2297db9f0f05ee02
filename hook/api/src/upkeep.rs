//! Upkeep: what is left of the dead, and what is past its time.

use crate::failed::Failed;
use crate::volume_ref::VolumeRef;
use serde::Deserialize;
use serde::Serialize;
use volhook_core::names::ContainerId;

/// Asks for what is left over to be done away with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// Only say whose leases would be given back.
    pub dry_run: bool,
}

/// What was done away with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// The dead whose leases were given back.
    pub leases: Vec<GivenBack>,
    /// Files of history that nobody wants any more.
    pub history: Vec<Forgotten>,
    /// Removed volumes that were deleted for good.
    pub deleted: Vec<VolumeRef>,
    /// What could not be done; everything else was.
    pub failed: Vec<Failed>,
}

/// Somebody dead whose leases were given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenBack {
    /// The container or command.
    pub container: ContainerId,
    /// Its start.
    pub attempt: String,
    /// What proves that it is dead.
    pub evidence: String,
}

/// A file of the journal's history that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Its name in the journal's folder.
    pub name: String,
    /// Its length in bytes, with what belonged to it.
    pub bytes: u64,
}
