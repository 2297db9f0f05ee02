//! The table of leases of one boot: the log's newest part folded, the rest looked up through the checkpoint.
//!
//! A checkpoint only says where in the log to look; what stands there is read from the log and proves itself.
//! Whatever does not fit, the log is folded from its beginning, which finds damage where it is.

mod change;
mod compare;

use crate::append::Needs;
use crate::codec::FRAME;
use crate::codec::FileKind;
use crate::codec::Link;
use crate::disk::Disk;
use crate::disk::DiskFile;
use crate::disk::Stat;
use crate::error::JournalError;
use crate::index::Index;
use crate::index::Top;
use crate::index::Trouble;
use crate::index::Unfit;
use crate::index::draw;
use crate::index::index_name;
use crate::index::note_end;
use crate::interest::BoundKeys;
use crate::interest::GrantKeys;
use crate::interest::Interest;
use crate::log::Log;
use crate::log::Next;
use crate::pages::Entry;
use crate::pages::Key;
use crate::pages::Kind;
use crate::tail::Framed;
use crate::tail::Standing;
use crate::tail::Tail;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::collections::HashMap;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseTable;
use volhook_core::record::LeaseRecord;

/// How many bytes of the log are folded by every process before one writes them down in the checkpoint. More would
/// make every look longer, fewer would make more processes write.
pub(crate) const TAIL: u64 = 16 << 10;

/// Bytes set aside for the record that gives a grant back: with a short container id it takes a third of that.
const RELEASE: u64 = 1 << 10;
/// Bytes set aside for other records on a full disk: faults, refusals.
const OTHERS: u64 = 64 << 10;

/// A boot's file of leases and what is known of its content.
pub(crate) struct Leases {
    pub(crate) log: Log,
    checkpoint: Checkpoint,
    tail: Tail,
    /// Offset in the log where `tail` begins.
    tail_from: u64,
    /// Grants that were read by one look and not yet by the next, as they stand in the log, by their offsets.
    parsed: RefCell<HashMap<u64, Grant>>,
}

enum Checkpoint {
    Missing,
    /// The file is there, its content is of no use.
    Unfit(Box<dyn DiskFile>),
    Fit(Index),
}

/// A live grant as it is now.
struct Live {
    offset: u64,
    /// Where the record of its binding stands.
    bound: Option<u64>,
    grant: Grant,
}

/// Why a look did not succeed.
enum Miss {
    Unfit,
    Failed(JournalError),
}

impl From<Unfit> for Miss {
    fn from(_: Unfit) -> Self {
        Self::Unfit
    }
}

impl Leases {
    fn new(log: Log, checkpoint: Checkpoint, tail: Tail, tail_from: u64) -> Self {
        Self { log, checkpoint, tail, tail_from, parsed: RefCell::default() }
    }

    /// Opens the file called `name` and folds what stands behind its checkpoint.
    pub(crate) fn load(disk: &dyn Disk, name: &str, write: bool) -> Result<Option<Self>, JournalError> {
        // The noted end is read before it is known how long the log is, so that an append in between does not look
        // like a loss.
        let file = disk.open(&index_name(name), write).ok().flatten();
        let top = file.as_deref().and_then(Top::read_ahead);
        let Some(mut log) = Log::open(disk, name, FileKind::Leases, write)? else {
            return Ok(None);
        };
        let stat = log.file.opened();
        let stat = stat.map_err(|source| JournalError::Read { file: disk.path().join(name), source })?;
        let file = file.filter(|_| !log.newer());
        log.space = Some(stat.space);
        let head = log.header.zip(top.as_ref()).and_then(|(header, top)| top.head(header.chain));
        let noted = top.as_ref().and_then(|top| top.noted_end(&log));
        let leases = match (file, head, top) {
            (Some(file), Some((head, settled)), Some(top)) => {
                let mut tail = Tail::new(false, log.newer());
                if replay_behind(disk, &mut log, head.link, stat.size, &mut tail)? {
                    let checkpoint = Checkpoint::Fit(Index::with_top(file, head, settled, top));
                    Self::new(log, checkpoint, tail, head.link.end)
                } else {
                    Self::fold(disk, log, Checkpoint::Unfit(file))?
                }
            }
            (Some(file), _, _) => Self::fold(disk, log, Checkpoint::Unfit(file))?,
            (None, _, _) => Self::fold(disk, log, Checkpoint::Missing)?,
        };
        leases.log.refuse_cut(disk, noted)?;
        Ok(Some(leases))
    }

