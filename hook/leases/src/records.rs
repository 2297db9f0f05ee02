//! What the records of attempts say where there is no journal: that it was removed, or that nothing was granted in this boot.

use crate::attempts::Attempts;
use crate::ground::Ground;
use crate::judge;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use volhook_api::lease::Standing;
use volhook_core::lease::Grant;
use volhook_core::lease::LeasedVolume;
use volhook_journal::Witness;

/// The records below a run directory, as the witness of the journal below a state root.
pub(crate) fn witness(root: &Path, run_dir: &Path) -> Box<dyn Witness> {
    let (root, run_dir) = (root.to_owned(), run_dir.to_owned());
    Box::new(Records { attempts: Attempts::below(&run_dir), root, run_dir, over: Mutex::default() })
}

struct Records {
    root: PathBuf,
    run_dir: PathBuf,
    attempts: Attempts,
    /// The names of the files that say of nobody that he holds something. Nobody comes to life again.
    over: Mutex<BTreeSet<String>>,
}

impl Witness for Records {
    fn anybody_holds(&self) -> bool {
        let Ok(names) = self.attempts.names() else { return true };
        let ground = Ground::at(&self.root, &self.run_dir, witness);
        let mut attempts = names.iter().filter_map(|name| Attempts::attempt_of(name));
        let holds = attempts.any(|attempt| holds(&ground, attempt));
        if !holds {
            *self.over() = names.into_iter().collect();
        }
        holds
    }

    fn is_news(&self) -> bool {
        let over = self.over();
        self.attempts.names().map_or(true, |names| names.iter().any(|name| !over.contains(name)))
    }
}

impl Records {
    fn over(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // It is replaced as a whole.
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether somebody holds something by the record of an attempt, or may.
fn holds(ground: &Ground, attempt: &str) -> bool {
    match ground.attempts().grant(attempt) {
        Ok(Some(told)) => stood_in_it(ground, &told) && judge::standing(ground, &told).0 != Standing::Dead,
        // It was being written when its process died.
        Ok(None) => false,
        Err(_) => true,
    }
}

/// Whether the grant of a record stood in this boot's journal of this state root, as far as anybody can tell: its process is of
/// this boot, and one of its volumes is here. Several state roots may have one run directory.
pub(crate) fn stood_in_it(ground: &Ground, told: &Grant) -> bool {
    let is_of_boot = match (&told.holder, ground.host()) {
        (Some(holder), Ok(host)) => holder.boot_id == host.boot_id,
        _ => true,
    };
    let is_here = |lease: &LeasedVolume| match ground.store().find(&lease.volume) {
        Ok(found) => found.is_some_and(|volume| volume.uuid == lease.uuid),
        Err(_) => true,
    };
    is_of_boot && told.leases.iter().any(is_here)
}
