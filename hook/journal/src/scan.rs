//! Frames found wherever they stand in a file, which is read a piece at a time: how much is held at once does not depend on
//! how long the file is.

use crate::codec;
use crate::codec::CHUNK;
use crate::codec::FRAME;
use crate::codec::FileKind;
use crate::codec::FrameHeader;
use crate::codec::WORD;
use crate::disk::DiskFile;
use std::collections::BTreeSet;
use std::io;

/// What is read at once where the file was not read before: mostly that is one frame.
const FIRST: usize = 8 << 10;
/// The parts in which a file without order is looked through.
const BLOCK: u64 = 256 << 10;
/// How many frames are known by their places at once, of those that come next.
const NEAR: usize = 128 << 10;

/// A piece of a file.
#[derive(Default)]
pub(crate) struct Window {
    buffer: Vec<u8>,
    /// Offset in the file of its first byte.
    base: u64,
    /// How much is read at once next time, if that goes on where this ends.
    step: usize,
}

impl Window {
    /// The `want` bytes at `offset`, and what else of the file up to `limit` is at hand; less where there is not so much.
    pub(crate) fn at(
        &mut self,
        file: &dyn DiskFile,
        offset: u64,
        want: usize,
        limit: u64,
    ) -> io::Result<&[u8]> {
        let left = limit.saturating_sub(offset);
        let want = usize::try_from(left).map_or(want, |left| left.min(want));
        let inside = offset.checked_sub(self.base).and_then(|skip| usize::try_from(skip).ok());
        let inside = inside.filter(|skip| *skip <= self.buffer.len());
        let have = inside.map_or(0, |skip| self.buffer.len() - skip);
        if inside.is_none() || have < want {
            self.step = if inside.is_some() { (self.step * 2).clamp(FIRST, CHUNK) } else { FIRST };
            match inside {
                Some(skip) => drop(self.buffer.drain(..skip)),
                None => self.buffer.clear(),
            }
            self.base = offset;
            let size = usize::try_from(left).unwrap_or(usize::MAX).min(want.max(self.step));
            self.buffer.resize(size, 0);
            let read = file.read_at(&mut self.buffer[have..], offset + have as u64);
            self.buffer.truncate(have + read.as_ref().map_or(0, |read| *read));
            read?;
            return Ok(&self.buffer);
        }
        Ok(&self.buffer[inside.unwrap_or_default()..])
    }

    /// The whole frame that begins at `offset`, if there is one: its header, and its payload.
    pub(crate) fn frame(
        &mut self,
        file: &dyn DiskFile,
        kind: FileKind,
        offset: u64,
        limit: u64,
    ) -> io::Result<Option<(FrameHeader, &[u8])>> {
        let Some(header) = codec::decode_frame(self.at(file, offset, FRAME, limit)?, kind) else {
            return Ok(None);
        };
        Ok(codec::decode_whole(self.at(file, offset, FRAME + header.length, limit)?, kind))
    }
}

/// The whole frames of a part of a file in the order in which they stand there.
pub(crate) struct Scan<'a> {
    file: &'a dyn DiskFile,
    kind: FileKind,
    at: u64,
    limit: u64,
    window: Window,
}

impl<'a> Scan<'a> {
    /// Begins at `from`; bytes from `limit` on are not looked at.
    pub(crate) fn new(file: &'a dyn DiskFile, kind: FileKind, from: u64, limit: u64) -> Self {
        Self { file, kind, at: from, limit, window: Window::default() }
    }

    /// The next one and where it begins.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, FrameHeader)>> {
        loop {
            let bytes = self.window.at(self.file, self.at, FRAME, self.limit)?;
            let Some(skipped) = codec::next_mark(bytes) else {
                if bytes.len() < FRAME {
                    return Ok(None);
                }
                self.at += (bytes.len() / WORD * WORD) as u64;
                continue;
            };
            let offset = self.at + skipped as u64;
            match self.window.frame(self.file, self.kind, offset, self.limit)? {
                Some((header, _)) => {
                    self.at = offset + (FRAME + header.length) as u64;
                    return Ok(Some((offset, header)));
                }
                None => self.at = offset + WORD as u64,
            }
        }
    }
}

/// A frame by its number, and its place.
type Place = (u64, u64);

