//! What outlives a boot: written under the lock, flushed after it, and acknowledged after that.
//!
//! New frames go behind flushed ones only, so that no power cut leaves whole frames, or pieces of a tail that was cut off,
//! behind torn ones. Whether what stands in the file was flushed nobody can see, as its writer may have died before. So
//! whoever is going to write flushes first, without the lock, and comes again if the file changed until the lock was his.
//! What others find in the file and act upon may not be flushed yet. Whatever they acknowledge in turn stands behind it
//! in the same file, and their own flush is one of both: also where the other's flush failed, as they write again what is
//! not known to be on the disk.

use crate::Journal;
use crate::Locked;
use crate::append::Encoded;
use crate::append::encode;
use crate::codec;
use crate::codec::FileKind;
use crate::codec::HEADER;
use crate::codec::HeaderRead;
use crate::codec::Link;
use crate::disk;
use crate::disk::DiskFile;
use crate::error::JournalError;
use crate::log;
use crate::log::Log;
use crate::log::Next;
use crate::log::VOLUMES;
use jiff::Timestamp;
use std::sync::atomic::Ordering;
use std::time::Instant;
use volhook_core::record::VolumeRecord;

/// How often others may come in between before this one writes behind what they have not flushed. At each turn one of them
/// has written, so this is for more of them than a host has. A power cut then shows as damage, from which nothing is missing
/// that was acknowledged.
const TURNS: u32 = 1000;

/// How many bytes of a file's beginning are looked at for a second append.
const BEGINNING: usize = 8 << 10;

/// How many bytes before its own records a handle writes again that has not flushed them itself. New frames go behind flushed
/// ones, so that only the last few appends can have met a flush that failed.
const AGAIN: u64 = 64 << 10;

/// A file and how far it goes.
type Place = ((u64, u64), u64);

/// What came of a turn.
enum Turn {
    /// It is written, from this offset on.
    Written(Log, u64),
    /// Something that this one wrote has to be flushed first.
    Again,
    /// Something that others wrote has to be flushed first.
    Overtaken,
}

impl Journal {
    /// Appends records to the file of what outlives a boot, and returns when they survive a power cut.
    ///
    /// # Errors
    /// As [`lock`](Self::lock) and [`Locked::append`]; besides, [`JournalError::Damaged`] and [`JournalError::NewerFormat`]
    /// about that file, and [`JournalError::Sync`], after which the handle takes no more locks or records.
    pub fn append_volumes(
        &self,
        deadline: Instant,
        now: Timestamp,
        records: &[VolumeRecord],
    ) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let payloads = encode(FileKind::Volumes, records)?;
        for turn in 1.. {
            let flushed = self.flush_volumes().inspect_err(|error| self.poison_after(error))?;
            let mut locked = self.lock(deadline)?;
            let written = locked.write_volumes(now, &payloads, flushed, turn >= TURNS);
            let damaged = written.as_ref().err().and_then(|error| log::damaged_file(self.disk(), error));
            drop(locked);
            match written.map_err(|error| log::keep_copy(self.disk(), error, damaged.as_deref()))? {
                Turn::Written(log, at) => return self.acknowledge(deadline, &log, at),
                Turn::Overtaken if Instant::now() >= deadline => {
                    return Err(JournalError::LockTimeout { file: self.disk().path().join(disk::LOCK) });
                }
                Turn::Again | Turn::Overtaken => {}
            }
        }
        unreachable!("the last turn returns")
    }

    /// Flushes what stands in the file of volumes, which somebody may have written who died, and says how much that is.
    fn flush_volumes(&self) -> Result<Option<Place>, JournalError> {
        let path = || self.disk().path().join(VOLUMES);
        let opened = self.disk().open(VOLUMES, false);
        let opened = opened.map_err(|source| JournalError::Open { file: path(), source })?;
        let Some(file) = opened else { return Ok(None) };
        let unreadable = |source| JournalError::Read { file: path(), source };
        let place = (file.identity(), file.size().map_err(unreadable)?);
        if self.synced().is_some_and(|(identity, link)| (identity, link.end) == place) {
            return Ok(Some(place));
        }
        let unsynced = |source| JournalError::Sync { file: path(), source };
        let beginning = Beginning::read(&*file).map_err(unreadable)?;
        // A header that its writer did not finish is written over: the less of it is on the disk, the better.
        if beginning.has_header() {
            file.sync().map_err(unsynced)?;
            // What was acknowledged once has its name on the disk as well; behind it stands another append. A rebuilt file
            // begins with what was acknowledged in another.
            if !beginning.holds_two_appends() {
                self.disk().sync_names().map_err(unsynced)?;
            }
        }
        Ok(Some(place))
    }

    /// Flushes what was written into `log` from `at` on. Where that fails it is taken back, unless others have written behind
    /// it: what is not acknowledged is not left for others to read.
    fn acknowledge(&self, deadline: Instant, log: &Log, at: u64) -> Result<(), JournalError> {
        let unsynced = |source| JournalError::Sync { file: self.disk().path().join(VOLUMES), source };
        match log.file.sync().map_err(unsynced) {
            Ok(()) => {
                *self.synced() = Some((log.file.identity(), log.link));
                Ok(())
            }
            Err(error) => {
                if let Ok(_guard) = self.guard(deadline)
                    && log.file.size().is_ok_and(|size| size == log.link.end)
                {
                    let _ = log.file.set_len(at);
                }
                self.poison_after(&error);
                Err(error)
            }
        }
    }

    /// After a failed sync the disk's state is unknown.
    pub(crate) fn poison_after(&self, error: &JournalError) {
        if matches!(error, JournalError::Sync { .. }) {
            self.poisoned.store(true, Ordering::Relaxed);
        }
    }
}

