//! The journal's files, for people: in what state they are, and damaged ones begun anew.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use volhook_api::VolumeRef;
use volhook_api::journal::Checked;
use volhook_api::journal::Content;
use volhook_api::journal::Copy;
use volhook_api::journal::Damaged;
use volhook_api::journal::File;
use volhook_api::journal::Holds;
use volhook_api::journal::Index;
use volhook_api::journal::Lost;
use volhook_api::journal::Mended;
use volhook_api::journal::Rebuild;
use volhook_api::journal::Rebuilt;
use volhook_api::journal::State;
use volhook_core::lease::Grant;
use volhook_journal as journal;
use volhook_journal::FileReport;
use volhook_leases::Work;
use volhook_leases::repair;

/// What becomes of a damaged file of an earlier boot: nobody rebuilds it.
pub const HISTORY: &str = "no lease depends on it: `volhook events` shows what can be read of it, and it goes with the history \
                           (`[history]`)";

/// Reads every file from end to end; changes nothing.
///
/// # Errors
/// When there is no telling which files there are. What is wrong with one stands in the answer.
pub fn check(engine: &Engine, _work: &Work<'_>) -> Result<Checked, Failure> {
    let report = engine.ledger.journal()?.check().map_err(Failure::new)?;
    Ok(Checked {
        sound: report.is_sound(),
        folder: report.folder.display().to_string(),
        files: report.files.into_iter().map(file).collect(),
        index: match report.index {
            journal::IndexState::Missing => Index::Missing,
            journal::IndexState::Agrees => Index::Agrees,
            journal::IndexState::Unusable => Index::Unusable,
            journal::IndexState::Disagrees => Index::Disagrees,
            journal::IndexState::Unknown => Index::Unknown,
        },
        copies: report.copies.into_iter().map(|copy| Copy { name: copy.name, bytes: copy.bytes }).collect(),
    })
}

fn file(report: FileReport) -> File {
    let FileReport { name, kind, format, frames, records, bytes, state } = report;
    File {
        name,
        kind: match kind {
            journal::Content::ThisBoot => Content::ThisBoot,
            journal::Content::EarlierBoot => Content::EarlierBoot,
            journal::Content::Volumes => Content::Volumes,
        },
        format,
        frames,
        records,
        bytes,
        state: match state {
            journal::FileState::Sound => State::Sound,
            journal::FileState::TornTail { offset } => State::TornTail { offset },
            journal::FileState::Damaged { offset, reason } => State::Damaged { offset, reason },
            journal::FileState::NewerFormat => State::NewerFormat,
            journal::FileState::Unreadable { error } => State::Unreadable { error },
            journal::FileState::UnknownRecord { offset, error } => State::UnknownRecord { offset, error },
        },
    }
}

/// Begins damaged files anew with what is known, or, dry, says with what that would be.
///
/// # Errors
/// When a file cannot be read or replaced, and when nobody can tell what a container holds.
pub fn rebuild(engine: &Engine, asked: &Rebuild, work: &Work<'_>) -> Result<Mended, Failure> {
    let context = &Context::new(engine, *work);
    let journal = context.ledger.journal()?;
    let mut mended = Mended::default();
    if let Some(damage) = journal.salvage().map_err(Failure::new)? {
        let grants = repair::grants(&context.ledger, &damage)?;
        mended.damaged.push(Damaged {
            file: damage.file.display().to_string(),
            offset: damage.offset,
            reason: damage.reason,
            gone: damage.gone,
            lost: lost(&damage.lost),
            kept: grants.len(),
            held: grants.iter().map(holds).collect(),
        });
    }
    if let Some(damage) = journal.salvage_volumes().map_err(Failure::new)? {
        mended.damaged.push(Damaged {
            file: damage.file.display().to_string(),
            offset: damage.offset,
            reason: damage.reason,
            gone: false,
            lost: lost(&damage.lost),
            kept: damage.records,
            held: Vec::new(),
        });
    }
    if !asked.dry_run {
        let rebuilt = repair::rebuild(&context.ledger, &context.work())?.into_iter();
        mended.rebuilt = rebuilt
            .map(|rebuilt| Rebuilt {
                kept: rebuilt.kept,
                lost_at: rebuilt.lost_at,
                copy: rebuilt.copy.map(|copy| copy.display().to_string()),
            })
            .collect();
    }
    Ok(mended)
}

fn lost(parts: &[journal::Lost]) -> Vec<Lost> {
    parts.iter().map(|part| Lost { offset: part.offset, length: part.length }).collect()
}

fn holds(grant: &Grant) -> Holds {
    Holds {
        container: grant.container.clone(),
        volumes: grant.leases.iter().map(|lease| VolumeRef::from(&lease.volume)).collect(),
    }
}
