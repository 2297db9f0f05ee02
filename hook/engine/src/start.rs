//! A container's start and its end, from what its runtime says to the mounts.
//!
//! `claim` and `propose` make the plan, `make` the volumes, `acquire` takes the leases, `execute` makes the mounts, and
//! [`undo`] puts everything back when one of them fails. [`live`] and [`spec`] are the stages at which the way is gone;
//! [`preview`] only looks ahead.

pub(crate) mod acquire;
pub(crate) mod claim;
pub(crate) mod execute;
pub(crate) mod fill;
pub mod install;
pub(crate) mod leased;
pub mod live;
pub(crate) mod make;
pub mod preview;
pub(crate) mod propose;
pub mod refusal;
pub(crate) mod renew;
pub(crate) mod root;
pub mod spec;
pub(crate) mod storage;
pub(crate) mod subject;
pub mod undo;
