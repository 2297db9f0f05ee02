//! Scenarios on real runtimes: what a user of runc and crun sees of volhook.
//!
//! Every scenario runs with both runtimes. All need root and fail where they cannot run.

mod claims;
mod copies;
mod copy_up;
mod crashes;
mod drivers;
mod filesystems;
mod full_disk;
mod leases;
mod live;
mod manage;
mod manage_pods;
mod odd_images;
mod pairs;
mod plugins;
mod pod_root;
mod pods;
mod pods_images;
mod renewals;
mod rules;
mod spec_stage;
mod surroundings;
mod targets;
mod trace;
mod volumes;
mod wrapper;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::io::BufRead as _;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use volhook_harness::Bundle;
use volhook_harness::Volhook;

/// Makes a test of each function, once with runc and once with crun.
macro_rules! on_both_runtimes {
    ($($name:ident),* $(,)?) => {
        mod runc {
            $(#[test]
            fn $name() -> anyhow::Result<()> {
                super::$name(volhook_harness::RuntimeKind::Runc)
            })*
        }
        mod crun {
            $(#[test]
            fn $name() -> anyhow::Result<()> {
                super::$name(volhook_harness::RuntimeKind::Crun)
            })*
        }
    };
}
pub(crate) use on_both_runtimes;

/// The text of the newest refusal in the events. crun drops what a hook prints, the events keep it.
pub(crate) fn last_refusal(volhook: &Volhook) -> Result<String> {
    let events = volhook.json(&["events"])?;
    let newest = events.as_array().into_iter().flatten().rev().find(|event| event["kind"] == "refused");
    let text = newest.and_then(|event| event["what"].as_str()).map(str::to_owned);
    text.ok_or_else(|| anyhow::anyhow!("no refusal in {events:#}"))
}

/// Leases as (volume, container).
pub(crate) fn leases(volhook: &Volhook) -> Result<Vec<(String, String)>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let leases = volhook.json(&["lease", "ls"])?;
    Ok(leases.as_array().into_iter().flatten().map(|l| (text(&l["volume"]), text(&l["container"]))).collect())
}

/// The names of all volumes.
pub(crate) fn volumes(volhook: &Volhook) -> Result<Vec<String>> {
    let volumes = volhook.json(&["volume", "ls"])?;
    Ok(volumes
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|v| v["name"].as_str().map(str::to_owned))
        .collect())
}

/// Asserts that a text holds a part, showing both.
#[track_caller]
pub(crate) fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in:\n{text}");
}

/// A process in a mount namespace of its own with a root filesystem: what a hook needs of a container.
pub(crate) fn stand_in(bundle: &Bundle) -> Result<Child> {
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount --bind \"$0\" \"$0\" && echo ready && exec sleep 1000")
        .arg(bundle.rootfs())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a stand-in")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("its output is piped")?).read_line(&mut line)?;
    ensure!(line == "ready\n", "the stand-in said {line:?}");
    Ok(child)
}
