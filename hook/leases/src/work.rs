//! A piece of work: when it has to be done, and who watches it.

use std::time::Instant;
use volhook_api::Remark;
use volhook_volumes::Copied;

/// Who is told of a piece of work while it goes on, some of it from several threads. Everything has an answer of its own here,
/// so that a watcher says only what it cares for.
pub trait Watcher: Sync {
    /// Something worth telling has happened.
    fn told(&self, remark: &Remark) {
        let _ = remark;
    }

    /// Something has failed for good and will be said in the host's log, where nobody else of this process hears it.
    fn failing(&self) {}

    /// Copying begins, of so many bytes if that is known. From now on [`stop`](Self::stop) is asked.
    fn copying(&self, total: Option<u64>) {
        let _ = total;
    }

    /// So much is copied by now.
    fn copied(&self, copied: &Copied) {
        let _ = copied;
    }

    /// Whether the work is not wanted any more. What is done step by step then ends at the next one, and undoes what it must.
    fn stop(&self) -> bool {
        false
    }
}

/// A watcher that nothing is said to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Watcher for Quiet {}

/// What holds for one piece of work. Each has a time limit of its own: a process may do many, and may wait for a person in
/// between.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// When it is given up.
    pub until: Instant,
    /// Who is told.
    pub watcher: &'a dyn Watcher,
}

impl Work<'_> {
    /// Until when to wait for a dead holder to be gone and for the kernel to let go of its volume: half of what is left. What
    /// a container has written and not synced is written then, which takes a slow or busy disk many seconds.
    #[must_use]
    pub fn teardown(&self) -> Instant {
        let now = Instant::now();
        now + self.until.saturating_duration_since(now) / 2
    }

    /// The same with at least until `until`: what undoes or ends something may take its time.
    #[must_use]
    pub fn at_least(self, until: Instant) -> Self {
        Self { until: self.until.max(until), ..self }
    }
}
