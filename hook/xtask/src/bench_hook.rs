//! `cargo xtask bench hook`: what volhook's hooks add to a container's whole run, and what they take themselves.
//!
//! A run is `RUNTIME run` of a container, from start to exit. What is compared runs interleaved, in a new random order each
//! round, after the filesystem's earlier writes went to the disk, and is compared within a round: what else the machine does
//! meets all of them alike. Every container looks for files in its volumes, so that no run counts that had none.

use crate::Runtime;
use crate::bundle;
use crate::figures::shuffle;
use crate::figures::warn_of_load;
use crate::hook_figures;
use crate::hook_figures::Measured;
use crate::hook_figures::Round;
use crate::hook_timer;
use crate::idle::Idle;
use crate::process;
use crate::process::Spent;
use crate::setup;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;
use std::cell::Cell;
use std::env;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// Where the policy `universal` puts its eight volumes.
const TARGETS: [&str; 8] = ["/workspace", "/home", "/root", "/etc", "/usr/local", "/opt", "/var", "/srv"];

/// What lies in each of them, once it was there.
const MARK: &str = "volhook-bench";

/// Rounds before the first that counts: caches fill.
const WARM_UP: usize = 3;

/// How often a run of the plain binds is tried: crun sometimes fails where a hook ends before it has read the state, as
/// `/bin/true` does.
const ATTEMPTS: usize = 5;

/// What is asked for.
pub(crate) struct Wanted<'a> {
    /// How often each variant runs.
    pub(crate) rounds: usize,
    /// One after the other.
    pub(crate) runtimes: &'a [Runtime],
    /// An older binary to compare with.
    pub(crate) old: Option<&'a Path>,
    /// How many idle processes there are the second time.
    pub(crate) processes: usize,
    /// Where bundles and volumes lie.
    pub(crate) folder: Option<&'a Path>,
}

/// One of the things that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Eight binds in `config.json` and two `/bin/true` hooks.
    Binds,
    /// Eight volumes of a pod, by volhook's two hooks.
    Pod(Population, Build),
}

/// What the pod's volumes begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Population {
    Empty,
    Overlay,
}

/// Whose hooks they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    New,
    Old,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Binds => "binds",
            Self::Pod(Population::Empty, Build::New) => "empty",
            Self::Pod(Population::Overlay, Build::New) => "overlay",
            Self::Pod(Population::Empty, Build::Old) => "empty, old",
            Self::Pod(Population::Overlay, Build::Old) => "overlay, old",
        })
    }
}

pub(crate) fn run(wanted: &Wanted<'_>) -> Result<()> {
    process::need_root("bench hook")?;
    setup::for_containers()?;
    process::enter_private_mounts()?;
    let target = setup::for_release()?;
    let new = process::build_volhook(Some(&target))?;
    for binary in [Some(new.as_path()), wanted.old].into_iter().flatten() {
        ensure!(
            setup::is_static(binary),
            "{} is not linked statically, as `cargo xtask install` does it: it would be slower than what people have",
            binary.display()
        );
    }
    warn_of_load();
    let mut measured = Vec::new();
    for runtime in wanted.runtimes {
        let bench = Bench::new(*runtime, &new, wanted)?;
        measured.push(bench.compare(wanted.rounds, 0)?);
        if wanted.processes > 0 {
            let _idle = Idle::start(wanted.processes)?;
            measured.push(bench.compare(wanted.rounds, wanted.processes)?);
        }
        bench.flushes()?;
    }
    hook_figures::print(wanted.rounds, &measured);
    Ok(())
}

struct Bench {
    runtime: Runtime,
    variants: Vec<Variant>,
    folder: TempDir,
    /// On a tmpfs, as `/run` is on a host that is set up as usual.
    run_dir: TempDir,
    /// Containers run so far, for ids that no run shares with another, as engines choose them.
    runs: Cell<u32>,
}

impl Bench {
    fn new(runtime: Runtime, new: &Path, wanted: &Wanted<'_>) -> Result<Self> {
        let temporary = |parent: &Path| {
            tempfile::Builder::new()
                .prefix("volhook-bench-")
                .tempdir_in(parent)
                .with_context(|| format!("cannot make a folder in {}", parent.display()))
        };
        let parent = wanted.folder.map_or_else(env::temp_dir, Path::to_path_buf);
        let mut variants = vec![Variant::Binds];
        let builds = [(Build::New, Some(new)), (Build::Old, wanted.old)];
        for (build, _) in builds.iter().filter(|(_, binary)| binary.is_some()) {
            variants.extend([Population::Empty, Population::Overlay].map(|what| Variant::Pod(what, *build)));
        }
        let (folder, run_dir) = (temporary(&parent)?, temporary(Path::new("/dev/shm"))?);
        let bench = Self { runtime, variants, folder, run_dir, runs: Cell::new(0) };
        fs::write(bench.path("config.toml"), "").context("cannot write a configuration")?;
        for (build, binary) in builds {
            let Some(binary) = binary else { continue };
            let installed = bench.binary(build);
            fs::create_dir_all(installed.parent().unwrap_or(bench.folder.path()))
                .context("cannot make a folder")?;
            // A copy, as an installed one is: the pages of a file that a linker has just written are slower to map.
            fs::copy(binary, &installed)
                .and_then(|_| fs::set_permissions(&installed, fs::Permissions::from_mode(0o755)))
                .with_context(|| format!("cannot copy {}", binary.display()))?;
        }
        for variant in &bench.variants {
            bench.prepare(*variant)?;
            bench.prove(*variant)?;
        }
        Ok(bench)
    }

