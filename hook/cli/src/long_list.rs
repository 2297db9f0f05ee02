//! A list that is printed while it is read: however long it is, a part of it is held.

use crate::format::Format;
use crate::output::LongTable;
use crate::output::Shown;
use crate::output::document;
use crate::output::is_read_after;
use crate::output::out;
use crate::shape::Shape;
use serde::Serialize;
use std::time::Duration;
use volhook_engine::Failure;

/// How many rows of a table are laid out together.
const ROWS: usize = 1000;
/// How many bytes of text are written at once.
const PIECE: usize = 32 << 10;

/// How many bytes a part of a table may take, laid out.
const AREA: usize = 4 << 20;

/// A list on its way to standard output.
pub(crate) struct LongList<'a> {
    form: Form<'a>,
    /// What is to be written.
    text: String,
}

enum Form<'a> {
    /// `format`: what makes the rows, where it is not the command. `width`: how long the longest row is.
    Table {
        table: LongTable,
        format: Option<&'a Format>,
        rows: Vec<Vec<Shown>>,
        width: usize,
        is_begun: bool,
    },
    /// A list in a document, this deep.
    Json { depth: usize, is_begun: bool },
    /// A line, or some, for each.
    Lines(&'a Format),
}

impl<'a> LongList<'a> {
    /// Begins a list in the shape that was asked for; `header` is that of the command's own table.
    pub(crate) fn begin(shape: &'a Shape, header: &[&str]) -> Self {
        let table = |table, format, rows| Form::Table { table, format, rows, width: 0, is_begun: false };
        let form = match shape {
            Shape::Json => Form::Json { depth: 1, is_begun: false },
            Shape::Table => table(LongTable::new(header), None, Vec::new()),
            Shape::Format(format) => match format.titles() {
                Some(mut titles) => {
                    let header = titles.remove(0);
                    let header: Vec<&str> = header.iter().map(String::as_str).collect();
                    table(LongTable::new(&header), Some(format), shown(titles))
                }
                None => Form::Lines(format),
            },
        };
        Self { form, text: String::new() }
    }

    /// Begins a list that stands in a document, behind `before`.
    pub(crate) fn inside(before: String) -> Self {
        Self { form: Form::Json { depth: 2, is_begun: false }, text: before }
    }

    /// Adds what comes next; `row` is its row in the command's own table. `false` when nobody reads any more.
    pub(crate) fn add<T: Serialize>(
        &mut self,
        next: &T,
        row: impl FnOnce() -> Vec<Shown>,
    ) -> Result<bool, Failure> {
        match &mut self.form {
            Form::Table { format, rows, width, .. } => {
                let new = match format {
                    Some(format) => shown(format.cells(&document(next)?)?),
                    None => vec![row()],
                };
                *width = new.iter().map(|row| row.iter().map(Shown::len).sum()).fold(*width, usize::max);
                rows.extend(new);
                if rows.len() < ROWS && rows.len() * *width < AREA {
                    return Ok(true);
                }
            }
            Form::Json { depth, is_begun } => {
                self.text.push_str(if *is_begun { ",\n" } else { "[\n" });
                *is_begun = true;
                // No text in it has a line feed of its own.
                let indent = "  ".repeat(*depth);
                self.text.push_str(&indent);
                self.text.push_str(&format!("{:#}", document(next)?).replace('\n', &format!("\n{indent}")));
            }
            Form::Lines(format) => self.text.push_str(&format.text(&document(next)?)?),
        }
        if matches!(self.form, Form::Table { .. }) || self.text.len() >= PIECE {
            self.write()?;
            return is_read_after(Duration::ZERO);
        }
        Ok(true)
    }

    /// Writes the rest; `behind` is what follows in the document around it.
    pub(crate) fn end(mut self, behind: &str) -> Result<(), Failure> {
        match &self.form {
            Form::Json { depth, is_begun: true } => {
                self.text.push('\n');
                self.text.push_str(&"  ".repeat(depth - 1));
                self.text.push(']');
            }
            Form::Json { is_begun: false, .. } => self.text.push_str("[]"),
            Form::Table { .. } | Form::Lines(_) => {}
        }
        self.text.push_str(behind);
        self.write()
    }

    fn write(&mut self) -> Result<(), Failure> {
        match &mut self.form {
            // A table without rows has its header.
            Form::Table { table, rows, width, is_begun, .. } => {
                if !rows.is_empty() || !*is_begun {
                    table.print(std::mem::take(rows))?;
                }
                (*is_begun, *width) = (true, 0);
                Ok(())
            }
            Form::Json { .. } | Form::Lines(_) => out(&std::mem::take(&mut self.text)),
        }
    }
}

fn shown(lines: Vec<Vec<String>>) -> Vec<Vec<Shown>> {
    lines.into_iter().map(|line| line.into_iter().map(Shown::from).collect()).collect()
}
