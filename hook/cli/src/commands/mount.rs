//! `volhook volume mount` and `umount`: an image on the host, for a look.

use crate::output::out;
use crate::watch::Watch;
use std::path::Path;
use volhook_api::VolumeRef;
use volhook_api::volume::HostMount;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::named;
use volhook_engine::volumes::host_mount;

/// `volhook volume mount NAME [DIR]`: prints where.
pub(crate) fn mount(
    engine: &Engine,
    watch: &Watch,
    volume: (&str, &str),
    directory: Option<&Path>,
    read_only: bool,
) -> Result<(), Failure> {
    let (tenant, name) = volume;
    let absolute = |directory: &Path| {
        std::path::absolute(directory)
            .map_err(|error| Failure::context(format!("cannot find {}", directory.display()), error))
    };
    let request = HostMount {
        volume: VolumeRef::from(named::volume_id(tenant, name)?),
        directory: directory.map(absolute).transpose()?,
        read_only,
    };
    let mounted = host_mount::mount(engine, &request, &watch.work())?;
    out(&format!("{}\n", mounted.directory.display()))
}

/// `volhook volume umount NAME`: everything that `mount` mounted of it.
pub(crate) fn umount(engine: &Engine, watch: &Watch, tenant: &str, name: &str) -> Result<(), Failure> {
    let volume = VolumeRef::from(named::volume_id(tenant, name)?);
    host_mount::unmount(engine, &volume, &watch.work())
}
