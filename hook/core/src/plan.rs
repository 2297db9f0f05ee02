//! The plan: the exact edits for one container. Data, with nothing left to decide.
//!
//! [`plan`] is a pure function of everything that was found out; it is applied either to the spec
//! ([`crate::rewrite`]) or to the container's mount namespace, and [`crate::check`] looks at it once more
//! before either happens.

mod error;
mod parts;
mod renewal;

pub use error::PlanError;
pub use error::whom;
pub use parts::keep_folders;
pub use renewal::Met;
pub use renewal::PlannedFollow;
pub use renewal::PlannedRenewal;
pub use renewal::begun_anew;
pub use renewal::meet;

use crate::claims::Claim;
use crate::claims::Origin;
use crate::claims::SteppedBack;
use crate::decision::Access;
use crate::decision::Attachment;
use crate::decision::Backing;
use crate::decision::Creation;
use crate::decision::EntryKind;
use crate::decision::MountFlags;
use crate::decision::Pairs;
use crate::decision::Population;
use crate::decision::Sharing;
use crate::last_step::PodRoot;
use crate::last_step::WhyFolders;
use crate::lease::Grant;
use crate::lease::LeaseTable;
use crate::lease::LeasedVolume;
use crate::lease::compatible;
use crate::names::ContainerId;
use crate::names::Pod;
use crate::names::SubPath;
use crate::names::Target;
use crate::names::Tenant;
use crate::names::VolumeId;
use crate::names::VolumeName;
use crate::names::is_below_or_at;
use crate::record::LeaseRecord;
use crate::record::PlannedVolume;
use crate::resolved::Resolved;
use crate::spec::SpecMount;
use crate::spec::VOLHOOK_TYPE;
use crate::spec::mount_above;
use crate::stage::Apply;
use crate::stage::Stage;
use crate::volume::CopyUp;
use crate::volume::Part;
use crate::volume::PodMember;
use crate::volume::PodStorage;
use crate::volume::SIDECAR_FORMAT;
use crate::volume::Volume;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// What of a volume is mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// What is in it.
    #[default]
    Content,
    /// The container's root filesystem with what is in it as changes above (overlayfs).
    Overlay,
}

/// A volume that a pod's storage gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPart {
    /// The storage.
    pub storage: VolumeId,
    /// The volume.
    pub part: Part,
    /// Whether the image's files are copied into it.
    pub copy: bool,
}

/// A volume that is given what the image has at its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCopyUp {
    /// The volume.
    pub volume: VolumeId,
    /// The directory inside the root filesystem.
    pub from: String,
}

/// One mount of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMount {
    /// Who asked for it.
    pub origin: Origin,
    /// The volume.
    pub volume: VolumeId,
    /// The target as claimed.
    pub target: Target,
    /// Where that is.
    pub resolved: Resolved,
    /// What holds the volume's data.
    pub backing: Backing,
    /// With whom the image may be mounted at the same time.
    pub sharing: Sharing,
    /// The name of the pod's volume that this is, where `volume` is the pod's storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<VolumeName>,
    /// What of the volume is mounted.
    #[serde(default)]
    pub layer: Layer,
    /// The part of that to mount, and what to create there if it is missing.
    pub subpath: Option<(SubPath, EntryKind)>,
    /// Mounts of the spec below the target, by where they are inside the root filesystem, that do not appear on top of
    /// this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub covers: Vec<String>,
    /// Whether the container may write.
    pub access: Access,
    /// Restrictions.
    pub flags: MountFlags,
    /// Who applies it.
    pub apply: Apply,
    /// Whether the spec mounts something over or above the target, so that only the container's own namespace
    /// shows where the target is and what is there. [`look_again`] has to be called before it is mounted.
    #[serde(default)]
    pub unseen: bool,
}

