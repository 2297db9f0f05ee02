//! What a caller wants to know of the table: which grants could matter to it.

use serde::Deserialize;
use std::borrow::Cow;
use volhook_core::lease::Grant;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;

/// Selects grants: those that hold one of `volumes`, are of `container`, or are one of `attempts`. A selected grant
/// comes whole, with all its leases.
#[derive(Debug, Clone, Copy, Default)]
pub struct Interest<'a> {
    /// Volumes that are about to be held or removed.
    pub volumes: &'a [VolumeId],
    /// A container, by the id that it has now: a binding may have changed the one it was granted under.
    pub container: Option<&'a ContainerId>,
    /// Attempts, live or not.
    pub attempts: &'a [&'a str],
}

impl Interest<'_> {
    pub(crate) fn covers(&self, grant: &Grant) -> bool {
        self.container == Some(&grant.container)
            || self.attempts.contains(&grant.attempt.as_str())
            || grant.leases.iter().any(|lease| self.volumes.contains(&lease.volume))
    }

    /// The same for a grant of which only the keys were read; `container` is the one that it is bound to.
    pub(crate) fn covers_keys(&self, keys: &GrantKeys<'_>, container: &str) -> bool {
        self.container.is_some_and(|wanted| wanted.as_str() == container)
            || self.attempts.contains(&&*keys.attempt)
            || keys.leases.iter().any(|lease| self.volumes.iter().any(|id| lease.volume.is(id)))
    }
}

/// The part of a `granted` record by which it is looked up; reading the whole costs several times as much.
#[derive(Deserialize)]
pub(crate) struct GrantKeys<'a> {
    #[serde(borrow)]
    pub(crate) attempt: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) container: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) leases: Vec<LeaseKey<'a>>,
}

#[derive(Deserialize)]
pub(crate) struct LeaseKey<'a> {
    #[serde(borrow)]
    pub(crate) volume: VolumeKey<'a>,
}

#[derive(Deserialize)]
pub(crate) struct VolumeKey<'a> {
    #[serde(borrow)]
    pub(crate) tenant: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
}

impl<'a> GrantKeys<'a> {
    pub(crate) fn of(grant: &'a Grant) -> Self {
        let volumes = grant.leases.iter().map(|lease| &lease.volume);
        let keys = volumes.map(|id| VolumeKey {
            tenant: Cow::Borrowed(id.tenant.as_str()),
            name: Cow::Borrowed(id.name.as_str()),
        });
        Self {
            attempt: Cow::Borrowed(&grant.attempt),
            container: Cow::Borrowed(grant.container.as_str()),
            leases: keys.map(|volume| LeaseKey { volume }).collect(),
        }
    }
}

impl VolumeKey<'_> {
    fn is(&self, id: &VolumeId) -> bool {
        self.tenant == id.tenant.as_str() && self.name == id.name.as_str()
    }
}

/// The part of a `bound` record by which its grant is looked up.
#[derive(Deserialize)]
pub(crate) struct BoundKeys<'a> {
    #[serde(borrow)]
    pub(crate) attempt: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) container: Cow<'a, str>,
}
