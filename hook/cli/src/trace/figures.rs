//! The benchmark's figures: one JSON object of microseconds for each hook call, appended to a file when the call ends.

use super::steps::Step;
use serde_json::Map;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tracing::Level;
use tracing::Subscriber;
use tracing::span::Id;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The field of a call's span that says which hook it is.
const STAGE: &str = "stage";

/// What is in no step.
const REST: &str = "rest";

/// The layer that sums up the steps of a call, each with the time that is its own, and writes them down with the call's.
/// Spans of the level debug are the steps; those above it are what they are parts of.
pub(super) struct Figures {
    file: PathBuf,
    parts: Mutex<Vec<(&'static str, Duration)>>,
}

impl Figures {
    /// Figures for `file`.
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, parts: Mutex::default() }
    }

    /// Writes the line. Measuring is no reason to fail a container's start, so errors are dropped.
    fn write(&self, stage: &str, total: Duration) {
        let parts = std::mem::take(&mut *self.parts.lock().unwrap_or_else(PoisonError::into_inner));
        let mut line = Map::new();
        line.insert(STAGE.into(), stage.into());
        for (part, spent) in parts.into_iter().chain([("total", total)]) {
            line.insert(part.into(), u64::try_from(spent.as_micros()).unwrap_or(u64::MAX).into());
        }
        if let Ok(mut out) = OpenOptions::new().create(true).append(true).open(&self.file) {
            let _ = out.write_all(format!("{}\n", Value::Object(line)).as_bytes());
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Figures {
    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let extensions = span.extensions();
        let Some(step) = extensions.get::<Step>() else { return };
        let name = if *span.metadata().level() == Level::DEBUG { span.name() } else { REST };
        {
            let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            match parts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += step.own,
                None => parts.push((name, step.own)),
            }
        }
        if let (None, Some(stage)) = (span.parent(), step.fields.get(STAGE)) {
            self.write(stage, step.whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::steps::Steps;
    use super::*;
    use std::thread::sleep;
    use tracing::debug_span;
    use tracing::info_span;
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::registry;

    #[test]
    fn a_step_has_the_time_that_is_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("timings");
        let nap = Duration::from_millis(5);
        with_default(registry().with(Steps).with(Figures::new(file.clone())), || {
            for stage in ["prestart", "poststop"] {
                let _call = info_span!("hook", stage).entered();
                let _start = info_span!("start", container = "c1").entered();
                let _volumes = debug_span!("volumes").entered();
                for volume in ["a", "b"] {
                    debug_span!("volumes", volume).in_scope(|| sleep(nap));
                    debug_span!("journal").in_scope(|| sleep(nap));
                }
            }
            debug_span!("journal").in_scope(|| {});
        });
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        for (line, stage) in lines.iter().zip(["prestart", "poststop"]) {
            let names: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(names, ["stage", "volumes", "journal", "rest", "total"]);
            assert_eq!(line["stage"], stage);
            let micros = |name: &str| line[name].as_u64().unwrap();
            let parts = micros("volumes") + micros("journal") + micros("rest");
            // Each is rounded down.
            assert!((parts..parts + 4).contains(&micros("total")), "{line}");
            assert!(micros("volumes") >= 10_000 && micros("journal") >= 10_000, "{line}");
        }
    }
}
