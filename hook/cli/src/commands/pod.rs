//! `volhook pod`: the personal machines whose files the volumes of a pod keep.

use crate::output::complain;
use crate::output::confirm;
use crate::output::dash;
use crate::output::note;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use crate::output::report_all;
use crate::output::warn;
use crate::progress::copying;
use crate::progress::spinning;
use jiff::SignedDuration;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::Path;
use volhook_api::Kind;
use volhook_api::VolumeRef;
use volhook_api::volume::Resize;
use volhook_core::claims;
use volhook_core::decision::Population;
use volhook_core::image::ImageIdentity;
use volhook_core::names::ContainerId;
use volhook_core::names::Pod;
use volhook_core::names::Tenant;
use volhook_core::plan::Plan;
use volhook_core::plan::PlannedRenewal;
use volhook_core::size;
use volhook_core::stage::Stage;
use volhook_core::volume::Volume;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_engine::image::Image;
use volhook_engine::start::acquire;
use volhook_engine::start::claim;
use volhook_engine::start::fill;
use volhook_engine::start::make::Making;
use volhook_engine::start::propose;
use volhook_engine::start::renew;
use volhook_engine::start::spec;
use volhook_engine::start::storage;
use volhook_engine::start::storage::Top;
use volhook_engine::start::subject::Subject;
use volhook_engine::volumes::filesystem;
use volhook_engine::volumes::list;
use volhook_engine::volumes::remove;
use volhook_journal::Interest;
use volhook_leases::judge;
use volhook_mounts::rootfs::Rootfs;
use volhook_volumes::changes;
use volhook_volumes::shadowed;

/// The storage of the pod that a person means.
fn existing(context: &Context<'_>, tenant: &str, pod: &str) -> Result<(Pod, Volume), Failure> {
    let tenant = Tenant::new(tenant).map_err(Failure::usage)?;
    let pod = Pod::new(pod).map_err(Failure::usage)?;
    match context.store.pod_storage(&tenant, &pod).map_err(Failure::new)? {
        Some(volume) => Ok((pod, volume)),
        None => {
            let failure = Failure::new(format!("no such pod: {pod:?}"));
            Err(Failure {
                kind: Kind::NoSuchVolume,
                ..failure.hint("`volhook pod ls` shows which there are")
            })
        }
    }
}

/// All storages of pods, by tenant and pod.
fn all(context: &Context<'_>) -> Result<Vec<(Pod, Volume)>, Failure> {
    let listing = context.store.list().map_err(Failure::new)?;
    let mut pods: Vec<(Pod, Volume)> = listing
        .volumes
        .into_iter()
        .filter(|volume| volume.storage.is_some())
        .filter_map(|volume| Some((volume.pod.as_ref()?.pod.clone(), volume)))
        .collect();
    pods.sort_by(|a, b| (&a.1.id.tenant, &a.0).cmp(&(&b.1.id.tenant, &b.0)));
    Ok(pods)
}

/// `volhook pod ls`.
pub(crate) fn ls(context: &Context<'_>, quiet: bool, as_json: bool) -> Result<(), Failure> {
    let pods = all(context)?;
    if quiet {
        return pods.iter().try_for_each(|(pod, _)| out(&format!("{pod}\n")));
    }
    let table = context.grants()?;
    let volumes: Vec<&Volume> = pods.iter().map(|(_, volume)| volume).collect();
    let sizes = context.store.sizes(&volumes, Timestamp::now(), SignedDuration::from_mins(1), None);
    let mut documents = Vec::new();
    let mut rows = Vec::new();
    for ((pod, volume), size) in pods.iter().zip(sizes) {
        let storage = storage::of(volume)?;
        let holders = list::holders(&table, volume);
        let size = size.unwrap_or_else(|error| {
            warn(&Failure::new(error).cause_line());
            None
        });
        let image = storage.image.as_ref().map(ImageIdentity::describe);
        documents.push(json!({
            "name": pod.as_str(),
            "tenant": volume.id.tenant.as_str(),
            "population": storage.population.to_string(),
            "volumes": storage.parts.len(),
            "size": size.map(|size| size.bytes),
            "limit": volume.limit,
            "holders": holders,
            "image": image,
            "created": volume.created.to_string(),
        }));
        rows.push(vec![
            pod.to_string(),
            storage.population.to_string(),
            size.map_or_else(|| "?".to_owned(), |size| size::format(size.bytes)),
            dash(volume.limit.map(size::format)),
            dash(Some(holders.join(","))),
            dash(image),
            volume.created.strftime("%Y-%m-%d %H:%M").to_string(),
        ]);
    }
    if as_json {
        return print_json(&documents.into());
    }
    print_table(&["pod", "population", "size", "limit", "held by", "image", "created"], rows)
}

