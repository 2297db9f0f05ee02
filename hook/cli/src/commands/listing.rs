//! `volhook volume ls` and `volhook df`: all volumes, and what everything takes.

use crate::filter::Filter;
use crate::output::dash;
use crate::output::note;
use crate::output::object;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use crate::output::warn;
use crate::progress;
use crate::template::Template;
use jiff::SignedDuration;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;
use volhook_core::decision::Backing;
use volhook_core::decision::Population;
use volhook_core::lease::LeaseTable;
use volhook_core::names::VolumeId;
use volhook_core::size;
use volhook_core::volume::Part;
use volhook_core::volume::PodMember;
use volhook_core::volume::Volume;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_volumes::Size;

/// What `--format` may name.
pub(crate) const FIELDS: [&str; 9] =
    ["Name", "Tenant", "Driver", "Size", "Limit", "Holders", "Created", "Labels", "Mountpoint"];

/// A size that was counted so long ago is shown without its age and not counted again.
const FRESH: SignedDuration = SignedDuration::from_mins(1);

/// How long a list waits for sizes to be counted; then it shows what was counted before, with its age.
const PATIENCE: Duration = Duration::from_secs(2);

/// How `volhook volume ls` is to print.
pub(crate) struct Listed<'a> {
    pub(crate) filter: &'a [String],
    pub(crate) quiet: bool,
    pub(crate) format: Option<&'a str>,
    pub(crate) as_json: bool,
    /// Count all sizes anew, however long that takes.
    pub(crate) count: bool,
}

/// `volhook volume ls`.
pub(crate) fn ls(context: &Context<'_>, how: &Listed<'_>) -> Result<(), Failure> {
    let filter = Filter::parse(how.filter)?;
    let template = how.format.map(|text| Template::parse(text, &FIELDS)).transpose()?;
    let listing = context.store.list().map_err(Failure::new)?;
    let table = context.grants()?;
    let mut meant: Vec<Line<'_>> = listing
        .volumes
        .iter()
        .flat_map(|volume| {
            let holders = holders(&table, volume);
            let parts = parts_of(volume).map({
                let holders = holders.clone();
                move |part| Line { volume: part, storage: Some(volume), holders: holders.clone() }
            });
            [Line { volume: volume.clone(), storage: None, holders }].into_iter().chain(parts)
        })
        .filter(|line| filter.matches(&line.volume, !line.holders.is_empty()))
        .collect();
    meant.sort_by(|a, b| a.volume.id.cmp(&b.volume.id));
    for other in &listing.others {
        warn(&format!("{} is no usable volume: {}", other.path.display(), other.reason));
    }
    if how.quiet {
        return meant.iter().try_for_each(|line| out(&format!("{}\n", line.volume.id)));
    }
    let volumes: Vec<&Volume> =
        meant.iter().filter(|line| line.storage.is_none()).map(|line| &line.volume).collect();
    let now = Timestamp::now();
    let (age, deadline) =
        if how.count { (SignedDuration::ZERO, None) } else { (FRESH, Some(Instant::now() + PATIENCE)) };
    let mut sizes = sizes(context, &volumes, now, age, deadline).into_iter();
    if how.filter.is_empty() {
        context.store.forget_other_sizes(&listing.volumes);
    }
    // What a part takes counts as its storage's.
    let size_of = |line: &Line<'_>| if line.storage.is_none() { sizes.next().flatten() } else { None };
    let sizes: Vec<Option<Size>> = meant.iter().map(size_of).collect();
    let all = meant.iter().zip(sizes);
    if let Some(template) = &template {
        let lines: Vec<String> = all
            .map(|(line, size)| template.render(|name| line.field(context, size, now, name)) + "\n")
            .collect();
        return out(&lines.concat());
    }
    if how.as_json {
        let documents: Vec<Value> = all.map(|(line, size)| line.document(size)).collect();
        return print_json(&documents.into());
    }
    let columns = ["Name", "Driver", "Size", "Limit", "Holders", "Created"];
    let rows = all
        .map(|(line, size)| {
            let cell = |name: &&str| match *name {
                "Name" => line.volume.id.to_string(),
                "Created" => line.volume.created.strftime("%Y-%m-%d %H:%M").to_string(),
                name => line.field(context, size, now, name),
            };
            columns.iter().map(cell).collect()
        })
        .collect();
    print_table(&["name", "driver", "size", "limit", "held by", "created"], rows)
}

