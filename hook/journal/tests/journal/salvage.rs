//! Salvage goes by sequence numbers: frames that stand in the file again, or elsewhere, neither bring back what was given
//! back nor drop what is held.

use crate::damage::leases;
use crate::damage::open;
use crate::disk::Simulated;
use crate::fold::held;
use crate::fold::oracle;
use crate::records::any_lease_record;
use crate::records::at;
use crate::records::container;
use crate::records::created;
use crate::records::granted;
use crate::records::holder;
use crate::records::released;
use crate::records::soon;
use proptest::prelude::*;
use volhook_core::lease::Grant;
use volhook_core::record::LeaseRecord;
use volhook_journal::Salvaged;

/// The header and the frames of a file that holds `records`, one append each.
fn frames(records: &[LeaseRecord]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let disk = Simulated::default();
    for record in records {
        open(&disk).lock(soon()).unwrap().append(at(0), std::slice::from_ref(record)).unwrap();
    }
    let bytes = disk.live(&leases()).unwrap_or_default();
    let mut starts: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"VHF1")).collect();
    starts.push(bytes.len());
    let frames = starts.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect();
    (bytes[..starts[0].min(bytes.len())].to_vec(), frames)
}

/// What is salvaged of a file with this header and these frames; `None` when it is not damaged.
fn salvage(header: &[u8], frames: &[Vec<u8>]) -> (Simulated, Option<Salvaged>) {
    let disk = Simulated::default();
    disk.put(&leases(), [header, &frames.concat()].concat());
    let salvaged = open(&disk).salvage().unwrap();
    (disk, salvaged)
}

fn attempts(salvaged: &Salvaged) -> Vec<&str> {
    salvaged.grants.iter().map(|grant| grant.attempt.as_str()).collect()
}

#[test]
fn an_old_grant_that_stands_in_the_file_again_is_not_brought_back() {
    let (header, mut frames) = frames(&[granted("a", &["one"]), released("a"), granted("b", &["two"])]);
    frames.push(frames[0].clone());
    let salvaged = salvage(&header, &frames).1.expect("it is damaged");
    assert_eq!(attempts(&salvaged), ["b"]);
    assert!(salvaged.released.contains("a"));
}

#[test]
fn an_old_release_that_stands_in_the_file_again_drops_nothing() {
    let story = [granted("a", &["one"]), released("a"), granted("a", &["one", "two"])];
    let (header, mut frames) = frames(&story);
    frames.push(frames[1].clone());
    let salvaged = salvage(&header, &frames).1.expect("it is damaged");
    assert_eq!(salvaged.grants.iter().map(|grant| grant.leases.len()).collect::<Vec<_>>(), [2]);
    assert!(salvaged.released.is_empty());
}

#[test]
fn a_release_that_may_never_have_been_written_gives_nothing_back() {
    let (header, real) = frames(&[granted("a", &["one"]), granted("b", &["two"])]);
    let (_, other) = frames(&[granted("a", &["one"]), released("a")]);
    for story in [[&real[0], &real[1], &other[1]], [&real[0], &other[1], &real[1]]] {
        let salvaged = salvage(&header, &story.map(Clone::clone)).1.expect("it is damaged");
        assert_eq!(attempts(&salvaged), ["a", "b"]);
        assert!(salvaged.released.is_empty());
    }
}

/// Each of them can be proved dead by itself, and until all of them are the volumes are held.
#[test]
fn an_attempt_that_may_be_of_either_container_is_held_by_both() {
    let bound = |id, pid| LeaseRecord::Bound {
        attempt: "a".to_owned(),
        container: container(id),
        holder: holder(pid),
    };
    let (header, one) = frames(&[granted("a", &["one"]), bound("c1", 1)]);
    let (_, two) = frames(&[granted("a", &["one", "two"]), bound("c2", 2)]);
    let salvaged = salvage(&header, &[&one[..], &two[..]].concat()).1.expect("it is damaged");
    let told: Vec<_> =
        salvaged.grants.iter().map(|g| (&*g.attempt, g.container.as_str(), g.leases.len())).collect();
    assert_eq!(told, [("a", "c1", 2), ("a~2", "c2", 2)]);
    assert_eq!(
        salvaged.grants.iter().map(|g| g.holder.clone()).collect::<Vec<_>>(),
        [Some(holder(1)), Some(holder(2))]
    );
}

