//! Places in the story: whoever kept one goes on exactly behind it, or is told that it is gone.

use crate::counted::Counted;
use crate::disk::Simulated;
use crate::records::at;
use crate::records::created;
use crate::records::granted;
use crate::records::note;
use crate::records::released;
use crate::records::soon;
use proptest::prelude::*;
use volhook_core::cursor::Cursor;
use volhook_journal::Event;
use volhook_journal::Journal;
use volhook_journal::JournalError;

fn boot(disk: &Simulated, number: usize) -> Journal {
    Journal::on(Box::new(disk.clone()), &format!("boot-{number}")).unwrap()
}

fn cursor(event: &Event) -> Cursor {
    Cursor { boot: event.boot.clone(), seq: event.seq }
}

fn since(journal: &Journal, cursor: &Cursor) -> Result<Vec<Event>, JournalError> {
    let mut story = journal.story_since(cursor)?;
    let mut events = Vec::new();
    while let Some(event) = story.next()? {
        events.push(event);
    }
    Ok(events)
}

/// That it is gone, and whether its boot is known.
fn gone(journal: &Journal, cursor: &Cursor) -> Option<bool> {
    match since(journal, cursor) {
        Err(JournalError::Gone { cursor: named, boot_is_known }) if named == *cursor => Some(boot_is_known),
        _ => None,
    }
}

/// What each boot writes: of leases, or of volumes; and how many bytes of the end of its leases are lost.
fn any_boots() -> impl Strategy<Value = Vec<(Vec<bool>, usize)>> {
    let lost = prop_oneof![Just(0), 0..900usize];
    proptest::collection::vec((proptest::collection::vec(proptest::bool::ANY, 0..6), lost), 1..6)
}

