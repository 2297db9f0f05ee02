//! Copying where a container has prepared the tree, or changes it meanwhile; and where there is no room.

use crate::copy::ARCHIVE;
use crate::copy::MERGE;
use crate::copy::copy;
use crate::copy::folder;
use crate::copy::patient;
use crate::copy::run;
use crate::copy::two;
use crate::listing::assert_alike;
use crate::listing::list;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Instant;
use volhook_volumes::Copied;
use volhook_volumes::CopyError;
use volhook_volumes::How;
use volhook_volumes::Place;
use volhook_volumes::Rights;
use volhook_volumes::copy_tree;

const SECRET: &[u8] = b"secret of the host";

/// Works while somebody exchanges two entries without end.
fn while_exchanged<T>(first: &Path, second: &Path, work: impl FnOnce() -> T) -> (T, u64) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let exchanger = scope.spawn(|| {
            let mut times = 0;
            while !done.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, first, CWD, second, RenameFlags::EXCHANGE).unwrap();
                times += 1;
            }
            times
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (result, exchanger.join().unwrap())
    })
}

#[test]
fn a_folder_exchanged_for_a_symlink_leads_nowhere() {
    let (top, from, _to) = two();
    let away = top.path().join("away");
    std::fs::create_dir(&away).unwrap();
    std::fs::write(away.join("secret"), SECRET).unwrap();
    for number in 0..40 {
        std::fs::create_dir_all(from.join(format!("{number}/sub"))).unwrap();
        std::fs::write(from.join(format!("{number}/sub/file")), "mine").unwrap();
    }
    let outside = top.path().join("outside");
    symlink(&away, &outside).unwrap();
    let (mut copied, mut refused, mut as_symlink) = (0, 0, 0);
    let mut exchanges = 0;
    for round in 0..100 {
        let to = top.path().join(format!("to{round}"));
        std::fs::create_dir(&to).unwrap();
        let place = if round % 2 == 0 { "20" } else { "20/sub" };
        let (result, times) = while_exchanged(&from.join(place), &outside, || copy(&from, &to, ARCHIVE));
        exchanges += times;
        match result {
            Ok(_) => copied += 1,
            Err(CopyError::Changed(path)) => {
                refused += 1;
                assert!(path.starts_with("20"), "{path:?}");
            }
            Err(error) => panic!("{error:?}"),
        }
        for (path, entry) in list(&to) {
            assert_ne!(entry.content, SECRET, "{path:?}");
            assert_ne!(path.file_name(), Some("secret".as_ref()));
            as_symlink += u32::from(entry.kind == "symlink");
        }
        if from.join(place).is_symlink() {
            rustix::fs::renameat_with(CWD, from.join(place), CWD, &outside, RenameFlags::EXCHANGE).unwrap();
        }
        std::fs::remove_dir_all(&to).unwrap();
    }
    assert!(exchanges > 100 && copied > 0, "{exchanges} {copied} {refused}");
    assert!(as_symlink > 0, "the symlink itself was never met");
}

#[test]
fn privileged_a_file_exchanged_for_a_device_or_a_fifo_is_never_opened() {
    let (top, from, _to) = two();
    std::fs::write(from.join("file"), "mine").unwrap();
    for (name, kind) in [("device", FileType::CharacterDevice), ("fifo", FileType::Fifo)] {
        let other = top.path().join(name);
        // A tty's device with this number opens /dev/zero's content without end.
        let device = rustix::fs::makedev(1, 5);
        rustix::fs::mknodat(CWD, &other, kind, Mode::from_raw_mode(0o666), device)
            .expect("devices need root: run the privileged_ tests as root");
        for round in 0..300 {
            let to = top.path().join(format!("{name}-{round}"));
            std::fs::create_dir(&to).unwrap();
            let (result, _) = while_exchanged(&from.join("file"), &other, || copy(&from, &to, ARCHIVE));
            result.unwrap();
            let is = to.join("file").symlink_metadata().unwrap();
            assert!(!is.is_file() || std::fs::read(to.join("file")).unwrap() == b"mine");
            if !from.join("file").is_file() {
                std::fs::rename(&other, top.path().join("put")).unwrap();
                std::fs::rename(from.join("file"), &other).unwrap();
                std::fs::rename(top.path().join("put"), from.join("file")).unwrap();
            }
        }
    }
}

