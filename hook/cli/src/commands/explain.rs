//! `volhook explain CONTAINER`: the story of one container id, also long after it is gone.

use crate::commands::events::kind_cell;
use crate::long_list::LongList;
use crate::output::Shown;
use crate::output::dash;
use crate::output::document;
use crate::output::out;
use crate::output::out_line;
use crate::shape::Shape;
use crate::watch::Watch;
use volhook_api::story::Event;
use volhook_api::story::Explain;
use volhook_api::story::Held;
use volhook_core::names::ContainerId;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::story;

/// Prints what was asked, planned, granted, mounted, refused and given back, and what is held now.
pub(crate) fn explain(engine: &Engine, watch: &Watch, id: &str, as_json: bool) -> Result<(), Failure> {
    let asked = Explain { container: ContainerId::recorded(id).map_err(Failure::usage)? };
    let mut story = story::explain(engine, &asked, &watch.work())?;
    let mut list = if as_json {
        let container = document(story.container())?;
        LongList::inside(format!("{{\n  \"container\": {container},\n  \"events\": "))
    } else {
        LongList::begin(&Shape::Table, &["time", "kind", "volume", "what"])
    };
    while let Some(event) = story.next()? {
        if !list.add(&event, || row(&event))? {
            return Ok(());
        }
    }
    if as_json {
        let held = format!("{:#}", document(&story.held())?).replace('\n', "\n  ");
        return list.end(&format!(",\n  \"held\": {held}\n}}\n"));
    }
    list.end("")?;
    if story.held().is_empty() {
        return out("It holds nothing now.\n");
    }
    for Held { volumes, since, evidence, .. } in story.held() {
        let volumes: Vec<String> = volumes.iter().map(ToString::to_string).collect();
        out_line(&format!("It holds {} since {since}: {evidence}.", volumes.join(", ")))?;
    }
    Ok(())
}

fn row(event: &Event) -> Vec<Shown> {
    vec![
        event.time.strftime("%Y-%m-%d %H:%M:%S").to_string().into(),
        kind_cell(event),
        dash(event.volume.as_ref().map(ToString::to_string)).into(),
        event.what.clone().into(),
    ]
}
