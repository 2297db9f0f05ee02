//! Whether the checkpoint says what the log says: for those who check a journal, not for those who use it.

use super::Checkpoint;
use super::Leases;
use crate::check::CheckpointState;
use crate::codec::FileKind;
use crate::disk::Disk;
use crate::index::Top;
use crate::log::Log;
use std::collections::BTreeSet;

impl Leases {
    /// Compares the checkpoint of the file called `name` with the file, entry by entry.
    pub(crate) fn check_checkpoint(disk: &dyn Disk, name: &str) -> CheckpointState {
        let mut torn = false;
        for _ in 0..8 {
            let state = match Self::load(disk, name, false) {
                Ok(None) => Some(CheckpointState::Missing),
                Ok(Some(leases)) => {
                    torn = !leases.note_is_whole();
                    leases.compare_checkpoint(disk).filter(|_| !torn)
                }
                Err(_) => Some(CheckpointState::Unknown),
            };
            if let Some(state) = state {
                return state;
            }
        }
        if torn { CheckpointState::Unusable } else { CheckpointState::Unknown }
    }

    fn note_is_whole(&self) -> bool {
        let file = match &self.checkpoint {
            Checkpoint::Missing => return true,
            Checkpoint::Unfit(file) => &**file,
            Checkpoint::Fit(index) => index.file(),
        };
        Top::read(file).is_none_or(|top| top.note_is_whole())
    }

    /// `None` when others changed the checkpoint meanwhile.
    fn compare_checkpoint(&self, disk: &dyn Disk) -> Option<CheckpointState> {
        let index = match &self.checkpoint {
            Checkpoint::Missing => return Some(CheckpointState::Missing),
            Checkpoint::Unfit(file) => {
                // A file that only notes the log's end never was a checkpoint.
                let written = Top::read(&**file).is_some_and(|top| top.begun());
                return Some(if written { CheckpointState::Unusable } else { CheckpointState::Missing });
            }
            Checkpoint::Fit(index) => index,
        };
        let found = index.entries();
        if !index.unchanged() {
            return None;
        }
        let (Ok(found), true) = (found, index.settled) else { return Some(CheckpointState::Unusable) };
        let expected = (|| {
            let log = Log::open(disk, &self.log.name, FileKind::Leases, false).ok()??;
            let upto = Self::fold_to(disk, log, Checkpoint::Missing, index.head.link.end).ok()?;
            let live = upto.in_tail(disk, None).ok()?;
            let entries: BTreeSet<_> = live.iter().flat_map(|live| live.entries(index.head.salt)).collect();
            Some((entries, live.len() as u64))
        })();
        let Some((expected, live)) = expected else { return Some(CheckpointState::Unknown) };
        let same = found.len() as u64 == index.head.entries
            && index.head.live == live
            && found.len() == expected.len()
            && found.iter().all(|entry| expected.contains(entry));
        Some(if same { CheckpointState::Agrees } else { CheckpointState::Disagrees })
    }
}
