//! The journal read from end to end, to say in what state it is. Changes nothing.

use crate::Journal;
use crate::codec::FileKind;
use crate::disk::Disk;
use crate::error::JournalError;
use crate::gone::GONE;
use crate::leases::Leases;
use crate::leases::noted_end;
use crate::log::Log;
use crate::log::Next;
use crate::log::kind_of;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;
use volhook_core::record::LeaseRecord;
use volhook_core::record::VolumeRecord;

/// What [`Journal::check`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The journal's folder.
    pub folder: PathBuf,
    /// Every journal file, by name.
    pub files: Vec<FileReport>,
    /// Whether this boot's index says what its file says.
    pub index: IndexState,
    /// Copies of damaged files.
    pub copies: Vec<Copy>,
}

impl Report {
    /// Whether nothing is wrong with any file, those of earlier boots included, nor with the index.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let index = matches!(self.index, IndexState::Missing | IndexState::Agrees);
        index && self.files.iter().all(FileReport::is_sound)
    }
}

/// One journal file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Its name in the folder.
    pub name: String,
    /// What it holds.
    pub kind: Content,
    /// Its format, where its header could be read.
    pub format: Option<u32>,
    /// How many whole frames it holds, from its beginning on.
    pub frames: u64,
    /// How many of them hold a record; the others only take sequence numbers.
    pub records: u64,
    /// Its length.
    pub bytes: u64,
    /// What is wrong with it.
    #[serde(flatten)]
    pub state: FileState,
}

impl FileReport {
    /// Whether nothing is wrong with it. The leases of an earlier boot were never synced, and nobody writes to them any more: a
    /// power cut tears their end for good, and nothing that holds in this boot stood in it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        match self.state {
            FileState::Sound => true,
            FileState::TornTail { .. } => self.kind == Content::EarlierBoot,
            _ => false,
        }
    }
}

/// What a journal file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Leases of this boot.
    ThisBoot,
    /// Leases of an earlier boot: history, of which a power cut may have taken the end.
    EarlierBoot,
    /// What outlives a boot.
    Volumes,
}

/// In what state a journal file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum FileState {
    /// Every byte is what was written, and every record is understood.
    Sound,
    /// An append at the end was never finished. The next writer cuts it off; of an earlier boot there is none.
    TornTail {
        /// Where it begins.
        offset: u64,
    },
    /// Bytes are not what was written, or are gone.
    Damaged {
        /// Where the damage begins.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A newer volhook wrote it. What this one knows of it was read without trouble.
    NewerFormat,
    /// It could not be opened or read.
    Unreadable {
        /// Why.
        error: String,
    },
    /// A record is whole and cannot be understood.
    UnknownRecord {
        /// Where its frame begins.
        offset: u64,
        /// What is wrong with it.
        error: String,
    },
}

/// How this boot's index compares with its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexState {
    /// There is none; nobody needs one.
    Missing,
    /// It leads to all live grants and to nothing else.
    Agrees,
    /// It is torn, damaged, or of another file: it is ignored, and written anew some time.
    Unusable,
    /// It is whole and says something else than the file.
    Disagrees,
    /// The file itself cannot be read to its end.
    Unknown,
}

/// A copy of a damaged file, kept as evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copy {
    /// Its name in the folder.
    pub name: String,
    /// Its length; 0 where it cannot be opened.
    pub bytes: u64,
}

impl Journal {
    /// Reads every journal file from end to end, without the lock and without changing anything.
    ///
    /// # Errors
    /// [`JournalError::List`]; whatever is wrong with a file stands in the report.
    pub fn check(&self) -> Result<Report, JournalError> {
        let disk = self.disk();
        let mut names =
            disk.names().map_err(|source| JournalError::List { folder: disk.path().to_owned(), source })?;
        names.sort();
        let files = names.iter().filter_map(|name| {
            let content = match kind_of(name)? {
                FileKind::Volumes => Content::Volumes,
                FileKind::Leases if name == self.leases_name() => Content::ThisBoot,
                FileKind::Leases => Content::EarlierBoot,
            };
            Some(check_patiently(disk, name, content))
        });
        let mut files: Vec<FileReport> = files.collect();
        self.report_gone(&mut files);
        let copies = names.iter().filter(|name| crate::log::is_copy(name));
        let copies = copies.map(|name| {
            let file = disk.open(name, false).ok().flatten();
            Copy { name: name.clone(), bytes: file.and_then(|file| file.size().ok()).unwrap_or(0) }
        });
        let copies = copies.collect();
        let index = Leases::check_index(disk, self.leases_name());
        Ok(Report { folder: disk.path().to_owned(), files, index, copies })
    }

