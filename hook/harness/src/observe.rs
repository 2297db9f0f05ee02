//! What can be seen of a container from outside: its mounts, as `/proc/PID/mountinfo` has them.

use anyhow::Context;
use anyhow::Result;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A mount, as proc_pid_mountinfo(5) has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where, as the container sees it once it has its root.
    pub target: String,
    /// Which part of the filesystem it shows.
    pub root: String,
    /// The filesystem's type.
    pub kind: String,
    /// What is mounted, in the filesystem's own words.
    pub source: String,
    /// The options of this mount.
    pub options: Vec<String>,
    /// The options of the filesystem.
    pub super_options: Vec<String>,
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, root, kind, source, .. } = self;
        let (options, super_options) = (self.options.join(","), self.super_options.join(","));
        write!(f, "{target} type={kind} source={source} root={root} options={options} super={super_options}")
    }
}

/// The mounts that a mountinfo text tells of below `root`, which is where a container that has not changed its root yet has it.
/// What cannot be read is left out.
#[must_use]
pub fn parse_mountinfo(text: &str, root: &str) -> Vec<Mount> {
    let root = root.trim_end_matches('/');
    let line = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let list = |text: &str| text.split(',').map(unescape).collect();
        let target = unescape(left.get(4)?);
        let target = target.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        Some(Mount {
            target: if target.is_empty() { "/".to_owned() } else { target.to_owned() },
            root: unescape(left.get(3)?),
            kind: unescape(right.first()?),
            source: unescape(right.get(1)?),
            options: list(left.get(5)?),
            super_options: list(right.get(2)?),
        })
    };
    text.lines().filter_map(line).collect()
}

/// Spaces and the like are written as `\040`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = rest.get(1..4).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The mounts of a container, by its first process and its root filesystem on the host.
///
/// # Errors
/// When the process is gone.
pub fn mounts(pid: i32, rootfs: &Path) -> Result<Vec<Mount>> {
    let path = format!("/proc/{pid}/mountinfo");
    let text = fs::read(&path).with_context(|| format!("cannot read {path}: the process is gone"))?;
    let text = String::from_utf8_lossy(&text);
    let is_inside =
        |line: &str| unescape(line.split(' ').nth(4).unwrap_or_default()) == rootfs.to_string_lossy();
    // Before it has its root, the container's mounts are among the host's.
    let root = if text.lines().any(is_inside) { rootfs.to_string_lossy() } else { "".into() };
    Ok(parse_mountinfo(&text, &root))
}

/// Whether a container's process sees at `target` the very file or directory that `source` is on the host.
#[must_use]
pub fn is_same(pid: i32, target: &str, root: &Path, source: &Path) -> bool {
    let inside = Path::new("/proc").join(pid.to_string()).join("root");
    let inside = std::path::PathBuf::from(std::ffi::OsStr::from_bytes(
        &[inside.as_os_str().as_bytes(), root.as_os_str().as_bytes(), target.as_bytes()].concat(),
    ));
    let identity = |path: &Path| fs::metadata(path).map(|data| (data.dev(), data.ino()));
    matches!((identity(&inside), identity(source)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 254:0 /b/rootfs /b/rootfs rw,relatime - ext4 /dev/vda rw
31 30 0:50 / /b/rootfs/with\\040space ro,nosuid shared:3 - tmpfs none rw,size=4k
32 30 0:51 / /b/rootfs2 rw - tmpfs none rw
nonsense
";

    #[test]
    fn mounts_are_those_that_the_container_will_see() {
        let mounts = parse_mountinfo(TEXT, "/b/rootfs");
        let targets: Vec<_> = mounts.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(targets, ["/", "/with space"]);
        assert_eq!(
            mounts[1].to_string(),
            "/with space type=tmpfs source=none root=/ options=ro,nosuid super=rw,size=4k"
        );
        assert_eq!(parse_mountinfo(TEXT, "").len(), 4);
    }
}
