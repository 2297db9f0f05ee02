//! The records of attempts in the run directory: the plan, the container's process and its spec, from which follows what the
//! container effectively has.
//!
//! They carry a plan from the spec stage to the createRuntime hook, and are what a lease table can be rebuilt
//! from while containers run. A record dies with its boot or with its container.
//!
//! Each is a JSON document with the number of its format: 1 has `format`, `plan`, `holder` and `spec`, and 0, without a
//! number, the same. Of a newer one only who holds what is read ([`Attempts::grant`]), which is where it was.

use crate::error::Error;
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
use volhook_core::lease::Grant;
use volhook_core::lease::Holder;
use volhook_core::lease::LeasedVolume;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;
use volhook_core::plan::Plan;

/// The newest format of a record that this version reads, and the one that it writes.
pub const FORMAT: u32 = 1;

/// What is kept of an attempt.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// Version of this record's layout; see [`FORMAT`].
    #[serde(default)]
    pub format: u32,
    /// What was decided for the container.
    pub plan: Plan,
    /// The container's process, once there is one.
    pub holder: Option<Holder>,
    /// The spec that the runtime read. At the spec stage it has the plan in it; at the live stage the plan is what the
    /// container has beyond it.
    pub spec: serde_json::Value,
}

impl Record {
    /// A record of the present format.
    #[must_use]
    pub fn new(plan: Plan, holder: Option<Holder>, spec: serde_json::Value) -> Self {
        Self { format: FORMAT, plan, holder, spec }
    }
}

/// What of a record says who holds what, in all formats.
#[derive(Debug, Deserialize)]
struct Held {
    plan: HeldPlan,
    holder: Option<Holder>,
}

#[derive(Debug, Deserialize)]
struct HeldPlan {
    container: ContainerId,
    leases: Vec<LeasedVolume>,
}

/// The folder of the records.
#[derive(Debug, Clone)]
pub struct Attempts {
    folder: PathBuf,
}

impl Attempts {
    /// Those below a run directory. Nothing is read or made.
    #[must_use]
    pub fn below(run_dir: &Path) -> Self {
        Self { folder: run_dir.join("attempts") }
    }

