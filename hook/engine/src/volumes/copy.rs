//! Files into a volume and out of it, by the rules of `docker cp`.

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::host_grants;
use crate::named;
use crate::start::storage;
use crate::volumes::copying::Copying;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use volhook_api::volume::Copied;
use volhook_api::volume::CopyFiles;
use volhook_api::volume::Way;
use volhook_core::decision::Access;
use volhook_core::decision::Backing;
use volhook_core::decision::EntryKind;
use volhook_core::decision::Population;
use volhook_core::names::Command;
use volhook_core::names::SubPath;
use volhook_core::names::VolumeId;
use volhook_core::volume::Volume;
use volhook_leases::Hold;
use volhook_leases::Need;
use volhook_leases::Work;
use volhook_mounts::device;
use volhook_mounts::source;
use volhook_mounts::source::Detached;
use volhook_mounts::source::ImageUse;
use volhook_volumes::CopyError;
use volhook_volumes::Found;
use volhook_volumes::How;
use volhook_volumes::Inside;
use volhook_volumes::Packed;
use volhook_volumes::Place;
use volhook_volumes::Rights;
use volhook_volumes::Watch;

/// The ends of tar streams, for whoever copies one.
pub struct Streams<'a> {
    /// What is unpacked.
    pub input: &'a mut dyn Read,
    /// Where what is packed goes.
    pub output: &'a mut dyn Write,
}

/// A volume that is open for copying, and held meanwhile.
struct Open<'a> {
    inside: Option<Inside>,
    volume: &'a Volume,
    context: &'a Context<'a>,
    _hold: Hold<'a>,
}

impl<'a> Open<'a> {
    /// Opens `volume`, or of a pod's storage only what is at `place` in it.
    fn new(
        context: &'a Context<'a>,
        volume: &'a Volume,
        place: Option<&SubPath>,
        access: Access,
    ) -> Result<Self, Failure> {
        if access == Access::ReadWrite && host_grants::most_access(context, volume)? == Access::ReadOnly {
            let reason = format!("volume {:?} is granted for reading only", volume.id);
            return Err(Failure::new(reason).about(volume.id.clone()));
        }
        let hold = Hold::take(&context.ledger, Command::Cp, &[Need::of(volume, access)], &context.work())?;
        let mut mount = mount(context, volume, hold.is_exclusive())?;
        if let Some(place) = place {
            mount = mount.subpath(place, EntryKind::Directory).map_err(|error| {
                Failure::context(format!("cannot open {place:?} in volume {:?}", volume.id), error)
            })?;
        }
        let inside = Some(Inside::mount(mount).map_err(Failure::new)?);
        Ok(Self { inside, volume, context, _hold: hold })
    }

    fn inside(&self) -> Result<&Inside, Failure> {
        self.inside.as_ref().ok_or_else(|| Failure::internal("the volume is closed already"))
    }
}

impl Drop for Open<'_> {
    /// Unmounts it, and only then gives the lease back: whoever gets it next is to find it free.
    fn drop(&mut self) {
        self.inside = None;
        volhook_leases::await_free(&self.context.ledger, self.volume);
    }
}

/// A mount of the volume that is attached nowhere; of a directory without what is mounted below it on the host.
fn mount(context: &Context<'_>, volume: &Volume, is_exclusive: bool) -> Result<Detached, Failure> {
    let failed = |error| Failure::context(format!("cannot open volume {:?}", volume.id), error);
    match &volume.backing {
        Backing::Directory(_) => {
            let directory = context.store.open_directory(volume).map_err(Failure::new)?;
            source::clone_directory(directory.as_fd()).map_err(failed)
        }
        Backing::HostPath(host) => {
            let directory = host_grants::open_host_path(context, volume, host)?;
            source::clone_directory(directory.as_fd()).map_err(failed)
        }
        Backing::Image(image) => {
            let sharing = if is_exclusive { ImageUse::Exclusive } else { ImageUse::Shared };
            source::mount_image(&context.store.image_path(volume), image, sharing).map_err(failed)
        }
        Backing::Device(device) => {
            host_grants::most_access(context, volume)?;
            device::mount_device(Path::new(device.path.as_str()), device.filesystem)
                .map_err(|error| host_grants::unusable(volume, error))
        }
        Backing::Tmpfs(_) => {
            let reason = format!("volume {:?} is memory: each container has an empty one", volume.id);
            Err(Failure::new(reason).about(volume.id.clone()))
        }
    }
}

