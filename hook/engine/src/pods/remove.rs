//! Removing pods with all their volumes: what would go is said first, as data, and is looked at anew when it goes.

use crate::context::Context;
use crate::engine::Engine;
use crate::pods::named;
use crate::start::storage;
use crate::volumes::remove::discard;
use std::collections::BTreeSet;
use volhook_api::pod::Removable;
use volhook_api::pod::Removal;
use volhook_api::pod::Remove;
use volhook_api::pod::Removed;
use volhook_leases::Work;

/// What would be removed. Nothing is changed.
#[must_use]
pub fn removable(engine: &Engine, asked: &Remove, work: &Work<'_>) -> Removal {
    let context = &Context::new(engine, *work);
    let mut removal = Removal::default();
    let mut seen = BTreeSet::new();
    for pod in asked.pods.iter().filter(|pod| seen.insert(*pod)) {
        let found = named::existing(context, pod).and_then(|volume| {
            let volumes = storage::of(&volume)?.parts.len();
            Ok(Removable { name: pod.clone(), uuid: volume.uuid, volumes, created: volume.created })
        });
        match found {
            Ok(removable) => removal.pods.push(removable),
            Err(failure) => removal.failed.push(failure.as_failed()),
        }
    }
    removal
}

/// Removes what was said to be removable, as far as it is the same by now: each pod goes to the trash with all its volumes,
/// unless somebody holds it.
#[must_use]
pub fn remove(engine: &Engine, removal: &Removal, work: &Work<'_>) -> Removed {
    let context = &Context::new(engine, *work);
    let mut removed = Removed::default();
    for Removable { name, uuid, .. } in &removal.pods {
        match named::unchanged(context, name, uuid).and_then(|volume| discard(context, &volume)) {
            Ok(()) => removed.pods.push(name.clone()),
            Err(failure) => removed.failed.push(failure.as_failed()),
        }
    }
    removed
}
