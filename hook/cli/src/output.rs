//! How commands print: data goes to standard output, everything else to standard error.

use crate::error::Failure;
use comfy_table::ContentArrangement;
use comfy_table::Table;
use comfy_table::presets;
use serde_json::Value;
use std::io::IsTerminal as _;
use std::io::Write as _;
use volhook_core::decision::Pairs;

/// Writes to standard output; a reader that has gone away is no error.
pub(crate) fn out(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::context("cannot write to standard output", error))
        }
        _ => Ok(()),
    }
}

/// One JSON document.
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    out(&format!("{value:#}\n"))
}

/// A table with one line for each row, as docker prints them.
pub(crate) fn print_table(header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|title| title.to_uppercase()).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row);
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if i == 0 { 0 } else { 1 }, 2));
    }
    out(&format!("{}\n", table.trim_fmt()))
}

/// Names and values as a JSON object.
pub(crate) fn object(pairs: &Pairs) -> Value {
    pairs
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A text for a table, in which an empty field is a dash.
pub(crate) fn dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}

/// Asks a question that only a plain yes answers. Without a terminal nobody could answer it.
pub(crate) fn confirm(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("this asks a question, and there is no terminal to answer it")
            .hint("--force does it without asking"));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::context("cannot read the answer from the terminal", error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
}

/// `KEY=VALUE` texts that were given with `flag`.
pub(crate) fn pairs(flag: &str, texts: &[String]) -> Result<Pairs, Failure> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(Failure::usage(format!("{flag} {text:?} is not KEY=VALUE"))),
        })
        .collect()
}
