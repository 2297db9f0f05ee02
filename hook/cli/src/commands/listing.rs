//! `volhook volume ls` and `volhook df`: all volumes, and what everything takes.

use crate::format::Format;
use crate::output::dash;
use crate::output::document;
use crate::output::note;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use crate::progress;
use crate::typed;
use crate::watch::Watch;
use jiff::Timestamp;
use serde_json::Value;
use volhook_api::volume::List;
use volhook_api::volume::Listed as Volume;
use volhook_api::volume::Sizes;
use volhook_api::volume::Taken;
use volhook_core::size;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::volumes::list;

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
pub(crate) fn ls(engine: &Engine, watch: &Watch, how: &Listed<'_>) -> Result<(), Failure> {
    let format = how.format.map(Format::parse).transpose()?;
    let shows_size = !how.quiet
        && format.as_ref().is_none_or(|format| format.shows("Size") || format.shows("SizeCounted"));
    let request = List {
        filter: typed::filter(how.filter)?,
        sizes: match (shows_size, how.count) {
            (false, _) => Sizes::Unasked,
            (true, false) => Sizes::Remembered,
            (true, true) => Sizes::Counted,
        },
    };
    let volumes = progress::spinning("counting", || list::list(engine, &request, &watch.work()))?;
    if how.quiet {
        return volumes.iter().try_for_each(|volume| out(&format!("{}\n", volume.name)));
    }
    if how.as_json {
        return print_json(&document(&volumes)?);
    }
    if let Some(format) = format {
        let documents: Result<Vec<Value>, Failure> = volumes.iter().map(named_as_docker).collect();
        if format.print(&documents?)? {
            return Ok(());
        }
    }
    let now = Timestamp::now();
    let row = |volume: &Volume| {
        vec![
            volume.name.to_string(),
            volume.driver.clone(),
            if volume.storage.is_some() { dash(None) } else { size_of(volume, now) },
            dash(volume.limit.map(size::format)),
            dash(Some(volume.holders.join(","))),
            volume.created.strftime("%Y-%m-%d %H:%M").to_string(),
        ]
    };
    print_table(&["name", "driver", "size", "limit", "held by", "created"], volumes.iter().map(row).collect())
}

/// The document, with those of docker's fields besides that have another name.
fn named_as_docker(volume: &Volume) -> Result<Value, Failure> {
    let mut document = document(volume)?;
    document["CreatedAt"] = volume.created.to_string().into();
    document["Scope"] = "local".into();
    Ok(document)
}

/// A size, and how old it is where it is not fresh.
fn size_of(volume: &Volume, now: Timestamp) -> String {
    let (Some(bytes), Some(counted)) = (volume.size, volume.size_counted) else { return "?".to_owned() };
    let text = size::format(bytes);
    let age = now.duration_since(counted);
    let ago = match (age.as_hours() / 24, age.as_hours(), age.as_mins()) {
        _ if age <= list::FRESH => return text,
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, _) => format!("{hours}h"),
        (days, _, _) => format!("{days}d"),
    };
    format!("{text} ({ago} ago)")
}

/// `volhook df`: what volumes, the trash and volhook's own files take.
pub(crate) fn df(engine: &Engine, watch: &Watch, as_json: bool) -> Result<(), Failure> {
    let usage = progress::spinning("counting", || list::usage(engine, &watch.work()))?;
    if as_json {
        return print_json(&document(&usage)?);
    }
    let kinds = [
        ("volumes", usage.volumes, true),
        ("pods", usage.pods, true),
        ("trash", usage.trash, true),
        ("journal", usage.journal, false),
        ("plugins", usage.plugins, false),
    ];
    let row = |(kind, taken, counts): (&str, Taken, bool)| {
        let number = |number: usize| dash(counts.then(|| number.to_string()));
        vec![
            kind.to_owned(),
            number(taken.total),
            number(taken.active),
            size::format(taken.size),
            size::format(taken.reclaimable),
        ]
    };
    print_table(&["kind", "total", "held", "size", "reclaimable"], kinds.into_iter().map(row).collect())?;
    let room = usage.filesystem;
    note(&format!(
        "{} of {} are free on the filesystem of {}; volumes may grow to {} together",
        size::format(room.free),
        size::format(room.size),
        engine.places.root.display(),
        size::format(room.promised)
    ));
    Ok(())
}
