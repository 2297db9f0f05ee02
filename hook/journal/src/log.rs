//! One journal file: opened, judged, read from a known place, appended to.

use crate::codec;
use crate::codec::FORMAT;
use crate::codec::FRAME;
use crate::codec::FileHeader;
use crate::codec::FileKind;
use crate::codec::HEADER;
use crate::codec::HeaderRead;
use crate::codec::Link;
use crate::codec::Reader;
use crate::disk::Disk;
use crate::disk::DiskFile;
use crate::error::JournalError;
use crate::error::is_full;
use crate::rest;
use crate::rest::Rest;
use crate::scan::Scan;
use std::path::Path;
use std::path::PathBuf;

/// The name of the file of what outlives a boot.
pub(crate) const VOLUMES: &str = "volumes";
const LEASES: &str = "leases-";

/// The name of a boot's file of leases.
pub(crate) fn leases_name(boot_id: &str) -> String {
    format!("{LEASES}{boot_id}")
}

/// The kind of the journal file called `name`; `None` for the lock, tables, copies and whatever else lies there.
pub(crate) fn kind_of(name: &str) -> Option<FileKind> {
    if name == VOLUMES {
        return Some(FileKind::Volumes);
    }
    name.strip_prefix(LEASES).is_some_and(is_boot_id).then_some(FileKind::Leases)
}

/// The boot whose leases stand in the file called `name`, or in the one that it is a copy of.
pub(crate) fn boot_of(name: &str) -> Option<&str> {
    original(name).strip_prefix(LEASES)
}

/// How many bytes of a file's end are looked at for its last frame: room for the largest, and for a torn one.
pub(crate) const LOOK: u64 = 256 << 10;
/// How much more than needed is set aside at once, so that few appends have to.
const STEP: u64 = 1 << 20;
const MARGIN: u64 = 64 << 10;
const COPY: &str = ".damaged-";

/// Whether the file called `name` is a copy of a damaged journal file.
pub(crate) fn is_copy(name: &str) -> bool {
    copied_kind(name).is_some()
}

/// The kind of the journal file of which the one called `name` is a copy.
pub(crate) fn copied_kind(name: &str) -> Option<FileKind> {
    let (of, place) = name.split_once(COPY)?;
    let is_place = !place.is_empty() && place.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    kind_of(of).filter(|_| is_place)
}

/// The name of the file called `name`, or of the one that it is a copy of.
pub(crate) fn original(name: &str) -> &str {
    name.split_once(COPY).map_or(name, |(of, _)| of)
}

pub(crate) fn is_boot_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// An open journal file and how far it has been read.
pub(crate) struct Log {
    pub(crate) kind: FileKind,
    pub(crate) name: String,
    pub(crate) file: Box<dyn DiskFile>,
    /// `None` while the file is only a name: the next append writes the header.
    pub(crate) header: Option<FileHeader>,
    pub(crate) link: Link,
    torn: bool,
    /// Whether it was opened for writing.
    pub(crate) writable: bool,
    /// How much disk space it has at least, as long as the lock is held under which this was learnt.
    pub(crate) space: Option<u64>,
}

impl Log {
    /// Opens the file called `name` at its beginning; `None` where there is none.
    pub(crate) fn open(
        disk: &dyn Disk,
        name: &str,
        kind: FileKind,
        write: bool,
    ) -> Result<Option<Self>, JournalError> {
        let path = disk.path().join(name);
        let file =
            disk.open(name, write).map_err(|source| JournalError::Open { file: path.clone(), source })?;
        let Some(file) = file else {
            return Ok(None);
        };
        let unreadable = |source| JournalError::Read { file: path.clone(), source };
        let mut bytes = [0; HEADER];
        let read = file.read_at(&mut bytes, 0).map_err(unreadable)?;
        let header = match codec::decode_header(&bytes[..read], kind, name) {
            HeaderRead::Valid(header) => Some(header),
            HeaderRead::Unfinished => {
                let length = file.size().map_err(unreadable)?;
                if length > HEADER as u64 && !rest::is_all_zero(&*file, length).map_err(unreadable)? {
                    return Err(damaged(disk, name, 0, "the file's header is gone"));
                }
                None
            }
            HeaderRead::Bad(reason) => return Err(damaged(disk, name, 0, reason)),
        };
        Ok(Some(Self { header, writable: write, ..Self::empty(file, name, kind) }.at_its_beginning()))
    }

