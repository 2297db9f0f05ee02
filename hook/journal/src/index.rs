//! The checkpoint as a file: looked up page by page, changed in place, laid out anew when it grows.
//!
//! It is derived and disposable. Whatever is wrong with it is [`Unfit`], and the log is folded instead.

use crate::codec::Link;
use crate::disk::Disk;
use crate::disk::DiskFile;
use crate::log::Log;
use crate::pages::Entry;
use crate::pages::HEAD;
use crate::pages::Head;
use crate::pages::Key;
use crate::pages::PAGE;
use crate::pages::PAGES_AT;
use crate::pages::PER_PAGE;
use crate::pages::Page;
use crate::pages::SEEN;
use crate::pages::SEEN_AT;
use crate::pages::Seen;
use crate::pages::decode_seen;
use crate::pages::encode_seen;
use crate::pages::entries_of;
use crate::pages::scan;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::hash_map;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::io;

/// The fewest pages of a checkpoint.
const FEWEST: u32 = 2;

/// How many bytes of pages are read at once when several of them are needed: reading so much takes less time than asking
/// for a few pages one by one.
const SEVERAL: usize = 48 << 10;

/// How many pages are written again as they are, rather than beginning another call behind them.
const GAP: usize = 4;

/// The name of the checkpoint of the log called `log`.
pub(crate) fn index_name(log: &str) -> String {
    format!("{log}.index")
}

/// The checkpoint cannot be used: it is missing, torn, of another file, or not what it says. Never an error by
/// itself, because the log tells the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfit;

impl From<io::Error> for Unfit {
    /// If the disk is at fault, folding the log says so.
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// Why a checkpoint could not be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It cannot be used.
    Unfit,
    /// It could not be written; it may be usable still.
    Unwritten,
}

impl From<Unfit> for Trouble {
    fn from(_: Unfit) -> Self {
        Self::Unfit
    }
}

impl From<io::Error> for Trouble {
    fn from(_: io::Error) -> Self {
        Self::Unwritten
    }
}

/// A log's checkpoint file.
pub(crate) struct Index {
    file: Box<dyn DiskFile>,
    pub(crate) head: Head,
    /// Whether the pages hold what stands before `head.link` and nothing else. Otherwise they may hold some of what
    /// comes behind it: whoever looks something up asks the log about that first anyway.
    pub(crate) settled: bool,
    ahead: RefCell<Ahead>,
    /// Pages that were read while `head` counted, or written with it.
    known: RefCell<HashMap<u32, Box<[u8; PAGE]>>>,
}

/// A part of a checkpoint file, read while its header counted.
#[derive(Default)]
struct Ahead {
    from: u64,
    bytes: Vec<u8>,
}

impl Ahead {
    /// The bytes of the page at this offset in the file.
    fn get(&self, offset: u64) -> Option<&[u8; PAGE]> {
        let at = usize::try_from(offset.checked_sub(self.from)?).ok()?;
        self.bytes.get(at..)?.first_chunk()
    }
}

/// What stands in a checkpoint file before its pages.
pub(crate) struct Top {
    /// The file's beginning; what comes behind the note of the log's end are pages, if there is anything.
    bytes: Vec<u8>,
}

/// How much of the file is read when it was just opened: with the pages of a small checkpoint.
const AHEAD: usize = 4 << 10;

impl Top {
    /// `None` when it cannot be read.
    pub(crate) fn read(file: &dyn DiskFile) -> Option<Self> {
        Self::read_so_much(file, SEEN_AT as usize + SEEN)
    }

    /// The same, with pages that happen to stand near it.
    pub(crate) fn read_ahead(file: &dyn DiskFile) -> Option<Self> {
        Self::read_so_much(file, AHEAD)
    }

    fn read_so_much(file: &dyn DiskFile, size: usize) -> Option<Self> {
        let mut bytes = vec![0; size];
        let read = file.read_at(&mut bytes, 0).ok()?;
        bytes.truncate(read);
        Some(Self { bytes })
    }

    fn note(&self) -> &[u8] {
        let end = self.bytes.len().min(SEEN_AT as usize + SEEN);
        self.bytes.get(SEEN_AT as usize..end).unwrap_or_default()
    }

