//! Measures what a container costs the journal, at several numbers of live leases and of processes at once, beside the
//! bare minimum and beside SQLite. Prints JSON lines.
//!
//! A cycle is a container's life with nine leases, which is the work of two hooks, each with a handle of its own as it is a
//! process of its own: prestart looks without the lock, then locks, looks again and appends the plan and the grant,
//! unlocks, locks, appends that they are mounted, unlocks; poststop looks without the lock, then locks, looks again and
//! appends that they are given back, unlocks. Making the records and turning them into bytes is part of it, starting a
//! process is not. The bare loop beside it opens files as often, and locks, appends as many bytes, and unlocks as
//! often, three times a cycle; it looks at nothing, and its bytes are ready. `bare-records` is the same loop with bytes that are
//! made as the journal's are: what it takes longer is the benchmark's and the codec's part. `to_bare` is the bare loop's time by the engine's, in the same round:
//! the part of the bare loop's rate that the engine reaches. All processes use one folder; a figure is the wall clock by
//! the number of cycles that all of them did.
//!
//! `cargo run --release --example journal_bench [ROUNDS [MILLISECONDS]]`; it starts itself again as workers. The folder
//! `BENCH_DIR` says where the files go, `BENCH_ENGINES` (`journal,bare,…`) which engines are measured, and
//! `BENCH_LIVE` and `BENCH_PROCESSES` (`10,1000`) at which numbers; the latter leaves the look at a long history out.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails has nothing to clean up")]

#[path = "journal_bench/rivals.rs"]
mod rivals;
#[path = "journal_bench/work.rs"]
mod work;

use serde_json::json;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use work::Engine;

const LIVE: [usize; 3] = [10, 1_000, 10_000];
const PROCESSES: [usize; 3] = [1, 16, 64];
const ENGINES: [&str; 5] = ["bare", "bare-records", "journal", "sqlite-normal", "sqlite-full"];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == "worker") {
        return worker(&args[2], Path::new(&args[3]), args[4].parse().unwrap());
    }
    let number = |place: usize, default: usize| args.get(place).map_or(default, |arg| arg.parse().unwrap());
    let rounds = number(1, 7);
    let time = Duration::from_millis(number(2, 400) as u64);
    let root = tempfile::tempdir_in(std::env::var_os("BENCH_DIR").unwrap_or_else(|| ".".into())).unwrap();
    cycles(root.path(), rounds, time);
    if std::env::var_os("BENCH_PROCESSES").is_none() {
        history(root.path(), rounds);
    }
}

/// Microseconds per cycle of all processes together, by engine, number of live leases and of processes.
fn cycles(root: &Path, rounds: usize, time: Duration) {
    let mut folders = Vec::new();
    let wanted = std::env::var("BENCH_ENGINES").unwrap_or_else(|_| ENGINES.join(","));
    for engine in ENGINES.into_iter().filter(|engine| wanted.split(',').any(|name| name == *engine)) {
        for live in chosen("BENCH_LIVE", &LIVE) {
            // A bare append does not know what is live.
            if folders.iter().any(|(there, _, _)| engine.starts_with("bare") && *there == engine) {
                continue;
            }
            let folder = root.join(format!("{engine}-{live}"));
            std::fs::create_dir(&folder).unwrap();
            Engine::open(engine, &folder).fill(live / 9 + usize::from(live % 9 > 0));
            folders.push((engine, live, folder));
        }
    }
    // Every round measures everything once, so that what else the machine does hits all alike.
    let processes = chosen("BENCH_PROCESSES", &PROCESSES);
    let mut figures = vec![vec![Vec::new(); processes.len()]; folders.len()];
    for _ in 0..rounds {
        for (place, processes) in processes.iter().enumerate() {
            for ((engine, _, folder), figures) in folders.iter().zip(&mut figures) {
                figures[place].push(round(engine, folder, *processes, time));
            }
        }
    }
    let bare = folders.iter().position(|(engine, _, _)| *engine == "bare");
    for (place, processes) in processes.into_iter().enumerate() {
        let bare = bare.map(|bare| figures[bare][place].clone());
        for ((engine, live, _), figures) in folders.iter().zip(&mut figures) {
            let to_bare = bare.as_ref().map(|bare| {
                let mut ratios: Vec<_> =
                    bare.iter().zip(&figures[place]).map(|(bare, us)| bare / us * 10.0).collect();
                spread(&mut ratios).1 / 10.0
            });
            let (low, median, high) = spread(&mut figures[place]);
            let figure = json!({
                "what": "a container's life with nine leases", "engine": engine, "live_leases": live,
                "processes": processes, "rounds": rounds, "us_per_cycle": median, "us_low": low,
                "us_high": high, "to_bare": to_bare,
            });
            println!("{figure}");
        }
    }
}

