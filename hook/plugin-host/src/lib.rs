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
#[cfg(feature = "compile")]
mod compiling;
mod error;
mod host;
mod inspect;
#[cfg(feature = "compile")]
mod install;
mod installed;
#[cfg(feature = "compile")]
mod lifecycle;
mod load;
mod profile;
mod sandbox;
#[cfg(feature = "compile")]
mod store;
#[cfg(feature = "compile")]
mod trial;

#[cfg(feature = "compile")]
pub use compiling::CompileError;
#[cfg(feature = "compile")]
pub use compiling::MAX_COMPONENT_BYTES;
#[cfg(feature = "compile")]
pub use compiling::compile;
#[cfg(feature = "compile")]
pub use compiling::compile_in;
#[cfg(feature = "compile")]
pub use compiling::compile_stdin;
pub use error::Fault;
pub use error::PluginError;
pub use host::Asked;
pub use host::Driver;
pub use host::Host;
pub use host::Observer;
pub use host::PluginEntry;
pub use host::PluginSource;
pub use host::Policy;
pub use inspect::NotAPlugin;
#[cfg(feature = "compile")]
pub use install::InstallError;
#[cfg(feature = "compile")]
pub use install::install;
#[cfg(feature = "compile")]
pub use lifecycle::Inspected;
#[cfg(feature = "compile")]
pub use lifecycle::LifecycleError;
#[cfg(feature = "compile")]
pub use lifecycle::installed_names;
#[cfg(feature = "compile")]
pub use lifecycle::refresh;
#[cfg(feature = "compile")]
pub use lifecycle::remove;
#[cfg(feature = "compile")]
pub use lifecycle::rollback;
#[cfg(feature = "compile")]
pub use lifecycle::verify;
#[cfg(feature = "compile")]
pub use trial::Trial;