impl PlannedMount {
    /// The volume as people call it: the pod's volume rather than the storage in which that lies.
    #[must_use]
    pub fn shown(&self) -> VolumeId {
        match &self.part {
            Some(name) => VolumeId { tenant: self.volume.tenant.clone(), name: name.clone() },
            None => self.volume.clone(),
        }
    }
}

/// A remark for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The volume that it is about.
    pub volume: VolumeId,
    /// The remark.
    pub text: String,
}

/// What will be done for one container, in this order: create, fill, build what begins anew, lease, put that in its place,
/// follow, mount. What fails on the way is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Identifies this attempt to start the container.
    pub attempt: String,
    /// When it is applied.
    pub stage: Stage,
    /// The container.
    pub container: ContainerId,
    /// Whose it is.
    pub tenant: Tenant,
    /// The pod that it belongs to.
    pub pod: Option<Pod>,
    /// Volumes to create.
    pub create: Vec<Volume>,
    /// Volumes of the pod that its storage gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PlannedPart>,
    /// Volumes to fill from the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copy_up: Vec<PlannedCopyUp>,
    /// Storages of the pod that go to the trash, and what takes their places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renew: Vec<PlannedRenewal>,
    /// Storages of the pod that belong to another image from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub follow: Vec<PlannedFollow>,
    /// What of its pod's overlay the container has, where that keeps everything in it. With either, folders that only the pod
    /// has are mounted as well, and folders that it has replaced by something else are not. Those that it has removed are made
    /// again where there are only folders. What the pod has made of its folders may also make it only folders in the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PodRoot>,
    /// Leases to take, one for each volume.
    pub leases: Vec<LeasedVolume>,
    /// Mounts, parents before what is nested in them.
    pub mounts: Vec<PlannedMount>,
    /// Remarks.
    pub notes: Vec<Note>,
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty()
    }

    /// The record of this plan for the journal.
    #[must_use]
    pub fn record(&self) -> LeaseRecord {
        let volume = |mount: &PlannedMount| {
            let lease = self.leases.iter().find(|lease| lease.volume == mount.volume)?;
            Some(PlannedVolume {
                origin: mount.origin.clone(),
                volume: mount.shown(),
                driver: lease.driver.clone(),
                target: mount.target.clone(),
                path: (mount.resolved.path != mount.target.as_str()).then(|| mount.resolved.path.clone()),
                subpath: mount
                    .subpath
                    .as_ref()
                    .filter(|_| mount.part.is_none())
                    .map(|(path, _)| path.clone()),
                access: mount.access,
                sharing: mount.sharing,
                apply: mount.apply,
            })
        };
        LeaseRecord::Planned {
            attempt: self.attempt.clone(),
            container: self.container.clone(),
            stage: self.stage,
            pod: self.pod.clone(),
            root: self.root,
            volumes: self.mounts.iter().filter_map(volume).collect(),
        }
    }

    /// Whether some mount has to be injected into the container's mount namespace.
    #[must_use]
    pub fn injects(&self) -> bool {
        self.mounts.iter().any(|mount| mount.apply == Apply::Inject)
    }
}

/// A claim with what was found and decided about its volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The claim.
    pub claim: Claim,
    /// The volume: as its sidecar says, or as it will be.
    pub volume: Volume,
    /// Whether it has to be created.
    pub new: bool,
    /// What becomes of it, where it is a pod's storage that meets another image. `volume` is as it will be.
    pub met: Option<Met>,
    /// Whether the image has something at its place that it may still be given.
    pub has_source: bool,
    /// What the driver granted.
    pub attachment: Attachment,
}