    /// What was learnt earlier, and what is new since. For the holder of the lock, who knows that the file still has its
    /// name; `now` is its state. `None` where what was learnt does not fit what is there: then it has to be loaded anew.
    pub(crate) fn resume(mut self, disk: &dyn Disk, now: Stat) -> Option<Self> {
        let header = self.log.header?;
        if !self.log.writable || self.log.newer() {
            return None;
        }
        let file = match &self.checkpoint {
            Checkpoint::Missing => return None,
            Checkpoint::Unfit(file) => &**file,
            Checkpoint::Fit(index) => index.file(),
        };
        let top = Top::read(file)?;
        self.checkpoint = match (self.checkpoint, top.head(header.chain)) {
            (Checkpoint::Fit(index), Some((head, settled))) => {
                Checkpoint::Fit(index.with_head(head, settled))
            }
            (Checkpoint::Unfit(file), None) if self.tail.whole => Checkpoint::Unfit(file),
            _ => return None,
        };
        let mut link = self.log.link;
        if let Some(index) = self.index() {
            let stands = index.head.link;
            // The tail goes on as long as the checkpoint reaches its beginning. Behind its end there is less to read.
            if !(self.tail_from..=link.end).contains(&stands.end) {
                link = stands;
                (self.tail, self.tail_from) = (Tail::new(false, false), link.end);
            }
        }
        self.log.space = Some(now.space);
        // Whoever appended last noted the end and the chain there: nobody did since.
        if link == self.log.link && now.size == link.end && top.notes(header.chain, link) {
            self.log.ends_here();
            return Some(self);
        }
        let name = self.log.name.clone();
        let resumed = self.log.replay_on(disk, link, now.size, |_, offset, payload| {
            add(disk, &name, &mut self.tail, offset, payload)
        });
        let cut = self.log.cut_at(top.noted_end(&self.log)).is_some();
        (matches!(resumed, Ok(true)) && !cut).then_some(self)
    }

    /// The same, without a checkpoint.
    fn from_beginning(disk: &dyn Disk, name: &str) -> Result<Option<Self>, JournalError> {
        let log = Log::open(disk, name, FileKind::Leases, false)?;
        log.map(|log| Self::fold(disk, log, Checkpoint::Missing)).transpose()
    }

    fn fold(disk: &dyn Disk, log: Log, checkpoint: Checkpoint) -> Result<Self, JournalError> {
        Self::fold_to(disk, log, checkpoint, u64::MAX)
    }

    /// Folds the frames that begin before the offset `end`.
    fn fold_to(
        disk: &dyn Disk,
        mut log: Log,
        checkpoint: Checkpoint,
        end: u64,
    ) -> Result<Self, JournalError> {
        let (link, whole) = match &checkpoint {
            Checkpoint::Fit(index) => (index.head.link, false),
            _ => (log.link, true),
        };
        let mut tail = Tail::new(whole, log.newer());
        let name = log.name.clone();
        log.replay(disk, link, |_, offset, payload| {
            if offset >= end { Ok(Next::Stop) } else { add(disk, &name, &mut tail, offset, payload) }
        })?;
        Ok(Self::new(log, checkpoint, tail, link.end))
    }

    /// A new, still empty file.
    pub(crate) fn create(disk: &dyn Disk, name: &str) -> Result<Self, JournalError> {
        let log = Log::open_or_create(disk, name, FileKind::Leases)?;
        let tail_from = log.link.end;
        Ok(Self::new(log, Checkpoint::Missing, Tail::new(true, false), tail_from))
    }

    fn index(&self) -> Option<&Index> {
        match &self.checkpoint {
            Checkpoint::Fit(index) => Some(index),
            _ => None,
        }
    }