    /// The newer of the two headers for the log with this header, and whether it can be taken at its word that no
    /// change is under way: a header that is lost may have said so.
    pub(crate) fn head(&self, chain: u32) -> Option<(Head, bool)> {
        let copies = [0, 1].map(|place| {
            let bytes = self.bytes.get(place * HEAD..(place + 1) * HEAD)?;
            Head::decode(bytes, chain).filter(|head| head.serial % 2 == place as u64)
        });
        let newest = copies.into_iter().flatten().max_by_key(|head| head.serial)?;
        let settled = copies.iter().all(Option::is_some) && newest.until == newest.link.end;
        Some((newest, settled))
    }

    /// How far `log` went at its last append, or any log of its name if its header is gone.
    pub(crate) fn noted_end(&self, log: &Log) -> Option<u64> {
        let seen = decode_seen(self.note())?;
        log.header.is_none_or(|header| header.chain == seen.log_chain).then_some(seen.end)
    }

    /// Whether the last append to the log with this header ended at `link`.
    pub(crate) fn notes(&self, log_chain: u32, link: Link) -> bool {
        let Link { end, sequence, chain, .. } = link;
        decode_seen(self.note()) == Some(Seen { end, sequence, log_chain, chain })
    }

    /// Whether what is noted of the log's end is as it was written. A reader can meet a writer in the middle of it.
    pub(crate) fn note_is_whole(&self) -> bool {
        let noted = self.note();
        noted.iter().all(|&byte| byte == 0) || decode_seen(noted).is_some()
    }

    /// Whether a checkpoint was ever written there, and not only the log's end.
    pub(crate) fn begun(&self) -> bool {
        self.bytes.iter().take(SEEN_AT as usize).any(|&byte| byte != 0)
    }
}

impl Index {
    /// The checkpoint in `file` with this header.
    pub(crate) fn new(file: Box<dyn DiskFile>, head: Head, settled: bool) -> Self {
        Self { file, head, settled, ahead: RefCell::default(), known: RefCell::default() }
    }

    /// The same, with the beginning of the file, which was read together with the header.
    pub(crate) fn with_top(file: Box<dyn DiskFile>, head: Head, settled: bool, top: Top) -> Self {
        let ahead = Ahead { from: 0, bytes: top.bytes };
        Self { ahead: RefCell::new(ahead), ..Self::new(file, head, settled) }
    }

    /// The same checkpoint with the header that counts now. What is known of its pages holds if nothing was changed.
    pub(crate) fn with_head(self, head: Head, settled: bool) -> Self {
        if head == self.head { Self { settled, ..self } } else { Self::new(self.file, head, settled) }
    }

    /// Whether nobody began to change the checkpoint since it was opened, so that all pages read meanwhile go
    /// together.
    pub(crate) fn unchanged(&self) -> bool {
        read_head(&*self.file, self.head.log_chain).is_some_and(|(head, _)| head == self.head)
    }

    /// Reads all pages at once where they are few, as somebody is going to need several of them.
    pub(crate) fn expect_several(&self) {
        let Ok(length) = usize::try_from(self.head.end().saturating_sub(self.head.area)) else { return };
        let mut ahead = self.ahead.borrow_mut();
        let last = self.head.pages.saturating_sub(1);
        if length > SEVERAL || ahead.get(self.head.page_offset(last)).is_some() {
            return;
        }
        let mut bytes = vec![0; length];
        // Where this fails, reading a page says so.
        if let Ok(read) = self.file.read_at(&mut bytes, self.head.area) {
            bytes.truncate(read);
            *ahead = Ahead { from: self.head.area, bytes };
        }
    }

    /// The frames to which `key` leads.
    pub(crate) fn find(&self, key: Key) -> Result<Vec<u64>, Unfit> {
        let mut found = Vec::new();
        let mut known = self.known.borrow_mut();
        for number in walk(key, self.head.pages) {
            let (entries, spilled) = entries_of(self.page_bytes(&mut known, number)?);
            found.extend(entries.filter(|entry| entry.key == key).map(|entry| entry.offset));
            if !spilled {
                break;
            }
        }
        Ok(found)
    }

