//! The walk through the folders, from above and back: few of them are open at a time, however deep they lie.

use super::CopyError;
use super::Engine;
use super::Entry;
use super::Finish;
use super::Folder;
use super::Place;
use super::Task;
use super::entry::ATTEMPTS;
use super::entry::Original;
use super::links::Links;
use super::links::PlaceId;
use super::links::TOP;
use super::metadata;
use crate::files;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Stat;
use rustix::io::Errno;
use std::ffi::CStr;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// How many folders on the way down are kept open. Those above are found again through `..`.
const OPEN_FOLDERS: usize = 32;
/// How many files of a folder are handed over together.
const TOGETHER: usize = 16;

/// Copies what is in `from`.
pub(super) fn tree(
    engine: &Engine<'_>,
    queue: &dyn Fn(Task),
    from: OwnedFd,
    to: OwnedFd,
    and_top: bool,
) -> Result<(), CopyError> {
    let mut walk = Walk::new(engine, queue);
    let original = rustix::fs::fstat(&from).map_err(engine.failed("examine", &from, c"."))?;
    let mut inherits = metadata::gives_access_lists(to.as_fd());
    if inherits && and_top {
        metadata::take_inherited(to.as_fd()).map_err(engine.failed(
            "change the access list of",
            &to,
            c".",
        ))?;
        inherits = false;
    }
    let finish = Finish { original: and_top.then_some(original) };
    walk.enter(CString::default(), CString::default(), from, to, inherits, finish)?;
    walk.walk()
}

/// Copies `from` itself.
pub(super) fn directory(
    engine: &Engine<'_>,
    queue: &dyn Fn(Task),
    from: OwnedFd,
    to: OwnedFd,
    new_name: &CStr,
) -> Result<(), CopyError> {
    let mut walk = Walk::new(engine, queue);
    let inherits = metadata::gives_access_lists(to.as_fd());
    let itself = rustix::io::fcntl_dupfd_cloexec(&from, 0).map_err(engine.failed("open", &from, c"."))?;
    let above = Folder { from: itself, to, inherits, finish: Arc::new(Finish { original: None }) };
    walk.enter_opened(&above, c".", new_name, from)?;
    walk.walk()
}

/// Copies one entry.
pub(super) fn entry(
    engine: &Engine<'_>,
    queue: &dyn Fn(Task),
    from: OwnedFd,
    name: &CStr,
    to: OwnedFd,
    new_name: &CStr,
) -> Result<(), CopyError> {
    let failed = |step| engine.failed(step, &from, name);
    // What the caller named may be a mount; what is below it may not.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&from, name, flags, Mode::empty()).map_err(failed("find"))?;
    let stat = rustix::fs::fstat(&fd).map_err(failed("examine"))?;
    let original = Original { fd, stat };
    let inherits = metadata::gives_access_lists(to.as_fd());
    if original.kind() == FileType::Directory {
        let folder = files::folder_on_same_mount(&original.fd, c".").map_err(failed("open"))?;
        return directory(engine, queue, folder, to, new_name);
    }
    let above = Arc::new(Folder { from, to, inherits, finish: Arc::new(Finish { original: None }) });
    if original.kind() != FileType::RegularFile {
        return engine.copy_special(&above, name, new_name, &original).map(drop);
    }
    let begun = Some(engine.begin(&above, new_name, original)?);
    let entry = Entry { name: name.to_owned(), new_name: new_name.to_owned(), begun };
    queue(Task { folder: above, entries: vec![entry] });
    Ok(())
}

/// A folder that is being copied.
struct Level {
    /// Its name in the one above, and that of its copy.
    name: CString,
    new_name: CString,
    /// Device and inode, of it and of its copy.
    identities: [(u64, u64); 2],
    /// The folders in it that are still to be copied.
    below: Vec<CString>,
    /// `None` if it is too far up to be kept open.
    folder: Option<Arc<Folder>>,
    inherits: bool,
    finish: Arc<Finish>,
    place: Option<PlaceId>,
}

struct Walk<'a> {
    engine: &'a Engine<'a>,
    queue: &'a dyn Fn(Task),
    levels: Vec<Level>,
    links: Links,
    /// The copy of the first folder.
    top: Option<OwnedFd>,
}

impl<'a> Walk<'a> {
    fn new(engine: &'a Engine<'a>, queue: &'a dyn Fn(Task)) -> Self {
        Self { engine, queue, levels: Vec::new(), links: Links::default(), top: None }
    }

    fn walk(&mut self) -> Result<(), CopyError> {
        while let Some(level) = self.levels.last_mut() {
            self.engine.check()?;
            match (level.below.pop(), &level.folder) {
                (Some(name), Some(folder)) => {
                    let folder = Arc::clone(folder);
                    self.enter_below(&folder, &name, &name)?;
                    // The walk's own share may have been given back meanwhile.
                    self.engine.release(folder)?;
                }
                _ => self.leave()?,
            }
        }
        Ok(())
    }