    /// Opens the file called `name` for writing, or creates it.
    pub(crate) fn open_or_create(disk: &dyn Disk, name: &str, kind: FileKind) -> Result<Self, JournalError> {
        if let Some(log) = Self::open(disk, name, kind, true)? {
            return Ok(log);
        }
        let file = disk.create(name).map_err(|source| {
            let file = disk.path().join(name);
            if is_full(&source) {
                JournalError::Full { file, needed: HEADER as u64, source }
            } else {
                JournalError::Open { file, source }
            }
        })?;
        Ok(Self::empty(file, name, kind))
    }

    /// An empty file that is, or will be, called `name`.
    pub(crate) fn empty(file: Box<dyn DiskFile>, name: &str, kind: FileKind) -> Self {
        let link = Link::first(FileHeader { version: FORMAT, chain: 0 });
        let (name, header) = (name.to_owned(), None);
        Self { kind, name, file, header, link, torn: false, writable: true, space: None }
    }

    fn at_its_beginning(self) -> Self {
        let link = self.header.map_or(self.link, Link::first);
        Self { link, ..self }
    }

    /// Whether the file was written by a newer version, which may put records into it that this one does not know.
    pub(crate) fn newer(&self) -> bool {
        self.header.is_some_and(|header| header.version > FORMAT)
    }

    /// Whether the last [`replay`](Self::replay) found an unfinished append.
    pub(crate) fn torn(&self) -> bool {
        self.torn
    }

    /// Reads on from `link` to the end of the file, hands every payload with its frame's header and offset to
    /// `each`, and remembers where the chain ends.
    pub(crate) fn replay(
        &mut self,
        disk: &dyn Disk,
        link: Link,
        each: impl FnMut(&codec::FrameHeader, u64, &[u8]) -> Result<Next, JournalError>,
    ) -> Result<(), JournalError> {
        if self.header.is_none() {
            self.link = link;
            return Ok(());
        }
        let unreadable = |source| JournalError::Read { file: disk.path().join(&self.name), source };
        let length = self.file.size().map_err(unreadable)?;
        let reader = Reader::new(&*self.file, self.kind, link, length);
        let (link, torn) = self.follow(disk, reader, each)?;
        (self.link, self.torn) = (link, torn);
        Ok(())
    }

    /// The same of a file that is `length` bytes long, if the last frame before `link` is really there. Otherwise `false`,
    /// and nothing is handed over.
    pub(crate) fn replay_behind(
        &mut self,
        disk: &dyn Disk,
        link: Link,
        length: u64,
        each: impl FnMut(&codec::FrameHeader, u64, &[u8]) -> Result<Next, JournalError>,
    ) -> Result<bool, JournalError> {
        let unreadable = |source| JournalError::Read { file: disk.path().join(&self.name), source };
        let reader = Reader::behind(&*self.file, self.kind, link, length).map_err(unreadable)?;
        let Some(reader) = reader else { return Ok(false) };
        let (link, torn) = self.follow(disk, reader, each)?;
        (self.link, self.torn) = (link, torn);
        Ok(true)
    }

    /// Takes it that nothing stands behind the last frame known.
    pub(crate) fn ends_here(&mut self) {
        self.torn = false;
    }

    fn follow(
        &self,
        disk: &dyn Disk,
        mut reader: Reader<'_>,
        mut each: impl FnMut(&codec::FrameHeader, u64, &[u8]) -> Result<Next, JournalError>,
    ) -> Result<(Link, bool), JournalError> {
        let unreadable = |source| JournalError::Read { file: disk.path().join(&self.name), source };
        let mut link = reader.link();
        while let Some((header, payload)) = reader.next().map_err(unreadable)? {
            match each(&header, link.end, payload)? {
                Next::Go => link = reader.link(),
                Next::Stop => return Ok((link, self.torn)),
            }
        }
        match reader.rest().map_err(unreadable)? {
            Rest::Clean => Ok((link, false)),
            Rest::Torn => Ok((link, true)),
            Rest::Damaged(reason) => Err(damaged(disk, &self.name, link.end, reason)),
        }
    }

