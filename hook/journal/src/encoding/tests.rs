//! Records come out of their bytes as they went in, and nothing else comes out of other bytes.

use super::Kind;
use super::LEASE_KINDS;
use super::Unreadable;
use super::VOLUME_KINDS;
use super::decode_lease;
use super::decode_totals;
use super::decode_volume;
use super::encode_lease;
use super::encode_totals;
use super::encode_volume;
use super::generated::lease_record;
use super::generated::one_grant;
use super::generated::one_of_each_lease_record;
use super::generated::one_of_each_volume_record;
use super::generated::one_totals;
use super::generated::totals;
use super::generated::volume_record;
use minicbor::Decoder;
use minicbor::Encoder;
use minicbor::data::Type;
use proptest::prelude::*;
use proptest::sample::Index;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fmt::Write as _;
use volhook_core::record::LeaseRecord;
use volhook_core::record::RefusalKind;
use volhook_core::record::Step;

const GOLDEN: &str = include_str!("golden.hex");

/// What the JSON form makes of a record.
fn by_json<T: Serialize + DeserializeOwned>(record: &T) -> T {
    serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap()
}

/// All kinds of both files.
fn kinds() -> impl Iterator<Item = (Kind, &'static str)> {
    LEASE_KINDS.iter().chain(VOLUME_KINDS).copied()
}

/// A record of either file from a kind and a payload, as JSON.
fn decode(kind: Kind, payload: &[u8]) -> Result<Option<String>, Unreadable> {
    fn sound<T: Serialize + DeserializeOwned + PartialEq + Debug>(record: T) -> String {
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(by_json(&record), record, "the JSON reader takes it as well");
        text
    }
    if kind.number() < 64 {
        Ok(decode_lease(kind, payload)?.map(sound))
    } else {
        Ok(decode_volume(kind, payload)?.map(sound))
    }
}

/// The content of a payload, and a payload of some content.
fn unwrapped(payload: &[u8]) -> Vec<u8> {
    let mut content = vec![0; payload.len()];
    let length = cobs::decode(payload, &mut content).unwrap();
    content.truncate(length);
    content
}

fn wrapped(content: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; cobs::max_encoding_length(content.len())];
    let length = cobs::encode(content, &mut payload);
    payload.truncate(length);
    payload
}

