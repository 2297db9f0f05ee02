//! What of the host an operator lets volumes be: directories and block devices, and for whom.
//!
//! The host's own, whatever a driver says: a volume is looked up here when it is created and at every attach. Only
//! texts are compared; whoever opens what was granted sees to it that the path leads nowhere else.

use crate::names::AbsolutePath;
use crate::names::NameError;
use crate::names::Tenant;
use crate::names::is_below_or_at;
use serde::Deserialize;

/// `[grants]` of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Directories; what is below them is granted, too.
    pub paths: Vec<PathGrant>,
    /// Block devices, by pattern.
    pub devices: Vec<DeviceGrant>,
}

/// A granted directory: its path, or `{ path = …, tenants = […], read_only = true }`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "WrittenPath")]
pub struct PathGrant {
    /// The directory.
    pub path: AbsolutePath,
    /// For whom; for everybody when there is none.
    pub tenants: Option<Vec<Tenant>>,
    /// Whether nobody may write.
    pub read_only: bool,
}

/// A granted block device: a pattern, or `{ path = …, tenants = […] }`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "WrittenDevice")]
pub struct DeviceGrant {
    /// The devices.
    pub pattern: DevicePattern,
    /// For whom; for everybody when there is none.
    pub tenants: Option<Vec<Tenant>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenPath {
    Plain(AbsolutePath),
    Whole(WholePath),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WholePath {
    path: AbsolutePath,
    tenants: Option<Vec<Tenant>>,
    #[serde(default)]
    read_only: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenDevice {
    Plain(DevicePattern),
    Whole(WholeDevice),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeDevice {
    path: DevicePattern,
    tenants: Option<Vec<Tenant>>,
}

impl From<WrittenPath> for PathGrant {
    fn from(written: WrittenPath) -> Self {
        match written {
            WrittenPath::Plain(path) => Self { path, tenants: None, read_only: false },
            WrittenPath::Whole(WholePath { path, tenants, read_only }) => Self { path, tenants, read_only },
        }
    }
}

impl From<WrittenDevice> for DeviceGrant {
    fn from(written: WrittenDevice) -> Self {
        match written {
            WrittenDevice::Plain(pattern) => Self { pattern, tenants: None },
            WrittenDevice::Whole(WholeDevice { path, tenants }) => Self { pattern: path, tenants },
        }
    }
}

/// Paths below `/dev`, in which `*` stands for any part of one component.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DevicePattern(String);

impl TryFrom<String> for DevicePattern {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let path = AbsolutePath::new(&text)?;
        if path.as_str().starts_with("/dev/") {
            return Ok(Self(path.as_str().to_owned()));
        }
        // Anywhere else somebody might put a link to another device.
        let reason = "only what is below /dev can be granted as a device";
        Err(NameError::Path { what: "device", text: crate::names::shorten(&text), reason })
    }
}

impl DevicePattern {
    fn matches(&self, path: &str) -> bool {
        let (patterns, parts) = (self.0.split('/'), path.split('/'));
        patterns.clone().count() == parts.clone().count()
            && patterns.zip(parts).all(|(pattern, part)| part_matches(pattern, part))
    }
}

/// Whether one component fits a pattern.
fn part_matches(pattern: &str, part: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == part };
    let Some(mut part) = part.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match part.find(piece) {
            Some(at) => part = &part[at + piece.len()..],
            None => return false,
        }
    }
    part.ends_with(last)
}

impl Grants {
    /// The grant under which `tenant` may have the directory `path`: of several the nearest above it.
    #[must_use]
    pub fn path(&self, tenant: &Tenant, path: &AbsolutePath) -> Option<&PathGrant> {
        self.paths
            .iter()
            .filter(|grant| {
                is_below_or_at(path.as_str(), grant.path.as_str()) && is_for(&grant.tenants, tenant)
            })
            .max_by_key(|grant| grant.path.as_str().len())
    }

