//! Amounts of storage as people write them.

/// Why a text is not an amount of storage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid size {text:?}: {reason}")]
pub struct SizeError {
    /// The text as given, cut to a printable length.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The units, largest first, with their powers of 1024.
const UNITS: [(char, u32); 5] = [('P', 5), ('T', 4), ('G', 3), ('M', 2), ('K', 1)];

/// Parses `512`, `10G`, `10g`, `10GB` or `10GiB` into bytes; units are powers of 1024, as for Docker's sizes.
///
/// # Errors
/// [`SizeError`] for anything else, for 0 and for more than `i64::MAX` bytes (the kernel's `off_t`).
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let fail = |reason| SizeError { text: crate::names::shorten(text), reason };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(fail("must be a whole number with an optional unit, such as 512M or 10G"));
    }
    let power = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        unit => UNITS
            .iter()
            .find(|(letter, _)| {
                unit.strip_prefix(*letter).is_some_and(|rest| matches!(rest, "" | "B" | "IB"))
            })
            .map(|(_, power)| *power)
            .ok_or_else(|| fail("the unit must be one of K, M, G, T, P"))?,
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(1024_u64.pow(power)))
        .filter(|n| i64::try_from(*n).is_ok())
        .ok_or_else(|| fail("too large"))?;
    if bytes == 0 { Err(fail("must not be 0")) } else { Ok(bytes) }
}

/// Formats bytes for people: `0`, `512`, `1.5M`, `10G`.
#[must_use]
pub fn format(bytes: u64) -> String {
    for (unit, power) in UNITS {
        let one = 1024_u64.pow(power);
        if bytes >= one {
            // Tenths, rounded down, so that a size never reads as more than it is.
            let tenths = u128::from(bytes) * 10 / u128::from(one);
            let (whole, tenth) = (tenths / 10, tenths % 10);
            return if tenth == 0 { format!("{whole}{unit}") } else { format!("{whole}.{tenth}{unit}") };
        }
    }
    bytes.to_string()
}

/// Writes bytes so that [`parse`] gives them back: in the largest unit of which they are a whole number.
#[must_use]
pub fn exact(bytes: u64) -> String {
    UNITS
        .iter()
        .map(|(unit, power)| (unit, 1024_u64.pow(*power)))
        .find(|(_, one)| bytes >= *one && bytes.is_multiple_of(*one))
        .map_or_else(|| bytes.to_string(), |(unit, one)| format!("{}{unit}", bytes / one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_and_spellings() {
        for (text, bytes) in [
            ("1", 1),
            ("1b", 1),
            ("4K", 4096),
            ("4kib", 4096),
            ("10G", 10 << 30),
            ("10gb", 10 << 30),
            ("2T", 2 << 40),
            ("1P", 1 << 50),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "1 G", "10X", "10GG", "0", "0G", "9000000P", "١G"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn exact_sizes_survive_a_round_trip(bytes in 1_u64..=i64::MAX.unsigned_abs(), zeros in 0_u32..60) {
            let bytes = (bytes >> zeros).max(1) << zeros;
            prop_assert_eq!(parse(&exact(bytes)), Ok(bytes));
        }

        #[test]
        fn whole_units_survive_a_round_trip(number in 1_u64..1000, power in 0_u32..6) {
            let bytes = number * 1024_u64.pow(power);
            prop_assert_eq!(parse(&format(bytes)), Ok(bytes));
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
