//! The journal: append-only files that say who holds what, and what happened.
//!
//! In the folder `journal/` below the state root:
//!
//! | file | content | durability |
//! |---|---|---|
//! | `leases-<boot id>` | [`LeaseRecord`]s of one boot; their fold is the [`LeaseTable`] | never synced: no lease outlives its boot |
//! | `volumes` | [`VolumeRecord`]s: what outlives a boot | synced before it is acknowledged |
//! | `leases-<boot id>.table-0`, `-1` | checkpoint of the fold: derived, ignored when it does not fit | none |
//! | `lock` | nothing; carries the exclusive flock(2) | – |
//! | `<file>.damaged-<offset>` | copy of a damaged file | synced |
//!
//! Writers hold the lock for one look and one append. Readers take no lock: a frame that is still being written
//! looks like a torn tail, and is not there yet.
//!
//! # Layout
//!
//! All numbers are little-endian. A file begins with a header of 32 bytes, whose layout no later format changes:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `VOLHOOKJ` |
//! | 8 | 4 | format: [`FORMAT`] |
//! | 12 | 4 | kind: 1 leases, 2 volumes |
//! | 16 | 8 | when the file was begun, microseconds since 1970-01-01 UTC |
//! | 24 | 4 | 0 |
//! | 28 | 4 | CRC32C of bytes 0 to 28 and of the file's name |
//!
//! Then come frames, each a multiple of 8 bytes long:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | `VHF1` |
//! | 4 | 4 | length of the payload: at most 64 KiB (leases), 4 KiB with this header (volumes) |
//! | 8 | 8 | sequence number: greater than that of any frame written before, in either file and in any boot |
//! | 16 | 8 | time, microseconds since 1970-01-01 UTC; decides nothing |
//! | 24 | 4 | place of this frame in its append: 0, 1, … |
//! | 28 | 4 | CRC32C of the payload |
//! | 32 | 4 | the chain: the next field of the frame before, or the header's checksum for the first frame |
//! | 36 | 4 | CRC32C of bytes 0 to 36 |
//! | 40 | length | one record as JSON, filled up with spaces; or nothing |
//!
//! A frame without payload in the file of leases takes sequence numbers: those up to its own were given to frames of
//! `volumes`. It is written before them, so that one sequence spans both files.
//!
//! A frame header proves itself, so a wrong length is never believed; and no whole word of a payload is ever
//! zero, so sectors that never reached the disk are told from bytes that changed there.
//!
//! # What a bad end means
//!
//! Behind the last frame that continues the chain there may be:
//!
//! - **nothing**;
//! - **a torn tail**: a frame that is short, or in which a sector or the end is zeros, with no later append behind
//!   it. It was never acknowledged. Readers stop before it; the next writer cuts it off;
//! - **damage**: anything else. The error names file and offset, a copy is kept, and nothing is written.
//!
//! A file with a newer format is read as far as its records are known and never written. A file of an earlier
//! boot was never synced: what is left of it is history, wherever it is torn.
//!
//! # Killed here → what is on disk → who repairs
//!
//! | killed while | on disk | who repairs |
//! |---|---|---|
//! | creating a file | an empty, short or zero header | the next append writes it anew |
//! | appending to `leases-…` | the records, or a prefix of them and a torn tail | the next append cuts; a grant whose container never lived is reaped |
//! | between a `leases-…` frame without payload and `volumes` | unused sequence numbers | nobody needs to |
//! | appending to `volumes`, before the sync | nothing, all, or a torn tail | the next append cuts, syncs what there is, then writes; the volume's sidecar is the truth |
//! | cutting a tail | the tail, or not | the next append cuts |
//! | writing a checkpoint | one that fails its checksum; the other is whole | ignored; the next writer of a checkpoint |
//! | holding the lock | the lock is free: the kernel gives it back with the last descriptor | nobody needs to |
//! | anywhere, by a power cut | leases of another boot: none hold; `volumes` as above | the next boot begins its own file |
//!
//! A sync that fails leaves the disk's state unknown: the records are taken back as far as possible, the caller is told
//! that they are not acknowledged, and the handle writes no more.

#![forbid(unsafe_code)]

mod codec;
mod disk;
mod error;
mod events;
mod log;
mod table;

pub use codec::FORMAT;
pub use disk::Disk;
pub use disk::DiskFile;
pub use disk::Lock;
pub use error::JournalError;
pub use events::Event;
pub use events::EventRecord;
pub use events::Follow;