fn live_out(disk: &Simulated, boots: &[(Vec<bool>, usize)]) {
    for (number, (steps, lost)) in boots.iter().enumerate() {
        let journal = boot(disk, number);
        for (second, volume) in (0..).zip(steps) {
            if *volume {
                journal.append_volumes(soon(), at(second), &[created("v")]).unwrap();
            } else {
                let text = format!("{second} of {number}");
                journal.lock(soon()).unwrap().append(at(second), &[released("a"), note(&text)]).unwrap();
            }
        }
        let name = format!("leases-boot-{number}");
        if let (Some(mut bytes), true) = (disk.live(&name), number + 1 < boots.len()) {
            bytes.truncate(bytes.len().saturating_sub(*lost));
            disk.put(&name, bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whoever_kept_a_place_goes_on_behind_it(boots in any_boots()) {
        let disk = Simulated::default();
        live_out(&disk, &boots);
        let journal = boot(&disk, boots.len() - 1);
        let events = journal.events().unwrap();
        for (place, event) in events.iter().enumerate() {
            prop_assert_eq!(&since(&journal, &cursor(event)).unwrap(), &events[place + 1..]);
        }
        // Every other number is no event of any boot.
        let last = events.last().map_or(0, |event| event.seq);
        for boot in (0..boots.len()).map(|number| Some(format!("boot-{number}"))).chain([None]) {
            for seq in 0..last + 2 {
                let cursor = Cursor { boot: boot.clone(), seq };
                let is_there = events.iter().any(|event| self::cursor(event) == cursor);
                prop_assert_eq!(is_there, gone(&journal, &cursor).is_none(), "{}", cursor);
            }
        }
    }

    #[test]
    fn whoever_follows_from_a_place_misses_nothing_and_sees_nothing_twice(
        boots in any_boots(),
        from in any::<proptest::sample::Index>(),
        more in proptest::collection::vec(proptest::bool::ANY, 0..5),
    ) {
        let disk = Simulated::default();
        live_out(&disk, &boots);
        let last = boots.len() - 1;
        let journal = boot(&disk, last);
        let events = journal.events().unwrap();
        prop_assume!(!events.is_empty());
        let from = from.index(events.len());
        let mut story = journal.story_since(&cursor(&events[from])).unwrap().to_be_followed();
        let mut seen = Vec::new();
        while let Some(event) = story.next().unwrap() {
            seen.push(event);
        }
        let mut follow = story.follow();
        for volume in more {
            if volume {
                journal.append_volumes(soon(), at(9), &[created("w")]).unwrap();
            } else {
                journal.lock(soon()).unwrap().append(at(9), &[granted("b", &["w"])]).unwrap();
            }
            seen.extend(follow.poll().unwrap());
        }
        prop_assert_eq!(&seen, &journal.events().unwrap()[from + 1..]);
    }
}

/// What the one saw is lost with the power, and the next boot gives its number to something else.
#[test]
fn a_number_that_came_again_is_another_place() {
    let disk = Simulated::default();
    let (first, second) = (boot(&disk, 1), boot(&disk, 2));
    first.lock(soon()).unwrap().append(at(0), &[granted("a", &["one"])]).unwrap();
    let kept = disk.live("leases-boot-1").unwrap();
    first.lock(soon()).unwrap().append(at(1), &[released("a")]).unwrap();
    let seen = first.events().unwrap();
    disk.put("leases-boot-1", kept);
    second.lock(soon()).unwrap().append(at(2), &[granted("b", &["one"])]).unwrap();
    let events = second.events().unwrap();
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(seen[1].seq, 2);
    assert_eq!(gone(&second, &cursor(&seen[1])), Some(true), "its boot is known, it is not");
    assert_eq!(since(&second, &cursor(&events[1])).unwrap(), []);
    assert_eq!(since(&second, &cursor(&seen[0])).unwrap(), events[1..]);
    disk.remove_now("leases-boot-1");
    assert_eq!(gone(&second, &cursor(&seen[0])), Some(false), "nothing is left of its boot");
    assert_eq!(gone(&second, &Cursor { boot: None, seq: 1 }), Some(false));
    assert_eq!(
        since(&second, &cursor(&seen[0])).unwrap_err().to_string(),
        "the journal has no event boot-1:1"
    );
}

/// The end of a boot's file could not be read when the next boot began, and can be read now.
#[test]
fn of_two_events_with_one_number_the_earlier_boots_comes_first() {
    let disk = Simulated::default();
    // By name, the later boot's file would be first.
    let (first, second) = (boot(&disk, 2), boot(&disk, 1));
    first.lock(soon()).unwrap().append(at(0), &[granted("a", &["one"])]).unwrap();
    let cut = disk.live("leases-boot-2").unwrap();
    first.lock(soon()).unwrap().append(at(1), &[released("a"), note("and more")]).unwrap();
    let whole = disk.live("leases-boot-2").unwrap();
    disk.put("leases-boot-2", cut);
    second.lock(soon()).unwrap().append(at(2), &[granted("b", &["one"])]).unwrap();
    disk.put("leases-boot-2", whole);
    for journal in [&second, &boot(&disk, 3)] {
        let events = journal.events().unwrap();
        let places: Vec<_> = events.iter().map(|event| cursor(event).to_string()).collect();
        assert_eq!(places, ["boot-2:1", "boot-2:2", "boot-1:2", "boot-2:3"]);
        for (place, event) in events.iter().enumerate() {
            assert_eq!(since(journal, &cursor(event)).unwrap(), events[place + 1..]);
        }
    }
}

#[test]
fn what_ends_before_a_place_is_not_read() {
    const BOOTS: usize = 50;
    let disk = Simulated::default();
    for number in 0..BOOTS {
        let long = note(&"x".repeat(60_000));
        boot(&disk, number).lock(soon()).unwrap().append(at(0), &[long, released("a")]).unwrap();
    }
    let last = boot(&disk, BOOTS - 1).events().unwrap();
    let counted = Counted::new(&disk);
    let journal = Journal::on(Box::new(counted.clone()), &format!("boot-{}", BOOTS - 1)).unwrap();
    let place = &last[last.len() - 4];
    assert_eq!(since(&journal, &cursor(place)).unwrap(), last[last.len() - 3..]);
    let counts = counted.counts();
    assert!(counts.read < (9 << 10) * BOOTS as u64 + (200 << 10), "{counts:?}");
}
