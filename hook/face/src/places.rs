//! Where things are on this host, by the environment and the command line.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use volhook_engine::Engine;
use volhook_engine::Places;

/// The engine for a call whose command line is the real runtime's.
#[must_use]
pub fn engine_from_environment() -> Engine {
    let path = |name, default| std::env::var_os(name).map_or_else(|| PathBuf::from(default), PathBuf::from);
    engine_at(
        path("VOLHOOK_ROOT", "/var/lib/volhook"),
        path("VOLHOOK_RUN_DIR", "/run/volhook"),
        path("VOLHOOK_CONFIG", "/etc/volhook/config.toml"),
    )
}

/// The engine for these places; this program is the one that hook entries call.
#[must_use]
pub fn engine_at(root: PathBuf, run_dir: PathBuf, config: PathBuf) -> Engine {
    Engine::at(Places {
        root,
        run_dir,
        config,
        program: std::env::current_exe().ok().map(replaced),
        environment: inherited(),
    })
}

/// The path of a program that was replaced after it was started, which the kernel marks: the new one is there.
fn replaced(program: PathBuf) -> PathBuf {
    const MARK: &[u8] = b" (deleted)";
    match program.as_os_str().as_bytes().strip_suffix(MARK) {
        Some(path) if !program.exists() => PathBuf::from(OsStr::from_bytes(path)),
        _ => program,
    }
}

/// The variable that names the file for the benchmark's figures.
pub const TIMINGS: &str = "VOLHOOK_TIMINGS";

/// The variable that asks for what is done, line by line.
pub const LOG: &str = "VOLHOOK_LOG";

/// Variables of this call that are good for the hook entries that it writes as well, as `NAME=VALUE`.
fn inherited() -> Vec<String> {
    let given = |name| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
        Some(format!("{name}={value}"))
    };
    [TIMINGS, LOG].into_iter().filter_map(given).collect()
}
