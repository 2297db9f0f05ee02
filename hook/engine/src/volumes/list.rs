//! Which volumes there are, and what everything takes of the disk.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::volumes::filter::Matcher;
use jiff::SignedDuration;
use jiff::Timestamp;
use std::time::Duration;
use std::time::Instant;
use volhook_api::Remark;
use volhook_api::VolumeRef;
use volhook_api::volume::List;
use volhook_api::volume::Listed;
use volhook_api::volume::Room;
use volhook_api::volume::Sizes;
use volhook_api::volume::Taken;
use volhook_api::volume::Usage;
use volhook_core::decision::Backing;
use volhook_core::decision::Population;
use volhook_core::lease::LeaseTable;
use volhook_core::names::VolumeId;
use volhook_core::volume::Part;
use volhook_core::volume::PodMember;
use volhook_core::volume::Volume;
use volhook_leases::Work;
use volhook_volumes::Size;

/// A size that was counted so long ago is as good as counted now.
pub const FRESH: SignedDuration = SignedDuration::from_mins(1);

/// How long a list waits for sizes to be counted; then it has what was counted before.
const PATIENCE: Duration = Duration::from_secs(2);

/// The volumes that are meant, by tenant and name. What stands in the store and is no usable volume is told.
///
/// # Errors
/// When the store or the journal cannot be read, and when the filter makes no sense.
pub fn list(engine: &Engine, asked: &List, work: &Work<'_>) -> Result<Vec<Listed>, Failure> {
    let context = &Context::new(engine, *work);
    let filter = Matcher::new(&asked.filter)?;
    let listing = context.store.list().map_err(Failure::new)?;
    let table = context.seen()?;
    let mut meant: Vec<(Volume, Option<&Volume>, Vec<String>)> = Vec::new();
    for volume in &listing.volumes {
        let holders = holders(&table, volume);
        let mut add = |is: Volume, storage| {
            if filter.matches(&is, !holders.is_empty()) {
                meant.push((is, storage, holders.clone()));
            }
        };
        add(volume.clone(), None);
        parts_of(volume).for_each(|part| add(part, Some(volume)));
    }
    meant.sort_by(|(a, ..), (b, ..)| a.id.cmp(&b.id));
    for other in &listing.others {
        let cause = format!("{} is no usable volume: {}", other.path.display(), other.reason);
        work.watcher.told(&Remark::PassedOver { cause });
    }
    // What a part takes counts as its storage's.
    let whole = meant.iter().filter(|(_, storage, _)| storage.is_none());
    let whole: Vec<&Volume> = whole.map(|(volume, ..)| volume).collect();
    let counted = match asked.sizes {
        Sizes::Unasked => Vec::new(),
        Sizes::Remembered => sizes(context, &whole, FRESH, Some(Instant::now() + PATIENCE)),
        Sizes::Counted => sizes(context, &whole, SignedDuration::ZERO, None),
    };
    if asked.filter == Default::default() && asked.sizes != Sizes::Unasked {
        context.store.forget_other_sizes(&listing.volumes);
    }
    let mut counted = counted.into_iter();
    let document = |(volume, storage, holders): (Volume, Option<&Volume>, Vec<String>)| {
        let size = if storage.is_none() { counted.next().flatten() } else { None };
        let mountpoint = mountpoint(context, &volume, storage);
        Listed {
            name: VolumeRef::from(&volume.id),
            tenant: volume.id.tenant,
            driver: volume.driver,
            size: size.map(|size| size.bytes),
            size_counted: size.map(|size| size.counted),
            limit: volume.limit,
            holders,
            created: volume.created,
            labels: volume.labels,
            options: volume.options,
            mountpoint,
            pod: volume.pod.map(|member| member.pod),
            storage: storage.map(|storage| storage.id.name.clone()),
            uuid: volume.uuid,
        }
    };
    Ok(meant.into_iter().map(document).collect())
}

