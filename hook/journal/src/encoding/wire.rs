//! How values stand in a record: each type of theirs has one form, whichever record it is in.
//!
//! | value | CBOR |
//! |---|---|
//! | text that is a UUID in lower case | byte string of 16 bytes |
//! | text of 8 to 64 hexadecimal digits in lower case, an even number of them | tag 23, byte string |
//! | any other text | text string |
//! | number | integer |
//! | time | integer: microseconds since 1970-01-01 UTC; where it is finer than that, an array of these and of the nanoseconds beyond, both of one sign |
//! | yes or no | boolean; no is left out of a map |
//! | what there may be | itself, or left out of a map |
//! | list | array; an empty one is left out of a map |
//! | two of something | array of both |
//! | volume | its name, or an array of its tenant and its name where the tenant is not the default one |
//! | one of a fixed set | integer; see [`super::shape`] |
//! | how many there were of what | map with what they are of as keys, an empty one is left out of a map |
//! | what has fields | map with the fields' numbers as keys, in ascending order |
//!
//! Nothing is of indefinite length. A number never gets another meaning; what is added to a map gets a new one, and whoever
//! does not know it passes it over.

use jiff::Timestamp;
use minicbor::Decoder;
use minicbor::Encoder;
use minicbor::data::Tag;
use minicbor::data::Type;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Display;
use volhook_core::names::ContainerId;
use volhook_core::names::Pod;
use volhook_core::names::SubPath;
use volhook_core::names::Target;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;

/// What is written.
pub(super) type Out = Encoder<Vec<u8>>;

/// What comes of writing: memory takes everything.
pub(super) type Put = Result<(), minicbor::encode::Error<Infallible>>;

/// What comes of reading.
pub(super) type Taken<T> = Result<T, minicbor::decode::Error>;

/// The tag of bytes that were hexadecimal digits ("expected conversion to base16", RFC 8949, 3.4.5.2).
const HEX: Tag = Tag::new(23);

/// How many bytes of hexadecimal digits a text can have that is packed: a container's id has 32.
const MOST_PACKED: usize = 32;

/// A type with a form in records.
pub(super) trait Wire: Sized {
    /// Writes it.
    fn put(&self, out: &mut Out) -> Put;

    /// Reads one, as strictly as the JSON form of the same is read.
    fn take(from: &mut Decoder<'_>) -> Taken<Self>;

    /// Whether a field with this value is left out.
    fn is_left_out(&self) -> bool {
        false
    }

    /// The value of a field that was left out, where one may be.
    fn left_out() -> Option<Self> {
        None
    }
}

/// What is wrong with a value, for people.
pub(super) fn wrong(what: impl Display) -> minicbor::decode::Error {
    minicbor::decode::Error::message(what)
}

/// Writes the head of an array of `length` elements.
pub(super) fn put_array(out: &mut Out, length: usize) -> Put {
    out.array(length as u64)?;
    Ok(())
}

/// Reads the head of an array.
pub(super) fn take_array(from: &mut Decoder<'_>) -> Taken<u64> {
    from.array()?.ok_or_else(|| wrong("an array without a length"))
}

/// Reads the head of an array of two.
fn take_two(from: &mut Decoder<'_>) -> Taken<()> {
    if take_array(from)? == 2 { Ok(()) } else { Err(wrong("an array that is no pair")) }
}

/// Reads a map: `each` is given the number of every entry, in ascending order, and reads its value.
pub(super) fn take_map<'b>(
    from: &mut Decoder<'b>,
    mut each: impl FnMut(u64, &mut Decoder<'b>) -> Taken<()>,
) -> Taken<()> {
    let entries = from.map()?.ok_or_else(|| wrong("a map without a length"))?;
    let mut last = None;
    for _ in 0..entries {
        let key = from.u64()?;
        if last.is_some_and(|last| key <= last) {
            return Err(wrong("a map whose keys do not ascend"));
        }
        last = Some(key);
        each(key, from)?;
    }
    Ok(())
}

/// The value of a field, as it was read or left out.
pub(super) fn field<T: Wire>(read: Option<T>, name: &str) -> Taken<T> {
    read.or_else(T::left_out).ok_or_else(|| wrong(format_args!("nothing is said of {name:?}")))
}

/// Writes fields as a map.
macro_rules! put_fields {
    ($out:expr; $($key:literal $field:ident),+) => {{
        $out.map(0 $(+ u64::from(!Wire::is_left_out($field)))+)?;
        $(
            if !Wire::is_left_out($field) {
                $out.u64($key)?;
                Wire::put($field, $out)?;
            }
        )+
        Ok(())
    }};
}

/// Reads fields from a map into variables of their names; entries of other numbers are passed over.
macro_rules! take_fields {
    ($from:expr; $($key:literal $field:ident),+) => {
        $(let mut $field = None;)+
        $crate::encoding::wire::take_map($from, |key, from| {
            match key {
                $($key => $field = Some(Wire::take(from)?),)+
                _ => from.skip()?,
            }
            Ok(())
        })?;
        $(let $field = $crate::encoding::wire::field($field, stringify!($field))?;)+
    };
}

pub(super) use put_fields;
pub(super) use take_fields;

impl Wire for bool {
    fn put(&self, out: &mut Out) -> Put {
        out.bool(*self)?;
        Ok(())
    }

