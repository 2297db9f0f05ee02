//! What the first bytes of an image say of its filesystem.

use std::os::fd::AsFd;
use volhook_core::decision::Filesystem;

/// Where the superblock of ext4 begins (Documentation/filesystems/ext4/super.rst of the kernel).
const EXT4_START: u64 = 1024;
const EXT4_LOG_BLOCK_SIZE: usize = 0x18;
const EXT4_MAGIC_AT: usize = 0x38;
const EXT4_MAGIC: [u8; 2] = [0x53, 0xef];

/// A filesystem that was recognized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// What it is.
    pub filesystem: Filesystem,
    /// Its blocks' size in bytes.
    pub block_size: u32,
}

/// Looks which filesystem is in `file`; `None` for none that volhook can mount. The content is not trusted for more than
/// that.
pub fn recognize(file: impl AsFd) -> Option<Superblock> {
    let mut bytes = [0_u8; 1024];
    let read = rustix::io::pread(file, &mut bytes[..], EXT4_START).ok()?;
    if read < bytes.len() || bytes[EXT4_MAGIC_AT..EXT4_MAGIC_AT + 2] != EXT4_MAGIC {
        return None;
    }
    let log = bytes[EXT4_LOG_BLOCK_SIZE..EXT4_LOG_BLOCK_SIZE + 4].try_into().ok().map(u32::from_le_bytes)?;
    // 64 KiB is the largest that the format knows.
    (log <= 6).then(|| Superblock { filesystem: Filesystem::Ext4, block_size: 1024 << log })
}
