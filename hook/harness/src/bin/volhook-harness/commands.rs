//! What the program does: it runs scripts, prints their statements, and is its own helpers.

use crate::output::Failure;
use crate::output::out;
use crate::output::print_json;
use crate::output::style;
use anstyle::AnsiColor;
use anyhow::Context as _;
use anyhow::anyhow;
use serde_json::Value;
use serde_json::json;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use volhook_harness::Volhook;
use volhook_harness::behaviour::Behaviour;
use volhook_harness::run::Failure as Mismatch;
use volhook_harness::script::EXPECTATIONS;
use volhook_harness::script::Engine;
use volhook_harness::script::VERBS;
use volhook_harness::worker;
use volhook_harness::worker::Batch;
use volhook_harness::worker::Done;
use volhook_harness::worker::File;

/// What `run` was asked for.
pub(crate) struct Running<'a> {
    pub(crate) files: &'a [PathBuf],
    pub(crate) engine: Engine,
    pub(crate) behaviour: Option<Behaviour>,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) keeps: bool,
    pub(crate) jobs: usize,
    pub(crate) seconds: u64,
    pub(crate) as_json: bool,
}

/// The words by which this program is its own helpers. They come before the command line is parsed, for what
/// follows is a runtime's.
const RUNTIME: &str = "runtime";
const WORKER: &str = "worker";

/// Is one of the helpers, if the command line says so.
pub(crate) fn helper(args: &[OsString]) -> Option<ExitCode> {
    let rest = args.get(2..).unwrap_or_default();
    match args.get(1)?.to_str()? {
        RUNTIME => Some(volhook_harness::fake::main(&[RUNTIME], rest)),
        WORKER => Some(worker::main(rest)),
        _ => None,
    }
}

/// Reads `NAME=VALUE` of `--set`.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!("{name:?} is no name of a variable"));
    }
    let value = match std::env::current_dir() {
        Ok(folder) if value.starts_with("./") => folder.join(&value[2..]).to_string_lossy().into_owned(),
        _ => value.to_owned(),
    };
    Ok((name.to_owned(), value))
}

/// Runs the scripts. All are read before the first one runs.
pub(crate) fn run(running: &Running<'_>) -> Result<(), Failure> {
    let files =
        running.files.iter().map(File::read).collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?;
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let helper = |word: &str| vec![program.clone(), PathBuf::from(word)];
    let batch = Batch {
        engine: running.engine,
        behaviour: running.behaviour,
        worker: helper(WORKER),
        fake_runtime: helper(RUNTIME),
        // Most hooks are not volhook, and need none.
        volhook: Volhook::program().ok(),
        variables: running.variables.clone(),
        limit: Duration::from_secs(running.seconds),
        jobs: running.jobs,
        keeps: running.keeps,
    };
    let tell = |done: &Done| {
        if !running.as_json {
            // Where nobody reads any more nobody can be told.
            let _ = out(&told(done));
        }
    };
    let done = worker::run_all(&files, &batch, tell)?;
    let count = |verdict: &str| done.iter().filter(|done| done.verdict() == verdict).count();
    let (passed, left_out) = (count("passed"), count("left out"));
    let failed = done.len() - passed - left_out;
    if running.as_json {
        let scripts: Vec<Value> = done.iter().map(document).collect();
        print_json(&json!({ "passed": passed, "failed": failed, "left_out": left_out, "scripts": scripts }))?;
    } else {
        let mut line = format!("{passed} passed, {failed} failed");
        if left_out > 0 {
            let _ = write!(line, ", {left_out} left out");
        }
        out(&format!("{line}\n"))?;
    }
    match (failed, passed) {
        (0, 0) => Err(Failure::usage(anyhow!("none of these scripts is for this runtime"))
            .hint("a script says with `runtime` and `as` on what it holds; see --runtime and --as")),
        (0, _) => Ok(()),
        (failed, _) => Err(anyhow!("{failed} of {} scripts failed", done.len()).into()),
    }
}

fn document(done: &Done) -> Value {
    let mut document = json!({ "file": done.path });
    if let (Some(fields), Value::Object(report)) = (document.as_object_mut(), &done.report) {
        fields.extend(report.clone());
    }
    document["folder"] = json!(done.folder);
    document
}

/// What is told of a script as soon as it is done.
fn told(done: &Done) -> String {
    let report = &done.report;
    let (word, colour) = match done.verdict() {
        "passed" => ("passed", AnsiColor::Green),
        "left out" => ("left out", AnsiColor::Yellow),
        "failed" => ("FAILED", AnsiColor::Red),
        _ => ("BROKEN", AnsiColor::Red),
    };
    let text = |key: &str| report[key].as_str().unwrap_or_default();
    let runtime = match text("runtime") {
        "fake" => format!("fake as {}", text("as")),
        other => other.to_owned(),
    };
    let style = style(colour);
    let mut told = format!("{style}{word}{style:#} {} ({runtime})", done.path.display());
    if let Some(reason) = report["reason"].as_str() {
        let _ = write!(told, ": {reason}");
    }
    told.push('\n');
    for shown in report["shown"].as_array().into_iter().flatten() {
        for line in shown["text"].as_str().unwrap_or_default().lines() {
            let _ = writeln!(told, "  | {line}");
        }
    }
    if !report["failure"].is_null() {
        let _ = write!(told, "{}", Mismatch::from_json(&report["failure"]));
    }
    let left: Vec<&str> =
        report["left_running"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !left.is_empty() {
        let _ = writeln!(told, "  left running, and killed: {}", left.join(", "));
    }
    if let Some(folder) = &done.folder {
        let _ = writeln!(told, "  its folder: {}", folder.display());
    }
    told
}

/// Prints the statements.
pub(crate) fn statements() -> Result<(), Failure> {
    let mut text = String::new();
    for (_, form, about) in VERBS {
        let _ = writeln!(text, "{form}\n    {about}");
        if form.starts_with("expect") {
            for form in EXPECTATIONS {
                let _ = writeln!(text, "    expect {form}");
            }
        }
    }
    text.push_str("\nbefore a command: fails, try; before expect: within 5s; before all: [crun], [!fake], [real], [root]\n");
    out(&text)
}
