//! Emptying the trash: hostile trees, what is in the way, and being killed in the middle.

use crate::fixture::ROOT;
use crate::fixture::Rounds;
use crate::fixture::at;
use crate::fixture::directory;
use crate::fixture::fresh;
use crate::fixture::id;
use crate::fixture::ids;
use crate::fixture::image;
use crate::fixture::root;
use crate::fixture::soon;
use crate::fixture::start;
use crate::fixture::store;
use crate::fixture::tree;
use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use volhook_core::volume::Volume;
use volhook_volumes::Deleted;
use volhook_volumes::Discarded;
use volhook_volumes::Emptied;
use volhook_volumes::Store;
use volhook_volumes::StoreError;

/// A discarded directory volume with what `fill` puts into its data directory.
fn discarded(store: &Store, name: &str, fill: impl FnOnce(&Path)) -> Discarded {
    let volume = fresh(directory(name));
    store.create(&volume, soon()).unwrap();
    fill(&store.directory_path(&volume.id));
    store.discard(&volume, at(0)).unwrap()
}

/// For what a slow disk may take long over.
fn late() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

fn assert_nothing_left(folder: &TempDir) {
    for place in ["trash", "staging"] {
        assert_eq!(tree(&root(folder).join(place)), Vec::<String>::new(), "{place}");
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) {
    let output = Command::new(program).args(arguments).arg(path).output().unwrap();
    assert!(output.status.success(), "{program} (run this as root): {output:?}");
}

/// Checks that exactly `discarded` was kept, for a reason with these parts.
fn assert_kept(emptied: &Emptied, discarded: &Discarded, parts: &[&str]) {
    let [(path, reason)] = emptied.kept.as_slice() else {
        panic!("{emptied:?}");
    };
    assert_eq!(*path, discarded.path);
    assert!(parts.iter().all(|part| reason.contains(part)), "{reason}");
    assert_eq!(reason.lines().count(), 1, "{reason}");
}

#[test]
fn what_was_discarded_before_a_time_is_deleted_and_the_rest_stays() {
    let (folder, store) = store();
    assert_eq!(store.empty_trash(at(9), soon()).unwrap(), Emptied::default());
    assert!(!root(&folder).exists(), "looking makes nothing");
    let volumes: Vec<_> = (0..4).map(|number| fresh(directory(&format!("v{number}")))).collect();
    for (volume, since) in volumes.iter().zip([30, 10, 20, 40]) {
        store.create(volume, soon()).unwrap();
        std::fs::write(store.directory_path(&volume.id).join("file"), vec![1; 100_000]).unwrap();
        store.discard(volume, at(since)).unwrap();
    }
    let emptied = store.empty_trash(at(30), soon()).unwrap();
    assert_eq!(ids(&emptied), [id("v1"), id("v2")]);
    assert_eq!(emptied.kept, []);
    assert!((200_000..300_000).contains(&emptied.bytes), "{}", emptied.bytes);
    let left: Vec<_> = store.trash().unwrap().volumes.into_iter().map(|left| left.volume).collect();
    assert_eq!(left, [volumes[0].clone(), volumes[3].clone()]);
    assert_eq!(store.empty_trash(at(30), soon()).unwrap(), Emptied::default());
    assert_eq!(ids(&store.empty_trash(at(41), soon()).unwrap()), [id("v0"), id("v3")]);
    assert_nothing_left(&folder);
}

#[test]
fn privileged_an_image_is_deleted_and_what_it_took_is_told() {
    let (folder, store) = store();
    let volume = image("v1", 64 << 20);
    store.create(&volume, soon()).unwrap();
    let size = store.size(&volume).unwrap();
    store.discard(&volume, at(0)).unwrap();
    let emptied = store.empty_trash(at(1), soon()).unwrap();
    let deleted = Deleted { id: id("v1"), uuid: volume.uuid };
    assert_eq!(emptied, Emptied { volumes: vec![deleted], bytes: size, kept: vec![] });
    assert_nothing_left(&folder);
}

#[test]
fn nothing_outside_is_deleted_through_symlinks_or_hard_links() {
    let (folder, store) = store();
    let away = folder.path().join("away");
    std::fs::create_dir_all(away.join("sub")).unwrap();
    std::fs::write(away.join("sub/file"), vec![1; 200_000]).unwrap();
    std::fs::write(away.join("linked"), vec![1; 200_000]).unwrap();
    let before = tree(&away);
    let discarded = discarded(&store, "v1", |data| {
        for number in 0..500 {
            symlink(&away, data.join(format!("absolute{number}"))).unwrap();
            symlink("../../../../away/sub", data.join(format!("relative{number}"))).unwrap();
        }
        symlink("/", data.join("root")).unwrap();
        symlink("loop", data.join("loop")).unwrap();
        std::fs::hard_link(away.join("linked"), data.join("hard")).unwrap();
        assert!(Command::new("mkfifo").arg(data.join("fifo")).status().unwrap().success());
        drop(std::os::unix::net::UnixListener::bind(data.join("socket")).unwrap());
    });
    symlink(&away, discarded.path.join("beside")).unwrap();
    let emptied = store.empty_trash(at(1), soon()).unwrap();
    assert_eq!((ids(&emptied).len(), emptied.kept), (1, vec![]));
    assert!(emptied.bytes < 150_000, "{} bytes", emptied.bytes);
    assert_eq!(tree(&away), before);
    assert_eq!(std::fs::read(away.join("sub/file")).unwrap().len(), 200_000);
    assert_nothing_left(&folder);
}

#[test]
fn a_volume_that_is_a_symlink_to_outside_is_not_emptied() {
    let (folder, store) = store();
    let discarded = discarded(&store, "v1", |data| std::fs::write(data.join("file"), "x").unwrap());
    let data = discarded.path.join("data");
    let away = folder.path().join("away");
    std::fs::rename(&data, &away).unwrap();
    symlink(&away, &data).unwrap();
    assert_eq!(ids(&store.empty_trash(at(1), soon()).unwrap()), [id("v1")]);
    assert_eq!(tree(&away), ["file"]);
}

/// Makes `depth` folders, one in the other, with `beside` in each.
fn dig(top: &Path, name: &str, depth: usize, beside: impl Fn(&OwnedFd, usize)) {
    let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here = rustix::fs::open(top, open, Mode::empty()).unwrap();
    for level in 0..depth {
        beside(&here, level);
        rustix::fs::mkdirat(&here, name, Mode::RWXU).unwrap();
        here = rustix::fs::openat(&here, name, open, Mode::empty()).unwrap();
    }
    beside(&here, depth);
}

#[test]
fn trees_of_5000_levels_are_deleted_with_few_open_files() {
    if let Some(root) = std::env::var_os(ROOT) {
        let mut limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limits.current = Some(64);
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limits).unwrap();
        let emptied = Store::new(Path::new(&root)).empty_trash(at(1), late()).unwrap();
        assert_eq!(emptied.kept, []);
        println!("deleted {}", ids(&emptied).len());
        return;
    }
    let (folder, store) = store();
    discarded(&store, "short", |data| dig(data, "d", 5000, |_, _| {}));
    discarded(&store, "long", |data| {
        dig(data, &"n".repeat(255), 5000, |here, level| {
            if level % 100 == 0 {
                let file = OFlags::CREATE | OFlags::WRONLY;
                rustix::fs::openat(here, "file", file, Mode::RUSR).unwrap();
            }
        });
    });
    discarded(&store, "branches", |data| {
        dig(data, "d", 150, |here, _| {
            for number in 0..4 {
                let name = format!("{}{number}", ["a", "z"][number % 2]);
                rustix::fs::mkdirat(here, &name, Mode::RWXU).unwrap();
                let inner = format!("{name}/inner");
                rustix::fs::mkdirat(here, &inner, Mode::RWXU).unwrap();
                rustix::fs::symlinkat("/", here, format!("{inner}/link")).unwrap();
            }
        });
    });
    let child = start("empty::trees_of_5000_levels_are_deleted_with_few_open_files", &root(&folder));
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("deleted 3"), "{output:?}");
    assert_nothing_left(&folder);
}

