//! Runs volhook's plugins: WebAssembly components without imports, each call in a fresh instance within limits.
//!
//! [`Host`] finds a plugin by name and asks it; what it answers is checked here beyond its types, so that the
//! rest of volhook never sees an answer that breaks the rules. Generated types stay in here too: the way is
//! `wit/` ↔ `api_0_1_0` ↔ [`volhook_core::decision`]. A plugin's decision against something is a value
//! ([`Refusal`](volhook_core::decision::Refusal)); a bug of it is an error ([`PluginError::Fault`]).
//!
//! The built-in plugins are compiled by the build script and embedded. Others are compiled when an operator
//! installs them ([`install()`]), by another program ([`compiling`]); nothing is ever compiled on a container's way to its
//! start, and no compiler is in this crate.

mod answer;
mod api_0_1_0;
mod builtin;
pub mod compiling;
mod error;
mod host;
mod inspect;
mod install;
mod installed;
mod lifecycle;
mod load;
pub mod profile;
mod sandbox;
mod store;
mod trial;

pub use builtin::profile_id;
pub use builtin::target;
pub use compiling::CompileError;
pub use compiling::MAX_COMPONENT_BYTES;
pub use compiling::check_compiler;
pub use compiling::compile_in;
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
pub use install::InstallError;
pub use install::install;
pub use lifecycle::Inspected;
pub use lifecycle::LifecycleError;
pub use lifecycle::installed_names;
pub use lifecycle::refresh;
pub use lifecycle::remove;
pub use lifecycle::rollback;
pub use lifecycle::verify;
pub use trial::Trial;
