//! Why there is no plan, and what a person can do about it.

use crate::decision::Sharing;
use crate::names::Command;
use crate::names::ContainerId;
use crate::names::Pod;
use crate::names::Target;
use crate::names::VolumeId;

/// Why no plan can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The target leads nowhere inside the root filesystem.
    #[error("target {target:?} of volume {volume:?} cannot be used: {reason}")]
    Target {
        /// The volume.
        volume: VolumeId,
        /// The target.
        target: Target,
        /// Why not.
        reason: String,
    },
    /// The volume exists with another driver than the claim names.
    #[error("volume {volume:?} has driver {has}, and {claim} asks for driver {wants}")]
    OtherDriver {
        /// The volume.
        volume: VolumeId,
        /// The driver that it has.
        has: String,
        /// The driver that was asked for.
        wants: String,
        /// The claim.
        claim: String,
    },
    /// The volume is seen through the changes of a pod to which the container does not belong.
    #[error(
        "volume {volume:?} lies over the image of the containers of pod {pod:?}, and {claim} is another's"
    )]
    OfOverlay {
        /// The volume.
        volume: VolumeId,
        /// Its pod.
        pod: Pod,
        /// The claim.
        claim: String,
    },
    /// The image's files would have to be copied for a container whose ids are others on the host.
    #[error("volume {volume:?} cannot be filled from the image of a container with a user namespace")]
    CopyForUsers {
        /// The volume.
        volume: VolumeId,
    },
    /// A path does not fit into a pod's storage.
    #[error("volume {volume:?} cannot lie in the storage of its pod: {reason}")]
    Place {
        /// The volume.
        volume: VolumeId,
        /// Why not.
        reason: String,
    },
    /// Someone else holds it.
    #[error("volume {volume:?} is held {} by {} (driver {driver})", held_how(*sharing), whom(container))]
    Busy {
        /// The volume.
        volume: VolumeId,
        /// Its driver.
        driver: String,
        /// The holder.
        container: ContainerId,
        /// How it is held.
        sharing: Sharing,
        /// Whether the image is seen through it, which is why it has one holder.
        overlay: bool,
    },
}

/// A holder in words.
#[must_use]
pub fn whom(container: &ContainerId) -> String {
    match container.command() {
        Some((Command::Populate, pid)) => format!("process {pid}, which fills it,"),
        Some((Command::Reset, pid)) => format!("process {pid}, which resets or removes it,"),
        Some((command, pid)) => format!("`volhook volume {}` (process {pid})", command.as_str()),
        None if container.is_command() => format!("{container}, a command of a later version,"),
        None => format!("container {container:?}"),
    }
}

fn held_how(sharing: Sharing) -> &'static str {
    match sharing {
        Sharing::Exclusive => "exclusively",
        Sharing::SingleWriter => "by its one writer,",
        Sharing::Shared => "in common",
    }
}

impl PlanError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Busy { sharing: Sharing::SingleWriter, .. } => {
                Some("stop that container, or claim the volume with readonly".to_owned())
            }
            Self::Busy { container, .. } if container.is_command() => Some(
                match container.command() {
                    Some((Command::Mount, _)) => "`volhook volume umount` gives it back",
                    _ => "try again when that command is done",
                }
                .to_owned(),
            ),
            Self::Busy { overlay: true, .. } => Some(
                "stop that container, or make the pod's volumes with population=copy, which containers share"
                    .to_owned(),
            ),
            Self::Busy { .. } => {
                Some("stop that container, or use driver local for a volume that containers share".to_owned())
            }
            Self::OtherDriver { has, .. } => {
                Some(format!("claim it with driver {has} or without one, or choose another name"))
            }
            Self::OfOverlay { pod, .. } => Some(format!(
                "let the container belong to pod {pod}, or make the pod's volumes with population=copy"
            )),
            Self::CopyForUsers { .. } => {
                Some("make the pod's volumes with population=overlay or population=empty".to_owned())
            }
            Self::Target { .. } | Self::Place { .. } => None,
        }
    }

    /// The volume at fault.
    #[must_use]
    pub fn volume(&self) -> &VolumeId {
        match self {
            Self::Target { volume, .. }
            | Self::OtherDriver { volume, .. }
            | Self::OfOverlay { volume, .. }
            | Self::CopyForUsers { volume }
            | Self::Place { volume, .. }
            | Self::Busy { volume, .. } => volume,
        }
    }
}
