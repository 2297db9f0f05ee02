//! Runs script files, each in a process of its own: what a hook kills, leaves running or leaves mounted stays with its script.
//!
//! Three processes are between a caller and a script. `unshare`(1) gives it a mount namespace, and who is not root a user namespace
//! in which he is; the next one inherits every process that loses its parent, and kills what is left at the end; the last
//! one runs the statements. On runc and crun there is no `unshare`, so that they see the host as it is.

use crate::behaviour::Behaviour;
use crate::run;
use crate::run::Report;
use crate::run::Settings;
use crate::scratch;
use crate::script::Engine;
use crate::script::Script;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use nix::sys::wait::WaitPidFlag;
use nix::sys::wait::WaitStatus;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// The largest script that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// How scripts are run.
#[derive(Debug, Clone)]
pub struct Batch {
    /// On which runtime.
    pub engine: Engine,
    /// As which one the fake runtime acts.
    pub behaviour: Option<Behaviour>,
    /// A program, with its first arguments, that does nothing but call [`main`] with those that follow.
    pub worker: Vec<PathBuf>,
    /// The same for [`crate::fake::main`].
    pub fake_runtime: Vec<PathBuf>,
    /// What `exec volhook` runs.
    pub volhook: Option<PathBuf>,
    /// Variables for the scripts.
    pub variables: Vec<(String, String)>,
    /// The longest that a script may take.
    pub limit: Duration,
    /// How many run at the same time; at least one.
    pub jobs: usize,
    /// Whether the folders of scripts that fail stay.
    pub keeps: bool,
}

/// A script's file, read.
#[derive(Debug, Clone)]
pub struct File {
    /// As the caller named it.
    pub path: PathBuf,
    /// What it says.
    pub script: Script,
}

impl File {
    /// Reads a script's file.
    ///
    /// # Errors
    /// When it cannot be read, is too large or no text, or at the first statement that makes no sense, with line and column.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = fs::File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut bytes = Vec::new();
        file.take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if bytes.len() as u64 > LARGEST {
            bail!("{} is larger than {} MiB", path.display(), LARGEST >> 20);
        }
        let Ok(text) = String::from_utf8(bytes) else { bail!("{} is no UTF-8 text", path.display()) };
        match Script::parse(&text) {
            Ok(script) => Ok(Self { path, script }),
            Err(error) => bail!("{}:{error}", path.display()),
        }
    }
}

/// What became of a script's file.
#[derive(Debug, Clone)]
pub struct Done {
    /// As the caller named it.
    pub path: PathBuf,
    /// The [`Report`] as JSON, with `left_running`: the processes that had to be killed at the end.
    pub report: Value,
    /// Its folder, if that was kept.
    pub folder: Option<PathBuf>,
}

impl Done {
    /// `passed`, `failed`, `left out` or `broken`.
    #[must_use]
    pub fn verdict(&self) -> &str {
        self.report["verdict"].as_str().unwrap_or("broken")
    }
}

