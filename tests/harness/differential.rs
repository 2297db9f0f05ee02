//! The same scripts on the fake runtime and on the real one that it acts as: what hooks see, and what becomes of the
//! container, must be the same.

use crate::document;
use crate::harness;
use crate::scripts;
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeMap;

/// What differs from run to run and must: the folder, and pids on the host. Those inside a container are small.
fn neutral(text: &str, folder: &str) -> String {
    let mut neutral = String::new();
    let text = text.replace(folder, "WORK");
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("\"pid\":") {
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let pid = if digits > 2 { "PID" } else { &after[..digits] };
        neutral.push_str(&format!("{before}\"pid\":{pid}"));
        rest = &after[digits..];
    }
    neutral + rest
}

/// What each script showed on a runtime, statement by statement.
fn observations(args: &[&str]) -> Result<BTreeMap<String, Vec<String>>> {
    let mut all = vec!["--json", "--jobs", "2"];
    all.extend(args);
    let files = scripts("scripts/differential")?;
    all.extend(files.iter().map(String::as_str));
    let output = harness(&all)?.deadline(std::time::Duration::from_secs(170)).run()?;
    let report = document(&output);
    let mut observed = BTreeMap::new();
    for script in report["scripts"].as_array().into_iter().flatten() {
        let file = script["file"].as_str().unwrap_or_default().to_owned();
        assert_eq!(script["verdict"], "passed", "{file} with {args:?}: {script:#}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let shown = script["shown"].as_array().into_iter().flatten();
        let folder = shown.clone().map(|shown| text(&shown["text"])).find_map(|text| work_folder(&text));
        let folder = folder.unwrap_or_else(|| "no folder was shown".to_owned());
        let shown =
            shown.map(|shown| format!("line {}: {}", shown["line"], neutral(&text(&shown["text"]), &folder)));
        observed.insert(file, shown.collect());
    }
    assert_eq!(observed.len(), files.len());
    Ok(observed)
}

/// The script's folder, from a text that names its bundle.
fn work_folder(text: &str) -> Option<String> {
    let (before, _) = text.split_once("/work")?;
    let start = before.rfind(|c: char| c.is_whitespace() || c == '"').map_or(0, |at| at + 1);
    Some(format!("{}/work", &before[start..]))
}

fn the_fake_is_as(runtime: &str) -> Result<()> {
    let fake = observations(&["--runtime", "fake", "--as", runtime])?;
    let real = observations(&["--runtime", runtime])?;
    for (file, real) in &real {
        assert_eq!(
            &fake[file], real,
            "{file}: the fake runtime as {runtime} (left) and {runtime} (right) differ"
        );
    }
    let told: usize = real.values().flatten().map(|text| text.matches("\"ociVersion\"").count()).sum();
    assert!(told > 100, "only {told} calls of hooks were compared");
    Ok(())
}

#[test]
fn privileged_the_fake_runtime_is_as_runc() -> Result<()> {
    the_fake_is_as("runc")
}

#[test]
fn privileged_the_fake_runtime_is_as_crun() -> Result<()> {
    the_fake_is_as("crun")
}

/// youki is not compared, but the scripts hold.
#[test]
fn privileged_the_scripts_hold_as_youki() -> Result<()> {
    observations(&["--runtime", "fake", "--as", "youki"]).map(drop)
}

#[test]
fn what_differs_from_run_to_run_is_taken_out() {
    let text = "in /tmp/x-1/work/b\ntold {\"pid\":4711,\"bundle\":\"/tmp/x-1/work/b\"} {\"pid\":1}";
    let folder = work_folder(text).unwrap();
    assert_eq!(folder, "/tmp/x-1/work");
    assert_eq!(neutral(text, &folder), "in WORK/b\ntold {\"pid\":PID,\"bundle\":\"WORK/b\"} {\"pid\":1}");
}
