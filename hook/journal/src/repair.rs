//! What can still be read of a damaged file, and a new file in its place.

use crate::Journal;
use crate::append::encode;
use crate::codec::CHUNK;
use crate::codec::FORMAT;
use crate::codec::FRAME;
use crate::codec::FileKind;
use crate::codec::FrameHeader;
use crate::codec::HEADER;
use crate::disk::Disk;
use crate::disk::DiskFile;
use crate::error::JournalError;
use crate::gone::GONE;
use crate::leases::last_indexed;
use crate::leases::noted_end;
use crate::log;
use crate::log::Log;
use crate::log::Next;
use crate::log::VOLUMES;
use crate::salvage::Stories;
use crate::scan::InOrder;
use crate::scan::Scan;
use crate::sum::Sum;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;
use volhook_core::lease::Grant;
use volhook_core::record::LeaseRecord;
use volhook_core::record::VolumeRecord;

/// More records than a boot has: so many numbers are passed over where a file is gone and nobody knows how far it went.
const UNKNOWN: u64 = 1 << 32;

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

/// A damaged file, as far as it went when it was found to be. However long it is, only pieces of it are held.
struct Wreck {
    kind: FileKind,
    path: PathBuf,
    /// `None` where it is gone.
    file: Option<Box<dyn DiskFile>>,
    length: u64,
    offset: u64,
    reason: &'static str,
}

impl Wreck {
    /// What is left of a file that is gone.
    fn of_nothing(disk: &dyn Disk, name: &str, kind: FileKind) -> Self {
        Self { kind, path: disk.path().join(name), file: None, length: 0, offset: 0, reason: GONE }
    }

    /// Hands the readable frames to `each`, in the order in which they stand there.
    fn frames(&self, mut each: impl FnMut(u64, FrameHeader)) -> Result<(), JournalError> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut scan = Scan::new(&**file, self.kind, 0, self.length);
        while let Some((offset, header)) = scan.next().map_err(|source| self.unreadable(source))? {
            each(offset, header);
        }
        Ok(())
    }

    /// Hands the readable frames with numbers behind `after` to `each` in the order of these, those of one number together.
    fn in_order(
        &self,
        after: u64,
        mut each: impl FnMut(Vec<Frame>) -> Result<(), JournalError>,
    ) -> Result<(), JournalError> {
        let Some(file) = &self.file else { return Ok(()) };
        let unreadable = |source| self.unreadable(source);
        let mut frames = InOrder::new(&**file, self.kind, 0, self.length, after).map_err(unreadable)?;
        let mut same: Vec<Frame> = Vec::new();
        while let Some((offset, header, payload)) = frames.next(&**file).map_err(unreadable)? {
            if same.first().is_some_and(|frame| frame.header.sequence != header.sequence) {
                each(std::mem::take(&mut same))?;
            }
            same.push(Frame { offset, header, payload: payload.to_vec() });
        }
        if same.is_empty() { Ok(()) } else { each(same) }
    }

    /// Hands the readable records of volumes to `each`, one of each number: of several any will do, as the sidecars are the
    /// truth. A disk can show a piece of another file, whose records are no part of this one.
    fn volumes(&self, mut each: impl FnMut(Frame) -> Result<(), JournalError>) -> Result<(), JournalError> {
        let is_volume = |frame: &Frame| serde_json::from_slice::<VolumeRecord>(&frame.payload).is_ok();
        self.in_order(0, |same| same.into_iter().find(is_volume).map_or(Ok(()), &mut each))
    }

    /// The parts that hold no readable frame.
    fn lost(&self) -> Result<Vec<Lost>, JournalError> {
        let mut lost = Vec::new();
        // The header is lost as well when the chain cannot even begin.
        let mut at = if self.offset == 0 { 0 } else { HEADER as u64 };
        self.frames(|offset, header| {
            if offset > at {
                lost.push(Lost { offset: at, length: offset - at });
            }
            at = end_of(offset, &header);
        })?;
        if self.length > at {
            lost.push(Lost { offset: at, length: self.length - at });
        }
        Ok(lost)
    }

    fn print(&self) -> Result<Print, JournalError> {
        let sum = self.sum(self.length)?;
        Ok(Print { identity: self.identity(), length: self.length, sum })
    }

    fn identity(&self) -> Option<(u64, u64)> {
        self.file.as_ref().map(|file| file.identity())
    }

    /// Whether this is the file of that print, perhaps written on since: damage where nobody has to look does not keep
    /// others from appending.
    fn continues(&self, print: &Print) -> Result<bool, JournalError> {
        let same = self.identity() == print.identity && self.length >= print.length;
        Ok(same && self.sum(print.length)? == print.sum)
    }

    /// The checksum of the first `length` bytes.
    fn sum(&self, length: u64) -> Result<u32, JournalError> {
        let mut sum = Sum::default();
        let Some(file) = &self.file else { return Ok(sum.value()) };
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < length {
            let size = usize::try_from(length - at).map_or(CHUNK, |left| left.min(CHUNK));
            let read = file.read_at(&mut buffer[..size], at);
            match read.map_err(|source| self.unreadable(source))? {
                0 => break,
                read => {
                    sum.add(&buffer[..read]);
                    at += read as u64;
                }
            }
        }
        Ok(sum.value())
    }

    fn unreadable(&self, source: std::io::Error) -> JournalError {
        JournalError::Read { file: self.path.clone(), source }
    }
}

