//! `cargo xtask bench universal`: what a pod's first and later starts cost, beside docker's and podman's named volumes
//! and `cp`.
//!
//! All that is compared runs interleaved, in a new random order each round, on one filesystem, whose earlier writes are
//! on the disk before each measurement. Nothing is removed before the end: ext4 searches long for inodes where many
//! have just been freed, which would cost whoever comes next.

use crate::Runtime;
use crate::bundle;
use crate::debian;
use crate::engines::Engine;
use crate::figures::quartiles;
use crate::figures::shuffle;
use crate::figures::warn_of_load;
use crate::process;
use crate::process::time;
use crate::setup;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::json;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// The eight directories that docker's and podman's containers have volumes for, and volhook's set `eight`.
const EIGHT: [&str; 8] = ["workspace", "home", "root", "etc", "usr/local", "opt", "var", "srv"];

const OVERLAY: &str = "universal,population=overlay";
const COPY: &str = "universal,population=copy,set=eight";

/// What each file of the large tree holds.
const CONTENT: [u8; 10 << 10] = [b'x'; 10 << 10];

/// How many files one folder of the large tree has.
const IN_ONE_FOLDER: usize = 100;

/// The image that docker and podman make of the root filesystem.
const IMAGE: &str = "volhook-bench";

/// Containers and copies before the first that counts.
const WARM_UP: usize = 1;

pub(crate) fn run(runtime: Runtime, rounds: usize, files: usize, folder: Option<&Path>) -> Result<()> {
    process::need_root("bench universal")?;
    setup::for_containers()?;
    let debian = debian::rootfs()?;
    process::enter_private_mounts()?;
    let target = setup::for_release()?;
    let volhook = process::build_volhook(Some(&target))?;
    let bench = Bench::new(runtime, &volhook, &debian, folder)?;
    warn_of_load();
    bench.starts(rounds)?;
    bench.large_tree(rounds.div_ceil(2), files)
}

/// What is measured in each round. The first of a pair is the same container without volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Plain,
    /// A pod's first start, and a later one, with one of the two policies.
    Pod(&'static str, Start),
    /// `cp -a` of the eight directories.
    Copy(Durable),
    /// An engine, by its place in the list.
    EnginePlain(usize),
    Engine(usize, Start),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    First,
    Later,
}

/// Whether what was written must be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Durable {
    No,
    Yes,
}

struct Bench {
    // Dropped before the folder in which they work.
    engines: Vec<Engine>,
    runtime: Runtime,
    volhook: PathBuf,
    /// A copy of the Debian: containers get mount points in it.
    rootfs: PathBuf,
    folder: TempDir,
    /// On a tmpfs, as `/run` is on a host that is set up as usual.
    run_dir: TempDir,
    /// For names that are used once: containers, pods, volumes, folders.
    names: Cell<u32>,
}

impl Bench {
    fn new(runtime: Runtime, volhook: &Path, debian: &Path, parent: Option<&Path>) -> Result<Self> {
        let parent = parent.map_or_else(env::temp_dir, Path::to_path_buf);
        let temporary = |parent: &Path| {
            tempfile::Builder::new()
                .prefix("volhook-bench-")
                .tempdir_in(parent)
                .with_context(|| format!("cannot make a folder in {}", parent.display()))
        };
        let folder = temporary(&parent)?;
        let installed = folder.path().join("volhook");
        fs::copy(volhook, &installed).context("cannot copy the volhook binary")?;
        for (name, text) in [("none.toml", ""), ("copy.toml", "[plugins.universal]\npopulation = \"copy\"\n")]
        {
            fs::write(folder.path().join(name), text).context("cannot write a configuration")?;
        }
        let rootfs = folder.path().join("rootfs");
        process::ask(Command::new("cp").arg("--archive").arg(debian).arg(&rootfs))?;
        let bench = Self {
            engines: Engine::installed(folder.path(), "overlay")?,
            runtime,
            volhook: installed,
            rootfs,
            folder,
            run_dir: temporary(Path::new("/dev/shm"))?,
            names: Cell::new(0),
        };
        bench.prepare()?;
        Ok(bench)
    }

