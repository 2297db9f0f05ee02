//! When a plan is applied, and how each of its mounts comes into the container.

use serde::Deserialize;
use serde::Serialize;

/// When the plan is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Before the runtime has read `config.json`.
    Spec,
    /// The runtime has made its mounts and not yet pivoted.
    Live,
}

/// How a mount comes into the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Apply {
    /// As an entry of the spec's `mounts`.
    Spec,
    /// Into the container's mount namespace, by a hook.
    Inject,
}
