//! `cargo xtask demo`: the main job with real containers, as a transcript. Each step is checked, so a demo that
//! ends well is proof, not decoration.

use crate::Runtime;
use crate::bundle;
use crate::process;
use crate::setup;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;
use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

/// What a second container is told about a volume that the first holds.
const BUSY: &str = "volume \"mydb\" is held exclusively by container \"c1\" (driver block); \
                    stop that container, or use driver local for a volume that containers share";

pub(crate) fn run(runtime: Runtime) -> Result<()> {
    process::need_root("demo")?;
    setup::for_containers()?;
    process::enter_private_mounts()?;
    let volhook = process::build_volhook(None)?;
    let stage = Stage::new(runtime, &volhook)?;
    stage.pod()?;
    stage.shared()?;
    stage.exclusive()?;
    stage.books()?;
    println!("\nEverything was as it should be. {} is removed.", stage.folder.path().display());
    Ok(())
}

/// The folder in which it all happens; containers and folder go with it.
struct Stage {
    runtime: Runtime,
    folder: TempDir,
    env: Vec<(&'static str, String)>,
}

impl Stage {
    fn new(runtime: Runtime, volhook: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("volhook-demo-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        let below = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let binaries = volhook.parent().context("the binary lies in a folder")?.display();
        let env = vec![
            ("VOLHOOK_ROOT", below("volumes")),
            ("VOLHOOK_RUN_DIR", below("run")),
            ("VOLHOOK_CONFIG", below("config.toml")),
            ("PATH", format!("{binaries}:{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default())),
        ];
        fs::write(folder.path().join("config.toml"), "").context("cannot write a configuration")?;
        println!("A temporary folder stands in for /var/lib/volhook and /run/volhook:\n");
        println!("$ cd {}", folder.path().display());
        for (name, value) in &env[..3] {
            println!("$ export {name}={value}");
        }
        Ok(Self { runtime, folder, env })
    }

    fn pod(&self) -> Result<()> {
        heading("A pod keeps its files");
        let pod = [("dev.volhook.pod", "alpha")];
        self.bundle("pod", &["sleep", "1000"], &pod)?;
        self.show("volhook bundle install pod")?;
        self.show("volhook plan pod")?;
        self.detach("pod", "pod-1")?;
        self.show_words(&self.in_container("pod-1", "echo written by pod-1 > /home/diary"))?;
        self.show_words(&self.in_container("pod-1", "echo color=blue > /etc/app.conf"))?;
        self.delete("pod-1")?;

        println!("\nThe container is gone, and its root filesystem too. A new one of the same pod:\n");
        self.bundle("pod", &["cat", "/home/diary", "/etc/app.conf"], &pod)?;
        self.show("volhook bundle install pod")?;
        let text = self.run_container("pod", "pod-2")?;
        ensure!(text == "written by pod-1\ncolor=blue\n", "pod-2 does not see what pod-1 wrote");
        self.show("volhook pod ls")?;
        let pods = self.ask_json(&["volhook", "pod", "ls", "--json"])?;
        ensure!(pods[0]["name"] == "alpha" && pods[0]["population"] == "overlay", "the pods are {pods}");
        Ok(())
    }

    fn shared(&self) -> Result<()> {
        heading("Two containers share a local volume");
        let claim = [("dev.volhook.mount.news", "type=volume,source=news,target=/news,volume-driver=local")];
        for name in ["writer", "reader"] {
            self.bundle(name, &["sleep", "1000"], &claim)?;
            self.show(&format!("volhook bundle install {name}"))?;
        }
        self.detach("writer", "writer")?;
        self.detach("reader", "reader")?;
        self.show_words(&self.in_container("writer", "echo hello, reader > /news/today"))?;
        let text = self.show_words(&self.in_container("reader", "cat /news/today"))?;
        ensure!(text == "hello, reader\n", "the reader does not see what the writer wrote");
        self.show("volhook lease ls")?;
        let holders = self.holders("news")?;
        ensure!(holders == ["reader", "writer"], "held by {holders:?}");
        self.delete("writer")?;
        self.delete("reader")
    }

    fn exclusive(&self) -> Result<()> {
        heading("A block volume belongs to one container at a time");
        let claim = [(
            "dev.volhook.mount.db",
            "type=volume,source=mydb,target=/data,volume-driver=block,volume-opt=size=64M",
        )];
        self.bundle("c1", &["sleep", "1000"], &claim)?;
        self.show("volhook bundle install c1")?;
        self.detach("c1", "c1")?;
        self.show_words(&self.in_container("c1", "echo row 1 > /data/table; df -h /data"))?;

        self.bundle("c2", &["cat", "/data/table"], &claim)?;
        self.show("volhook bundle install c2")?;
        let words = self.runtime_words(&["run", "--bundle", "c2", "c2"]);
        let (refused, text) = self.print_and_run(&words)?;
        ensure!(!refused, "c2 got a volume that c1 holds");
        if self.runtime == Runtime::Crun {
            println!("\ncrun drops what a hook prints; the events keep it:\n");
            self.show_words(&["sh", "-c", "volhook events | tail -n 1"].map(str::to_owned))?;
        } else {
            ensure!(unescaped(&text).contains(BUSY), "runc does not show the refusal");
        }
        let events = self.ask(&["volhook", "events", "--json"])?;
        ensure!(unescaped(&events).contains(BUSY), "the events do not show the refusal");

        println!("\nc1 did not notice:\n");
        let text = self.show_words(&self.in_container("c1", "cat /data/table"))?;
        ensure!(text == "row 1\n", "c1 lost its data");
        let holders = self.holders("mydb")?;
        ensure!(holders == ["c1"], "held by {holders:?}");
        self.delete("c1")?;

        println!("\nNow it is c2's turn:\n");
        let text = self.run_container("c2", "c2")?;
        ensure!(text == "row 1\n", "c2 does not see what c1 wrote");
        Ok(())
    }

    fn books(&self) -> Result<()> {
        heading("What is left: volumes, no leases, a story");
        self.show("volhook volume ls")?;
        self.show("volhook lease ls")?;
        self.show("volhook events")?;
        let volumes = self.ask_json(&["volhook", "volume", "ls", "--json"])?;
        let names: Vec<&str> = list(&volumes)?.iter().filter_map(|volume| volume["name"].as_str()).collect();
        ensure!(
            ["mydb", "news", "vol-alpha-etc", "vol-alpha-storage"].iter().all(|name| names.contains(name)),
            "the volumes are {names:?}: news, mydb and those of the pod should be there"
        );
        let leases = self.ask_json(&["volhook", "lease", "ls", "--json"])?;
        ensure!(list(&leases)?.is_empty(), "leases are left: {leases}");
        self.nothing_on_the_host()
    }

    /// The kernel takes a dead container's mounts down in the background.
    fn nothing_on_the_host(&self) -> Result<()> {
        let folder = self.folder.path().to_string_lossy().into_owned();
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read mountinfo")?;
            let loops = self.ask(&["losetup", "-a"])?;
            let left: Vec<&str> =
                mounts.lines().chain(loops.lines()).filter(|line| line.contains(&folder)).collect();
            if left.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "left on the host:\n{}", left.join("\n"));
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn bundle(&self, name: &str, args: &[&str], annotations: &[(&str, &str)]) -> Result<()> {
        bundle::make(self.runtime, &self.path(name), args, annotations)?;
        println!(
            "# Bundle `{name}`: busybox and what `{} spec` writes, which runs: {}",
            self.runtime,
            args.join(" ")
        );
        for (key, value) in annotations {
            println!("#   annotation {key}: {value}");
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// crun takes a relative `--root` from the bundle's folder, so it is an absolute one.
    fn runtime_words(&self, args: &[&str]) -> Vec<String> {
        let state = self.path("state");
        let words = [self.runtime.program(), "--root", &state.to_string_lossy()].map(str::to_owned);
        words.into_iter().chain(args.iter().map(|word| (*word).to_owned())).collect()
    }

    fn in_container(&self, id: &str, script: &str) -> Vec<String> {
        self.runtime_words(&["exec", id, "sh", "-c", script])
    }

    fn detach(&self, bundle: &str, id: &str) -> Result<()> {
        self.show_words(&self.runtime_words(&["run", "--detach", "--bundle", bundle, id])).map(drop)
    }

    fn run_container(&self, bundle: &str, id: &str) -> Result<String> {
        self.show_words(&self.runtime_words(&["run", "--bundle", bundle, id]))
    }

    fn delete(&self, id: &str) -> Result<()> {
        self.show_words(&self.runtime_words(&["delete", "--force", id])).map(drop)
    }

    /// Who holds a volume, in order.
    fn holders(&self, volume: &str) -> Result<Vec<String>> {
        let leases = self.ask_json(&["volhook", "lease", "ls", "--json"])?;
        let mut holders: Vec<String> = list(&leases)?
            .iter()
            .filter(|lease| lease["volume"] == volume)
            .filter_map(|lease| lease["container"].as_str().map(str::to_owned))
            .collect();
        holders.sort();
        Ok(holders)
    }

    /// Prints a command, runs it, prints its output, and fails unless it succeeds.
    fn show(&self, line: &str) -> Result<String> {
        self.show_words(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    fn show_words(&self, words: &[String]) -> Result<String> {
        let (success, text) = self.print_and_run(words)?;
        ensure!(success, "this should have succeeded: {}", process::line(&self.command(words)));
        Ok(text)
    }

    /// Both streams go to one file, as to a terminal; a container in the background keeps no pipe open.
    fn print_and_run(&self, words: &[String]) -> Result<(bool, String)> {
        let mut command = self.command(words);
        println!("$ {}", process::line(&command));
        let output = tempfile::NamedTempFile::new().context("cannot make a file for output")?;

        // Opened once and shared: two descriptors of their own would write over each other.
        let stdout = output.reopen().context("cannot open a file for output")?;
        let stderr = stdout.try_clone().context("cannot duplicate a file descriptor")?;
        let status = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .status()
            .with_context(|| format!("cannot run {}", process::line(&command)))?;
        let text = fs::read(output.path()).context("cannot read output")?;
        let text = String::from_utf8_lossy(&text).into_owned();
        print!("{text}");
        if !text.is_empty() && !text.ends_with('\n') {
            println!();
        }
        if !status.success() {
            println!("[{status}]");
        }
        Ok((status.success(), text))
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        process::ask(&mut self.command(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()))
    }

    fn ask_json(&self, words: &[&str]) -> Result<Value> {
        let text = self.ask(words)?;
        serde_json::from_str(&text).with_context(|| format!("no JSON from {}: {text}", words.join(" ")))
    }

    fn command(&self, words: &[String]) -> Command {
        let (program, args) =
            words.split_first().map_or(("true", &[][..]), |(word, rest)| (word.as_str(), rest));
        let mut command = Command::new(program);
        command
            .args(args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path());
        command
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A runtime keeps a folder for each container that it has not deleted.
        let left = fs::read_dir(self.path("state")).into_iter().flatten().flatten();
        for container in left {
            let id = container.file_name().to_string_lossy().into_owned();
            let words = self.runtime_words(&["delete", "--force", &id]);
            if let Err(error) = process::ask(&mut self.command(&words)) {
                eprintln!("cannot delete container {id}: {error:#}");
            }
        }
    }
}

fn heading(text: &str) {
    println!("\n== {text} ==\n");
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        other => bail!("not a list: {other}"),
    }
}

/// Text without the escapes that a log line or JSON puts before quotes.
fn unescaped(text: &str) -> String {
    text.replace('\\', "")
}
