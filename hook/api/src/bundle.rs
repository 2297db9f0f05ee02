//! OCI bundles, prepared and looked at.

use serde::Deserialize;
use serde::Serialize;
use std::path::PathBuf;
use volhook_core::names::ContainerId;

/// Asks what would be done for a bundle's container; the answer is a [`Plan`](volhook_core::plan::Plan).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// The folder with `config.json`.
    pub bundle: PathBuf,
    /// The container's id, where it matters to a driver.
    pub container: Option<ContainerId>,
}

/// Asks for volhook's hook entries to be in a bundle's `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Install {
    /// The folder with `config.json`.
    pub bundle: PathBuf,
    /// When containers get their volumes.
    pub stage: LiveStage,
    /// Seconds after which the runtime gives up on an entry.
    pub timeout: u32,
}

/// A stage at which a container is there, and has not started yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LiveStage {
    /// `prestart`.
    Prestart,
    /// `createRuntime`.
    CreateRuntime,
}

impl LiveStage {
    /// Its name in specs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
        }
    }
}

/// A bundle that has the entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Its `config.json`.
    pub file: PathBuf,
    /// Whether that was written; else it had them already.
    pub written: bool,
    /// Whether there is an entry for the last step of a pod's start among them.
    pub has_last_step: bool,
}
