//! `cargo xtask reference` and `cargo xtask freeze`: what belongs to a version of the plugins' interface besides its WIT.

use crate::process::ask;
use crate::process::cargo;
use crate::process::command;
use crate::process::run as start;
use crate::process::target_folder;
use crate::process::workspace;
use crate::wit::Package;
use crate::wit::frozen;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::fs;
use std::path::Path;

/// The most bytes of a component in the repository.
const LARGEST: usize = 100 << 10;

/// Writes `wit/VERSION/README.md` for each version.
pub(crate) fn references() -> Result<()> {
    let wit = workspace().join("wit");
    for version in frozen::versions(&wit)? {
        let folder = wit.join(&version);
        let file = folder.join("README.md");
        let text = Package::read(&folder)?.reference();
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("wit/{version}/README.md");
    }
    Ok(())
}

/// Releases a version: writes down what it is, and builds the components that show from then on that plugins for it
/// decide as they did.
pub(crate) fn run(version: &str, force: bool) -> Result<()> {
    let wit = workspace().join("wit");
    if let Some(release) = frozen::releases(&wit)?.get(version).filter(|_| !force) {
        bail!(
            "version {version} was released on {release}: what belongs to it stays as it is. Add a version instead \
             (wit/README.md); --force is for the time before the release, when nobody has built a plugin for it"
        );
    }
    frozen::release(&wit, version, ask(command("date").args(["--utc", "+%F"]))?.trim())?;
    println!("wit/frozen.toml");
    references()?;
    start(cargo().args(["build", "--quiet", "--package", "volhook"]))?;
    let volhook = target_folder()?.join("debug/volhook");
    for kind in ["driver", "policy"] {
        build(&volhook, version, kind)
            .with_context(|| format!("cannot make the {kind} of version {version}"))?;
    }
    Ok(())
}

/// Builds `tests/fixtures/api/VERSION/KIND.wasm` from `KIND.rs` there, and records its answers in `KIND.json`.
fn build(volhook: &Path, version: &str, kind: &str) -> Result<()> {
    let folder = format!("tests/fixtures/api/{version}");
    let place = workspace().join(&folder);
    let scratch = tempfile::tempdir()?;
    let project = scratch.path().join("echo");
    ask(command(volhook).args(["plugin", "new", "echo", "--kind", kind, "--path"]).arg(&project))?;
    fs::copy(place.join(kind).with_extension("rs"), project.join("src/lib.rs"))?;
    let made = fs::read_to_string(project.join("plugin.toml"))?;
    ensure!(
        made.contains(&format!("api = {version:?}")),
        "new plugins are made for another version:\n{made}"
    );
    // Outside the repository, so that the build is an author's; what it builds is not kept.
    start(command(volhook).args(["plugin", "build"]).arg(&project).env("CARGO_TARGET_DIR", scratch.path()))?;
    let component = fs::read(project.join("build/echo.wasm"))?;
    ensure!(component.len() < LARGEST, "it has {} bytes, more than {LARGEST}", component.len());
    fs::write(place.join(kind).with_extension("wasm"), &component)?;
    let answers = ask(cargo()
        .args(["run", "--quiet", "--package", "volhook-plugin-host", "--example", "record", "--"])
        .arg(place.join(kind).with_extension("wasm"))
        .arg(place.join(kind).with_extension("json")))?;
    fs::write(place.join(kind).with_extension("json"), answers)?;
    println!("{folder}/{kind}.wasm ({} bytes), {kind}.json", component.len());
    Ok(())
}
