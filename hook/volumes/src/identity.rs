//! What tells one container image from another, read from its root filesystem.
//!
//! That is looked at on every start of a pod, and was made by whoever made the image: nothing in it can keep the start
//! waiting or make it fail. What is odd counts as not known.

use crate::files;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;
use rustix::fs::Stat;
use rustix::io::Errno;
use sha2::Digest;
use sha2::Sha256;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use volhook_core::image::ImageIdentity;
use volhook_core::image::PackageDatabase;
use volhook_core::image::Stamp;
use volhook_core::names::shorten;

/// Where package managers list what is installed, the first that is there counts: dpkg(1), apk(8) before and since its
/// version 3, rpm(8) since its version 4.16 and before.
const DATABASES: [&str; 6] = [
    "/var/lib/dpkg/status",
    "/lib/apk/db/installed",
    "/usr/lib/apk/db/installed",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages",
];
/// os-release(5).
const RELEASES: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
/// How many bytes of a list of packages count. The largest known ones have a third of that.
const MOST_OF_DATABASE: u64 = 64 << 20;
const MOST_OF_RELEASE: u64 = 64 << 10;
const BUFFER: usize = 64 << 10;

/// What is known of the image that has the root filesystem `rootfs`, on which nothing else may be mounted. `name` is what
/// the engine calls it.
///
/// # Errors
/// Those of reading, such as a failing disk. Whatever an image may hold is none.
pub fn identify(rootfs: BorrowedFd<'_>, name: Option<String>) -> io::Result<ImageIdentity> {
    identify_beside(rootfs, name, None)
}

/// The same, where an image was `recorded` earlier. A list of packages that is the same file as then, by its stamp, is
/// not read again.
///
/// # Errors
/// As [`identify`].
pub fn identify_beside(
    rootfs: BorrowedFd<'_>,
    name: Option<String>,
    recorded: Option<&ImageIdentity>,
) -> io::Result<ImageIdentity> {
    let recorded = recorded.and_then(|recorded| recorded.packages.as_ref());
    Ok(ImageIdentity { name, system: system(rootfs)?, packages: packages(rootfs, recorded)? })
}

fn packages(
    rootfs: BorrowedFd<'_>,
    recorded: Option<&PackageDatabase>,
) -> io::Result<Option<PackageDatabase>> {
    for path in DATABASES {
        let Some((handle, stat)) = find(rootfs, path)? else { continue };
        let stamp = stamp(&stat);
        let is_recorded = |known: &&PackageDatabase| known.path == path && known.stamp == Some(stamp);
        if let Some(known) = recorded.filter(is_recorded) {
            return Ok(Some(known.clone()));
        }
        let digest = digest(open(&handle)?, &stat)?;
        return Ok(Some(PackageDatabase { path: path.to_owned(), digest, stamp: Some(stamp) }));
    }
    Ok(None)
}

fn system(rootfs: BorrowedFd<'_>) -> io::Result<Option<String>> {
    for path in RELEASES {
        let Some((handle, stat)) = find(rootfs, path)? else { continue };
        if stat.st_size.unsigned_abs() > MOST_OF_RELEASE {
            return Ok(None);
        }
        let mut text = Vec::new();
        File::from(open(&handle)?).take(MOST_OF_RELEASE).read_to_end(&mut text)?;
        return Ok(std::str::from_utf8(&text).ok().and_then(pretty_name));
    }
    Ok(None)
}

/// The value of `PRETTY_NAME` (os-release(5)), on one line and not too long to be shown.
fn pretty_name(text: &str) -> Option<String> {
    let value = text.lines().rev().find_map(|line| line.trim_start().strip_prefix("PRETTY_NAME="))?.trim();
    let quoted = |quote: char| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
    let name = match (quoted('\''), quoted('"')) {
        (Some(plain), _) => plain.to_owned(),
        (None, Some(escaped)) => unescape(escaped),
        (None, None) => unescape(value),
    };
    let is_fit = !name.is_empty() && !name.chars().any(char::is_control);
    is_fit.then(|| shorten(&name))
}

/// Takes away the backslashes by which a shell keeps characters as they are.
fn unescape(text: &str) -> String {
    let mut characters = text.chars();
    let mut plain = String::with_capacity(text.len());
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    plain
}

/// Finds a regular file: a handle of it and its status. Symlinks lead nowhere out of the root filesystem.
fn find(rootfs: BorrowedFd<'_>, path: &str) -> io::Result<Option<(OwnedFd, Stat)>> {
    let found = files::open_in_root(rootfs, Path::new(path), OFlags::PATH, ResolveFlags::NO_XDEV);
    let handle = match found {
        Ok(handle) => handle,
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::XDEV
            | Errno::ACCESS
            | Errno::PERM
            | Errno::NAMETOOLONG,
        ) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let stat = rustix::fs::fstat(&handle)?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(is_file.then_some((handle, stat)))
}

/// Opens what was found for reading. Only now: it is known that opening it does nothing.
fn open(handle: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, files::link_to(handle), flags, Mode::empty())
}

/// A digest of the size and of as much of the content as counts (SHA-256, FIPS 180-4).
fn digest(file: OwnedFd, stat: &Stat) -> io::Result<String> {
    let mut hasher = Sha256::new();
    hasher.update(stat.st_size.to_le_bytes());
    let mut file = File::from(file).take(MOST_OF_DATABASE);
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let digest = hasher.finalize();
    Ok(digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

fn stamp(stat: &Stat) -> Stamp {
    Stamp {
        inode: stat.st_ino,
        size: stat.st_size.unsigned_abs(),
        modified: (stat.st_mtime, stat.st_mtime_nsec.try_into().unwrap_or_default()),
        changed: (stat.st_ctime, stat.st_ctime_nsec.try_into().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::pretty_name;

    #[test]
    fn a_systems_name_is_read_as_a_shell_would() {
        let name = |text: &str| pretty_name(text);
        let is = |text: &str, wanted: &str| assert_eq!(name(text).as_deref(), Some(wanted), "{text:?}");
        is(
            "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nID=debian\n",
            "Debian GNU/Linux 13 (trixie)",
        );
        is("PRETTY_NAME='Alpine Linux v3.22'", "Alpine Linux v3.22");
        is("PRETTY_NAME=Void", "Void");
        is("  PRETTY_NAME=\"a \\\"b\\\" \\$c \\\\\"  ", "a \"b\" $c \\");
        is("PRETTY_NAME=first\nPRETTY_NAME=last\n", "last");
        for none in
            ["", "PRETTY_NAME=", "PRETTY_NAME=\"\"", "PRETTY=x", "PRETTY_NAME=\"a\tb\"", "#PRETTY_NAME=x"]
        {
            assert_eq!(name(none), None, "{none:?}");
        }
        assert_eq!(name(&format!("PRETTY_NAME={}", "x".repeat(60_000))).unwrap().chars().count(), 161);
    }
}
