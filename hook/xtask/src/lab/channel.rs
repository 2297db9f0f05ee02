//! What a host of the lab and the lab say to each other: documents of JSON, one a line, on the host's first serial line.

use serde::Deserialize;
use serde::Serialize;

/// What the lab asks of a host.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Run a script with the shell.
    Run { id: u64, script: String },
    /// End what runs, unmount, and switch the host off.
    Halt,
}

/// What a host says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// It has booted and takes requests.
    Up { boot: String },
    /// A script has ended.
    Done { id: u64, output: Output },
}

/// What came of a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Output {
    /// Its exit code; 128 and the signal's number if it was killed, as shells say it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// What it printed on standard output, unless it failed.
    pub(crate) fn success(self) -> anyhow::Result<String> {
        anyhow::ensure!(self.code == 0, "exit code {}\n{}{}", self.code, self.stdout, self.stderr);
        Ok(self.stdout)
    }
}
