//! `--format`, as docker's users write it: `json`, a template such as `{{.Name}} {{json .Labels}}`, and `table` before one.
//!
//! A template is rendered on documents, as `--json` prints them. Their keys are named in docker's way: `{{.SizeCounted}}` is
//! `size_counted`. Of Go's templates there are fields, pipelines, and the functions of [`FUNCTIONS`]; conditions and loops are
//! left to programs that read `--json`.

use crate::output::out;
use crate::output::out_line;
use crate::output::print_table;
use serde_json::Map;
use serde_json::Value;
use std::convert::Infallible;
use volhook_core::size;
use volhook_engine::Failure;

/// What a template may call (docker documents these under "Format command and log output").
const FUNCTIONS: [&str; 9] = ["json", "join", "index", "len", "lower", "upper", "title", "split", "truncate"];

/// A parsed `--format`.
#[derive(Debug)]
pub(crate) enum Format {
    /// One document a line, or all of them as one where things are inspected.
    Json,
    /// The command's own table.
    Table,
    /// A line for each document.
    Lines(Template),
    /// A table whose columns are parted by tabs in the template.
    Columns(Template),
}

impl Format {
    /// Parses what follows `--format`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        match text.trim() {
            "json" => Ok(Self::Json),
            "table" => Ok(Self::Table),
            _ => match ["table ", "table\t", "table\\t"].iter().find_map(|table| text.strip_prefix(table)) {
                Some(columns) => Ok(Self::Columns(Template::parse(columns)?)),
                None => Ok(Self::Lines(Template::parse(text)?)),
            },
        }
    }

    /// Whether a field is shown.
    pub(crate) fn shows(&self, field: &str) -> bool {
        match self {
            Self::Json | Self::Table => true,
            Self::Lines(template) | Self::Columns(template) => template.shows(field),
        }
    }

    /// Prints `documents`, a line for each. `false` if the command's own table is what is wanted.
    pub(crate) fn print(&self, documents: &[Value]) -> Result<bool, Failure> {
        match self {
            Self::Json => {
                documents.iter().try_for_each(|document| out(&format!("{}\n", named(document))))?;
            }
            Self::Table => return Ok(false),
            Self::Lines(template) => {
                let lines: Result<String, Failure> =
                    documents.iter().map(|document| Ok(template.render(document)? + "\n")).collect();
                out(&lines?)?;
            }
            Self::Columns(template) => {
                let mut lines = template.titles();
                let header = lines.remove(0);
                for document in documents {
                    lines.extend(template.cells(document)?);
                }
                print_table(&header.iter().map(String::as_str).collect::<Vec<_>>(), lines)?;
            }
        }
        Ok(true)
    }

    /// The lines above a table by this template, if it is for one.
    pub(crate) fn titles(&self) -> Option<Vec<Vec<String>>> {
        match self {
            Self::Columns(template) => Some(template.titles()),
            Self::Json | Self::Table | Self::Lines(_) => None,
        }
    }

    /// A document as lines of such a table.
    pub(crate) fn cells(&self, document: &Value) -> Result<Vec<Vec<String>>, Failure> {
        match self {
            Self::Columns(template) => template.cells(document),
            Self::Json | Self::Table | Self::Lines(_) => Ok(Vec::new()),
        }
    }

    /// A document as text, where it is not in a table.
    pub(crate) fn text(&self, document: &Value) -> Result<String, Failure> {
        match self {
            Self::Json => Ok(format!("{}\n", named(document))),
            Self::Lines(template) => Ok(template.render(document)? + "\n"),
            Self::Table | Self::Columns(_) => Ok(String::new()),
        }
    }

    /// What stands above documents that come one after the other, for a table.
    pub(crate) fn print_titles(&self) -> Result<(), Failure> {
        match self {
            Self::Columns(template) => print_unaligned(&template.titles()),
            Self::Json | Self::Table | Self::Lines(_) => Ok(()),
        }
    }

    /// Prints the next one of them.
    pub(crate) fn print_next(&self, document: &Value) -> Result<(), Failure> {
        match self {
            Self::Columns(template) => print_unaligned(&template.cells(document)?),
            Self::Json | Self::Table | Self::Lines(_) => self.print(std::slice::from_ref(document)).map(drop),
        }
    }

    /// The same for things that are inspected: as JSON they are one document.
    pub(crate) fn print_inspected(&self, documents: &[Value]) -> Result<(), Failure> {
        match self {
            Self::Json | Self::Table => {
                let documents: Vec<Value> = documents.iter().map(named).collect();
                out(&format!("{}\n", Value::from(documents)))
            }
            Self::Lines(_) | Self::Columns(_) => self.print(documents).map(|_| ()),
        }
    }
}

