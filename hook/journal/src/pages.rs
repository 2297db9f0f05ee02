//! The bytes of a checkpoint file: its two headers, the mark of the log's end, and its pages.
//!
//! Pure functions over bytes; the layout is described in the crate documentation.

use crate::codec::Link;
use crate::sum::crc32c;
use crate::sum::crc32c_of_both;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// The version of this layout. A file of another one is ignored and written anew.
const VERSION: u32 = 2;
/// No file gets this long, and no number this high by counting.
const FARTHEST: u64 = u64::MAX / 2;
const MAGIC: [u8; 8] = *b"VOLHOOKI";
pub(crate) const HEAD: usize = 128;
/// Where the mark of the log's end stands: behind both headers.
pub(crate) const SEEN_AT: u64 = 2 * HEAD as u64;
pub(crate) const SEEN: usize = 32;
/// Where the first page may stand.
pub(crate) const PAGES_AT: u64 = 1024;
pub(crate) const PAGE: usize = 1024;
const PAGE_HEAD: usize = 32;
const ENTRY: usize = 16;
/// How many entries a page holds.
pub(crate) const PER_PAGE: usize = (PAGE - PAGE_HEAD) / ENTRY;

/// What an entry of the checkpoint leads from and to. The number is the hash's lowest two bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From an attempt to its grant.
    Attempt = 0,
    /// From a volume to a grant that holds it.
    Volume = 1,
    /// From a container to a grant of it.
    Container = 2,
    /// From an attempt to its newest binding. Stands in the same page as the attempt.
    Bound = 3,
}

/// The hash of an attempt, volume or container, and which of them it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(u64);

impl Key {
    /// The salt is secret: whoever may choose names must not be able to fill one page with them.
    fn new(salt: u64, kind: Kind, parts: [&str; 2]) -> Self {
        let mut hasher = SipHasher13::new_with_keys(salt, !salt);
        for part in parts {
            hasher.write(part.as_bytes());
            hasher.write(&[0]);
        }
        let tag = if kind == Kind::Bound { Kind::Attempt } else { kind };
        hasher.write(&[tag as u8]);
        Self(hasher.finish() & !3 | kind as u64)
    }

    pub(crate) fn attempt(salt: u64, attempt: &str) -> Self {
        Self::new(salt, Kind::Attempt, [attempt, ""])
    }

    pub(crate) fn bound(salt: u64, attempt: &str) -> Self {
        Self::new(salt, Kind::Bound, [attempt, ""])
    }

    pub(crate) fn volume(salt: u64, tenant: &str, name: &str) -> Self {
        Self::new(salt, Kind::Volume, [tenant, name])
    }

    pub(crate) fn container(salt: u64, id: &str) -> Self {
        Self::new(salt, Kind::Container, [id, ""])
    }

    pub(crate) fn is(self, kind: Kind) -> bool {
        self.0 & 3 == kind as u64
    }

    /// The key of the binding of the attempt with this key.
    pub(crate) fn to_bound(self) -> Self {
        Self(self.0 & !3 | Kind::Bound as u64)
    }

    /// The page in which the search for it begins.
    pub(crate) fn home(self, pages: u32) -> u32 {
        let place = (u128::from(self.0 & !3) * u128::from(pages)) >> 64;
        u32::try_from(place).expect("a fraction of a number of pages")
    }
}

/// One entry: the frame in the log to which a key leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) offset: u64,
}

/// What a checkpoint file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The checksum of the log's header: which file this is a checkpoint of.
    pub(crate) log_chain: u32,
    /// Rises with each header written; its lowest bit says which of the two places it has.
    pub(crate) serial: u64,
    /// Repeated in every page, and drawn anew whenever the pages are laid out anew.
    pub(crate) generation: u64,
    pub(crate) salt: u64,
    /// Offset of the first page.
    pub(crate) area: u64,
    pub(crate) pages: u32,
    /// The place in the log up to which the pages are complete.
    pub(crate) link: Link,
    /// The place in the log up to which the pages may already go; `link.end` when nothing is under way.
    pub(crate) until: u64,
    /// Number of entries.
    pub(crate) entries: u64,
    /// Number of live grants.
    pub(crate) live: u64,
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.log_chain.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.serial.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.generation.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.salt.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.area.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.pages.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.link.chain.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.link.start.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.link.end.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.link.sequence.to_le_bytes());
        bytes[80..88].copy_from_slice(&self.until.to_le_bytes());
        bytes[88..96].copy_from_slice(&self.entries.to_le_bytes());
        bytes[96..104].copy_from_slice(&self.live.to_le_bytes());
        let sum = crc32c(&bytes[..HEAD - 4]);
        bytes[HEAD - 4..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], log_chain: u32) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEAD>()?;
        let whole = bytes[0..8] == MAGIC
            && le_u32(bytes, 8) == VERSION
            && le_u32(bytes, 12) == log_chain
            && le_u32(bytes, HEAD - 4) == crc32c(&bytes[..HEAD - 4]);
        let head = whole.then(|| Self {
            log_chain,
            serial: le_u64(bytes, 16),
            generation: le_u64(bytes, 24),
            salt: le_u64(bytes, 32),
            area: le_u64(bytes, 40),
            pages: le_u32(bytes, 48),
            link: Link {
                chain: le_u32(bytes, 52),
                start: le_u64(bytes, 56),
                end: le_u64(bytes, 64),
                sequence: le_u64(bytes, 72),
            },
            until: le_u64(bytes, 80),
            entries: le_u64(bytes, 88),
            live: le_u64(bytes, 96),
        });
        head.filter(Self::is_plausible)
    }

    /// Whether its numbers can be counted on with: a right checksum does not say that they were ever right.
    fn is_plausible(&self) -> bool {
        let places = [self.serial, self.area, self.link.start, self.link.end, self.link.sequence, self.until];
        places.iter().all(|place| *place <= FARTHEST)
            && self.live <= self.entries
            && self.entries <= self.room()
    }

    /// How many entries the pages have room for.
    pub(crate) fn room(&self) -> u64 {
        u64::from(self.pages) * PER_PAGE as u64
    }

    pub(crate) fn page_offset(&self, number: u32) -> u64 {
        self.area + u64::from(number) * PAGE as u64
    }

    /// Offset of the end of the last page.
    pub(crate) fn end(&self) -> u64 {
        self.page_offset(self.pages)
    }
}

