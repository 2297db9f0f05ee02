//! The table is the fold of the records, however it was come by; events tell all of them in order.

use crate::disk::Simulated;
use crate::records::BOOT;
use crate::records::any_lease_record;
use crate::records::at;
use crate::records::created;
use crate::records::granted;
use crate::records::released;
use crate::records::soon;
use proptest::prelude::*;
use std::collections::BTreeMap;
use volhook_core::lease::Grant;
use volhook_core::lease::LeaseTable;
use volhook_core::record::LeaseRecord;
use volhook_journal::Event;
use volhook_journal::EventRecord;
use volhook_journal::Journal;

/// The table in another way than the code's: for each attempt, look at what was said about it last.
pub(crate) fn oracle(records: &[LeaseRecord]) -> BTreeMap<String, Grant> {
    let mut held = BTreeMap::new();
    for (place, record) in records.iter().enumerate() {
        let LeaseRecord::Granted(grant) = record else { continue };
        let later = &records[place + 1..];
        let ended = later.iter().any(|r| match r {
            LeaseRecord::Released { attempt, .. } => *attempt == grant.attempt,
            LeaseRecord::Granted(next) => next.attempt == grant.attempt,
            _ => false,
        });
        if ended {
            continue;
        }
        let mut grant = grant.clone();
        for record in later {
            if let LeaseRecord::Bound { attempt, container, holder } = record
                && *attempt == grant.attempt
            {
                grant.container = container.clone();
                grant.holder = Some(holder.clone());
            }
        }
        held.insert(grant.attempt.clone(), grant);
    }
    held
}

pub(crate) fn held(table: &LeaseTable) -> BTreeMap<String, Grant> {
    table.grants().map(|grant| (grant.attempt.clone(), grant.clone())).collect()
}

fn lease_events(events: Vec<Event>) -> Vec<LeaseRecord> {
    events
        .into_iter()
        .filter_map(|event| match event.record {
            EventRecord::Lease(record) => Some(record),
            EventRecord::Volume(_) => None,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_table_is_the_fold_and_the_codec_keeps_every_record(
        appends in proptest::collection::vec(proptest::collection::vec(any_lease_record(), 0..6), 0..40),
    ) {
        let disk = Simulated::default();
        let one_handle = Journal::on(Box::new(disk.clone()), BOOT).unwrap();
        let mut all = Vec::new();
        for (place, records) in appends.iter().enumerate() {
            // Every other append comes from a process that knows nothing yet.
            let fresh = Journal::on(Box::new(disk.clone()), BOOT).unwrap();
            let journal = if place % 2 == 0 { &one_handle } else { &fresh };
            let mut locked = journal.lock(soon()).unwrap();
            prop_assert_eq!(held(&locked.table().unwrap()), oracle(&all));
            locked.append(at(0), records).unwrap();
            all.extend(records.iter().cloned());
            prop_assert_eq!(held(&locked.table().unwrap()), oracle(&all));
        }
        prop_assert_eq!(held(&one_handle.read().unwrap()), oracle(&all));
        prop_assert_eq!(lease_events(one_handle.events().unwrap()), all);
    }
}

#[test]
fn events_of_both_files_and_of_all_boots_are_one_story_whatever_the_clock_says() {
    let disk = Simulated::default();
    let first = Journal::on(Box::new(disk.clone()), BOOT).unwrap();
    let mut follow = first.follow(0);
    assert_eq!(follow.poll().unwrap(), []);
    first.append_volumes(soon(), at(50), &[created("v1"), created("v2")]).unwrap();
    first.lock(soon()).unwrap().append(at(40), &[granted("a", &["v1"])]).unwrap();
    let seen = follow.poll().unwrap();
    assert_eq!(seen.len(), 3);
    assert_eq!(follow.poll().unwrap(), []);
    first.append_volumes(soon(), at(30), &[created("v3")]).unwrap();
    first.lock(soon()).unwrap().append(at(20), &[released("a")]).unwrap();
    let more = follow.poll().unwrap();
    let second = Journal::on(Box::new(disk), crate::records::NEXT_BOOT).unwrap();
    second.lock(soon()).unwrap().append(at(10), &[granted("b", &["v1"])]).unwrap();

    let story: Vec<_> = second.events().unwrap();
    let expected = [
        EventRecord::Volume(created("v1")),
        EventRecord::Volume(created("v2")),
        EventRecord::Lease(granted("a", &["v1"])),
        EventRecord::Volume(created("v3")),
        EventRecord::Lease(released("a")),
        EventRecord::Lease(granted("b", &["v1"])),
    ];
    assert_eq!(story.iter().map(|event| event.record.clone()).collect::<Vec<_>>(), expected);
    assert!(story.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert_eq!(story[2].time, at(40));
    assert_eq!([seen, more].concat(), story[..5]);
    assert_eq!(second.follow(story[4].seq).poll().unwrap(), story[5..]);
    assert_eq!(held(&second.read().unwrap()).keys().collect::<Vec<_>>(), ["b"]);
}