/// Everything that the planner is told.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Identifies the attempt.
    pub attempt: &'a str,
    /// When the plan will be applied.
    pub stage: Stage,
    /// The container.
    pub container: &'a ContainerId,
    /// Whose it is.
    pub tenant: &'a Tenant,
    /// The pod that it belongs to.
    pub pod: Option<&'a Pod>,
    /// The spec's mounts.
    pub mounts: &'a [SpecMount],
    /// Whether ids differ inside the container.
    pub user_namespace: bool,
    /// Whether everything in the container is meant to be kept ([`crate::last_step::keeps_all`]).
    pub keeps_all: bool,
    /// Why the container cannot have its pod's overlay as its root.
    pub folders: Option<WhyFolders>,
    /// Where targets and spec mounts really are, by path as written.
    pub resolved: &'a BTreeMap<String, Result<Resolved, String>>,
    /// Who holds what; leases that are provably dead are not in it.
    pub table: &'a LeaseTable,
    /// Claims that stepped back.
    pub stepped_back: &'a [SteppedBack],
    /// Remarks of the policies.
    pub remarks: &'a [String],
    /// The time.
    pub now: Timestamp,
}

/// The record of a volume that a driver agreed to create.
#[must_use]
pub fn new_volume(
    id: VolumeId,
    labels: &Pairs,
    member: Option<&PodMember>,
    driver: &str,
    creation: Creation,
    uuid: String,
    now: Timestamp,
) -> Volume {
    let copy_up = match creation.backing {
        Backing::Directory(_) | Backing::Image(_) => CopyUp::Due,
        Backing::Tmpfs(_) | Backing::HostPath(_) | Backing::Device(_) => CopyUp::Over,
    };
    Volume {
        format: SIDECAR_FORMAT,
        renamed_from: None,
        uuid,
        id,
        driver: driver.to_owned(),
        backing: creation.backing,
        options: creation.options,
        labels: labels.clone(),
        limit: creation.limit,
        sharing: creation.sharing,
        pod: member.cloned(),
        storage: None,
        copy_up,
        created: now,
    }
}

/// Checks that a claim on an existing volume does not ask for another driver. Other options of a claim apply
/// at creation only.
///
/// # Errors
/// [`PlanError::OtherDriver`].
pub fn same_driver(claim: &Claim, volume: &Volume) -> Result<(), PlanError> {
    match &claim.driver {
        Some(wants) if *wants != volume.driver => Err(PlanError::OtherDriver {
            volume: volume.id.clone(),
            has: volume.driver.clone(),
            wants: wants.clone(),
            claim: claim.origin.to_string(),
        }),
        _ => Ok(()),
    }
}

/// The grants that stand in the way of `lease`.
pub fn conflicts<'a>(
    lease: &'a LeasedVolume,
    table: &'a LeaseTable,
) -> impl Iterator<Item = (&'a Grant, &'a LeasedVolume)> {
    table
        .holders(&lease.volume)
        .filter(|(_, held)| !compatible(lease.access, lease.sharing, held.access, held.sharing))
}

/// The error that says who is in the way.
#[must_use]
pub fn busy(plan: &Plan, grant: &Grant, held: &LeasedVolume) -> PlanError {
    let is_overlay = |mount: &PlannedMount| mount.volume == held.volume && mount.layer == Layer::Overlay;
    PlanError::Busy {
        volume: held.volume.clone(),
        driver: held.driver.clone(),
        container: grant.container.clone(),
        sharing: held.sharing,
        overlay: plan.mounts.iter().any(is_overlay),
    }
}

