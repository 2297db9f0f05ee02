//! Runs volhook's plugins: WebAssembly components without imports, each call in a fresh instance within limits.
//!
//! [`Host`] finds a plugin by name and asks it; what it answers is checked here beyond its types, so that the
//! rest of volhook never sees an answer that breaks the rules. Generated types stay in here too: the way is
//! `wit/` ↔ `api_0_1_0` ↔ [`volhook_core::decision`]. A plugin's decision against something is a value
//! ([`Refusal`](volhook_core::decision::Refusal)); a bug of it is an error ([`PluginError::Fault`]).
//!
//! The built-in plugins are compiled by the build script and embedded. Others are compiled when an operator
//! installs them ([`install()`]); nothing is ever compiled on a container's way to its start.

#![cfg_attr(not(feature = "compile"), expect(dead_code, reason = "only installing needs it"))]

mod answer;
mod api_0_1_0;
mod builtin;
#[cfg(feature = "compile")]
mod compiler;
mod error;
mod host;
mod inspect;
#[cfg(feature = "compile")]
mod install;
mod installed;
mod load;
mod profile;
mod sandbox;

pub use error::Fault;
pub use error::PluginError;
pub use host::Driver;
pub use host::Host;
pub use host::PluginEntry;
pub use host::PluginSource;
pub use host::Policy;
pub use inspect::NotAPlugin;
#[cfg(feature = "compile")]
pub use install::CompileError;
#[cfg(feature = "compile")]
pub use install::InstallError;
#[cfg(feature = "compile")]
pub use install::MAX_COMPONENT_BYTES;
#[cfg(feature = "compile")]
pub use install::compile;
#[cfg(feature = "compile")]
pub use install::compile_in;
#[cfg(feature = "compile")]
pub use install::compile_stdin;
#[cfg(feature = "compile")]
pub use install::install;