    /// Makes the two bundles of a variant: the second is the same with a clock around its hooks.
    fn prepare(&self, variant: Variant) -> Result<()> {
        for timed in [false, true] {
            let folder = self.bundle(variant, timed);
            match variant {
                Variant::Binds => {
                    bundle::make(self.runtime, &folder, &[], &[])?;
                    bundle::edit(&folder, |config| self.bind(config))?;
                }
                Variant::Pod(population, build) => {
                    let policy = match population {
                        // As the binds are: the same eight folders, with nothing of the image in them.
                        Population::Empty => "universal,set=eight,population=empty",
                        Population::Overlay => "universal,set=eight,population=overlay",
                    };
                    let annotations = [("dev.volhook.pod", "bench"), ("dev.volhook.policy", policy)];
                    bundle::make(self.runtime, &folder, &[], &annotations)?;
                    let mut install = self.volhook(variant, build);
                    process::ask(install.args(["bundle", "install"]).arg(&folder))?;
                }
            }
            set_args(&folder, &look_for_marks())?;
            if timed {
                let timer = env::current_exe().context("cannot find this program")?;
                edit_hooks(&folder, |hook| {
                    bundle::push(
                        &mut hook["env"],
                        json!(format!("VOLHOOK_TIMINGS={}", self.steps().display())),
                    );
                    hook_timer::wrap(hook, &timer, &self.times());
                })?;
            }
        }
        Ok(())
    }

    fn bind(&self, config: &mut Value) {
        for target in TARGETS {
            let mount = json!({
                "destination": target, "type": "bind", "source": self.bound(target), "options": ["bind", "rw"],
            });
            bundle::push(&mut config["mounts"], mount);
        }
        for stage in ["prestart", "poststop"] {
            let hook = json!({ "path": "/bin/true", "args": ["true"], "env": [], "timeout": 10 });
            bundle::push(&mut config["hooks"][stage], hook);
        }
    }

    /// The folder that the plain container has at a target.
    fn bound(&self, target: &str) -> PathBuf {
        self.path("binds").join(target.trim_start_matches('/'))
    }

    /// Proves that all eight targets are mounts in the container, and leaves a mark in each, for which later runs look.
    fn prove(&self, variant: Variant) -> Result<()> {
        for target in TARGETS.iter().filter(|_| variant == Variant::Binds) {
            fs::create_dir_all(self.bound(target)).context("cannot make a folder to bind")?;
        }
        for timed in [false, true] {
            let folder = self.bundle(variant, timed);
            let mark = format!("for place; do echo > $place/{MARK}; done; cat /proc/self/mountinfo");
            let args: Vec<&str> = ["sh", "-c", &mark, "sh"].into_iter().chain(TARGETS).collect();
            set_args(&folder, &json!(args))?;
            let mounts = process::ask(&mut self.container(&folder))?;
            set_args(&folder, &look_for_marks())?;
            for target in TARGETS {
                let there = mounts.lines().any(|line| line.split(' ').nth(4) == Some(target));
                let inside = folder.join("rootfs").join(target.trim_start_matches('/')).join(MARK);
                ensure!(there && !inside.exists(), "{variant}: nothing is mounted on {target}:\n{mounts}");
            }
        }
        Ok(())
    }

    /// Proves that poststop gave everything back.
    fn prove_free(&self) -> Result<()> {
        for variant in &self.variants {
            let Variant::Pod(_, build) = *variant else { continue };
            let held = process::ask(self.volhook(*variant, build).args(["lease", "ls", "--json"]))?;
            let held: Value =
                serde_json::from_str(&held).context("`volhook lease ls --json` printed no JSON")?;
            ensure!(held == json!([]), "{variant}: poststop has left leases: {held}");
        }
        Ok(())
    }

    /// Runs everything `rounds` times.
    fn compare(&self, rounds: usize, processes: usize) -> Result<Measured> {
        let mut measured = Measured {
            runtime: self.runtime,
            processes,
            variants: self.variants.clone(),
            rounds: Vec::new(),
            repeated: 0,
        };
        let mut order: Vec<usize> = (0..2 * self.variants.len()).collect();
        for round in 0..WARM_UP + rounds {
            shuffle(&mut order);
            let mut seen: Vec<Round> = self.variants.iter().map(|_| Round::default()).collect();
            for place in &order {
                let number = place / 2;
                let variant = self.variants[number];
                if place % 2 == 0 {
                    (seen[number].whole, measured.repeated) =
                        self.timed(variant, false, measured.repeated)?;
                } else {
                    for file in [self.times(), self.steps()] {
                        fs::write(&file, "").with_context(|| format!("cannot write {}", file.display()))?;
                    }
                    (_, measured.repeated) = self.timed(variant, true, measured.repeated)?;
                    seen[number].hooks = hook_timer::read(&self.times(), &self.steps())?;
                }
            }
            self.prove_free()?;
            if round >= WARM_UP {
                measured.rounds.push(seen);
            }
        }
        Ok(measured)
    }

