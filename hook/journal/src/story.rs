//! Everything that was recorded, from all files, in the order of its sequence numbers: read as it is told.
//!
//! A file is opened when the story comes to its first number, and closed at its end, so that files whose numbers do not
//! overlap are open one after the other. Of each that is open one piece is held, and the next frame.
//!
//! As long as a file's chain goes on, its frames are in order, and no other frame with a number up to there was ever a part of
//! it. Behind the place where the chain breaks, frames are taken by their numbers wherever they stand
//! ([`InOrder`](crate::scan::InOrder)), if these are greater than what the chain has proved: what has a smaller number there
//! stands in its place elsewhere, or was never acknowledged.

use crate::Journal;
use crate::SETTLING;
use crate::codec;
use crate::codec::FRAME;
use crate::codec::FileKind;
use crate::codec::FrameHeader;
use crate::codec::HEADER;
use crate::codec::HeaderRead;
use crate::codec::Link;
use crate::disk::DiskFile;
use crate::error::JournalError;
use crate::events::Event;
use crate::events::Follow;
use crate::events::decode;
use crate::leases::unknown_record;
use crate::log;
use crate::log::Log;
use crate::log::VOLUMES;
use crate::rest;
use crate::rest::Rest;
use crate::scan::InOrder;
use crate::scan::Window;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::VecDeque;
use volhook_core::cursor::Cursor;

/// In how many bytes of a file's end its last frame is looked for first.
const END: u64 = 8 << 10;

/// Everything that was recorded, as it is read; made by [`Journal::story`].
pub struct Story<'a> {
    journal: &'a Journal,
    /// Files that the story has not come to, the next one last.
    waiting: Vec<Waiting>,
    open: Vec<Source>,
    /// What is to be told of the number at hand.
    same: VecDeque<Event>,
    damage: Vec<JournalError>,
    /// The number of the last event.
    last: u64,
    /// Whether it ends where something may be missing that another process is writing.
    followed: bool,
    /// How far the files went to which others append: file, identity, end.
    ends: HashMap<String, ((u64, u64), Link)>,
    over: bool,
}

/// A file that is not open yet.
struct Waiting {
    /// No frame of it that is told has a smaller number.
    first: u64,
    /// Whether that is the number of the file's first frame.
    is_begun: bool,
    /// Its place among files that tell of the same number.
    rank: usize,
    name: String,
}

/// A file that is read.
struct Source {
    /// Its first number that is told: of two boots that gave the same, the one that began earlier is told of first.
    first: u64,
    rank: usize,
    name: String,
    kind: FileKind,
    file: Box<dyn DiskFile>,
    limit: u64,
    /// Whether others may be appending to it: what is wrong there is damage, and no history.
    live: bool,
    newer: bool,
    /// The number of its first frame, if its chain begins: none of its frames has a smaller one.
    begun: Option<u64>,
    way: Way,
    window: Window,
    next: Option<Frame>,
}

/// How a file is read on.
enum Way {
    /// Along the chain.
    Chain(Link),
    /// Wherever frames stand.
    Anywhere(InOrder),
    /// Not at all, where there is nothing behind this.
    Over(Option<Link>),
}

struct Frame {
    offset: u64,
    header: FrameHeader,
    payload: Vec<u8>,
    /// Whether the chain leads to it.
    proved: bool,
}

