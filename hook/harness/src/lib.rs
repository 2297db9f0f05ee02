//! Builds bundles and drives OCI runtimes, to test hooks on the real thing.
//!
//! - [`BundleBuilder`] makes a bundle with a busybox root filesystem, or with a minimal Debian.
//! - [`DebianPackage`] makes a package to install there.
//! - [`Runtime`] drives runc or crun with a state folder of its own, and deletes its containers when dropped.
//! - [`Volhook`] drives the `volhook` binary with state, run directory and configuration of its own.
//! - [`HostSnapshot`] is what must not change on the host: loop devices and mounts.
//!
//! Declare the [`Runtime`] after what its containers use: values are dropped in reverse order, and a container
//! is best deleted while its bundle and its hooks are still there.
//!
//! Debian's root filesystem ([`BundleBuilder::debian`]) is built by `cargo xtask setup` and lies in the target directory in
//! which the running test was built, as `debian/minbase+sqlite3`; the variable `VOLHOOK_DEBIAN_ROOTFS` names another one. Where
//! there is none, building such a bundle fails.
//!
//! What a process printed is an [`Output`]: one value that shows itself for snapshots and in failures.
//!
//! Everything here needs root, and fails with what to do where it is missing. Nothing is inherited from the
//! calling process: the environment is cleared, standard input is empty, and standard output and error go
//! to files, so a container that outlives a command keeps no pipe of the test open.
//!
//! ```no_run
//! use volhook_harness::{BundleBuilder, Runtime, RuntimeKind, Volhook};
//!
//! # fn main() -> anyhow::Result<()> {
//! let volhook = Volhook::new()?;
//! let bundle = BundleBuilder::new()
//!     .shell("echo hello > /data/note")
//!     .annotation("dev.volhook.mount.data", "type=volume,source=mydb,target=/data")
//!     .build()?;
//! volhook.install(&bundle)?.success();
//! let runtime = Runtime::new(RuntimeKind::Runc)?;
//! runtime.run(&bundle, "c1")?.success();
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

pub mod behaviour;
mod bundle;
mod debian;
pub mod fake;
pub mod hooks;
mod host;
pub mod observe;
mod output;
pub mod run;
mod runtime;
mod scratch;
pub mod script;
mod volhook;
pub mod worker;

pub use bundle::Bundle;
pub use bundle::BundleBuilder;
pub use bundle::HookEntry;
pub use debian::DebianPackage;
pub use host::HostSnapshot;
pub use output::Output;
pub use output::Program;
pub use runtime::Runtime;
pub use runtime::RuntimeKind;
pub use volhook::Volhook;
