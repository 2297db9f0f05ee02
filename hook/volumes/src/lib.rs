//! Volumes on disk.
//!
//! ```text
//! <root>/volumes/<tenant>/<name>/volume.json    the truth about the volume
//!                               /data/          a directory volume's content
//!                               /volume.img     an image volume's filesystem
//! <root>/volumes/<tenant>/<part>                a symbolic link `<name>/<member>`: a part of the volume <name>
//! <root>/pods/<tenant>/<pod>                    a symbolic link `<name>`: the volume that holds the volumes of a pod
//! <root>/staging/<uuid>/                        a volume being built, locked (flock) by its builder
//! <root>/staging/adopt-<uuid>/                  the same of what was elsewhere, with `origin.json` that says where
//! <root>/sizes.json                             what was counted of directories, a cache
//! <root>/trash/<uuid>/                          a removed volume, whole, with `trashed.json` beside `volume.json`
//! ```
//!
//! A volume that is memory, or a directory or device of the host, has only its `volume.json` here.
//!
//! A pod's volumes are parts of one volume, its storage: directories in it, which its sidecar tells of. The links reserve
//! their names among those of all volumes, and are how a pod's storage is found whatever it is called. They are read and
//! never followed, and mean nothing unless the sidecar says the same. Whoever makes or removes one holds a lock (flock)
//! on `pods/<tenant>`; they are made before what they are for and removed after it, so one that means nothing is left
//! over, names nobody, and is replaced by whoever needs its place.
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
//! | creating, before the rename | a folder in `staging`, perhaps links that mean nothing | the next one to create a volume, or that pod's |
//! | adopting, before the rename | a folder in `staging`, perhaps with what is adopted | the same, who puts that back where it was; where that cannot be it stays, see [`Store::stranded`] |
//! | adopting, after the rename | a volume with an `origin.json`, which means nothing there | [`Store::clean_staging`] |
//! | discarding a storage, after the rename | links that mean nothing | [`Store::clean_staging`] |
//! | discarding, before the rename | a volume, perhaps with a `trashed.json`, which means nothing there | the next one to discard it writes it anew |
//! | restoring, after the rename | the same | the same |
//! | replacing a storage | see the module `renew`: what was there is in its place or in the trash, whole | |
//! | emptying, before the file `deleting` is there | a discarded volume, whole | anybody |
//! | emptying, after that | a discarded volume without a part of its content; it cannot be restored | the next one to empty the trash |
//! | emptying, at the end | a folder with only sidecars in `staging` | the next one to create a volume |
//!
//! How parts are filled and thrown away, and how an ordinary volume is filled, stands with what a killed process leaves in
//! the modules `populate`, `reset` and `copy_up`.
//!
//! A volume that exists is changed by one command at a time, which holds a lock (flock) on its folder; its sidecar is
//! replaced as a whole. In which order locks are taken is `hook/locks`' to say.
//!
//! Everything is found by file descriptor without following symlinks below the root, and what does not look
//! as volhook made it is reported, never used or removed.

#![forbid(unsafe_code)]

mod adopt;
mod change;
mod changes;
mod check;
mod clone;
mod copy;
mod copy_up;
mod create;
mod empty;
mod error;
pub mod failpoint;
mod files;
mod identity;
mod image;
mod inside;
mod links;
mod list;
mod measure;
mod origin;
mod populate;
mod program;
mod remove;
mod rename;
mod renew;
mod reset;
mod resize;
mod scratch;
mod sizes;
mod storage;
mod store;
mod trash;
mod unfinished;

pub use adopt::Adoptable;
pub use change::Changing;
pub use changes::Changes;
pub use changes::changes;
pub use changes::shadowed;
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
pub use copy::copy_trees;
pub use copy::pack;
pub use copy::unpack;
pub use copy_up::Filled;
pub use create::Created;
pub use empty::Deleted;
pub use empty::Emptied;
pub use error::StoreError;
pub use identity::identify;
pub use identity::identify_beside;
pub use inside::Found;
pub use inside::Inside;
pub use inside::LookupError;
pub use links::Holder;
pub use links::ListedPart;
pub use list::Listing;
pub use list::Other;
pub use list::OtherKind;
pub use origin::Stranded;
pub use populate::Wanted;
pub use program::find_program;
pub use renew::Renewal;
pub use scratch::Scratch;
pub use sizes::Size;
pub use storage::lay_out;
pub use store::Store;
pub use trash::Discarded;
pub use trash::Discarding;
pub use trash::Trash;