/// `volhook pod inspect POD…`: one JSON array, also when some are missing.
pub(crate) fn inspect(context: &Context<'_>, tenant: &str, pods: &[String]) -> Result<(), Failure> {
    let mut documents = Vec::new();
    let mut failures = Vec::new();
    for pod in pods {
        match existing(context, tenant, pod).and_then(|(pod, volume)| document(context, &pod, &volume)) {
            Ok(document) => documents.push(document),
            Err(failure) => failures.push(failure),
        }
    }
    print_json(&documents.into())?;
    report_all(failures)
}

fn image_document(image: &ImageIdentity) -> Value {
    json!({
        "name": image.name,
        "system": image.system,
        "packages": image.packages.as_ref().map(|packages| json!({
            "path": packages.path,
            "digest": packages.digest,
        })),
    })
}

fn document(context: &Context<'_>, pod: &Pod, volume: &Volume) -> Result<Value, Failure> {
    let storage = storage::of(volume)?;
    let table = context
        .grants_about(&Interest { volumes: std::slice::from_ref(&volume.id), ..Interest::default() })?;
    let size = context.store.size(volume).map_err(Failure::new)?;
    let top = Top::of(context, volume)?;
    let deadline = context.long_deadline();
    let changes = changes(top.as_fd(), storage.population, &storage.parts, None, deadline)
        .map_err(|error| Failure::context(format!("cannot count what is in pod {pod:?}"), error))?;
    let parts: Vec<Value> = storage
        .parts
        .iter()
        .zip(changes)
        .map(|(part, changes)| {
            json!({
                "name": part.name.as_str(),
                "member": part.member,
                "path": part.path.as_str(),
                "created": part.created.to_string(),
                "entries": changes.files + changes.directories,
                "size": changes.bytes,
                "hidden": (storage.population == Population::Overlay)
                    .then_some(changes.whiteouts + changes.opaque),
            })
        })
        .collect();
    Ok(json!({
        "name": pod.as_str(),
        "tenant": volume.id.tenant.as_str(),
        "storage": volume.id.name.as_str(),
        "driver": volume.driver,
        "population": storage.population.to_string(),
        "size": size,
        "limit": volume.limit,
        "holders": list::holders(&table, volume),
        "image": storage.image.as_ref().map(image_document),
        "refused_image": storage.offered.as_ref().map(|offered| image_document(&offered.image)),
        "volumes": parts,
        "created": volume.created.to_string(),
        "uuid": volume.uuid,
    }))
}

/// What `volhook pod prepare` is told.
pub(crate) struct Preparation<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) rootfs: &'a Path,
    pub(crate) policy: Option<&'a str>,
}

