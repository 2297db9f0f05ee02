//! What can still be read of a damaged file, and a new file in its place.

use crate::Journal;
use crate::append::encode;
use crate::codec;
use crate::codec::FORMAT;
use crate::codec::FileKind;
use crate::codec::FrameHeader;
use crate::codec::HEADER;
use crate::disk::Disk;
use crate::disk::DiskFile;
use crate::error::JournalError;
use crate::gone::GONE;
use crate::index::noted_end;
use crate::log;
use crate::log::Log;
use crate::log::Next;
use crate::log::VOLUMES;
use crate::salvage::Stories;
use crate::sum::crc32c;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseRecord;

/// What can still be read of this boot's damaged file; made by [`Journal::salvage`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Salvaged {
    /// The damaged file.
    pub file: PathBuf,
    /// Where the damage begins.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
    /// Whether it is not there at all, so that nothing is known of what stood in it.
    pub gone: bool,
    /// Grants that no readable record gives back, with their bindings. An unreadable one may have given them back. Records
    /// count by their sequence numbers, wherever and however often they stand in the file. Where two that contradict each
    /// other have the same number, what either of them leaves held is here; an attempt that may be of several
    /// processes is here once for each of them, as `ATTEMPT`, `ATTEMPT~2` and so on.
    pub grants: Vec<Grant>,
    /// Attempts that were given back; not those of which that is contradicted.
    pub released: BTreeSet<String>,
    /// The parts of the file that hold no readable record.
    pub lost: Vec<Lost>,
    #[serde(skip)]
    print: Print,
}

/// What can still be read of the damaged file of volumes; made by [`Journal::salvage_volumes`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SalvagedVolumes {
    /// The damaged file.
    pub file: PathBuf,
    /// Where the damage begins.
    pub offset: u64,
    /// What is wrong there.
    pub reason: String,
    /// How many records can be read; each counts once.
    pub records: usize,
    /// The parts of the file that hold no readable record.
    pub lost: Vec<Lost>,
}

/// A part of a file that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

/// What was done about a damaged file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rebuilt {
    /// The copy of the damaged file; `None` where there was none any more.
    pub copy: Option<PathBuf>,
    /// How many grants, or records of volumes, stand in the new file.
    pub kept: u32,
    /// Where the damage began.
    pub lost_at: u64,
}

/// By which a file's first bytes are known again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Print {
    identity: Option<(u64, u64)>,
    length: u64,
    sum: u32,
}

/// A damaged file, read whole.
struct Wreck {
    /// `None` where it is gone.
    file: Option<Box<dyn DiskFile>>,
    bytes: Vec<u8>,
    offset: u64,
    reason: &'static str,
}

impl Wreck {
    /// What is left of a file that is gone.
    fn of_nothing() -> Self {
        Self { file: None, bytes: Vec::new(), offset: 0, reason: GONE }
    }

    /// The readable frames in the order in which they stand there.
    fn frames(&self, kind: FileKind) -> impl Iterator<Item = (usize, FrameHeader, &[u8])> {
        codec::salvage(&self.bytes, kind)
    }

    /// The parts that hold no readable frame.
    fn lost(&self, kind: FileKind) -> Vec<Lost> {
        let mut lost = Vec::new();
        // The header is lost as well when the chain cannot even begin.
        let mut at = if self.offset == 0 { 0 } else { HEADER };
        for (offset, header, _) in self.frames(kind) {
            if offset > at {
                lost.push(Lost { offset: at as u64, length: (offset - at) as u64 });
            }
            at = offset + codec::FRAME + header.length;
        }
        if self.bytes.len() > at {
            lost.push(Lost { offset: at as u64, length: (self.bytes.len() - at) as u64 });
        }
        lost
    }

    fn print(&self) -> Print {
        let (length, sum) = (self.bytes.len() as u64, crc32c(&self.bytes));
        Print { identity: self.identity(), length, sum }
    }

    fn identity(&self) -> Option<(u64, u64)> {
        self.file.as_ref().map(|file| file.identity())
    }

