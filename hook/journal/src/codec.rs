//! The bytes of a journal file: header, frames, and what a bad end of a file means.
//!
//! Pure functions over bytes, apart from [`Reader`], which brings the bytes in from a [`DiskFile`]. The
//! layout is described in the crate documentation.

use crate::disk::DiskFile;
use crate::rest;
use crate::rest::Rest;
use crate::sum::crc32c;
use crate::sum::crc32c_of_both;
use std::io;

/// The newest format that this version reads completely, and the one that it writes.
pub const FORMAT: u32 = 1;

pub(crate) const HEADER: usize = 32;
pub(crate) const FRAME: usize = 40;
const FILE_MAGIC: [u8; 8] = *b"VOLHOOKJ";
const FRAME_MAGIC: [u8; 4] = *b"VHF1";
pub(crate) const WORD: usize = 8;
/// How much of a file is read at once.
pub(crate) const CHUNK: usize = 128 << 10;
/// The highest sequence number: no counting gets there, and there is always a next one.
const LAST_SEQUENCE: u64 = u64::MAX / 2;

/// Which of the two files this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Leases,
    Volumes,
}

impl FileKind {
    const fn number(self) -> u32 {
        match self {
            Self::Leases => 1,
            Self::Volumes => 2,
        }
    }

    /// The most payload bytes of one frame.
    pub(crate) const fn max_payload(self) -> usize {
        match self {
            Self::Leases => 64 << 10,
            // With its header such a frame fits in one page, so a disk tears it at one place at most.
            Self::Volumes => (4 << 10) - FRAME,
        }
    }
}

/// The first 32 bytes of a file. Their layout is the same in every format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) version: u32,
    /// Checksum of the header and of the file's name: the chain's first link, different for every file.
    pub(crate) chain: u32,
}

pub(crate) enum HeaderRead {
    Valid(FileHeader),
    /// The file was being created when its writer died: nothing in it was ever acknowledged.
    Unfinished,
    Bad(&'static str),
}

pub(crate) fn encode_header(kind: FileKind, name: &str, created_us: i64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0..8].copy_from_slice(&FILE_MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[12..16].copy_from_slice(&kind.number().to_le_bytes());
    bytes[16..24].copy_from_slice(&created_us.to_le_bytes());
    let sum = header_sum(&bytes, name);
    bytes[28..32].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// The name is part of the sum, so that a file renamed to another boot's is not taken for that boot's.
fn header_sum(bytes: &[u8; HEADER], name: &str) -> u32 {
    crc32c_of_both(&bytes[..28], name.as_bytes())
}

pub(crate) fn decode_header(bytes: &[u8], kind: FileKind, name: &str) -> HeaderRead {
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return HeaderRead::Unfinished;
    };
    if header.iter().all(|&b| b == 0) {
        return HeaderRead::Unfinished;
    }
    if header[0..8] != FILE_MAGIC {
        return HeaderRead::Bad("this is not a journal file");
    }
    let chain = le_u32(header, 28);
    if chain != header_sum(header, name) {
        return HeaderRead::Bad("the file's header does not match its checksum");
    }
    if le_u32(header, 12) != kind.number() {
        return HeaderRead::Bad("the file's header says that it is another kind of file");
    }
    HeaderRead::Valid(FileHeader { version: le_u32(header, 8), chain })
}

/// A frame's header: everything but the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) length: usize,
    pub(crate) sequence: u64,
    pub(crate) time_us: i64,
    /// Its place among the frames of one append; 0 starts an append.
    pub(crate) part: u32,
    body_sum: u32,
    pub(crate) previous: u32,
    /// Checksum of the fields above: the link that the next frame repeats as its `previous`.
    pub(crate) chain: u32,
}

