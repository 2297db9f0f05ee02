//! Who holds what in one boot: its log, and the index that leads to the frames which still count.
//!
//! The index only says where in the log to look; what stands there is read from the log and proves itself. Whatever does not fit,
//! the log is folded from its beginning, which finds damage where it is.

use crate::append::Encoded;
use crate::append::Needs;
use crate::check::IndexState;
use crate::codec::FRAME;
use crate::codec::FileKind;
use crate::codec::Link;
use crate::disk::Disk;
use crate::disk::DiskFile;
use crate::disk::Stat;
use crate::error::JournalError;
use crate::index::AHEAD;
use crate::index::Index;
use crate::index::Top;
use crate::index::Unfit;
use crate::index::draw;
use crate::index::index_name;
use crate::index::layout::Entry;
use crate::index::layout::Key;
use crate::index::layout::Kind;
use crate::index::layout::Place;
use crate::index::volume_keys;
use crate::interest::Interest;
use crate::log::Log;
use crate::log::Next;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use volhook_core::decision::Access;
use volhook_core::decision::Sharing;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::LeasedVolume;
use volhook_core::record::Change;
use volhook_core::record::LeaseRecord;

/// How many frames are folded at a time.
const BATCH: usize = 256;
/// How many grants are kept at most because they may be asked for again.
const PARSED: usize = 1 << 12;
/// After how many milliseconds each a look is begun anew because somebody was changing the index: whoever was may have been
/// interrupted there.
const PAUSES: [u64; 8] = [0, 0, 0, 1, 1, 5, 5, 20];
/// How much of the index is then read at once.
const FAR_AHEAD: usize = 1 << 20;

/// Bytes set aside for the record that gives a grant back: with a short container id it takes a third of that.
const RELEASE: u64 = 1 << 10;
/// Bytes set aside for other records on a full disk: faults, refusals.
const OTHERS: u64 = 64 << 10;

/// A boot's log of leases, and the index of it up to the log's end as it is known here.
pub(crate) struct Leases {
    pub(crate) log: Log,
    index: Index,
    /// The index's file, if it could be opened.
    file: Option<Box<dyn DiskFile>>,
    /// Grants as they stand in the log, by their offsets: who looks something up is likely to do so again.
    parsed: RefCell<HashMap<u64, Arc<Grant>>>,
    /// Whether a look found the index unfit: then it is made anew by whoever writes next.
    unfit: Cell<bool>,
}

/// A log as it was opened.
pub(crate) enum Opened {
    /// There is none.
    Nothing,
    /// With an index that fits, and what stands behind that.
    Indexed(Box<Leases>),
    /// It has to be folded from its beginning.
    Unindexed(Unindexed),
}

impl Opened {
    /// Whether there is more than a name.
    pub(crate) fn has_content(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Indexed(_) => true,
            Self::Unindexed(rest) => rest.log.header.is_some(),
        }
    }
}

/// A log whose index is missing, does not fit, or is just being written.
pub(crate) struct Unindexed {
    log: Log,
    file: Option<Box<dyn DiskFile>>,
    /// How far the log went at its last append.
    noted: Option<u64>,
}

impl Unindexed {
    fn fold(self, disk: &dyn Disk) -> Result<Leases, JournalError> {
        let leases = Leases::folded(disk, self.log, self.file, draw(), u64::MAX)?;
        leases.log.refuse_cut(disk, self.noted)?;
        Ok(leases)
    }
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

impl From<JournalError> for Miss {
    fn from(error: JournalError) -> Self {
        Self::Failed(error)
    }
}

/// A frame's payload and offset.
type Framed = (u64, Vec<u8>);

impl Leases {
    fn new(log: Log, index: Index, file: Option<Box<dyn DiskFile>>) -> Self {
        Self { log, index, file, parsed: RefCell::default(), unfit: Cell::new(false) }
    }

    /// Opens the log called `name`, and reads what stands behind its index, or else all of it.
    pub(crate) fn load(disk: &dyn Disk, name: &str, write: bool) -> Result<Option<Self>, JournalError> {
        match Self::open(disk, name, write, AHEAD)? {
            Opened::Nothing => Ok(None),
            Opened::Indexed(leases) => Ok(Some(*leases)),
            Opened::Unindexed(rest) => rest.fold(disk).map(Some),
        }
    }