    /// Makes sure that there is room for `records`, which take so many `bytes`, and behind them for what has to be
    /// written whatever happens: a grant leaves room for giving back every live one, and for some other records; other
    /// records, and the grant of a command that makes room, leave room for giving back. A record that gives back takes what there is.
    pub(crate) fn reserve(
        &mut self,
        disk: &dyn Disk,
        records: &[Needs],
        bytes: u64,
    ) -> Result<(), JournalError> {
        let live = self.index().map_or(0, |index| index.head.live) + self.tail.granted();
        let granted = records.iter().filter(|needs| **needs == Needs::Grant).count() as u64;
        if granted > 0 {
            return self.log.reserve(disk, bytes + (live + granted) * RELEASE + OTHERS);
        }
        if records.contains(&Needs::Release) {
            return Ok(());
        }
        let passing = records.iter().filter(|needs| **needs == Needs::Passing).count() as u64;
        self.log.reserve(disk, bytes + (live + passing) * RELEASE)
    }

    /// The live grants that `interest` covers, or all of them.
    pub(crate) fn table(
        &self,
        disk: &dyn Disk,
        interest: Option<&Interest<'_>>,
    ) -> Result<LeaseTable, JournalError> {
        match self.look(disk, interest) {
            Ok(table) => Ok(table),
            Err(Miss::Failed(error)) => Err(error),
            Err(Miss::Unfit) => Self::folded_table(disk, &self.log.name, interest),
        }
    }

    /// The same by a process without the lock, or `None` when others changed the checkpoint meanwhile.
    pub(crate) fn table_unlocked(
        &self,
        disk: &dyn Disk,
        interest: Option<&Interest<'_>>,
    ) -> Result<Option<LeaseTable>, JournalError> {
        let found = self.look(disk, interest);
        if !self.index().is_none_or(Index::unchanged) {
            return Ok(None);
        }
        match found {
            Ok(table) => Ok(Some(table)),
            Err(Miss::Failed(error)) => Err(error),
            Err(Miss::Unfit) => Self::folded_table(disk, &self.log.name, interest).map(Some),
        }
    }

    /// The same by the log alone.
    pub(crate) fn folded_table(
        disk: &dyn Disk,
        name: &str,
        interest: Option<&Interest<'_>>,
    ) -> Result<LeaseTable, JournalError> {
        let Some(leases) = Self::from_beginning(disk, name)? else {
            return Ok(LeaseTable::default());
        };
        match leases.look(disk, interest) {
            Ok(table) => Ok(table),
            Err(Miss::Failed(error)) => Err(error),
            Err(Miss::Unfit) => unreachable!("there is no checkpoint that could be unfit"),
        }
    }

    fn look(&self, disk: &dyn Disk, interest: Option<&Interest<'_>>) -> Result<LeaseTable, Miss> {
        // A checkpoint that could not be written leaves a tail that is not everything.
        if self.index().is_none() && !self.tail.whole {
            return Err(Miss::Unfit);
        }
        let mut found = self.in_tail(disk, interest)?;
        if self.index().is_none() && !self.tail.whole {
            return Err(Miss::Unfit);
        }
        if let Some(index) = self.index() {
            found.extend(match interest {
                Some(interest) => self.in_index(index, interest)?,
                None => self.all_in_index(index)?,
            });
        }
        let grants = found.into_iter().map(|live| live.grant);
        Ok(grants.filter(|grant| interest.is_none_or(|interest| interest.covers(grant))).collect())
    }

    /// All live grants.
    fn all(&self, disk: &dyn Disk, index: &Index) -> Result<Vec<Live>, Miss> {
        let mut found = self.in_tail(disk, None)?;
        found.extend(self.all_in_index(index)?);
        Ok(found)
    }