#[test]
fn folders_of_20000_entries_are_deleted() {
    let (folder, store) = store();
    let discarded = discarded(&store, "v1", |data| {
        for (kind, number) in (0..20_000).map(|number| (number % 3, number)) {
            let path = data.join(format!("{number}-{}", "\n".repeat(number % 7)));
            match kind {
                0 => std::fs::write(path, "").unwrap(),
                1 => std::fs::create_dir_all(path.join("inner")).unwrap(),
                _ => symlink("/", path).unwrap(),
            }
        }
    });
    let emptied = store.empty_trash(at(1), late()).unwrap();
    assert_eq!((ids(&emptied), emptied.kept), (vec![discarded.volume.id], vec![]));
    assert_nothing_left(&folder);
}

#[test]
fn at_the_deadline_it_stops_and_the_next_time_goes_on() {
    let (folder, store) = store();
    let discarded = discarded(&store, "v1", |data| {
        for number in 0..5000 {
            std::fs::create_dir(data.join(number.to_string())).unwrap();
        }
    });
    let before = tree(&discarded.path);
    let emptied = store.empty_trash(at(1), Instant::now()).unwrap();
    assert_kept(&emptied, &discarded, &["the time ran out"]);
    assert_eq!(tree(&discarded.path), before, "nothing is begun");
    let (mut partly, mut time) = (0, Duration::from_millis(1));
    loop {
        // Too little for all on the fastest host, in the end enough for something on the slowest.
        time = time.mul_f64(1.5);
        let emptied = store.empty_trash(at(1), Instant::now() + time).unwrap();
        if ids(&emptied) == [id("v1")] {
            break;
        }
        assert_kept(&emptied, &discarded, &["the time ran out"]);
        assert_eq!(store.trash().unwrap().volumes, std::slice::from_ref(&discarded));
        if emptied.bytes > 0 {
            partly += 1;
            let error = store.restore(&discarded).unwrap_err();
            assert!(matches!(error, StoreError::HalfDeleted { .. }), "{error:?}");
        }
    }
    assert!(partly > 0, "it was never stopped in the middle");
    assert_nothing_left(&folder);
}

