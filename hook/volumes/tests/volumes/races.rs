//! Creators at the same time, and creators that are killed.
//!
//! A test starts its own program again, told by an environment variable to be one of the processes.

use crate::fixture::ROOT;
use crate::fixture::Rounds;
use crate::fixture::directory;
use crate::fixture::fresh;
use crate::fixture::id;
use crate::fixture::image;
use crate::fixture::root;
use crate::fixture::soon;
use crate::fixture::start;
use crate::fixture::store;
use crate::fixture::tree;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use uuid::Uuid;
use volhook_core::volume::Volume;
use volhook_volumes::Created;
use volhook_volumes::Store;

fn race(make: fn(&str) -> Volume, name: &str, rounds: u32) {
    let (folder, store) = store();
    for round in 0..rounds {
        let name = format!("{name}{round}");
        let results: Vec<_> = std::thread::scope(|scope| {
            let create = || store.create(&fresh(make(&name)), soon()).unwrap();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let new: Vec<_> = results.iter().filter(|created| matches!(created, Created::New(_))).collect();
        assert_eq!(new.len(), 1, "{results:#?}");
        let found = store.find(&id(&name)).unwrap().unwrap();
        assert!(results.iter().all(|created| *created.volume() == found), "all use the winner's");
    }
    assert_eq!(tree(&root(&folder).join("staging")), Vec::<String>::new());
}

#[test]
fn of_eight_threads_exactly_one_makes_a_directory() {
    race(directory, "d", 40);
}

#[test]
fn privileged_of_eight_threads_exactly_one_makes_an_image() {
    race(|name| image(name, 8 << 20), "i", 4);
}

#[test]
fn of_six_processes_exactly_one_makes_each_volume() {
    if let Some(root) = std::env::var_os(ROOT) {
        let store = Store::new(Path::new(&root));
        for number in 0..30 {
            if let Created::New(volume) =
                store.create(&fresh(directory(&format!("v{number}"))), soon()).unwrap()
            {
                println!("made {} {}", volume.id, volume.uuid);
            }
        }
        return;
    }
    let (folder, store) = store();
    let name = "races::of_six_processes_exactly_one_makes_each_volume";
    let children: Vec<_> = (0..6).map(|_| start(name, &root(&folder))).collect();
    let mut made = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        made.extend(text.lines().filter(|line| line.starts_with("made ")).map(str::to_owned));
    }
    made.sort();
    let mut found: Vec<_> = store
        .list()
        .unwrap()
        .volumes
        .iter()
        .map(|volume| format!("made {} {}", volume.id, volume.uuid))
        .collect();
    found.sort();
    assert_eq!(found.len(), 30);
    assert_eq!(made, found);
    assert_eq!(tree(&root(&folder).join("staging")), Vec::<String>::new());
}

#[test]
fn privileged_what_killed_creators_left_is_removed_and_no_volume_is_half() {
    if let Some(root) = std::env::var_os(ROOT) {
        let store = Store::new(Path::new(&root));
        for number in 0.. {
            let name = format!("v{}-{number}", std::process::id());
            let volume = if number % 2 == 0 { image(&name, 8 << 20) } else { directory(&name) };
            store.create(&fresh(volume), soon()).unwrap();
        }
        return;
    }
    let (folder, store) = store();
    let name = "races::privileged_what_killed_creators_left_is_removed_and_no_volume_is_half";
    let staging = root(&folder).join("staging");
    let mut leftovers = 0;
    let mut rounds = Rounds::at_least(10);
    while let Some(round) = rounds.next(leftovers > 0) {
        let mut children: Vec<_> = (0..3).map(|_| start(name, &root(&folder))).collect();
        std::thread::sleep(Duration::from_millis(80 + round * 7));
        for child in &mut children {
            child.kill().unwrap();
        }
        for child in &mut children {
            child.wait().unwrap();
        }
        leftovers += std::fs::read_dir(&staging).unwrap().count();
        // A program of a killed creator dies with it, but may still be on its way out.
        let end = Instant::now() + Duration::from_secs(5);
        store.create(&fresh(directory(&format!("after-{round}"))), soon()).unwrap();
        while std::fs::read_dir(&staging).unwrap().count() > 0 {
            assert!(Instant::now() < end, "left: {:?}", tree(&staging));
            store.clean_staging(soon()).unwrap();
        }
    }
    assert!(leftovers > 0, "no creator was killed in the middle");
    let listing = store.list().unwrap();
    assert_eq!(listing.others, []);
    for volume in &listing.volumes {
        store.size(volume).unwrap_or_else(|error| panic!("{error:?}"));
    }
}

/// Who cleans up sees it before it is locked, and removes it.
#[test]
fn whoever_cleans_up_takes_no_scratch_directory_away() {
    let (folder, store) = store();
    let done = AtomicBool::new(false);
    let removed = std::thread::scope(|scope| {
        let clean = || {
            while !done.load(Ordering::Relaxed) {
                store.clean_staging(soon()).unwrap();
            }
        };
        (0..2).for_each(|_| drop(scope.spawn(clean)));
        let rounds = (0..1000).map(|_| store.scratch().map(drop));
        let failed: Vec<String> = rounds.filter_map(Result::err).map(|error| format!("{error:?}")).collect();
        done.store(true, Ordering::Relaxed);
        failed
    });
    assert_eq!(removed, [""; 0]);
    assert_eq!(tree(&root(&folder).join("staging")), Vec::<String>::new());
}

#[test]
fn what_is_not_a_creators_stays_in_staging() {
    let (folder, store) = store();
    store.create(&directory("v1"), soon()).unwrap();
    let staging = root(&folder).join("staging");
    std::fs::create_dir(staging.join("mine")).unwrap();
    std::os::unix::fs::symlink("/etc", staging.join(Uuid::new_v4().to_string())).unwrap();
    let dead = staging.join(Uuid::new_v4().to_string());
    std::fs::create_dir_all(dead.join("data/sub")).unwrap();
    store.clean_staging(soon()).unwrap();
    assert!(!dead.exists());
    assert_eq!(tree(&staging).len(), 2);
    assert!(Path::new("/etc/passwd").exists());
}
