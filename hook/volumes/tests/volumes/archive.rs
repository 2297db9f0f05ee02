//! Tar streams of trees, and unpacking hostile ones.

use crate::copy::folder;
use crate::copy::patient;
use crate::copy::run;
use crate::copy::two;
use crate::listing::assert_alike;
use crate::listing::list;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use tar::Builder;
use tar::EntryType;
use tar::Header;
use volhook_volumes::Copied;
use volhook_volumes::CopyError;
use volhook_volumes::Packed;
use volhook_volumes::Rights;
use volhook_volumes::pack;
use volhook_volumes::unpack;

/// A tree with everything that an archive can hold, with whole seconds as times.
fn fill(from: &Path) {
    std::fs::create_dir_all(from.join("sub/inner")).unwrap();
    std::fs::write(from.join("sub/file"), vec![7; 100_000]).unwrap();
    std::fs::write(from.join(format!("sub/{}", "long".repeat(60))), "long").unwrap();
    std::fs::write(from.join(std::ffi::OsStr::new("sub/new\nline \u{fc}")), "odd").unwrap();
    std::fs::hard_link(from.join("sub/file"), from.join("sub/inner/linked")).unwrap();
    symlink("/no/../where//x/.", from.join("symlink")).unwrap();
    symlink("x".repeat(300), from.join("sub/long")).unwrap();
    rustix::fs::mknodat(CWD, from.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    run(Command::new("mknod").arg(from.join("device")).args(["c", "1", "3"]));
    run(Command::new("setfattr").args(["-n", "user.note", "-v", "x y"]).arg(from.join("sub")));
    run(Command::new("setfacl").args(["-m", "u:5:rw"]).arg(from.join("sub/file")));
    run(Command::new("chown").args(["-hR", "1000:70000"]).arg(from));
    run(Command::new("chmod").arg("6751").arg(from.join("sub/inner")));
    let all = format!("find '{0}' -exec touch -h -d @1234567890 {{}} +", from.display());
    run(Command::new("sh").arg("-c").arg(all));
}

fn packed(from: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack(Packed::Content(folder(from)), &mut bytes, &patient()).unwrap();
    bytes
}

fn unpacked(bytes: &[u8], to: &Path) -> Result<Copied, CopyError> {
    unpack(bytes, folder(to), Rights::Keep, &patient())
}

#[test]
fn privileged_what_is_packed_is_what_gnu_tar_unpacks_and_the_other_way_round() {
    let (top, from, to) = two();
    fill(&from);
    let sub = top.path().join("gnu");
    std::fs::create_dir(&sub).unwrap();
    let mut tar = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "--same-owner", "-xpf", "-", "-C"])
        .arg(&sub)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(&packed(&from)).unwrap();
    assert!(tar.wait().unwrap().success());
    assert_alike(&from.join("sub"), &sub.join("sub"));
    std::fs::remove_file(from.join(std::ffi::OsStr::new("sub/new\nline \u{fc}"))).unwrap();
    let tar = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf", "-", "-C"])
        .args([from.join("sub").as_path(), Path::new(".")])
        .output()
        .unwrap();
    assert!(tar.status.success());
    std::fs::create_dir(to.join("sub")).unwrap();
    unpacked(&tar.stdout, &to.join("sub")).unwrap();
    assert_eq!(list(&from.join("sub/inner")), list(&to.join("sub/inner")));
    let note = &list(&to)[Path::new("sub/file")];
    assert_eq!((note.mode & 0o777, note.owner, note.content.len()), (0o664, (1000, 70000), 100_000));
}

#[test]
fn privileged_an_archive_brings_back_what_went_into_it() {
    let (_top, from, to) = two();
    fill(&from);
    let copied = unpacked(&packed(&from), &to).unwrap();
    // Who unpacks into a folder keeps the folder.
    run(Command::new("chown").arg("--reference").args([&from, &to]));
    run(Command::new("touch").arg("-r").args([&from, &to]));
    assert_alike(&from, &to);
    assert_eq!((copied.files, copied.directories, copied.left_out), (8, 2, 0));
    let mut one = Vec::new();
    let sub = Packed::Directory(folder(&from.join("sub")), OsString::from("other"));
    pack(sub, &mut one, &patient()).unwrap();
    unpacked(&one, &to).unwrap();
    assert_alike(&from.join("sub"), &to.join("other"));
}

#[test]
fn privileged_without_archive_mode_nothing_that_gives_rights_comes_out_of_a_stream() {
    let (_top, from, to) = two();
    fill(&from);
    let copied = unpack(&*packed(&from), folder(&to), Rights::Give { uid: 3, gid: 4 }, &patient()).unwrap();
    assert_eq!(copied.left_out, 1);
    let listing = list(&to);
    assert!(!listing.contains_key(Path::new("device")));
    for (path, entry) in listing.iter().filter(|(path, _)| **path != PathBuf::new()) {
        assert_eq!((entry.owner, entry.mode & 0o6000), ((3, 4), 0), "{path:?}");
        assert!(entry.attributes.keys().all(|name| name == "user.note"), "{path:?}");
    }
}

