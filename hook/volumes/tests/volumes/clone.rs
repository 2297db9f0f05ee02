//! Volumes made as copies of others.

use crate::copy::patient;
use crate::copy::run;
use crate::fixture::ROOT;
use crate::fixture::Rounds;
use crate::fixture::at;
use crate::fixture::directory;
use crate::fixture::fresh;
use crate::fixture::id;
use crate::fixture::image;
use crate::fixture::root;
use crate::fixture::soon;
use crate::fixture::start;
use crate::fixture::store;
use crate::fixture::tree;
use crate::listing::assert_alike;
use crate::listing::list;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use uuid::Uuid;
use volhook_core::decision::Filesystem;
use volhook_core::decision::Image;
use volhook_core::volume::Volume;
use volhook_mounts::source;
use volhook_mounts::source::ImageUse;
use volhook_volumes::Cloning;
use volhook_volumes::Copied;
use volhook_volumes::Created;
use volhook_volumes::Store;
use volhook_volumes::StoreError;
use volhook_volumes::Watch;

fn cloning(name: &str) -> Cloning {
    let labels = vec![("team".to_owned(), "b".to_owned()), ("new".to_owned(), "1".to_owned())];
    Cloning { id: id(name), uuid: Uuid::new_v4().to_string(), labels, created: at(7) }
}

fn new(result: Result<(Created, Copied), StoreError>) -> (Volume, Copied) {
    match result.unwrap() {
        (Created::New(volume), copied) => (volume, copied),
        (existing, _) => panic!("{existing:?}"),
    }
}

fn image_uuid(store: &Store, volume: &Volume) -> String {
    let output = Command::new("dumpe2fs").arg("-h").arg(store.image_path(volume)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Filesystem UUID:")).unwrap();
    line.trim().to_owned()
}

#[test]
fn a_directory_is_cloned_with_all_that_is_known_of_it() {
    let (folder, store) = store();
    let original = directory("from");
    store.create(&original, soon()).unwrap();
    let data = store.directory_path(&original.id);
    std::fs::create_dir(data.join("sub")).unwrap();
    std::fs::write(data.join("sub/file"), "content").unwrap();
    let cloning = cloning("to");
    let (clone, copied) = new(store.clone_volume(&original, &cloning, &patient()));
    assert_eq!((copied.files, copied.directories, copied.bytes), (1, 1, 7));
    assert_alike(&data, &store.directory_path(&clone.id));
    assert_eq!(store.find(&id("to")).unwrap().as_ref(), Some(&clone));
    let wanted = Volume {
        id: id("to"),
        uuid: cloning.uuid.clone(),
        labels: cloning.labels.clone(),
        created: at(7),
        pod: None,
        ..original.clone()
    };
    assert_eq!(clone, wanted);
    let again = store.clone_volume(&original, &fresh_cloning(&cloning), &patient()).unwrap();
    assert_eq!(again, (Created::Existing(clone), Copied::default()));
    assert_eq!(tree(&root(&folder).join("staging")), Vec::<String>::new());
}

fn fresh_cloning(cloning: &Cloning) -> Cloning {
    Cloning { uuid: Uuid::new_v4().to_string(), ..cloning.clone() }
}

#[test]
fn an_image_is_cloned_sparsely_and_gets_a_uuid_of_its_own() {
    let (_folder, store) = store();
    let original = image("from", 256 << 20);
    store.create(&original, soon()).unwrap();
    let note = store.image_path(&original).with_extension("note");
    std::fs::write(&note, "precious").unwrap();
    let write = format!("write {} note", note.display());
    run(Command::new("debugfs").args(["-w", "-R", &write]).arg(store.image_path(&original)));
    let (clone, copied) = new(store.clone_volume(&original, &cloning("to"), &patient()));
    assert!(copied.bytes < 32 << 20, "{copied:?}");
    assert_eq!((clone.limit, &clone.backing), (original.limit, &original.backing));
    assert_eq!(image_uuid(&store, &original), original.uuid);
    assert_eq!(image_uuid(&store, &clone), clone.uuid);
    run(Command::new("e2fsck").args(["-f", "-n"]).arg(store.image_path(&original)));
    let output = Command::new("debugfs").args(["-R", "cat note"]).arg(store.image_path(&clone)).output();
    assert_eq!(output.unwrap().stdout, b"precious");
    let metadata = store.image_path(&clone).metadata().unwrap();
    assert_eq!(metadata.len(), 256 << 20);
    assert!(metadata.blocks() * 512 < 32 << 20, "{}", metadata.blocks());
    let listed = Command::new("debugfs").args(["-R", "ls -p /"]).arg(store.image_path(&clone)).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    assert!(!listed.contains("lost+found"), "{listed}");
}

#[test]
fn privileged_an_image_in_use_is_not_cloned_and_a_clone_can_be_mounted_beside_it() {
    let (folder, store) = store();
    let original = image("from", 32 << 20);
    store.create(&original, soon()).unwrap();
    let mount = |volume: &Volume| {
        source::mount_image(
            &store.image_path(volume),
            &Image::new(32 << 20, Filesystem::Ext4),
            ImageUse::Exclusive,
        )
        .expect("mounting needs root: run the privileged_ tests as root")
    };
    let mounted = mount(&original);
    let error = store.clone_volume(&original, &cloning("to"), &patient()).unwrap_err();
    assert!(matches!(error, StoreError::Image { .. }), "{error:?}");
    assert_eq!(store.find(&id("to")).unwrap(), None);
    drop(mounted);
    // The kernel lets go of it in the background.
    let end = soon();
    while !source::image_is_free(&store.image_path(&original)).unwrap() {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    let (clone, _) = new(store.clone_volume(&original, &cloning("to"), &patient()));
    let (_one, _other) = (mount(&original), mount(&clone));
    assert_eq!(tree(&root(&folder).join("staging")), Vec::<String>::new());
}

#[test]
fn privileged_what_is_mounted_in_a_volume_on_the_host_is_not_cloned() {
    let (_folder, store) = store();
    let original = directory("from");
    store.create(&original, soon()).unwrap();
    let place = store.directory_path(&original.id).join("place");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("below"), "the volume's").unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&place));
    std::fs::write(place.join("above"), "the host's").unwrap();
    let result = store.clone_volume(&original, &cloning("to"), &patient());
    run(Command::new("umount").arg(&place));
    let (clone, _) = new(result);
    assert_alike(&store.directory_path(&original.id), &store.directory_path(&clone.id));
    assert!(list(&store.directory_path(&clone.id)).contains_key(Path::new("place/below")));
}

