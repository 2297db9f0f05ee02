//! The second half of the way: drivers are asked, and the plan is made.
//!
//! Plugins are asked here, outside of any lock, with the holders as they stand; [`acquire`](crate::start::acquire) looks again
//! under the lock and comes back if they changed.

use crate::ask;
use crate::ask::Wanted;
use crate::context::Context;
use crate::failure::Failure;
use crate::host_grants;
use crate::image::Image;
use crate::start::leased::Leased;
use crate::start::storage;
use crate::start::subject::Claimed;
use crate::start::subject::Proposal;
use crate::start::subject::Subject;
use crate::start::subject::holders;
use std::collections::BTreeMap;
use tracing::debug_span;
use volhook_core::check::check;
use volhook_core::claims::Claim;
use volhook_core::claims::StorageWish;
use volhook_core::decision::AttachRequest;
use volhook_core::decision::Attachment;
use volhook_core::decision::EntryKind;
use volhook_core::decision::HolderInfo;
use volhook_core::decision::MountFlags;
use volhook_core::decision::PluginKind;
use volhook_core::lease::LeaseTable;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::options;
use volhook_core::options::Given;
use volhook_core::plan;
use volhook_core::plan::Decided;
use volhook_core::plan::Facts;
use volhook_core::plan::Met;
use volhook_core::record::Step;
use volhook_core::resolved::Resolved;
use volhook_core::volume::CopyUp;
use volhook_core::volume::Volume;
use volhook_volumes::StoreError;

/// Asks the drivers and makes the plan. `leased` are the claimed volumes as they were looked up for it; `table` holds no lease
/// that is provably dead.
pub(crate) fn propose(
    context: &Context<'_>,
    subject: &Subject,
    claimed: &Claimed,
    image: &Image<'_>,
    leased: &Leased,
    table: &LeaseTable,
) -> Result<Proposal, Failure> {
    let lookup = context.enter(Step::Volumes, debug_span!("volumes"));
    let mut volumes = known_storages(context, subject, claimed)?;
    drop(lookup);
    let mut decided = Vec::new();
    for claim in &claimed.claims {
        let lookup = context.enter(Step::Volumes, debug_span!("volumes", volume = %claim.volume));
        let before: Vec<Volume> =
            volumes.values().filter(|known| known.new).map(|known| known.volume.clone()).collect();
        let found = match &claim.storage {
            Some(name) => {
                let pod = claim.member.as_ref().map(|member| &member.pod);
                let is_it = |volume: &Volume| {
                    volume.storage.is_some() && volume.pod.as_ref().map(|member| &member.pod) == pod
                };
                match volumes.values().find(|known| is_it(&known.volume)).cloned() {
                    Some(known) => known,
                    None => wanted_storage(context, subject, claimed, name, &before)?,
                }
            }
            None => {
                let id = VolumeId { tenant: subject.tenant.clone(), name: claim.volume.clone() };
                let found = || leased.found.get(&id).cloned().map(Known::there);
                match volumes.get(&id).cloned().or_else(found) {
                    Some(known) => known,
                    None => wanted_volume(context, claim, &id, &before)?,
                }
            }
        };
        // Of a storage that is looked up for several of its parts the latest record counts: it may have got one meanwhile.
        // What becomes of one that meets another image was found out before all.
        let known = match volumes.get(&found.volume.id) {
            Some(known) if known.met.is_some() => known.clone(),
            _ => found,
        };
        volumes.insert(known.volume.id.clone(), known.clone());
        let Known { volume, new, met } = known;
        drop(lookup);
        let asking = context
            .enter(Step::Plugins, debug_span!("plugins", volume = %claim.volume, driver = volume.driver));
        plan::same_driver(claim, &volume)?;
        let most = host_grants::most_access(context, &volume)?;
        let attachment = plan::bounded(ask_driver(context, subject, claim, &volume, table)?, &volume, most);
        drop(asking);
        let has_source = !new && has_source(claimed, claim, &volume, image)?;
        decided.push(Decided { claim: claim.clone(), volume, new, met, has_source, attachment });
    }
    let _planning = context.enter(Step::Plan, debug_span!("plan"));
    let answers = decided.iter().map(|one| one.attachment.clone()).collect();
    let facts = Facts {
        attempt: &subject.attempt,
        stage: subject.stage,
        container: &subject.container,
        tenant: &subject.tenant,
        pod: subject.pod(),
        mounts: &subject.mounts,
        user_namespace: subject.user_namespace,
        keeps_all: claimed.keeps_all,
        folders: subject.folders,
        resolved: &claimed.resolved,
        table,
        stepped_back: &claimed.stepped_back,
        remarks: &claimed.remarks,
        now: claimed.now,
    };
    let plan = plan::plan(&facts, decided)?;
    let (new, found): (Vec<_>, Vec<_>) = volumes.into_values().partition(|known| known.new);
    let by_id = |known: Known| (known.volume.id.clone(), known.volume);
    let mut volumes: BTreeMap<VolumeId, Volume> = found.into_iter().map(by_id).collect();
    check(&plan, &volumes, &context.config()?.grants, table)?;
    volumes.extend(new.into_iter().map(by_id));
    let seen = holders(table, volumes.keys());
    Ok(Proposal { plan, volumes, seen, answers })
}

