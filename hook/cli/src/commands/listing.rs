//! `volhook volume ls` and `volhook df`: all volumes, and what everything takes.

use crate::context::Context;
use crate::error::Failure;
use crate::filter::Filter;
use crate::output::dash;
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
use volhook_core::lease::LeaseTable;
use volhook_core::size;
use volhook_core::volume::Volume;
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
pub(crate) fn ls(context: &Context, how: &Listed<'_>) -> Result<(), Failure> {
    let filter = Filter::parse(how.filter)?;
    let template = how.format.map(|text| Template::parse(text, &FIELDS)).transpose()?;
    let listing = context.store.list().map_err(Failure::new)?;
    let table = context.grants()?;
    let meant: Vec<(&Volume, Vec<String>)> = listing
        .volumes
        .iter()
        .map(|volume| (volume, holders(&table, volume)))
        .filter(|(volume, holders)| filter.matches(volume, !holders.is_empty()))
        .collect();
    for other in &listing.others {
        warn(&format!("{} is no usable volume: {}", other.path.display(), other.reason));
    }
    if how.quiet {
        return meant.iter().try_for_each(|(volume, _)| out(&format!("{}\n", volume.id)));
    }
    let volumes: Vec<&Volume> = meant.iter().map(|(volume, _)| *volume).collect();
    let now = Timestamp::now();
    let (age, deadline) =
        if how.count { (SignedDuration::ZERO, None) } else { (FRESH, Some(Instant::now() + PATIENCE)) };
    let sizes = sizes(context, &volumes, now, age, deadline);
    if how.filter.is_empty() {
        context.store.forget_other_sizes(&listing.volumes);
    }
    let all = meant.into_iter().zip(sizes);
    if let Some(template) = &template {
        let lines: Vec<String> = all
            .map(|((volume, holders), size)| {
                template.render(|name| field(context, volume, &holders, size, now, name)) + "\n"
            })
            .collect();
        return out(&lines.concat());
    }
    if how.as_json {
        let documents: Vec<Value> =
            all.map(|((volume, holders), size)| document(volume, &holders, size)).collect();
        return print_json(&documents.into());
    }
    let columns = ["Name", "Driver", "Size", "Limit", "Holders", "Created"];
    let rows = all
        .map(|((volume, holders), size)| {
            let cell = |name: &&str| match *name {
                "Name" => volume.id.to_string(),
                "Created" => volume.created.strftime("%Y-%m-%d %H:%M").to_string(),
                name => field(context, volume, &holders, size, now, name),
            };
            columns.iter().map(cell).collect()
        })
        .collect();
    print_table(&["name", "driver", "size", "limit", "held by", "created"], rows)
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
    context: &Context,
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
    context: &Context,
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

fn document(volume: &Volume, holders: &[String], size: Option<Size>) -> Value {
    json!({
        "name": volume.id.name.as_str(),
        "tenant": volume.id.tenant.as_str(),
        "driver": volume.driver,
        "size": size.map(|size| size.bytes),
        "size_counted": size.map(|size| size.counted.to_string()),
        "limit": volume.limit,
        "holders": holders,
        "created": volume.created.to_string(),
        "labels": object(&volume.labels),
        "options": object(&volume.options),
        "pod": volume.pod.as_ref().map(|member| member.pod.as_str()),
        "uuid": volume.uuid,
    })
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
pub(crate) fn df(context: &Context, as_json: bool) -> Result<(), Failure> {
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
    eprintln!(
        "{} of {} are free on the filesystem of {}; volumes may grow to {} together",
        size::format(free),
        size::format(host),
        context.paths.root.display(),
        size::format(promised)
    );
    Ok(())
}
