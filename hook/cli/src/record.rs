//! Per-attempt records in the run directory: the plan, the container's process and its spec, from which follows what the
//! container effectively has.
//!
//! They carry a plan from the spec stage to the createRuntime hook, and are what a lease table can be rebuilt
//! from while containers run. A record dies with its boot or with its container.

use crate::context::Context;
use crate::error::Failure;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use std::fs;
use std::io::ErrorKind;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::lease::Holder;
use volhook_core::plan::Plan;

/// What is kept of an attempt.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) plan: Plan,
    /// The container's process, once there is one.
    pub(crate) holder: Option<Holder>,
    /// The spec that the runtime read. At the spec stage it has the plan in it; at the live stage the plan is what the
    /// container has beyond it.
    pub(crate) spec: serde_json::Value,
}

/// Writes the record of an attempt. Whoever reads it finds a whole one or none.
pub(crate) fn write(context: &Context, record: &Record) -> Result<(), Failure> {
    let folder = folder(context);
    let failed = |error| {
        Failure::context(format!("cannot write the container's record in {}", folder.display()), error)
    };
    let content = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
    let attempt = &record.plan.attempt;
    let temporary = folder.join(format!(".{attempt}"));
    let create =
        || fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
    let mut file = match create() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
            create()
        }
        other => other,
    }
    .map_err(failed)?;
    file.write_all(&content).map_err(failed)?;
    fs::rename(&temporary, folder.join(format!("{attempt}.json"))).map_err(failed)
}

/// Reads the record of an attempt.
pub(crate) fn read(context: &Context, attempt: &str) -> Result<Record, Failure> {
    // The token comes from a spec; only what could be a name of ours may become part of a path.
    if uuid::Uuid::try_parse(attempt).is_err() {
        return Err(Failure::new(format!("{attempt:?} is not an attempt of volhook's")));
    }
    let path = folder(context).join(format!("{attempt}.json"));
    let bytes = fs::read(&path).map_err(|error| {
        let failure = Failure::context(format!("cannot read the record of attempt {attempt}"), error);
        failure.hint(
            "the spec was planned in another boot or run directory; start from the spec as it was before",
        )
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::context(format!("the record {} is damaged", path.display()), error))
}

/// The record of an attempt, and when it was written.
pub(crate) fn read_with_time(context: &Context, attempt: &str) -> Result<(Record, Timestamp), Failure> {
    let record = read(context, attempt)?;
    let path = folder(context).join(format!("{attempt}.json"));
    let written = fs::metadata(&path).and_then(|data| data.modified()).map_err(|error| {
        Failure::context(format!("cannot tell when {} was written", path.display()), error)
    })?;
    Ok((record, Timestamp::try_from(written).unwrap_or(Timestamp::UNIX_EPOCH)))
}

/// The attempts of which something is kept.
pub(crate) fn list(context: &Context) -> Result<Vec<String>, Failure> {
    let folder = folder(context);
    let failed = |error| {
        Failure::context(format!("cannot list the containers' records in {}", folder.display()), error)
    };
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut attempts = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        // What a killed process was about to write has the same name with a dot before it.
        let attempt = name.to_str().map(|name| name.trim_start_matches('.').trim_end_matches(".json"));
        attempts.extend(attempt.filter(|text| uuid::Uuid::try_parse(text).is_ok()).map(str::to_owned));
    }
    Ok(attempts)
}

/// Removes what is kept of an attempt. Nothing depends on its being gone.
pub(crate) fn remove(context: &Context, attempt: &str) -> Result<(), Failure> {
    remove_file(&folder(context).join(format!("{attempt}.json")))
}

/// Removes also what a process that was killed was about to write for an attempt that is over.
pub(crate) fn remove_all(context: &Context, attempt: &str) -> Result<(), Failure> {
    remove(context, attempt)?;
    remove_file(&folder(context).join(format!(".{attempt}")))
}

fn remove_file(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::context(format!("cannot remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

fn folder(context: &Context) -> PathBuf {
    context.paths.run_dir.join("attempts")
}