    /// Whether this is the file of that print, perhaps written on since: damage before the checkpoint does not keep
    /// others from appending.
    fn continues(&self, print: &Print) -> bool {
        let begin = usize::try_from(print.length).ok().and_then(|length| self.bytes.get(..length));
        self.identity() == print.identity && begin.is_some_and(|b| crc32c(b) == print.sum)
    }
}

impl Journal {
    /// Reads what can still be read of this boot's file; `None` when it is not damaged. Takes no lock and changes
    /// nothing: what is lost can be looked for elsewhere before [`rebuild`](Self::rebuild).
    ///
    /// # Errors
    /// Failures of I/O, and [`JournalError::NewerFormat`].
    pub fn salvage(&self) -> Result<Option<Salvaged>, JournalError> {
        let name = self.leases_name();
        let damaged = match wreck(self.disk(), name, FileKind::Leases)? {
            None if !self.is_begun()? => self.is_gone().then(Wreck::of_nothing),
            damaged => damaged,
        };
        let Some(wreck) = damaged else { return Ok(None) };
        let mut stories = Stories::default();
        stories.go_on(wreck.frames(FileKind::Leases).map(|(_, header, payload)| (header, payload)));
        Ok(Some(Salvaged {
            file: self.disk().path().join(name),
            offset: wreck.offset,
            reason: wreck.reason.to_owned(),
            gone: wreck.file.is_none(),
            released: stories.released(),
            grants: stories.grants(),
            lost: wreck.lost(FileKind::Leases),
            print: wreck.print(),
        }))
    }

    /// Reads what can still be read of the file of volumes; `None` when it is not damaged. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// Those of [`salvage`](Self::salvage).
    pub fn salvage_volumes(&self) -> Result<Option<SalvagedVolumes>, JournalError> {
        let Some(wreck) = wreck(self.disk(), VOLUMES, FileKind::Volumes)? else {
            return Ok(None);
        };
        let numbers = wreck.frames(FileKind::Volumes).map(|(_, header, _)| header.sequence);
        Ok(Some(SalvagedVolumes {
            file: self.disk().path().join(VOLUMES),
            offset: wreck.offset,
            reason: wreck.reason.to_owned(),
            records: numbers.collect::<BTreeSet<u64>>().len(),
            lost: wreck.lost(FileKind::Volumes),
        }))
    }

    /// Puts a new file with `grants`, and a record that says so, in the place of this boot's damaged one, of which a
    /// synced copy is kept. Records that others appended since `damage` was salvaged are taken over as well. `None`
    /// when somebody else has rebuilt the file meanwhile.
    ///
    /// # Errors
    /// As [`lock`](Self::lock); [`JournalError::Damaged`] when the file is damaged in another way than `damage` says:
    /// then it has to be salvaged again. A failure leaves the damaged file where it was.
    pub fn rebuild(
        &self,
        deadline: Instant,
        now: Timestamp,
        damage: &Salvaged,
        grants: &[Grant],
    ) -> Result<Option<Rebuilt>, JournalError> {
        let _guard = self.guard_to_rebuild(deadline)?;
        let (disk, name) = (self.disk(), self.leases_name());
        let damaged = match wreck(disk, name, FileKind::Leases)? {
            // That it is gone was asked before, without the lock.
            None if damage.gone && !self.is_begun()? => Some(Wreck::of_nothing()),
            damaged => damaged,
        };
        let Some(wreck) = damaged else { return Ok(None) };
        if !wreck.continues(&damage.print) {
            let (file, offset, reason) = (disk.path().join(name), wreck.offset, wreck.reason);
            return Err(JournalError::Damaged { file, offset, reason, copy: None });
        }
        let grants = with_later_records(grants, &wreck, &damage.print);
        let (rebuilt, record) = self.set_aside(name, &wreck, grants.len())?;
        let records: Vec<_> =
            std::iter::once(record).chain(grants.into_iter().map(LeaseRecord::Granted)).collect();
        let payloads = encode(FileKind::Leases, &records)?;
        let readable = wreck.frames(FileKind::Leases).map(|(_, header, _)| header.sequence);
        let first = log::last_sequence(disk)?.max(readable.max().unwrap_or(0)) + 1;
        let time = distinct(now.as_microsecond(), &wreck);
        self.put_in_place(name, FileKind::Leases, |log| {
            log.append(disk, &payloads, first, time)?;
            Ok(())
        })?;
        Ok(Some(rebuilt))
    }

