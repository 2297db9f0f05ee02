//! The bytes of an index file: its head with a sum for each bucket, and the buckets.
//!
//! Pure functions over bytes; the layout is described in the crate documentation.

use crate::codec::Link;
use crate::sum::crc32c;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The version of this layout. A file of another one is ignored and written anew.
const VERSION: u32 = 3;
const MAGIC: [u8; 8] = *b"VOLHOOKX";
/// No file gets this long, and no number this high by counting.
const FARTHEST: u64 = u64::MAX / 2;
/// A head without its sums.
pub(crate) const HEAD: usize = 96;
const SUM: usize = 8;
pub(crate) const BUCKET: usize = 2048;
const BUCKET_HEAD: usize = 16;
const ENTRY: usize = 16;
/// How many entries a bucket holds.
pub(crate) const PER_BUCKET: usize = (BUCKET - BUCKET_HEAD) / ENTRY;
/// Offsets of frames are counted in these.
const WORD: u64 = 8;
/// Over how many buckets those who merely share a volume are spread, where they are more than a few.
pub(crate) const SPREAD: u32 = 32;
/// So many stand where their number does.
pub(crate) const FEW: u32 = 8;

/// What an entry leads from and to. The number is the hash's lowest four bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From an attempt to its grant and its newest binding.
    Attempt = 0,
    /// From a container to a grant of it.
    Container = 1,
    /// From a volume to a grant that holds it and is in somebody's way.
    Holder = 2,
    /// From a volume to a grant that holds it and is in nobody's way but of those who want it for themselves.
    Sharer = 3,
    /// How many of the latter a volume has.
    Sharers = 4,
}

/// The hash of an attempt, volume or container, and what is looked for by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(u64);

impl Key {
    /// The salt is secret: whoever may choose names must not be able to fill one bucket with them.
    fn new(salt: u64, kind: Kind, parts: [&str; 2]) -> Self {
        let mut hasher = SipHasher13::new_with_keys(salt, !salt);
        for part in parts {
            hasher.write(part.as_bytes());
            hasher.write(&[0]);
        }
        Self(hasher.finish() & !15 | kind as u64)
    }

    pub(crate) fn attempt(salt: u64, attempt: &str) -> Self {
        Self::new(salt, Kind::Attempt, [attempt, ""])
    }

    pub(crate) fn container(salt: u64, id: &str) -> Self {
        Self::new(salt, Kind::Container, [id, ""])
    }

    /// One of the three kinds about volumes.
    pub(crate) fn volume(salt: u64, kind: Kind, tenant: &str, name: &str) -> Self {
        Self::new(salt, kind, [tenant, name])
    }

    pub(crate) fn is(self, kind: Kind) -> bool {
        self.0 & 15 == kind as u64
    }

    /// The bucket in which the search for it begins. Sharers of one volume have `SPREAD` of these, one of which each part leads to.
    pub(crate) fn home(self, part: u32, buckets: u32) -> u32 {
        let hash = (self.0 & !15) ^ u64::from(part % SPREAD).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = (u128::from(hash) * u128::from(buckets)) >> 64;
        u32::try_from(place).expect("a fraction of a number of buckets")
    }
}

/// Where a frame stands in the log: its offset in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place(u32);

impl Place {
    /// `None` for the log's beginning, where no frame stands, and beyond what can be said.
    pub(crate) fn of(offset: u64) -> Option<Self> {
        let words = u32::try_from(offset / WORD).ok()?;
        (words > 0 && offset.is_multiple_of(WORD)).then_some(Self(words))
    }

    pub(crate) fn offset(self) -> u64 {
        u64::from(self.0) * WORD
    }
}

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    /// The grant's frame; of a number of sharers, the number.
    pub(crate) value: u32,
    /// The frame of an attempt's newest binding, or 0.
    pub(crate) bound: u32,
}

impl Entry {
    pub(crate) fn of_attempt(key: Key, grant: Place, bound: Option<Place>) -> Self {
        Self { key, value: grant.0, bound: bound.map_or(0, |place| place.0) }
    }

    pub(crate) fn to(key: Key, grant: Place) -> Self {
        Self { key, value: grant.0, bound: 0 }
    }

    pub(crate) fn number(key: Key, number: u32) -> Self {
        Self { key, value: number, bound: 0 }
    }

    pub(crate) fn grant(self) -> Place {
        Place(self.value)
    }

    pub(crate) fn bound(self) -> Option<Place> {
        (self.bound > 0).then_some(Place(self.bound))
    }

    /// The buckets in which it may belong: one of a few sharers and anything else in the first, one of many in the second.
    pub(crate) fn homes(self, buckets: u32) -> [u32; 2] {
        let part = if self.key.is(Kind::Sharer) { self.value } else { 0 };
        [0, part].map(|part| self.key.home(part, buckets))
    }
}

