//! Where things are on this host, by the environment and the command line.

use crate::trace;
use std::path::PathBuf;
use volhook_engine::Engine;
use volhook_engine::Places;

/// The engine for a call whose command line is the real runtime's.
pub(crate) fn engine_from_environment() -> Engine {
    let path = |name, default| std::env::var_os(name).map_or_else(|| PathBuf::from(default), PathBuf::from);
    engine_at(
        path("VOLHOOK_ROOT", "/var/lib/volhook"),
        path("VOLHOOK_RUN_DIR", "/run/volhook"),
        path("VOLHOOK_CONFIG", "/etc/volhook/config.toml"),
    )
}

/// The engine for these places; this program is the one that hook entries call.
pub(crate) fn engine_at(root: PathBuf, run_dir: PathBuf, config: PathBuf) -> Engine {
    Engine::at(Places {
        root,
        run_dir,
        config,
        program: std::env::current_exe().ok(),
        environment: trace::inherited(),
    })
}