    /// The same, as far as its index goes, of which so many bytes are read at once.
    pub(crate) fn open(
        disk: &dyn Disk,
        name: &str,
        write: bool,
        ahead: usize,
    ) -> Result<Opened, JournalError> {
        // The noted end is read before it is known how long the log is, so that an append in between does not look
        // like a loss.
        let file = disk.open(&index_name(name), write).ok().flatten();
        let top = file.as_deref().and_then(|file| Top::read(file, ahead));
        let Some(mut log) = Log::open(disk, name, FileKind::Leases, write)? else {
            return Ok(Opened::Nothing);
        };
        let stat = log.file.opened();
        let stat = stat.map_err(|source| JournalError::Read { file: disk.path().join(name), source })?;
        log.space = Some(stat.space);
        let noted = top.as_ref().and_then(|top| top.noted_end(&log));
        let header = log.header.filter(|_| !log.newer());
        let index = header.zip(top).zip(file.as_deref());
        let index = index.and_then(|((header, top), file)| top.index(file, header.chain));
        let Some(index) = index else {
            return Ok(Opened::Unindexed(Unindexed { log, file, noted }));
        };
        let mut leases = Self::new(log, index, file);
        match leases.go_on_behind(disk, stat.size) {
            Ok(()) => {
                leases.log.refuse_cut(disk, noted)?;
                Ok(Opened::Indexed(Box::new(leases)))
            }
            Err(Miss::Failed(error)) => Err(error),
            Err(Miss::Unfit) => {
                Ok(Opened::Unindexed(Unindexed { log: leases.log, file: leases.file, noted }))
            }
        }
    }

    /// Takes into account what stands in a log of so many bytes behind the index.
    fn go_on_behind(&mut self, disk: &dyn Disk, length: u64) -> Result<(), Miss> {
        let mut batch = Vec::new();
        let link = self.index.head.link;
        let there = self.log.replay_behind(disk, link, length, |_, offset, payload| {
            Ok(collect(&mut batch, u64::MAX, offset, payload))
        })?;
        if !there {
            return Err(Miss::Unfit);
        }
        let more = batch.len() == BATCH;
        self.follow(disk, batch, more, u64::MAX)
    }

    /// What was learnt earlier, and what is new since. For the holder of the lock, who knows that the file still has its
    /// name; `now` is its state. `None` where what was learnt does not fit what is there: then it has to be loaded anew.
    pub(crate) fn resume(mut self, disk: &dyn Disk, now: Stat) -> Option<Self> {
        let header = self.log.header?;
        // What was folded and is not in the index's file may have been cut off again by whoever wrote it.
        if !self.log.writable || self.log.newer() || !self.index.is_stored() || self.unfit.get() {
            return None;
        }
        self.log.space = Some(now.space);
        let file = self.file.as_deref()?;
        let top = Top::read(file, AHEAD)?;
        let is_known = top.head == self.index.head;
        // Whoever appended last brought the index up to date: nobody did since.
        if is_known && self.log.link == top.head.link && now.size == top.head.link.end {
            self.log.ends_here();
            return Some(self);
        }
        let noted = top.head.link.end;
        if !is_known {
            let newer = top.index(file, header.chain)?;
            self.index = self.index.renewed(newer);
        }
        self.go_on_behind(disk, now.size).ok()?;
        (self.log.link.end >= noted).then_some(self)
    }

    /// The log from its beginning on, as far as frames begin before the offset `until`, with an index in memory.
    fn folded(
        disk: &dyn Disk,
        mut log: Log,
        file: Option<Box<dyn DiskFile>>,
        salt: u64,
        until: u64,
    ) -> Result<Self, JournalError> {
        let link = log.header.map_or(log.link, Link::first);
        let chain = log.header.map_or(0, |header| header.chain);
        log.link = link;
        let mut leases = Self::new(log, Index::empty(chain, link, salt), file);
        match leases.follow(disk, Vec::new(), true, until) {
            Ok(()) => Ok(leases),
            Err(Miss::Failed(error)) => Err(error),
            // All of it is in memory, and every frame to which it leads was read before.
            Err(Miss::Unfit) => {
                let (file, offset) = (disk.path().join(&leases.log.name), leases.log.link.end);
                let reason = "the file is too large, or changes while it is read";
                Err(JournalError::Damaged { file, offset, reason, copy: None })
            }
        }
    }