    /// The grant under which `tenant` may have the device `path`: of several the first.
    #[must_use]
    pub fn device(&self, tenant: &Tenant, path: &AbsolutePath) -> Option<&DeviceGrant> {
        self.devices
            .iter()
            .find(|grant| grant.pattern.matches(path.as_str()) && is_for(&grant.tenants, tenant))
    }
}

fn is_for(tenants: &Option<Vec<Tenant>>, tenant: &Tenant) -> bool {
    tenants.as_ref().is_none_or(|tenants| tenants.contains(tenant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grants(text: &str) -> Grants {
        toml::from_str(text).unwrap()
    }

    fn path(text: &str) -> AbsolutePath {
        AbsolutePath::new(text).unwrap()
    }

    fn tenant(name: &str) -> Tenant {
        Tenant::new(name).unwrap()
    }

    #[test]
    fn a_directory_grants_what_is_below_it() {
        let grants = grants("paths = [\"/srv/shared/\", { path = \"/srv/shared/keys\", read_only = true }]");
        let read_only = |text| grants.path(&Tenant::default(), &path(text)).map(|grant| grant.read_only);
        assert_eq!(read_only("/srv/shared"), Some(false));
        assert_eq!(read_only("/srv/shared/a/b"), Some(false));
        assert_eq!(read_only("/srv/shared/keys/a"), Some(true), "the nearest counts");
        for other in ["/srv", "/srv/shared2", "/srv/sharedx/a", "/etc"] {
            assert_eq!(read_only(other), None, "{other}");
        }
    }

    #[test]
    fn a_grant_may_be_for_some_tenants_only() {
        let grants = grants(
            "paths = [{ path = \"/srv/a\", tenants = [\"a\"] }]\ndevices = [{ path = \"/dev/vg0/*\", tenants = [\"a\"] }]",
        );
        assert!(grants.path(&tenant("a"), &path("/srv/a/x")).is_some());
        assert!(grants.path(&tenant("b"), &path("/srv/a/x")).is_none());
        assert!(grants.path(&Tenant::default(), &path("/srv/a")).is_none());
        assert!(grants.device(&tenant("a"), &path("/dev/vg0/lv")).is_some());
        assert!(grants.device(&tenant("b"), &path("/dev/vg0/lv")).is_none());
    }

    #[test]
    fn a_star_stays_in_its_component() {
        let grants = grants("devices = [\"/dev/vg0/*\", \"/dev/sd*1\", \"/dev/disk/by-id/*x*y*\"]");
        let granted = |text| grants.device(&Tenant::default(), &path(text)).is_some();
        for yes in ["/dev/vg0/lv", "/dev/sda1", "/dev/sd1", "/dev/disk/by-id/axby", "/dev/disk/by-id/xy"] {
            assert!(granted(yes), "{yes}");
        }
        for no in ["/dev/vg0", "/dev/vg0/lv/x", "/dev/vg1/lv", "/dev/sda", "/dev/sda12", "/dev/disk/by-id/yx"]
        {
            assert!(!granted(no), "{no}");
        }
    }

    #[test]
    fn what_cannot_be_granted() {
        for text in [
            "paths = [\"/\"]",
            "paths = [\"srv\"]",
            "paths = [\"/srv/../etc\"]",
            "devices = [\"/srv/disk\"]",
            "devices = [\"/dev\"]",
            "devices = [\"/dev/../etc/x\"]",
            "paths = [{ path = \"/srv\", tenant = [\"a\"] }]",
            "path = [\"/srv\"]",
        ] {
            assert!(toml::from_str::<Grants>(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_without_stars_is_that_device(name in "[a-z0-9_-]{1,20}", other in "[a-z0-9_-]{1,20}") {
            prop_assert!(part_matches(&name, &name));
            prop_assert_eq!(part_matches(&name, &other), name == other);
        }

        #[test]
        fn a_star_stands_for_anything(a in "[a-z]{0,5}", b in "[a-z]{0,5}", c in "[a-z]{0,5}") {
            let (pattern, part) = (format!("{a}*{c}"), format!("{a}{b}{c}"));
            prop_assert!(part_matches(&pattern, &part));
            prop_assert!(part_matches("*", &a));
        }
    }
}
