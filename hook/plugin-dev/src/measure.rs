//! What decisions take: fuel, memory and time, warm in this process and cold in fresh ones.

use crate::error::Error;
use crate::subject;
use serde_json::Value;
use serde_json::json;
use std::io::Write as _;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use volhook_core::question::Question;
use volhook_plugin_host::Trial;

/// Makes the command that decides once in a fresh process: it is given the folder of installed plugins, the plugin's kind
/// and name, reads a question from standard input, and prints how many nanoseconds it took to load the plugin and to
/// decide.
pub type Cold<'a> = &'a dyn Fn() -> Command;

/// Figures in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sorted<T>(Vec<T>);

impl<T: Ord + Copy> Sorted<T> {
    /// Sorts them; none for no figures.
    pub(crate) fn new(mut figures: Vec<T>) -> Option<Self> {
        figures.sort_unstable();
        if figures.is_empty() { None } else { Some(Self(figures)) }
    }

    /// The figure below which this share of all lies: the nearest rank.
    pub(crate) fn percentile(&self, percent: usize) -> T {
        let rank = (self.0.len() * percent).div_ceil(100).clamp(1, self.0.len());
        self.0[rank - 1]
    }

    pub(crate) fn least(&self) -> T {
        self.0[0]
    }

    pub(crate) fn median(&self) -> T {
        self.percentile(50)
    }

    pub(crate) fn most(&self) -> T {
        self.0[self.0.len() - 1]
    }
}

/// p50 and p99 of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Times {
    fn of(times: Vec<Duration>) -> Option<Self> {
        let sorted = Sorted::new(times)?;
        Some(Self { p50: sorted.percentile(50), p99: sorted.percentile(99) })
    }

    /// In microseconds.
    pub(crate) fn json(self) -> Value {
        json!({ "p50": micros(self.p50), "p99": micros(self.p99) })
    }
}

/// Whole microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A time for people.
pub(crate) fn shown(time: Duration) -> String {
    let micros = micros(time);
    if micros < 1000 {
        format!("{micros} µs")
    } else {
        format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
    }
}

/// Times of `runs` decisions, each in a fresh instance of what is loaded already. None where it does not decide.
pub(crate) fn warm(trial: &Trial, question: &Question, runs: usize) -> Result<Option<Times>, Error> {
    let mut times = Vec::new();
    for _ in 0..runs {
        times.extend(subject::ask(trial, question)?.1.map(|asked| asked.time));
    }
    Ok(Times::of(times))
}

/// Times of `runs` decisions in fresh processes: of loading and deciding, and of the whole process.
pub(crate) fn cold(
    trial: &Trial,
    question: &Question,
    runs: usize,
    command: Cold<'_>,
) -> Result<Option<(Times, Times)>, Error> {
    let wrong = |reason: String| Error::Cold { reason };
    let line = serde_json::to_vec(question).map_err(|error| wrong(error.to_string()))?;
    let entry = trial.entry();
    let (mut decisions, mut processes) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let mut command = command();
        command.arg(trial.folder()).args([&entry.kind.to_string(), &entry.name]);
        let begin = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| wrong(error.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that has failed already says why.
            let _ = stdin.write_all(&line);
        }
        let output = child.wait_with_output().map_err(|error| wrong(error.to_string()))?;
        processes.push(begin.elapsed());
        let said = String::from_utf8_lossy(&output.stdout);
        let nanos = said.trim().parse().ok().filter(|_| output.status.success());
        let nanos =
            nanos.ok_or_else(|| wrong(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")))?;
        decisions.push(Duration::from_nanos(nanos));
    }
    Ok(Times::of(decisions).zip(Times::of(processes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_figures_that_were_measured() {
        let hundred = Sorted::new((1..=100).rev().collect()).unwrap();
        assert_eq!((hundred.percentile(50), hundred.percentile(99), hundred.most()), (50, 99, 100));
        let one = Sorted::new(vec![7]).unwrap();
        assert_eq!((one.least(), one.median(), one.percentile(99)), (7, 7, 7));
        assert_eq!(Sorted::<u64>::new(Vec::new()), None);
    }

    #[test]
    fn times_are_shown_in_the_unit_that_fits() {
        assert_eq!(shown(Duration::from_nanos(12_900)), "12 µs");
        assert_eq!(shown(Duration::from_micros(1_250)), "1.2 ms");
    }
}
