//! Giving the volumes in a pod's storage what the image has at their places.
//!
//! Everything is copied into a folder `filling-<uuid>` beside `files`, synced once, and moved to its place whole; the
//! sidecar tells of it last. So what is at a part's place is complete, whoever was killed when, and is not written to.
//! A part below the place of another may be there first: the folders above it are then only on its way, which their
//! mode says, and later get what else belongs in them.
//!
//! The one sync is syncfs(2), also where the storage is a directory of the host's filesystem. That writes out what
//! others have written there as well; but syncing one file after the other commits the filesystem's journal again and
//! again, and took four to five times as long with 20 files as well as with 5,000, by eight threads on ext4.

use crate::change::Changing;
use crate::copy;
use crate::copy::Copied;
use crate::copy::CopyError;
use crate::copy::How;
use crate::copy::Place;
use crate::copy::Rights;
use crate::copy::Watch;
use crate::error::StoreError;
use crate::failpoint;
use crate::files;
use crate::remove;
use crate::reset::FILLING;
use crate::storage;
use rustix::fs::AtFlags;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;
use volhook_core::decision::Population;
use volhook_core::names::is_below_or_at;
use volhook_core::volume::FILES;
use volhook_core::volume::Part;

/// A copy is what the image has.
const ARCHIVE: How = How { rights: Rights::Keep, place: Place::Empty };
/// The mode of a folder that is no part and has none around it: it is only on the way to one. A part that has this mode
/// in its image is none the worse for being taken for one.
pub(crate) const ON_THE_WAY: Mode = Mode::from_raw_mode(0o1700);
/// The mode of a folder that nothing tells the mode of.
const USUAL: Mode = Mode::from_raw_mode(0o755);
/// How long the removal of a copy may take that was not finished; the next one goes on with it.
const WITHDRAWING: Duration = Duration::from_secs(2);

/// A part that a container's pod is to have.
#[derive(Debug)]
pub struct Wanted {
    /// What the sidecar is to say of it.
    pub part: Part,
    /// What is at its place in the image; `None` where nothing is. Nothing may be mounted in it.
    pub from: Option<OwnedFd>,
    /// Whether the part gets that content; it is empty otherwise.
    pub copy: bool,
}

impl Wanted {
    fn path(&self) -> &str {
        self.part.path.as_str()
    }

    fn depth(&self) -> usize {
        self.path().matches('/').count()
    }

    /// What is copied into it.
    fn content(&self) -> Option<&OwnedFd> {
        self.from.as_ref().filter(|_| self.copy)
    }
}

impl Changing<'_> {
    /// Makes and fills the parts that are not recorded yet, and records them. `top` is the storage's top directory: that
    /// of its directory, or the root of its mounted image. When this returns, it survives a power cut.
    ///
    /// A part that is recorded, or was put in its place by somebody who was killed then, stays as it is. One below another
    /// that is filled as well comes with it.
    ///
    /// # Errors
    /// [`StoreError::Populate`], after which nothing is half, also at the deadline; [`StoreError::Impossible`] where the
    /// storage's parts are not copied or something else is in a part's place, and those of
    /// [`add_parts`](Self::add_parts).
    pub fn fill(
        &mut self,
        top: BorrowedFd<'_>,
        wanted: &[Wanted],
        watch: &Watch<'_>,
    ) -> Result<Copied, StoreError> {
        self.copied_population()?;
        // Another one than recorded is refused.
        let parts = self.unrecorded(wanted.iter().map(|wanted| wanted.part.clone()).collect())?;
        if parts.is_empty() {
            return Ok(Copied::default());
        }
        self.check_names(&parts)?;
        let copied = self.place(top, wanted, &parts, watch)?;
        self.add_parts(parts)?;
        Ok(copied)
    }

    fn copied_population(&self) -> Result<Population, StoreError> {
        match self.storage()?.population {
            Population::Overlay => {
                Err(self.impossible("its volumes are seen through an overlay, and nothing is copied"))
            }
            population => Ok(population),
        }
    }

    /// Makes and fills the `parts`, which nothing records yet.
    pub(crate) fn place(
        &self,
        top: BorrowedFd<'_>,
        wanted: &[Wanted],
        parts: &[Part],
        watch: &Watch<'_>,
    ) -> Result<Copied, StoreError> {
        let population = self.copied_population()?;
        let is_new = |wanted: &&Wanted| parts.iter().any(|part| part.member == wanted.part.member);
        let mut new: Vec<&Wanted> = wanted.iter().filter(is_new).collect();
        new.sort_by_key(|wanted| wanted.depth());
        self.finish_leftovers(top)?;
        storage::lay_out(top, population).map_err(self.failed("make the folders of", ""))?;
        let copied = Filling { changing: self, top, watch }.fill(&new)?;
        failpoint::reached("fill.placed").map_err(|errno| self.failed("sync", FILES)(errno.into()))?;
        Ok(copied)
    }

    pub(crate) fn not_populated(&self) -> impl Fn(CopyError) -> StoreError + use<> {
        let volume = self.volume.id.clone();
        move |source| StoreError::Populate { volume: volume.clone(), source }
    }
}

