//! The checkpoint makes looking something up cheap and never changes what is found, whatever happens to its file.

use crate::disk::Simulated;
use crate::fold::held;
use crate::fold::oracle;
use crate::records::BOOT;
use crate::records::any_lease_record;
use crate::records::at;
use crate::records::container;
use crate::records::granted;
use crate::records::holder;
use crate::records::lease;
use crate::records::released;
use crate::records::soon;
use crate::records::volume;
use proptest::prelude::*;
use std::collections::BTreeMap;
use volhook_core::lease::Grant;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;
use volhook_core::record::LeaseRecord;
use volhook_journal::CheckpointState;
use volhook_journal::Interest;
use volhook_journal::Journal;
use volhook_journal::JournalError;

fn leases() -> String {
    format!("leases-{BOOT}")
}

fn index() -> String {
    format!("leases-{BOOT}.index")
}

fn open(disk: &Simulated, every: u64) -> Journal {
    Journal::on(Box::new(disk.clone()), BOOT).unwrap().checkpoint_every(every)
}

/// What somebody may want to know.
#[derive(Debug, Clone)]
struct Wish {
    volumes: Vec<VolumeId>,
    container: Option<ContainerId>,
    attempts: Vec<String>,
}

impl Wish {
    fn with<T>(&self, ask: impl FnOnce(&Interest<'_>) -> T) -> T {
        let attempts: Vec<_> = self.attempts.iter().map(String::as_str).collect();
        let (volumes, container) = (&self.volumes[..], self.container.as_ref());
        ask(&Interest { volumes, container, attempts: &attempts })
    }

    /// What the documentation promises, said of whole grants.
    fn expected(&self, records: &[LeaseRecord]) -> BTreeMap<String, Grant> {
        let mut all = oracle(records);
        all.retain(|attempt, grant| {
            self.attempts.contains(attempt)
                || self.container.as_ref() == Some(&grant.container)
                || grant.leases.iter().any(|lease| self.volumes.contains(&lease.volume))
        });
        all
    }
}

fn any_wish() -> impl Strategy<Value = Wish> {
    let volumes = proptest::collection::vec((0..5u8).prop_map(|n| volume(&format!("v{n}"))), 0..3);
    let container = proptest::option::of((0..4u8).prop_map(|n| container(&format!("c{n}"))));
    let attempts = proptest::collection::vec((0..6u8).prop_map(|n| format!("attempt-{n}")), 0..3);
    (volumes, container, attempts).prop_map(|(volumes, container, attempts)| Wish {
        volumes,
        container,
        attempts,
    })
}

/// Something that happens to the checkpoint's file between two appends.
#[derive(Debug, Clone)]
enum Mishap {
    None,
    Flip(usize, u8),
    Cut(usize),
    Zeros(usize, usize),
    /// An older state of the file comes back.
    Back(usize),
}

fn any_mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        6 => Just(Mishap::None),
        3 => (any::<usize>(), 1..=255u8).prop_map(|(place, mask)| Mishap::Flip(place, mask)),
        1 => any::<usize>().prop_map(Mishap::Cut),
        1 => (any::<usize>(), 1..3000usize).prop_map(|(place, length)| Mishap::Zeros(place, length)),
        1 => any::<usize>().prop_map(Mishap::Back),
    ]
}

