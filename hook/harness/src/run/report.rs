//! What became of a script: for people, with all that is needed to see why it failed, and as JSON.

use super::Settings;
use crate::behaviour::Behaviour;
use crate::script::Engine;
use serde_json::Value;
use serde_json::json;
use similar::ChangeTag;
use similar::TextDiff;
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

/// What became of a script.
#[derive(Debug, Clone)]
pub struct Report {
    /// On which runtime.
    pub engine: Engine,
    /// As which it behaved.
    pub behaviour: Behaviour,
    /// How it ended.
    pub verdict: Verdict,
    /// How many statements were done.
    pub statements: usize,
    /// What `show` has put here, in order.
    pub shown: Vec<Shown>,
    /// How long it took.
    pub took: Duration,
}

/// How a script ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All statements hold.
    Passed,
    /// One does not.
    Failed(Failure),
    /// It is not for this runtime, for this reason.
    LeftOut(String),
    /// It could not be run at all.
    Broken(String),
}

/// What a statement `show` showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The statement's line.
    pub line: usize,
    /// What it showed.
    pub text: String,
}

/// The statement that failed, and all that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its line.
    pub line: usize,
    /// As it is written.
    pub statement: String,
    /// What is wrong.
    pub message: String,
    /// What should have been.
    pub expected: Option<String>,
    /// What was.
    pub seen: Option<String>,
    /// The last command, and what it printed and how it ended.
    pub last: Option<(String, String)>,
    /// What is known of it besides.
    pub remark: Option<String>,
    /// The hooks that the fake runtime has called since the command began.
    pub hooks: Vec<String>,
}

impl Report {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            engine: settings.engine,
            behaviour: settings.behaviour.unwrap_or(Behaviour::Runc),
            verdict: Verdict::Passed,
            statements: 0,
            shown: Vec::new(),
            took: Duration::ZERO,
        }
    }

    /// The runtime, and as which it behaved.
    #[must_use]
    pub fn runtime(&self) -> String {
        match self.engine {
            Engine::Fake => format!("fake as {}", self.behaviour),
            engine => engine.name().to_owned(),
        }
    }

    /// As one JSON document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (verdict, reason) = match &self.verdict {
            Verdict::Passed => ("passed", Value::Null),
            Verdict::Failed(_) => ("failed", Value::Null),
            Verdict::LeftOut(reason) => ("left out", json!(reason)),
            Verdict::Broken(reason) => ("broken", json!(reason)),
        };
        let failure = match &self.verdict {
            Verdict::Failed(failure) => failure.to_json(),
            _ => Value::Null,
        };
        json!({
            "runtime": self.engine.name(),
            "as": self.behaviour.name(),
            "verdict": verdict,
            "reason": reason,
            "statements": self.statements,
            "failure": failure,
            "shown": self.shown.iter().map(|shown| json!({ "line": shown.line, "text": shown.text })).collect::<Vec<_>>(),
            "milliseconds": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

impl Failure {
    fn to_json(&self) -> Value {
        let (command, output) = self.last.clone().unzip();
        json!({
            "line": self.line,
            "statement": self.statement,
            "message": self.message,
            "expected": self.expected,
            "seen": self.seen,
            "command": command,
            "output": output,
            "remark": self.remark,
            "hooks": self.hooks,
        })
    }

    /// Reads it from the `failure` of a report as JSON.
    #[must_use]
    pub fn from_json(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let hooks = value["hooks"].as_array().into_iter().flatten();
        Self {
            line: value["line"].as_u64().and_then(|line| usize::try_from(line).ok()).unwrap_or_default(),
            statement: text("statement").unwrap_or_default(),
            message: text("message").unwrap_or_default(),
            expected: text("expected"),
            seen: text("seen"),
            last: text("command").zip(text("output")),
            remark: text("remark"),
            hooks: hooks.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}

/// All of it, indented; the first line is the statement's.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  line {}: {}", self.line, self.statement)?;
        writeln!(f, "  {}", self.message.trim_end().replace('\n', "\n  "))?;
        match (&self.expected, &self.seen) {
            (Some(expected), Some(seen)) => f.write_str(&difference(expected, seen))?,
            (Some(text), None) => writeln!(f, "{}", indented("expected", text))?,
            (None, Some(text)) => writeln!(f, "{}", indented("seen", text))?,
            (None, None) => {}
        }
        if let Some((command, output)) = &self.last {
            writeln!(f, "{}", indented(&format!("the last command was: {command}"), output))?;
        }
        if let Some(remark) = &self.remark {
            writeln!(f, "  note: {}", remark.replace('\n', "\n    "))?;
        }
        for hook in &self.hooks {
            writeln!(f, "  {}", hook.trim_end().replace('\n', "\n    "))?;
        }
        Ok(())
    }
}

fn indented(title: &str, text: &str) -> String {
    let text = if text.is_empty() { "(nothing)" } else { text.trim_end_matches('\n') };
    format!("  {title}\n    {}", text.replace('\n', "\n    "))
}

/// A diff by lines; of one line each, the two below each other.
fn difference(expected: &str, seen: &str) -> String {
    let is_short = |text: &str| !text.trim_end_matches('\n').contains('\n');
    if is_short(expected) && is_short(seen) {
        let or_nothing = |text: &str| match text.trim_end_matches('\n') {
            "" => "(nothing)".to_owned(),
            text => text.to_owned(),
        };
        return format!("    expected: {}\n    seen:     {}\n", or_nothing(expected), or_nothing(seen));
    }
    let mut text = String::from("    - expected, + seen\n");
    let (expected, seen) = (expected.trim_end_matches('\n'), seen.trim_end_matches('\n'));
    for change in TextDiff::from_lines(expected, seen).iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        };
        let _ = writeln!(text, "    {sign} {}", change.value().trim_end_matches('\n'));
    }
    text
}

/// The beginning of a text that is too long to be looked at, and how much follows.
pub(super) fn clip(text: &str) -> String {
    const LONGEST: usize = 64 << 10;
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}\n[{} more bytes]\n", &text[..end], text.len() - end)
}

/// What the fake runtime noted of its hooks, from a line of its log on.
pub(super) fn hooks(log: &str, from: usize) -> Vec<String> {
    let lines = log.lines().skip(from).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .map(|line| {
            let told = &line["told"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let mut hook = format!(
                "hook {} #{} ({}): {}",
                text(&line["stage"]),
                line["index"],
                text(&line["path"]),
                text(&told["ended"])
            );
            for name in ["stdout", "stderr"] {
                let printed = text(&told[name]);
                if !printed.is_empty() {
                    let _ = write!(hook, "\n{name}: {}", printed.trim_end());
                }
            }
            hook
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_clipped_between_characters() {
        let text = "ü".repeat(40_000);
        assert!(clip(&text).ends_with("ü\n[14464 more bytes]\n"));
        assert_eq!(clip("short"), "short");
    }

    #[test]
    fn differences_read_as_a_diff() {
        assert_eq!(difference("1\n", "2"), "    expected: 1\n    seen:     2\n");
        assert_eq!(difference("a\nb\n", "a\nc\n"), "    - expected, + seen\n      a\n    - b\n    + c\n");
    }
}