/// What an index file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The checksum of the log's header: which file this is an index of.
    pub(crate) log_chain: u32,
    pub(crate) salt: u64,
    /// The end of the log that the entries account for.
    pub(crate) link: Link,
    pub(crate) buckets: u32,
    /// Number of entries.
    pub(crate) entries: u64,
    /// Number of live grants.
    pub(crate) live: u64,
    /// The sum of the buckets' sums, each with its number.
    pub(crate) total: u64,
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.log_chain.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.link.start.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.link.end.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.link.sequence.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.link.chain.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.buckets.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.entries.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.live.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.total.to_le_bytes());
        let sum = crc32c(&bytes[..HEAD - 4]);
        bytes[HEAD - 4..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEAD>()?;
        let whole = bytes[0..8] == MAGIC
            && le_u32(bytes, 8) == VERSION
            && le_u32(bytes, HEAD - 4) == crc32c(&bytes[..HEAD - 4]);
        let head = whole.then(|| Self {
            log_chain: le_u32(bytes, 12),
            salt: le_u64(bytes, 16),
            link: Link {
                start: le_u64(bytes, 24),
                end: le_u64(bytes, 32),
                sequence: le_u64(bytes, 40),
                chain: le_u32(bytes, 48),
            },
            buckets: le_u32(bytes, 52),
            entries: le_u64(bytes, 56),
            live: le_u64(bytes, 64),
            total: le_u64(bytes, 72),
        });
        head.filter(Self::is_plausible)
    }

    /// Whether its numbers can be counted on with: a right checksum does not say that they were ever right.
    fn is_plausible(&self) -> bool {
        let places = [self.link.start, self.link.end, self.link.sequence];
        places.iter().all(|place| *place <= FARTHEST)
            && self.buckets > 0
            && self.live <= self.entries
            && self.entries <= self.room()
    }

    /// How many entries the buckets have room for.
    pub(crate) fn room(&self) -> u64 {
        u64::from(self.buckets) * PER_BUCKET as u64
    }

    /// The length of the head with its sums; the first bucket stands behind it.
    pub(crate) fn length(&self) -> usize {
        HEAD + self.buckets as usize * SUM
    }

    pub(crate) fn bucket_offset(&self, number: u32) -> u64 {
        self.length() as u64 + u64::from(number) * BUCKET as u64
    }

    /// Offset of the end of the last bucket.
    pub(crate) fn end(&self) -> u64 {
        self.bucket_offset(self.buckets)
    }
}

/// The sums behind a head.
pub(crate) fn encode_sums(sums: &[u64]) -> impl Iterator<Item = u8> + '_ {
    sums.iter().flat_map(|sum| sum.to_le_bytes())
}

/// The sums behind `head`, at the beginning of `bytes`, if they are those that it speaks of.
pub(crate) fn decode_sums(bytes: &[u8], head: &Head) -> Option<Vec<u64>> {
    let bytes = bytes.get(..head.length() - HEAD)?;
    let sums: Vec<u64> = bytes.chunks_exact(SUM).map(|sum| le_u64(sum, 0)).collect();
    (total(&sums) == head.total).then_some(sums)
}

/// What a bucket with this sum adds to the total.
pub(crate) fn share(number: u32, sum: u64) -> u64 {
    let mixed = sum ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

pub(crate) fn total(sums: &[u64]) -> u64 {
    sums.iter().zip(0..).fold(0, |total, (sum, number)| total.wrapping_add(share(number, *sum)))
}

/// A bucket: its bytes, as they stand in the file.
#[derive(Clone)]
pub(crate) struct Bucket(Box<[u8; BUCKET]>);

impl Default for Bucket {
    fn default() -> Self {
        Self(Box::new([0; BUCKET]))
    }
}

impl Bucket {
    /// The bucket in these bytes, if they are those that this was the sum of.
    pub(crate) fn decode(bytes: &[u8; BUCKET], sum: u64, salt: u64) -> Option<Self> {
        let bucket = Self(Box::new(*bytes));
        (bucket.count() <= PER_BUCKET && bucket.sum(salt) == sum).then_some(bucket)
    }

    pub(crate) fn bytes(&self) -> &[u8; BUCKET] {
        &self.0
    }

    pub(crate) fn sum(&self, salt: u64) -> u64 {
        // What stands behind the last entry is zeros.
        xxh3_64_with_seed(&self.0[..BUCKET_HEAD + self.len() * ENTRY], salt)
    }

    fn count(&self) -> usize {
        usize::from(u16::from_le_bytes([self.0[0], self.0[1]]))
    }

    pub(crate) fn len(&self) -> usize {
        self.count().min(PER_BUCKET)
    }

    fn set_len(&mut self, length: usize) {
        let length = u16::try_from(length).expect("a bucket's room is less than this");
        self.0[0..2].copy_from_slice(&length.to_le_bytes());
    }

    /// Whether entries that belong here may stand in the next bucket.
    pub(crate) fn spilled(&self) -> bool {
        self.0[2] != 0
    }

    pub(crate) fn spill(&mut self) {
        self.0[2] = 1;
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.0[BUCKET_HEAD..].chunks_exact(ENTRY).take(self.len()).map(|bytes| Entry {
            key: Key(le_u64(bytes, 0)),
            value: le_u32(bytes, 8),
            bound: le_u32(bytes, 12),
        })
    }

    /// Adds an entry; `false` when there is no room.
    pub(crate) fn push(&mut self, entry: Entry) -> bool {
        let length = self.len();
        if length == PER_BUCKET {
            return false;
        }
        self.put(length, Some(entry));
        self.set_len(length + 1);
        true
    }

    /// Takes the entry at `place` away.
    pub(crate) fn remove(&mut self, place: usize) {
        let last = self.len().saturating_sub(1);
        let moved = self.entries().nth(last);
        self.put(place, moved);
        self.put(last, None);
        self.set_len(last);
    }

    pub(crate) fn replace(&mut self, place: usize, entry: Entry) {
        self.put(place, Some(entry));
    }

    fn put(&mut self, place: usize, entry: Option<Entry>) {
        let bytes = &mut self.0[BUCKET_HEAD + place * ENTRY..][..ENTRY];
        bytes.fill(0);
        if let Some(entry) = entry {
            bytes[..8].copy_from_slice(&entry.key.0.to_le_bytes());
            bytes[8..12].copy_from_slice(&entry.value.to_le_bytes());
            bytes[12..].copy_from_slice(&entry.bound.to_le_bytes());
        }
    }
}

fn le_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn le_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
