//! A component that is tried without being installed: its author's tests and checks.

use crate::compiling::CompileError;
use crate::error::PluginError;
use crate::host::Asked;
use crate::host::Host;
use crate::host::PluginEntry;
use crate::install;
use crate::install::InstallError;
use crate::installed;
use std::io;
use std::path::Path;
use tempfile::TempDir;
use volhook_core::config::Limits;
use volhook_core::decision::PluginInfo;
use volhook_core::question::Question;

/// A component, installed as [`install`](crate::install()) does it, in a temporary folder of its own that is removed with this
/// value.
#[derive(Debug)]
pub struct Trial {
    host: Host,
    entry: PluginEntry,
    info: PluginInfo,
    code_size: u64,
    folder: TempDir,
}

impl Trial {
    /// Compiles and tries `component`.
    ///
    /// # Errors
    /// Those of an installation.
    pub fn new(
        component: &[u8],
        limits: &Limits,
        compile: impl FnOnce(&[u8]) -> Result<Vec<u8>, CompileError>,
    ) -> Result<Self, InstallError> {
        let cannot = |source: io::Error| InstallError::Write { path: std::env::temp_dir(), source };
        let folder = tempfile::Builder::new().prefix("volhook-trial-").tempdir().map_err(cannot)?;
        let entry = install::install(folder.path(), component, limits, compile)?;
        let code = folder.path().join(&entry.name).join(installed::CODE);
        let code_size = std::fs::metadata(&code).map_err(install::writing(&code))?.len();
        let host = Host::new(folder.path().to_owned(), limits.clone(), None);
        let info = host.ask_description(&entry.name, entry.kind).map_err(InstallError::Try)?;
        Ok(Self { host, entry, info, code_size, folder })
    }

    /// What it would be listed as.
    #[must_use]
    pub fn entry(&self) -> &PluginEntry {
        &self.entry
    }

    /// What it says of itself.
    #[must_use]
    pub fn info(&self) -> &PluginInfo {
        &self.info
    }

    /// Size of its machine code in bytes.
    #[must_use]
    pub fn code_size(&self) -> u64 {
        self.code_size
    }

    /// The folder, which another process can use as that of installed plugins.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Asks it, with the limits on time counted anew.
    ///
    /// # Errors
    /// [`PluginError::Fault`] when it gives no usable answer.
    pub fn ask(&self, question: &Question) -> Result<Asked, PluginError> {
        self.host.ask_afresh(&self.entry.name, self.entry.kind, question)
    }
}
