//! The volume or pod that a person means by a name.

use crate::context::Context;
use crate::failure::Failure;
use volhook_api::PodRef;
use volhook_api::RefError;
use volhook_api::VolumeRef;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::volume::Volume;
use volhook_volumes::StoreError;

/// A volume's identity from what a person typed: `NAME`, or `TENANT/NAME`.
pub fn volume_id(tenant: &str, name: &str) -> Result<VolumeId, Failure> {
    let tenant = Tenant::new(tenant).map_err(Failure::usage)?;
    Ok(VolumeRef::parse(name, &tenant).map_err(misnamed)?.into())
}

/// A pod from what a person typed: `POD`, or `TENANT/POD`.
///
/// # Errors
/// When it is no name.
pub fn pod(tenant: &str, name: &str) -> Result<PodRef, Failure> {
    let tenant = Tenant::new(tenant).map_err(Failure::usage)?;
    PodRef::parse(name, &tenant).map_err(misnamed)
}

/// The failure for a text that names no volume or pod.
fn misnamed(error: RefError) -> Failure {
    match error {
        RefError::Name(error) => Failure::usage(error),
        other @ RefError::OtherTenant { .. } => Failure::usage(other),
    }
}

/// The volume that a person means.
pub fn existing(context: &Context<'_>, id: &VolumeId) -> Result<Volume, Failure> {
    match context.store.find(id) {
        Ok(Some(volume)) => Ok(volume),
        Ok(None) => Err(no_such(id)),
        Err(error) => {
            let hint = match &error {
                StoreError::IsPart { pod: Some(pod), .. } => {
                    let pod = PodRef { tenant: id.tenant.clone(), pod: pod.clone() };
                    Some(format!(
                        "it lives and goes with its pod: `volhook pod inspect {pod}`, `volhook pod reset {pod}`, `volhook pod rm {pod}`"
                    ))
                }
                _ => None,
            };
            let mut failure = Failure::new(error).about(id.clone());
            failure.hints.extend(hint);
            Err(failure)
        }
    }
}

/// The error for a volume that is not there.
pub(crate) fn no_such(id: &VolumeId) -> Failure {
    volhook_leases::Error::NoSuchVolume { volume: id.clone() }.into()
}