/// One payload of each kind.
fn one_of_each() -> Vec<(Kind, Vec<u8>)> {
    let leases = one_of_each_lease_record().iter().map(encode_lease).collect::<Vec<_>>();
    leases.into_iter().chain(one_of_each_volume_record().iter().map(encode_volume)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn the_bytes_are_for_ever() {
    let written: String = one_of_each()
        .iter()
        .map(|(kind, payload)| format!("{:04x} {}\n", kind.bits(), hex(payload)))
        .chain([format!("totals {}\n", hex(&encode_totals(&one_totals())))])
        .collect();
    assert_eq!(written, GOLDEN, "written now:\n{written}");
}

#[test]
fn the_bytes_are_read_as_they_were() {
    let records = one_of_each_lease_record()
        .iter()
        .map(|record| serde_json::to_string(record).unwrap())
        .collect::<Vec<_>>();
    let volumes =
        one_of_each_volume_record().iter().map(|record| serde_json::to_string(record).unwrap()).collect();
    let written = [records, volumes].concat();
    let unhex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let mut lines: Vec<(&str, Vec<u8>)> = GOLDEN
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(kind, bytes)| (kind, unhex(bytes)))
        .collect();
    let (_, counters) = lines.pop().unwrap();
    assert_eq!(decode_totals(&counters), Ok(one_totals()));
    let kind = |bits| Kind::from_bits(u16::from_str_radix(bits, 16).unwrap());
    let read: Vec<String> =
        lines.iter().map(|(bits, payload)| decode(kind(bits), payload).unwrap().unwrap()).collect();
    assert_eq!(read, written);
}

/// A fixed record is of every kind, so that its bytes are looked at.
#[test]
fn there_is_one_of_each() {
    let kinds: Vec<u16> = kinds().map(|(kind, _)| kind.bits()).collect();
    assert_eq!(one_of_each().iter().map(|(kind, _)| kind.bits()).collect::<Vec<_>>(), kinds);
    let numbers: BTreeSet<u16> = kinds.iter().map(|bits| Kind::from_bits(*bits).number()).collect();
    assert_eq!(numbers.len(), kinds.len(), "no number is given twice");
}

#[test]
fn the_documented_table_has_the_kinds() {
    let rows = include_str!("../encoding.rs").lines().filter_map(|line| line.strip_prefix("//! | "));
    let documented: String = rows.skip(1).map(|row| format!("{row}\n")).collect();
    let known: String = kinds()
        .map(|(kind, name)| {
            let otherwise = if kind.may_be_skipped() { "passes it over" } else { "refuses the file" };
            format!("{} | {} | {otherwise} |\n", kind.number(), name.to_lowercase())
        })
        .collect();
    assert_eq!(documented, known);
}

/// What says who holds what is never passed over.
#[test]
fn nothing_is_passed_over_that_changes_who_holds_what() {
    for record in one_of_each_lease_record() {
        let (kind, _) = encode_lease(&record);
        let matters = record.change().is_some() || matches!(record, LeaseRecord::Broken { .. });
        assert_eq!(kind.may_be_skipped(), !matters, "{record:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_record_of_leases_comes_out_as_by_json(record in lease_record()) {
        let (kind, payload) = encode_lease(&record);
        prop_assert!(!payload.contains(&0));
        let read = decode_lease(kind, &payload).unwrap().unwrap();
        prop_assert_eq!(&read, &by_json(&record));
        prop_assert_eq!(&read, &record);
    }

    #[test]
    fn a_record_of_volumes_comes_out_as_by_json(record in volume_record()) {
        let (kind, payload) = encode_volume(&record);
        prop_assert!(!payload.contains(&0));
        let read = decode_volume(kind, &payload).unwrap().unwrap();
        prop_assert_eq!(&read, &by_json(&record));
        prop_assert_eq!(&read, &record);
    }

    #[test]
    fn any_bytes_are_a_record_that_json_would_take_or_none(
        kind in prop::sample::select(kinds().map(|(kind, _)| kind.bits()).collect::<Vec<_>>()),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let kind = Kind::from_bits(kind);
        let _ = decode(kind, &bytes);
        let _ = decode(kind, &wrapped(&bytes));
    }

    /// Some bytes of a payload are others, or of what is in it, or it is shorter or longer.
    #[test]
    fn a_changed_record_is_one_that_json_would_take_or_none(
        record in lease_record(),
        inside in any::<bool>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<Index>()),
    ) {
        let (kind, payload) = encode_lease(&record);
        let mut bytes = if inside { unwrapped(&payload) } else { payload };
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let payload = if inside { wrapped(&bytes) } else { bytes };
        let _ = decode(kind, &payload);
    }

    #[test]
    fn counters_come_out_as_by_json(counters in totals()) {
        let payload = encode_totals(&counters);
        prop_assert!(!payload.contains(&0));
        let read = decode_totals(&payload).unwrap();
        prop_assert_eq!(&read, &by_json(&counters));
        prop_assert_eq!(&read, &counters);
    }

    #[test]
    fn any_bytes_are_counters_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_totals(&bytes);
        let _ = decode_totals(&wrapped(&bytes));
    }

    /// What is cut off, or stands behind the end, is missed or noticed.
    #[test]
    fn a_record_is_whole_and_nothing_stands_behind_it(
        record in lease_record(),
        cut in any::<Index>(),
        more in prop::collection::vec(any::<u8>(), 1..9),
    ) {
        let (kind, payload) = encode_lease(&record);
        let content = unwrapped(&payload);
        let mut short = content.clone();
        short.truncate(cut.index(content.len()));
        prop_assert!(decode_lease(kind, &wrapped(&short)).is_err());
        let long = [content, more].concat();
        let error = decode_lease(kind, &wrapped(&long)).unwrap_err().to_string();
        prop_assert!(error.contains("stand behind its end"), "{}", error);
    }
}

