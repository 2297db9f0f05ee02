//! Mounts, loop devices, namespaces and processes, by file descriptor.
//!
//! A volume is first made as a detached mount in the host's namespace ([`source`]), then put at its place in a
//! container's mount namespace ([`inject`]). Nothing of a container is ever attached in the host's namespace, so what
//! it leaves behind goes with its namespace; only a person may ask for a look there ([`host`]).
//!
//! Content of containers, images and volumes is hostile. Paths inside them are walked by file descriptor with
//! openat2(2), and a path that was found earlier is opened again without following any symlink.
//!
//! This is the only crate with `unsafe` code; each use is in a function of its own that states why it is sound.
//! Needs Linux [`OLDEST_KERNEL`] or later.

mod btrfs;
pub mod child;
pub mod device;
mod error;
mod gone;
pub mod grow;
pub mod host;
pub mod host_path;
pub mod inherited;
pub mod inject;
mod last_overlay;
pub mod last_step;
mod loop_device;
pub mod mountinfo;
pub mod overlay;
pub mod probe;
pub mod process;
pub mod recognize;
mod root_step;
pub mod rootfs;
pub mod source;
pub mod step_program;
mod superblock;
mod sys;
pub mod users;

pub use error::Error;
pub use sys::SyscallError;

/// The first Linux with all system calls that are made here; the latest of them is mount_setattr(2).
pub const OLDEST_KERNEL: &str = "5.12";
