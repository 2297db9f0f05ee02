//! Another image accepted for a pod.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::image::Image;
use crate::pods::named;
use crate::start::storage;
use crate::start::storage::Top;
use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::path::PathBuf;
use volhook_api::pod::Hidden;
use volhook_api::pod::Upgrade;
use volhook_api::pod::Upgraded;
use volhook_core::decision::Population;
use volhook_core::image::ImageIdentity;
use volhook_core::volume::Volume;
use volhook_leases::Work;
use volhook_mounts::rootfs::Rootfs;
use volhook_volumes::shadowed;

/// Has a pod belong to another image from now on, and says what of that its own changes hide.
///
/// # Errors
/// [`Kind::NoSuchPod`](volhook_api::Kind::NoSuchPod), when no image is known, and when its root filesystem cannot be read.
pub fn upgrade(engine: &Engine, asked: &Upgrade, work: &Work<'_>) -> Result<Upgraded, Failure> {
    let context = &Context::new(engine, *work);
    let volume = named::existing(context, &asked.pod)?;
    let storage = storage::of(&volume)?;
    let (identity, rootfs) = match (&asked.rootfs, &storage.offered) {
        (Some(path), _) => (None, path.as_path()),
        (None, Some(offered)) => (Some(offered.image.clone()), Path::new(&offered.rootfs)),
        (None, None) => {
            let reason = format!("pod {:?} was not refused with another image", asked.pod.to_string());
            return Err(Failure::new(reason).hint("--rootfs DIR says which image is meant"));
        }
    };
    let seen = Rootfs::on_host(rootfs);
    let identity = match (identity, &seen) {
        (Some(identity), _) => identity,
        (None, Ok(seen)) => Image::new(rootfs, seen, &BTreeMap::new()).identity(None)?,
        (None, Err(_)) => ImageIdentity::default(),
    };
    let hidden = match seen {
        Ok(seen) => hidden(context, &volume, &Image::new(rootfs, &seen, &BTreeMap::new()))?,
        Err(error) if identity.is_known() => Hidden::Unknown(Failure::new(error).cause_line()),
        Err(error) => {
            let intention = format!("cannot open the root filesystem {}", rootfs.display());
            return Err(Failure::context(intention, error));
        }
    };
    storage::bring_to(context, &volume, &identity, context.deadline)?;
    Ok(Upgraded { pod: asked.pod.clone(), image: identity.describe(), hidden })
}

fn hidden(context: &Context<'_>, volume: &Volume, image: &Image<'_>) -> Result<Hidden, Failure> {
    if storage::of(volume)?.population != Population::Overlay {
        return Ok(Hidden::Everything);
    }
    let top = Top::of(context, volume)?;
    let paths = shadowed(top.as_fd(), image.bare()?.as_fd(), context.long_deadline()).map_err(|error| {
        Failure::context(format!("cannot read what was changed in volume {:?}", volume.id), error)
    })?;
    Ok(Hidden::Paths(paths.into_iter().map(shown).collect()))
}

fn shown(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap_or_else(|path| format!("{path:?}"))
}
