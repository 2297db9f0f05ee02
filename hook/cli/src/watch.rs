//! Who watches the work of this process: says on standard error what is worth telling, and takes the time of steps for the
//! benchmark.

use crate::output::note;
use crate::output::warn;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use volhook_api::Remark;
use volhook_leases::Watcher;
use volhook_leases::Work;

/// Seconds that a hook allows itself where nobody said how long its runtime waits.
const DEFAULT_TIMEOUT_SECONDS: u64 = 10;

/// A watcher, with a stop-watch over the steps of one hook call. With `VOLHOOK_TIMINGS=FILE` in the environment it appends
/// one JSON object of microseconds to that file when the call ends.
pub(crate) struct Watch {
    allowance: Duration,
    file: Option<PathBuf>,
    start: Instant,
    laps: Mutex<Laps>,
}

struct Laps {
    last: Instant,
    parts: Vec<(&'static str, u128)>,
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
        Self {
            // A fifth is left for undoing what was done and for saying why.
            allowance: Duration::from_secs(seconds) * 4 / 5,
            file: std::env::var_os("VOLHOOK_TIMINGS").map(PathBuf::from),
            start,
            laps: Mutex::new(Laps { last: start, parts: Vec::new() }),
        }
    }

    /// A piece of work that begins now. A person who was asked something before it has not used up its time.
    pub(crate) fn work(&self) -> Work<'_> {
        Work { until: Instant::now() + self.allowance, watcher: self }
    }

    /// All that this process does, as one piece of work: whoever calls a hook counts from its start.
    pub(crate) fn whole_work(&self) -> Work<'_> {
        Work { until: self.start + self.allowance, watcher: self }
    }

    fn laps(&self) -> MutexGuard<'_, Laps> {
        self.laps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the line. Measuring is no reason to fail a container's start, so errors are dropped.
    pub(crate) fn finish(&self, stage: &str) {
        self.step("rest");
        let Some(file) = &self.file else { return };
        let mut line = serde_json::Map::new();
        line.insert("stage".into(), stage.into());
        for (part, spent) in &self.laps().parts {
            line.insert((*part).into(), u64::try_from(*spent).unwrap_or(u64::MAX).into());
        }
        let total = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        line.insert("total".into(), total.into());
        if let Ok(mut out) = std::fs::OpenOptions::new().create(true).append(true).open(file) {
            let line = serde_json::Value::Object(line).to_string() + "\n";
            let _ = out.write_all(line.as_bytes());
        }
    }
}

impl Watcher for Watch {
    fn step(&self, step: &'static str) {
        if self.file.is_none() {
            return;
        }
        let now = Instant::now();
        let mut laps = self.laps();
        let spent = now.duration_since(laps.last).as_micros();
        laps.last = now;
        match laps.parts.iter_mut().find(|(name, _)| *name == step) {
            Some((_, sum)) => *sum += spent,
            None => laps.parts.push((step, spent)),
        }
    }

    fn told(&self, remark: &Remark) {
        match remark {
            Remark::SeenDamaged { .. }
            | Remark::NotGivenBack { .. }
            | Remark::NotRecorded { .. }
            | Remark::PassedOver { .. }
            | Remark::NotCounted { .. } => warn(&remark.to_string()),
            _ => note(&format!("volhook: {remark}")),
        }
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
