//! Copying trees: random ones, compared with what `cp -a` makes of them, and each thing that a copy keeps.

use crate::listing::assert_alike;
use crate::listing::list;
use proptest::collection::vec;
use proptest::prelude::ProptestConfig;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prop_oneof;
use proptest::proptest;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::XattrFlags;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use volhook_volumes::Copied;
use volhook_volumes::CopyError;
use volhook_volumes::How;
use volhook_volumes::Place;
use volhook_volumes::Rights;
use volhook_volumes::Watch;
use volhook_volumes::copy_entry;
use volhook_volumes::copy_tree;

pub(crate) const ARCHIVE: How = How { rights: Rights::Keep, place: Place::Empty };
pub(crate) const MERGE: How = How { rights: Rights::Keep, place: Place::Merge };

pub(crate) fn folder(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

pub(crate) fn patient() -> Watch<'static> {
    let deadline = Instant::now() + Duration::from_secs(600);
    Watch { deadline, cancelled: &|| false, progress: &|_| {} }
}

/// Copies a tree with all that is known of its top.
pub(crate) fn copy(from: &Path, to: &Path, how: How) -> Result<Copied, CopyError> {
    copy_tree(folder(from), folder(to), true, how, &patient())
}

/// A folder with `from` and `to` in it.
pub(crate) fn two() -> (TempDir, PathBuf, PathBuf) {
    let top = tempfile::tempdir().unwrap();
    let (from, to) = (top.path().join("from"), top.path().join("to"));
    std::fs::create_dir(&from).unwrap();
    std::fs::create_dir(&to).unwrap();
    (top, from, to)
}

pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?} (run this as root): {output:?}");
}

/// What to make of an entry of a random tree.
#[derive(Debug, Clone)]
enum Kind {
    Directory,
    /// Holes and data by turns, in units of a quarter of a page.
    File(Vec<(u8, u8)>),
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    /// Another name of an entry made before.
    Link(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct Made {
    kind: Kind,
    /// Which of the folders made before it is in.
    above: usize,
    name: Vec<u8>,
    mode: u32,
    owner: (u32, u32),
    time: (i64, u32),
    attributes: Vec<(String, Vec<u8>)>,
    access_list: Option<&'static str>,
}

/// Any bytes that can be in a name or a symlink.
fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![1_u8..=255, proptest::sample::select(b" \n\"'\\*.-$\xff".to_vec())], 1..most)
}

pub(crate) fn made() -> impl Strategy<Value = Made> {
    let kind = prop_oneof![
        4 => proptest::strategy::Just(Kind::Directory),
        5 => vec((0_u8..20, 0_u8..12), 0..5).prop_map(Kind::File),
        2 => bytes(60).prop_map(Kind::Symlink),
        1 => proptest::strategy::Just(Kind::Fifo),
        1 => proptest::strategy::Just(Kind::Socket),
        3 => any::<usize>().prop_map(Kind::Link),
    ];
    let attributes = vec(("[a-z]{1,20}", vec(any::<u8>(), 0..300)), 0..3);
    let access_list = proptest::sample::select(vec![
        None,
        None,
        None,
        Some("u:5:rw,g:7:r"),
        Some("u:0:rwx,d:u:9:rx,d:g::-"),
    ]);
    (
        kind,
        any::<usize>(),
        bytes(30),
        0_u32..0o10000,
        (0_u32..3, 0_u32..70000),
        (-1_000_000_000_i64..4_000_000_000, 0_u32..1_000_000_000),
        attributes,
        access_list,
    )
        .prop_map(|(kind, above, name, mode, owner, time, attributes, access_list)| Made {
            kind,
            above,
            name,
            mode,
            owner,
            time,
            attributes,
            access_list,
        })
}

