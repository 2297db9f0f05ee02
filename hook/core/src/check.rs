//! Looks at a finished plan once more and refuses one that breaks an invariant.
//!
//! Written without the planner's helpers, from the invariants themselves: a plan that passes here is safe to
//! carry out whatever bug made it.

mod finding;

pub use finding::Finding;

use crate::decision::Access;
use crate::decision::Backing;
use crate::decision::ImageState;
use crate::decision::Population;
use crate::decision::Sharing;
use crate::grants::Grants;
use crate::last_step::PodRoot;
use crate::lease::LeaseTable;
use crate::lease::LeasedVolume;
use crate::names::ContainerId;
use crate::names::Pod;
use crate::names::VolumeId;
use crate::names::VolumeName;
use crate::plan::Layer;
use crate::plan::Plan;
use crate::plan::PlannedMount;
use crate::stage::Apply;
use crate::stage::Stage;
use crate::volume::CopyUp;
use crate::volume::FILES;
use crate::volume::Part;
use crate::volume::PodStorage;
use crate::volume::Volume;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// A plan that breaks invariants: a bug in volhook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refusing an unsafe plan for container {container:?}: {}", in_one_line(findings))]
pub struct Unsafe {
    /// The container.
    pub container: ContainerId,
    /// All that was found, at least one.
    pub findings: Vec<Finding>,
}

fn in_one_line(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Checks `plan` against the invariants: `volumes` are those of the plan that exist, as they were found, or as they will be
/// where they begin anew; `grants` is what
/// the operator allows of the host; `table` is who holds what, without leases that are provably dead.
///
/// What a user, a plugin or an operator can bring about is refused before there is a plan; so nothing is found that is
/// not a bug.
///
/// # Errors
/// [`Unsafe`] with all broken invariants.
pub fn check(
    plan: &Plan,
    volumes: &BTreeMap<VolumeId, Volume>,
    grants: &Grants,
    table: &LeaseTable,
) -> Result<(), Unsafe> {
    let mut known: BTreeMap<&VolumeId, &Volume> = plan.create.iter().map(|new| (&new.id, new)).collect();
    known.extend(volumes);
    known.extend(plan.renew.iter().map(|renewal| (&renewal.volume.id, &renewal.volume)));
    let mut look = Look {
        plan,
        volumes,
        known,
        leases: plan.leases.iter().map(|lease| (&lease.volume, lease)).collect(),
        filled: plan.copy_up.iter().map(|planned| &planned.volume).collect(),
        grants,
        findings: Vec::new(),
    };
    look.at_leases();
    look.at_holders(table);
    look.at_new_volumes();
    look.at_filling();
    look.at_new_parts();
    look.at_image_changes(table);
    look.at_mounts();
    look.at_root();
    look.at_notes();
    match look.findings {
        findings if findings.is_empty() => Ok(()),
        findings => Err(Unsafe { container: plan.container.clone(), findings }),
    }
}

struct Look<'a> {
    plan: &'a Plan,
    volumes: &'a BTreeMap<VolumeId, Volume>,
    /// The volumes as they are, or as they will be.
    known: BTreeMap<&'a VolumeId, &'a Volume>,
    leases: BTreeMap<&'a VolumeId, &'a LeasedVolume>,
    /// The volumes that are given what the image has.
    filled: BTreeSet<&'a VolumeId>,
    grants: &'a Grants,
    findings: Vec<Finding>,
}

impl<'a> Look<'a> {
    fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn at_leases(&mut self) {
        let plan = self.plan;
        let mounted: BTreeSet<&VolumeId> = plan.mounts.iter().map(|mount| &mount.volume).collect();
        let mut leased = BTreeSet::new();
        for lease in &plan.leases {
            let volume = || lease.volume.clone();
            if !leased.insert(&lease.volume) {
                self.find(Finding::LeasedTwice { volume: volume() });
            }
            if !mounted.contains(&lease.volume) {
                self.find(Finding::NotMounted { volume: volume() });
            }
            if lease.volume.tenant != plan.tenant {
                self.find(Finding::OtherTenant { volume: volume() });
            }
            match self.known.get(&lease.volume).copied() {
                None => self.find(Finding::NotThere { volume: volume() }),
                Some(found) => {
                    self.at_lease_on(found, lease);
                    self.at_grant_for(found);
                }
            }
        }
    }

