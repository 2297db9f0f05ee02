//! Which locks a thread holds, and what it may do under them.

/// The locks, in the order in which they are taken: whoever holds one takes only those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    /// The folder of installed plugins, while one of them is replaced.
    Plugins,
    /// A folder in `staging/`, while a volume is built there. Its name is new, so nobody waits for it, and a process may
    /// have several.
    Staging,
    /// The folder of a volume in its place, while the volume is changed or moved.
    Folder,
    /// The folder of a volume in the trash.
    Trashed,
    /// The file of an image or a device, whose lock the kernel keeps while it is mounted.
    Image,
    /// The directory of an overlay's changes.
    Changes,
    /// The names of a tenant's pods and of their volumes: `pods/<tenant>`.
    Names,
    /// The journal's, under which nobody waits.
    Journal,
}

/// A lock that this thread holds, as far as the order of locks is concerned: it ends when this is dropped.
#[derive(Debug)]
#[must_use = "the lock is held as long as this is"]
pub struct Held {
    #[cfg(debug_assertions)]
    number: u64,
}

/// Notes that this thread is about to wait for `lock`, and holds it from now on.
///
/// # Panics
/// In debug builds, when the thread holds a lock that is to be taken after it.
pub fn hold(lock: Lock) -> Held {
    #[cfg(debug_assertions)]
    known::refuse(&format!("waits for the lock {lock:?}"), |held| {
        held > lock || (held == lock && lock != Lock::Staging)
    });
    held(lock)
}

/// The same for a lock that is tried and not waited for.
///
/// # Panics
/// In debug builds, when the thread holds the journal's lock.
pub(crate) fn tried(lock: Lock) -> Held {
    waits("another lock");
    held(lock)
}

#[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "release builds know nothing"))]
fn held(lock: Lock) -> Held {
    Held {
        #[cfg(debug_assertions)]
        number: known::note(lock),
    }
}

/// Says that this thread is about to do `what`, which may take its time.
///
/// # Panics
/// In debug builds, when the thread holds the journal's lock.
#[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "release builds know nothing"))]
pub fn waits(what: &str) {
    #[cfg(debug_assertions)]
    known::refuse(&format!("waits for {what}"), |held| held == Lock::Journal);
}

#[cfg(debug_assertions)]
impl Drop for Held {
    fn drop(&mut self) {
        known::forget(self.number);
    }
}

/// What all threads of this process hold. A lock may be given back by another thread than took it.
#[cfg(debug_assertions)]
mod known {
    use super::Lock;
    use std::sync::Mutex;
    use std::sync::MutexGuard;
    use std::sync::PoisonError;
    use std::thread::ThreadId;

    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    static HELD: Mutex<Vec<(u64, ThreadId, Lock)>> = Mutex::new(Vec::new());

    fn all() -> MutexGuard<'static, Vec<(u64, ThreadId, Lock)>> {
        // Each change is one call.
        HELD.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(lock: Lock) -> u64 {
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        all().push((number, std::thread::current().id(), lock));
        number
    }

    pub(super) fn forget(number: u64) {
        all().retain(|(known, ..)| *known != number);
    }

    pub(super) fn refuse(what: &str, is_wrong: impl Fn(Lock) -> bool) {
        // What is dropped on the way out of a panic may do anything: a second one would hide the first.
        if std::thread::panicking() {
            return;
        }
        let me = std::thread::current().id();
        let held: Vec<Lock> =
            all().iter().filter(|(_, thread, _)| *thread == me).map(|(.., lock)| *lock).collect();
        assert!(
            !held.iter().any(|lock| is_wrong(*lock)),
            "a thread that holds {held:?} {what}: that is against the order of locks"
        );
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::Lock;
    use super::hold;
    use super::tried;
    use super::waits;

    fn panics(what: impl FnOnce() + Send + 'static) -> bool {
        std::thread::spawn(what).join().is_err()
    }

    const ALL: [Lock; 8] = [
        Lock::Plugins,
        Lock::Staging,
        Lock::Folder,
        Lock::Trashed,
        Lock::Image,
        Lock::Changes,
        Lock::Names,
        Lock::Journal,
    ];

    #[test]
    fn whoever_holds_a_lock_waits_only_for_those_behind_it() {
        for (place, first) in ALL.into_iter().enumerate() {
            for (other, second) in ALL.into_iter().enumerate() {
                let refused = panics(move || {
                    let _first = hold(first);
                    let _second = hold(second);
                });
                let several = first == second && first == Lock::Staging;
                assert_eq!(refused, other <= place && !several, "{second:?} under {first:?}");
            }
        }
    }

    #[test]
    fn under_the_journals_lock_nobody_waits_and_nothing_is_tried() {
        for lock in ALL {
            assert_eq!(
                panics(move || {
                    let _held = hold(lock);
                    waits("a test");
                }),
                lock == Lock::Journal
            );
            assert_eq!(
                panics(move || {
                    let _held = hold(lock);
                    drop(tried(Lock::Image));
                }),
                lock == Lock::Journal
            );
        }
    }

    #[test]
    fn what_was_given_back_or_is_another_threads_is_in_nobodys_way() {
        let journal = hold(Lock::Journal);
        assert!(!panics(|| drop(hold(Lock::Folder))), "another thread has the journal");
        // Given back by another thread.
        std::thread::spawn(move || drop(journal)).join().unwrap();
        let names = hold(Lock::Names);
        let folder = panics(|| drop(hold(Lock::Folder)));
        drop(names);
        assert!(!folder);
        drop(hold(Lock::Plugins));
        waits("a test");
    }
}
