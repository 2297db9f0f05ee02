//! The ledger: looks at leases, and takes and ends them under the journal's lock. A damaged journal is rebuilt on the way, so
//! that no person is needed for that.

use crate::error::Error;
use crate::ground::Ground;
use crate::judge;
use crate::judge::Over;
use crate::patience;
use crate::records;
use crate::repair;
use crate::work::Work;
use jiff::Timestamp;
use std::ops::Deref;
use std::path::Path;
use std::thread;
use std::time::Instant;
use tracing::debug;
use tracing::debug_span;
use tracing::warn;
use volhook_api::Remark;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseTable;
use volhook_core::names::VolumeId;
use volhook_core::record::ReleaseReason;
use volhook_core::record::Steps;
use volhook_core::record::VolumeRecord;
use volhook_journal::Encoded;
use volhook_journal::Interest;
use volhook_journal::Journal;
use volhook_journal::JournalError;
use volhook_journal::Locked;

/// Who holds what on this host.
pub struct Ledger(Ground);

impl Deref for Ledger {
    type Target = Ground;

    fn deref(&self) -> &Ground {
        &self.0
    }
}

impl Ledger {
    /// The ledger below a state root and a run directory. Opens nothing.
    #[must_use]
    pub fn at(root: &Path, run_dir: &Path) -> Self {
        Self(Ground::at(root, run_dir, records::witness))
    }

    /// The journal under its lock.
    ///
    /// # Errors
    /// [`Error::Journal`], and what keeps it from being opened or rebuilt.
    pub fn lock(&self, work: &Work<'_>) -> Result<Locked<'_>, Error> {
        self.mended(work, |journal| journal.lock(work.until))
    }

    /// The grants that `interest` covers.
    ///
    /// # Errors
    /// As [`Ledger::lock`].
    pub fn about(&self, interest: &Interest<'_>, work: &Work<'_>) -> Result<LeaseTable, Error> {
        self.mended(work, |journal| journal.read_about(interest))
    }

    /// All grants.
    ///
    /// # Errors
    /// As [`Ledger::lock`].
    pub fn all(&self, work: &Work<'_>) -> Result<LeaseTable, Error> {
        self.mended(work, Journal::read)
    }

    /// All grants, for somebody who only looks: nothing is changed. Of a damaged journal these are the grants that
    /// rebuilding it would keep, and the watcher is told.
    ///
    /// # Errors
    /// What keeps the journal from being opened or read, and [`repair::grants`]'s.
    pub fn seen(&self, work: &Work<'_>) -> Result<LeaseTable, Error> {
        let journal = self.journal()?;
        match journal.read() {
            Err(error @ JournalError::Damaged { .. }) => {
                let Some(damage) = journal.salvage()? else { return Ok(journal.read()?) };
                work.watcher.told(&Remark::SeenDamaged { cause: error.to_string() });
                Ok(repair::grants(self, &damage)?.into_iter().collect())
            }
            other => Ok(other?),
        }
    }

    /// Records what outlives a boot, and returns when it is on the disk.
    ///
    /// # Errors
    /// As [`Ledger::lock`].
    pub fn append_volumes(&self, records: &[VolumeRecord], work: &Work<'_>) -> Result<(), Error> {
        self.mended(work, |journal| journal.append_volumes(work.until, Timestamp::now(), records))
    }

    /// The journal under its lock, with the leases on `volumes` that are not provably dead; those that are have been
    /// given back.
    ///
    /// # Errors
    /// As [`Ledger::lock`].
    pub fn lock_volumes(
        &self,
        volumes: &[VolumeId],
        work: &Work<'_>,
    ) -> Result<(Locked<'_>, LeaseTable), Error> {
        let interest = Interest { volumes, ..Interest::default() };
        let patience = work.teardown();
        let mut is_waiting = false;
        loop {
            let (dead, dying) = judge::dead(self, self.about(&interest, work)?.grants(), work);
            if dying && Instant::now() < patience {
                if !is_waiting {
                    debug!("waits for a holder that is dying");
                    is_waiting = true;
                }
                volhook_locks::waits("a holder that is dying");
                thread::sleep(patience::PAUSE);
                continue;
            }
            let dead = dead.into_iter().map(|over| Ok((Encoded::of(&over.record)?, over)));
            let dead: Vec<(Encoded, Over)> = dead.collect::<Result<_, JournalError>>()?;
            let mut locked = self.lock(work)?;
            let table = locked.about(&interest)?;
            let dead = dead.into_iter().filter(|(_, over)| over.stands_in(&table));
            let (released, dead): (Vec<Encoded>, Vec<Over>) = dead.unzip();
            locked.append_encoded(Timestamp::now(), released)?;
            return Ok((locked, judge::after(&table, dead.iter().map(|over| &over.record))));
        }
    }

    /// Waits until `is_news` says that what stands in the way does not any more, by the grants that `interest` covers, or until
    /// `until`. Nobody is asked but the journal and the kernel.
    ///
    /// # Errors
    /// As [`Ledger::lock`].
    pub fn await_news(
        &self,
        interest: &Interest<'_>,
        until: Instant,
        work: &Work<'_>,
        is_news: impl Fn(&LeaseTable) -> bool,
    ) -> Result<(), Error> {
        volhook_locks::waits("another holder");
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(patience::PAUSE));
            if is_news(&self.about(interest, work)?) {
                return Ok(());
            }
        }
    }

    /// Gives the leases of an attempt back, if the grant is still what it was; `steps` is how long the parts of a stop took, if
    /// one it is. Has some time for it even if the work is late.
    ///
    /// # Errors
    /// As [`Ledger::lock`].
    pub fn release(
        &self,
        grant: &Grant,
        reason: ReleaseReason,
        evidence: String,
        steps: Steps,
        work: &Work<'_>,
    ) -> Result<(), Error> {
        let _releasing = debug_span!(
            "release",
            container = %grant.container,
            attempt = grant.attempt,
            reason = %evidence
        )
        .entered();
        let over = Over::timed(grant, reason, evidence, steps);
        let record = Encoded::of(&over.record)?;
        let mut locked = self.lock(&work.at_least(Instant::now() + patience::UNDOING))?;
        let now = locked.about(&Interest { attempts: &[over.attempt()], ..Interest::default() })?;
        if over.stands_in(&now) {
            locked.append_encoded(Timestamp::now(), vec![record])?;
        }
        Ok(())
    }

    fn mended<'a, T>(
        &'a self,
        work: &Work<'_>,
        ask: impl Fn(&'a Journal) -> Result<T, JournalError>,
    ) -> Result<T, Error> {
        let journal = self.journal()?;
        match ask(journal) {
            Err(error @ JournalError::Damaged { .. }) => {
                warn!("{error}");
                work.watcher.told(&Remark::Damaged { cause: error.to_string() });
                repair::rebuild(self, work)?;
                Ok(ask(journal)?)
            }
            other => Ok(other?),
        }
    }
}
