//! `volhook runtime`: an OCI runtime that edits the bundle and then becomes the real runtime.
//!
//! `create`, `run` and `restore` get their volumes; everything else passes through untouched. Installed under
//! the name `volhook-runc` or `volhook-crun`, the program is this wrapper for that runtime.

use crate::hook;
use crate::watch::Watch;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use volhook_core::names::ContainerId;
use volhook_core::spec::Spec;
use volhook_engine::Context;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::bundle::read_spec_file;
use volhook_engine::start::spec;
use volhook_engine::start::undo::undone;

/// Where a runtime is looked for when PATH is not set, as engines often leave it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Options of runc's and crun's command lines whose value is an argument of its own.
const OPTIONS_WITH_VALUE: [&str; 27] = [
    "--log",
    "--log-format",
    "--log-level",
    "--root",
    "--criu",
    "--rootless",
    "--cgroup-manager",
    "--bundle",
    "-b",
    "--console-socket",
    "--pid-file",
    "--preserve-fds",
    "--config",
    "-f",
    "--image-path",
    "--work-path",
    "--parent-path",
    "--manage-cgroups-mode",
    "--empty-ns",
    "--lsm-profile",
    "--lsm-mount-context",
    "--status-fd",
    "--page-server",
    "--network-lock",
    "--apparmor",
    "--process-label",
    "--cap",
];

/// The name by which the wrapper was called, if it names a runtime: `volhook-runc` is for `runc`.
pub(crate) fn runtime_of_name(program: &OsStr) -> Option<String> {
    let name = Path::new(program).file_name()?.to_str()?;
    name.strip_prefix("volhook-").filter(|runtime| !runtime.is_empty()).map(str::to_owned)
}

/// What the wrapper understands of a runtime's command line.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    /// The bundle; the working directory where none is named.
    bundle: PathBuf,
    /// The container.
    id: String,
    /// Another spec than the bundle's `config.json` (crun).
    other_spec: Option<PathBuf>,
}

/// The call, if it starts a container.
fn starting_call(args: &[OsString]) -> Option<Call> {
    let mut command = None;
    let mut id = None;
    let mut bundle = PathBuf::from(".");
    let mut other_spec = None;
    let mut rest = args.iter();
    let mut only_positional = false;
    while let Some(arg) = rest.next() {
        let text = arg.to_string_lossy();
        if text == "--" && !only_positional {
            only_positional = true;
        } else if text.starts_with('-') && text.len() > 1 && !only_positional {
            let (name, inline) = match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(OsString::from(value))),
                None => (text.clone().into_owned(), None),
            };
            let value = match inline {
                Some(value) => Some(value),
                None if OPTIONS_WITH_VALUE.contains(&name.as_str()) => rest.next().cloned(),
                None => None,
            };
            match (name.as_str(), value) {
                ("--bundle" | "-b", Some(value)) => bundle = PathBuf::from(value),
                ("--config" | "-f", Some(value)) => other_spec = Some(PathBuf::from(value)),
                _ => {}
            }
        } else if command.is_none() {
            command = Some(text.into_owned());
        } else if id.is_none() {
            id = Some(text.into_owned());
        }
    }
    let starts = matches!(command.as_deref(), Some("create" | "run" | "restore"));
    id.filter(|_| starts).map(|id| Call { bundle, id, other_spec })
}