/// A volume of a plan that is made.
#[derive(Clone)]
struct Known {
    /// As it will be.
    volume: Volume,
    /// Whether it has to be made.
    new: bool,
    /// What becomes of it, if it is a pod's storage that meets another image.
    met: Option<Met>,
}

impl Known {
    fn there(volume: Volume) -> Self {
        Self { volume, new: false, met: None }
    }
}

/// The storages that there are already, for whoever claims a part of one by its name.
fn known_storages(
    context: &Context<'_>,
    subject: &Subject,
    claimed: &Claimed,
) -> Result<BTreeMap<VolumeId, Known>, Failure> {
    let mut known = BTreeMap::new();
    let is_claimed =
        |wish: &&StorageWish| claimed.claims.iter().any(|claim| claim.storage.as_ref() == Some(&wish.volume));
    if claimed.claims.iter().all(|claim| claim.storage.is_some()) {
        return Ok(known);
    }
    for wish in claimed.storages.iter().filter(is_claimed) {
        let found = context.store.pod_storage(&subject.tenant, &wish.pod).map_err(Failure::new)?;
        if let Some(volume) = found {
            known.insert(volume.id.clone(), met(claimed, wish, volume));
        }
    }
    Ok(known)
}

/// A storage that is there, as it meets the container's image.
fn met(claimed: &Claimed, wish: &StorageWish, volume: Volume) -> Known {
    let (volume, met) = plan::meet(volume, &claimed.pod.image, wish.renew, &claimed.fresh, claimed.now);
    Known { volume, new: false, met }
}

/// The volume of a claim that lies in no storage that was claimed with it: a volume of its own, or a part of some pod's
/// storage.
fn wanted_volume(
    context: &Context<'_>,
    claim: &Claim,
    id: &VolumeId,
    before: &[Volume],
) -> Result<Known, Failure> {
    match context.store.find(id) {
        Ok(Some(volume)) => Ok(Known::there(volume)),
        Ok(None) => {
            let wanted = Wanted {
                id,
                driver: claim.driver.as_deref(),
                options: &claim.options,
                labels: &claim.labels,
                member: claim.member.as_ref(),
                before,
            };
            Ok(Known { volume: ask::new_volume(context, &wanted)?, new: true, met: None })
        }
        Err(StoreError::IsPart { .. }) => match context.store.find_part(id).map_err(Failure::new)? {
            Some((storage, _)) => Ok(Known::there(storage)),
            None => Err(Failure::new(format!("volume {id:?} was removed just now")).about(id.clone())),
        },
        Err(error) => Err(Failure::new(error).about(id.clone())),
    }
}

fn wanted_storage(
    context: &Context<'_>,
    subject: &Subject,
    claimed: &Claimed,
    name: &VolumeName,
    before: &[Volume],
) -> Result<Known, Failure> {
    let wish = claimed.storages.iter().find(|wish| wish.volume == *name);
    let wish = wish.ok_or_else(|| Failure::internal(format!("nobody wants the storage {name:?}")))?;
    let (volume, new) = storage::wanted(context, &subject.tenant, wish, &claimed.pod.image, before)?;
    Ok(if new { Known { volume, new, met: None } } else { met(claimed, wish, volume) })
}

/// Whether the image has something for a volume that is due to get it (copy-up).
fn has_source(claimed: &Claimed, claim: &Claim, volume: &Volume, image: &Image<'_>) -> Result<bool, Failure> {
    // What was begun is finished, or else done away with, whatever this container wants: nobody may see it as it is.
    if volume.copy_up == CopyUp::Begun {
        return Ok(true);
    }
    let is_wanted = !claim.no_copy && claim.subpath.is_none() && volume.storage.is_none();
    if volume.copy_up == CopyUp::Over || !is_wanted || image.is_shifted() {
        return Ok(false);
    }
    match claimed.resolved.get(claim.target.as_str()) {
        Some(Ok(Resolved { path, kind: Some(EntryKind::Directory), .. })) => image.has_content(path),
        _ => Ok(false),
    }
}

fn ask_driver(
    context: &Context<'_>,
    subject: &Subject,
    claim: &Claim,
    volume: &Volume,
    table: &LeaseTable,
) -> Result<Attachment, Failure> {
    if let Some(sharing) = volume.sharing {
        let (flags, notes) = (MountFlags::default(), Vec::new());
        return Ok(Attachment { access: claim.access, sharing, flags, notes });
    }
    let id = &volume.id;
    let driver = ask::driver(context, &volume.driver, id)?;
    let settings = context.config()?.settings(&volume.driver)?;
    if !settings.is_empty() {
        let info = driver.describe().map_err(|error| ask::plugin_failure(context, error, Some(id)))?;
        options::check((PluginKind::Driver, &volume.driver), Given::Setting, None, &info.settings, &settings)
            .map_err(ask::option_failure)?;
    }
    let holders = table
        .holders(id)
        .map(|(grant, lease)| HolderInfo {
            container: grant.container.to_string(),
            access: lease.access,
            sharing: lease.sharing,
        })
        .collect();
    let request = AttachRequest {
        volume: id.name.to_string(),
        options: volume.options.clone(),
        labels: volume.labels.clone(),
        container: subject.info(),
        holders,
        access: claim.access,
        settings,
    };
    let answer = driver.attach(&request).map_err(|error| ask::plugin_failure(context, error, Some(id)))?;
    answer.map_err(|refusal| {
        ask::refused(&refusal, format!("driver {} refuses to attach volume {id:?}", volume.driver), Some(id))
    })
}