impl Journal {
    /// Everything that was recorded, by sequence number. Files of earlier boots are history, which a power cut may have torn
    /// anywhere, and so are copies of damaged files: what is left of them is told. So is what can be read of this boot's file
    /// and the file of volumes if those are damaged; that they are is [told besides](Story::damage).
    ///
    /// Memory and the time to the first event do not depend on how much there is. A damaged file is looked through behind the
    /// damage when the story comes there, and at once if not even its beginning can be read; its frames are told by their
    /// numbers, wherever they stand. What is recorded meanwhile may be missing.
    ///
    /// # Errors
    /// A file cannot be read at all.
    pub fn story(&self) -> Result<Story<'_>, JournalError> {
        let mut story = Story {
            journal: self,
            waiting: Vec::new(),
            open: Vec::new(),
            same: VecDeque::new(),
            damage: Vec::new(),
            last: 0,
            followed: false,
            ends: HashMap::new(),
            over: false,
        };
        // Before the names are read: what is rebuilt now has a copy among them. This boot's file comes first, as numbers are
        // taken there first: up to its end, the other is complete.
        let leases = self.leases_name();
        story.begin_live(0, leases, FileKind::Leases)?;
        story.begin_live(1, VOLUMES, FileKind::Volumes)?;
        if matches!(self.is_begun(), Ok(false)) {
            story.damage.extend(self.refuse_gone().err());
        }
        let disk = self.disk();
        let names =
            disk.names().map_err(|source| JournalError::List { folder: disk.path().to_owned(), source })?;
        let mut names: Vec<String> = names
            .into_iter()
            .filter(|name| name != leases && name != VOLUMES && told_kind(name).is_some())
            .collect();
        names.sort();
        for (rank, name) in (2..).zip(names) {
            if let Some(source) = self.history(rank, &name)? {
                let is_begun = source.begun.is_some();
                let first = source.first(self)?;
                story.waiting.extend(first.map(|first| Waiting { first, is_begun, rank, name }));
            }
        }
        story.waiting.sort_by_key(|file| Reverse((file.first, file.rank)));
        Ok(story)
    }

    /// What was recorded behind an event. Files that end before it are not read.
    ///
    /// # Errors
    /// [`JournalError::Gone`] when there is no such event; failures of I/O.
    pub fn story_since(&self, cursor: &Cursor) -> Result<Story<'_>, JournalError> {
        let mut story = self.story()?;
        let boot_is_known = story.knows(cursor);
        if story.skip(cursor.seq, cursor.boot.as_deref())? {
            return Ok(story);
        }
        Err(JournalError::Gone { cursor: cursor.clone(), boot_is_known })
    }

    /// What was recorded behind a number, which need not be that of an event.
    ///
    /// # Errors
    /// A file cannot be read at all.
    pub fn story_behind(&self, number: u64) -> Result<Story<'_>, JournalError> {
        let mut story = self.story()?;
        story.skip(number, None)?;
        story.same.clear();
        Ok(story)
    }

    /// All of [`story`](Self::story) at once: for a journal that is known to be small.
    ///
    /// # Errors
    /// Those of [`Story::next`]; this boot's file or the file of volumes is damaged.
    pub fn events(&self) -> Result<Vec<Event>, JournalError> {
        let mut story = self.story()?;
        let mut events = Vec::new();
        while let Some(event) = story.next()? {
            events.push(event);
        }
        story.damage().into_iter().next().map_or(Ok(events), Err)
    }

    /// A file to which nobody appends; `None` where it is gone.
    fn history(&self, rank: usize, name: &str) -> Result<Option<Source>, JournalError> {
        let Some(file) = self.open_file(name)? else { return Ok(None) };
        let mut source = Source::new(self, rank, name, file)?;
        let mut start = [0; HEADER];
        let read = source.file.read_at(&mut start, 0).map_err(|error| unreadable(self, name, error))?;
        match codec::decode_header(&start[..read], source.kind, log::original(name)) {
            HeaderRead::Valid(header) => source = source.along(self, Link::first(header))?,
            // What is left of it says what it is.
            HeaderRead::Unfinished | HeaderRead::Bad(_) => {
                source.way = source.anywhere(self, HEADER as u64, 0)?;
            }
        }
        Ok(Some(source))
    }

    /// The number at the end of a file of leases; `None` where no frame can be read.
    fn last_of(&self, name: &str) -> Result<Option<u64>, JournalError> {
        let Some(file) = self.open_file(name)? else { return Ok(None) };
        let last = log::last_sequence_of(&*file, FileKind::Leases, END);
        let last = last.map_err(|error| unreadable(self, name, error))?;
        Ok(Some(last).filter(|last| *last > 0))
    }

    fn open_file(&self, name: &str) -> Result<Option<Box<dyn DiskFile>>, JournalError> {
        let disk = self.disk();
        disk.open(name, false).map_err(|source| JournalError::Open { file: disk.path().join(name), source })
    }
}

