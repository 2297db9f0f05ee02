//! `cargo xtask bench hook`: what volhook's hooks add to a container's whole run.
//!
//! Four bundles run interleaved, in a new random order each round, so that what else the machine does
//! meets all of them alike. A run is `RUNTIME run` of a container that does `/bin/true`, from start to exit.

use crate::Runtime;
use crate::bundle;
use crate::figures::quartiles;
use crate::figures::shuffle;
use crate::figures::warn_of_load;
use crate::process;
use crate::setup;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;
use tempfile::TempDir;

/// Where the policy `universal` puts its eight volumes.
const TARGETS: [&str; 8] = ["/workspace", "/home", "/root", "/etc", "/usr/local", "/opt", "/var", "/srv"];

/// Rounds before the first that counts: caches fill, and volhook creates the volumes.
const WARM_UP: usize = 3;

/// Calls from which the stages' times are taken.
const TIMED: usize = 30;

struct Variant {
    name: &'static str,
    about: &'static str,
}

const VARIANTS: [Variant; 4] = [
    Variant { name: "a", about: "the bundle alone" },
    Variant { name: "b", about: "two /bin/true hooks" },
    Variant { name: "c", about: "eight binds in config.json, two /bin/true hooks" },
    Variant { name: "d", about: "eight volumes by volhook's two hooks" },
];

pub(crate) fn run(rounds: usize, runtimes: &[Runtime]) -> Result<()> {
    process::need_root("bench hook")?;
    setup::for_containers()?;
    process::enter_private_mounts()?;
    let target = setup::for_release()?;
    let volhook = process::build_volhook(Some(&target))?;
    warn_of_load();
    for runtime in runtimes {
        let bench = Bench::new(*runtime, &volhook)?;
        bench.compare(rounds)?;
        bench.stages()?;
        bench.flushes()?;
    }
    Ok(())
}

struct Bench {
    runtime: Runtime,
    volhook: PathBuf,
    folder: TempDir,
    /// On a tmpfs, as `/run` is on a host that is set up as usual.
    run_dir: TempDir,
    /// Containers run so far, for ids that no run shares with another, as engines choose them.
    runs: Cell<u32>,
}

