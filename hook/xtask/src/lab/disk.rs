//! A host's disk, as it is before its first boot: an ext4 filesystem with an image for containers, directories to adopt, and
//! plugins to install.

use super::operation;
use super::state::Files;
use super::state::State;
use super::state::Text;
use crate::Runtime;
use crate::bundle;
use crate::process;
use anyhow::Context;
use anyhow::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// Sparse.
const SIZE: u64 = 2 << 30;

/// How many directories wait to be adopted.
const FOLDERS: u32 = 60;

/// Makes a disk as a file, in a folder where more may be put, and says what is on it.
pub(super) fn make(disk: &Path, scratch: &Path) -> Result<State> {
    let tree = scratch.join("tree");
    let base = scratch.join("base");
    bundle::make(Runtime::Runc, &base, &["sh", "-c", "@COMMAND@"], &[("@KEY@", "@VALUE@")])?;
    bundle::edit(&base, |config| {
        config["root"] = json!({ "path": "/mnt/rootfs", "readonly": false });
        config["linux"]["cgroupsPath"] = json!("/lab-@ID@");
    })?;
    fs::create_dir(&tree).context("cannot create a folder")?;
    fs::rename(base.join("rootfs"), tree.join("rootfs")).context("cannot move a root filesystem")?;
    fs::rename(base.join("config.json"), tree.join("config.json")).context("cannot move a config.json")?;
    for folder in ["etc", "root", "var", "srv", "home", "tmp"] {
        fs::create_dir(tree.join("rootfs").join(folder)).context("cannot create a folder")?;
    }
    for text in operation::image_files() {
        put(&tree.join("rootfs/app"), &text)?;
    }
    let mut folders = BTreeMap::new();
    for number in 0..FOLDERS {
        let name = format!("d{number}");
        let texts = [("x", 10), ("y/z", 5000)].map(|(path, length)| Text {
            path: path.to_owned(),
            line: format!("folder {number} {path}"),
            length,
        });
        for text in &texts {
            put(&tree.join("folders").join(&name), text)?;
        }
        let files: Files = texts.iter().map(|text| (text.path.clone(), text.content())).collect();
        folders.insert(name, files);
    }
    let plugins = tree.join("plugins");
    fs::create_dir(&plugins).context("cannot create a folder")?;
    let released = process::workspace().join("tests/fixtures/api/0.1.0");
    for (_, file) in operation::PLUGINS {
        fs::copy(released.join(file), plugins.join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    format(disk, SIZE, Some(&tree))?;
    Ok(State { folders, ..State::default() })
}

/// Makes a sparse file with an ext4 filesystem in it, and what is in a folder.
pub(super) fn format(disk: &Path, size: u64, content: Option<&Path>) -> Result<()> {
    let file = File::create_new(disk).with_context(|| format!("cannot create {}", disk.display()))?;
    file.set_len(size).with_context(|| format!("cannot enlarge {}", disk.display()))?;
    let mut mkfs = Command::new(process::find("mkfs.ext4").context("mkfs.ext4 is gone")?);
    mkfs.args(["-q", "-F", "-E", "root_owner=0:0,lazy_itable_init=0"]);
    if let Some(content) = content {
        mkfs.arg("-d").arg(content);
    }
    process::ask(mkfs.arg(disk)).map(drop)
}

fn put(folder: &Path, text: &Text) -> Result<()> {
    let path = folder.join(&text.path);
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text.bytes()));
    made.with_context(|| format!("cannot write {}", path.display()))
}
