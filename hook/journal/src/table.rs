//! The table of leases as the fold of a boot's file, and the checkpoint that saves folding it from its start.
//!
//! The checkpoint is derived and disposable: whatever is wrong with it, it is ignored and the file is folded.
//! It lives in two files that are overwritten in turn, in place: a rename over a file would make the kernel
//! start writing it out, and this is on the way of every container.

use crate::codec::FORMAT;
use crate::codec::FRAME;
use crate::codec::FileKind;
use crate::codec::Link;
use crate::codec::decode_frame;
use crate::disk::Disk;
use crate::error::JournalError;
use crate::log::Log;
use crate::log::Next;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseRecord;
use volhook_core::lease::LeaseTable;

const MAGIC: [u8; 8] = *b"VOLHOOKT";
const HEADER: usize = 56;
/// A tail of the file shorter than this is always folded rather than written down.
const SHORT_TAIL: u64 = 16 << 10;

/// A boot's file of leases, folded.
pub(crate) struct Leases {
    pub(crate) log: Log,
    pub(crate) table: LeaseTable,
    /// The place in the file that the newest checkpoint stands for, and the checkpoint's size.
    marked: u64,
    mark_size: u64,
    slot: usize,
}

impl Leases {
    /// Opens and folds the file called `name`, continuing `earlier` where it is still the same file.
    pub(crate) fn load(
        disk: &dyn Disk,
        name: &str,
        write: bool,
        earlier: Option<Self>,
    ) -> Result<Option<Self>, JournalError> {
        let Some(log) = Log::open(disk, name, FileKind::Leases, write)? else {
            return Ok(None);
        };
        let unreadable = |source| JournalError::Read { file: disk.path().join(name), source };
        let length = log.file.size().map_err(unreadable)?;
        let same = earlier.filter(|e| {
            e.log.file.identity() == log.file.identity()
                && e.log.header == log.header
                && e.log.link.end <= length
        });
        let mut leases = match same {
            Some(earlier) => {
                let link = earlier.log.link;
                Self { log: log.at(link), ..earlier }
            }
            None => Self::from_checkpoint(disk, log, length),
        };
        let lenient = leases.log.newer();
        let mut fold = Fold::new(std::mem::take(&mut leases.table), lenient);
        let link = leases.log.link;
        leases.log.replay(disk, link, |_, offset, payload| {
            let understood = fold.add(offset, payload);
            understood.map_err(|source| unknown_record(disk, name, offset, source)).map(|()| Next::Go)
        })?;
        leases.table =
            fold.finish().map_err(|(offset, source)| unknown_record(disk, name, offset, source))?;
        Ok(Some(leases))
    }

    /// A new, still empty file.
    pub(crate) fn create(disk: &dyn Disk, name: &str) -> Result<Self, JournalError> {
        let log = Log::open_or_create(disk, name, FileKind::Leases)?;
        Ok(Self { log, table: LeaseTable::default(), marked: 0, mark_size: 0, slot: 0 })
    }

    fn from_checkpoint(disk: &dyn Disk, log: Log, length: u64) -> Self {
        let mut leases = Self { log, table: LeaseTable::default(), marked: 0, mark_size: 0, slot: 0 };
        if leases.log.newer() {
            return leases;
        }
        let slots = [0, 1].map(|slot| read_slot(disk, &leases.log, slot, length));
        let newest = slots
            .into_iter()
            .enumerate()
            .filter_map(|(slot, found)| found.map(|mark| (slot, mark)))
            .max_by_key(|(_, mark)| mark.link.sequence);
        let Some((slot, mark)) = newest else {
            return leases;
        };
        if let Ok(table) = serde_json::from_slice(&mark.payload) {
            leases.table = table;
            leases.log.link = mark.link;
            leases.marked = mark.link.end;
            leases.mark_size = mark.payload.len() as u64;
            leases.slot = 1 - slot;
        }
        leases
    }

