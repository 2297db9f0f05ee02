//! A fake OCI runtime: takes the arguments that runc and crun take, calls hooks as one of them does, and needs neither.
//!
//! Containers are real where a hook can tell: a first process in namespaces of its own (pid, mount, ipc, uts, network, as the spec
//! says), with the spec's mounts, and a root filesystem into which it is moved. There are no cgroups, capabilities, seccomp, masked
//! paths, devices of the spec or user namespaces: the container's process has the rights of the harness.
//!
//! [`main`] is the whole program. A host program passes its arguments on and is started again as the container's first process,
//! so [`main`] must be the first thing that it does.

mod args;
mod init;
mod mounts;
mod store;

pub(crate) use init::STAND_IN;

use crate::behaviour::Behaviour;
use crate::behaviour::Facts;
use crate::behaviour::Stage;
use crate::hooks;
use crate::hooks::Call;
use crate::hooks::Entry;
use crate::hooks::Outcome;
use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use args::Action;
use args::Invocation;
use nix::sched::CloneFlags;
use serde_json::Value;
use serde_json::json;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::time::Duration;
use store::Container;
use store::Store;

/// The longest that the container's first process may take for a step of its own.
const STEP: Duration = Duration::from_secs(300);

/// Be the runtime. `words` is how this program is started as the runtime, without the path of the program itself; `arguments` what
/// follows: `--as runc|crun|youki`, `--root DIR`, then `create`, `start`, `run`, `state`, `kill`, `exec` or `delete` with
/// the arguments that runc and crun take.
pub fn main(words: &[&str], arguments: &[OsString]) -> ExitCode {
    if arguments.first().is_some_and(|first| first == "init") {
        return init::main();
    }
    let result = args::parse(arguments).and_then(|invocation| run(words, &invocation));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let code = error.downcast_ref::<Failed>().map_or(1, |failed| failed.code);
            // Where nobody reads any more nobody can be told.
            let _ = writeln!(std::io::stderr(), "fake runtime: {error:#}");
            ExitCode::from(code)
        }
    }
}

/// A hook that failed, and the exit status that this gives the command.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Failed {
    message: String,
    code: u8,
}

fn run(words: &[&str], invocation: &Invocation) -> Result<u8> {
    let runtime =
        Fake { behaviour: invocation.behaviour, store: Store::new(&invocation.root), invocation, words };
    match &invocation.action {
        Action::Create { id, bundle } => runtime.create(id, bundle).map(|_| 0),
        Action::Run { id, bundle, detach } => runtime.run(id, bundle, *detach),
        Action::Start { id } => runtime.start(id).map(|()| 0),
        Action::State { id } => runtime.state(id).map(|()| 0),
        Action::Kill { id, signal } => runtime.kill(id, *signal).map(|()| 0),
        Action::Delete { id, force } => runtime.delete(id, *force).map(|()| 0),
        Action::Exec { id, args } => runtime.exec(id, args),
    }
}

struct Fake<'a> {
    behaviour: Behaviour,
    store: Store,
    invocation: &'a Invocation,
    words: &'a [&'a str],
}

/// The container's first process, and the line to it.
struct Init {
    process: Child,
    channel: BufReader<UnixStream>,
}

impl Init {
    fn tell(&mut self, message: &Value) -> Result<()> {
        let line = format!("{message}\n");
        self.channel.get_mut().write_all(line.as_bytes()).context("the container's first process is gone")
    }

