//! `volhook volume mount` and `umount`: an image on the host, for a look, under a lease.

use crate::output::out;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::decision::Access;
use volhook_core::decision::Backing;
use volhook_core::lease::Grant;
use volhook_core::lease::ReleaseReason;
use volhook_core::names::Command;
use volhook_core::names::Target;
use volhook_core::volume::Volume;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_engine::named;
use volhook_journal::Interest;
use volhook_leases::Hold;
use volhook_leases::Need;
use volhook_mounts::host;
use volhook_mounts::source;
use volhook_mounts::source::ImageUse;

/// `volhook volume mount NAME [DIR]`: prints where.
pub(crate) fn mount(
    context: &Context<'_>,
    tenant: &str,
    name: &str,
    directory: Option<&Path>,
    read_only: bool,
) -> Result<(), Failure> {
    let volume = named::existing(context, &named::volume_id(tenant, name)?)?;
    let Backing::Image(image) = &volume.backing else {
        let failure = Failure::new(format!("volume {:?} is no image, there is nothing to mount", volume.id));
        return Err(match &volume.backing {
            Backing::Directory(_) | Backing::HostPath(_) => {
                failure.hint(format!("its files are in {}", context.store.place(&volume).display()))
            }
            _ => failure,
        });
    };
    let directory = match directory {
        Some(directory) => std::path::absolute(directory)
            .map_err(|error| Failure::context(format!("cannot find {}", directory.display()), error))?,
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
        .and_then(|mounted| host::attach(&mounted, &directory, read_only))
        .map_err(|error| Failure::context(format!("cannot mount volume {:?}", volume.id), error))?;
    hold.keep();
    out(&format!("{}\n", directory.display()))
}

/// `volhook volume umount NAME`: everything that `mount` mounted of it.
pub(crate) fn umount(context: &Context<'_>, tenant: &str, name: &str) -> Result<(), Failure> {
    let volume = named::existing(context, &named::volume_id(tenant, name)?)?;
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
        context.ledger.release(grant, ReleaseReason::Done, "it was unmounted".to_owned(), &context.work())?;
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