/// How far the log went at its last append, for those who look for damage, or for something new.
pub(crate) fn encode_seen(log_chain: u32, link: Link) -> [u8; SEEN] {
    let mut bytes = [0; SEEN];
    bytes[0..8].copy_from_slice(&link.end.to_le_bytes());
    bytes[8..16].copy_from_slice(&link.sequence.to_le_bytes());
    bytes[16..20].copy_from_slice(&log_chain.to_le_bytes());
    bytes[20..24].copy_from_slice(&link.chain.to_le_bytes());
    let sum = crc32c(&bytes[..SEEN - 4]);
    bytes[SEEN - 4..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// A log's end after an append, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) end: u64,
    pub(crate) sequence: u64,
    /// Checksum of the log's header.
    pub(crate) log_chain: u32,
    /// Chain value of the last frame.
    pub(crate) chain: u32,
}

/// What [`encode_seen`] wrote.
pub(crate) fn decode_seen(bytes: &[u8]) -> Option<Seen> {
    let bytes = bytes.first_chunk::<SEEN>()?;
    let whole = le_u32(bytes, SEEN - 4) == crc32c(&bytes[..SEEN - 4]);
    whole.then(|| Seen {
        end: le_u64(bytes, 0),
        sequence: le_u64(bytes, 8),
        log_chain: le_u32(bytes, 16),
        chain: le_u32(bytes, 20),
    })
}

/// A page of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    /// Whether entries that belong here may stand in the next page.
    pub(crate) spilled: bool,
}

impl Page {
    pub(crate) fn encode(&self, generation: u64, number: u32) -> [u8; PAGE] {
        let mut bytes = [0; PAGE];
        bytes[0..8].copy_from_slice(&generation.to_le_bytes());
        bytes[8..12].copy_from_slice(&number.to_le_bytes());
        bytes[12] = u8::from(self.spilled);
        for (place, entry) in bytes[PAGE_HEAD..].chunks_exact_mut(ENTRY).zip(&self.entries) {
            place[..8].copy_from_slice(&entry.key.0.to_le_bytes());
            place[8..].copy_from_slice(&entry.offset.to_le_bytes());
        }
        let sum = page_sum(&bytes);
        bytes[PAGE_HEAD - 4..PAGE_HEAD].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` when these are not the bytes of this page in this generation.
    pub(crate) fn decode(bytes: &[u8], generation: u64, number: u32) -> Option<Self> {
        scan(bytes, generation, number).map(Self::of)
    }

    /// The page in bytes that proved themselves.
    pub(crate) fn of(bytes: &[u8; PAGE]) -> Self {
        let (entries, spilled) = entries_of(bytes);
        Self { entries: entries.collect(), spilled }
    }
}

/// The bytes of a page; `None` when these are not the bytes of this page in this generation.
pub(crate) fn scan(bytes: &[u8], generation: u64, number: u32) -> Option<&[u8; PAGE]> {
    let bytes = bytes.first_chunk::<PAGE>()?;
    let whole = le_u32(bytes, PAGE_HEAD - 4) == page_sum(bytes)
        && le_u64(bytes, 0) == generation
        && le_u32(bytes, 8) == number;
    whole.then_some(bytes)
}

/// The entries of a page, and whether they spilled into the next.
pub(crate) fn entries_of(bytes: &[u8; PAGE]) -> (impl Iterator<Item = Entry> + '_, bool) {
    let entries = bytes[PAGE_HEAD..]
        .chunks_exact(ENTRY)
        .map(|place| Entry { key: Key(le_u64(place, 0)), offset: le_u64(place, 8) })
        // No frame stands at the log's beginning.
        .take_while(|entry| entry.offset != 0);
    (entries, bytes[12] != 0)
}

fn page_sum(bytes: &[u8; PAGE]) -> u32 {
    crc32c_of_both(&bytes[..PAGE_HEAD - 4], &bytes[PAGE_HEAD..])
}

fn le_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn le_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