    /// Fails when the file ends before `noted`, where it once went.
    pub(crate) fn refuse_cut(&self, disk: &dyn Disk, noted: Option<u64>) -> Result<(), JournalError> {
        match self.cut_at(noted) {
            Some((offset, reason)) => Err(damaged(disk, &self.name, offset, reason)),
            None => Ok(()),
        }
    }

    /// Where the file ends before its time, and how to say so.
    pub(crate) fn cut_at(&self, noted: Option<u64>) -> Option<(u64, &'static str)> {
        match (self.header, noted) {
            (None, Some(_)) => Some((0, "the file's header is gone")),
            (Some(_), Some(noted)) if noted > self.link.end => {
                Some((self.link.end, "the file once went further: records at its end are gone"))
            }
            _ => None,
        }
    }

    /// The payload of the whole frame at `offset`, if there is one.
    pub(crate) fn payload_at(&self, offset: u64) -> Option<Vec<u8>> {
        // Most frames are not longer than this.
        let mut bytes = vec![0; 4 << 10];
        let mut read = self.file.read_at(&mut bytes, offset).ok()?;
        let size = FRAME + codec::decode_frame(&bytes[..read], self.kind)?.length;
        if size > bytes.len() {
            bytes.resize(size, 0);
            read = self.file.read_at(&mut bytes, offset).ok()?;
        }
        codec::decode_whole(&bytes[..read], self.kind)?;
        bytes.truncate(size);
        bytes.drain(..FRAME);
        Some(bytes)
    }

    /// Appends one frame per payload, the first with the sequence number `first`, and returns its offset. Nothing is flushed
    /// here.
    pub(crate) fn append(
        &mut self,
        disk: &dyn Disk,
        payloads: &[impl AsRef<[u8]>],
        first: u64,
        time_us: i64,
    ) -> Result<u64, JournalError> {
        if self.header.is_none() {
            self.begin(disk, time_us)?;
        }
        let at = self.link.end;
        self.cut_torn(disk)?;
        let path = disk.path().join(&self.name);
        let mut bytes = Vec::new();
        let mut link = self.link;
        for ((payload, sequence), part) in payloads.iter().zip(first..).zip(0..) {
            link.start = at + bytes.len() as u64;
            link.chain =
                codec::encode_frame(&mut bytes, payload.as_ref(), sequence, time_us, part, link.chain);
            link.sequence = sequence;
        }
        link.end = at + bytes.len() as u64;
        let written = self.file.write_at(&bytes, at).map_err(|source| {
            if is_full(&source) {
                JournalError::Full { file: path.clone(), needed: bytes.len() as u64, source }
            } else {
                JournalError::Write { file: path.clone(), offset: at, source }
            }
        });
        if let Err(error) = written {
            // What is not acknowledged is not left for others to read; if even this fails, the tail is torn.
            self.torn = self.cut(at).is_err();
            self.space = None;
            return Err(error);
        }
        self.link = link;
        Ok(at)
    }

    /// Writes again what stands in the file from `from` on. A flush that failed is told to those who had the file open then,
    /// and leaves nothing to flush: with this, what the next one says is true of these bytes as well.
    pub(crate) fn write_again(&self, disk: &dyn Disk, from: u64) -> Result<(), JournalError> {
        let path = disk.path().join(&self.name);
        let length = usize::try_from(self.link.end.saturating_sub(from)).unwrap_or_default();
        let mut bytes = vec![0; length];
        let read = self.file.read_at(&mut bytes, from);
        let read = read.map_err(|source| JournalError::Read { file: path.clone(), source })?;
        let written = self.file.write_at(&bytes[..read], from);
        written.map_err(|source| JournalError::Write { file: path, offset: from, source })
    }