/// The kind of the records of a file that is a part of the story.
fn told_kind(name: &str) -> Option<FileKind> {
    log::kind_of(name).or_else(|| log::copied_kind(name))
}

impl<'a> Story<'a> {
    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// A file cannot be read at all, or holds a record that is not understood. Nothing is told behind that.
    #[expect(clippy::should_implement_trait, reason = "what fails is the story, not one of its events")]
    pub fn next(&mut self) -> Result<Option<Event>, JournalError> {
        loop {
            if let Some(event) = self.same.pop_front() {
                self.last = event.seq;
                return Ok(Some(event));
            }
            if self.over {
                return Ok(None);
            }
            let more = self.gather();
            self.over = !matches!(more, Ok(true));
            more?;
        }
    }

    /// What was found damaged since the last call: all of it once the story has come to its end.
    pub fn damage(&mut self) -> Vec<JournalError> {
        std::mem::take(&mut self.damage)
    }

    /// The same story, which ends where something may be missing that another process is about to write, so that
    /// [`follow`](Self::follow) can go on there.
    #[must_use]
    pub fn to_be_followed(self) -> Self {
        Self { followed: true, ..self }
    }

    /// What happens behind the end of this story, which was made [to be followed](Self::to_be_followed) and told to its end.
    #[must_use]
    pub fn follow(self) -> Follow<'a> {
        Follow::behind(self.journal, self.last, self.ends)
    }

    /// Whether there is a file of the event's boot.
    fn knows(&self, cursor: &Cursor) -> bool {
        let open = self.open.iter().map(|source| &source.name);
        let mut names = open.chain(self.waiting.iter().map(|file| &file.name));
        names.any(|name| log::boot_of(name) == cursor.boot.as_deref())
    }

    /// Goes on to behind `number`, and says whether `boot` has an event of this number.
    fn skip(&mut self, number: u64, boot: Option<&str>) -> Result<bool, JournalError> {
        self.leave_out(number)?;
        while let Some(lowest) = self.lowest()?.filter(|lowest| *lowest < number) {
            self.pass(lowest)?;
        }
        self.last = number;
        if self.lowest()? == Some(number) {
            self.gather()?;
        }
        let place = self.same.iter().rposition(|event| event.boot.as_deref() == boot);
        let is_there = place.is_some();
        self.same.drain(..place.map_or(0, |place| place + 1));
        Ok(is_there)
    }

    /// Leaves out files that end before `number`: of another boot's leases, which began before a later boot did up to there, the
    /// last frames say so.
    fn leave_out(&mut self, number: u64) -> Result<(), JournalError> {
        let is_leases = |name: &str| told_kind(name) == Some(FileKind::Leases);
        let begun = self.waiting.iter().filter(|file| file.is_begun && is_leases(&file.name));
        let live = self.open.iter().filter(|source| is_leases(&source.name));
        let firsts = begun.map(|file| file.first).chain(live.filter_map(|source| source.begun));
        let newest = firsts.filter(|first| *first <= number).max().unwrap_or(0);
        for file in std::mem::take(&mut self.waiting) {
            let is_before = file.is_begun && is_leases(&file.name) && file.first < newest;
            if !is_before || self.journal.last_of(&file.name)?.is_none_or(|last| last >= number) {
                self.waiting.push(file);
            }
        }
        Ok(())
    }

    /// Leaves out what has this number.
    fn pass(&mut self, number: u64) -> Result<(), JournalError> {
        for source in &mut self.open {
            while source.number() == Some(number) {
                source.advance(self.journal, &mut self.damage)?;
            }
        }
        self.close();
        Ok(())
    }

    /// Opens a file to which others may append.
    fn begin_live(&mut self, rank: usize, name: &str, kind: FileKind) -> Result<(), JournalError> {
        let journal = self.journal;
        let mut source = match journal.settle(|| Log::open(journal.disk(), name, kind, false)) {
            Ok(None) => return Ok(()),
            Ok(Some(log)) if log.header.is_none() => return Ok(()),
            Ok(Some(log)) => {
                let (newer, link) = (log.newer(), log.link);
                Source { newer, ..Source::new(journal, rank, name, log.file)? }.along(journal, link)?
            }
            Err(error @ JournalError::Damaged { .. }) => {
                self.damage.push(error);
                let Some(file) = journal.open_file(name)? else { return Ok(()) };
                let source = Source::new(journal, rank, name, file)?;
                Source { way: source.anywhere(journal, HEADER as u64, 0)?, ..source }
            }
            Err(error) => return Err(error),
        };
        source.live = true;
        self.add(source)
    }

    /// Has a file ready for the next frame.
    fn add(&mut self, mut source: Source) -> Result<(), JournalError> {
        source.advance(self.journal, &mut self.damage)?;
        source.first = source.begun.or_else(|| source.number()).unwrap_or(0);
        self.open.push(source);
        self.open.sort_by_key(|source| (source.first, source.rank));
        self.close();
        Ok(())
    }

    /// Gives up the files of which everything was told.
    fn close(&mut self) {
        let ends = &mut self.ends;
        self.open.retain(|source| {
            if let (true, Way::Over(Some(link))) = (source.live, &source.way) {
                ends.insert(source.name.clone(), (source.file.identity(), *link));
            }
            source.next.is_some()
        });
    }

    /// The number that comes next.
    fn lowest(&mut self) -> Result<Option<u64>, JournalError> {
        loop {
            let lowest = self.open.iter().filter_map(Source::number).min();
            match self.waiting.pop_if(|file| lowest.is_none_or(|lowest| file.first <= lowest)) {
                Some(file) => {
                    if let Some(source) = self.journal.history(file.rank, &file.name)? {
                        self.add(source)?;
                    }
                }
                None => return Ok(lowest),
            }
        }
    }

    /// Gathers what there is to be told of the next number; `false` at the end.
    fn gather(&mut self) -> Result<bool, JournalError> {
        let Some(number) = self.lowest()? else { return Ok(false) };
        if self.is_incomplete(number) {
            return Ok(false);
        }
        for source in &mut self.open {
            while let Some(frame) = source.next.take_if(|frame| frame.header.sequence == number) {
                // What was taken over from a damaged file stands in its copy as well.
                if let Some(event) = source.told(self.journal, &frame)?
                    && !self.same.contains(&event)
                {
                    self.same.push_back(event);
                }
                source.advance(self.journal, &mut self.damage)?;
            }
        }
        self.close();
        Ok(true)
    }

    /// Whether a record of a smaller number may be on its way.
    fn is_incomplete(&self, number: u64) -> bool {
        let leases = self.ends.get(self.journal.leases_name());
        self.followed && leases.is_some_and(|(_, link)| link.sequence > 0 && number > link.sequence)
    }
}