    /// Writes a checkpoint when folding the tail has come to cost more than reading one. A failure is nobody's
    /// concern: the next writer tries again, and readers fold.
    pub(crate) fn checkpoint(&mut self, disk: &dyn Disk) {
        let link = self.log.link;
        if link.end.saturating_sub(self.marked) <= SHORT_TAIL.max(self.mark_size) {
            return;
        }
        let Some(header) = self.log.header else {
            return;
        };
        let Ok(payload) = serde_json::to_vec(&self.table) else {
            return;
        };
        let bytes = encode_mark(header.chain, link, &payload);
        let name = slot_name(&self.log.name, self.slot);
        let file = match disk.open(&name, true) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => disk.create(&name),
            Err(error) => Err(error),
        };
        if file.and_then(|file| file.write_at(&bytes, 0)).is_ok() {
            self.marked = link.end;
            self.mark_size = payload.len() as u64;
            self.slot = 1 - self.slot;
        }
    }
}

pub(crate) fn unknown_record(
    disk: &dyn Disk,
    name: &str,
    offset: u64,
    source: serde_json::Error,
) -> JournalError {
    JournalError::Record { file: disk.path().join(name), offset, source }
}

fn slot_name(log: &str, slot: usize) -> String {
    format!("{log}.table-{slot}")
}

struct Mark {
    link: Link,
    payload: Vec<u8>,
}

fn encode_mark(file_chain: u32, link: Link, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[0..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[12..16].copy_from_slice(&file_chain.to_le_bytes());
    bytes[16..24].copy_from_slice(&link.start.to_le_bytes());
    bytes[24..32].copy_from_slice(&link.end.to_le_bytes());
    bytes[32..40].copy_from_slice(&link.sequence.to_le_bytes());
    bytes[40..44].copy_from_slice(&link.chain.to_le_bytes());
    bytes[44..52].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..52]), payload);
    bytes[52..56].copy_from_slice(&sum.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The checkpoint in one of the two files, if it is whole and stands for a frame that is really there.
fn read_slot(disk: &dyn Disk, log: &Log, slot: usize, length: u64) -> Option<Mark> {
    let file = disk.open(&slot_name(&log.name, slot), false).ok()??;
    let mut bytes = vec![0; usize::try_from(file.size().ok()?).ok()?];
    let read = file.read_at(&mut bytes, 0).ok()?;
    let (header, payload) = bytes[..read].split_first_chunk::<HEADER>()?;
    let u32_at = |at: usize| header[at..at + 4].first_chunk().map(|b| u32::from_le_bytes(*b));
    let u64_at = |at: usize| header[at..at + 8].first_chunk().map(|b| u64::from_le_bytes(*b));
    let payload = payload.get(..usize::try_from(u64_at(44)?).ok()?)?;
    let sum = crc32c::crc32c_append(crc32c::crc32c(&header[..52]), payload);
    let known = header[0..8] == MAGIC && u32_at(8)? == FORMAT && u32_at(12)? == log.header?.chain;
    if !known || u32_at(52)? != sum {
        return None;
    }
    let link = Link { start: u64_at(16)?, end: u64_at(24)?, sequence: u64_at(32)?, chain: u32_at(40)? };
    let mut frame = [0; FRAME];
    log.file.read_at(&mut frame, link.start).ok()?;
    let frame = decode_frame(&frame, FileKind::Leases)?;
    let end = link.start.checked_add((FRAME + frame.length) as u64)?;
    let there = frame.chain == link.chain && frame.sequence == link.sequence && end == link.end;
    (there && link.end <= length).then(|| Mark { link, payload: payload.to_vec() })
}

/// Folds records into a table without reading the content of grants that are given back further on: on a busy host
/// that is most of a file's bytes.
struct Fold {
    table: LeaseTable,
    /// What was granted since the start and not given back, by attempt.
    pending: HashMap<String, Pending>,
    /// Whether records that this version does not know are passed over.
    lenient: bool,
}

/// A grant not read yet.
struct Pending {
    offset: u64,
    granted: Vec<u8>,
    /// The newest binding; it replaces earlier ones.
    bound: Option<Vec<u8>>,
}

#[derive(Deserialize)]
struct Head<'a> {
    kind: Kind,
    #[serde(borrow)]
    attempt: Option<Cow<'a, str>>,
}

