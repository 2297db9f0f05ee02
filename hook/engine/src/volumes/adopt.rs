//! Taking in what was made before volhook.

use crate::ask;
use crate::ask::Wanted;
use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::text;
use std::path::Component;
use volhook_api::Kind;
use volhook_api::VolumeRef;
use volhook_api::volume::Adopt;
use volhook_core::decision::Backing;
use volhook_core::decision::Sharing;
use volhook_core::decision::last_of_each;
use volhook_core::names::Command;
use volhook_core::names::VolumeId;
use volhook_core::record::VolumeRecord;
use volhook_core::size;
use volhook_core::volume::Volume;
use volhook_leases::Hold;
use volhook_leases::Work;
use volhook_volumes::Adoptable;
use volhook_volumes::Created;
use volhook_volumes::StoreError;

/// Makes a directory or image that exists a volume, as it is.
///
/// # Errors
/// [`Kind::Exists`], when it is none that can be a volume, and when it cannot be moved.
pub fn adopt(engine: &Engine, adoption: &Adopt, work: &Work<'_>) -> Result<VolumeRef, Failure> {
    let context = &Context::new(engine, *work);
    let id = adoption.name.id();
    let labels = last_of_each(&adoption.labels);
    let path = &adoption.path;
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !is_plain || !path.is_absolute() {
        return Err(Failure::usage(format!("{} is no absolute path without \"..\"", path.display())));
    }
    let root = &context.places.root;
    // The root may be reached through a symlink, and the path name it without.
    let roots = [root.clone(), root.canonicalize().unwrap_or_else(|_| root.clone())];
    if roots.iter().any(|root| root.starts_with(path) || path.starts_with(root)) {
        return Err(Failure::new(format!("{} belongs to volhook's own root", path.display())));
    }
    let stranded = context.store.put_back_adopted().map_err(Failure::new)?;
    let found = Adoptable::look(path).map_err(|error| {
        let of_this = stranded.iter().find(|stranded| stranded.origin.as_ref() == Some(path));
        of_this.map_or_else(|| Failure::new(error), Failure::from)
    })?;
    let driver = adoption.driver.as_deref().unwrap_or(match found.backing() {
        Backing::Image(_) => "block",
        _ => "local",
    });
    let is_image = matches!(found.backing(), Backing::Image(_));
    // A directory that stays where it is is one that the configuration grants.
    let stays = adoption.in_place && !is_image;
    let options = if stays {
        vec![("path".to_owned(), text::of_path("the directory", path)?.to_owned())]
    } else {
        Vec::new()
    };
    let (driver, options, labels) = (Some(driver), &options, &labels);
    let wanted = Wanted { id, driver, options, labels, member: None, before: &[] };
    let volume = ask::new_volume(context, &wanted)?;
    let volume = if stays { volume } else { as_found(volume, found.backing())? };
    if context.store.find(id).map_err(Failure::new)?.is_some() {
        return Err(taken(id));
    }
    // Under a lease, so that no container starts on the volume before its content is there.
    let _hold = Hold::ahead(&context.ledger, Command::Populate, &volume, &context.work())?;
    let adopted = match (adoption.in_place, is_image) {
        (false, _) => context.store.adopt(&found, &volume),
        (true, true) => context.store.adopt_in_place(&found, &volume),
        (true, false) => context.store.create(&volume, context.deadline),
    };
    match adopted.map_err(adoption_failed)? {
        Created::Existing(_) => Err(taken(id)),
        Created::New(volume) => {
            context.append_volumes(&[VolumeRecord::created(&volume, None)])?;
            Ok(volume.id.into())
        }
    }
}

fn taken(id: &VolumeId) -> Failure {
    let failure = Failure::new(format!("there is a volume {id:?} already"));
    Failure { kind: Kind::Exists, ..failure.hint("choose another name").about(id.clone()) }
}

fn adoption_failed(error: StoreError) -> Failure {
    let other_filesystem = error.to_string().contains("another filesystem");
    let failure = Failure::new(error);
    if other_filesystem {
        failure.hint("create a volume and copy into it: `volhook volume cp -a PATH/. NAME:/`")
    } else {
        failure
    }
}

/// The volume as its driver would make it, with the backing that it has. Where that is an image and the driver makes
/// directories, it has one holder at a time: its driver never said that an image could be shared.
fn as_found(asked: Volume, backing: &Backing) -> Result<Volume, Failure> {
    let same_kind = std::mem::discriminant(&asked.backing) == std::mem::discriminant(backing);
    match backing {
        Backing::Image(image) => Ok(Volume {
            sharing: if same_kind { asked.sharing } else { Some(Sharing::Exclusive) },
            limit: Some(image.size),
            options: vec![("size".to_owned(), size::exact(image.size))],
            backing: backing.clone(),
            ..asked
        }),
        _ if same_kind => Ok(Volume { backing: backing.clone(), ..asked }),
        _ => Err(Failure::new(format!("driver {} does not keep volumes in directories", asked.driver))
            .hint("leave --driver out")),
    }
}
