//! Who watches the work of this process: says on standard error what is worth telling.

use crate::output::note;
use crate::output::printable;
use crate::output::warn;
use crate::trace;
use std::time::Duration;
use std::time::Instant;
use volhook_api::Remark;
use volhook_engine::Watcher;
use volhook_engine::Work;

/// Seconds that a hook allows itself where nobody said how long its runtime waits.
const DEFAULT_TIMEOUT_SECONDS: u64 = 10;

/// A watcher, and how long each piece of work that it watches may take.
pub(crate) struct Watch {
    start: Instant,
    allowance: Duration,
}

impl Watch {
    /// Begins, with the time for each piece of work that `VOLHOOK_TIMEOUT` leaves.
    pub(crate) fn begin() -> Self {
        let start = Instant::now();
        let seconds = std::env::var("VOLHOOK_TIMEOUT")
            .ok()
            .and_then(|text| text.parse().ok())
            .filter(|seconds| *seconds > 0)
            .unwrap_or(DEFAULT_TIMEOUT_SECONDS);
        // A fifth is left for undoing what was done and for saying why.
        Self { start, allowance: Duration::from_secs(seconds) * 4 / 5 }
    }

    /// A piece of work that begins now. A person who was asked something before it has not used up its time.
    pub(crate) fn work(&self) -> Work<'_> {
        Work { until: Instant::now() + self.allowance, watcher: self }
    }

    /// All that this process does, as one piece of work: whoever calls a hook counts from its start.
    pub(crate) fn whole_work(&self) -> Work<'_> {
        Work { until: self.start + self.allowance, watcher: self }
    }
}

impl Watcher for Watch {
    fn told(&self, remark: &Remark) {
        match remark {
            Remark::SeenDamaged { .. }
            | Remark::NotGivenBack { .. }
            | Remark::NotRecorded { .. }
            | Remark::PassedOver { .. }
            | Remark::NotCounted { .. } => warn(&remark.to_string()),
            _ => note(&format!("volhook: {}", printable(&remark.to_string()))),
        }
    }

    fn failing(&self) {
        trace::listen_to_failures();
    }
}

#[cfg(test)]
mod tests {
    use super::Watch;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn who_is_asked_something_may_take_his_time() {
        let watch = Watch::begin();
        let (before, whole) = (watch.work().until, watch.whole_work().until);
        thread::sleep(Duration::from_millis(2));
        assert!(watch.work().until > before);
        assert_eq!(watch.whole_work().until, whole);
    }
}
