//! Named steps of the way at which a test can have the process die, or the step fail.

use crate::failure::Failure;
use volhook_volumes::failpoint;

/// Ends the process or fails where a test wants this step to; see [`failpoint::reached`].
pub(crate) fn reached(step: &str) -> Result<(), Failure> {
    failpoint::reached(step).map_err(|error| {
        Failure::context(format!("the test wants step {step:?} to fail"), std::io::Error::from(error))
    })
}