    /// What one whole run takes, and how often the plain one had to be repeated by now.
    fn timed(&self, variant: Variant, timed: bool, mut repeated: usize) -> Result<(Spent, usize)> {
        let folder = self.bundle(variant, timed);
        for attempt in 1.. {
            process::ask(Command::new("sync").arg("--file-system").arg(self.folder.path()))?;
            match process::spend(&mut self.container(&folder)) {
                Ok(spent) => return Ok((spent, repeated)),
                Err(_) if variant == Variant::Binds && attempt < ATTEMPTS => repeated += 1,
                Err(error) => return Err(error.context(format!("{variant} does not run"))),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Counts the system calls that wait for a disk, on the hooks' whole path.
    fn flushes(&self) -> Result<()> {
        let Some(strace) = process::find("strace") else {
            println!("Disk flushes are not counted: install Debian's package strace.");
            return Ok(());
        };
        let trace = self.path("strace");
        for variant in &self.variants {
            let Variant::Pod(_, Build::New) = variant else { continue };
            let folder = self.bundle(*variant, false);
            fs::write(&trace, "").context("cannot write a file")?;
            edit_hooks(&folder, |hook| {
                let mut args = vec![json!("strace"), json!("-f"), json!("-A"), json!("-o"), json!(trace)];
                args.extend(
                    ["-e", "trace=fsync,fdatasync,sync,syncfs,sync_file_range,msync"].map(Value::from),
                );
                args.push(hook["path"].take());
                args.extend(hook["args"].as_array().into_iter().flatten().skip(1).cloned());
                hook["path"] = json!(strace);
                hook["args"] = json!(args);
            })?;
            process::spend(&mut self.container(&folder))?;
            let text = fs::read_to_string(&trace).context("strace has written nothing")?;
            let ends = text.lines().filter(|line| line.contains("+++ exited with")).count();
            ensure!(ends >= 2, "strace did not see both hooks:\n{text}");
            let flushes: Vec<&str> = text.lines().filter(|line| line.contains("sync")).collect();
            println!("{}, {variant}: {} disk flushes on the hooks' path", self.runtime, flushes.len());
            for line in flushes {
                println!("    {line}");
            }
            self.prepare(*variant)?;
        }
        Ok(())
    }

    fn container(&self, bundle: &Path) -> Command {
        let mut command = Command::new(self.runtime.program());
        command
            .arg("--root")
            .arg(self.path("state"))
            .args(["run", "--bundle"])
            .arg(bundle)
            .arg(format!("bench-{}", self.runs.replace(self.runs.get() + 1)));
        command
    }

    /// A command of volhook's for a variant, which has volumes and a journal of its own.
    fn volhook(&self, variant: Variant, build: Build) -> Command {
        let mut command = Command::new(self.binary(build));
        command
            .env("VOLHOOK_ROOT", self.path("roots").join(name(variant)))
            .env("VOLHOOK_RUN_DIR", self.run_dir.path().join(name(variant)))
            .env("VOLHOOK_CONFIG", self.path("config.toml"));
        command
    }

    fn binary(&self, build: Build) -> PathBuf {
        let folder = if build == Build::New { "new" } else { "old" };
        self.path(folder).join("volhook")
    }

    fn bundle(&self, variant: Variant, timed: bool) -> PathBuf {
        self.path(&format!("{}{}", name(variant), if timed { "-timed" } else { "" }))
    }

    /// Where the clock around the hooks writes.
    fn times(&self) -> PathBuf {
        self.run_dir.path().join("times")
    }

    /// Where volhook writes what its steps took.
    fn steps(&self) -> PathBuf {
        self.run_dir.path().join("steps")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A variant's name as that of a file.
fn name(variant: Variant) -> String {
    variant.to_string().replace(", ", "-")
}

/// What the container does: nothing but looking whether its volumes are there.
fn look_for_marks() -> Value {
    let mut args = vec!["test".to_owned()];
    for target in TARGETS {
        args.extend(["-f".to_owned(), format!("{target}/{MARK}"), "-a".to_owned()]);
    }
    args.pop();
    json!(args)
}

fn set_args(bundle: &Path, args: &Value) -> Result<()> {
    bundle::edit(bundle, |config| config["process"]["args"] = args.clone())
}

fn edit_hooks(bundle: &Path, change: impl Fn(&mut Value)) -> Result<()> {
    bundle::edit(bundle, |config| {
        for (_, entries) in config["hooks"].as_object_mut().into_iter().flatten() {
            entries.as_array_mut().into_iter().flatten().for_each(&change);
        }
    })
}
