//! Who holds which volume.
//!
//! [`Ledger`] is the journal together with what proves it: the records of attempts in the run directory ([`attempts`]), the
//! volumes, and the kernel. It looks, takes the lock, appends, gives back, and rebuilds a damaged journal on the way
//! ([`repair`]). [`judge`] says which holders are provably dead. [`Hold`] is what a command has of a volume while it works
//! on it. Nothing here talks to a person: what is worth telling goes to the [`Watcher`] of the [`Work`].
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod attempts;
pub mod clock;
mod error;
mod ground;
mod hold;
pub mod judge;
mod lasting;
mod ledger;
pub mod patience;
mod records;
pub mod repair;
mod work;

pub use error::Error;
pub use ground::Ground;
pub use hold::Hold;
pub use hold::Need;
pub use hold::await_free;
pub use hold::refuse_held;
pub use ledger::Ledger;
pub use work::Quiet;
pub use work::Watcher;
pub use work::Work;