    /// Cuts off an unfinished append, and says whether there was one.
    pub(crate) fn cut_torn(&mut self, disk: &dyn Disk) -> Result<bool, JournalError> {
        if !self.torn {
            return Ok(false);
        }
        self.space = None;
        let at = self.link.end;
        let file = || disk.path().join(&self.name);
        self.cut(at).map_err(|source| JournalError::Write { file: file(), offset: at, source })?;
        self.torn = false;
        Ok(true)
    }

    /// Cuts the file, and sets the space behind it aside again, which goes with what is cut.
    fn cut(&self, at: u64) -> std::io::Result<()> {
        let held = self.file.space().unwrap_or(0);
        self.file.set_len(at)?;
        if held > at {
            let _ = self.file.reserve(at, held - at);
        }
        Ok(())
    }

    /// Makes sure that there is disk space for `bytes` more behind the log's end.
    pub(crate) fn reserve(&mut self, disk: &dyn Disk, bytes: u64) -> Result<(), JournalError> {
        let path = disk.path().join(&self.name);
        let at = self.link.end;
        let unwritten = |source| JournalError::Write { file: path.clone(), offset: at, source };
        self.cut_torn(disk)?;
        if self.header.is_none() && self.file.size().map_err(unwritten)? > 0 {
            self.file.set_len(0).map_err(unwritten)?;
        }
        // A file's space includes what the filesystem needs to find its blocks: on ext4, at 340 places to a block and at
        // least a block to a place, less than one part in 256.
        let margin = at / 256 + MARGIN;
        let space = match self.space {
            Some(space) => space,
            None => self.file.space().map_err(unwritten)?,
        };
        if space >= at + bytes + margin {
            return Ok(());
        }
        self.space = None;
        let large = self.file.reserve(at, bytes + margin + STEP);
        match large.or_else(|_| self.file.reserve(at, bytes)) {
            Ok(()) => Ok(()),
            Err(source) if is_full(&source) => Err(JournalError::Full { file: path, needed: bytes, source }),
            Err(source) => Err(unwritten(source)),
        }
    }

    /// Writes the header of an empty file.
    pub(crate) fn begin(&mut self, disk: &dyn Disk, time_us: i64) -> Result<(), JournalError> {
        let file = || disk.path().join(&self.name);
        let unwritten = |source| JournalError::Write { file: file(), offset: 0, source };
        let bytes = codec::encode_header(self.kind, &self.name, time_us);
        // Cutting an empty file would give back what is set aside for it.
        if self.file.size().map_err(unwritten)? > 0 {
            self.file.set_len(0).map_err(unwritten)?;
        }
        self.file.write_at(&bytes, 0).map_err(unwritten)?;
        let HeaderRead::Valid(header) = codec::decode_header(&bytes, self.kind, &self.name) else {
            unreachable!("a header just encoded is valid");
        };
        self.header = Some(header);
        self.link = Link::first(header);
        Ok(())
    }
}

/// What [`Log::replay`] does after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Go,
    /// Does not take this frame, nor any behind it.
    Stop,
}

/// The highest sequence number in any file of the folder, so that a new boot's file continues the story. Reads
/// only the files' ends, and gets by damaged ones.
pub(crate) fn last_sequence(disk: &dyn Disk) -> Result<u64, JournalError> {
    let names =
        disk.names().map_err(|source| JournalError::List { folder: disk.path().to_owned(), source })?;
    let mut last = 0;
    for name in names {
        let Some(kind) = kind_of(&name) else {
            continue;
        };
        let path = disk.path().join(&name);
        let file =
            disk.open(&name, false).map_err(|source| JournalError::Open { file: path.clone(), source })?;
        if let Some(file) = file {
            let sequence = last_sequence_of(&*file, kind, LOOK)
                .map_err(|source| JournalError::Read { file: path.clone(), source })?;
            last = last.max(sequence);
        }
    }
    Ok(last)
}