#[test]
fn a_fifo_or_a_socket_keeps_nobody_waiting() {
    let (_top, from, to) = two();
    for number in 0..50 {
        rustix::fs::mknodat(CWD, from.join(format!("fifo{number}")), FileType::Fifo, Mode::RWXU, 0).unwrap();
    }
    drop(std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap());
    let start = Instant::now();
    assert_eq!(copy(&from, &to, ARCHIVE).unwrap().files, 51);
    assert!(start.elapsed().as_secs() < 20);
    assert_alike(&from, &to);
    // In the place of a FIFO a file is made; it is not written into.
    std::fs::remove_file(from.join("fifo7")).unwrap();
    std::fs::write(from.join("fifo7"), "file").unwrap();
    copy(&from, &to, MERGE).unwrap();
    assert_eq!(std::fs::read(to.join("fifo7")).unwrap(), b"file");
}

#[test]
fn symlinks_planted_in_the_target_are_replaced_or_refused() {
    let (top, from, to) = two();
    let away = top.path().join("away");
    std::fs::create_dir(&away).unwrap();
    std::fs::write(away.join("file"), SECRET).unwrap();
    std::fs::create_dir(from.join("sub")).unwrap();
    std::fs::write(from.join("file"), "new").unwrap();
    std::fs::write(from.join("sub/file"), "new").unwrap();
    symlink(away.join("file"), to.join("file")).unwrap();
    symlink(&away, to.join("sub")).unwrap();
    let before = list(&away);
    let error = copy(&from, &to, MERGE).unwrap_err();
    assert!(matches!(&error, CopyError::InTheWay { path, .. } if path == Path::new("sub")), "{error:?}");
    std::fs::remove_file(to.join("sub")).unwrap();
    copy(&from, &to, MERGE).unwrap();
    assert_eq!(std::fs::read(to.join("file")).unwrap(), b"new");
    assert!(!to.join("file").is_symlink());
    assert_eq!(list(&away), before);
}