pub(crate) fn build(top: &Path, entries: &[Made]) {
    let mut folders = vec![top.to_owned()];
    let mut others: Vec<PathBuf> = Vec::new();
    let mut paths = Vec::new();
    for (number, made) in entries.iter().enumerate() {
        let mut name: Vec<u8> = made.name.iter().copied().filter(|byte| *byte != b'/').collect();
        name.extend(number.to_string().bytes());
        let path = folders[made.above % folders.len()].join(OsStr::from_bytes(&name));
        match &made.kind {
            Kind::Directory => {
                std::fs::create_dir(&path).unwrap();
                folders.push(path.clone());
            }
            Kind::File(pieces) => write_pieces(&path, pieces),
            Kind::Symlink(target) => std::os::unix::fs::symlink(OsStr::from_bytes(target), &path).unwrap(),
            Kind::Fifo => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
            Kind::Socket => rustix::fs::mknodat(CWD, &path, FileType::Socket, Mode::RUSR, 0).unwrap(),
            Kind::Link(_) if others.is_empty() => continue,
            Kind::Link(which) => std::fs::hard_link(&others[which % others.len()], &path).unwrap(),
        }
        if !matches!(made.kind, Kind::Directory) {
            others.push(path.clone());
        }
        paths.push((path, made));
    }
    // From below, because each change of a folder's content changes its time.
    for (path, made) in paths.into_iter().rev() {
        let metadata = path.symlink_metadata().unwrap();
        std::os::unix::fs::lchown(&path, Some(made.owner.0), Some(made.owner.1)).unwrap();
        if !metadata.is_symlink() {
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(made.mode)).unwrap();
        }
        for (name, value) in &made.attributes {
            let space = if metadata.is_file() || metadata.is_dir() { "user" } else { "trusted" };
            let name = format!("{space}.{name}");
            rustix::fs::lsetxattr(&path, name, value, XattrFlags::empty()).unwrap();
        }
        if let Some(list) = made.access_list.filter(|_| metadata.is_file() || metadata.is_dir()) {
            // Only folders have lists for what is made in them.
            let list: Vec<&str> =
                list.split(',').filter(|entry| metadata.is_dir() || !entry.starts_with("d:")).collect();
            run(Command::new("setfacl").arg("-m").arg(list.join(",")).arg("--").arg(&path));
        }
        let time = Timespec { tv_sec: made.time.0, tv_nsec: made.time.1.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn write_pieces(path: &Path, pieces: &[(u8, u8)]) {
    let mut file = File::create(path).unwrap();
    let mut end = 0;
    for (index, (hole, data)) in pieces.iter().enumerate() {
        let unit = if hole % 2 == 0 { 16384 } else { 1000 };
        end = file.seek(SeekFrom::Start(end + u64::from(*hole) * unit)).unwrap();
        let data = vec![u8::try_from(index + 1).unwrap(); usize::from(*data) * 1024];
        file.write_all(&data).unwrap();
        end += data.len() as u64;
    }
    file.set_len(end).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn privileged_a_copy_is_what_cp_makes(entries in vec(made(), 0..60)) {
        let (top, from, to) = two();
        build(&from, &entries);
        let oracle = top.path().join("oracle");
        run(Command::new("cp").arg("-a").arg(&from).arg(&oracle));
        let copied = copy(&from, &to, ARCHIVE).unwrap();
        assert_alike(&oracle, &to);
        assert_alike(&from, &to);
        let listing = list(&from);
        let directories = listing.values().filter(|entry| entry.kind == "directory").count() as u64 - 1;
        assert_eq!((copied.directories, copied.files), (directories, listing.len() as u64 - 1 - directories));
        assert_eq!((copied.left_out, copied.attributes_lost), (0, 0));
    }
}

#[test]
fn privileged_owners_set_id_bits_devices_and_capabilities_are_kept() {
    let (top, from, to) = two();
    let file = from.join("program");
    std::fs::write(&file, "x").unwrap();
    run(Command::new("setcap").arg("cap_net_raw,cap_chown+ep").arg(&file));
    std::fs::write(from.join("set-id"), "x").unwrap();
    run(Command::new("chown").arg("1000:2000").arg(from.join("set-id")));
    run(Command::new("chmod").arg("6755").arg(from.join("set-id")));
    for (name, kind, numbers) in [("null", "c", ["1", "3"]), ("disk", "b", ["250", "77"])] {
        run(Command::new("mknod").args(["-m", "0640"]).arg(from.join(name)).arg(kind).args(numbers));
    }
    run(Command::new("chown").arg("-h").arg("5:6").arg(from.join("null")));
    std::os::unix::fs::symlink("/nowhere", from.join("symlink")).unwrap();
    run(Command::new("chown").arg("-h").arg("7:8").arg(from.join("symlink")));
    run(Command::new("chmod").arg("3775").arg(&from));
    run(Command::new("touch").args(["-d", "2001-02-03 04:05:06.789012345"]).arg(&from));
    let oracle = top.path().join("oracle");
    run(Command::new("cp").arg("-a").arg(&from).arg(&oracle));
    let copied = copy(&from, &to, ARCHIVE).unwrap();
    assert_eq!(copied.files, 5);
    assert_alike(&oracle, &to);
    let listing = list(&to);
    assert!(listing[Path::new("program")].attributes.contains_key(OsStr::new("security.capability")));
    assert_eq!(listing[Path::new("set-id")].mode, 0o6755);
    assert_eq!(listing[Path::new("disk")].device, rustix::fs::makedev(250, 77));
    assert_eq!((listing[Path::new("")].mode, listing[Path::new("")].modified.1), (0o3775, 789_012_345));
}

#[test]
fn privileged_what_gives_rights_is_left_out_unless_it_is_asked_for() {
    let (_top, from, to) = two();
    std::fs::write(from.join("program"), "x").unwrap();
    run(Command::new("setfacl").args(["-m", "u:5:rwx"]).arg(from.join("program")));
    run(Command::new("setfattr").args(["-n", "user.note", "-v", "kept"]).arg(from.join("program")));
    run(Command::new("chown").arg("1000:2000").arg(from.join("program")));
    run(Command::new("chmod").arg("6751").arg(from.join("program")));
    run(Command::new("setcap").arg("cap_sys_admin+ep").arg(from.join("program")));
    std::fs::create_dir(from.join("sub")).unwrap();
    run(Command::new("chmod").arg("3770").arg(from.join("sub")));
    run(Command::new("mknod").args(["-m", "0666"]).arg(from.join("sub/disk")).args(["b", "8", "0"]));
    let rights = Rights::Give { uid: 3, gid: 4 };
    let copied = copy(&from, &to, How { rights, place: Place::Empty }).unwrap();
    assert_eq!((copied.files, copied.directories, copied.left_out), (1, 1, 1));
    let listing = list(&to);
    assert_eq!(listing.len(), 3, "{listing:#?}");
    assert!(listing.values().all(|entry| entry.owner == (3, 4)));
    let program = &listing[Path::new("program")];
    // The group's bits of a file with an access list are the most that the list gives.
    assert_eq!(program.mode, 0o751);
    assert_eq!(program.attributes.keys().collect::<Vec<_>>(), ["user.note"]);
    assert_eq!(listing[Path::new("sub")].mode, 0o1770);
}

#[test]
fn nothing_inherits_an_access_list_from_the_place() {
    let (top, from, to) = two();
    std::fs::create_dir(from.join("sub")).unwrap();
    for name in ["file", "sub/file"] {
        std::fs::write(from.join(name), "x").unwrap();
    }
    let entry = top.path().join("entry");
    std::fs::create_dir(&entry).unwrap();
    for place in [&to, &entry] {
        run(Command::new("setfacl").args(["-m", "d:u:5:rwx,d:g::rwx,u:5:rwx"]).arg(place));
    }
    copy(&from, &to, ARCHIVE).unwrap();
    assert_alike(&from, &to);
    copy_entry(folder(top.path()), OsStr::new("from"), folder(&entry), OsStr::new("copy"), MERGE, &patient())
        .unwrap();
    assert_alike(&from, &entry.join("copy"));
    // What was there before stays as it is, and gives its list to nothing that is copied.
    copy_tree(folder(&from), folder(&entry), false, MERGE, &patient()).unwrap();
    let listing = list(&entry);
    assert!(!listing[Path::new("")].attributes.is_empty());
    assert!(listing.iter().all(|(path, entry)| path == Path::new("") || entry.attributes.is_empty()));
}

#[test]
fn one_entry_is_copied_under_another_name() {
    let (top, from, to) = two();
    std::fs::write(from.join("file"), "content").unwrap();
    std::fs::hard_link(from.join("file"), from.join("other")).unwrap();
    std::os::unix::fs::symlink("file", from.join("symlink")).unwrap();
    let entry = |name: &str, new: &str| {
        copy_entry(folder(&from), OsStr::new(name), folder(&to), OsStr::new(new), ARCHIVE, &patient())
    };
    assert_eq!(entry("file", "a").unwrap(), Copied { files: 1, bytes: 7, ..Copied::default() });
    entry("symlink", "b").unwrap();
    assert_eq!(std::fs::read(to.join("b")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    let error = entry("absent", "c").unwrap_err();
    assert_eq!(error.to_string(), "cannot find \"absent\"");
    assert!(matches!(entry("file", "a"), Err(CopyError::InTheWay { .. })));
    for name in ["", ".", "..", "a/b", "/", "a\0b"] {
        assert!(matches!(entry(name, "d"), Err(CopyError::Failed { .. })), "{name:?}");
        assert!(matches!(entry("file", name), Err(CopyError::Failed { .. })), "{name:?}");
    }
    let copied = copy_entry(
        folder(top.path()),
        OsStr::new("from"),
        folder(&to),
        OsStr::new("tree"),
        ARCHIVE,
        &patient(),
    );
    assert_eq!((copied.as_ref().unwrap().files, copied.unwrap().bytes), (3, 7));
    assert_alike(&from, &to.join("tree"));
}

#[test]
fn a_tree_is_merged_into_another() {
    let (_top, from, to) = two();
    for (place, texts) in [(&from, ["new", "new"]), (&to, ["old", "old"])] {
        std::fs::create_dir_all(place.join("sub/inner")).unwrap();
        std::fs::write(place.join("file"), texts[0]).unwrap();
        std::fs::write(place.join("sub/file"), texts[1]).unwrap();
    }
    std::fs::set_permissions(to.join("sub"), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    std::fs::write(to.join("sub/inner/kept"), "kept").unwrap();
    std::fs::hard_link(to.join("file"), to.join("linked")).unwrap();
    std::os::unix::fs::symlink("../nowhere", from.join("sub/symlink")).unwrap();
    std::os::unix::fs::symlink("inner", to.join("sub/symlink")).unwrap();
    copy_tree(folder(&from), folder(&to), false, MERGE, &patient()).unwrap();
    let read = |name: &str| std::fs::read_to_string(to.join(name)).unwrap();
    assert_eq!([read("file"), read("sub/file"), read("sub/inner/kept")], ["new", "new", "kept"]);
    assert_eq!(read("linked"), "old", "an entry is replaced, not written over");
    assert_eq!(std::fs::read_link(to.join("sub/symlink")).unwrap(), Path::new("../nowhere"));
    assert_eq!(to.join("sub").metadata().unwrap().mode() & 0o7777, 0o711);

    std::fs::remove_dir_all(to.join("sub")).unwrap();
    std::fs::write(to.join("sub"), "file").unwrap();
    let error = copy_tree(folder(&from), folder(&to), false, MERGE, &patient()).unwrap_err().to_string();
    assert_eq!(error, "cannot make \"sub\": something of that name is there that is no directory");
    std::fs::remove_file(to.join("file")).unwrap();
    std::fs::create_dir(to.join("file")).unwrap();
    std::fs::remove_file(to.join("sub")).unwrap();
    let error = copy_tree(folder(&from), folder(&to), false, MERGE, &patient()).unwrap_err().to_string();
    assert_eq!(error, "cannot make \"file\": a directory of that name is there");
}

#[test]
fn hard_links_are_found_again_far_away_and_are_content_once() {
    let (_top, from, to) = two();
    std::fs::write(from.join("first"), vec![1; 100_000]).unwrap();
    // Their path is longer than the kernel takes.
    let mut deep = folder(&from);
    for number in 0..60 {
        let name = format!("{number}-{}", "x".repeat(200));
        rustix::fs::mkdirat(&deep, &*name, Mode::RWXU).unwrap();
        deep = rustix::fs::openat(&deep, &*name, OFlags::DIRECTORY, Mode::empty()).unwrap();
        rustix::fs::linkat(folder(&from), "first", &deep, "linked", AtFlags::empty()).unwrap();
    }
    let copied = copy(&from, &to, ARCHIVE).unwrap();
    assert_eq!((copied.files, copied.bytes, copied.directories), (61, 100_000, 60));
    assert_eq!(to.join("first").metadata().unwrap().nlink(), 61);
}

#[test]
fn a_copy_stops_when_it_is_told_to_and_at_its_deadline() {
    let (_top, from, to) = two();
    for number in 0..500 {
        std::fs::write(from.join(number.to_string()), "x").unwrap();
    }
    let so_far = Mutex::new(Copied::default());
    let progress = |copied: &Copied| *so_far.lock().unwrap() = *copied;
    let cancelled = || so_far.lock().unwrap().files >= 100;
    let watch = Watch { cancelled: &cancelled, progress: &progress, ..patient() };
    let result = copy_tree(folder(&from), folder(&to), true, MERGE, &watch);
    assert!(matches!(result, Err(CopyError::Cancelled)), "{result:?}");
    let copied = std::fs::read_dir(&to).unwrap().count();
    assert!((100..150).contains(&copied), "{copied}");
    let watch = Watch { deadline: Instant::now(), ..patient() };
    let result = copy_tree(folder(&from), folder(&to), true, MERGE, &watch);
    assert!(matches!(result, Err(CopyError::Deadline)), "{result:?}");
    let total =
        copy_tree(folder(&from), folder(&to), true, MERGE, &Watch { progress: &progress, ..patient() });
    assert_eq!(total.unwrap(), *so_far.lock().unwrap());
}

#[test]
fn names_may_be_any_bytes() {
    let (_top, from, to) = two();
    let names: Vec<Vec<u8>> = (1..=255_u8).filter(|byte| *byte != b'/').map(|byte| vec![byte; 255]).collect();
    for name in &names {
        std::fs::write(from.join(OsStr::from_bytes(name)), name).unwrap();
    }
    copy(&from, &to, ARCHIVE).unwrap();
    let mut found: Vec<Vec<u8>> =
        std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name().into_vec()).collect();
    found.sort();
    assert_eq!(found, names);
}
