//! Finding plugins by name, and asking them.

use crate::answer;
use crate::api_0_1_0 as api;
use crate::builtin;
use crate::error::Fault;
use crate::error::PluginError;
use crate::inspect::API_VERSION;
use crate::installed;
use crate::installed::Manifest;
use crate::load;
use crate::profile;
use crate::sandbox;
use crate::sandbox::Identity;
use jiff::Timestamp;
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;
use serde::Serialize;
use std::cell::OnceCell;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;
use volhook_core::config::Limits;
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
use volhook_core::question::Answer;
use volhook_core::question::Consumed;
use volhook_core::question::Decision;
use volhook_core::question::Outcome;
use volhook_core::question::Question;
use wasmtime::Engine;
use wasmtime::component::Component;
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

impl From<Manifest> for PluginEntry {
    fn from(manifest: Manifest) -> Self {
        Self {
            name: manifest.name,
            kind: manifest.kind,
            api_version: manifest.api_version,
            source: PluginSource::Installed,
            digest: manifest.digest,
            size: manifest.size,
        }
    }
}

/// All plugins of this host. Making one costs nothing; the engine is made, and a plugin loaded, when first needed.
pub struct Host {
    installed: PathBuf,
    rules: Rc<Rules>,
    engine: OnceCell<Engine>,
    loaded: RefCell<BTreeMap<(PluginKind, String), Rc<Loaded>>>,
}

/// What holds for every call.
struct Rules {
    limits: Limits,
    observer: Option<Observer>,
}

/// Who is told of decisions.
pub struct Observer {
    /// Whether of all; otherwise of those alone that a plugin failed to make.
    pub all: bool,
    /// Told after each call, before its caller knows.
    pub tell: Box<dyn Fn(&Decision)>,
}

impl Host {
    /// The built-in plugins and those in the folder `installed`, which need not exist.
    #[must_use]
    pub fn new(installed: PathBuf, limits: Limits, observer: Option<Observer>) -> Self {
        let rules = Rc::new(Rules { limits, observer });
        Self { installed, rules, engine: OnceCell::new(), loaded: RefCell::default() }
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
        self.plugin(name, PluginKind::Driver).map(Driver)
    }

    /// The policy of this name.
    ///
    /// # Errors
    /// [`PluginError::Unknown`] when there is none, and all the others that say why an installed plugin is not usable.
    pub fn policy(&self, name: &str) -> Result<Policy, PluginError> {
        self.plugin(name, PluginKind::Policy).map(Policy)
    }

    /// Asks the plugin of this name and kind anything, and says what it took.
    ///
    /// # Errors
    /// As [`Host::driver`], and [`PluginError::Fault`] when it gives no usable answer.
    pub fn ask(&self, name: &str, kind: PluginKind, question: &Question) -> Result<Asked, PluginError> {
        self.plugin(name, kind)?.ask(question)
    }

    /// As [`Host::ask`], with the processor time of earlier calls forgotten.
    pub(crate) fn ask_afresh(
        &self,
        name: &str,
        kind: PluginKind,
        question: &Question,
    ) -> Result<Asked, PluginError> {
        let plugin = self.plugin(name, kind)?;
        plugin.identity.forget_time(&self.rules.limits);
        plugin.ask(question)
    }

    /// What the plugin of this name and kind says of itself when it is asked now.
    pub(crate) fn ask_description(&self, name: &str, kind: PluginKind) -> Result<PluginInfo, PluginError> {
        self.plugin(name, kind)?.ask_description()
    }

    /// What the plugin `name` in `folder`, which is not the one that is used, says of itself.
    pub(crate) fn describe_folder(
        &self,
        folder: &installed::Folder,
        name: &str,
        kind: PluginKind,
    ) -> Result<PluginInfo, PluginError> {
        let (component, manifest) = self.load_installed(name, kind, folder)?;
        let identity = Identity::new(Some(name), &manifest.digest, false, &self.rules.limits);
        self.ready(kind, &component, identity, None)?.ask_description()
    }