/// Appends one frame to `out` and returns its chain value. `payload` holds no zero byte (JSON escapes them) and
/// is filled up with spaces to whole words, so that no checked word of a frame's payload is ever zero.
pub(crate) fn encode_frame(
    out: &mut Vec<u8>,
    payload: &[u8],
    sequence: u64,
    time_us: i64,
    part: u32,
    previous: u32,
) -> u32 {
    let start = out.len();
    out.resize(start + FRAME, 0);
    out.extend_from_slice(payload);
    let length = payload.len().next_multiple_of(WORD);
    out.resize(start + FRAME + length, b' ');
    let body_sum = crc32c(&out[start + FRAME..]);
    let header = &mut out[start..start + FRAME];
    header[0..4].copy_from_slice(&FRAME_MAGIC);
    header[4..8].copy_from_slice(&u32::try_from(length).expect("payloads are bounded").to_le_bytes());
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    header[16..24].copy_from_slice(&time_us.to_le_bytes());
    header[24..28].copy_from_slice(&part.to_le_bytes());
    header[28..32].copy_from_slice(&body_sum.to_le_bytes());
    header[32..36].copy_from_slice(&previous.to_le_bytes());
    let chain = crc32c(&header[..36]);
    header[36..40].copy_from_slice(&chain.to_le_bytes());
    chain
}

/// A frame header with a right checksum; says nothing about the payload.
pub(crate) fn decode_frame(bytes: &[u8], kind: FileKind) -> Option<FrameHeader> {
    let bytes = bytes.first_chunk::<FRAME>()?;
    let length = usize::try_from(le_u32(bytes, 4)).ok()?;
    let chain = le_u32(bytes, 36);
    let valid = bytes[0..4] == FRAME_MAGIC
        && length <= kind.max_payload().next_multiple_of(WORD)
        && length.is_multiple_of(WORD)
        && le_u64(bytes, 8) <= LAST_SEQUENCE
        && chain == crc32c(&bytes[..36]);
    valid.then(|| FrameHeader {
        length,
        sequence: le_u64(bytes, 8),
        time_us: i64::from_le_bytes(le_u64(bytes, 16).to_le_bytes()),
        part: le_u32(bytes, 24),
        body_sum: le_u32(bytes, 28),
        previous: le_u32(bytes, 32),
        chain,
    })
}

/// A frame whose header and payload both match their checksums, at the start of `bytes`.
pub(crate) fn decode_whole(bytes: &[u8], kind: FileKind) -> Option<(FrameHeader, &[u8])> {
    let header = decode_frame(bytes, kind)?;
    let payload = bytes.get(FRAME..FRAME + header.length)?;
    (crc32c(payload) == header.body_sum).then_some((header, payload))
}

/// How many bytes of `bytes` come before the next whole word that a frame may begin with.
pub(crate) fn next_mark(bytes: &[u8]) -> Option<usize> {
    bytes.chunks(WORD).position(|word| word.starts_with(&FRAME_MAGIC)).map(|words| words * WORD)
}

/// The whole frames in `bytes`, wherever they stand, and where that is. For a few bytes; a file is looked through by
/// [`Scan`](crate::scan::Scan).
pub(crate) fn salvage(bytes: &[u8], kind: FileKind) -> impl Iterator<Item = (usize, FrameHeader, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            if let Some((header, payload)) = decode_whole(&bytes[at..], kind) {
                let offset = at;
                at += FRAME + header.length;
                return Some((offset, header, payload));
            }
            at += WORD;
        }
        None
    })
}

/// Where the chain stands: what the next frame has to continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// Offset of the end of the last good frame.
    pub(crate) end: u64,
    /// Offset of its start; the same as `end` when there is no frame yet.
    pub(crate) start: u64,
    pub(crate) sequence: u64,
    pub(crate) chain: u32,
}

impl Link {
    pub(crate) fn first(header: FileHeader) -> Self {
        Self { end: HEADER as u64, start: HEADER as u64, sequence: 0, chain: header.chain }
    }

    /// Whether a frame that stands at its end continues it.
    pub(crate) fn leads_to(&self, frame: &FrameHeader) -> bool {
        frame.previous == self.chain && frame.sequence > self.sequence
    }

