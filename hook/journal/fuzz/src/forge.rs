//! Journal files with right checksums and any content, written after the tables of the journal's documentation.

use crate::records::Record;
use crate::records::volume_record;
use arbitrary::Arbitrary;

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

/// A checkpoint in the making. Its header leads to the log's last frame.
#[derive(Debug, Arbitrary)]
pub struct Index {
    serials: Option<[u64; 2]>,
    salt: u64,
    area: Option<u64>,
    pages: Option<u32>,
    until: Option<u64>,
    entries: u64,
    live: u64,
    noted: Option<u64>,
    /// The entries of each page, keys and offsets.
    content: Vec<Vec<(u64, u16)>>,
}

impl Index {
    /// The file's bytes, for the log with this header and end.
    #[must_use]
    pub fn encode(&self, header: u32, last: End) -> Vec<u8> {
        const GENERATION: u64 = 7;
        let area = self.area.unwrap_or(1024);
        let pages = self.pages.unwrap_or(self.content.len() as u32);
        let mut bytes = Vec::new();
        for serial in self.serials.unwrap_or([2, 1]) {
            let start = bytes.len();
            bytes.extend(b"VOLHOOKI");
            bytes.extend(2u32.to_le_bytes());
            bytes.extend(header.to_le_bytes());
            for number in [serial, GENERATION, self.salt, area] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(pages.to_le_bytes());
            bytes.extend(last.chain.to_le_bytes());
            let until = self.until.unwrap_or(last.end);
            for number in [last.start, last.end, last.sequence, until, self.entries, self.live] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend([0; 20]);
            let sum = crc32c::crc32c(&bytes[start..]);
            bytes.extend(sum.to_le_bytes());
        }
        let start = bytes.len();
        bytes.extend(self.noted.unwrap_or(last.end).to_le_bytes());
        bytes.extend(last.sequence.to_le_bytes());
        bytes.extend(header.to_le_bytes());
        bytes.extend([0; 8]);
        let sum = crc32c::crc32c(&bytes[start..]);
        bytes.extend(sum.to_le_bytes());
        bytes.resize(bytes.len().max(area.min(4096) as usize), 0);
        for (number, entries) in (0u32..).zip(&self.content) {
            let mut page = GENERATION.to_le_bytes().to_vec();
            page.extend(number.to_le_bytes());
            page.push(u8::from(entries.len() > 62));
            page.extend([0; 19]);
            for (key, offset) in entries.iter().take(62) {
                page.extend(key.to_le_bytes());
                page.extend(u64::from(*offset).to_le_bytes());
            }
            page.resize(1024, 0);
            let sum = crc32c::crc32c_append(crc32c::crc32c(&page[..28]), &page[32..]);
            page[28..32].copy_from_slice(&sum.to_le_bytes());
            bytes.extend(page);
        }
        bytes
    }
}
