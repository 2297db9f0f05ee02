//! The container for which a plan is made: what is known of it, what it claims, and what was proposed for it.

use jiff::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use volhook_core::claims::Claim;
use volhook_core::claims::SteppedBack;
use volhook_core::claims::StorageWish;
use volhook_core::claims::Wishes;
use volhook_core::decision::Attachment;
use volhook_core::decision::ContainerInfo;
use volhook_core::decision::PodState;
use volhook_core::image::ImageIdentity;
use volhook_core::last_step::WhyFolders;
use volhook_core::lease::LeaseTable;
use volhook_core::names::ContainerId;
use volhook_core::names::Pod;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::plan::Plan;
use volhook_core::resolved::Resolved;
use volhook_core::spec::SpecMount;
use volhook_core::stage::Stage;
use volhook_core::volume::Volume;

/// The container for which a plan is made.
pub(crate) struct Subject {
    /// This attempt to start it.
    pub attempt: String,
    /// When the plan is applied.
    pub stage: Stage,
    /// Its id.
    pub container: ContainerId,
    /// Whose it is.
    pub tenant: Tenant,
    /// What it asks for.
    pub wishes: Wishes,
    /// Its spec's mounts.
    pub mounts: Vec<SpecMount>,
    /// Whether ids differ inside it.
    pub user_namespace: bool,
    /// Why it has only the folders of its pod, if it has one.
    pub folders: Option<WhyFolders>,
}

/// What is claimed, settled against the spec, and where everything is.
pub(crate) struct Claimed {
    /// The claims that count.
    pub claims: Vec<Claim>,
    /// What is to hold the pod's volumes.
    pub storages: Vec<StorageWish>,
    /// The container's image, where it belongs to a pod.
    pub pod: PodFacts,
    /// Whether a policy means everything in the container to be kept.
    pub keeps_all: bool,
    /// Remarks of the policies.
    pub remarks: Vec<String>,
    /// Claims that stepped back.
    pub stepped_back: Vec<SteppedBack>,
    /// Where targets and spec mounts really are, by path as written.
    pub resolved: BTreeMap<String, Result<Resolved, String>>,
    /// When that was.
    pub now: Timestamp,
    /// The uuid of a storage that begins anew: the same, however often a plan is made.
    pub fresh: String,
}

/// A plan, and what the world looked like when plugins were asked.
pub(crate) struct Proposal {
    /// The plan.
    pub plan: Plan,
    /// The volumes of the plan.
    pub volumes: BTreeMap<VolumeId, Volume>,
    /// The attempts that held each volume.
    pub seen: BTreeMap<VolumeId, BTreeSet<String>>,
    /// What the drivers answered, to tell whether asking again changes anything.
    pub answers: Vec<Attachment>,
}

/// The attempts that hold each of `volumes`.
pub(crate) fn holders<'a>(
    table: &LeaseTable,
    volumes: impl Iterator<Item = &'a VolumeId>,
) -> BTreeMap<VolumeId, BTreeSet<String>> {
    volumes
        .map(|id| (id.clone(), table.holders(id).map(|(grant, _)| grant.attempt.clone()).collect()))
        .collect()
}

/// What is known of a container's pod and its image.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodFacts {
    /// The container's image.
    pub image: ImageIdentity,
    /// What is called so that has the pod's volumes, if there is such a storage: its policy may want another name by now.
    pub storage: Option<VolumeId>,
    /// The state of that storage.
    pub state: Option<PodState>,
    /// Why no overlay can lie over the image, if there is no storage yet.
    pub no_overlay: Option<String>,
}

impl Subject {
    /// The pod that it belongs to.
    pub(crate) fn pod(&self) -> Option<&Pod> {
        self.wishes.pod()
    }

    /// What plugins are told of it.
    pub(crate) fn info(&self) -> ContainerInfo {
        ContainerInfo {
            id: self.container.to_string(),
            tenant: self.tenant.to_string(),
            pod: self.pod().map(ToString::to_string),
        }
    }
}