    /// Puts a new file with the readable records in the place of a damaged file of volumes, of which a synced copy is
    /// kept. This is only history: the volumes' sidecars say what there is. `None` when the file is not damaged.
    ///
    /// # Errors
    /// Those of [`rebuild`](Self::rebuild).
    pub fn rebuild_volumes(
        &self,
        deadline: Instant,
        now: Timestamp,
    ) -> Result<Option<Rebuilt>, JournalError> {
        let guard = self.guard_to_rebuild(deadline)?;
        let disk = self.disk();
        let Some(wreck) = wreck(disk, VOLUMES, FileKind::Volumes)? else {
            return Ok(None);
        };
        let mut frames: Vec<_> =
            wreck.frames(FileKind::Volumes).map(|(_, header, payload)| (header, payload)).collect();
        frames.sort_by_key(|(header, _)| header.sequence);
        // Of several with one number any will do: the sidecars are the truth.
        frames.dedup_by_key(|(header, _)| header.sequence);
        let (rebuilt, record) = self.set_aside(VOLUMES, &wreck, frames.len())?;
        // Whatever the clock says: it is begun after what stands in it, so that nobody takes that for appends to it, whose
        // first ones flushed its name.
        let newest = frames.iter().map(|(header, _)| header.time_us.saturating_add(1)).max();
        let begun = distinct(newest.unwrap_or(i64::MIN).max(now.as_microsecond()), &wreck);
        self.put_in_place(VOLUMES, FileKind::Volumes, |log| {
            log.begin(disk, begun)?;
            for (header, payload) in frames {
                log.append(disk, &[payload.to_vec()], header.sequence, header.time_us)?;
            }
            Ok(())
        })?;
        // The story misses this line only if the other file cannot be written either.
        if let Ok(Some(mut locked)) = self.locked(guard) {
            let _ = locked.append(now, &[record]);
        }
        Ok(Some(rebuilt))
    }

    /// Whether this boot has a file of leases with any content.
    pub(crate) fn is_begun(&self) -> Result<bool, JournalError> {
        let file = Log::open(self.disk(), self.leases_name(), FileKind::Leases, false)?;
        Ok(file.is_some_and(|log| log.header.is_some()))
    }

    /// Keeps a copy of a damaged file, and says so.
    fn set_aside(
        &self,
        name: &str,
        wreck: &Wreck,
        kept: usize,
    ) -> Result<(Rebuilt, LeaseRecord), JournalError> {
        let (file, lost_at) = (self.disk().path().join(name), wreck.offset);
        let copied = wreck.file.as_ref().map(|damaged| log::copy_of(self.disk(), &file, &**damaged, lost_at));
        let copy = copied.transpose().map_err(|source| JournalError::Copy { file: file.clone(), source })?;
        let kept = u32::try_from(kept).unwrap_or(u32::MAX);
        let copy_name = copy.as_deref().and_then(Path::file_name).and_then(OsStr::to_str);
        let copy_name = copy_name.unwrap_or_default().to_owned();
        Ok((Rebuilt { copy, kept, lost_at }, LeaseRecord::Rebuilt { kept, lost_at, copy: copy_name }))
    }

    /// Has `build` write a new file, and puts it in the place of the one called `name`. The step that counts is the change of
    /// names: before it the damaged file is there, behind it the new one. Nothing is left of a file that could not take its
    /// place.
    fn put_in_place(
        &self,
        name: &str,
        kind: FileKind,
        build: impl FnOnce(&mut Log) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let (disk, beside_name) = (self.disk(), beside_name(name));
        let file = || disk.path().join(name);
        let unsynced = |source| JournalError::Sync { file: file(), source };
        let put = || {
            let mut log = beside(disk, name, kind)?;
            build(&mut log)?;
            log.file.sync().map_err(unsynced)?;
            disk.rename(&beside_name, name)
                .map_err(|source| JournalError::Replace { file: file(), source })?;
            disk.sync_names().map_err(unsynced)
        };
        put().inspect_err(|error| {
            let _ = disk.remove(&beside_name);
            self.poison_after(error);
        })
    }
}

