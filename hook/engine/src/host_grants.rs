//! What of the host a volume may be: the operator's grants, applied to volumes whatever their drivers say.

use crate::context::Context;
use crate::failure::Failure;
use std::os::fd::OwnedFd;
use std::path::Path;
use volhook_core::decision::Access;
use volhook_core::decision::Backing;
use volhook_core::decision::HostPath;
use volhook_core::grants::PathGrant;
use volhook_core::volume::Volume;
use volhook_mounts::Error;
use volhook_mounts::device;
use volhook_mounts::host_path;

/// The most access that anybody may have to the volume.
pub(crate) fn most_access(context: &Context<'_>, volume: &Volume) -> Result<Access, Failure> {
    match &volume.backing {
        Backing::Directory(_) | Backing::Image(_) | Backing::Tmpfs(_) => Ok(Access::ReadWrite),
        Backing::HostPath(host) => {
            let grant = path_grant(context, volume, host)?;
            Ok(if grant.read_only { Access::ReadOnly } else { Access::ReadWrite })
        }
        Backing::Device(device) => match context.config()?.grants.device(&volume.id.tenant, &device.path) {
            Some(_) => Ok(Access::ReadWrite),
            None => Err(not_granted(context, volume, "device", device.path.as_str())),
        },
    }
}

fn path_grant<'a>(
    context: &'a Context<'a>,
    volume: &Volume,
    host: &HostPath,
) -> Result<&'a PathGrant, Failure> {
    let grant = context.config()?.grants.path(&volume.id.tenant, &host.path);
    grant.ok_or_else(|| not_granted(context, volume, "host path", host.path.as_str()))
}

fn not_granted(context: &Context<'_>, volume: &Volume, what: &str, path: &str) -> Failure {
    let Volume { id, .. } = volume;
    let key = if what == "device" { "devices" } else { "paths" };
    Failure::new(format!(
        "volume {id:?} cannot be used: {what} {path:?} is not granted to tenant {:?}",
        id.tenant
    ))
    .hint(format!(
        "who runs this host grants it with `{key}` under [grants] in {}",
        context.places.config.display()
    ))
    .about(id.clone())
}

/// Checks before it is created that what a volume is to be is there, and may be it.
pub(crate) fn check_new(context: &Context<'_>, volume: &Volume) -> Result<(), Failure> {
    most_access(context, volume)?;
    match &volume.backing {
        Backing::HostPath(host) => open_host_path(context, volume, host).map(drop),
        Backing::Device(device) => {
            device::check_device(Path::new(device.path.as_str())).map_err(|error| unusable(volume, error))
        }
        Backing::Directory(_) | Backing::Image(_) | Backing::Tmpfs(_) => Ok(()),
    }
}

/// Opens the directory of the host that a volume is.
pub(crate) fn open_host_path(
    context: &Context<'_>,
    volume: &Volume,
    host: &HostPath,
) -> Result<OwnedFd, Failure> {
    let grant = path_grant(context, volume, host)?;
    let kept = [context.places.root.as_path(), context.places.run_dir.as_path()];
    host_path::open_granted(Path::new(grant.path.as_str()), Path::new(host.path.as_str()), &kept)
        .map_err(|error| unusable(volume, error))
}

/// The failure that `error` of a volume's host path or device is.
pub(crate) fn unusable(volume: &Volume, error: Error) -> Failure {
    let hint = match &error {
        Error::HostPathMissing { .. } => Some("make the directory; volhook makes none of the host's"),
        Error::HostPathSymlink { .. } => {
            Some("name the directory itself, or grant the one that the link leads to")
        }
        Error::HostPathNotDirectory { .. } => {
            Some("name the directory that it is in, and claim it with volume-subpath")
        }
        Error::DeviceBusy { .. } => {
            Some("unmount it on the host, or stop who uses it: a device is one container's at a time")
        }
        Error::MountDevice { .. } => Some("volhook never formats a device; make the filesystem with mkfs"),
        _ => None,
    };
    let failure =
        Failure::context(format!("cannot use volume {:?}", volume.id), error).about(volume.id.clone());
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