#[test]
fn each_state_that_a_killed_deletion_leaves_is_gone_on_with() {
    let (folder, store) = store();
    let file = |data: &Path| std::fs::write(data.join("file"), "x").unwrap();
    // Only marked; a part of the content gone; all of it gone.
    let states: [fn(&Path); 3] = [
        |_| {},
        |path| std::fs::remove_file(path.join("data/file")).unwrap(),
        |path| std::fs::remove_dir_all(path.join("data")).unwrap(),
    ];
    for state in states {
        let discarded = discarded(&store, "v1", file);
        std::fs::write(discarded.path.join("deleting"), "").unwrap();
        state(&discarded.path);
        assert_eq!(store.trash().unwrap().volumes, std::slice::from_ref(&discarded));
        assert!(matches!(store.restore(&discarded), Err(StoreError::HalfDeleted { .. })));
        assert_eq!(ids(&store.empty_trash(at(1), soon()).unwrap()), [id("v1")]);
        assert_nothing_left(&folder);
    }
    // In the staging folder, with one sidecar after the other gone: the next creator's.
    for gone in [
        &[][..],
        &["volume.json"],
        &["volume.json", "trashed.json"],
        &["volume.json", "trashed.json", "deleting"],
    ] {
        let discarded = discarded(&store, "v1", file);
        std::fs::remove_dir_all(discarded.path.join("data")).unwrap();
        std::fs::write(discarded.path.join("deleting"), "").unwrap();
        for name in gone {
            std::fs::remove_file(discarded.path.join(name)).unwrap();
        }
        let staging = root(&folder).join("staging");
        std::fs::rename(&discarded.path, staging.join(&discarded.volume.uuid)).unwrap();
        assert!(store.trash().unwrap().volumes.is_empty());
        let volume = fresh(directory("v2"));
        store.create(&volume, soon()).unwrap();
        assert_nothing_left(&folder);
        store.discard(&volume, at(0)).unwrap();
        store.empty_trash(at(1), soon()).unwrap();
    }
}

