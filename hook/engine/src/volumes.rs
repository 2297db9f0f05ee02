//! What can be done with volumes: each operation takes a request and a piece of work, and returns an outcome.

pub mod adopt;
pub mod clone;
pub mod copy;
mod copying;
pub mod create;
pub mod filesystem;
mod filter;
pub mod host_mount;
pub mod inspect;
pub mod list;
pub mod remove;
pub mod rename;
pub mod trash;
mod unused;