    fn prepare(&self) -> Result<()> {
        bundle::make_on(self.runtime, &self.path("plain"), &self.rootfs, &["/bin/true"], &[])?;
        for policy in [OVERLAY, COPY] {
            let folder = self.bundle(policy);
            let annotations = [("dev.volhook.pod", "later"), ("dev.volhook.policy", policy)];
            bundle::make_on(self.runtime, &folder, &self.rootfs, &["/bin/true"], &annotations)?;
            process::ask(self.volhook(&["bundle", "install"]).arg(&folder))?;
        }
        if !self.engines.is_empty() {
            let archive = self.path("rootfs.tar");
            process::ask(Command::new("tar").arg("-C").arg(&self.rootfs).arg("-cf").arg(&archive).arg("."))?;
            for engine in &self.engines {
                process::ask(engine.command(&["import"]).arg(&archive).arg(IMAGE))?;
            }
        }
        Ok(())
    }

    /// Proves that containers have what is measured: a mount on each of the eight, with all that the image has there.
    fn check(&self) -> Result<usize> {
        let entries = self.count(&mut self.container("plain")?, "plain")?;
        for policy in [OVERLAY, COPY] {
            self.set_pod(policy, "checked")?;
            let found = self.count(&mut self.container(policy)?, policy)?;
            ensure!(
                found == entries,
                "{policy}: {found} entries in the eight directories, the image has {entries}"
            );
        }
        for engine in &self.engines {
            let mut command = self.engine_container(engine, Some("checked"));
            command.args(["sh", "-c", LOOK]);
            let found = entries_with_mounts(&process::ask(&mut command)?, true)?;
            // An engine adds files of its own to /etc.
            ensure!(found >= entries, "{}: {found} entries, the image has {entries}", engine.name());
        }
        Ok(entries)
    }

    /// Runs [`LOOK`] in the container of a bundle.
    fn count(&self, container: &mut Command, name: &str) -> Result<usize> {
        let set_args = |args: &[&str]| {
            bundle::edit(&self.bundle(name), |config| config["process"]["args"] = json!(args))
        };
        set_args(&["sh", "-c", LOOK])?;
        let seen = process::ask(container);
        set_args(&["/bin/true"])?;
        entries_with_mounts(&seen?, name != "plain")
    }

    fn starts(&self, rounds: usize) -> Result<()> {
        let entries = self.check()?;
        let mut steps = vec![Step::Plain, Step::Copy(Durable::No), Step::Copy(Durable::Yes)];
        for start in [Start::First, Start::Later] {
            steps.extend([OVERLAY, COPY].map(|policy| Step::Pod(policy, start)));
            steps.extend((0..self.engines.len()).map(|engine| Step::Engine(engine, start)));
        }
        steps.extend((0..self.engines.len()).map(Step::EnginePlain));
        // Those that start later start first here.
        for policy in [OVERLAY, COPY] {
            self.set_pod(policy, "later")?;
            time(&mut self.container(policy)?)?;
        }
        for engine in &self.engines {
            time(self.engine_container(engine, Some("later")).arg("/bin/true"))?;
        }
        let mut times: BTreeMap<Step, Vec<f64>> = BTreeMap::new();
        let mut order: Vec<usize> = (0..steps.len()).collect();
        for round in 0..WARM_UP + rounds {
            shuffle(&mut order);
            for step in order.iter().map(|place| steps[*place]) {
                let took = self.measure(step)?;
                if round >= WARM_UP {
                    times.entry(step).or_default().push(took);
                }
            }
        }
        self.report(rounds, entries, &times);
        Ok(())
    }

    /// Milliseconds of one step.
    fn measure(&self, step: Step) -> Result<f64> {
        match step {
            Step::Plain => self.settled(&mut self.container("plain")?),
            Step::Pod(policy, start) => {
                let new = self.name();
                self.set_pod(policy, if start == Start::First { &new } else { "later" })?;
                self.settled(&mut self.container(policy)?)
            }
            Step::Copy(durable) => {
                let target = self.path(&self.name());
                fs::create_dir(&target).context("cannot make a folder")?;
                let mut copy = Command::new("cp");
                copy.arg("--archive").arg("--target-directory").arg(&target);
                copy.args(EIGHT.map(|name| self.rootfs.join(name)).iter().filter(|path| path.exists()));
                self.copied(&mut copy, &target, durable)
            }
            Step::EnginePlain(engine) => {
                self.settled(self.engine_container(&self.engines[engine], None).arg("/bin/true"))
            }
            Step::Engine(engine, start) => {
                let new = self.name();
                let volumes = if start == Start::First { &new } else { "later" };
                self.settled(self.engine_container(&self.engines[engine], Some(volumes)).arg("/bin/true"))
            }
        }
    }