/// A volume, or a part of one as if it were one.
struct Line<'a> {
    volume: Volume,
    /// In which it lies.
    storage: Option<&'a Volume>,
    holders: Vec<String>,
}

impl Line<'_> {
    fn field(&self, context: &Context<'_>, size: Option<Size>, now: Timestamp, name: &str) -> String {
        match (name, self.storage) {
            ("Size", Some(_)) => dash(None),
            ("Mountpoint", Some(storage)) => dash(place_of_part(context, storage, &self.volume)),
            _ => field(context, &self.volume, &self.holders, size, now, name),
        }
    }

    fn document(&self, size: Option<Size>) -> Value {
        let volume = &self.volume;
        json!({
            "name": volume.id.name.as_str(),
            "tenant": volume.id.tenant.as_str(),
            "driver": volume.driver,
            "size": size.map(|size| size.bytes),
            "size_counted": size.map(|size| size.counted.to_string()),
            "limit": volume.limit,
            "holders": self.holders,
            "created": volume.created.to_string(),
            "labels": object(&volume.labels),
            "options": object(&volume.options),
            "pod": volume.pod.as_ref().map(|member| member.pod.as_str()),
            "storage": self.storage.map(|storage| storage.id.name.as_str()),
            "uuid": volume.uuid,
        })
    }
}

/// The parts of a storage as volumes: with its driver, labels and uuid, and without a limit of their own.
pub(crate) fn parts_of(volume: &Volume) -> impl Iterator<Item = Volume> {
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

/// Where the files of a part are on the host; an overlay's are nowhere but in its containers.
pub(crate) fn place_of_part(context: &Context<'_>, storage: &Volume, part: &Volume) -> Option<String> {
    let of = storage.storage.as_ref()?;
    let known = of.member(&part.pod.as_ref()?.member)?;
    let is_there = matches!(storage.backing, Backing::Directory(_)) && of.population != Population::Overlay;
    is_there.then(|| {
        context.store.directory_path(&storage.id).join(known.place(of.population)).display().to_string()
    })
}

/// The containers and commands that hold a volume, sorted.
pub(crate) fn holders(table: &LeaseTable, volume: &Volume) -> Vec<String> {
    let mut holders: Vec<String> =
        table.holders(&volume.id).map(|(grant, _)| grant.container.to_string()).collect();
    holders.sort();
    holders.dedup();
    holders
}

/// The sizes of `volumes`; what cannot be told is warned of.
fn sizes(
    context: &Context<'_>,
    volumes: &[&Volume],
    now: Timestamp,
    age: SignedDuration,
    deadline: Option<Instant>,
) -> Vec<Option<Size>> {
    let told = progress::spinning("counting", || context.store.sizes(volumes, now, age, deadline));
    told.into_iter()
        .map(|size| {
            size.unwrap_or_else(|error| {
                warn(&Failure::new(error).cause_line());
                None
            })
        })
        .collect()
}

/// A field of a volume for people.
pub(crate) fn field(
    context: &Context<'_>,
    volume: &Volume,
    holders: &[String],
    size: Option<Size>,
    now: Timestamp,
    name: &str,
) -> String {
    match name {
        "Name" => volume.id.name.to_string(),
        "Tenant" => volume.id.tenant.to_string(),
        "Driver" => volume.driver.clone(),
        "Size" => size.map_or_else(|| "?".to_owned(), |size| aged(size, now)),
        "Limit" => dash(volume.limit.map(size::format)),
        "Holders" => dash(Some(holders.join(","))),
        "Created" => volume.created.to_string(),
        "Labels" => {
            let labels = volume.labels.iter().map(|(name, value)| format!("{name}={value}"));
            labels.collect::<Vec<_>>().join(",")
        }
        _ => context.store.place(volume).display().to_string(),
    }
}

/// A size, and how old it is where it is not fresh.
fn aged(size: Size, now: Timestamp) -> String {
    let text = size::format(size.bytes);
    let age = now.duration_since(size.counted);
    let ago = match (age.as_hours() / 24, age.as_hours(), age.as_mins()) {
        _ if age <= FRESH => return text,
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, _) => format!("{hours}h"),
        (days, _, _) => format!("{days}d"),
    };
    format!("{text} ({ago} ago)")
}

