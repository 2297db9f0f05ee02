//! What happened: events, and the story of one container.

use crate::lease::Standing;
use crate::volume_ref::VolumeRef;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use volhook_core::names::ContainerId;
use volhook_core::names::Tenant;

/// Something that happened, to one volume at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The boot that it belongs to; null for what outlives a boot. With the number, this is the event's identity: after a
    /// power cut, numbers of one boot can come again in the next.
    pub boot: Option<String>,
    /// Its place in the story: it rises, and what was written at once has one number.
    pub seq: u64,
    /// The wall clock then.
    pub time: Timestamp,
    /// What happened, in one word.
    pub kind: String,
    /// The volume that it is about.
    pub volume: Option<VolumeRef>,
    /// Whose that is.
    pub tenant: Option<Tenant>,
    /// The container that it is about, or the command.
    pub container: Option<ContainerId>,
    /// What else there is to say, for people.
    pub what: String,
}

/// Asks for the story of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explain {
    /// The container; it may be long gone.
    pub container: ContainerId,
}

/// The story of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// The container.
    pub container: ContainerId,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// What it holds now.
    pub held: Vec<Held>,
}

/// What one start of a container holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The start.
    pub attempt: String,
    /// The volumes.
    pub volumes: Vec<VolumeRef>,
    /// Since when.
    pub since: Timestamp,
    /// How that stands.
    pub state: Standing,
    /// What shows that.
    pub evidence: String,
}