impl<'a> Head<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, serde_json::Error> {
        match Self::glance(payload) {
            Some(head) => Ok(head),
            None => serde_json::from_slice(payload),
        }
    }

    /// The same for records as they are written here, both fields first and nothing escaped in them, without looking
    /// at the rest.
    fn glance(payload: &'a [u8]) -> Option<Self> {
        let (kind, rest) = plain_text(payload.strip_prefix(br#"{"kind":"#)?)?;
        let kind = match kind {
            "granted" => Kind::Granted,
            "bound" => Kind::Bound,
            "planned" => Kind::Planned,
            "mounted" => Kind::Mounted,
            "released" => Kind::Released,
            _ => return None,
        };
        let (attempt, _) = plain_text(rest.strip_prefix(br#","attempt":"#)?)?;
        Some(Self { kind, attempt: Some(Cow::Borrowed(attempt)) })
    }
}

/// The JSON string at the start of `json`, if nothing in it is escaped, and what follows it.
fn plain_text(json: &[u8]) -> Option<(&str, &[u8])> {
    let text = json.strip_prefix(b"\"")?;
    let end = text.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    let (text, rest) = text.split_at(end);
    Some((std::str::from_utf8(text).ok()?, rest.strip_prefix(b"\"")?))
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Planned,
    Granted,
    Bound,
    Mounted,
    Released,
    Broken,
    Refused,
    Fault,
    Note,
}

impl Fold {
    fn new(table: LeaseTable, lenient: bool) -> Self {
        Self { table, pending: HashMap::new(), lenient }
    }

    fn add(&mut self, offset: u64, payload: &[u8]) -> Result<(), serde_json::Error> {
        // A frame without content only takes sequence numbers.
        if payload.is_empty() {
            return Ok(());
        }
        let head = match Head::read(payload) {
            Ok(head) => head,
            Err(_) if self.lenient => return Ok(()),
            Err(error) => return Err(error),
        };
        match (head.kind, head.attempt) {
            (Kind::Planned | Kind::Mounted | Kind::Broken | Kind::Refused | Kind::Fault | Kind::Note, _) => {}
            (Kind::Granted, Some(attempt)) => {
                let granted = Pending { offset, granted: payload.to_vec(), bound: None };
                self.pending.insert(attempt.into_owned(), granted);
            }
            (Kind::Bound, Some(attempt)) => match self.pending.get_mut(&*attempt) {
                Some(pending) => pending.bound = Some(payload.to_vec()),
                None => self.apply(payload)?,
            },
            (Kind::Released, Some(attempt)) => {
                self.pending.remove(&*attempt);
                if self.table.grant(&attempt).is_some() {
                    self.apply(payload)?;
                }
            }
            (_, None) => self.apply(payload)?,
        }
        Ok(())
    }

    fn apply(&mut self, payload: &[u8]) -> Result<(), serde_json::Error> {
        match serde_json::from_slice::<LeaseRecord>(payload) {
            Ok(record) => self.table.apply(&record),
            Err(_) if self.lenient => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<LeaseTable, (u64, serde_json::Error)> {
        for Pending { offset, granted, bound } in std::mem::take(&mut self.pending).into_values() {
            // The record's tag stands beside the grant's own fields: reading the grant alone costs half.
            let grant = serde_json::from_slice::<Grant>(&granted).map_err(|error| (offset, error));
            match grant {
                Ok(grant) => self.table.apply(&LeaseRecord::Granted(grant)),
                Err(_) if self.lenient => continue,
                Err(error) => return Err(error),
            }
            if let Some(bound) = bound {
                self.apply(&bound).map_err(|error| (offset, error))?;
            }
        }
        Ok(self.table)
    }
}
