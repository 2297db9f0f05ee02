//! The index makes looking something up cheap and never changes what is found, whatever happens to its file.

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
use volhook_core::decision::Access;
use volhook_core::decision::Sharing;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::LeasedVolume;
use volhook_core::lease::compatible;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;
use volhook_core::record::LeaseRecord;
use volhook_journal::IndexState;
use volhook_journal::Interest;
use volhook_journal::Journal;
use volhook_journal::JournalError;

fn leases() -> String {
    format!("leases-{BOOT}")
}

fn index() -> String {
    format!("leases-{BOOT}.index")
}

fn open(disk: &Simulated) -> Journal {
    Journal::on(Box::new(disk.clone()), BOOT).unwrap()
}

/// What somebody may want to know.
#[derive(Debug, Clone)]
struct Wish {
    volumes: Vec<VolumeId>,
    but_sharers: bool,
    container: Option<ContainerId>,
    attempts: Vec<String>,
}

impl Wish {
    fn with<T>(&self, ask: impl FnOnce(&Interest<'_>) -> T) -> T {
        let attempts: Vec<_> = self.attempts.iter().map(String::as_str).collect();
        let (volumes, container) = (&self.volumes[..], self.container.as_ref());
        ask(&Interest { volumes, but_sharers: self.but_sharers, container, attempts: &attempts })
    }

    /// What the documentation promises, said of whole grants.
    fn expected(&self, records: &[LeaseRecord]) -> BTreeMap<String, Grant> {
        let mut all = oracle(records);
        all.retain(|attempt, grant| {
            self.attempts.contains(attempt)
                || self.container.as_ref() == Some(&grant.container)
                || grant
                    .leases
                    .iter()
                    .filter(|lease| !self.but_sharers || matters(lease))
                    .any(|lease| self.volumes.contains(&lease.volume))
        });
        all
    }
}

/// Whether a lease keeps one that shares the volume, or only reads it beside a single writer, from being given.
fn matters(held: &LeasedVolume) -> bool {
    [(Access::ReadWrite, Sharing::Shared), (Access::ReadOnly, Sharing::SingleWriter)]
        .iter()
        .any(|(access, sharing)| !compatible(*access, *sharing, held.access, held.sharing))
}

fn any_wish() -> impl Strategy<Value = Wish> {
    let volumes = proptest::collection::vec((0..5u8).prop_map(|n| volume(&format!("v{n}"))), 0..3);
    let container = proptest::option::of((0..4u8).prop_map(|n| container(&format!("c{n}"))));
    let attempts = proptest::collection::vec((0..6u8).prop_map(|n| format!("attempt-{n}")), 0..3);
    (volumes, any::<bool>(), container, attempts).prop_map(|(volumes, but_sharers, container, attempts)| {
        Wish { volumes, but_sharers, container, attempts }
    })
}

/// Something that happens to the index's file between two appends.
#[derive(Debug, Clone)]
enum Mishap {
    None,
    Flip(usize, u8),
    Cut(usize),
    Zeros(usize, usize),
    /// An older state of the file comes back.
    Back(usize),
    /// Some blocks of the file are as they once were, or gone; the size of a block and which states, in turns.
    Blocks(usize, Vec<Option<usize>>),
}

fn any_mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        6 => Just(Mishap::None),
        3 => (any::<usize>(), 1..=255u8).prop_map(|(place, mask)| Mishap::Flip(place, mask)),
        1 => any::<usize>().prop_map(Mishap::Cut),
        1 => (any::<usize>(), 1..3000usize).prop_map(|(place, length)| Mishap::Zeros(place, length)),
        1 => any::<usize>().prop_map(Mishap::Back),
        3 => (
            prop_oneof![Just(64), Just(512), Just(4096)],
            proptest::collection::vec(proptest::option::of(any::<usize>()), 1..6),
        )
            .prop_map(|(size, states)| Mishap::Blocks(size, states)),
    ]
}