    /// Writes the record of an attempt. Whoever reads it finds a whole one or the one before; where it fails nothing of it stays.
    ///
    /// # Errors
    /// [`Error::WriteRecord`].
    pub fn write(&self, record: &Record) -> Result<(), Error> {
        let failed = |source| Error::WriteRecord { folder: self.folder.clone(), source };
        let content = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        let attempt = &record.plan.attempt;
        let temporary = self.folder.join(format!(".{attempt}"));
        let create =
            || fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
        let mut file = match create() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(failed)?;
                create()
            }
            other => other,
        }
        .map_err(failed)?;
        let written = file.write_all(&content).and_then(|()| fs::rename(&temporary, self.path(attempt)));
        written.map_err(|error| {
            // On a full disk it has taken what there was.
            let _ = fs::remove_file(&temporary);
            failed(error)
        })
    }

    /// Reads the record of an attempt.
    ///
    /// # Errors
    /// [`Error::NotAnAttempt`], [`Error::ReadRecord`], [`Error::DamagedRecord`], [`Error::NewerRecord`].
    pub fn read(&self, attempt: &str) -> Result<Record, Error> {
        let (path, document) = self.document(attempt)?;
        let format = document["format"].as_u64().unwrap_or(0);
        if format > u64::from(FORMAT) {
            return Err(Error::NewerRecord { path, format, newest: FORMAT });
        }
        serde_json::from_value(document).map_err(|source| Error::DamagedRecord { path, source })
    }

    /// What the record of an attempt says of who holds what, and since when; of any format. `None` where it was never whole.
    ///
    /// # Errors
    /// When it cannot be read, though it is there.
    pub fn grant(&self, attempt: &str) -> Result<Option<Grant>, Error> {
        let (path, document) = match self.document(attempt) {
            Err(Error::ReadRecord { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            // A record gets its name with all its content. A power cut takes that from it, and everybody who held something.
            Err(Error::DamagedRecord { path, .. }) if is_empty(&path) => return Ok(None),
            other => other?,
        };
        let written = fs::metadata(&path)
            .and_then(|data| data.modified())
            .map_err(|source| Error::RecordTime { path: path.clone(), source })?;
        let held: Held =
            serde_json::from_value(document).map_err(|source| Error::DamagedRecord { path, source })?;
        Ok(Some(Grant {
            attempt: attempt.to_owned(),
            container: held.plan.container,
            holder: held.holder,
            leases: held.plan.leases,
            since: Timestamp::try_from(written).unwrap_or(Timestamp::UNIX_EPOCH),
            since_boot_ms: None,
        }))
    }

    /// The attempts of which something is kept.
    ///
    /// # Errors
    /// [`Error::ListRecords`].
    pub fn list(&self) -> Result<Vec<String>, Error> {
        Ok(self.names()?.iter().filter_map(|name| Self::attempt_of(name)).map(str::to_owned).collect())
    }

    /// The names of the files in which something is kept of attempts, or was about to be.
    ///
    /// # Errors
    /// [`Error::ListRecords`].
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        let failed = |source| Error::ListRecords { folder: self.folder.clone(), source };
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_str().filter(|name| Self::attempt_of(name).is_some());
            names.extend(name.map(str::to_owned));
        }
        Ok(names)
    }

    /// The attempt of which the file of this name is.
    pub(crate) fn attempt_of(name: &str) -> Option<&str> {
        // What a killed process was about to write has the same name with a dot before it.
        let attempt = name.trim_start_matches('.').trim_end_matches(".json");
        uuid::Uuid::try_parse(attempt).is_ok().then_some(attempt)
    }

    /// Takes a lease that was broken out of the record of an attempt, and removes a record that has no other: from it nobody
    /// rebuilds the lease. A plan that is still to be carried out stays whole.
    ///
    /// # Errors
    /// As for [`read`](Self::read) and [`write`](Self::write); the record is then as it was.
    pub fn without(&self, attempt: &str, volume: &VolumeId) -> Result<(), Error> {
        let mut record = match self.read(attempt) {
            Err(Error::ReadRecord { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if record.plan.leases.iter().all(|lease| lease.volume == *volume) {
            return self.remove_all(attempt);
        }
        if record.holder.is_none() {
            return Ok(());
        }
        record.plan.leases.retain(|lease| lease.volume != *volume);
        self.write(&record)
    }

    /// Removes what is kept of an attempt. Nothing depends on its being gone.
    ///
    /// # Errors
    /// [`Error::RemoveRecord`].
    pub fn remove(&self, attempt: &str) -> Result<(), Error> {
        remove_file(&self.path(attempt))
    }

    /// Removes also what a process that was killed was about to write for an attempt that is over.
    ///
    /// # Errors
    /// [`Error::RemoveRecord`].
    pub fn remove_all(&self, attempt: &str) -> Result<(), Error> {
        self.remove(attempt)?;
        remove_file(&self.folder.join(format!(".{attempt}")))
    }

    fn path(&self, attempt: &str) -> PathBuf {
        self.folder.join(format!("{attempt}.json"))
    }

    fn document(&self, attempt: &str) -> Result<(PathBuf, serde_json::Value), Error> {
        // The token comes from a spec; only what could be a name of ours may become part of a path.
        if uuid::Uuid::try_parse(attempt).is_err() {
            return Err(Error::NotAnAttempt { attempt: attempt.to_owned() });
        }
        let path = self.path(attempt);
        let bytes =
            fs::read(&path).map_err(|source| Error::ReadRecord { attempt: attempt.to_owned(), source })?;
        match serde_json::from_slice(&bytes) {
            Ok(document) => Ok((path, document)),
            Err(source) => Err(Error::DamagedRecord { path, source }),
        }
    }
}

fn is_empty(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.len() == 0)
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(Error::RemoveRecord { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
