//! How a command prints what it looked at: as its own table, as one JSON document, or by a template.

use crate::format::Format;
use crate::output::document;
use crate::output::print_json;
use serde::Serialize;
use serde_json::Value;
use volhook_engine::Failure;

/// What `--json` and `--format` ask for.
#[derive(Debug)]
pub(crate) enum Shape {
    /// The command's own table.
    Table,
    /// One document.
    Json,
    /// A line for each.
    Format(Format),
}

impl Shape {
    /// What is asked for; a template that is not usable is refused before anything is done.
    pub(crate) fn new(json: bool, format: Option<&str>) -> Result<Self, Failure> {
        Ok(match format.map(Format::parse).transpose()? {
            Some(Format::Table) => Self::Table,
            Some(format) => Self::Format(format),
            None if json => Self::Json,
            None => Self::Table,
        })
    }

    /// Whether a field is shown; `table`: whether the command's own table has it.
    pub(crate) fn shows(&self, field: &str, table: bool) -> bool {
        match self {
            Self::Table => table,
            Self::Json => true,
            Self::Format(format) => format.shows(field),
        }
    }

    /// Prints a list.
    pub(crate) fn print<T: Serialize>(
        &self,
        listed: &[T],
        table: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Table => table(),
            Self::Json => print_json(&document(&listed)?),
            Self::Format(format) => {
                let documents: Result<Vec<Value>, Failure> = listed.iter().map(document).collect();
                format.print(&documents?).map(|_| ())
            }
        }
    }

    /// Prints one thing.
    pub(crate) fn print_one<T: Serialize>(
        &self,
        one: &T,
        text: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Table => text(),
            Self::Json => print_json(&document(one)?),
            Self::Format(format) => format.print(&[document(one)?]).map(|_| ()),
        }
    }
}