/// `content`, a map, with another entry behind its own, and in each of the maps that are its entries' values.
fn with_more(content: &[u8]) -> Vec<u8> {
    fn copy(from: &mut Decoder<'_>, out: &mut Encoder<Vec<u8>>) {
        match from.datatype().unwrap() {
            Type::Map => {
                let entries = from.map().unwrap().unwrap();
                out.map(entries + 1).unwrap();
                for _ in 0..entries {
                    out.u64(from.u64().unwrap()).unwrap();
                    copy(from, out);
                }
                out.u64(1000)
                    .unwrap()
                    .array(2)
                    .unwrap()
                    .str("later")
                    .unwrap()
                    .begin_map()
                    .unwrap()
                    .end()
                    .unwrap();
            }
            Type::Array => {
                let elements = from.array().unwrap().unwrap();
                out.array(elements).unwrap();
                (0..elements).for_each(|_| copy(from, out));
            }
            _ => {
                let start = from.position();
                from.skip().unwrap();
                out.writer_mut().extend_from_slice(&from.input()[start..from.position()]);
            }
        }
    }
    let mut out = Encoder::new(Vec::new());
    copy(&mut Decoder::new(content), &mut out);
    out.into_writer()
}

#[test]
fn fields_of_a_later_version_are_passed_over() {
    for (kind, payload) in one_of_each() {
        let later = wrapped(&with_more(&unwrapped(&payload)));
        assert!(later.len() > payload.len());
        assert_eq!(decode(kind, &later), decode(kind, &payload));
        decode(kind, &later).unwrap().unwrap();
    }
}

/// What a later version tells apart is one thing to this one, and all of it is counted.
#[test]
fn steps_and_kinds_of_a_later_version_are_read() {
    let mut out = Encoder::new(Vec::new());
    out.map(3).unwrap().u8(1).unwrap().str("a").unwrap().u8(2).unwrap().str("c").unwrap();
    out.u8(3).unwrap().array(2).unwrap();
    out.array(2).unwrap().u8(7).unwrap().u32(40).unwrap().array(2).unwrap().u8(99).unwrap().u32(50).unwrap();
    let read = decode_lease(Kind::skipped(6), &wrapped(out.writer())).unwrap().unwrap();
    let LeaseRecord::Mounted { steps, .. } = read else { panic!("{read:?}") };
    assert_eq!(steps, [(Step::Plan, 40), (Step::Other, 50)]);
    let mut out = Encoder::new(Vec::new());
    out.map(3).unwrap().u8(1).unwrap().u8(5).unwrap().u8(3).unwrap().map(3).unwrap();
    for (kind, count) in [(6, 2), (98, 3), (99, 4)] {
        out.u8(kind).unwrap().u8(count).unwrap();
    }
    out.u8(4).unwrap().u8(0).unwrap();
    let read = decode_totals(&wrapped(out.writer())).unwrap();
    assert_eq!(read.refused, [(RefusalKind::Held, 2), (RefusalKind::Other, 7)].into());
}

#[test]
fn a_later_version_s_records_are_passed_over_or_refused_as_it_says() {
    for number in [11, 63, 128, 0x7fff, 0] {
        let (must, may) = (Kind::from_bits(number), Kind::from_bits(number | 1 << 15));
        assert_eq!(decode_lease(may, b"\xff whatever"), Ok(None));
        let refused = decode_lease(must, b"\x01").unwrap_err();
        assert_eq!(refused, Unreadable::Unknown { number });
        let said = refused.to_string();
        assert!(said.contains(&number.to_string()) && said.contains("newer version"), "{said}");
    }
    assert_eq!(decode_volume(Kind::from_bits(73 | 1 << 15), b""), Ok(None));
    assert_eq!(decode_volume(Kind::from_bits(73), b""), Err(Unreadable::Unknown { number: 73 }));
}

