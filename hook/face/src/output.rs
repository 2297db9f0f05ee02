//! How commands print: data goes to standard output, everything else to standard error.

use anstream::AutoStream;
use anstream::ColorChoice;
use anstyle::AnsiColor;
use anstyle::Style;
use comfy_table::Attribute;
use comfy_table::Cell;
use comfy_table::Color;
use comfy_table::ColumnConstraint;
use comfy_table::ContentArrangement;
use comfy_table::Table;
use comfy_table::Width::Fixed;
use comfy_table::presets;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::poll;
use serde::Serialize;
use serde_json::Value;
use std::io::ErrorKind;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use terminal_size::Width;
use volhook_core::decision::Pairs;
use volhook_core::names::is_printable;
use volhook_engine::Failure;

/// Writes to standard output; a reader that has gone away is no error.
///
/// # Errors
/// When standard output cannot be written to.
pub fn out(text: &str) -> Result<(), Failure> {
    write_to(std::io::stdout().lock(), text)
}

/// Writes text with styles in it, which stay only on a terminal that wants them.
///
/// # Errors
/// When standard output cannot be written to.
pub fn out_styled(text: &str) -> Result<(), Failure> {
    write_to(anstream::stdout().lock(), text)
}

fn write_to(mut out: impl std::io::Write, text: &str) -> Result<(), Failure> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::context("cannot write to standard output", error))
        }
        _ => Ok(()),
    }
}

