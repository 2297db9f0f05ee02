//! Installing a plugin: it is examined, compiled in another process, tried once, and put in place at one stroke.

use crate::builtin;
use crate::compiling::CompileError;
use crate::compiling::MAX_COMPONENT_BYTES;
use crate::error::PluginError;
use crate::host;
use crate::host::PluginEntry;
use crate::inspect;
use crate::inspect::API_VERSION;
use crate::inspect::Interface;
use crate::inspect::NotAPlugin;
use crate::installed;
use crate::installed::Manifest;
use crate::store;
use std::fs;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::io;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use tempfile::TempDir;
use volhook_core::config::Limits;
use volhook_core::decision::PluginInfo;
use volhook_core::decision::PluginKind;

/// Why a plugin was not installed. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The file is too large.
    #[error("the component is larger than {} MiB", MAX_COMPONENT_BYTES >> 20)]
    TooLarge,
    /// The file is no plugin.
    #[error("the file is not a plugin: {reason}")]
    NotAPlugin {
        /// What it is instead.
        reason: NotAPlugin,
    },
    /// It does not compile.
    #[error("the component cannot be compiled")]
    Compile(#[source] CompileError),
    /// Its machine code is larger than what may be loaded on a container's way.
    #[error("the component's machine code has {size} bytes, more than {} MiB", installed::MAX_CODE >> 20)]
    CodeTooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// It compiles, but does not say what it is when asked.
    #[error("the component cannot be used")]
    Try(#[source] PluginError),
    /// It has the name of a built-in plugin.
    #[error("the component calls itself {name:?}, as a built-in plugin is called")]
    BuiltInName {
        /// The name.
        name: String,
    },
    /// The state folder cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// What could not be written.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Installs `component` in the folder `installed`, which is made if need be; one of the same name is replaced, and kept
/// for [`rollback`](crate::rollback).
///
/// `compile` is [`compile_in`](crate::compile_in) with a command that starts `volhook-compile`: hostile input may crash the
/// compiler or exhaust memory, and must do so in another process.
///
/// # Errors
/// [`InstallError`].
pub fn install(
    installed: &Path,
    component: &[u8],
    limits: &Limits,
    compile: impl FnOnce(&[u8]) -> Result<Vec<u8>, CompileError>,
) -> Result<PluginEntry, InstallError> {
    let kind = examine(component)?;
    let code = compiled(component, compile)?;
    fs::create_dir_all(installed).map_err(writing(installed))?;
    let lock = store::lock(installed).map_err(writing(installed))?;
    let staging = Staging::new(installed, component, &code, kind)?;
    let info = staging.describe(limits)?;
    if builtin::find(&info.name).is_some() {
        return Err(InstallError::BuiltInName { name: info.name });
    }
    let manifest = staging.described(info)?;
    let kept = store::replace(&lock, staging.path(), &manifest.name);
    kept.map_err(writing(&installed.join(&manifest.name)))?;
    Ok(manifest.into())
}

/// What `component` is.
pub(crate) fn examine(component: &[u8]) -> Result<PluginKind, InstallError> {
    if component.len() > MAX_COMPONENT_BYTES {
        return Err(InstallError::TooLarge);
    }
    match inspect::interface(component).map_err(|reason| InstallError::NotAPlugin { reason })? {
        Interface::Driver => Ok(PluginKind::Driver),
        Interface::Policy => Ok(PluginKind::Policy),
    }
}

/// Its machine code.
pub(crate) fn compiled(
    component: &[u8],
    compile: impl FnOnce(&[u8]) -> Result<Vec<u8>, CompileError>,
) -> Result<Vec<u8>, InstallError> {
    let code = compile(component).map_err(InstallError::Compile)?;
    if code.len() as u64 > installed::MAX_CODE {
        return Err(InstallError::CodeTooLarge { size: code.len() as u64 });
    }
    Ok(code)
}

pub(crate) fn writing(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Write { path, source }
}

/// A plugin's folder that is being built, removed with this value unless it was put in place.
pub(crate) struct Staging {
    folder: TempDir,
    installed: PathBuf,
    manifest: Manifest,
}

impl Staging {
    pub(crate) fn new(
        installed: &Path,
        component: &[u8],
        code: &[u8],
        kind: PluginKind,
    ) -> Result<Self, InstallError> {
        let folder = tempfile::Builder::new().prefix(store::STAGING).tempdir_in(installed);
        let folder = folder.map_err(writing(installed))?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).map_err(writing(folder.path()))?;
        for (name, bytes) in [(installed::COMPONENT, component), (installed::CODE, code)] {
            let path = folder.path().join(name);
            write(&path, bytes).map_err(writing(&path))?;
        }
        let manifest = Manifest {
            format: installed::FORMAT,
            name: installed::CANDIDATE.to_owned(),
            kind,
            api_version: API_VERSION.to_owned(),
            digest: installed::digest(component),
            size: component.len() as u64,
            code_digest: installed::digest(code),
            profile: builtin::PROFILE_ID.to_owned(),
            info: None,
        };
        write_manifest(folder.path(), &manifest)?;
        Ok(Self { folder, installed: installed.to_owned(), manifest })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What the plugin says of itself.
    pub(crate) fn describe(&self, limits: &Limits) -> Result<PluginInfo, InstallError> {
        let folder = self.path().file_name().unwrap_or_default().to_string_lossy();
        host::describe_candidate(&self.installed, &folder, self.manifest.kind, limits)
            .map_err(InstallError::Try)
    }

    /// Gives it the name that it has given itself, and keeps what it says of itself.
    pub(crate) fn described(&self, info: PluginInfo) -> Result<Manifest, InstallError> {
        let name = info.name.clone();
        let manifest = Manifest { name, info: installed::kept(info), ..self.manifest.clone() };
        write_manifest(self.path(), &manifest)?;
        Ok(manifest)
    }
}

fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<(), InstallError> {
    let path = folder.join(installed::MANIFEST);
    serde_json::to_vec_pretty(manifest)
        .map_err(io::Error::from)
        .and_then(|text| write(&path, &text))
        .map_err(writing(&path))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    Ok(volhook_locks::flush(&file)?)
}
