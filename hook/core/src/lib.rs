//! What volhook decides, as pure functions.
//!
//! Data flows one way: [`state`] → [`spec`] → [`claims`] → [`decision`] → [`plan`] → [`lease`]. Nothing in
//! this crate reads a file, a clock or the environment, and nothing here knows WebAssembly: the binary
//! gathers the facts, the functions here decide, and the binary carries the decision out.

#![forbid(unsafe_code)]

pub mod check;
pub mod claims;
pub mod config;
pub mod cursor;
pub mod decision;
mod document;
pub mod grants;
pub mod image;
pub mod last_step;
pub mod lease;
pub mod mkfs;
pub mod names;
pub mod options;
pub mod plan;
pub mod question;
pub mod resolved;
pub mod rewrite;
pub mod runtime_call;
pub mod size;
pub mod spec;
pub mod stage;
pub mod state;
pub mod unused;
pub mod volume;
