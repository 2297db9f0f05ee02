//! `volhook bundle` and `volhook plan`: OCI bundles, prepared and looked at.

use crate::output::dash;
use crate::output::note;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use crate::wrapper::write_spec;
use serde_json::json;
use std::path::Path;
use volhook_core::claims;
use volhook_core::decision::Population;
use volhook_core::names::ContainerId;
use volhook_core::plan::Plan;
use volhook_core::plan::PlannedFollow;
use volhook_core::plan::PlannedRenewal;
use volhook_core::rewrite;
use volhook_core::spec::VOLHOOK_TYPE;
use volhook_core::stage::Stage;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_engine::bundle::read_spec;
use volhook_engine::image::Image;
use volhook_engine::start::claim;
use volhook_engine::start::propose;
use volhook_engine::start::spec;
use volhook_engine::start::subject::Subject;
use volhook_leases::judge;
use volhook_mounts::rootfs::Rootfs;

/// `volhook bundle install BUNDLE`.
pub(crate) fn install(
    context: &Context<'_>,
    bundle: &Path,
    stage: &str,
    timeout: u32,
) -> Result<(), Failure> {
    let mut spec = read_spec(bundle)?;
    let entry = |stage| spec::hook_entry(context, stage, None, timeout);
    let hooks = [(stage, entry(stage)?), ("poststop", entry("poststop")?)];
    // A spec that was planned for the spec stage would have its volumes twice.
    let prefix = &context.config()?.annotation_prefix;
    let stripped = rewrite::strip(&mut spec, prefix, &|source| context.is_volume_source(source))?.is_some();
    if rewrite::install_hooks(&mut spec, &hooks)? || stripped {
        write_spec(&bundle.join("config.json"), &spec)?;
        note(&format!("{stage} and poststop entries written to {}", bundle.join("config.json").display()));
    } else {
        note(&format!("{} has the entries already", bundle.join("config.json").display()));
    }
    Ok(())
}

/// `volhook plan BUNDLE`.
pub(crate) fn plan(
    context: &Context<'_>,
    bundle: &Path,
    id: Option<&str>,
    as_json: bool,
) -> Result<(), Failure> {
    let mut spec = read_spec(bundle)?;
    let config = context.config()?;
    rewrite::strip(&mut spec, &config.annotation_prefix, &|source| context.is_volume_source(source))?;
    let annotations = spec.annotations()?;
    let mounts = spec.mounts()?;
    // A mount of our type can only have been meant for the spec stage.
    let stage = if mounts.iter().any(|m| m.kind == VOLHOOK_TYPE) { Stage::Spec } else { Stage::Live };
    let subject = Subject {
        attempt: spec::new_attempt(),
        stage,
        container: ContainerId::new(id.unwrap_or("planned")).map_err(Failure::usage)?,
        tenant: claims::tenant(&annotations, config.tenant_annotation.as_deref())?,
        wishes: claims::wishes(&annotations, config)?,
        mounts,
        user_namespace: spec.has_user_namespace(),
    };
    let root_path = bundle.join(spec.root_path()?);
    let rootfs = Rootfs::on_host(&root_path).map_err(|error| {
        Failure::context(format!("cannot open the root filesystem {}", root_path.display()), error)
    })?;
    let image = Image::new(&root_path, &rootfs, &annotations).for_users(subject.user_namespace);
    let claimed = claim::claim(context, &subject, &rootfs, &image)?;
    let table = context.grants()?;
    let (dead, _) = context.dead(table.grants());
    let living = judge::after(&table, dead.iter().map(|over| &over.record));
    let proposal = propose::propose(context, &subject, &claimed, &image, &living)?;
    if as_json { print_json(&json!(proposal.plan)) } else { print_plan(&proposal.plan) }
}

fn print_plan(plan: &Plan) -> Result<(), Failure> {
    if plan.is_empty() {
        out("The container claims nothing: it starts untouched.\n")?;
    } else {
        let rows = plan.mounts.iter().map(|mount| {
            let lease = plan.leases.iter().find(|lease| lease.volume == mount.volume);
            let new = plan.create.iter().any(|volume| volume.id == mount.volume);
            let place = if mount.resolved.path == mount.target.as_str() {
                mount.target.to_string()
            } else {
                format!("{} ({})", mount.target, mount.resolved.path)
            };
            vec![
                mount.shown().to_string(),
                dash(lease.map(|lease| lease.driver.clone())),
                if new { "create" } else { "use" }.to_owned(),
                dash(lease.map(|lease| format!("{} {}", mount.access, lease.sharing))),
                place,
                dash(
                    mount.subpath.as_ref().filter(|_| mount.part.is_none()).map(|(path, _)| path.to_string()),
                ),
            ]
        });
        print_table(&["volume", "driver", "volume is", "access", "target", "subpath"], rows.collect())?;
    }
    changes(plan).iter().try_for_each(|line| out(&format!("{line}\n")))?;
    for note in &plan.notes {
        out(&format!("note: volume {:?}: {}\n", note.volume, note.text))?;
    }
    Ok(())
}

/// What is done to volumes before they are mounted, a line each.
fn changes(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for volume in &plan.create {
        if let (Some(storage), Some(member)) = (&volume.storage, &volume.pod) {
            let pod = member.pod.as_str();
            lines.push(format!(
                "pod {pod} is made, as volume {:?}: {}",
                volume.id,
                populated(storage.population)
            ));
        }
    }
    for PlannedRenewal { pod, storage, from, to, volume, .. } in &plan.renew {
        let (from, to) = (from.describe(), to.describe());
        let population = volume.storage.as_ref().map_or(Population::Overlay, |storage| storage.population);
        lines.push(format!(
            "pod {pod}'s files go to the trash, with volume {storage:?}: its image changed from {from} to {to}"
        ));
        lines.push(format!("pod {pod} begins anew: {}", populated(population)));
    }
    for PlannedFollow { pod, from, to, .. } in &plan.follow {
        lines.push(format!("pod {pod} follows its image from {} to {}", from.describe(), to.describe()));
    }
    let parts = plan.parts.iter().chain(plan.renew.iter().flat_map(|renewal| &renewal.parts));
    lines.extend(parts.map(|planned| {
        let (name, path) = (planned.part.name.as_str(), &planned.part.path);
        let how = if planned.copy { "is filled with what the image has in" } else { "is made, empty, for" };
        format!("volume {name:?} {how} {path}")
    }));
    lines.extend(plan.copy_up.iter().map(|filled| {
        format!("volume {:?} is filled with what the image has in {}", filled.volume, filled.from)
    }));
    lines
}

/// How the volumes of a pod come by what the image has.
fn populated(population: Population) -> &'static str {
    match population {
        Population::Overlay => "the image is seen through its changes",
        Population::Copy => "the image's files are copied",
        Population::Empty => "it is empty, whatever the image has",
    }
}
