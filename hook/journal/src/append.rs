//! Records on their way into this boot's file: encoded ahead of the lock, appended under it.

use crate::Locked;
use crate::codec::FileKind;
use crate::codec::HEADER;
use crate::error::JournalError;
use crate::leases;
use jiff::Timestamp;
use serde::Serialize;
use volhook_core::names::Command;
use volhook_core::record::Change;
use volhook_core::record::LeaseRecord;

/// Room for most records, so that they are encoded without moving what there is.
const USUAL_PAYLOAD: usize = 2 << 10;

/// A record in the form in which it is appended. Making it takes most of the time that appending it takes, so it is made
/// before the lock is taken.
#[derive(Debug, Clone)]
pub struct Encoded {
    pub(crate) payload: Vec<u8>,
    needs: Needs,
    /// The record, if it changes who holds what: reading it again takes longer than making it.
    pub(crate) changes: Option<LeaseRecord>,
}

/// Which room on the disk a record may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// It makes a live grant, for whose end there has to be room.
    Grant,
    /// The same of a command that is soon done and makes room: a full disk keeps nobody from removing a volume.
    Passing,
    /// It gives one back, for which there is room.
    Release,
    /// Anything else.
    Other,
}

impl Encoded {
    /// Encodes a record.
    ///
    /// # Errors
    /// [`JournalError::Encode`], [`JournalError::RecordTooLarge`].
    pub fn of(record: &LeaseRecord) -> Result<Self, JournalError> {
        let needs = match record.change() {
            Some(Change::Granted(grant)) => match grant.container.command() {
                Some((Command::Reset, _)) => Needs::Passing,
                _ => Needs::Grant,
            },
            Some(Change::Ended { .. }) => Needs::Release,
            Some(Change::Bound { .. }) | None => Needs::Other,
        };
        let changes = record.change().is_some().then(|| record.clone());
        Ok(Self { payload: encode_one(FileKind::Leases, record)?, needs, changes })
    }

    /// What only takes sequence numbers.
    pub(crate) fn nothing() -> Self {
        Self { payload: Vec::new(), needs: Needs::Other, changes: None }
    }

    /// Encodes several.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn all(records: &[LeaseRecord]) -> Result<Vec<Self>, JournalError> {
        records.iter().map(Self::of).collect()
    }
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Locked<'_> {
    /// Appends records to this boot's file; see [`append_encoded`](Self::append_encoded).
    ///
    /// # Errors
    /// As there, and those of [`Encoded::of`].
    pub fn append(&mut self, now: Timestamp, records: &[LeaseRecord]) -> Result<(), JournalError> {
        self.append_encoded(now, Encoded::all(records)?)
    }

    /// Appends records to this boot's file. Nothing is synced: a lease does not outlive its boot. A process killed in here
    /// leaves all of them or the first few.
    ///
    /// # Errors
    /// [`JournalError::Full`], which records that give leases back do not meet as long as space is set aside for them;
    /// [`JournalError::Write`], and failures to begin a boot's file. None of the records is then in the journal.
    pub fn append_encoded(&mut self, now: Timestamp, records: Vec<Encoded>) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let needs: Vec<Needs> = records.iter().map(|record| record.needs).collect();
        self.carefully(|locked| {
            let first = locked.next_sequence()?;
            let disk = locked.journal.disk();
            let leases = locked.leases()?;
            let bytes = records.iter().map(|record| leases::frame_size(&record.payload)).sum::<u64>();
            leases.reserve(disk, &needs, bytes + HEADER as u64)?;
            let at = leases.log.append(disk, &records, first, now.as_microsecond())?;
            leases.appended(disk, at, &records);
            Ok(())
        })
    }
}

pub(crate) fn encode<T: Serialize>(kind: FileKind, records: &[T]) -> Result<Vec<Vec<u8>>, JournalError> {
    records.iter().map(|record| encode_one(kind, record)).collect()
}

fn encode_one<T: Serialize>(kind: FileKind, record: &T) -> Result<Vec<u8>, JournalError> {
    let limit = kind.max_payload();
    let mut payload = Vec::with_capacity(USUAL_PAYLOAD);
    serde_json::to_writer(&mut payload, record).map_err(|source| JournalError::Encode { source })?;
    let size = payload.len();
    if size <= limit { Ok(payload) } else { Err(JournalError::RecordTooLarge { size, limit }) }
}