/// A part that is made in the staging folder, under its number there, with those below it.
struct Staged<'a> {
    root: &'a Wanted,
    folder: OwnedFd,
    /// From above.
    below: Vec<&'a Wanted>,
}

struct Filling<'a> {
    changing: &'a Changing<'a>,
    top: BorrowedFd<'a>,
    watch: &'a Watch<'a>,
}

impl Filling<'_> {
    fn failed(&self, step: &'static str, path: &str) -> impl FnOnce(Errno) -> StoreError {
        let failed = self.changing.failed(step, path);
        move |errno| failed(io::Error::from(errno))
    }

    fn in_the_way(&self, path: &str) -> StoreError {
        self.changing
            .impossible(format!("something that is no directory is in the place of its part {path:?}"))
    }

    fn fill(&self, new: &[&Wanted]) -> Result<Copied, StoreError> {
        let files = files::folder_below(self.top, Path::new(FILES)).map_err(self.failed("open", FILES))?;
        let name = format!("{FILLING}{}", Uuid::new_v4());
        rustix::fs::mkdirat(self.top, &*name, files::PRIVATE).map_err(self.failed("make", &name))?;
        let staging = files::folder_below(self.top, Path::new(&name)).map_err(self.failed("open", &name))?;
        let filled = self.fill_in(new, &files, &staging);
        // What is left of it is removed by the next one to fill.
        let end = Instant::now() + WITHDRAWING;
        if let Ok(content) = files::folder_on_same_mount(&staging, c".")
            && remove::remove_content(content, &[], end, &mut 0).is_ok()
        {
            let _ = rustix::fs::unlinkat(self.top, &*name, AtFlags::REMOVEDIR);
        }
        filled
    }

    fn fill_in(&self, new: &[&Wanted], files: &OwnedFd, staging: &OwnedFd) -> Result<Copied, StoreError> {
        let staged = self.stage(new, files, staging)?;
        let mut copied =
            self.copy(staged.iter().filter_map(|staged| Some((staged.root.content()?, &staged.folder))))?;
        for staged in &staged {
            add(&mut copied, self.make_below(staged)?);
        }
        if staged.is_empty() {
            return Ok(copied);
        }
        failpoint::reached("fill.copied").map_err(self.failed("sync", FILES))?;
        volhook_locks::flush_filesystem(staging).map_err(self.failed("sync", FILES))?;
        failpoint::reached("fill.synced").map_err(self.failed("sync", FILES))?;
        let mut changed = Changed::default();
        for (number, staged) in staged.iter().enumerate() {
            self.put(staged, (staging, number), files, &mut changed)?;
            failpoint::reached("fill.moved").map_err(self.failed("sync", FILES))?;
        }
        for folder in changed.0.values() {
            volhook_locks::flush(folder).map_err(self.failed("sync the folders of", FILES))?;
        }
        Ok(copied)
    }

    /// Makes a folder for each part that is not there and not below another such. `new` begins with what is above.
    fn stage<'a>(
        &self,
        new: &[&'a Wanted],
        files: &OwnedFd,
        staging: &OwnedFd,
    ) -> Result<Vec<Staged<'a>>, StoreError> {
        let mut staged: Vec<Staged<'_>> = Vec::new();
        for wanted in new {
            if let Some(above) =
                staged.iter_mut().find(|above| is_below_or_at(wanted.path(), above.root.path()))
            {
                above.below.push(wanted);
                continue;
            }
            match self.open(files, wanted.path())? {
                // Whole: it was synced before it got there.
                Some(folder) if !self.is_on_the_way(&folder, wanted.path())? => continue,
                _ => {}
            }
            let number = staged.len().to_string();
            rustix::fs::mkdirat(staging, &*number, files::PRIVATE)
                .map_err(self.failed("make", wanted.path()))?;
            let folder = files::folder_below(staging, Path::new(&number));
            let folder = folder.map_err(self.failed("open", wanted.path()))?;
            staged.push(Staged { root: wanted, folder, below: Vec::new() });
        }
        Ok(staged)
    }

    /// The folder at `path` below `folder`; `None` where nothing is.
    fn open(&self, folder: &OwnedFd, path: &str) -> Result<Option<OwnedFd>, StoreError> {
        match files::folder_below(folder, Path::new(path.trim_start_matches('/'))) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(self.in_the_way(path)),
            Err(errno) => Err(self.failed("open", path)(errno)),
        }
    }

    fn is_on_the_way(&self, folder: &OwnedFd, path: &str) -> Result<bool, StoreError> {
        let stat = rustix::fs::fstat(folder).map_err(self.failed("examine", path))?;
        Ok(stat.st_mode & 0o7777 == ON_THE_WAY.as_raw_mode())
    }

    fn copy<'b>(
        &self,
        trees: impl Iterator<Item = (&'b OwnedFd, &'b OwnedFd)>,
    ) -> Result<Copied, StoreError> {
        let mut pairs = Vec::new();
        for (from, to) in trees {
            let from =
                files::folder_on_same_mount(from, c".").map_err(self.failed("open the image's", FILES))?;
            let to = rustix::io::fcntl_dupfd_cloexec(to, 0).map_err(self.failed("open", FILES))?;
            pairs.push((from, to));
        }
        copy::copy_trees(pairs, ARCHIVE, self.watch).map_err(self.changing.not_populated())
    }

    /// Makes the parts below one that was copied, where they did not come with it.
    fn make_below(&self, staged: &Staged<'_>) -> Result<Copied, StoreError> {
        let mut copied = Copied::default();
        let top = staged.root;
        let mut bare = Vec::new();
        if top.content().is_none() {
            bare.push((
                top,
                rustix::io::fcntl_dupfd_cloexec(&staged.folder, 0)
                    .map_err(self.failed("open", top.path()))?,
            ));
        }
        for (index, part) in staged.below.iter().enumerate() {
            let above = staged.below[..index].iter().rfind(|above| is_below_or_at(part.path(), above.path()));
            let came = above.unwrap_or(&top).content().is_some();
            let relative = part.path().strip_prefix(top.path()).unwrap_or_default();
            let (folder, is_new) = self.make_folders(&staged.folder, relative, part.path())?;
            match part.content() {
                Some(_) if came && !is_new => continue,
                Some(from) => add(&mut copied, self.copy([(from, &folder)].into_iter())?),
                None => {
                    if came && !is_new {
                        let content = files::folder_on_same_mount(&folder, c".");
                        let content = content.map_err(self.failed("open", part.path()))?;
                        remove::remove_content(content, &[], self.watch.deadline, &mut 0)
                            .map_err(|obstacle| self.changing.impossible(obstacle.to_string()))?;
                    }
                    bare.push((part, folder));
                }
            }
        }
        // From below: each folder that is made changes the time of the one above.
        for (part, folder) in bare.into_iter().rev() {
            self.make_like(part, &folder)?;
        }
        Ok(copied)
    }

    /// Gives an empty part the owner, mode and times of the image's directory.
    fn make_like(&self, part: &Wanted, folder: &OwnedFd) -> Result<(), StoreError> {
        match &part.from {
            Some(from) => {
                let from =
                    files::folder_on_same_mount(from, c".").map_err(self.failed("open", part.path()))?;
                let original = rustix::fs::fstat(&from).map_err(self.failed("examine", part.path()))?;
                copy::copy_top(&from, folder, &original, ARCHIVE, self.watch)
                    .map_err(self.changing.not_populated())
            }
            None => rustix::fs::fchmod(folder, USUAL).map_err(self.failed("change the mode of", part.path())),
        }
    }

    /// Opens the folder `relative` below `folder`, made where it is missing; says whether it was.
    fn make_folders(
        &self,
        folder: &OwnedFd,
        relative: &str,
        path: &str,
    ) -> Result<(OwnedFd, bool), StoreError> {
        let mut is_new = false;
        let mut at = rustix::io::fcntl_dupfd_cloexec(folder, 0).map_err(self.failed("open", path))?;
        for name in relative.split('/').filter(|name| !name.is_empty()) {
            is_new = match rustix::fs::mkdirat(&at, name, USUAL) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(self.failed("make", path)(errno)),
            };
            at = match self.open(&at, name)? {
                Some(folder) => folder,
                None => return Err(self.failed("open", path)(Errno::NOENT)),
            };
        }
        Ok((at, is_new))
    }

    /// Moves a part to its place.
    fn put(
        &self,
        staged: &Staged<'_>,
        (staging, number): (&OwnedFd, usize),
        files: &OwnedFd,
        changed: &mut Changed,
    ) -> Result<(), StoreError> {
        let path = staged.root.path();
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let place = self.way_to(files, above, changed)?;
        let original = rustix::fs::fstat(&staged.folder).map_err(self.failed("examine", path))?;
        let number = number.to_string();
        match rustix::fs::renameat_with(staging, &*number, &place, name, RenameFlags::NOREPLACE) {
            Ok(()) => return changed.add(place).map_err(self.failed("examine", path)),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.failed("move to its place", path)(errno)),
        }
        // It is on the way to a part that was there first.
        let Some(there) = self.open(&place, name)? else {
            return Err(self.failed("open", path)(Errno::NOENT));
        };
        if self.is_on_the_way(&there, path)? {
            self.merge(&staged.folder, &original, &there, path)?;
        }
        Ok(())
    }

    /// Moves what is in `from` into `to`, which is on the way to parts that are there, and makes `to` what `from` was.
    fn merge(
        &self,
        from: &OwnedFd,
        original: &rustix::fs::Stat,
        to: &OwnedFd,
        path: &str,
    ) -> Result<(), StoreError> {
        let entries = files::raw_entries(from).map_err(self.failed("read", path))?;
        for (name, _) in entries {
            match rustix::fs::renameat_with(from, &name, to, &name, RenameFlags::NOREPLACE) {
                Ok(()) => {}
                Err(Errno::EXIST) => self.merge_entry(from, to, &name, path)?,
                Err(errno) => return Err(self.failed("move to its place", path)(errno)),
            }
        }
        // The mode is what makes it complete: last, and when all else is on the disk.
        volhook_locks::flush(to).map_err(self.failed("sync", path))?;
        copy::copy_top(from, to, original, ARCHIVE, self.watch).map_err(self.changing.not_populated())?;
        volhook_locks::flush(to).map_err(self.failed("sync", path))
    }

    fn merge_entry(
        &self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CString,
        path: &str,
    ) -> Result<(), StoreError> {
        let is_folder = |at: &OwnedFd| {
            let stat = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW);
            stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
        };
        // What is there is complete, or was there before the rest.
        if !is_folder(from) || !is_folder(to) {
            return Ok(());
        }
        let open = |at: &OwnedFd| files::folder_on_same_mount(at, name).map_err(self.failed("open", path));
        let (from, to) = (open(from)?, open(to)?);
        if !self.is_on_the_way(&to, path)? {
            return Ok(());
        }
        let original = rustix::fs::fstat(&from).map_err(self.failed("examine", path))?;
        self.merge(&from, &original, &to, path)
    }

    /// Opens the folder at `path`, made where it is missing. Outside of all parts, folders that are made are marked as
    /// being on the way only.
    fn way_to(&self, files: &OwnedFd, path: &str, changed: &mut Changed) -> Result<OwnedFd, StoreError> {
        let mut at = rustix::io::fcntl_dupfd_cloexec(files, 0).map_err(self.failed("open", path))?;
        let mut mode = ON_THE_WAY;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let is_new = match rustix::fs::mkdirat(&at, name, mode) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(self.failed("make", path)(errno)),
            };
            let Some(folder) = self.open(&at, name)? else {
                return Err(self.failed("open", path)(Errno::NOENT));
            };
            if is_new {
                // Whatever the umask.
                rustix::fs::fchmod(&folder, mode).map_err(self.failed("change the mode of", path))?;
                changed.add(at).map_err(self.failed("examine", path))?;
            } else if !self.is_on_the_way(&folder, path)? {
                mode = USUAL;
            }
            at = folder;
        }
        Ok(at)
    }
}

/// Folders whose entries changed, each once, by device and inode.
#[derive(Default)]
struct Changed(BTreeMap<(u64, u64), OwnedFd>);

impl Changed {
    fn add(&mut self, folder: OwnedFd) -> Result<(), Errno> {
        self.0.insert(files::identity(folder.as_fd())?, folder);
        Ok(())
    }
}

fn add(sum: &mut Copied, more: Copied) {
    sum.files += more.files;
    sum.directories += more.directories;
    sum.bytes += more.bytes;
    sum.reflinked += more.reflinked;
    sum.left_out += more.left_out;
    sum.attributes_lost += more.attributes_lost;
}