fn befall(disk: &Simulated, mishap: &Mishap, earlier: &[Vec<u8>]) {
    let Some(mut bytes) = disk.live(&index()).filter(|bytes| !bytes.is_empty()) else { return };
    let length = bytes.len();
    match mishap {
        Mishap::None => {}
        // Half of them hit the headers.
        Mishap::Flip(place, mask) if place % 2 == 0 => bytes[place / 2 % length.min(288)] ^= mask,
        Mishap::Flip(place, mask) => bytes[place % length] ^= mask,
        Mishap::Cut(place) => bytes.truncate(place % length),
        Mishap::Zeros(place, count) => {
            let place = place % length;
            bytes[place..length.min(place + count)].fill(0);
        }
        Mishap::Back(which) => bytes = earlier[which % earlier.len()].clone(),
    }
    disk.put(&index(), bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whoever_asks_learns_what_the_fold_says(
        steps in proptest::collection::vec(
            (
                proptest::collection::vec(any_lease_record(), 0..5),
                any_wish(),
                any_mishap(),
                prop_oneof![Just(0u64), Just(700), Just(3000), Just(16 << 10)],
                any::<bool>(),
                any::<bool>(),
            ),
            1..24,
        ),
    ) {
        let disk = Simulated::default();
        let kept = open(&disk, 0);
        let mut all = Vec::new();
        let mut earlier = Vec::new();
        for (records, wish, mishap, every, keep, ask) in &steps {
            let fresh = open(&disk, *every);
            let journal = if *keep { &kept } else { &fresh };
            if *ask {
                prop_assert_eq!(held(&wish.with(|i| journal.read_about(i)).unwrap()), wish.expected(&all));
            }
            let mut locked = journal.lock(soon()).unwrap();
            prop_assert_eq!(held(&wish.with(|i| locked.about(i)).unwrap()), wish.expected(&all));
            locked.append(at(0), records).unwrap();
            all.extend(records.iter().cloned());
            prop_assert_eq!(held(&wish.with(|i| locked.about(i)).unwrap()), wish.expected(&all));
            prop_assert_eq!(held(&locked.table().unwrap()), oracle(&all));
            drop(locked);
            earlier.extend(disk.live(&index()));
            befall(&disk, mishap, &earlier);
            prop_assert_eq!(held(&wish.with(|i| fresh.read_about(i)).unwrap()), wish.expected(&all));
            prop_assert_eq!(held(&kept.read().unwrap()), oracle(&all));
        }
    }
}

/// Many grants of which many hold one volume, so that pages spill and the table is laid out anew, growing and
/// shrinking.
#[test]
fn a_large_table_grows_spills_and_shrinks() {
    let disk = Simulated::default();
    let mut all = Vec::new();
    let grant = |n: usize| {
        let names = [format!("own-{n}"), format!("few-{}", n % 40), "everyone".to_owned()];
        let grant = Grant {
            attempt: format!("attempt-{n}"),
            container: container(&format!("c{n}")),
            holder: None,
            leases: names.iter().map(|name| lease(name)).collect(),
            since: at(0),
            since_boot_ms: None,
        };
        LeaseRecord::Granted(grant)
    };
    let bound = |n: usize| LeaseRecord::Bound {
        attempt: format!("attempt-{n}"),
        container: container(&format!("runtime-{n}")),
        holder: holder(100 + n as i32),
    };
    let ask = |n: usize, all: &[LeaseRecord]| {
        let journal = open(&disk, 0);
        let wishes = [
            Wish { volumes: vec![volume(&format!("few-{}", n % 40))], container: None, attempts: vec![] },
            Wish { volumes: vec![], container: Some(container(&format!("c{n}"))), attempts: vec![] },
            Wish { volumes: vec![], container: Some(container(&format!("runtime-{n}"))), attempts: vec![] },
            Wish { volumes: vec![volume(&format!("own-{n}"))], container: None, attempts: vec![] },
        ];
        for wish in wishes {
            assert_eq!(held(&wish.with(|i| journal.read_about(i)).unwrap()), wish.expected(all), "{wish:?}");
        }
    };
    for n in 0..600 {
        let mut records = vec![grant(n)];
        records.extend((n >= 10).then(|| bound(n - 10)));
        open(&disk, 2000).lock(soon()).unwrap().append(at(0), &records).unwrap();
        all.extend(records);
        if n % 50 == 49 {
            ask(n / 2, &all);
            ask(n, &all);
        }
    }
    let wish = Wish { volumes: vec![volume("everyone")], container: None, attempts: vec![] };
    let everyone = wish.with(|i| open(&disk, 0).read_about(i)).unwrap();
    assert_eq!(everyone.grants().count(), 600);
    let grown = disk.live(&index()).unwrap().len();
    assert!(grown > 50 << 10, "{grown}");
    for n in 0..595 {
        let records = [released(&format!("attempt-{n}"))];
        open(&disk, 700).lock(soon()).unwrap().append(at(0), &records).unwrap();
        all.extend(records);
        if n % 100 == 0 {
            ask(n, &all);
            ask(n + 1, &all);
        }
    }
    assert_eq!(held(&open(&disk, 0).read().unwrap()), oracle(&all));
    assert!(disk.live(&index()).unwrap().len() < grown / 4);
}

#[test]
fn a_checkpoint_is_used_and_any_wrong_one_is_ignored() {
    let disk = Simulated::default();
    let mut all = vec![granted("other", &["six"])];
    open(&disk, 0).lock(soon()).unwrap().append(at(0), &all).unwrap();
    for round in 0..40 {
        let attempt = format!("a{round}");
        let records = [granted(&attempt, &["one", "two", "three"]), released(&attempt)];
        open(&disk, 0).lock(soon()).unwrap().append(at(0), &records).unwrap();
        all.extend(records);
    }
    all.push(granted("stays", &["one"]));
    open(&disk, 0).lock(soon()).unwrap().append(at(0), &all[81..]).unwrap();
    let wish = Wish { volumes: vec![volume("one")], container: None, attempts: vec![] };
    let fresh = || wish.with(|i| open(&disk, 0).read_about(i)).map(|table| held(&table));
    assert_eq!(fresh().unwrap(), wish.expected(&all));

    // That it is used shows when what lies before it, and was not asked for, is unreadable.
    let intact = disk.live(&leases()).unwrap();
    let mut hole = intact.clone();
    hole[100..200].fill(0xff);
    disk.put(&leases(), hole.clone());
    assert_eq!(fresh().unwrap(), wish.expected(&all));
    assert!(matches!(open(&disk, 0).read(), Err(JournalError::Damaged { offset: 32, .. })));
    let other = Wish { volumes: vec![volume("six")], container: None, attempts: vec![] };
    let asked = other.with(|i| open(&disk, 0).read_about(i));
    assert!(matches!(asked, Err(JournalError::Damaged { offset: 32, .. })), "{asked:?}");
    let locked = open(&disk, 0);
    let locked = locked.lock(soon()).unwrap();
    let asked = other.with(|i| locked.about(i));
    assert!(matches!(asked, Err(JournalError::Damaged { offset: 32, .. })), "{asked:?}");
    drop(locked);
    disk.put(&leases(), intact);

    let good = disk.live(&index()).expect("it was written");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        disk.put(&index(), bad);
        assert_eq!(fresh().unwrap(), wish.expected(&all), "byte {at}");
    }
    disk.put(&index(), Vec::new());
    assert_eq!(fresh().unwrap(), wish.expected(&all), "without any checkpoint the file is folded");

    // A checkpoint of a file that is gone does not speak for a new one.
    disk.put(&index(), good);
    disk.remove_now(&leases());
    assert_eq!(fresh().unwrap(), BTreeMap::new());
    open(&disk, 0).lock(soon()).unwrap().append(at(5), &[granted("new", &["one"])]).unwrap();
    assert_eq!(fresh().unwrap().keys().collect::<Vec<_>>(), ["new"]);
}