    /// Where the chain stands behind such a frame.
    pub(crate) fn behind(&self, frame: &FrameHeader) -> Self {
        let size = (FRAME + frame.length) as u64;
        Self { start: self.end, end: self.end + size, sequence: frame.sequence, chain: frame.chain }
    }
}

/// Reads frames one after the other from a file, as far as it went when the reader was made.
pub(crate) struct Reader<'a> {
    file: &'a dyn DiskFile,
    kind: FileKind,
    limit: u64,
    link: Link,
    buffer: Vec<u8>,
    /// Offset in the file of the buffer's first byte.
    base: u64,
}

impl<'a> Reader<'a> {
    /// Continues at `link`; bytes from `limit` on are not looked at.
    pub(crate) fn new(file: &'a dyn DiskFile, kind: FileKind, link: Link, limit: u64) -> Self {
        Self { file, kind, limit, link, buffer: Vec::new(), base: link.end }
    }

    /// Continues behind the last frame before `link`, which is brought in by the same read. `None` when that frame is
    /// not there.
    pub(crate) fn behind(
        file: &'a dyn DiskFile,
        kind: FileKind,
        link: Link,
        limit: u64,
    ) -> io::Result<Option<Self>> {
        let Some(before) = link.end.checked_sub(link.start).filter(|_| link.end <= limit) else {
            return Ok(None);
        };
        let mut reader = Self::new(file, kind, Link { end: link.start, ..link }, limit);
        if before > 0 {
            let before = usize::try_from(before).map_err(io::Error::other)?;
            if before > FRAME + kind.max_payload().next_multiple_of(WORD) {
                return Ok(None);
            }
            reader.fill(before)?;
            let there = decode_frame(reader.window(), kind).is_some_and(|frame| {
                frame.chain == link.chain
                    && frame.sequence == link.sequence
                    && FRAME + frame.length == before
                    && reader.window().len() >= before
            });
            if !there {
                return Ok(None);
            }
        }
        reader.link = link;
        Ok(Some(reader))
    }

    /// Where the last frame returned ends.
    pub(crate) fn link(&self) -> Link {
        self.link
    }

    /// The next frame that continues the chain, or `None` where there is none.
    pub(crate) fn next(&mut self) -> io::Result<Option<(FrameHeader, &[u8])>> {
        self.fill(FRAME)?;
        let Some(header) = decode_frame(self.window(), self.kind) else {
            return Ok(None);
        };
        self.fill(FRAME + header.length)?;
        if !self.link.leads_to(&header) {
            return Ok(None);
        }
        let start = self.window_start();
        let Some((header, _)) = decode_whole(&self.buffer[start..], self.kind) else {
            return Ok(None);
        };
        let size = FRAME + header.length;
        self.link = self.link.behind(&header);
        Ok(Some((header, &self.buffer[start + FRAME..start + size])))
    }

    /// What stands where [`Self::next`] found no frame.
    pub(crate) fn rest(&self) -> io::Result<Rest> {
        rest::judge(self.file, self.kind, self.link, self.limit)
    }

    fn window_start(&self) -> usize {
        usize::try_from(self.link.end - self.base).expect("the chain's end lies in the buffer")
    }

    fn window(&self) -> &[u8] {
        &self.buffer[self.window_start()..]
    }

    /// Has at least `want` bytes behind the chain's end in the buffer, or all that there are.
    fn fill(&mut self, want: usize) -> io::Result<()> {
        let have = self.window().len();
        if have >= want {
            return Ok(());
        }
        let start = self.window_start();
        self.buffer.drain(..start);
        self.base = self.link.end;
        let left = self.limit.saturating_sub(self.base);
        let target = left.min(want.max(CHUNK) as u64);
        let target = usize::try_from(target).map_err(io::Error::other)?;
        if target > have {
            self.buffer.resize(target, 0);
            let read = self.file.read_at(&mut self.buffer[have..], self.base + have as u64)?;
            self.buffer.truncate(have + read);
        }
        Ok(())
    }
}

fn le_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn le_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
