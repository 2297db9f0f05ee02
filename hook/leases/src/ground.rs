//! What there is on this host to tell who holds what: the journal, the records of attempts, the volumes, and which host and
//! boot it is. Opened when first needed: a container without claims starts whatever state they are in.

use crate::attempts::Attempts;
use crate::error::Error;
use crate::lasting::Lasting;
use std::cell::OnceCell;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;
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
    pub(crate) lasting: Lasting,
    told: RefCell<Told>,
}

/// Of which attempts it was told that they cannot be judged, in the work with this time limit.
#[derive(Default)]
struct Told(Option<Instant>, BTreeSet<String>);

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
            lasting: Lasting::default(),
            told: RefCell::default(),
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

    /// Whether nobody was told yet, in the work that is given up at `until`, that this attempt cannot be judged. Who waits judges
    /// every few milliseconds.
    pub(crate) fn is_news(&self, until: Instant, attempt: &str) -> bool {
        let mut told = self.told.borrow_mut();
        if told.0 != Some(until) {
            *told = Told(Some(until), BTreeSet::new());
        }
        told.1.insert(attempt.to_owned())
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
