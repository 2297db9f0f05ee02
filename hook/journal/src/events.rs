//! What was recorded, as events; and new ones as they come.

use crate::Journal;
use crate::codec::FileKind;
use crate::codec::FrameHeader;
use crate::codec::Link;
use crate::error::JournalError;
use crate::leases::unknown_record;
use crate::log;
use crate::log::Log;
use crate::log::Next;
use crate::log::VOLUMES;
use crate::log::kind_of;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::HashMap;
use volhook_core::record::LeaseRecord;
use volhook_core::record::VolumeRecord;

/// Something that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The boot in whose file it stands; `None` for what outlives a boot.
    pub boot: Option<String>,
    /// Its place in the story: rises strictly, over both files and over boots, as long as nothing is lost. Numbers may be left
    /// out. Where a power cut took the end of a boot's file, the next boot can have given the same numbers again: who
    /// keeps a place keeps the boot as well.
    pub seq: u64,
    /// The wall clock when it was written, in whole microseconds. It may jump; it decides nothing.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub record: EventRecord,
}

/// The content of an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum EventRecord {
    /// From the file of a boot.
    Lease(LeaseRecord),
    /// From the file of what outlives a boot.
    Volume(VolumeRecord),
}

/// How many frames of leases are read by one call.
const AT_ONCE: usize = 1000;

/// New events as they come; made by [`Journal::follow`] and [`Story::follow`](crate::Story::follow).
pub struct Follow<'a> {
    journal: &'a Journal,
    after: u64,
    places: HashMap<String, ((u64, u64), Link)>,
}

impl<'a> Follow<'a> {
    /// What happens behind the number `after`, with how far files were read: their identities and ends.
    pub(crate) fn behind(
        journal: &'a Journal,
        after: u64,
        places: HashMap<String, ((u64, u64), Link)>,
    ) -> Self {
        Self { journal, after, places }
    }

    /// The next events since the last call, in order; none when nothing more has happened. What happened in the meantime comes
    /// in several calls where it is much. Reading does not wait for anything: call it again after a pause of your choice.
    ///
    /// # Errors
    /// Those of [`Journal::events`].
    pub fn poll(&mut self) -> Result<Vec<Event>, JournalError> {
        let mut events = Vec::new();
        let leases = self.journal.leases_name().to_owned();
        let mut there_is_more = true;
        // Frames need not hold anything that is told.
        while there_is_more && events.is_empty() {
            // Sequence numbers of the other file are taken in this one first, so up to its end the story is complete.
            let (complete, frames) = self.read(&leases, u64::MAX, &mut events)?;
            there_is_more = frames == AT_ONCE;
            self.read(VOLUMES, complete.filter(|last| *last > 0).unwrap_or(u64::MAX), &mut events)?;
        }
        events.sort_by_key(|event| event.seq);
        if let Some(event) = events.last() {
            self.after = self.after.max(event.seq);
        }
        Ok(events)
    }

    /// Reads what is new in one file, up to the sequence number `bound`, and says where the file stands and how many frames that was.
    fn read(
        &mut self,
        name: &str,
        bound: u64,
        events: &mut Vec<Event>,
    ) -> Result<(Option<u64>, usize), JournalError> {
        let kind = kind_of(name).unwrap_or(FileKind::Leases);
        let disk = self.journal.disk();
        let (found, place, frames) = self.journal.settle(|| {
            let Some(mut log) = Log::open(disk, name, kind, false)? else {
                return Ok((Vec::new(), None, 0));
            };
            let identity = log.file.identity();
            let link = match self.places.get(name) {
                Some((known, link)) if *known == identity && log.header.is_some() => *link,
                _ => log.link,
            };
            let newer = log.newer();
            let mut found = Vec::new();
            let mut frames = 0;
            log.replay(disk, link, |header, offset, payload| {
                // Of the file of volumes as much is read as the numbers lead to that were read of the other.
                if header.sequence > bound || (kind == FileKind::Leases && frames == AT_ONCE) {
                    return Ok(Next::Stop);
                }
                frames += 1;
                if header.sequence > self.after {
                    match decode(kind, log::boot_of(name), header, payload) {
                        Ok(event) => found.extend(event),
                        Err(_) if newer => {}
                        Err(source) => return Err(unknown_record(disk, name, offset, source)),
                    }
                }
                Ok(Next::Go)
            })?;
            Ok((found, log.header.map(|_| (identity, log.link)), frames))
        })?;
        events.extend(found);
        let last = place.map(|(_, link)| link.sequence);
        if let Some(place) = place {
            self.places.insert(name.to_owned(), place);
        }
        Ok((last, frames))
    }
}

impl Journal {
    /// The events behind the sequence number `after` in this boot's file and in the file of volumes, as they come.
    #[must_use]
    pub fn follow(&self, after: u64) -> Follow<'_> {
        Follow::behind(self, after, HashMap::new())
    }
}

/// `None` for a frame that only takes sequence numbers.
pub(crate) fn decode(
    kind: FileKind,
    boot: Option<&str>,
    header: &FrameHeader,
    payload: &[u8],
) -> Result<Option<Event>, serde_json::Error> {
    if payload.is_empty() {
        return Ok(None);
    }
    let record = match kind {
        FileKind::Leases => EventRecord::Lease(serde_json::from_slice(payload)?),
        FileKind::Volumes => EventRecord::Volume(serde_json::from_slice(payload)?),
    };
    let time = Timestamp::from_microsecond(header.time_us).unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(Some(Event { boot: boot.map(str::to_owned), seq: header.sequence, time, record }))
}
