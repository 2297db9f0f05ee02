//! A pod put back to its image: all of it, or some of its volumes.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::pods::named;
use crate::start::fill;
use crate::start::renew;
use crate::start::storage;
use crate::volumes::copying::Copying;
use volhook_api::Kind;
use volhook_api::pod::Anew;
use volhook_api::pod::Reset;
use volhook_api::pod::Resettable;
use volhook_leases::Work;

/// What would be put back. Nothing is changed.
///
/// # Errors
/// [`Kind::NoSuchPod`], and [`Kind::NoSuchVolume`] where the pod has no such volume.
pub fn resettable(engine: &Engine, asked: &Reset, work: &Work<'_>) -> Result<Resettable, Failure> {
    let context = &Context::new(engine, *work);
    let volume = named::existing(context, &asked.pod)?;
    let storage = storage::of(&volume)?;
    let mut members = Vec::new();
    for name in &asked.volumes {
        // A volume is called as it is shown, or by what it is in the pod.
        let plain = name.strip_prefix(&format!("{}/", volume.id.tenant)).unwrap_or(name);
        let part = storage.parts.iter().find(|part| part.name.as_str() == plain || part.member == *name);
        let part = part.ok_or_else(|| {
            let known: Vec<&str> = storage.parts.iter().map(|part| part.member.as_str()).collect();
            let failure = Failure::new(format!("pod {:?} has no volume {name:?}", asked.pod.to_string()));
            Failure { kind: Kind::NoSuchVolume, ..failure.hint(format!("it has {}", known.join(", "))) }
        })?;
        if !members.contains(&part.member) {
            members.push(part.member.clone());
        }
    }
    Ok(Resettable { pod: asked.pod.clone(), uuid: volume.uuid, members })
}

/// Puts back what was said, if it is the same by now. All that a pod has goes to the trash; what was changed in single volumes
/// of it is deleted.
///
/// # Errors
/// [`Kind::Held`], and when it is another pod by now.
pub fn reset(engine: &Engine, asked: &Resettable, work: &Work<'_>) -> Result<Anew, Failure> {
    let context = &Context::new(engine, *work);
    let Resettable { pod, uuid, members } = asked;
    let volume = named::unchanged(context, pod, uuid)?;
    let copying = Copying::begin(*work, None);
    if !members.is_empty() {
        fill::reset(context, &volume, members, &copying.watch())?;
        return Ok(Anew { pod: pod.clone(), trashed: None });
    }
    // The next container says which image it begins anew from, unless one was refused.
    let storage = storage::of(&volume)?;
    let image = storage.offered.as_ref().map_or(storage.image.as_ref(), |offered| Some(&offered.image));
    let discarded = renew::begin_anew(context, &volume, image.cloned(), &copying.watch())?;
    Ok(Anew { pod: pod.clone(), trashed: Some(discarded.volume.uuid) })
}
