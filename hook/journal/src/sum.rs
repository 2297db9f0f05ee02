//! CRC32C, the journal's checksum (the polynomial of Castagnoli, RFC 3720, section 12.1).
//!
//! By tables: the instruction that some processors have for it would have to be asked for first, and a virtual machine
//! answers that more slowly than a hook needs for all of its sums.

use crc::CRC_32_ISCSI;
use crc::Crc;
use crc::Digest;
use crc::Table;

static TABLES: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// The checksum of some bytes.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    TABLES.checksum(bytes)
}

/// The checksum of `first` with `second` after it.
pub(crate) fn crc32c_of_both(first: &[u8], second: &[u8]) -> u32 {
    let mut digest = TABLES.digest();
    digest.update(first);
    digest.update(second);
    digest.finalize()
}

/// The checksum of bytes that come in pieces.
pub(crate) struct Sum(Digest<'static, u32, Table<16>>);

impl Default for Sum {
    fn default() -> Self {
        Self(TABLES.digest())
    }
}

impl Sum {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn value(self) -> u32 {
        self.0.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::crc32c;
    use super::crc32c_of_both;
    use proptest::prelude::any;
    use proptest::proptest;

    /// What the files on disk were written with.
    #[test]
    fn it_is_the_standard_s_sum() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    proptest! {
        #[test]
        fn it_is_the_sum_that_another_implementation_makes(
            first in proptest::collection::vec(any::<u8>(), 0..200),
            second in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let both: Vec<u8> = first.iter().chain(&second).copied().collect();
            assert_eq!(crc32c(&both), ::crc32c::crc32c(&both));
            assert_eq!(crc32c_of_both(&first, &second), ::crc32c::crc32c(&both));
        }
    }
}