    /// The grants made in the tail; with `interest`, those that it could cover.
    fn in_tail(&self, disk: &dyn Disk, interest: Option<&Interest<'_>>) -> Result<Vec<Live>, Miss> {
        let mut found = Vec::new();
        for (attempt, standing) in &self.tail.attempts {
            let Standing::Granted { grant, bound } = standing else { continue };
            let live = (|| {
                // Who asks about attempts alone need not have the others' records read.
                let unnamed = |interest: &&Interest<'_>| !interest.attempts.contains(&attempt.as_str());
                if let Some(interest) = interest.filter(unnamed) {
                    if interest.volumes.is_empty() && interest.container.is_none() {
                        return Ok(None);
                    }
                    let keys = grant_keys(grant)?;
                    let container = match bound {
                        Some(bound) => read_at::<BoundKeys<'_>>(bound)?.container,
                        None => keys.container.clone(),
                    };
                    if !interest.covers_keys(&keys, &container) {
                        return Ok(None);
                    }
                }
                let mut live =
                    Live { offset: grant.offset, bound: None, grant: self.grant(grant, interest)? };
                if let Some(bound) = bound {
                    live.bind(bound)?;
                }
                Ok(Some(live))
            })();
            match live {
                Ok(live) => found.extend(live),
                Err(_) if self.tail.lenient => {}
                Err((offset, source)) => {
                    return Err(Miss::Failed(unknown_record(disk, &self.log.name, offset, source)));
                }
            }
        }
        Ok(found)
    }

    /// The grants made before the tail that `interest` could cover.
    fn in_index(&self, index: &Index, interest: &Interest<'_>) -> Result<Vec<Live>, Miss> {
        let salt = index.head.salt;
        if interest.volumes.len() > 3 {
            index.expect_several();
        }
        let volumes = interest.volumes.iter();
        let keys = volumes
            .map(|id| Key::volume(salt, id.tenant.as_str(), id.name.as_str()))
            .chain(interest.container.map(|id| Key::container(salt, id.as_str())))
            .chain(interest.attempts.iter().map(|attempt| Key::attempt(salt, attempt)));
        let mut offsets = BTreeSet::new();
        for key in keys {
            offsets.extend(index.find(key)?);
        }
        // A grant may have come to the container by a binding that the checkpoint does not know of yet.
        if let Some(container) = interest.container {
            for standing in self.tail.attempts.values() {
                let Standing::Bound(bound) = standing else { continue };
                let keys = read_at::<BoundKeys<'_>>(bound).map_err(|_| Miss::Unfit)?;
                if *keys.container == *container.as_str() {
                    offsets.extend(index.find(Key::attempt(salt, &keys.attempt))?);
                }
            }
        }
        let mut found = Vec::new();
        for offset in offsets {
            let grant = self.grant_at(offset).ok_or(Miss::Unfit)?;
            let key = Key::attempt(salt, &grant.attempt);
            if self.decided_in_tail(&grant.attempt) {
                continue;
            }
            if !index.find(key)?.contains(&offset) {
                return Err(Miss::Unfit);
            }
            let bound = index.find(key.to_bound())?.last().copied();
            found.push(self.complete(Live { offset, bound: None, grant }, bound)?);
        }
        Ok(found)
    }

    /// The grant whose record stands in the log at `offset`.
    fn grant_at(&self, offset: u64) -> Option<Grant> {
        if let Some(grant) = self.parsed.borrow_mut().remove(&offset) {
            return Some(grant);
        }
        let payload = self.log.payload_at(offset)?;
        let grant: Grant = serde_json::from_slice(&payload).ok()?;
        // Behind the end known, another writer's unfinished append may be cut and written over.
        if offset < self.log.link.end {
            self.parsed.borrow_mut().insert(offset, grant.clone());
        }
        Some(grant)
    }

    /// The grant whose record this is. Who asks for some is likely to ask for them again.
    fn grant(
        &self,
        framed: &Framed,
        interest: Option<&Interest<'_>>,
    ) -> Result<Grant, (u64, serde_json::Error)> {
        if interest.is_none() {
            return read_at(framed);
        }
        if let Some(grant) = self.parsed.borrow_mut().remove(&framed.offset) {
            return Ok(grant);
        }
        let grant: Grant = read_at(framed)?;
        self.parsed.borrow_mut().insert(framed.offset, grant.clone());
        Ok(grant)
    }

