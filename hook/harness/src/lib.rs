//! Tests OCI hooks: with scripts, on a fake runtime that needs neither root nor an installation, and on the real ones.
//!
//! Whoever writes a hook wants to know what it does under a runtime: in which order it is called, with what on standard input, in
//! which environment; what is left when it fails, hangs or is killed; whether `poststop` comes at all. `volhook harness run FILE`
//! tells that from a short script, and this crate is what it is made of. `hook/docs/harness.md` describes the scripts.
//!
//! | module | its story |
//! |---|---|
//! | [`script`] | reads a script and checks it, before anything runs; pure |
//! | [`run`] | does what a script says, up to the first statement that fails, and reports what was expected and seen |
//! | [`worker`] | runs script files each in a process and namespaces of its own, and ends what they leave behind |
//! | [`behaviour`] | what runc, crun and youki do about hooks, and where they differ; pure |
//! | [`hooks`] | calls one hook, with a time limit and bounded capture |
//! | [`fake`] | an OCI runtime that behaves as one of these |
//! | [`observe`] | what can be seen of a container from outside |
//!
//! Tests in Rust use the parts below the scripts:
//!
//! - [`BundleBuilder`] makes a bundle with a busybox root filesystem, without programs, or with a minimal Debian.
//! - [`DebianPackage`] makes a package to install there.
//! - [`Runtime`] drives runc, crun or the fake one with a state folder of its own, and deletes its containers when dropped.
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
//! The real runtimes need root, and fail with what to do where it is missing. Nothing is inherited from the
//! calling process: the environment is cleared, standard input is empty, and standard output and error go
//! to files, so a container that outlives a command keeps no pipe of the test open.
//!
//! # Scripts from a program of one's own
//!
//! The fake runtime and the processes that run scripts are this crate's code in a program that calls [`fake::main`] and
//! [`worker::main`] first thing; `volhook-harness` is one, and any other can be:
//!
//! ```no_run
//! use std::ffi::OsString;
//! use std::path::PathBuf;
//! use std::process::ExitCode;
//! use std::time::Duration;
//! use volhook_harness::script::Engine;
//! use volhook_harness::worker::Batch;
//! use volhook_harness::worker::Done;
//! use volhook_harness::worker::File;
//!
//! fn main() -> ExitCode {
//!     let args: Vec<OsString> = std::env::args_os().skip(1).collect();
//!     match args.first().and_then(|word| word.to_str()) {
//!         Some("runtime") => volhook_harness::fake::main(&["runtime"], &args[1..]),
//!         Some("worker") => volhook_harness::worker::main(&args[1..]),
//!         _ => match run(&args) {
//!             Ok(done) if done.iter().all(|done| done.verdict() == "passed") => ExitCode::SUCCESS,
//!             _ => ExitCode::FAILURE,
//!         },
//!     }
//! }
//!
//! fn run(paths: &[OsString]) -> anyhow::Result<Vec<Done>> {
//!     let files = paths.iter().map(File::read).collect::<anyhow::Result<Vec<_>>>()?;
//!     let program = std::env::current_exe()?;
//!     let batch = Batch {
//!         engine: Engine::Fake,
//!         behaviour: None,
//!         worker: vec![program.clone(), PathBuf::from("worker")],
//!         fake_runtime: vec![program, PathBuf::from("runtime")],
//!         volhook: None,
//!         variables: Vec::new(),
//!         limit: Duration::from_secs(60),
//!         jobs: 1,
//!         keeps: false,
//!     };
//!     volhook_harness::worker::run_all(&files, &batch, |done| println!("{} {:#}", done.verdict(), done.report))
//! }
//! ```
//!
//! # Tests in Rust
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
mod killed;
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
