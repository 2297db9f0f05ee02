//! Named steps at which a test can have the process die, as by a power cut or the kernel's out-of-memory killer: nothing
//! is cleaned up; or stop until it is told to go on; or have the step fail. Only development builds look for them.

use rustix::io::Errno;
use rustix::process::Signal;

/// Ends the process if the environment variable `VOLHOOK_FAILPOINT`, a list with commas, names this step. With `:stop` behind
/// the name it is stopped there (SIGSTOP), with `:fail` the step fails.
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
        .find_map(|wanted| wanted.strip_prefix(step).filter(|how| ["", ":fail", ":stop"].contains(how)))
    {
        Some("") => std::process::abort(),
        Some(":stop") => rustix::process::kill_process(rustix::process::getpid(), Signal::STOP),
        Some(_) => Err(Errno::IO),
        None => Ok(()),
    }
}