/// The whole frames of a part of a file in the order of their sequence numbers, wherever they stand; those of one number in the
/// order in which they stand there. The file is looked through once to know of each part of it where its first frame
/// begins and which comes first in the order; a part is looked through again when its turn comes. That is once for each
/// where frames stand about in order. Where they do not, more places than are kept at once have a turn, and parts of the file
/// more than one.
pub(crate) struct InOrder {
    kind: FileKind,
    limit: u64,
    /// Where the first frame begins in each part.
    first: Vec<u64>,
    /// The next frame of each part that is not among `near`, and not behind the last one given out.
    next: Vec<Option<Place>>,
    /// The same in order.
    parts: BTreeSet<(Place, usize)>,
    near: BTreeSet<Place>,
    block: u64,
    most: usize,
    window: Window,
}

impl InOrder {
    /// Looks through the part of `file` between `from` and `limit`; frames with numbers up to `after` are left out.
    pub(crate) fn new(
        file: &dyn DiskFile,
        kind: FileKind,
        from: u64,
        limit: u64,
        after: u64,
    ) -> io::Result<Self> {
        Self::with(file, kind, (from, limit), after, (BLOCK, NEAR))
    }

    /// The same with parts of `block` bytes and with `most` places known at once.
    fn with(
        file: &dyn DiskFile,
        kind: FileKind,
        (from, limit): (u64, u64),
        after: u64,
        (block, most): (u64, usize),
    ) -> io::Result<Self> {
        let mut scan = Scan::new(file, kind, from, limit);
        let (mut first, mut parts) = (Vec::new(), BTreeSet::new());
        let mut part: Option<(u64, Option<Place>)> = None;
        let mut begun = 0;
        let mut end = |part: Option<(u64, Option<Place>)>| {
            if let Some((begin, Some(lowest))) = part {
                parts.insert((lowest, first.len()));
                first.push(begin);
            }
        };
        while let Some((offset, header)) = scan.next()? {
            if part.is_some() && offset / block != begun {
                end(part.take());
            }
            begun = offset / block;
            let place = (header.sequence > after).then_some((header.sequence, offset));
            part = Some(match part {
                Some((begin, lowest)) => (begin, lowest.into_iter().chain(place).min()),
                None => (offset, place),
            });
        }
        end(part);
        let mut next = vec![None; first.len()];
        parts.iter().for_each(|(place, part)| next[*part] = Some(*place));
        let (near, window) = (BTreeSet::new(), Window::default());
        Ok(Self { kind, limit, first, next, parts, near, block, most, window })
    }

    /// Where the next frame begins, its header, and its payload.
    pub(crate) fn next(&mut self, file: &dyn DiskFile) -> io::Result<Option<(u64, FrameHeader, &[u8])>> {
        loop {
            while let Some((place, part)) = self.parts.first().copied()
                && self.near.first().is_none_or(|near| place < *near)
            {
                self.wait_for(part, None);
                self.look_through(file, part, place)?;
            }
            let Some((sequence, offset)) = self.near.pop_first() else { return Ok(None) };
            let there = self.window.frame(file, self.kind, offset, self.limit)?.map(|(header, _)| header);
            // Somebody may have written there meanwhile.
            if let Some(header) = there.filter(|header| header.sequence == sequence) {
                let bytes = self.window.at(file, offset, FRAME + header.length, self.limit)?;
                return Ok(bytes.get(FRAME..FRAME + header.length).map(|payload| (offset, header, payload)));
            }
        }
    }

    /// Adds to `near` what stands in a part and comes no earlier than `lowest`.
    fn look_through(&mut self, file: &dyn DiskFile, part: usize, lowest: Place) -> io::Result<()> {
        let number = self.first[part] / self.block;
        let mut scan = Scan::new(file, self.kind, self.first[part], self.limit);
        while let Some((offset, header)) = scan.next()?.filter(|(offset, _)| offset / self.block == number) {
            if (header.sequence, offset) >= lowest {
                self.near.insert((header.sequence, offset));
            }
        }
        while self.near.len() > self.most
            && let Some(last) = self.near.pop_last()
        {
            let part = self.first.partition_point(|first| first / self.block <= last.1 / self.block) - 1;
            self.wait_for(part, Some(self.next[part].map_or(last, |next| next.min(last))));
        }
        Ok(())
    }