/// Readers without the lock run into every state of a checkpoint that is being changed.
#[test]
fn readers_without_the_lock_see_whole_tables() {
    let folder = tempfile::tempdir().unwrap();
    let journal = || Journal::open(folder.path(), BOOT).unwrap().checkpoint_every(0);
    let stays: Vec<_> = (0..60).map(|n| granted(&format!("stays-{n}"), &["one", "two"])).collect();
    journal().lock(soon()).unwrap().append(at(0), &stays).unwrap();
    let volumes = [volume("one")];
    let interest = Interest { volumes: &volumes, ..Interest::default() };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for round in 0..400 {
                        let journal = journal();
                        let table =
                            if round % 4 == 0 { journal.read() } else { journal.read_about(&interest) };
                        let table = table.unwrap();
                        let there = |n: &i32| table.grant(&format!("stays-{n}")).is_some();
                        assert!((0..60).all(|n| there(&n)), "a grant was missing");
                        assert!(table.grants().count() <= 61, "a grant was there too long");
                    }
                })
            })
            .collect();
        let mut round = 0;
        while readers.iter().any(|reader| !reader.is_finished()) {
            let attempt = format!("comes-{round}");
            journal().lock(soon()).unwrap().append(at(0), &[granted(&attempt, &["one"])]).unwrap();
            journal().lock(soon()).unwrap().append(at(0), &[released(&attempt)]).unwrap();
            round += 1;
        }
        assert!(round > 50, "only {round} changes were met");
    });
}

