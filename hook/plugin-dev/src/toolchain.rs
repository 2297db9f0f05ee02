//! Which compiler builds Rust for WebAssembly; the build script of `hook/plugin-host` includes this file.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// The target of all plugins: it has no imports of its own.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
/// The variable that chooses: `rustup`, `debian` or `auto`.
pub(crate) const VARIABLE: &str = "VOLHOOK_GUEST_TOOLCHAIN";
/// Debian's compiler.
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Where Debian has the sources of the standard library.
const DEBIAN_SOURCES: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";
/// What makes Debian's compiler one for WebAssembly.
pub(crate) const DEBIAN_INSTALL: &str = "apt-get install rustc-web rust-web-src lld-22";

/// A compiler that can build for [`TARGET`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The usual one, which has the target.
    Usual,
    /// Debian's, which has no standard library for the target, but its source; with the linker.
    Debian(PathBuf),
}

/// Why there is no compiler for [`TARGET`].
#[derive(Debug)]
pub(crate) enum NoToolchain {
    /// The variable has another value.
    Variable(String),
    /// The compiler cannot be run.
    Compiler(PathBuf, io::Error),
    /// This compiler lacks the target, and Debian's is not there either.
    Missing(PathBuf),
}

impl fmt::Display for NoToolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(value) => write!(f, "{VARIABLE} is {value:?}: must be rustup, debian or auto"),
            Self::Compiler(rustc, error) => write!(f, "cannot run {}: {error}", rustc.display()),
            Self::Missing(rustc) => write!(
                f,
                "{} has no target {TARGET}, and Debian's compiler is not there either; install either\n  \
                 rustup target add {TARGET}\nor, on Debian,\n  {DEBIAN_INSTALL}",
                rustc.display()
            ),
        }
    }
}

/// Chooses a compiler: `rustc` if it has the target, or else Debian's. `wanted` is the value of [`VARIABLE`].
pub(crate) fn choose(rustc: &Path, wanted: Option<&str>) -> Result<Toolchain, NoToolchain> {
    match wanted.unwrap_or("auto") {
        "rustup" => Ok(Toolchain::Usual),
        "auto" if has_target(rustc)? => Ok(Toolchain::Usual),
        "auto" | "debian" => debian().ok_or_else(|| NoToolchain::Missing(rustc.to_owned())),
        other => Err(NoToolchain::Variable(other.to_owned())),
    }
}

fn has_target(rustc: &Path) -> Result<bool, NoToolchain> {
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|error| NoToolchain::Compiler(rustc.to_owned(), error))?;
    let folder = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success() && Path::new(folder.trim_end()).is_dir())
}

/// Debian's compiler, if all parts of it are installed.
fn debian() -> Option<Toolchain> {
    Command::new(DEBIAN_RUSTC).arg("--version").output().ok()?;
    if !Path::new(DEBIAN_SOURCES).exists() {
        return None;
    }
    linker().map(Toolchain::Debian)
}

/// LLVM's linker for WebAssembly, which Debian names by its version.
fn linker() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/bin")
        .ok()?
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.strip_prefix("wasm-ld-")?.parse().ok()?;
            Some((version, entry.path()))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, path)| path)
}

/// Makes `cargo` use Debian's compiler with its standard library built from source, an option of cargo that is not
/// stable.
pub(crate) fn build_std(cargo: &mut Command, linker: &Path) {
    cargo
        .env("RUSTC", DEBIAN_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
        .arg("-Zbuild-std=std,panic_abort");
}