/// Runs the scripts and tells of each as it is done; returns them in their order.
///
/// # Errors
/// When a worker cannot be started or has no folder.
pub fn run_all(files: &[File], batch: &Batch, tell: impl Fn(&Done) + Sync) -> Result<Vec<Done>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, Result<Done>>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..batch.jobs.clamp(1, files.len().max(1)) {
            scope.spawn(|| {
                while let Some((index, file)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    files.get(index).map(|file| (index, file))
                } {
                    let result = run_one(file, batch);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Ok(result) = &result {
                        tell(result);
                    }
                    done.insert(index, result);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

fn run_one(file: &File, batch: &Batch) -> Result<Done> {
    let folder = scratch::folder("harness")?;
    let work = folder.path().join("work");
    fs::create_dir(&work).context("cannot make a script's folder")?;
    for path in [folder.path(), &work] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .context("cannot open a script's folder to containers")?;
    }
    let script =
        fs::canonicalize(&file.path).with_context(|| format!("no script {}", file.path.display()))?;
    let job = json!({
        "script": script,
        "engine": batch.engine.name(),
        "behaviour": batch.behaviour.map(Behaviour::name),
        "folder": work,
        "fake_runtime": batch.fake_runtime,
        "volhook": batch.volhook,
        "variables": batch.variables,
        "limit": u64::try_from(batch.limit.as_millis()).unwrap_or(u64::MAX),
        "worker": batch.worker,
    });
    fs::write(folder.path().join("job.json"), job.to_string()).context("cannot write a job")?;
    let mut words = wrapper(batch.engine);
    words.extend(batch.worker.iter().map(|word| word.as_os_str().to_owned()));
    words.push(folder.path().into());
    let (program, args) = words.split_first().context("a worker is a program")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let said = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    let text = fs::read_to_string(folder.path().join("report.json")).unwrap_or_default();
    let report = serde_json::from_str(&text).unwrap_or_else(|_| {
        let stderr = String::from_utf8_lossy(&said.stderr).trim().to_owned();
        broken(batch, &format!("the process that ran the script is gone ({}); {stderr}", said.status))
    });
    let mut done = Done { path: file.path.clone(), report, folder: None };
    if batch.keeps && matches!(done.verdict(), "failed" | "broken") {
        done.folder = Some(folder.keep().join("work"));
    }
    Ok(done)
}

fn broken(batch: &Batch, reason: &str) -> Value {
    json!({
        "runtime": batch.engine.name(),
        "as": batch.behaviour.unwrap_or(Behaviour::Runc).name(),
        "verdict": "broken",
        "reason": reason,
        "statements": 0,
        "failure": null,
        "shown": [],
        "milliseconds": 0,
        "left_running": [],
    })
}

/// What goes before a worker, so that it has namespaces of its own.
fn wrapper(engine: Engine) -> Vec<OsString> {
    let is_root = rustix::process::geteuid().is_root();
    let mut words: Vec<&str> = Vec::new();
    if engine == Engine::Fake {
        words.extend(["unshare", "--mount", "--propagation", "private"]);
        if !is_root {
            // Only a pid namespace that is its own lets a process make another one and stay.
            words.extend(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        }
        words.push("--");
    }
    words.into_iter().map(OsString::from).collect()
}

/// The program of a worker. Its argument is the folder with the job.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let result = match arguments {
        [folder] => reap(Path::new(folder)),
        [folder, inner] if inner == "--inner" => run_job(Path::new(folder)),
        _ => Err(anyhow::anyhow!("a worker takes the folder of its job")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the job in a child, inherits every process that is left over, and ends it.
fn reap(folder: &Path) -> Result<()> {
    let job = read_job(folder)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("cannot inherit processes that are left over")?;
    let words: Vec<&str> = job["worker"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (program, args) = words.split_first().context("a worker is a program")?;
    let mut command = Command::new(program);
    command.args(args).arg(folder).arg("--inner");
    // A hook that kills its group, or the runtime's, leaves us to tell of it.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let inner = command.spawn().context("cannot start the script's process")?;
    let inner = Pid::from_raw(i32::try_from(inner.id()).context("a pid is small")?);
    let limit = Duration::from_millis(job["limit"].as_u64().unwrap_or(u64::MAX));
    let started = Instant::now();
    let (ended, timed_out) = loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)).context("cannot wait for the script's process")? {
            WaitStatus::Exited(pid, code) if pid == inner => break (format!("exit status {code}"), false),
            WaitStatus::Signaled(pid, signal, _) if pid == inner => {
                break (format!("killed by {signal}"), false);
            }
            WaitStatus::StillAlive if started.elapsed() >= limit => {
                // It is waited for below, like all others.
                let _ = nix::sys::signal::kill(inner, nix::sys::signal::SIGKILL);
                break (String::new(), true);
            }
            WaitStatus::StillAlive => thread::sleep(Duration::from_millis(1)),
            _ => {}
        }
    };
    let left = end_all();
    let path = folder.join("report.json");
    let mut report =
        fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    if report.is_none() {
        let engine = job["engine"].as_str().and_then(Engine::from_name).unwrap_or(Engine::Fake);
        let behaviour = job["behaviour"].as_str().and_then(Behaviour::from_name);
        let reason = if timed_out {
            format!("the script was killed after {} s", limit.as_secs_f64())
        } else {
            format!("the script's own process ended ({ended}): did a hook kill its parent's parent?")
        };
        let mut told =
            json!({ "verdict": "broken", "reason": reason, "statements": 0, "failure": null, "shown": [] });
        told["runtime"] = json!(engine.name());
        told["as"] = json!(behaviour.unwrap_or(Behaviour::Runc).name());
        told["milliseconds"] = json!(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        report = Some(told);
    }
    let mut report = report.unwrap_or_default();
    report["left_running"] = json!(left);
    fs::write(&path, report.to_string()).context("cannot write a report")
}

/// Kills all descendants, and waits for them. Returns which there were.
fn end_all() -> Vec<String> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut killed = BTreeMap::new();
    let over = Instant::now() + Duration::from_secs(10);
    while Instant::now() < over {
        let alive = descendants(own);
        for (pid, name) in &alive {
            killed.insert(*pid, format!("{name} ({pid})"));
            // It may end by itself meanwhile.
            let _ = nix::sys::signal::kill(Pid::from_raw(*pid), nix::sys::signal::SIGKILL);
        }
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
        {
        }
        if alive.is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    killed.into_values().collect()
}

/// The living processes below a process, and what they run.
fn descendants(own: i32) -> Vec<(i32, String)> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // Gone meanwhile, or not.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, rest)) = stat.rsplit_once(')') else { continue };
        let mut fields = rest.split_whitespace();
        let (state, parent) = (fields.next(), fields.next().and_then(|field| field.parse::<i32>().ok()));
        let name = name.split_once('(').map_or("", |(_, name)| name).to_owned();
        if let (Some(state), Some(parent)) = (state, parent) {
            parents.insert(pid, (parent, state == "Z", name));
        }
    }
    let is_below = |mut pid: i32| {
        while let Some((parent, ..)) = parents.get(&pid) {
            if *parent == own {
                return true;
            }
            pid = *parent;
        }
        false
    };
    let living = parents.iter().filter(|(pid, (_, is_zombie, _))| !is_zombie && is_below(**pid));
    living.map(|(pid, (_, _, name))| (*pid, name.clone())).collect()
}

fn read_job(folder: &Path) -> Result<Value> {
    let path = folder.join("job.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("no JSON in {}", path.display()))
}

fn run_job(folder: &Path) -> Result<()> {
    let job = read_job(folder)?;
    let path = |value: &Value| value.as_str().map(PathBuf::from);
    let script = path(&job["script"]).context("a job has a script")?;
    let file = File::read(&script)?;
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut variables = Vec::new();
    if let Some(parent) = script.parent() {
        variables.push(("SCRIPTS".to_owned(), parent.to_string_lossy().into_owned()));
    }
    for pair in job["variables"].as_array().into_iter().flatten() {
        if let [name, value] = texts(pair).as_slice() {
            variables.push((name.clone(), value.clone()));
        }
    }
    let settings = Settings {
        engine: job["engine"].as_str().and_then(Engine::from_name).context("a job has a runtime")?,
        behaviour: job["behaviour"].as_str().and_then(Behaviour::from_name),
        folder: path(&job["folder"]).context("a job has a folder")?,
        fake_runtime: texts(&job["fake_runtime"]).into_iter().map(PathBuf::from).collect(),
        volhook: path(&job["volhook"]),
        variables,
    };
    let report: Report = run::run(&file.script, &settings);
    let path = folder.join("report.json");
    fs::write(&path, report.to_json().to_string()).with_context(|| format!("cannot write {}", path.display()))
}
