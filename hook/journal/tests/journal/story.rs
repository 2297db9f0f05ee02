//! The story: the same that one would tell who reads every byte of every file and sorts, without reading them at once.

use crate::counted::Counted;
use crate::damage::leases;
use crate::damage::open;
use crate::disk::Simulated;
use crate::records::BOOT;
use crate::records::any_lease_record;
use crate::records::at;
use crate::records::created;
use crate::records::granted;
use crate::records::note;
use crate::records::released;
use crate::records::soon;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;
use volhook_core::record::LeaseRecord;
use volhook_journal::Event;
use volhook_journal::EventRecord;
use volhook_journal::FileReport;
use volhook_journal::FileState;
use volhook_journal::Journal;
use volhook_journal::JournalError;
use volhook_journal::Story;

const VOLUMES: &str = "volumes";

fn boot(disk: &Simulated, number: usize) -> Journal {
    Journal::on(Box::new(disk.clone()), &format!("boot-{number}")).unwrap()
}

fn counted(counted: &Counted, boot: &str) -> Journal {
    Journal::on(Box::new(counted.clone()), boot).unwrap()
}

fn told(story: &mut Story<'_>) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = story.next().unwrap() {
        events.push(event);
    }
    assert_eq!(story.next().unwrap(), None, "it stays at its end");
    events
}

/// A whole frame, and where it stands.
#[derive(Clone)]
struct Frame {
    offset: usize,
    sequence: u64,
    time: i64,
    chain: u32,
    previous: u32,
    payload: Vec<u8>,
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn has_header(bytes: &[u8], at: usize) -> bool {
    bytes.len() >= at + 40
        && bytes[at..].starts_with(b"VHF1")
        && number(bytes, at + 36) == crc32c::crc32c(&bytes[at..at + 36])
        && number(bytes, at + 4) <= 64 << 10
}

fn frame_at(bytes: &[u8], at: usize) -> Option<Frame> {
    let end = has_header(bytes, at).then(|| at + 40 + number(bytes, at + 4) as usize)?;
    let payload = bytes.get(at + 40..end)?.to_vec();
    (number(bytes, at + 28) == crc32c::crc32c(&payload)).then(|| Frame {
        offset: at,
        sequence: long(bytes, at + 8),
        time: i64::from_le_bytes(long(bytes, at + 16).to_le_bytes()),
        previous: number(bytes, at + 32),
        chain: number(bytes, at + 36),
        payload,
    })
}

fn size(frame: &Frame) -> usize {
    40 + frame.payload.len()
}

/// All whole frames, wherever they stand.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut at = 32;
    while at < bytes.len() {
        match frame_at(bytes, at) {
            Some(frame) => {
                at += size(&frame);
                frames.push(frame);
            }
            None => at += 8,
        }
    }
    frames
}

fn has_file_header(bytes: &[u8], name: &str) -> bool {
    bytes.len() >= 32
        && bytes.starts_with(b"VOLHOOKJ")
        && number(bytes, 28) == crc32c::crc32c(&[&bytes[..28], name.as_bytes()].concat())
}

/// Whether it can be read which number the file begins with.
fn begins(bytes: &[u8], name: &str) -> bool {
    has_file_header(bytes, name) && has_header(bytes, 32) && number(bytes, 64) == number(bytes, 28)
}

/// What is told of a file that was called `name` first: what its chain leads to, and, unless it is `sound`, behind that what has
/// numbers greater than the chain has come to.
fn of_file(bytes: &[u8], name: &str, sound: bool) -> Vec<Frame> {
    if !has_file_header(bytes, name) {
        return if sound { Vec::new() } else { frames(bytes) };
    }
    let (mut at, mut chain) = (32, number(bytes, 28));
    let mut last = if begins(bytes, name) { long(bytes, 40) - 1 } else { 0 };
    let mut told = Vec::new();
    while let Some(frame) = frame_at(bytes, at)
        && frame.previous == chain
        && frame.sequence > last
    {
        (at, chain, last) = (at + size(&frame), frame.chain, frame.sequence);
        told.push(frame);
    }
    if !sound {
        let behind = frames(&bytes[at..].iter().rev().chain(&[0; 32]).rev().copied().collect::<Vec<_>>());
        let behind = behind.into_iter().filter(|frame| frame.sequence > last);
        told.extend(behind.map(|frame| Frame { offset: frame.offset + at - 32, ..frame }));
    }
    told
}

