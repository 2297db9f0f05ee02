//! Plugins in Rust: cargo builds a module for `wasm32-unknown-unknown`, of which a component is made here.

use super::Language;
use super::OwnTests;
use super::fixtures;
use super::run;
use crate::culprit;
use crate::error::BuildError;
use crate::kit;
use crate::project::Project;
use crate::rust_name;
use crate::sysroot;
use crate::toolchain;
use crate::toolchain::DEBIAN_RUSTC;
use crate::toolchain::NoToolchain;
use crate::toolchain::TARGET;
use crate::toolchain::Toolchain;
use serde_json::Value;
use std::borrow::Cow;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use volhook_core::decision::PluginKind;

/// Rust.
pub(crate) struct Rust;

macro_rules! shipped {
    ($path:literal) => {
        include_str!(concat!("../../languages/rust/", $path))
    };
}

const MANIFEST: (&str, &str) = ("Cargo.toml", shipped!("template/Cargo.toml.in"));
const LOCK: (&str, &str) = ("Cargo.lock", shipped!("template/Cargo.lock.in"));

impl Language for Rust {
    fn template(&self, kind: PluginKind) -> Vec<(&'static str, &'static str)> {
        let source = match kind {
            PluginKind::Driver => shipped!("template/driver/lib.rs"),
            PluginKind::Policy => shipped!("template/policy/lib.rs"),
        };
        let own = [MANIFEST, LOCK, ("src/lib.rs", source)];
        own.into_iter().chain(fixtures::of(kind).iter().copied()).collect()
    }

    fn kit(&self, _kind: PluginKind) -> Vec<(&'static str, Cow<'static, str>)> {
        let sdk = kit::rust_sdk().iter().map(|(path, text)| (*path, Cow::Borrowed(*text)));
        let own = [("Cargo.toml", shipped!("kit/Cargo.toml.in")), ("native.rs", shipped!("kit/native.rs"))];
        sdk.chain(own.map(|(path, text)| (path, Cow::Borrowed(text)))).collect()
    }

    fn source(&self) -> &'static str {
        "src/lib.rs"
    }

    fn build(&self, project: &Project, _out: &Path) -> Result<Vec<u8>, BuildError> {
        let mut cargo = cargo(project);
        cargo.args(["rustc", "--lib", "--crate-type", "cdylib", "--release", "--target", TARGET]);
        cargo.args(["--quiet", "--message-format", "json-render-diagnostics"]);
        let mut flags = vec![remapped("CARGO_HOME", ".cargo")];
        match choose()? {
            Toolchain::Usual => {}
            Toolchain::Debian(linker) => {
                let sysroot = sysroot::folder(&linker)?;
                flags.push(Some(format!("--sysroot={}", sysroot.display()).into()));
                cargo.env("RUSTC", DEBIAN_RUSTC).env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
            }
        }
        let flags: Vec<OsString> = flags.into_iter().flatten().collect();
        // The flags of this machine's own programs are not for WebAssembly.
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join(std::ffi::OsStr::new("\u{1f}")));
        let artifact = |message: &Value| {
            let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
            files.into_iter().find(|file| file.ends_with(".wasm")).map(PathBuf::from)
        };
        let file = built(&run(cargo, "cargo")?, artifact)?;
        let module = fs::read(&file).map_err(BuildError::io("read", &file))?;
        culprit::componentize(&module, &rust_name::of_crate(&project.name))
    }

    fn native(&self, project: &Project, _out: &Path) -> Result<Command, BuildError> {
        let mut cargo = cargo(project);
        // Where projects share a target directory, this tells theirs apart.
        cargo.args([
            "build",
            "--example",
            &format!("{}-native", project.name),
            "--quiet",
            "--message-format",
            "json-render-diagnostics",
        ]);
        let artifact = |message: &Value| message["executable"].as_str().map(PathBuf::from);
        built(&run(cargo, "cargo")?, artifact).map(Command::new)
    }

    fn name_problem(&self, name: &str) -> Option<(String, Option<String>)> {
        rust_name::problem(name)
    }

    fn own_tests(&self, project: &Project) -> Result<Option<OwnTests>, BuildError> {
        let mut cargo = cargo(project);
        let output = cargo
            .args(["test", "--quiet", "--no-fail-fast"])
            .output()
            .map_err(|error| super::cannot_run("cargo", error))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let count = |what: &str| -> u64 {
            let results = text.lines().filter(|line| line.starts_with("test result: "));
            let parts = results.flat_map(|line| line.split(['.', ';']));
            parts.filter_map(|part| part.trim().strip_suffix(what)?.trim().parse::<u64>().ok()).sum()
        };
        let (passed, failed) = (count("passed"), count("failed"));
        if !output.status.success() && failed == 0 {
            let status = output.status.to_string();
            let output = format!("{}{text}", String::from_utf8_lossy(&output.stderr));
            return Err(BuildError::Failed { program: "cargo test".to_owned(), status, output });
        }
        let output = if output.status.success() { String::new() } else { text.into_owned() };
        Ok(Some(OwnTests { program: "cargo test".to_owned(), passed, failed, output }))
    }
}

