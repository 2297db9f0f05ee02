//! Answers as lines of `field = value`, and the difference between two.

use crate::schema;
use crate::schema::Shape;
use anstyle::AnsiColor;
use anstyle::Style;
use serde_json::Value;
use similar::ChangeTag;
use similar::TextDiff;
use std::collections::BTreeSet;
use volhook_core::question::Answer;
use volhook_core::question::Outcome;

/// A field of an answer and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    path: String,
    text: String,
    /// It is what the field is when left out.
    is_default: bool,
}

/// An outcome's lines. A fault has one.
fn lines(outcome: &Outcome) -> Vec<Line> {
    match outcome {
        Outcome::Fault(fault) => {
            vec![Line { path: "fault".to_owned(), text: format!("fault = {fault:?}"), is_default: false }]
        }
        Outcome::Answer(answer) => {
            let mut lines = Vec::new();
            flatten(&value(answer), &schema::ANSWER, String::new(), None, &mut lines);
            lines
        }
    }
}

/// The answer as JSON.
pub(crate) fn value(answer: &Answer) -> Value {
    serde_json::to_value(answer).expect("an answer has nothing but texts as keys")
}

fn flatten(value: &Value, shape: &Shape, path: String, default: Option<&Value>, lines: &mut Vec<Line>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (shape, value) {
        (Shape::Record(fields), Value::Object(_)) => {
            for field in *fields {
                let own = field.default();
                // Inside a record that is given as a whole, its own default counts.
                let default =
                    default.map_or(own.as_ref(), |default| default.get(field.name)).or(own.as_ref());
                flatten(&value[field.name], field.shape, below(field.name), default, lines);
            }
        }
        (Shape::OneOf(shapes), Value::Object(entries)) => {
            for (name, inner) in entries {
                let Some((_, shape)) = shapes.iter().find(|(known, _)| known == name) else { continue };
                let at = lines.len();
                flatten(inner, shape, below(name), None, lines);
                let line = if path.is_empty() {
                    // What kind of answer it is stands in every line, if there is one.
                    let is_default = lines[at..].iter().any(|line| !line.is_default);
                    Line { path: String::new(), text: name.clone(), is_default }
                } else {
                    let is_default = default.is_some_and(|default| default.get(name).is_some());
                    Line { path: path.clone(), text: format!("{path} = {name}"), is_default }
                };
                lines.insert(at, line);
            }
        }
        (Shape::Optional(inner), value) if !value.is_null() => flatten(value, inner, path, None, lines),
        (Shape::Pairs, Value::Array(pairs)) if !pairs.is_empty() => {
            for pair in pairs {
                let path = below(pair[0].as_str().unwrap_or_default());
                lines.push(Line { text: format!("{path} = {}", pair[1]), path, is_default: false });
            }
        }
        (Shape::List(inner), Value::Array(entries)) if !entries.is_empty() => {
            for (index, entry) in entries.iter().enumerate() {
                flatten(entry, inner, format!("{path}[{index}]"), None, lines);
            }
        }
        (shape, value) => {
            let shown = match (shape, value) {
                (Shape::Mode, Value::Number(mode)) => format!("0o{:o}", mode.as_u64().unwrap_or_default()),
                (_, Value::Null) => "none".to_owned(),
                (_, value) => value.to_string(),
            };
            let is_default = default == Some(value);
            lines.push(Line { text: format!("{path} = {shown}"), path, is_default });
        }
    }
}

/// An outcome in lines for people, without what has its default.
pub(crate) fn text(outcome: &Outcome) -> Vec<String> {
    let lines = lines(outcome).into_iter().filter(|line| !line.is_default);
    lines.map(|line| line.text).collect()
}

/// A decision in lines for people, without what has its default.
#[must_use]
pub fn decision_text(answer: &Answer) -> String {
    text(&Outcome::Answer(answer.clone())).into_iter().map(|line| line + "\n").collect()
}

/// One line of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) tag: ChangeTag,
    pub(crate) text: String,
}