/// Makes the plan.
///
/// # Errors
/// [`PlanError`] for the first claim that cannot be met.
pub fn plan(facts: &Facts<'_>, decided: Vec<Decided>) -> Result<Plan, PlanError> {
    let mut plan = Plan {
        attempt: facts.attempt.to_owned(),
        stage: facts.stage,
        container: facts.container.clone(),
        tenant: facts.tenant.clone(),
        pod: facts.pod.cloned(),
        create: Vec::new(),
        parts: Vec::new(),
        copy_up: Vec::new(),
        renew: Vec::new(),
        follow: Vec::new(),
        root: None,
        leases: Vec::new(),
        mounts: Vec::new(),
        notes: notes(facts, &decided),
    };
    let spec_mounts = placed(facts.mounts, facts.resolved);
    for one in decided {
        let id = one.volume.id.clone();
        let access = narrower(one.claim.access, one.attachment.access);
        let mut mount = plan_mount(facts, &spec_mounts, &one, access)?;
        add_lease(&mut plan.leases, &one, access);
        renewal::plan_met(facts, &one, &mut plan)?;
        let part = match &one.volume.storage {
            Some(storage) => {
                mount.covers = parts::covers(&mount, &spec_mounts);
                parts::plan_part(facts, &one, storage, &mut mount)?
            }
            None => None,
        };
        let holder = facts.table.holders(&id).next();
        // What somebody began to copy is nobody's, and only whoever has the volume alone can begin anew.
        if let (CopyUp::Begun, Some((grant, held))) = (one.volume.copy_up, holder) {
            return Err(busy(&plan, grant, held));
        }
        if one.has_source && holder.is_none() && plan.copy_up.iter().all(|planned| planned.volume != id) {
            plan.copy_up.push(PlannedCopyUp { volume: id.clone(), from: mount.resolved.path.clone() });
        }
        if one.new && plan.create.iter().all(|volume| volume.id != id) {
            plan.create.push(one.volume);
        }
        plan.parts.extend(part);
        plan.mounts.push(mount);
    }
    share_as_leased(&mut plan);
    for lease in &plan.leases {
        if let Some((grant, held)) = conflicts(lease, facts.table).next() {
            return Err(busy(&plan, grant, held));
        }
    }
    sort(&mut plan.mounts);
    parts::plan_root(facts, &mut plan);
    parts::made_with_their_storage(&mut plan);
    renewal::made_with_their_renewal(&mut plan);
    Ok(plan)
}

fn notes(facts: &Facts<'_>, decided: &[Decided]) -> Vec<Note> {
    let back = facts.stepped_back.iter().map(|back| Note {
        volume: VolumeId { tenant: facts.tenant.clone(), name: back.volume.clone() },
        text: format!("not mounted on {}: {}", back.target, back.reason),
    });
    let drivers = decided.iter().flat_map(|one| {
        one.attachment.notes.iter().map(|text| Note { volume: one.volume.id.clone(), text: text.clone() })
    });
    let storages = decided.iter().filter(|one| one.volume.storage.is_some());
    let about = storages.map(|one| &one.volume.id).next();
    let remarks = about.into_iter().flat_map(|volume| {
        facts.remarks.iter().map(|text| Note { volume: volume.clone(), text: text.clone() })
    });
    remarks.chain(back).chain(drivers).collect()
}

/// The spec's mounts with where they really are, without those that only stand for a volume.
fn placed(
    mounts: &[SpecMount],
    resolved: &BTreeMap<String, Result<Resolved, String>>,
) -> Vec<(String, SpecMount)> {
    mounts
        .iter()
        .filter(|mount| mount.kind != VOLHOOK_TYPE)
        .map(|mount| match resolved.get(&mount.destination) {
            Some(Ok(resolved)) => (resolved.path.clone(), mount.clone()),
            _ => (mount.destination.clone(), mount.clone()),
        })
        .collect()
}