fn event(boot: Option<&str>, frame: &Frame) -> Option<Event> {
    let record = if boot.is_some() {
        EventRecord::Lease(serde_json::from_slice(&frame.payload).ok()?)
    } else {
        EventRecord::Volume(serde_json::from_slice(&frame.payload).ok()?)
    };
    let time = Timestamp::from_microsecond(frame.time).unwrap();
    Some(Event { boot: boot.map(str::to_owned), seq: frame.sequence, time, record })
}

/// What is to be told, by reading everything and sorting it. `damaged` are the files to which others may append and that are
/// not sound.
fn oracle(disk: &Simulated, this: &str, damaged: &[String]) -> Vec<Event> {
    let mut all = Vec::new();
    let live = [this, VOLUMES];
    let mut names: Vec<_> = disk.names_now().into_iter().filter(|name| !live.contains(&&**name)).collect();
    names.sort();
    for (rank, name) in live.map(str::to_owned).into_iter().chain(names).enumerate() {
        let (first, copy) = name.split_once(".damaged-").unwrap_or((&name, "0"));
        let boot = first.strip_prefix("leases-").filter(|boot| !boot.contains('.'));
        if !(boot.is_some() || first == VOLUMES) || copy.contains('.') {
            continue;
        }
        let sound = live.contains(&&*name) && !damaged.contains(&name);
        let bytes = disk.live(&name).unwrap_or_default();
        let frames = of_file(&bytes, first, sound);
        let begun = if begins(&bytes, first) {
            long(&bytes, 40)
        } else {
            frames.iter().map(|frame| frame.sequence).min().unwrap_or(0)
        };
        for frame in frames {
            let place = (frame.sequence, begun, rank, frame.offset);
            all.extend(event(boot, &frame).map(|event| (place, event)));
        }
    }
    all.sort_by_key(|(place, _)| *place);
    let mut events: Vec<Event> = Vec::new();
    for (_, event) in all {
        if !events.iter().rev().take_while(|there| there.seq == event.seq).any(|there| *there == event) {
            events.push(event);
        }
    }
    events
}

/// What happens to files.
#[derive(Debug, Clone)]
enum Mishap {
    Flip {
        place: Index,
        bit: u8,
    },
    Zeros {
        from: Index,
        length: usize,
    },
    Cut {
        to: Index,
    },
    /// A piece stands in another place.
    Moved {
        from: Index,
        to: Index,
        length: usize,
    },
    /// A piece of another file stands there.
    Foreign {
        file: Index,
        from: Index,
        to: Index,
        length: usize,
    },
    /// What is readable stands there once more.
    Again,
}

fn any_mishap() -> impl Strategy<Value = Mishap> {
    let index = any::<Index>;
    prop_oneof![
        3 => (index(), 0..8u8).prop_map(|(place, bit)| Mishap::Flip { place, bit }),
        1 => (index(), 0..3000usize).prop_map(|(from, length)| Mishap::Zeros { from, length }),
        1 => index().prop_map(|to| Mishap::Cut { to }),
        2 => (index(), index(), 1..3000usize)
            .prop_map(|(from, to, length)| Mishap::Moved { from, to, length }),
        2 => (index(), index(), index(), 1..3000usize)
            .prop_map(|(file, from, to, length)| Mishap::Foreign { file, from, to, length }),
        1 => Just(Mishap::Again),
    ]
}

