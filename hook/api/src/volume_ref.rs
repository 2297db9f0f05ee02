//! How a volume is named wherever it is named in one text.

use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;
use volhook_core::names::NameError;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;

/// A volume as it is typed and shown: `NAME` for one of the tenant `default`, else `TENANT/NAME`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeRef(VolumeId);

/// Why a text names no volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefError {
    /// A part of it is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It says another tenant's than the one that is meant.
    #[error("volume {text:?} is named as tenant {named:?}'s, and tenant {meant:?} is meant")]
    OtherTenant {
        /// The text.
        text: String,
        /// The tenant in the text.
        named: Tenant,
        /// The tenant beside the text.
        meant: Tenant,
    },
}

impl VolumeRef {
    /// The volume that `text` names: `NAME` is one of `tenant`'s, in `TENANT/NAME` the text says whose it is.
    ///
    /// # Errors
    /// When a part is no name, and when text and `tenant` disagree; the tenant `default` is what nobody said.
    pub fn parse(text: &str, tenant: &Tenant) -> Result<Self, RefError> {
        let Some((named, name)) = text.split_once('/') else {
            return Ok(Self(VolumeId { tenant: tenant.clone(), name: VolumeName::new(text)? }));
        };
        let (Ok(named), Ok(name)) = (Tenant::new(named), VolumeName::new(name)) else {
            // With a slash it is no name by itself: that is what is wrong with it.
            let name = VolumeName::new(text)?;
            return Ok(Self(VolumeId { tenant: tenant.clone(), name }));
        };
        if named != *tenant && *tenant != Tenant::default() {
            return Err(RefError::OtherTenant { text: text.to_owned(), named, meant: tenant.clone() });
        }
        Ok(Self(VolumeId { tenant: named, name }))
    }

    /// The volume's identity.
    #[must_use]
    pub fn id(&self) -> &VolumeId {
        &self.0
    }
}

impl From<VolumeId> for VolumeRef {
    fn from(id: VolumeId) -> Self {
        Self(id)
    }
}

impl From<&VolumeId> for VolumeRef {
    fn from(id: &VolumeId) -> Self {
        Self(id.clone())
    }
}

impl From<VolumeRef> for VolumeId {
    fn from(volume: VolumeRef) -> Self {
        volume.0
    }
}

impl From<VolumeRef> for String {
    fn from(volume: VolumeRef) -> Self {
        volume.to_string()
    }
}

impl TryFrom<String> for VolumeRef {
    type Error = RefError;

    fn try_from(text: String) -> Result<Self, RefError> {
        text.parse()
    }
}

impl FromStr for VolumeRef {
    type Err = RefError;

    fn from_str(text: &str) -> Result<Self, RefError> {
        Self::parse(text, &Tenant::default())
    }
}

impl fmt::Display for VolumeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for VolumeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::VolumeRef;
    use volhook_core::names::Tenant;

    #[test]
    fn what_is_shown_can_be_typed() {
        for text in ["v", "team/v"] {
            let volume: VolumeRef = text.parse().unwrap();
            assert_eq!(volume.to_string(), text);
            assert_eq!(serde_json::to_string(&volume).unwrap(), format!("{text:?}"));
            assert_eq!(serde_json::from_str::<VolumeRef>(&format!("{text:?}")).unwrap(), volume);
        }
        assert_eq!("default/v".parse::<VolumeRef>().unwrap().to_string(), "v");
    }

    #[test]
    fn a_tenant_beside_the_name_counts_where_the_name_says_none() {
        let team = Tenant::new("team").unwrap();
        assert_eq!(VolumeRef::parse("v", &team).unwrap().to_string(), "team/v");
        assert_eq!(VolumeRef::parse("team/v", &team).unwrap().to_string(), "team/v");
        let error = VolumeRef::parse("other/v", &team).unwrap_err().to_string();
        assert_eq!(error, "volume \"other/v\" is named as tenant \"other\"'s, and tenant \"team\" is meant");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "/v", "team/", "a/b/c", "../v", "team/..", "te am/v", ".v"] {
            assert!(text.parse::<VolumeRef>().is_err(), "{text:?}");
        }
    }
}
