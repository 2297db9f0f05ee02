//! Both kinds of files as one story, in the order of their sequence numbers.

use crate::Journal;
use crate::codec;
use crate::codec::FileKind;
use crate::codec::FrameHeader;
use crate::codec::HEADER;
use crate::codec::Link;
use crate::error::JournalError;
use crate::leases::unknown_record;
use crate::log::Log;
use crate::log::Next;
use crate::log::VOLUMES;
use crate::log::copied_kind;
use crate::log::kind_of;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::HashMap;
use volhook_core::lease::LeaseRecord;
use volhook_core::lease::VolumeRecord;

/// Something that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Its place in the story: rises strictly, over both files and over boots. Numbers may be left out.
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

/// New events as they come; made by [`Journal::follow`].
pub struct Follow<'a> {
    journal: &'a Journal,
    after: u64,
    places: HashMap<String, ((u64, u64), Link)>,
}

impl<'a> Follow<'a> {
    pub(crate) fn new(journal: &'a Journal, after: u64) -> Self {
        Self { journal, after, places: HashMap::new() }
    }

    /// The events since the last call, in order; none when nothing happened. Reading does not wait for anything: call
    /// it again after a pause of your choice.
    ///
    /// # Errors
    /// Those of [`Journal::events`].
    pub fn poll(&mut self) -> Result<Vec<Event>, JournalError> {
        let mut events = Vec::new();
        let leases = self.journal.leases_name().to_owned();
        // Sequence numbers of the other file are taken in this one first, so up to its end the story is complete.
        let complete = self.read(&leases, u64::MAX, &mut events)?.filter(|last| *last > 0);
        self.read(VOLUMES, complete.unwrap_or(u64::MAX), &mut events)?;
        events.sort_by_key(|event| event.seq);
        if let Some(event) = events.last() {
            self.after = self.after.max(event.seq);
        }
        Ok(events)
    }

    /// Reads what is new in one file, up to the sequence number `bound`, and says where the file stands.
    fn read(&mut self, name: &str, bound: u64, events: &mut Vec<Event>) -> Result<Option<u64>, JournalError> {
        let kind = kind_of(name).unwrap_or(FileKind::Leases);
        let disk = self.journal.disk();
        let (found, place) = self.journal.settle(|| {
            let Some(mut log) = Log::open(disk, name, kind, false)? else {
                return Ok((Vec::new(), None));
            };
            let identity = log.file.identity();
            let link = match self.places.get(name) {
                Some((known, link)) if *known == identity && log.header.is_some() => *link,
                _ => log.link,
            };
            let newer = log.newer();
            let mut found = Vec::new();
            log.replay(disk, link, |header, offset, payload| {
                if header.sequence > bound {
                    return Ok(Next::Stop);
                }
                if header.sequence > self.after {
                    match decode(kind, header, payload) {
                        Ok(event) => found.extend(event),
                        Err(_) if newer => {}
                        Err(source) => return Err(unknown_record(disk, name, offset, source)),
                    }
                }
                Ok(Next::Go)
            })?;
            Ok((found, log.header.map(|_| (identity, log.link))))
        })?;
        events.extend(found);
        let last = place.map(|(_, link)| link.sequence);
        if let Some(place) = place {
            self.places.insert(name.to_owned(), place);
        }
        Ok(last)
    }
}

impl Journal {
    /// Everything that was recorded, by sequence number. Files of earlier boots are history, which a power cut may
    /// have torn anywhere, and so are copies of damaged files: what is left of them is told.
    ///
    /// # Errors
    /// This boot's file or the file of volumes cannot be read or is damaged.
    pub fn events(&self) -> Result<Vec<Event>, JournalError> {
        let (events, damage) = self.readable_events()?;
        damage.into_iter().next().map_or(Ok(events), Err)
    }

    /// Everything that can be read, also of damaged files, and what is wrong with those.
    ///
    /// # Errors
    /// A file cannot be read at all, or holds a record that is not understood.
    pub fn readable_events(&self) -> Result<(Vec<Event>, Vec<JournalError>), JournalError> {
        let mut events = Vec::new();
        let mut damage = Vec::new();
        let mut reader = self.follow(0);
        for (name, kind) in [(&*self.leases_name, FileKind::Leases), (VOLUMES, FileKind::Volumes)] {
            match reader.read(name, u64::MAX, &mut events) {
                Err(error @ JournalError::Damaged { .. }) => {
                    damage.push(error);
                    events.extend(self.history(name, kind)?);
                }
                other => drop(other?),
            }
        }
        if !self.is_begun()? {
            damage.extend(self.refuse_gone().err());
        }
        let disk = self.disk();
        let names =
            disk.names().map_err(|source| JournalError::List { folder: disk.path().to_owned(), source })?;
        for name in names.iter().filter(|name| *name != self.leases_name() && *name != VOLUMES) {
            if let Some(kind) = kind_of(name).or_else(|| copied_kind(name)) {
                events.extend(self.history(name, kind)?);
            }
        }
        // What was taken over from a damaged file stands in its copy as well.
        let mut story: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
        for event in events {
            let there = story.entry(event.seq).or_default();
            if !there.contains(&event) {
                there.push(event);
            }
        }
        Ok((story.into_values().flatten().collect(), damage))
    }

    fn history(&self, name: &str, kind: FileKind) -> Result<Vec<Event>, JournalError> {
        let path = self.disk().path().join(name);
        let file = self
            .disk()
            .open(name, false)
            .map_err(|source| JournalError::Open { file: path.clone(), source })?;
        let Some(file) = file else {
            return Ok(Vec::new());
        };
        let unreadable = |source| JournalError::Read { file: path.clone(), source };
        let length = file.size().map_err(unreadable)?.saturating_sub(HEADER as u64);
        let mut bytes = vec![0; usize::try_from(length).map_err(|e| unreadable(std::io::Error::other(e)))?];
        let read = file.read_at(&mut bytes, HEADER as u64).map_err(unreadable)?;
        let mut events = Vec::new();
        for (_, header, payload) in codec::salvage(&bytes[..read], kind) {
            // A newer version's records are passed over here as well.
            events.extend(decode(kind, &header, payload).ok().flatten());
        }
        Ok(events)
    }

    /// The events behind the sequence number `after` in this boot's file and in the file of volumes, as they come.
    #[must_use]
    pub fn follow(&self, after: u64) -> Follow<'_> {
        Follow::new(self, after)
    }
}

/// `None` for a frame that only takes sequence numbers.
fn decode(kind: FileKind, header: &FrameHeader, payload: &[u8]) -> Result<Option<Event>, serde_json::Error> {
    if payload.is_empty() {
        return Ok(None);
    }
    let record = match kind {
        FileKind::Leases => EventRecord::Lease(serde_json::from_slice(payload)?),
        FileKind::Volumes => EventRecord::Volume(serde_json::from_slice(payload)?),
    };
    let time = Timestamp::from_microsecond(header.time_us).unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(Some(Event { seq: header.sequence, time, record }))
}