/// The highest number among the last frames of a file, which are looked for in its last `size` bytes first; 0 if there is none.
pub(crate) fn last_sequence_of(file: &dyn DiskFile, kind: FileKind, mut size: u64) -> std::io::Result<u64> {
    let length = file.size()?;
    loop {
        let start = (length.saturating_sub(size) / 8 * 8).max(HEADER as u64);
        let mut scan = Scan::new(file, kind, start, length);
        let mut last = None;
        while let Some((_, header)) = scan.next()? {
            last = last.max(Some(header.sequence));
        }
        if last.is_some() || start == HEADER as u64 {
            return Ok(last.unwrap_or(0));
        }
        size = size.saturating_mul(4);
    }
}

/// The error for damage in the file called `name`; the copy is made by whoever holds the lock.
pub(crate) fn damaged(disk: &dyn Disk, name: &str, offset: u64, reason: &'static str) -> JournalError {
    JournalError::Damaged { file: disk.path().join(name), offset, reason, copy: None }
}

/// The damaged file that an error is about, open, for whoever copies it when the lock is given back: its name may be another
/// file's then.
pub(crate) fn damaged_file(disk: &dyn Disk, error: &JournalError) -> Option<Box<dyn DiskFile>> {
    let JournalError::Damaged { file, copy: None, .. } = error else { return None };
    disk.open(file.file_name()?.to_str()?, false).ok()?
}

/// Adds to a damage error a copy of `damaged`, made once per place, so that repair never destroys evidence. A copy that cannot
/// be made is left out: the damage is the news.
pub(crate) fn keep_copy(
    disk: &dyn Disk,
    error: JournalError,
    damaged: Option<&dyn DiskFile>,
) -> JournalError {
    match (error, damaged) {
        (JournalError::Damaged { file, offset, reason, copy: None }, Some(damaged)) => {
            let copy = copy_of(disk, &file, damaged, offset).ok();
            JournalError::Damaged { file, offset, reason, copy }
        }
        (error, _) => error,
    }
}

/// Makes a copy of `source`, which is, or was, the damaged `file`, unless there is one already, and returns its path. Others may
/// be making the same: the bytes are the same.
pub(crate) fn copy_of(
    disk: &dyn Disk,
    file: &Path,
    source: &dyn DiskFile,
    offset: u64,
) -> std::io::Result<PathBuf> {
    let name = file.file_name().and_then(|n| n.to_str()).ok_or(std::io::ErrorKind::InvalidInput)?;
    let length = source.size()?;
    // A file that was rebuilt may be damaged at the same place once more: that is another copy.
    let names = std::iter::once(format!("{name}{COPY}{offset}"))
        .chain((1..1000).map(|again| format!("{name}{COPY}{offset}-{again}")));
    for copy_name in names {
        let copy = match disk.open(&copy_name, true)? {
            Some(copy) if !begins_like(&*copy, source, offset)? => continue,
            // Whoever made it may not have flushed it yet.
            Some(copy) if copy.size()? == length => {
                copy.sync()?;
                disk.sync_names()?;
                return Ok(disk.path().join(copy_name));
            }
            Some(copy) => copy,
            None => match disk.create(&copy_name) {
                // Somebody else has just begun it.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    disk.open(&copy_name, true)?.ok_or(error)?
                }
                created => created?,
            },
        };
        copy_bytes(source, &*copy, length)?;
        disk.sync_names()?;
        return Ok(disk.path().join(copy_name));
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}

/// Whether `copy`, as far as it goes, is one of `source`: looked at where files differ, their headers and the damage.
fn begins_like(copy: &dyn DiskFile, source: &dyn DiskFile, offset: u64) -> std::io::Result<bool> {
    for place in [0, offset] {
        let (mut here, mut there) = ([0; 4096], [0; 4096]);
        let read = copy.read_at(&mut here, place)?;
        source.read_at(&mut there, place)?;
        if here[..read] != there[..read] {
            return Ok(false);
        }
    }
    Ok(true)
}

fn copy_bytes(source: &dyn DiskFile, copy: &dyn DiskFile, length: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let read = source.read_at(&mut buffer, at)?;
        if read == 0 {
            break;
        }
        copy.write_at(&buffer[..read], at)?;
        at += read as u64;
    }
    copy.sync()
}
