//! Looks at a finished plan once more and refuses one that breaks an invariant.
//!
//! Written without the planner's helpers, from the invariants themselves: a plan that passes here is safe to
//! carry out whatever bug made it.

use crate::decision::Access;
use crate::decision::Sharing;
use crate::lease::LeaseTable;
use crate::plan::Apply;
use crate::plan::Layer;
use crate::plan::Plan;
use crate::plan::Stage;
use std::collections::BTreeSet;

/// An invariant that a plan breaks: a bug in volhook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refusing an unsafe plan for container {container:?}: {broken}")]
pub struct Unsafe {
    /// The container.
    pub container: String,
    /// The invariant.
    pub broken: String,
}

/// Checks `plan` against the invariants. `table` is who holds what, without leases that are provably dead.
///
/// # Errors
/// [`Unsafe`] naming the first broken invariant.
pub fn check(plan: &Plan, table: &LeaseTable) -> Result<(), Unsafe> {
    match broken(plan, table) {
        None => Ok(()),
        Some(broken) => Err(Unsafe { container: plan.container.to_string(), broken }),
    }
}

fn broken(plan: &Plan, table: &LeaseTable) -> Option<String> {
    let mut leased = BTreeSet::new();
    for lease in &plan.leases {
        if !leased.insert(&lease.volume) {
            return Some(format!("volume {:?} is leased twice", lease.volume));
        }
        if lease.volume.tenant != plan.tenant {
            return Some(format!("volume {:?} is another tenant's", lease.volume));
        }
        for grant in table.grants().filter(|grant| grant.attempt != plan.attempt) {
            for held in grant.leases.iter().filter(|held| held.volume == lease.volume) {
                let exclusive = [lease.sharing, held.sharing].contains(&Sharing::Exclusive);
                let one_writer = [lease.sharing, held.sharing].contains(&Sharing::SingleWriter);
                let writers = [lease.access, held.access].iter().filter(|a| **a == Access::ReadWrite).count();
                if exclusive || (one_writer && writers > 1) {
                    return Some(format!(
                        "volume {:?} would have two incompatible holders, {:?} and {:?}",
                        lease.volume,
                        grant.container.as_str(),
                        plan.container.as_str()
                    ));
                }
            }
        }
    }
    let mut created = BTreeSet::new();
    for volume in &plan.create {
        if !created.insert(&volume.id) || !leased.contains(&volume.id) {
            return Some(format!("volume {:?} is created twice or for nobody", volume.id));
        }
    }
    if let Some(filled) = plan.copy_up.iter().find(|filled| !leased.contains(&filled.volume)) {
        return Some(format!("volume {:?} is filled for nobody", filled.volume));
    }
    if let Some(part) = plan.parts.iter().find(|planned| !leased.contains(&planned.storage)) {
        return Some(format!("volume {:?} gets a part for nobody", part.storage));
    }
    let mut places: Vec<Vec<&str>> = Vec::new();
    for mount in &plan.mounts {
        let at = &mount.resolved.path;
        let Some(lease) = plan.leases.iter().find(|lease| lease.volume == mount.volume) else {
            return Some(format!("volume {:?} is mounted without a lease", mount.volume));
        };
        if mount.access == Access::ReadWrite && lease.access == Access::ReadOnly {
            return Some(format!("volume {:?} is mounted with more access than leased", mount.volume));
        }
        let parts: Vec<&str> = at.split('/').collect();
        let inside = parts.len() > 1
            && parts[0].is_empty()
            && parts[1..].iter().all(|p| !p.is_empty() && *p != "." && *p != "..")
            && !["proc", "sys", "dev"].contains(&parts[1]);
        if !inside {
            return Some(format!("target {at:?} is outside of what a volume may cover"));
        }
        if mount.resolved.shared {
            return Some(format!("target {at:?} propagates to the host"));
        }
        if places.iter().any(|earlier| earlier.starts_with(&parts)) {
            return Some(format!("target {at:?} would hide a mount made before it"));
        }
        if mount.layer == Layer::Overlay && (lease.sharing != Sharing::Exclusive || mount.subpath.is_none()) {
            return Some(format!(
                "volume {:?} is an overlay for several, or for the whole root",
                mount.volume
            ));
        }
        let live_only = mount.subpath.is_some() || mount.unseen || !mount.backing.is_directory();
        if mount.apply == Apply::Spec && (plan.stage == Stage::Live || live_only) {
            return Some(format!("target {at:?} cannot be mounted by the spec"));
        }
        places.push(parts);
    }
    plan.leases
        .iter()
        .find(|lease| plan.mounts.iter().all(|mount| mount.volume != lease.volume))
        .map(|lease| format!("volume {:?} is leased and not mounted", lease.volume))
}
