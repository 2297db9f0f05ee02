//! The standard library for WebAssembly where a compiler has only its source: built once, kept in the user's cache.

use crate::error::BuildError;
use crate::lang::run;
use crate::toolchain;
use crate::toolchain::DEBIAN_RUSTC;
use crate::toolchain::TARGET;
use sha2::Digest as _;
use sha2::Sha256;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// The folder to name with `--sysroot`, made if need be.
pub(crate) fn folder(linker: &Path) -> Result<PathBuf, BuildError> {
    let cache = cache()?;
    let mut ask = Command::new(DEBIAN_RUSTC);
    ask.arg("-vV");
    let version = run(ask, DEBIAN_RUSTC)?;
    let mut name = "sysroot-".to_owned();
    for byte in &Sha256::digest(version.as_bytes())[..8] {
        let _ = write!(name, "{byte:02x}");
    }
    let sysroot = cache.join(name);
    if !sysroot.exists() {
        build(&cache, &sysroot, linker)?;
    }
    Ok(sysroot)
}

/// `$XDG_CACHE_HOME/volhook` (XDG Base Directory Specification).
fn cache() -> Result<PathBuf, BuildError> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .map(|cache| cache.join("volhook"))
        .ok_or_else(|| BuildError::MissingTool {
            tool: "a home directory".to_owned(),
            needed_for: "keeping the standard library that Debian has as source only".to_owned(),
            install: vec!["set HOME or XDG_CACHE_HOME".to_owned()],
        })
}

fn build(cache: &Path, sysroot: &Path, linker: &Path) -> Result<(), BuildError> {
    fs::create_dir_all(cache).map_err(BuildError::io("make", cache))?;
    let work = tempfile::Builder::new()
        .prefix(".building-")
        .tempdir_in(cache)
        .map_err(BuildError::io("write to", cache))?;
    let manifest = "[package]\nname = \"empty\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\
                    [lib]\npath = \"lib.rs\"\n[profile.release]\npanic = \"abort\"\n[workspace]\n";
    crate::kit::write(&work.path().join("Cargo.toml"), manifest)?;
    crate::kit::write(&work.path().join("lib.rs"), "")?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(work.path()).args(["build", "--quiet", "--release", "--target", TARGET]);
    toolchain::build_std(&mut cargo, linker);
    // Without bitcode in it, nothing that is linked with it can be optimised as a whole.
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", "-Cembed-bitcode=yes")
        .env("CARGO_TARGET_DIR", work.path().join("target"));
    run(cargo, "cargo")?;

    let deps = work.path().join("target").join(TARGET).join("release/deps");
    let made = work.path().join("sysroot");
    let libraries = made.join("lib/rustlib").join(TARGET).join("lib");
    fs::create_dir_all(&libraries).map_err(BuildError::io("make", &libraries))?;
    for entry in fs::read_dir(&deps).map_err(BuildError::io("read", &deps))? {
        let path = entry.map_err(BuildError::io("read", &deps))?.path();
        if path.extension().is_some_and(|extension| extension == "rlib") {
            let to = libraries.join(path.file_name().unwrap_or_default());
            fs::copy(&path, &to).map_err(BuildError::io("write", &to))?;
        }
    }
    match fs::rename(&made, sysroot) {
        // Another build was faster.
        Err(_) if sysroot.exists() => Ok(()),
        result => result.map_err(BuildError::io("write", sysroot)),
    }
}
