//! `volhook plugin replay`: what another build of a plugin would have decided, beside what was decided.

use crate::diff;
use crate::error::Error;
use crate::subject;
use anstyle::Style;
use serde_json::Value;
use serde_json::json;
use std::fs::File;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::question::Decision;
use volhook_core::question::Outcome;
use volhook_core::question::Question;
use volhook_plugin_host::Trial;

/// Examples that a group lists.
const EXAMPLES: usize = 3;

/// Decisions that change in the same way.
#[derive(Debug)]
struct Group {
    /// What changes, in lines.
    changes: Vec<diff::Change>,
    call: &'static str,
    /// How many there are.
    count: usize,
    /// When some of them were made, and about what.
    examples: Vec<(String, String)>,
}

/// What a replay found.
#[derive(Debug)]
pub struct Replayed {
    plugin: String,
    same: usize,
    groups: Vec<Group>,
}

/// Asks `trial` what `plugin` was asked according to the records in `files`, those that are there.
///
/// # Errors
/// [`Error::Record`], [`Error::NothingRecorded`], or when the sandbox fails.
pub fn replay(trial: &Trial, plugin: &str, files: &[PathBuf]) -> Result<Replayed, Error> {
    let mut found = Replayed { plugin: plugin.to_owned(), same: 0, groups: Vec::new() };
    let mut others: Vec<String> = Vec::new();
    let mut asked = 0_usize;
    for file in files {
        let reader = match File::open(file) {
            Ok(open) => BufReader::new(open),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && files.len() > 1 => continue,
            Err(error) => return Err(Error::io("read", file)(error)),
        };
        for (index, line) in reader.lines().enumerate() {
            let line = line.map_err(Error::io("read", file))?;
            if line.trim().is_empty() {
                continue;
            }
            let decision: Decision = serde_json::from_str(&line).map_err(|error| Error::Record {
                file: file.clone(),
                line: index + 1,
                reason: error.to_string(),
            })?;
            if decision.plugin != plugin || !decision.question.is_for(trial.entry().kind) {
                if decision.plugin != plugin && !others.contains(&decision.plugin) {
                    others.push(decision.plugin);
                }
                continue;
            }
            asked += 1;
            found.compare(trial, &decision)?;
        }
    }
    if asked == 0 {
        let file = files.last().map_or_else(PathBuf::new, |file| Path::to_owned(file));
        return Err(Error::NothingRecorded { file, plugin: plugin.to_owned(), recorded: others });
    }
    found.groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    Ok(found)
}

impl Replayed {
    fn compare(&mut self, trial: &Trial, decision: &Decision) -> Result<(), Error> {
        let (outcome, _) = subject::ask(trial, &decision.question)?;
        let same = match (&decision.outcome, &outcome) {
            // Its words have places in the source.
            (Outcome::Fault(_), Outcome::Fault(_)) => true,
            (before, now) => before == now,
        };
        if same {
            self.same += 1;
            return Ok(());
        }
        let mut changes = diff::changes(&decision.outcome, &outcome);
        // What stays is of this one decision; the group is about what does not.
        changes.retain(|change| change.tag != similar::ChangeTag::Equal);
        let call = decision.question.call();
        let example = (decision.time.to_string(), about(&decision.question));
        match self.groups.iter_mut().find(|group| group.call == call && group.changes == changes) {
            Some(group) => {
                group.count += 1;
                if group.examples.len() < EXAMPLES {
                    group.examples.push(example);
                }
            }
            None => self.groups.push(Group { changes, call, count: 1, examples: vec![example] }),
        }
        Ok(())
    }

    /// How many decisions would be others.
    #[must_use]
    pub fn changed(&self) -> usize {
        self.groups.iter().map(|group| group.count).sum()
    }

    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let (bold, dim) = (Style::new().bold(), Style::new().dimmed());
        let mut text = String::new();
        for group in &self.groups {
            let noun = if group.count == 1 { "decision" } else { "decisions" };
            text += &format!("{bold}{} {noun} on {}{bold:#}: - recorded, + now\n", group.count, group.call);
            text += &diff::styled(&group.changes, "  ");
            for (time, about) in &group.examples {
                text += &format!("  {dim}{time}  {about}{dim:#}\n");
            }
            if group.count > group.examples.len() {
                text += &format!("  {dim}and {} more{dim:#}\n", group.count - group.examples.len());
            }
            text.push('\n');
        }
        let (same, changed) = (self.same, self.changed());
        let noun = if same + changed == 1 { "decision" } else { "decisions" };
        text += &format!(
            "{}: {} {noun} replayed, {same} the same, {changed} changed\n",
            self.plugin,
            same + changed
        );
        text
    }

    /// As one document.
    #[must_use]
    pub fn json(&self) -> Value {
        let groups = self.groups.iter().map(|group| {
            let lines = |tag| -> Vec<&str> {
                group.changes.iter().filter(|c| c.tag == tag).map(|c| c.text.as_str()).collect()
            };
            let examples = group.examples.iter().map(|(time, about)| json!({ "time": time, "about": about }));
            json!({
                "call": group.call,
                "count": group.count,
                "recorded": lines(similar::ChangeTag::Delete),
                "now": lines(similar::ChangeTag::Insert),
                "examples": examples.collect::<Vec<_>>(),
            })
        });
        json!({
            "plugin": self.plugin,
            "same": self.same,
            "changed": self.changed(),
            "groups": groups.collect::<Vec<_>>(),
        })
    }
}

/// What a question is about, in short.
fn about(question: &Question) -> String {
    match question {
        Question::Describe => String::new(),
        Question::Create(request) => format!("volume {}", request.volume),
        Question::Attach(request) => format!("volume {}, container {}", request.volume, request.container.id),
        Question::Claims(request) => match &request.container.pod {
            Some(pod) => format!("container {}, pod {pod}", request.container.id),
            None => format!("container {}", request.container.id),
        },
    }
}
