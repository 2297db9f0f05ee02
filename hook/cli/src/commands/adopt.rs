//! `volhook volume adopt` and `rename`: volumes that exist get a name, or another one.

use crate::output::out;
use crate::output::pairs;
use jiff::Timestamp;
use std::path::Path;
use volhook_core::decision::Backing;
use volhook_core::decision::Sharing;
use volhook_core::lease::VolumeRecord;
use volhook_core::names::Command;
use volhook_core::names::VolumeName;
use volhook_core::size;
use volhook_core::volume::Volume;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_engine::ask;
use volhook_engine::ask::Wanted;
use volhook_engine::named;
use volhook_leases::Hold;
use volhook_leases::Need;
use volhook_volumes::Adoptable;
use volhook_volumes::Created;
use volhook_volumes::StoreError;

/// What `volhook volume adopt` is told.
pub(crate) struct Adoption<'a> {
    pub(crate) path: &'a Path,
    pub(crate) name: &'a str,
    pub(crate) tenant: &'a str,
    pub(crate) driver: Option<&'a str>,
    pub(crate) labels: &'a [String],
    /// It stays where it is.
    pub(crate) in_place: bool,
}

/// `volhook volume adopt PATH NAME`: a directory or image that exists becomes a volume, as it is.
pub(crate) fn adopt(context: &Context<'_>, adoption: &Adoption<'_>) -> Result<(), Failure> {
    let id = named::volume_id(adoption.tenant, adoption.name)?;
    let labels = pairs("--label", adoption.labels)?;
    let path = std::path::absolute(adoption.path)
        .map_err(|error| Failure::context(format!("cannot find {}", adoption.path.display()), error))?;
    if context.places.root.starts_with(&path) || path.starts_with(&context.places.root) {
        return Err(Failure::new(format!("{} belongs to volhook's own root", path.display())));
    }
    let found = Adoptable::look(&path).map_err(Failure::new)?;
    let driver = adoption.driver.unwrap_or(match found.backing() {
        Backing::Image(_) => "block",
        _ => "local",
    });
    let is_image = matches!(found.backing(), Backing::Image(_));
    // A directory that stays where it is is one that the configuration grants.
    let stays = adoption.in_place && !is_image;
    let options = if stays { vec![("path".to_owned(), path.display().to_string())] } else { Vec::new() };
    let (driver, options, labels) = (Some(driver), &options, &labels);
    let wanted = Wanted { id: &id, driver, options, labels, member: None, before: &[] };
    let volume = ask::new_volume(context, &wanted)?;
    let volume = if stays { volume } else { as_found(volume, found.backing())? };
    // Under the lock, so that no container starts on the volume before its content is there.
    let mut locked = context.lock(context.deadline)?;
    let adopted = match (adoption.in_place, is_image) {
        (false, _) => context.store.adopt(&found, &volume),
        (true, true) => context.store.adopt_in_place(&found, &volume),
        (true, false) => context.store.create(&volume, context.deadline),
    };
    match adopted.map_err(adoption_failed)? {
        Created::Existing(_) => {
            Err(Failure::new(format!("there is a volume {id:?} already")).hint("choose another name"))
        }
        Created::New(Volume { id, uuid, driver, .. }) => {
            let created = VolumeRecord::Created { volume: id.clone(), uuid, driver, container: None };
            locked.append_volumes(Timestamp::now(), &[created]).map_err(Failure::new)?;
            out(&format!("{id}\n"))
        }
    }
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

/// `volhook volume rename OLD NEW`.
pub(crate) fn rename(context: &Context<'_>, tenant: &str, old: &str, new: &str) -> Result<(), Failure> {
    let volume = named::existing(context, &named::volume_id(tenant, old)?)?;
    let to = VolumeName::new(new).map_err(Failure::usage)?;
    if let Some(member) = &volume.pod {
        return Err(Failure::new(format!("volume {:?} belongs to pod {:?}", volume.id, member.pod))
            .hint("its name is how the pod finds it"));
    }
    let _hold = Hold::take(&context.ledger, Command::Rename, &[Need::alone(&volume)], &context.work())?;
    let renamed = context.store.change("rename", &volume).and_then(|changing| changing.rename(to));
    let renamed = renamed.map_err(Failure::new)?;
    let record = VolumeRecord::Renamed {
        volume: volume.id.clone(),
        uuid: volume.uuid.clone(),
        to: renamed.id.clone(),
    };
    context.append_volumes(&[record])?;
    out(&format!("{}\n", renamed.id))
}