/// The createRuntime hook that is still to come looks for the attempt by its own name.
#[test]
fn an_attempt_that_may_be_pending_keeps_its_name() {
    let pending = || match granted("a", &["one"]) {
        LeaseRecord::Granted(grant) => LeaseRecord::Granted(Grant { holder: None, ..grant }),
        other => other,
    };
    let bound = LeaseRecord::Bound { attempt: "a".to_owned(), container: container("c1"), holder: holder(1) };
    let (header, one) = frames(&[pending(), bound]);
    let (_, two) = frames(&[pending(), granted("b", &["two"])]);
    let salvaged = salvage(&header, &[&one[..], &two[1..]].concat()).1.expect("it is damaged");
    assert_eq!(attempts(&salvaged), ["a", "a~2", "b"]);
    assert_eq!((&salvaged.grants[0].holder, &salvaged.grants[1].holder), (&None, &Some(holder(1))));
}

#[test]
fn old_frames_that_come_up_after_the_salvage_change_nothing() {
    let story = [granted("a", &["one"]), released("a"), granted("b", &["two"]), granted("c", &["three"])];
    let (header, frames) = frames(&story);
    let (disk, salvaged) = salvage(&header, &[&frames[..3], &frames[..1]].concat());
    let salvaged = salvaged.expect("it is damaged");
    let bytes = disk.live(&leases()).unwrap();
    disk.put(&leases(), [&bytes, &frames[0][..], &frames[3]].concat());
    open(&disk).rebuild(soon(), at(9), &salvaged, &salvaged.grants).unwrap().expect("needed");
    assert_eq!(held(&open(&disk).read().unwrap()).keys().collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn no_record_of_volumes_is_passed_over_because_a_later_one_stands_before_it() {
    let disk = Simulated::default();
    for name in ["v1", "v2", "v3"] {
        open(&disk).append_volumes(soon(), at(0), &[created(name)]).unwrap();
    }
    let bytes = disk.live("volumes").unwrap();
    let starts: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"VHF1")).collect();
    let third = &bytes[starts[2]..];
    disk.put("volumes", [&bytes[..starts[1]], third, &bytes[starts[1]..]].concat());
    let rebuilt = open(&disk).rebuild_volumes(soon(), at(9)).unwrap().expect("it is damaged");
    assert_eq!(rebuilt.kept, 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn in_whatever_order_and_however_often_frames_stand_there_the_table_is_the_same(
        (records, order) in proptest::collection::vec(any_lease_record(), 1..30).prop_flat_map(|records| {
            let places: Vec<_> = (0..records.len()).collect();
            let again = proptest::collection::vec(0..records.len(), 0..20);
            let order = again.prop_flat_map(move |again| Just([&places[..], &again].concat()).prop_shuffle());
            (Just(records), order)
        }),
    ) {
        let (header, frames) = frames(&records);
        let order: Vec<_> = order.into_iter().map(|place| frames[place].clone()).collect();
        match salvage(&header, &order) {
            (_, Some(salvaged)) => {
                let expected = oracle(&records);
                prop_assert_eq!(&salvaged.grants, &expected.values().cloned().collect::<Vec<_>>());
                prop_assert!(salvaged.released.iter().all(|attempt| !expected.contains_key(attempt)));
            }
            (disk, None) => prop_assert_eq!(held(&open(&disk).read().unwrap()), oracle(&records)),
        }
    }

    /// Two stories with the same sequence numbers: whichever of them is the true one, what it holds is held.
    #[test]
    fn frames_that_contradict_each_other_never_free_what_is_held(
        (records, others, order) in (1..20_usize).prop_flat_map(|count| {
            let story = || proptest::collection::vec(any_lease_record(), count);
            let places: Vec<_> = (0..count).collect();
            let false_ones = proptest::collection::vec(count..2 * count, 1..20);
            let order = false_ones.prop_flat_map(move |others| Just([&places[..], &others].concat()).prop_shuffle());
            (story(), story(), order)
        }),
    ) {
        let (header, real) = frames(&records);
        let all = [real, frames(&others).1].concat();
        let order: Vec<_> = order.into_iter().map(|place| all[place].clone()).collect();
        let expected = oracle(&records);
        let (disk, salvaged) = salvage(&header, &order);
        let (grants, gone) = match salvaged {
            Some(salvaged) => (salvaged.grants, salvaged.released),
            // What contradicts the story lies about nothing else, then.
            None => (held(&open(&disk).read().unwrap()).into_values().collect(), Default::default()),
        };
        prop_assert!(gone.iter().all(|attempt| !expected.contains_key(attempt)));
        for grant in expected.values() {
            for lease in &grant.leases {
                let keeps = |kept: &Grant| {
                    (kept.attempt == grant.attempt || kept.attempt.starts_with(&format!("{}~", grant.attempt)))
                        && kept.container == grant.container
                        && kept.holder == grant.holder
                        && kept.leases.contains(lease)
                };
                prop_assert!(grants.iter().any(keeps), "{:?} of {} is free", lease.volume, grant.attempt);
            }
        }
    }
}