    /// Milliseconds of a command that finds no earlier writes waiting for the disk.
    fn settled(&self, command: &mut Command) -> Result<f64> {
        process::ask(Command::new("sync").arg("--file-system").arg(self.folder.path()))?;
        time(command)
    }

    /// Milliseconds of a copy to `target`.
    fn copied(&self, copy: &mut Command, target: &Path, durable: Durable) -> Result<f64> {
        let took = self.settled(copy)?;
        Ok(match durable {
            Durable::No => took,
            Durable::Yes => took + time(Command::new("sync").arg("--file-system").arg(target))?,
        })
    }

    fn report(&self, rounds: usize, entries: usize, times: &BTreeMap<Step, Vec<f64>>) {
        println!(
            "\n{}, Debian with {entries} entries in the eight directories: {rounds} rounds, ms",
            self.runtime
        );
        println!("    {:44} {:>8} {:>8} {:>8} {:>8}", "", "median", "25 %", "75 %", "added");
        for (step, values) in times {
            let [low, median, high] = quartiles(values.clone());
            let added = self.added(times, *step).map_or_else(String::new, |added| format!("{added:+.1}"));
            println!("    {:44} {median:8.1} {low:8.1} {high:8.1} {added:>8}", self.describe(*step));
        }
        let median = |step: Step| quartiles(times[&step].clone())[1];
        let added = |step: Step| self.added(times, step).unwrap_or(f64::NAN);
        let copying = added(Step::Pod(COPY, Start::First));
        aim("an overlay's first start adds, ms", added(Step::Pod(OVERLAY, Start::First)), 3.0);
        aim("copying / cp -a", copying / median(Step::Copy(Durable::No)), 0.3);
        aim("copying / cp -a, both on the disk", copying / median(Step::Copy(Durable::Yes)), 0.3);
        for (number, engine) in self.engines.iter().enumerate() {
            let theirs = added(Step::Engine(number, Start::First));
            aim(&format!("copying / what {}'s volumes add", engine.name()), copying / theirs, 1.0);
        }
    }

    /// What a start takes longer than the same container without volumes in the same round, median.
    fn added(&self, times: &BTreeMap<Step, Vec<f64>>, step: Step) -> Option<f64> {
        let plain = match step {
            Step::Pod(..) => Step::Plain,
            Step::Engine(engine, _) => Step::EnginePlain(engine),
            Step::Plain | Step::EnginePlain(_) | Step::Copy(_) => return None,
        };
        let differences = times[&step].iter().zip(&times[&plain]).map(|(with, without)| with - without);
        Some(quartiles(differences.collect())[1])
    }

    fn describe(&self, step: Step) -> String {
        let start = |start| if start == Start::First { "first start" } else { "later start" };
        match step {
            Step::Plain => format!("{}, no volumes", self.runtime),
            Step::Pod(OVERLAY, when) => format!("volhook, overlay, {}", start(when)),
            Step::Pod(_, when) => format!("volhook, copy of eight, {}", start(when)),
            Step::Copy(Durable::No) => "cp -a of the eight".to_owned(),
            Step::Copy(Durable::Yes) => "cp -a of the eight; sync -f".to_owned(),
            Step::EnginePlain(engine) => format!("{}, no volumes", self.engines[engine].name()),
            Step::Engine(engine, when) => {
                format!("{}, eight named volumes, {}", self.engines[engine].name(), start(when))
            }
        }
    }

