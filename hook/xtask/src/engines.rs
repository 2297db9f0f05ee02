//! Docker and podman beside volhook in benchmarks, with state of their own; who is not installed is left out.

use crate::process;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// A container engine that works in a folder of ours.
pub(crate) enum Engine {
    /// A dockerd of our own; it ends with this.
    Docker { daemon: Child, socket: String },
    /// Podman has no daemon.
    Podman { folder: PathBuf, storage: &'static str },
}

impl Engine {
    /// The engines that are installed. Podman keeps images and containers with the driver `storage`.
    pub(crate) fn installed(folder: &Path, storage: &'static str) -> Result<Vec<Self>> {
        let mut engines = Vec::new();
        if process::find("dockerd").is_some() && process::find("docker").is_some() {
            engines.push(Self::docker(folder)?);
        }
        if process::find("podman").is_some() {
            engines.push(Self::podman(folder, storage)?);
        }
        Ok(engines)
    }

    fn docker(folder: &Path) -> Result<Self> {
        let socket = format!("unix://{}", folder.join("docker.sock").display());
        let log = fs::File::create(folder.join("dockerd.log")).context("cannot make dockerd's log")?;
        let mut command = Command::new("dockerd");
        command
            .arg("--data-root")
            .arg(folder.join("docker"))
            .arg("--exec-root")
            .arg(folder.join("docker-run"))
            .arg("--pidfile")
            .arg(folder.join("docker.pid"))
            .args(["--host", &socket, "--iptables=false", "--bridge=none"])
            .stdout(log.try_clone()?)
            .stderr(log);
        let engine = Self::Docker { daemon: command.spawn().context("cannot run dockerd")?, socket };
        let patience = Instant::now() + Duration::from_secs(60);
        while process::ask(&mut engine.command(&["version"])).is_err() {
            ensure!(Instant::now() < patience, "dockerd does not answer");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(engine)
    }

    fn podman(folder: &Path, storage: &'static str) -> Result<Self> {
        // Podman's default limits are higher than a process may set that has no right to raise its own. Its locks are
        // else in one place for all of its folders, of which they outlive the removal.
        let text = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:2048\", \"nproc=1000:2000\"]\n\
             [engine]\nlock_type = \"file\"\ntmp_dir = {:?}\n",
            folder.join("podman-tmp")
        );
        fs::write(folder.join("containers.conf"), text).context("cannot write podman's configuration")?;
        Ok(Self::Podman { folder: folder.to_owned(), storage })
    }

    /// What the user types.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Docker { .. } => "docker",
            Self::Podman { .. } => "podman",
        }
    }

    /// A command of the engine.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.name());
        match self {
            Self::Docker { socket, .. } => {
                command.args(["--host", socket]);
            }
            Self::Podman { folder, storage } => {
                command.arg("--root").arg(folder.join("podman"));
                command.arg("--runroot").arg(folder.join("podman-run"));
                command.args(["--storage-driver", storage, "--cgroup-manager", "cgroupfs"]);
                command.env("CONTAINERS_CONF", folder.join("containers.conf"));
            }
        }
        command.args(args);
        command
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        match self {
            Self::Docker { daemon, .. } => {
                // Asked to end, it unmounts what it mounted.
                let _ = Command::new("kill").arg(daemon.id().to_string()).status();
                let _ = daemon.wait();
            }
            // Podman binds the folder of its layers to itself and leaves it so.
            Self::Podman { folder, storage: "overlay" } => {
                let _ = Command::new("umount")
                    .args(["--quiet", "--lazy"])
                    .arg(folder.join("podman/overlay"))
                    .status();
            }
            Self::Podman { .. } => {}
        }
    }
}
