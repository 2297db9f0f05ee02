//! `volhook pod`: the personal machines whose files the volumes of a pod keep.

use crate::format::Format;
use crate::output::complain;
use crate::output::confirm;
use crate::output::dash;
use crate::output::document;
use crate::output::note;
use crate::output::out;
use crate::output::out_line;
use crate::output::print_json;
use crate::output::print_table;
use crate::output::printed;
use crate::output::report_all;
use crate::output::warn;
use crate::progress::spinning;
use crate::progress::stoppable;
use crate::shape::Shape;
use crate::watch::Watch;
use serde_json::Value;
use volhook_api::PodRef;
use volhook_api::pod::Anew;
use volhook_api::pod::Hidden;
use volhook_api::pod::Inspect;
use volhook_api::pod::List;
use volhook_api::pod::Listed;
use volhook_api::pod::Prepare;
use volhook_api::pod::Remove;
use volhook_api::pod::Reset;
use volhook_api::pod::Resize;
use volhook_api::pod::Upgrade;
use volhook_api::pod::Upgraded;
use volhook_core::size;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::pods;

/// `volhook pod ls`.
pub(crate) fn ls(engine: &Engine, watch: &Watch, quiet: bool, shape: &Shape) -> Result<(), Failure> {
    let sizes = !quiet && shape.shows("Size", true);
    let listed = pods::look::list(engine, &List { sizes }, &watch.work())?;
    if quiet {
        return listed.iter().try_for_each(|pod| out(&format!("{}\n", pod.name)));
    }
    let row = |pod: &Listed| {
        vec![
            pod.name.to_string(),
            pod.population.clone(),
            pod.size.map_or_else(|| "?".to_owned(), size::format),
            dash(pod.limit.map(size::format)),
            dash(Some(pod.holders.join(","))),
            dash(pod.image.clone()),
            pod.created.strftime("%Y-%m-%d %H:%M").to_string(),
        ]
    };
    let header = ["pod", "population", "size", "limit", "held by", "image", "created"];
    shape.print(&listed, || print_table(&header, listed.iter().map(row).collect()))
}

/// `volhook pod inspect POD…`: one JSON array, also when some are missing.
pub(crate) fn inspect(
    engine: &Engine,
    watch: &Watch,
    pods: Vec<PodRef>,
    format: Option<&str>,
) -> Result<(), Failure> {
    let format = format.map(Format::parse).transpose()?;
    let inspected = pods::look::inspect(engine, &Inspect { pods }, &watch.work())?;
    match format {
        None => print_json(&document(&inspected.pods)?)?,
        Some(format) => {
            let documents: Result<Vec<Value>, Failure> = inspected.pods.iter().map(document).collect();
            format.print_inspected(&documents?)?;
        }
    }
    report_all(inspected.failed.into_iter().map(Failure::from).collect())
}

/// `volhook pod prepare POD --rootfs DIR`: what a first start would do, without a container.
pub(crate) fn prepare(engine: &Engine, watch: &Watch, asked: &Prepare) -> Result<(), Failure> {
    stoppable(watch, |work| pods::prepare::prepare(engine, asked, work))?;
    out(&format!("{}\n", asked.pod))
}

/// `volhook pod resize POD SIZE`.
pub(crate) fn resize(engine: &Engine, watch: &Watch, pod: PodRef, wanted: &str) -> Result<(), Failure> {
    let size = size::parse(wanted).map_err(|error| {
        Failure::usage(error).during(format!("cannot resize pod {:?} to {wanted:?}", pod.to_string()))
    })?;
    let asked = Resize { pod, size };
    let resized = spinning("changing the size", || pods::resize::resize(engine, &asked, &watch.work()))?;
    out(&format!("{} {}\n", resized.name, size::format(resized.size)))
}

/// `volhook pod reset POD [--volume NAME]…`.
pub(crate) fn reset(engine: &Engine, watch: &Watch, asked: &Reset, force: bool) -> Result<(), Failure> {
    let resettable = pods::reset::resettable(engine, asked, &watch.work())?;
    let pod = &resettable.pod;
    if !force {
        let question = if resettable.members.is_empty() {
            note(&format!("pod {pod} goes back to the image; all that was changed in it goes to the trash"));
            "Begin anew?"
        } else {
            let what = resettable.members.join(", ");
            note(&format!(
                "{what} of pod {pod} go back to the image; what was changed in them cannot be taken back"
            ));
            "Throw the changes away?"
        };
        if !confirm(question)? {
            return Err(Failure::new("nothing was changed"));
        }
    }
    let Anew { pod, trashed } = stoppable(watch, |work| pods::reset::reset(engine, &resettable, work))?;
    if let Some(uuid) = trashed {
        note(&format!(
            "What it had is in the trash: `volhook pod rm {pod}`, then `volhook trash restore {uuid}`"
        ));
    }
    out(&format!("{pod}\n"))
}

/// `volhook pod upgrade POD [--rootfs DIR]`.
pub(crate) fn upgrade(engine: &Engine, watch: &Watch, asked: &Upgrade) -> Result<(), Failure> {
    let Upgraded { pod, image, hidden } = pods::upgrade::upgrade(engine, asked, &watch.work())?;
    match hidden {
        Hidden::Everything => {
            note("Nothing of the image is seen where the pod has volumes: they are its own");
        }
        Hidden::Paths(paths) => {
            if !paths.is_empty() {
                note("The pod's own files are seen instead of these of the image:");
            }
            for path in paths {
                out_line(&path)?;
            }
        }
        Hidden::Unknown(why) => warn(&format!(
            "what the pod's changes hide of the image cannot be told: {why}; give its root filesystem with --rootfs"
        )),
    }
    note(&format!("Pod {pod} belongs to {image} now"));
    Ok(())
}

/// `volhook pod rm POD…`: each goes to the trash with all its volumes, the rest is reported.
pub(crate) fn rm(engine: &Engine, watch: &Watch, pods: Vec<PodRef>, force: bool) -> Result<(), Failure> {
    let removal = pods::remove::removable(engine, &Remove { pods }, &watch.work());
    let mut failures: Vec<Failure> = removal.failed.iter().cloned().map(Failure::from).collect();
    if !removal.pods.is_empty() && !force {
        for pod in &removal.pods {
            note(&format!("{} ({} volumes, created {})", pod.name, pod.volumes, pod.created));
        }
        if !confirm("Remove these pods with all their volumes?")? {
            failures.iter().for_each(|failure| complain(failure, false));
            return Err(Failure::new("nothing was removed"));
        }
    }
    let removed = pods::remove::remove(engine, &removal, &watch.work());
    failures.extend(removed.failed.into_iter().map(Failure::from));
    printed(removed.pods.iter().map(ToString::to_string), failures)
}
