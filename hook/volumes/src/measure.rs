//! How much of the disk a file or a directory tree takes.

use crate::files;
use rustix::fs::AtFlags;
use rustix::fs::Dir;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

/// The kernel takes paths of up to 4096 bytes; deeper folders are reached from a nearer base.
const LONG_PATH: usize = 3000;

/// The bytes allocated to what is open: a file, or a directory with all below it on the same filesystem.
///
/// The tree's content may be hostile and may change meanwhile: no symlink is followed, depth and number of entries are
/// only bounded by the filesystem, and what vanishes is not counted.
pub(crate) fn bytes_used(opened: OwnedFd) -> io::Result<u64> {
    let top = rustix::fs::fstat(&opened)?;
    let mut sum = files::allocated(&top);
    if FileType::from_raw_mode(top.st_mode) != FileType::Directory {
        return Ok(sum);
    }
    let mut several_names = HashSet::new();
    let mut folders: Vec<(Rc<OwnedFd>, PathBuf)> = vec![(Rc::new(opened), PathBuf::from("."))];
    while let Some((base, path)) = folders.pop() {
        let folder = match files::folder_below(&*base, &path) {
            Ok(folder) => Rc::new(folder),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let far = path.as_os_str().len() > LONG_PATH;
        for entry in Dir::read_from(&*folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(&*folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if stat.st_dev != top.st_dev {
                continue;
            }
            let name = OsStr::from_bytes(name.to_bytes());
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                folders.push(if far {
                    (Rc::clone(&folder), PathBuf::from(name))
                } else {
                    (Rc::clone(&base), path.join(name))
                });
            } else if stat.st_nlink > 1 && !several_names.insert(stat.st_ino) {
                continue;
            }
            sum = sum.saturating_add(files::allocated(&stat));
        }
    }
    Ok(sum)
}
