//! `volhook plugin bench`: what each fixture's decision takes.

use crate::error::Error;
use crate::measure;
use crate::measure::Cold;
use crate::measure::Times;
use crate::probe;
use crate::subject;
use crate::subject::Subject;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use volhook_core::question::Consumed;
use volhook_core::size;
use volhook_plugin_host::Trial;

/// Warm decisions of each question.
const WARM: usize = 500;
/// Fresh processes for each question.
const COLD: usize = 50;

/// What one decision takes.
#[derive(Debug)]
struct Row {
    name: String,
    consumed: Consumed,
    warm: Times,
    cold: Times,
    process: Times,
}

/// What decisions take.
#[derive(Debug)]
pub struct Bench {
    plugin: String,
    rows: Vec<Row>,
}

/// Measures the fixtures, or questions made up from what the plugin describes.
///
/// # Errors
/// When the plugin cannot be asked. A question that it gives no decision on is left out.
pub fn bench(
    subject: &Subject,
    trial: &Trial,
    folder: Option<&Path>,
    cold: Cold<'_>,
) -> Result<Bench, Error> {
    let fixtures = subject.fixtures(folder)?;
    let questions = if fixtures.is_empty() {
        probe::questions(trial.entry().kind, trial.info())
    } else {
        fixtures.into_iter().map(|fixture| (fixture.name, fixture.question)).collect()
    };
    let mut rows = Vec::new();
    for (name, question) in questions {
        let (_, Some(asked)) = subject::ask(trial, &question)? else { continue };
        let Some(warm) = measure::warm(trial, &question, WARM)? else { continue };
        let Some((cold, process)) = measure::cold(trial, &question, COLD, cold)? else { continue };
        rows.push(Row { name, consumed: asked.consumed, warm, cold, process });
    }
    Ok(Bench { plugin: trial.entry().name.clone(), rows })
}

impl Bench {
    /// Titles of [`Bench::rows`].
    pub const HEADER: [&'static str; 7] =
        ["decision", "fuel", "memory", "warm p50", "warm p99", "cold p50", "cold p99"];

    /// A table for people.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |row: &Row| {
            vec![
                row.name.clone(),
                row.consumed.fuel.to_string(),
                size::format(row.consumed.memory),
                measure::shown(row.warm.p50),
                measure::shown(row.warm.p99),
                measure::shown(row.cold.p50),
                measure::shown(row.cold.p99),
            ]
        };
        self.rows.iter().map(row).collect()
    }

    /// As one document; times in microseconds.
    #[must_use]
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "name": row.name,
                "fuel": row.consumed.fuel,
                "memory": row.consumed.memory,
                "warm": row.warm.json(),
                "cold": row.cold.json(),
                "process": row.process.json(),
            })
        });
        json!({ "plugin": self.plugin, "decisions": rows.collect::<Vec<_>>() })
    }
}