use codec::FileKind;
use codec::Link;
use disk::Folder;
use jiff::Timestamp;
use log::Log;
use log::Next;
use log::VOLUMES;
use serde::Serialize;
use std::path::Path;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use table::Leases;
use volhook_core::lease::LeaseRecord;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::VolumeRecord;

/// The journal of one state root, seen from one boot.
pub struct Journal {
    disk: Box<dyn Disk>,
    leases_name: String,
    /// What earlier locks of this handle have read already.
    known: Mutex<Known>,
    poisoned: AtomicBool,
}

#[derive(Default)]
struct Known {
    leases: Option<Leases>,
    /// The file of volumes and how far it is synced.
    volumes: Option<((u64, u64), Link)>,
}

impl Journal {
    /// Makes a handle on the journal in the folder `dir`. Nothing is read or written yet: the folder is made at the
    /// first [`lock`](Self::lock), and reading a journal that does not exist finds an empty one.
    ///
    /// # Errors
    /// [`JournalError::BootId`] when `boot_id` cannot be part of a file name.
    pub fn open(dir: &Path, boot_id: &str) -> Result<Self, JournalError> {
        Self::on(Box::new(Folder::new(dir)), boot_id)
    }

    /// The same on another storage than a real folder.
    ///
    /// # Errors
    /// [`JournalError::BootId`] when `boot_id` cannot be part of a file name.
    pub fn on(disk: Box<dyn Disk>, boot_id: &str) -> Result<Self, JournalError> {
        if !log::is_boot_id(boot_id) {
            return Err(JournalError::BootId { text: volhook_core::names::shorten(boot_id) });
        }
        Ok(Self {
            disk,
            leases_name: log::leases_name(boot_id),
            known: Mutex::default(),
            poisoned: AtomicBool::new(false),
        })
    }

    /// Takes the exclusive lock, waiting for it until `deadline`, and brings the table up to date.
    ///
    /// # Errors
    /// [`JournalError::LockTimeout`] at the deadline; [`JournalError::Damaged`] and [`JournalError::NewerFormat`]
    /// when this boot's file may not be written; [`JournalError::Poisoned`] after a failed sync; failures of I/O.
    pub fn lock(&self, deadline: Instant) -> Result<Locked<'_>, JournalError> {
        let file = || self.disk.path().join(disk::LOCK);
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(JournalError::Poisoned { folder: self.disk.path().to_owned() });
        }
        let guard = self.disk.lock(deadline).map_err(|source| JournalError::Lock { file: file(), source })?;
        let Some(guard) = guard else {
            return Err(JournalError::LockTimeout { file: file() });
        };
        let earlier = self.known().leases.take();
        let leases = Leases::load(&*self.disk, &self.leases_name, true, earlier)
            .map_err(|error| log::keep_copy(&*self.disk, error))?;
        if let Some(leases) = &leases {
            self.refuse_newer(&leases.log)?;
        }
        Ok(Locked { journal: self, leases, empty: LeaseTable::default(), _guard: guard })
    }

    /// The table as it stands, without waiting for anyone. It may be out of date when it is looked at; a journal
    /// that does not exist is an empty one.
    ///
    /// # Errors
    /// [`JournalError::Damaged`], [`JournalError::Record`], and failures of I/O.
    pub fn read(&self) -> Result<LeaseTable, JournalError> {
        let leases = self.settle(|| Leases::load(&*self.disk, &self.leases_name, false, None))?;
        Ok(leases.map(|leases| leases.table).unwrap_or_default())
    }

    /// Runs a read that takes no lock. Such a read can meet a writer that cuts a torn tail and writes over it, and see
    /// half of each; only what looks the same after a while is damage.
    fn settle<T>(&self, read: impl Fn() -> Result<T, JournalError>) -> Result<T, JournalError> {
        for pause in [1, 5, 20] {
            match read() {
                Err(JournalError::Damaged { .. } | JournalError::Record { .. }) => {
                    std::thread::sleep(Duration::from_millis(pause));
                }
                other => return other,
            }
        }
        read()
    }

    fn refuse_newer(&self, log: &Log) -> Result<(), JournalError> {
        match log.header {
            Some(header) if header.version > FORMAT => Err(JournalError::NewerFormat {
                file: self.disk.path().join(&log.name),
                version: header.version,
                newest: FORMAT,
            }),
            _ => Ok(()),
        }
    }

    fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    fn leases_name(&self) -> &str {
        &self.leases_name
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // What is known is replaced whole, so it is right even after a panic elsewhere.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The journal while its lock is held. Dropping it gives the lock back.
pub struct Locked<'a> {
    journal: &'a Journal,
    leases: Option<Leases>,
    empty: LeaseTable,
    _guard: Box<dyn Lock>,
}

