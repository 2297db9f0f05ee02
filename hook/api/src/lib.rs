//! What volhook is asked and what it answers, as data: every face shows the same.
//!
//! A face (the command line, a server) turns [`Kind`] into its own codes and words, and shows a [`Remark`] where it shows
//! what is not an answer.

mod kind;
mod remark;

pub use kind::Kind;
pub use remark::Remark;