/// Runs the wrapper: does not return unless something failed.
pub(crate) fn run(engine: &Engine, watch: &Watch, named: Option<String>, args: &[OsString]) -> ExitCode {
    let context = &Context::new(engine, watch.work());
    let mut attempt = None;
    let container = starting_call(args).and_then(|call| ContainerId::new(call.id).ok());
    let result = runtime(context, named).and_then(|runtime| {
        if let Some(call) = starting_call(args) {
            attempt = edit_bundle(context, call)?;
            watch.finish("runtime");
        }
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

/// The real runtime: from the environment, the name of the call, the configuration, or what the host has.
fn runtime(context: &Context<'_>, named: Option<String>) -> Result<PathBuf, Failure> {
    let from_env = std::env::var("VOLHOOK_RUNTIME").ok().filter(|name| !name.is_empty());
    // With an unreadable configuration a container without claims must start all the same.
    let configured = || context.config().ok().and_then(|config| config.runtime.clone());
    let wanted = from_env.or(named).or_else(configured);
    let candidates = wanted.map_or_else(|| vec!["runc".to_owned(), "crun".to_owned()], |name| vec![name]);
    let own = fs::metadata("/proc/self/exe").ok().map(|m| (m.dev(), m.ino()));
    let path = std::env::var("PATH").ok().filter(|path| !path.is_empty()).unwrap_or(DEFAULT_PATH.to_owned());
    for name in &candidates {
        let places: Vec<PathBuf> = if name.contains('/') {
            vec![PathBuf::from(name)]
        } else {
            path.split(':').map(|folder| Path::new(folder).join(name)).collect()
        };
        for place in places {
            let Ok(found) = fs::metadata(&place) else { continue };
            let itself = Some((found.dev(), found.ino())) == own;
            if found.is_file() && found.permissions().mode() & 0o111 != 0 && !itself {
                return Ok(place);
            }
        }
    }
    Err(Failure::new(format!("cannot find the OCI runtime {}", candidates.join(" or ")))
        .hint("install it, or name it with VOLHOOK_RUNTIME or `runtime` in the configuration"))
}

/// Gives the bundle's spec its volumes. Returns the attempt when there are leases to give back on failure.
fn edit_bundle(context: &Context<'_>, call: Call) -> Result<Option<String>, Failure> {
    let file = call
        .other_spec
        .as_ref()
        .map_or_else(|| call.bundle.join("config.json"), |other| call.bundle.join(other));
    let spec = read_spec_file(&file)?;
    if !spec::could_claim(context, &spec)? {
        return Ok(None);
    }
    if let Some(other) = call.other_spec {
        return Err(Failure::new(format!(
            "cannot give volumes to a container whose spec is {}",
            other.display()
        ))
        .hint("name the spec config.json"));
    }
    let id = ContainerId::new(call.id)?;
    let attempt = spec::new_attempt();
    let rewritten = spec::rewritten(context, spec, id, attempt.clone(), &call.bundle)?;
    if let Some(spec) = &rewritten {
        write_spec(&call.bundle, spec).map_err(|failure| undone(context, &attempt, None, failure))?;
    }
    Ok(rewritten.map(|_| attempt))
}

/// Replaces a bundle's `config.json`: whole and durable, or not at all. Owner and mode stay.
pub(crate) fn write_spec(bundle: &Path, spec: &Spec) -> Result<(), Failure> {
    let path = bundle.join("config.json");
    let temporary = bundle.join(format!(".config.json.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let before = fs::metadata(&path)?;
        let mut text = serde_json::to_vec_pretty(spec.document())?;
        text.push(b'\n');
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(before.mode() & 0o7777)
            .open(&temporary)?;
        file.write_all(&text)?;
        std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        fs::File::open(bundle)?.sync_all()
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        Failure::context(format!("cannot rewrite {}", path.display()), error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Option<(String, String)> {
        let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        starting_call(&args).map(|call| (call.bundle.display().to_string(), call.id))
    }

    #[test]
    fn the_command_lines_of_engines() {
        let some = |bundle: &str, id: &str| Some((bundle.to_owned(), id.to_owned()));
        assert_eq!(call("run c1"), some(".", "c1"));
        assert_eq!(
            call("--root /r --log /l --log-format json create --bundle /b --pid-file /p c1"),
            some("/b", "c1")
        );
        assert_eq!(call("--systemd-cgroup create -b /b --console-socket /s c1"), some("/b", "c1"));
        assert_eq!(call("--root=/r run --bundle=/b -d c1"), some("/b", "c1"));
        assert_eq!(call("restore --image-path /i --bundle /b c1"), some("/b", "c1"));
        assert_eq!(call("create --bundle /b -- create"), some("/b", "create"));
        let other: Vec<OsString> = ["run", "-f", "other.json", "c1"].map(OsString::from).to_vec();
        assert_eq!(starting_call(&other).and_then(|call| call.other_spec), Some(PathBuf::from("other.json")));
        assert_eq!(call("run --keep --no-pivot create"), some(".", "create"));
        for other in [
            "delete --force create",
            "state c1",
            "--root create list",
            "start run",
            "--version",
            "",
            "kill c1 TERM",
        ] {
            assert_eq!(call(other), None, "{other}");
        }
    }

    #[test]
    fn names_of_the_wrapper() {
        assert_eq!(runtime_of_name(OsStr::new("/usr/bin/volhook-runc")).as_deref(), Some("runc"));
        assert_eq!(runtime_of_name(OsStr::new("volhook")), None);
        assert_eq!(runtime_of_name(OsStr::new("volhook-")), None);
    }
}
