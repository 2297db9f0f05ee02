//! Volumes on disk.
//!
//! ```text
//! <root>/volumes/<tenant>/<name>/volume.json    the truth about the volume
//!                               /data/          a directory volume's content
//!                               /volume.img     an image volume's filesystem
//! <root>/staging/<uuid>/                        a volume being built, locked (flock) by its builder
//! ```
//!
//! A volume is built in `staging`, synced, and renamed to its place without replacing anything: whatever stands
//! under `volumes` is complete. Of two creators of one name one wins and the other uses the winner's. What a dead
//! creator left in `staging` is removed by the next one, which knows by the lock.
//!
//! Everything is found by file descriptor without following symlinks below the root, and what does not look
//! as volhook made it is reported, never used or removed.

#![forbid(unsafe_code)]

mod create;
mod error;
mod files;
mod measure;
mod store;

pub use create::Created;
pub use error::StoreError;
pub use store::Listing;
pub use store::Other;
pub use store::OtherKind;
pub use store::Store;