fn plan_mount(
    facts: &Facts<'_>,
    spec_mounts: &[(String, SpecMount)],
    one: &Decided,
    access: Access,
) -> Result<PlannedMount, PlanError> {
    let target = &one.claim.target;
    let fail =
        |reason: String| PlanError::Target { volume: one.volume.id.clone(), target: target.clone(), reason };
    let found = facts.resolved.get(target.as_str());
    let unseen = facts.stage == Stage::Spec && covered(target, found, spec_mounts);
    let (resolved, kind) = if unseen {
        let path = |found: &Resolved| mount_above(&found.path, spec_mounts);
        let above = found.and_then(|found| found.as_ref().ok()).and_then(path);
        if above.is_some_and(SpecMount::propagates) {
            return Err(fail(PROPAGATES.to_owned()));
        }
        let resolved = match found {
            Some(Ok(resolved)) => Resolved { kind: None, ..resolved.clone() },
            _ => Resolved { path: target.to_string(), kind: None, shared: false },
        };
        (resolved, EntryKind::Directory)
    } else {
        place(found, one.claim.subpath.is_some(), spec_mounts).map_err(fail)?
    };
    // Only a whole directory whose ids need no mapping can be expressed as a bind mount of the spec; contents
    // of a volume are the container's, so a path inside one is never handed to a runtime as text. Nor is a path of
    // the host: a symlink may stand in it by the time that the runtime gets there.
    let in_spec = facts.stage == Stage::Spec
        && one.volume.backing.is_directory()
        && one.claim.subpath.is_none()
        && !facts.user_namespace
        && !unseen;
    Ok(PlannedMount {
        origin: one.claim.origin.clone(),
        volume: one.volume.id.clone(),
        target: target.clone(),
        resolved,
        backing: one.volume.backing.clone(),
        sharing: one.attachment.sharing,
        part: None,
        layer: Layer::Content,
        subpath: one.claim.subpath.clone().map(|path| (path, kind)),
        covers: Vec::new(),
        access,
        flags: union(one.claim.flags, one.attachment.flags),
        apply: if in_spec { Apply::Spec } else { Apply::Inject },
        unseen,
    })
}

const PROPAGATES: &str =
    "it lies on a mount that propagates to the host (rshared), where the volume would stay behind";

/// Whether a mount of the spec will be at or above `target`, so that what was found there before the runtime
/// made its mounts is not what the container will have.
fn covered(
    target: &Target,
    found: Option<&Result<Resolved, String>>,
    spec_mounts: &[(String, SpecMount)],
) -> bool {
    let resolved = found.and_then(|found| found.as_ref().ok()).map_or(target.as_str(), |r| r.path.as_str());
    // As written too: the image may have a symlink where the spec mounts something.
    spec_mounts.iter().any(|(at, mount)| {
        at != "/" && is_below(resolved, at)
            || mount.destination != "/" && is_below(target.as_str(), &mount.destination)
    })
}

fn is_below(path: &str, ancestor: &str) -> bool {
    path != ancestor && is_below_or_at(path, ancestor)
}

/// Whether a volume can be mounted where a target was `found` to be, and as what: a directory, or a file for
/// part of a volume. The error is a reason.
fn place(
    found: Option<&Result<Resolved, String>>,
    has_subpath: bool,
    spec_mounts: &[(String, SpecMount)],
) -> Result<(Resolved, EntryKind), String> {
    let resolved = match found {
        Some(Ok(resolved)) => resolved.clone(),
        Some(Err(reason)) => return Err(reason.clone()),
        None => return Err("it was not looked up".to_owned()),
    };
    if Target::new(&resolved.path).is_err() {
        return Err(format!(
            "it leads to {}, which belongs to the kernel, the runtime or nobody",
            resolved.path
        ));
    }
    let above = mount_above(&resolved.path, spec_mounts);
    if resolved.shared || above.is_some_and(SpecMount::propagates) {
        return Err(PROPAGATES.to_owned());
    }
    if resolved.kind.is_none()
        && let Some(above) = above
        && above.read_only()
    {
        return Err(format!(
            "it does not exist inside the read-only mount {}, and cannot be created there",
            above.destination
        ));
    }
    match (has_subpath, resolved.kind) {
        (_, None | Some(EntryKind::Directory)) => Ok((resolved, EntryKind::Directory)),
        (true, Some(EntryKind::File)) => Ok((resolved, EntryKind::File)),
        (false, Some(EntryKind::File)) => {
            Err("it is a file; only a volume-subpath can cover a file".to_owned())
        }
        (_, Some(EntryKind::Symlink | EntryKind::Other)) => {
            Err("it is neither a directory nor a file".to_owned())
        }
    }
}

