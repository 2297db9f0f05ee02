//! Drives a real OCI runtime (runc or crun), each with a state folder of its own.

use crate::behaviour::Behaviour;
use crate::bundle::Bundle;
use crate::output::Output;
use crate::output::Program;
use crate::scratch;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

/// The runtimes that the tests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// <https://github.com/opencontainers/runc>
    Runc,
    /// <https://github.com/containers/crun>
    Crun,
    /// The harness's own, acting as one of them.
    Fake(Behaviour),
}

impl RuntimeKind {
    /// Both real ones, for tests that hold on either.
    pub const ALL: [Self; 2] = [Self::Runc, Self::Crun];

    /// The program's name.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Fake(_) => "fake runtime",
        }
    }

    fn find(self) -> Result<PathBuf> {
        ensure!(
            !matches!(self, Self::Fake(_)),
            "the fake runtime is this crate's own: Runtime::fake makes it"
        );
        ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .into_iter()
            .map(|folder| Path::new(folder).join(self.program()))
            .find(|path| path.is_file())
            .with_context(|| {
                format!(
                    "{self} is not installed: install Debian's package {self}, or run `cargo xtask setup`"
                )
            })
    }
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// crun refuses to run where both cgroup hierarchies are mounted, as systemd's hybrid layout has it, so it
/// gets a mount namespace without the second one. Arguments: the mount, then the command.
const WITHOUT_UNIFIED: &str = r#"umount "$1" && shift && exec "$@""#;
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// A runtime and the containers that were made with it; whatever is left of them is deleted on drop.
#[derive(Debug)]
pub struct Runtime {
    kind: RuntimeKind,
    command: Vec<PathBuf>,
    env: Vec<(String, String)>,
    folder: TempDir,
    containers: Mutex<BTreeSet<String>>,
}

impl Runtime {
    /// The runtime as it is.
    ///
    /// # Errors
    /// When the caller is not root or the runtime is not installed.
    pub fn new(kind: RuntimeKind) -> Result<Self> {
        let path = kind.find()?;
        Self::with_command(kind, vec![path], Vec::new())
    }

    /// The runtime behind a wrapper that takes a runtime's arguments, such as `volhook runtime`. The wrapper
    /// finds the real runtime's path in the variable `VOLHOOK_RUNTIME`.
    ///
    /// # Errors
    /// When the caller is not root or the runtime is not installed.
    pub fn wrapped<S: AsRef<Path>>(kind: RuntimeKind, wrapper: &[S], env: &[(&str, &str)]) -> Result<Self> {
        let path = kind.find()?;
        let mut env: Vec<(String, String)> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        env.push(("VOLHOOK_RUNTIME".to_owned(), path.to_string_lossy().into_owned()));
        Self::with_command(kind, wrapper.iter().map(|word| word.as_ref().to_owned()).collect(), env)
    }

    /// The fake runtime, acting as a real one. `command` is a program, with its first arguments, that does nothing but
    /// call [`crate::fake::main`] with those that follow.
    ///
    /// # Errors
    /// When the caller may not make namespaces and mounts: it is not root, not even in a user namespace of its own.
    pub fn fake<S: AsRef<Path>>(behaviour: Behaviour, command: &[S]) -> Result<Self> {
        let mut words: Vec<PathBuf> = command.iter().map(|word| word.as_ref().to_owned()).collect();
        words.extend(["--as", behaviour.name()].map(PathBuf::from));
        Self::with_command(RuntimeKind::Fake(behaviour), words, Vec::new())
    }

    fn with_command(kind: RuntimeKind, command: Vec<PathBuf>, env: Vec<(String, String)>) -> Result<Self> {
        let user = fs::metadata("/proc/self").context("cannot read /proc/self")?.uid();
        ensure!(user == 0, "{kind} makes containers only as root: run the tests as root");
        let folder = scratch::folder("runtime")?;
        Ok(Self { kind, command, env, folder, containers: Mutex::default() })
    }

    /// Which runtime it is.
    #[must_use]
    pub fn kind(&self) -> RuntimeKind {
        self.kind
    }

    /// The folder given to the runtime as `--root`.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The command line for any subcommand of the runtime, to be changed before it is run. Containers that
    /// are made this way are not deleted on drop.
    pub fn command<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Program {
        let mut words = Vec::new();
        if self.kind == RuntimeKind::Crun && Path::new(UNIFIED).join("cgroup.controllers").exists() {
            let unshare = [
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                WITHOUT_UNIFIED,
                "sh",
                UNIFIED,
            ];
            words.extend(unshare.map(PathBuf::from));
        }
        words.extend(self.command.iter().cloned());
        let mut words = words.into_iter();
        let mut program = Program::new(words.next().unwrap_or_default()).args(words);
        for (name, value) in &self.env {
            program = program.env(name, value);
        }
        let args: Vec<String> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        program.arg("--root").arg(self.state_folder()).args(args)
    }

