//! `volhook events`: what happened, one line for each volume that it is about.

use crate::long_list::LongList;
use crate::output::Shown;
use crate::output::Tone;
use crate::output::dash;
use crate::output::document;
use crate::output::is_read_after;
use crate::output::out;
use crate::output::out_line;
use crate::shape::Shape;
use crate::watch::Watch;
use std::time::Duration;
use volhook_api::story::Event;
use volhook_core::cursor::Cursor;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::story;

/// How often is looked for new events.
const PAUSE: Duration = Duration::from_millis(200);

/// `volhook events`: prints what is read as it is read, as long as somebody reads that.
pub(crate) fn events(
    engine: &Engine,
    watch: &Watch,
    since: Option<&Cursor>,
    shape: &Shape,
) -> Result<(), Failure> {
    let mut events = story::events(engine, since)?;
    let mut list = LongList::begin(shape, &["time", "kind", "container", "volume", "what"]);
    while let Some(event) = events.next(&watch.work())? {
        if !list.add(&event, || cells(&event))? {
            return Ok(());
        }
    }
    list.end(if matches!(shape, Shape::Json) { "\n" } else { "" })
}

/// `volhook events --follow`: goes on as long as somebody reads.
pub(crate) fn follow(
    engine: &Engine,
    watch: &Watch,
    since: Option<&Cursor>,
    shape: &Shape,
) -> Result<(), Failure> {
    let mut following = story::follow(engine, since)?;
    if let Shape::Format(format) = shape {
        format.print_titles()?;
    }
    loop {
        while let Some(event) = following.next(&watch.work())? {
            match shape {
                // One document of its own each: there is no end to a list.
                Shape::Json => out(&format!("{}\n", document(&event)?))?,
                Shape::Format(format) => format.print_next(&document(&event)?)?,
                Shape::Table => out_line(&row(&event).join("  "))?,
            }
            if !is_read_after(Duration::ZERO)? {
                return Ok(());
            }
        }
        if !is_read_after(PAUSE)? {
            return Ok(());
        }
    }
}

/// The kind of an event as a cell: what went wrong is to be seen at once.
pub(crate) fn kind_cell(event: &Event) -> Shown {
    let tone = match event.kind.as_str() {
        "refused" | "fault" => Some(Tone::Bad),
        "broken" | "rebuilt" => Some(Tone::Doubtful),
        _ => None,
    };
    Shown::new(event.kind.clone(), tone)
}

fn cells(event: &Event) -> Vec<Shown> {
    let mut cells: Vec<Shown> = row(event).into_iter().map(Shown::from).collect();
    cells[1] = kind_cell(event);
    cells
}

fn row(event: &Event) -> Vec<String> {
    vec![
        event.time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        event.kind.clone(),
        dash(event.container.as_ref().map(ToString::to_string)),
        dash(event.volume.as_ref().map(ToString::to_string)),
        event.what.clone(),
    ]
}