/// Lines of a table of which nobody knows how wide it will be.
fn print_unaligned(lines: &[Vec<String>]) -> Result<(), Failure> {
    lines.iter().try_for_each(|line| out_line(&line.join("  ")))
}

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    /// Calls, each of which gets the result of the one before as its last argument.
    Pipeline(Vec<Call>),
}

#[derive(Debug)]
struct Call {
    function: Option<String>,
    operands: Vec<Operand>,
}

#[derive(Debug)]
enum Operand {
    /// A path of fields from the document; the document itself where it is empty.
    Field(Vec<String>),
    Value(Value),
}

impl Template {
    fn parse(text: &str) -> Result<Self, Failure> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            let Some((inside, behind)) = behind.split_once("}}") else {
                return Err(unusable("it has a \"{{\" without \"}}\""));
            };
            parts.push(literal(before));
            parts.push(Part::Pipeline(pipeline(inside)?));
            rest = behind;
        }
        parts.push(literal(rest));
        Ok(Self(parts))
    }

    fn operands(&self) -> impl Iterator<Item = &Operand> {
        let calls = self.0.iter().flat_map(|part| match part {
            Part::Text(_) => [].iter(),
            Part::Pipeline(calls) => calls.iter(),
        });
        calls.flat_map(|call| &call.operands)
    }

    fn shows(&self, field: &str) -> bool {
        self.operands().any(|operand| match operand {
            Operand::Field(path) => path.first().is_none_or(|first| snake(first) == snake(field)),
            Operand::Value(_) => false,
        })
    }

    /// What stands above the columns: the names of the fields, in words.
    fn titles(&self) -> Vec<Vec<String>> {
        let title = |calls: &[Call]| {
            let operands = calls.iter().flat_map(|call| &call.operands);
            let mut names = operands.filter_map(|operand| match operand {
                Operand::Field(path) => path.last().map(|name| words(name)),
                Operand::Value(_) => None,
            });
            names.next().unwrap_or_default()
        };
        self.laid_out(|calls| Ok::<_, Infallible>(title(calls))).unwrap_or_else(|never| match never {})
    }

    /// The cells of a document: line feeds of the template begin a line, and its tabs a column. What is in a field does
    /// neither.
    fn cells(&self, document: &Value) -> Result<Vec<Vec<String>>, Failure> {
        self.laid_out(|calls| evaluate(calls, document))
    }

    fn laid_out<E>(&self, fill: impl Fn(&[Call]) -> Result<String, E>) -> Result<Vec<Vec<String>>, E> {
        let mut before: Vec<Vec<String>> = Vec::new();
        let (mut line, mut cell) = (Vec::new(), String::new());
        for part in &self.0 {
            match part {
                Part::Pipeline(calls) => cell.push_str(&fill(calls)?),
                Part::Text(text) => {
                    for character in text.chars() {
                        match character {
                            '\t' => line.push(std::mem::take(&mut cell)),
                            '\n' => {
                                line.push(std::mem::take(&mut cell));
                                before.push(std::mem::take(&mut line));
                            }
                            other => cell.push(other),
                        }
                    }
                }
            }
        }
        line.push(cell);
        before.push(line);
        // A table has as many columns as its longest line.
        let width = before.iter().map(Vec::len).max().unwrap_or_default();
        before.iter_mut().for_each(|line| line.resize(width, String::new()));
        Ok(before)
    }

    fn render(&self, document: &Value) -> Result<String, Failure> {
        let mut rendered = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Pipeline(calls) => rendered.push_str(&evaluate(calls, document)?),
            }
        }
        Ok(rendered)
    }
}

/// What stands between fields. A shell hands escapes on as they are.
fn literal(text: &str) -> Part {
    Part::Text(text.replace("\\t", "\t").replace("\\n", "\n"))
}

