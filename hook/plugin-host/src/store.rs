//! Changing the folder of installed plugins: one process at a time, each change a rename.
//!
//! Beside `<name>/`, which [`installed`](crate::installed) reads, lie `.previous-<name>/`, the one that was replaced last, and
//! while a change goes on `.staging-…/`. Names that begin with a dot are no plugins' names. A change that is killed leaves
//! the old plugin or the new one in place, and at most a staging folder, which the next change removes.

use rustix::fs::RenameFlags;
use rustix::io::Errno;
use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use volhook_locks::Held;

/// How the name of a folder begins that is being built.
pub(crate) const STAGING: &str = ".staging-";
/// How the name of a folder begins that was replaced.
const PREVIOUS: &str = ".previous-";

/// How long is waited for somebody else who changes the folder: a plugin is tried meanwhile, and everything flushed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The folder of installed plugins, which nobody else changes while this value lives.
#[derive(Debug)]
pub(crate) struct Lock {
    folder: File,
    path: PathBuf,
    _held: Held,
}

/// Waits until nobody else changes the folder, and removes what killed changes have left.
pub(crate) fn lock(installed: &Path) -> io::Result<Lock> {
    lock_within(installed, PATIENCE)
}

fn lock_within(installed: &Path, patience: Duration) -> io::Result<Lock> {
    let folder = File::open(installed)?;
    let held = volhook_locks::take(volhook_locks::Lock::Plugins, &folder, Instant::now() + patience)?;
    let held = held.ok_or_else(|| {
        io::Error::new(io::ErrorKind::TimedOut, "another command is changing the installed plugins")
    })?;
    for entry in fs::read_dir(installed)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(STAGING.as_bytes()) {
            remove(&entry.path())?;
        }
    }
    Ok(Lock { folder, path: installed.to_owned(), _held: held })
}

/// Where the one lies that `name` has replaced.
pub(crate) fn previous(name: &str) -> String {
    format!("{PREVIOUS}{name}")
}

/// Puts the finished folder `staging` in the place of `name`. One that is there is kept as the previous one.
pub(crate) fn replace(lock: &Lock, staging: &Path, name: &str) -> io::Result<()> {
    volhook_locks::flush(&File::open(staging)?)?;
    let from = staging.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match rename(lock, &from, name, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => {
            rename(lock, &from, name, RenameFlags::EXCHANGE)?;
            let previous = previous(name);
            remove(&lock.path.join(&previous))?;
            rename(lock, &from, &previous, RenameFlags::NOREPLACE)?;
        }
        result => result?,
    }
    Ok(volhook_locks::flush(&lock.folder)?)
}

/// Puts the finished folder `staging` in the place of `name`, which is the same plugin, and keeps nothing of it.
pub(crate) fn renew(lock: &Lock, staging: &Path, name: &str) -> io::Result<()> {
    volhook_locks::flush(&File::open(staging)?)?;
    let from = staging.file_name().unwrap_or_default().to_string_lossy().into_owned();
    rename(lock, &from, name, RenameFlags::EXCHANGE)?;
    Ok(volhook_locks::flush(&lock.folder)?)
}

/// Lets `name` and its previous one trade places. Whether there is a previous one.
pub(crate) fn swap(lock: &Lock, name: &str) -> io::Result<bool> {
    match rename(lock, name, &previous(name), RenameFlags::EXCHANGE) {
        Err(Errno::NOENT) => return Ok(false),
        result => result?,
    }
    volhook_locks::flush(&lock.folder)?;
    Ok(true)
}

/// Removes `name` and its previous one.
pub(crate) fn take_away(lock: &Lock, name: &str) -> io::Result<()> {
    remove(&lock.path.join(previous(name)))?;
    let staged = format!("{STAGING}{name}");
    // At one stroke first, so that nobody finds a half of it.
    match rename(lock, name, &staged, RenameFlags::NOREPLACE) {
        Err(Errno::NOENT) => {}
        result => result?,
    }
    volhook_locks::flush(&lock.folder)?;
    remove(&lock.path.join(staged))
}

fn rename(lock: &Lock, from: &str, to: &str, flags: RenameFlags) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(&lock.folder, from, &lock.folder, to, flags)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::lock_within;
    use std::io::ErrorKind;
    use std::time::Duration;

    #[test]
    fn somebody_who_never_ends_is_waited_for_until_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let held = lock_within(&path, Duration::ZERO).unwrap();
        let other = std::thread::spawn(move || lock_within(&path, Duration::from_millis(20)).map(drop));
        assert_eq!(other.join().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
        drop(held);
        lock_within(folder.path(), Duration::ZERO).unwrap();
    }
}
