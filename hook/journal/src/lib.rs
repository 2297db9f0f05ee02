//! The journal: append-only files that say who holds what, and what happened.
//!
//! In the folder `journal/` below the state root:
//!
//! | file | content | durability |
//! |---|---|---|
//! | `leases-<boot id>` | [`LeaseRecord`](volhook_core::record::LeaseRecord)s of one boot; their fold is the [`LeaseTable`] | never synced: no lease outlives its boot |
//! | `volumes` | [`VolumeRecord`](volhook_core::record::VolumeRecord)s: what outlives a boot | synced before it is acknowledged |
//! | `leases-<boot id>.index` | where in the file the live grants stand, and how far the file goes; ignored when it does not fit | none |
//! | `lock` | nothing; carries the exclusive flock(2) | – |
//! | `<file>.damaged-<offset>`, `…-<n>` | copy of a damaged file | synced |
//! | `<file>.rebuilding` | a new file that will take the damaged one's place | synced before it does |
//!
//! Writers hold the lock for one look and one append, and wait for nothing meanwhile: what is to last is encoded before it,
//! flushed after it and acknowledged after that (`volumes.rs` says why that is enough). Only rebuilding a damaged file takes its
//! time under the lock (`guard_to_rebuild`). A handle keeps its files open, and what it learnt from them: the next
//! look under the lock goes on from there, if the file was not replaced or removed and goes on from the last frame known,
//! and otherwise begins anew. That it does is said by the index's head, which names the last frame, and by that frame itself
//! where others have appended. Names change under the lock only, and a file that lost its name
//! has no link (`st_nlink`) any more. Readers take no lock: a frame that is still being written
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
//! | 8 | 8 | sequence number: greater than that of any frame written before, in either file and in any boot; at most 2^63 - 1 |
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
//! # The index
//!
//! `leases-<boot id>.index` leads from a volume, container or attempt to the frames of the grants concerned, so that a
//! look costs the same however many grants are live or were made. It holds no content: that is read from the file of
//! leases and proves itself there. Whoever appends brings it up to date; what stands behind its end, left by somebody who was
//! killed or by an older version, is folded by everybody until the next append.
//!
//! It proves what it lists, and that it lists everything: its head has a sum for each bucket, and the sum of these. A look
//! believes a bucket only if its sum is the head's, and all that belongs together stands in buckets that the look reads. So an
//! older block of this file, or any mixture of blocks of different times, is either noticed or makes no difference to the
//! look, and an older file as a whole stands for an earlier end of the log, behind which the log is folded. Whatever does not
//! fit, the log is folded from its beginning, and the index written anew with the next append.
//!
//! Not protected against: log and index together put back to what they were at some time. What the records in the run
//! directory know then is for the caller to say.
//!
//! The head:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `VOLHOOKX` |
//! | 8 | 4 | 3, the version of this layout |
//! | 12 | 4 | checksum of the header of the file of leases |
//! | 16 | 8 | salt: a random number, part of what is hashed |
//! | 24 | 8 | offset of the last frame that the entries account for |
//! | 32 | 8 | offset of its end |
//! | 40 | 8 | its sequence number |
//! | 48 | 4 | its chain value |
//! | 52 | 4 | number of buckets |
//! | 56 | 8 | number of entries |
//! | 64 | 8 | number of live grants |
//! | 72 | 8 | sum of the buckets' sums, each mixed with its number |
//! | 80 | 12 | 0 |
//! | 92 | 4 | CRC32C of bytes 0 to 92 |
//! | 96 | 8 each | for each bucket: XXH3 (64 bits, seeded with the salt) of its header and entries |
//!
//! Behind the sums stand the buckets, of 2,048 bytes:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | number of entries |
//! | 2 | 1 | 1 if entries that belong here may stand in the next bucket (after the last, in the first) |
//! | 3 | 13 | 0 |
//! | 16 | 16 each | up to 127 entries: key (8), offset of a frame in words of 8 bytes (4), the same of another frame or 0 (4); then zeros |
//!
//! A key is SipHash-1-3 of (text, 0, text, 0), keyed with the salt and its complement, with a kind in its lowest four bits: 0 an
//! attempt, to its grant and its newest binding; 1 a container, to a grant of it; 2 a volume (tenant and name), to a grant
//! that holds it and keeps others from sharing it; 3 a volume, to a grant that merely shares it (shared, or reading beside a
//! single writer); 4 a volume, in place of the first offset the number of the latter. An entry's bucket is the key's upper 60
//! bits scaled to the number of buckets. From the ninth entry of kind 3 for one volume on these are mixed with the offset first
//! (its lowest five bits), so that a thousand who share a volume stand in nobody's way.
//!
//! A file of up to 16 KiB is written at once. In a larger one the changed buckets are written first, then the head with its
//! sums. When six tenths of the room are taken (or nearly none), everything is laid out anew.
//!
//! # What a bad end means
//!
//! Behind the last frame that continues the chain there may be:
//!
//! - **nothing**;
//! - **a torn tail**: a frame that is short, or in which a sector or the end is zeros, with no later append behind
//!   it. It was never acknowledged. Readers stop before it; the next writer cuts it off;
//! - **damage**: anything else. The error names file and offset, a copy is kept, and nothing is written until the file
//!   is [rebuilt](Journal::rebuild): what is readable of it is [salvaged](Journal::salvage), the caller settles the rest from
//!   what else it knows, and a new file takes its place. The copy goes on telling its part of the story.
//!
//! Salvage goes by sequence numbers, not by where a frame stands: a disk may show an old block again, or in another
//! place. The same frame twice is one. Of two different frames with one number, at most one was ever acknowledged, and
//! which of them cannot be told: then what either leaves held is held, a release that the other contradicts gives nothing
//! back, and an attempt that may be of several processes is held by each of them until it is dead.
//!
//! The [story](Journal::story) is what the chains of all files lead to, and behind a place where one breaks whatever frames
//! stand there with greater numbers than the chain has come to, in the order of these. A frame with a smaller one was never
//! acknowledged, or is a piece of another file, which tells of it while it is kept.
//!
//! A file of leases that somebody cut at the end of a frame looks whole. That it once went further stands in the head of its
//! index: so this is damage as well, and so is a file of leases that is gone, or whose header is, while there is such a head.
//! Nobody can tell this of `volumes`, or where the index is gone too.
//!
//! A file of leases that was removed with everything else here looks like a boot in which nothing has been granted yet. So
//! whoever opens the journal gives it a [`Witness`], who knows from elsewhere whether anybody holds something: then that the
//! file is missing, or empty, is damage from offset 0 on. There is nothing to keep a copy of.
//!
//! A file with a newer format is read as far as its records are known and never written. A file of an earlier
//! boot was never synced: what is left of it is history, wherever it is torn.
//!
//! # A full disk
//!
//! Behind the end of `leases-…` disk space is set aside (fallocate(2), the file's length unchanged): 1 KiB for giving back
//! each live grant, and 64 KiB for other records. A grant that finds no room for itself and all this is refused with
//! [`JournalError::Full`]; refusals, faults and notes may use the 64 KiB; giving back uses all. Cutting a torn tail gives
//! the space back for a moment. Where the filesystem cannot set space aside, giving back can fail on a full disk; it
//! then fails whole and can be tried again. The index is not needed and has no space set aside.
//!
//! # Killed here → what is on disk → who repairs
//!
//! | killed while | on disk | who repairs |
//! |---|---|---|
//! | creating a file | an empty, short or zero header | the next append writes it anew |
//! | appending to `leases-…` | the records, or a prefix of them and a torn tail | the next append cuts; a grant whose container never lived is reaped |
//! | between an append to `leases-…` and writing the index | an index that stands for less | everybody folds what is behind its end; the next append brings it up to date |
//! | between a `leases-…` frame without payload and `volumes` | unused sequence numbers | nobody needs to |
//! | beginning `volumes`, before the sync | an empty, short or zero header | the next append writes it anew, syncs it and the name, then writes |
//! | appending to `volumes`, before the sync | nothing, all, or a torn tail | the next append cuts, syncs what there is, then writes; the volume's sidecar is the truth |
//! | between an append to `volumes` and its sync | the records, which others may read by then; after a power cut as above | the next append syncs them before it writes its own |
//! | cutting a tail | the tail, or not | the next append cuts |
//! | writing the index | buckets that the head's sums do not prove, or a head that does not prove itself | who meets them folds the log; the next append of such a one writes the index anew |
//! | copying a damaged file | the damaged file and a part of the copy | whoever meets the damage next completes the copy |
//! | writing `<file>.rebuilding` | the damaged file, its copy, and a part of the new file | the next rebuild writes it anew |
//! | between the rename of it and its sync, by a power cut | the damaged file or the new one, each complete | the next rebuild, if need be |
//! | rebuilding a file that is gone, before the rename | no file, and a part of the new one | the next rebuild writes it anew |
//! | removing old history | this boot's file with the highest sequence number, synced; some of the old files | the next to remove |
//! | holding the lock | the lock is free: the kernel gives it back with the last descriptor | nobody needs to |
//! | anywhere, by a power cut | leases of another boot: none hold; `volumes` as above | the next boot begins its own file |
//!
//! A sync that fails leaves the disk's state unknown: the records are taken back, if the lock can be had for that in time and
//! nobody has written behind them; the caller is told that they are not acknowledged, and the handle writes no more. Whoever
//! writes next writes again what stands before his own records, as the system takes it for written: his sync is one of both.

