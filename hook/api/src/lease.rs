//! Leases: who holds what, and how it is given back by hand.

use crate::volume_ref::VolumeRef;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use volhook_core::names::ContainerId;
use volhook_core::names::Target;
use volhook_core::names::Tenant;

/// Asks who holds what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// Whether it is wanted how each stands: that looks at processes.
    pub judged: bool,
}

/// One volume that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The volume.
    pub volume: VolumeRef,
    /// Whose it is.
    pub tenant: Tenant,
    /// Distinguishes it from an earlier volume of the same name.
    pub uuid: String,
    /// The container or command that holds it.
    pub container: ContainerId,
    /// The driver that decided.
    pub driver: String,
    /// `rw` or `ro`.
    pub access: String,
    /// `shared`, `single-writer` or `exclusive`.
    pub sharing: String,
    /// Where it is in the container.
    pub target: Option<Target>,
    /// The process whose end is the lease's; none while the container is not made.
    pub pid: Option<i32>,
    /// The start of the container whose leases are taken and given back together.
    pub attempt: String,
    /// Since when.
    pub since: Timestamp,
    /// `held`, `pending`, `dying` or `dead`; nothing where that was not asked for.
    pub state: Option<String>,
    /// What shows that.
    pub evidence: Option<String>,
}

impl Lease {
    /// Whether both are one lease, however it stands.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let unjudged = |lease: &Self| Self { state: None, evidence: None, ..lease.clone() };
        unjudged(self) == unjudged(other)
    }
}

/// Asks for what a container holds of a volume to be given back, though nobody can prove that it is dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Break {
    /// The volume.
    pub volume: VolumeRef,
    /// Who holds it.
    pub container: ContainerId,
}

/// What would be given back, as it stood when somebody looked: only that is broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breakable {
    /// The volume.
    pub volume: VolumeRef,
    /// Who holds it.
    pub container: ContainerId,
    /// The leases, of one start of the container or of several.
    pub leases: Vec<Lease>,
}
