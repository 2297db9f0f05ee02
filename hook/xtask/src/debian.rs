//! The Debian root filesystem that tests and benchmarks use: built once, kept below cargo's target directory.

use crate::process;
use crate::setup;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::env;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Names another root filesystem to use; the test harness reads it as well.
const VARIABLE: &str = "VOLHOOK_DEBIAN_ROOTFS";

/// Where it lies below the target directory, as the test harness knows too. It is called after what is in it, so
/// that a change of that needs another name and never meets an old one.
const FOLDER: &str = "debian/minbase+sqlite3";

/// What the folders are called in which it is built.
const STAGE: &str = "stage-";

/// The root filesystem's path; it is built if it is not there.
///
/// The set `minbase` is what Debian's own container images have. Nothing of it is left out, because dpkg would
/// miss it; only the host's name and resolver, which mmdebstrap copies, are.
pub(crate) fn rootfs() -> Result<PathBuf> {
    if let Some(path) = env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        ensure!(path.join("var/lib/dpkg/status").is_file(), "{VARIABLE} names no Debian: {}", path.display());
        return Ok(path);
    }
    let finished = process::target_folder()?.join(FOLDER);
    if finished.is_dir() {
        return Ok(finished);
    }
    ensure!(
        process::is_root(),
        "the Debian root filesystem for tests and benchmarks is missing, and only root can build it: please run \
         `cargo xtask setup` as root"
    );
    let parent = finished.parent().context("it has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let lock = File::create(parent.join("lock")).context("cannot create a lock file")?;
    lock.lock().context("cannot wait for another set-up")?;
    // Another one may have built it in the meantime.
    if finished.is_dir() {
        return Ok(finished);
    }
    build(parent, &finished)?;
    Ok(finished)
}

/// Whoever calls it holds the lock.
fn build(parent: &Path, finished: &Path) -> Result<()> {
    println!(
        "The Debian root filesystem for tests and benchmarks is missing: building it in {}, once; this takes half a \
         minute.",
        finished.display()
    );
    setup::need(&[("mmdebstrap", "mmdebstrap")])?;
    for entry in fs::read_dir(parent)?.flatten() {
        // Of a set-up that was killed: nobody else is building.
        if entry.file_name().to_string_lossy().starts_with(STAGE) {
            fs::remove_dir_all(entry.path()).context("cannot remove what an earlier set-up left")?;
        }
    }
    let stage = tempfile::Builder::new().prefix(STAGE).tempdir_in(parent).context("cannot make a folder")?;
    let rootfs = stage.path().join("rootfs");
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--mode=root", "--variant=minbase", "--include=sqlite3"]);
    command.args(["--customize-hook", "rm --force \"$1/etc/hostname\" \"$1/etc/resolv.conf\""]);
    // No suite is named: the sources do that.
    command.arg("").arg(&rootfs).args(sources()?);
    for name in ["http", "https"] {
        if let Some(proxy) = proxy(name)? {
            command.env(format!("{name}_proxy"), proxy);
        }
    }
    if setup::show_and_run(&mut command).is_err() {
        bail!(
            "the Debian root filesystem is not built: mmdebstrap failed, most likely because this machine cannot reach \
             the Debian archive that its apt names; run `cargo xtask setup` again when it can"
        );
    }
    // A power cut after the renaming must not leave a root filesystem of empty files.
    process::run(Command::new("sync").arg("--file-system").arg(&rootfs))?;
    fs::rename(&rootfs, finished).with_context(|| format!("cannot move it to {}", finished.display()))
}

/// The files of the host's apt that name a Debian archive.
fn sources() -> Result<Vec<PathBuf>> {
    let mut found = listed_sources()?;
    if found.is_empty() {
        // What an archive is stands in its lists, which many images come without.
        setup::show_and_run(setup::apt_get().arg("update"))?;
        found = listed_sources()?;
    }
    if found.is_empty() {
        bail!(
            "apt of this host knows no Debian archive that can be reached, so there is nothing to build from"
        );
    }
    Ok(found)
}

fn listed_sources() -> Result<Vec<PathBuf>> {
    let format = ["indextargets", "--format", "$(SOURCESENTRY)", "Created-By: Packages", "Origin: Debian"];
    let listed = process::ask(Command::new("apt-get").args(format))?;
    // FILE:NUMBER.
    let mut files: Vec<PathBuf> =
        listed.lines().filter_map(|line| line.rsplit_once(':')).map(|(file, _)| file.into()).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// The proxy by which the host's apt reaches archives: mmdebstrap does not read its configuration.
fn proxy(protocol: &str) -> Result<Option<String>> {
    let key = format!("Acquire::{protocol}::Proxy");
    let value = process::ask(Command::new("apt-config").args(["dump", "--format", "%v%n", &key]))?;
    let value = value.lines().next().unwrap_or_default();
    Ok((!value.is_empty() && value != "DIRECT").then(|| value.to_owned()))
}
