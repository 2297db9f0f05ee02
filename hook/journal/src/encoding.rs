//! Records as bytes: a kind, and a payload without a zero byte.
//!
//! A kind is a number of 16 bits, the highest of which says whether a reader that does not know the kind may pass the record
//! over, because who holds what is the same without it. What of the kinds is here for ever:
//!
//! | number | record | a reader that does not know it |
//! |---|---|---|
//! | 1 | granted | refuses the file |
//! | 2 | bound | refuses the file |
//! | 3 | released | refuses the file |
//! | 4 | broken | refuses the file |
//! | 5 | planned | passes it over |
//! | 6 | mounted | passes it over |
//! | 7 | refused | passes it over |
//! | 8 | fault | passes it over |
//! | 9 | note | passes it over |
//! | 10 | rebuilt | passes it over |
//! | 64 | created | passes it over |
//! | 65 | removed | passes it over |
//! | 66 | restored | passes it over |
//! | 67 | resized | passes it over |
//! | 68 | populated | passes it over |
//! | 69 | reset | passes it over |
//! | 70 | upgraded | passes it over |
//! | 71 | renamed | passes it over |
//! | 72 | deleted | passes it over |
//!
//! Records of leases have the numbers 1 to 63 and those of volumes 64 to 127; neither stands in the other's file.
//!
//! A payload is one CBOR map (RFC 8949) of the record's fields, keyed by small numbers ([`wire`] and [`shape`] say which and
//! how), with its zero bytes replaced as COBS does it (S. Cheshire, M. Baker: Consistent Overhead Byte Stuffing, 1999): where
//! sectors never reached the disk there are zeros, and nowhere else. A field of a number that is not known is passed over; one
//! that is missing, stands twice or has a value that its type does not have makes the record unreadable.
//! Counters ([`Totals`]) have a payload of the same form.

mod shape;
mod wire;

#[cfg(test)]
mod generated;
#[cfg(test)]
mod tests;

use minicbor::Decoder;
use minicbor::Encoder;
use std::ops::RangeInclusive;
use volhook_core::record::LeaseRecord;
use volhook_core::record::VolumeRecord;
use volhook_core::totals::Totals;
use wire::Out;
use wire::Put;
use wire::Taken;
use wire::Wire;
use wire::put_fields;
use wire::take_fields;

/// The most usual payloads fit, so that they are encoded without moving what there is.
const USUAL: usize = 512;

/// Which record a payload is, and whether whoever does not know that may pass it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind(u16);

impl Kind {
    const MAY_BE_SKIPPED: u16 = 1 << 15;

    const fn kept(number: u16) -> Self {
        Self(number)
    }

    const fn skipped(number: u16) -> Self {
        Self(number | Self::MAY_BE_SKIPPED)
    }

    /// As it stands in a file.
    pub(crate) fn bits(self) -> u16 {
        self.0
    }

    /// As it stood in a file. Any number is some kind, of this version or a later one.
    pub(crate) fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Its number, without the mark.
    pub(crate) fn number(self) -> u16 {
        self.0 & !Self::MAY_BE_SKIPPED
    }

    /// Whether who does not know it may pass it over.
    pub(crate) fn may_be_skipped(self) -> bool {
        self.0 & Self::MAY_BE_SKIPPED != 0
    }
}

