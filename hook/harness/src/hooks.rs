//! Calls one hook as a runtime does: state on standard input, its own environment, a time limit, and bounded capture.

use crate::behaviour::Behaviour;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::io::Errno;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// So much of what a hook prints to each of its outputs is kept; the rest is counted.
pub const KEPT: usize = 256 << 10;

/// The longest that an emulated runtime waits for a child of a hook that keeps its output open. A real one may wait for ever.
pub const HELD_FOR: Duration = Duration::from_secs(3);

/// One entry of a stage in a spec's `hooks` (OCI runtime-spec, `config.md`, "POSIX-platform Hooks").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The program.
    pub path: String,
    /// Its arguments, its name first; empty where the spec has none.
    pub args: Vec<String>,
    /// Its whole environment; `None` where the spec has none.
    pub env: Option<Vec<String>>,
    /// Seconds after which it is killed.
    pub timeout: Option<u64>,
}

impl Entry {
    /// The entries of a stage, in order. What is no entry is left out.
    #[must_use]
    pub fn all_of(spec: &Value, stage: &str) -> Vec<Self> {
        let texts = |value: &Value| -> Option<Vec<String>> {
            let texts = value.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned);
            Some(texts.collect())
        };
        let entries = spec["hooks"][stage].as_array().into_iter().flatten();
        entries
            .filter_map(|entry| {
                Some(Self {
                    path: entry["path"].as_str()?.to_owned(),
                    args: texts(&entry["args"]).unwrap_or_default(),
                    env: texts(&entry["env"]).filter(|env| !env.is_empty()),
                    timeout: entry["timeout"].as_u64(),
                })
            })
            .collect()
    }
}

/// When a hook is killed from outside, with SIGKILL, as the kernel's out-of-memory killer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KillWhen {
    /// So long after it was started.
    After(Duration),
    /// As soon as this path exists.
    Exists(PathBuf),
}

/// A call to be made.
#[derive(Debug)]
pub struct Call<'a> {
    /// The entry.
    pub entry: &'a Entry,
    /// What it gets on standard input.
    pub state: &'a [u8],
    /// Where it runs; `None` for where the caller is.
    pub directory: Option<&'a Path>,
    /// What it gets if the entry has no environment.
    pub inherited: &'a [(String, String)],
    /// Which runtime calls it.
    pub behaviour: Behaviour,
    /// Whether and when it is killed.
    pub kill: Option<&'a KillWhen>,
    /// It is killed then, whatever its timeout.
    pub limit: Option<Duration>,
    /// Whether it leads a process group of its own; under a runtime it is in the runtime's, and can kill that with its own.
    pub own_group: bool,
}

/// How a hook ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, or by a signal.
    By(ExitStatus),
    /// Killed when its time was over.
    TimedOut(Duration),
}

/// What one of a hook's outputs held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// The beginning of it, up to [`KEPT`] bytes.
    pub bytes: Vec<u8>,
    /// How many bytes it was.
    pub total: u64,
}

impl Captured {
    /// As text, with a line at the end that says how much is not shown.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        let lost = self.total - self.bytes.len() as u64;
        if lost > 0 {
            text.push_str(&format!("\n[{lost} more bytes]\n"));
        }
        text
    }
}

/// What became of a call.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// Its standard output.
    pub stdout: Captured,
    /// Its standard error.
    pub stderr: Captured,
    /// Whether a child of it still held one of them when the caller gave up.
    pub held: bool,
}

impl Outcome {
    /// Whether a runtime takes it for a success.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        !self.held && matches!(self.ended, Ended::By(status) if status.success())
    }

    /// Whether it was killed at its timeout.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        matches!(self.ended, Ended::TimedOut(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ended {
            Ended::TimedOut(time) => write!(f, "killed after its timeout of {} s", time.as_secs_f64())?,
            Ended::By(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "exit status {code}")?,
                (None, signal) => write!(f, "killed by signal {}", signal.unwrap_or_default())?,
            },
        }
        if self.held {
            write!(
                f,
                "; a child of it still held its standard output or error {} s later, and runc would wait for that as long as it takes",
                HELD_FOR.as_secs()
            )?;
        }
        Ok(())
    }
}

