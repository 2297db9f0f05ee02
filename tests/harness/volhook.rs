//! What a user of runc and crun sees of volhook, as scripts: on the fake runtime as both, and on both.

use crate::harness;
use crate::scripts;
use anyhow::Result;
use std::time::Duration;

fn all_pass(args: &[&str]) -> Result<()> {
    let files = scripts("scripts/volhook")?;
    let mut all = vec!["--jobs", "2"];
    all.extend(args);
    all.extend(files.iter().map(String::as_str));
    let output = harness(&all)?.deadline(Duration::from_secs(550)).run()?;
    assert_eq!(output.code(), Some(0), "{output}");
    let summary = format!("{} passed, 0 failed\n", files.len());
    assert!(output.stdout.ends_with(&summary), "some were left out: {output}");
    Ok(())
}

#[test]
fn privileged_on_the_fake_runtime_as_runc() -> Result<()> {
    all_pass(&["--runtime", "fake", "--as", "runc"])
}

#[test]
fn privileged_on_the_fake_runtime_as_crun() -> Result<()> {
    all_pass(&["--runtime", "fake", "--as", "crun"])
}

#[test]
fn privileged_on_the_fake_runtime_as_youki() -> Result<()> {
    all_pass(&["--runtime", "fake", "--as", "youki"])
}

#[test]
fn privileged_on_runc() -> Result<()> {
    all_pass(&["--runtime", "runc"])
}

#[test]
fn privileged_on_crun() -> Result<()> {
    all_pass(&["--runtime", "crun"])
}
