//! Volumes on disk.
//!
//! ```text
//! <root>/volumes/<tenant>/<name>/volume.json    the truth about the volume
//!                               /data/          a directory volume's content
//!                               /volume.img     an image volume's filesystem
//! <root>/staging/<uuid>/                        a volume being built, locked (flock) by its builder
//! <root>/sizes.json                             what was counted of directories, a cache
//! <root>/trash/<uuid>/                          a removed volume, whole, with `trashed.json` beside `volume.json`
//! ```
//!
//! A volume that is memory, or a directory or device of the host, has only its `volume.json` here.
//!
//! A volume is built in `staging`, synced, and renamed to its place without replacing anything: whatever stands
//! under `volumes` is complete. Of two creators of one name one wins and the other uses the winner's. What a dead
//! creator left in `staging` is removed by the next one, which knows by the lock.
//!
//! A removed volume waits in `trash`, where it can be restored, until the trash is emptied. What a killed process
//! leaves:
//!
//! | killed | left | who goes on |
//! |---|---|---|
//! | discarding, before the rename | a volume, perhaps with a `trashed.json`, which means nothing there | the next one to discard it writes it anew |
//! | restoring, after the rename | the same | the same |
//! | emptying, before the file `deleting` is there | a discarded volume, whole | anybody |
//! | emptying, after that | a discarded volume without a part of its content; it cannot be restored | the next one to empty the trash |
//! | emptying, at the end | a folder with only sidecars in `staging` | the next one to create a volume |
//!
//! A volume that exists is changed by one command at a time, which holds a lock (flock) on its folder; its sidecar is
//! replaced as a whole.
//!
//! Everything is found by file descriptor without following symlinks below the root, and what does not look
//! as volhook made it is reported, never used or removed.

#![forbid(unsafe_code)]

mod adopt;
mod change;
mod check;
mod clone;
mod copy;
mod create;
mod empty;
mod error;
mod files;
mod image;
mod inside;
mod measure;
mod program;
mod remove;
mod rename;
mod resize;
mod sizes;
mod store;
mod trash;

pub use adopt::Adoptable;
pub use change::Changing;
pub use check::Checked;
pub use clone::Cloning;
pub use copy::Copied;
pub use copy::CopyError;
pub use copy::How;
pub use copy::Packed;
pub use copy::Place;
pub use copy::Rights;
pub use copy::Watch;
pub use copy::copy_contents;
pub use copy::copy_directory;
pub use copy::copy_entry;
pub use copy::copy_tree;
pub use copy::pack;
pub use copy::unpack;
pub use create::Created;
pub use empty::Emptied;
pub use error::StoreError;
pub use inside::Found;
pub use inside::Inside;
pub use inside::LookupError;
pub use program::find_program;
pub use sizes::Size;
pub use store::Listing;
pub use store::Other;
pub use store::OtherKind;
pub use store::Store;
pub use trash::Discarded;
pub use trash::Trash;
