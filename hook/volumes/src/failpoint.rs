//! Named steps at which a test can have the process die, as by a power cut or the kernel's out-of-memory killer: nothing
//! is cleaned up; or have the step fail. Only development builds look for them.

use rustix::io::Errno;

/// Ends the process if the environment variable `VOLHOOK_FAILPOINT`, a list with commas, names this step, and fails if it
/// has the name with `:fail` behind it.
///
/// # Errors
/// That of a broken disk.
pub fn reached(step: &str) -> Result<(), Errno> {
    if !cfg!(debug_assertions) {
        return Ok(());
    }
    let wanted = std::env::var("VOLHOOK_FAILPOINT").unwrap_or_default();
    match wanted
        .split(',')
        .find_map(|wanted| wanted.strip_prefix(step).filter(|how| ["", ":fail"].contains(how)))
    {
        Some("") => std::process::abort(),
        Some(_) => Err(Errno::IO),
        None => Ok(()),
    }
}
