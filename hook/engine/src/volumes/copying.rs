//! Copying as a piece of work that goes on for as long as it takes, tells how far it is, and can be stopped.

use std::time::Duration;
use std::time::Instant;
use volhook_leases::Work;
use volhook_volumes::Copied;
use volhook_volumes::Watch;

/// How long somebody may wait for something that can be stopped.
const NO_HURRY: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A copy in progress.
pub(crate) struct Copying<'a> {
    cancelled: Box<dyn Fn() -> bool + Sync + 'a>,
    progress: Box<dyn Fn(&Copied) + Sync + 'a>,
}

impl<'a> Copying<'a> {
    /// Begins. `total`: how many bytes there will be, if that is known.
    pub(crate) fn begin(work: Work<'a>, total: Option<u64>) -> Self {
        work.watcher.copying(total);
        let watcher = work.watcher;
        Self {
            cancelled: Box::new(move || watcher.stop()),
            progress: Box::new(move |copied| watcher.copied(copied)),
        }
    }

    /// What the copy asks and tells.
    pub(crate) fn watch(&self) -> Watch<'_> {
        Watch { deadline: Instant::now() + NO_HURRY, cancelled: &*self.cancelled, progress: &*self.progress }
    }
}
