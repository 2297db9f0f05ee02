//! Giving a volume what an image has at its place, once.

use crate::copy::ARCHIVE;
use crate::copy::Made;
use crate::copy::build;
use crate::copy::folder;
use crate::copy::made as random_entry;
use crate::copy::patient;
use crate::copy::run;
use crate::copy_hostile::Mounted;
use crate::fixture::Moments;
use crate::fixture::ROOT;
use crate::fixture::directory;
use crate::fixture::fresh;
use crate::fixture::id;
use crate::fixture::image;
use crate::fixture::root;
use crate::fixture::start;
use crate::fixture::store;
use crate::fixture::tree;
use crate::listing::assert_alike;
use crate::listing::list;
use crate::pods::made;
use crate::populate;
use proptest::collection::vec;
use proptest::prelude::ProptestConfig;
use proptest::proptest;
use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use volhook_core::decision::Backing;
use volhook_core::volume::CopyUp;
use volhook_core::volume::Volume;
use volhook_mounts::source;
use volhook_mounts::source::ImageUse;
use volhook_volumes::Copied;
use volhook_volumes::CopyError;
use volhook_volumes::Filled;
use volhook_volumes::Store;
use volhook_volumes::StoreError;
use volhook_volumes::Watch;
use volhook_volumes::copy_tree;

fn due(volume: Volume) -> Volume {
    Volume { copy_up: CopyUp::Due, pod: None, ..fresh(volume) }
}

/// A store with a volume that is to be filled, and what it is to be filled with.
fn scene(volume: Volume) -> (TempDir, Store, Volume, PathBuf) {
    let (folder, store) = store();
    let volume = made(&store, due(volume));
    let from = folder.path().join("image");
    std::fs::create_dir(&from).unwrap();
    (folder, store, volume, from)
}

fn copy_up(store: &Store, volume: &Volume, from: &Path, watch: &Watch<'_>) -> Result<Filled, StoreError> {
    store.change_within("fill", volume, patient().deadline)?.copy_up(folder(from), watch)
}

fn state(store: &Store, volume: &Volume) -> CopyUp {
    store.find(&volume.id).unwrap().unwrap().copy_up
}

