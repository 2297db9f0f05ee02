//! The image of a container: its root filesystem as the engine made it, with nothing of what is mounted inside.

use crate::failure::Failure;
use crate::text;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::decision::EntryKind;
use volhook_core::image::ImageIdentity;
use volhook_core::names::SubPath;
use volhook_mounts::overlay::Layer;
use volhook_mounts::rootfs;
use volhook_mounts::rootfs::Rootfs;
use volhook_mounts::source::Detached;
use volhook_volumes::identify_beside;

/// Annotations in which engines say what the image is called: containerd's and CRI-O's for Kubernetes, and the one of the
/// OCI image specification.
const NAMES: [&str; 3] =
    ["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "org.opencontainers.image.ref.name"];

/// The image of one container. Nothing is opened before it is needed.
pub(crate) struct Image<'a> {
    /// Where the host has it.
    path: PathBuf,
    /// The container's own view of it.
    seen: &'a Rootfs,
    name: Option<String>,
    shifted: bool,
    bare: OnceCell<Detached>,
}

impl<'a> Image<'a> {
    /// The image of a container whose root filesystem is at `path` and was opened as `seen`.
    pub(crate) fn new(path: &Path, seen: &'a Rootfs, annotations: &BTreeMap<String, String>) -> Self {
        let name = NAMES.iter().find_map(|key| annotations.get(*key)).cloned();
        Self { path: path.to_owned(), seen, name, shifted: false, bare: OnceCell::new() }
    }

    /// That of a container with a user namespace, if `users` says so.
    pub(crate) fn for_users(self, users: bool) -> Self {
        Self { shifted: users, ..self }
    }

    /// Whether its files belong to others on the host than in the container.
    pub(crate) fn is_shifted(&self) -> bool {
        self.shifted
    }

    /// Its root directory.
    pub(crate) fn bare(&self) -> Result<&Detached, Failure> {
        if let Some(bare) = self.bare.get() {
            return Ok(bare);
        }
        let bare = self.on_host()?.bare().map_err(|error| Failure::context(self.intention(), error))?;
        Ok(self.bare.get_or_init(|| bare))
    }

    /// As the host sees it, with what may be mounted inside.
    fn on_host(&self) -> Result<Rootfs, Failure> {
        let failed = |error| Failure::context(self.intention(), error);
        let host = Rootfs::on_host(&self.path).map_err(failed)?;
        if host.is_same_directory(self.seen).map_err(failed)? {
            return Ok(host);
        }
        Err(Failure::new(format!("{}: the container has another one", self.intention()))
            .hint("the engine mounts it where this hook does not see it"))
    }

    fn intention(&self) -> String {
        format!("cannot use the root filesystem {}", self.path.display())
    }

    /// Where the host has it, as text.
    pub(crate) fn place(&self) -> Result<String, Failure> {
        text::of_path("the image", &self.path).map(str::to_owned)
    }

    /// For an overlay to lie over.
    pub(crate) fn layer(&self) -> Result<Layer, Failure> {
        Ok(self.on_host()?.into_directory().into())
    }

    /// The directory that it has at `path`, if it has one there.
    pub(crate) fn directory(&self, path: &str) -> Result<Option<OwnedFd>, Failure> {
        rootfs::open_directory(self.bare()?, path)
            .map_err(|error| Failure::context(format!("cannot read {path} of the image"), error))
    }

    /// What it has at `path`, a name at its top; a symlink is one.
    pub(crate) fn entry(&self, path: &str) -> Result<Option<EntryKind>, Failure> {
        self.bare()?
            .entry(Path::new(path))
            .map_err(|error| Failure::context(format!("cannot look at {path:?} of the image"), error))
    }

    /// A mount of the directory `name` at its top.
    pub(crate) fn part(&self, name: &str) -> Result<Detached, Failure> {
        let failed = |error| Failure::context(format!("cannot use {name:?} of the image"), error);
        let path = SubPath::new(name)?;
        let mut bare = self.on_host()?.bare().map_err(failed)?;
        bare.part(&path, EntryKind::Directory).map_err(failed)
    }

    /// Whether it has a directory at `path` with something in it.
    pub(crate) fn has_content(&self, path: &str) -> Result<bool, Failure> {
        let Some(directory) = self.directory(path)? else { return Ok(false) };
        let failed = |errno: rustix::io::Errno| {
            Failure::context(format!("cannot read {path} of the image"), std::io::Error::from(errno))
        };
        for entry in rustix::fs::Dir::new(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if ![c".", c".."].contains(&entry.file_name()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What tells it from other images.
    pub(crate) fn identity(&self, recorded: Option<&ImageIdentity>) -> Result<ImageIdentity, Failure> {
        identify_beside(self.bare()?.as_fd(), self.name.clone(), recorded).map_err(|error| {
            Failure::context(format!("cannot tell which image {} is", self.path.display()), error)
        })
    }
}
