//! Files with several names: which of them are copied already, and where.

use crate::files;
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The kernel takes paths of up to 4096 bytes, and a name has up to 255.
const LONG_PATH: usize = 3000;

/// The place of a folder of the copy: its number in [`Links::places`].
pub(super) type PlaceId = usize;

/// The top of the copy.
pub(super) const TOP: PlaceId = 0;

/// The first copies of files with several names.
///
/// They are found again by their place: so many descriptors cannot be kept open.
#[derive(Default)]
pub(super) struct Links {
    /// Folders in which there are first copies, and those above: the one above and the name in it. The top is not here,
    /// so its number is one more than the index.
    places: Vec<(PlaceId, CString)>,
    /// By device and inode of the original.
    firsts: HashMap<(u64, u64), First>,
}

struct First {
    place: PlaceId,
    name: CString,
    /// The copy's device and inode.
    identity: (u64, u64),
    /// How many names of the original are not copied yet.
    left: u64,
}

impl Links {
    /// The number of a new place.
    pub(super) fn place(&mut self, above: PlaceId, name: &CStr) -> PlaceId {
        self.places.push((above, name.to_owned()));
        self.places.len()
    }

    /// Remembers the copy of an original that has `names` names.
    pub(super) fn remember(
        &mut self,
        original: (u64, u64),
        names: impl TryInto<u64>,
        place: PlaceId,
        name: &CStr,
        copy: (u64, u64),
    ) {
        let first = First {
            place,
            name: name.to_owned(),
            identity: copy,
            left: names.try_into().unwrap_or(u64::MAX).saturating_sub(1),
        };
        self.firsts.insert(original, first);
    }

    /// Opens the copy of an original, if there is one and its name still stands for it. `here` is the folder of the copy
    /// that is worked on.
    pub(super) fn find(
        &mut self,
        original: (u64, u64),
        top: BorrowedFd<'_>,
        here: (Option<PlaceId>, BorrowedFd<'_>),
    ) -> Option<OwnedFd> {
        let first = self.firsts.get(&original)?;
        let copy = if here.0 == Some(first.place) {
            files::entry_on_same_mount(here.1, &first.name)
        } else {
            self.open(top, first)
        };
        let copy = copy.ok().filter(|copy| files::identity(copy) == Ok(first.identity));
        if copy.is_none() {
            self.firsts.remove(&original);
        }
        copy
    }

    /// Notes that one more name is copied.
    pub(super) fn done(&mut self, original: (u64, u64)) {
        if let Some(first) = self.firsts.get_mut(&original) {
            first.left = first.left.saturating_sub(1);
            if first.left == 0 {
                self.firsts.remove(&original);
            }
        }
    }

    fn open(&self, top: BorrowedFd<'_>, first: &First) -> Result<OwnedFd, Errno> {
        let mut names = Vec::new();
        let mut place = first.place;
        while let Some((above, name)) = place.checked_sub(1).map(|index| &self.places[index]) {
            names.push(name);
            place = *above;
        }
        let mut folder: Option<OwnedFd> = None;
        let mut path = PathBuf::new();
        let open = |folder: &Option<OwnedFd>, path: &PathBuf| {
            files::folder_below(folder.as_ref().map_or(top, AsFd::as_fd), path)
        };
        for name in names.into_iter().rev() {
            path.push(OsStr::from_bytes(name.to_bytes()));
            if path.as_os_str().len() > LONG_PATH {
                folder = Some(open(&folder, &path)?);
                path.clear();
            }
        }
        if !path.as_os_str().is_empty() {
            folder = Some(open(&folder, &path)?);
        }
        files::entry_on_same_mount(folder.as_ref().map_or(top, AsFd::as_fd), &first.name)
    }
}
