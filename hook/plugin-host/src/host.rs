//! Finding plugins by name, and asking them.

use crate::answer;
use crate::api_0_1_0 as api;
use crate::builtin;
use crate::error::PluginError;
use crate::inspect::API_VERSION;
use crate::installed;
use crate::load;
use crate::profile;
use crate::sandbox;
use crate::sandbox::Identity;
use crate::sandbox::Limits;
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;
use serde::Serialize;
use std::cell::OnceCell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;
use volhook_core::decision::AttachRequest;
use volhook_core::decision::Attachment;
use volhook_core::decision::ClaimsRequest;
use volhook_core::decision::CreateRequest;
use volhook_core::decision::Creation;
use volhook_core::decision::PluginInfo;
use volhook_core::decision::PluginKind;
use volhook_core::decision::PolicyGrant;
use volhook_core::decision::Refusal;
use volhook_core::names::shorten;
use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::InstancePre;
use wasmtime::component::Linker;

/// A plugin that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PluginEntry {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: PluginKind,
    /// The version of `volhook:plugin` that it is made for.
    pub api_version: String,
    /// Where it comes from.
    pub source: PluginSource,
    /// SHA-256 of its component, in hexadecimal.
    pub digest: String,
    /// Size of its component in bytes.
    pub size: u64,
}

/// Where a plugin comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginSource {
    /// It is part of the binary.
    Builtin,
    /// An operator installed it.
    Installed,
}

/// All plugins of this host. Making one costs nothing; the engine is made, and a plugin loaded, when first needed.
#[derive(Debug)]
pub struct Host {
    installed: PathBuf,
    engine: OnceCell<Engine>,
    drivers: RefCell<BTreeMap<String, Driver>>,
    policies: RefCell<BTreeMap<String, Policy>>,
}

impl Host {
    /// The built-in plugins and those in the folder `installed`, which need not exist.
    #[must_use]
    pub fn new(installed: PathBuf) -> Self {
        Self { installed, engine: OnceCell::new(), drivers: RefCell::default(), policies: RefCell::default() }
    }