/// `volhook pod prepare POD --rootfs DIR`: what a first start would do, without a container.
pub(crate) fn prepare(context: &Context<'_>, asked: &Preparation<'_>) -> Result<(), Failure> {
    let tenant = Tenant::new(asked.tenant).map_err(Failure::usage)?;
    let pod = Pod::new(asked.pod).map_err(Failure::usage)?;
    let config = context.config()?;
    let key = |name: &str| format!("{}.{name}", config.annotation_prefix);
    let mut annotations = BTreeMap::from([(key("pod"), pod.to_string())]);
    annotations.extend(asked.policy.map(|policy| (key("policy"), policy.to_owned())));
    let rootfs = Rootfs::on_host(asked.rootfs).map_err(|error| {
        Failure::context(format!("cannot open the root filesystem {}", asked.rootfs.display()), error)
    })?;
    let image = Image::new(asked.rootfs, &rootfs, &annotations);
    let subject = Subject {
        attempt: spec::new_attempt(),
        stage: Stage::Live,
        container: ContainerId::new("prepared").map_err(Failure::internal)?,
        tenant: tenant.clone(),
        wishes: claims::wishes(&annotations, config).map_err(Failure::usage)?,
        mounts: Vec::new(),
        user_namespace: false,
    };
    copying(context.work(), |watch| {
        let claimed = claim::claim(context, &subject, &rootfs, &image)?;
        loop {
            let volumes = acquire::leased_volumes(&subject, &claimed);
            let table = context.grants_about(&Interest { volumes: &volumes, ..Interest::default() })?;
            let (dead, _) = context.dead(table.grants());
            let living = judge::after(&table, dead.iter().map(|over| &over.record));
            let proposal = propose::propose(context, &subject, &claimed, &image, &living)?;
            refuse_renewal(&proposal.plan)?;
            let making = Making { context, container: None, image: &image, watch };
            if !making.make(&proposal, context.long_deadline())? {
                return storage::follow(context, &proposal);
            }
        }
    })?;
    out(&format!("{pod}\n"))
}

/// What a pod has is thrown away for a container that its user has started, or when it is asked for; never ahead of that.
fn refuse_renewal(plan: &Plan) -> Result<(), Failure> {
    let Some(PlannedRenewal { pod, storage, from, .. }) = plan.renew.first() else { return Ok(()) };
    let from = from.describe();
    let reason = format!(
        "pod {pod:?} was made from {from}, and begins anew from another image (on-image-change=reset)"
    );
    Err(Failure::new(reason)
        .hint(format!("`volhook pod reset {pod}` does that now: its files go to the trash; prepare it then"))
        .about(storage.clone()))
}

/// `volhook pod resize POD SIZE`.
pub(crate) fn resize(context: &Context<'_>, tenant: &str, pod: &str, wanted: &str) -> Result<(), Failure> {
    let (pod, volume) = existing(context, tenant, pod)?;
    if volume.limit.is_none() {
        return Err(Failure::new(format!("pod {pod:?} was made without a size, as directories"))
            .hint("its policy's setting size=SIZE makes new pods with a limit"));
    }
    let size = size::parse(wanted)
        .map_err(|error| Failure::usage(error).during(format!("cannot resize pod {pod:?} to {wanted:?}")))?;
    let request = Resize { volume: VolumeRef::from(&volume.id), size };
    let resized = spinning("changing the size", || filesystem::resize(context, &request, &context.work()))?;
    out(&format!("{} {}\n", resized.name, size::format(resized.size)))
}

/// What `volhook pod reset` is told.
pub(crate) struct Resetting<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) volumes: &'a [String],
    pub(crate) force: bool,
}

/// `volhook pod reset POD [--volume NAME]…`.
pub(crate) fn reset(context: &Context<'_>, asked: &Resetting<'_>) -> Result<(), Failure> {
    let (pod, volume) = existing(context, asked.tenant, asked.pod)?;
    let storage = storage::of(&volume)?;
    let mut members = Vec::new();
    for name in asked.volumes {
        let part = storage.parts.iter().find(|part| part.name.as_str() == name || part.member == *name);
        let part = part.ok_or_else(|| {
            let known: Vec<&str> = storage.parts.iter().map(|part| part.member.as_str()).collect();
            let failure = Failure::new(format!("pod {pod:?} has no volume {name:?}"));
            Failure { kind: Kind::NoSuchVolume, ..failure.hint(format!("it has {}", known.join(", "))) }
        })?;
        members.push(part.member.clone());
    }
    if members.is_empty() {
        if !asked.force {
            note(&format!("pod {pod} goes back to the image; all that was changed in it goes to the trash"));
            if !confirm("Begin anew?")? {
                return Err(Failure::new("nothing was changed"));
            }
        }
        // The next container says which image it begins anew from, unless one was refused.
        let image = storage.offered.as_ref().map_or(storage.image.as_ref(), |offered| Some(&offered.image));
        let discarded =
            copying(context.work(), |watch| renew::begin_anew(context, &volume, image.cloned(), watch))?;
        let uuid = &discarded.volume.uuid;
        note(&format!(
            "What it had is in the trash: `volhook pod rm {pod}`, then `volhook trash restore {uuid}`"
        ));
    } else {
        if !asked.force {
            let what = members.join(", ");
            note(&format!(
                "{what} of pod {pod} go back to the image; what was changed in them cannot be taken back"
            ));
            if !confirm("Throw the changes away?")? {
                return Err(Failure::new("nothing was changed"));
            }
        }
        copying(context.work(), |watch| fill::reset(context, &volume, &members, watch))?;
    }
    out(&format!("{pod}\n"))
}

