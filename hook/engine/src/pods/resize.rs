//! Another size for a pod that is one image.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::pods::named;
use crate::volumes::filesystem;
use volhook_api::VolumeRef;
use volhook_api::pod::Resize;
use volhook_api::volume;
use volhook_api::volume::Resized;
use volhook_leases::Work;

/// Gives a pod another size: it grows at any time, and shrinks while nobody holds it.
///
/// # Errors
/// [`Kind::NoSuchPod`](volhook_api::Kind::NoSuchPod), when it has no size, and those of [`filesystem::resize`].
pub fn resize(engine: &Engine, asked: &Resize, work: &Work<'_>) -> Result<Resized, Failure> {
    let context = &Context::new(engine, *work);
    let volume = named::existing(context, &asked.pod)?;
    if volume.limit.is_none() {
        let reason = format!("pod {:?} was made without a size, as directories", asked.pod.to_string());
        let hint = "its policy's setting size=SIZE makes new pods with a limit";
        return Err(Failure::new(reason).hint(hint));
    }
    let asked = volume::Resize { volume: VolumeRef::from(&volume.id), size: asked.size };
    filesystem::resize(engine, &asked, work)
}