    fn page(&self, number: u32) -> Result<Page, Unfit> {
        Ok(Page::of(self.page_bytes(&mut self.known.borrow_mut(), number)?))
    }

    /// The bytes of a page that proved itself.
    fn page_bytes<'a>(
        &self,
        known: &'a mut HashMap<u32, Box<[u8; PAGE]>>,
        number: u32,
    ) -> Result<&'a [u8; PAGE], Unfit> {
        match known.entry(number) {
            hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            hash_map::Entry::Vacant(entry) => {
                let mut bytes = Box::new([0; PAGE]);
                match self.ahead.borrow().get(self.head.page_offset(number)) {
                    Some(ahead) => *bytes = *ahead,
                    None => drop(self.file.read_at(&mut *bytes, self.head.page_offset(number))?),
                }
                scan(&*bytes, self.head.generation, number).ok_or(Unfit)?;
                Ok(entry.insert(bytes))
            }
        }
    }

    /// All entries.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, Unfit> {
        Ok(self.all_pages()?.into_iter().flat_map(|page| page.entries).collect())
    }

    fn all_pages(&self) -> Result<Vec<Page>, Unfit> {
        let length = usize::try_from(self.head.end() - self.head.area).map_err(|_| Unfit)?;
        if self.file.size()? < self.head.end() {
            return Err(Unfit);
        }
        let mut bytes = vec![0; length];
        let read = self.file.read_at(&mut bytes, self.head.area)?;
        bytes[..read]
            .chunks(PAGE)
            .zip(0..)
            .map(|(bytes, number)| Page::decode(bytes, self.head.generation, number).ok_or(Unfit))
            .collect()
    }

    /// Begins a change of some entries.
    pub(crate) fn edit(&self) -> Edit<'_> {
        Edit { index: self, pages: BTreeMap::new(), entries: self.head.entries, live: self.head.live }
    }

    /// Writes a change down: the pages then stand for the log up to `link`. Killed before its end, this leaves pages
    /// of which some go further than the header says, which is marked first.
    pub(crate) fn commit(&mut self, edited: Edited, link: Link) -> Result<(), Trouble> {
        let Edited { pages, entries, live } = edited;
        let done = Head { link, until: link.end, entries, live, serial: self.head.serial + 2, ..self.head };
        let crowded = entries * 10 > done.room() * 6;
        let deserted = done.pages > FEWEST && entries * 20 < done.room();
        if crowded || deserted {
            let mut all = self.all_pages()?;
            for (number, page) in pages {
                *all.get_mut(number as usize).ok_or(Trouble::Unfit)? = page;
            }
            let all = all.into_iter().flat_map(|page| page.entries).collect();
            return self.lay_out(all, link, live);
        }
        let begun = Head { until: link.end, serial: self.head.serial + 1, ..self.head };
        write_head(&*self.file, begun)?;
        self.head = begun;
        self.settled = false;
        *self.ahead.get_mut() = Ahead::default();
        let written = self.write_changed(&pages);
        if written.is_err() {
            self.known.get_mut().clear();
        }
        written?;
        write_head(&*self.file, done)?;
        self.head = done;
        self.settled = true;
        Ok(())
    }

    /// Writes pages in their places, with as few calls as possible: what stands between two of them is written again
    /// as it is, if it is known and not much.
    fn write_changed(&mut self, pages: &[(u32, Page)]) -> Result<(), Trouble> {
        let generation = self.head.generation;
        let known = self.known.get_mut();
        let mut run: Vec<u8> = Vec::new();
        let mut first = 0;
        let mut next = 0;
        for (number, page) in pages {
            let between = (next..*number).map(|between| known.get(&between));
            let filling: Option<Vec<_>> = if between.len() <= GAP { between.collect() } else { None };
            match filling {
                Some(filling) if !run.is_empty() => {
                    filling.into_iter().for_each(|page| run.extend_from_slice(&page[..]));
                }
                _ => {
                    if !run.is_empty() {
                        self.file.write_at(&run, self.head.page_offset(first))?;
                        run.clear();
                    }
                    first = *number;
                }
            }
            let bytes = page.encode(generation, *number);
            run.extend_from_slice(&bytes);
            known.insert(*number, Box::new(bytes));
            next = number + 1;
        }
        if !run.is_empty() {
            self.file.write_at(&run, self.head.page_offset(first))?;
        }
        Ok(())
    }

    /// Writes all entries to pages of which nobody reads anything yet, then the headers that lead there.
    fn lay_out(&mut self, entries: Vec<Entry>, link: Link, live: u64) -> Result<(), Trouble> {
        let (area, serial) = (free_area(&self.head, &entries), self.head.serial);
        let head = new_head(self.head.log_chain, self.head.salt, area, serial, &entries, link, live);
        write_pages(&*self.file, &head, entries)?;
        self.head = write_both(&*self.file, head)?;
        *self.ahead.get_mut() = Ahead::default();
        self.known.get_mut().clear();
        self.settled = true;
        Ok(())
    }

    /// Writes a checkpoint from nothing, over whatever the file holds.
    pub(crate) fn build(
        file: Box<dyn DiskFile>,
        log_chain: u32,
        salt: u64,
        entries: Vec<Entry>,
        link: Link,
        live: u64,
    ) -> Result<Self, Trouble> {
        // A checkpoint of this log that is only partly usable stays so until the new one's headers are there.
        let old = read_head(&*file, log_chain).map(|(head, _)| head);
        let area = old.map_or(PAGES_AT, |old| free_area(&old, &entries));
        let serial = old.map_or(0, |old| old.serial);
        let head = new_head(log_chain, salt, area, serial, &entries, link, live);
        write_pages(&*file, &head, entries)?;
        let head = write_both(&*file, head)?;
        Ok(Self::new(file, head, true))
    }

    pub(crate) fn into_file(self) -> Box<dyn DiskFile> {
        self.file
    }

    pub(crate) fn file(&self) -> &dyn DiskFile {
        &*self.file
    }
}

