//! The first half of the way: from a container's wishes to its claims, settled against its spec.

use crate::ask;
use crate::context::Context;
use crate::failure::Failure;
use crate::image::Image;
use crate::start::storage;
use crate::start::subject::Claimed;
use crate::start::subject::PodFacts;
use crate::start::subject::Subject;
use jiff::Timestamp;
use std::collections::BTreeMap;
use tracing::debug_span;
use volhook_core::claims;
use volhook_core::claims::Granted;
use volhook_core::claims::PolicyRequest;
use volhook_core::decision::ClaimsRequest;
use volhook_core::decision::Pairs;
use volhook_core::decision::PluginKind;
use volhook_core::last_step;
use volhook_core::names::Target;
use volhook_core::options;
use volhook_core::options::Given;
use volhook_core::record::Step;
use volhook_core::resolved::Resolved;
use volhook_core::spec::SpecMount;
use volhook_mounts::rootfs::Rootfs;

/// Asks the policy, looks up all targets and settles the claims.
pub(crate) fn claim(
    context: &Context<'_>,
    subject: &Subject,
    rootfs: &Rootfs,
    image: &Image<'_>,
) -> Result<Claimed, Failure> {
    let looking = context.enter(Step::Pod, debug_span!("pod"));
    let mut explicit = subject.wishes.claims.clone();
    explicit.extend(claims::from_spec_mounts(&subject.mounts)?);
    let pod = match subject.pod() {
        Some(pod) => storage::facts(context, &subject.tenant, pod, image)?,
        None => PodFacts::default(),
    };
    drop(looking);
    let mut by_policy = Vec::new();
    let mut storages = Vec::new();
    let mut remarks = Vec::new();
    let mut keeps_all = false;
    for request in &subject.wishes.policies {
        let _asking = context.enter(Step::Plugins, debug_span!("plugins", policy = request.plugin));
        let (granted, all) = ask_policy(context, subject, request, rootfs, &pod)?;
        keeps_all |= all;
        by_policy.extend(granted.claims);
        storages.extend(granted.storage);
        remarks.extend(granted.notes);
    }
    let _resolving = context.enter(Step::Resolve, debug_span!("resolve"));
    let targets = explicit.iter().chain(&by_policy).map(|claim| claim.target.clone());
    let resolved = resolve(rootfs, targets, &subject.mounts);
    let (claims, stepped_back) = claims::settle(explicit, by_policy, &subject.mounts, &resolved)?;
    let (now, fresh) = (Timestamp::now(), uuid::Uuid::new_v4().to_string());
    Ok(Claimed { claims, storages, pod, keeps_all, remarks, stepped_back, resolved, now, fresh })
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

/// What a policy grants, and whether that is everything in the container.
fn ask_policy(
    context: &Context<'_>,
    subject: &Subject,
    request: &PolicyRequest,
    rootfs: &Rootfs,
    facts: &PodFacts,
) -> Result<(Granted, bool), Failure> {
    let config = context.config()?;
    let name = request.plugin.as_deref().unwrap_or(&config.policy);
    let policy = context.plugins().policy(name).map_err(|error| ask::plugin_failure(context, error, None))?;
    let settings = merged(config.settings(name)?, &request.settings);
    if !settings.is_empty() {
        let info = policy.describe().map_err(|error| ask::plugin_failure(context, error, None))?;
        let plugin = (PluginKind::Policy, name);
        options::check(plugin, Given::Setting, None, &info.settings, &settings)
            .map_err(ask::option_failure)?;
    }
    let top_level = rootfs
        .top_level()
        .map_err(|error| Failure::context("cannot list the top level of the root filesystem", error))?;
    let asked = ClaimsRequest {
        container: subject.info(),
        rootfs: top_level,
        settings,
        pod: facts.state,
        no_overlay: facts.no_overlay.clone(),
    };
    let answer = policy.claims(&asked).map_err(|error| ask::plugin_failure(context, error, None))?;
    let granted =
        answer.map_err(|refusal| ask::refused(&refusal, format!("policy {name:?} refuses"), None))?;
    let granted = claims::from_policy(name, subject.pod(), granted)?;
    let keeps_all = granted.storage.is_some() && last_step::keeps_all(&asked.rootfs, &granted.claims);
    Ok((granted, keeps_all))
}

/// `base`, with the values of `over` in place of its own.
fn merged(base: Pairs, over: &Pairs) -> Pairs {
    let mut merged: Pairs =
        base.into_iter().filter(|(name, _)| over.iter().all(|(other, _)| other != name)).collect();
    merged.extend(over.iter().cloned());
    merged
}