    /// The plugins that can be used, by name. An installed one that is damaged, stale or not trusted is not among them: see
    /// [`Host::unusable`].
    ///
    /// # Errors
    /// [`PluginError::Read`] when the folder of installed plugins cannot be read.
    pub fn list(&self) -> Result<Vec<PluginEntry>, PluginError> {
        let mut entries: Vec<PluginEntry> = builtin::all().iter().map(built_in_entry).collect();
        entries.extend(self.installed()?.into_iter().filter_map(Result::ok));
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// What is wrong with the installed plugins that [`Host::list`] leaves out, by name.
    ///
    /// # Errors
    /// [`PluginError::Read`] when the folder of installed plugins cannot be read.
    pub fn unusable(&self) -> Result<Vec<PluginError>, PluginError> {
        Ok(self.installed()?.into_iter().filter_map(Result::err).collect())
    }

    /// The driver of this name.
    ///
    /// # Errors
    /// [`PluginError::Unknown`] when there is none, and all the others that say why an installed plugin is not usable.
    pub fn driver(&self, name: &str) -> Result<Driver, PluginError> {
        if let Some(driver) = self.drivers.borrow().get(name) {
            return Ok(driver.clone());
        }
        let (plugin, pre) = self.load(name, PluginKind::Driver)?;
        let driver = api::Driver::new(pre).map_err(|error| load_error(name, &error))?;
        let driver = Driver(Rc::new(Loaded { plugin, engine: self.engine()?.clone(), api: driver }));
        self.drivers.borrow_mut().insert(name.to_owned(), driver.clone());
        Ok(driver)
    }

    /// The policy of this name.
    ///
    /// # Errors
    /// [`PluginError::Unknown`] when there is none, and all the others that say why an installed plugin is not usable.
    pub fn policy(&self, name: &str) -> Result<Policy, PluginError> {
        if let Some(policy) = self.policies.borrow().get(name) {
            return Ok(policy.clone());
        }
        let (plugin, pre) = self.load(name, PluginKind::Policy)?;
        let policy = api::Policy::new(pre).map_err(|error| load_error(name, &error))?;
        let policy = Policy(Rc::new(Loaded { plugin, engine: self.engine()?.clone(), api: policy }));
        self.policies.borrow_mut().insert(name.to_owned(), policy.clone());
        Ok(policy)
    }

    fn installed(&self) -> Result<Vec<Result<PluginEntry, PluginError>>, PluginError> {
        let names = installed::names(&self.installed)?;
        let of_built_ins = |name: &String| builtin::find(name).is_none();
        Ok(names
            .into_iter()
            .filter(of_built_ins)
            .filter_map(|name| self.installed_entry(&name).transpose())
            .collect())
    }

    fn installed_entry(&self, name: &str) -> Result<Option<PluginEntry>, PluginError> {
        let Some(folder) = installed::open(&self.installed, name)? else { return Ok(None) };
        let manifest = folder.manifest()?;
        folder.code(&manifest, builtin::PROFILE_ID)?;
        Ok(Some(PluginEntry {
            name: manifest.name,
            kind: manifest.kind,
            api_version: manifest.api_version,
            source: PluginSource::Installed,
            digest: manifest.digest,
            size: manifest.size,
        }))
    }

    /// Loads the plugin of this name and kind.
    fn load(&self, name: &str, kind: PluginKind) -> Result<(Identity, InstancePre<Limits>), PluginError> {
        let (component, built_in) = match builtin::find(name) {
            Some(plugin) if plugin.kind() == kind => {
                let component = load::built_in(self.engine()?, plugin);
                (component.map_err(|error| load_error(name, &error))?, true)
            }
            Some(_) => return Err(self.unknown(name, kind)),
            None => match installed::open(&self.installed, name)? {
                Some(folder) => (self.load_installed(name, kind, &folder)?, false),
                None => return Err(self.unknown(name, kind)),
            },
        };
        let pre = Linker::new(self.engine()?)
            .instantiate_pre(&component)
            .map_err(|error| load_error(name, &error))?;
        Ok((Identity::new(name, built_in), pre))
    }

    fn load_installed(
        &self,
        name: &str,
        kind: PluginKind,
        folder: &installed::Folder,
    ) -> Result<Component, PluginError> {
        let manifest = folder.manifest()?;
        if manifest.kind != kind {
            return Err(self.unknown(name, kind));
        }
        let code = folder.code(&manifest, builtin::PROFILE_ID)?;
        load::installed(self.engine()?, &code).map_err(|error| load_error(name, &error))
    }

    fn unknown(&self, name: &str, kind: PluginKind) -> PluginError {
        // That the folder cannot be read is less to the point than that the plugin is not there.
        let known = self.list().unwrap_or_else(|_| builtin::all().iter().map(built_in_entry).collect());
        let installed =
            known.into_iter().filter(|entry| entry.kind == kind).map(|entry| entry.name).collect();
        PluginError::Unknown { kind, name: shorten(name), installed }
    }

    fn engine(&self) -> Result<&Engine, PluginError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let engine = runtime_engine()
            .map_err(|error| PluginError::Engine { reason: error.root_cause().to_string() })?;
        Ok(self.engine.get_or_init(|| engine))
    }
}

/// An engine that loads code and cannot compile any.
fn runtime_engine() -> wasmtime::Result<Engine> {
    let mut config = profile::config(builtin::PROFILE_ID, builtin::TARGET)?;
    #[cfg(feature = "compile")]
    config.enable_compiler(false);
    load::use_code_in_place(&mut config);
    unblock_trap_signals()?;
    Engine::new(&config)
}

/// A trap of a plugin is a signal that the engine catches. crun starts hooks with all signals blocked, and the
/// kernel kills a process that raises a blocked one.
fn unblock_trap_signals() -> wasmtime::Result<()> {
    let signals: SigSet = [Signal::SIGILL, Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGTRAP]
        .into_iter()
        .collect();
    Ok(signals.thread_unblock()?)
}

fn load_error(name: &str, error: &wasmtime::Error) -> PluginError {
    PluginError::Load { plugin: name.to_owned(), reason: answer::printable(&error.root_cause().to_string()) }
}

fn built_in_entry(plugin: &builtin::BuiltIn) -> PluginEntry {
    PluginEntry {
        name: plugin.name().to_owned(),
        kind: plugin.kind(),
        api_version: API_VERSION.to_owned(),
        source: PluginSource::Builtin,
        digest: plugin.digest().to_owned(),
        size: plugin.size(),
    }
}

/// A loaded plugin.
struct Loaded<A> {
    plugin: Identity,
    engine: Engine,
    api: A,
}

