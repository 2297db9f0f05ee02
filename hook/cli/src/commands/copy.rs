//! `volhook volume cp`: files into a volume and out of it, by the rules of `docker cp`.

use crate::output::note;
use crate::progress::Progress;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::decision::Access;
use volhook_core::decision::Backing;
use volhook_core::decision::EntryKind;
use volhook_core::decision::Population;
use volhook_core::names::Command;
use volhook_core::names::SubPath;
use volhook_core::names::VolumeId;
use volhook_core::volume::Volume;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_engine::host_grants;
use volhook_engine::named;
use volhook_engine::start::storage;
use volhook_leases::Hold;
use volhook_leases::Need;
use volhook_mounts::device;
use volhook_mounts::source;
use volhook_mounts::source::Detached;
use volhook_mounts::source::ImageUse;
use volhook_volumes::Copied;
use volhook_volumes::CopyError;
use volhook_volumes::Found;
use volhook_volumes::How;
use volhook_volumes::Inside;
use volhook_volumes::Packed;
use volhook_volumes::Place;
use volhook_volumes::Rights;
use volhook_volumes::Watch;

/// What `volhook volume cp` is told.
pub(crate) struct Copying<'a> {
    pub(crate) from: &'a OsStr,
    pub(crate) to: &'a OsStr,
    pub(crate) tenant: &'a str,
    /// Owners and rights stay.
    pub(crate) archive: bool,
    /// A symlink as the source is what it points to.
    pub(crate) follow: bool,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    /// A path in a volume.
    Volume(String, PathBuf),
    /// A path of the host.
    Host(PathBuf),
    /// A tar stream, `-`.
    Stream,
}

impl Side {
    fn parse(text: &OsStr) -> Self {
        let bytes = text.as_bytes();
        let colon = bytes.iter().position(|byte| *byte == b':');
        match (bytes, colon) {
            (b"-", _) => Self::Stream,
            ([b'/' | b'.', ..], _) => Self::Host(PathBuf::from(text)),
            // A name has no slash.
            (_, Some(at)) if at > 0 && !bytes[..at].contains(&b'/') => {
                let name = String::from_utf8_lossy(&bytes[..at]).into_owned();
                Self::Volume(name, PathBuf::from(OsStr::from_bytes(&bytes[at + 1..])))
            }
            _ => Self::Host(PathBuf::from(text)),
        }
    }
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

/// `volhook volume cp FROM TO`.
pub(crate) fn cp(context: &Context<'_>, copying: &Copying<'_>) -> Result<(), Failure> {
    let (from, to) = (Side::parse(copying.from), Side::parse(copying.to));
    let (name, access) = match (&from, &to) {
        (Side::Volume(..), Side::Volume(..)) => {
            return Err(Failure::usage("files are not copied between volumes")
                .hint("`volhook volume clone` copies a whole volume; `volhook volume cp A:/x - | volhook volume cp - B:/` a part"));
        }
        (Side::Volume(name, _), _) => (name, Access::ReadOnly),
        (_, Side::Volume(name, _)) => (name, Access::ReadWrite),
        _ => return Err(Failure::usage("neither side is in a volume").hint("a volume's path is NAME:PATH")),
    };
    if to == Side::Stream && std::io::stdout().is_terminal() {
        return Err(
            Failure::usage("a tar stream is nothing for a terminal").hint("send it to a file or a command")
        );
    }
    let (volume, place) = meant(context, &named::volume_id(copying.tenant, name)?)?;
    let progress = Progress::begin(None)?;
    let open = Open::new(context, &volume, place.as_ref(), access)?;
    let rights = match (copying.archive, access) {
        (true, _) => Rights::Keep,
        (false, Access::ReadOnly) => Rights::mine(),
        (false, Access::ReadWrite) => Rights::Give { uid: 0, gid: 0 },
    };
    let copied = progress.watch(|watch| {
        let inside = open.inside()?;
        let copied = match (&from, &to) {
            (Side::Volume(_, path), Side::Stream) => pack(inside, path, copying, watch)?,
            (Side::Stream, Side::Volume(_, path)) => unpack(inside, path, rights, watch)?,
            (Side::Volume(_, path), Side::Host(local)) => {
                let host = Inside::host().map_err(Failure::new)?;
                transfer((inside, path), (&host, &absolute(local)?), copying.follow, rights, watch)?
            }
            (Side::Host(local), Side::Volume(_, path)) => {
                let host = Inside::host().map_err(Failure::new)?;
                transfer((&host, &absolute(local)?), (inside, path), copying.follow, rights, watch)?
            }
            _ => return Err(Failure::internal("no side is in a volume")),
        };
        if access == Access::ReadWrite {
            inside.sync().map_err(|error| {
                Failure::context(format!("cannot write volume {:?} to the disk", volume.id), error)
            })?;
        }
        Ok(copied)
    })?;
    drop(open);
    if copied.left_out > 0 {
        let what = if to == Side::Stream { "sockets" } else { "devices" };
        let hint = if to == Side::Stream { "an archive cannot hold them" } else { "--archive copies them" };
        note(&format!("Note: {} {what} were left out; {hint}", copied.left_out));
    }
    if copied.attributes_lost > 0 {
        note(&format!("Warning: {} extended attributes could not be kept", copied.attributes_lost));
    }
    Ok(())
}

/// The path as the whole host knows it. Unlike the standard library's way it keeps what is at its end.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let here = std::env::current_dir()
        .map_err(|error| Failure::context("cannot tell the working directory", error))?;
    Ok(here.join(path))
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
) -> Result<Copied, Failure> {
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

fn pack(inside: &Inside, path: &Path, copying: &Copying<'_>, watch: &Watch<'_>) -> Result<Copied, Failure> {
    let (source, end) = find_source(inside, path, copying.follow)?;
    let packed = match source {
        Found::Directory(folder) if end.content => Packed::Content(folder),
        Found::Directory(folder) => Packed::Directory(folder, end.name),
        Found::Entry(folder, name) => Packed::Entry(folder, name),
        Found::Missing(..) => return Err(Failure::internal("a source that is not there was found")),
    };
    let out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    volhook_volumes::pack(packed, out, watch).map_err(Failure::new)
}

fn unpack(inside: &Inside, path: &Path, rights: Rights, watch: &Watch<'_>) -> Result<Copied, Failure> {
    match inside.find(path, true).map_err(Failure::new)? {
        Found::Directory(folder) => {
            let input = std::io::BufReader::with_capacity(1 << 16, std::io::stdin().lock());
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
    use super::Side;
    use super::end;
    use std::ffi::OsStr;
    use std::path::Path;
    use std::path::PathBuf;

    #[test]
    fn a_volume_is_named_before_a_colon() {
        let side = |text: &str| Side::parse(OsStr::new(text));
        let volume = |name: &str, path: &str| Side::Volume(name.to_owned(), PathBuf::from(path));
        assert_eq!(side("v:/a:b"), volume("v", "/a:b"));
        assert_eq!(side("v:"), volume("v", ""));
        assert_eq!(side("-"), Side::Stream);
        for local in ["/a:b", "./v:x", "../v:x", "a/b:c", "a", ":x", "-x"] {
            assert_eq!(side(local), Side::Host(PathBuf::from(local)), "{local}");
        }
    }

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