/// Calls a hook and waits for its end.
///
/// # Errors
/// When it cannot be started.
pub fn call(call: &Call<'_>) -> std::io::Result<Outcome> {
    let entry = call.entry;
    let mut command = Command::new(program(call));
    match entry.args.split_first() {
        Some((name, args)) => command.arg0(name).args(args),
        None => command.arg0(&entry.path),
    };
    command.env_clear();
    for (name, value) in environment(entry, call.inherited) {
        command.env(name, value);
    }
    if let Some(directory) = call.directory {
        command.current_dir(directory);
    }
    if call.own_group {
        command.process_group(0);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let started = Instant::now();
    let (closed, outputs_closed) = mpsc::channel();
    let stdout = Output::capture(child.stdout.take().map(OwnedFd::from), closed.clone());
    let stderr = Output::capture(child.stderr.take().map(OwnedFd::from), closed);
    if let Some(mut stdin) = child.stdin.take() {
        let state = call.state.to_vec();
        // A hook need not read it, and may be killed before it could.
        thread::spawn(move || stdin.write_all(&state));
    }
    let ended = wait(&mut child, call, started)?;
    let over = Instant::now() + HELD_FOR;
    let held = if call.behaviour.waits_for_stdio() {
        let open = (0..2).filter(|_| {
            let left = over.saturating_duration_since(Instant::now());
            matches!(outputs_closed.recv_timeout(left), Err(mpsc::RecvTimeoutError::Timeout))
        });
        open.count() > 0
    } else {
        // What it printed before its end is in the pipes; a child of it may go on printing for ever.
        while !(stdout.is_drained() && stderr.is_drained()) && Instant::now() < over {
            thread::sleep(Duration::from_micros(200));
        }
        false
    };
    Ok(Outcome { ended, stdout: stdout.taken(), stderr: stderr.taken(), held })
}

/// crun looks a name up in PATH, and so would [`Command`]; runc takes it as it is.
fn program(call: &Call<'_>) -> PathBuf {
    let path = Path::new(&call.entry.path);
    if call.behaviour == Behaviour::Runc && path.components().count() == 1 {
        return Path::new(".").join(path);
    }
    path.to_owned()
}

fn environment(entry: &Entry, inherited: &[(String, String)]) -> BTreeMap<String, String> {
    match &entry.env {
        Some(env) => env
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        None => inherited.iter().cloned().collect(),
    }
}

/// One of a hook's outputs, while it is read to its end without keeping all of it.
struct Output {
    pipe: Option<Arc<OwnedFd>>,
    /// Locked while something is read, so that whoever has it locked knows what is still in the pipe.
    captured: Arc<Mutex<Captured>>,
}

impl Output {
    /// Reads it, and then says so.
    fn capture(pipe: Option<OwnedFd>, closed: mpsc::Sender<()>) -> Self {
        let output = Self { pipe: pipe.map(Arc::new), captured: Arc::default() };
        let Some(pipe) = output.pipe.clone() else { return output };
        let captured = Arc::clone(&output.captured);
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            loop {
                // What is not there yet is not waited for under the lock.
                if rustix::event::poll(&mut [PollFd::new(&pipe, PollFlags::IN)], None) == Err(Errno::INTR) {
                    continue;
                }
                let mut kept = captured.lock().unwrap_or_else(PoisonError::into_inner);
                match rustix::io::read(&pipe, &mut buffer) {
                    Ok(read @ 1..) => {
                        let room = (KEPT - kept.bytes.len()).min(read);
                        kept.bytes.extend_from_slice(&buffer[..room]);
                        kept.total += read as u64;
                    }
                    Err(Errno::INTR) => {}
                    _ => break,
                }
            }
            // Nobody listens any more where the caller has given up.
            let _ = closed.send(());
        });
        output
    }

    /// Whether all is captured that has been printed so far.
    fn is_drained(&self) -> bool {
        let _captured = self.captured.lock().unwrap_or_else(PoisonError::into_inner);
        self.pipe.as_ref().is_none_or(|pipe| rustix::io::ioctl_fionread(pipe).is_ok_and(|left| left == 0))
    }

    fn taken(&self) -> Captured {
        self.captured.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn wait(child: &mut Child, call: &Call<'_>, started: Instant) -> std::io::Result<Ended> {
    let timeout = call.entry.timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let limit = [timeout, call.limit].into_iter().flatten().min();
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::By(status));
        }
        let elapsed = started.elapsed();
        if let Some(limit) = limit.filter(|limit| elapsed >= *limit) {
            child.kill()?;
            child.wait()?;
            return Ok(Ended::TimedOut(limit));
        }
        let due = match call.kill {
            Some(KillWhen::After(time)) => elapsed >= *time,
            Some(KillWhen::Exists(path)) => path.symlink_metadata().is_ok(),
            None => false,
        };
        if due {
            child.kill()?;
            return Ok(Ended::By(child.wait()?));
        }
        thread::sleep(pause);
        if call.kill.is_none() {
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, behaviour: Behaviour, timeout: Option<u64>, kill: Option<&KillWhen>) -> Outcome {
        let entry = Entry {
            path: "/bin/sh".to_owned(),
            args: ["hook", "-c", script].map(str::to_owned).to_vec(),
            env: Some(vec!["PATH=/usr/bin:/bin".to_owned(), "K=v".to_owned()]),
            timeout,
        };
        let state = b"{}";
        let (inherited, entry) = (&[], &entry);
        let call =
            Call { entry, state, directory: None, inherited, behaviour, kill, limit: None, own_group: true };
        super::call(&call).unwrap()
    }

    #[test]
    fn it_gets_state_and_environment_and_is_captured() {
        let outcome = shell("cat; echo $K $0 >&2; exit 3", Behaviour::Runc, None, None);
        assert_eq!(outcome.stdout.text(), "{}");
        assert_eq!(outcome.stderr.text(), "v hook\n");
        assert_eq!(outcome.to_string(), "exit status 3");
        assert!(!outcome.succeeded());
    }

    #[test]
    fn a_flood_is_counted_and_not_kept() {
        let outcome = shell("head -c 50000000 /dev/zero", Behaviour::Crun, None, None);
        assert_eq!((outcome.stdout.bytes.len(), outcome.stdout.total), (KEPT, 50_000_000));
        assert!(outcome.succeeded());
    }

    #[test]
    fn a_hook_that_hangs_is_killed_at_its_timeout() {
        let outcome = shell("exec sleep 100", Behaviour::Crun, Some(1), None);
        assert!(outcome.timed_out() && !outcome.held, "{outcome}");
    }

    #[test]
    fn a_child_that_holds_the_output_is_told_of_where_a_runtime_would_wait() {
        let script = "sleep 8 & exit 0";
        let started = Instant::now();
        assert!(shell(script, Behaviour::Crun, None, None).succeeded());
        assert!(started.elapsed() < Duration::from_secs(2));
        let outcome = shell(script, Behaviour::Runc, None, None);
        assert!(outcome.held && !outcome.succeeded());
        assert!(outcome.to_string().contains("a child of it still held"), "{outcome}");
        assert!(started.elapsed() < Duration::from_secs(7));
    }

    #[test]
    fn it_is_killed_when_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let script = format!("touch {}; exec sleep 100", mark.display());
        let kill = KillWhen::Exists(mark);
        assert_eq!(shell(&script, Behaviour::Crun, None, Some(&kill)).to_string(), "killed by signal 9");
        let kill = KillWhen::After(Duration::from_millis(5));
        assert_eq!(
            shell("exec sleep 100", Behaviour::Crun, None, Some(&kill)).to_string(),
            "killed by signal 9"
        );
    }
}
