//! `volhook volume fsck` and `resize`: the filesystems in images.

use crate::output::out;
use crate::progress;
use crate::watch::Watch;
use volhook_api::VolumeRef;
use volhook_api::volume::Check;
use volhook_api::volume::Resize;
use volhook_core::size;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::named;
use volhook_engine::volumes::filesystem;

/// `volhook volume fsck NAME`: whether an image's filesystem is sound; with `repair`, mends it.
pub(crate) fn fsck(
    engine: &Engine,
    watch: &Watch,
    tenant: &str,
    name: &str,
    repair: bool,
) -> Result<(), Failure> {
    let request = Check { volume: VolumeRef::from(named::volume_id(tenant, name)?), repair };
    let check = || filesystem::check(engine, &request, &watch.work());
    let checked = progress::spinning("checking the filesystem", check)?;
    match checked.repaired {
        None => out(&format!("{}: clean\n", checked.name)),
        Some(said) => out(&format!("{}: repaired: {said}\n", checked.name)),
    }
}

/// `volhook volume resize NAME SIZE`: an image grows also while containers use it, and shrinks while nobody does.
pub(crate) fn resize(
    engine: &Engine,
    watch: &Watch,
    tenant: &str,
    name: &str,
    wanted: &str,
) -> Result<(), Failure> {
    let volume = VolumeRef::from(named::volume_id(tenant, name)?);
    let size = size::parse(wanted).map_err(|error| {
        Failure::usage(error).during(format!("cannot resize volume {volume:?} to {wanted:?}"))
    })?;
    let request = Resize { volume, size };
    let resize = || filesystem::resize(engine, &request, &watch.work());
    let resized = progress::spinning("changing the size", resize)?;
    out(&format!("{} {}\n", resized.name, size::format(resized.size)))
}