fn befall(disk: &Simulated, mishap: &Mishap, earlier: &[Vec<u8>]) {
    let Some(mut bytes) = disk.live(&index()).filter(|bytes| !bytes.is_empty()) else { return };
    let length = bytes.len();
    match mishap {
        Mishap::None => {}
        // Half of them hit the headers.
        Mishap::Flip(place, mask) if place % 2 == 0 => bytes[place / 2 % length.min(104)] ^= mask,
        Mishap::Flip(place, mask) => bytes[place % length] ^= mask,
        Mishap::Cut(place) => bytes.truncate(place % length),
        Mishap::Zeros(place, count) => {
            let place = place % length;
            bytes[place..length.min(place + count)].fill(0);
        }
        Mishap::Back(which) => bytes = earlier[which % earlier.len()].clone(),
        Mishap::Blocks(size, states) => {
            for (place, state) in bytes
                .chunks_mut(*size)
                .zip(0..)
                .zip(states.iter().cycle())
                .filter_map(|((block, number), state)| state.map(|state| ((number * size, block), state)))
            {
                put_back(place.1, place.0, &earlier[state % earlier.len()]);
            }
        }
    }
    disk.put(&index(), bytes);
}

/// Has a block be what stood at its place in an older state of the file.
fn put_back(block: &mut [u8], at: usize, older: &[u8]) {
    let older = older.get(at..).unwrap_or_default();
    for (byte, was) in block.iter_mut().zip(older.iter().chain(std::iter::repeat(&0))) {
        *byte = *was;
    }
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
                any::<bool>(),
                any::<bool>(),
                proptest::collection::vec(any_lease_record(), 0..3),
            ),
            1..24,
        ),
    ) {
        let disk = Simulated::default();
        let kept = open(&disk);
        let mut all = Vec::new();
        let mut earlier = Vec::new();
        for (records, wish, mishap, keep, ask, between) in &steps {
            let fresh = open(&disk);
            let journal = if *keep { &kept } else { &fresh };
            if *ask {
                prop_assert_eq!(held(&wish.with(|i| journal.read_about(i)).unwrap()), wish.expected(&all));
            }
            // Somebody else comes between the look and the lock.
            open(&disk).lock(soon()).unwrap().append(at(0), between).unwrap();
            all.extend(between.iter().cloned());
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
        let journal = open(&disk);
        let wishes = [
            Wish {
                volumes: vec![volume(&format!("few-{}", n % 40))],
                but_sharers: false,
                container: None,
                attempts: vec![],
            },
            Wish {
                volumes: vec![],
                but_sharers: false,
                container: Some(container(&format!("c{n}"))),
                attempts: vec![],
            },
            Wish {
                volumes: vec![],
                but_sharers: false,
                container: Some(container(&format!("runtime-{n}"))),
                attempts: vec![],
            },
            Wish {
                volumes: vec![volume(&format!("own-{n}"))],
                but_sharers: false,
                container: None,
                attempts: vec![],
            },
        ];
        for wish in wishes {
            assert_eq!(held(&wish.with(|i| journal.read_about(i)).unwrap()), wish.expected(all), "{wish:?}");
        }
    };
    for n in 0..600 {
        let mut records = vec![grant(n)];
        records.extend((n >= 10).then(|| bound(n - 10)));
        open(&disk).lock(soon()).unwrap().append(at(0), &records).unwrap();
        all.extend(records);
        if n % 50 == 49 {
            ask(n / 2, &all);
            ask(n, &all);
        }
    }
    let wish =
        Wish { volumes: vec![volume("everyone")], but_sharers: false, container: None, attempts: vec![] };
    let everyone = wish.with(|i| open(&disk).read_about(i)).unwrap();
    assert_eq!(everyone.grants().count(), 600);
    let grown = disk.live(&index()).unwrap().len();
    assert!(grown > 50 << 10, "{grown}");
    for n in 0..595 {
        let records = [released(&format!("attempt-{n}"))];
        open(&disk).lock(soon()).unwrap().append(at(0), &records).unwrap();
        all.extend(records);
        if n % 100 == 0 {
            ask(n, &all);
            ask(n + 1, &all);
        }
    }
    assert_eq!(held(&open(&disk).read().unwrap()), oracle(&all));
    assert!(disk.live(&index()).unwrap().len() < grown / 4);
}