    /// A tree of many files, copied into a pod without a container.
    fn large_tree(&self, rounds: usize, files: usize) -> Result<()> {
        let rootfs = self.path("large");
        let tree = rootfs.join("var/lib/tree");
        for number in 0..files {
            let below = tree.join((number / IN_ONE_FOLDER).to_string());
            if number % IN_ONE_FOLDER == 0 {
                fs::create_dir_all(&below).with_context(|| format!("cannot make {}", below.display()))?;
            }
            fs::write(below.join(number.to_string()), CONTENT)
                .with_context(|| format!("cannot write below {}", below.display()))?;
        }
        let steps = ["volhook pod prepare", "cp -a", "cp -a; sync -f"];
        let mut times: [Vec<f64>; 3] = Default::default();
        let mut order = [0, 1, 2];
        for _ in 0..rounds {
            shuffle(&mut order);
            for step in order {
                let name = self.name();
                times[step].push(if step == 0 {
                    let mut command = self.volhook(&["pod", "prepare", &name, "--rootfs"]);
                    command.arg(&rootfs).env("VOLHOOK_CONFIG", self.path("copy.toml"));
                    let before = regular_files(&self.path("volumes"))?;
                    let took = self.settled(&mut command)?;
                    let copied = regular_files(&self.path("volumes"))? - before;
                    ensure!(copied >= files, "{copied} of {files} files are there");
                    took
                } else {
                    let target = self.path(&name);
                    let mut copy = Command::new("cp");
                    copy.arg("--archive").arg(&rootfs).arg(&target);
                    self.copied(&mut copy, &target, if step == 1 { Durable::No } else { Durable::Yes })?
                });
            }
        }
        println!("\n{files} files of {} KiB: {rounds} rounds, ms", CONTENT.len() >> 10);
        println!("    {:44} {:>8} {:>8} {:>8}", "", "median", "25 %", "75 %");
        for (step, values) in steps.iter().zip(&times) {
            let [low, median, high] = quartiles(values.clone());
            println!("    {step:44} {median:8.0} {low:8.0} {high:8.0}");
        }
        let [ours, plain, durable] = times.map(|values| quartiles(values)[1]);
        println!("  volhook / cp -a, which is not on the disk: {:.2}", ours / plain);
        aim("volhook / cp -a, both on the disk", ours / durable, 0.6);
        Ok(())
    }

    fn set_pod(&self, policy: &str, pod: &str) -> Result<()> {
        bundle::edit(&self.bundle(policy), |config| config["annotations"]["dev.volhook.pod"] = json!(pod))
    }

    /// The container of a bundle, under a name that no other has.
    fn container(&self, bundle: &str) -> Result<Command> {
        let bundle = self.bundle(bundle);
        ensure!(bundle.is_dir(), "there is no bundle {}", bundle.display());
        let mut command = Command::new(self.runtime.program());
        command.arg("--root").arg(self.path("state")).args(["run", "--bundle"]).arg(bundle).arg(self.name());
        Ok(command)
    }

    /// A container of an engine, without its command: with eight named volumes, or none.
    fn engine_container(&self, engine: &Engine, volumes: Option<&str>) -> Command {
        let mut command = engine.command(&["run", "--rm", "--network", "none"]);
        for name in EIGHT.into_iter().filter(|_| volumes.is_some()) {
            let volume = format!("{}-{}:/{name}", volumes.unwrap_or_default(), name.replace('/', "-"));
            command.args(["--volume", &volume]);
        }
        command.arg(IMAGE);
        command
    }

    fn volhook(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.volhook);
        command
            .args(args)
            .env("VOLHOOK_ROOT", self.path("volumes"))
            .env("VOLHOOK_RUN_DIR", self.run_dir.path())
            .env("VOLHOOK_CONFIG", self.path("none.toml"));
        command
    }

    /// The folder of a policy's bundle, or of the plain one.
    fn bundle(&self, policy: &str) -> PathBuf {
        self.path(match policy {
            OVERLAY => "overlay",
            COPY => "copy",
            other => other,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn name(&self) -> String {
        format!("bench{}", self.names.replace(self.names.get() + 1))
    }
}

/// Prints the mount table, and how many entries the eight directories have.
const LOOK: &str = "cat /proc/self/mountinfo; find /workspace /home /root /etc /usr/local /opt /var /srv -xdev -mindepth 1 \
                    2> /dev/null | wc -l";

/// The number that [`LOOK`] printed, if the eight are mount points or the root is the pod's, or need not be.
fn entries_with_mounts(seen: &str, mounted: bool) -> Result<usize> {
    let is_at = |line: &str, target: &str| line.split(' ').nth(4) == Some(target);
    let is_root = seen.lines().any(|line| is_at(line, "/") && line.contains(" - overlay volhook "));
    for target in EIGHT.iter().filter(|_| mounted && !is_root).map(|name| format!("/{name}")) {
        let there = seen.lines().any(|line| is_at(line, &target));
        ensure!(there, "nothing is mounted on {target}:\n{seen}");
    }
    let last = seen.lines().last().unwrap_or_default();
    last.trim().parse().with_context(|| format!("no number of entries in {last:?}"))
}

/// How many regular files lie below a folder.
fn regular_files(folder: &Path) -> Result<usize> {
    let mut command = Command::new("find");
    let listed = process::ask(command.arg(folder).args(["-type", "f", "-printf", "."]))?;
    Ok(listed.len())
}

fn aim(what: &str, value: f64, most: f64) {
    let verdict = if value <= most { "met" } else { "missed" };
    println!("  {what}: {value:.2}; aim at most {most:.1}: {verdict}");
}