    fn plugin(&self, name: &str, kind: PluginKind) -> Result<Rc<Loaded>, PluginError> {
        let key = (kind, name.to_owned());
        if let Some(loaded) = self.loaded.borrow().get(&key) {
            return Ok(Rc::clone(loaded));
        }
        let limits = &self.rules.limits;
        let loaded = match builtin::find(name) {
            Some(plugin) if plugin.kind() == kind => {
                let component = load::built_in(self.engine()?, plugin);
                let component = component.map_err(|error| load_error(name, &error))?;
                self.ready(kind, &component, Identity::new(Some(name), plugin.digest(), true, limits), None)?
            }
            Some(_) => return Err(self.unknown(name, kind)),
            None => match installed::open(&self.installed, name)? {
                Some(folder) => {
                    let (component, manifest) = self.load_installed(name, kind, &folder)?;
                    let identity = Identity::new(Some(name), &manifest.digest, false, limits);
                    self.ready(kind, &component, identity, manifest.info)?
                }
                None => return Err(self.unknown(name, kind)),
            },
        };
        let loaded = Rc::new(loaded);
        self.loaded.borrow_mut().insert(key, Rc::clone(&loaded));
        Ok(loaded)
    }

    /// A loaded component, ready to be asked. `info` is what it says of itself, where that is known.
    fn ready(
        &self,
        kind: PluginKind,
        component: &Component,
        identity: Identity,
        info: Option<PluginInfo>,
    ) -> Result<Loaded, PluginError> {
        let engine = self.engine()?;
        let api = Linker::new(engine).instantiate_pre(component).and_then(|pre| api::Plugin::new(kind, pre));
        let api = api.map_err(|error| load_error(called(&identity), &error))?;
        let info = info.map_or_else(OnceCell::new, OnceCell::from);
        Ok(Loaded { identity, engine: engine.clone(), api, rules: Rc::clone(&self.rules), info })
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
        Ok(Some(manifest.into()))
    }

    fn load_installed(
        &self,
        name: &str,
        kind: PluginKind,
        folder: &installed::Folder,
    ) -> Result<(Component, Manifest), PluginError> {
        let manifest = folder.manifest()?;
        if manifest.kind != kind {
            return Err(self.unknown(name, kind));
        }
        let code = folder.code(&manifest, builtin::PROFILE_ID)?;
        let component = load::installed(self.engine()?, &code).map_err(|error| load_error(name, &error))?;
        Ok((component, manifest))
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

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Host").field(&self.installed).finish()
    }
}

/// An engine that loads code and cannot compile any.
fn runtime_engine() -> wasmtime::Result<Engine> {
    let mut config = profile::config(builtin::PROFILE_ID, builtin::TARGET)?;
    #[cfg(feature = "compiler")]
    config.enable_compiler(false);
    // What a plugin leaves of its panic is read from its memory at the trap.
    config.coredump_on_trap(true);
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

/// What a plugin answered, and what that took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The answer.
    pub answer: Answer,
    /// What it used.
    pub consumed: Consumed,
    /// Processor time that it took.
    pub processor: Duration,
    /// Time on the wall, from before the instance is made until its answer is read.
    pub time: Duration,
}

/// A loaded plugin.
struct Loaded {
    identity: Identity,
    engine: Engine,
    api: api::Plugin,
    rules: Rc<Rules>,
    /// What it says of itself: always the same, so it is asked once.
    info: OnceCell<PluginInfo>,
}

impl Loaded {
    /// Asks an instance of its own.
    fn ask(&self, question: &Question) -> Result<Asked, PluginError> {
        volhook_locks::waits("a plugin");
        let begin = Instant::now();
        let sandbox::Called { answer, consumed, processor } =
            sandbox::call(&self.engine, &self.identity, &self.rules.limits, |store| {
                self.api.ask(store, question)
            })?;
        let time = begin.elapsed();
        let checked = answer
            .flatten()
            .and_then(|answer| answer::check(answer, question, self.identity.name.as_deref()));
        self.tell(question, &checked, consumed);
        match checked {
            Ok(answer) => Ok(Asked { answer, consumed, processor, time }),
            Err(fault) => Err(PluginError::Fault {
                plugin: called(&self.identity).to_owned(),
                call: question.call(),
                fault,
                consumed,
            }),
        }
    }