/// Numbers that nobody wrote, with right checksums: the checkpoint is ignored, not counted on with.
#[test]
fn a_header_with_impossible_numbers_is_ignored() {
    let fields = [("serial", 16), ("area", 40), ("until", 80), ("entries", 88), ("live", 96)];
    for (field, offset) in fields {
        let disk = Simulated::default();
        let story = [granted("a", &["one"]), granted("b", &["two"]), released("a")];
        open(&disk, 0).lock(soon()).unwrap().append(at(0), &story).unwrap();
        let mut bytes = disk.live(&index()).unwrap();
        for head in bytes[..256].chunks_exact_mut(128) {
            // The serial number's lowest bit says where its header stands.
            let number = (u64::MAX - 1) | u64::from(head[16] & 1);
            head[offset..offset + 8].copy_from_slice(&number.to_le_bytes());
            let sum = crc32c::crc32c(&head[..124]);
            head[124..].copy_from_slice(&sum.to_le_bytes());
        }
        disk.put(&index(), bytes);
        let journal = open(&disk, 0);
        assert_eq!(held(&journal.read().unwrap()), oracle(&story), "{field}");
        let mut locked = journal.lock(soon()).unwrap();
        locked.append(at(1), &[granted("c", &["three"])]).unwrap();
        let all = [&story[..], &[granted("c", &["three"])]].concat();
        assert_eq!(held(&locked.table().unwrap()), oracle(&all), "{field}");
        drop(locked);
        assert_eq!(journal.check().unwrap().checkpoint, CheckpointState::Agrees, "{field}");
    }
}

/// A disk that takes the record and then nothing more, as a full one does: what was granted before is still found, by
/// the same process and by the next.
#[test]
fn a_checkpoint_that_cannot_be_written_hides_nothing() {
    let before = [granted("a", &["one"]), granted("b", &["two"])];
    let (story, more) = ([granted("c", &["one"]), released("b")], granted("d", &["four"]));
    let prepared = |many: usize| {
        let disk = Simulated::default();
        let grants = (0..many).map(|n| granted(&format!("early-{n}"), &["one", "two", "three"]));
        let records: Vec<_> = grants.chain(before.clone()).collect();
        open(&disk, 0).lock(soon()).unwrap().append(at(0), &records).unwrap();
        (disk, records)
    };
    let mut met = 0;
    // With so many the pages are changed in place, and laid out anew.
    for many in [0, 1, 14, 15, 16, 17] {
        let (disk, _) = prepared(many);
        let first = disk.steps();
        open(&disk, 0).lock(soon()).unwrap().append(at(1), &story).unwrap();
        let last = disk.steps();
        for (step, bytes) in (first..last).flat_map(|step| [0, 40, usize::MAX].map(|bytes| (step, bytes))) {
            let (disk, mut records) = prepared(many);
            let journal = open(&disk, 0);
            let mut locked = journal.lock(soon()).unwrap();
            disk.stop_at(step, bytes);
            if locked.append(at(1), &story).is_err() {
                continue;
            }
            met += 1;
            records.extend(story.clone());
            assert_eq!(held(&locked.table().unwrap()), oracle(&records), "{many} {step} {bytes}");
            disk.go_on();
            locked.append(at(2), std::slice::from_ref(&more)).unwrap();
            records.push(more.clone());
            assert_eq!(held(&locked.table().unwrap()), oracle(&records), "{many} {step} {bytes}");
            drop(locked);
            assert_eq!(held(&open(&disk, 0).read().unwrap()), oracle(&records), "{many} {step} {bytes}");
        }
    }
    assert!(met > 20, "only {met} failures were met");
}
