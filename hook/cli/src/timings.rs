//! Where a hook call's time goes, for the benchmark.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

/// A stop-watch over the parts of one hook call. With `VOLHOOK_TIMINGS=FILE` in the environment it appends one
/// JSON object of microseconds to that file when the call ends.
#[derive(Debug)]
pub(crate) struct Timings {
    file: Option<PathBuf>,
    start: Instant,
    lap: Instant,
    parts: Vec<(&'static str, u128)>,
}

impl Timings {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        let file = std::env::var_os("VOLHOOK_TIMINGS").map(PathBuf::from);
        Self { file, start: now, lap: now, parts: Vec::new() }
    }

    /// Books the time since the last call under `part`.
    pub(crate) fn lap(&mut self, part: &'static str) {
        if self.file.is_none() {
            return;
        }
        let now = Instant::now();
        let spent = now.duration_since(self.lap).as_micros();
        self.lap = now;
        match self.parts.iter_mut().find(|(name, _)| *name == part) {
            Some((_, sum)) => *sum += spent,
            None => self.parts.push((part, spent)),
        }
    }

    /// Writes the line. Measuring is no reason to fail a container's start, so errors are dropped.
    pub(crate) fn finish(mut self, stage: &str) {
        self.lap("rest");
        let Some(file) = &self.file else { return };
        let mut line = serde_json::Map::new();
        line.insert("stage".into(), stage.into());
        for (part, spent) in &self.parts {
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