    /// All grants made before the tail.
    fn all_in_index(&self, index: &Index) -> Result<Vec<Live>, Miss> {
        let entries = index.entries()?;
        let bound: HashMap<Key, u64> =
            entries.iter().filter(|e| e.key.is(Kind::Bound)).map(|e| (e.key, e.offset)).collect();
        let mut found = Vec::new();
        for entry in entries.iter().filter(|entry| entry.key.is(Kind::Attempt)) {
            let payload = self.log.payload_at(entry.offset).ok_or(Miss::Unfit)?;
            let grant: Grant = serde_json::from_slice(&payload).map_err(|_| Miss::Unfit)?;
            if Key::attempt(index.head.salt, &grant.attempt) != entry.key {
                return Err(Miss::Unfit);
            }
            if !self.decided_in_tail(&grant.attempt) {
                let bound = bound.get(&entry.key.to_bound()).copied();
                found.push(self.complete(Live { offset: entry.offset, bound: None, grant }, bound)?);
            }
        }
        Ok(found)
    }

    /// Whether the tail alone says what became of the attempt.
    fn decided_in_tail(&self, attempt: &str) -> bool {
        matches!(self.tail.attempts.get(attempt), Some(Standing::Granted { .. } | Standing::Released))
    }

    /// A grant made before the tail with its newest binding, which may stand in the tail.
    fn complete(&self, mut live: Live, bound: Option<u64>) -> Result<Live, Miss> {
        if let Some(Standing::Bound(framed)) = self.tail.attempts.get(&live.grant.attempt) {
            live.bind(framed).map_err(|_| Miss::Unfit)?;
        } else if let Some(offset) = bound {
            let payload = self.log.payload_at(offset).ok_or(Miss::Unfit)?;
            live.bind(&Framed { offset, payload }).map_err(|_| Miss::Unfit)?;
        }
        Ok(live)
    }

    /// Takes records into account that were appended, one after the other from `at` on.
    pub(crate) fn appended(&mut self, disk: &dyn Disk, at: u64, payloads: &[Vec<u8>]) {
        let mut offset = at;
        for payload in payloads {
            let known = self.tail.add(offset, payload);
            debug_assert!(known.is_ok(), "a record just encoded is known");
            offset += frame_size(payload);
        }
        let Some(header) = self.log.header else { return };
        if matches!(self.checkpoint, Checkpoint::Missing)
            && let Ok(file) = create_or_open(disk, &index_name(&self.log.name))
        {
            self.checkpoint = Checkpoint::Unfit(file);
        }
        match &self.checkpoint {
            Checkpoint::Fit(index) => note_end(index.file(), header.chain, self.log.link),
            Checkpoint::Unfit(file) => note_end(&**file, header.chain, self.log.link),
            Checkpoint::Missing => {}
        }
    }

    /// Writes the tail down in the checkpoint when it is longer than `every`. A failure is nobody's concern: the next
    /// writer tries again, and until then the tail is folded.
    pub(crate) fn write_checkpoint(&mut self, disk: &dyn Disk, every: u64) {
        let written = self.index().map_or(self.tail_from, |index| index.head.link.end);
        if self.log.link.end.saturating_sub(written) <= every {
            return;
        }
        let Some(header) = self.log.header else { return };
        let link = self.log.link;
        self.checkpoint = match std::mem::replace(&mut self.checkpoint, Checkpoint::Missing) {
            Checkpoint::Missing => return,
            Checkpoint::Fit(mut index) => match self.update(&mut index, link) {
                Ok(()) => Checkpoint::Fit(index),
                Err(Trouble::Unwritten) => {
                    // The tail begins where this one ends: without it, what stands before would be forgotten.
                    self.checkpoint = Checkpoint::Fit(index);
                    return;
                }
                Err(Trouble::Unfit) => {
                    // What a killed writer left holds more than its header says, which the tail contradicts.
                    let live = if index.settled { Err(Miss::Unfit) } else { self.all(disk, &index) };
                    self.build(disk, index.into_file(), header.chain, link, live.ok())
                }
            },
            Checkpoint::Unfit(file) => self.build(disk, file, header.chain, link, None),
        };
        if let Checkpoint::Fit(index) = &self.checkpoint {
            self.tail = Tail::new(false, false);
            self.tail_from = index.head.link.end;
        }
    }

