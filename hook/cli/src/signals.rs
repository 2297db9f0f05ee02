//! SIGINT and SIGTERM as a wish that work ends halfway, for work that can.

use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Those that came since it was listened to.
#[derive(Default)]
pub(crate) struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// From now on one asks the work to end; a second one ends the process at once, as the first does before.
    pub(crate) fn listen(&self) -> std::io::Result<()> {
        for number in [SIGINT, SIGTERM] {
            let again = Arc::new(AtomicBool::new(false));
            // In this order: a signal that finds the flag set came after one that set it.
            flag::register_conditional_default(number, Arc::clone(&again))?;
            flag::register(number, again)?;
            let value = usize::try_from(number).unwrap_or_default();
            flag::register_usize(number, Arc::clone(&self.0), value)?;
        }
        Ok(())
    }

    /// The one that came last.
    pub(crate) fn came(&self) -> Option<u8> {
        u8::try_from(self.0.load(Ordering::Relaxed)).ok().filter(|signal| *signal != 0)
    }
}
