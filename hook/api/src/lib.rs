//! What volhook is asked and what it answers, as data: every face shows the same.
//!
//! An operation of the engine takes a request and returns an outcome; the outcome is the document that `--json` prints, with
//! snake_case keys, sizes in bytes and times in RFC 3339. Whatever is asked can be handed on to another process as a document
//! as well. A face (the command line, a server) turns [`Kind`] into its own codes and words, and shows a [`Remark`] where it
//! shows what is not an answer.

pub mod bundle;
pub mod doctor;
mod failed;
pub mod filter;
pub mod journal;
mod kind;
pub mod lease;
pub mod pairs;
mod remark;
pub mod request;
pub mod story;
pub mod upkeep;
pub mod volume;
mod volume_ref;

pub use failed::Failed;
pub use kind::Kind;
pub use remark::Remark;
pub use volume_ref::RefError;
pub use volume_ref::VolumeRef;
