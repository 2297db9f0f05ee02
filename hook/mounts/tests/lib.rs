//! Tests of the crate from outside, on the running kernel. Those named `privileged_` need root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod child;
mod container;
mod device;
mod inject;
mod mountinfo;
mod overlay;
mod process;
mod root_step;
mod rootfs;
mod source;