#![forbid(unsafe_code)]

mod append;
mod check;
mod codec;
mod disk;
#[cfg_attr(not(test), expect(dead_code, reason = "format 1 has JSON"))]
mod encoding;
mod error;
mod events;
mod gone;
mod index;
mod interest;
mod leases;
mod log;
mod repair;
mod rest;
mod retain;
mod salvage;
mod scan;
mod story;
mod sum;
mod volumes;

pub use append::Encoded;
pub use check::Content;
pub use check::Copy;
pub use check::FileReport;
pub use check::FileState;
pub use check::IndexState;
pub use check::Report;
pub use codec::FORMAT;
pub use disk::Disk;
pub use disk::DiskFile;
pub use disk::Lock;
pub use error::JournalError;
pub use events::Event;
pub use events::EventRecord;
pub use events::Follow;
pub use gone::Witness;
pub use interest::Interest;
pub use repair::Lost;
pub use repair::Rebuilt;
pub use repair::Salvaged;
pub use repair::SalvagedVolumes;
pub use retain::Removed;
pub use retain::Retention;
pub use story::Story;

use codec::Link;
use disk::Folder;
use jiff::Timestamp;
use leases::Leases;
use leases::Opened;
use log::Log;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use volhook_core::lease::LeaseTable;
use volhook_locks::Held;

