//! What can be done with pods: the personal machines whose files the volumes of a pod keep.

pub mod look;
mod named;
pub mod prepare;
pub mod remove;
pub mod reset;
pub mod resize;
pub mod upgrade;