impl<A> Loaded<A> {
    /// Calls the plugin in an instance of its own.
    fn call<T, C>(
        &self,
        call: &'static str,
        run: impl FnOnce(&A, &mut wasmtime::Store<Limits>) -> wasmtime::Result<T>,
        check: impl FnOnce(T) -> Result<C, crate::error::Fault>,
    ) -> Result<C, PluginError> {
        let answer = sandbox::call(&self.engine, &self.plugin, call, |store| run(&self.api, store))?;
        check(answer).map_err(|fault| PluginError::Fault { plugin: self.plugin.name.clone(), call, fault })
    }
}

impl<A> std::fmt::Debug for Loaded<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.plugin.fmt(f)
    }
}

/// A driver. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Driver(Rc<Loaded<api::Driver>>);

impl Driver {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.plugin.name
    }

    /// Whether its answers may depend on what the tenant uses already. Those of the built-in drivers do not, and finding it
    /// out takes longer than making a volume where there are many.
    #[must_use]
    pub fn rations(&self) -> bool {
        builtin::find(self.name()).is_none()
    }

    /// What it is, and its options.
    ///
    /// # Errors
    /// [`PluginError::Fault`] when it gives no usable answer.
    pub fn describe(&self) -> Result<PluginInfo, PluginError> {
        let check = |info| answer::info(info, Some(self.name()));
        self.0.call("describe", api::Driver::describe, check)
    }

    /// How a new volume is to be backed.
    ///
    /// # Errors
    /// [`PluginError::Fault`] when it gives no usable answer.
    pub fn create(&self, request: &CreateRequest) -> Result<Result<Creation, Refusal>, PluginError> {
        self.0.call(
            "create",
            |driver, store| driver.create(store, request),
            |answer| match answer? {
                Ok(creation) => answer::creation(creation).map(Ok),
                Err(refusal) => Ok(Err(answer::refusal(refusal))),
            },
        )
    }

    /// Whether and how a container may hold a volume.
    ///
    /// # Errors
    /// [`PluginError::Fault`] when it gives no usable answer.
    pub fn attach(&self, request: &AttachRequest) -> Result<Result<Attachment, Refusal>, PluginError> {
        self.0.call(
            "attach",
            |driver, store| driver.attach(store, request),
            |answer| match answer {
                Ok(attachment) => answer::attachment(attachment, request).map(Ok),
                Err(refusal) => Ok(Err(answer::refusal(refusal))),
            },
        )
    }
}

/// A policy. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Policy(Rc<Loaded<api::Policy>>);

impl Policy {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.plugin.name
    }

    /// What it is, and its settings.
    ///
    /// # Errors
    /// [`PluginError::Fault`] when it gives no usable answer.
    pub fn describe(&self) -> Result<PluginInfo, PluginError> {
        let check = |info| answer::info(info, Some(self.name()));
        self.0.call("describe", api::Policy::describe, check)
    }

    /// Which volumes a container gets.
    ///
    /// # Errors
    /// [`PluginError::Fault`] when it gives no usable answer.
    pub fn claims(&self, request: &ClaimsRequest) -> Result<Result<PolicyGrant, Refusal>, PluginError> {
        self.0.call(
            "claims",
            |policy, store| policy.claims(store, request),
            |answer| match answer {
                Ok(grant) => answer::grant(grant).map(Ok),
                Err(refusal) => Ok(Err(answer::refusal(refusal))),
            },
        )
    }
}

/// Describes the plugin in `folder` of `installed`, which is not installed yet and has no name.
///
/// # Errors
/// Those of a plugin in use.
pub(crate) fn describe_candidate(
    installed: &Path,
    folder: &str,
    kind: PluginKind,
) -> Result<PluginInfo, PluginError> {
    let host = Host::new(installed.to_owned());
    let found = installed::open_as(installed, folder, installed::CANDIDATE)?;
    let Some(found) = found else { return Err(host.unknown(folder, kind)) };
    let component = host.load_installed(installed::CANDIDATE, kind, &found)?;
    let pre = Linker::new(host.engine()?)
        .instantiate_pre(&component)
        .map_err(|error| load_error(installed::CANDIDATE, &error))?;
    let plugin = Identity::new(installed::CANDIDATE, false);
    let engine = host.engine()?.clone();
    let failed = |error| load_error(installed::CANDIDATE, &error);
    let check = |info| answer::info(info, None);
    match kind {
        PluginKind::Driver => {
            let api = api::Driver::new(pre).map_err(failed)?;
            Loaded { plugin, engine, api }.call("describe", api::Driver::describe, check)
        }
        PluginKind::Policy => {
            let api = api::Policy::new(pre).map_err(failed)?;
            Loaded { plugin, engine, api }.call("describe", api::Policy::describe, check)
        }
    }
}