/// Notes how far the log goes, so that a log that was cut at a frame's end is told from a whole one. Whatever is written is
/// written behind the frames that it speaks of.
pub(crate) fn note_end(file: &dyn DiskFile, log_chain: u32, link: Link) {
    let _ = file.write_at(&encode_seen(log_chain, link), SEEN_AT);
}

/// How far the log went at its last append, if that was noted.
pub(crate) fn noted_end(disk: &dyn Disk, log: &Log) -> Option<u64> {
    let file = disk.open(&index_name(&log.name), false).ok()??;
    Top::read(&*file)?.noted_end(log)
}

/// A number that nobody can guess.
pub(crate) fn draw() -> u64 {
    RandomState::new().hash_one(0)
}

fn walk(key: Key, pages: u32) -> impl Iterator<Item = u32> {
    let home = key.home(pages.max(1));
    (home..pages).chain(0..home)
}

fn read_head(file: &dyn DiskFile, chain: u32) -> Option<(Head, bool)> {
    Top::read(file)?.head(chain)
}

fn write_head(file: &dyn DiskFile, head: Head) -> io::Result<()> {
    file.write_at(&head.encode(), head.serial % 2 * HEAD as u64)
}

/// Writes a header to both places, and returns the newer.
fn write_both(file: &dyn DiskFile, head: Head) -> io::Result<Head> {
    let first = Head { serial: head.serial + 1, ..head };
    let second = Head { serial: head.serial + 2, ..head };
    write_head(file, first)?;
    write_head(file, second)?;
    if file.size()? > second.end() {
        file.set_len(second.end())?;
    }
    Ok(second)
}

/// So many pages that a third of their room is taken.
fn pages_for(entries: usize) -> u32 {
    u32::try_from(entries * 3 / PER_PAGE + 1).unwrap_or(u32::MAX).max(FEWEST)
}

/// Where new pages stand without touching those of `old`.
fn free_area(old: &Head, entries: &[Entry]) -> u64 {
    let size = u64::from(pages_for(entries.len())) * PAGE as u64;
    if PAGES_AT + size <= old.area { PAGES_AT } else { old.end() }
}

