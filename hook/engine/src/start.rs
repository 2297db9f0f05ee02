//! A container's start and its end, from what its runtime says to the mounts.
//!
//! [`claim`] and [`propose`] make the plan, [`make`] the volumes, [`acquire`] takes the leases, [`execute`] makes the mounts, and
//! [`undo`] puts everything back when one of them fails. [`live`] and [`spec`] are the stages at which the way is gone;
//! [`preview`] only looks ahead.

pub mod acquire;
pub mod claim;
pub mod execute;
pub mod fill;
pub mod install;
pub mod live;
pub mod make;
pub mod preview;
pub mod propose;
pub mod refusal;
pub mod renew;
pub mod spec;
pub mod storage;
pub mod subject;
pub mod undo;
