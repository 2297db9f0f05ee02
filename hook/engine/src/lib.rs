//! Everything that volhook can do, for every face.
//!
//! An [`Engine`] is what volhook knows of a host, opened when it is first needed. What it does takes a
//! [`Work`](volhook_leases::Work): when that is given up, and who is told meanwhile. Nothing here talks to a person, reads the
//! environment or ends the process. [`start`] is the main job, a container's start and its end; [`volumes`] is
//! what people do with volumes.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod ask;
pub mod bundle;
mod context;
mod decisions;
pub mod doctor;
mod engine;
mod failpoint;
mod failure;
pub mod held;
pub mod host_grants;
pub mod image;
pub mod journal;
pub mod named;
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
