//! How a pod is named wherever it is named in one text.

use crate::volume_ref::RefError;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use volhook_core::names::Pod;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::volume::PodMember;

/// A pod as it is typed and shown: `POD` for one of the tenant `default`, else `TENANT/POD`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodRef {
    /// Whose it is.
    pub tenant: Tenant,
    /// Its name there.
    pub pod: Pod,
}

impl PodRef {
    /// The pod of which a volume is a member.
    #[must_use]
    pub fn of(volume: &VolumeId, member: &PodMember) -> Self {
        Self { tenant: volume.tenant.clone(), pod: member.pod.clone() }
    }

    /// The pod that `text` names: `POD` is one of `tenant`'s, in `TENANT/POD` the text says whose it is.
    ///
    /// # Errors
    /// When a part is no name, and when text and `tenant` disagree; the tenant `default` is what nobody said.
    pub fn parse(text: &str, tenant: &Tenant) -> Result<Self, RefError> {
        let parts = text.split_once('/').map(|(named, pod)| (Tenant::new(named), Pod::new(pod)));
        let Some((Ok(named), Ok(pod))) = parts else {
            // With a slash it is no name by itself: that is what is wrong with it.
            return Ok(Self { tenant: tenant.clone(), pod: Pod::new(text)? });
        };
        if named != *tenant && *tenant != Tenant::default() {
            let (text, meant) = (text.to_owned(), tenant.clone());
            return Err(RefError::OtherTenant { what: "pod", text, named, meant });
        }
        Ok(Self { tenant: named, pod })
    }
}

impl From<PodRef> for String {
    fn from(pod: PodRef) -> Self {
        pod.to_string()
    }
}

impl TryFrom<String> for PodRef {
    type Error = RefError;

    fn try_from(text: String) -> Result<Self, RefError> {
        Self::parse(&text, &Tenant::default())
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tenant == Tenant::default() {
            write!(f, "{}", self.pod)
        } else {
            write!(f, "{}/{}", self.tenant, self.pod)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PodRef;
    use volhook_core::names::Tenant;

    #[test]
    fn what_is_shown_can_be_typed() {
        let team = Tenant::new("team").unwrap();
        for (text, tenant, shown) in [
            ("p", &Tenant::default(), "p"),
            ("p", &team, "team/p"),
            ("team/p", &team, "team/p"),
            ("team/p", &Tenant::default(), "team/p"),
        ] {
            let pod = PodRef::parse(text, tenant).unwrap();
            assert_eq!(pod.to_string(), shown);
            assert_eq!(PodRef::try_from(pod.to_string()).unwrap(), pod);
        }
        for text in ["", "/p", "team/", "a/b/c", "../p"] {
            assert!(PodRef::parse(text, &team).is_err(), "{text:?}");
        }
        let error = PodRef::parse("other/p", &team).unwrap_err().to_string();
        assert_eq!(error, "pod \"other/p\" is named as tenant \"other\"'s, and tenant \"team\" is meant");
    }
}
