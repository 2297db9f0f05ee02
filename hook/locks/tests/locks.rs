//! Locks on real files: whoever waits for one gives up at the deadline.

use std::fs::File;
use std::time::Duration;
use std::time::Instant;
use volhook_locks::Lock;

#[test]
fn a_lock_is_waited_for_until_the_deadline_and_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let open = || File::open(folder.path()).unwrap();
    let (mine, others) = (open(), open());
    let held = volhook_locks::take(Lock::Folder, &others, Instant::now()).unwrap().expect("it is free");
    drop(held);
    let begun = Instant::now();
    let patience = Duration::from_millis(30);
    let late = volhook_locks::take(Lock::Folder, &mine, begun + patience).unwrap();
    assert!(late.is_none() && begun.elapsed() >= patience);
    assert!(volhook_locks::try_take(Lock::Folder, &mine).unwrap().is_none());

    // It is free as soon as its file is closed.
    let waiting = std::thread::spawn(move || {
        volhook_locks::take(Lock::Folder, &mine, Instant::now() + Duration::from_secs(60)).unwrap().is_some()
    });
    drop(others);
    assert!(waiting.join().unwrap());
}

#[test]
fn what_is_given_back_is_free_although_its_file_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let open = || File::open(folder.path()).unwrap();
    let (mine, others) = (open(), open());
    assert!(volhook_locks::wait(&mine, Instant::now()).unwrap());
    assert!(!volhook_locks::wait(&others, Instant::now()).unwrap());
    volhook_locks::give_back(&mine).unwrap();
    assert!(volhook_locks::wait(&others, Instant::now()).unwrap());
}