/// The volume of that name, or the storage of a pod and where in it the pod's volume is.
fn meant(context: &Context<'_>, id: &VolumeId) -> Result<(Volume, Option<SubPath>), Failure> {
    let Some((storage, part)) = context.store.find_part(id).map_err(Failure::new)? else {
        return Ok((named::existing(context, id)?, None));
    };
    let population = storage::of(&storage)?.population;
    if population == Population::Overlay {
        let reason =
            format!("volume {id:?} is seen through the changes of its pod: only its containers have it");
        return Err(Failure::new(reason).hint("copy in one of them").about(id.clone()));
    }
    let place = SubPath::new(&part.place(population)).map_err(Failure::internal)?;
    Ok((storage, Some(place)))
}

/// Copies files. What is copied into a volume becomes root's, what comes out of it this process's, unless rights stay.
///
/// # Errors
/// [`Kind::Held`](volhook_api::Kind), when there is nothing to copy or no place for it, when it cannot be copied whole, and
/// when the work is not wanted any more.
pub fn copy(
    engine: &Engine,
    asked: &CopyFiles,
    streams: Streams<'_>,
    work: &Work<'_>,
) -> Result<Copied, Failure> {
    let context = &Context::new(engine, *work);
    if let Some(host) = asked.host.as_ref().filter(|host| !host.is_absolute()) {
        return Err(Failure::usage(format!("{} is no absolute path", host.display())));
    }
    let access = if asked.way == Way::In { Access::ReadWrite } else { Access::ReadOnly };
    let (volume, place) = meant(context, asked.volume.id())?;
    let open = Open::new(context, &volume, place.as_ref(), access)?;
    let rights = match (asked.archive, asked.way) {
        (true, _) => Rights::Keep,
        (false, Way::Out) => Rights::mine(),
        (false, Way::In) => Rights::Give { uid: 0, gid: 0 },
    };
    let copying = Copying::begin(*work, None);
    let watch = &copying.watch();
    let inside = open.inside()?;
    let (path, follow) = (asked.path.as_path(), asked.follow);
    let copied = match (&asked.host, asked.way) {
        (None, Way::Out) => pack(inside, path, follow, streams.output, watch)?,
        (None, Way::In) => unpack(inside, path, rights, streams.input, watch)?,
        (Some(local), Way::Out) => {
            let host = Inside::host().map_err(Failure::new)?;
            transfer((inside, path), (&host, local), follow, rights, watch)?
        }
        (Some(local), Way::In) => {
            let host = Inside::host().map_err(Failure::new)?;
            transfer((&host, local), (inside, path), follow, rights, watch)?
        }
    };
    if asked.way == Way::In {
        inside.sync().map_err(|error| {
            Failure::context(format!("cannot write volume {:?} to the disk", volume.id), error)
        })?;
    }
    Ok(Copied { left_out: copied.left_out, attributes_lost: copied.attributes_lost })
}

/// What the end of a path says besides the name.
struct End {
    /// The last component; empty where there is none, as in `/` and `..`.
    name: OsString,
    /// It must be a directory: a slash follows.
    directory: bool,
    /// Not the directory is meant but what is in it.
    content: bool,
}

fn end(path: &Path) -> End {
    let mut bytes = path.as_os_str().as_bytes();
    let content = bytes == b"." || bytes.ends_with(b"/.");
    if content {
        bytes = &bytes[..bytes.len() - 1];
    }
    let directory = content || bytes.ends_with(b"/") || bytes.is_empty();
    while let [rest @ .., b'/'] = bytes {
        bytes = rest;
    }
    let name = bytes.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let name = if matches!(name, b"." | b"..") { OsStr::new("") } else { OsStr::from_bytes(name) };
    End { name: name.to_owned(), directory, content: content || name.is_empty() }
}

/// The source of a copy: what is there, and how its path ends.
fn find_source(tree: &Inside, path: &Path, follow: bool) -> Result<(Found, End), Failure> {
    let end = end(path);
    let found = tree.find(path, follow || end.directory).map_err(Failure::new)?;
    if let Found::Missing(..) = found {
        return Err(Failure::new(format!("there is no {path:?}")));
    }
    Ok((found, end))
}