/// Completes a plan of the spec stage once the runtime has made its mounts: `resolved` says where the targets
/// that were not seen then, and the spec's mounts, are in the container's namespace.
///
/// # Errors
/// [`PlanError::Target`] for the first target where its volume cannot be mounted.
pub fn look_again(
    plan: &mut Plan,
    mounts: &[SpecMount],
    resolved: &BTreeMap<String, Result<Resolved, String>>,
) -> Result<(), PlanError> {
    let spec_mounts = placed(mounts, resolved);
    for mount in plan.mounts.iter_mut().filter(|mount| mount.unseen) {
        let found = resolved.get(mount.target.as_str());
        let is_part = mount.part.is_some();
        let placed = place(found, mount.subpath.is_some() && !is_part, &spec_mounts);
        let (resolved, kind) = placed.map_err(|reason| PlanError::Target {
            volume: mount.volume.clone(),
            target: mount.target.clone(),
            reason,
        })?;
        mount.resolved = resolved;
        if let Some((_, planned)) = &mut mount.subpath
            && !is_part
        {
            *planned = kind;
        }
        mount.unseen = false;
    }
    sort(&mut plan.mounts);
    Ok(())
}

/// By component, so that "/var" comes before "/var/lib" and "/var-x" is no part of either.
fn sort(mounts: &mut [PlannedMount]) {
    mounts.sort_by(|a, b| a.resolved.path.split('/').cmp(b.resolved.path.split('/')));
}

/// One lease for each volume, with the widest access of its mounts and the strictest sharing of what its driver
/// answered.
fn add_lease(leases: &mut Vec<LeasedVolume>, one: &Decided, access: Access) {
    if let Some(lease) = leases.iter_mut().find(|lease| lease.volume == one.volume.id) {
        if access == Access::ReadWrite {
            lease.access = Access::ReadWrite;
        }
        lease.sharing = lease.sharing.max(one.attachment.sharing);
        return;
    }
    leases.push(LeasedVolume {
        volume: one.volume.id.clone(),
        uuid: one.volume.uuid.clone(),
        driver: one.volume.driver.clone(),
        access,
        sharing: one.attachment.sharing,
        image: matches!(one.volume.backing, Backing::Image(_)),
        target: Some(one.claim.target.clone()),
    });
}

/// A volume is one thing however often it is mounted: every mount of it is shared as its lease says.
fn share_as_leased(plan: &mut Plan) {
    for mount in &mut plan.mounts {
        if let Some(lease) = plan.leases.iter().find(|lease| lease.volume == mount.volume) {
            mount.sharing = lease.sharing;
        }
    }
}

/// What a driver granted, within what volhook itself allows: `most` access, and a device or an overlay for one holder
/// only, because the kernel shares neither.
#[must_use]
pub fn bounded(granted: Attachment, volume: &Volume, most: Access) -> Attachment {
    let is_overlay = |storage: &PodStorage| storage.population == Population::Overlay;
    let alone =
        matches!(volume.backing, Backing::Device(_)) || volume.storage.as_ref().is_some_and(is_overlay);
    let sharing = if alone { Sharing::Exclusive } else { granted.sharing };
    Attachment { access: narrower(most, granted.access), sharing, ..granted }
}

fn narrower(asked: Access, granted: Access) -> Access {
    if asked == Access::ReadOnly { asked } else { granted }
}

fn union(a: MountFlags, b: MountFlags) -> MountFlags {
    MountFlags { nosuid: a.nosuid || b.nosuid, nodev: a.nodev || b.nodev, noexec: a.noexec || b.noexec }
}

/// Where in the spec's `mounts` a mount on `path` belongs: before the first that is nested below it, unless
/// the spec itself covers that one again with a mount at or above `path`; at the end otherwise.
#[must_use]
pub fn spec_position(path: &str, mounts: &[(String, SpecMount)]) -> usize {
    let after = mounts.iter().rposition(|(at, _)| is_below_or_at(path, at)).map_or(0, |i| i + 1);
    mounts[after..]
        .iter()
        .position(|(at, _)| at != path && is_below_or_at(at, path))
        .map_or(mounts.len(), |i| after + i)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