    /// The same by a process of which nothing is known.
    fn from_beginning(disk: &dyn Disk, name: &str) -> Result<Option<Self>, JournalError> {
        let log = Log::open(disk, name, FileKind::Leases, false)?;
        log.map(|log| Self::folded(disk, log, None, draw(), u64::MAX)).transpose()
    }

    /// Takes a batch of frames into account, and if there may be `more`, those that stand behind it.
    fn follow(
        &mut self,
        disk: &dyn Disk,
        mut batch: Vec<Framed>,
        mut more: bool,
        until: u64,
    ) -> Result<(), Miss> {
        loop {
            for (offset, payload) in batch.drain(..) {
                self.apply(disk, offset, &payload)?;
            }
            if !more {
                return Ok(());
            }
            let link = self.log.link;
            self.log
                .replay(disk, link, |_, offset, payload| Ok(collect(&mut batch, until, offset, payload)))?;
            more = batch.len() == BATCH;
        }
    }

    fn apply(&mut self, disk: &dyn Disk, offset: u64, payload: &[u8]) -> Result<(), Miss> {
        // A frame without content only takes sequence numbers.
        if payload.is_empty() {
            return Ok(());
        }
        match serde_json::from_slice::<LeaseRecord>(payload) {
            Ok(record) => Ok(self.take(offset, &record)?),
            Err(_) if self.log.newer() => Ok(()),
            Err(source) => Err(Miss::Failed(unknown_record(disk, &self.log.name, offset, source))),
        }
    }

    /// A new, still empty log.
    pub(crate) fn create(disk: &dyn Disk, name: &str) -> Result<Self, JournalError> {
        let log = Log::open_or_create(disk, name, FileKind::Leases)?;
        let index = Index::empty(0, log.link, draw());
        Ok(Self::new(log, index, None))
    }

    /// Takes one record into account, whose frame stands at `offset`.
    fn take(&mut self, offset: u64, record: &LeaseRecord) -> Result<(), Unfit> {
        match record.change() {
            Some(Change::Granted(grant)) => {
                self.forget(&grant.attempt)?;
                let place = Place::of(offset).ok_or(Unfit)?;
                for entry in entries(self.index.head.salt, place, grant, None) {
                    self.add(entry)?;
                }
                self.parsed.get_mut().insert(offset, Arc::new(grant.clone()));
                self.index.count(1)
            }
            Some(Change::Bound { attempt, container, .. }) => {
                let Some((standing, grant)) = self.standing(attempt)? else { return Ok(()) };
                let (salt, bound) = (self.index.head.salt, Place::of(offset).ok_or(Unfit)?);
                let before = Entry::to(Key::container(salt, grant.container.as_str()), standing.grant());
                let now = Entry::to(Key::container(salt, container.as_str()), standing.grant());
                if before != now {
                    self.index.remove(self.file.as_deref(), before)?;
                    self.index.insert(self.file.as_deref(), now)?;
                }
                let bound = Entry::of_attempt(standing.key, standing.grant(), Some(bound));
                self.index.replace(self.file.as_deref(), standing, bound)
            }
            Some(Change::Ended { attempt }) => self.forget(attempt),
            None => Ok(()),
        }
    }

    /// Takes a grant away that is given back or replaced, if there is one.
    fn forget(&mut self, attempt: &str) -> Result<(), Unfit> {
        let Some((standing, grant)) = self.standing(attempt)? else { return Ok(()) };
        for entry in entries(self.index.head.salt, standing.grant(), &grant, standing.bound()) {
            self.drop_entry(entry)?;
        }
        self.parsed.get_mut().remove(&standing.grant().offset());
        self.index.count(-1)
    }

    /// Adds an entry, and counts the sharers of a volume.
    fn add(&mut self, Added { entry, number }: Added) -> Result<(), Unfit> {
        let file = self.file.as_deref();
        let Some(key) = number else { return self.index.insert(file, entry) };
        let there = self.index.find(file, key)?.first().copied();
        let number = there.map_or(0, |there| there.value).checked_add(1).ok_or(Unfit)?;
        self.index.insert_sharer(file, entry, number)?;
        match there {
            Some(there) => self.index.replace(file, there, Entry::number(key, number)),
            None => self.index.insert(file, Entry::number(key, number)),
        }
    }

