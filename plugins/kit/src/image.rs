//! What drivers that make filesystem images have in common: sizes and filesystems.

use crate::driver::Filesystem;
use crate::driver::Refusal;
use crate::size;

/// The filesystems by the names that people give them.
pub const FILESYSTEMS: [(&str, Filesystem); 3] =
    [("ext4", Filesystem::Ext4), ("xfs", Filesystem::Xfs), ("btrfs", Filesystem::Btrfs)];

/// The filesystem called `name`.
///
/// # Errors
/// A refusal that lists those there are.
pub fn filesystem(name: &str) -> Result<Filesystem, Refusal> {
    let found = FILESYSTEMS.iter().find(|(known, _)| *known == name);
    found.map(|(_, filesystem)| *filesystem).ok_or_else(|| {
        let known: Vec<&str> = FILESYSTEMS.iter().map(|(known, _)| *known).collect();
        Refusal::new(format!("unknown filesystem {name:?}")).with_hint(format!("give fs={}", known.join("|")))
    })
}

/// The smallest image that can hold a filesystem: bytes, the same as text, and why.
#[must_use]
pub fn smallest(filesystem: Filesystem) -> (u64, &'static str, &'static str) {
    match filesystem {
        // With blocks of 4096 bytes mke2fs(8) makes no journal in fewer than 2048 of them, and without a journal a
        // crash of the host could damage the filesystem.
        Filesystem::Ext4 => (8 << 20, "8M", "ext4 with a journal"),
        Filesystem::Xfs => (300 << 20, "300M", "XFS"),
        Filesystem::Btrfs => (109 << 20, "109M", "btrfs"),
    }
}

/// The bytes that `text` stands for, if an image of that size can hold the filesystem.
///
/// # Errors
/// A refusal that says what is wrong with it.
pub fn parse_size(text: &str, filesystem: Filesystem) -> Result<u64, Refusal> {
    let size = size::parse(text).map_err(|error| Refusal::new(format!("invalid size {text:?}: {error}")))?;
    let (least, name, what) = smallest(filesystem);
    if size < least {
        return Err(Refusal::new(format!("a size of {text} is too small for {what}"))
            .with_hint(format!("give a size of {name} or more")));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_sizes() {
        for (name, filesystem) in FILESYSTEMS {
            let (least, text, what) = smallest(filesystem);
            assert_eq!(size::parse(text), Ok(least), "{name}");
            assert_eq!(parse_size(text, filesystem), Ok(least));
            let refusal = parse_size(&(least - 1).to_string(), filesystem).unwrap_err();
            assert_eq!(refusal.reason, format!("a size of {} is too small for {what}", least - 1));
            assert_eq!(refusal.hint, Some(format!("give a size of {text} or more")));
        }
    }

    #[test]
    fn unknown_filesystems_are_refused_with_the_list() {
        assert_eq!(filesystem("xfs"), Ok(Filesystem::Xfs));
        let refusal = filesystem("ntfs").unwrap_err();
        assert_eq!(refusal.reason, "unknown filesystem \"ntfs\"");
        assert_eq!(refusal.hint.as_deref(), Some("give fs=ext4|xfs|btrfs"));
    }
}