    /// Writes a checkpoint of the grants in `live`, or from nothing but the log.
    fn build(
        &self,
        disk: &dyn Disk,
        file: Box<dyn DiskFile>,
        chain: u32,
        link: Link,
        live: Option<Vec<Live>>,
    ) -> Checkpoint {
        let live = live.or_else(|| {
            let leases = Self::from_beginning(disk, &self.log.name).ok()??;
            leases.in_tail(disk, None).ok()
        });
        let Some(live) = live else { return Checkpoint::Unfit(file) };
        let salt = draw();
        let entries: BTreeSet<Entry> = live.iter().flat_map(|live| live.entries(salt)).collect();
        match Index::build(file, chain, salt, entries.into_iter().collect(), link, live.len() as u64) {
            Ok(index) => Checkpoint::Fit(index),
            Err(_) => Checkpoint::Missing,
        }
    }
}

impl Live {
    fn bind(&mut self, bound: &Framed) -> Result<(), (u64, serde_json::Error)> {
        let wrong = |text| (bound.offset, serde::de::Error::custom(text));
        match read_at::<LeaseRecord>(bound)? {
            LeaseRecord::Bound { attempt, container, holder } if attempt == self.grant.attempt => {
                self.grant.container = container;
                self.grant.holder = Some(holder);
                self.bound = Some(bound.offset);
                Ok(())
            }
            _ => Err(wrong("this is no binding of the attempt")),
        }
    }

    fn entries(&self, salt: u64) -> Vec<Entry> {
        let Self { offset, grant, .. } = self;
        let keys = GrantKeys::of(grant);
        entries(salt, *offset, &keys, grant.container.as_str(), self.bound)
    }
}

/// What leads to a grant.
fn entries(salt: u64, offset: u64, keys: &GrantKeys<'_>, container: &str, bound: Option<u64>) -> Vec<Entry> {
    let attempt = Key::attempt(salt, &keys.attempt);
    let volumes = keys.leases.iter();
    let volumes = volumes.map(|lease| Key::volume(salt, &lease.volume.tenant, &lease.volume.name));
    let mut entries: Vec<_> = [attempt, Key::container(salt, container)]
        .into_iter()
        .chain(volumes)
        .map(|key| Entry { key, offset })
        .collect();
    entries.extend(bound.map(|offset| Entry { key: attempt.to_bound(), offset }));
    entries
}

fn read_at<'a, T: serde::Deserialize<'a>>(framed: &'a Framed) -> Result<T, (u64, serde_json::Error)> {
    serde_json::from_slice(&framed.payload).map_err(|source| (framed.offset, source))
}

fn grant_keys(framed: &Framed) -> Result<GrantKeys<'_>, (u64, serde_json::Error)> {
    GrantKeys::read(&framed.payload).map_err(|source| (framed.offset, source))
}

pub(crate) fn frame_size(payload: &[u8]) -> u64 {
    (FRAME + payload.len().next_multiple_of(8)) as u64
}

/// Folds what stands behind `link`; `false` when the frame before it is not there.
fn replay_behind(
    disk: &dyn Disk,
    log: &mut Log,
    link: Link,
    length: u64,
    tail: &mut Tail,
) -> Result<bool, JournalError> {
    let name = log.name.clone();
    log.replay_behind(disk, link, length, |_, offset, payload| add(disk, &name, tail, offset, payload))
}

fn add(
    disk: &dyn Disk,
    name: &str,
    tail: &mut Tail,
    offset: u64,
    payload: &[u8],
) -> Result<Next, JournalError> {
    let understood = tail.add(offset, payload);
    understood.map_err(|source| unknown_record(disk, name, offset, source)).map(|()| Next::Go)
}

fn create_or_open(disk: &dyn Disk, name: &str) -> std::io::Result<Box<dyn DiskFile>> {
    match disk.open(name, true)? {
        Some(file) => Ok(file),
        None => disk.create(name),
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
