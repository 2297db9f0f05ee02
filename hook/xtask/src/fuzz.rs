//! `cargo xtask fuzz`: looks for inputs that break the journal, and for moments at which a killed hook does.

use crate::process;
use crate::setup;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// The crate with the targets, from the workspace's root.
const CRATE: &str = "hook/journal/fuzz";

const TARGETS: [&str; 2] = ["frames", "operations"];

/// What one part of the run came to.
struct Outcome {
    name: String,
    executions: u64,
    /// What broke it, or where that was put.
    found: Vec<String>,
    took: Duration,
}

/// Fuzzes for so many seconds, the building left out.
pub(crate) fn run(seconds: u64) -> Result<()> {
    process::need_root(&format!("fuzz --seconds {seconds}"))?;
    setup::for_containers()?;
    setup::for_tests()?;
    setup::for_fuzzing()?;
    process::run(process::cargo().args(["build", "--workspace"]))?;
    process::run(process::cargo().args(["nextest", "run", "--workspace", "--no-run"]))?;
    let folder = target_folder()?.join("fuzz");
    let programs = build(&folder)?;

    let share = (seconds / (TARGETS.len() as u64 + 1)).max(1);
    let mut outcomes = Vec::new();
    for target in TARGETS {
        outcomes.push(fuzz(target, &programs, &folder, share)?);
    }
    outcomes.push(storm(share)?);

    let mut found = 0;
    println!("{:<12} {:>12} {:>6} {:>8}", "", "executions", "found", "seconds");
    for Outcome { name, executions, found: broken, took } in &outcomes {
        println!("{name:<12} {executions:>12} {:>6} {:>8.1}", broken.len(), took.as_secs_f64());
        found += broken.len();
    }
    for broken in outcomes.iter().flat_map(|outcome| &outcome.found) {
        println!("found: {broken}");
    }
    ensure!(found == 0, "fuzzing found {found} failures; what was seen stands above");
    Ok(())
}

/// The workspace's target folder, wherever cargo was told to have it.
fn target_folder() -> Result<PathBuf> {
    let metadata = process::ask(process::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata is not JSON")?;
    metadata["target_directory"].as_str().map(PathBuf::from).context("cargo metadata names no target folder")
}

/// Builds the targets, and returns the folder of their programs.
fn build(folder: &Path) -> Result<PathBuf> {
    let host = process::host_target()?;
    let mut build = process::cargo();
    build.args(["fuzz", "build", "--fuzz-dir", CRATE, "--target", &host, "--target-dir"]).arg(folder);
    build.args(["--sanitizer", if has_address_sanitizer(&host) { "address" } else { "none" }]);
    // Coverage and sanitizers are unstable flags of rustc; the stable toolchain has them, and with this it takes them.
    build.env("RUSTC_BOOTSTRAP", "1");
    process::run(&mut build)?;
    Ok(folder.join(host).join("release"))
}

/// Whether the toolchain came with the runtime of the address sanitizer; some distributions' do not.
fn has_address_sanitizer(host: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let libraries =
        process::ask(process::command(rustc).args(["--print", "target-libdir", "--target", host]));
    libraries.is_ok_and(|folder| {
        fs::read_dir(folder.trim()).is_ok_and(|files| {
            files.flatten().any(|f| f.file_name().to_string_lossy().ends_with("_rt.asan.a"))
        })
    })
}

/// Runs one target until the time is over or something is found. What it learnt is kept for the next run.
fn fuzz(target: &str, programs: &Path, folder: &Path, seconds: u64) -> Result<Outcome> {
    let [corpus, artifacts] = ["corpus", "artifacts"].map(|kind| folder.join(kind).join(target));
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    if files(&corpus)?.is_empty() {
        sow(&corpus)?;
    }
    let before = files(&artifacts)?;
    let mut command = process::command(programs.join(target));
    command.arg(format!("-max_total_time={seconds}"));
    // libFuzzer's options: what hangs or takes more memory than this is a finding, too.
    command.args([
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-malloc_limit_mb=256",
        "-max_len=2048",
        "-len_control=0",
    ]);
    command.args(["-print_final_stats=1"]).arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.arg(&corpus).stderr(Stdio::piped());
    println!("$ {}", process::line(&command));
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot run {}", process::line(&command)))?;
    let said = BufReader::new(child.stderr.take().context("its output is piped")?);
    let mut executions = 0;
    for line in said.lines() {
        let line = line.context("cannot read what the fuzzer says")?;
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            executions = count.trim().parse().unwrap_or(0);
        }
        // Each new piece of the corpus is a line, of which there are thousands.
        if !line.contains(" NEW ") && !line.contains(" REDUCE ") {
            eprintln!("{line}");
        }
    }
    let status = child.wait().context("cannot wait for the fuzzer")?;
    let mut found: Vec<String> =
        files(&artifacts)?.into_iter().filter(|file| !before.contains(file)).collect();
    if !status.success() && found.is_empty() {
        found.push(format!("{target} failed ({status})"));
    }
    Ok(Outcome { name: target.to_owned(), executions, found, took: start.elapsed() })
}

/// Puts inputs of many lengths into an empty corpus: from nothing, libFuzzer takes hours to get to stories of more than
/// a few records.
fn sow(corpus: &Path) -> Result<()> {
    let mut dice = 1u64;
    for length in (64..2048).step_by(32) {
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            dice.to_le_bytes()[7]
        })
        .take(length)
        .collect();
        let path = corpus.join(format!("seed-{length}"));
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path().display().to_string()).collect())
}

/// Hooks killed at random moments. One execution is one hook.
fn storm(seconds: u64) -> Result<Outcome> {
    let mut command = process::cargo();
    command.args(["nextest", "run", "--workspace", "--profile", "fuzz", "--no-capture", "-E", "test(storm)"]);
    command.env("VOLHOOK_FUZZ_SECONDS", seconds.to_string());
    println!("$ {}", process::line(&command));
    let start = Instant::now();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", process::line(&command)))?;
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    let mut found = Vec::new();
    if !output.status.success() {
        found.push(format!("storm failed ({})", output.status));
    }
    Ok(Outcome { name: "storm".to_owned(), executions: hooks(&said), found, took: start.elapsed() })
}

/// How many hooks the storm says it ran: the numbers in front of `hooks succeeded`, `were refused` and `were killed`.
fn hooks(said: &str) -> u64 {
    let counts = said.lines().filter(|line| line.contains(" hooks succeeded, "));
    counts
        .filter_map(|line| line.split(';').next())
        .flat_map(|line| line.split(','))
        .filter_map(|part| part.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}
