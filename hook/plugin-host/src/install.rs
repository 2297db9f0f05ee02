//! Installing a plugin: it is examined, compiled in another process, tried once, and put in place at one stroke.

use crate::builtin;
use crate::compiler;
use crate::error::PluginError;
use crate::host;
use crate::host::PluginEntry;
use crate::host::PluginSource;
use crate::inspect;
use crate::inspect::API_VERSION;
use crate::inspect::Interface;
use crate::inspect::NotAPlugin;
use crate::installed;
use crate::installed::Manifest;
use rustix::fs::RenameFlags;
use rustix::process::Resource;
use rustix::process::Rlimit;
use std::fs;
use std::fs::OpenOptions;
use std::fs::Permissions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use volhook_core::decision::PluginKind;

/// The most bytes of a component. One with a Python interpreter in it has 18 MB.
pub const MAX_COMPONENT_BYTES: usize = 64 << 20;

/// Seconds of processor time that compiling may take; a component with a Python interpreter takes 15.
const COMPILE_SECONDS: u64 = 120;
/// Bytes of address space that compiling may take; a component with a Python interpreter takes 440 MB.
const COMPILE_MEMORY: u64 = 3 << 29;

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

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The compiler refuses it.
    #[error("{reason}")]
    Refused {
        /// What the compiler says.
        reason: String,
    },
    /// The compiling process cannot be started or talked to.
    #[error("cannot run the compiling process")]
    Run(#[source] io::Error),
    /// The compiling process died, most likely because the component made it use more than it may.
    #[error("the compiling process died ({status}); it may use {COMPILE_SECONDS} s of processor time and {} MiB", COMPILE_MEMORY >> 20)]
    Died {
        /// How.
        status: ExitStatus,
    },
}

/// Installs `component` in the folder `installed`, which is made if need be; one of the same name is replaced.
///
/// `compile` is [`compile_in`] with a command that makes this program call [`compile_stdin`]: hostile input may
/// crash the compiler or exhaust memory, and must do so in another process.
///
/// # Errors
/// [`InstallError`].
pub fn install(
    installed: &Path,
    component: &[u8],
    compile: impl FnOnce(&[u8]) -> Result<Vec<u8>, CompileError>,
) -> Result<PluginEntry, InstallError> {
    if component.len() > MAX_COMPONENT_BYTES {
        return Err(InstallError::TooLarge);
    }
    let kind = match inspect::interface(component).map_err(|reason| InstallError::NotAPlugin { reason })? {
        Interface::Driver => PluginKind::Driver,
        Interface::Policy => PluginKind::Policy,
    };
    let code = compile(component).map_err(InstallError::Compile)?;
    if code.len() as u64 > installed::MAX_CODE {
        return Err(InstallError::CodeTooLarge { size: code.len() as u64 });
    }

    let writing = |path: &Path| {
        let path = path.to_owned();
        move |source| InstallError::Write { path, source }
    };
    fs::create_dir_all(installed).map_err(writing(installed))?;
    // A name that begins with a dot is no plugin's name.
    let staging =
        tempfile::Builder::new().prefix(".staging-").tempdir_in(installed).map_err(writing(installed))?;
    fs::set_permissions(staging.path(), Permissions::from_mode(0o755)).map_err(writing(staging.path()))?;
    for (name, bytes) in [(installed::COMPONENT, component), (installed::CODE, &code)] {
        let path = staging.path().join(name);
        write(&path, bytes).map_err(writing(&path))?;
    }
    let mut manifest = Manifest {
        format: installed::FORMAT,
        name: installed::CANDIDATE.to_owned(),
        kind,
        api_version: API_VERSION.to_owned(),
        digest: installed::digest(component),
        size: component.len() as u64,
        code_digest: installed::digest(&code),
        profile: builtin::PROFILE_ID.to_owned(),
    };
    write_manifest(staging.path(), &manifest)?;
    let folder = staging.path().file_name().unwrap_or_default().to_string_lossy();
    let info = host::describe_candidate(installed, &folder, kind).map_err(InstallError::Try)?;
    if builtin::find(&info.name).is_some() {
        return Err(InstallError::BuiltInName { name: info.name });
    }
    manifest.name = info.name;
    write_manifest(staging.path(), &manifest)?;
    put_in_place(staging.path(), installed, &manifest.name)
        .map_err(writing(&installed.join(&manifest.name)))?;
    Ok(PluginEntry {
        name: manifest.name,
        kind,
        api_version: manifest.api_version,
        source: PluginSource::Installed,
        digest: manifest.digest,
        size: manifest.size,
    })
}

fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<(), InstallError> {
    let path = folder.join(installed::MANIFEST);
    serde_json::to_vec_pretty(manifest)
        .map_err(io::Error::from)
        .and_then(|text| write(&path, &text))
        .map_err(|source| InstallError::Write { path, source })
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Renames the finished folder to the plugin's name. A plugin that is there already trades places with it, and
/// goes when the caller drops the staging folder.
fn put_in_place(staging: &Path, installed: &Path, name: &str) -> io::Result<()> {
    let all = fs::File::open(installed)?;
    fs::File::open(staging)?.sync_all()?;
    let from = staging.file_name().unwrap_or_default();
    let rename = |flags| rustix::fs::renameat_with(&all, from, &all, name, flags);
    match rename(RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::EXIST) => rename(RenameFlags::EXCHANGE)?,
        result => result?,
    }
    all.sync_all()
}

/// Compiles `component` in the process that `command` starts, which must call [`compile_stdin`].
///
/// # Errors
/// [`CompileError`].
pub fn compile_in(mut command: Command, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(CompileError::Run)?;
    let output = exchange(&mut child, component);
    let status = child.wait().map_err(CompileError::Run)?;
    let output = output.map_err(CompileError::Run)?;
    if !status.success() {
        return Err(CompileError::Died { status });
    }
    match output.split_first() {
        Some((&COMPILED, code)) => Ok(code.to_vec()),
        Some((&REFUSED, reason)) => {
            Err(CompileError::Refused { reason: crate::answer::printable(&String::from_utf8_lossy(reason)) })
        }
        _ => Err(CompileError::Died { status }),
    }
}

/// Gives the compiling process all of its input and then takes all of its output.
fn exchange(child: &mut Child, component: &[u8]) -> io::Result<Vec<u8>> {
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(component) {
            // It died early; its status says more than this error.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
    }
    let mut output = Vec::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_end(&mut output)?;
    }
    Ok(output)
}

/// First byte of what the compiling process writes: machine code follows.
const COMPILED: u8 = 0;
/// First byte of what the compiling process writes: the reason against follows.
const REFUSED: u8 = 1;

/// What the compiling process does: limits itself, reads a component from standard input, and writes what
/// [`compile_in`] reads to standard output. It dies with the process that started it.
///
/// # Errors
/// [`CompileError::Run`] when it cannot limit itself, read or write. That the compiler refuses the
/// component is written to the output and no error.
pub fn compile_stdin() -> Result<(), CompileError> {
    limit_myself().map_err(|error| CompileError::Run(error.into()))?;
    let mut component = Vec::new();
    let most = MAX_COMPONENT_BYTES as u64;
    io::stdin().lock().take(most).read_to_end(&mut component).map_err(CompileError::Run)?;
    let (kind, bytes) = match compile(&component) {
        Ok(code) => (COMPILED, code),
        Err(CompileError::Refused { reason }) => (REFUSED, reason.into_bytes()),
        Err(error) => return Err(error),
    };
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(&[kind])
        .and_then(|()| stdout.write_all(&bytes))
        .and_then(|()| stdout.flush())
        .map_err(CompileError::Run)
}

fn limit_myself() -> rustix::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    for (resource, limit) in
        [(Resource::Cpu, COMPILE_SECONDS), (Resource::As, COMPILE_MEMORY), (Resource::Core, 0)]
    {
        rustix::process::setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    Ok(())
}

/// Compiles `component` in this process, without limits: for components that one trusts, such as a test's own.
///
/// # Errors
/// [`CompileError::Refused`].
pub fn compile(component: &[u8]) -> Result<Vec<u8>, CompileError> {
    compiler::compile(component, builtin::PROFILE_ID, builtin::TARGET).map_err(|error| {
        CompileError::Refused { reason: crate::answer::printable(&error.root_cause().to_string()) }
    })
}