    fn take(from: &mut Decoder<'_>) -> Taken<Self> {
        from.bool()
    }

    fn is_left_out(&self) -> bool {
        !self
    }

    fn left_out() -> Option<Self> {
        Some(false)
    }
}

macro_rules! numbers {
    ($($number:ident),+) => {$(
        impl Wire for $number {
            fn put(&self, out: &mut Out) -> Put {
                out.$number(*self)?;
                Ok(())
            }

            fn take(from: &mut Decoder<'_>) -> Taken<Self> {
                from.$number()
            }
        }
    )+};
}

numbers!(i32, u32, u64);

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Out) -> Put {
        match self {
            Some(value) => value.put(out),
            None => {
                out.null()?;
                Ok(())
            }
        }
    }

    fn take(from: &mut Decoder<'_>) -> Taken<Self> {
        T::take(from).map(Some)
    }

    fn is_left_out(&self) -> bool {
        self.is_none()
    }

    fn left_out() -> Option<Self> {
        Some(None)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Out) -> Put {
        put_array(out, self.len())?;
        self.iter().try_for_each(|element| element.put(out))
    }

    fn take(from: &mut Decoder<'_>) -> Taken<Self> {
        // The length is only a claim: room is made for what is there.
        (0..take_array(from)?).map(|_| T::take(from)).collect()
    }

    fn is_left_out(&self) -> bool {
        self.is_empty()
    }

    fn left_out() -> Option<Self> {
        Some(Self::new())
    }
}

impl Wire for Timestamp {
    fn put(&self, out: &mut Out) -> Put {
        let beyond = self.subsec_nanosecond() % 1000;
        if beyond == 0 {
            out.i64(self.as_microsecond())?;
        } else {
            out.array(2)?.i64(self.as_microsecond())?.i32(beyond)?;
        }
        Ok(())
    }

    fn take(from: &mut Decoder<'_>) -> Taken<Self> {
        let is_finer = from.datatype()? == Type::Array;
        if is_finer {
            take_two(from)?;
        }
        let microseconds = from.i64()?;
        let beyond = if is_finer { from.i64()? } else { 0 };
        if !(-999..=999).contains(&beyond) {
            return Err(wrong("more than 999 nanoseconds beyond a microsecond"));
        }
        // Its constructor from microseconds does not take those of its last second.
        Self::from_nanosecond(i128::from(microseconds) * 1000 + i128::from(beyond)).map_err(wrong)
    }
}

impl Wire for String {
    fn put(&self, out: &mut Out) -> Put {
        put_text(out, self)
    }

    fn take(from: &mut Decoder<'_>) -> Taken<Self> {
        take_text(from).map(Cow::into_owned)
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Out) -> Put {
        out.array(2)?;
        self.0.put(out)?;
        self.1.put(out)
    }

    fn take(from: &mut Decoder<'_>) -> Taken<Self> {
        take_two(from)?;
        Ok((A::take(from)?, B::take(from)?))
    }
}

/// What is counted of each of a fixed set.
pub(super) trait Count: Wire + Default {
    /// Counts on.
    fn add(&mut self, more: Self);
}

impl Count for u64 {
    fn add(&mut self, more: Self) {
        *self = self.saturating_add(more);
    }
}

impl<K: Wire + Ord, V: Count> Wire for BTreeMap<K, V> {
    fn put(&self, out: &mut Out) -> Put {
        out.map(self.len() as u64)?;
        self.iter().try_for_each(|(of, count)| {
            of.put(out)?;
            count.put(out)
        })
    }

