//! The index of a log: which of its frames say what is held. Looked up bucket by bucket, and brought up to date with every append.
//!
//! It is derived and disposable: whatever is wrong with it is [`Unfit`], and the log is folded instead. Nothing in it is believed
//! that its head's sums do not prove, neither what it lists nor that it lists nothing else.

pub(crate) mod layout;

use crate::codec::Link;
use crate::disk::DiskFile;
use crate::log::Log;
use layout::BUCKET;
use layout::Bucket;
use layout::Entry;
use layout::FEW;
use layout::HEAD;
use layout::Head;
use layout::Key;
use layout::Kind;
use layout::PER_BUCKET;
use layout::SPREAD;
use layout::decode_sums;
use layout::encode_sums;
use layout::share;
use layout::total;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::io;
use std::ops::RangeInclusive;

/// How much of the file is read at once when it was just opened: all of a small one, which is also written at once, so that who
/// reads it without the lock seldom meets half of a change.
pub(crate) const AHEAD: usize = 16 << 10;

/// The name of the index of the log called `log`.
pub(crate) fn index_name(log: &str) -> String {
    format!("{log}.index")
}

/// The index cannot be used: it is torn, of another log, of another time in parts, or not what it says. Never an error by itself,
/// because the log tells the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfit;

impl From<io::Error> for Unfit {
    /// If the disk is at fault, folding the log says so.
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// The beginning of an index file.
pub(crate) struct Top {
    pub(crate) head: Head,
    /// The file's first bytes.
    bytes: Vec<u8>,
}

impl Top {
    /// Reads so many bytes at once. `None` when there is no head that proves itself.
    pub(crate) fn read(file: &dyn DiskFile, ahead: usize) -> Option<Self> {
        let mut bytes = vec![0; ahead];
        let read = file.read_at(&mut bytes, 0).ok()?;
        bytes.truncate(read);
        Some(Self { head: Head::decode(&bytes)?, bytes })
    }

    /// How far `log` went at its last append, or any log of its name if its header is gone.
    pub(crate) fn noted_end(&self, log: &Log) -> Option<u64> {
        let Head { log_chain, link, .. } = self.head;
        log.header.is_none_or(|header| header.chain == log_chain).then_some(link.end)
    }

    /// The index in `file`, of which this is the beginning, if it is of the log with this header.
    pub(crate) fn index(mut self, file: &dyn DiskFile, log_chain: u32) -> Option<Index> {
        let head = self.head;
        if head.log_chain != log_chain {
            return None;
        }
        let missing = head.length().saturating_sub(self.bytes.len());
        if missing > 0 {
            // Room is only made for what is there.
            if file.size().ok()? < head.end() {
                return None;
            }
            let at = self.bytes.len();
            self.bytes.resize(head.length(), 0);
            file.read_at(&mut self.bytes[at..], at as u64).ok()?;
        }
        let sums = decode_sums(&self.bytes[HEAD..], &head)?;
        Some(Index {
            head,
            sums,
            ahead: self.bytes,
            known: RefCell::default(),
            changed: BTreeSet::new(),
            anew: false,
        })
    }
}

/// An index, as far as it was read, with what was changed in it.
pub(crate) struct Index {
    pub(crate) head: Head,
    /// The sum of each bucket as it is in the file, or will be once this is stored.
    sums: Vec<u64>,
    /// The file's beginning, as it was when `head` counted.
    ahead: Vec<u8>,
    known: RefCell<BTreeMap<u32, Bucket>>,
    changed: BTreeSet<u32>,
    /// Whether all of it has to be written: then all buckets are known.
    anew: bool,
}

impl Index {
    /// The index of a log in which nothing is held, up to `link`.
    pub(crate) fn empty(log_chain: u32, link: Link, salt: u64) -> Self {
        let mut index = Self {
            head: Head { log_chain, salt, link, buckets: 1, entries: 0, live: 0, total: 0 },
            sums: Vec::new(),
            ahead: Vec::new(),
            known: RefCell::default(),
            changed: BTreeSet::new(),
            anew: true,
        };
        index.lay_out(1, Vec::new());
        index
    }