#[test]
fn a_target_folder_exchanged_for_a_symlink_leads_nowhere() {
    let (top, from, to) = two();
    let away = top.path().join("away");
    std::fs::create_dir(&away).unwrap();
    for number in 0..30 {
        std::fs::create_dir_all(from.join("sub/inner")).unwrap();
        std::fs::write(from.join(format!("sub/inner/{number}")), "new").unwrap();
    }
    std::fs::create_dir_all(to.join("sub/inner")).unwrap();
    let outside = top.path().join("outside");
    symlink(&away, &outside).unwrap();
    let mut copied = 0;
    for round in 0..300 {
        let place = to.join(if round % 2 == 0 { "sub" } else { "sub/inner" });
        let (result, _) = while_exchanged(&place, &outside, || copy(&from, &to, MERGE));
        match result {
            Ok(_) => copied += 1,
            Err(CopyError::InTheWay { .. } | CopyError::Moved(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(std::fs::read_dir(&away).unwrap().count(), 0, "round {round}");
        if place.is_symlink() {
            rustix::fs::renameat_with(CWD, &place, CWD, &outside, RenameFlags::EXCHANGE).unwrap();
        }
    }
    assert!(copied > 0);
}

/// Goes down `levels` folders called `d` and makes them.
pub(crate) fn deep(top: &Path, levels: u32) {
    let mut folder: OwnedFd = folder(top);
    for _ in 0..levels {
        rustix::fs::mkdirat(&folder, "d", Mode::RWXU).unwrap();
        folder = rustix::fs::openat(&folder, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
        let flags = OFlags::CREATE | OFlags::WRONLY;
        let file = rustix::fs::openat(&folder, "f", flags, Mode::RUSR).unwrap();
        File::from(file).write_all(b"x").unwrap();
    }
}

#[test]
fn a_tree_of_ten_thousand_levels_is_copied_with_few_descriptors() {
    // In memory: what is tried is the walk, not a disk.
    let top = tempfile::tempdir_in("/dev/shm").unwrap();
    let (from, to) = (top.path().join("from"), top.path().join("to"));
    std::fs::create_dir(&from).unwrap();
    std::fs::create_dir(&to).unwrap();
    deep(&from, 10_000);
    let most = AtomicBool::new(false);
    let open = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
        most.fetch_or(open > 400, Ordering::Relaxed);
        false
    };
    let looks = std::sync::atomic::AtomicU64::new(0);
    let sometimes = || looks.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) && open();
    let watch = volhook_volumes::Watch { cancelled: &sometimes, ..patient() };
    let copied = copy_tree(folder(&from), folder(&to), true, ARCHIVE, &watch).unwrap();
    assert_eq!(copied, Copied { files: 10_000, directories: 10_000, bytes: 10_000, ..Copied::default() });
    assert!(!most.load(Ordering::Relaxed), "too many descriptors");
    let (mut original, mut copy) = (folder(&from), folder(&to));
    for level in 0..10_000 {
        let down = |at: &OwnedFd| rustix::fs::openat(at, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
        (original, copy) = (down(&original), down(&copy));
        let [original, copy] = [&original, &copy].map(|fd| rustix::fs::fstat(fd).unwrap());
        let of = |stat: rustix::fs::Stat| (stat.st_mode, stat.st_nlink, stat.st_mtime, stat.st_mtime_nsec);
        assert_eq!(of(original), of(copy), "level {level}");
    }
}

/// Something mounted as long as this lives.
pub(crate) struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    pub(crate) fn new(place: &'a Path, arguments: &[&str]) -> Self {
        run(Command::new("mount").args(arguments).arg(place));
        Self(place)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        run(Command::new("umount").arg(self.0));
    }
}

#[test]
fn privileged_a_mount_in_either_tree_is_refused_and_named() {
    let (top, from, to) = two();
    let place = from.join("sub/mounted");
    std::fs::create_dir_all(&place).unwrap();
    let file = from.join("sub/file");
    std::fs::write(&file, "under").unwrap();
    for (arguments, mounted) in
        [(vec!["-t", "tmpfs", "none"], &place), (vec!["--bind", "/etc/hostname"], &file)]
    {
        let _mounted = Mounted::new(mounted, &arguments);
        let to = top.path().join(mounted.file_name().unwrap());
        std::fs::create_dir(&to).unwrap();
        let error = copy(&from, &to, ARCHIVE).unwrap_err();
        let name = mounted.strip_prefix(&from).unwrap();
        assert_eq!(error.to_string(), format!("something is mounted on {name:?}"));
    }
    copy(&from, &to, ARCHIVE).unwrap();
    let inside = to.join("sub/mounted");
    let mounted = Mounted::new(&inside, &["-t", "tmpfs", "none"]);
    let error = copy(&from, &to, MERGE).unwrap_err();
    assert_eq!(error.to_string(), "something is mounted on \"sub/mounted\"");
    assert_eq!(std::fs::read_dir(&inside).unwrap().count(), 0);
    drop(mounted);
}

#[test]
fn privileged_a_full_disk_is_told_with_the_file_and_what_was_being_done() {
    let (_top, from, to) = two();
    std::fs::create_dir(from.join("sub")).unwrap();
    std::fs::write(from.join("sub/large"), vec![1; 3 << 20]).unwrap();
    let _small = Mounted::new(&to, &["-t", "tmpfs", "-o", "size=1M,nr_inodes=20", "none"]);
    let full = |error: CopyError, step: &str| match error {
        CopyError::Failed { step: was, path, source } => {
            assert_eq!((was, source.kind()), (step, ErrorKind::StorageFull), "{path:?}");
            path
        }
        error => panic!("{error:?}"),
    };
    let path = full(copy(&from, &to, ARCHIVE).unwrap_err(), "write");
    assert_eq!(path, Path::new("sub/large"));
    run(Command::new("rm").arg("-rf").arg(to.join("sub")));
    std::fs::remove_file(from.join("sub/large")).unwrap();
    for number in 0..40 {
        std::fs::write(from.join(format!("sub/{number}")), "").unwrap();
    }
    let path = full(copy(&from, &to, ARCHIVE).unwrap_err(), "make");
    assert!(path.starts_with("sub"), "{path:?}");
}

#[test]
fn privileged_what_another_filesystem_cannot_keep_is_counted() {
    let (_top, from, to) = two();
    std::fs::write(from.join("file"), "x").unwrap();
    run(Command::new("setfattr").args(["-n", "user.note", "-v", "x"]).arg(from.join("file")));
    // ramfs has no extended attributes.
    let _mounted = Mounted::new(&to, &["-t", "ramfs", "none"]);
    let copied = copy(&from, &to, ARCHIVE).unwrap();
    assert_eq!(copied, Copied { files: 1, bytes: 1, attributes_lost: 1, ..Copied::default() });
}

/// Makes a filesystem in a file, mounts it, and copies a tree with holes in it.
fn in_image(mkfs: &[&str], reflinks: bool) {
    let (top, _from, to) = two();
    let image = top.path().join("image");
    File::create(&image).unwrap().set_len(400 << 20).unwrap();
    run(Command::new(mkfs[0]).args(&mkfs[1..]).arg(&image));
    let image = image.to_str().unwrap();
    let _mounted = Mounted::new(&to, &["-o", "loop", image]);
    let (from, to) = (to.join("from"), to.join("to"));
    std::fs::create_dir(&from).unwrap();
    std::fs::create_dir(&to).unwrap();
    let file = File::create(from.join("holes")).unwrap();
    file.set_len(200 << 20).unwrap();
    file.write_all_at(&[1; 1 << 20], 64 << 20).unwrap();
    drop(file);
    std::fs::write(from.join("full"), vec![2; 5 << 20]).unwrap();
    run(Command::new("sync").arg("-f").arg(&from));
    let copied = copy(&from, &to, ARCHIVE).unwrap();
    assert_eq!((copied.files, copied.bytes), (2, 6 << 20));
    assert_eq!(copied.reflinked, if reflinks { 6 << 20 } else { 0 });
    assert_alike(&from, &to);
    let blocks = to.join("holes").metadata().unwrap().blocks();
    assert!(blocks * 512 < 2 << 20, "{blocks}");
}

#[test]
fn privileged_content_is_shared_where_the_filesystem_can_and_holes_stay_holes() {
    in_image(&["mkfs.xfs", "-q", "-m", "reflink=1"], true);
    in_image(&["mkfs.xfs", "-q", "-m", "reflink=0"], false);
    in_image(&["mkfs.ext4", "-q"], false);
}

#[test]
fn whoever_is_not_root_copies_what_is_his() {
    let (_top, from, to) = two();
    std::fs::write(from.join("file"), "x").unwrap();
    rustix::fs::linkat(CWD, from.join("file"), CWD, from.join("linked"), AtFlags::empty()).unwrap();
    let stat = from.metadata().unwrap();
    let rights = Rights::Give { uid: stat.uid(), gid: stat.gid() };
    let copied = copy(&from, &to, How { rights, place: Place::Empty }).unwrap();
    assert_eq!((copied.files, copied.bytes), (2, 1));
    assert_eq!(to.join("file").metadata().unwrap().nlink(), 2);
}
