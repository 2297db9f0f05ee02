//! What there is on this host to tell who holds what: the journal, the records of attempts, the volumes, and which host and
//! boot it is. Opened when first needed: a container without claims starts whatever state they are in.

use crate::attempts::Attempts;
use crate::error::Error;
use std::cell::OnceCell;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use volhook_journal::Journal;
use volhook_journal::Witness;
use volhook_mounts::process::HostIdentity;
use volhook_volumes::Store;

/// Makes the one who knows, by what there is below a state root and a run directory besides the journal, whether anybody holds
/// something.
pub(crate) type Witnessing = fn(&Path, &Path) -> Box<dyn Witness>;

/// The journal, the records, the volumes and the host.
pub struct Ground {
    store: Store,
    root: PathBuf,
    run_dir: PathBuf,
    witnessing: Witnessing,
    attempts: Attempts,
    host: OnceCell<HostIdentity>,
    journal: OnceCell<Journal>,
    /// The uuids of storages whose overlay outlasted its container when it was looked for.
    in_use: RefCell<BTreeSet<String>>,
}

impl Ground {
    /// Those below a state root and a run directory, with `witnessing` for a journal that is not there. Opens nothing.
    #[must_use]
    pub(crate) fn at(root: &Path, run_dir: &Path, witnessing: Witnessing) -> Self {
        Self {
            store: Store::new(root),
            root: root.to_owned(),
            run_dir: run_dir.to_owned(),
            witnessing,
            attempts: Attempts::below(run_dir),
            host: OnceCell::new(),
            journal: OnceCell::new(),
            in_use: RefCell::default(),
        }
    }

    /// The volumes.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The records of attempts.
    #[must_use]
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Which host and boot this is.
    ///
    /// # Errors
    /// [`Error::Host`].
    pub fn host(&self) -> Result<&HostIdentity, Error> {
        get_or_try_init(&self.host, || HostIdentity::read().map_err(Error::Host))
    }

    pub(crate) fn was_in_use(&self, storage: &str) -> bool {
        self.in_use.borrow().contains(storage)
    }

    pub(crate) fn saw_in_use(&self, storage: &str) {
        self.in_use.borrow_mut().insert(storage.to_owned());
    }

    /// The journal as it is: a damaged one is not rebuilt here.
    ///
    /// # Errors
    /// [`Error::Host`], [`Error::Open`].
    pub fn journal(&self) -> Result<&Journal, Error> {
        let boot_id = &self.host()?.boot_id;
        get_or_try_init(&self.journal, || {
            let folder = self.root.join("journal");
            let journal = match Journal::open(&folder, boot_id) {
                Ok(journal) => journal,
                Err(source) => return Err(Error::Open { folder, source }),
            };
            Ok(journal.with_witness((self.witnessing)(&self.root, &self.run_dir)))
        })
    }
}

fn get_or_try_init<T>(cell: &OnceCell<T>, init: impl FnOnce() -> Result<T, Error>) -> Result<&T, Error> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = init()?;
    Ok(cell.get_or_init(|| value))
}