/// For how long who looks without the lock waits before he looks again at what seems to be damage.
const SETTLING: [Duration; 3] =
    [Duration::from_millis(1), Duration::from_millis(5), Duration::from_millis(20)];

/// The journal of one state root, seen from one boot.
pub struct Journal {
    disk: Box<dyn Disk>,
    leases_name: String,
    /// The file of volumes and how far earlier locks of this handle have synced it.
    synced: Mutex<Option<((u64, u64), Link)>>,
    poisoned: AtomicBool,
    /// What the last look learnt, with its open files, for the next to go on from.
    kept: Mutex<Option<Leases>>,
    witness: Option<Box<dyn Witness>>,
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
            synced: Mutex::default(),
            poisoned: AtomicBool::new(false),
            kept: Mutex::default(),
            witness: None,
        })
    }

    /// Takes the exclusive lock, waiting for it until `deadline`, and reads what is new in this boot's file.
    ///
    /// # Errors
    /// [`JournalError::LockTimeout`] at the deadline; [`JournalError::Damaged`] and [`JournalError::NewerFormat`]
    /// when this boot's file may not be written; [`JournalError::Poisoned`] after a failed sync; failures of I/O.
    pub fn lock(&self, deadline: Instant) -> Result<Locked<'_>, JournalError> {
        loop {
            let guard = self.guard(deadline)?;
            if let Some(locked) = self.locked(guard)? {
                return Ok(locked);
            }
            self.refuse_gone()?;
            if Instant::now() >= deadline {
                return Err(JournalError::LockTimeout { file: self.disk.path().join(disk::LOCK) });
            }
        }
    }

    /// The lock alone.
    fn guard(&self, deadline: Instant) -> Result<Guard, JournalError> {
        let held = volhook_locks::hold(volhook_locks::Lock::Journal);
        let file = || self.disk.path().join(disk::LOCK);
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(JournalError::Poisoned { folder: self.disk.path().to_owned() });
        }
        let guard = self.disk.lock(deadline).map_err(|source| JournalError::Lock { file: file(), source })?;
        let lock = guard.ok_or_else(|| JournalError::LockTimeout { file: file() })?;
        Ok(Guard { _lock: lock, _held: Some(held) })
    }

    /// The lock, for building a new file in the place of a damaged one. That flushes and takes its time, and is the one thing that
    /// does so under this lock: others may be able to append to the damaged file meanwhile, as often as they like, and a file
    /// that is built without the lock would never have all of it. So debug builds do not count this lock.
    fn guard_to_rebuild(&self, deadline: Instant) -> Result<Guard, JournalError> {
        Ok(Guard { _held: None, ..self.guard(deadline)? })
    }

    /// `None` where this boot's file may be gone, which is not to be found out under the lock.
    fn locked(&self, guard: Guard) -> Result<Option<Locked<'_>>, JournalError> {
        let loaded = match self.resumed() {
            Some(leases) => Ok(Some(leases)),
            None => Leases::load(&*self.disk, &self.leases_name, true),
        };
        let leases = match loaded {
            Ok(leases) => leases,
            Err(error) => {
                let damaged = log::damaged_file(&*self.disk, &error);
                drop(guard);
                return Err(log::keep_copy(&*self.disk, error, damaged.as_deref()));
            }
        };
        if self.may_be_gone(leases.as_ref()) {
            return Ok(None);
        }
        if let Some(leases) = &leases {
            self.refuse_newer(&leases.log)?;
        }
        Ok(Some(Locked { journal: self, leases, failed: false, _guard: guard }))
    }

    /// What an earlier look learnt, brought up to date, if it is of the file that has the name now: files change their
    /// names under the lock only, which is held.
    fn resumed(&self) -> Option<Leases> {
        let kept = self.kept().take()?;
        let now = self.disk.stat_of(&self.leases_name, &*kept.log.file).ok()??;
        kept.resume(&*self.disk, now)
    }

    /// The table as it stands, without waiting for anyone. It may be out of date when it is looked at; a journal
    /// that does not exist is an empty one. This costs time for every live grant; most callers can say what they are
    /// interested in and call [`read_about`](Self::read_about).
    ///
    /// # Errors
    /// [`JournalError::Damaged`], [`JournalError::Record`], and failures of I/O.
    pub fn read(&self) -> Result<LeaseTable, JournalError> {
        self.settle(|| self.look(None))
    }

    /// The grants that `interest` covers, all of them and no others, without waiting for anyone. How many other grants
    /// are live makes no difference to the time that it takes.
    ///
    /// # Errors
    /// Those of [`read`](Self::read). Damage that lies elsewhere than in what had to be looked at may go unnoticed.
    pub fn read_about(&self, interest: &Interest<'_>) -> Result<LeaseTable, JournalError> {
        self.settle(|| self.look(Some(interest)))
    }

    fn look(&self, interest: Option<&Interest<'_>>) -> Result<LeaseTable, JournalError> {
        let open = |ahead| self.open_to_look(interest.is_some(), ahead);
        let (table, leases) = Leases::look_unlocked(&*self.disk, &self.leases_name, open, interest)?;
        if interest.is_some() {
            *self.kept() = leases;
        }
        Ok(table)
    }

    /// Who asks about something often takes the lock next, so the files are opened for that where it is allowed.
    fn open_to_look(&self, lock_follows: bool, ahead: usize) -> Result<Opened, JournalError> {
        let open = |write| Leases::open(&*self.disk, &self.leases_name, write, ahead);
        let opened = match lock_follows.then(|| open(true)) {
            None | Some(Err(JournalError::Open { .. })) => open(false),
            Some(other) => other,
        }?;
        if !opened.has_content() {
            self.refuse_gone()?;
        }
        Ok(opened)
    }

    /// Runs a read that takes no lock. Such a read can meet a writer that cuts a torn tail and writes over it, and see
    /// half of each; only what looks the same after a while is damage.
    fn settle<T>(&self, read: impl Fn() -> Result<T, JournalError>) -> Result<T, JournalError> {
        for pause in SETTLING {
            match read() {
                Err(JournalError::Damaged { .. } | JournalError::Record { .. }) => self.disk.pause(pause),
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

    fn kept(&self) -> MutexGuard<'_, Option<Leases>> {
        // It is taken out whole and put back whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn synced(&self) -> MutexGuard<'_, Option<((u64, u64), Link)>> {
        // What is known is replaced whole, so it is right even after a panic elsewhere.
        self.synced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The journal while its lock is held. Dropping it gives the lock back.
pub struct Locked<'a> {
    journal: &'a Journal,
    leases: Option<Leases>,
    /// Whether something went wrong, after which nobody goes on from what is known here.
    failed: bool,
    _guard: Guard,
}

/// The lock, which is given back when this is dropped.
struct Guard {
    _lock: Box<dyn Lock>,
    _held: Option<Held>,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if !self.failed {
            *self.journal.kept() = self.leases.take();
        }
    }
}

impl Locked<'_> {
    /// Who holds what, all appends included. This costs time for every live grant.
    ///
    /// # Errors
    /// [`JournalError::Damaged`], [`JournalError::Record`], and failures of I/O.
    pub fn table(&self) -> Result<LeaseTable, JournalError> {
        self.look(None)
    }

    /// The grants that `interest` covers, all of them and no others, all appends included. How many other grants are
    /// live makes no difference to the time that it takes.
    ///
    /// # Errors
    /// Those of [`table`](Self::table).
    pub fn about(&self, interest: &Interest<'_>) -> Result<LeaseTable, JournalError> {
        self.look(Some(interest))
    }

    fn look(&self, interest: Option<&Interest<'_>>) -> Result<LeaseTable, JournalError> {
        let disk = self.journal.disk();
        let table = self.leases.as_ref().map(|leases| leases.table(disk, interest)).transpose();
        Ok(table?.unwrap_or_default())
    }

    fn carefully<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let done = act(self);
        self.failed |= done.is_err();
        done
    }

    /// Has this boot's file hold a sequence number behind all that were given so far, and opens it for flushing that.
    fn note_sequence(&mut self, now: Timestamp) -> Result<Box<dyn DiskFile>, JournalError> {
        self.carefully(|locked| {
            let disk = locked.journal.disk();
            let last = log::last_sequence(disk)?;
            let leases = locked.leases()?;
            // Also where it stands there already: another's flush of that may have failed, which nobody is told again.
            let (number, next) = ([Encoded::nothing()], last.max(leases.log.link.sequence) + 1);
            let at = leases.log.append(disk, &number, next, now.as_microsecond())?;
            leases.appended(disk, at, &number);
            let file = || disk.path().join(&leases.log.name);
            let opened = disk.open(&leases.log.name, false);
            let opened = opened.map_err(|source| JournalError::Open { file: file(), source })?;
            opened.ok_or_else(|| JournalError::Open { file: file(), source: ErrorKind::NotFound.into() })
        })
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
}
