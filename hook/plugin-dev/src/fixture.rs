//! Fixtures: a question to a plugin and the right answer, one a TOML file.

use crate::error::Error;
use crate::error::FixtureError;
use crate::schema;
use crate::schema::Call;
use crate::schema::Shape;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use toml_edit::Document;
use toml_edit::Item;
use toml_edit::TableLike;
use volhook_core::question::Answer;
use volhook_core::question::Question;

/// A question with the right answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixture {
    /// The file.
    pub file: PathBuf,
    /// The file's name without its ending.
    pub name: String,
    /// What the case is about, for people; may be empty.
    pub about: String,
    /// The question.
    pub question: Question,
    /// The right answer, if it is known yet.
    pub expected: Option<Answer>,
    /// The file's text.
    pub(crate) text: String,
}

/// The words at the top of a fixture.
const TOP: [&str; 4] = ["about", "call", "request", "expect"];

impl Fixture {
    /// Reads one.
    ///
    /// # Errors
    /// [`Error::Fixture`] with the line and the field.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(file).map_err(Error::io("read", file))?;
        Ok(Self::parse(file, text)?)
    }

    /// Parses the text of `file`.
    ///
    /// # Errors
    /// With the line and the field.
    pub fn parse(file: &Path, text: String) -> Result<Self, FixtureError> {
        let reader = Reader { file, text: &text };
        let document = Document::parse(text.as_str()).map_err(|error| {
            reader.at(error.span().unwrap_or_default(), error.message().trim().to_owned())
        })?;
        let top = document.as_table();
        if let Some((name, _)) = top.iter().find(|(name, _)| !TOP.contains(name)) {
            let span = key_span(top, name).unwrap_or_default();
            return Err(reader.at(span, unknown("", name, &TOP)));
        }
        let about = match top.get("about") {
            Some(item) => reader.read(item, &Shape::Text, "about", &(0..0))?,
            None => json!(""),
        };
        let call = reader.call(top.get("call"))?;
        let whole = 0..0;
        let question = match (call.request, top.get("request")) {
            (None, Some(item)) => {
                return Err(
                    reader.at(item.span().unwrap_or_default(), format!("{} has no request", call.name))
                );
            }
            (None, None) => json!({ "call": call.name }),
            (Some(shape), None) => json!({ "call": call.name, "request": shape.defaults() }),
            (Some(shape), Some(item)) => {
                json!({ "call": call.name, "request": reader.read(item, shape, "request", &whole)? })
            }
        };
        let question = serde_json::from_value(question).map_err(|error| {
            let span = top.get("request").and_then(Item::span);
            reader.at(span.unwrap_or_default(), format!("request: {error}"))
        })?;
        let expected = match top.get("expect") {
            None => None,
            Some(item) => {
                let answer = reader.read(
                    item,
                    call.answers,
                    "expect",
                    &key_span(top, "expect").unwrap_or_default(),
                )?;
                Some(serde_json::from_value(answer).map_err(|error| {
                    reader.at(item.span().unwrap_or_default(), format!("expect: {error}"))
                })?)
            }
        };
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let about = about.as_str().unwrap_or_default().to_owned();
        Ok(Self { file: file.to_owned(), name, about, question, expected, text })
    }
}

/// The fixtures in `folder`, by name: those whose name or about has `matching` in it.
///
/// # Errors
/// [`Error::NoFixtures`], [`Error::Fixture`] for the first that is wrong.
pub fn fixtures_in(folder: &Path, matching: Option<&str>) -> Result<Vec<Fixture>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(Error::io("read", folder))?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io("read", folder)(error)),
    };
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut fixtures = files.iter().map(|file| Fixture::read(file)).collect::<Result<Vec<_>, _>>()?;
    if let Some(text) = matching {
        fixtures.retain(|fixture| fixture.name.contains(text) || fixture.about.contains(text));
    }
    if fixtures.is_empty() {
        let (folder, matching) = (folder.to_owned(), matching.map(str::to_owned));
        return Err(Error::NoFixtures { folder, matching });
    }
    Ok(fixtures)
}

