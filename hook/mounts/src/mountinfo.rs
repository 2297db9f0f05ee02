//! A mount namespace's table of mounts, and which of them a new mount would hide.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

/// A line of the mount table that does not have the documented form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not as in proc_pid_mountinfo(5): {text:?}")]
pub struct MountinfoError {
    /// Its number, from 1.
    pub line: usize,
    /// Its text, cut to a printable length.
    pub text: String,
}

/// One mount: the fields of proc_pid_mountinfo(5) that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The mount's id; unique among the mounts that exist now.
    pub id: u64,
    /// The id of the mount that it is mounted on.
    pub parent: u64,
    /// The device number of its filesystem, as (major, minor).
    pub device: (u32, u32),
    /// Which directory of its filesystem is its root.
    pub root: PathBuf,
    /// Where it is, from the root directory of the process whose table this is.
    pub mount_point: PathBuf,
    /// Whether the mount (not the filesystem) is read-only.
    pub read_only: bool,
    /// Whether mounts made on it propagate to other mounts (`shared:`).
    pub shared: bool,
    /// The type of its filesystem.
    pub filesystem: String,
    /// What it was mounted from, as the filesystem says it.
    pub source: OsString,
}

/// Parses the content of `/proc/PID/mountinfo`.
///
/// # Errors
/// [`MountinfoError`] naming the first line that does not have the documented form.
pub fn parse(table: &[u8]) -> Result<Vec<Mount>, MountinfoError> {
    table
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| {
            parse_line(line).ok_or_else(|| MountinfoError {
                line: index + 1,
                text: volhook_core::names::shorten(&String::from_utf8_lossy(line)),
            })
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let (major, minor) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let root = path(fields.next()?)?;
    let mount_point = path(fields.next()?)?;
    let read_only = fields.next()?.split(|byte| *byte == b',').any(|option| option == b"ro");
    let mut shared = false;
    loop {
        match fields.next()? {
            b"-" => break,
            field => shared |= field.starts_with(b"shared:"),
        }
    }
    let filesystem = String::from_utf8(unescape(fields.next()?)?).ok()?;
    let source = OsString::from_vec(unescape(fields.next()?)?);
    let device = (major.parse().ok()?, minor.parse().ok()?);
    Some(Mount { id, parent, device, root, mount_point, read_only, shared, filesystem, source })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn path(field: &[u8]) -> Option<PathBuf> {
    Some(PathBuf::from(OsString::from_vec(unescape(field)?)))
}

/// Undoes the kernel's escapes: a backslash and three octal digits stand for a byte.
fn unescape(field: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'\\' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_at_checked(3)?;
        let text =
            std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
        bytes.push(u8::from_str_radix(text, 8).ok()?);
        rest = tail;
    }
    Some(bytes)
}

/// The mounts that a new mount at `target` would hide and that can be moved on top of it, outermost first, each
/// the topmost of those stacked on its place.
///
/// `target` is where the new mount will be, `on` the mount that it will be mounted on. A mount below `target` is
/// hidden already if it is not mounted on `on` itself, unless it hangs below one that is; then it goes along with
/// that one. So is one that another mount on `on` covers.
#[must_use]
pub fn visible_below<'a>(mounts: &'a [Mount], on: u64, target: &Path) -> Vec<&'a Mount> {
    let is_below = |path: &Path, ancestor: &Path| path != ancestor && path.starts_with(ancestor);
    let mut candidates: Vec<&Mount> =
        mounts.iter().filter(|mount| mount.parent == on && is_below(&mount.mount_point, target)).collect();
    candidates.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
    let mut chosen: Vec<&Mount> = Vec::new();
    for mount in candidates {
        if !chosen.iter().any(|above| mount.mount_point.starts_with(&above.mount_point)) {
            chosen.push(topmost(mounts, mount));
        }
    }
    chosen
}

/// The mount on top of those stacked on `mount`.
fn topmost<'a>(mounts: &'a [Mount], mount: &'a Mount) -> &'a Mount {
    let mut top = mount;
    // No stack is higher than the table is long; the bound keeps a nonsensical table from looping.
    for _ in mounts {
        match mounts.iter().find(|m| m.parent == top.id && m.id != top.id && m.mount_point == top.mount_point)
        {
            Some(above) => top = above,
            None => break,
        }
    }
    top
}