    fn at_lease_on(&mut self, found: &Volume, lease: &LeasedVolume) {
        let volume = || lease.volume.clone();
        let sharing = lease.sharing;
        if lease.uuid != found.uuid {
            let (leased, found) = (lease.uuid.clone(), found.uuid.clone());
            self.find(Finding::OtherUuid { volume: volume(), leased, found });
        }
        if lease.driver != found.driver {
            let (leased, found) = (lease.driver.clone(), found.driver.clone());
            self.find(Finding::OtherDriver { volume: volume(), leased, found });
        }
        if lease.image != matches!(found.backing, Backing::Image(_)) {
            self.find(Finding::OtherEvidence { volume: volume(), leased: lease.image });
        }
        if matches!(found.backing, Backing::Device(_)) && sharing != Sharing::Exclusive {
            self.find(Finding::SharedDevice { volume: volume(), sharing });
        }
        if found.storage.as_ref().is_some_and(is_overlay) && sharing != Sharing::Exclusive {
            self.find(Finding::SharedOverlay { volume: volume(), sharing });
        }
        if let Some(said) = found.sharing.filter(|said| sharing < *said) {
            self.find(Finding::LooserThanSaid { volume: volume(), sharing, said });
        }
    }

    fn at_grant_for(&mut self, found: &Volume) {
        let (path, granted) = match &found.backing {
            Backing::Directory(_) | Backing::Image(_) | Backing::Tmpfs(_) => return,
            Backing::HostPath(host) => (&host.path, self.grants.path(&found.id.tenant, &host.path).is_some()),
            Backing::Device(device) => {
                (&device.path, self.grants.device(&found.id.tenant, &device.path).is_some())
            }
        };
        if !granted {
            self.find(Finding::NotGranted { volume: found.id.clone(), path: path.clone() });
        }
    }

    fn at_holders(&mut self, table: &LeaseTable) {
        for grant in table.grants().filter(|grant| grant.attempt != self.plan.attempt) {
            for held in &grant.leases {
                let Some(lease) = self.leases.get(&held.volume) else { continue };
                let (volume, holder) = (held.volume.clone(), grant.container.clone());
                let said = [lease.sharing, held.sharing];
                let writers = [lease.access, held.access].iter().filter(|a| **a == Access::ReadWrite).count();
                if said.contains(&Sharing::Exclusive)
                    || (said.contains(&Sharing::SingleWriter) && writers > 1)
                {
                    self.find(Finding::Conflict { volume, holder });
                } else if self.filled.contains(&held.volume) {
                    self.find(Finding::FilledWhileHeld { volume, holder });
                }
            }
        }
    }

    fn at_new_volumes(&mut self) {
        let mut created = BTreeSet::new();
        for new in &self.plan.create {
            let volume = || new.id.clone();
            if !created.insert(&new.id) {
                self.find(Finding::CreatedTwice { volume: volume() });
            }
            if !self.leases.contains_key(&new.id) {
                self.find(Finding::CreatedForNobody { volume: volume() });
            }
            if self.volumes.contains_key(&new.id) {
                self.find(Finding::CreatedAgain { volume: volume() });
            }
            if new.copy_up != CopyUp::Over && !takes_files(new) {
                self.find(Finding::NeverDue { volume: volume() });
            }
        }
    }

