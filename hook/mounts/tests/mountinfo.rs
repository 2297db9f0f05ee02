//! The mount table: parsing, and which mounts a new one would hide.

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;
use volhook_mounts::mountinfo::Mount;
use volhook_mounts::mountinfo::parse;
use volhook_mounts::mountinfo::visible_below;

#[test]
fn lines_of_the_kernel_are_understood() {
    let table = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
        37 36 0:30 / /a\\134b ro,nosuid shared:7 master:2 propagate_from:3 unbindable - tmpfs none rw\n";
    let mounts = parse(table).unwrap();
    assert_eq!(mounts[0].mount_point, Path::new("/mnt 2"));
    assert_eq!(mounts[0].device, (98, 0));
    assert_eq!((mounts[0].read_only, mounts[0].shared), (false, false));
    assert_eq!(mounts[1].mount_point, Path::new("/a\\b"));
    assert_eq!((mounts[1].id, mounts[1].parent), (37, 36));
    assert_eq!((mounts[1].read_only, mounts[1].shared), (true, true));
    assert!(!parse(&std::fs::read("/proc/self/mountinfo").unwrap()).unwrap().is_empty());
}

#[test]
fn a_bad_line_is_named() {
    let good = "1 0 0:1 / / rw - tmpfs t rw";
    for bad in [
        "1 0 0:1 / /",
        "x 0 0:1 / / rw - t t rw",
        "1 0 0 / / rw - t t rw",
        "1 0 0:1 / /\\04 rw - t t rw",
        "1 0 0:1 / /\\999 rw - t t rw",
        "1 0 0:1 / / rw shared:1 t t rw",
    ] {
        let error = parse(format!("{good}\n{bad}\n").as_bytes()).unwrap_err();
        assert_eq!(error.line, 2, "{bad}");
    }
}

/// Bytes as the kernel writes them (`mangle_path`): blank, tab, newline, backslash and hash in octal.
fn escape(bytes: &[u8]) -> Vec<u8> {
    let escaped = |byte: &u8| match byte {
        b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
        other => vec![*other],
    };
    bytes.iter().flat_map(escaped).collect()
}

fn any_path() -> impl Strategy<Value = PathBuf> {
    proptest::collection::vec(prop_oneof![1_u8..=255, Just(b' '), Just(b'\\'), Just(b'\n')], 0..12)
        .prop_map(|bytes| PathBuf::from(OsString::from_vec([b"/".to_vec(), bytes].concat())))
}

proptest! {
    #[test]
    fn what_the_kernel_writes_is_read_back(
        (id, parent, root, mount_point, source) in (any::<u32>(), any::<u32>(), any_path(), any_path(), any_path()),
        (read_only, shared, slave) in any::<(bool, bool, bool)>(),
        (major, minor) in any::<(u32, u32)>(),
    ) {
        let mut line = format!("{id} {parent} {major}:{minor} ").into_bytes();
        line.extend([escape(root.as_os_str().as_bytes()), escape(mount_point.as_os_str().as_bytes())].join(&b' '));
        line.extend(if read_only { b" ro,relatime".to_vec() } else { b" rw,relatime".to_vec() });
        line.extend(if shared { b" shared:12".to_vec() } else { vec![] });
        line.extend(if slave { b" master:3".to_vec() } else { vec![] });
        line.extend([b" - ext4 ".to_vec(), escape(source.as_os_str().as_bytes()), b" rw,ro\n".to_vec()].concat());
        let expected = Mount {
            id: id.into(),
            parent: parent.into(),
            device: (major, minor),
            root,
            mount_point,
            read_only,
            shared,
            filesystem: "ext4".to_owned(),
            source: source.into_os_string(),
        };
        prop_assert_eq!(parse(&line).unwrap(), vec![expected]);
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    /// The oracle knows the table only through path lookups, as a process would see it: walking from the target,
    /// the first mount that is entered on each path is one to be moved.
    #[test]
    fn the_mounts_that_lookups_meet_first_are_chosen(
        order in proptest::collection::vec(0..PATHS.len(), 0..12),
        target in 1..PATHS.len(),
    ) {
        let mut mounts = vec![mount(1, 0, "/")];
        for (id, path) in (2..).zip(order) {
            let parent = lookup(&mounts, PATHS[path]);
            mounts.push(mount(id, parent, PATHS[path]));
        }
        let target = PATHS[target];
        let on = lookup(&mounts, target);
        let expected: BTreeSet<u64> = PATHS
            .iter()
            .filter(|path| **path != target && Path::new(path).starts_with(target))
            .filter_map(|path| {
                let above = Path::new(path).parent().unwrap().to_str().unwrap();
                (lookup(&mounts, above) == on && lookup(&mounts, path) != on).then(|| lookup(&mounts, path))
            })
            .collect();
        let chosen: Vec<u64> = visible_below(&mounts, on, Path::new(target)).iter().map(|m| m.id).collect();
        prop_assert_eq!(chosen.len(), expected.len());
        prop_assert_eq!(chosen.into_iter().collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn a_nonsensical_table_does_not_hang(
        table in proptest::collection::vec((0_u64..6, 0_u64..6, 0..PATHS.len()), 0..10),
        on in 0_u64..6,
    ) {
        let mounts: Vec<Mount> = table.into_iter().map(|(id, parent, path)| mount(id, parent, PATHS[path])).collect();
        prop_assert!(visible_below(&mounts, on, Path::new("/")).len() <= mounts.len());
    }
}

const PATHS: [&str; 9] = ["/", "/a", "/ab", "/a/a", "/a/b", "/a/a/a", "/a/a/b", "/a/b/a", "/ab/a"];

fn mount(id: u64, parent: u64, path: &str) -> Mount {
    Mount {
        id,
        parent,
        device: (0, 1),
        root: "/".into(),
        mount_point: path.into(),
        read_only: false,
        shared: false,
        filesystem: "tmpfs".to_owned(),
        source: "none".into(),
    }
}

/// The mount in which a process finds `path`: at each step it enters whatever is mounted there, again and again.
fn lookup(mounts: &[Mount], path: &str) -> u64 {
    let mut current = 1;
    let mut ancestors: Vec<&Path> = Path::new(path).ancestors().collect();
    ancestors.reverse();
    for step in ancestors {
        while let Some(entered) = mounts.iter().find(|m| m.parent == current && m.mount_point == step) {
            current = entered.id;
        }
    }
    current
}
