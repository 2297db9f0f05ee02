//! Runs a program with nothing inherited and captures what it did as one value.

use crate::killed;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::fs::File;
use std::io::Seek;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// PATH of every program that the harness starts.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest that a program may take before it is killed and the call fails; what takes seconds takes minutes on a busy host.
const DEADLINE: Duration = Duration::from_secs(300);

/// The most that a program may print to standard output or error before it is killed.
const FLOOD: u64 = 256 << 20;

/// What a program printed and how it ended.
///
/// Its `Display` is made for snapshots: standard output; after a line `------- stderr -------` standard
/// error, if any; after that `[exit status: N]` or `[killed by signal N]`, unless it succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "snapshot the output, or assert how it ended with .success() or .failure()"]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error; bytes that are not UTF-8 are replaced.
    pub stderr: String,
    /// How it ended.
    pub status: ExitStatus,
}

impl Output {
    /// Asserts that it exited with status 0, and returns its standard output.
    ///
    /// # Panics
    /// When it did not, with all that it printed, and who killed a hook, where a runtime's words tell.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.status.success(), "should have succeeded: {}\n{self}{}", self.command, self.killer());
        self.stdout
    }

    /// Asserts that it ended with another status than 0, and returns its standard error.
    ///
    /// # Panics
    /// When it succeeded, with all that it printed.
    #[track_caller]
    pub fn failure(self) -> String {
        assert!(!self.status.success(), "should have failed: {}\n{self}", self.command);
        self.stderr
    }

    /// A line about who killed a hook, if this is a runtime's that saw one killed.
    fn killer(&self) -> String {
        killed::who(&self.stderr).map(|who| format!("({who})\n")).unwrap_or_default()
    }

    /// The exit status; `None` when a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Asserts that it exited with status 0, and returns its standard output as one JSON document.
    ///
    /// # Panics
    /// When it failed or printed something else, with all that it printed.
    #[track_caller]
    #[must_use]
    pub fn json(self) -> Value {
        assert!(self.status.success(), "should have succeeded: {}\n{self}{}", self.command, self.killer());
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("no JSON ({error}) from: {}\n{self}", self.command),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stdout)?;
        if !self.stdout.is_empty() && !self.stdout.ends_with('\n') {
            f.write_str("\n")?;
        }
        if !self.stderr.is_empty() {
            f.write_str("------- stderr -------\n")?;
            f.write_str(&self.stderr)?;
            if !self.stderr.ends_with('\n') {
                f.write_str("\n")?;
            }
        }
        match (self.status.code(), self.status.signal()) {
            (Some(0), _) => Ok(()),
            (Some(code), _) => writeln!(f, "[exit status: {code}]"),
            (None, signal) => writeln!(f, "[killed by signal {}]", signal.unwrap_or_default()),
        }
    }
}

/// A command line to run: program, arguments, and everything that it gets from the outside.
#[derive(Debug, Clone)]
#[must_use]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    stdin: Vec<u8>,
    log: Option<PathBuf>,
    deadline: Duration,
}

impl Program {
    /// A program by its path, or by a name to be found in the fixed PATH of the harness.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            args: Vec::new(),
            env: Vec::new(),
            directory: None,
            stdin: Vec::new(),
            log: None,
            deadline: DEADLINE,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable; the environment is otherwise only a PATH.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it in this directory; otherwise it is the caller's.
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// Gives it this on standard input; otherwise that is empty.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Sends standard output to this file instead of [`Output::stdout`]: for a command that starts a
    /// container in the background and returns.
    pub fn log(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// Gives it this long instead of five minutes.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end before its deadline. A failing exit status is no error.
    pub fn run(&self) -> Result<Output> {
        let command = self.to_string();
        let stderr = tempfile::tempfile().context("cannot make a file for standard error")?;
        let stdout = tempfile::tempfile().context("cannot make a file for standard output")?;
        let out = match &self.log {
            Some(path) => File::create(path).with_context(|| format!("cannot create {}", path.display()))?,
            None => stdout.try_clone().context("cannot duplicate a file descriptor")?,
        };
        let mut child = Command::new(&self.path);
        child.args(&self.args).env_clear().env("PATH", PATH).envs(self.env.iter().map(|(n, v)| (n, v)));
        if let Some(directory) = &self.directory {
            child.current_dir(directory);
        }
        let err = stderr.try_clone().context("cannot duplicate a file descriptor")?;
        // A hook that kills its process group kills the runtime with it, and not the test.
        child.process_group(0);
        child.stdin(self.stdin_file()?).stdout(out).stderr(err);
        let mut child = child.spawn().with_context(|| format!("cannot start: {command}"))?;
        let floods =
            || [&stdout, &stderr].iter().any(|file| file.metadata().is_ok_and(|data| data.len() > FLOOD));
        let status =
            wait(&mut child, self.deadline, floods).with_context(|| format!("waiting for: {command}"))?;
        if floods() {
            bail!("killed because it printed more than {} MiB: {command}", FLOOD >> 20);
        }
        let stderr = read(&stderr)?;
        let Some(status) = status else {
            bail!("killed after {:?}: {command}\n{}{stderr}", self.deadline, read(&stdout)?);
        };
        Ok(Output { command, stdout: read(&stdout)?, stderr, status })
    }

    fn stdin_file(&self) -> Result<Stdio> {
        if self.stdin.is_empty() {
            return Ok(Stdio::null());
        }
        let mut file = tempfile::tempfile().context("cannot make a file for standard input")?;
        file.write_all(&self.stdin).context("cannot write standard input")?;
        file.rewind().context("cannot rewind standard input")?;
        Ok(file.into())
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        for arg in &self.args {
            write!(f, " {}", Path::new(arg).display())?;
        }
        Ok(())
    }
}

/// Waits for `child`; kills it at the deadline, or when it `floods`, and returns `None`.
fn wait(
    child: &mut Child,
    deadline: Duration,
    floods: impl Fn() -> bool,
) -> std::io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() >= deadline || floods() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// Reads a whole file through a descriptor of its own: a container in the background may still write through
/// the file's other descriptors, whose position must not move under it.
fn read(file: &File) -> Result<String> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let bytes = fs::read(path).context("cannot read an output file")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
