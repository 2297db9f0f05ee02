//! Named steps at which a test can have the process die, as by a power cut or the kernel's out-of-memory killer: nothing
//! is cleaned up; or stop until it is told to go on; or have the step fail. Only development builds look for them.

use rustix::io::Errno;
use rustix::process::Signal;
use std::time::Duration;

/// Ends the process if the environment variable `VOLHOOK_FAILPOINT`, a list with commas, names this step. With `:stop` behind
/// the name it is stopped there (SIGSTOP), with `:fail` the step fails, and with `:pause=FILE` it makes that file and waits until
/// the file is gone.
///
/// # Errors
/// That of a broken disk.
pub fn reached(step: &str) -> Result<(), Errno> {
    if !cfg!(debug_assertions) {
        return Ok(());
    }
    let wanted = std::env::var("VOLHOOK_FAILPOINT").unwrap_or_default();
    let how = wanted.split(',').find_map(|wanted| {
        let how = wanted.strip_prefix(step)?;
        (how.is_empty() || how.starts_with(':')).then_some(how)
    });
    match how {
        Some("") => std::process::abort(),
        Some(":stop") => rustix::process::kill_process(rustix::process::getpid(), Signal::STOP),
        Some(":fail") => Err(Errno::IO),
        Some(other) => other.strip_prefix(":pause=").map_or(Ok(()), pause),
        None => Ok(()),
    }
}

fn pause(file: &str) -> Result<(), Errno> {
    let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    std::fs::File::create_new(file).map_err(failed)?;
    while std::path::Path::new(file).exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