    fn wait_for(&mut self, part: usize, next: Option<Place>) {
        if let Some(before) = std::mem::replace(&mut self.next[part], next) {
            self.parts.remove(&(before, part));
        }
        self.parts.extend(next.map(|next| (next, part)));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::InOrder;
    use super::Scan;
    use crate::codec;
    use crate::codec::FileKind;
    use crate::codec::FrameHeader;
    use crate::disk::DiskFile;
    use proptest::prelude::*;
    use std::io;

    /// A file that only has these bytes.
    pub(crate) struct Bytes(pub(crate) Vec<u8>);

    impl DiskFile for Bytes {
        fn identity(&self) -> (u64, u64) {
            (0, 0)
        }

        fn size(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = self.0.get(offset as usize..).unwrap_or_default();
            let read = rest.len().min(buffer.len());
            buffer[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        }

        fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn set_len(&self, _length: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn reserve(&self, _offset: u64, _length: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn space(&self) -> io::Result<u64> {
            self.size()
        }

        fn sync(&self) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// A piece of a file.
    #[derive(Debug, Clone)]
    enum Piece {
        Frame {
            sequence: u64,
            length: usize,
        },
        /// Bytes that are no frame: zeros, or what looks like the beginning of one.
        Junk {
            length: usize,
            byte: u8,
        },
        /// A frame of which this many bytes are there.
        Begun {
            length: usize,
            there: usize,
        },
    }

    fn frame(sequence: u64, length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        codec::encode_frame(&mut bytes, &vec![b'x'; length], sequence, 0, 0, 7);
        bytes
    }

    fn any_file() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![9 => 0..200usize, 1 => 60_000..65_536usize];
        let piece = prop_oneof![
            8 => (1..40u64, length.clone()).prop_map(|(sequence, length)| Piece::Frame { sequence, length }),
            1 => (0..300usize, prop_oneof![Just(0), Just(b'V'), any::<u8>()])
                .prop_map(|(length, byte)| Piece::Junk { length, byte }),
            1 => (length, 0..70_000usize).prop_map(|(length, there)| Piece::Begun { length, there }),
        ];
        proptest::collection::vec(piece, 0..60).prop_map(|pieces| {
            let mut bytes = Vec::new();
            for piece in pieces {
                match piece {
                    Piece::Frame { sequence, length } => bytes.extend(frame(sequence, length)),
                    Piece::Junk { length, byte } => bytes.extend(vec![byte; length / 8 * 8]),
                    Piece::Begun { length, there } => {
                        let frame = frame(1, length);
                        bytes.extend(&frame[..frame.len().min(there) / 8 * 8]);
                    }
                }
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn a_file_in_pieces_holds_the_frames_that_stand_in_its_bytes(bytes in any_file(), cut in 0..9usize) {
            let bytes = Bytes(bytes[..bytes.len().saturating_sub(cut)].to_vec());
            let expected: Vec<(u64, FrameHeader)> = codec::salvage(&bytes.0, FileKind::Leases)
                .map(|(offset, header, _)| (offset as u64, header))
                .collect();
            let mut scan = Scan::new(&bytes, FileKind::Leases, 0, bytes.0.len() as u64);
            let mut found = Vec::new();
            while let Some(frame) = scan.next().unwrap() {
                found.push(frame);
            }
            prop_assert_eq!(found, expected);
        }

        /// In however small parts it is looked through, and however few of its frames are known at once.
        #[test]
        fn a_file_without_order_is_told_in_order(
            bytes in any_file(),
            block in prop_oneof![Just(64u64), Just(1024), Just(100_000)],
            most in 1..20usize,
            after in 0..20u64,
        ) {
            let bytes = Bytes(bytes);
            let mut expected: Vec<(u64, u64, Vec<u8>)> = codec::salvage(&bytes.0, FileKind::Leases)
                .filter(|(_, header, _)| header.sequence > after)
                .map(|(offset, header, payload)| (header.sequence, offset as u64, payload.to_vec()))
                .collect();
            expected.sort();
            let whole = (0, bytes.0.len() as u64);
            let mut frames = InOrder::with(&bytes, FileKind::Leases, whole, after, (block, most)).unwrap();
            let mut told = Vec::new();
            while let Some((offset, header, payload)) = frames.next(&bytes).unwrap() {
                told.push((header.sequence, offset, payload.to_vec()));
                prop_assert!(frames.near.len() <= most);
            }
            prop_assert_eq!(told, expected);
        }
    }
}