    fn at_filling(&mut self) {
        let plan = self.plan;
        let places = plan.mounts.iter().map(|mount| (&mount.volume, mount.resolved.path.as_str()));
        let places: BTreeSet<(&VolumeId, &str)> = places.collect();
        for filled in &plan.copy_up {
            let volume = || filled.volume.clone();
            if !self.leases.contains_key(&filled.volume) {
                self.find(Finding::FilledForNobody { volume: volume() });
                continue;
            }
            let is_due = |found: &Volume| found.copy_up != CopyUp::Over && takes_files(found);
            if self.known.get(&filled.volume).is_some_and(|found| !is_due(found)) {
                self.find(Finding::NotDue { volume: volume() });
            }
            if !places.contains(&(&filled.volume, &filled.from)) {
                self.find(Finding::FilledFromElsewhere { volume: volume(), from: filled.from.clone() });
            }
        }
        for (volume, found) in self.volumes.iter().filter(|(volume, _)| self.leases.contains_key(volume)) {
            if found.copy_up == CopyUp::Begun && !self.filled.contains(volume) {
                self.findings.push(Finding::HalfFilled { volume: volume.clone() });
            }
        }
    }

    fn at_new_parts(&mut self) {
        let mut made = BTreeSet::new();
        for planned in &self.plan.parts {
            let (storage, part) = (planned.storage.clone(), planned.part.name.clone());
            if !self.leases.contains_key(&planned.storage) {
                self.find(Finding::PartForNobody { storage, part });
                continue;
            }
            let Some(found) = self.known.get(&planned.storage).copied() else { continue };
            let Some(has) = &found.storage else {
                self.find(Finding::NoStorage { volume: storage, part });
                continue;
            };
            let is_there = has.parts.iter().any(|there| there.member == planned.part.member);
            if is_there || !made.insert((&planned.storage, &planned.part.member)) {
                self.find(Finding::PartThere { storage: storage.clone(), part: part.clone() });
            }
            if planned.copy && has.population != Population::Copy {
                self.find(Finding::CopiedPart { storage, part });
            }
        }
    }

    /// A pod begins anew, or its storage follows, only for a container of its own that has another image.
    fn at_image_changes(&mut self, table: &LeaseTable) {
        let plan = self.plan;
        let mut changed = BTreeSet::new();
        for renewal in &plan.renew {
            let (volume, fresh) = (|| renewal.storage.clone(), &renewal.volume);
            self.at_image_change(&mut changed, &renewal.storage, &fresh.uuid, &renewal.pod);
            if renewal.from.beside(&renewal.to) != ImageState::Changed {
                self.find(Finding::SameImage { volume: volume() });
            }
            if renewal.uuid == fresh.uuid {
                self.find(Finding::NotAnew { volume: volume() });
            }
            let image = fresh.storage.as_ref().and_then(|storage| storage.image.as_ref());
            let is_the_pods = fresh.pod.as_ref().is_some_and(|member| member.pod == renewal.pod);
            if fresh.id != renewal.storage
                || image != Some(&renewal.to)
                || !is_the_pods
                || plan.create.iter().any(|new| new.id == renewal.storage)
                || renewal.parts.iter().any(|planned| planned.storage != renewal.storage)
            {
                self.find(Finding::AnewAsAnother { volume: volume() });
            }
            for grant in table.grants().filter(|grant| grant.attempt != plan.attempt) {
                if grant.leases.iter().any(|held| held.volume == renewal.storage) {
                    let holder = grant.container.clone();
                    self.find(Finding::AnewWhileHeld { volume: volume(), holder });
                }
            }
        }
        for follow in &plan.follow {
            self.at_image_change(&mut changed, &follow.storage, &follow.uuid, &follow.pod);
            if follow.from.beside(&follow.to) != ImageState::Changed {
                self.find(Finding::SameImage { volume: follow.storage.clone() });
            }
        }
    }

    fn at_image_change(
        &mut self,
        changed: &mut BTreeSet<&'a VolumeId>,
        storage: &'a VolumeId,
        uuid: &str,
        pod: &Pod,
    ) {
        if !changed.insert(storage) {
            self.find(Finding::ChangedTwice { volume: storage.clone() });
        }
        if self.leases.get(storage).is_none_or(|lease| lease.uuid != uuid) {
            self.find(Finding::ChangedForNobody { volume: storage.clone() });
        }
        if self.plan.pod.as_ref() != Some(pod) {
            self.find(Finding::ChangedForAnother { volume: storage.clone(), pod: pod.clone() });
        }
    }

