//! The pod that somebody means.

use crate::context::Context;
use crate::failure::Failure;
use volhook_api::Kind;
use volhook_api::PodRef;
use volhook_core::volume::Volume;

/// The storage of a pod.
pub(crate) fn existing(context: &Context<'_>, pod: &PodRef) -> Result<Volume, Failure> {
    let PodRef { tenant, pod: name } = pod;
    match context.store.pod_storage(tenant, name).map_err(Failure::new)? {
        Some(volume) => Ok(volume),
        None => {
            let failure = Failure::new(format!("no such pod: {:?}", pod.to_string()));
            Err(Failure { kind: Kind::NoSuchPod, ..failure.hint("`volhook pod ls` shows which there are") })
        }
    }
}

/// The same, if it is still the one that somebody has looked at.
pub(crate) fn unchanged(context: &Context<'_>, pod: &PodRef, uuid: &str) -> Result<Volume, Failure> {
    let volume = existing(context, pod)?;
    if volume.uuid == uuid {
        return Ok(volume);
    }
    let failure =
        Failure::new(format!("pod {:?} is another one by now, and stays as it is", pod.to_string()));
    Err(failure.hint("look again").about(volume.id))
}