    /// Says of this boot's file that it is gone, if that is so.
    fn report_gone(&self, files: &mut Vec<FileReport>) {
        let is_begun = |report: &FileReport| report.state != FileState::TornTail { offset: 0 };
        let there = files.iter().position(|report| report.kind == Content::ThisBoot);
        if there.is_some_and(|place| is_begun(&files[place])) {
            return;
        }
        if !self.is_gone() {
            return;
        }
        // Another process may have begun it since.
        let mut report = check_patiently(self.disk(), self.leases_name(), Content::ThisBoot);
        if report.format.is_none() {
            report.state = FileState::Damaged { offset: 0, reason: GONE.to_owned() };
        }
        files.retain(|report| report.kind != Content::ThisBoot);
        files.push(report);
        files.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

/// A writer at work looks like a torn tail or, to a slow reader, like damage; only what stays so is.
fn check_patiently(disk: &dyn Disk, name: &str, content: Content) -> FileReport {
    for pause in [1, 5, 20] {
        let report = check_file(disk, name, content);
        if matches!(report.state, FileState::Sound | FileState::NewerFormat | FileState::Unreadable { .. }) {
            return report;
        }
        disk.pause(Duration::from_millis(pause));
    }
    check_file(disk, name, content)
}

fn check_file(disk: &dyn Disk, name: &str, kind: Content) -> FileReport {
    let state = FileState::Sound;
    let mut report =
        FileReport { name: name.to_owned(), kind, format: None, frames: 0, records: 0, bytes: 0, state };
    let checked = read_file(disk, &mut report);
    report.state = checked.unwrap_or_else(|error| match error {
        JournalError::Damaged { offset, reason, .. } => {
            FileState::Damaged { offset, reason: reason.to_owned() }
        }
        other => {
            let cause = std::error::Error::source(&other).map_or_else(String::new, |c| format!(": {c}"));
            FileState::Unreadable { error: format!("{other}{cause}") }
        }
    });
    report
}

fn read_file(disk: &dyn Disk, report: &mut FileReport) -> Result<FileState, JournalError> {
    let kind = if report.kind == Content::Volumes { FileKind::Volumes } else { FileKind::Leases };
    let Some(mut log) = Log::open(disk, &report.name, kind, false)? else {
        return Ok(FileState::Unreadable { error: "the file went away".to_owned() });
    };
    // Before the file's length, which only grows: otherwise an append in between looks like a loss.
    let noted = if report.kind == Content::ThisBoot { noted_end(disk, &log) } else { None };
    let unreadable = |source| JournalError::Read { file: disk.path().join(&log.name), source };
    report.bytes = log.file.size().map_err(unreadable)?;
    report.format = log.header.map(|header| header.version);
    if log.header.is_none() {
        log.refuse_cut(disk, noted)?;
        return Ok(FileState::TornTail { offset: 0 });
    }
    let mut unknown = None;
    let link = log.link;
    log.replay(disk, link, |_, offset, payload| {
        report.frames += 1;
        if payload.is_empty() {
            return Ok(Next::Go);
        }
        let understood = match kind {
            FileKind::Leases => serde_json::from_slice::<LeaseRecord>(payload).map(drop),
            FileKind::Volumes => serde_json::from_slice::<VolumeRecord>(payload).map(drop),
        };
        match understood {
            Ok(()) => report.records += 1,
            Err(error) if unknown.is_none() => {
                unknown = Some(FileState::UnknownRecord { offset, error: error.to_string() });
            }
            Err(_) => {}
        }
        Ok(Next::Go)
    })?;
    log.refuse_cut(disk, noted)?;
    let offset = log.link.end;
    if log.newer() {
        return Ok(FileState::NewerFormat);
    }
    if let Some(unknown) = unknown {
        return Ok(unknown);
    }
    Ok(if log.torn() { FileState::TornTail { offset } } else { FileState::Sound })
}
