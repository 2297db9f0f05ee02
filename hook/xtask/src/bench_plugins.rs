//! `cargo xtask bench plugins`: what a decision costs, in the built-in plugins and in each language in which plugins are written,
//! beside the same decision by an ordinary program that is started for it.
//!
//! Each figure is of fresh processes, all interleaved in a new random order each round.

use crate::figures::shuffle;
use crate::figures::warn_of_load;
use crate::process;
use crate::process::ask;
use crate::setup;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

const LANGUAGES: [&str; 4] = ["rust", "c", "js", "python"];

/// What is measured, and what is needed for it.
const PROGRAMS: [&str; 3] = ["volhook", "volhook-dev", "volhook-compile"];

/// Decisions in one process, of which the first is a cold one.
const TIMES: &str = "20";

pub(crate) fn run(rounds: usize) -> Result<()> {
    setup::for_plugins()?;
    let target = setup::for_release()?;
    let bench = Bench::new(&process::build_release(&PROGRAMS, &target)?)?;
    let variants = bench.variants()?;
    warn_of_load();
    bench.compare(&variants, rounds)?;
    bench.author()
}

struct Bench {
    folder: TempDir,
    /// Where componentize-qjs and componentize-py are.
    tools: PathBuf,
}

/// Something that decides, and the question that it is asked.
struct Variant {
    name: String,
    command: Command,
    question: Value,
    /// Whether it says itself what its decisions took; otherwise its whole run is one.
    is_sandboxed: bool,
}

#[derive(Default)]
struct Times {
    cold: Vec<Duration>,
    warm: Vec<Duration>,
    process: Vec<Duration>,
}

impl Bench {
    fn new(built: &[PathBuf]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("volhook-bench-").tempdir();
        let folder = folder.context("cannot make a temporary folder")?;
        for (program, built) in PROGRAMS.iter().zip(built) {
            fs::copy(built, folder.path().join(program))
                .with_context(|| format!("cannot copy the {program} binary"))?;
        }
        // All decisions of one process share that time, and here there are more of them than in a start.
        fs::write(folder.path().join("config.toml"), "[limits]\ntime = 60000\n")
            .context("cannot write a configuration")?;
        let tools = process::target_folder()?.join("tools");
        Ok(Self { folder, tools })
    }

    fn volhook(&self, args: &[&str]) -> Command {
        self.program("volhook", args)
    }