    /// Runs a container to its end; the runtime deletes it.
    ///
    /// # Errors
    /// When the runtime cannot be run or does not end in time.
    pub fn run(&self, bundle: &Bundle, id: &str) -> Result<Output> {
        self.remember(id);
        self.with_bundle("run", bundle, id, &[]).run()
    }

    /// Starts a container in the background. Its standard output goes to [`Self::log`].
    ///
    /// # Errors
    /// When the runtime cannot be run or does not return in time.
    pub fn run_detached(&self, bundle: &Bundle, id: &str) -> Result<Output> {
        self.remember(id);
        self.with_bundle("run", bundle, id, &["--detach"]).log(self.log_path(id)).run()
    }

    /// Makes a container without starting its process. Its standard output goes to [`Self::log`].
    ///
    /// # Errors
    /// When the runtime cannot be run or does not return in time.
    pub fn create(&self, bundle: &Bundle, id: &str) -> Result<Output> {
        self.remember(id);
        self.with_bundle("create", bundle, id, &[]).log(self.log_path(id)).run()
    }

    /// Starts the process of a created container.
    ///
    /// # Errors
    /// When the runtime cannot be run or does not end in time.
    pub fn start(&self, id: &str) -> Result<Output> {
        self.command(["start", id]).run()
    }

    /// Runs a command in a running container.
    ///
    /// # Errors
    /// When the runtime cannot be run or does not end in time.
    pub fn exec(&self, id: &str, args: &[&str]) -> Result<Output> {
        self.command(["exec", id].into_iter().chain(args.iter().copied())).run()
    }

    /// Sends a signal (`KILL`, `TERM`, …) to a container's process.
    ///
    /// # Errors
    /// When the runtime cannot be run or does not end in time.
    pub fn kill(&self, id: &str, signal: &str) -> Result<Output> {
        self.command(["kill", id, signal]).run()
    }

    /// A container's state, as the runtime tells it.
    ///
    /// # Errors
    /// When the runtime cannot be run or does not end in time.
    pub fn state(&self, id: &str) -> Result<Output> {
        self.command(["state", id]).run()
    }

    /// The host's pid of a container's process.
    ///
    /// # Errors
    /// When the runtime does not know the container or it has no process.
    pub fn pid(&self, id: &str) -> Result<i32> {
        let state: Value = self.state(id)?.json();
        let pid = state["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        pid.with_context(|| format!("container {id} has no process: {state}"))
    }

    /// The pid of a container's process as the caller sees it, if it has one.
    pub(crate) fn pid_of(&self, id: &str) -> Option<i32> {
        let output = self.state(id).ok()?;
        let state: Value = serde_json::from_str(&output.stdout).ok()?;
        state["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0)
    }

    /// Waits up to a minute until a container has a status: `created`, `running` or `stopped`.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn wait_for(&self, id: &str, status: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let output = self.state(id)?;
            let state: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
            if state["status"] == status {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("container {id} is not {status} after a minute:\n{output}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Deletes a container that has stopped.
    ///
    /// # Errors
    /// When the runtime cannot be run or does not end in time.
    pub fn delete(&self, id: &str) -> Result<Output> {
        self.command(["delete", id]).run()
    }

    /// Deletes a container, killing it first.
    ///
    /// # Errors
    /// When the runtime cannot be run or does not end in time.
    pub fn delete_force(&self, id: &str) -> Result<Output> {
        self.command(["delete", "--force", id]).run()
    }

    /// What a container in the background has written to standard output so far.
    ///
    /// # Errors
    /// When no container of that id was started in the background.
    pub fn log(&self, id: &str) -> Result<String> {
        let path = self.log_path(id);
        let bytes = fs::read(&path).with_context(|| format!("no log of container {id}"))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn log_path(&self, id: &str) -> PathBuf {
        self.folder.path().join(format!("{id}.log"))
    }

    fn with_bundle(&self, command: &str, bundle: &Bundle, id: &str, options: &[&str]) -> Program {
        self.command([command]).args(options).arg("--bundle").arg(bundle.path()).arg(id)
    }

    pub(crate) fn remember(&self, id: &str) {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let containers = std::mem::take(&mut *self.containers.lock().unwrap_or_else(PoisonError::into_inner));
        for id in containers {
            // A runtime keeps a folder for each container that it has not deleted.
            if self.state_folder().join(&id).exists()
                && let Err(error) = self.delete_force(&id)
            {
                eprintln!("cannot delete container {id}: {error:#}");
            }
        }
    }
}
