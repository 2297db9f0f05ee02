//! What volhook's programs have in common towards people.
//!
//! A face parses what it is told, calls [`volhook_engine`], and prints. [`args`] is what their command lines share, [`places`]
//! where things are on this host, [`output`] how they print, [`beside`] where the other programs are, and [`compiler`] the one
//! among them that compiles plugins.

// Where nobody reads any more, they panic.
#![deny(clippy::print_stderr, clippy::print_stdout)]

pub mod args;
pub mod beside;
pub mod compiler;
pub mod output;
pub mod places;
