//! Amounts of storage as people write them: `512M`, `10G`.

use std::fmt;

/// A text that is no amount of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeError {
    /// It does not begin with a whole number.
    Number,
    /// The unit is not one of K, M, G, T and P.
    Unit,
    /// It is 0.
    Zero,
    /// It is more than `i64::MAX` bytes, which the kernel's `off_t` cannot hold.
    TooLarge,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number => "must be a whole number with an optional unit, such as 512M or 10G",
            Self::Unit => "the unit must be one of K, M, G, T, P",
            Self::Zero => "must not be 0",
            Self::TooLarge => "too large",
        })
    }
}

impl std::error::Error for SizeError {}

/// Parses `512`, `10G`, `10g`, `10GB` or `10GiB` into bytes; units are powers of 1024, as for Docker's sizes.
///
/// # Errors
/// [`SizeError`] for anything else, for 0 and for more than `i64::MAX` bytes.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(SizeError::Number);
    }
    let mut bytes: u64 = number.parse().map_err(|_| SizeError::TooLarge)?;
    for _ in 0..power(unit).ok_or(SizeError::Unit)? {
        bytes = bytes.checked_mul(1024).ok_or(SizeError::TooLarge)?;
    }
    match bytes {
        0 => Err(SizeError::Zero),
        bytes if i64::try_from(bytes).is_err() => Err(SizeError::TooLarge),
        bytes => Ok(bytes),
    }
}

/// The power of 1024 that a unit stands for.
fn power(unit: &str) -> Option<usize> {
    let mut letters = unit.bytes().map(|letter| letter.to_ascii_uppercase());
    let Some(first) = letters.next() else { return Some(0) };
    let rest = (letters.next(), letters.next(), letters.next());
    if first == b'B' {
        return (rest.0.is_none()).then_some(0);
    }
    let power = b"KMGTP".iter().position(|letter| *letter == first)? + 1;
    matches!(rest, (None, ..) | (Some(b'B'), None, _) | (Some(b'I'), Some(b'B'), None)).then_some(power)
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
            ("9223372036854775807", i64::MAX.unsigned_abs()),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        for (text, error) in [
            ("", SizeError::Number),
            ("G", SizeError::Number),
            ("-1", SizeError::Number),
            ("+1", SizeError::Number),
            (" 1", SizeError::Number),
            ("\u{661}G", SizeError::Number),
            ("1.5G", SizeError::Unit),
            ("1 G", SizeError::Unit),
            ("10X", SizeError::Unit),
            ("10GG", SizeError::Unit),
            ("10Gi", SizeError::Unit),
            ("10GiBx", SizeError::Unit),
            ("10BB", SizeError::Unit),
            ("0", SizeError::Zero),
            ("00G", SizeError::Zero),
            ("9000000P", SizeError::TooLarge),
            ("9223372036854775808", SizeError::TooLarge),
            ("99999999999999999999", SizeError::TooLarge),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_unit_multiplies_by_its_power_of_1024(number in 1_u64..1000, power in 0_usize..6, lower: bool) {
            let unit = ["", "K", "M", "G", "T", "P"][power];
            let text = format!("{number}{unit}");
            let text = if lower { text.to_lowercase() } else { text };
            prop_assert_eq!(parse(&text), Ok(number << (10 * power)));
        }

        #[test]
        fn any_text_gets_an_answer(text in "\\PC{0,40}") {
            if let Ok(bytes) = parse(&text) {
                prop_assert!(bytes > 0 && text.is_ascii());
            }
        }
    }
}