/// The numbers in the environment variable `name`, or `otherwise`.
fn chosen(name: &str, otherwise: &[usize]) -> Vec<usize> {
    match std::env::var(name) {
        Ok(text) => text.split(',').map(|number| number.parse().unwrap()).collect(),
        Err(_) => otherwise.to_vec(),
    }
}

/// Lets `processes` workers run for a while and returns the microseconds of wall clock per cycle of any of them.
fn round(engine: &str, folder: &Path, processes: usize, time: Duration) -> f64 {
    let mut workers: Vec<Worker> =
        (0..processes).map(|number| Worker::start(engine, folder, number)).collect();
    // Every worker has said that it is ready before any is told to go.
    workers.iter_mut().for_each(Worker::go);
    let begin = Instant::now();
    std::thread::sleep(time);
    let mut cycles = 0;
    for worker in &mut workers {
        drop(worker.child.stdin.take());
    }
    let mut elapsed = begin.elapsed();
    for worker in &mut workers {
        let mut line = String::new();
        worker.out.read_line(&mut line).unwrap();
        cycles += line.trim().parse::<u64>().unwrap();
        elapsed = begin.elapsed();
    }
    for mut worker in workers {
        assert!(worker.child.wait().unwrap().success());
    }
    elapsed.as_secs_f64() * 1e6 / cycles as f64
}

struct Worker {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Worker {
    fn start(engine: &str, folder: &Path, number: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["worker", engine])
            .arg(folder)
            .arg(number.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut String::new()).unwrap();
        Self { child, out }
    }

    fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

/// Works from a line on stdin until its end, and prints the number of cycles.
fn worker(engine: &str, folder: &Path, number: usize) {
    let mut engine = Engine::open(engine, folder);
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = over.clone();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        seen.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let mut cycles = 0;
    while !over.load(std::sync::atomic::Ordering::Relaxed) {
        engine.cycle(number, cycles);
        cycles += 1;
    }
    println!("{cycles}");
}

/// Microseconds to open a journal and look up one container, with a million grants of history and with none.
fn history(root: &Path, rounds: usize) {
    let folders: Vec<(usize, PathBuf)> = [0, 1_000_000]
        .map(|grants| {
            let folder = root.join(format!("history-{grants}"));
            work::write_history(&folder, grants);
            (grants, folder)
        })
        .into();
    let mut figures = vec![Vec::new(); folders.len()];
    for _ in 0..rounds * 50 {
        for ((_, folder), figures) in folders.iter().zip(&mut figures) {
            let begin = Instant::now();
            work::look(folder);
            figures.push(begin.elapsed().as_secs_f64() * 1e6);
        }
    }
    for ((grants, folder), figures) in folders.iter().zip(&mut figures) {
        let bytes: u64 =
            std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        let (low, median, high) = spread(figures);
        let figure = json!({
            "what": "open and look up one container", "grants_behind": grants, "bytes": bytes,
            "us": median, "us_low": low, "us_high": high,
        });
        println!("{figure}");
    }
}

/// The 10th, 50th and 90th percentile, rounded to tenths.
fn spread(figures: &mut [f64]) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    let at = |percent: usize| (figures[(figures.len() - 1) * percent / 100] * 10.0).round() / 10.0;
    (at(10), at(50), at(90))
}
