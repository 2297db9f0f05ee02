//! What people type, by the first word of the command.

pub(crate) mod adopt;
pub(crate) mod bundle;
pub(crate) mod clone;
pub(crate) mod copy;
pub(crate) mod doctor;
pub(crate) mod driver;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod filesystem;
pub(crate) mod gc;
pub(crate) mod journal;
pub(crate) mod lease;
pub(crate) mod listing;
pub(crate) mod mount;
pub(crate) mod plugin;
pub(crate) mod pod;
pub(crate) mod removal;
pub(crate) mod shell;
pub(crate) mod trash;
pub(crate) mod volume;