fn new_head(
    log_chain: u32,
    salt: u64,
    area: u64,
    serial: u64,
    entries: &[Entry],
    link: Link,
    live: u64,
) -> Head {
    let (pages, count) = (pages_for(entries.len()), entries.len() as u64);
    let generation = draw();
    Head { log_chain, serial, generation, salt, area, pages, link, until: link.end, entries: count, live }
}

fn write_pages(file: &dyn DiskFile, head: &Head, entries: Vec<Entry>) -> Result<(), Trouble> {
    let mut pages = vec![Page::default(); head.pages as usize];
    for entry in entries {
        let place = walk(entry.key, head.pages).find(|number| {
            let page = &mut pages[*number as usize];
            let full = page.entries.len() == PER_PAGE;
            page.spilled |= full;
            !full
        });
        pages[place.ok_or(Trouble::Unfit)? as usize].entries.push(entry);
    }
    let bytes: Vec<u8> =
        pages.iter().zip(0..).flat_map(|(page, number)| page.encode(head.generation, number)).collect();
    Ok(file.write_at(&bytes, head.area)?)
}

/// A change of a checkpoint, in memory until it is committed.
pub(crate) struct Edit<'a> {
    index: &'a Index,
    /// Pages looked at, and whether they changed.
    pages: BTreeMap<u32, (Page, bool)>,
    entries: u64,
    live: u64,
}

/// The outcome of an [`Edit`]: the pages that changed, and the new numbers.
pub(crate) struct Edited {
    pages: Vec<(u32, Page)>,
    entries: u64,
    live: u64,
}

impl Edit<'_> {
    pub(crate) fn salt(&self) -> u64 {
        self.index.head.salt
    }

    fn page(&mut self, number: u32) -> Result<&mut (Page, bool), Unfit> {
        match self.pages.entry(number) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => {
                Ok(entry.insert((self.index.page(number)?, false)))
            }
        }
    }

    /// The frames to which `key` leads, with this change.
    pub(crate) fn find(&mut self, key: Key) -> Result<Vec<u64>, Unfit> {
        let mut found = Vec::new();
        for number in walk(key, self.index.head.pages) {
            let (page, _) = self.page(number)?;
            found.extend(page.entries.iter().filter(|entry| entry.key == key).map(|entry| entry.offset));
            if !page.spilled {
                break;
            }
        }
        Ok(found)
    }

    /// Adds an entry, unless it is there.
    pub(crate) fn insert(&mut self, entry: Entry) -> Result<(), Unfit> {
        if self.find(entry.key)?.contains(&entry.offset) {
            return Ok(());
        }
        for number in walk(entry.key, self.index.head.pages) {
            let (page, changed) = self.page(number)?;
            *changed = true;
            if page.entries.len() < PER_PAGE {
                page.entries.push(entry);
                self.entries += 1;
                return Ok(());
            }
            page.spilled = true;
        }
        Err(Unfit)
    }

    /// Removes an entry, if it is there.
    pub(crate) fn remove(&mut self, entry: Entry) -> Result<(), Unfit> {
        for number in walk(entry.key, self.index.head.pages) {
            let (page, changed) = self.page(number)?;
            if let Some(place) = page.entries.iter().position(|there| *there == entry) {
                page.entries.swap_remove(place);
                *changed = true;
                self.entries = self.entries.checked_sub(1).ok_or(Unfit)?;
                return Ok(());
            }
            if !page.spilled {
                break;
            }
        }
        Ok(())
    }

    /// Counts a grant that came or went.
    pub(crate) fn count(&mut self, live: i64) -> Result<(), Unfit> {
        self.live = self.live.checked_add_signed(live).ok_or(Unfit)?;
        Ok(())
    }

    pub(crate) fn done(self) -> Edited {
        let changed = self.pages.into_iter().filter(|(_, (_, changed))| *changed);
        Edited {
            pages: changed.map(|(number, (page, _))| (number, page)).collect(),
            entries: self.entries,
            live: self.live,
        }
    }
}
