//! The first half of the way: from a container's wishes to a plan.
//!
//! Plugins are asked here, outside of any lock, with the holders as they stand; [`crate::acquire`] looks again
//! under the lock and comes back if they changed.

use crate::context::Context;
use crate::error::Failure;
use crate::grants;
use crate::image::Image;
use crate::storage;
use crate::storage::PodFacts;
use crate::timings::Timings;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use volhook_core::check::check;
use volhook_core::claims;
use volhook_core::claims::Claim;
use volhook_core::claims::Granted;
use volhook_core::claims::PolicyRequest;
use volhook_core::claims::SteppedBack;
use volhook_core::claims::StorageWish;
use volhook_core::claims::Wishes;
use volhook_core::decision::AttachRequest;
use volhook_core::decision::Attachment;
use volhook_core::decision::Backing;
use volhook_core::decision::ClaimsRequest;
use volhook_core::decision::ContainerInfo;
use volhook_core::decision::CreateRequest;
use volhook_core::decision::EntryKind;
use volhook_core::decision::HolderInfo;
use volhook_core::decision::MountFlags;
use volhook_core::decision::Pairs;
use volhook_core::decision::PluginKind;
use volhook_core::decision::Refusal;
use volhook_core::decision::Usage;
use volhook_core::lease::LeaseTable;
use volhook_core::mkfs;
use volhook_core::names::ContainerId;
use volhook_core::names::Pod;
use volhook_core::names::Target;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::options;
use volhook_core::options::Given;
use volhook_core::plan;
use volhook_core::plan::Decided;
use volhook_core::plan::Facts;
use volhook_core::plan::Met;
use volhook_core::plan::Plan;
use volhook_core::plan::Stage;
use volhook_core::resolved::Resolved;
use volhook_core::spec::SpecMount;
use volhook_core::volume::CopyUp;
use volhook_core::volume::PodMember;
use volhook_core::volume::Volume;
use volhook_journal::Mark;
use volhook_mounts::rootfs::Rootfs;
use volhook_plugin_host::Driver;
use volhook_plugin_host::PluginError;
use volhook_volumes::StoreError;

/// The container for which a plan is made.
pub(crate) struct Subject {
    pub(crate) attempt: String,
    pub(crate) stage: Stage,
    pub(crate) container: ContainerId,
    pub(crate) tenant: Tenant,
    pub(crate) wishes: Wishes,
    pub(crate) mounts: Vec<SpecMount>,
    pub(crate) user_namespace: bool,
}

/// What is claimed, settled against the spec, and where everything is.
pub(crate) struct Claimed {
    pub(crate) claims: Vec<Claim>,
    /// What is to hold the pod's volumes.
    pub(crate) storages: Vec<StorageWish>,
    /// The container's image, where it belongs to a pod.
    pub(crate) pod: PodFacts,
    /// Remarks of the policies.
    pub(crate) remarks: Vec<String>,
    pub(crate) stepped_back: Vec<SteppedBack>,
    pub(crate) resolved: BTreeMap<String, Result<Resolved, String>>,
    /// When that was.
    pub(crate) now: Timestamp,
    /// The uuid of a storage that begins anew: the same, however often a plan is made.
    pub(crate) fresh: String,
}

