//! Bundles for demo and benchmarks: what the runtime's own `spec` command writes, and a busybox or a root filesystem that
//! is there.

use crate::Runtime;
use crate::process;
use anyhow::Context;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Makes the bundle `folder`, in place of one that may be there. The container runs `args`, and its cgroup has
/// a name that no other container on this host has.
pub(crate) fn make(
    runtime: Runtime,
    folder: &Path,
    args: &[&str],
    annotations: &[(&str, &str)],
) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let bin = folder.join("rootfs/bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    let busybox = process::find("busybox").context("busybox is gone")?;
    fs::copy(&busybox, bin.join("busybox")).context("cannot copy busybox")?;
    for applet in
        process::ask(Command::new(&busybox).arg("--list"))?.lines().filter(|name| *name != "busybox")
    {
        symlink("busybox", bin.join(applet)).with_context(|| format!("cannot link applet {applet}"))?;
    }
    write_config(runtime, folder, args, annotations)
}

/// Makes the bundle `folder` on a root filesystem that is there and may be written to.
pub(crate) fn make_on(
    runtime: Runtime,
    folder: &Path,
    rootfs: &Path,
    args: &[&str],
    annotations: &[(&str, &str)],
) -> Result<()> {
    fs::create_dir(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    write_config(runtime, folder, args, annotations)?;
    edit(folder, |config| config["root"] = json!({ "path": rootfs, "readonly": false }))
}

fn write_config(runtime: Runtime, folder: &Path, args: &[&str], annotations: &[(&str, &str)]) -> Result<()> {
    process::ask(Command::new(runtime.program()).arg("spec").current_dir(folder))?;
    edit(folder, |config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(args);
        for (key, value) in annotations {
            config["annotations"][key] = json!(value);
        }
        let name = folder.to_string_lossy().trim_matches('/').replace(['/', '.'], "-");
        config["linux"]["cgroupsPath"] = json!(format!("/{name}"));
    })
}

/// Changes a bundle's `config.json`.
pub(crate) fn edit(folder: &Path, change: impl FnOnce(&mut Value)) -> Result<()> {
    let path = folder.join("config.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut config =
        serde_json::from_slice(&text).with_context(|| format!("no JSON in {}", path.display()))?;
    change(&mut config);
    fs::write(&path, format!("{config:#}\n")).with_context(|| format!("cannot write {}", path.display()))
}

/// Adds an item to a list in a config, which may not be there yet.
pub(crate) fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}