/// Neither a record of the other file, nor a grant that claims that it may be passed over.
#[test]
fn a_kind_that_this_file_does_not_have_is_refused() {
    for (record, other) in one_of_each_lease_record().iter().zip(one_of_each_volume_record()) {
        let (kind, payload) = encode_lease(record);
        assert_eq!(decode_volume(kind, &payload), Err(Unreadable::Misplaced { bits: kind.bits() }));
        let turned = Kind::from_bits(kind.bits() ^ 1 << 15);
        assert_eq!(decode_lease(turned, &payload), Err(Unreadable::Misplaced { bits: turned.bits() }));
        let (kind, payload) = encode_volume(&other);
        assert_eq!(decode_lease(kind, &payload), Err(Unreadable::Misplaced { bits: kind.bits() }));
    }
    // One that only a later version has is the other file's all the same.
    let later = Kind::from_bits(100 | 1 << 15);
    assert_eq!(decode_lease(later, b""), Err(Unreadable::Misplaced { bits: later.bits() }));
}

/// Of a length that is only claimed nothing is made room for: there would not be enough.
#[test]
fn a_length_that_is_only_claimed_takes_no_memory() {
    let heads = [0x5b, 0x7b, 0x9b, 0xbb].map(|head| [(head, u64::MAX), (head, 1_u64 << 44)]).concat();
    for (kind, payload) in one_of_each() {
        let content = unwrapped(&payload);
        for place in 0..content.len() {
            for (head, claimed) in &heads {
                let (before, behind) = (&content[..place], &content[place + 1..]);
                let hostile = [before, &[*head], &claimed.to_be_bytes(), behind].concat();
                decode(kind, &wrapped(&hostile)).unwrap_err();
            }
        }
    }
}

/// Writes one value.
type Writing<'a> = &'a dyn Fn(&mut Encoder<Vec<u8>>);

/// The content of a `released` with these entries.
fn released(entries: &[(u64, Writing<'_>)]) -> Result<Option<LeaseRecord>, String> {
    let mut out = Encoder::new(Vec::new());
    out.map(entries.len() as u64).unwrap();
    for (key, value) in entries {
        out.u64(*key).unwrap();
        value(&mut out);
    }
    decode_lease(Kind::kept(3), &wrapped(out.writer())).map_err(|error| error.to_string())
}

#[test]
fn values_that_json_would_not_take_are_refused() {
    let text = |text: &'static str| {
        move |out: &mut Encoder<Vec<u8>>| {
            out.str(text).unwrap();
        }
    };
    let number = |number: u64| {
        move |out: &mut Encoder<Vec<u8>>| {
            out.u64(number).unwrap();
        }
    };
    let short = |out: &mut Encoder<Vec<u8>>| {
        out.bytes(b"short").unwrap();
    };
    let (a, c, one, two) = (text("a"), text("c"), number(1), number(2));
    released(&[(1, &a), (2, &c), (3, &one), (4, &a)]).unwrap().unwrap();
    let refusals = [
        (released(&[(1, &a), (2, &c), (3, &one)]), "evidence"),
        (released(&[(2, &c), (1, &a), (3, &one), (4, &a)]), "ascend"),
        (released(&[(1, &a), (1, &a), (2, &c), (3, &one), (4, &a)]), "ascend"),
        (released(&[(1, &a), (2, &text("a/b")), (3, &one), (4, &a)]), "invalid container id"),
        (released(&[(1, &a), (2, &c), (3, &number(99)), (4, &a)]), "ReleaseReason 99"),
        (released(&[(1, &two), (2, &c), (3, &one), (4, &a)]), "unexpected type"),
        (released(&[(1, &short), (2, &c), (3, &one), (4, &a)]), "no UUID"),
    ];
    for (refused, because) in refusals {
        let error = refused.unwrap_err();
        assert!(error.contains("Released") && error.contains(because), "{error}");
    }
    let (kind, payload) = encode_lease(&one_grant(&["v"]));
    let error = decode_lease(kind, &[payload, vec![0; 8]].concat()).unwrap_err().to_string();
    assert!(error.contains("zeros"), "{error}");
}
