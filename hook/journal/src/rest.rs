//! What a bad end of a file means: nothing, an append that was never finished, or damage.

use crate::codec;
use crate::codec::CHUNK;
use crate::codec::FRAME;
use crate::codec::FileKind;
use crate::codec::Link;
use crate::codec::WORD;
use crate::disk::DiskFile;
use crate::scan::Scan;
use std::io;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// What stands behind the last good frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing.
    Clean,
    /// An append that was never acknowledged; it is cut off before the next one.
    Torn,
    /// Bytes that were acknowledged once and are not what they were.
    Damaged(&'static str),
}

/// Judges the bytes of `file` from the first frame that does not continue the chain at `link` to `limit`.
///
/// A writer that died, or lost power before its sync, leaves a prefix of what it wrote, or sectors that never
/// arrived and read as zeros. Anything else, and anything before a later append, was acknowledged.
pub(crate) fn judge(file: &dyn DiskFile, kind: FileKind, link: Link, limit: u64) -> io::Result<Rest> {
    if link.end >= limit {
        return Ok(Rest::Clean);
    }
    let mut scan = Scan::new(file, kind, link.end, limit);
    while let Some((_, frame)) = scan.next()? {
        if frame.sequence > link.sequence && frame.part == 0 && frame.previous != link.chain {
            return Ok(Rest::Damaged("a frame does not match its checksum, and later appends follow it"));
        }
    }
    let mut start = [0; FRAME];
    let left = usize::try_from(limit - link.end).map_or(FRAME, |left| left.min(FRAME));
    let read = file.read_at(&mut start[..left], link.end)?;
    match read {
        0 => return Ok(Rest::Clean),
        FRAME => {}
        _ => return Ok(Rest::Torn),
    }
    let end = match codec::decode_frame(&start, kind) {
        Some(header) if !link.leads_to(&header) => {
            return Ok(Rest::Damaged("a frame does not continue the frame before it"));
        }
        Some(header) => link.end + (FRAME + header.length) as u64,
        None => limit,
    };
    if end > limit || is_unfinished(file, link.end, end)? {
        return Ok(Rest::Torn);
    }
    Ok(Rest::Damaged("a complete frame does not match its checksum"))
}

