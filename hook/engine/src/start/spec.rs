//! The spec stage: the container's spec is rewritten before a runtime reads it.

use crate::bundle::could_claim;
use crate::context::Context;
use crate::engine::Places;
use crate::failpoint;
use crate::failure::Failure;
use crate::image::Image;
use crate::start::acquire;
use crate::start::acquire::acquire;
use crate::start::claim;
use crate::start::root;
use crate::start::storage;
use crate::start::subject::Subject;
use crate::text;
use oci_spec::runtime::Hook;
use std::path::Path;
use tracing::debug_span;
use tracing::info_span;
use volhook_core::claims;
use volhook_core::last_step;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;
use volhook_core::record::Step;
use volhook_core::rewrite;
use volhook_core::spec::Spec;
use volhook_core::spec::VOLHOOK_TYPE;
use volhook_core::stage::Stage;
use volhook_leases::attempts::Record;
use volhook_mounts::rootfs::Rootfs;

/// Seconds that a runtime waits for an entry that volhook wrote, unless told otherwise.
pub const ENTRY_TIMEOUT_SECONDS: u32 = 30;

/// The variable that tells an entry the spec's file, if that is not its bundle's `config.json`.
pub const SPEC_VARIABLE: &str = "VOLHOOK_SPEC";

/// A hook entry that calls this program with everything that it needs to know, for a spec.
pub(crate) fn hook_entry(
    context: &Context<'_>,
    stage: &str,
    argument: Option<String>,
    timeout: u32,
) -> Result<Hook, Failure> {
    let mut args = vec!["volhook".to_owned(), "hook".to_owned(), stage.to_owned()];
    args.extend(argument);
    let Places { root, run_dir, config, .. } = &context.places;
    let mut env = vec![
        format!("VOLHOOK_ROOT={}", text::of_path("the state root", root)?),
        format!("VOLHOOK_RUN_DIR={}", text::of_path("the run directory", run_dir)?),
        format!("VOLHOOK_CONFIG={}", text::of_path("the configuration", config)?),
        format!("VOLHOOK_TIMEOUT={timeout}"),
    ];
    env.extend(context.places.environment.iter().cloned());
    let program = context.places.program.as_ref();
    let program = program.ok_or_else(|| Failure::new("cannot tell the path of the volhook program"))?;
    text::of_path("the volhook program", program)?;
    let mut entry = Hook::default();
    // With no environment of its own runc would hand down the one that it has.
    entry.set_path(program.clone()).set_args(Some(args)).set_env(Some(env)).set_timeout(Some(timeout.into()));
    Ok(entry)
}

/// A container that is about to start, whose spec is at hand.
#[derive(Debug)]
pub struct SpecStart<'a> {
    /// Its id, as far as it is known.
    pub container: ContainerId,
    /// The attempt to start it.
    pub attempt: String,
    /// The folder that paths of its spec are relative to.
    pub bundle: &'a Path,
    /// The spec's file, if it is not the bundle's `config.json`.
    pub spec_file: Option<&'a Path>,
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

/// The spec with its volumes, leases taken; `None` when it is to stay as it is.
pub fn rewritten(context: &Context<'_>, spec: Spec, start: &SpecStart<'_>) -> Result<Option<Spec>, Failure> {
    let _start = info_span!("start", container = %start.container, attempt = start.attempt).entered();
    let rewritten = rewrite(context, spec, start).map_err(|failure| failure.of_attempt(&start.attempt));
    context.tell_untold();
    rewritten
}

fn rewrite(context: &Context<'_>, mut spec: Spec, start: &SpecStart<'_>) -> Result<Option<Spec>, Failure> {
    let reading = context.enter(Step::Spec, debug_span!("spec"));
    if !could_claim(context, &spec.outline()?)? {
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
    drop(reading);
    let looking = context.enter(Step::Process, debug_span!("process"));
    // Before anything is made: an entry that cannot be written refuses the start.
    let entry = |stage| -> Result<Hook, Failure> {
        let mut entry =
            hook_entry(context, stage, Some(rewrite::token(&start.attempt)), ENTRY_TIMEOUT_SECONDS)?;
        if let Some(file) = start.spec_file {
            let variable = format!("{SPEC_VARIABLE}={}", text::of_path("the spec", file)?);
            entry.env_mut().get_or_insert_default().push(variable);
        }
        Ok(entry)
    };
    let step = last_step::entry(Some(rewrite::token(&start.attempt)), ENTRY_TIMEOUT_SECONDS);
    let hooks = [
        ("createRuntime", entry("createRuntime")?),
        ("startContainer", step),
        ("poststop", entry("poststop")?),
    ];
    let root_path = start.bundle.join(spec.root_path()?);
    let rootfs = Rootfs::on_host(&root_path).map_err(|error| {
        Failure::context(format!("cannot open the root filesystem {}", root_path.display()), error)
    })?;
    drop(looking);
    let subject = Subject {
        attempt: start.attempt.clone(),
        stage: Stage::Spec,
        container: start.container.clone(),
        tenant: claims::tenant(&annotations, config.tenant_annotation.as_deref())?,
        wishes,
        mounts,
        user_namespace: spec.has_user_namespace(),
        folders: root::before_editing(&spec),
    };
    let image = Image::new(&root_path, &rootfs, &annotations).for_users(subject.user_namespace);
    let claimed = claim::claim(context, &subject, &rootfs, &image)
        .map_err(|failure| storage::offer(context, &subject, &image, failure))?;
    if claimed.claims.is_empty() {
        acquire::note_stepped_back(context, &subject, &claimed)?;
        return Ok(stripped.then_some(spec));
    }
    let planned = acquire(context, &subject, &claimed, &image, None, |proposal| {
        let _recording = context.enter(Step::Record, debug_span!("record"));
        let source = |id: &VolumeId| context.store.directory_path(id);
        let plan = proposal.plan.clone();
        rewrite::apply(&mut spec, &plan, prefix, &claimed.resolved, &source, &hooks)?;
        context.ledger.attempts().write(&Record::new(plan, None, spec.document().clone()))?;
        failpoint::reached("recorded")?;
        Ok(spec)
    })?;
    match planned {
        Some(spec) => Ok(Some(spec)),
        None => Err(Failure::internal("a container that has no process yet holds leases already")),
    }
}
