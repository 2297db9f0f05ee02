//! What somebody wants to know of who holds what.

use crate::leases::is_sharer;
use volhook_core::lease::Grant;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;

/// Selects grants: those that hold one of `volumes`, are of `container`, or are one of `attempts`. A selected grant
/// comes whole, with all its leases.
#[derive(Debug, Clone, Copy, Default)]
pub struct Interest<'a> {
    /// Volumes that are about to be held or removed.
    pub volumes: &'a [VolumeId],
    /// Leaves out who holds one of `volumes` in no way that keeps others from sharing it: for somebody who only wants to share
    /// them as well, however many do.
    pub but_sharers: bool,
    /// A container, by the id that it has now: a binding may have changed the one it was granted under.
    pub container: Option<&'a ContainerId>,
    /// Attempts, live or not.
    pub attempts: &'a [&'a str],
}

impl Interest<'_> {
    pub(crate) fn covers(&self, grant: &Grant) -> bool {
        self.container == Some(&grant.container)
            || self.attempts.contains(&grant.attempt.as_str())
            || grant
                .leases
                .iter()
                .any(|lease| self.volumes.contains(&lease.volume) && !(self.but_sharers && is_sharer(lease)))
    }
}