    fn at_mounts(&mut self) {
        let plan = self.plan;
        let mut places: BTreeSet<Vec<&str>> = BTreeSet::new();
        for mount in &plan.mounts {
            let at = &mount.resolved.path;
            let parts: Vec<&str> = at.split('/').collect();
            if !is_inside(&parts) {
                self.find(Finding::Outside { at: at.clone() });
            }
            if mount.resolved.shared {
                self.find(Finding::Propagates { at: at.clone() });
            }
            // What is below a place follows it in this order.
            if places.range(parts.clone()..).next().is_some_and(|earlier| earlier.starts_with(&parts)) {
                self.find(Finding::Hides { at: at.clone() });
            }
            places.insert(parts);
            if mount.unseen && plan.stage == Stage::Live {
                self.find(Finding::NeverSeen { at: at.clone() });
            }
            match self.leases.get(&mount.volume).copied() {
                None => self.find(Finding::NotLeased { volume: mount.volume.clone() }),
                Some(lease) => self.at_mount_under(lease, mount),
            }
            if let Some(found) = self.known.get(&mount.volume).copied() {
                self.at_mount_of(found, mount);
                match (&found.storage, &mount.part) {
                    (Some(storage), Some(part)) => self.at_part(found, storage, part, mount),
                    (Some(_), None) => {
                        self.find(Finding::WholeStorage { volume: found.id.clone(), at: at.clone() });
                    }
                    (None, Some(part)) => {
                        self.find(Finding::NoStorage { volume: found.id.clone(), part: part.clone() });
                    }
                    (None, None) => {}
                }
            }
        }
    }

    /// What becomes the container's root is the overlay of its own pod, of which it has folders, and may be written.
    fn at_root(&mut self) {
        let plan = self.plan;
        if plan.root != Some(PodRoot::Overlay) {
            return;
        }
        let layers = plan.mounts.iter().filter(|mount| mount.layer == Layer::Overlay);
        let storages: BTreeSet<&VolumeId> = layers.map(|mount| &mount.volume).collect();
        let is_own = |volume: &&VolumeId| {
            let found = self.known.get(*volume);
            let pod = found.and_then(|found| found.pod.as_ref()).map(|member| &member.pod);
            pod.is_some() && pod == plan.pod.as_ref()
        };
        match storages.iter().filter(|volume| is_own(volume)).collect::<Vec<_>>().as_slice() {
            [storage] => {
                let lease = self.leases.get(**storage);
                if lease.is_none_or(|lease| lease.access != Access::ReadWrite) {
                    let volume = (**storage).clone();
                    self.find(Finding::RootMoreThanLeased { volume });
                }
            }
            _ => self.find(Finding::RootOfNobody),
        }
    }

    fn at_mount_under(&mut self, lease: &LeasedVolume, mount: &PlannedMount) {
        let (volume, at) = (mount.volume.clone(), mount.resolved.path.clone());
        if mount.sharing != lease.sharing {
            let (mounted, leased) = (mount.sharing, lease.sharing);
            self.find(Finding::OtherSharing { volume: volume.clone(), at: at.clone(), mounted, leased });
        }
        if mount.access == Access::ReadWrite && lease.access == Access::ReadOnly {
            self.find(Finding::MoreThanLeased { volume, at });
        }
    }