impl Source {
    fn new(
        journal: &Journal,
        rank: usize,
        name: &str,
        file: Box<dyn DiskFile>,
    ) -> Result<Self, JournalError> {
        let limit = file.size().map_err(|error| unreadable(journal, name, error))?;
        Ok(Self {
            first: 0,
            rank,
            name: name.to_owned(),
            kind: told_kind(name).unwrap_or(FileKind::Leases),
            file,
            limit,
            live: false,
            newer: false,
            begun: None,
            way: Way::Over(None),
            window: Window::default(),
            next: None,
        })
    }

    /// The same, read along the chain from its beginning on.
    fn along(mut self, journal: &Journal, link: Link) -> Result<Self, JournalError> {
        let mut start = [0; FRAME];
        let read = self.file.read_at(&mut start, link.end);
        let read = read.map_err(|error| unreadable(journal, &self.name, error))?;
        // Numbers rise from here on, whatever a disk may show further down.
        let first = codec::decode_frame(&start[..read], self.kind).filter(|first| link.leads_to(first));
        self.begun = first.map(|first| first.sequence);
        self.way = Way::Chain(link);
        Ok(self)
    }

    fn number(&self) -> Option<u64> {
        self.next.as_ref().map(|frame| frame.header.sequence)
    }

    /// The smallest number of a frame of it that is told, without reading more than is needed; `None` where there is none.
    fn first(mut self, journal: &Journal) -> Result<Option<u64>, JournalError> {
        if self.begun.is_some() {
            return Ok(self.begun);
        }
        // What is wrong with history is no news.
        self.advance(journal, &mut Vec::new())?;
        Ok(self.number())
    }

