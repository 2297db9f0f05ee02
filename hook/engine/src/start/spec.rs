//! The spec stage: the container's spec is rewritten before a runtime reads it.

use crate::context::Context;
use crate::failpoint;
use crate::failure::Failure;
use crate::image::Image;
use crate::start::acquire;
use crate::start::acquire::acquire;
use crate::start::claim;
use crate::start::storage;
use crate::start::subject::Subject;
use std::path::Path;
use volhook_core::claims;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;
use volhook_core::rewrite;
use volhook_core::rewrite::HookEntry;
use volhook_core::spec::Spec;
use volhook_core::spec::VOLHOOK_TYPE;
use volhook_core::stage::Stage;
use volhook_leases::attempts::Record;
use volhook_mounts::rootfs::Rootfs;

/// Seconds that a runtime waits for an entry that volhook wrote, unless told otherwise.
pub const ENTRY_TIMEOUT_SECONDS: u32 = 30;

/// A hook entry that calls this program with everything that it needs to know, for a spec.
pub fn hook_entry(
    context: &Context<'_>,
    stage: &str,
    attempt: Option<&str>,
    timeout: u32,
) -> Result<HookEntry, Failure> {
    let mut args = vec!["volhook".to_owned(), "hook".to_owned(), stage.to_owned()];
    args.extend(attempt.map(rewrite::token));
    let mut env = vec![
        format!("VOLHOOK_ROOT={}", context.places.root.display()),
        format!("VOLHOOK_RUN_DIR={}", context.places.run_dir.display()),
        format!("VOLHOOK_CONFIG={}", context.places.config.display()),
        format!("VOLHOOK_TIMEOUT={timeout}"),
    ];
    env.extend(context.places.environment.iter().cloned());
    let program = context.places.program.as_ref();
    let program = program.ok_or_else(|| Failure::new("cannot tell the path of the volhook program"))?;
    Ok(HookEntry { path: program.display().to_string(), args, env, timeout })
}

/// A fresh attempt's identity.
pub fn new_attempt() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The id that an engine will give the container. podman's precreate hook is not told it, but the spec has it
/// in the cgroup's path or in the sources of the engine's own mounts.
///
/// # Errors
/// When what looks like an id cannot be one.
pub fn container_id(spec: &Spec, attempt: &str) -> Result<ContainerId, Failure> {
    let is_id = |text: &&str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let cgroup = spec.document()["linux"]["cgroupsPath"].as_str().unwrap_or_default().to_owned();
    let from_cgroup = cgroup.split(['/', ':', '-', '.']).rev().find(is_id).map(str::to_owned);
    let from_mounts = || -> Result<Option<String>, Failure> {
        Ok(spec.mounts()?.iter().find_map(|mount| {
            let (_, rest) = mount.source.split_once("-containers/")?;
            rest.split('/').next().filter(is_id).map(str::to_owned)
        }))
    };
    let id = match from_cgroup {
        Some(id) => Some(id),
        None => from_mounts()?,
    };
    Ok(ContainerId::new(id.unwrap_or_else(|| format!("unnamed-{attempt}")))?)
}

/// Whether a spec may ask for volumes, or gets some without asking.
pub fn could_claim(context: &Context<'_>, spec: &Spec) -> Result<bool, Failure> {
    let has_our_mounts = spec.mounts()?.iter().any(|mount| mount.kind == VOLHOOK_TYPE);
    Ok(has_our_mounts || !context.wishes(&spec.annotations()?)?.is_empty())
}

/// The spec with its volumes, leases taken; `None` when it is to stay as it is.
pub fn rewritten(
    context: &Context<'_>,
    mut spec: Spec,
    container: ContainerId,
    attempt: String,
    bundle: &Path,
) -> Result<Option<Spec>, Failure> {
    if !could_claim(context, &spec)? {
        return Ok(None);
    }
    let config = context.config()?;
    let prefix = &config.annotation_prefix;
    let stripped = rewrite::strip(&mut spec, prefix, &|source| context.is_volume_source(source))?.is_some();
    let annotations = spec.annotations()?;
    let mounts = spec.mounts()?;
    let wishes = claims::wishes(&annotations, config)?;
    if wishes.is_empty() && !mounts.iter().any(|mount| mount.kind == VOLHOOK_TYPE) {
        return Ok(stripped.then_some(spec));
    }
    context.step("spec");
    let root_path = bundle.join(spec.root_path()?);
    let rootfs = Rootfs::on_host(&root_path).map_err(|error| {
        Failure::context(format!("cannot open the root filesystem {}", root_path.display()), error)
    })?;
    let subject = Subject {
        attempt,
        stage: Stage::Spec,
        container,
        tenant: claims::tenant(&annotations, config.tenant_annotation.as_deref())?,
        wishes,
        mounts,
        user_namespace: spec.has_user_namespace(),
    };
    let image = Image::new(&root_path, &rootfs, &annotations).for_users(subject.user_namespace);
    let claimed = claim::claim(context, &subject, &rootfs, &image)
        .map_err(|failure| storage::offer(context, &subject, &image, failure))?;
    if claimed.claims.is_empty() {
        acquire::note_stepped_back(context, &subject, &claimed)?;
        return Ok(stripped.then_some(spec));
    }
    let planned = acquire(context, &subject, &claimed, &image, None, |proposal| {
        let entry = |stage| hook_entry(context, stage, Some(&subject.attempt), ENTRY_TIMEOUT_SECONDS);
        let hooks = [("createRuntime", entry("createRuntime")?), ("poststop", entry("poststop")?)];
        let source = |id: &VolumeId| context.store.directory_path(id).display().to_string();
        let plan = proposal.plan.clone();
        rewrite::apply(&mut spec, &plan, prefix, &claimed.resolved, &source, &hooks)?;
        context.ledger.attempts().write(&Record::new(plan, None, spec.document().clone()))?;
        context.step("record");
        failpoint::reached("recorded")?;
        Ok(spec)
    })?;
    match planned {
        Some(spec) => Ok(Some(spec)),
        None => Err(Failure::internal("a container that has no process yet holds leases already")),
    }
}