    /// Whether what is known here is what stands in the file.
    pub(crate) fn is_stored(&self) -> bool {
        self.changed.is_empty() && !self.anew
    }

    /// The same index, all of which is in its file, with a newer head and its sums. What is known of buckets that did not change
    /// since stays known.
    pub(crate) fn renewed(self, newer: Self) -> Self {
        let same = newer.head.buckets == self.head.buckets && newer.head.salt == self.head.salt;
        let mut known = self.known.into_inner();
        known.retain(|number, _| {
            let place = *number as usize;
            same && self.sums.get(place) == newer.sums.get(place)
        });
        Self { known: RefCell::new(known), ..newer }
    }

    /// The entries with this key. `file` is the one that this was read from, if it was.
    pub(crate) fn find(&self, file: Option<&dyn DiskFile>, key: Key) -> Result<Vec<Entry>, Unfit> {
        let mut found = Vec::new();
        self.search(file, key.home(0, self.head.buckets), |entry| {
            if entry.key == key {
                found.push(entry);
            }
        })?;
        Ok(found)
    }

    /// The entries of those who share the volume of both keys: `key` with the kind of sharers, `number` with that of their number.
    pub(crate) fn sharers(
        &self,
        file: Option<&dyn DiskFile>,
        key: Key,
        number: Key,
    ) -> Result<BTreeSet<Entry>, Unfit> {
        let mut found = BTreeSet::new();
        let Some(number) = self.find(file, number)?.first().map(|entry| entry.value) else {
            return Ok(found);
        };
        for part in 0..SPREAD {
            if found.len() == number as usize {
                break;
            }
            self.search(file, key.home(part, self.head.buckets), |entry| {
                if entry.key == key {
                    found.insert(entry);
                }
            })?;
        }
        if found.len() == number as usize { Ok(found) } else { Err(Unfit) }
    }

    /// Shows all entries that may belong into the bucket `home`.
    fn search(
        &self,
        file: Option<&dyn DiskFile>,
        home: u32,
        mut each: impl FnMut(Entry),
    ) -> Result<(), Unfit> {
        for number in walk(home, self.head.buckets) {
            let spilled = self.with_bucket(file, number, |bucket| {
                bucket.entries().for_each(&mut each);
                bucket.spilled()
            })?;
            if !spilled {
                break;
            }
        }
        Ok(())
    }

    fn with_bucket<T>(
        &self,
        file: Option<&dyn DiskFile>,
        number: u32,
        act: impl FnOnce(&mut Bucket) -> T,
    ) -> Result<T, Unfit> {
        let mut known = self.known.borrow_mut();
        if let Some(bucket) = known.get_mut(&number) {
            return Ok(act(bucket));
        }
        let sum = *self.sums.get(number as usize).ok_or(Unfit)?;
        let offset = self.head.bucket_offset(number);
        let at = usize::try_from(offset).map_err(|_| Unfit)?;
        let bucket = match self.ahead.get(at..).and_then(|bytes| bytes.first_chunk()) {
            Some(bytes) => Bucket::decode(bytes, sum, self.head.salt),
            None => {
                let mut bytes = [0; BUCKET];
                file.ok_or(Unfit)?.read_at(&mut bytes, offset)?;
                Bucket::decode(&bytes, sum, self.head.salt)
            }
        };
        Ok(act(known.entry(number).or_insert(bucket.ok_or(Unfit)?)))
    }

    /// All entries.
    pub(crate) fn entries(&self, file: Option<&dyn DiskFile>) -> Result<Vec<Entry>, Unfit> {
        let mut all = Vec::new();
        for number in 0..self.head.buckets {
            self.with_bucket(file, number, |bucket| all.extend(bucket.entries()))?;
        }
        if all.len() as u64 == self.head.entries { Ok(all) } else { Err(Unfit) }
    }