    fn drop_entry(&mut self, Added { entry, number }: Added) -> Result<(), Unfit> {
        let file = self.file.as_deref();
        self.index.remove(file, entry)?;
        let Some(key) = number else { return Ok(()) };
        let there = *self.index.find(file, key)?.first().ok_or(Unfit)?;
        match there.value {
            0 | 1 => self.index.remove(file, there),
            more => self.index.replace(file, there, Entry::number(key, more - 1)),
        }
    }

    /// The entry of an attempt that holds something, and the grant as it is now.
    fn standing(&self, attempt: &str) -> Result<Option<(Entry, Grant)>, Unfit> {
        let key = Key::attempt(self.index.head.salt, attempt);
        for entry in self.index.find(self.file.as_deref(), key)? {
            let grant = self.grant(entry)?;
            if grant.attempt == attempt {
                return Ok(Some((entry, grant)));
            }
        }
        Ok(None)
    }

    /// The grant to which an attempt's entry leads, as it is now.
    fn grant(&self, entry: Entry) -> Result<Grant, Unfit> {
        let mut grant = (*self.granted_at(entry.grant())?).clone();
        if Key::attempt(self.index.head.salt, &grant.attempt) != entry.key {
            return Err(Unfit);
        }
        if let Some(bound) = entry.bound() {
            let payload = self.log.payload_at(bound.offset()).ok_or(Unfit)?;
            match serde_json::from_slice(&payload).map_err(|_| Unfit)? {
                LeaseRecord::Bound { attempt, container, holder } if attempt == grant.attempt => {
                    (grant.container, grant.holder) = (container, Some(holder));
                }
                _ => return Err(Unfit),
            }
        }
        Ok(grant)
    }

