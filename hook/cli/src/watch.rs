//! Who watches the work of this process: says on standard error what is worth telling.

use crate::output::note;
use crate::output::printable;
use crate::output::warn;
use std::time::Duration;
use std::time::Instant;
use volhook_api::Remark;
use volhook_leases::Watcher;
use volhook_leases::Work;

/// Seconds that a hook allows itself where nobody said how long its runtime waits.
const DEFAULT_TIMEOUT_SECONDS: u64 = 10;

/// A watcher, and when what it watches is given up.
pub(crate) struct Watch {
    until: Instant,
}

impl Watch {
    /// Begins, with the deadline that `VOLHOOK_TIMEOUT` leaves.
    pub(crate) fn begin() -> Self {
        let seconds = std::env::var("VOLHOOK_TIMEOUT")
            .ok()
            .and_then(|text| text.parse().ok())
            .filter(|seconds| *seconds > 0)
            .unwrap_or(DEFAULT_TIMEOUT_SECONDS);
        // A fifth is left for undoing what was done and for saying why.
        Self { until: Instant::now() + Duration::from_secs(seconds) * 4 / 5 }
    }

    /// What this process does, as one piece of work.
    pub(crate) fn work(&self) -> Work<'_> {
        Work { until: self.until, watcher: self }
    }
}

impl Watcher for Watch {
    fn told(&self, remark: &Remark) {
        match remark {
            Remark::NotGivenBack { .. } | Remark::NotRecorded { .. } => warn(&remark.to_string()),
            _ => note(&format!("volhook: {}", printable(&remark.to_string()))),
        }
    }
}
