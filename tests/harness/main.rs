//! `volhook harness run`: scripts on the fake runtime and on the real ones.

mod bad_hooks;
mod command_line;
mod differential;
mod document;
mod foreign;
mod volhook;

use anyhow::Result;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use volhook_harness::Output;
use volhook_harness::Program;
use volhook_harness::Volhook;

/// A folder of this crate.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The scripts of a folder, in order.
pub(crate) fn scripts(name: &str) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder(name))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            paths.push(path.to_string_lossy().into_owned());
        }
    }
    paths.sort();
    assert!(!paths.is_empty(), "no scripts in {name}");
    Ok(paths)
}

/// `volhook harness run` with these arguments.
pub(crate) fn harness(args: &[&str]) -> Result<Program> {
    Ok(Program::new(Volhook::new()?.binary()).args(["harness", "run"]).args(args))
}

/// Runs a script that is written to a file of its own.
pub(crate) fn run_text(text: &str, args: &[&str]) -> Result<Output> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("script.txt");
    fs::write(&path, text)?;
    harness(args)?.arg(&path).run()
}

/// The document of `--json`.
pub(crate) fn document(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {output}"))
}
