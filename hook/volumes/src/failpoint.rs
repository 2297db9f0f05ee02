//! Named steps at which a test can have the process die, as by a power cut or the kernel's out-of-memory killer: nothing
//! is cleaned up. Only development builds look for them.

/// Ends the process if the environment variable `VOLHOOK_FAILPOINT` names this step.
pub(crate) fn reached(step: &str) {
    if cfg!(debug_assertions) && std::env::var_os("VOLHOOK_FAILPOINT").is_some_and(|name| name == step) {
        std::process::abort();
    }
}
