//! What kind of failure something is, for everybody who decides by it: people by an exit code, engines by a text.

use serde::Deserialize;
use serde::Serialize;

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Failed or refused for another reason than those below.
    Failed,
    /// It was asked for in a way that makes no sense.
    Usage,
    /// There is no such volume.
    NoSuchVolume,
    /// There is no such pod.
    NoSuchPod,
    /// There is no such plugin.
    NoSuchPlugin,
    /// There is no such event, or none any more.
    NoSuchEvent,
    /// Somebody holds the volume.
    Held,
    /// The name is taken.
    Exists,
    /// It was not done within the time that there was.
    TooLate,
    /// There is no room for it: blocks, inodes or a quota.
    NoRoom,
    /// The configuration is not usable.
    Config,
    /// A bug in volhook.
    Internal,
    /// Stopped by the signal of this number.
    Interrupted(u8),
}

impl Kind {
    /// The exit code of a command: 1 where nothing else is documented, 70 as `EX_SOFTWARE` (sysexits.h), 128 and its
    /// number for a signal, as shells tell it.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::NoSuchVolume | Self::NoSuchPod | Self::NoSuchEvent => 3,
            Self::Internal => 70,
            Self::Interrupted(signal) => 128 + signal,
            Self::Failed
            | Self::NoSuchPlugin
            | Self::Held
            | Self::Exists
            | Self::TooLate
            | Self::NoRoom
            | Self::Config => 1,
        }
    }

    /// The words by which docker and its tools know a failure of this kind again (moby, `daemon/volume/service/errors.go`);
    /// none where it has no kind of its own.
    #[must_use]
    pub fn docker_text(self) -> Option<&'static str> {
        match self {
            Self::NoSuchVolume => Some("no such volume"),
            Self::Held => Some("volume is in use"),
            Self::Exists => Some("volume name must be unique"),
            Self::NoSuchPlugin => Some("plugin not found"),
            Self::Failed
            | Self::Usage
            | Self::NoSuchPod
            | Self::NoSuchEvent
            | Self::TooLate
            | Self::NoRoom
            | Self::Config
            | Self::Internal
            | Self::Interrupted(_) => None,
        }
    }
}
