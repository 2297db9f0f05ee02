//! What the bytes of an image say of its filesystem.

use std::os::fd::AsFd;
use volhook_core::decision::Filesystem;

/// A filesystem that was recognized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recognized {
    /// What it is.
    pub filesystem: Filesystem,
    /// Its blocks' size in bytes.
    pub block_size: u32,
    /// The largest unit in which the device below may be read and written, in bytes.
    pub sector_size: u32,
}

/// Looks which filesystem is in `file`; `None` for none that volhook can mount. The content is not trusted for more than
/// that.
pub fn recognize(file: impl AsFd) -> Option<Recognized> {
    let file = file.as_fd();
    let bytes = |offset, length: usize| {
        let mut bytes = vec![0_u8; length];
        (rustix::io::pread(file, &mut bytes[..], offset).ok()? == length).then_some(bytes)
    };
    ext4(&bytes(1024, 1024)?).or_else(|| xfs(&bytes(0, 512)?)).or_else(|| btrfs(&bytes(64 << 10, 4096)?))
}

fn at<const LENGTH: usize>(bytes: &[u8], offset: usize) -> Option<[u8; LENGTH]> {
    bytes.get(offset..offset + LENGTH)?.try_into().ok()
}

/// A size in bytes as filesystems and devices have it.
fn is_size(bytes: &u32) -> bool {
    bytes.is_power_of_two() && (512..=64 << 10).contains(bytes)
}

/// `struct ext4_super_block`, Documentation/filesystems/ext4/super.rst of the kernel.
fn ext4(superblock: &[u8]) -> Option<Recognized> {
    let log = u32::from_le_bytes(at(superblock, 0x18)?);
    let block_size = 1024_u32.checked_shl(log).filter(is_size)?;
    let is_ext4 = at(superblock, 0x38)? == [0x53, 0xef];
    is_ext4.then_some(Recognized { filesystem: Filesystem::Ext4, block_size, sector_size: block_size })
}

/// `struct xfs_dsb` of the kernel's fs/xfs/libxfs/xfs_format.h.
fn xfs(superblock: &[u8]) -> Option<Recognized> {
    let block_size = Some(u32::from_be_bytes(at(superblock, 4)?)).filter(is_size)?;
    let sector_size = Some(u32::from(u16::from_be_bytes(at(superblock, 102)?))).filter(is_size)?;
    let is_xfs = at(superblock, 0)? == *b"XFSB";
    is_xfs.then_some(Recognized { filesystem: Filesystem::Xfs, block_size, sector_size })
}

/// `struct btrfs_super_block` of linux/btrfs_tree.h.
fn btrfs(superblock: &[u8]) -> Option<Recognized> {
    let sector_size = Some(u32::from_le_bytes(at(superblock, 0x90)?)).filter(is_size)?;
    let is_btrfs = at(superblock, 0x40)? == *b"_BHRfS_M";
    is_btrfs.then_some(Recognized { filesystem: Filesystem::Btrfs, block_size: sector_size, sector_size })
}

#[cfg(test)]
mod tests {
    use super::Recognized;
    use super::recognize;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::process::Command;
    use volhook_core::decision::Filesystem;

    #[test]
    fn what_mkfs_makes_is_recognized() {
        let folder = tempfile::tempdir().unwrap();
        for (program, size, args, filesystem, block_size, sector_size) in [
            ("mkfs.ext4", 16, &["-q", "-F", "-b", "1024"][..], Filesystem::Ext4, 1024, 1024),
            ("mkfs.ext4", 16, &["-q", "-F", "-b", "4096"], Filesystem::Ext4, 4096, 4096),
            ("mkfs.xfs", 400, &["-q", "-f", "-s", "size=512"], Filesystem::Xfs, 4096, 512),
            ("mkfs.xfs", 400, &["-q", "-f", "-s", "size=4096"], Filesystem::Xfs, 4096, 4096),
            ("mkfs.btrfs", 200, &["-q", "-f"], Filesystem::Btrfs, 4096, 4096),
        ] {
            let path = folder.path().join(program);
            let file = File::create(&path).unwrap();
            file.set_len(size << 20).unwrap();
            let made = Command::new(program).args(args).arg(&path).output();
            let made = made.unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
            assert!(made.status.success(), "{made:?}");
            let found = recognize(File::open(&path).unwrap());
            assert_eq!(found, Some(Recognized { filesystem, block_size, sector_size }));
            file.set_len(0).unwrap();
            assert_eq!(recognize(File::open(&path).unwrap()), None);
            file.set_len(size << 20).unwrap();
            file.write_all_at(b"XFSB", 0).unwrap();
            assert_eq!(recognize(File::open(&path).unwrap()), None);
        }
    }
}