    /// Adds an entry, which is not one of many sharers.
    pub(crate) fn insert(&mut self, file: Option<&dyn DiskFile>, entry: Entry) -> Result<(), Unfit> {
        let [home, _] = entry.homes(self.head.buckets);
        self.insert_at(file, entry, home)
    }

    /// Adds one of so many sharers.
    pub(crate) fn insert_sharer(
        &mut self,
        file: Option<&dyn DiskFile>,
        entry: Entry,
        number: u32,
    ) -> Result<(), Unfit> {
        let [few, many] = entry.homes(self.head.buckets);
        self.insert_at(file, entry, if number <= FEW { few } else { many })
    }

    fn insert_at(&mut self, file: Option<&dyn DiskFile>, entry: Entry, home: u32) -> Result<(), Unfit> {
        for number in walk(home, self.head.buckets) {
            let (added, changed) = self.with_bucket(file, number, |bucket| {
                let added = bucket.push(entry);
                let spills = !added && !bucket.spilled();
                if spills {
                    bucket.spill();
                }
                (added, added || spills)
            })?;
            if changed {
                self.changed.insert(number);
            }
            if added {
                self.head.entries += 1;
                return self.resize(file);
            }
        }
        Err(Unfit)
    }

    /// Takes an entry away, which is there.
    pub(crate) fn remove(&mut self, file: Option<&dyn DiskFile>, entry: Entry) -> Result<(), Unfit> {
        self.change(file, entry, Bucket::remove)?;
        self.head.entries = self.head.entries.checked_sub(1).ok_or(Unfit)?;
        self.resize(file)
    }

    /// Puts another entry of the same key in the place of one.
    pub(crate) fn replace(
        &mut self,
        file: Option<&dyn DiskFile>,
        entry: Entry,
        by: Entry,
    ) -> Result<(), Unfit> {
        self.change(file, entry, |bucket, place| bucket.replace(place, by))
    }

    fn change(
        &mut self,
        file: Option<&dyn DiskFile>,
        entry: Entry,
        act: impl Fn(&mut Bucket, usize),
    ) -> Result<(), Unfit> {
        let [few, many] = entry.homes(self.head.buckets);
        let changed = self.change_at(file, entry, few, &act)?
            || many != few && self.change_at(file, entry, many, &act)?;
        if changed { Ok(()) } else { Err(Unfit) }
    }

    /// The same where the search begins there; `false` if it is not found.
    fn change_at(
        &mut self,
        file: Option<&dyn DiskFile>,
        entry: Entry,
        home: u32,
        act: &impl Fn(&mut Bucket, usize),
    ) -> Result<bool, Unfit> {
        for number in walk(home, self.head.buckets) {
            let (done, spilled) = self.with_bucket(file, number, |bucket| {
                let place = bucket.entries().position(|there| there == entry);
                place.map(|place| act(bucket, place)).map_or((false, bucket.spilled()), |()| (true, false))
            })?;
            if done {
                self.changed.insert(number);
                return Ok(true);
            }
            if !spilled {
                break;
            }
        }
        Ok(false)
    }

    /// Counts a grant that came or went.
    pub(crate) fn count(&mut self, live: i64) -> Result<(), Unfit> {
        self.head.live = self.head.live.checked_add_signed(live).ok_or(Unfit)?;
        Ok(())
    }

    /// Has as many buckets as suit the number of entries.
    fn resize(&mut self, file: Option<&dyn DiskFile>) -> Result<(), Unfit> {
        if comfortable(self.head.buckets).contains(&self.head.entries) {
            return Ok(());
        }
        let entries = self.entries(file)?;
        // A third of their room is taken then.
        let buckets = u32::try_from(entries.len() * 3 / PER_BUCKET + 1).map_err(|_| Unfit)?;
        self.lay_out(buckets, entries);
        Ok(())
    }