/// What volumes, the trash and volhook's own files take.
///
/// # Errors
/// When the store or the journal cannot be read.
pub fn usage(engine: &Engine, work: &Work<'_>) -> Result<Usage, Failure> {
    let context = &Context::new(engine, *work);
    let listing = context.store.list().map_err(Failure::new)?;
    let table = context.seen()?;
    let all: Vec<&Volume> = listing.volumes.iter().collect();
    let (mut volumes, mut pods) = (Taken::default(), Taken::default());
    for (volume, size) in all.iter().zip(sizes(context, &all, FRESH, None)) {
        let taken = if volume.pod.is_some() { &mut pods } else { &mut volumes };
        let held = table.holders(&volume.id).next().is_some();
        let size = size.map_or(0, |size| size.bytes);
        taken.total += 1;
        taken.active += usize::from(held);
        taken.size += size;
        taken.reclaimable += if held { 0 } else { size };
    }
    let removed = context.store.trash().map_err(Failure::new)?.volumes.len();
    let in_trash = context.store.size_of_trash().map_err(Failure::new)?;
    let folder = |name| -> Result<Taken, Failure> {
        let size = context.store.size_of_folder(name).map_err(Failure::new)?;
        Ok(Taken { size, ..Taken::default() })
    };
    let (size, free) = context.store.host_filesystem().map_err(Failure::new)?;
    let promised = all.iter().filter_map(|volume| volume.limit).fold(0, u64::saturating_add);
    Ok(Usage {
        filesystem: Room { size, free, promised },
        volumes,
        pods,
        trash: Taken { total: removed, size: in_trash, reclaimable: in_trash, ..Taken::default() },
        journal: folder("journal")?,
        plugins: folder("plugins")?,
    })
}

/// The parts of a storage as volumes: with its driver, labels and uuid, and without a limit of their own.
fn parts_of(volume: &Volume) -> impl Iterator<Item = Volume> {
    let parts = volume.storage.iter().flat_map(|storage| &storage.parts);
    parts.map(|part| as_volume(volume, part))
}

/// A part as a volume.
pub(crate) fn as_volume(storage: &Volume, part: &Part) -> Volume {
    let pod = storage.pod.as_ref();
    Volume {
        id: VolumeId { tenant: storage.id.tenant.clone(), name: part.name.clone() },
        limit: None,
        pod: pod.map(|of| PodMember { pod: of.pod.clone(), member: part.member.clone() }),
        storage: None,
        created: part.created,
        ..storage.clone()
    }
}

/// The directory of a volume on the host, or of one that lies in `storage`; an overlay's are nowhere but in its containers.
pub(crate) fn mountpoint(context: &Context<'_>, volume: &Volume, storage: Option<&Volume>) -> Option<String> {
    let path = match (storage, &volume.backing) {
        (Some(storage), Backing::Directory(_)) => {
            let of = storage.storage.as_ref().filter(|of| of.population != Population::Overlay)?;
            let part = of.member(&volume.pod.as_ref()?.member)?;
            context.store.directory_path(&storage.id).join(part.place(of.population))
        }
        (None, Backing::Directory(_)) => context.store.directory_path(&volume.id),
        (None, Backing::HostPath(host)) => return Some(host.path.to_string()),
        _ => return None,
    };
    Some(path.display().to_string())
}

/// The containers and commands that hold a volume, sorted.
pub fn holders(table: &LeaseTable, volume: &Volume) -> Vec<String> {
    let holders = table.holders(&volume.id).map(|(grant, _)| grant.container.to_string());
    let mut holders: Vec<String> = holders.collect();
    holders.sort();
    holders.dedup();
    holders
}

/// The sizes of `volumes`, none older than `age` unless `deadline` comes first; what cannot be counted is told.
fn sizes(
    context: &Context<'_>,
    volumes: &[&Volume],
    age: SignedDuration,
    deadline: Option<Instant>,
) -> Vec<Option<Size>> {
    let sizes = context.store.sizes(volumes, Timestamp::now(), age, deadline).into_iter();
    let known = sizes.map(|size| {
        size.unwrap_or_else(|error| {
            let cause = Failure::new(error).cause_line();
            context.work().watcher.told(&Remark::NotCounted { cause });
            None
        })
    });
    known.collect()
}