    /// Goes into a folder below the present one; `false` if it is gone.
    fn enter_below(&mut self, above: &Folder, name: &CStr, new_name: &CStr) -> Result<bool, CopyError> {
        let engine = self.engine;
        let from = match files::folder_on_same_mount(&above.from, name) {
            Ok(from) => from,
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::XDEV) => return Err(CopyError::Mount(engine.path(&above.from, name))),
            // It is something else by now, which is copied as that.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let Some(folder) = self.levels.last().and_then(|level| level.folder.clone()) else {
                    return Err(CopyError::Changed(engine.path(&above.from, name)));
                };
                let entry = Entry { name: name.to_owned(), new_name: new_name.to_owned(), begun: None };
                (self.queue)(Task { folder, entries: vec![entry] });
                return Ok(true);
            }
            Err(errno) => return Err(engine.failed("open", &above.from, name)(errno)),
        };
        self.enter_opened(above, name, new_name, from)?;
        Ok(true)
    }

    /// Goes into the folder `from`, which is `name` in `above`.
    fn enter_opened(
        &mut self,
        above: &Folder,
        name: &CStr,
        new_name: &CStr,
        from: OwnedFd,
    ) -> Result<(), CopyError> {
        let engine = self.engine;
        let original = rustix::fs::fstat(&from).map_err(engine.failed("examine", &above.from, name))?;
        let (to, is_new) = self.make_folder(above, new_name)?;
        let inherits = match (is_new, above.inherits) {
            (true, false) => false,
            (true, true) => {
                metadata::take_inherited(to.as_fd()).map_err(engine.failed(
                    "change the access list of",
                    &above.to,
                    new_name,
                ))?;
                false
            }
            (false, _) => metadata::gives_access_lists(to.as_fd()),
        };
        let finish = Finish { original: is_new.then_some(original) };
        if !self.levels.is_empty() {
            engine.count(&engine.counters.directories, 1);
        }
        self.enter(name.to_owned(), new_name.to_owned(), from, to, inherits, finish)
    }

    /// Makes a folder of the copy; `false` if it was there.
    fn make_folder(&self, above: &Folder, new_name: &CStr) -> Result<(OwnedFd, bool), CopyError> {
        let engine = self.engine;
        let in_the_way = |reason| CopyError::InTheWay { path: engine.path(&above.to, new_name), reason };
        for _ in 0..ATTEMPTS {
            let is_new = match rustix::fs::mkdirat(&above.to, new_name, files::PRIVATE) {
                Ok(()) => true,
                Err(Errno::EXIST) if engine.how.place == Place::Merge => false,
                Err(Errno::EXIST) => return Err(in_the_way("something of that name is there")),
                Err(errno) => return Err(engine.failed("make", &above.to, new_name)(errno)),
            };
            let to = match files::folder_on_same_mount(&above.to, new_name) {
                Ok(to) => to,
                Err(Errno::NOENT) => continue,
                Err(Errno::XDEV) => return Err(CopyError::Mount(engine.path(&above.to, new_name))),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return Err(in_the_way("something of that name is there that is no directory"));
                }
                Err(errno) => return Err(engine.failed("open", &above.to, new_name)(errno)),
            };
            if is_new && engine.how.place == Place::Merge && !is_untouched(&to) {
                return Err(CopyError::Changed(engine.path(&above.to, new_name)));
            }
            return Ok((to, is_new));
        }
        Err(CopyError::Changed(engine.path(&above.to, new_name)))
    }

    fn enter(
        &mut self,
        name: CString,
        new_name: CString,
        from: OwnedFd,
        to: OwnedFd,
        inherits: bool,
        finish: Finish,
    ) -> Result<(), CopyError> {
        let engine = self.engine;
        let identities = [
            files::identity(&from).map_err(engine.failed("examine", &from, c"."))?,
            files::identity(&to).map_err(engine.failed("examine", &to, c"."))?,
        ];
        let first = self.levels.first().map_or(identities[1], |first| first.identities[1]);
        if identities[0] == first {
            return Err(CopyError::IntoItself(engine.path(&from, c".")));
        }
        if self.top.is_none() {
            let top = rustix::io::fcntl_dupfd_cloexec(&to, 0);
            self.top = Some(top.map_err(engine.failed("open", &to, c"."))?);
        }
        let finish = Arc::new(finish);
        let place = self.levels.is_empty().then_some(TOP);
        let folder = Arc::new(Folder { from, to, inherits, finish: Arc::clone(&finish) });
        self.levels.push(Level {
            name,
            new_name,
            identities,
            below: Vec::new(),
            folder: Some(Arc::clone(&folder)),
            inherits,
            finish,
            place,
        });
        if let Some(far) = self.levels.len().checked_sub(OPEN_FOLDERS + 1)
            && let Some(folder) = self.levels[far].folder.take()
        {
            engine.release(folder)?;
        }
        self.read(&folder)?;
        engine.release(folder)
    }

    /// Reads a folder once, hands over what is no folder, and notes the folders.
    fn read(&mut self, folder: &Arc<Folder>) -> Result<(), CopyError> {
        let engine = self.engine;
        let mut entries = Vec::new();
        let hand_over = |entries: &mut Vec<Entry>| {
            if !entries.is_empty() {
                (self.queue)(Task { folder: Arc::clone(folder), entries: std::mem::take(entries) });
            }
        };
        let failed = |errno| engine.failed("read", &folder.from, c".")(errno);
        let mut below = Vec::new();
        let mut several = Vec::new();
        for entry in Dir::read_from(&folder.from).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let (kind, names) = match entry.file_type() {
                FileType::Directory => (FileType::Directory, 1),
                _ => match rustix::fs::statat(&folder.from, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => (FileType::from_raw_mode(stat.st_mode), stat.st_nlink),
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(engine.failed("examine", &folder.from, name)(errno)),
                },
            };
            if kind == FileType::Directory {
                below.push(name.to_owned());
            } else if names > 1 {
                several.push(name.to_owned());
            } else {
                entries.push(Entry { name: name.to_owned(), new_name: name.to_owned(), begun: None });
                if entries.len() == TOGETHER {
                    engine.check()?;
                    hand_over(&mut entries);
                }
            }
        }
        hand_over(&mut entries);
        for name in several {
            engine.check()?;
            self.copy_one_of_several(folder, &name)?;
        }
        if let Some(level) = self.levels.last_mut() {
            level.below = below;
        }
        Ok(())
    }

    /// Copies a file with several names, or gives its copy one more.
    fn copy_one_of_several(&mut self, folder: &Arc<Folder>, name: &CStr) -> Result<(), CopyError> {
        let engine = self.engine;
        let Some(original) = engine.original(&folder.from, name)? else {
            return Ok(());
        };
        let identity = original.identity();
        let here = self.levels.last().and_then(|level| level.place);
        let top = self.top.as_ref().unwrap_or(&folder.to).as_fd();
        if let Some(copy) = self.links.find(identity, top, (here, folder.to.as_fd()))
            && engine.link(folder, name, &copy)?
        {
            self.links.done(identity);
            return Ok(());
        }
        let names = original.stat.st_nlink;
        let copy = if original.kind() == FileType::RegularFile {
            let begun = engine.begin(folder, name, original)?;
            let copy = files::identity(&begun.copy).map_err(engine.failed("examine", &folder.to, name))?;
            let entry = Entry { name: name.to_owned(), new_name: name.to_owned(), begun: Some(begun) };
            (self.queue)(Task { folder: Arc::clone(folder), entries: vec![entry] });
            copy
        } else {
            match engine.copy_special(folder, name, name, &original)? {
                Some(copy) => files::identity(&copy).map_err(engine.failed("examine", &folder.to, name))?,
                None => return Ok(()),
            }
        };
        let place = self.place();
        self.links.remember(identity, names, place, name, copy);
        Ok(())
    }

    /// The number of the present place, and of those above.
    fn place(&mut self) -> PlaceId {
        let known = self.levels.iter().rposition(|level| level.place.is_some());
        let (mut place, first) = match known {
            Some(index) => (self.levels[index].place.unwrap_or(TOP), index + 1),
            None => (TOP, 0),
        };
        for level in &mut self.levels[first..] {
            place = self.links.place(place, &level.new_name);
            level.place = Some(place);
        }
        place
    }

    /// Goes back to the folder above.
    fn leave(&mut self) -> Result<(), CopyError> {
        let Some(Level { name, folder: Some(folder), finish, .. }) = self.levels.pop() else {
            return Ok(());
        };
        // First: whoever gives the folder back last is to find that nobody works in it any more.
        drop(finish);
        if let Some(above) = self.levels.last()
            && above.folder.is_none()
        {
            let engine = self.engine;
            let open = |opened: &OwnedFd, identity| match files::parent(opened) {
                Ok(parent) if files::identity(&parent) == Ok(identity) => Ok(parent),
                Ok(_) | Err(Errno::XDEV) => Err(CopyError::Moved(engine.path(opened, c"."))),
                Err(errno) => Err(engine.failed("open the folder of", opened, &name)(errno)),
            };
            let from = open(&folder.from, above.identities[0])?;
            let to = open(&folder.to, above.identities[1])?;
            let reopened = Folder { from, to, inherits: above.inherits, finish: Arc::clone(&above.finish) };
            if let Some(above) = self.levels.last_mut() {
                above.folder = Some(Arc::new(reopened));
            }
        }
        self.engine.release(folder)
    }
}

/// Whether a folder can be the one that was made just now.
pub(super) fn is_untouched(folder: &OwnedFd) -> bool {
    let private = |stat: Stat| {
        Mode::from_raw_mode(stat.st_mode) & Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO) == files::PRIVATE
            && stat.st_uid == rustix::process::geteuid().as_raw()
    };
    rustix::fs::fstat(folder).is_ok_and(private) && files::names(folder).is_ok_and(|names| names.is_empty())
}