    /// Has the next frame at hand, if there is one.
    fn advance(&mut self, journal: &Journal, damage: &mut Vec<JournalError>) -> Result<(), JournalError> {
        loop {
            let failed = |error| unreadable(journal, &self.name, error);
            match &mut self.way {
                Way::Over(_) => self.next = None,
                Way::Anywhere(frames) => {
                    let next = frames.next(&*self.file).map_err(failed)?;
                    self.next = next.map(|(offset, header, payload)| Frame {
                        offset,
                        header,
                        payload: payload.to_vec(),
                        proved: false,
                    });
                }
                Way::Chain(link) => {
                    let at = link.end;
                    let next = self.window.frame(&*self.file, self.kind, at, self.limit).map_err(failed)?;
                    let Some((header, payload)) = next.filter(|(header, _)| link.leads_to(header)) else {
                        let link = *link;
                        self.way = self.behind(journal, link, damage)?;
                        continue;
                    };
                    self.next = Some(Frame { offset: at, header, payload: payload.to_vec(), proved: true });
                    *link = link.behind(&header);
                }
            }
            return Ok(());
        }
    }

    /// How it goes on where the chain ends.
    fn behind(
        &mut self,
        journal: &Journal,
        link: Link,
        damage: &mut Vec<JournalError>,
    ) -> Result<Way, JournalError> {
        if !self.live {
            return self.anywhere(journal, link.end, link.sequence);
        }
        let disk = journal.disk();
        let failed = |error| unreadable(journal, &self.name, error);
        let mut pauses = SETTLING.into_iter();
        loop {
            let judged = rest::judge(&*self.file, self.kind, link, self.limit).map_err(failed)?;
            let Rest::Damaged(reason) = judged else {
                return Ok(Way::Over(Some(link)));
            };
            let Some(pause) = pauses.next() else {
                damage.push(log::damaged(disk, &self.name, link.end, reason));
                return self.anywhere(journal, link.end, link.sequence);
            };
            // A writer that cuts a torn tail and writes over it looks like this to who sees half of each.
            disk.pause(pause);
            self.window = Window::default();
            let there = self.window.frame(&*self.file, self.kind, link.end, self.limit).map_err(failed)?;
            if there.is_some_and(|(header, _)| link.leads_to(&header)) {
                return Ok(Way::Chain(link));
            }
        }
    }

    /// Its frames from `from` on with numbers greater than `after`.
    fn anywhere(&self, journal: &Journal, from: u64, after: u64) -> Result<Way, JournalError> {
        let frames = InOrder::new(
            &*self.file,
            self.kind,
            from,
            self.limit,
            after.max(self.begun.map_or(0, |begun| begun - 1)),
        );
        Ok(Way::Anywhere(frames.map_err(|error| unreadable(journal, &self.name, error))?))
    }

    /// The event of a frame, if it is one.
    fn told(&self, journal: &Journal, frame: &Frame) -> Result<Option<Event>, JournalError> {
        let boot = log::boot_of(&self.name);
        match decode(self.kind, boot, &frame.header, &frame.payload) {
            Ok(event) => Ok(event),
            // Of history and of what is left behind damage, what is understood is told.
            Err(_) if !self.live || self.newer || !frame.proved => Ok(None),
            Err(source) => Err(unknown_record(journal.disk(), &self.name, frame.offset, source)),
        }
    }
}

fn unreadable(journal: &Journal, name: &str, source: std::io::Error) -> JournalError {
    JournalError::Read { file: journal.disk().path().join(name), source }
}