/// Why a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    /// A newer version wrote it, and said that nobody may go on without it.
    #[error("its kind {number} is a newer version's, which this one must not pass over")]
    Unknown {
        /// The kind's number.
        number: u16,
    },
    /// It is a kind of record that this file does not have, or the mark is not the kind's.
    #[error("kind {bits:#06x} does not stand in this file")]
    Misplaced {
        /// The kind as it stands there.
        bits: u16,
    },
    /// Its payload is none of its kind's.
    #[error("it is no {kind:?} record: {reason}")]
    Payload {
        /// The kind's name.
        kind: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a kind's fields are called in a pattern or an expression.
macro_rules! record {
    ($record:ident $variant:ident ($whole:ident)) => { $record::$variant($whole) };
    ($record:ident $variant:ident { $($key:literal $field:ident),+ }) => { $record::$variant { $($field),+ } };
}

macro_rules! put_record {
    ($out:expr, ($whole:ident)) => { $whole.put($out) };
    ($out:expr, { $($key:literal $field:ident),+ }) => { put_fields!($out; $($key $field),+) };
}

macro_rules! take_record {
    ($from:expr, $record:ident $variant:ident ($whole:ident)) => {
        Wire::take($from).map($record::$variant)
    };
    ($from:expr, $record:ident $variant:ident { $($key:literal $field:ident),+ }) => {{
        take_fields!($from; $($key $field),+);
        Ok($record::$variant { $($field),+ })
    }};
}

/// The kinds of one file's records, and the numbers of the fields of each.
macro_rules! records {
    (
        $record:ident, numbers $numbers:expr, $encode:ident, $decode:ident, $kinds:ident:
        $($number:literal $mark:ident $variant:ident $fields:tt)+
    ) => {
        /// The kinds, with the names of their records.
        #[cfg(test)]
        const $kinds: &[(Kind, &str)] = &[$((Kind::$mark($number), stringify!($variant))),+];

        /// The kind and the payload of a record.
        pub(crate) fn $encode(record: &$record) -> (Kind, Vec<u8>) {
            match record {
                $(record!($record $variant $fields) => {
                    (Kind::$mark($number), payload(|out| put_record!(out, $fields)))
                })+
            }
        }

        /// The record of a kind and a payload; `None` where a newer version wrote it, and it may be passed over.
        ///
        /// # Errors
        /// [`Unreadable`].
        pub(crate) fn $decode(kind: Kind, payload: &[u8]) -> Result<Option<$record>, Unreadable> {
            match kind.number() {
                $($number if kind == Kind::$mark($number) => {
                    let read = content(payload, |from| take_record!(from, $record $variant $fields));
                    read.map(Some).map_err(|reason| Unreadable::Payload { kind: stringify!($variant), reason })
                })+
                number if [$($number),+].contains(&number) => {
                    Err(Unreadable::Misplaced { bits: kind.bits() })
                }
                number if ALL.contains(&number) && !$numbers.contains(&number) => {
                    Err(Unreadable::Misplaced { bits: kind.bits() })
                }
                _ if kind.may_be_skipped() => Ok(None),
                number => Err(Unreadable::Unknown { number }),
            }
        }
    };
}

/// The numbers of records of either file.
const ALL: RangeInclusive<u16> = 1..=127;

records! {
    LeaseRecord, numbers (1..=63), encode_lease, decode_lease, LEASE_KINDS:
    1 kept Granted(grant)
    2 kept Bound { 1 attempt, 2 container, 3 holder }
    3 kept Released { 1 attempt, 2 container, 3 reason, 4 evidence, 5 steps }
    4 kept Broken { 1 attempt, 2 container, 3 volume, 4 evidence }
    5 skipped Planned { 1 attempt, 2 container, 3 stage, 4 pod, 5 root, 6 volumes }
    6 skipped Mounted { 1 attempt, 2 container, 3 steps }
    7 skipped Refused { 1 container, 2 volume, 3 reason, 4 asked, 5 why }
    8 skipped Fault { 1 container, 2 stage, 3 reason }
    9 skipped Note { 1 container, 2 volume, 3 text }
    10 skipped Rebuilt { 1 kept, 2 lost_at, 3 copy }
}

records! {
    VolumeRecord, numbers (64..=127), encode_volume, decode_volume, VOLUME_KINDS:
    64 skipped Created { 1 volume, 2 uuid, 3 driver, 4 container }
    65 skipped Removed { 1 volume, 2 uuid }
    66 skipped Restored { 1 volume, 2 uuid }
    67 skipped Resized { 1 volume, 2 uuid, 3 size }
    68 skipped Populated { 1 volume, 2 uuid, 3 entries, 4 bytes, 5 container }
    69 skipped Reset { 1 volume, 2 uuid }
    70 skipped Upgraded { 1 volume, 2 uuid, 3 image }
    71 skipped Renamed { 1 volume, 2 uuid, 3 to }
    72 skipped Deleted { 1 volume, 2 uuid }
}

/// The payload of counters.
pub(crate) fn encode_totals(totals: &Totals) -> Vec<u8> {
    payload(|out| totals.put(out))
}

/// The counters of a payload.
///
/// # Errors
/// [`Unreadable::Payload`].
pub(crate) fn decode_totals(payload: &[u8]) -> Result<Totals, Unreadable> {
    content(payload, Wire::take).map_err(|reason| Unreadable::Payload { kind: "Totals", reason })
}

/// The payload of what `put` writes.
fn payload(put: impl FnOnce(&mut Out) -> Put) -> Vec<u8> {
    let mut out = Encoder::new(Vec::with_capacity(USUAL));
    put(&mut out).expect("memory takes all that is written to it");
    let content = out.writer();
    let mut payload = vec![0; cobs::max_encoding_length(content.len())];
    let length = cobs::encode(content, &mut payload);
    payload.truncate(length);
    payload
}

/// What `take` reads from a payload, which has to be all that is in it. Memory is taken for what is there, whatever lengths it
/// speaks of.
fn content<T>(payload: &[u8], take: impl FnOnce(&mut Decoder<'_>) -> Taken<T>) -> Result<T, String> {
    if payload.contains(&0) {
        return Err("there are zeros in it".to_owned());
    }
    let mut content = vec![0; payload.len()];
    let length = cobs::decode(payload, &mut content).map_err(|error| error.to_string())?;
    let content = &content[..length];
    let mut from = Decoder::new(content);
    let value = take(&mut from).map_err(|error| error.to_string())?;
    if from.position() < content.len() {
        return Err(format!("{} bytes stand behind its end", content.len() - from.position()));
    }
    Ok(value)
}
