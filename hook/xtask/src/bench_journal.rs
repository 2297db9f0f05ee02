//! `cargo xtask bench journal`: runs the journal's own benchmark and prints its figures as tables.

use crate::process;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::BufRead;
use std::io::BufReader;
use std::process::Stdio;

pub(crate) fn run(rounds: u32, time: u32) -> Result<()> {
    let mut command = process::cargo();
    command
        .args(["run", "--release", "--package", "volhook-journal", "--example", "journal_bench", "--"])
        .args([rounds.to_string(), time.to_string()])
        // Where a state root usually lies, not on a tmpfs.
        .env("BENCH_DIR", std::env::temp_dir())
        .stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {}", process::line(&command)))?;
    let out = child.stdout.take().context("its output is piped")?;
    let mut cycles: BTreeMap<(String, u64), BTreeMap<u64, f64>> = BTreeMap::new();
    let mut history = Vec::new();
    for line in BufReader::new(out).lines() {
        let figure: Value = serde_json::from_str(&line?).context("the benchmark prints JSON lines")?;
        let number = |name: &str| figure[name].as_u64().unwrap_or_default();
        if let Some(time) = figure["us_per_cycle"].as_f64() {
            let engine = figure["engine"].as_str().unwrap_or_default().to_owned();
            cycles.entry((engine, number("live_leases"))).or_default().insert(number("processes"), time);
        } else {
            history.push((number("grants_behind"), figure["us"].as_f64().unwrap_or_default()));
        }
    }
    ensure!(child.wait()?.success(), "the benchmark failed");
    println!("µs per acquire and release of nine leases, all processes together:");
    println!(
        "{:<15} {:>11} {:>11} {:>13} {:>13}",
        "", "live leases", "1 process", "16 processes", "64 processes"
    );
    for ((engine, live), times) in &cycles {
        let cell = |processes| times.get(&processes).map_or("-".to_owned(), |time| format!("{time:.1}"));
        let live = if engine == "bare" { "-".to_owned() } else { live.to_string() };
        println!("{engine:<15} {live:>11} {:>11} {:>13} {:>13}", cell(1), cell(16), cell(64));
    }
    let at = |engine: &str, live: u64, processes: u64| {
        cycles
            .get(&(engine.to_owned(), live))
            .and_then(|times| times.get(&processes))
            .copied()
            .unwrap_or(f64::NAN)
    };
    println!(
        "10,000 live leases against 10: {:.2} (aim: at most 1.2)",
        at("journal", 10_000, 1) / at("journal", 10, 1)
    );
    println!(
        "rate against the bare loop's with 64 processes: {:.2} (aim: at least 0.8)",
        at("bare", 10, 64) / at("journal", 10, 64)
    );
    for (grants, time) in history {
        println!("open and look up one container, {grants} grants behind: {time:.1} µs");
    }
    Ok(())
}