    fn take(from: &mut Decoder<'_>) -> Taken<Self> {
        let entries = from.map()?.ok_or_else(|| wrong("a map without a length"))?;
        let mut counts = Self::new();
        for _ in 0..entries {
            // What a later version tells apart is one to this one.
            counts.entry(K::take(from)?).or_default().add(V::take(from)?);
        }
        Ok(counts)
    }

    fn is_left_out(&self) -> bool {
        self.is_empty()
    }

    fn left_out() -> Option<Self> {
        Some(Self::new())
    }
}

/// Names and paths are texts, which are checked when they are read.
macro_rules! checked_texts {
    ($($name:ident::$checked:ident),+) => {$(
        impl Wire for $name {
            fn put(&self, out: &mut Out) -> Put {
                put_text(out, self.as_str())
            }

            fn take(from: &mut Decoder<'_>) -> Taken<Self> {
                Self::$checked(&*take_text(from)?).map_err(wrong)
            }
        }
    )+};
}

checked_texts!(ContainerId::recorded, Pod::new, SubPath::new, Target::new, Tenant::new, VolumeName::new);

impl Wire for VolumeId {
    fn put(&self, out: &mut Out) -> Put {
        if self.tenant.as_str() == Tenant::DEFAULT {
            return self.name.put(out);
        }
        out.array(2)?;
        self.tenant.put(out)?;
        self.name.put(out)
    }

    fn take(from: &mut Decoder<'_>) -> Taken<Self> {
        let tenant = if from.datatype()? == Type::Array {
            take_two(from)?;
            Tenant::take(from)?
        } else {
            Tenant::default()
        };
        Ok(Self { tenant, name: VolumeName::take(from)? })
    }
}

fn put_text(out: &mut Out, text: &str) -> Put {
    let mut packed = [0; MOST_PACKED];
    let bytes = text.as_bytes();
    if is_uuid(bytes) {
        let digits = bytes.iter().copied().filter(|byte| *byte != b'-');
        if let Some(packed) = pack(digits, &mut packed) {
            out.bytes(packed)?;
            return Ok(());
        }
    } else if (8..=2 * MOST_PACKED).contains(&bytes.len())
        && bytes.len().is_multiple_of(2)
        && let Some(packed) = pack(bytes.iter().copied(), &mut packed)
    {
        out.tag(HEX)?.bytes(packed)?;
        return Ok(());
    }
    out.str(text)?;
    Ok(())
}

fn take_text<'b>(from: &mut Decoder<'b>) -> Taken<Cow<'b, str>> {
    match from.datatype()? {
        Type::Bytes => {
            let bytes: &[u8; 16] =
                from.bytes()?.try_into().map_err(|_| wrong("bytes for a text that are no UUID"))?;
            let mut text = digits_of(bytes, 4);
            for dash in [8, 13, 18, 23] {
                text.insert(dash, '-');
            }
            Ok(text.into())
        }
        Type::Tag => {
            if from.tag()? != HEX {
                return Err(wrong("a text with a tag that it does not have"));
            }
            Ok(digits_of(from.bytes()?, 0).into())
        }
        _ => from.str().map(Cow::Borrowed),
    }
}

/// Whether dashes stand where a UUID has them, and nowhere else.
fn is_uuid(text: &[u8]) -> bool {
    let is_dash = |(place, byte): (usize, &u8)| (*byte == b'-') == matches!(place, 8 | 13 | 18 | 23);
    text.len() == 36 && text.iter().enumerate().all(is_dash)
}

/// The bytes of an even number of hexadecimal digits in lower case; `None` where one is something else.
fn pack(digits: impl Iterator<Item = u8>, packed: &mut [u8; MOST_PACKED]) -> Option<&[u8]> {
    let mut length = 0;
    for digit in digits {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        let byte = packed.get_mut(length / 2)?;
        *byte = *byte << 4 | value;
        length += 1;
    }
    packed.get(..length / 2)
}

/// The hexadecimal digits of some bytes, with room for `more` characters.
fn digits_of(bytes: &[u8], more: usize) -> String {
    let mut text = String::with_capacity(2 * bytes.len() + more);
    for byte in bytes {
        for half in [byte >> 4, byte & 15] {
            text.push(char::from(if half < 10 { b'0' + half } else { b'a' + half - 10 }));
        }
    }
    text
}
