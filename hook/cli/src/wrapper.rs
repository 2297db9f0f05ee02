//! `volhook runtime`: an OCI runtime that edits the bundle and then becomes the real runtime.
//!
//! `create`, `run` and `restore` get their volumes, or are refused where the command line does not say what they start;
//! everything else passes through untouched. Installed under the name `volhook-runc` or `volhook-crun`, the program is this
//! wrapper for that runtime.

use crate::hook;
use crate::watch::Watch;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use tracing::info_span;
use volhook_core::names::ContainerId;
use volhook_core::runtime_call;
use volhook_core::runtime_call::Call;
use volhook_core::runtime_call::Manner;
use volhook_engine::Context;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::bundle::read_claiming_spec;
use volhook_engine::bundle::write_spec;
use volhook_engine::start::spec;
use volhook_engine::start::spec::SpecStart;
use volhook_engine::start::undo::undone;
use volhook_mounts::inherited::Inherited;

/// Where a runtime is looked for when PATH is not set, as engines often leave it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runtimes that the wrapper is for under a name of its own: `volhook-runc` is for `runc`. Another name that begins alike is
/// that of a release, such as `volhook-linux-amd64`.
const RUNTIMES: [&str; 5] = ["runc", "crun", "youki", "runsc", "kata-runtime"];

/// The runtime that the wrapper is for by the name that it was called by: one that is known, or the `configured` one.
pub(crate) fn runtime_of_name(
    program: &OsStr,
    configured: impl FnOnce() -> Option<String>,
) -> Option<String> {
    let name = Path::new(program).file_name()?.to_str()?.strip_prefix("volhook-")?;
    if RUNTIMES.contains(&name) {
        return Some(name.to_owned());
    }
    configured().filter(|runtime| Path::new(runtime).file_name() == Some(OsStr::new(name)))
}

/// Runs the wrapper: does not return unless something failed.
pub(crate) fn run(
    engine: &Engine,
    watch: &Watch,
    inherited: Inherited,
    named: Option<String>,
    args: &[OsString],
) -> ExitCode {
    let inherited = inherited.with_own_mask();
    let context = &Context::new(engine, watch.whole_work());
    let mut attempt = None;
    let mut container = None;
    let result = runtime(context, named).and_then(|runtime| {
        if let Some(call) = starting_call(&runtime, args)? {
            let _call = info_span!("hook", stage = "runtime").entered();
            container = ContainerId::new(String::from_utf8_lossy(&call.id).as_ref()).ok();
            attempt = edit_bundle(context, &call)?;
        }
        inherited.give_back();
        let error = Command::new(&runtime).args(args).exec();
        Err(Failure::context(format!("cannot run the OCI runtime {}", runtime.display()), error))
    });
    let failure = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    let failure = match attempt {
        Some(attempt) => undone(context, &attempt, None, failure),
        None => failure,
    };
    hook::ended(engine, watch, container.as_ref(), Err(failure))
}

/// The call, if it starts a container.
fn starting_call(runtime: &Path, args: &[OsString]) -> Result<Option<Call>, Failure> {
    // `runc` may be a link to crun.
    let program = runtime.canonicalize().unwrap_or_else(|_| runtime.to_owned());
    let manner = Manner::of(&program.file_name().unwrap_or_default().to_string_lossy());
    let words: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
    runtime_call::read(manner, &words).map_err(|error| {
        let hint = error.hint();
        Failure::context(format!("cannot tell which container {} is to start", runtime.display()), error)
            .hint(hint)
    })
}

/// The real runtime: from the environment, the name of the call, the configuration, or what the host has.
fn runtime(context: &Context<'_>, named: Option<String>) -> Result<PathBuf, Failure> {
    let from_env = std::env::var_os("VOLHOOK_RUNTIME").filter(|name| !name.is_empty());
    // With an unreadable configuration a container without claims must start all the same.
    let configured = || context.config().ok().and_then(|config| config.runtime.clone());
    let wanted = from_env.or_else(|| named.or_else(configured).map(OsString::from));
    let candidates = wanted.map_or_else(|| ["runc", "crun"].map(OsString::from).into(), |name| vec![name]);
    let own = fs::metadata("/proc/self/exe").ok().map(|m| (m.dev(), m.ino()));
    let path = std::env::var_os("PATH").filter(|path| !path.is_empty());
    let path = path.unwrap_or_else(|| DEFAULT_PATH.into());
    for name in &candidates {
        let places: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
            vec![PathBuf::from(name)]
        } else {
            std::env::split_paths(&path).map(|folder| folder.join(name)).collect()
        };
        for place in places {
            let Ok(found) = fs::metadata(&place) else { continue };
            let itself = Some((found.dev(), found.ino())) == own;
            if found.is_file() && found.permissions().mode() & 0o111 != 0 && !itself {
                return Ok(place);
            }
        }
    }
    let names: Vec<String> = candidates.iter().map(|name| name.display().to_string()).collect();
    Err(Failure::new(format!("cannot find the OCI runtime {}", names.join(" or ")))
        .hint("install it, or name it with VOLHOOK_RUNTIME or `runtime` in the configuration"))
}

/// Gives the container's spec its volumes. Returns the attempt when there are leases to give back on failure.
fn edit_bundle(context: &Context<'_>, call: &Call) -> Result<Option<String>, Failure> {
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let bundle = call.bundle.as_deref().map_or_else(|| PathBuf::from("."), path);
    let other = call.spec.as_deref().map(|named| other_spec(&path(named))).transpose()?;
    let file = other.clone().unwrap_or_else(|| bundle.join("config.json"));
    let Some(spec) = read_claiming_spec(context, &file)? else { return Ok(None) };
    let id = ContainerId::new(String::from_utf8_lossy(&call.id).as_ref())?;
    let attempt = spec::new_attempt();
    let start =
        SpecStart { container: id, attempt: attempt.clone(), bundle: &bundle, spec_file: other.as_deref() };
    let rewritten = spec::rewritten(context, spec, &start)?;
    if let Some(spec) = &rewritten {
        write_spec(&file, spec).map_err(|failure| undone(context, &attempt, None, failure))?;
    }
    Ok(rewritten.map(|_| attempt))
}

/// Where another spec than `config.json` is. It is read before the runtime reads it, which must find it unread then.
fn other_spec(named: &Path) -> Result<PathBuf, Failure> {
    let failed =
        |error| Failure::context(format!("cannot read the container's spec {}", named.display()), error);
    let path = named.canonicalize().map_err(failed)?;
    if fs::metadata(&path).map_err(failed)?.is_file() {
        return Ok(path);
    }
    Err(Failure::new(format!("the container's spec {} is not a file", named.display()))
        .hint("write the spec to a file, and name that with --config"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_wrapper() {
        let of = |name: &str, configured: Option<&str>| {
            runtime_of_name(OsStr::new(name), || configured.map(str::to_owned))
        };
        assert_eq!(of("/usr/bin/volhook-runc", None).as_deref(), Some("runc"));
        assert_eq!(of("volhook-youki", None).as_deref(), Some("youki"));
        assert_eq!(of("volhook-mine", Some("/opt/mine")).as_deref(), Some("/opt/mine"));
        for name in ["volhook", "volhook-", "volhook-1.0.0", "volhook-linux-amd64", "/opt/volhook-dev"] {
            assert_eq!(of(name, Some("/opt/mine")), None, "{name}");
        }
    }
}