fn cargo(project: &Project) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&project.folder);
    cargo
}

/// The file that cargo's messages say was built last.
fn built(messages: &str, artifact: impl Fn(&Value) -> Option<PathBuf>) -> Result<PathBuf, BuildError> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let artifacts = messages.filter(|message| message["reason"] == "compiler-artifact");
    artifacts.filter_map(|message| artifact(&message)).last().ok_or_else(|| BuildError::NotThePlugin {
        reason: "cargo built no such file: is Cargo.toml as `volhook plugin new` writes it?".to_owned(),
    })
}

/// Keeps where this machine has cargo's sources out of messages of panics, so that a component is the same whoever
/// builds it.
fn remapped(variable: &str, folder: &str) -> Option<OsString> {
    let home = env::var_os(variable)
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(folder)))?;
    let mut flag = OsString::from("--remap-path-prefix=");
    flag.push(home);
    flag.push("=cargo");
    Some(flag)
}

/// A compiler for WebAssembly. Where rustup can get the target, it does.
fn choose() -> Result<Toolchain, BuildError> {
    let rustc = env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    let wanted = env::var(toolchain::VARIABLE).ok();
    match toolchain::choose(&rustc, wanted.as_deref()) {
        Ok(Toolchain::Debian(_)) if wanted.is_none() && rustup_adds_target() => Ok(Toolchain::Usual),
        Ok(toolchain) => Ok(toolchain),
        Err(NoToolchain::Missing(_)) if wanted.is_none() && rustup_adds_target() => Ok(Toolchain::Usual),
        Err(reason) => Err(no_toolchain(reason)),
    }
}

/// Why nothing can be built, with the ways out.
fn no_toolchain(reason: NoToolchain) -> BuildError {
    match reason {
        NoToolchain::Compiler(_, error) => super::cannot_run("rustc", error),
        NoToolchain::Missing(_) => BuildError::MissingTool {
            tool: format!("Rust's target {TARGET}"),
            needed_for: "building plugins in Rust".to_owned(),
            install: vec![
                format!("rustup target add {TARGET}"),
                format!("or, on Debian without rustup: {}", toolchain::DEBIAN_INSTALL),
            ],
        },
        NoToolchain::Variable(_) => BuildError::NotThePlugin { reason: reason.to_string() },
    }
}

fn rustup_adds_target() -> bool {
    Command::new("rustup")
        .args(["target", "add", TARGET])
        .output()
        .is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_target_is_told_with_two_ways_out() {
        let error = no_toolchain(NoToolchain::Missing("rustc".into()));
        assert_eq!(
            error.to_string(),
            "Rust's target wasm32-unknown-unknown is not installed, which building plugins in Rust needs"
        );
        assert_eq!(
            error.hints(),
            [
                "rustup target add wasm32-unknown-unknown",
                "or, on Debian without rustup: apt-get install rustc-web rust-web-src lld-22",
            ]
        );
    }

    #[test]
    fn the_choice_is_one_of_three() {
        let rustc = Path::new("/nonexistent/rustc");
        assert_eq!(toolchain::choose(rustc, Some("rustup")).unwrap(), Toolchain::Usual);
        let error = no_toolchain(toolchain::choose(rustc, Some("clang")).unwrap_err()).to_string();
        assert!(error.contains("must be rustup, debian or auto"), "{error}");
        let error = no_toolchain(toolchain::choose(rustc, None).unwrap_err());
        assert_eq!(error.to_string(), "rustc is not installed, which building plugins in Rust needs");
    }
}
