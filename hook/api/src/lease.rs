//! Leases: who holds what, and how it is given back by hand.

use crate::volume_ref::VolumeRef;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use volhook_core::names::ContainerId;
use volhook_core::names::Target;
use volhook_core::names::Tenant;

/// Asks who holds what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leases {
    /// Whether it is wanted how each stands: that looks at processes.
    pub judged: bool,
}

/// Whose end is that of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "HolderKeys", into = "HolderKeys")]
pub enum Holder {
    /// A process: a container's first one, or a command.
    Process {
        /// Its number.
        pid: i32,
    },
    /// A container that is not made yet: its spec is planned.
    Planned,
    /// A mount on the host, which outlasts the command that made it.
    HostMount {
        /// The number that the command had.
        pid: i32,
    },
}

/// The keys of a [`Holder`], each of which is always there.
#[derive(Serialize, Deserialize)]
struct HolderKeys {
    kind: HolderKind,
    pid: Option<i32>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum HolderKind {
    Process,
    Planned,
    HostMount,
}

impl From<Holder> for HolderKeys {
    fn from(holder: Holder) -> Self {
        let (kind, pid) = match holder {
            Holder::Process { pid } => (HolderKind::Process, Some(pid)),
            Holder::Planned => (HolderKind::Planned, None),
            Holder::HostMount { pid } => (HolderKind::HostMount, Some(pid)),
        };
        Self { kind, pid }
    }
}

impl TryFrom<HolderKeys> for Holder {
    type Error = &'static str;

    fn try_from(keys: HolderKeys) -> Result<Self, Self::Error> {
        match (keys.kind, keys.pid) {
            (HolderKind::Process, Some(pid)) => Ok(Self::Process { pid }),
            (HolderKind::Planned, _) => Ok(Self::Planned),
            (HolderKind::HostMount, Some(pid)) => Ok(Self::HostMount { pid }),
            (HolderKind::Process | HolderKind::HostMount, None) => {
                Err("a holder that had a process has no pid")
            }
        }
    }
}

/// How a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Its holder has it.
    Held,
    /// Its holder is not there yet.
    Pending,
    /// Its holder is gone, and something that it had is not.
    Dying,
    /// Nothing is left of its holder.
    Dead,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "held",
            Self::Pending => "pending",
            Self::Dying => "dying",
            Self::Dead => "dead",
        })
    }
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
    /// How it stands; nothing where that was not asked for.
    pub state: Option<Standing>,
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

#[cfg(test)]
mod tests {
    use super::Holder;
    use serde_json::json;

    #[test]
    fn a_holder_has_the_same_keys_whoever_it_is() {
        for (holder, keys) in [
            (Holder::Process { pid: 4711 }, json!({"kind": "process", "pid": 4711})),
            (Holder::Planned, json!({"kind": "planned", "pid": null})),
            (Holder::HostMount { pid: 4711 }, json!({"kind": "host_mount", "pid": 4711})),
        ] {
            assert_eq!(serde_json::to_value(holder).unwrap(), keys);
            assert_eq!(serde_json::from_value::<Holder>(keys).unwrap(), holder);
        }
        assert!(serde_json::from_value::<Holder>(json!({"kind": "process", "pid": null})).is_err());
    }
}