/// Whether the bytes from `from` to `to` look like some of which not all reached the disk: one of its sectors, as far as it lies
/// there, is all zeros, or the end is, or it is not there. A frame starts and ends on whole words without zeros, so no single
/// flipped byte looks like this.
fn is_unfinished(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<bool> {
    let mut buffer = vec![0; CHUNK];
    let mut last = Vec::new();
    let mut at = from;
    while at < to {
        // The first piece ends where a sector does.
        let room = CHUNK - usize::try_from(at % SECTOR as u64).unwrap_or_default();
        let size = usize::try_from(to - at).map_or(room, |left| left.min(room));
        let read = file.read_at(&mut buffer[..size], at)?;
        if read < size || holds_unwritten_sector(&buffer[..size], at) {
            return Ok(true);
        }
        last.extend_from_slice(&buffer[size.saturating_sub(WORD)..size]);
        last.drain(..last.len().saturating_sub(WORD));
        at += size as u64;
    }
    Ok(last == [0; WORD])
}

fn holds_unwritten_sector(bytes: &[u8], offset: u64) -> bool {
    let begun = usize::try_from(offset % SECTOR as u64).unwrap_or_default();
    let head = if begun == 0 { 0 } else { (SECTOR - begun).min(bytes.len()) };
    let (first, others) = bytes.split_at(head);
    std::iter::once(first)
        .chain(others.chunks(SECTOR))
        .any(|sector| sector.len() >= WORD && sector.iter().all(|&b| b == 0))
}

/// Whether the first `length` bytes are zeros, as far as they are there.
pub(crate) fn is_all_zero(file: &dyn DiskFile, length: u64) -> io::Result<bool> {
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < length {
        let size = usize::try_from(length - at).map_or(CHUNK, |left| left.min(CHUNK));
        let read = file.read_at(&mut buffer[..size], at)?;
        if buffer[..read].iter().any(|&b| b != 0) {
            return Ok(false);
        }
        if read < size {
            break;
        }
        at += read as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::Rest;
    use super::judge;
    use crate::codec;
    use crate::codec::CHUNK;
    use crate::codec::FRAME;
    use crate::codec::FileKind;
    use crate::codec::Link;
    use crate::scan::tests::Bytes;
    use proptest::prelude::*;

    /// The same of bytes that are all at hand.
    fn judged_at_once(rest: &[u8], link: Link, kind: FileKind) -> &'static str {
        if rest.is_empty() {
            return "clean";
        }
        let is_later =
            |h: &codec::FrameHeader| h.sequence > link.sequence && h.part == 0 && h.previous != link.chain;
        if codec::salvage(rest, kind).any(|(_, header, _)| is_later(&header)) {
            return "damaged";
        }
        if rest.len() < FRAME {
            return "torn";
        }
        let extent = match codec::decode_frame(rest, kind) {
            Some(header) if header.previous != link.chain || header.sequence <= link.sequence => {
                return "damaged";
            }
            Some(header) if rest.len() < FRAME + header.length => return "torn",
            Some(header) => &rest[..FRAME + header.length],
            None => rest,
        };
        let zero = |range: std::ops::Range<usize>| extent[range].iter().all(|byte| *byte == 0);
        // Sectors by their places in the file, as far as they lie here.
        let from = link.end as usize;
        let mut sectors = (from / 512..=(from + extent.len()) / 512)
            .map(|sector| (sector * 512).max(from) - from..((sector + 1) * 512 - from).min(extent.len()))
            .filter(|range| range.len() >= 8);
        if sectors.any(zero) || zero(extent.len() - 8..extent.len()) { "torn" } else { "damaged" }
    }

    fn bytes_behind() -> impl Strategy<Value = Vec<u8>> {
        let frame = (1..20u64, 0..3u32, 0..1500usize, prop_oneof![Just(5u32), Just(6)]).prop_map(
            |(sequence, part, length, previous)| {
                let mut bytes = Vec::new();
                codec::encode_frame(&mut bytes, &vec![b'x'; length], sequence, 0, part, previous);
                bytes
            },
        );
        let fill = |lengths: std::ops::Range<usize>| {
            (lengths, prop_oneof![Just(0u8), Just(1)]).prop_map(|(length, byte)| vec![byte; length])
        };
        let piece = prop_oneof![6 => frame, 3 => fill(0..1100), 1 => fill(CHUNK - 20..CHUNK + 1100)];
        let flip = prop_oneof![2 => Just(None), 1 => any::<proptest::sample::Index>().prop_map(Some)];
        let cut = prop_oneof![Just(0), 0..600usize];
        (proptest::collection::vec(piece, 0..4), flip, cut).prop_map(|(pieces, flip, cut)| {
            let mut bytes = pieces.concat();
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let (Some(flip), false) = (flip, bytes.is_empty()) {
                let place = flip.index(bytes.len());
                bytes[place] ^= 1;
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

        #[test]
        fn in_pieces_it_is_judged_as_at_once(rest in bytes_behind(), words in 4..200u64, sequence in 0..10u64) {
            let link = Link { end: words * 8, start: 0, sequence, chain: 5 };
            let file = Bytes([&vec![b'-'; link.end as usize], &rest[..]].concat());
            let judged = match judge(&file, FileKind::Leases, link, file.0.len() as u64).unwrap() {
                Rest::Clean => "clean",
                Rest::Torn => "torn",
                Rest::Damaged(_) => "damaged",
            };
            prop_assert_eq!(judged, judged_at_once(&rest, link, FileKind::Leases));
        }
    }
}