fn unusable(why: impl Into<String>) -> Failure {
    Failure::usage(format!("the template is not usable: {}", why.into())).hint(format!(
        "a template has fields and functions, as in '{{{{.Name}}}} {{{{json .Labels}}}}'; functions: {}; for more there is --json",
        FUNCTIONS.join(" ")
    ))
}

fn pipeline(text: &str) -> Result<Vec<Call>, Failure> {
    let mut calls = vec![Call { function: None, operands: Vec::new() }];
    let mut rest = text.trim();
    // Go cuts the text beside these.
    rest = rest.strip_prefix("- ").unwrap_or(rest);
    rest = rest.strip_suffix(" -").unwrap_or(rest).trim();
    if rest.is_empty() {
        return Err(unusable("there is nothing between \"{{\" and \"}}\""));
    }
    while !rest.is_empty() {
        let (token, behind) = token(rest)?;
        rest = behind.trim_start();
        let Some(call) = calls.last_mut() else { break };
        match token {
            Token::Pipe if call.function.is_none() && call.operands.is_empty() => {
                return Err(unusable("a \"|\" has nothing before it"));
            }
            Token::Pipe => calls.push(Call { function: None, operands: Vec::new() }),
            Token::Operand(operand) => call.operands.push(operand),
            Token::Word(word) if call.function.is_none() && call.operands.is_empty() => {
                if !FUNCTIONS.contains(&word) {
                    return Err(unusable(format!("it has no {word:?}")));
                }
                call.function = Some(word.to_owned());
            }
            Token::Word(word) => return Err(unusable(format!("{word:?} stands where no function can"))),
        }
    }
    for (index, call) in calls.iter().enumerate() {
        let is_alone = call.function.is_none() && (call.operands.len() != 1 || index > 0);
        if is_alone {
            return Err(unusable(format!("{:?} is no pipeline", text.trim())));
        }
    }
    Ok(calls)
}

enum Token<'a> {
    Pipe,
    Operand(Operand),
    Word(&'a str),
}

fn token(text: &str) -> Result<(Token<'_>, &str), Failure> {
    if let Some(rest) = text.strip_prefix('|') {
        return Ok((Token::Pipe, rest));
    }
    if let Some(rest) = text.strip_prefix('`') {
        let (inside, rest) = rest.split_once('`').ok_or_else(|| unusable("a text has no end"))?;
        return Ok((Token::Operand(Operand::Value(inside.into())), rest));
    }
    if text.starts_with('"') {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let Some(Ok(value)) = values.next() else { return Err(unusable("a text has no end")) };
        let rest = &text[values.byte_offset()..];
        return Ok((Token::Operand(Operand::Value(value.into())), rest));
    }
    let end = text.find(|c: char| c.is_whitespace() || c == '|').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let token = if let Some(path) = word.strip_prefix('.') {
        let path: Vec<String> = path.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Token::Operand(Operand::Field(path))
    } else if let Ok(number) = word.parse::<i64>() {
        Token::Operand(Operand::Value(number.into()))
    } else {
        Token::Word(word)
    };
    Ok((token, rest))
}

fn evaluate(calls: &[Call], document: &Value) -> Result<String, Failure> {
    let mut before: Option<Value> = None;
    let mut shown = None;
    for call in calls {
        let mut arguments = Vec::new();
        for operand in &call.operands {
            match operand {
                Operand::Value(value) => arguments.push(value.clone()),
                Operand::Field(path) => {
                    let value = if path.is_empty() { named(document) } else { field(document, path)? };
                    if call.function.is_none() {
                        shown = path.first().filter(|_| path.len() == 1).map(|name| show(name, &value));
                    }
                    arguments.push(value);
                }
            }
        }
        arguments.extend(before.take());
        before = Some(match &call.function {
            None => arguments.pop().unwrap_or_default(),
            Some(function) => {
                shown = None;
                apply(function, &arguments)?
            }
        });
    }
    Ok(shown.unwrap_or_else(|| text(&before.unwrap_or_default())))
}