/// A plan, and what the world looked like when plugins were asked.
pub(crate) struct Proposal {
    pub(crate) plan: Plan,
    /// The volumes of the plan.
    pub(crate) volumes: BTreeMap<VolumeId, Volume>,
    /// The attempts that held each volume.
    pub(crate) seen: BTreeMap<VolumeId, BTreeSet<String>>,
    /// What the drivers answered, to tell whether asking again changes anything.
    pub(crate) answers: Vec<Attachment>,
    /// From before the volumes were looked up.
    pub(crate) mark: Mark,
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

/// Asks the policy, looks up all targets and settles the claims.
pub(crate) fn claim(
    context: &Context,
    subject: &Subject,
    rootfs: &Rootfs,
    image: &Image<'_>,
    timings: &mut Timings,
) -> Result<Claimed, Failure> {
    let mut explicit = subject.wishes.claims.clone();
    explicit.extend(claims::from_spec_mounts(&subject.mounts)?);
    let pod = match pod(subject) {
        Some(pod) => storage::facts(context, &subject.tenant, pod, image)?,
        None => PodFacts::default(),
    };
    timings.lap("pod");
    let mut by_policy = Vec::new();
    let mut storages = Vec::new();
    let mut remarks = Vec::new();
    for request in &subject.wishes.policies {
        let granted = ask_policy(context, subject, request, rootfs, &pod)?;
        by_policy.extend(granted.claims);
        storages.extend(granted.storage);
        remarks.extend(granted.notes);
    }
    timings.lap("plugins");
    let targets = explicit.iter().chain(&by_policy).map(|claim| claim.target.clone());
    let resolved = resolve(rootfs, targets, &subject.mounts);
    timings.lap("resolve");
    let (claims, stepped_back) = claims::settle(explicit, by_policy, &subject.mounts, &resolved)?;
    let (now, fresh) = (Timestamp::now(), uuid::Uuid::new_v4().to_string());
    Ok(Claimed { claims, storages, pod, remarks, stepped_back, resolved, now, fresh })
}

/// Where `targets`, and what `mounts` mount, really are, by path as written.
pub(crate) fn resolve(
    rootfs: &Rootfs,
    targets: impl Iterator<Item = Target>,
    mounts: &[SpecMount],
) -> BTreeMap<String, Result<Resolved, String>> {
    // A destination that no volume may have cannot be in a volume's way either.
    let destinations = mounts.iter().filter_map(|mount| Target::new(&mount.destination).ok());
    let mut resolved = BTreeMap::new();
    for target in targets.chain(destinations) {
        resolved
            .entry(target.to_string())
            .or_insert_with(|| rootfs.resolve(&target).map_err(|error| Failure::new(error).cause_line()));
    }
    resolved
}

fn container_info(subject: &Subject) -> ContainerInfo {
    ContainerInfo {
        id: subject.container.to_string(),
        tenant: subject.tenant.to_string(),
        pod: pod(subject).map(ToString::to_string),
    }
}

fn pod(subject: &Subject) -> Option<&Pod> {
    subject.wishes.pod()
}

fn ask_policy(
    context: &Context,
    subject: &Subject,
    request: &PolicyRequest,
    rootfs: &Rootfs,
    facts: &PodFacts,
) -> Result<Granted, Failure> {
    let config = context.config()?;
    let name = request.plugin.as_deref().unwrap_or(&config.policy);
    let policy = context.plugins().policy(name).map_err(|error| plugin_failure(context, error, None))?;
    let settings = merged(config.settings(name)?, &request.settings);
    if !settings.is_empty() {
        let info = policy.describe().map_err(|error| plugin_failure(context, error, None))?;
        let plugin = (PluginKind::Policy, name);
        options::check(plugin, Given::Setting, None, &info.settings, &settings).map_err(option_failure)?;
    }
    let top_level = rootfs
        .top_level()
        .map_err(|error| Failure::context("cannot list the top level of the root filesystem", error))?;
    let asked = ClaimsRequest {
        container: container_info(subject),
        rootfs: top_level,
        settings,
        pod: facts.state,
        no_overlay: facts.no_overlay.clone(),
    };
    let answer = policy.claims(&asked).map_err(|error| plugin_failure(context, error, None))?;
    let granted = answer.map_err(|refusal| refused(&refusal, format!("policy {name:?} refuses"), None))?;
    Ok(claims::from_policy(name, pod(subject), granted)?)
}

/// `base`, with the values of `over` in place of its own.
fn merged(base: Pairs, over: &Pairs) -> Pairs {
    let mut merged: Pairs =
        base.into_iter().filter(|(name, _)| over.iter().all(|(other, _)| other != name)).collect();
    merged.extend(over.iter().cloned());
    merged
}

/// Asks the drivers and makes the plan. `table` holds no lease that is provably dead.
pub(crate) fn propose(
    context: &Context,
    subject: &Subject,
    claimed: &Claimed,
    image: &Image<'_>,
    table: &LeaseTable,
    timings: &mut Timings,
) -> Result<Proposal, Failure> {
    // Before any volume is looked up.
    let mark = context.ledger.journal()?.volumes_mark().map_err(Failure::new)?;
    let mut volumes = known_storages(context, subject, claimed)?;
    let mut decided = Vec::new();
    for claim in &claimed.claims {
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
                match volumes.get(&id).cloned() {
                    Some(known) => known,
                    None => wanted_volume(context, claim, &id, &before)?,
                }
            }
        };
        timings.lap("volumes");
        // Of a storage that is looked up for several of its parts the latest record counts: it may have got one meanwhile.
        // What becomes of one that meets another image was found out before all.
        let known = match volumes.get(&found.volume.id) {
            Some(known) if known.met.is_some() => known.clone(),
            _ => found,
        };
        volumes.insert(known.volume.id.clone(), known.clone());
        let Known { volume, new, met } = known;
        plan::same_driver(claim, &volume)?;
        let most = grants::most_access(context, &volume)?;
        let attachment = plan::bounded(ask_driver(context, subject, claim, &volume, table)?, &volume, most);
        timings.lap("plugins");
        let has_source = !new && has_source(claimed, claim, &volume, image)?;
        decided.push(Decided { claim: claim.clone(), volume, new, met, has_source, attachment });
    }
    let answers = decided.iter().map(|one| one.attachment.clone()).collect();
    let facts = Facts {
        attempt: &subject.attempt,
        stage: subject.stage,
        container: &subject.container,
        tenant: &subject.tenant,
        pod: pod(subject),
        mounts: &subject.mounts,
        user_namespace: subject.user_namespace,
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
    timings.lap("plan");
    Ok(Proposal { plan, volumes, seen, answers, mark })
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
    context: &Context,
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
    context: &Context,
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
            Ok(Known { volume: new_volume(context, &wanted)?, new: true, met: None })
        }
        Err(StoreError::IsPart { .. }) => match context.store.find_part(id).map_err(Failure::new)? {
            Some((storage, _)) => Ok(Known::there(storage)),
            None => Err(Failure::new(format!("volume {id:?} was removed just now")).about(id.clone())),
        },
        Err(error) => Err(Failure::new(error).about(id.clone())),
    }
}