/// The file called `name`, if it is damaged.
fn wreck(disk: &dyn Disk, name: &str, kind: FileKind) -> Result<Option<Wreck>, JournalError> {
    let damage = match Log::open(disk, name, kind, false) {
        Ok(None) => return Ok(None),
        Err(JournalError::Damaged { offset, reason, .. }) => Some((offset, reason)),
        Err(error) => return Err(error),
        Ok(Some(mut log)) => {
            if log.newer() {
                let (file, version) = (disk.path().join(name), log.header.map_or(0, |h| h.version));
                return Err(JournalError::NewerFormat { file, version, newest: FORMAT });
            }
            let noted = noted_end(disk, &log);
            let link = log.link;
            match log.replay(disk, link, |_, _, _| Ok(Next::Go)) {
                Ok(()) => log.cut_at(noted),
                Err(JournalError::Damaged { offset, reason, .. }) => Some((offset, reason)),
                Err(error) => return Err(error),
            }
        }
    };
    let Some((offset, reason)) = damage else { return Ok(None) };
    let path = disk.path().join(name);
    let opened =
        disk.open(name, false).map_err(|source| JournalError::Open { file: path.clone(), source })?;
    let Some(file) = opened else { return Ok(None) };
    let unreadable = |source| JournalError::Read { file: path.clone(), source };
    let length = file.size().map_err(unreadable)?;
    let mut bytes = vec![0; usize::try_from(length).map_err(|e| unreadable(std::io::Error::other(e)))?];
    let read = file.read_at(&mut bytes, 0).map_err(unreadable)?;
    bytes.truncate(read);
    Ok(Some(Wreck { file: Some(file), bytes, offset, reason }))
}

/// `grants` as they are after what was appended since the damaged file was salvaged. Frames that were older then and have
/// come up since say nothing new.
fn with_later_records(grants: &[Grant], wreck: &Wreck, print: &Print) -> Vec<Grant> {
    let is_later = |offset: usize| offset as u64 >= print.length;
    let earlier = wreck.frames(FileKind::Leases).filter(|(offset, _, _)| !is_later(*offset));
    let last = earlier.map(|(_, header, _)| header.sequence).max().unwrap_or(0);
    let later = wreck.frames(FileKind::Leases).filter(|(offset, _, _)| is_later(*offset));
    let mut stories = Stories::of(grants);
    stories.go_on(
        later.map(|(_, header, payload)| (header, payload)).filter(|(header, _)| header.sequence > last),
    );
    stories.grants()
}

fn beside_name(name: &str) -> String {
    format!("{name}.rebuilding")
}

/// A new empty file beside the one called `name`, whose header will say `name`.
fn beside(disk: &dyn Disk, name: &str, kind: FileKind) -> Result<Log, JournalError> {
    let beside = beside_name(name);
    let path = disk.path().join(&beside);
    let failed = |source| JournalError::Open { file: path.clone(), source };
    // Somebody may have been killed here before.
    let file = match disk.open(&beside, true).map_err(failed)? {
        Some(file) => file,
        None => disk.create(&beside).map_err(failed)?,
    };
    Ok(Log::empty(file, name, kind))
}

/// A time for the new file's header, `time` or the next, that makes its checksum another one than the damaged file's, so that a
/// checkpoint of that one is not taken for this one's.
fn distinct(time: i64, wreck: &Wreck) -> i64 {
    let old = wreck.bytes.get(16..24).and_then(|bytes| bytes.first_chunk()).map(|b| i64::from_le_bytes(*b));
    if old == Some(time) { time.saturating_add(1) } else { time }
}
