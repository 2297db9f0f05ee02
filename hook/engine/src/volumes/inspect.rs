//! All that is known of some volumes.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::named;
use crate::start::storage;
use crate::start::storage::Top;
use crate::volumes::list;
use volhook_api::Failed;
use volhook_api::VolumeRef;
use volhook_api::lease::Holder;
use volhook_api::volume::Details;
use volhook_api::volume::Holding;
use volhook_api::volume::Inspect;
use volhook_api::volume::Inspected;
use volhook_core::decision::Backing;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::LeasedVolume;
use volhook_core::names::Command;
use volhook_core::volume::Part;
use volhook_core::volume::Volume;
use volhook_leases::Work;
use volhook_leases::judge;
use volhook_volumes::changes;

/// What is known of the volumes that are asked for. What cannot be told of one is missing, and why is said beside it.
///
/// # Errors
/// When the journal cannot be read.
pub fn inspect(engine: &Engine, asked: &Inspect, work: &Work<'_>) -> Result<Inspected, Failure> {
    let context = &Context::new(engine, *work);
    let table = context.seen()?;
    let mut inspected = Inspected { volumes: Vec::new(), failed: Vec::new() };
    for name in &asked.volumes {
        let seen = match Seen::find(context, name) {
            Ok(Some(seen)) => seen,
            Ok(None) => {
                inspected.failed.push(missing(name));
                continue;
            }
            Err(failure) => {
                inspected.failed.push(failure.as_failed());
                inspected.volumes.push(unreadable(context, name, &table));
                continue;
            }
        };
        let mut details = seen.describe(context, &table);
        if asked.sizes {
            match seen.size(context) {
                Ok(size) => details.size = Some(size),
                Err(failure) => inspected.failed.push(failure.as_failed()),
            }
        }
        inspected.volumes.push(details);
    }
    Ok(inspected)
}

fn missing(name: &VolumeRef) -> Failed {
    named::no_such(name.id()).as_failed()
}

/// A volume whose record cannot be read: who holds it is known all the same.
fn unreadable(context: &Context<'_>, name: &VolumeRef, table: &LeaseTable) -> Details {
    let id = name.id();
    Details {
        name: name.clone(),
        tenant: id.tenant.clone(),
        driver: None,
        format: None,
        mountpoint: None,
        image: None,
        device: None,
        created: None,
        labels: Vec::new(),
        options: Vec::new(),
        size: None,
        limit: None,
        pod: None,
        storage: None,
        holders: table.holders(id).map(|(grant, lease)| holding(context, grant, lease)).collect(),
        uuid: None,
        place: None,
    }
}

/// A volume, or one of a pod, which lies in another.
struct Seen {
    volume: Volume,
    storage: Option<(Volume, Part)>,
}

impl Seen {
    fn find(context: &Context<'_>, name: &VolumeRef) -> Result<Option<Self>, Failure> {
        let failed = |error| Failure::new(error).about(name.id().clone());
        if let Some((storage, part)) = context.store.find_part(name.id()).map_err(failed)? {
            let volume = list::as_volume(&storage, &part);
            return Ok(Some(Self { volume, storage: Some((storage, part)) }));
        }
        let found = context.store.find(name.id()).map_err(failed)?;
        Ok(found.map(|volume| Self { volume, storage: None }))
    }

    /// On which containers have leases.
    fn held(&self) -> &Volume {
        self.storage.as_ref().map_or(&self.volume, |(storage, _)| storage)
    }

    fn size(&self, context: &Context<'_>) -> Result<u64, Failure> {
        let id = &self.volume.id;
        let Some((storage, part)) = &self.storage else {
            return context.store.size(&self.volume).map_err(|error| Failure::new(error).about(id.clone()));
        };
        let population = storage::of(storage)?.population;
        let top = Top::of(context, storage)?;
        let parts = std::slice::from_ref(part);
        let counted = changes(top.as_fd(), population, parts, None, context.long_deadline());
        let counted = counted.map_err(|error| {
            Failure::context(format!("cannot count what is in volume {id:?}"), error).about(id.clone())
        })?;
        Ok(counted.first().map_or(0, |changes| changes.bytes))
    }

    /// Everything but the size.
    fn describe(&self, context: &Context<'_>, table: &LeaseTable) -> Details {
        let (volume, held) = (&self.volume, self.held());
        let storage = self.storage.as_ref().map(|(storage, _)| storage);
        let (format, image, device) = match &volume.backing {
            Backing::Directory(_) | Backing::HostPath(_) => ("directory".to_owned(), None, None),
            Backing::Image(image) => {
                let path = context.store.image_path(held).display().to_string();
                (image.filesystem.as_str().to_owned(), Some(path), None)
            }
            Backing::Tmpfs(_) => ("tmpfs".to_owned(), None, None),
            Backing::Device(device) => {
                (device.filesystem.as_str().to_owned(), None, Some(device.path.to_string()))
            }
        };
        let holders = table.holders(&held.id).map(|(grant, lease)| holding(context, grant, lease));
        Details {
            name: VolumeRef::from(&volume.id),
            tenant: volume.id.tenant.clone(),
            driver: Some(volume.driver.clone()),
            format: Some(format),
            mountpoint: list::mountpoint(context, volume, storage),
            image,
            device,
            created: Some(volume.created),
            labels: volume.labels.clone(),
            options: volume.options.clone(),
            size: None,
            limit: volume.limit,
            pod: volume.pod.as_ref().map(|member| member.pod.clone()),
            storage: storage.map(|storage| storage.id.name.clone()),
            holders: holders.collect(),
            uuid: Some(volume.uuid.clone()),
            place: Some(context.store.place(held).display().to_string()),
        }
    }
}

fn holding(context: &Context<'_>, grant: &Grant, lease: &LeasedVolume) -> Holding {
    let (state, evidence) = judge::standing(&context.ledger, grant);
    let on_host = grant.container.command().is_some_and(|(command, _)| command == Command::Mount);
    let holder = match &grant.holder {
        Some(process) if on_host => Holder::HostMount { pid: process.pid },
        Some(process) => Holder::Process { pid: process.pid },
        None => Holder::Planned,
    };
    Holding {
        holder,
        container: grant.container.clone(),
        access: lease.access.to_string(),
        sharing: lease.sharing,
        target: lease.target.clone(),
        since: grant.since,
        state,
        evidence,
    }
}