/// A readable frame.
struct Frame {
    offset: u64,
    header: FrameHeader,
    payload: Vec<u8>,
}

fn end_of(offset: u64, header: &FrameHeader) -> u64 {
    offset + (FRAME + header.length) as u64
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
            None if !self.is_begun()? => {
                self.is_gone().then(|| Wreck::of_nothing(self.disk(), name, FileKind::Leases))
            }
            damaged => damaged,
        };
        let Some(wreck) = damaged else { return Ok(None) };
        // Before the rest: what changes while that is read is another file to who rebuilds it.
        let print = wreck.print()?;
        let mut stories = Stories::default();
        wreck.in_order(0, |same| {
            stories.go_on(payloads(same));
            Ok(())
        })?;
        let (grants, released) = stories.end();
        Ok(Some(Salvaged {
            offset: wreck.offset,
            reason: wreck.reason.to_owned(),
            gone: wreck.file.is_none(),
            released,
            grants,
            lost: wreck.lost()?,
            print,
            file: wreck.path,
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
        let mut records = 0;
        wreck.volumes(|_| {
            records += 1;
            Ok(())
        })?;
        Ok(Some(SalvagedVolumes {
            offset: wreck.offset,
            reason: wreck.reason.to_owned(),
            records,
            lost: wreck.lost()?,
            file: wreck.path,
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
            None if damage.gone && !self.is_begun()? => Some(Wreck::of_nothing(disk, name, FileKind::Leases)),
            damaged => damaged,
        };
        let Some(wreck) = damaged else { return Ok(None) };
        if !wreck.continues(&damage.print)? {
            let (file, offset, reason) = (wreck.path, wreck.offset, wreck.reason);
            return Err(JournalError::Damaged { file, offset, reason, copy: None });
        }
        let grants = with_later_records(grants, &wreck, &damage.print)?;
        let (rebuilt, record) = self.set_aside(name, &wreck, grants.len())?;
        let records: Vec<_> =
            std::iter::once(record).chain(grants.into_iter().map(LeaseRecord::Granted)).collect();
        let payloads = encode(FileKind::Leases, &records)?;
        let mut last = log::last_sequence(disk)?;
        wreck.frames(|_, header| last = last.max(header.sequence))?;
        if wreck.file.is_none() {
            // Nobody who follows the story, or comes back to a place in it, takes what is told from now on for what he has seen.
            last = last_indexed(disk, name).unwrap_or(last + UNKNOWN).max(last);
        }
        let (first, time) = (last + 1, distinct(now.as_microsecond(), &wreck)?);
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
        let (mut kept, mut newest) = (0, None);
        wreck.frames(|_, header| newest = newest.max(Some(header.time_us.saturating_add(1))))?;
        wreck.volumes(|_| {
            kept += 1;
            Ok(())
        })?;
        let (rebuilt, record) = self.set_aside(VOLUMES, &wreck, kept)?;
        // Whatever the clock says: it is begun after what stands in it, so that nobody takes that for appends to it, whose
        // first ones flushed its name.
        let begun = distinct(newest.unwrap_or(i64::MIN).max(now.as_microsecond()), &wreck)?;
        self.put_in_place(VOLUMES, FileKind::Volumes, |log| {
            log.begin(disk, begun)?;
            wreck.volumes(|Frame { header, payload, .. }| {
                log.append(disk, &[payload], header.sequence, header.time_us).map(drop)
            })
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
    let length = file.size().map_err(|source| JournalError::Read { file: path.clone(), source })?;
    Ok(Some(Wreck { kind, path, file: Some(file), length, offset, reason }))
}

/// `grants` as they are after what was appended since the damaged file was salvaged. Frames that were older then and have
/// come up since say nothing new.
fn with_later_records(grants: &[Grant], wreck: &Wreck, print: &Print) -> Result<Vec<Grant>, JournalError> {
    // One that was being written then was not read.
    let is_later = |offset: u64, header: &FrameHeader| end_of(offset, header) > print.length;
    let mut last = 0;
    wreck.frames(|offset, header| {
        if !is_later(offset, &header) {
            last = last.max(header.sequence);
        }
    })?;
    let mut stories = Stories::of(grants);
    wreck.in_order(last, |mut same| {
        same.retain(|frame| is_later(frame.offset, &frame.header));
        if !same.is_empty() {
            stories.go_on(payloads(same));
        }
        Ok(())
    })?;
    Ok(stories.end().0)
}

fn payloads(frames: Vec<Frame>) -> Vec<Vec<u8>> {
    frames.into_iter().map(|frame| frame.payload).collect()
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
/// index of that one is not taken for this one's.
fn distinct(time: i64, wreck: &Wreck) -> Result<i64, JournalError> {
    let Some(file) = &wreck.file else { return Ok(time) };
    let mut old = [0; 8];
    let read = file.read_at(&mut old, 16).map_err(|source| wreck.unreadable(source))?;
    let same = read == old.len() && i64::from_le_bytes(old) == time;
    Ok(if same { time.saturating_add(1) } else { time })
}
