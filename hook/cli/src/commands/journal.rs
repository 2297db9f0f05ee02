//! `volhook journal`: looking at the journal's files, and rebuilding what is damaged.

use crate::output::Shown;
use crate::output::Tone;
use crate::output::dash;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use serde_json::json;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_journal::CheckpointState;
use volhook_journal::Content;
use volhook_journal::FileReport;
use volhook_journal::FileState;
use volhook_leases::repair;

/// `volhook journal check`: reads everything, changes nothing. It fails when anything is not as it was written.
pub(crate) fn check(context: &Context<'_>, as_json: bool) -> Result<(), Failure> {
    let report = context.ledger.journal()?.check().map_err(Failure::new)?;
    if as_json {
        let mut document = json!(report);
        document["sound"] = report.is_sound().into();
        print_json(&document)?;
    } else {
        let rows = report.files.iter().map(row).collect();
        print_table(&["file", "what", "format", "frames", "records", "bytes", "state"], rows)?;
        let checkpoint = match report.checkpoint {
            CheckpointState::Missing => "none yet; none is needed",
            CheckpointState::Agrees => "agrees with the leases of this boot",
            CheckpointState::Unusable => "not usable; it is ignored and written anew",
            CheckpointState::Disagrees => "disagrees with the leases of this boot",
            CheckpointState::Unknown => {
                "cannot be compared: the leases of this boot cannot be read to their end"
            }
        };
        out(&format!("checkpoint: {checkpoint}\n"))?;
        for copy in &report.copies {
            out(&format!("kept copy of a damaged file: {} ({} bytes)\n", copy.name, copy.bytes))?;
        }
        if report.is_sound() {
            out("ok\n")?;
        }
    }
    if report.is_sound() {
        return Ok(());
    }
    let damaged = report.files.iter().any(|file| matches!(file.state, FileState::Damaged { .. }));
    let failure = Failure::new(format!("the journal in {} is not sound", report.folder.display()));
    Err(if damaged {
        failure.hint("`volhook journal rebuild` shows what can be kept and does it; so does the next hook")
    } else {
        failure
    })
}

fn row(file: &FileReport) -> Vec<Shown> {
    let what = match file.kind {
        Content::ThisBoot => "leases of this boot",
        Content::EarlierBoot => "leases of an earlier boot",
        Content::Volumes => "volumes",
    };
    let state = match &file.state {
        FileState::Sound => "sound".to_owned(),
        FileState::TornTail { offset } => format!("torn at offset {offset}; the next writer cuts it"),
        FileState::Damaged { offset, reason } => format!("damaged at offset {offset}: {reason}"),
        FileState::NewerFormat => "written by a newer volhook; read, never written".to_owned(),
        FileState::Unreadable { error } => format!("cannot be read: {error}"),
        FileState::UnknownRecord { offset, error } => {
            format!("holds a record at offset {offset} that is not understood: {error}")
        }
    };
    let tone = match &file.state {
        FileState::Sound => Tone::Good,
        FileState::TornTail { .. } | FileState::NewerFormat => Tone::Doubtful,
        FileState::Damaged { .. } | FileState::Unreadable { .. } | FileState::UnknownRecord { .. } => {
            Tone::Bad
        }
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
pub(crate) fn rebuild(context: &Context<'_>, dry_run: bool) -> Result<(), Failure> {
    let journal = context.ledger.journal()?;
    if let Some(damage) = journal.salvage().map_err(Failure::new)? {
        out(&format!(
            "{} is damaged at offset {}: {}\n",
            damage.file.display(),
            damage.offset,
            damage.reason
        ))?;
        for lost in &damage.lost {
            out(&format!("  {} bytes at offset {} cannot be read\n", lost.length, lost.offset))?;
        }
        for grant in repair::grants(&context.ledger, &damage)? {
            let volumes: Vec<String> = grant.leases.iter().map(|lease| lease.volume.to_string()).collect();
            out(&format!("  held by container {}: {}\n", grant.container, volumes.join(", ")))?;
        }
    }
    if dry_run {
        return Ok(());
    }
    let done = repair::rebuild(&context.ledger, &context.work())?;
    if done.is_empty() {
        return out("nothing is damaged\n");
    }
    done.iter().try_for_each(|rebuilt| {
        out(&format!("{} records kept; the damaged file is now {}\n", rebuilt.kept, rebuilt.copy.display()))
    })
}