fn happen(disk: &Simulated, name: &str, mishap: &Mishap) {
    let mut bytes = disk.live(name).unwrap();
    if bytes.is_empty() {
        return;
    }
    let word = |index: &Index, bytes: &[u8]| index.index(bytes.len()) / 8 * 8;
    let piece = |bytes: &[u8], from: usize, length: usize| {
        bytes[from..bytes.len().min(from + length / 8 * 8)].to_vec()
    };
    let put = |bytes: &mut Vec<u8>, piece: Vec<u8>, to: usize| {
        let end = bytes.len().min(to + piece.len());
        bytes.splice(to..end, piece);
    };
    match mishap {
        Mishap::Flip { place, bit } => {
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
        }
        Mishap::Zeros { from, length } => {
            let from = word(from, &bytes);
            put(&mut bytes, vec![0; length / 8 * 8], from);
        }
        Mishap::Cut { to } => bytes.truncate(to.index(bytes.len())),
        Mishap::Moved { from, to, length } => {
            let (from, to) = (word(from, &bytes), word(to, &bytes));
            let piece = piece(&bytes, from, *length);
            put(&mut bytes, piece, to);
        }
        Mishap::Foreign { file, from, to, length } => {
            let names = disk.names_now();
            let other = disk.live(&names[file.index(names.len())]).unwrap();
            if !other.is_empty() {
                let (from, to) = (word(from, &other), word(to, &bytes));
                put(&mut bytes, piece(&other, from, *length), to);
            }
        }
        Mishap::Again => {
            let frames: Vec<u8> = bytes.get(32..).unwrap_or_default().to_vec();
            bytes.extend(frames);
        }
    }
    disk.put(name, bytes);
}

/// What one boot does: records of leases, or the name of a volume; and what happens to which file, perhaps after a copy of it was
/// made, and whether damage is mended.
#[derive(Debug, Clone)]
enum Step {
    Leases(Vec<LeaseRecord>),
    Volume(u8),
    Mishap { file: Index, copy: Option<u8>, mishap: Mishap },
    Mend,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(any_lease_record(), 1..4).prop_map(Step::Leases),
        3 => (0..9u8).prop_map(Step::Volume),
        2 => (any::<Index>(), proptest::option::of(0..3u8), any_mishap())
            .prop_map(|(file, copy, mishap)| Step::Mishap { file, copy, mishap }),
        1 => Just(Step::Mend),
    ]
}

