//! What a bundle says: its spec.

use crate::failure::Failure;
use std::io::Read as _;
use std::path::Path;
use volhook_core::spec::MAX_SPEC_BYTES;
use volhook_core::spec::Spec;

/// Reads at most `limit` bytes and one more, so that too much is noticed without being read.
///
/// # Errors
/// Those of reading.
pub fn read_limited(input: impl std::io::Read, limit: usize) -> std::io::Result<Vec<u8>> {
    // Room for what is usual, so that it is read at once.
    let mut bytes = Vec::with_capacity(32 << 10);
    input.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a bundle's `config.json`.
///
/// # Errors
/// When it cannot be read or is no spec.
pub fn read_spec(bundle: &Path) -> Result<Spec, Failure> {
    read_spec_file(&bundle.join("config.json"))
}

/// Reads a spec.
///
/// # Errors
/// When it cannot be read or is no spec.
pub fn read_spec_file(path: &Path) -> Result<Spec, Failure> {
    let failed =
        |error| Failure::context(format!("cannot read the container's spec {}", path.display()), error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let bytes = read_limited(file, MAX_SPEC_BYTES).map_err(failed)?;
    Spec::parse(&bytes).map_err(|error| Failure::context(format!("{} is not usable", path.display()), error))
}