    /// The grant whose record stands there.
    fn granted_at(&self, place: Place) -> Result<Arc<Grant>, Unfit> {
        let offset = place.offset();
        if let Some(grant) = self.parsed.borrow().get(&offset) {
            return Ok(grant.clone());
        }
        // Behind the end known, another writer's unfinished append may be cut and written over.
        let payload = self.log.payload_at(offset).filter(|_| offset < self.log.link.end).ok_or(Unfit)?;
        match serde_json::from_slice(&payload).map_err(|_| Unfit)? {
            LeaseRecord::Granted(grant) => {
                let grant = Arc::new(grant);
                let mut parsed = self.parsed.borrow_mut();
                if parsed.len() >= PARSED {
                    parsed.clear();
                }
                parsed.insert(offset, grant.clone());
                Ok(grant)
            }
            _ => Err(Unfit),
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
        let live = self.index.head.live;
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

    /// The live grants that `interest` covers, or all of them. For the holder of the lock: nobody else changes the index.
    pub(crate) fn table(
        &self,
        disk: &dyn Disk,
        interest: Option<&Interest<'_>>,
    ) -> Result<LeaseTable, JournalError> {
        if !self.unfit.get()
            && let Ok(table) = self.look(interest)
        {
            return Ok(table);
        }
        self.unfit.set(true);
        Self::folded_table(disk, &self.log.name, interest)
    }

    /// The same for anybody, without the lock; `open` opens the log with so much of its index. Also what was opened, if the next
    /// look can go on from there.
    pub(crate) fn look_unlocked(
        disk: &dyn Disk,
        name: &str,
        open: impl Fn(usize) -> Result<Opened, JournalError>,
        interest: Option<&Interest<'_>>,
    ) -> Result<(LeaseTable, Option<Self>), JournalError> {
        for (again, pause) in PAUSES.into_iter().enumerate() {
            if pause > 0 {
                disk.pause(Duration::from_millis(pause));
            }
            // The less time passes between one read and the next, the less often does a writer come in between.
            let ahead = if again == 0 { AHEAD } else { FAR_AHEAD };
            match open(ahead)? {
                Opened::Nothing => return Ok((LeaseTable::default(), None)),
                Opened::Indexed(leases) => {
                    // What the head proves goes together, whatever others write meanwhile.
                    if let Ok(table) = leases.look(interest) {
                        return Ok((table, Some(*leases)));
                    }
                }
                // Nobody is writing one.
                Opened::Unindexed(rest) if rest.file.is_none() => {
                    return Ok((rest.fold(disk)?.table(disk, interest)?, None));
                }
                Opened::Unindexed(_) => {}
            }
        }
        let leases = Self::load(disk, name, false)?;
        let table = leases.map(|leases| leases.table(disk, interest)).transpose()?;
        Ok((table.unwrap_or_default(), None))
    }

    /// The same by the log alone.
    fn folded_table(
        disk: &dyn Disk,
        name: &str,
        interest: Option<&Interest<'_>>,
    ) -> Result<LeaseTable, JournalError> {
        let Some(leases) = Self::from_beginning(disk, name)? else {
            return Ok(LeaseTable::default());
        };
        leases.look(interest).map_err(|Unfit| {
            let (file, offset) = (disk.path().join(name), leases.log.link.end);
            JournalError::Damaged { file, offset, reason: "the file changes while it is read", copy: None }
        })
    }

    fn look(&self, interest: Option<&Interest<'_>>) -> Result<LeaseTable, Unfit> {
        let Some(interest) = interest else { return self.everything() };
        let mut grants = BTreeMap::new();
        for place in self.places(interest)? {
            let granted = self.granted_at(place)?;
            let key = Key::attempt(self.index.head.salt, &granted.attempt);
            let found = self.index.find(self.file.as_deref(), key)?;
            let entry = found.into_iter().find(|entry| entry.grant() == place).ok_or(Unfit)?;
            let grant = self.grant(entry)?;
            if interest.covers(&grant) {
                grants.insert(grant.attempt.clone(), grant);
            }
        }
        Ok(grants.into_values().collect())
    }

    /// Where the grants stand that `interest` may cover.
    fn places(&self, interest: &Interest<'_>) -> Result<BTreeSet<Place>, Unfit> {
        let (salt, file) = (self.index.head.salt, self.file.as_deref());
        let mut found = BTreeSet::new();
        for id in interest.volumes {
            let [holder, sharer, number] = volume_keys(salt, id.tenant.as_str(), id.name.as_str());
            found.extend(self.index.find(file, holder)?.into_iter().map(Entry::grant));
            if !interest.but_sharers {
                found.extend(self.index.sharers(file, sharer, number)?.into_iter().map(Entry::grant));
            }
        }
        let keys = interest.container.map(|id| Key::container(salt, id.as_str()));
        let keys = keys.into_iter().chain(interest.attempts.iter().map(|text| Key::attempt(salt, text)));
        for key in keys {
            found.extend(self.index.find(file, key)?.into_iter().map(Entry::grant));
        }
        Ok(found)
    }

    /// All live grants.
    fn everything(&self) -> Result<LeaseTable, Unfit> {
        let entries = self.index.entries(self.file.as_deref())?;
        let attempts = entries.iter().filter(|entry| entry.key.is(Kind::Attempt));
        let grants: Vec<Grant> = attempts.map(|entry| self.grant(*entry)).collect::<Result<_, _>>()?;
        if grants.len() as u64 == self.index.head.live {
            Ok(grants.into_iter().collect())
        } else {
            Err(Unfit)
        }
    }

    /// Takes records into account that were appended, one after the other from `at` on, and writes the index down. A failure of
    /// that is nobody's concern: whoever comes next folds what the index does not know of.
    pub(crate) fn appended(&mut self, disk: &dyn Disk, at: u64, records: &[Encoded]) {
        let Some(header) = self.log.header else { return };
        if self.index.head.log_chain != header.chain {
            self.index = Index::empty(header.chain, Link::first(header), self.index.head.salt);
        }
        let mut offset = at;
        let mut taken = if self.unfit.get() { Err(Miss::Unfit) } else { Ok(()) };
        for Encoded { payload, changes, .. } in records {
            if let Some(record) = changes {
                taken = taken.and_then(|()| Ok(self.take(offset, record)?));
            }
            offset += frame_size(payload);
        }
        if taken.is_err() {
            let log = Log::open(disk, &self.log.name, FileKind::Leases, false);
            let folded = log.ok().flatten().map(|log| Self::folded(disk, log, None, draw(), u64::MAX));
            let Some(Ok(folded)) = folded else {
                self.unfit.set(true);
                return;
            };
            (self.index, self.parsed) = (folded.index, folded.parsed);
            self.unfit.set(false);
        }
        if self.file.is_none() {
            self.file = create_or_open(disk, &index_name(&self.log.name)).ok();
        }
        if let Some(file) = &self.file {
            let _ = self.index.store(&**file, self.log.link);
        }
    }

    /// Compares the index of the log called `name` with the log, entry by entry: for those who check a journal, not for those who
    /// use it.
    pub(crate) fn check_index(disk: &dyn Disk, name: &str) -> IndexState {
        let mut state = IndexState::Unknown;
        for pause in PAUSES {
            if pause > 0 {
                disk.pause(Duration::from_millis(pause));
            }
            state = Self::compare(disk, name);
            // Anything else can be a writer at work.
            if matches!(state, IndexState::Missing | IndexState::Agrees) {
                break;
            }
        }
        state
    }

    fn compare(disk: &dyn Disk, name: &str) -> IndexState {
        let Ok(file) = disk.open(&index_name(name), false) else { return IndexState::Unknown };
        let Some(file) = file else { return IndexState::Missing };
        let log = match Log::open(disk, name, FileKind::Leases, false) {
            Ok(Some(log)) => log,
            Ok(None) => return IndexState::Missing,
            Err(_) => return IndexState::Unknown,
        };
        let chain = log.header.map_or(0, |header| header.chain);
        // Whoever made it was killed, or found no room.
        if file.size().is_ok_and(|size| size == 0) {
            return IndexState::Missing;
        }
        let Some(index) = Top::read(&*file, AHEAD).and_then(|top| top.index(&*file, chain)) else {
            return IndexState::Unusable;
        };
        let Ok(found) = index.entries(Some(&*file)) else { return IndexState::Unusable };
        let Ok(folded) = Self::folded(disk, log, None, index.head.salt, index.head.link.end) else {
            return IndexState::Unknown;
        };
        let Ok(expected) = folded.index.entries(None) else { return IndexState::Unknown };
        let (found, expected): (BTreeSet<_>, BTreeSet<_>) =
            (found.into_iter().collect(), expected.into_iter().collect());
        let same = found == expected
            && index.head.live == folded.index.head.live
            && index.head.link == folded.log.link;
        if same { IndexState::Agrees } else { IndexState::Disagrees }
    }
}

/// Whether an index says of the log called `name` that something was appended to it.
pub(crate) fn was_begun(disk: &dyn Disk, name: &str) -> bool {
    last_indexed(disk, name).is_some()
}

/// The sequence number of the last record of the log called `name`, as its index knows it.
pub(crate) fn last_indexed(disk: &dyn Disk, name: &str) -> Option<u64> {
    let file = disk.open(&index_name(name), false).ok()??;
    Some(Top::read(&*file, AHEAD)?.head.link.sequence)
}

/// How far the log was noted to go at its last append.
pub(crate) fn noted_end(disk: &dyn Disk, log: &Log) -> Option<u64> {
    let file = disk.open(&index_name(&log.name), false).ok()??;
    Top::read(&*file, AHEAD)?.noted_end(log)
}

/// An entry, and what counts it if it is a sharer's.
struct Added {
    entry: Entry,
    number: Option<Key>,
}

/// What leads to a grant.
fn entries(salt: u64, place: Place, grant: &Grant, bound: Option<Place>) -> Vec<Added> {
    let attempt = Entry::of_attempt(Key::attempt(salt, &grant.attempt), place, bound);
    let container = Entry::to(Key::container(salt, grant.container.as_str()), place);
    let mut all = vec![Added { entry: attempt, number: None }, Added { entry: container, number: None }];
    let mut known = BTreeSet::new();
    for lease in &grant.leases {
        let id = &lease.volume;
        let [holder, sharer, number] = volume_keys(salt, id.tenant.as_str(), id.name.as_str());
        let (key, number) = if is_sharer(lease) { (sharer, Some(number)) } else { (holder, None) };
        if known.insert(key) {
            all.push(Added { entry: Entry::to(key, place), number });
        }
    }
    all
}

/// Whether a lease is in nobody's way but of those who want the volume for themselves, or to be its only writer.
pub(crate) fn is_sharer(lease: &LeasedVolume) -> bool {
    match lease.sharing {
        Sharing::Shared => true,
        Sharing::SingleWriter => lease.access == Access::ReadOnly,
        Sharing::Exclusive => false,
    }
}

fn collect(batch: &mut Vec<Framed>, until: u64, offset: u64, payload: &[u8]) -> Next {
    if batch.len() == BATCH || offset >= until {
        return Next::Stop;
    }
    batch.push((offset, payload.to_vec()));
    Next::Go
}

pub(crate) fn frame_size(payload: &[u8]) -> u64 {
    (FRAME + payload.len().next_multiple_of(8)) as u64
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