fn apply(function: &str, arguments: &[Value]) -> Result<Value, Failure> {
    let wrong = || unusable(format!("{function} cannot be called so"));
    Ok(match (function, arguments) {
        ("json", [value]) => value.to_string().into(),
        ("join", [Value::Array(values), between]) => {
            values.iter().map(text).collect::<Vec<_>>().join(&text(between)).into()
        }
        ("index", [value, keys @ ..]) if !keys.is_empty() => {
            let step = |value: Value, key: &Value| match (&value, key) {
                (Value::Object(map), key) => map.get(text(key).as_str()).cloned().unwrap_or_default(),
                (Value::Array(values), key) => {
                    let index = key.as_u64().and_then(|index| usize::try_from(index).ok());
                    index.and_then(|index| values.get(index)).cloned().unwrap_or_default()
                }
                _ => Value::Null,
            };
            keys.iter().fold(value.clone(), step)
        }
        ("len", [value]) => match value {
            Value::Array(values) => values.len().into(),
            Value::Object(map) => map.len().into(),
            other => text(other).chars().count().into(),
        },
        ("lower", [value]) => text(value).to_lowercase().into(),
        ("upper", [value]) => text(value).to_uppercase().into(),
        ("title", [value]) => {
            let text = text(value);
            let mut characters = text.chars();
            let first = characters.next().map(|first| first.to_uppercase().to_string());
            (first.unwrap_or_default() + characters.as_str()).into()
        }
        ("split", [value, at]) => {
            let (value, at) = (text(value), text(at));
            value.split(at.as_str()).map(Value::from).collect::<Vec<_>>().into()
        }
        ("truncate", [value, length]) => {
            let length = length.as_u64().and_then(|length| usize::try_from(length).ok()).ok_or_else(wrong)?;
            text(value).chars().take(length).collect::<String>().into()
        }
        _ => return Err(wrong()),
    })
}

/// The value at a path of fields. Names in docker's way are those of the document's keys; below the top a key may also be
/// one that somebody chose, as those of labels are.
fn field(document: &Value, path: &[String]) -> Result<Value, Failure> {
    let mut value = document;
    for (depth, name) in path.iter().enumerate() {
        let found = value.get(name.as_str()).or_else(|| value.get(snake(name)));
        value = match found {
            Some(found) => found,
            // A label that is not there, as in Go's maps.
            None if depth > 0 => return Ok(Value::Null),
            None => {
                let known = document.as_object().into_iter().flat_map(Map::keys);
                let known: Vec<String> = known.map(|key| format!("{{{{.{}}}}}", camel(key))).collect();
                return Err(Failure::usage(format!("the template has no field {:?}", format!(".{name}")))
                    .hint(format!("fields: {}", known.join(" "))));
            }
        };
    }
    Ok(value.clone())
}

/// A field for people.
fn show(name: &str, value: &Value) -> String {
    match (name, value) {
        ("Size" | "Limit", Value::Number(number)) => {
            number.as_u64().map_or_else(|| number.to_string(), size::format)
        }
        ("Size", Value::Null) => "?".to_owned(),
        ("Labels" | "Options", Value::Null) => String::new(),
        (_, Value::Null) => "-".to_owned(),
        (_, Value::Array(values)) if values.is_empty() => "-".to_owned(),
        _ => text(value),
    }
}

/// A value in one text: names and values as `a=1,b=2`.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Object(map) => {
            let pairs = map.iter().map(|(name, value)| format!("{name}={}", text(value)));
            pairs.collect::<Vec<_>>().join(",")
        }
    }
}

/// A document with its keys in docker's way.
fn named(document: &Value) -> Value {
    match document {
        Value::Object(map) => {
            map.iter().map(|(key, value)| (camel(key), value.clone())).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

/// `SizeCounted` of `size_counted`.
fn camel(key: &str) -> String {
    let title = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase().to_string()).unwrap_or_default()
            + letters.as_str()
    };
    key.split('_').map(title).collect()
}

/// `size_counted` of `SizeCounted`.
fn snake(name: &str) -> String {
    let mut key = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !key.is_empty() && !key.ends_with('_') {
            key.push('_');
        }
        key.push(letter.to_ascii_lowercase());
    }
    key
}