/// The line, from 1, of a place in a text.
pub(crate) fn line_at(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn key_span(table: &dyn TableLike, name: &str) -> Option<Range<usize>> {
    table.key(name)?.span()
}

/// What to say of a name that is not among `known`.
fn unknown(place: &str, name: &str, known: &[&str]) -> String {
    let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
    let alike = |word: &&&str| strsim::jaro_winkler(&name.replace('-', "_").to_lowercase(), word);
    let nearest = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    match nearest.filter(|word| alike(word) > 0.8) {
        Some(word) => format!("{place}there is no field {name:?}; did you mean {word:?}?"),
        None => format!("{place}there is no field {name:?}; there are {}", known.join(", ")),
    }
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn at(&self, span: Range<usize>, problem: String) -> FixtureError {
        FixtureError { file: self.file.to_owned(), line: line_at(self.text, span.start), problem }
    }

    fn call(&self, item: Option<&Item>) -> Result<&'static Call, FixtureError> {
        let names: Vec<&str> = schema::CALLS.iter().map(|call| call.name).collect();
        let Some(item) = item else {
            return Err(self.at(0..0, format!("there is no `call`: it is one of {}", names.join(", "))));
        };
        let call = item.as_str().and_then(|name| schema::CALLS.iter().find(|call| call.name == name));
        call.ok_or_else(|| {
            let problem = format!("call: must be one of {}, not {}", names.join(", "), shown(item));
            self.at(item.span().unwrap_or_default(), problem)
        })
    }

    /// The value of `item` at `path`, with what is left out filled in. `around` is where to point for what has no place
    /// of its own.
    fn read(
        &self,
        item: &Item,
        shape: &Shape,
        path: &str,
        around: &Range<usize>,
    ) -> Result<Value, FixtureError> {
        let span = item.span().unwrap_or_else(|| around.clone());
        let must_be =
            |what: &str| self.at(span.clone(), format!("{path}: must be {what}, not {}", shown(item)));
        match shape {
            Shape::Text => item.as_str().map(Value::from).ok_or_else(|| must_be("a text in quotes")),
            Shape::Number | Shape::Id | Shape::Mode => {
                let (most, what) = match shape {
                    Shape::Number => (u64::MAX, "a whole number"),
                    Shape::Id => (u32::MAX.into(), "a user or group id"),
                    _ => (u32::MAX.into(), "a mode such as 0o755"),
                };
                let number = item.as_integer().and_then(|number| u64::try_from(number).ok());
                number.filter(|number| *number <= most).map(Value::from).ok_or_else(|| must_be(what))
            }
            Shape::Boolean => item.as_bool().map(Value::from).ok_or_else(|| must_be("true or false")),
            Shape::Choice(words) => {
                let word = item.as_str().filter(|word| words.contains(word));
                word.map(Value::from).ok_or_else(|| must_be(&format!("one of {}", words.join(", "))))
            }
            Shape::Optional(inner) => self.read(item, inner, path, around),
            Shape::Pair => {
                let texts =
                    item.as_array().map(|pair| pair.iter().map(toml_edit::Value::as_str).collect::<Vec<_>>());
                match texts.as_deref() {
                    Some([Some(name), Some(value)]) => Ok(json!([name, value])),
                    _ => Err(must_be("a name and a value: [\"team\", \"a\"]")),
                }
            }
            Shape::Pairs => self.pairs(item, path, around),
            Shape::List(inner) => {
                let items: Vec<Item> = match (item.as_array(), item.as_array_of_tables()) {
                    (Some(array), _) => array.iter().cloned().map(Item::Value).collect(),
                    (_, Some(tables)) => tables.iter().cloned().map(Item::Table).collect(),
                    _ => return Err(must_be("a list")),
                };
                let entry = |(index, item): (usize, &Item)| {
                    self.read(item, inner, &format!("{path}[{index}]"), &span)
                };
                items.iter().enumerate().map(entry).collect()
            }
            Shape::Record(fields) => {
                let table = item.as_table_like().ok_or_else(|| must_be("a table"))?;
                let mut record = shape.defaults();
                for (name, item) in table.iter() {
                    let span = key_span(table, name).unwrap_or_else(|| span.clone());
                    let Some(field) = fields.iter().find(|field| field.name == name) else {
                        let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
                        return Err(self.at(span, unknown(path, name, &known)));
                    };
                    record[name] = self.read(item, field.shape, &format!("{path}.{name}"), &span)?;
                }
                let missing = fields.iter().find(|field| record.get(field.name).is_none());
                match missing {
                    Some(field) => Err(self.at(span, format!("{path}: {} is missing", field.name))),
                    None => Ok(record),
                }
            }
            Shape::OneOf(shapes) => {
                let known: Vec<&str> = shapes.iter().map(|(name, _)| *name).collect();
                let one = || must_be(&format!("a table with one of {}", known.join(", ")));
                let table = item.as_table_like().ok_or_else(one)?;
                let mut entries = table.iter();
                let (Some((name, item)), None) = (entries.next(), entries.next()) else { return Err(one()) };
                let span = key_span(table, name).unwrap_or_else(|| span.clone());
                let Some((_, shape)) = shapes.iter().find(|(known, _)| *known == name) else {
                    return Err(self.at(span, unknown(path, name, &known)));
                };
                let value = self.read(item, shape, &format!("{path}.{name}"), &span)?;
                Ok(json!({ name: value }))
            }
            Shape::OptionKind => {
                const WORDS: Shape = Shape::Choice(&["text", "integer", "size", "boolean", "table"]);
                const CHOICES: Shape = Shape::OneOf(&[("choice", &Shape::List(&Shape::Text))]);
                let shape = if item.is_str() { &WORDS } else { &CHOICES };
                self.read(item, shape, path, around)
            }
        }
    }

    /// Pairs as a table, or as a list where a name stands twice. A table in the table has its name before theirs, as in
    /// a file of configuration.
    fn pairs(&self, item: &Item, path: &str, around: &Range<usize>) -> Result<Value, FixtureError> {
        if item.is_array() {
            return self.read(item, &Shape::List(&Shape::Pair), path, around);
        }
        let span = item.span().unwrap_or_else(|| around.clone());
        let Some(table) = item.as_table_like() else {
            let problem = format!("{path}: must be a table of texts, not {}", shown(item));
            return Err(self.at(span, problem));
        };
        let mut pairs = Vec::new();
        for (name, item) in table.iter() {
            let span = key_span(table, name).unwrap_or_else(|| span.clone());
            let path = format!("{path}.{name}");
            if item.is_table_like() {
                let inner = self.pairs(item, &path, &span)?;
                for pair in inner.as_array().into_iter().flatten() {
                    let key = pair[0].as_str().unwrap_or_default();
                    pairs.push(json!([format!("{name}.{key}"), pair[1]]));
                }
            } else {
                pairs.push(json!([name, self.read(item, &Shape::Text, &path, &span)?]));
            }
        }
        Ok(pairs.into())
    }
}

/// A value as a message has it.
fn shown(item: &Item) -> String {
    let text = match item {
        Item::Value(value) => value.to_string().trim().to_owned(),
        other => other.type_name().to_owned(),
    };
    volhook_core::names::shorten(&text)
}

#[cfg(test)]
mod tests;
