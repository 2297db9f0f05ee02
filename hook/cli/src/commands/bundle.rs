//! `volhook bundle` and `volhook plan`: OCI bundles, prepared and looked at.

use crate::output::dash;
use crate::output::note;
use crate::output::out;
use crate::output::out_line;
use crate::output::print_json;
use crate::output::print_table;
use crate::watch::Watch;
use serde_json::json;
use volhook_api::bundle::Install;
use volhook_api::bundle::Preview;
use volhook_core::decision::Population;
use volhook_core::last_step::PodRoot;
use volhook_core::plan::Plan;
use volhook_core::plan::PlannedFollow;
use volhook_core::plan::PlannedRenewal;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::start;
use volhook_engine::start::preview::preview;

/// `volhook bundle install BUNDLE`.
pub(crate) fn install(engine: &Engine, watch: &Watch, asked: &Install) -> Result<(), Failure> {
    let installed = start::install::install(engine, asked, &watch.work())?;
    let file = installed.file.display();
    if installed.written {
        let stages = if installed.has_last_step { ", startContainer and poststop" } else { " and poststop" };
        note(&format!("{}{stages} entries written to {file}", asked.stage.as_str()));
    } else {
        note(&format!("{file} has the entries already"));
    }
    Ok(())
}

/// `volhook plan BUNDLE`.
pub(crate) fn plan(engine: &Engine, watch: &Watch, asked: &Preview, as_json: bool) -> Result<(), Failure> {
    let plan = preview(engine, asked, &watch.work())?;
    if as_json { print_json(&json!(plan)) } else { print_plan(&plan) }
}

fn print_plan(plan: &Plan) -> Result<(), Failure> {
    if plan.is_empty() && plan.notes.is_empty() {
        out("The container claims nothing: it starts untouched.\n")?;
    } else if plan.is_empty() {
        out("The container gets no volumes: whatever was claimed for it stepped back.\n")?;
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
    changes(plan).iter().try_for_each(|line| out_line(line))?;
    for note in &plan.notes {
        out_line(&format!("note: volume {:?}: {}", note.volume, note.text))?;
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
    if plan.root == Some(PodRoot::Overlay) {
        lines.push(
            "what is made at / itself is kept as well: the pod's files become the container's root"
                .to_owned(),
        );
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
