//! Old history is removed: files of earlier boots, and copies of damaged files.

use crate::Journal;
use crate::codec::HEADER;
use crate::disk::Disk;
use crate::disk::DiskFile;
use crate::error::JournalError;
use crate::log;
use crate::log::VOLUMES;
use crate::log::copied_kind;
use crate::log::kind_of;
use crate::scan::Scan;
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;
use std::time::Instant;

/// How much history is kept. Both limits hold; this boot's files and `volumes` are always kept, and are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// History whose newest record is older goes.
    pub age: Duration,
    /// The most bytes of history; the oldest goes first.
    pub bytes: u64,
}

/// A file that [`Journal::retain`] removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Its name in the folder.
    pub name: String,
    /// Its length, with what belonged to it.
    pub bytes: u64,
}

/// A file that may go.
struct Old {
    name: String,
    /// What goes with it: the index of a file of leases.
    others: Vec<String>,
    bytes: u64,
    /// The sequence number of its last record; 0 where nothing can be read.
    last: u64,
    /// When its newest record was written, microseconds since 1970; the lowest number where nothing can be read.
    newest_us: i64,
}

impl Journal {
    /// Removes history beyond the limits, and says what. Sequence numbers go on from where they were, and say what is older:
    /// the clock may have been set in between. `now` should be no later than it can be by this boot's own clock.
    ///
    /// # Errors
    /// As [`lock`](Self::lock); failures to remove, which leave what was not removed yet.
    pub fn retain(
        &self,
        deadline: Instant,
        now: Timestamp,
        retention: &Retention,
    ) -> Result<Vec<Removed>, JournalError> {
        if self.beyond(now, retention)?.is_empty() {
            return Ok(Vec::new());
        }
        let mut locked = self.lock(deadline)?;
        let kept = locked.note_sequence(now)?;
        drop(locked);
        let disk = self.disk();
        let unsynced = |source| JournalError::Sync { file: disk.path().join(self.leases_name()), source };
        // Nobody relies on what is flushed here but the removal below: a failure ends that, and spoils nothing else.
        kept.sync().and_then(|()| disk.sync_names()).map_err(unsynced)?;
        // What is removed is looked at anew: somebody may be copying what he found damaged.
        let locked = self.lock(deadline)?;
        let mut removed = Vec::new();
        let mut open = Vec::new();
        for Old { name, others, bytes, .. } in self.beyond(now, retention)?.into_iter().rev() {
            for name in others.iter().chain([&name]) {
                // The space of a large file is given back when the last who has it open closes it: behind the lock.
                open.extend(disk.open(name, false).ok().flatten());
                disk.remove(name)
                    .map_err(|source| JournalError::Remove { file: disk.path().join(name), source })?;
            }
            removed.push(Removed { name, bytes });
        }
        drop(locked);
        drop(open);
        Ok(removed)
    }

    /// The history beyond the limits, the newest first.
    fn beyond(&self, now: Timestamp, retention: &Retention) -> Result<Vec<Old>, JournalError> {
        let disk = self.disk();
        let names =
            disk.names().map_err(|source| JournalError::List { folder: disk.path().to_owned(), source })?;
        let mut old = Vec::new();
        for name in &names {
            let earlier = kind_of(name).is_some() && name != self.leases_name() && name != VOLUMES;
            if earlier || copied_kind(name).is_some() {
                old.push(look_at(disk, name, &names));
            }
        }
        old.sort_by(|a, b| (a.last, &a.name).cmp(&(b.last, &b.name)));
        set_right(&mut old, now.as_microsecond());
        let limit = now
            .as_microsecond()
            .saturating_sub_unsigned(u64::try_from(retention.age.as_micros()).unwrap_or(u64::MAX));
        let mut kept = 0u64;
        let mut going = Vec::new();
        for old in old.into_iter().rev() {
            let bytes = kept.saturating_add(old.bytes);
            // Behind a file that goes for its size, older ones go as well: history has no holes.
            if old.newest_us >= limit && bytes <= retention.bytes && going.is_empty() {
                kept = bytes;
            } else {
                going.push(old);
            }
        }
        Ok(going)
    }
}

impl Journal {
    /// When this boot's file was begun, by the wall clock then; `None` where there is none.
    #[must_use]
    pub fn boot_began(&self) -> Option<Timestamp> {
        let file = self.disk().open(self.leases_name(), false).ok()??;
        Timestamp::from_microsecond(beginning(&*file)?).ok()
    }
}

impl Journal {
    /// From when on everything that was recorded about leases is still there; `None` where nothing is.
    ///
    /// # Errors
    /// The journal's folder cannot be read.
    pub fn history_begins(&self) -> Result<Option<Timestamp>, JournalError> {
        let disk = self.disk();
        let names =
            disk.names().map_err(|source| JournalError::List { folder: disk.path().to_owned(), source })?;
        let files = names.iter().filter(|name| *name != VOLUMES && kind_of(name).is_some());
        let first = files.filter_map(|name| beginning(&*disk.open(name, false).ok()??)).min();
        Ok(first.and_then(|time| Timestamp::from_microsecond(time).ok()))
    }
}

/// Gives files, the oldest first, the time of the next newer one where the clock was wrong when their newest record was written:
/// where that would be in the future, or before something that was written earlier.
fn set_right(old: &mut [Old], now_us: i64) {
    let mut before = i64::MIN;
    let mut wrong = vec![false; old.len()];
    for (old, wrong) in old.iter().zip(&mut wrong).filter(|(old, _)| old.last > 0) {
        *wrong = old.newest_us > now_us || old.newest_us < before;
        if !*wrong {
            before = old.newest_us;
        }
    }
    let mut later = now_us;
    for (old, wrong) in old.iter_mut().zip(wrong).rev() {
        if wrong {
            old.newest_us = later;
        }
        later = old.newest_us;
    }
}

fn look_at(disk: &dyn Disk, name: &str, names: &[String]) -> Old {
    let others: Vec<_> = match kind_of(name) {
        Some(_) => {
            let parts = [".index", ".rebuilding"].map(|part| format!("{name}{part}"));
            parts.into_iter().filter(|part| names.contains(part)).collect()
        }
        None => Vec::new(),
    };
    let size =
        |name: &str| disk.open(name, false).ok().flatten().and_then(|file| file.size().ok()).unwrap_or(0);
    let bytes = others.iter().map(|name| size(name)).sum::<u64>() + size(name);
    let (last, newest_us) = newest(disk, name).unwrap_or((0, i64::MIN));
    Old { name: name.to_owned(), others, bytes, last, newest_us }
}

/// The number and time of the last readable record, or the time of the file's beginning.
fn newest(disk: &dyn Disk, name: &str) -> Option<(u64, i64)> {
    let kind = kind_of(name).or_else(|| copied_kind(name))?;
    let file = disk.open(name, false).ok()??;
    let length = file.size().ok()?;
    let start = (length.saturating_sub(log::LOOK) / 8 * 8).max(HEADER as u64);
    let mut scan = Scan::new(&*file, kind, start, length);
    let mut last = None;
    while let Some((_, header)) = scan.next().ok()? {
        last = Some((header.sequence, header.time_us));
    }
    last.or_else(|| Some((0, beginning(&*file)?)))
}

/// When a file was begun, microseconds since 1970.
fn beginning(file: &dyn DiskFile) -> Option<i64> {
    let mut header = [0; HEADER];
    let read = file.read_at(&mut header, 0).ok()?;
    let time = header[16..24].first_chunk().map(|bytes| i64::from_le_bytes(*bytes))?;
    (read == HEADER && time > 0).then_some(time)
}
