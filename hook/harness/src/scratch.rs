//! Temporary folders in which many files are made and removed.

use anyhow::Context;
use anyhow::Result;
use rustix::fs::IFlags;
use std::fs::File;
use tempfile::TempDir;

/// A temporary folder, removed when it is dropped; `what` says in its name what it is for.
///
/// ext4 searches long for a free inode among those that were freed in the last minutes, because it does not use them
/// again so soon, and puts what lies near each other in one group of inodes. In this folder each folder gets a group of
/// its own choice (chattr(1), `T`), so that one test does not wait for what another one has removed.
pub(crate) fn folder(what: &str) -> Result<TempDir> {
    let folder = tempfile::Builder::new()
        .prefix(&format!("volhook-{what}-"))
        .tempdir()
        .with_context(|| format!("cannot make a folder for a {what}"))?;
    let open = File::open(folder.path()).context("cannot open a new folder")?;
    // Other filesystems do not know it and do not need it.
    let _ = rustix::fs::ioctl_getflags(&open)
        .and_then(|flags| rustix::fs::ioctl_setflags(&open, flags | IFlags::TOPDIR));
    Ok(folder)
}
