//! Journal files with right checksums and any content, written after the tables of the journal's documentation.

use crate::records::Record;
use crate::records::volume_record;
use arbitrary::Arbitrary;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A file in the making.
#[derive(Debug, Arbitrary)]
pub struct File {
    version: Option<u8>,
    frames: Vec<Frame>,
    /// Bytes behind the last frame.
    end: Vec<u8>,
}

#[derive(Debug, Arbitrary)]
struct Frame {
    payload: Payload,
    /// The sequence number; the next one where it is left out.
    sequence: Option<u64>,
    time: i64,
    part: u8,
    /// What its link to the frame before is off by.
    astray: Option<u32>,
}

#[derive(Debug, Arbitrary)]
enum Payload {
    Lease(Record),
    Volume(u8),
    Bytes(Vec<u8>),
}

impl Payload {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Lease(record) => serde_json::to_vec(&record.build()).expect("a record is JSON"),
            Self::Volume(which) => serde_json::to_vec(&volume_record(*which)).expect("a record is JSON"),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}

impl File {
    /// The file's bytes; `kind` is 1 for leases, 2 for volumes. Also the header's checksum, and offset, chain value,
    /// sequence number and end of its last frame.
    #[must_use]
    pub fn encode(&self, kind: u32, name: &str) -> (Vec<u8>, u32, Option<End>) {
        let mut bytes = b"VOLHOOKJ".to_vec();
        bytes.extend(u32::from(self.version.unwrap_or(1)).to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0; 12]);
        let header = crc32c::crc32c_append(crc32c::crc32c(&bytes), name.as_bytes());
        bytes.extend(header.to_le_bytes());
        let (mut chain, mut sequence, mut end) = (header, 0, None);
        for frame in &self.frames {
            let mut payload = frame.payload.bytes();
            payload.resize(payload.len().next_multiple_of(8), b' ');
            sequence = frame.sequence.unwrap_or_else(|| u64::wrapping_add(sequence, 1));
            let start = bytes.len();
            bytes.extend(b"VHF1");
            bytes.extend((payload.len() as u32).to_le_bytes());
            bytes.extend(sequence.to_le_bytes());
            bytes.extend(frame.time.to_le_bytes());
            bytes.extend(u32::from(frame.part).to_le_bytes());
            bytes.extend(crc32c::crc32c(&payload).to_le_bytes());
            bytes.extend((chain ^ frame.astray.unwrap_or(0)).to_le_bytes());
            chain = crc32c::crc32c(&bytes[start..]);
            bytes.extend(chain.to_le_bytes());
            bytes.extend(payload);
            end = Some(End { start: start as u64, end: bytes.len() as u64, sequence, chain });
        }
        bytes.extend(&self.end);
        (bytes, header, end)
    }
}

/// A file's last frame.
#[derive(Debug, Clone, Copy)]
pub struct End {
    start: u64,
    end: u64,
    sequence: u64,
    chain: u32,
}

/// An index in the making. Its head leads to the log's last frame.
#[derive(Debug, Arbitrary)]
pub struct Index {
    salt: u64,
    buckets: Option<u32>,
    end: Option<u64>,
    entries: u64,
    live: u64,
    /// The entries of each bucket: keys, words to grants, words to bindings.
    content: Vec<Vec<(u64, u16, u16)>>,
    /// Whether all sums are right.
    whole: bool,
}

impl Index {
    /// The file's bytes, for the log with this header and end.
    #[must_use]
    pub fn encode(&self, header: u32, last: End) -> Vec<u8> {
        let (mut sums, mut behind) = (Vec::new(), Vec::new());
        for entries in &self.content {
            let count = entries.len().min(127);
            let mut bucket = (count as u16).to_le_bytes().to_vec();
            bucket.push(u8::from(entries.len() > 127));
            bucket.extend([0; 13]);
            for (key, grant, bound) in &entries[..count] {
                bucket.extend(key.to_le_bytes());
                bucket.extend(u32::from(*grant).to_le_bytes());
                bucket.extend(u32::from(*bound).to_le_bytes());
            }
            sums.push(xxh3_64_with_seed(&bucket, self.salt));
            bucket.resize(2048, 0);
            behind.extend(bucket);
        }
        let total = sums.iter().zip(0u64..).fold(0u64, |total, (sum, number)| {
            let mixed = sum ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            total.wrapping_add((mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93))
        });
        let mut bytes = b"VOLHOOKX".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(header.to_le_bytes());
        for number in [self.salt, last.start, self.end.unwrap_or(last.end), last.sequence] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(last.chain.to_le_bytes());
        bytes.extend(self.buckets.unwrap_or(self.content.len() as u32).to_le_bytes());
        for number in [self.entries, self.live, if self.whole { total } else { !total }] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(92, 0);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
        bytes.extend(behind);
        bytes
    }
}