    fn at_mount_of(&mut self, found: &Volume, mount: &PlannedMount) {
        let (volume, at) = (|| found.id.clone(), || mount.resolved.path.clone());
        if !is_same(&mount.backing, &found.backing) {
            self.find(Finding::OtherBacking { volume: volume(), at: at() });
        }
        if let Backing::HostPath(host) = &found.backing
            && let Some(grant) = self.grants.path(&found.id.tenant, &host.path)
            && grant.read_only
            && mount.access == Access::ReadWrite
        {
            self.find(Finding::MoreThanGranted { volume: volume(), at: at() });
        }
        let has_changes = found.storage.as_ref().is_some_and(is_overlay);
        if (mount.layer == Layer::Overlay) != has_changes {
            self.find(Finding::OtherLayer { volume: volume(), at: at() });
        }
        let whole = matches!(found.backing, Backing::Directory(_)) && found.storage.is_none();
        let known = mount.subpath.is_none() && !mount.unseen;
        if mount.apply == Apply::Spec && (self.plan.stage == Stage::Live || !whole || !known) {
            self.find(Finding::NotForSpec { at: at() });
        }
    }

    fn at_part(&mut self, found: &Volume, storage: &PodStorage, part: &VolumeName, mount: &PlannedMount) {
        if let Some(member) = &found.pod
            && is_overlay(storage)
            && self.plan.pod.as_ref() != Some(&member.pod)
        {
            self.find(Finding::OtherPod { volume: found.id.clone(), pod: member.pod.clone() });
        }
        let renewed = self.plan.renew.iter().flat_map(|renewal| &renewal.parts);
        let new = self.plan.parts.iter().chain(renewed).filter(|planned| planned.storage == found.id);
        let all = storage.parts.iter().chain(new.map(|planned| &planned.part));
        let mut named = all.filter(|known| known.name == *part).peekable();
        if named.peek().is_none() {
            self.find(Finding::NoPart { storage: found.id.clone(), part: part.clone() });
            return;
        }
        let shows = |place: &str| match &mount.subpath {
            Some((shown, _)) => {
                let rest = shown.as_str().strip_prefix(place);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            None => false,
        };
        let at = &mount.resolved.path;
        let fits = |known: &Part| match storage.population {
            Population::Copy | Population::Empty => shows(&format!("{FILES}{}", known.path.as_str())),
            Population::Overlay => {
                // The image may have the folder elsewhere by now, and what the spec mounts there the target.
                let at_its_own = mount.target == known.path || !mount.origin.is_explicit();
                let moved = self.plan.stage == Stage::Spec || shows(at.trim_start_matches('/'));
                shows(known.path.as_str().trim_start_matches('/'))
                    || at_its_own && moved && mount.subpath.is_some()
            }
        };
        if !named.any(fits) {
            let (storage, part) = (found.id.clone(), part.clone());
            self.find(Finding::OutsidePart { storage, part, at: at.clone() });
        }
    }

    fn at_notes(&mut self) {
        for note in self.plan.notes.iter().filter(|note| note.volume.tenant != self.plan.tenant) {
            self.findings.push(Finding::OtherTenantsNote { volume: note.volume.clone() });
        }
    }
}

fn is_overlay(storage: &PodStorage) -> bool {
    storage.population == Population::Overlay
}

/// Whether a volume is a place of its own for what an image has at its target.
fn takes_files(volume: &Volume) -> bool {
    matches!(volume.backing, Backing::Directory(_) | Backing::Image(_)) && volume.storage.is_none()
}

/// Whether the components of an absolute path name a place inside a root filesystem that is not the kernel's.
fn is_inside(parts: &[&str]) -> bool {
    parts.len() > 1
        && parts[0].is_empty()
        && parts[1..].iter().all(|part| !part.is_empty() && *part != "." && *part != "..")
        && !["proc", "sys", "dev"].contains(&parts[1])
}

/// Whether both are the same thing. An image that is held may grow, and its directory may get another owner.
fn is_same(planned: &Backing, found: &Backing) -> bool {
    match (planned, found) {
        (Backing::Directory(_), Backing::Directory(_)) | (Backing::Tmpfs(_), Backing::Tmpfs(_)) => true,
        (Backing::Image(planned), Backing::Image(found)) => planned.filesystem == found.filesystem,
        (Backing::HostPath(planned), Backing::HostPath(found)) => planned == found,
        (Backing::Device(planned), Backing::Device(found)) => planned == found,
        _ => false,
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
