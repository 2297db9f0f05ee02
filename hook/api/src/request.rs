//! Everything that can be asked of volhook, as one document, for somebody who has it done by another process.

use crate::bundle::Install;
use crate::doctor::Examine;
use crate::failed::Failed;
use crate::journal::Rebuild;
use crate::lease::Break;
use crate::lease::Breakable;
use crate::lease::Leases;
use crate::remark::Remark;
use crate::story::Explain;
use crate::upkeep::Sweep;
use crate::volume::Adopt;
use crate::volume::Check;
use crate::volume::CloneVolume;
use crate::volume::CopyFiles;
use crate::volume::Create;
use crate::volume::HostMount;
use crate::volume::Inspect;
use crate::volume::List;
use crate::volume::Removal;
use crate::volume::Rename;
use crate::volume::Resize;
use crate::volume::Restore;
use crate::volume::Selection;
use crate::volume_ref::VolumeRef;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// One thing that is asked: an object of one key, which is the operation, such as `{"create": {"name": "v", …}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// A volume that may be there already.
    Create(Create),
    /// A directory or image that exists becomes a volume.
    Adopt(Adopt),
    /// A copy of a volume.
    Clone(CloneVolume),
    /// Files of the host into a volume, or out of it.
    Copy(CopyFiles),
    /// Another name.
    Rename(Rename),
    /// Another size.
    Resize(Resize),
    /// Whether a filesystem is sound.
    Check(Check),
    /// An image on the host.
    HostMount(HostMount),
    /// It is unmounted there.
    HostUnmount(VolumeRef),
    /// What would be removed.
    Removable(Selection),
    /// That is removed.
    Remove(Removal),
    /// The removed volumes.
    Trash,
    /// One of them comes back.
    Restore(Restore),
    /// Those that were removed before this time are deleted for good.
    EmptyTrash(Timestamp),
    /// The volumes.
    List(List),
    /// All that is known of some.
    Inspect(Inspect),
    /// What everything takes of the disk.
    Usage,
    /// Who holds what.
    Leases(Leases),
    /// What would be given back by hand.
    Breakable(Break),
    /// That is given back.
    BreakLeases(Breakable),
    /// What is left over is done away with.
    Sweep(Sweep),
    /// In what state the journal's files are.
    CheckJournal,
    /// Damaged ones are begun anew.
    RebuildJournal(Rebuild),
    /// What happened.
    Events,
    /// The story of a container.
    Explain(Explain),
    /// Whether the host can do what volhook needs.
    Examine(Examine),
    /// Hook entries in a bundle.
    Install(Install),
}

/// What is said of one request, a line each; the last is [`Said::Done`] or [`Said::Failed`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said<Outcome> {
    /// Something worth telling has happened.
    Told(Remark),
    /// Copying begins, of so many bytes if that is known.
    Copying(Option<u64>),
    /// So much is copied by now.
    Copied {
        /// Entries that are no directories.
        files: u64,
        /// Bytes of content.
        bytes: u64,
    },
    /// The outcome of the operation.
    Done(Outcome),
    /// It was not done.
    Failed(Failed),
}