/// `SIZE COUNTED` of `SizeCounted`.
fn words(name: &str) -> String {
    snake(name).replace('_', " ").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::Format;
    use super::Template;
    use super::named;
    use serde_json::Value;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "name": "mydb", "size": 1_048_576, "size_counted": "2026-01-01T00:00:00Z", "limit": null,
            "labels": {"team": "a", "env": "prod"}, "holders": ["c1", "c2"],
        })
    }

    fn rendered(text: &str) -> String {
        match Format::parse(text).unwrap() {
            Format::Lines(template) => template.render(&document()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fields_are_replaced() {
        assert_eq!(rendered("{{.Name}}\\t{{ .Size }} of {{.Name}}"), "mydb\t1M of mydb");
        assert_eq!(rendered("{{.SizeCounted}} {{.Limit}}"), "2026-01-01T00:00:00Z -");
        assert_eq!(rendered("{{.Labels}} {{.Labels.team}} [{{.Labels.nope}}]"), "team=a,env=prod a []");
        assert_eq!(rendered("{{- .Name -}}"), "mydb");
        assert_eq!(rendered("plain"), "plain");
    }

    #[test]
    fn functions_are_called() {
        assert_eq!(rendered("{{json .Labels}}"), r#"{"team":"a","env":"prod"}"#);
        assert_eq!(rendered("{{.Name | json}} {{json .Size}}"), r#""mydb" 1048576"#);
        assert_eq!(rendered("{{join .Holders \", \"}} {{len .Holders}} {{index .Holders 1}}"), "c1, c2 2 c2");
        assert_eq!(
            rendered("{{index .Labels `env`}} {{upper .Name}} {{.Name | upper | lower}}"),
            "prod MYDB mydb"
        );
        assert_eq!(rendered("{{title .Name}} {{truncate .Name 2}}"), "Mydb my");
        assert!(rendered("{{json .}}").starts_with(r#"{"Name":"mydb","Size":1048576,"SizeCounted":"#));
    }

    #[test]
    fn what_docker_says_beside_templates_is_understood() {
        assert!(matches!(Format::parse("json").unwrap(), Format::Json));
        assert!(matches!(Format::parse("table").unwrap(), Format::Table));
        let Format::Columns(template) = Format::parse("table {{.Name}}\\t{{.SizeCounted}}").unwrap() else {
            panic!("no table")
        };
        assert_eq!(template.titles(), [["NAME", "SIZE COUNTED"]]);
    }

    #[test]
    fn the_template_alone_makes_lines_and_columns() {
        let Format::Columns(template) =
            Format::parse(r"table {{.Name}}\t{{.Limit}}\n of {{.Driver}}").unwrap()
        else {
            panic!("no table")
        };
        assert_eq!(template.titles(), [["NAME", "LIMIT"], [" of DRIVER", ""]]);
        let document = json!({"name": "a\tb\nc", "limit": null, "driver": r"x\ty"});
        let cells = template.cells(&document).unwrap();
        assert_eq!(cells, [["a\tb\nc", "-"], [r" of x\ty", ""]]);
    }

    #[test]
    fn only_what_is_shown_is_asked_for() {
        let shows = |text: &str, field| Format::parse(text).unwrap().shows(field);
        assert!(!shows("{{.Name}}", "Size") && shows("{{.Name}} {{json .Size}}", "Size"));
        assert!(shows("{{.size_counted}}", "SizeCounted"));
        assert!(shows("json", "Size") && shows("{{json .}}", "Size") && shows("table", "Size"));
    }

    #[test]
    fn what_is_no_template_is_named() {
        for (text, part) in [
            ("{{Name}}", "Name"),
            ("{{.Name", "without"),
            ("{{}}", "nothing"),
            ("{{range .Labels}}", "range"),
            ("{{.Name .Size}}", "pipeline"),
            ("{{| json}}", "before it"),
            ("{{.Name | .Size}}", "pipeline"),
            ("{{json \"x}}", "no end"),
            ("{{.Name json}}", "json"),
        ] {
            let failure = Format::parse(text).unwrap_err();
            assert!(failure.cause_line().contains(part), "{text}: {failure:?}");
            assert!(failure.hints[0].contains("{{.Name}}"), "{failure:?}");
        }
        let template = Template::parse("{{.Color}}").unwrap();
        let failure = template.render(&document()).unwrap_err();
        assert!(failure.cause_line().contains(".Color") && failure.hints[0].contains("{{.SizeCounted}}"));
        assert!(Template::parse("{{join .Name \",\"}}").unwrap().render(&document()).is_err());
    }

    #[test]
    fn keys_that_somebody_chose_stay() {
        let named = named(&json!({"size_counted": 1, "labels": {"my_label": "x"}}));
        assert_eq!(named.to_string(), r#"{"SizeCounted":1,"Labels":{"my_label":"x"}}"#);
    }
}