/// Copies between two trees, of which one is a volume and the other the host.
fn transfer(
    from: (&Inside, &Path),
    to: (&Inside, &Path),
    follow: bool,
    rights: Rights,
    watch: &Watch<'_>,
) -> Result<volhook_volumes::Copied, Failure> {
    let how = How { rights, place: Place::Merge };
    let (source, end) = find_source(from.0, from.1, follow)?;
    let is_directory = matches!(source, Found::Directory(_));
    let (tree, mut place) = (to.0, to.1.to_owned());
    // A directory that is not there yet may be named with a slash behind.
    let bare = self::end(&place);
    if is_directory && bare.directory && !bare.content {
        place = place.components().collect();
    }
    let target = tree.find(&place, true).map_err(|error| {
        Failure::new(error).hint("the directory to copy into must exist; only its last part is made")
    })?;
    let copied = match (source, target) {
        (Found::Directory(from), Found::Directory(to)) if end.content => {
            volhook_volumes::copy_tree(from, to, false, how, watch)
        }
        (Found::Directory(from), Found::Directory(to)) => {
            volhook_volumes::copy_directory(from, to, &end.name, how, watch)
        }
        (Found::Directory(from), Found::Missing(to, name)) => {
            volhook_volumes::copy_directory(from, to, &name, how, watch)
        }
        (Found::Directory(_), Found::Entry(..)) => {
            return Err(Failure::new(format!("{:?} is a directory and {place:?} is none", from.1)));
        }
        (Found::Entry(from, name), Found::Directory(to)) => {
            volhook_volumes::copy_entry(from, &name, to, &end.name, how, watch)
        }
        (Found::Entry(from, name), Found::Entry(to, new) | Found::Missing(to, new)) => {
            volhook_volumes::copy_entry(from, &name, to, &new, how, watch)
        }
        (Found::Missing(..), _) => return Err(Failure::internal("a source that is not there was found")),
    };
    copied.map_err(|error| not_copied(error, rights))
}

fn pack(
    inside: &Inside,
    path: &Path,
    follow: bool,
    output: &mut dyn Write,
    watch: &Watch<'_>,
) -> Result<volhook_volumes::Copied, Failure> {
    let (source, end) = find_source(inside, path, follow)?;
    let packed = match source {
        Found::Directory(folder) if end.content => Packed::Content(folder),
        Found::Directory(folder) => Packed::Directory(folder, end.name),
        Found::Entry(folder, name) => Packed::Entry(folder, name),
        Found::Missing(..) => return Err(Failure::internal("a source that is not there was found")),
    };
    let out = std::io::BufWriter::with_capacity(1 << 16, output);
    volhook_volumes::pack(packed, out, watch).map_err(Failure::new)
}

fn unpack(
    inside: &Inside,
    path: &Path,
    rights: Rights,
    input: &mut dyn Read,
    watch: &Watch<'_>,
) -> Result<volhook_volumes::Copied, Failure> {
    match inside.find(path, true).map_err(Failure::new)? {
        Found::Directory(folder) => {
            let input = std::io::BufReader::with_capacity(1 << 16, input);
            volhook_volumes::unpack(input, folder, rights, watch).map_err(|error| not_copied(error, rights))
        }
        Found::Entry(..) => Err(Failure::new(format!("{path:?} is no directory to unpack into"))),
        Found::Missing(..) => Err(Failure::new(format!("there is no directory {path:?} to unpack into"))),
    }
}

fn not_copied(error: CopyError, rights: Rights) -> Failure {
    let hint = match &error {
        CopyError::Mount(_) => Some("mounts below what is copied are not copied; copy them one by one"),
        CopyError::Failed { source, .. }
            if rights == Rights::Keep && source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Some("keeping owners and devices needs root")
        }
        _ => None,
    };
    let failure = Failure::new(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::end;
    use std::path::Path;

    #[test]
    fn the_end_of_a_path_says_what_is_meant() {
        let is = |path: &str| {
            let end = end(Path::new(path));
            (end.name.to_str().unwrap_or("?").to_owned(), end.directory, end.content)
        };
        assert_eq!(is("a/b"), ("b".to_owned(), false, false));
        assert_eq!(is("a/b/"), ("b".to_owned(), true, false));
        assert_eq!(is("a/b//."), ("b".to_owned(), true, true));
        assert_eq!(is("a/..b."), ("..b.".to_owned(), false, false));
        for content in ["", "/", ".", "/.", "//"] {
            assert_eq!(is(content), (String::new(), true, true), "{content:?}");
        }
        assert_eq!(is("a/.."), (String::new(), false, true));
    }
}
