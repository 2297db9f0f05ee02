//! `volhook volume adopt` and `rename`: volumes that exist get a name, or another one.

use crate::output::out;
use crate::typed;
use crate::watch::Watch;
use std::path::Path;
use std::path::PathBuf;
use volhook_api::VolumeRef;
use volhook_api::volume::Adopt;
use volhook_api::volume::Rename;
use volhook_core::names::VolumeName;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::named;
use volhook_engine::volumes::adopt;
use volhook_engine::volumes::rename;

/// What `volhook volume adopt` is told.
pub(crate) struct Adoption<'a> {
    pub(crate) path: &'a Path,
    pub(crate) name: &'a str,
    pub(crate) tenant: &'a str,
    pub(crate) driver: Option<String>,
    pub(crate) labels: &'a [String],
    /// It stays where it is.
    pub(crate) in_place: bool,
}

/// `volhook volume adopt PATH NAME`: a directory or image that exists becomes a volume, as it is.
pub(crate) fn adopt(engine: &Engine, watch: &Watch, told: Adoption<'_>) -> Result<(), Failure> {
    let path = whole(told.path)
        .map_err(|error| Failure::context(format!("cannot find {}", told.path.display()), error))?;
    let request = Adopt {
        path,
        name: VolumeRef::from(named::volume_id(told.tenant, told.name)?),
        driver: told.driver,
        labels: typed::labels(told.labels)?,
        in_place: told.in_place,
    };
    let adopted = adopt::adopt(engine, &request, &watch.work())?;
    out(&format!("{adopted}\n"))
}

/// A path as the whole host knows it, without symlinks in its folders; what it leads to itself is looked at by whoever
/// takes it.
fn whole(path: &Path) -> std::io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => Ok(folder.canonicalize()?.join(name)),
        _ => path.canonicalize(),
    }
}

/// `volhook volume rename OLD NEW`: a new name without a tenant is one of the same.
pub(crate) fn rename(
    engine: &Engine,
    watch: &Watch,
    tenant: &str,
    old: &str,
    new: &str,
) -> Result<(), Failure> {
    let volume = VolumeRef::from(named::volume_id(tenant, old)?);
    let to = if new.contains('/') {
        named::volume_id(tenant, new)?
    } else {
        let mut to = volume.id().clone();
        to.name = VolumeName::new(new).map_err(Failure::usage)?;
        to
    };
    let request = Rename { volume, to: VolumeRef::from(to) };
    let renamed = rename::rename(engine, &request, &watch.work())?;
    out(&format!("{renamed}\n"))
}