#[test]
fn an_index_is_used_and_any_wrong_one_is_ignored() {
    let disk = Simulated::default();
    let mut all = vec![granted("other", &["six"])];
    open(&disk).lock(soon()).unwrap().append(at(0), &all).unwrap();
    for round in 0..40 {
        let attempt = format!("a{round}");
        let records = [granted(&attempt, &["one", "two", "three"]), released(&attempt)];
        open(&disk).lock(soon()).unwrap().append(at(0), &records).unwrap();
        all.extend(records);
    }
    all.push(granted("stays", &["one"]));
    open(&disk).lock(soon()).unwrap().append(at(0), &all[81..]).unwrap();
    let wish = Wish { volumes: vec![volume("one")], but_sharers: false, container: None, attempts: vec![] };
    let fresh = || wish.with(|i| open(&disk).read_about(i)).map(|table| held(&table));
    assert_eq!(fresh().unwrap(), wish.expected(&all));

    // That it is used shows when what lies before it, and was not asked for, is unreadable.
    let intact = disk.live(&leases()).unwrap();
    let mut hole = intact.clone();
    hole[100..200].fill(0xff);
    disk.put(&leases(), hole.clone());
    assert_eq!(fresh().unwrap(), wish.expected(&all));
    assert!(matches!(open(&disk).read(), Err(JournalError::Damaged { offset: 32, .. })));
    let other = Wish { volumes: vec![volume("six")], but_sharers: false, container: None, attempts: vec![] };
    let asked = other.with(|i| open(&disk).read_about(i));
    assert!(matches!(asked, Err(JournalError::Damaged { offset: 32, .. })), "{asked:?}");
    let locked = open(&disk);
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
    assert_eq!(fresh().unwrap(), wish.expected(&all), "without any index the file is folded");

    // It tells that its file is gone, and does not speak for a new one.
    disk.put(&index(), good.clone());
    disk.remove_now(&leases());
    assert!(matches!(fresh(), Err(JournalError::Damaged { offset: 0, .. })));
    let locked = open(&disk).lock(soon()).map(drop);
    assert!(matches!(locked, Err(JournalError::Damaged { offset: 0, .. })), "{locked:?}");
    let salvaged = open(&disk).salvage().unwrap().expect("it is gone");
    open(&disk).rebuild(soon(), at(4), &salvaged, &[]).unwrap().expect("it is gone");
    assert_eq!(fresh().unwrap(), BTreeMap::new());
    disk.put(&index(), good);
    assert_eq!(fresh().unwrap(), BTreeMap::new());
    open(&disk).lock(soon()).unwrap().append(at(5), &[granted("new", &["one"])]).unwrap();
    assert_eq!(fresh().unwrap().keys().collect::<Vec<_>>(), ["new"]);
}

