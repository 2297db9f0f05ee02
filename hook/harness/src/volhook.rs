//! Drives the `volhook` binary, with state, run directory and configuration of its own.

use crate::bundle::Bundle;
use crate::output::Output;
use crate::output::Program;
use crate::runtime::Runtime;
use crate::runtime::RuntimeKind;
use crate::scratch;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use tempfile::TempDir;

/// The variable that names the binary to test.
const BINARY: &str = "VOLHOOK_BINARY";

/// The binary and the folders that it works in, removed on drop.
#[derive(Debug)]
pub struct Volhook {
    binary: PathBuf,
    folder: TempDir,
}

impl Volhook {
    /// A fresh state root, run directory and empty configuration for [`program`](Self::program).
    ///
    /// # Errors
    /// When there is no binary or the folders cannot be made.
    pub fn new() -> Result<Self> {
        let binary = Self::program()?;
        let folder = scratch::folder("state")?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
            .context("cannot open volhook's folder to containers in user namespaces")?;
        let volhook = Self { binary, folder };
        volhook.configure("")?;
        Ok(volhook)
    }

    /// The absolute path of the binary named by the variable `VOLHOOK_BINARY`, or else of the one that lies beside this program,
    /// or, as cargo puts it, a folder above a running test.
    ///
    /// # Errors
    /// When there is none.
    pub fn program() -> Result<PathBuf> {
        if let Some(path) = env::var_os(BINARY) {
            let path = PathBuf::from(path);
            return path.canonicalize().with_context(|| format!("{BINARY} names {}", path.display()));
        }
        // A test lies in target/PROFILE/deps, the binary in target/PROFILE.
        let own = env::current_exe().context("cannot tell which program this is")?;
        for folder in own.ancestors().skip(1).take(2) {
            let path = folder.join("volhook");
            if path.is_file() {
                return Ok(path);
            }
        }
        bail!(
            "no volhook binary beside {}: run `cargo build --workspace --bins`, or set {BINARY}",
            own.display()
        )
    }

    /// The binary's absolute path.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The folder that holds all of its folders: nothing of volhook's lies elsewhere.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The state root (`--root`).
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder().join("root")
    }

    /// The run directory (`--run-dir`).
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.folder().join("run")
    }

    /// The configuration file (`--config`).
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder().join("config.toml")
    }

    /// Replaces the configuration file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, text: &str) -> Result<()> {
        fs::write(self.config(), text).context("cannot write volhook's configuration")
    }

    /// The three variables that name its folders, as `bundle install` puts them into hook entries.
    #[must_use]
    pub fn env(&self) -> [(&'static str, String); 3] {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        [
            ("VOLHOOK_ROOT", text(self.root())),
            ("VOLHOOK_RUN_DIR", text(self.run_dir())),
            ("VOLHOOK_CONFIG", text(self.config())),
        ]
    }

    /// The command line for any subcommand, to be changed before it is run.
    pub fn command(&self, args: &[&str]) -> Program {
        Program::new(&self.binary)
            .arg("--root")
            .arg(self.root())
            .arg("--run-dir")
            .arg(self.run_dir())
            .arg("--config")
            .arg(self.config())
            .args(args)
    }

    /// Runs a subcommand.
    ///
    /// # Errors
    /// When the binary cannot be run or does not end in time. A failing exit status is no error.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        self.command(args).run()
    }

    /// Runs a subcommand that must succeed, with `--json`, and returns the document.
    ///
    /// # Errors
    /// When the binary cannot be run or does not end in time.
    ///
    /// # Panics
    /// When it fails or prints something else than JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        Ok(self.command(args).arg("--json").run()?.json())
    }

    /// Calls `volhook hook STAGE` as a runtime would, with `state` on standard input.
    ///
    /// # Errors
    /// When the binary cannot be run or does not end in time.
    pub fn hook(&self, stage: &str, state: impl Into<Vec<u8>>) -> Result<Output> {
        self.command(&["hook", stage]).stdin(state).run()
    }

    /// Installs the hooks in a bundle, at the stage `prestart`, with a timeout that no host is too busy for.
    ///
    /// # Errors
    /// When the binary cannot be run or does not end in time.
    pub fn install(&self, bundle: &Bundle) -> Result<Output> {
        self.command(&["bundle", "install", "--timeout", "250"]).arg(bundle.path()).run()
    }

    /// A runtime behind `volhook runtime`.
    ///
    /// # Errors
    /// As [`Runtime::wrapped`].
    pub fn wrapped_runtime(&self, kind: RuntimeKind) -> Result<Runtime> {
        let env = self.env();
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Runtime::wrapped(kind, &[self.binary.as_path(), Path::new("runtime")], &env)
    }
}