fn live_out(disk: &Simulated, boots: &[Vec<Step>]) {
    for (number, steps) in boots.iter().enumerate() {
        let counted = Counted::new(disk);
        let journal = || self::counted(&counted, &format!("boot-{number}"));
        for (second, step) in (0..).zip(steps) {
            match step {
                // What cannot be written to a damaged file is not.
                Step::Leases(records) => {
                    let _ = journal().lock(soon()).and_then(|mut locked| locked.append(at(second), records));
                }
                Step::Volume(name) => {
                    let _ = journal().append_volumes(soon(), at(second), &[created(&format!("v{name}"))]);
                }
                Step::Mishap { file, copy, mishap } => {
                    let names = disk.names_now();
                    let names: Vec<_> = names.into_iter().filter(|name| !name.ends_with(".index")).collect();
                    if names.is_empty() {
                        continue;
                    }
                    let mut name = names[file.index(names.len())].clone();
                    if let (Some(copy), false) = (copy, name.contains(".damaged-")) {
                        let bytes = disk.live(&name).unwrap();
                        name = format!("{name}.damaged-{copy}");
                        disk.put(&name, bytes);
                    }
                    happen(disk, &name, mishap);
                }
                Step::Mend => {
                    if let Ok(Some(damage)) = journal().salvage() {
                        journal().rebuild(soon(), at(second), &damage, &damage.grants).unwrap();
                    }
                    let _ = journal().rebuild_volumes(soon(), at(second));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Several boots, with damage of all kinds, copies, and files that were mended.
    #[test]
    fn the_story_is_that_of_who_reads_everything_and_sorts(
        boots in proptest::collection::vec(proptest::collection::vec(any_step(), 0..14), 1..5),
    ) {
        let disk = Simulated::default();
        live_out(&disk, &boots);
        let this = format!("leases-boot-{}", boots.len() - 1);
        let journal = counted(&Counted::new(&disk), &this["leases-".len()..]);
        let report = journal.check().unwrap();
        // What is gone from a file's end is missed by who has noted where it was, and by nobody else.
        let is_there = |name: &str| {
            disk.live(name).is_some_and(|bytes| bytes.len() >= 32 && bytes.iter().any(|byte| *byte != 0))
        };
        let damaged: Vec<String> = report
            .files
            .iter()
            .filter(|file| [&*this, VOLUMES].contains(&&*file.name) && is_there(&file.name))
            .filter(|file| match &file.state {
                FileState::Damaged { reason, .. } => !reason.contains("once went further"),
                _ => false,
            })
            .map(|file| file.name.clone())
            .collect();
        let mut story = journal.story().unwrap();
        let events = told(&mut story);
        prop_assert_eq!(&events, &oracle(&disk, &this, &damaged));
        let mut named: Vec<String> = Vec::new();
        for error in story.damage() {
            match error {
                JournalError::Damaged { file, .. } => {
                    named.push(file.file_name().unwrap().to_str().unwrap().to_owned());
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        // Of a file of which nothing is left there is nothing to tell, but that its index knows it.
        let is_gone = |file: &&FileReport| {
            *file.name == *this && !is_there(&this) && matches!(file.state, FileState::Damaged { .. })
        };
        let mut expected = damaged;
        expected.extend(report.files.iter().find(is_gone).map(|file| file.name.clone()));
        named.sort();
        expected.sort();
        prop_assert_eq!(named, expected, "each is told of once");
        prop_assert!(events.windows(2).all(|pair| pair[0].seq <= pair[1].seq));
    }

    /// Wherever it is followed from.
    #[test]
    fn who_follows_misses_nothing_and_sees_nothing_twice(
        steps in proptest::collection::vec((proptest::bool::ANY, 0..3usize), 0..20),
        from in any::<Index>(),
    ) {
        let disk = Simulated::default();
        boot(&disk, 0).append_volumes(soon(), at(0), &[created("v0")]).unwrap();
        boot(&disk, 0).lock(soon()).unwrap().append(at(0), &[granted("a", &["one"])]).unwrap();
        let journal = open(&disk);
        let from = from.index(steps.len() + 1);
        let mut events = Vec::new();
        let mut follow = None;
        for (number, (volume, count)) in steps.iter().enumerate() {
            if number == from {
                let mut story = journal.story().unwrap().to_be_followed();
                events.extend(told(&mut story));
                follow = Some(story.follow());
            }
            match volume {
                true => journal.append_volumes(soon(), at(1), &vec![created("v"); *count]).unwrap(),
                false => {
                    journal.lock(soon()).unwrap().append(at(1), &vec![released("a"); *count]).unwrap();
                }
            }
            if let Some(follow) = &mut follow {
                events.extend(follow.poll().unwrap());
            }
        }
        if follow.is_some() {
            prop_assert_eq!(events, journal.events().unwrap());
        }
    }
}

/// Numbers are taken in the file of leases before the file of volumes has them.
#[test]
fn what_comes_while_the_story_begins_is_left_to_who_follows() {
    let disk = Simulated::default();
    open(&disk).append_volumes(soon(), at(0), &[created("v1")]).unwrap();
    let counted = Counted::new(&disk);
    let journal = self::counted(&counted, BOOT);
    let meanwhile = disk.clone();
    counted.before_opening(VOLUMES, move || {
        open(&meanwhile).append_volumes(soon(), at(1), &[created("v2")]).unwrap();
        open(&meanwhile).lock(soon()).unwrap().append(at(2), &[granted("a", &["v2"])]).unwrap();
    });
    let mut story = journal.story().unwrap().to_be_followed();
    let mut events = told(&mut story);
    assert_eq!(events.len(), 1, "{events:#?}");
    let mut follow = story.follow();
    events.extend(follow.poll().unwrap());
    assert_eq!(events, journal.events().unwrap());
    assert_eq!(events.len(), 3);
    assert_eq!(follow.poll().unwrap(), []);
}

#[test]
fn who_was_away_for_long_gets_it_in_pieces() {
    let disk = Simulated::default();
    let journal = open(&disk);
    let mut follow = journal.follow(0);
    let records = vec![released("a"); 2500];
    journal.lock(soon()).unwrap().append(at(0), &records).unwrap();
    journal.append_volumes(soon(), at(1), &[created("v")]).unwrap();
    let pieces: Vec<Vec<Event>> =
        std::iter::repeat_with(|| follow.poll().unwrap()).take_while(|piece| !piece.is_empty()).collect();
    assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 1000, 501]);
    assert_eq!(pieces.concat(), journal.events().unwrap());
}

/// A hundred boots: the files of no two are open at once, and nearly nothing of them is read before the first event.
#[test]
fn files_are_opened_when_the_story_comes_to_them() {
    const BOOTS: usize = 100;
    let disk = Simulated::default();
    for number in 0..BOOTS {
        let journal = boot(&disk, number);
        journal
            .lock(soon())
            .unwrap()
            .append(at(0), &[granted("a", &["one"]), note(&"x".repeat(20_000))])
            .unwrap();
    }
    boot(&disk, BOOTS - 1).append_volumes(soon(), at(1), &[created("v")]).unwrap();
    let counted = Counted::new(&disk);
    let journal = self::counted(&counted, &format!("boot-{}", BOOTS - 1));
    let mut story = journal.story().unwrap();
    let begun = counted.counts();
    assert!(begun.read < 72 * BOOTS as u64 + (64 << 10), "{begun:?}");
    assert_eq!(story.next().unwrap().map(|event| event.seq), Some(1));
    let first = counted.counts();
    assert!(first.read < begun.read + (64 << 10), "{first:?}");
    assert_eq!(told(&mut story).len(), 2 * BOOTS);
    let all = counted.counts();
    assert_eq!(all.most_open, 3, "this boot's file, that of volumes, and one of history");
    assert_eq!(all.open, 0);
    let bytes: usize = disk.names_now().iter().map(|name| disk.live(name).unwrap().len()).sum();
    assert!(all.read < 2 * bytes as u64, "{all:?}");
}

/// However long a file is, and whatever is wrong with it.
#[test]
fn a_long_file_is_told_in_pieces() {
    let disk = Simulated::default();
    let long = note(&"x".repeat(60_000));
    for _ in 0..50 {
        open(&disk).lock(soon()).unwrap().append(at(0), std::slice::from_ref(&long)).unwrap();
    }
    let whole = disk.live(&leases()).unwrap();
    let counts = |bytes: Vec<u8>| {
        disk.put(&leases(), bytes);
        let counted = Counted::new(&disk);
        let journal = self::counted(&counted, BOOT);
        let mut story = journal.story().unwrap();
        let told = told(&mut story).len();
        (told, counted.counts())
    };
    let (told, sound) = counts(whole.clone());
    assert_eq!(told, 50);
    let mut bytes = whole.clone();
    bytes[60] ^= 1;
    let (told, damaged) = counts(bytes);
    assert_eq!(told, 49);
    for counts in [sound, damaged] {
        assert!(counts.largest_read <= 128 << 10, "{counts:?}");
        assert!(counts.read <= 10 * whole.len() as u64, "{counts:?}");
    }
}

/// A block as it was before stands in a file whose chain has proved what is in its place.
#[test]
fn what_the_chain_has_proved_is_not_contradicted() {
    let disk = Simulated::default();
    for record in [granted("a", &["one"]), released("a"), granted("b", &["two"])] {
        open(&disk).lock(soon()).unwrap().append(at(0), &[record]).unwrap();
    }
    let events = open(&disk).events().unwrap();
    let other = Simulated::default();
    for attempt in ["x", "y", "z", "later"] {
        open(&other).lock(soon()).unwrap().append(at(0), &[granted(attempt, &["one"])]).unwrap();
    }
    let foreign = other.live(&leases()).unwrap();
    disk.put(&leases(), [disk.live(&leases()).unwrap(), foreign[32..].to_vec()].concat());
    let journal = open(&disk);
    let mut story = journal.story().unwrap();
    let told = told(&mut story);
    assert_eq!(told[..3], events);
    assert_eq!(told[3..], open(&other).events().unwrap()[3..]);
    assert_eq!(story.damage().len(), 1);
}
