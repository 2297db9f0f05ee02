//! The engine at one piece of work.

use crate::engine::Engine;
use crate::failure::Failure;
use crate::laps::Lap;
use crate::laps::Laps;
use std::ops::Deref;
use std::time::Duration;
use std::time::Instant;
use tracing::Span;
use tracing::span::EnteredSpan;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseTable;
use volhook_core::record::Step;
use volhook_core::record::Steps;
use volhook_core::record::VolumeRecord;
use volhook_journal::Interest;
use volhook_journal::Locked;
use volhook_journal::Removed;
use volhook_journal::Retention;
use volhook_leases::Work;
use volhook_leases::clock;
use volhook_leases::judge;
use volhook_leases::judge::Over;

/// How long at least is waited to write down what was done.
const RECORDING: Duration = Duration::from_secs(2);

/// How long deleting may take.
const LONG_WORK: Duration = Duration::from_secs(3600);

/// An engine, and the piece of work that is done with it.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    engine: &'a Engine,
    /// When this work is given up.
    pub deadline: Instant,
    work: Work<'a>,
    laps: Option<&'a Laps>,
}

/// A part of the work that is not over. It is when this is dropped.
#[must_use]
pub(crate) struct Entered<'a> {
    _span: EnteredSpan,
    _lap: Option<Lap<'a>>,
}

impl Deref for Context<'_> {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        self.engine
    }
}

impl<'a> Context<'a> {
    /// `engine` at `work`.
    #[must_use]
    pub fn new(engine: &'a Engine, work: Work<'a>) -> Self {
        Self { engine, deadline: work.until, work, laps: None }
    }

    /// The same, with a clock of its parts.
    pub(crate) fn timed(self, laps: &'a Laps) -> Self {
        Self { laps: Some(laps), ..self }
    }

    /// Begins a part of the work.
    pub(crate) fn enter(&self, step: Step, span: Span) -> Entered<'a> {
        Entered { _span: span.entered(), _lap: self.laps.map(|laps| laps.enter(step)) }
    }

    /// How long the parts of the work took up to now, where it has a clock.
    pub(crate) fn steps(&self) -> Steps {
        self.laps.map(Laps::steps).unwrap_or_default()
    }

    /// The work.
    #[must_use]
    pub fn work(&self) -> Work<'a> {
        self.work
    }

    /// Tells the watcher what came up where nobody could be told, such as while a plugin was asked.
    pub fn tell_untold(&self) {
        self.engine.untold().iter().for_each(|remark| self.work.watcher.told(remark));
    }

    /// The journal under its lock.
    ///
    /// # Errors
    /// When it cannot be had by `deadline`, opened or rebuilt.
    pub(crate) fn lock(&self, deadline: Instant) -> Result<Locked<'_>, Failure> {
        Ok(self.ledger.lock(&Work { until: deadline, ..self.work })?)
    }

    /// The grants that `interest` covers.
    ///
    /// # Errors
    /// When the journal cannot be read or rebuilt.
    pub(crate) fn grants_about(&self, interest: &Interest<'_>) -> Result<LeaseTable, Failure> {
        Ok(self.ledger.about(interest, &self.work)?)
    }

    /// All grants.
    ///
    /// # Errors
    /// When the journal cannot be read or rebuilt.
    pub(crate) fn grants(&self) -> Result<LeaseTable, Failure> {
        Ok(self.ledger.all(&self.work)?)
    }

    /// All grants, for what only looks: a damaged journal stays as it is.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub(crate) fn seen(&self) -> Result<LeaseTable, Failure> {
        Ok(self.ledger.seen(&self.work)?)
    }

    /// The dead among `grants`; and whether some are dying.
    pub(crate) fn dead<'g>(&self, grants: impl Iterator<Item = &'g Grant>) -> (Vec<Over>, bool) {
        judge::dead(&self.ledger, grants, &self.work)
    }

    /// Records what outlives a boot.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub(crate) fn append_volumes(&self, records: &[VolumeRecord]) -> Result<(), Failure> {
        // What took its time is not lost for want of a moment to write it down.
        Ok(self.ledger.append_volumes(records, &self.work.at_least(Instant::now() + RECORDING))?)
    }

    /// For work that a person has asked for and waits for.
    #[must_use]
    pub(crate) fn long_deadline(&self) -> Instant {
        self.deadline.max(Instant::now() + LONG_WORK)
    }

    /// Removes history that the configuration does not want any more, and says what.
    ///
    /// # Errors
    /// When the configuration or the journal is not usable.
    pub(crate) fn trim_history(&self) -> Result<Vec<Removed>, Failure> {
        let history = &self.config()?.history;
        let age = Duration::from_secs(u64::from(history.days) * 24 * 60 * 60);
        let retention = Retention { age, bytes: history.size };
        let now = clock::no_later_than_now(&self.ledger)?;
        self.ledger.journal()?.retain(self.deadline, now, &retention).map_err(Failure::new)
    }
}