    fn tell(&self, question: &Question, came: &Result<Answer, Fault>, consumed: Consumed) {
        let Some(observer) = &self.rules.observer else { return };
        // What a plugin says of itself is no decision.
        let wanted = observer.all && *question != Question::Describe;
        if came.is_ok() && !wanted {
            return;
        }
        (observer.tell)(&Decision {
            time: Timestamp::now(),
            plugin: called(&self.identity).to_owned(),
            digest: self.identity.digest.clone(),
            question: question.clone(),
            outcome: match came {
                Ok(answer) => Outcome::Answer(answer.clone()),
                Err(fault) => Outcome::Fault(fault.to_string()),
            },
            consumed,
        });
    }

    fn name(&self) -> &str {
        called(&self.identity)
    }

    fn describe(&self) -> Result<PluginInfo, PluginError> {
        if let Some(info) = self.info.get() {
            return Ok(info.clone());
        }
        let info = self.ask_description()?;
        Ok(self.info.get_or_init(|| info).clone())
    }

    fn ask_description(&self) -> Result<PluginInfo, PluginError> {
        match self.ask(&Question::Describe)?.answer {
            Answer::Info(info) => Ok(info),
            _ => Err(self.confused()),
        }
    }

    /// An answer to another question, which the types of the interface exclude.
    fn confused(&self) -> PluginError {
        PluginError::Engine { reason: format!("plugin {:?} answers another question", self.name()) }
    }
}

/// What a plugin is called in messages.
fn called(identity: &Identity) -> &str {
    identity.name.as_deref().unwrap_or(installed::CANDIDATE)
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.identity.fmt(f)
    }
}

/// A driver. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Driver(Rc<Loaded>);

impl Driver {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Whether its answers may depend on what the tenant uses already. Those of the built-in drivers do not, and finding it
    /// out takes longer than making a volume where there are many.
    #[must_use]
    pub fn rations(&self) -> bool {
        !self.0.identity.built_in
    }

    /// What it is, its options and settings.
    ///
    /// # Errors
    /// [`PluginError::Fault`] when it gives no usable answer.
    pub fn describe(&self) -> Result<PluginInfo, PluginError> {
        self.0.describe()
    }

    /// How a new volume is to be backed.
    ///
    /// # Errors
    /// [`PluginError::Fault`] when it gives no usable answer.
    pub fn create(&self, request: &CreateRequest) -> Result<Result<Creation, Refusal>, PluginError> {
        match self.0.ask(&Question::Create(request.clone()))?.answer {
            Answer::Creation(creation) => Ok(Ok(creation)),
            Answer::Refusal(refusal) => Ok(Err(refusal)),
            _ => Err(self.0.confused()),
        }
    }

    /// Whether and how a container may hold a volume.
    ///
    /// # Errors
    /// [`PluginError::Fault`] when it gives no usable answer.
    pub fn attach(&self, request: &AttachRequest) -> Result<Result<Attachment, Refusal>, PluginError> {
        match self.0.ask(&Question::Attach(request.clone()))?.answer {
            Answer::Attachment(attachment) => Ok(Ok(attachment)),
            Answer::Refusal(refusal) => Ok(Err(refusal)),
            _ => Err(self.0.confused()),
        }
    }
}

/// A policy. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Policy(Rc<Loaded>);

impl Policy {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// What it is, and its settings.
    ///
    /// # Errors
    /// [`PluginError::Fault`] when it gives no usable answer.
    pub fn describe(&self) -> Result<PluginInfo, PluginError> {
        self.0.describe()
    }

    /// Which volumes a container gets.
    ///
    /// # Errors
    /// [`PluginError::Fault`] when it gives no usable answer.
    pub fn claims(&self, request: &ClaimsRequest) -> Result<Result<PolicyGrant, Refusal>, PluginError> {
        match self.0.ask(&Question::Claims(request.clone()))?.answer {
            Answer::Grant(grant) => Ok(Ok(grant)),
            Answer::Refusal(refusal) => Ok(Err(refusal)),
            _ => Err(self.0.confused()),
        }
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
    limits: &Limits,
) -> Result<PluginInfo, PluginError> {
    let host = Host::new(installed.to_owned(), limits.clone(), None);
    let found = installed::open_as(installed, folder, installed::CANDIDATE)?;
    let Some(found) = found else { return Err(host.unknown(folder, kind)) };
    let (component, manifest) = host.load_installed(installed::CANDIDATE, kind, &found)?;
    let identity = Identity::new(None, &manifest.digest, false, limits);
    host.ready(kind, &component, identity, None)?.ask_description()
}
