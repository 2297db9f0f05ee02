//! `volhook journal`: looking at the journal's files, and rebuilding what is damaged.

use crate::output::Shown;
use crate::output::Tone;
use crate::output::dash;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use crate::watch::Watch;
use serde_json::json;
use volhook_api::journal::Checked;
use volhook_api::journal::Content;
use volhook_api::journal::Copy;
use volhook_api::journal::Damaged;
use volhook_api::journal::File;
use volhook_api::journal::Index;
use volhook_api::journal::Lost;
use volhook_api::journal::Rebuild;
use volhook_api::journal::Rebuilt;
use volhook_api::journal::State;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::journal;

/// `volhook journal check`: fails when anything is not as it was written.
pub(crate) fn check(engine: &Engine, watch: &Watch, as_json: bool) -> Result<(), Failure> {
    let checked = journal::check(engine, &watch.work())?;
    if as_json {
        print_json(&json!(checked))?;
    } else {
        print_checked(&checked)?;
    }
    if checked.sound {
        return Ok(());
    }
    let damaged = checked.files.iter().filter(|file| matches!(file.state, State::Damaged { .. }));
    let (history, current): (Vec<&File>, Vec<&File>) =
        damaged.partition(|file| file.kind == Content::EarlierBoot);
    let mut failure = Failure::new(format!("the journal in {} is not sound", checked.folder));
    if !current.is_empty() {
        let hint = "`volhook journal rebuild` shows what can be kept and does it; so does the next hook that meets it";
        failure = failure.hint(hint);
    }
    if let [first, ..] = history[..] {
        failure = failure.hint(format!("of {}: {}", first.name, journal::HISTORY));
    }
    Err(failure)
}

fn print_checked(checked: &Checked) -> Result<(), Failure> {
    let rows = checked.files.iter().map(row).collect();
    print_table(&["file", "what", "format", "frames", "records", "bytes", "state"], rows)?;
    let index = match checked.index {
        Index::Missing => "none yet; none is needed",
        Index::Agrees => "agrees with the leases of this boot",
        Index::Unusable => "not usable; it is ignored and written anew",
        Index::Disagrees => "disagrees with the leases of this boot",
        Index::Unknown => "cannot be compared: the leases of this boot cannot be read to their end",
    };
    out(&format!("index: {index}\n"))?;
    for Copy { name, bytes } in &checked.copies {
        out(&format!("kept copy of a damaged file: {name} ({bytes} bytes)\n"))?;
    }
    if checked.sound { out("ok\n") } else { Ok(()) }
}

fn row(file: &File) -> Vec<Shown> {
    let what = match file.kind {
        Content::ThisBoot => "leases of this boot",
        Content::EarlierBoot => "leases of an earlier boot",
        Content::Volumes => "volumes",
    };
    let state = match &file.state {
        State::Sound => "sound".to_owned(),
        State::TornTail { offset } if file.kind == Content::EarlierBoot => {
            format!("sound up to offset {offset}, where that boot ended")
        }
        State::TornTail { offset } => format!("torn at offset {offset}; the next writer cuts it"),
        State::Damaged { offset, reason } => format!("damaged at offset {offset}: {reason}"),
        State::NewerFormat => "written by a newer volhook; read, never written".to_owned(),
        State::Unreadable { error } => format!("cannot be read: {error}"),
        State::UnknownRecord { offset, error } => {
            format!("holds a record at offset {offset} that is not understood: {error}")
        }
    };
    let tone = match &file.state {
        State::Sound => Tone::Good,
        State::TornTail { .. } if file.kind == Content::EarlierBoot => Tone::Good,
        State::TornTail { .. } | State::NewerFormat => Tone::Doubtful,
        State::Damaged { .. } | State::Unreadable { .. } | State::UnknownRecord { .. } => Tone::Bad,
    };
    vec![
        file.name.clone().into(),
        what.to_owned().into(),
        dash(file.format.map(|format| format.to_string())).into(),
        file.frames.to_string().into(),
        file.records.to_string().into(),
        file.bytes.to_string().into(),
        Shown::new(state, Some(tone)),
    ]
}

/// `volhook journal rebuild`: what is damaged is begun anew with what is known.
pub(crate) fn rebuild(engine: &Engine, watch: &Watch, dry_run: bool) -> Result<(), Failure> {
    let mended = journal::rebuild(engine, &Rebuild { dry_run }, &watch.work())?;
    for damaged in &mended.damaged {
        print_damaged(damaged)?;
        if dry_run {
            let (kept, copy) = (damaged.kept, if damaged.gone { "" } else { "; a copy would be kept" });
            out(&format!("  would be begun anew with {kept} of its records{copy}\n"))?;
        }
    }
    for Rebuilt { kept, copy, .. } in &mended.rebuilt {
        let copy = copy.as_ref().map_or(String::new(), |copy| format!("; the damaged file is now {copy}"));
        out(&format!("{kept} records kept{copy}\n"))?;
    }
    if mended.damaged.is_empty() && mended.rebuilt.is_empty() {
        return out("nothing is damaged\n");
    }
    Ok(())
}

fn print_damaged(damaged: &Damaged) -> Result<(), Failure> {
    let Damaged { file, offset, reason, lost, held, .. } = damaged;
    out(&format!("{file} is damaged at offset {offset}: {reason}\n"))?;
    for Lost { offset, length } in lost {
        out(&format!("  {length} bytes at offset {offset} cannot be read\n"))?;
    }
    for held in held {
        let volumes: Vec<String> = held.volumes.iter().map(ToString::to_string).collect();
        out(&format!("  held by container {}: {}\n", held.container, volumes.join(", ")))?;
    }
    Ok(())
}
