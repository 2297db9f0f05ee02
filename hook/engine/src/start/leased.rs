//! Which volumes a container's leases will be on, before anybody is asked.

use crate::context::Context;
use crate::start::subject::Claimed;
use crate::start::subject::Subject;
use std::collections::BTreeMap;
use tracing::debug_span;
use volhook_core::decision::Backing;
use volhook_core::decision::Sharing;
use volhook_core::names::VolumeId;
use volhook_core::record::Step;
use volhook_core::volume::Volume;

/// The volumes on which a container with these claims takes leases: whoever holds one of them is judged. For a part of a pod
/// that is the volume in which it lies, also where the part is claimed by its name.
pub(crate) struct Leased {
    /// Their names, each once.
    pub volumes: Vec<VolumeId>,
    /// Those that are claimed by their names and were there, as they were then, unless the first container with something to copy
    /// has yet to come: whether it does is decided by who holds them.
    pub found: BTreeMap<VolumeId, Volume>,
}

impl Leased {
    /// Looks them up.
    pub(crate) fn by(context: &Context<'_>, subject: &Subject, claimed: &Claimed) -> Self {
        let _looking = context.enter(Step::Volumes, debug_span!("volumes"));
        let (mut volumes, mut found) = (Vec::new(), BTreeMap::new());
        for claim in &claimed.claims {
            let name = claim.storage.as_ref().unwrap_or(&claim.volume);
            let id = VolumeId { tenant: subject.tenant.clone(), name: name.clone() };
            let lies_in = match &claim.storage {
                Some(_) => claimed.pod.storage.clone(),
                // What cannot be looked up is told where it is needed.
                None => match context.store.find(&id) {
                    Ok(volume) => {
                        let settled = volume.filter(|volume| volume.copy_up.is_over());
                        found.extend(settled.map(|volume| (id.clone(), volume)));
                        None
                    }
                    Err(_) => context.store.find_part(&id).ok().flatten().map(|(storage, _)| storage.id),
                },
            };
            let leased = lies_in.unwrap_or(id);
            if !volumes.contains(&leased) {
                volumes.push(leased);
            }
        }
        Self { volumes, found }
    }

    /// Whether their drivers let everybody share them and need not be asked who does: then it makes no difference how many do.
    pub(crate) fn are_shared(&self) -> bool {
        // A device is one container's, and a pod's storage is laid over an image, whatever the drivers say.
        let is_shared = |volume: &Volume| {
            volume.sharing == Some(Sharing::Shared)
                && volume.storage.is_none()
                && !matches!(volume.backing, Backing::Device(_))
        };
        let shares = |id| self.found.get(id).is_some_and(is_shared);
        self.volumes.iter().all(shares)
    }
}