#[test]
fn killed_while_emptying_the_rest_is_still_known_as_discarded() {
    if let Some(root) = std::env::var_os(ROOT) {
        println!("begun");
        Store::new(Path::new(&root)).empty_trash(at(1), late()).unwrap();
        return;
    }
    let (folder, store) = store();
    let name = "empty::killed_while_emptying_the_rest_is_still_known_as_discarded";
    let mut partly = 0;
    let mut rounds = Rounds::at_least(8);
    while let Some(round) = rounds.next(partly > 0) {
        let before: Vec<_> = (0..4)
            .map(|number| {
                discarded(&store, &format!("v{number}"), |data| {
                    for number in 0..100 {
                        std::fs::create_dir_all(data.join(format!("{number}/sub"))).unwrap();
                    }
                })
            })
            .collect();
        let mut child = start(name, &root(&folder));
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        assert!(lines.any(|line| line.unwrap() == "begun"));
        // From at once to later and later.
        std::thread::sleep(Duration::from_millis((round % 8) * 3 * (1 + round / 8)));
        child.kill().unwrap();
        child.wait().unwrap();
        let left = store.trash().unwrap();
        assert_eq!(left.others, []);
        for discarded in &before {
            assert_eq!(discarded.path.exists(), left.volumes.contains(discarded), "{discarded:?}");
        }
        for discarded in left.volumes {
            let whole = tree(&discarded.path).len() == 3 + 200;
            match store.restore(&discarded) {
                Ok(volume) => {
                    assert!(whole, "a part of it is missing");
                    store.discard(&volume, at(0)).unwrap();
                }
                Err(StoreError::HalfDeleted { .. }) => partly += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        let emptied = store.empty_trash(at(1), soon()).unwrap();
        assert_eq!(emptied.kept, []);
        store.clean_staging(soon()).unwrap();
        assert_nothing_left(&folder);
    }
    assert!(partly > 0, "no process was killed in the middle");
}

#[test]
fn two_that_empty_the_trash_at_once_delete_everything_once() {
    let (folder, store) = store();
    for number in 0..40 {
        discarded(&store, &format!("v{number}"), |data| std::fs::create_dir(data.join("sub")).unwrap());
    }
    let results: Vec<_> = std::thread::scope(|scope| {
        let empty = || store.empty_trash(at(1), soon()).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(empty)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut deleted: Vec<_> = results.iter().flat_map(ids).collect();
    deleted.sort();
    deleted.dedup();
    assert_eq!(deleted.len(), 40);
    assert_eq!(results.iter().map(|emptied| ids(emptied).len()).sum::<usize>(), 40);
    for (_, reason) in results.iter().flat_map(|emptied| &emptied.kept) {
        assert_eq!(reason, "another process is working on it");
    }
    assert_nothing_left(&folder);
}

#[test]
fn privileged_a_locked_image_is_kept_until_it_is_free() {
    let (folder, store) = store();
    let volume = image("v1", 8 << 20);
    store.create(&volume, soon()).unwrap();
    let held = store.open_image(&volume).unwrap();
    rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
    let discarded = store.discard(&volume, at(0)).unwrap();
    let other = Volume { id: id("v2"), ..fresh(volume.clone()) };
    store.create(&other, soon()).unwrap();
    store.discard(&other, at(0)).unwrap();
    let emptied = store.empty_trash(at(1), soon()).unwrap();
    assert_eq!(ids(&emptied), [id("v2")]);
    assert_kept(&emptied, &discarded, &["image is in use", "lock"]);
    assert_eq!(store.restore(&discarded).unwrap(), volume, "it was left whole");
    store.discard(&volume, at(0)).unwrap();
    drop(held);
    assert_eq!(ids(&store.empty_trash(at(1), soon()).unwrap()), [id("v1")]);
    assert_nothing_left(&folder);
}

#[test]
fn privileged_an_image_on_a_loop_device_is_kept_until_it_is_detached() {
    let (folder, store) = store();
    let volume = image("v1", 8 << 20);
    store.create(&volume, soon()).unwrap();
    let output =
        Command::new("losetup").args(["--find", "--show"]).arg(store.image_path(&volume)).output().unwrap();
    assert!(output.status.success(), "run this as root: {output:?}");
    let device = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let discarded = store.discard(&volume, at(0)).unwrap();
    let emptied = store.empty_trash(at(1), soon());
    run("losetup", &["--detach"], Path::new(&device));
    let emptied = emptied.unwrap();
    assert_eq!(ids(&emptied), []);
    assert_kept(&emptied, &discarded, &["image is in use", &device]);
    assert_eq!(store.restore(&discarded).unwrap(), volume, "it was left whole");
    store.discard(&volume, at(0)).unwrap();
    // A device lets go of its file when the last who looks at it is gone.
    let end = Instant::now() + Duration::from_secs(5);
    while ids(&store.empty_trash(at(1), soon()).unwrap()) != [id("v1")] {
        assert!(Instant::now() < end, "it is still attached");
    }
    assert_nothing_left(&folder);
}

#[test]
fn privileged_immutable_and_append_only_entries_are_named_and_can_be_freed() {
    let (folder, store) = store();
    for (attribute, entry) in [("i", "sub/fixed"), ("a", "sub/fixed"), ("i", "sub"), ("a", "sub"), ("i", "")]
    {
        let discarded = discarded(&store, "v1", |data| {
            std::fs::create_dir(data.join("sub")).unwrap();
            std::fs::write(data.join("sub/fixed"), "x").unwrap();
        });
        let other = fresh(directory("v2"));
        store.create(&other, soon()).unwrap();
        store.discard(&other, at(0)).unwrap();
        let entry = ["data", entry].iter().filter(|part| !part.is_empty()).collect::<PathBuf>();
        let path = discarded.path.join(&entry);
        run("chattr", &[&format!("+{attribute}")], &path);
        let emptied = store.empty_trash(at(1), soon());
        run("chattr", &[&format!("-{attribute}")], &path);
        let emptied = emptied.unwrap();
        let shown = format!("{entry:?}");
        assert_kept(&emptied, &discarded, &[&shown, "immutable or append-only", "chattr -i -a"]);
        assert_eq!(ids(&emptied), [id("v2")]);
        assert_eq!(store.trash().unwrap().volumes, [discarded]);
        assert_eq!(ids(&store.empty_trash(at(1), soon()).unwrap()), [id("v1")]);
        assert_nothing_left(&folder);
    }
}

const MOUNTS: &str = "VOLUMES_TEST_MOUNTS";

/// Runs itself once more in a mount namespace of its own.
#[test]
fn privileged_a_volume_with_a_mount_in_it_is_left_whole() {
    if std::env::var_os(MOUNTS).is_none() {
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "empty::privileged_a_volume_with_a_mount_in_it_is_left_whole"])
            .env(MOUNTS, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "run this as root: {output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("three places were kept"), "{output:?}");
        return;
    }
    let (folder, store) = store();
    let away = folder.path().join("away");
    std::fs::create_dir_all(away.join("sub")).unwrap();
    std::fs::write(away.join("sub/file"), "precious").unwrap();
    let bind = |from: PathBuf, to: &Path| {
        let output = Command::new("mount").arg("--bind").arg(from).arg(to).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    // Deep in the content (of the same filesystem), on a file, and on the volume's own folder.
    for (from, place) in [("sub", "data/a/b/c"), ("sub/file", "data/a/file"), ("", "")] {
        let kept = discarded(&store, "v1", |data| {
            std::fs::create_dir_all(data.join("a/b/c")).unwrap();
            std::fs::write(data.join("a/file"), "").unwrap();
        });
        discarded(&store, "v2", |_| {});
        let place = kept.path.join(place);
        let from = if from.is_empty() { kept.path.clone() } else { away.join(from) };
        bind(from, &place);
        let emptied = store.empty_trash(at(1), soon()).unwrap();
        assert_eq!(ids(&emptied), [id("v2")]);
        if place == kept.path.join("") {
            // That is no discarded volume but somebody's mount point.
            assert_eq!(emptied.kept, []);
            assert_eq!(store.trash().unwrap().others[0].reason, "it is a mount point");
        } else {
            assert_kept(&emptied, &kept, &["mounted on", &place.display().to_string()[..40]]);
        }
        assert_eq!(std::fs::read_to_string(away.join("sub/file")).unwrap(), "precious");
        run("umount", &[], &place);
        assert_eq!(tree(&kept.path).len(), 3 + 4, "{:?}", tree(&kept.path));
        store.restore(&kept).unwrap();
        store.discard(&kept.volume, at(0)).unwrap();
        assert_eq!(ids(&store.empty_trash(at(1), soon()).unwrap()), [id("v1")]);
        assert_nothing_left(&folder);
    }
    println!("three places were kept");
}