/// Works with the filesystem of an image volume mounted.
fn mounted<T>(store: &Store, volume: &Volume, work: impl FnOnce(std::os::fd::BorrowedFd<'_>) -> T) -> T {
    let Backing::Image(image) = &volume.backing else { panic!("{volume:?}") };
    let path = store.image_path(volume);
    let end = Instant::now() + Duration::from_secs(10);
    while !source::image_is_free(&path).unwrap() {
        assert!(Instant::now() < end, "the image is not let go of");
        std::thread::sleep(Duration::from_millis(2));
    }
    let mount = source::mount_image(&path, image, ImageUse::Exclusive)
        .expect("mounting needs root: run the privileged_ tests as root");
    work(mount.as_fd())
}

/// Copies what is in an image volume to where it can be compared by path.
fn unpacked(store: &Store, volume: &Volume, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir(to).unwrap();
    mounted(store, volume, |top| {
        let flags = rustix::fs::OFlags::DIRECTORY;
        let top = rustix::fs::openat(top, ".", flags, rustix::fs::Mode::empty()).unwrap();
        copy_tree(top, folder(to), true, ARCHIVE, &patient()).unwrap();
    });
}

fn copied(filled: Filled) -> Copied {
    match filled {
        Filled::Copied(copied) => copied,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn privileged_a_filled_directory_is_what_cp_makes(entries in vec(random_entry(), 1..50)) {
        let (folder, store, volume, from) = scene(directory("v1"));
        let build: fn(&Path, &[Made]) = build;
        std::fs::write(from.join("one"), "x").unwrap();
        build(&from, &entries);
        let oracle = folder.path().join("oracle");
        run(Command::new("cp").arg("-a").arg(&from).arg(&oracle));
        copied(copy_up(&store, &volume, &from, &patient()).unwrap());
        assert_alike(&oracle, &store.directory_path(&volume.id));
        assert_eq!(state(&store, &volume), CopyUp::Over);
    }
}

#[test]
fn an_empty_directory_is_filled_once() {
    let (folder, store, volume, from) = scene(directory("v1"));
    let data = store.directory_path(&volume.id);
    let before = list(&data);
    for _ in 0..2 {
        assert_eq!(copy_up(&store, &volume, &from, &patient()).unwrap(), Filled::SourceEmpty);
        assert_eq!(list(&data), before, "not even its mode");
        assert_eq!(state(&store, &volume), CopyUp::Due);
    }
    populate::image(&from);
    copied(copy_up(&store, &volume, &from, &patient()).unwrap());
    assert_alike(&from, &data);
    std::fs::remove_dir_all(data.join("usr")).unwrap();
    assert_eq!(copy_up(&store, &volume, &from, &patient()).unwrap(), Filled::Over);
    assert!(!data.join("usr").exists());
    let names = std::fs::read_dir(data.parent().unwrap()).unwrap().count();
    assert_eq!(names, 2, "{:?}", tree(&root(&folder)));
}

#[test]
fn what_is_in_a_volume_already_stays_alone() {
    let (_folder, store, volume, from) = scene(directory("v1"));
    populate::image(&from);
    let data = store.directory_path(&volume.id);
    std::fs::write(data.join("mine"), "x").unwrap();
    let before = list(&data);
    assert_eq!(copy_up(&store, &volume, &from, &patient()).unwrap(), Filled::HadData);
    assert_eq!((list(&data), state(&store, &volume)), (before, CopyUp::Over));
    // Something that comes while it is copied.
    let late = made(&store, due(directory("v2")));
    let data = store.directory_path(&late.id);
    let progress = |copied: &Copied| {
        if copied.files > 10 {
            std::fs::write(data.join("mine"), "x").unwrap();
        }
    };
    let watch = Watch { progress: &progress, ..patient() };
    assert_eq!(copy_up(&store, &late, &from, &watch).unwrap(), Filled::HadData);
    assert_eq!(tree(&data), ["mine"]);
    assert_eq!(tree(data.parent().unwrap()), ["data", "data/mine", "volume.json"]);
}

#[test]
fn at_the_deadline_or_stopped_a_directory_stays_empty_and_due() {
    let (_folder, store, volume, from) = scene(directory("v1"));
    populate::image(&from);
    let data = store.directory_path(&volume.id);
    let before = list(&data);
    let watch = Watch { deadline: Instant::now(), ..patient() };
    let error = copy_up(&store, &volume, &from, &watch).unwrap_err();
    assert_eq!(error.to_string(), "cannot copy what the image has into volume \"v1\"");
    assert!(matches!(error, StoreError::Populate { source: CopyError::Deadline, .. }), "{error:?}");
    assert_eq!((list(&data), state(&store, &volume)), (before, CopyUp::Due));
    assert_eq!(tree(data.parent().unwrap()), ["data", "volume.json"]);
    copied(copy_up(&store, &volume, &from, &patient()).unwrap());
    assert_alike(&from, &data);
}

#[test]
fn of_four_that_fill_at_once_one_does() {
    let (_folder, store, volume, from) = scene(directory("v1"));
    populate::image(&from);
    let results: Vec<Filled> = std::thread::scope(|scope| {
        let fill = || copy_up(&store, &volume, &from, &patient()).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(fill)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let one = |filled: &&Filled| matches!(filled, Filled::Copied(_));
    assert_eq!(results.iter().filter(one).count(), 1, "{results:?}");
    assert_alike(&from, &store.directory_path(&volume.id));
}

#[test]
fn privileged_an_image_is_filled_once() {
    let (folder, store, volume, from) = scene(image("v1", 64 << 20));
    let out = folder.path().join("out");
    assert_eq!(copy_up(&store, &volume, &from, &patient()).unwrap(), Filled::SourceEmpty);
    assert_eq!(state(&store, &volume), CopyUp::Due);
    populate::image(&from);
    // What e2fsck makes is no content; what an image has of that name is copied.
    mounted(&store, &volume, |top| rustix::fs::mkdirat(top, "lost+found", rustix::fs::Mode::RWXU).unwrap());
    std::fs::create_dir(from.join("lost+found")).unwrap();
    std::fs::write(from.join("lost+found/note"), "x").unwrap();
    run(Command::new("chmod").arg("0700").arg(from.join("lost+found")));
    let filled = copied(copy_up(&store, &volume, &from, &patient()).unwrap());
    assert!(filled.files > 60, "{filled:?}");
    unpacked(&store, &volume, &out);
    let (is, wanted) = (list(&out), list(&from));
    assert_eq!(is.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    assert_eq!(is[Path::new("usr/bin/large")].content, wanted[Path::new("usr/bin/large")].content);
    assert_eq!(copy_up(&store, &volume, &from, &patient()).unwrap(), Filled::Over);

    let other = made(&store, due(image("v2", 64 << 20)));
    mounted(&store, &other, |top| rustix::fs::mkdirat(top, "mine", rustix::fs::Mode::RWXU).unwrap());
    assert_eq!(copy_up(&store, &other, &from, &patient()).unwrap(), Filled::HadData);
    unpacked(&store, &other, &out);
    assert_eq!(tree(&out), ["mine"]);
    let watch = Watch { deadline: Instant::now(), ..patient() };
    let late = made(&store, due(image("v3", 64 << 20)));
    let error = copy_up(&store, &late, &from, &watch).unwrap_err();
    assert!(matches!(error, StoreError::Populate { source: CopyError::Deadline, .. }), "{error:?}");
    assert_eq!(state(&store, &late), CopyUp::Due);
    unpacked(&store, &late, &out);
    assert_eq!(tree(&out), Vec::<String>::new());
}

#[test]
fn privileged_a_full_disk_leaves_an_image_empty_and_due() {
    let (folder, store, volume, from) = scene(image("v1", 8 << 20));
    std::fs::write(from.join("large"), vec![1; 9 << 20]).unwrap();
    std::fs::write(from.join("small"), "x").unwrap();
    let error = copy_up(&store, &volume, &from, &patient()).unwrap_err();
    assert!(matches!(error, StoreError::Populate { source: CopyError::Failed { .. }, .. }), "{error:?}");
    assert_eq!(state(&store, &volume), CopyUp::Due);
    let out = folder.path().join("out");
    unpacked(&store, &volume, &out);
    assert_eq!(tree(&out), Vec::<String>::new());
}

#[test]
fn privileged_a_full_disk_leaves_a_directory_empty_and_due() {
    let small = tempfile::tempdir().unwrap();
    let _mounted = Mounted::new(small.path(), &["-t", "tmpfs", "-o", "size=1M", "none"]);
    let store = Store::new(&small.path().join("state"));
    let volume = made(&store, due(directory("v1")));
    let image = tempfile::tempdir().unwrap();
    populate::image(image.path());
    let error = copy_up(&store, &volume, image.path(), &patient()).unwrap_err();
    assert!(matches!(error, StoreError::Populate { source: CopyError::Failed { .. }, .. }), "{error:?}");
    assert_eq!(state(&store, &volume), CopyUp::Due);
    let data = store.directory_path(&volume.id);
    assert_eq!(tree(data.parent().unwrap()), ["data", "volume.json"]);
}

#[test]
fn what_volhook_does_not_keep_is_not_filled() {
    let (_folder, store, _volume, from) = scene(directory("v1"));
    populate::image(&from);
    let memory =
        Backing::Tmpfs(serde_json::from_str("{\"root\":{\"mode\":493,\"uid\":0,\"gid\":0}}").unwrap());
    let volume = made(&store, Volume { backing: memory, ..due(directory("v2")) });
    let error = copy_up(&store, &volume, &from, &patient()).unwrap_err();
    assert!(matches!(error, StoreError::Impossible { .. }), "{error:?}");
}

fn start_filling(name: &str, folder: &TempDir, until: Option<&str>) -> Child {
    match until {
        None => start(name, &root(folder)),
        Some(step) => Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(ROOT, root(folder))
            .env("VOLHOOK_FAILPOINT", step)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    }
}

/// Kills processes that fill the volume that `make` makes, at each of `steps` and at `rounds` other times. `empty` tells
/// whether it is empty, and makes where it can be looked at.
fn kill(
    name: &str,
    make: fn() -> Volume,
    (steps, rounds): (&[&str], usize),
    content: impl Fn(&Store, &Volume) -> PathBuf,
) {
    if let Some(root) = std::env::var_os(ROOT) {
        let store = Store::new(Path::new(&root));
        let volume = store.find(&id("v1")).unwrap().unwrap();
        let from = Path::new(&root).with_file_name("image");
        copy_up(&store, &volume, &from, &patient()).unwrap();
        return;
    }
    let (folder, store, mut volume, from) = scene(make());
    populate::image(&from);
    let begin = Instant::now();
    assert!(start_filling(name, &folder, None).wait().unwrap().success());
    let mut moments = Moments::new(begin.elapsed());
    let (mut unfinished, mut complete) = (0, 0);
    for round in 0..rounds + steps.len() {
        store.discard(&volume, crate::fixture::at(1)).unwrap();
        volume = made(&store, due(make()));
        match steps.get(round) {
            Some(step) => {
                let status = start_filling(name, &folder, Some(step)).wait().unwrap();
                assert!(!status.success(), "{step} was not reached");
            }
            None => {
                let mut child = start_filling(name, &folder, None);
                std::thread::sleep(moments.next());
                child.kill().unwrap();
                moments.ended_before(child.wait().unwrap().success());
            }
        }
        match state(&store, &volume) {
            CopyUp::Over => {
                complete += 1;
                assert_alike(&from, &content(&store, &volume));
            }
            CopyUp::Due => {
                // Or it was killed between the last two steps.
                let content = content(&store, &volume);
                if std::fs::read_dir(&content).unwrap().count() > 0 {
                    assert_alike(&from, &content);
                }
            }
            CopyUp::Begun => {}
        }
        unfinished += usize::from(state(&store, &volume) != CopyUp::Over);
        let filled = copy_up(&store, &volume, &from, &patient()).unwrap();
        assert_ne!(filled, Filled::SourceEmpty);
        assert_alike(&from, &content(&store, &volume));
        assert_eq!(state(&store, &volume), CopyUp::Over);
    }
    store.empty_trash(crate::fixture::at(100), patient().deadline).unwrap();
    assert!(unfinished > 5 && complete > 0, "{unfinished} {complete}");
}

#[test]
fn killed_while_filling_a_directory_it_is_empty_or_whole_and_the_next_completes_it() {
    let name = "copy_up::killed_while_filling_a_directory_it_is_empty_or_whole_and_the_next_completes_it";
    let steps =
        ["copy_up.copied", "copy_up.synced", "copy_up.replaced", "sidecar.written", "sidecar.renamed"];
    kill(
        name,
        || directory("v1"),
        (&steps, 60),
        |store, volume| {
            let data = store.directory_path(&volume.id);
            assert!(store.find(&volume.id).unwrap().is_some());
            data
        },
    );
}

#[test]
fn privileged_killed_while_filling_an_image_it_is_empty_or_whole_and_the_next_completes_it() {
    let name =
        "copy_up::privileged_killed_while_filling_an_image_it_is_empty_or_whole_and_the_next_completes_it";
    let steps = ["copy_up.begun", "copy_up.copied", "copy_up.synced", "sidecar.written", "sidecar.renamed"];
    let out = tempfile::tempdir().unwrap();
    kill(
        name,
        || image("v1", 32 << 20),
        (&steps, 35),
        |store, volume| {
            let to = out.path().join("out");
            unpacked(store, volume, &to);
            to
        },
    );
}
