//! What an ext4 superblock says (Documentation/filesystems/ext4/super.rst of the kernel).

use std::os::fd::AsFd;

/// Where the superblock begins.
const SUPERBLOCK: u64 = 1024;
const LOG_BLOCK_SIZE: usize = 0x18;
const MAGIC: usize = 0x38;
const EXT4_MAGIC: [u8; 2] = [0x53, 0xef];

/// The block size in bytes of the ext4 filesystem in `file`; `None` if there is none.
pub(crate) fn block_size(file: impl AsFd) -> Option<u64> {
    let mut superblock = [0_u8; 1024];
    let read = rustix::io::pread(file, &mut superblock[..], SUPERBLOCK).ok()?;
    if read < superblock.len() || superblock[MAGIC..MAGIC + 2] != EXT4_MAGIC {
        return None;
    }
    let log = u32::from_le_bytes(superblock[LOG_BLOCK_SIZE..LOG_BLOCK_SIZE + 4].try_into().ok()?);
    // 64 KiB is the largest that the format knows.
    (log <= 6).then(|| 1024 << log)
}
