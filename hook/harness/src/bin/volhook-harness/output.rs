//! How the program prints: data goes to standard output, why it failed to standard error.

use anstyle::AnsiColor;
use anstyle::Style;
use serde_json::Value;
use std::io::ErrorKind;
use std::io::Write;
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    cause: anyhow::Error,
    hint: Option<&'static str>,
    is_usage: bool,
}

impl Failure {
    /// A call that makes no sense.
    pub(crate) fn usage(cause: impl Into<anyhow::Error>) -> Self {
        Self { is_usage: true, ..Self::from(cause.into()) }
    }

    /// The same with what a person can do about it.
    pub(crate) fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// 2 for a call that makes no sense, otherwise 1.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(if self.is_usage { 2 } else { 1 })
    }
}

impl From<anyhow::Error> for Failure {
    fn from(cause: anyhow::Error) -> Self {
        Self { cause, hint: None, is_usage: false }
    }
}

/// Words of this colour, where a terminal wants colours.
pub(crate) fn style(colour: AnsiColor) -> Style {
    colour.on_default().bold()
}

/// Writes text, whose styles stay only on a terminal that wants them; a reader that has gone away is no error.
pub(crate) fn out(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("cannot write to standard output").into())
        }
        _ => Ok(()),
    }
}

/// One JSON document.
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    out(&format!("{value:#}\n"))
}

/// Says on standard error why the command failed, and what helps.
pub(crate) fn complain(failure: &Failure) {
    let [bad, good] = [AnsiColor::Red, AnsiColor::Green].map(style);
    let cause = format!("{:#}", failure.cause).replace('\n', " ");
    let mut text = format!("{bad}Error:{bad:#} {cause}\n");
    if let Some(hint) = failure.hint {
        text += &format!("{good}hint:{good:#} {hint}\n");
    }
    // Where standard error is gone nobody can be told.
    let _ = anstream::stderr().write_all(text.as_bytes());
}