/// Readers without the lock run into every state of an index that is being changed.
#[test]
fn readers_without_the_lock_see_whole_tables() {
    let folder = tempfile::tempdir().unwrap();
    let journal = || Journal::open(folder.path(), BOOT).unwrap();
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

/// Numbers that nobody wrote, with right checksums: the index is ignored, not counted on with.
#[test]
fn a_head_with_impossible_numbers_is_ignored() {
    let fields = [("start", 24), ("end", 32), ("sequence", 40), ("entries", 56), ("live", 64), ("total", 72)];
    let wide = [u64::MAX - 1, 1 << 40, 7].map(u64::to_le_bytes);
    let values =
        fields.iter().flat_map(|(field, offset)| wide.iter().map(|value| (*field, *offset, &value[..])));
    let narrow = [u32::MAX, 1 << 20, 0].map(u32::to_le_bytes);
    let buckets = narrow.iter().map(|value| ("buckets", 52, &value[..]));
    for (field, offset, value) in values.chain(buckets) {
        let disk = Simulated::default();
        let story = [granted("a", &["one"]), granted("b", &["two"]), released("a")];
        open(&disk).lock(soon()).unwrap().append(at(0), &story).unwrap();
        let mut bytes = disk.live(&index()).unwrap();
        bytes[offset..offset + value.len()].copy_from_slice(value);
        let sum = crc32c::crc32c(&bytes[..92]);
        bytes[92..96].copy_from_slice(&sum.to_le_bytes());
        disk.put(&index(), bytes);
        let journal = open(&disk);
        let read = journal.read();
        // Where it says that the log went on, that is believed: something is gone.
        if matches!(read, Err(JournalError::Damaged { .. })) && field == "end" {
            continue;
        }
        assert_eq!(held(&read.unwrap()), oracle(&story), "{field} {value:?}");
        let mut locked = journal.lock(soon()).unwrap();
        locked.append(at(1), &[granted("c", &["three"])]).unwrap();
        let all = [&story[..], &[granted("c", &["three"])]].concat();
        assert_eq!(held(&locked.table().unwrap()), oracle(&all), "{field} {value:?}");
        // Whoever has seen that it is wrong writes it anew.
        locked.append(at(1), &[released("nobody")]).unwrap();
        drop(locked);
        assert_eq!(journal.check().unwrap().index, IndexState::Agrees, "{field} {value:?}");
    }
}

fn exclusive(attempt: &str, name: &str) -> LeaseRecord {
    let LeaseRecord::Granted(grant) = granted(attempt, &[]) else { unreachable!("it is one") };
    let leases = vec![LeasedVolume { sharing: Sharing::Exclusive, ..lease(name) }];
    LeaseRecord::Granted(Grant { leases, ..grant })
}

/// A disk that shows any block of the index, or any part of it, as it was at any time before.
#[test]
fn no_older_block_of_the_index_hides_who_holds_a_volume() {
    let disk = Simulated::default();
    let mut states = Vec::new();
    let mut append = |record: LeaseRecord| {
        open(&disk).lock(soon()).unwrap().append(at(0), &[record]).unwrap();
        states.push(disk.live(&index()).unwrap());
    };
    (0..100).for_each(|n| append(granted(&format!("before-{n}"), &[&format!("shared-{n}")])));
    (0..8).for_each(|n| append(exclusive(&format!("holds-{n}"), &format!("own-{n}"))));
    let (newest, older) = states.split_last().unwrap();
    let names: Vec<_> = (0..8).map(|n| volume(&format!("own-{n}"))).collect();
    let mut cases = 0;
    let mut is_seen = |bytes: Vec<u8>| {
        cases += 1;
        disk.put(&index(), bytes);
        let journal = open(&disk);
        let wish = Interest { volumes: &names, ..Interest::default() };
        assert_eq!(journal.read_about(&wish).unwrap().grants().count(), 8);
        assert_eq!(journal.lock(soon()).unwrap().about(&wish).unwrap().grants().count(), 8);
    };
    for state in older {
        is_seen(state.clone());
    }
    for size in [64, 512, 4096] {
        for place in 0..newest.len().div_ceil(size) {
            for state in older[older.len() - 8..].iter().chain(older.iter().step_by(40)) {
                let at = place * size;
                let end = newest.len().min(at + size);
                let mut one_older = newest.clone();
                put_back(&mut one_older[at..end], at, state);
                is_seen(one_older);
                let mut one_newer = state.clone();
                one_newer.resize(newest.len(), 0);
                put_back(&mut one_newer[at..end], at, newest);
                is_seen(one_newer);
            }
        }
    }
    assert!(cases > 1000, "only {cases} cases");
}

/// Between a look and the lock of one process another gives back what the index did not know of yet, or takes it back itself
/// because it could not write all of it.
#[test]
fn what_a_look_found_behind_the_index_is_not_believed_later() {
    let disk = Simulated::default();
    open(&disk).lock(soon()).unwrap().append(at(0), &[granted("a", &["one"])]).unwrap();
    let (log, older) = (disk.live(&leases()).unwrap(), disk.live(&index()).unwrap());
    open(&disk).lock(soon()).unwrap().append(at(0), &[exclusive("x", "two")]).unwrap();
    let more = disk.live(&leases()).unwrap();
    let volumes = [volume("two")];
    let about_two = Interest { volumes: &volumes, ..Interest::default() };
    let count = |table: LeaseTable| table.grants().count();

    disk.put(&index(), older.clone());
    let looks = open(&disk);
    assert_eq!(count(looks.read_about(&about_two).unwrap()), 1);
    open(&disk).lock(soon()).unwrap().append(at(0), &[released("x")]).unwrap();
    let mut locked = looks.lock(soon()).unwrap();
    assert_eq!(count(locked.about(&about_two).unwrap()), 0, "it was given back");
    locked.append(at(0), &[granted("b", &["one"])]).unwrap();
    drop(locked);
    assert_eq!(count(open(&disk).read_about(&about_two).unwrap()), 0);
    assert_eq!(open(&disk).check().unwrap().index, IndexState::Agrees);

    for now in [log, more.clone()] {
        disk.put(&leases(), more.clone());
        disk.put(&index(), older.clone());
        let looks = open(&disk);
        assert_eq!(count(looks.read_about(&about_two).unwrap()), 1);
        disk.put(&leases(), now);
        let held = count(open(&disk).read_about(&about_two).unwrap());
        assert_eq!(count(looks.lock(soon()).unwrap().about(&about_two).unwrap()), held);
    }
}

/// What a look has to read does not grow with the number of those who share a volume.
#[test]
fn sharers_cost_nobody_anything_who_shares_as_well() {
    let disk = Simulated::default();
    let journal = open(&disk);
    let few: Vec<_> = (0..10).map(|n| granted(&format!("few-{n}"), &["few"])).collect();
    journal.lock(soon()).unwrap().append(at(0), &few).unwrap();
    for batch in 0..10 {
        let many: Vec<_> = (0..100).map(|n| granted(&format!("many-{batch}-{n}"), &["many"])).collect();
        journal.lock(soon()).unwrap().append(at(0), &many).unwrap();
    }
    let read = |name: &str, but_sharers: bool| {
        let volumes = [volume(name)];
        let wish = Interest { volumes: &volumes, but_sharers, ..Interest::default() };
        let before = disk.bytes_read();
        let found = open(&disk).read_about(&wish).unwrap().grants().count();
        (found, disk.bytes_read() - before)
    };
    let (none, few) = read("few", true);
    let (still_none, many) = read("many", true);
    assert_eq!((none, still_none), (0, 0));
    assert!(many <= few * 2, "{many} bytes were read for many sharers, {few} for few");
    assert_eq!(read("many", false).0, 1000);
    assert_eq!(read("few", false).0, 10);
}

/// A disk that takes the record and then nothing more, as a full one does: what was granted before is still found, by
/// the same process and by the next.
#[test]
fn an_index_that_cannot_be_written_hides_nothing() {
    let before = [granted("a", &["one"]), granted("b", &["two"])];
    let (story, more) = ([granted("c", &["one"]), released("b")], granted("d", &["four"]));
    let prepared = |many: usize| {
        let disk = Simulated::default();
        let grants = (0..many).map(|n| granted(&format!("early-{n}"), &["one", "two", "three"]));
        let records: Vec<_> = grants.chain(before.clone()).collect();
        open(&disk).lock(soon()).unwrap().append(at(0), &records).unwrap();
        (disk, records)
    };
    let mut met = 0;
    // With so many the index is written whole, laid out anew, and changed in places.
    for many in [0, 1, 14, 15, 60, 200] {
        let (disk, _) = prepared(many);
        let first = disk.steps();
        open(&disk).lock(soon()).unwrap().append(at(1), &story).unwrap();
        let last = disk.steps();
        for (step, bytes) in (first..last).flat_map(|step| [0, 40, usize::MAX].map(|bytes| (step, bytes))) {
            let (disk, mut records) = prepared(many);
            let journal = open(&disk);
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
            assert_eq!(held(&open(&disk).read().unwrap()), oracle(&records), "{many} {step} {bytes}");
        }
    }
    assert!(met > 15, "only {met} failures were met");
}
