//! An image on the host, for a look, under a lease.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::named;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::path::PathBuf;
use volhook_api::VolumeRef;
use volhook_api::volume::HostMount;
use volhook_api::volume::HostMounted;
use volhook_core::decision::Access;
use volhook_core::decision::Backing;
use volhook_core::lease::Grant;
use volhook_core::names::Command;
use volhook_core::names::Target;
use volhook_core::record::ReleaseReason;
use volhook_core::record::Steps;
use volhook_core::volume::Volume;
use volhook_journal::Interest;
use volhook_leases::Hold;
use volhook_leases::Need;
use volhook_leases::Work;
use volhook_mounts::host;
use volhook_mounts::source;
use volhook_mounts::source::ImageUse;

/// Mounts an image. The lease lasts as long as the mount.
///
/// # Errors
/// [`Kind::Held`](volhook_api::Kind), when it is no image, and when it cannot be mounted.
pub fn mount(engine: &Engine, asked: &HostMount, work: &Work<'_>) -> Result<HostMounted, Failure> {
    let context = &Context::new(engine, *work);
    let volume = named::existing(context, asked.volume.id())?;
    let Backing::Image(image) = &volume.backing else {
        let failure = Failure::new(format!("volume {:?} is no image, there is nothing to mount", volume.id));
        return Err(match &volume.backing {
            Backing::Directory(_) | Backing::HostPath(_) => {
                failure.hint(format!("its files are in {}", context.store.place(&volume).display()))
            }
            _ => failure,
        });
    };
    let directory = match &asked.directory {
        Some(directory) => directory.clone(),
        None => own_directory(context, &volume)?,
    };
    let target = directory.to_str().map(Target::new).ok_or_else(|| {
        Failure::usage(format!("{} is not UTF-8; choose another directory", directory.display()))
    })?;
    let need = Need { target: Some(target?), ..Need::of(&volume, Access::ReadWrite) };
    let hold = Hold::take(&context.ledger, Command::Mount, &[need], &context.work())?;
    let sharing = if hold.is_exclusive() { ImageUse::Exclusive } else { ImageUse::Shared };
    let path = context.store.image_path(&volume);
    source::mount_image(&path, image, sharing)
        .and_then(|mounted| host::attach(&mounted, &directory, asked.read_only))
        .map_err(|error| Failure::context(format!("cannot mount volume {:?}", volume.id), error))?;
    hold.keep();
    Ok(HostMounted { name: asked.volume.clone(), directory })
}

/// Unmounts everything that [`mount`] mounted of a volume.
///
/// # Errors
/// When nothing is mounted, and when something in it is in use.
pub fn unmount(engine: &Engine, volume: &VolumeRef, work: &Work<'_>) -> Result<(), Failure> {
    let context = &Context::new(engine, *work);
    let volume = named::existing(context, volume.id())?;
    let volumes = [volume.id.clone()];
    let table = context.grants_about(&Interest { volumes: &volumes, ..Interest::default() })?;
    let is_mount =
        |grant: &&Grant| grant.container.command().is_some_and(|(command, _)| command == Command::Mount);
    let grants: Vec<&Grant> = table.grants().filter(is_mount).collect();
    if grants.is_empty() {
        return Err(Failure::new(format!("volume {:?} is not mounted on the host", volume.id)));
    }
    let image = context.store.image_path(&volume);
    for grant in grants {
        for target in grant.leases.iter().filter_map(|lease| lease.target.as_ref()) {
            let directory = Path::new(target.as_str());
            host::detach(&image, directory).map_err(|error| {
                Failure::context(format!("cannot unmount volume {:?}", volume.id), error)
                    .hint("something in that directory may be open, or the working directory of a shell")
            })?;
            if directory.starts_with(&context.places.run_dir) {
                // Only if it is empty.
                let _ = std::fs::remove_dir(directory);
            }
        }
        let evidence = "it was unmounted".to_owned();
        context.ledger.release(grant, ReleaseReason::Done, evidence, Steps::new(), &context.work())?;
    }
    volhook_leases::await_free(&context.ledger, &volume);
    Ok(())
}

/// Where volumes are mounted when nobody says where.
fn own_directory(context: &Context<'_>, volume: &Volume) -> Result<PathBuf, Failure> {
    let id = &volume.id;
    let directory = context.places.run_dir.join("mounts").join(id.tenant.as_str()).join(id.name.as_str());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(|error| Failure::context(format!("cannot make {}", directory.display()), error))?;
    Ok(directory)
}
