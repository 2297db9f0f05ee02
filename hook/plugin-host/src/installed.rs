//! The folder of installed plugins: reading it without trusting more of it than is checked.
//!
//! `<root>/plugins/<name>/` has `plugin.json` (the [`Manifest`]), `plugin.wasm` (the component as it was given)
//! and `plugin.cwasm` (its machine code). Machine code can do anything, so the folders and files must be ours and
//! writable by nobody else, are opened without following links, and the code must have the digest in the manifest.

use crate::error::PluginError;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::decision::PluginInfo;
use volhook_core::decision::PluginKind;
use volhook_core::names::VolumeName;

pub(crate) const MANIFEST: &str = "plugin.json";
pub(crate) const COMPONENT: &str = "plugin.wasm";
pub(crate) const CODE: &str = "plugin.cwasm";

/// What a plugin is called before it has said its name.
pub(crate) const CANDIDATE: &str = "(new)";

/// The newest layout of the manifest that this version reads, and the one that it writes.
pub(crate) const FORMAT: u32 = 1;
/// The most bytes of machine code: all of it is read on a container's way, before a plugin's time begins to count.
pub(crate) const MAX_CODE: u64 = 64 << 20;
/// Bytes of a manifest that are read.
const MAX_MANIFEST: u64 = 64 << 10;
/// Bytes of a description that is kept in the manifest; a longer one is asked for when it is needed.
const MAX_KEPT_INFO: usize = 32 << 10;

/// What `plugin.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Version of this record's layout; see [`FORMAT`].
    pub(crate) format: u32,
    /// The plugin's name, which is also the folder's.
    pub(crate) name: String,
    /// What it is for.
    pub(crate) kind: PluginKind,
    /// The version of `volhook:plugin` that it is made for.
    pub(crate) api_version: String,
    /// SHA-256 of `plugin.wasm`, in hexadecimal.
    pub(crate) digest: String,
    /// Size of `plugin.wasm` in bytes.
    pub(crate) size: u64,
    /// SHA-256 of `plugin.cwasm`, in hexadecimal.
    pub(crate) code_digest: String,
    /// The engine and settings that `plugin.cwasm` was compiled for.
    pub(crate) profile: String,
    /// What the plugin says of itself, so that a start need not ask. Missing where it was installed by a volhook that did
    /// not keep it, and where it is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) info: Option<PluginInfo>,
}

/// `info`, unless it is too long for a manifest.
pub(crate) fn kept(info: PluginInfo) -> Option<PluginInfo> {
    let length = serde_json::to_vec_pretty(&info).map_or(usize::MAX, |text| text.len());
    (length <= MAX_KEPT_INFO).then_some(info)
}

/// Machine code that passed all checks; only [`Folder::code`] makes one.
#[derive(Debug)]
pub(crate) struct TrustedCode(File);

