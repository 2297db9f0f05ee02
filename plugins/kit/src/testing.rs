//! Requests as volhook makes them, for a plugin's own tests: a decision is an ordinary function call.

use crate::driver;
use crate::policy;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The question how to back a new volume with these options, of the tenant `default`, without settings.
#[must_use]
pub fn create_request(volume: &str, options: &[(&str, &str)]) -> driver::CreateRequest {
    driver::CreateRequest {
        volume: volume.to_owned(),
        tenant: "default".to_owned(),
        pod: None,
        options: pairs(options),
        labels: Vec::new(),
        settings: Vec::new(),
        usage: driver::Usage::default(),
        more: Vec::new(),
    }
}

/// The question whether the container `c1` may hold a volume that nobody holds yet.
#[must_use]
pub fn attach_request(volume: &str, access: driver::Access) -> driver::AttachRequest {
    driver::AttachRequest {
        volume: volume.to_owned(),
        options: Vec::new(),
        labels: Vec::new(),
        container: driver::ContainerInfo {
            id: "c1".to_owned(),
            tenant: "default".to_owned(),
            ..driver::ContainerInfo::default()
        },
        holders: Vec::new(),
        access,
        settings: Vec::new(),
        more: Vec::new(),
    }
}

/// A container that holds the volume already.
#[must_use]
pub fn holder(container: &str, access: driver::Access, sharing: driver::Sharing) -> driver::HolderInfo {
    driver::HolderInfo { container: container.to_owned(), access, sharing, more: Vec::new() }
}

/// The question which volumes the container `c1` of a pod gets, its root filesystem empty.
#[must_use]
pub fn claims_request(pod: Option<&str>, settings: &[(&str, &str)]) -> policy::ClaimsRequest {
    policy::ClaimsRequest {
        container: policy::ContainerInfo {
            id: "c1".to_owned(),
            tenant: "default".to_owned(),
            pod: pod.map(str::to_owned),
            ..policy::ContainerInfo::default()
        },
        rootfs: Vec::new(),
        settings: pairs(settings),
        pod: None,
        no_overlay: None,
        more: Vec::new(),
    }
}

/// An entry at the top level of a root filesystem.
#[must_use]
pub fn root_entry(name: &str, kind: policy::EntryKind) -> policy::RootEntry {
    policy::RootEntry { name: name.to_owned(), kind, more: Vec::new() }
}