fn wanted_storage(
    context: &Context,
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

fn driver(context: &Context, name: &str, id: &VolumeId) -> Result<Driver, Failure> {
    context.plugins().driver(name).map_err(|error| plugin_failure(context, error, Some(id)))
}

/// A volume that is to be made.
pub(crate) struct Wanted<'a> {
    pub(crate) id: &'a VolumeId,
    pub(crate) driver: Option<&'a str>,
    pub(crate) options: &'a Pairs,
    pub(crate) labels: &'a Pairs,
    pub(crate) member: Option<&'a PodMember>,
    /// Those that are to be made before it and are not there yet: they count already for a driver that rations.
    pub(crate) before: &'a [Volume],
}

/// Asks the driver how a new volume is to be made.
pub(crate) fn new_volume(context: &Context, wanted: &Wanted<'_>) -> Result<Volume, Failure> {
    let Wanted { id, options, labels, member, .. } = *wanted;
    let config = context.config()?;
    let name = wanted.driver.unwrap_or(&config.default_driver);
    let driver = driver(context, name, id)?;
    let info = driver.describe().map_err(|error| plugin_failure(context, error, Some(id)))?;
    let whose = format!("volume {id:?}");
    options::check((PluginKind::Driver, name), Given::Option, Some(&whose), &info.options, options)
        .map_err(|error| option_failure(error).about(id.clone()))?;
    let settings = config.settings(name)?;
    options::check((PluginKind::Driver, name), Given::Setting, None, &info.settings, &settings)
        .map_err(option_failure)?;
    let usage = if driver.rations() {
        let mut usage = context.store.usage(&id.tenant, labels).map_err(Failure::new)?;
        wanted.before.iter().for_each(|volume| volume.add_to(&mut usage));
        usage
    } else {
        Usage::default()
    };
    let request = CreateRequest {
        volume: id.name.to_string(),
        tenant: id.tenant.to_string(),
        pod: member.map(|member| member.pod.to_string()),
        options: options.clone(),
        labels: labels.clone(),
        settings,
        usage,
    };
    let answer = driver.create(&request).map_err(|error| plugin_failure(context, error, Some(id)))?;
    let creation = answer.map_err(|refusal| {
        refused(&refusal, format!("driver {name} refuses to create volume {id:?}"), Some(id))
    })?;
    let uuid = uuid::Uuid::new_v4().to_string();
    let volume = plan::new_volume(id.clone(), labels, member, name, creation, uuid, Timestamp::now());
    grants::check_new(context, &volume)?;
    if let Backing::Image(image) = &volume.backing {
        mkfs::arguments(image.filesystem, &image.mkfs).map_err(|error| {
            let hint = error.hint();
            Failure::context(format!("cannot create volume {id:?}"), error).hint(hint).about(id.clone())
        })?;
    }
    Ok(volume)
}

fn ask_driver(
    context: &Context,
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
    let driver = driver(context, &volume.driver, id)?;
    let settings = context.config()?.settings(&volume.driver)?;
    if !settings.is_empty() {
        let info = driver.describe().map_err(|error| plugin_failure(context, error, Some(id)))?;
        options::check((PluginKind::Driver, &volume.driver), Given::Setting, None, &info.settings, &settings)
            .map_err(option_failure)?;
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
        container: container_info(subject),
        holders,
        access: claim.access,
        settings,
    };
    let answer = driver.attach(&request).map_err(|error| plugin_failure(context, error, Some(id)))?;
    answer.map_err(|refusal| {
        refused(&refusal, format!("driver {} refuses to attach volume {id:?}", volume.driver), Some(id))
    })
}

fn refused(refusal: &Refusal, who: String, volume: Option<&VolumeId>) -> Failure {
    let mut failure = Failure::new(format!("{who}: {}", refusal.reason));
    failure.hints.extend(refusal.hint.clone());
    failure.volume = volume.cloned();
    failure
}

fn option_failure(error: Box<options::OptionError>) -> Failure {
    let hint = error.hint();
    Failure::new(error).hint(hint)
}

fn plugin_failure(context: &Context, error: PluginError, volume: Option<&VolumeId>) -> Failure {
    let hint = match &error {
        PluginError::Fault { plugin, .. } => {
            Some(format!("what it was asked: {}", context.decisions().failure(plugin).display()))
        }
        _ => None,
    };
    let mut failure = match (error, volume) {
        (PluginError::Unknown { kind, name, installed }, volume) => {
            let whose = volume.map_or(String::new(), |id| format!(" for volume {id:?}"));
            Failure::new(format!("unknown {kind} {name:?}{whose}"))
                .hint(format!("installed: {}", installed.join(", ")))
        }
        (error, Some(id)) => Failure::context(format!("cannot decide about volume {id:?}"), error),
        (error, None) => Failure::new(error),
    };
    failure.hints.extend(hint);
    failure.volume = volume.cloned();
    failure
}
