//! What a caller wants to know of the table: which grants could matter to it.

use crate::tail::plain_text;
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
    /// The keys in the payload of a `granted` record.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn read(payload: &'a [u8]) -> Result<Self, serde_json::Error> {
        Self::plain(payload).map_or_else(|| serde_json::from_slice(payload), Ok)
    }

    /// The same for records as they are written here, with nothing escaped anywhere, looking only where keys stand. `None`
    /// for any other.
    fn plain(payload: &'a [u8]) -> Option<Self> {
        if memchr::memchr(b'\\', payload).is_some() {
            return None;
        }
        let (attempt, rest) = plain_text(payload.strip_prefix(br#"{"kind":"granted","attempt":"#)?)?;
        let (container, rest) = plain_text(rest.strip_prefix(br#","container":"#)?)?;
        // Without escapes, a quotation mark is where a string begins or ends: nothing looks like this but a key.
        let mut leases = Vec::with_capacity(16);
        for at in memchr::memmem::find_iter(rest, br#""volume":"#) {
            let volume = rest[at..].strip_prefix(br#""volume":{"tenant":"#)?;
            let (tenant, volume) = plain_text(volume)?;
            let (name, volume) = plain_text(volume.strip_prefix(br#","name":"#)?)?;
            volume.strip_prefix(b"}")?;
            let volume = VolumeKey { tenant: Cow::Borrowed(tenant), name: Cow::Borrowed(name) };
            leases.push(LeaseKey { volume });
        }
        Some(Self { attempt: Cow::Borrowed(attempt), container: Cow::Borrowed(container), leases })
    }

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

#[cfg(test)]
mod tests {
    use super::GrantKeys;
    use jiff::Timestamp;
    use volhook_core::lease::Grant;
    use volhook_core::record::LeaseRecord;

    fn payload(volumes: &[&str], driver: &str, attempt: &str) -> Vec<u8> {
        let lease = |name: &&str| {
            serde_json::json!({
                "volume": {"tenant": "default", "name": name}, "uuid": "u", "driver": driver,
                "access": "read-write", "sharing": "shared", "image": false, "target": "/volume",
            })
        };
        let grant = serde_json::json!({
            "attempt": attempt, "container": "c1", "holder": null, "since": Timestamp::UNIX_EPOCH,
            "leases": volumes.iter().map(lease).collect::<Vec<_>>(),
        });
        let grant: Grant = serde_json::from_value(grant).unwrap();
        let mut payload = serde_json::to_vec(&LeaseRecord::Granted(grant)).unwrap();
        payload.resize(payload.len().next_multiple_of(8), b' ');
        payload
    }

    fn told<'a>(keys: &'a GrantKeys<'_>) -> (&'a str, &'a str, Vec<(&'a str, &'a str)>) {
        let volumes = keys.leases.iter().map(|lease| (&*lease.volume.tenant, &*lease.volume.name));
        (&keys.attempt, &keys.container, volumes.collect())
    }

    #[test]
    fn keys_are_found_without_parsing_the_record_and_are_the_same() {
        for volumes in [&[][..], &["one"], &["one", "two", "volume"]] {
            for driver in ["local", "volume", "a:b, {[]}"] {
                let payload = payload(volumes, driver, "a1");
                let plain = GrantKeys::plain(&payload).expect("records are written like this");
                let parsed: GrantKeys<'_> = serde_json::from_slice(&payload).unwrap();
                assert_eq!(told(&plain), told(&parsed));
                assert_eq!(plain.leases.len(), volumes.len());
            }
        }
    }

    #[test]
    fn a_record_in_another_form_is_parsed() {
        // What is quoted in a text is no key.
        let quoted = payload(&["one"], r#"","volume":{"tenant":"default","name":"two"},""#, "a1");
        let escaped = payload(&["one"], "local", "a\n1");
        let spaced = String::from_utf8(payload(&["one"], "local", "a1")).unwrap().replace(':', ": ");
        for payload in [quoted, escaped, spaced.into_bytes()] {
            assert!(GrantKeys::plain(&payload).is_none());
            let keys = GrantKeys::read(&payload).unwrap();
            assert_eq!(told(&keys).2, [("default", "one")]);
        }
    }
}
