//! What the fake runtime keeps of its containers between two commands, in the folder `--root`.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use nix::sys::stat::Mode;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::io::ErrorKind;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// A container as it is kept.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    pub(super) pid: i32,
    /// When its first process was started, in ticks since the boot: a pid alone may be another's later.
    pub(super) started: u64,
    pub(super) was_started: bool,
    pub(super) spec: Value,
}

impl Container {
    /// `created`, `running` or `stopped`.
    pub(super) fn status(&self) -> &'static str {
        match (is_alive(self.pid, self.started), self.was_started) {
            (false, _) => "stopped",
            (true, false) => "created",
            (true, true) => "running",
        }
    }

    /// Kills what is left of it, and waits until the kernel has taken it down.
    pub(super) fn end(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(240);
        while is_alive(self.pid, self.started) {
            // It may end by itself meanwhile.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::SIGKILL);
            if Instant::now() >= deadline {
                bail!("process {} of container {:?} does not die", self.pid, self.id);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// The folder of all containers.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
}

impl Store {
    pub(super) fn new(root: &Path) -> Self {
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        Self { root }
    }

    pub(super) fn folder(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// Makes the folder of a new container.
    pub(super) fn reserve(&self, id: &str) -> Result<PathBuf> {
        fs::create_dir_all(&self.root).with_context(|| format!("cannot make {}", self.root.display()))?;
        let folder = self.folder(id);
        match fs::create_dir(&folder) {
            Ok(()) => Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("container {id:?} exists already")
            }
            Err(error) => Err(error).with_context(|| format!("cannot make {}", folder.display())),
        }
    }

    pub(super) fn write(&self, container: &Container) -> Result<()> {
        let value = json!({
            "bundle": container.bundle,
            "pid": container.pid,
            "started": container.started,
            "was_started": container.was_started,
            "spec": container.spec,
        });
        let path = self.folder(&container.id).join("state.json");
        fs::write(&path, value.to_string()).with_context(|| format!("cannot write {}", path.display()))
    }

    pub(super) fn read(&self, id: &str) -> Result<Container> {
        let path = self.folder(id).join("state.json");
        let text = fs::read(&path).with_context(|| format!("there is no container {id:?}"))?;
        let mut value: Value =
            serde_json::from_slice(&text).with_context(|| format!("no JSON in {}", path.display()))?;
        let broken = || format!("{} is not what was written", path.display());
        Ok(Container {
            id: id.to_owned(),
            bundle: value["bundle"].as_str().with_context(broken)?.into(),
            pid: value["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).with_context(broken)?,
            started: value["started"].as_u64().with_context(broken)?,
            was_started: value["was_started"].as_bool().with_context(broken)?,
            spec: value["spec"].take(),
        })
    }

    pub(super) fn remove_if_there(&self, id: &str) -> Result<()> {
        if self.folder(id).exists() { self.remove(id) } else { Ok(()) }
    }

    pub(super) fn remove(&self, id: &str) -> Result<()> {
        let folder = self.folder(id);
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
    }
}

/// Field 22 of `/proc/PID/stat`, proc_pid_stat(5), unless the process is a zombie.
pub(super) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

fn is_alive(pid: i32, started: u64) -> bool {
    start_time(pid) == Some(started)
}

/// Makes the pipe by which a created container is told to start.
pub(super) fn make_fifo(path: &Path) -> Result<()> {
    nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Tells a container to start. Fails if nobody waits for that.
pub(super) fn let_go(path: &Path) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut pipe = options
        .write(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)
        .context("its first process does not wait for it")?;
    pipe.write_all(b"x").context("its first process does not wait for it")
}
