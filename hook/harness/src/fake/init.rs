//! The first process of a container of the fake runtime: from namespaces and mounts to the program that the spec names.

use super::Caller;
use super::Failed;
use super::args::Kill;
use super::mounts;
use crate::behaviour::Behaviour;
use crate::behaviour::Stage;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use nix::sched::CloneFlags;
use nix::unistd::Gid;
use nix::unistd::Uid;
use serde_json::Value;
use serde_json::json;
use std::env;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;

/// The program of a container that has no programs: it stays until it is killed.
pub(crate) const STAND_IN: &str = "harness:stand-in";

/// Does all of it; returns only when it failed.
pub(super) fn main() -> ExitCode {
    let channel = std::io::stdin().as_fd().try_clone_to_owned().context("the runtime's line is missing");
    let result = channel.and_then(|channel| {
        let mut channel = BufReader::new(UnixStream::from(channel));
        let result = start(&mut channel);
        if let Err(error) = &result {
            let code = error.downcast_ref::<Failed>().map_or(1, |failed| failed.code);
            let told = json!({ "failed": format!("{error:#}"), "code": code });
            // After the container's start nobody listens there any more.
            let _ = channel.get_mut().write_all(format!("{told}\n").as_bytes());
        }
        result
    });
    if let Err(error) = result {
        eprintln!("fake runtime: {error:#}");
    }
    ExitCode::FAILURE
}