/// Waits for `time`, and says whether somebody may still read standard output then.
///
/// # Errors
/// When it cannot be waited for.
pub fn is_read_after(time: Duration) -> Result<bool, Failure> {
    let stdout = std::io::stdout();
    let failed = |error| Failure::context("cannot wait", std::io::Error::from(error));
    let timeout = Timespec::try_from(time).map_err(|error| Failure::context("cannot wait", error))?;
    // What goes wrong there is told without being asked for (poll(2)).
    let mut there = [PollFd::new(&stdout, PollFlags::empty())];
    match poll(&mut there, Some(&timeout)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => Ok(true),
        Ok(_) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// One JSON document.
///
/// # Errors
/// When standard output cannot be written to.
pub fn print_json(value: &Value) -> Result<(), Failure> {
    out(&format!("{value:#}\n"))
}

/// How something is to be seen on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// Wrong, or refused.
    Bad,
}

impl Tone {
    /// The style for text outside tables.
    #[must_use]
    pub fn style(self) -> Style {
        let colour = match self {
            Self::Good => AnsiColor::Green,
            Self::Doubtful => AnsiColor::Yellow,
            Self::Bad => AnsiColor::Red,
        };
        colour.on_default().bold()
    }
}

/// A cell of a table.
#[derive(Debug)]
pub struct Shown {
    text: String,
    tone: Option<Tone>,
}

impl Shown {
    /// A text, and how it is to be seen.
    pub fn new(text: impl Into<String>, tone: Option<Tone>) -> Self {
        Self { text: text.into(), tone }
    }

    /// How many bytes it has, as it is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

impl From<String> for Shown {
    fn from(text: String) -> Self {
        Self { text, tone: None }
    }
}

impl From<Shown> for Cell {
    fn from(shown: Shown) -> Self {
        let cell = Self::new_owned(printable(&shown.text));
        match shown.tone {
            None => cell,
            Some(Tone::Good) => cell.fg(Color::Green),
            Some(Tone::Doubtful) => cell.fg(Color::Yellow),
            Some(Tone::Bad) => cell.fg(Color::Red),
        }
    }
}

/// No column is cut to less than this: it would hold no word.
const LEAST: u16 = 6;

/// What is left blank before and behind each column but the first.
fn padding(column: usize) -> (u16, u16) {
    (if column == 0 { 0 } else { 1 }, 2)
}

/// What all columns together leave blank; behind the last one there is nothing.
fn gaps(columns: usize) -> u16 {
    let all: u16 = (0..columns).map(padding).map(|(left, right)| left + right).sum();
    all.saturating_sub(2)
}

/// Widths for columns of such `natural` widths that together have `room`: the widest are cut first, and none to less than
/// its title or [`LEAST`]. `None` where nothing needs to be cut, or where cutting does not help.
fn fitted(natural: &[u16], titles: &[u16], room: u16) -> Option<Vec<u16>> {
    let cut = |to: u16| -> Vec<u16> {
        natural.iter().zip(titles).map(|(&width, &title)| width.min(to.max(title))).collect()
    };
    let fits = |widths: &[u16]| widths.iter().map(|&width| u32::from(width)).sum::<u32>() <= room.into();
    let widest = natural.iter().copied().max()?;
    if fits(natural) {
        return None;
    }
    (LEAST..widest).rev().map(cut).find(|widths| fits(widths))
}

/// A table with one line for each row, as docker prints them. On a terminal that is too narrow for it, long cells go on in
/// the next line; a pipe or file gets everything in one.
///
/// # Errors
/// When standard output cannot be written to.
pub fn print_table<C: Into<Shown>>(header: &[&str], rows: Vec<Vec<C>>) -> Result<(), Failure> {
    LongTable::new(header).print(rows)
}

/// A table of which nobody knows how long it will be, printed some rows at a time. Columns can become wider on the way.
#[derive(Debug)]
pub struct LongTable {
    titles: Vec<String>,
    /// How wide the columns have become.
    widths: Vec<u16>,
}

impl LongTable {
    /// Begins one.
    #[must_use]
    pub fn new(header: &[&str]) -> Self {
        Self { titles: header.iter().map(|title| title.to_uppercase()).collect(), widths: Vec::new() }
    }

    /// Prints the next rows, after the header if they are the first.
    ///
    /// # Errors
    /// When standard output cannot be written to.
    pub fn print<C: Into<Shown>>(&mut self, rows: Vec<Vec<C>>) -> Result<(), Failure> {
        let stdout = std::io::stdout();
        let is_styled = AutoStream::choice(&stdout) != ColorChoice::Never;
        let terminal = terminal_size::terminal_size_of(&stdout).map(|(Width(width), _)| width);
        out(&self.laid_out(rows, terminal, is_styled))
    }

    /// The next rows as text, for a terminal as wide as `terminal`.
    fn laid_out<C: Into<Shown>>(
        &mut self,
        rows: Vec<Vec<C>>,
        terminal: Option<u16>,
        is_styled: bool,
    ) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).force_no_tty();
        table.set_content_arrangement(ContentArrangement::Disabled);
        if is_styled {
            table.enforce_styling().style_text_only();
        }
        if self.widths.is_empty() {
            table.set_header(self.titles.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
        }
        for row in rows {
            table.add_row(row.into_iter().map(|cell| Cell::from(cell.into())));
        }
        let natural = table.column_max_content_widths();
        self.widths.resize(natural.len(), 0);
        self.widths.iter_mut().zip(&natural).for_each(|(width, natural)| *width = (*width).max(*natural));
        let titles: Vec<u16> =
            self.titles.iter().map(|title| title.len().try_into().unwrap_or(u16::MAX)).collect();
        let widths =
            terminal.and_then(|width| fitted(&self.widths, &titles, width.checked_sub(gaps(titles.len()))?));
        if widths.is_some() {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        let last = natural.len().saturating_sub(1);
        for (i, column) in table.column_iter_mut().enumerate() {
            let (left, right) = padding(i);
            column.set_padding((left, right));
            let padded = |width: u16| Fixed(width.saturating_add(left + right));
            let constraint = match &widths {
                Some(widths) => widths.get(i).map(|width| ColumnConstraint::Absolute(padded(*width))),
                // Nothing stands behind the last one.
                None if i == last => None,
                None => self.widths.get(i).map(|width| ColumnConstraint::LowerBoundary(padded(*width))),
            };
            if let Some(constraint) = constraint {
                column.set_constraint(constraint);
            }
        }
        format!("{}\n", table.trim_fmt())
    }
}

/// How long the reader of standard error may keep this process waiting, all in all.
const HEARING: Duration = Duration::from_secs(1);

/// How much a pipe with room takes without waiting (pipe(7)).
const AT_ONCE: usize = 4096;

/// How long it has kept this process waiting, in milliseconds.
static WAITED: AtomicU64 = AtomicU64::new(0);

/// Standard error that nobody need read: where it is closed, or a pipe stays full, what is written to it is dropped.
struct Heard;

impl std::io::Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let stderr = std::io::stderr();
        let patience = HEARING.saturating_sub(Duration::from_millis(WAITED.load(Ordering::Relaxed)));
        let timeout = Timespec::try_from(patience).map_err(std::io::Error::other)?;
        let since = Instant::now();
        let heard = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&timeout))? > 0;
        WAITED.fetch_add(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if !heard {
            return Err(ErrorKind::TimedOut.into());
        }
        stderr.lock().write(&bytes[..bytes.len().min(AT_ONCE)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// `text` as one line that no terminal and no log interprets: what could forge a line, or change how others are shown, is
/// written as an escape. What is said of containers and their annotations is of their making.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if is_printable(c) { printable.push(c) } else { printable.extend(c.escape_default()) }
    }
    printable
}

/// Says something on standard error.
pub fn note(text: &str) {
    say_line(&printable_lines(text));
}

fn say_line(text: &str) {
    // Where standard error is gone nobody can be told.
    let _ = Heard.write_all(format!("{text}\n").as_bytes());
}

/// The same of a text of several lines, which stay lines.
fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Writes a line for people to standard output, of which parts may be of anybody's making.
///
/// # Errors
/// When standard output cannot be written to.
pub fn out_line(text: &str) -> Result<(), Failure> {
    out(&format!("{}\n", printable(text)))
}

/// Says on standard error what does not keep the command from its work.
pub fn warn(text: &str) {
    say("Warning", Tone::Doubtful, text);
}

/// Says on standard error why the command failed, and what helps. With `verbose`, the whole chain of causes.
pub fn complain(failure: &Failure, verbose: bool) {
    say("Error", Tone::Bad, &failure.causes(verbose));
    for hint in &failure.hints {
        say("hint", Tone::Good, hint);
    }
}

fn say(label: &str, tone: Tone, text: &str) {
    let style = tone.style();
    // A chain of causes has a line for each.
    let text = printable_lines(text);
    let line = format!("{style}{label}:{style:#} {text}");
    match AutoStream::choice(&std::io::stderr()) {
        ColorChoice::Never => say_line(&anstream::adapter::strip_str(&line).to_string()),
        _ => say_line(&line),
    }
}

/// Names and values as a JSON object.
#[must_use]
pub fn object(pairs: &Pairs) -> Value {
    pairs
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A text for a table, in which an empty field is a dash.
#[must_use]
pub fn dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}

/// Asks a question that only a plain yes answers. Without a terminal nobody could answer it.
///
/// # Errors
/// Without a terminal, or when it cannot be read.
pub fn confirm(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(format!("cannot ask {question:?}: there is no terminal to answer it"))
            .hint("--force does it without asking"));
    }
    // A question that cannot be read is not answered with yes.
    let _ = write!(std::io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::context("cannot read the answer from the terminal", error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
}

/// Prints what was done, a line each, and all failures but the last, which decides how the command ends. Where nothing can be
/// printed it is still told what failed.
///
/// # Errors
/// The last of them, or that standard output cannot be written to.
pub fn printed(done: impl IntoIterator<Item = String>, mut failures: Vec<Failure>) -> Result<(), Failure> {
    let lines: String = done.into_iter().map(|line| printable(&line) + "\n").collect();
    failures.extend(out(&lines).err());
    report_all(failures)
}

/// Prints all failures but the last, which decides how the command ends.
///
/// # Errors
/// The last of them.
pub fn report_all(mut failures: Vec<Failure>) -> Result<(), Failure> {
    let Some(last) = failures.pop() else { return Ok(()) };
    for failure in failures {
        complain(&failure, false);
    }
    Err(last)
}

/// A document of something that a command shows.
///
/// # Errors
/// When it is none: a bug.
pub fn document(outcome: &impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(outcome).map_err(Failure::internal)
}

#[cfg(test)]
mod tests {
    use super::LongTable;
    use super::Shown;
    use super::fitted;
    use super::printable;

    #[test]
    fn a_text_of_anybody_is_one_plain_line() {
        let forged = "c1\nvolhook: all is well\u{1b}[2J\r\u{202e}\u{9b}31m\u{2028}ä 容器";
        let told = printable(forged);
        assert_eq!(told, "c1\\nvolhook: all is well\\u{1b}[2J\\r\\u{202e}\\u{9b}31m\\u{2028}ä 容器");
        assert_eq!(printable(&told), told);
    }

    #[test]
    fn a_cell_is_one_too() {
        let cell = comfy_table::Cell::from(Shown::from("Debian\u{1b}]0;owned\u{7}".to_owned()));
        assert_eq!(cell.content(), "Debian\\u{1b}]0;owned\\u{7}");
    }

    #[test]
    fn columns_stay_as_wide_as_they_have_become() {
        let mut table = LongTable::new(&["a", "b", "c"]);
        let rows = |rows: &[[&str; 3]]| -> Vec<Vec<Shown>> {
            rows.iter().map(|row| row.iter().map(|text| text.to_string().into()).collect()).collect()
        };
        let first = table.laid_out(rows(&[["1", "22222", "3"]]), None, false);
        let second = table.laid_out(rows(&[["1", "2", "333"], ["111", "2", "3"]]), None, false);
        let third = table.laid_out(rows(&[["1", "2", "3"]]), None, false);
        assert_eq!(
            [first, second, third].concat(),
            "\
A   B       C\n1   22222   3\n\
1     2       333\n111   2       3\n\
1     2       3\n"
        );
    }

    #[test]
    fn the_widest_columns_give_way() {
        assert_eq!(fitted(&[10, 10], &[4, 4], 20), None, "what fits stays");
        assert_eq!(fitted(&[10, 40], &[4, 4], 30), Some(vec![10, 20]));
        assert_eq!(fitted(&[50, 40, 5], &[4, 4, 5], 65), Some(vec![30, 30, 5]));
        assert_eq!(fitted(&[36, 16, 3], &[20, 4, 3], 36), Some(vec![20, 13, 3]), "titles stay whole");
        assert_eq!(fitted(&[40, 40], &[4, 4], 11), None, "too narrow for anything readable");
    }
}