#[test]
fn a_stopped_clone_leaves_nothing() {
    let (folder, store) = store();
    for (original, name) in [(directory("dir"), "a"), (fresh(image("img", 64 << 20)), "b")] {
        store.create(&original, soon()).unwrap();
        if name == "a" {
            let data = store.directory_path(&original.id);
            (0..200).for_each(|number| std::fs::write(data.join(number.to_string()), "x").unwrap());
        }
        let seen = std::sync::atomic::AtomicU64::new(0);
        let progress = |copied: &Copied| seen.store(copied.bytes, std::sync::atomic::Ordering::Relaxed);
        let cancelled = || seen.load(std::sync::atomic::Ordering::Relaxed) > 50;
        let watch = Watch { cancelled: &cancelled, progress: &progress, ..patient() };
        let error = store.clone_volume(&original, &cloning(name), &watch).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot clone volume \"{}\"", original.id));
        assert_eq!(store.find(&id(name)).unwrap(), None);
    }
    assert_eq!(tree(&root(&folder).join("staging")), Vec::<String>::new());
}

#[test]
fn damage_in_an_image_is_not_passed_on() {
    let (folder, store) = store();
    let original = image("from", 32 << 20);
    store.create(&original, soon()).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(store.image_path(&original)).unwrap();
    // The table of inodes, wherever it is, and the tables of blocks.
    for block in 1..300 {
        file.write_all_at(&[0xff; 4096], block * 4096).unwrap();
    }
    let error = store.clone_volume(&original, &cloning("to"), &patient()).unwrap_err();
    let StoreError::ProgramFailed { work, program, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*work, *program), ("clone", "e2fsck"));
    assert_eq!(store.find(&id("to")).unwrap(), None);
    assert_eq!(tree(&root(&folder).join("staging")), Vec::<String>::new());
}

#[test]
fn killed_while_cloning_there_is_a_whole_clone_or_none() {
    if let Some(root) = std::env::var_os(ROOT) {
        let store = Store::new(Path::new(&root));
        for number in 0.. {
            for from in ["dir", "img"] {
                let original = store.find(&id(from)).unwrap().unwrap();
                let name = format!("{from}-{}-{number}", std::process::id());
                // An image is cloned by one at a time.
                let _ = store.clone_volume(&original, &cloning(&name), &patient());
            }
        }
        return;
    }
    let (folder, store) = store();
    store.create(&directory("dir"), soon()).unwrap();
    store.create(&fresh(image("img", 8 << 20)), soon()).unwrap();
    let data = store.directory_path(&id("dir"));
    (0..100).for_each(|number| std::fs::write(data.join(number.to_string()), "x").unwrap());
    let mut deep = data.clone();
    for _ in 0..100 {
        deep.push("d");
        std::fs::create_dir(&deep).unwrap();
    }
    let staging = root(&folder).join("staging");
    let (mut leftovers, mut clones) = (0, 0);
    let mut delay = Duration::from_millis(150);
    let mut rounds = Rounds::at_least(10);
    while rounds.next(leftovers > 0 && clones > 0).is_some() {
        // On a slow disk a clone takes longer.
        delay = if clones == 0 { delay * 3 / 2 } else { delay + Duration::from_millis(13) };
        let name = "clone::killed_while_cloning_there_is_a_whole_clone_or_none";
        let mut children: Vec<_> = (0..2).map(|_| start(name, &root(&folder))).collect();
        std::thread::sleep(delay);
        for child in &mut children {
            child.kill().unwrap();
        }
        for child in &mut children {
            child.wait().unwrap();
        }
        leftovers += std::fs::read_dir(&staging).unwrap().count();
        let listing = store.list().unwrap();
        assert_eq!(listing.others, []);
        for volume in listing.volumes {
            match volume.id.name.as_str() {
                "dir" | "img" => {}
                name if name.starts_with("dir") => {
                    clones += 1;
                    assert_alike(&data, &store.directory_path(&volume.id));
                }
                _ => {
                    clones += 1;
                    run(Command::new("e2fsck").args(["-f", "-n"]).arg(store.image_path(&volume)));
                    assert_eq!(image_uuid(&store, &volume), volume.uuid);
                }
            }
        }
    }
    assert!(leftovers > 0 && clones > 0, "{leftovers} {clones}");
    let end = soon();
    while std::fs::read_dir(&staging).unwrap().count() > 0 {
        assert!(std::time::Instant::now() < end, "left: {:?}", tree(&staging));
        store.clean_staging(soon()).unwrap();
    }
}
