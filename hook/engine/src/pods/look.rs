//! Which pods there are, and all that is known of some.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::pods::named;
use crate::start::storage;
use crate::start::storage::Top;
use crate::volumes::list::holders;
use jiff::SignedDuration;
use jiff::Timestamp;
use volhook_api::PodRef;
use volhook_api::Remark;
use volhook_api::VolumeRef;
use volhook_api::pod::Details;
use volhook_api::pod::Inspect;
use volhook_api::pod::Inspected;
use volhook_api::pod::List;
use volhook_api::pod::Listed;
use volhook_api::pod::Part;
use volhook_core::decision::Population;
use volhook_core::image::ImageIdentity;
use volhook_core::lease::LeaseTable;
use volhook_core::names::VolumeId;
use volhook_core::volume::Volume;
use volhook_leases::Work;
use volhook_volumes::changes;

/// A size that was counted so long ago is as good as counted now.
const FRESH: SignedDuration = SignedDuration::from_mins(1);

/// All pods, by tenant and name. A size that cannot be counted is told.
///
/// # Errors
/// When the volumes or the journal cannot be read.
pub fn list(engine: &Engine, asked: &List, work: &Work<'_>) -> Result<Vec<Listed>, Failure> {
    let context = &Context::new(engine, *work);
    let listing = context.store.list().map_err(Failure::new)?;
    let storages = listing.volumes.into_iter().filter(|volume| volume.storage.is_some());
    let mut pods: Vec<(PodRef, Volume)> = storages
        .filter_map(|volume| {
            let pod = volume.pod.as_ref()?.pod.clone();
            Some((PodRef { tenant: volume.id.tenant.clone(), pod }, volume))
        })
        .collect();
    pods.sort_by(|(a, _), (b, _)| a.cmp(b));
    let table = context.seen()?;
    let volumes: Vec<&Volume> = pods.iter().map(|(_, volume)| volume).collect();
    let mut sizes = Vec::new();
    if asked.sizes {
        sizes = context.store.sizes(&volumes, Timestamp::now(), FRESH, None);
    }
    let mut sizes = sizes.into_iter();
    let mut listed = Vec::new();
    for (name, volume) in &pods {
        let storage = storage::of(volume)?;
        let size = sizes.next().transpose().unwrap_or_else(|error| {
            work.watcher.told(&Remark::NotCounted { cause: Failure::new(error).cause_line() });
            None
        });
        listed.push(Listed {
            name: name.clone(),
            tenant: name.tenant.clone(),
            population: storage.population.to_string(),
            volumes: storage.parts.len(),
            size: size.flatten().map(|size| size.bytes),
            limit: volume.limit,
            holders: holders(&table, volume),
            image: storage.image.as_ref().map(ImageIdentity::describe),
            created: volume.created,
        });
    }
    Ok(listed)
}

/// All that is known of some pods.
///
/// # Errors
/// When the journal cannot be read. A pod of which something cannot be told is part of the outcome.
pub fn inspect(engine: &Engine, asked: &Inspect, work: &Work<'_>) -> Result<Inspected, Failure> {
    let context = &Context::new(engine, *work);
    let table = context.seen()?;
    let mut inspected = Inspected::default();
    for pod in &asked.pods {
        match named::existing(context, pod).and_then(|volume| details(context, pod, &volume, &table)) {
            Ok(details) => inspected.pods.push(details),
            Err(failure) => inspected.failed.push(failure.as_failed()),
        }
    }
    Ok(inspected)
}

fn details(
    context: &Context<'_>,
    pod: &PodRef,
    volume: &Volume,
    table: &LeaseTable,
) -> Result<Details, Failure> {
    let storage = storage::of(volume)?;
    let size = context.store.size(volume).map_err(Failure::new)?;
    let top = Top::of(context, volume)?;
    let deadline = context.long_deadline();
    let changes =
        changes(top.as_fd(), storage.population, &storage.parts, None, deadline).map_err(|error| {
            Failure::context(format!("cannot count what is in pod {:?}", pod.to_string()), error)
        })?;
    let part = |(part, changes): (&volhook_core::volume::Part, volhook_volumes::Changes)| {
        let id = VolumeId { tenant: volume.id.tenant.clone(), name: part.name.clone() };
        let is_overlay = storage.population == Population::Overlay;
        Part {
            name: VolumeRef::from(id),
            member: part.member.clone(),
            path: part.path.to_string(),
            created: part.created,
            entries: changes.files + changes.directories,
            size: changes.bytes,
            hidden: is_overlay.then_some(changes.whiteouts + changes.opaque),
        }
    };
    Ok(Details {
        name: pod.clone(),
        tenant: volume.id.tenant.clone(),
        storage: VolumeRef::from(&volume.id),
        driver: volume.driver.clone(),
        population: storage.population.to_string(),
        size,
        limit: volume.limit,
        holders: holders(table, volume),
        image: storage.image.as_ref().map(Into::into),
        refused_image: storage.offered.as_ref().map(|offered| (&offered.image).into()),
        volumes: storage.parts.iter().zip(changes).map(part).collect(),
        created: volume.created,
        uuid: volume.uuid.clone(),
    })
}