    fn program(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.folder.path().join(name));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("VOLHOOK_TOOLS", &self.tools)
            .env("VOLHOOK_ROOT", self.folder.path().join("root"))
            .env("VOLHOOK_CONFIG", self.folder.path().join("config.toml"));
        command
    }

    /// Makes, builds and installs a plugin in each language, and lists all that decides.
    fn variants(&self) -> Result<Vec<Variant>> {
        let decide = |kind: &str, name: &str| {
            let plugins = self.folder.path().join("root/plugins");
            let mut command = self.program("volhook-dev", &["decide", "--times", TIMES]);
            command.arg(plugins).args([kind, name]);
            command
        };
        let attach = json!({ "call": "attach", "request": {
            "volume": "v", "options": [["mode", "0755"], ["sharing", "shared"]], "labels": [],
            "container": { "id": "c1", "tenant": "default", "pod": null },
            "holders": [], "access": "read-write", "settings": [],
        }});
        let claims = json!({ "call": "claims", "request": {
            "container": { "id": "c1", "tenant": "default", "pod": "p" }, "rootfs": [], "settings": [],
            "pod": null, "no_overlay": null,
        }});
        let mut variants = vec![
            Variant {
                name: "built-in local, attach".to_owned(),
                command: decide("driver", "local"),
                question: attach.clone(),
                is_sandboxed: true,
            },
            Variant {
                name: "built-in universal, claims".to_owned(),
                command: decide("policy", "universal"),
                question: claims,
                is_sandboxed: true,
            },
        ];
        for language in LANGUAGES {
            let name = format!("bench-{language}");
            ask(&mut self.volhook(&["plugin", "new", &name, "--lang", language]))?;
            ask(&mut self.volhook(&["plugin", "build", &name]))?;
            let component = format!("{name}/build/{name}.wasm");
            ask(&mut self.volhook(&["plugin", "install", &component]))?;
            let inspected = ask(&mut self.volhook(&["plugin", "inspect", &name, "--json"]))?;
            let inspected: Value =
                serde_json::from_str(&inspected).context("no JSON of an installed plugin")?;
            println!(
                "{language}: component {} KB, machine code {} KB",
                inspected["size"].as_u64().unwrap_or_default() / 1000,
                inspected["code_size"].as_u64().unwrap_or_default() / 1000,
            );
            variants.push(Variant {
                name: format!("{language}, attach"),
                command: decide("driver", &name),
                question: attach.clone(),
                is_sandboxed: true,
            });
            // It prints how the native runner is started.
            let native = ask(&mut self.volhook(&["plugin", "native", &name]))?;
            let mut command = Command::new("sh");
            command.args(["-c", native.trim()]).current_dir(self.folder.path());
            variants.push(Variant {
                name: format!("{language}, as a program"),
                command,
                question: attach.clone(),
                is_sandboxed: false,
            });
        }
        let mut nothing = Command::new("/bin/true");
        nothing.current_dir(self.folder.path());
        variants.push(Variant {
            name: "/bin/true".to_owned(),
            command: nothing,
            question: Value::Null,
            is_sandboxed: false,
        });
        Ok(variants)
    }

    fn compare(&self, variants: &[Variant], rounds: usize) -> Result<()> {
        let mut times: Vec<Times> = variants.iter().map(|_| Times::default()).collect();
        let mut order: Vec<usize> = (0..variants.len()).collect();
        for round in 0..=rounds {
            shuffle(&mut order);
            for index in &order {
                let mut of_round = Times::default();
                variants[*index].run(&mut of_round)?;
                // The first round is a warm-up.
                if round > 0 {
                    times[*index].cold.extend(of_round.cold);
                    times[*index].warm.extend(of_round.warm);
                    times[*index].process.extend(of_round.process);
                }
            }
        }
        println!(
            "\nµs, of {rounds} processes each       cold p50   p99   warm p50   p99   whole process p50   p99"
        );
        for (variant, times) in variants.iter().zip(times) {
            let [cold, warm, process] = [times.cold, times.warm, times.process].map(percentiles);
            println!("{:32} {cold:>14} {warm:>16} {process:>24}", variant.name);
        }
        Ok(())
    }

    /// How long an author waits for the first green test.
    fn author(&self) -> Result<()> {
        println!(
            "\nseconds from `plugin new` to a passed `plugin test`: the first time, and with what that has built"
        );
        for language in LANGUAGES {
            let name = format!("first-{language}");
            let begin = Instant::now();
            ask(&mut self.volhook(&["plugin", "new", &name, "--lang", language]))?;
            ask(&mut self.volhook(&["plugin", "test", &name]))?;
            let first = begin.elapsed();
            let begin = Instant::now();
            ask(&mut self.volhook(&["plugin", "test", &name]))?;
            println!("{language:10} {:6.1} {:6.1}", first.as_secs_f64(), begin.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

impl Variant {
    fn run(&self, times: &mut Times) -> Result<()> {
        let mut command = Command::new(self.command.get_program());
        command.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        let begin = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", process::line(&command)))?;
        if let Some(mut stdin) = child.stdin.take() {
            // /bin/true does not read it.
            let _ = writeln!(stdin, "{}", self.question);
        }
        let output = child.wait_with_output().context("cannot wait for a decision")?;
        let took = begin.elapsed();
        ensure!(output.status.success(), "failed ({}): {}", output.status, process::line(&command));
        if !self.is_sandboxed {
            times.process.push(took);
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut nanos = text.lines().map(|line| line.parse().map(Duration::from_nanos));
        times.cold.push(nanos.next().context("no figure of a decision")??);
        for warm in nanos {
            times.warm.push(warm?);
        }
        times.process.push(took);
        Ok(())
    }
}

/// The 50th and the 99th percentile in microseconds.
fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1));
    match (at(50), at(99)) {
        (Some(p50), Some(p99)) => format!("{} {:>5}", p50.as_micros(), p99.as_micros()),
        _ => "-".to_owned(),
    }
}