    fn lay_out(&mut self, buckets: u32, entries: Vec<Entry>) {
        let mut known: Vec<Bucket> = (0..buckets).map(|_| Bucket::default()).collect();
        self.head.entries = entries.len() as u64;
        let mut sharers: HashMap<Key, u32> = HashMap::new();
        for entry in entries.iter().filter(|entry| entry.key.is(Kind::Sharer)) {
            *sharers.entry(entry.key).or_default() += 1;
        }
        for entry in entries {
            let [few, many] = entry.homes(buckets);
            let is_one_of_many = sharers.get(&entry.key).is_some_and(|number| *number > FEW);
            for number in walk(if is_one_of_many { many } else { few }, buckets) {
                let bucket = &mut known[number as usize];
                if bucket.push(entry) {
                    break;
                }
                bucket.spill();
            }
        }
        let salt = self.head.salt;
        self.sums = known.iter().map(|bucket| bucket.sum(salt)).collect();
        self.head = Head { buckets, total: total(&self.sums), ..self.head };
        *self.known.get_mut() = (0..).zip(known).collect();
        self.ahead = Vec::new();
        self.changed.clear();
        self.anew = true;
    }

    /// Writes down what was changed: the index is then one of the log up to `link`. Killed in here, this leaves buckets that the
    /// head's sums do not prove. After a failure the next call writes all of it once more.
    pub(crate) fn store(&mut self, file: &dyn DiskFile, link: Link) -> io::Result<()> {
        self.head.link = link;
        let whole = self.anew || self.head.end() <= AHEAD as u64;
        if whole {
            // What was read with the head need not be read again.
            let _ = (0..self.head.buckets).try_for_each(|number| self.with_bucket(None, number, |_| ()));
        }
        let known = self.known.get_mut();
        for number in &self.changed {
            let (Some(bucket), Some(sum)) = (known.get(number), self.sums.get_mut(*number as usize)) else {
                continue;
            };
            let total = self.head.total.wrapping_sub(share(*number, *sum));
            *sum = bucket.sum(self.head.salt);
            self.head.total = total.wrapping_add(share(*number, *sum));
        }
        let mut bytes: Vec<u8> = self.head.encode().into_iter().chain(encode_sums(&self.sums)).collect();
        if whole && known.len() == self.sums.len() {
            bytes.extend(known.values().flat_map(Bucket::bytes));
            file.write_at(&bytes, 0)?;
            if self.anew && file.size()? > self.head.end() {
                file.set_len(self.head.end())?;
            }
        } else {
            for number in &self.changed {
                if let Some(bucket) = known.get(number) {
                    file.write_at(bucket.bytes(), self.head.bucket_offset(*number))?;
                }
            }
            file.write_at(&bytes, 0)?;
        }
        // What stands there now is what is known, not what was read.
        self.ahead = Vec::new();
        self.changed.clear();
        self.anew = false;
        Ok(())
    }
}

/// How many entries so many buckets are right for: more would spill, fewer be a waste.
fn comfortable(buckets: u32) -> RangeInclusive<u64> {
    let room = u64::from(buckets) * PER_BUCKET as u64;
    let fewest = if buckets > 1 { room / 20 } else { 0 };
    fewest..=room * 6 / 10
}

/// The buckets in the order in which they are searched.
fn walk(home: u32, buckets: u32) -> impl Iterator<Item = u32> {
    (home..buckets).chain(0..home)
}

/// A number that nobody can guess.
pub(crate) fn draw() -> u64 {
    RandomState::new().hash_one(0)
}

/// The keys of the three kinds about a volume: holders, sharers, their number.
pub(crate) fn volume_keys(salt: u64, tenant: &str, name: &str) -> [Key; 3] {
    [Kind::Holder, Kind::Sharer, Kind::Sharers].map(|kind| Key::volume(salt, kind, tenant, name))
}
