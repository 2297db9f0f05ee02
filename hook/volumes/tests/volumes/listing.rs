//! What is in a tree, read by path and in the plainest way: what copies are compared by.

use rustix::fs::CWD;
use rustix::fs::lgetxattr;
use rustix::fs::llistxattr;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ffi::CStr;
use std::ffi::OsString;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

/// All that a copy keeps of an entry but the times at which it was read and changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) device: u64,
    pub(crate) modified: (i64, i64),
    pub(crate) content: Vec<u8>,
    pub(crate) attributes: BTreeMap<OsString, Vec<u8>>,
    /// The first of the names of this inode, by which hard links are known.
    pub(crate) first_name: PathBuf,
    /// Not compared but by [`assert_alike`]: what holes save.
    pub(crate) allocated: u64,
}

/// Lists `top` and everything below it, by path relative to it.
pub(crate) fn list(top: &Path) -> BTreeMap<PathBuf, Listed> {
    let mut listing = BTreeMap::new();
    let mut names = HashMap::new();
    let mut waiting = vec![PathBuf::new()];
    let mut order = Vec::new();
    while let Some(path) = waiting.pop() {
        if top.join(&path).symlink_metadata().unwrap().is_dir() {
            let entries = std::fs::read_dir(top.join(&path)).unwrap();
            waiting.extend(entries.map(|entry| path.join(entry.unwrap().file_name())));
        }
        order.push(path);
    }
    order.sort();
    for path in order {
        let full = top.join(&path);
        let metadata = full.symlink_metadata().unwrap();
        let inode = (metadata.dev(), metadata.ino());
        let first_name = names.entry(inode).or_insert_with(|| path.clone()).clone();
        let kind = metadata.file_type();
        let (kind, content) = match kind {
            _ if kind.is_dir() => ("directory", vec![]),
            _ if kind.is_file() => ("file", std::fs::read(&full).unwrap()),
            _ if kind.is_symlink() => {
                let target = rustix::fs::readlinkat(CWD, &full, Vec::new()).unwrap();
                ("symlink", target.into_bytes())
            }
            _ if kind.is_fifo() => ("fifo", vec![]),
            _ if kind.is_socket() => ("socket", vec![]),
            _ if kind.is_char_device() => ("character device", vec![]),
            _ => ("block device", vec![]),
        };
        let listed = Listed {
            kind,
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            device: metadata.rdev(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            content,
            attributes: attributes(&full),
            first_name,
            allocated: if metadata.is_file() { metadata.blocks() * 512 } else { 0 },
        };
        listing.insert(path, listed);
    }
    listing
}

fn attributes(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut buffer = vec![0; 65536];
    let length = llistxattr(path, &mut buffer[..]).unwrap_or(0);
    let names: Vec<_> = buffer[..length].split_inclusive(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let mut attributes = BTreeMap::new();
    for name in names {
        let name = CStr::from_bytes_with_nul(&name).unwrap();
        let length = lgetxattr(path, name, &mut buffer[..]).unwrap();
        let text = OsString::from(name.to_str().unwrap());
        attributes.insert(text, buffer[..length].to_vec());
    }
    attributes
}

/// Checks that two trees are alike, and that the second needs no more of the disk because of filled holes.
#[track_caller]
pub(crate) fn assert_alike(wanted: &Path, is: &Path) {
    let (wanted, is) = (list(wanted), list(is));
    assert_eq!(wanted.keys().collect::<Vec<_>>(), is.keys().collect::<Vec<_>>());
    for (path, wanted) in wanted {
        let is = &is[&path];
        // What a filesystem notes of a file's blocks, and how much it keeps for more, is its own affair.
        let most = 2 * wanted.allocated + 16 * 1024;
        assert!(is.allocated <= most, "{path:?} takes {} and not {} bytes", is.allocated, wanted.allocated);
        assert_eq!(Listed { allocated: 0, ..wanted }, Listed { allocated: 0, ..is.clone() }, "{path:?}");
    }
}
