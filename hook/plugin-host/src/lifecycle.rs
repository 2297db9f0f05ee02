//! What becomes of an installed plugin: it is inspected, verified, rolled back, compiled anew, and removed.

use crate::builtin;
use crate::compiling::CompileError;
use crate::error::PluginError;
use crate::host;
use crate::host::PluginEntry;
use crate::install;
use crate::install::InstallError;
use crate::install::Staging;
use crate::installed;
use crate::store;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::config::Limits;
use volhook_core::decision::PluginInfo;

/// Why an installed plugin was not changed. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// There is no such plugin.
    #[error("no plugin {name:?} is installed")]
    NotInstalled {
        /// The name.
        name: String,
    },
    /// It is part of the binary.
    #[error("plugin {name:?} is built in")]
    BuiltIn {
        /// The name.
        name: String,
    },
    /// It has replaced none.
    #[error("plugin {name:?} has replaced none that could be brought back")]
    NoPrevious {
        /// The name.
        name: String,
    },
    /// The plugin that is meant to be used is not usable.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// It cannot be compiled anew.
    #[error("cannot compile plugin {name:?} anew")]
    Renew {
        /// The name.
        name: String,
        /// Why.
        #[source]
        source: InstallError,
    },
    /// The folder of installed plugins cannot be read or written.
    #[error("cannot change {}", path.display())]
    Write {
        /// What could not be changed.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// An installed plugin in full.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// What the list says of it.
    pub entry: PluginEntry,
    /// What it says of itself.
    pub info: PluginInfo,
    /// Size of its machine code in bytes.
    pub code_size: u64,
    /// The engine and settings that it was compiled for.
    pub profile: String,
    /// SHA-256 of the component that it has replaced, in hexadecimal.
    pub previous: Option<String>,
}

/// Checks an installed plugin through and through: who could change it, that component and machine code are those that
/// were installed, that this volhook can run it, and that it says what it is.
///
/// # Errors
/// [`LifecycleError::NotInstalled`], [`LifecycleError::BuiltIn`], [`LifecycleError::Plugin`] with what is wrong.
pub fn verify(installed: &Path, name: &str, limits: &Limits) -> Result<Inspected, LifecycleError> {
    let folder = opened(installed, name)?;
    let manifest = folder.manifest()?;
    folder.component(&manifest)?;
    let code = folder.code(&manifest, builtin::PROFILE_ID)?;
    let code_size = code.file().metadata().map_or(0, |metadata| metadata.len());
    let host = host::Host::new(installed.to_owned(), limits.clone(), None);
    let info = host.ask_description(name, manifest.kind)?;
    if manifest.info.as_ref().is_some_and(|kept| *kept != info) {
        let reason = "it describes itself otherwise than when it was installed".to_owned();
        return Err(PluginError::Damaged { plugin: name.to_owned(), reason }.into());
    }
    let previous = match installed::open_as(installed, &store::previous(name), name)? {
        Some(folder) => Some(folder.manifest()?.digest),
        None => None,
    };
    let profile = manifest.profile.clone();
    Ok(Inspected { entry: manifest.into(), info, code_size, profile, previous })
}

/// Brings back the plugin that `name` has replaced. It is replaced in turn: doing it twice changes nothing.
///
/// # Errors
/// [`LifecycleError`]; the one to be brought back must be usable.
pub fn rollback(installed: &Path, name: &str, limits: &Limits) -> Result<PluginEntry, LifecycleError> {
    opened(installed, name)?;
    let lock = locked(installed)?;
    let Some(folder) = installed::open_as(installed, &store::previous(name), name)? else {
        return Err(LifecycleError::NoPrevious { name: name.to_owned() });
    };
    let manifest = folder.manifest()?;
    folder.component(&manifest)?;
    folder.code(&manifest, builtin::PROFILE_ID)?;
    let host = host::Host::new(installed.to_owned(), limits.clone(), None);
    host.describe_folder(&folder, name, manifest.kind)?;
    let changed = store::swap(&lock, name).map_err(writing(installed))?;
    if changed { Ok(manifest.into()) } else { Err(LifecycleError::NotInstalled { name: name.to_owned() }) }
}

/// Removes a plugin and the one that it has replaced.
///
/// # Errors
/// [`LifecycleError`]. One that is damaged or not trusted is removed like any other.
pub fn remove(installed: &Path, name: &str) -> Result<(), LifecycleError> {
    if builtin::find(name).is_some() {
        return Err(LifecycleError::BuiltIn { name: name.to_owned() });
    }
    let names = installed::names(installed)?;
    if !names.iter().any(|known| known == name) {
        return Err(LifecycleError::NotInstalled { name: name.to_owned() });
    }
    let lock = locked(installed)?;
    store::take_away(&lock, name).map_err(writing(&installed.join(name)))
}

/// Compiles a plugin anew, and the one that it has replaced, where they were compiled for another engine or settings than
/// this volhook's. Whether any was.
///
/// # Errors
/// [`LifecycleError`]; then it is as it was.
pub fn refresh(
    installed: &Path,
    name: &str,
    limits: &Limits,
    compile: impl Fn(&[u8]) -> Result<Vec<u8>, CompileError>,
) -> Result<bool, LifecycleError> {
    opened(installed, name)?;
    let lock = locked(installed)?;
    let mut any = false;
    for place in [name.to_owned(), store::previous(name)] {
        let Some(folder) = installed::open_as(installed, &place, name)? else { continue };
        let manifest = folder.manifest()?;
        if manifest.profile == builtin::PROFILE_ID {
            continue;
        }
        let component = folder.component(&manifest)?;
        let renew = || {
            install::examine(&component)?;
            let code = install::compiled(&component, &compile)?;
            let staging = Staging::new(installed, &component, &code, manifest.kind)?;
            let info = PluginInfo { name: name.to_owned(), ..staging.describe(limits)? };
            staging.described(info)?;
            store::renew(&lock, staging.path(), &place).map_err(install::writing(installed))
        };
        renew().map_err(|source| LifecycleError::Renew { name: name.to_owned(), source })?;
        any = true;
    }
    Ok(any)
}

/// The names of the folders of installed plugins, whatever state they are in.
///
/// # Errors
/// [`LifecycleError::Plugin`] when the folder cannot be read.
pub fn installed_names(installed: &Path) -> Result<Vec<String>, LifecycleError> {
    let names = installed::names(installed)?;
    Ok(names.into_iter().filter(|name| builtin::find(name).is_none()).collect())
}

fn opened(installed: &Path, name: &str) -> Result<installed::Folder, LifecycleError> {
    if builtin::find(name).is_some() {
        return Err(LifecycleError::BuiltIn { name: name.to_owned() });
    }
    installed::open(installed, name)?.ok_or_else(|| LifecycleError::NotInstalled { name: name.to_owned() })
}

fn locked(installed: &Path) -> Result<store::Lock, LifecycleError> {
    store::lock(installed).map_err(writing(installed))
}

fn writing(path: &Path) -> impl FnOnce(io::Error) -> LifecycleError {
    let path = path.to_owned();
    move |source| LifecycleError::Write { path, source }
}