impl Locked<'_> {
    /// Who holds what, all appends included.
    #[must_use]
    pub fn table(&self) -> &LeaseTable {
        self.leases.as_ref().map_or(&self.empty, |leases| &leases.table)
    }

    /// Appends records to this boot's file and applies them to the table. Nothing is synced: a lease does not
    /// outlive its boot. A process killed in here leaves all of them or the first few.
    ///
    /// # Errors
    /// [`JournalError::RecordTooLarge`], [`JournalError::Write`], and failures to begin a boot's file. None of the
    /// records is then in the journal.
    pub fn append(&mut self, now: Timestamp, records: &[LeaseRecord]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let payloads = encode(FileKind::Leases, records)?;
        let first = self.next_sequence()?;
        let disk = self.journal.disk();
        let leases = self.leases()?;
        leases.log.append(disk, &payloads, first, now.as_microsecond(), false)?;
        for record in records {
            leases.table.apply(record);
        }
        leases.checkpoint(disk);
        Ok(())
    }

    /// Appends records to the file of what outlives a boot, and returns when they survive a power cut.
    ///
    /// # Errors
    /// As [`append`](Self::append); besides, [`JournalError::Damaged`] and [`JournalError::NewerFormat`] about that
    /// file, and [`JournalError::Sync`], after which the handle takes no more locks or records.
    pub fn append_volumes(&mut self, now: Timestamp, records: &[VolumeRecord]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let payloads = encode(FileKind::Volumes, records)?;
        let disk = self.journal.disk();
        let mut log = self.volumes().map_err(|error| log::keep_copy(disk, error))?;
        let first = self.next_sequence()?.max(log.link.sequence + 1);
        let last = first + payloads.len() as u64 - 1;
        let time = now.as_microsecond();
        self.leases()?.log.append(disk, &[Vec::new()], last, time, false)?;
        let done = log.append(disk, &payloads, first, time, true);
        if matches!(done, Err(JournalError::Sync { .. })) {
            self.journal.poisoned.store(true, Ordering::Relaxed);
        }
        done?;
        self.journal.known().volumes = Some((log.file.identity(), log.link));
        Ok(())
    }

    /// This boot's file, created if need be.
    fn leases(&mut self) -> Result<&mut Leases, JournalError> {
        let leases = match self.leases.take() {
            Some(leases) => leases,
            None => Leases::create(self.journal.disk(), self.journal.leases_name())?,
        };
        Ok(self.leases.insert(leases))
    }

    /// The first sequence number that nothing has yet.
    fn next_sequence(&self) -> Result<u64, JournalError> {
        if self.journal.poisoned.load(Ordering::Relaxed) {
            return Err(JournalError::Poisoned { folder: self.journal.disk().path().to_owned() });
        }
        match &self.leases {
            Some(leases) if leases.log.link.sequence > 0 => Ok(leases.log.link.sequence + 1),
            _ => Ok(log::last_sequence(self.journal.disk())? + 1),
        }
    }

    /// The file of volumes, its chain followed to the end.
    fn volumes(&self) -> Result<Log, JournalError> {
        let disk = self.journal.disk();
        let mut log = Log::open_or_create(disk, VOLUMES, FileKind::Volumes)?;
        self.journal.refuse_newer(&log)?;
        let known = self.journal.known().volumes.filter(|(identity, _)| *identity == log.file.identity());
        let link = known.map_or(log.link, |(_, link)| link);
        log.replay(disk, link, |_, _, _| Ok(Next::Go))?;
        log.synced = known.is_some_and(|(_, synced)| synced == log.link);
        Ok(log)
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.journal.known().leases = self.leases.take();
    }
}

fn encode<T: Serialize>(kind: FileKind, records: &[T]) -> Result<Vec<Vec<u8>>, JournalError> {
    let limit = kind.max_payload();
    records
        .iter()
        .map(|record| {
            let payload = serde_json::to_vec(record).map_err(|source| JournalError::Encode { source })?;
            let size = payload.len();
            if size <= limit { Ok(payload) } else { Err(JournalError::RecordTooLarge { size, limit }) }
        })
        .collect()
}