impl Locked<'_> {
    fn write_volumes(
        &mut self,
        now: Timestamp,
        payloads: &[Vec<u8>],
        flushed: Option<Place>,
        whatever_others_do: bool,
    ) -> Result<Turn, JournalError> {
        let disk = self.journal.disk();
        let mut log = self.volumes()?;
        let time = now.as_microsecond();
        // A header first, and behind it nothing until it is on the disk with the file's name.
        if log.header.is_none() {
            log.begin(disk, time)?;
            return Ok(Turn::Again);
        }
        if log.cut_torn(disk)? {
            // Nothing of what was cut off may come up behind new frames.
            *self.journal.synced() = None;
            return Ok(Turn::Again);
        }
        if flushed != Some((log.file.identity(), log.link.end)) && !whatever_others_do {
            return Ok(Turn::Overtaken);
        }
        let own = self.journal.synced().filter(|(identity, _)| *identity == log.file.identity());
        let unsure = own.map_or(log.link.end.saturating_sub(AGAIN), |(_, link)| link.end);
        log.write_again(disk, unsure)?;
        self.carefully(|locked| {
            let first = locked.next_sequence()?.max(log.link.sequence + 1);
            let last = first + payloads.len() as u64 - 1;
            let leases = locked.leases()?;
            let number = [Encoded::nothing()];
            let at = leases.log.append(disk, &number, last, time)?;
            leases.appended(disk, at, &number);
            let at = log.append(disk, payloads, first, time)?;
            Ok(Turn::Written(log, at))
        })
    }

    /// The file of volumes, its chain followed to the end.
    fn volumes(&self) -> Result<Log, JournalError> {
        let disk = self.journal.disk();
        let mut log = Log::open_or_create(disk, VOLUMES, FileKind::Volumes)?;
        self.journal.refuse_newer(&log)?;
        let known: Option<Link> = self
            .journal
            .synced()
            .filter(|(identity, _)| *identity == log.file.identity())
            .map(|(_, link)| link);
        let link = known.unwrap_or(log.link);
        log.replay(disk, link, |_, _, _| Ok(Next::Go))?;
        Ok(log)
    }
}

/// The first bytes of the file.
struct Beginning(Vec<u8>);

impl Beginning {
    fn read(file: &dyn DiskFile) -> std::io::Result<Self> {
        let mut bytes = vec![0; BEGINNING];
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(Self(bytes))
    }

    fn has_header(&self) -> bool {
        matches!(codec::decode_header(&self.0, FileKind::Volumes, VOLUMES), HeaderRead::Valid(_))
    }

    /// Whether somebody has appended behind what somebody else appended before, as far as can be seen here; of what was there
    /// when the file was begun nothing counts.
    fn holds_two_appends(&self) -> bool {
        let Some(begun) = self.0.get(16..24).and_then(|bytes| bytes.first_chunk()) else { return false };
        let begun = i64::from_le_bytes(*begun);
        let frames = self.0.get(HEADER..).unwrap_or_default();
        let firsts = codec::salvage(frames, FileKind::Volumes)
            .filter(|(_, header, _)| header.part == 0 && header.time_us >= begun);
        firsts.take(2).count() == 2
    }
}