/// What one kind of thing takes.
#[derive(Default)]
struct Taken {
    total: usize,
    active: usize,
    size: u64,
    /// What removing everything that nobody holds would give back.
    reclaimable: u64,
}

/// `volhook df`: what volumes, the trash and volhook's own files take.
pub(crate) fn df(context: &Context<'_>, as_json: bool) -> Result<(), Failure> {
    let listing = context.store.list().map_err(Failure::new)?;
    let table = context.grants()?;
    let volumes: Vec<&Volume> = listing.volumes.iter().collect();
    let (mut own, mut of_pods) = (Taken::default(), Taken::default());
    let sizes = sizes(context, &volumes, Timestamp::now(), FRESH, None);
    for (volume, size) in volumes.iter().zip(sizes) {
        let taken = if volume.pod.is_some() { &mut of_pods } else { &mut own };
        let held = table.holders(&volume.id).next().is_some();
        let size = size.map_or(0, |size| size.bytes);
        taken.total += 1;
        taken.active += usize::from(held);
        taken.size += size;
        taken.reclaimable += if held { 0 } else { size };
    }
    let trash = context.store.trash().map_err(Failure::new)?.volumes.len();
    let in_trash = context.store.size_of_trash().map_err(Failure::new)?;
    let trash = Taken { total: trash, size: in_trash, reclaimable: in_trash, ..Taken::default() };
    let folder = |name| -> Result<Taken, Failure> {
        let size = context.store.size_of_folder(name).map_err(Failure::new)?;
        Ok(Taken { size, ..Taken::default() })
    };
    let kinds = [
        ("volumes", own),
        ("pods", of_pods),
        ("trash", trash),
        ("journal", folder("journal")?),
        ("plugins", folder("plugins")?),
    ];
    let promised: u64 = volumes.iter().filter_map(|volume| volume.limit).sum();
    let (host, free) = context.store.host_filesystem().map_err(Failure::new)?;
    if as_json {
        let mut document = json!({ "filesystem": { "size": host, "free": free, "promised": promised } });
        for (kind, taken) in kinds {
            document[kind] = json!({
                "total": taken.total,
                "active": taken.active,
                "size": taken.size,
                "reclaimable": taken.reclaimable,
            });
        }
        return print_json(&document);
    }
    let rows = kinds
        .into_iter()
        .map(|(kind, taken)| {
            let counts = matches!(kind, "volumes" | "pods" | "trash");
            let number = |number: usize| dash(counts.then(|| number.to_string()));
            vec![
                kind.to_owned(),
                number(taken.total),
                number(taken.active),
                size::format(taken.size),
                size::format(taken.reclaimable),
            ]
        })
        .collect();
    print_table(&["kind", "total", "held", "size", "reclaimable"], rows)?;
    note(&format!(
        "{} of {} are free on the filesystem of {}; volumes may grow to {} together",
        size::format(free),
        size::format(host),
        context.places.root.display(),
        size::format(promised)
    ));
    Ok(())
}