/// How `new` differs from `old`. What has its default in both is left out.
pub(crate) fn changes(old: &Outcome, new: &Outcome) -> Vec<Change> {
    let (old, new) = (lines(old), lines(new));
    let said: BTreeSet<&str> =
        old.iter().chain(&new).filter(|line| !line.is_default).map(|line| line.path.as_str()).collect();
    let shown = |lines: &[Line]| -> Vec<String> {
        lines.iter().filter(|line| said.contains(line.path.as_str())).map(|line| line.text.clone()).collect()
    };
    let (old, new) = (shown(&old), shown(&new));
    let (old, new): (Vec<&str>, Vec<&str>) =
        (old.iter().map(String::as_str).collect(), new.iter().map(String::as_str).collect());
    let diff = TextDiff::from_slices(&old, &new);
    diff.iter_all_changes()
        .map(|change| Change { tag: change.tag(), text: change.value().to_owned() })
        .collect()
}

/// Lines around a change that are shown.
const CONTEXT: usize = 3;

/// A difference for a terminal, each line after `indent`.
pub(crate) fn styled(changes: &[Change], indent: &str) -> String {
    let (red, green, dim) =
        (AnsiColor::Red.on_default(), AnsiColor::Green.on_default(), Style::new().dimmed());
    let is_near = |index: usize| {
        let around = &changes[index.saturating_sub(CONTEXT)..(index + CONTEXT + 1).min(changes.len())];
        around.iter().any(|change| change.tag != ChangeTag::Equal)
    };
    let mut text = String::new();
    let mut skipped = false;
    for (index, change) in changes.iter().enumerate() {
        if !is_near(index) {
            if !skipped {
                text += &format!("{indent}{dim}  …{dim:#}\n");
            }
            skipped = true;
            continue;
        }
        skipped = false;
        let (sign, style) = match change.tag {
            ChangeTag::Delete => ("-", red),
            ChangeTag::Insert => ("+", green),
            ChangeTag::Equal => (" ", dim),
        };
        text += &format!("{indent}{style}{sign} {}{style:#}\n", change.text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn outcome(value: Value) -> Outcome {
        Outcome::Answer(serde_json::from_value(value).unwrap())
    }

    fn creation(mode: u32, notes: &[&str]) -> Outcome {
        outcome(json!({ "creation": {
            "backing": { "directory": { "mode": mode, "uid": 0, "gid": 0 } },
            "options": [["a", "1"]], "limit": null, "sharing": null, "notes": notes,
        } }))
    }

    fn plain(old: &Outcome, new: &Outcome) -> String {
        let text = styled(&changes(old, new), "");
        let mut plain = String::new();
        let mut parts = text.split('\u{1b}');
        plain += parts.next().unwrap();
        for part in parts {
            plain += part.split_once('m').unwrap().1;
        }
        plain
    }

    #[test]
    fn both_sides_of_a_default_are_shown() {
        insta::assert_snapshot!(plain(&creation(0o755, &[]), &creation(0o700, &["n"])), @r#"
        - creation.backing.directory.mode = 0o755
        + creation.backing.directory.mode = 0o700
          creation.options.a = "1"
        + creation.notes[0] = "n"
        "#);
        insta::assert_snapshot!(plain(&creation(0o755, &[]), &Outcome::Fault("it trapped".to_owned())), @r#"
        - creation.options.a = "1"
        + fault = "it trapped"
        "#);
    }

    #[test]
    fn another_backing_is_another_line() {
        let tmpfs = outcome(json!({ "creation": {
            "backing": { "tmpfs": { "size": null, "inodes": null, "root": { "mode": 0o755, "uid": 0, "gid": 0 } } },
            "options": [], "limit": null, "sharing": null, "notes": [],
        } }));
        insta::assert_snapshot!(plain(&creation(0o755, &[]), &tmpfs), @r#"
        - creation.backing = directory
        - creation.options.a = "1"
        + creation.backing = tmpfs
        "#);
    }

    proptest! {
        #[test]
        fn lines_differ_exactly_where_answers_do(
            a in schema::tests::values(&schema::ANSWER),
            b in schema::tests::values(&schema::ANSWER),
        ) {
            let read = |value: Value| serde_json::from_value(value).map(Outcome::Answer);
            if let (Ok(a), Ok(b)) = (read(a), read(b)) {
                let differs = |a, b| changes(a, b).iter().any(|change| change.tag != ChangeTag::Equal);
                prop_assert!(!differs(&a, &a));
                prop_assert_eq!(differs(&a, &b), a != b);
            }
        }
    }
}