impl TrustedCode {
    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

/// The opened folder of one installed plugin.
#[derive(Debug)]
pub(crate) struct Folder {
    plugin: String,
    path: PathBuf,
    fd: OwnedFd,
}

/// The names of the folders in `installed` that may be plugins, sorted. None when there is no such folder.
///
/// # Errors
/// [`PluginError::Read`].
pub(crate) fn names(installed: &Path) -> Result<Vec<String>, PluginError> {
    let read = |source| PluginError::Read { path: installed.to_owned(), source };
    let entries = match std::fs::read_dir(installed) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(read(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        // What is no name is a folder that an installation is building, or nothing of ours.
        if let Some(name) =
            entry.map_err(read)?.file_name().to_str().filter(|name| VolumeName::new(*name).is_ok())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Opens the folder of a plugin; `None` when it is not installed.
///
/// # Errors
/// [`PluginError::Untrusted`] when somebody else could change it, [`PluginError::Read`].
pub(crate) fn open(installed: &Path, name: &str) -> Result<Option<Folder>, PluginError> {
    if VolumeName::new(name).is_err() {
        return Ok(None);
    }
    open_as(installed, name, name)
}

/// Opens the folder `folder` of `installed`, in which the plugin `plugin` is.
pub(crate) fn open_as(installed: &Path, folder: &str, plugin: &str) -> Result<Option<Folder>, PluginError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let all = match rustix::fs::open(installed, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => {
            return Err(PluginError::Read { path: installed.to_owned(), source: error.into() });
        }
    };
    let path = installed.join(folder);
    let fd = match rustix::fs::openat(&all, folder, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => {
            let reason = format!("cannot be opened as a folder: {error}");
            return Err(PluginError::Untrusted { plugin: plugin.to_owned(), path, reason });
        }
    };
    check_owner(&all, plugin, installed)?;
    check_owner(&fd, plugin, &path)?;
    Ok(Some(Folder { plugin: plugin.to_owned(), path, fd }))
}

impl Folder {
    /// Reads the manifest.
    ///
    /// # Errors
    /// [`PluginError::Untrusted`], [`PluginError::Damaged`].
    pub(crate) fn manifest(&self) -> Result<Manifest, PluginError> {
        let mut text = Vec::new();
        self.open(MANIFEST)?
            .take(MAX_MANIFEST)
            .read_to_end(&mut text)
            .map_err(|error| self.damaged(format!("{MANIFEST} cannot be read: {error}")))?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| self.damaged(format!("{MANIFEST} is not a plugin's manifest: {error}")))?;
        if manifest.format > FORMAT {
            return Err(
                self.damaged(format!("{MANIFEST} has format {}, made by a newer volhook", manifest.format))
            );
        }
        if manifest.name != self.plugin {
            return Err(self.damaged(format!("{MANIFEST} is of the plugin {:?}", manifest.name)));
        }
        Ok(manifest)
    }

    /// The machine code, checked against the manifest.
    ///
    /// # Errors
    /// [`PluginError::Stale`] when it was compiled for another engine, [`PluginError::Untrusted`],
    /// [`PluginError::Damaged`].
    pub(crate) fn code(&self, manifest: &Manifest, profile: &str) -> Result<TrustedCode, PluginError> {
        if manifest.profile != profile {
            return Err(PluginError::Stale {
                plugin: self.plugin.clone(),
                compiled_for: manifest.profile.clone(),
                needed: profile.to_owned(),
            });
        }
        let mut file = self.open(CODE)?;
        if file.metadata().is_ok_and(|metadata| metadata.len() > MAX_CODE) {
            return Err(self.damaged(format!("{CODE} is larger than {} MiB", MAX_CODE >> 20)));
        }
        let digest =
            digest_of(&mut file).map_err(|error| self.damaged(format!("{CODE} cannot be read: {error}")))?;
        if digest != manifest.code_digest {
            return Err(self.damaged(format!("{CODE} is not the file that was installed")));
        }
        Ok(TrustedCode(file))
    }

    /// The component, checked against the manifest.
    ///
    /// # Errors
    /// [`PluginError::Untrusted`], [`PluginError::Damaged`].
    pub(crate) fn component(&self, manifest: &Manifest) -> Result<Vec<u8>, PluginError> {
        let mut bytes = Vec::new();
        self.open(COMPONENT)?
            .take(manifest.size.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| self.damaged(format!("{COMPONENT} cannot be read: {error}")))?;
        if digest(&bytes) != manifest.digest {
            return Err(self.damaged(format!("{COMPONENT} is not the file that was installed")));
        }
        Ok(bytes)
    }

    fn open(&self, name: &str) -> Result<File, PluginError> {
        // Without NONBLOCK, a FIFO in the file's place would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map_err(|error| self.damaged(format!("{name} cannot be opened: {error}")))?;
        let path = self.path.join(name);
        check_owner(&fd, &self.plugin, &path)?;
        let file = File::from(fd);
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        if is_file { Ok(file) } else { Err(self.damaged(format!("{name} is not a regular file"))) }
    }

    fn damaged(&self, reason: String) -> PluginError {
        PluginError::Damaged { plugin: self.plugin.clone(), reason }
    }
}

/// Refuses what somebody else could have written.
fn check_owner(fd: &OwnedFd, plugin: &str, path: &Path) -> Result<(), PluginError> {
    let untrusted =
        |reason: String| PluginError::Untrusted { plugin: plugin.to_owned(), path: path.to_owned(), reason };
    let stat = rustix::fs::fstat(fd).map_err(|error| untrusted(format!("cannot be examined: {error}")))?;
    let ours = rustix::process::geteuid().as_raw();
    if stat.st_uid != ours {
        return Err(untrusted(format!("belongs to user {}, not to {ours}", stat.st_uid)));
    }
    if Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        return Err(untrusted("is writable by its group or by everybody".to_owned()));
    }
    Ok(())
}

fn digest_of(file: &mut File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// SHA-256 of `bytes` in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