/// `volhook pod upgrade POD [--rootfs DIR]`.
pub(crate) fn upgrade(
    context: &Context<'_>,
    tenant: &str,
    pod: &str,
    rootfs: Option<&Path>,
) -> Result<(), Failure> {
    let (pod, volume) = existing(context, tenant, pod)?;
    let storage = storage::of(&volume)?;
    let (identity, rootfs) = match (rootfs, &storage.offered) {
        (Some(path), _) => (None, path),
        (None, Some(offered)) => (Some(offered.image.clone()), Path::new(&offered.rootfs)),
        (None, None) => {
            return Err(Failure::new(format!("pod {pod:?} was not refused with another image"))
                .hint("--rootfs DIR says which image is meant"));
        }
    };
    let seen = Rootfs::on_host(rootfs);
    let identity = match (identity, &seen) {
        (Some(identity), _) => identity,
        (None, Ok(seen)) => Image::new(rootfs, seen, &BTreeMap::new()).identity(None)?,
        (None, Err(_)) => ImageIdentity::default(),
    };
    match seen {
        Ok(seen) => {
            let image = Image::new(rootfs, &seen, &BTreeMap::new());
            let top = Top::of(context, &volume)?;
            let hidden = match storage.population {
                Population::Overlay => shadowed(top.as_fd(), image.bare()?.as_fd(), context.long_deadline())
                    .map_err(|error| {
                        Failure::context(format!("cannot read what pod {pod:?} has changed"), error)
                    })?,
                Population::Copy | Population::Empty => {
                    note("Nothing of the image is seen where the pod has volumes: they are its own");
                    Vec::new()
                }
            };
            if !hidden.is_empty() {
                note("The pod's own files are seen instead of these of the image:");
            }
            for path in hidden {
                out(&format!("{}\n", path.display()))?;
            }
        }
        Err(error) if identity.is_known() => warn(&format!(
            "what the pod's changes hide of the image cannot be told: {}; give its root filesystem with --rootfs",
            Failure::new(error).cause_line()
        )),
        Err(error) => {
            let intention = format!("cannot open the root filesystem {}", rootfs.display());
            return Err(Failure::context(intention, error));
        }
    }
    storage::bring_to(context, &volume, &identity)?;
    note(&format!("Pod {pod} belongs to {} now", identity.describe()));
    Ok(())
}

/// `volhook pod rm POD…`: each goes to the trash with all its volumes, the rest is reported.
pub(crate) fn rm(context: &Context<'_>, tenant: &str, pods: &[String], force: bool) -> Result<(), Failure> {
    let mut failures = Vec::new();
    let mut meant = Vec::new();
    for pod in pods {
        match existing(context, tenant, pod) {
            Ok(found) => meant.push(found),
            Err(failure) => failures.push(failure),
        }
    }
    if !meant.is_empty() && !force {
        for (pod, volume) in &meant {
            let parts = storage::of(volume)?.parts.len();
            note(&format!("{pod} ({parts} volumes, created {})", volume.created));
        }
        if !confirm("Remove these pods with all their volumes?")? {
            failures.iter().for_each(|failure| complain(failure, false));
            return Err(Failure::new("nothing was removed"));
        }
    }
    for (pod, volume) in &meant {
        match remove::discard(context, volume) {
            Ok(()) => out(&format!("{pod}\n"))?,
            Err(failure) => failures.push(failure),
        }
    }
    report_all(failures)
}