/// The variables of a container's process.
pub(super) fn environment(spec: &Value) -> Vec<(String, String)> {
    let listed = spec["process"]["env"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let pairs = listed.filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn start(channel: &mut BufReader<UnixStream>) -> Result<()> {
    let Some(setup) = hear(channel)? else { return Ok(()) };
    let spec = &setup["spec"];
    let path = |key: &str| setup[key].as_str().map(PathBuf::from);
    let bundle = path("bundle").context("no bundle")?;
    // Only the program that called us could be waited for by a terminal.
    let _ = nix::unistd::setsid();
    let kinds = super::namespaces(spec)?;
    let mut flags = CloneFlags::CLONE_NEWNS;
    for (kind, flag) in [
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("network", CloneFlags::CLONE_NEWNET),
    ] {
        if kinds.contains(&kind) {
            flags |= flag;
        }
    }
    nix::sched::unshare(flags).context("cannot make namespaces")?;
    let root = spec["root"]["path"].as_str().context("the spec has no root.path")?;
    let root = bundle.join(root).canonicalize().with_context(|| format!("no root filesystem {root}"))?;
    mounts::prepare(&root, spec)?;
    if let Some(name) = spec["hostname"].as_str().filter(|_| kinds.contains(&"uts")) {
        nix::unistd::sethostname(name).context("cannot set the host name")?;
    }
    // Both ends, so that opening does not wait, and reading does.
    let pipe = path("folder").context("no folder")?.join("start");
    let mut pipe = File::options().read(true).write(true).open(pipe).context("cannot open the start pipe")?;
    tell(channel, "mounted")?;
    if hear(channel)?.is_none() {
        // A stand-in stays where hooks at prestart find it; otherwise the runtime has died in the middle.
        if setup["stand_in"] == true {
            become_quiet()?;
            wait(&mut pipe)?;
        }
        return Ok(());
    }
    env::set_current_dir(&root).context("cannot go to the root filesystem")?;
    let behaviour = setup["behaviour"].as_str().and_then(Behaviour::from_name).context("no behaviour")?;
    let directory = if behaviour.creates_in_rootfs() { &root } else { &bundle };
    call(Stage::CreateContainer, &setup, Some(directory.clone()))?;
    mounts::enter(&root, spec["root"]["readonly"] == true)?;
    find_program(spec)?;
    let null = File::options().read(true).write(true).open("/dev/null").ok();
    tell(channel, "created")?;
    channel.get_ref().shutdown(Shutdown::Both).context("cannot hang up")?;
    if let Some(null) = null {
        // In a root filesystem without /dev/null the program gets the line that was hung up.
        nix::unistd::dup2_stdin(null).context("cannot change standard input")?;
    }
    wait(&mut pipe)?;
    call(Stage::StartContainer, &setup, None)?;
    run_process(&spec["process"], spec)
}

fn become_quiet() -> Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null").context("cannot open /dev/null")?;
    nix::unistd::dup2_stdin(&null).context("cannot change standard input")?;
    nix::unistd::dup2_stdout(&null).context("cannot change standard output")?;
    nix::unistd::dup2_stderr(&null).context("cannot change standard error")
}

/// What the runtime says next; `None` when it is gone.
fn hear(channel: &mut BufReader<UnixStream>) -> Result<Option<Value>> {
    let mut line = String::new();
    match channel.read_line(&mut line) {
        Ok(0) => Ok(None),
        Ok(_) => serde_json::from_str(&line).map(Some).context("the runtime said what is no JSON"),
        Err(error) => Err(error).context("cannot hear the runtime"),
    }
}

fn tell(channel: &mut BufReader<UnixStream>, step: &str) -> Result<()> {
    let line = format!("{}\n", json!({ "done": step }));
    channel.get_mut().write_all(line.as_bytes()).context("the runtime is gone")
}

fn wait(pipe: &mut File) -> Result<()> {
    pipe.read_exact(&mut [0]).context("cannot wait for the start")
}

/// Calls the hooks of a stage inside the container.
fn call(stage: Stage, setup: &Value, directory: Option<PathBuf>) -> Result<()> {
    if setup["without_hooks"] == true {
        return Ok(());
    }
    let behaviour = setup["behaviour"].as_str().and_then(Behaviour::from_name).context("no behaviour")?;
    let spec = &setup["spec"];
    let kill = Kill::from_json(&setup["kill"]);
    let inherited = match behaviour {
        // runc has set the container's environment by then (until 1.2, CVE-2025-23266).
        Behaviour::Runc => environment(spec),
        Behaviour::Crun if stage == Stage::StartContainer => environment(spec),
        Behaviour::Crun | Behaviour::Youki => super::variables(),
    };
    let caller = Caller {
        behaviour,
        stage,
        state: setup["states"][stage.name()].clone(),
        inherited,
        directory,
        kill: kill.as_ref(),
        // Inside the container the host's file is out of reach.
        log: setup["log"].as_str().map(Path::new).filter(|_| stage == Stage::CreateContainer),
    };
    caller.call_all(spec)
}

/// Fails if the container's program is not there: runtimes notice that before the container counts as created.
fn find_program(spec: &Value) -> Result<()> {
    let Some(program) = spec["process"]["args"][0].as_str() else { bail!("the spec has no process.args") };
    let env = environment(spec);
    let path =
        env.iter().find(|(name, _)| name == "PATH").map_or("/bin:/usr/bin", |(_, value)| value.as_str());
    let is_there = |path: PathBuf| path.metadata().is_ok_and(|data| data.is_file());
    let directory = Path::new(spec["process"]["cwd"].as_str().unwrap_or("/"));
    let found = if program.contains('/') {
        is_there(directory.join(program))
    } else {
        path.split(':').any(|folder| is_there(Path::new(folder).join(program)))
    };
    if !found && program != STAND_IN {
        bail!("there is no program {program} in the container");
    }
    Ok(())
}

/// Becomes the container's program.
fn run_process(process: &Value, spec: &Value) -> Result<()> {
    let directory = process["cwd"].as_str().unwrap_or("/");
    env::set_current_dir(directory).with_context(|| format!("cannot go to {directory}"))?;
    let args: Vec<&str> =
        process["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let Some((program, rest)) = args.split_first() else { bail!("the spec has no process.args") };
    let id = |name: &str| process["user"][name].as_u64().and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
    if id("gid") != 0 {
        nix::unistd::setgid(Gid::from_raw(id("gid"))).context("cannot change the group")?;
    }
    if id("uid") != 0 {
        nix::unistd::setuid(Uid::from_raw(id("uid"))).context("cannot change the user")?;
    }
    if *program == STAND_IN {
        loop {
            std::thread::park();
        }
    }
    let error = Command::new(program).args(rest).env_clear().envs(environment(spec)).exec();
    Err(error).with_context(|| format!("cannot run {program}"))
}
