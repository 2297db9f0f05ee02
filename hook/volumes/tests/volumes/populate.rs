//! Filling the parts of a pod's storage from an image.

use crate::copy::Made;
use crate::copy::build;
use crate::copy::folder;
use crate::copy::made as random_entry;
use crate::copy::patient;
use crate::copy::run;
use crate::copy_hostile::Mounted;
use crate::copy_hostile::deep;
use crate::fixture::Moments;
use crate::fixture::ROOT;
use crate::fixture::directory;
use crate::fixture::fresh;
use crate::fixture::root;
use crate::fixture::start;
use crate::fixture::store;
use crate::fixture::tree;
use crate::listing::assert_alike;
use crate::listing::list;
use crate::pods::made;
use crate::pods::part;
use crate::pods::pod;
use crate::pods::storage;
use proptest::collection::vec;
use proptest::prelude::ProptestConfig;
use proptest::proptest;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use volhook_core::decision::Population;
use volhook_core::names::Tenant;
use volhook_core::volume::Volume;
use volhook_volumes::Copied;
use volhook_volumes::CopyError;
use volhook_volumes::Store;
use volhook_volumes::StoreError;
use volhook_volumes::Wanted;
use volhook_volumes::Watch;

/// What a pod wants at these paths of an image.
pub(crate) fn wanted(image: &Path, paths: &[&str]) -> Vec<Wanted> {
    let want = |path: &&str| {
        let place = image.join(path.trim_start_matches('/'));
        let from = place.symlink_metadata().is_ok_and(|data| data.is_dir()).then(|| folder(&place));
        Wanted { part: part("alice", path), from, copy: true }
    };
    paths.iter().map(want).collect()
}

fn empty(wanted: Vec<Wanted>) -> Vec<Wanted> {
    wanted.into_iter().map(|wanted| Wanted { copy: false, ..wanted }).collect()
}

/// A store with a storage without parts, and an image.
struct Scene {
    folder: TempDir,
    store: Store,
    volume: Volume,
    image: PathBuf,
}

impl Scene {
    fn new(population: Population) -> Self {
        let (folder, store) = store();
        let volume = made(&store, storage("alice", population, &[]));
        let image = folder.path().join("image");
        std::fs::create_dir(&image).unwrap();
        Self { folder, store, volume, image }
    }

    fn top(&self) -> PathBuf {
        self.store.directory_path(&self.volume.id)
    }

    fn part(&self, path: &str) -> PathBuf {
        self.top().join("files").join(path.trim_start_matches('/'))
    }

    fn fill(&self, wanted: &[Wanted]) -> Result<Copied, StoreError> {
        fill(&self.store, &self.volume, wanted, &patient())
    }

    fn reset(&self, member: &str) -> Result<u64, StoreError> {
        let mut changing = self.store.change("reset", &self.volume)?;
        changing.reset(folder(&self.top()).as_fd(), member, patient().deadline)
    }

    /// Throws away all that is in it.
    fn clear(&self) {
        for part in self.store.find(&self.volume.id).unwrap().unwrap().storage.unwrap().parts {
            self.reset(&part.member).unwrap();
        }
        for name in self.tops() {
            std::fs::remove_dir_all(self.top().join(name)).unwrap();
        }
        std::fs::create_dir(self.top().join("files")).unwrap();
    }

    /// The paths of the parts that the sidecar tells of.
    fn recorded(&self) -> Vec<String> {
        let volume = self.store.find(&self.volume.id).unwrap().unwrap();
        let parts = volume.storage.unwrap().parts;
        let mut paths: Vec<String> = parts.iter().map(|part| part.path.as_str().to_owned()).collect();
        paths.sort();
        paths
    }