    /// Waits until it has done a step.
    fn done(&mut self, step: &str) -> Result<()> {
        let mut line = String::new();
        let read = self.channel.read_line(&mut line);
        let answer: Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(message) = answer["failed"].as_str() {
            let code = u8::try_from(answer["code"].as_u64().unwrap_or(1)).unwrap_or(1);
            return Err(Failed { message: message.to_owned(), code }.into());
        }
        if answer["done"] == step {
            return Ok(());
        }
        let how = match read {
            Err(error) => error.to_string(),
            Ok(_) => match self.process.try_wait() {
                Ok(Some(status)) => status.to_string(),
                _ => "it said nothing".to_owned(),
            },
        };
        Err(anyhow!("the container's first process did not come to {step:?}: {how}"))
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Fake<'_> {
    /// Makes a container; returns its first process, for who wants to wait for it.
    fn create(&self, id: &str, bundle: &Path) -> Result<(Container, Child)> {
        let bundle = fs::canonicalize(bundle).with_context(|| format!("no bundle {}", bundle.display()))?;
        env::set_current_dir(&bundle).context("cannot go to the bundle")?;
        let spec = read_spec(&bundle)?;
        let folder = self.store.reserve(id)?;
        let mut init = match self.start_init(&spec, &folder) {
            Ok(init) => init,
            Err(error) => {
                self.store.remove(id)?;
                return Err(error);
            }
        };
        let pid = i32::try_from(init.process.id()).context("a pid is small")?;
        let container = Container {
            id: id.to_owned(),
            bundle,
            pid,
            started: store::start_time(pid).unwrap_or_default(),
            was_started: false,
            spec,
        };
        match self.bring_up(&container, &mut init) {
            Ok(()) => Ok((container, init.process)),
            Err(error) => {
                init.kill();
                self.store.remove(id)?;
                if self.behaviour.poststop_after_failed_create() {
                    self.poststop(&container)?;
                }
                Err(error)
            }
        }
    }

    fn bring_up(&self, container: &Container, init: &mut Init) -> Result<()> {
        let facts = container.facts();
        let stages = [Stage::CreateContainer, Stage::StartContainer];
        let states = stages.map(|stage| (stage.name().to_owned(), self.behaviour.state(stage, &facts)));
        let setup = json!({
            "behaviour": self.behaviour.name(),
            "bundle": container.bundle,
            "folder": self.store.folder(&container.id),
            "log": self.invocation.log,
            "states": states.into_iter().collect::<serde_json::Map<_, _>>(),
            "stand_in": self.invocation.stand_in,
            "without_hooks": self.invocation.without_hooks,
            "kill": self.invocation.kill.as_ref().map(args::Kill::to_json),
            "spec": container.spec,
        });
        init.tell(&setup)?;
        init.done("mounted")?;
        if self.invocation.stand_in {
            return self.store.write(container);
        }
        self.call(Stage::Prestart, container)?;
        self.call(Stage::CreateRuntime, container)?;
        init.tell(&json!({}))?;
        init.done("created")?;
        self.store.write(container)?;
        if self.behaviour.poststart_at_create() {
            self.call(Stage::Poststart, container)?;
        }
        Ok(())
    }

    /// Starts this program again as the first process of a new pid namespace, if the spec has one.
    fn start_init(&self, spec: &Value, folder: &Path) -> Result<Init> {
        let kinds = namespaces(spec)?;
        let (ours, its) = UnixStream::pair().context("cannot make a socket pair")?;
        ours.set_read_timeout(Some(STEP)).context("cannot limit a wait")?;
        let program = env::current_exe().context("cannot tell which program this is")?;
        store::make_fifo(&folder.join("start"))?;
        let mut command = Command::new(program);
        command.args(self.words).arg("init").arg(folder).stdin(Stdio::from(OwnedFd::from(its)));
        // Only children are moved; the hooks that are called from here are to stay with us.
        let ours_pid = File::open("/proc/self/ns/pid").context("cannot open our pid namespace")?;
        if kinds.contains(&"pid") {
            nix::sched::unshare(CloneFlags::CLONE_NEWPID).context(
                "cannot make a pid namespace; without root, `volhook harness run` makes a user namespace first",
            )?;
        }
        let process = command.spawn().context("cannot start the container's first process");
        if kinds.contains(&"pid") {
            nix::sched::setns(&ours_pid, CloneFlags::CLONE_NEWPID)
                .context("cannot go back to our pid namespace")?;
        }
        Ok(Init { process: process?, channel: BufReader::new(ours) })
    }

    /// Calls the hooks of a stage that runs here, until one fails.
    fn call(&self, stage: Stage, container: &Container) -> Result<()> {
        if self.invocation.without_hooks {
            return Ok(());
        }
        let caller = Caller {
            behaviour: self.behaviour,
            stage,
            state: self.behaviour.state(stage, &container.facts()),
            inherited: variables(),
            directory: None,
            kill: self.invocation.kill.as_ref(),
            log: self.invocation.log.as_deref(),
        };
        caller.call_all(&container.spec)
    }

    /// Calls `poststop`. What fails is told, and except for youki fails nothing.
    fn poststop(&self, container: &Container) -> Result<()> {
        self.go_to_bundle(container);
        match self.call(Stage::Poststop, container) {
            Err(error) if self.behaviour.poststop_can_be_retried() => Err(error),
            Err(error) => {
                eprintln!("fake runtime: {error:#}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn go_to_bundle(&self, container: &Container) {
        if self.behaviour.goes_to_bundle() && env::set_current_dir(&container.bundle).is_err() {
            eprintln!("fake runtime: bundle {} is gone", container.bundle.display());
        }
    }

    fn start(&self, id: &str) -> Result<()> {
        let mut container = self.store.read(id)?;
        self.go_to_bundle(&container);
        if container.status() != "created" {
            bail!("container {id:?} is {}, not created", container.status());
        }
        container.was_started = true;
        self.store.write(&container)?;
        store::let_go(&self.store.folder(id).join("start"))
            .with_context(|| format!("cannot start container {id:?}"))?;
        if self.behaviour == Behaviour::Youki {
            // `container_start.rs` calls them in the container's own folder of youki's root.
            env::set_current_dir(self.store.folder(id)).context("cannot go to the container's folder")?;
        }
        if !self.behaviour.poststart_at_create() {
            let result = self.call(Stage::Poststart, &container);
            if self.behaviour.poststart_can_fail() {
                return result;
            }
        }
        Ok(())
    }

    fn run(&self, id: &str, bundle: &Path, detach: bool) -> Result<u8> {
        let (container, mut process) = self.create(id, bundle)?;
        if let Err(error) = self.start(id) {
            self.delete(id, true)?;
            return Err(error);
        }
        if detach {
            return Ok(0);
        }
        let status = process.wait().context("cannot wait for the container's first process")?;
        drop(container);
        self.delete(id, true)?;
        let signal = status.signal().map_or(1, |signal| 128 + signal);
        Ok(u8::try_from(status.code().unwrap_or(signal)).unwrap_or(1))
    }

    fn state(&self, id: &str) -> Result<()> {
        let container = self.store.read(id)?;
        let status = container.status();
        let state = json!({
            "ociVersion": container.spec["ociVersion"],
            "id": id,
            "pid": if status == "stopped" { 0 } else { container.pid },
            "status": status,
            "bundle": container.bundle,
            "annotations": container.spec["annotations"],
        });
        println!("{state:#}");
        Ok(())
    }

    fn kill(&self, id: &str, signal: nix::sys::signal::Signal) -> Result<()> {
        let container = self.store.read(id)?;
        if container.status() == "stopped" {
            bail!("container {id:?} is not running");
        }
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(container.pid), signal)
            .with_context(|| format!("cannot send {signal} to container {id:?}"))
    }

    fn delete(&self, id: &str, force: bool) -> Result<()> {
        let container = match self.store.read(id) {
            Ok(container) => container,
            // A runtime that was killed while it made the container has left a folder, and no container.
            Err(_) if force => return self.store.remove_if_there(id),
            Err(error) => return Err(error),
        };
        if container.status() == "running" && !force {
            bail!("container {id:?} is running: stop it, or delete it by force");
        }
        container.end()?;
        if self.behaviour.poststop_can_be_retried() {
            self.poststop(&container)?;
            return self.store.remove(id);
        }
        self.store.remove(id)?;
        self.poststop(&container)
    }

    fn exec(&self, id: &str, args: &[String]) -> Result<u8> {
        let container = self.store.read(id)?;
        if container.status() == "stopped" {
            bail!("container {id:?} is stopped");
        }
        let Some((program, rest)) = args.split_first() else { bail!("no program to run") };
        let mut entered = Vec::new();
        // The mount namespace last: after it the paths are the container's.
        for kind in ["net", "uts", "ipc", "pid", "mnt"] {
            let path = format!("/proc/{}/ns/{kind}", container.pid);
            entered.push((kind, File::open(&path).with_context(|| format!("cannot open {path}"))?));
        }
        for (kind, namespace) in &entered {
            nix::sched::setns(namespace, CloneFlags::empty())
                .with_context(|| format!("cannot enter the {kind} namespace of container {id:?}"))?;
        }
        env::set_current_dir(container.spec["process"]["cwd"].as_str().unwrap_or("/"))
            .context("cannot go to the container's folder")?;
        let mut command = Command::new(program);
        command.args(rest).env_clear().envs(init::environment(&container.spec));
        let status = command.status().with_context(|| format!("cannot run {program} in container {id:?}"))?;
        let signal = status.signal().map_or(1, |signal| 128 + signal);
        Ok(u8::try_from(status.code().unwrap_or(signal)).unwrap_or(1))
    }
}

/// Calls the hooks of one stage, on either side.
struct Caller<'a> {
    behaviour: Behaviour,
    stage: Stage,
    state: Value,
    inherited: Vec<(String, String)>,
    directory: Option<PathBuf>,
    kill: Option<&'a args::Kill>,
    log: Option<&'a Path>,
}

impl Caller<'_> {
    fn call_all(&self, spec: &Value) -> Result<()> {
        let mut inherited = self.inherited.clone();
        if self.behaviour.inherits_environment() {
            let own = if self.stage == Stage::StartContainer { &[] } else { self.behaviour.own_variables() };
            inherited.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        } else {
            inherited.clear();
        }
        let state = self.state.to_string();
        let mut first = None;
        for (index, entry) in Entry::all_of(spec, self.stage.name()).iter().enumerate() {
            let call = Call {
                entry,
                state: state.as_bytes(),
                directory: self.directory.as_deref(),
                inherited: &inherited,
                behaviour: self.behaviour,
                kill: self.kill.filter(|kill| kill.stage == self.stage).map(|kill| &kill.when),
                limit: None,
                own_group: false,
            };
            let outcome = hooks::call(&call);
            self.note(index, entry, &outcome);
            if outcome.as_ref().is_ok_and(Outcome::succeeded) {
                continue;
            }
            let failed = self.failed(index, entry, outcome);
            if self.behaviour.ends_at_failure(self.stage) {
                return Err(failed.into());
            }
            first = first.or(Some(failed));
        }
        first.map_or(Ok(()), |failed| Err(failed.into()))
    }

    fn failed(&self, index: usize, entry: &Entry, outcome: std::io::Result<Outcome>) -> Failed {
        let which = format!("{} hook #{index} ({})", self.stage, entry.path);
        let mut code = self.behaviour.failed_create(self.stage);
        let message = match outcome {
            Err(error) => format!("cannot start {which}: {error}"),
            Ok(outcome) => {
                if outcome.timed_out() {
                    code = 1;
                }
                let mut message = format!("{which} failed: {outcome}");
                if self.behaviour.shows_stderr() && !outcome.timed_out() {
                    let shown = [("stdout", outcome.stdout.text()), ("stderr", outcome.stderr.text())];
                    for (name, text) in shown {
                        message.push_str(&format!(", {name}: {}", text.trim_end()));
                    }
                }
                message
            }
        };
        Failed { message, code }
    }

    /// Keeps what a hook printed where the harness finds it, also where the runtime would drop it.
    fn note(&self, index: usize, entry: &Entry, outcome: &std::io::Result<Outcome>) {
        let Some(log) = self.log else { return };
        let told = match outcome {
            Err(error) => json!({ "ended": format!("not started: {error}") }),
            Ok(outcome) => json!({
                "ended": outcome.to_string(),
                "stdout": outcome.stdout.text(),
                "stderr": outcome.stderr.text(),
            }),
        };
        let line = json!({ "stage": self.stage.name(), "index": index, "path": entry.path, "told": told });
        let file = fs::OpenOptions::new().create(true).append(true).open(log);
        // A log that cannot be written fails nothing: what the hook did is decided already.
        let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    }
}

/// Our own environment, as far as it is text.
fn variables() -> Vec<(String, String)> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn read_spec(bundle: &Path) -> Result<Value> {
    let path = bundle.join("config.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("no JSON in {}", path.display()))
}

/// The kinds of namespaces that a spec asks for.
fn namespaces(spec: &Value) -> Result<Vec<&str>> {
    let listed = spec["linux"]["namespaces"].as_array().into_iter().flatten();
    let kinds: Vec<&str> = listed.filter_map(|namespace| namespace["type"].as_str()).collect();
    if kinds.contains(&"user") {
        bail!("the fake runtime makes no user namespaces for containers: use runc or crun");
    }
    if !kinds.contains(&"mount") {
        bail!("the fake runtime makes no containers without a mount namespace: use runc or crun");
    }
    Ok(kinds)
}

impl Container {
    fn facts(&self) -> Facts<'_> {
        Facts { id: &self.id, bundle: &self.bundle, pid: self.pid, spec: &self.spec }
    }
}
