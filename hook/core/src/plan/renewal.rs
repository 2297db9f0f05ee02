//! What becomes of a pod's storage that meets another image: it begins anew, or is brought to that.

use crate::decision::ImageState;
use crate::decision::Population;
use crate::decision::Sharing;
use crate::image::ImageIdentity;
use crate::lease::LeasedVolume;
use crate::names::Pod;
use crate::names::VolumeId;
use crate::plan::Decided;
use crate::plan::Facts;
use crate::plan::Plan;
use crate::plan::PlanError;
use crate::plan::PlannedPart;
use crate::plan::busy;
use crate::volume::CopyUp;
use crate::volume::PodStorage;
use crate::volume::Volume;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// A pod's storage that goes to the trash, because its image changed, and the one that takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedRenewal {
    /// The pod.
    pub pod: Pod,
    /// The storage.
    pub storage: VolumeId,
    /// The uuid of what goes to the trash.
    pub uuid: String,
    /// The image that it belongs to.
    pub from: ImageIdentity,
    /// The container's.
    pub to: ImageIdentity,
    /// What takes its place. It has the parts that are seen through an overlay.
    pub volume: Volume,
    /// The parts that are made, and filled from the image, before it does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PlannedPart>,
}

/// A pod's storage that is said to belong to another image from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFollow {
    /// The pod.
    pub pod: Pod,
    /// The storage.
    pub storage: VolumeId,
    /// Its uuid.
    pub uuid: String,
    /// The image that it belongs to so far.
    pub from: ImageIdentity,
    /// The container's.
    pub to: ImageIdentity,
}

/// What becomes of a storage that meets another image than its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Met {
    /// It begins anew; what it is so far.
    Renew(Box<Volume>),
    /// It is kept, and belongs to this image from now on.
    Follow(ImageIdentity),
}

/// A pod's storage as it meets the image `to` of a container: as it will be, and what becomes of it, if `to` is another
/// image than its own. `renew` says whether its policy wants it to begin anew then, as the volume with the uuid `fresh`.
#[must_use]
pub fn meet(
    storage: Volume,
    to: &ImageIdentity,
    renew: bool,
    fresh: &str,
    now: Timestamp,
) -> (Volume, Option<Met>) {
    let recorded = storage.storage.as_ref().and_then(|parts| parts.image.as_ref());
    if recorded.is_none_or(|recorded| recorded.beside(to) != ImageState::Changed) {
        return (storage, None);
    }
    if renew {
        (begun_anew(&storage, Some(to.clone()), fresh, now), Some(Met::Renew(Box::new(storage))))
    } else {
        (storage, Some(Met::Follow(to.clone())))
    }
}

/// A storage without anything in it that is otherwise like `old`, and belongs to `image`.
#[must_use]
pub fn begun_anew(old: &Volume, image: Option<ImageIdentity>, uuid: &str, now: Timestamp) -> Volume {
    let population = old.storage.as_ref().map_or(Population::Overlay, |storage| storage.population);
    let storage = PodStorage { population, parts: Vec::new(), image, offered: None };
    Volume {
        uuid: uuid.to_owned(),
        storage: Some(storage),
        renamed_from: None,
        copy_up: CopyUp::Over,
        created: now,
        ..old.clone()
    }
}

/// Plans what becomes of the storage of a claim that meets another image.
pub(super) fn plan_met(facts: &Facts<'_>, one: &Decided, plan: &mut Plan) -> Result<(), PlanError> {
    let (Some(met), Some(member)) = (&one.met, &one.volume.pod) else { return Ok(()) };
    let (id, pod) = (&one.volume.id, member.pod.clone());
    match met {
        Met::Renew(old) if plan.renew.iter().all(|renewal| renewal.storage != *id) => {
            // Also who may share it: what they have is about to go.
            if let Some((grant, held)) = facts.table.holders(id).next() {
                return Err(busy(plan, grant, held));
            }
            let image = |volume: &Volume| {
                volume.storage.as_ref().and_then(|storage| storage.image.clone()).unwrap_or_default()
            };
            plan.renew.push(PlannedRenewal {
                pod,
                storage: id.clone(),
                uuid: old.uuid.clone(),
                from: image(old),
                to: image(&one.volume),
                volume: one.volume.clone(),
                parts: Vec::new(),
            });
        }
        Met::Follow(to) if plan.follow.iter().all(|follow| follow.storage != *id) => {
            let from = one.volume.storage.as_ref().and_then(|storage| storage.image.clone());
            plan.follow.push(PlannedFollow {
                pod,
                storage: id.clone(),
                uuid: one.volume.uuid.clone(),
                from: from.unwrap_or_default(),
                to: to.clone(),
            });
        }
        Met::Renew(_) | Met::Follow(_) => {}
    }
    Ok(())
}

/// The parts of a storage that begins anew are made with it: none is planned besides.
pub(super) fn made_with_their_renewal(plan: &mut Plan) {
    for renewal in &mut plan.renew {
        let (own, others) = plan.parts.drain(..).partition(|planned| planned.storage == renewal.storage);
        plan.parts = others;
        renewal.parts = own;
        if let Some(storage) = &mut renewal.volume.storage
            && storage.population == Population::Overlay
        {
            storage.parts.extend(renewal.parts.drain(..).map(|planned| planned.part));
        }
    }
}

impl Plan {
    /// The leases as they are until all mounts are made: a storage that begins anew is nobody else's until then, so that
    /// it can be taken back.
    #[must_use]
    pub fn first_leases(&self) -> Vec<LeasedVolume> {
        let alone = |lease: &LeasedVolume| {
            let is_renewed = self.renew.iter().any(|renewal| renewal.storage == lease.volume);
            let sharing = if is_renewed { Sharing::Exclusive } else { lease.sharing };
            LeasedVolume { sharing, ..lease.clone() }
        };
        self.leases.iter().map(alone).collect()
    }
}