fn entry(builder: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, target: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_link_name_literal(target).unwrap();
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

#[test]
fn a_hostile_archive_stays_inside() {
    let (top, away, to) = two();
    std::fs::write(away.join("file"), "secret").unwrap();
    for path in ["../up", "sub/../../up", "/../up"] {
        let mut builder = Builder::new(Vec::new());
        entry(&mut builder, EntryType::Regular, path, "", b"x");
        let error = unpacked(&builder.into_inner().unwrap(), &to).unwrap_err();
        assert!(matches!(error, CopyError::Outside(_)), "{path}: {error:?}");
    }
    let mut builder = Builder::new(Vec::new());
    entry(&mut builder, EntryType::Regular, "/absolute", "", b"x");
    entry(&mut builder, EntryType::Symlink, "out", away.to_str().unwrap(), b"");
    entry(&mut builder, EntryType::Symlink, "up", "../../../..", b"");
    entry(&mut builder, EntryType::Regular, "up/etc/x", "", b"x");
    entry(&mut builder, EntryType::Symlink, "file", away.join("file").to_str().unwrap(), b"");
    entry(&mut builder, EntryType::Regular, "file", "", b"new");
    unpacked(&builder.into_inner().unwrap(), &to).unwrap();
    assert_eq!(std::fs::read(to.join("absolute")).unwrap(), b"x");
    assert_eq!(std::fs::read(to.join("etc/x")).unwrap(), b"x");
    assert_eq!(std::fs::read(to.join("file")).unwrap(), b"new");
    assert_eq!(std::fs::read(away.join("file")).unwrap(), b"secret");

    let mut builder = Builder::new(Vec::new());
    entry(&mut builder, EntryType::Link, "hard", away.join("file").to_str().unwrap(), b"");
    let error = unpacked(&builder.into_inner().unwrap(), &to).unwrap_err();
    assert!(matches!(&error, CopyError::Failed { step: "find", .. }), "{error:?}");
    let mut builder = Builder::new(Vec::new());
    entry(&mut builder, EntryType::Regular, "out/file", "", b"x");
    let error = unpacked(&builder.into_inner().unwrap(), &to).unwrap_err();
    assert!(matches!(&error, CopyError::Failed { .. }), "{error:?}");
    assert_eq!(std::fs::read_dir(&away).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 2);
    assert!(!Path::new("/etc/x").exists());
}

#[test]
fn a_broken_archive_is_told() {
    let (_top, from, to) = two();
    std::fs::write(from.join("file"), vec![1; 10_000]).unwrap();
    let bytes = packed(&from);
    for (bytes, part) in [(&bytes[..3000], "cannot read the archive"), (&[b'x'; 2048], "cannot read")] {
        let error = unpacked(bytes, &to).unwrap_err();
        assert!(error.to_string().contains(part), "{error:?}");
    }
    assert_eq!(unpacked(&[0; 1024], &to).unwrap(), Copied::default());
}

#[test]
fn a_name_that_the_library_cannot_read_is_refused_and_not_cut() {
    let (_top, _from, to) = two();
    let long = format!("{}\nrest", "n".repeat(120));
    let archive = |name: &str, extension: &str, value: &str| {
        let mut builder = Builder::new(Vec::new());
        builder.append_pax_extensions([(extension, value.as_bytes())]).unwrap();
        entry(&mut builder, EntryType::Regular, name, "", b"x");
        builder.into_inner().unwrap()
    };
    let error = unpacked(&archive(&long[..100], "path", &long), &to).unwrap_err();
    assert!(matches!(&error, CopyError::Archive { step: "read", .. }), "{error:?}");
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 0);
    let copied = unpacked(&archive("file", "SCHILY.xattr.user.note", "two\nlines"), &to).unwrap();
    assert_eq!((copied.files, copied.attributes_lost), (1, 1));
}

#[test]
fn a_deep_tree_is_packed_and_unpacked() {
    let (_top, from, to) = two();
    let mut deep = from.clone();
    for _ in 0..300 {
        deep.push("deeper");
        std::fs::create_dir(&deep).unwrap();
    }
    std::fs::write(deep.join("file"), "x").unwrap();
    let copied = unpacked(&packed(&from), &to).unwrap();
    assert_eq!((copied.files, copied.directories), (1, 300));
    assert_eq!(to.join(deep.strip_prefix(&from).unwrap()).join("file").metadata().unwrap().size(), 1);
}

/// The kernel gives up on `..` while anything on the host is renamed.
#[test]
fn a_busy_host_is_no_reason_to_refuse_an_archive() {
    let (_top, away, to) = two();
    let mut builder = Builder::new(Vec::new());
    entry(&mut builder, EntryType::Symlink, "up", "../../../..", b"");
    for number in 0..2000 {
        entry(&mut builder, EntryType::Regular, &format!("up/etc/{number}"), "", b"x");
    }
    let archive = builder.into_inner().unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (one, other) = (away.join("one"), away.join("other"));
            std::fs::create_dir(&one).unwrap();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::rename(&one, &other).unwrap();
                std::fs::rename(&other, &one).unwrap();
            }
        });
        let unpacked = unpacked(&archive, &to);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        unpacked.unwrap();
    });
    assert_eq!(std::fs::read_dir(to.join("etc")).unwrap().count(), 2000);
}
