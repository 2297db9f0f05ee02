//! Directories of the host that are granted to containers, opened so that nobody but who granted them leads elsewhere.

use crate::error::Error;
use crate::sys;
use crate::sys::SyscallError;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Opens (`O_PATH`) the directory `path`, which is `granted` or below it.
///
/// Symlinks in `granted` are its operator's, and followed. Below it none is: containers may write there. Directories
/// in, at or above `kept` are nobody's.
///
/// # Errors
/// [`Error::HostPathMissing`], [`Error::HostPathSymlink`], [`Error::HostPathNotDirectory`], [`Error::HostPathKept`],
/// [`Error::OpenHostPath`].
pub fn open_granted(granted: &Path, path: &Path, kept: &[&Path]) -> Result<OwnedFd, Error> {
    let failed = |source: SyscallError| {
        let path = path.to_owned();
        if source.is(Errno::NOENT) {
            Error::HostPathMissing { path }
        } else if source.is(Errno::LOOP) {
            Error::HostPathSymlink { path, granted: granted.to_owned() }
        } else if source.is(Errno::NOTDIR) {
            Error::HostPathNotDirectory { path }
        } else {
            Error::OpenHostPath { path, source }
        }
    };
    let outside = || Error::OpenHostPath {
        path: path.to_owned(),
        source: SyscallError::new(format!("{path:?} is not below {granted:?}"), Errno::XDEV),
    };
    let below = path.strip_prefix(granted).map_err(|_| outside())?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut found = sys::open(granted, flags).map_err(failed)?;
    if !below.as_os_str().is_empty() {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        found = sys::openat2(found.as_fd(), below, flags, resolve).map_err(failed)?;
    }
    for kept in kept {
        let (nearest, there) = nearest_directory(kept).map_err(failed)?;
        let inside = there && is_at_or_below(found.as_fd(), nearest.as_fd()).map_err(failed)?;
        if inside || is_at_or_below(nearest.as_fd(), found.as_fd()).map_err(failed)? {
            return Err(Error::HostPathKept { path: path.to_owned(), kept: (*kept).to_owned() });
        }
    }
    Ok(found)
}

/// The directory `path`, or the nearest one above it that exists; and whether it is the former.
fn nearest_directory(path: &Path) -> sys::Result<(OwnedFd, bool)> {
    let mut last = None;
    for ancestor in path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
        match sys::open(ancestor, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => return Ok((directory, ancestor == path)),
            Err(error) if error.is(Errno::NOENT) || error.is(Errno::NOTDIR) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| SyscallError::new(format!("open({path:?})"), Errno::NOENT)))
}

/// Whether `directory` is `ancestor` or lies below it, by what they are: the same directory may have several paths.
fn is_at_or_below(directory: BorrowedFd<'_>, ancestor: BorrowedFd<'_>) -> sys::Result<bool> {
    let identity = |fd: BorrowedFd<'_>| sys::status(fd).map(|status| (status.device, status.inode));
    let wanted = identity(ancestor)?;
    let mut here = sys::openat(directory, ".", OFlags::PATH | OFlags::DIRECTORY)?;
    let mut was = identity(here.as_fd())?;
    loop {
        if was == wanted {
            return Ok(true);
        }
        here = sys::openat(here.as_fd(), "..", OFlags::PATH | OFlags::DIRECTORY)?;
        let now = identity(here.as_fd())?;
        if now == was {
            return Ok(false);
        }
        was = now;
    }
}

#[cfg(test)]
mod tests {
    use super::open_granted;
    use crate::Error;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn open(granted: &Path, path: &Path) -> Result<u64, Error> {
        open_granted(granted, path, &[]).map(|fd| std::fs::File::from(fd).metadata().unwrap().ino())
    }

    #[test]
    fn nothing_below_what_was_granted_leads_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let granted = folder.path().join("granted");
        std::fs::create_dir_all(granted.join("a/b")).unwrap();
        std::fs::create_dir(folder.path().join("secret")).unwrap();
        std::fs::write(granted.join("file"), "").unwrap();
        symlink("../secret", granted.join("out")).unwrap();
        symlink(folder.path().join("secret"), granted.join("a/absolute")).unwrap();
        symlink("b", granted.join("a/inside")).unwrap();
        symlink(&granted, folder.path().join("link")).unwrap();

        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        assert_eq!(open(&granted, &granted).unwrap(), inode(&granted));
        assert_eq!(open(&granted, &granted.join("a/b")).unwrap(), inode(&granted.join("a/b")));
        let link = folder.path().join("link");
        assert_eq!(
            open(&link, &link.join("a")).unwrap(),
            inode(&granted.join("a")),
            "the operator's own link"
        );
        for linked in ["out", "a/absolute", "a/inside", "out/x"] {
            let error = open(&granted, &granted.join(linked)).unwrap_err();
            assert!(matches!(error, Error::HostPathSymlink { .. }), "{linked}: {error:?}");
        }
        assert!(matches!(open(&granted, &granted.join("no")), Err(Error::HostPathMissing { .. })));
        assert!(matches!(open(&granted, &granted.join("file")), Err(Error::HostPathNotDirectory { .. })));
        assert!(matches!(open(&granted, folder.path()), Err(Error::OpenHostPath { .. })));
        assert!(open(&granted, &granted.join("../secret")).is_err());
    }

    #[test]
    fn what_is_kept_is_neither_in_nor_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path();
        std::fs::create_dir_all(top.join("state/volumes/v")).unwrap();
        std::fs::create_dir_all(top.join("state2")).unwrap();
        symlink(top, top.join("state2/back")).unwrap();
        let kept = |path: &str| {
            let granted = top.join(path);
            let (state, later) = (top.join("state"), top.join("later/run"));
            matches!(open_granted(&granted, &granted, &[&state, &later]), Err(Error::HostPathKept { .. }))
        };
        for refused in ["", "state", "state/volumes", "state/volumes/v", "state2/back"] {
            assert!(kept(refused), "{refused}");
        }
        assert!(!kept("state2"));
    }
}
