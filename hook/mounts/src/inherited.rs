//! What a process inherits from whoever started it, and must not depend on: signals, the mask of new files, limits.
//!
//! A runtime or engine may ignore `SIGCHLD`, so that the kernel reaps a program before anybody can ask how it ended, or block
//! all signals, as crun does for its hooks. The wrapper gives back what a container inherits in turn before it becomes the
//! runtime; but not an ignored `SIGCHLD`, with which crun waits for its hooks until their time is up.

use nix::sys::signal::SaFlags;
use nix::sys::signal::SigAction;
use nix::sys::signal::SigHandler;
use nix::sys::signal::SigSet;
use nix::sys::signal::Signal;
use nix::sys::signal::sigaction;
use rustix::fs::Mode;
use rustix::process::Resource;
use rustix::process::Rlimit;

/// The mask of new files that what volhook makes is meant for.
const MASK: Mode = Mode::from_raw_mode(0o022);

/// What was inherited, to be given back.
#[derive(Debug)]
pub struct Inherited {
    mask: Option<Mode>,
    files: Rlimit,
}

/// Takes what this process needs: it hears how its children end, no signal is blocked, and as many files may be open as the
/// caller allows. Whatever the kernel denies stays as it was.
#[must_use]
pub fn take() -> Inherited {
    let files = rustix::process::getrlimit(Resource::Nofile);
    let all = Rlimit { current: files.maximum, maximum: files.maximum };
    let _ = rustix::process::setrlimit(Resource::Nofile, all);
    hear_of_children();
    let _ = SigSet::empty().thread_set_mask();
    Inherited { mask: None, files }
}

impl Inherited {
    /// Takes the mask of new files as well, for what is nobody's but volhook's.
    #[must_use]
    pub fn with_own_mask(mut self) -> Self {
        self.mask = Some(rustix::process::umask(MASK));
        self
    }

    /// Gives back what was taken.
    pub fn give_back(&self) {
        if let Some(mask) = self.mask {
            rustix::process::umask(mask);
        }
        let _ = rustix::process::setrlimit(Resource::Nofile, self.files);
    }
}

#[expect(unsafe_code, reason = "sigaction(2) has no safe wrapper, because it may install any function")]
fn hear_of_children() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no function is installed, and none of this process was before.
    let _ = unsafe { sigaction(Signal::SIGCHLD, &default) };
}