impl Bench {
    fn new(runtime: Runtime, volhook: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("volhook-bench-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        fs::write(folder.path().join("config.toml"), "").context("cannot write a configuration")?;
        let run_dir = tempfile::Builder::new()
            .prefix("volhook-bench-")
            .tempdir_in("/dev/shm")
            .context("cannot make a temporary folder on a tmpfs")?;
        // Installed as for users: the pages of a file that a linker has just written are slower to map.
        let installed = folder.path().join("volhook");
        fs::copy(volhook, &installed).context("cannot copy the volhook binary")?;
        let bench = Self { runtime, volhook: installed, folder, run_dir, runs: Cell::new(0) };
        for variant in &VARIANTS {
            bench.prepare(variant.name)?;
        }
        Ok(bench)
    }

    fn prepare(&self, name: &str) -> Result<()> {
        let folder = self.path(name);
        let pod = [
            ("dev.volhook.pod", "bench"),
            // As the binds are: the same eight folders, with nothing of the image in them.
            ("dev.volhook.policy", "universal,set=eight,population=empty"),
        ];
        let annotations = if name == "d" { &pod[..] } else { &[] };
        bundle::make(self.runtime, &folder, &["/bin/true"], annotations)?;
        if name == "d" {
            process::ask(self.volhook_command().args(["bundle", "install"]).arg(&folder))?;
        }
        if name == "c" {
            for target in TARGETS {
                let source = self.path("binds").join(target.trim_start_matches('/'));
                fs::create_dir_all(&source).context("cannot make a folder to bind")?;
                bundle::edit(&folder, |config| {
                    let mount = json!({
                        "destination": target, "type": "bind", "source": source, "options": ["bind", "rw"],
                    });
                    bundle::push(&mut config["mounts"], mount);
                })?;
            }
        }
        if name == "b" || name == "c" {
            bundle::edit(&folder, |config| {
                for stage in ["prestart", "poststop"] {
                    let hook = json!({ "path": "/bin/true", "args": ["true"], "env": [], "timeout": 10 });
                    bundle::push(&mut config["hooks"][stage], hook);
                }
            })?;
        }
        Ok(())
    }

    /// Proves that all eight targets are mount points in the container, so that the right thing is measured.
    fn check_mounts(&self, name: &str) -> Result<()> {
        let set_args =
            |args: Value| bundle::edit(&self.path(name), |config| config["process"]["args"] = args);
        set_args(json!(["cat", "/proc/self/mountinfo"]))?;
        let mounts = process::ask(&mut self.container(name))?;
        set_args(json!(["/bin/true"]))?;
        for target in TARGETS {
            let there = mounts.lines().any(|line| line.split(' ').nth(4) == Some(target));
            ensure!(there, "nothing is mounted on {target} in bundle {name}:\n{mounts}");
        }
        Ok(())
    }

    fn compare(&self, rounds: usize) -> Result<()> {
        self.check_mounts("c")?;
        self.check_mounts("d")?;
        let mut times: [Vec<f64>; 4] = Default::default();
        let mut order = [0, 1, 2, 3];
        for round in 0..WARM_UP + rounds {
            shuffle(&mut order);
            for variant in order {
                let time = self.time(VARIANTS[variant].name)?;
                if round >= WARM_UP {
                    times[variant].push(time);
                }
            }
        }
        let version = process::ask(Command::new(self.runtime.program()).arg("--version"))?;
        println!("\n{}: {rounds} rounds, whole run in ms", version.lines().next().unwrap_or_default());
        println!("    {:48}  {:>7}  {:>7}  {:>7}", "", "median", "25 %", "75 %");
        for (variant, times) in VARIANTS.iter().zip(&times) {
            let [low, median, high] = quartiles(times.clone());
            println!("  {} {:48}  {median:7.2}  {low:7.2}  {high:7.2}", variant.name, variant.about);
        }
        println!("  differences within a round");
        for (later, earlier) in [(1, 0), (2, 1), (3, 1), (3, 2)] {
            let differences =
                times[later].iter().zip(&times[earlier]).map(|(later, earlier)| later - earlier);
            let [low, median, high] = quartiles(differences.collect());
            let name = format!("{} - {}", VARIANTS[later].name, VARIANTS[earlier].name);
            println!("    {name:48}  {median:+7.2}  {low:+7.2}  {high:+7.2}");
        }
        let [_, binds, _] = quartiles(times[2].clone());
        let [_, volhook, _] = quartiles(times[3].clone());
        let aim = match self.runtime {
            Runtime::Runc => 1.05,
            Runtime::Crun => 1.10,
        };
        let ratio = volhook / binds;
        let verdict = if ratio <= aim { "met" } else { "missed" };
        println!("  d/c {ratio:.3}; aim {aim:.2}: {verdict}");
        Ok(())
    }

    /// Where the time goes inside the hooks, as the binary itself sees it.
    fn stages(&self) -> Result<()> {
        let file = self.path("timings");
        let setting = format!("VOLHOOK_TIMINGS={}", file.display());
        self.edit_hooks(|hook| bundle::push(&mut hook["env"], json!(setting)))?;
        for _ in 0..TIMED {
            self.time("d")?;
        }
        let text = fs::read_to_string(&file).context("volhook has written no timings")?;
        // Stage → field → microseconds of each call.
        let mut stages: BTreeMap<String, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).context("a line of timings is not JSON")?;
            let stage = value["stage"].as_str().context("a line of timings names no stage")?;
            let fields = stages.entry(stage.to_owned()).or_default();
            for (name, time) in value.as_object().into_iter().flatten() {
                let Some(time) = time.as_f64() else { continue };
                fields.entry(name.clone()).or_default().push(time);
            }
        }
        println!("  where the hooks' time goes, median of {TIMED} in µs");
        let volhook = time_program(Command::new(&self.volhook).arg("--version"))?;
        let nothing = time_program(&mut Command::new("/bin/true"))?;
        println!("    start      volhook --version {volhook:.0}, /bin/true {nothing:.0}");
        for (stage, fields) in stages {
            let mut fields: Vec<(String, f64)> =
                fields.into_iter().map(|(name, times)| (name, quartiles(times)[1])).collect();
            fields.sort_by(|(_, one), (_, other)| other.total_cmp(one));
            let fields: Vec<String> = fields.iter().map(|(name, time)| format!("{name} {time:.0}")).collect();
            println!("    {stage:10} {}", fields.join(", "));
        }
        self.prepare("d")
    }

    /// Counts the system calls that wait for a disk, on the hooks' whole path.
    fn flushes(&self) -> Result<()> {
        let Some(strace) = process::find("strace") else {
            println!("  disk flushes: not counted; install Debian's package strace");
            return Ok(());
        };
        let file = self.path("strace");
        self.edit_hooks(|hook| {
            let mut args = vec![json!("strace"), json!("-f"), json!("-A"), json!("-o"), json!(file)];
            args.extend(["-e", "trace=fsync,fdatasync,sync,syncfs,sync_file_range,msync"].map(Value::from));
            args.push(hook["path"].take());
            args.extend(hook["args"].as_array().into_iter().flatten().skip(1).cloned());
            hook["path"] = json!(strace);
            hook["args"] = json!(args);
        })?;
        self.time("d")?;
        let trace = fs::read_to_string(&file).context("strace has written nothing")?;
        let ends = trace.lines().filter(|line| line.contains("+++ exited with")).count();
        ensure!(ends >= 2, "strace did not see both hooks:\n{trace}");
        let flushes: Vec<&str> = trace.lines().filter(|line| line.contains("sync")).collect();
        println!("  disk flushes on the hooks' path: {}", flushes.len());
        for line in flushes {
            println!("    {line}");
        }
        self.prepare("d")
    }

    fn edit_hooks(&self, change: impl Fn(&mut Value)) -> Result<()> {
        bundle::edit(&self.path("d"), |config| {
            for entry in config["hooks"].as_object_mut().into_iter().flatten().map(|(_, entries)| entries) {
                entry.as_array_mut().into_iter().flatten().for_each(&change);
            }
        })
    }

    /// Milliseconds of one whole run.
    fn time(&self, name: &str) -> Result<f64> {
        let mut command = self.container(name);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        let status = command.status().with_context(|| format!("cannot run {}", self.runtime))?;
        let time = started.elapsed().as_secs_f64() * 1000.0;
        if !status.success() {
            process::ask(&mut self.container(name)).with_context(|| format!("bundle {name} does not run"))?;
        }
        ensure!(status.success(), "bundle {name} failed once ({status}) and ran when tried again");
        Ok(time)
    }

    fn container(&self, name: &str) -> Command {
        let mut command = Command::new(self.runtime.program());
        command
            .arg("--root")
            .arg(self.path("state"))
            .args(["run", "--bundle"])
            .arg(self.path(name))
            .arg(format!("{name}-{}", self.runs.replace(self.runs.get() + 1)));
        command
    }

    fn volhook_command(&self) -> Command {
        let mut command = Command::new(&self.volhook);
        command
            .env("VOLHOOK_ROOT", self.path("volumes"))
            .env("VOLHOOK_RUN_DIR", self.run_dir.path())
            .env("VOLHOOK_CONFIG", self.path("config.toml"));
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Microseconds from starting a program to its end, median.
fn time_program(command: &mut Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut times = Vec::new();
    for _ in 0..TIMED {
        let started = Instant::now();
        let status = command.status().with_context(|| format!("cannot run {}", process::line(command)))?;
        times.push(started.elapsed().as_secs_f64() * 1_000_000.0);
        ensure!(status.success(), "failed ({status}): {}", process::line(command));
    }
    Ok(quartiles(times)[1])
}