    /// What stands in the top directory.
    fn tops(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.top()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn assert_whole(&self, paths: &[&str]) {
        self.assert_filled(paths);
        assert_eq!(self.tops(), ["files"]);
    }

    fn assert_filled(&self, paths: &[&str]) {
        for path in paths {
            assert_alike(&self.image.join(path.trim_start_matches('/')), &self.part(path));
        }
        assert_eq!(self.recorded(), paths);
    }
}

fn fill(store: &Store, volume: &Volume, wanted: &[Wanted], watch: &Watch<'_>) -> Result<Copied, StoreError> {
    let mut changing = store.change_within("fill", volume, patient().deadline)?;
    let top = folder(&store.directory_path(&volume.id));
    changing.fill(top.as_fd(), wanted, watch)
}

const PATHS: [&str; 4] = ["/etc", "/usr", "/usr/local", "/var"];

/// A small system: files of several sizes, links, what is no file, modes, owners and times.
pub(crate) fn image(top: &Path) {
    for name in ["etc/init.d", "usr/bin", "usr/local/bin", "usr/share/doc/deep/er", "var/lib", "var/tmp"] {
        std::fs::create_dir_all(top.join(name)).unwrap();
    }
    for number in 0..60 {
        let folder = ["etc", "usr/bin", "usr/local/bin", "usr/share/doc/deep/er", "var/lib"][number % 5];
        let content = vec![u8::try_from(number).unwrap(); number * 700];
        std::fs::write(top.join(folder).join(format!("file{number}")), content).unwrap();
    }
    std::fs::write(top.join("usr/bin/large"), vec![7; 1 << 20]).unwrap();
    std::fs::File::create(top.join("var/lib/holes")).unwrap().set_len(10 << 20).unwrap();
    std::fs::hard_link(top.join("usr/bin/large"), top.join("usr/bin/linked")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", top.join("etc/symlink")).unwrap();
    std::os::unix::fs::symlink("bin", top.join("usr/sbin")).unwrap();
    run(Command::new("mkfifo").arg(top.join("var/lib/fifo")));
    std::fs::set_permissions(top.join("var/tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    std::fs::set_permissions(top.join("usr/bin/file1"), PermissionsExt::from_mode(0o4755)).unwrap();
    run(Command::new("touch")
        .args(["-d", "2001-02-03 04:05:06.789"])
        .arg(top.join("usr"))
        .arg(top.join("etc")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 25, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn privileged_filled_parts_are_what_cp_makes(entries in vec(vec(random_entry(), 0..40), 3..4)) {
        let scene = Scene::new(Population::Copy);
        let build: fn(&Path, &[Made]) = build;
        for (name, entries) in ["etc", "usr", "usr/local"].iter().zip(&entries) {
            std::fs::create_dir(scene.image.join(name)).unwrap();
            build(&scene.image.join(name), entries);
        }
        let oracle = scene.folder.path().join("oracle");
        run(Command::new("cp").arg("-a").arg(&scene.image).arg(&oracle));
        scene.fill(&wanted(&scene.image, &["/usr/local", "/usr", "/etc"])).unwrap();
        for name in ["etc", "usr"] {
            assert_alike(&oracle.join(name), &scene.part(name));
        }
        assert_eq!(scene.recorded(), ["/etc", "/usr", "/usr/local"]);
        assert_eq!(scene.tops(), ["files"]);
    }
}

#[test]
fn parts_are_filled_once_recorded_and_named() {
    let scene = Scene::new(Population::Copy);
    image(&scene.image);
    let copied = scene.fill(&wanted(&scene.image, &PATHS)).unwrap();
    let listing = list(&scene.image);
    let files = listing.values().filter(|entry| entry.kind != "directory").count();
    assert_eq!(copied.files, files as u64);
    scene.assert_whole(&PATHS);
    let found = scene.store.find_part(&crate::fixture::id("vol-alice-usr-local")).unwrap();
    assert_eq!(found.unwrap().1, part("alice", "/usr/local"));
    // The container's changes stay, whatever is asked for again.
    std::fs::write(scene.part("/etc/file0"), "changed").unwrap();
    std::fs::remove_file(scene.part("/usr/bin/large")).unwrap();
    assert_eq!(scene.fill(&wanted(&scene.image, &PATHS)).unwrap(), Copied::default());
    assert_eq!(std::fs::read(scene.part("/etc/file0")).unwrap(), b"changed");
    assert!(!scene.part("/usr/bin/large").exists());
}

#[test]
fn parts_may_come_in_any_order_and_only_what_is_missing_is_copied() {
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [2, 1, 0, 3]] {
        let scene = Scene::new(Population::Copy);
        image(&scene.image);
        for index in order {
            scene.fill(&wanted(&scene.image, &[PATHS[index]])).unwrap();
            if PATHS[index] == "/usr/local" {
                std::fs::write(scene.part("/usr/local/bin/own"), "the container's").unwrap();
            }
        }
        assert_eq!(std::fs::read(scene.part("/usr/local/bin/own")).unwrap(), b"the container's", "{order:?}");
        std::fs::remove_file(scene.part("/usr/local/bin/own")).unwrap();
        run(Command::new("touch")
            .arg("-r")
            .arg(scene.image.join("usr/local/bin"))
            .arg(scene.part("/usr/local/bin")));
        scene.assert_whole(&PATHS);
    }
}

#[test]
fn a_part_far_below_waits_for_what_is_above_it() {
    let scene = Scene::new(Population::Copy);
    image(&scene.image);
    let deepest = "/usr/share/doc/deep/er";
    scene.fill(&wanted(&scene.image, &[deepest])).unwrap();
    assert_eq!(scene.part("/usr").metadata().unwrap().mode() & 0o7777, 0o1700);
    scene.fill(&wanted(&scene.image, &["/usr/share"])).unwrap();
    assert_alike(&scene.image.join("usr/share"), &scene.part("/usr/share"));
    scene.fill(&wanted(&scene.image, &["/usr", "/usr/local"])).unwrap();
    assert_alike(&scene.image.join("usr"), &scene.part("/usr"));
    // In a part that is there, what the image lacks is a usual folder.
    scene.fill(&wanted(&scene.image, &["/usr/new/inner"])).unwrap();
    assert_eq!(scene.part("/usr/new").metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn an_empty_part_is_like_the_images_directory_and_else_roots() {
    let scene = Scene::new(Population::Empty);
    image(&scene.image);
    std::fs::set_permissions(scene.image.join("var"), PermissionsExt::from_mode(0o2711)).unwrap();
    let copied = scene.fill(&empty(wanted(&scene.image, &["/usr", "/usr/local", "/var", "/opt"]))).unwrap();
    assert_eq!(copied, Copied::default());
    for (path, kept) in [("/usr", 1), ("/usr/local", 0), ("/var", 0), ("/opt", 0)] {
        assert_eq!(std::fs::read_dir(scene.part(path)).unwrap().count(), kept, "{path}");
        let Some(image) = scene.image.join(&path[1..]).metadata().ok() else { continue };
        let part = scene.part(path).metadata().unwrap();
        assert_eq!(
            (part.mode(), part.mtime(), part.mtime_nsec()),
            (image.mode(), image.mtime(), image.mtime_nsec())
        );
    }
    assert_eq!(scene.part("/opt").metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn what_is_copied_is_each_parts_own_choice() {
    let scene = Scene::new(Population::Copy);
    image(&scene.image);
    std::fs::create_dir_all(scene.image.join("usr/local/bin/inner")).unwrap();
    std::fs::write(scene.image.join("usr/local/bin/inner/file"), "x").unwrap();
    let choose = |choices: [bool; 3]| {
        let mut wanted = wanted(&scene.image, &["/usr/local/bin", "/usr/local", "/usr"]);
        wanted.iter_mut().zip(choices).for_each(|(wanted, copy)| wanted.copy = copy);
        scene.fill(&wanted).unwrap();
        let content = |path: &str| list(&scene.part(path)).len() - 1;
        let found = (content("/usr/local/bin"), content("/usr/local"), scene.part("/usr/bin").exists());
        assert_eq!(scene.recorded().len(), 3);
        scene.clear();
        assert_eq!(tree(&scene.top()), ["files"]);
        found
    };
    let all = list(&scene.image.join("usr/local/bin")).len() - 1;
    assert_eq!(choose([true, true, true]), (all, all + 1, true));
    assert_eq!(choose([false, true, true]), (0, 1, true));
    assert_eq!(choose([true, false, true]), (all, all + 1, true));
    assert_eq!(choose([true, false, false]), (all, all + 1, false));
    assert_eq!(choose([false, false, true]), (0, 1, true));
    assert_eq!(choose([false, true, false]), (0, 1, false));
}

#[test]
fn what_is_in_its_place_and_not_recorded_is_whole_and_not_written() {
    let scene = Scene::new(Population::Copy);
    image(&scene.image);
    std::fs::create_dir_all(scene.part("/usr")).unwrap();
    std::fs::write(scene.part("/usr/mine"), "whole").unwrap();
    let before = list(&scene.part("/usr"));
    scene.fill(&wanted(&scene.image, &["/usr", "/etc"])).unwrap();
    assert_eq!(list(&scene.part("/usr")), before);
    assert_eq!(scene.recorded(), ["/etc", "/usr"]);
}

#[test]
fn odd_things_in_the_place_are_refused_and_never_followed() {
    let scene = Scene::new(Population::Copy);
    image(&scene.image);
    let away = scene.folder.path().join("away");
    std::fs::create_dir(&away).unwrap();
    let before = list(&away);
    for (path, planted) in [("/etc", "/etc"), ("/usr/local", "/usr")] {
        std::os::unix::fs::symlink(&away, scene.part(planted)).unwrap();
        let error = scene.fill(&wanted(&scene.image, &[path])).unwrap_err();
        assert!(matches!(error, StoreError::Impossible { .. }), "{error:?}");
        std::fs::remove_file(scene.part(planted)).unwrap();
        std::fs::write(scene.part(planted), "file").unwrap();
        let error = scene.fill(&wanted(&scene.image, &[path])).unwrap_err();
        assert!(matches!(error, StoreError::Impossible { .. }), "{error:?}");
        std::fs::remove_file(scene.part(planted)).unwrap();
    }
    assert_eq!(list(&away), before);
    assert_eq!(scene.recorded(), Vec::<String>::new());
    std::fs::remove_dir(scene.top().join("files")).unwrap();
    std::os::unix::fs::symlink(&away, scene.top().join("files")).unwrap();
    assert!(scene.fill(&wanted(&scene.image, &["/etc"])).is_err());
    assert_eq!(list(&away), before);
}

#[test]
fn a_name_that_is_taken_is_told_before_anything_is_copied() {
    let scene = Scene::new(Population::Copy);
    image(&scene.image);
    made(&scene.store, fresh(directory("vol-alice-etc")));
    let error = scene.fill(&wanted(&scene.image, &PATHS)).unwrap_err();
    assert!(matches!(error, StoreError::NameHeld { work: "fill", .. }), "{error:?}");
    assert_eq!(tree(&scene.top()), ["files"]);
    let overlay = made(&scene.store, storage("bob", Population::Overlay, &[]));
    let error = fill(&scene.store, &overlay, &wanted(&scene.image, &PATHS), &patient()).unwrap_err();
    assert!(matches!(error, StoreError::Impossible { .. }), "{error:?}");
}

#[test]
fn at_the_deadline_or_stopped_nothing_is_half() {
    let scene = Scene::new(Population::Copy);
    image(&scene.image);
    let wanted = wanted(&scene.image, &PATHS);
    let watch = Watch { deadline: Instant::now(), ..patient() };
    let error = fill(&scene.store, &scene.volume, &wanted, &watch).unwrap_err();
    assert!(matches!(error, StoreError::Populate { source: CopyError::Deadline, .. }), "{error:?}");
    assert_eq!(tree(&scene.top()), ["files"]);
    for stop in [1, 7, 30, 60] {
        let files = AtomicU64::new(0);
        let progress = |copied: &Copied| files.store(copied.files, Ordering::Relaxed);
        let cancelled = || files.load(Ordering::Relaxed) >= stop;
        let watch = Watch { cancelled: &cancelled, progress: &progress, ..patient() };
        let error = fill(&scene.store, &scene.volume, &wanted, &watch).unwrap_err();
        assert!(matches!(error, StoreError::Populate { source: CopyError::Cancelled, .. }), "{error:?}");
        assert_eq!(tree(&scene.top()), ["files"]);
        assert_eq!(scene.recorded(), Vec::<String>::new());
    }
    scene.fill(&wanted).unwrap();
    scene.assert_whole(&PATHS);
}

#[test]
fn privileged_a_full_disk_leaves_nothing_half() {
    let scene = Scene::new(Population::Copy);
    image(&scene.image);
    let small = scene.folder.path().join("small");
    std::fs::create_dir(&small).unwrap();
    for options in ["size=1M", "size=32M,nr_inodes=40", "size=2M"] {
        let _mounted = Mounted::new(&small, &["-t", "tmpfs", "-o", options, "none"]);
        let mut changing = scene.store.change("fill", &scene.volume).unwrap();
        let error =
            changing.fill(folder(&small).as_fd(), &wanted(&scene.image, &PATHS), &patient()).unwrap_err();
        assert!(matches!(error, StoreError::Populate { source: CopyError::Failed { .. }, .. }), "{error:?}");
        assert_eq!(tree(&small), ["files"], "{options}");
        assert_eq!(scene.recorded(), Vec::<String>::new());
    }
}

#[test]
fn privileged_what_overlayfs_notes_for_itself_stays_in_the_image() {
    let scene = Scene::new(Population::Copy);
    let top = scene.folder.path();
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(top.join(name)).unwrap();
    }
    image(&top.join("lower"));
    let options = format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work", top.to_str().unwrap());
    let merged = top.join("merged");
    let _mounted = Mounted::new(&merged, &["-t", "overlay", "none", "-o", &options]);
    std::fs::remove_dir_all(merged.join("usr/share")).unwrap();
    std::fs::create_dir(merged.join("usr/share")).unwrap();
    std::fs::write(merged.join("usr/share/new"), "x").unwrap();
    std::fs::remove_file(merged.join("etc/file0")).unwrap();
    scene.fill(&wanted(&merged, &PATHS)).unwrap();
    for path in PATHS {
        assert_alike(&merged.join(&path[1..]), &scene.part(path));
    }
    assert!(list(&scene.part("/usr")).values().all(|entry| entry.attributes.is_empty()));
}

#[test]
fn names_of_255_bytes_paths_beyond_any_limit_and_odd_bytes_are_copied() {
    let scene = Scene::new(Population::Copy);
    let etc = scene.image.join("etc");
    std::fs::create_dir(&etc).unwrap();
    deep(&etc, 3000);
    std::fs::write(etc.join("x".repeat(255)), "long").unwrap();
    let copied = scene.fill(&wanted(&scene.image, &["/etc"])).unwrap();
    assert_eq!((copied.files, copied.directories), (3001, 3000));
    assert_eq!(std::fs::read(scene.part("/etc").join("x".repeat(255))).unwrap(), b"long");
    let mut level = folder(&scene.part("/etc"));
    for _ in 0..3000 {
        level = rustix::fs::openat(&level, "d", rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty())
            .unwrap();
    }
    scene.reset("etc").unwrap();
    assert_eq!(tree(&scene.top()), ["files"]);
}

#[test]
fn a_directory_of_a_hundred_thousand_entries_is_copied() {
    let scene = Scene::new(Population::Copy);
    let var = scene.image.join("var");
    std::fs::create_dir(&var).unwrap();
    for number in 0..100_000 {
        std::fs::write(var.join(number.to_string()), "").unwrap();
    }
    let copied = scene.fill(&wanted(&scene.image, &["/var"])).unwrap();
    assert_eq!(copied.files, 100_000);
    assert_eq!(std::fs::read_dir(scene.part("/var")).unwrap().count(), 100_000);
}

#[test]
fn files_that_vanish_and_change_while_they_are_copied_stop_nobody() {
    let scene = Scene::new(Population::Copy);
    image(&scene.image);
    let lib = scene.image.join("var/lib");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u64;
            while !done.load(Ordering::Relaxed) {
                let [a, b] = [number % 200, (number * 7) % 200].map(|name| lib.join(format!("moving{name}")));
                let _ = std::fs::write(&a, vec![1; usize::try_from(number % 9000).unwrap()]);
                let _ = std::fs::remove_file(&b);
                let _ = std::fs::create_dir(lib.join(format!("folder{}", number % 20)));
                let _ = std::fs::remove_dir(lib.join(format!("folder{}", number % 13)));
                number += 1;
            }
        });
        for _ in 0..30 {
            scene.fill(&wanted(&scene.image, &["/var"])).unwrap();
            assert_eq!(std::fs::read(scene.part("/var/lib/file4")).unwrap(), vec![4; 2800]);
            scene.reset("var").unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn two_that_fill_at_once_copy_once() {
    for _ in 0..10 {
        let scene = Scene::new(Population::Copy);
        image(&scene.image);
        let copied: Vec<Copied> = std::thread::scope(|scope| {
            let fill = || scene.fill(&wanted(&scene.image, &PATHS)).unwrap();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(fill)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(copied.iter().filter(|copied| copied.files > 0).count(), 1, "{copied:?}");
        scene.assert_whole(&PATHS);
    }
}

#[test]
fn privileged_a_storage_in_an_image_is_filled_in_its_filesystem() {
    use volhook_mounts::source;
    let (folder_, store) = store();
    let rootfs = folder_.path().join("image");
    std::fs::create_dir(&rootfs).unwrap();
    image(&rootfs);
    let described = storage("alice", Population::Copy, &[]);
    let block = crate::fixture::image("pod-alice", 64 << 20);
    let volume = made(&store, Volume { backing: block.backing, limit: block.limit, ..described });
    let volhook_core::decision::Backing::Image(image) = &volume.backing else { panic!() };
    let mount = |work: &mut dyn FnMut(std::os::fd::BorrowedFd<'_>)| {
        let mount = source::mount_image(&store.image_path(&volume), image, source::ImageUse::Exclusive)
            .expect("mounting needs root: run the privileged_ tests as root");
        work(mount.as_fd());
        drop(mount);
        let end = Instant::now() + Duration::from_secs(10);
        while !source::image_is_free(&store.image_path(&volume)).unwrap() {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    mount(&mut |top| {
        let mut changing = store.change("fill", &volume).unwrap();
        changing.fill(top, &wanted(&rootfs, &PATHS), &patient()).unwrap();
    });
    mount(&mut |top| {
        let out = folder_.path().join("out");
        std::fs::create_dir(&out).unwrap();
        let files =
            rustix::fs::openat(top, "files", rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty());
        volhook_volumes::copy_tree(files.unwrap(), folder(&out), true, crate::copy::ARCHIVE, &patient())
            .unwrap();
        for name in ["etc", "usr", "var"] {
            assert_alike(&rootfs.join(name), &out.join(name));
        }
    });
}

/// Starts this test as a process that fills the parts, at most up to the step `until`.
fn start_filling(name: &str, scene: &Scene, until: Option<&str>) -> std::process::Child {
    match until {
        None => start(name, &root(&scene.folder)),
        Some(step) => Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(ROOT, root(&scene.folder))
            .env("VOLHOOK_FAILPOINT", step)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap(),
    }
}

const STEPS: [&str; 7] = [
    "fill.copied",
    "fill.synced",
    "fill.moved",
    "fill.placed",
    "parts.linked",
    "sidecar.written",
    "sidecar.renamed",
];

#[test]
fn killed_while_filling_each_part_is_whole_or_absent_and_the_next_completes_it() {
    let name = "populate::killed_while_filling_each_part_is_whole_or_absent_and_the_next_completes_it";
    if let Some(root) = std::env::var_os(ROOT) {
        let store = Store::new(Path::new(&root));
        let volume = store.pod_storage(&Tenant::default(), &pod("alice")).unwrap().unwrap();
        let image = Path::new(&root).with_file_name("image");
        fill(&store, &volume, &wanted(&image, &PATHS), &patient()).unwrap();
        return;
    }
    let scene = Scene::new(Population::Copy);
    image(&scene.image);
    // How long a process needs that is not killed.
    let begin = Instant::now();
    assert!(start_filling(name, &scene, None).wait().unwrap().success());
    let mut moments = Moments::new(begin.elapsed());
    scene.assert_whole(&PATHS);
    let (mut half, mut complete) = (0, 0);
    for step in 0..100 {
        scene.clear();
        if step < 2 * STEPS.len() {
            let status = start_filling(name, &scene, Some(STEPS[step % STEPS.len()])).wait().unwrap();
            assert!(!status.success(), "{} was not reached", STEPS[step % STEPS.len()]);
        } else {
            let mut child = start_filling(name, &scene, None);
            std::thread::sleep(moments.next());
            child.kill().unwrap();
            moments.ended_before(child.wait().unwrap().success());
        }
        half += usize::from(scene.tops().len() > 1);
        let recorded = scene.recorded();
        assert!(recorded.is_empty() || recorded == PATHS, "{recorded:?}");
        complete += usize::from(!recorded.is_empty());
        for path in PATHS {
            // Those below another are seen as soon as that is.
            if scene.part(path).exists() {
                assert_alike(&scene.image.join(&path[1..]), &scene.part(path));
            } else {
                assert!(recorded.is_empty());
            }
        }
        scene.fill(&wanted(&scene.image, &PATHS)).unwrap();
        if recorded.is_empty() {
            scene.assert_filled(&PATHS);
        }
        assert_eq!(scene.store.list().unwrap().parts.len(), PATHS.len());
    }
    assert!(half > 10 && complete > 2, "half {half}, complete {complete}");
}

#[test]
fn killed_between_a_part_and_what_is_above_it_nothing_is_lost() {
    let name = "populate::killed_between_a_part_and_what_is_above_it_nothing_is_lost";
    if let Some(root) = std::env::var_os(ROOT) {
        let store = Store::new(Path::new(&root));
        let volume = store.pod_storage(&Tenant::default(), &pod("alice")).unwrap().unwrap();
        let image = Path::new(&root).with_file_name("image");
        fill(&store, &volume, &wanted(&image, &PATHS), &patient()).unwrap();
        return;
    }
    let scene = Scene::new(Population::Copy);
    image(&scene.image);
    for step in STEPS {
        scene.fill(&wanted(&scene.image, &["/usr/local"])).unwrap();
        std::fs::write(scene.part("/usr/local/own"), "the container's").unwrap();
        assert!(!start_filling(name, &scene, Some(step)).wait().unwrap().success(), "{step} was not reached");
        assert_eq!(std::fs::read(scene.part("/usr/local/own")).unwrap(), b"the container's", "{step}");
        scene.fill(&wanted(&scene.image, &PATHS)).unwrap();
        std::fs::remove_file(scene.part("/usr/local/own")).unwrap();
        run(Command::new("touch").arg("-r").arg(scene.image.join("usr/local")).arg(scene.part("/usr/local")));
        scene.assert_filled(&PATHS);
        scene.clear();
    }
}
