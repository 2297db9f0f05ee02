//! Everything that volhook can do, for every face.
//!
//! An [`Engine`] is what volhook knows of a host, opened when it is first needed. What it does takes a
//! [`Work`]: when that is given up, and who is told meanwhile. Nothing here talks to a person, reads the
//! environment or ends the process. [`start`] is the main job, a container's start and its end; [`volumes`] and
//! [`pods`] are what people do with those.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod ask;
pub mod bundle;
mod context;
mod decisions;
pub mod doctor;
mod engine;
mod failpoint;
mod failure;
pub mod held;
mod host_grants;
mod image;
pub mod journal;
mod laps;
pub mod named;
pub mod plugins;
pub mod pods;
pub mod start;
pub mod story;
mod text;
pub mod upkeep;
pub mod volumes;

pub use context::Context;
pub use decisions::Decisions;
pub use engine::Engine;
pub use engine::Places;
pub use failure::Failure;
pub use volhook_leases::Quiet;
pub use volhook_leases::Watcher;
pub use volhook_leases::Work;
pub use volhook_volumes::Copied;
