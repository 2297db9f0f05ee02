//! The volumes of a pod, which are directories of its storage.

use crate::decision::Access;
use crate::decision::EntryKind;
use crate::decision::Population;
use crate::last_step::PodRoot;
use crate::last_step::WhyFolders;
use crate::names::SubPath;
use crate::names::Target;
use crate::names::VolumeId;
use crate::plan::Decided;
use crate::plan::Facts;
use crate::plan::Layer;
use crate::plan::Note;
use crate::plan::Plan;
use crate::plan::PlanError;
use crate::plan::PlannedMount;
use crate::plan::PlannedPart;
use crate::plan::is_below;
use crate::spec::SpecMount;
use crate::stage::Apply;
use crate::volume::Part;
use crate::volume::PodStorage;

/// A volume of a pod: `mount` becomes that of a directory of the storage, which has to be made if it is not there yet.
pub(super) fn plan_part(
    facts: &Facts<'_>,
    one: &Decided,
    storage: &PodStorage,
    mount: &mut PlannedMount,
) -> Result<Option<PlannedPart>, PlanError> {
    let volume = || VolumeId { tenant: facts.tenant.clone(), name: one.claim.volume.clone() };
    let bad = |reason: String| PlanError::Place { volume: volume(), reason };
    let overlay = storage.population == Population::Overlay;
    if let Some(member) = &one.volume.pod
        && overlay
        && facts.pod != Some(&member.pod)
    {
        let claim = one.claim.origin.to_string();
        return Err(PlanError::OfOverlay { volume: volume(), pod: member.pod.clone(), claim });
    }
    let known = match &one.claim.member {
        Some(member) => storage.member(&member.member),
        None => storage.parts.iter().find(|part| part.name == one.claim.volume),
    };
    let (part, new) = match (known, &one.claim.member) {
        (Some(part), _) => (part.clone(), false),
        (None, Some(member)) => {
            let path = Target::new(&mount.resolved.path).map_err(|error| bad(error.to_string()))?;
            let (name, member) = (one.claim.volume.clone(), member.member.clone());
            (Part { name, member, path, created: facts.now }, true)
        }
        (None, None) => return Err(bad("it is none of its parts".to_owned())),
    };
    // A claim by name may have any target.
    let at_its_own = one.claim.member.is_some() || one.claim.target == part.path;
    let mut place = if overlay && at_its_own {
        // Where the image has it now: the overlay lies over that.
        mount.resolved.path.trim_start_matches('/').to_owned()
    } else {
        part.place(storage.population)
    };
    let kind = match &mount.subpath {
        Some((below, kind)) => {
            place = format!("{place}/{}", below.as_str());
            *kind
        }
        None => EntryKind::Directory,
    };
    mount.subpath = Some((SubPath::new(&place).map_err(|error| bad(error.to_string()))?, kind));
    mount.layer = if overlay { Layer::Overlay } else { Layer::Content };
    mount.apply = Apply::Inject;
    mount.part = Some(part.name.clone());
    let copy = storage.population == Population::Copy && !one.claim.no_copy;
    if new && copy && facts.user_namespace {
        // Its files belong to other ids on the host than in the volume, which has the container's.
        return Err(PlanError::CopyForUsers { volume: volume() });
    }
    Ok(new.then(|| PlannedPart { storage: one.volume.id.clone(), part, copy }))
}

/// An engine's anonymous volumes below a pod's volume give way to it: what is in them would be lost with the
/// container.
pub(super) fn covers(mount: &PlannedMount, spec_mounts: &[(String, SpecMount)]) -> Vec<String> {
    spec_mounts
        .iter()
        .filter(|(at, spec)| spec.is_anonymous_volume() && is_below(at, &mount.resolved.path))
        .map(|(at, _)| at.clone())
        .collect()
}

/// Whether the pod's overlay becomes the container's root, where everything in it is meant to be kept; and a remark where
/// what is made at `/` is not.
pub(super) fn plan_root(facts: &Facts<'_>, plan: &mut Plan) {
    if !facts.keeps_all {
        return;
    }
    let Some(part) = plan.mounts.iter().find(|mount| mount.part.is_some() && !mount.origin.is_explicit())
    else {
        return;
    };
    let storage = part.volume.clone();
    let lease = plan.leases.iter().find(|lease| lease.volume == storage);
    let is_writable = lease.is_some_and(|lease| lease.access == Access::ReadWrite);
    let why = if part.layer == Layer::Overlay {
        let why = facts.folders.or((!is_writable).then_some(WhyFolders::OnlyRead));
        plan.root = Some(why.map_or(PodRoot::Overlay, PodRoot::Folders));
        why.map(|why| why.to_string())
    } else {
        Some("the pod has folders of its own, and is no overlay over the image".to_owned())
    };
    plan.notes.extend(why.map(|why| not_kept(storage, &why)));
}

/// The remark that what is made at `/` is not kept.
fn not_kept(volume: VolumeId, why: &str) -> Note {
    Note { volume, text: format!("what is made at / itself is not kept: {why}") }
}

/// Has a container keep only the folders of its pod, because of what was seen when its mounts were made, with a remark.
pub fn keep_folders(plan: &mut Plan, why: WhyFolders) -> Option<Note> {
    plan.root = Some(PodRoot::Folders(why));
    let part = plan.mounts.iter().find(|mount| mount.part.is_some())?;
    Some(not_kept(part.volume.clone(), &why.to_string()))
}

/// A new storage whose parts are seen through an overlay has them from its creation on: nothing is to be copied.
pub(super) fn made_with_their_storage(plan: &mut Plan) {
    for volume in &mut plan.create {
        let Some(storage) = &mut volume.storage else { continue };
        if storage.population != Population::Overlay {
            continue;
        }
        let (own, others) = plan.parts.drain(..).partition(|planned| planned.storage == volume.id);
        plan.parts = others;
        let own: Vec<PlannedPart> = own;
        storage.parts.extend(own.into_iter().map(|planned| planned.part));
    }
}

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;
