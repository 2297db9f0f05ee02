//! Places in the story of what happened, by which somebody goes on where he was.

use crate::names::shorten;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// An event by its boot and its number. A number alone is not enough: what a boot recorded of leases is never flushed, and
/// after a power cut the next boot may give the same numbers once more.
///
/// It is written as `BOOT:SEQ`; `-:SEQ` for a record of what outlives a boot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    /// The boot's id; `None` for a record of what outlives a boot.
    pub boot: Option<String>,
    /// The number.
    pub seq: u64,
}

/// A text that is no place in the story.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid cursor {text:?}: must be BOOT:SEQ, the boot and the number of an event, or -:SEQ for one without a boot"
)]
pub struct CursorError {
    /// The text as given, cut to a printable length.
    text: String,
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let parse = || {
            let (boot, seq) = text.split_once(':')?;
            let is_id = (1..=64).contains(&boot.len())
                && boot.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            let is_number = seq.bytes().all(|b| b.is_ascii_digit());
            let seq = seq.parse().ok().filter(|_| is_id && is_number)?;
            Some(Self { boot: (boot != "-").then(|| boot.to_owned()), seq })
        };
        parse().ok_or_else(|| CursorError { text: shorten(text) })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.boot.as_deref().unwrap_or("-"), self.seq)
    }
}

impl TryFrom<String> for Cursor {
    type Error = CursorError;

    fn try_from(text: String) -> Result<Self, CursorError> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Cursor;

    #[test]
    fn it_is_read_as_it_is_written() {
        let boot = "7f1f0c4e-0d6c-4f0e-9c6e-3f6a1c0f2b11";
        for (boot, text) in [(Some(boot), format!("{boot}:12")), (None, "-:7".to_owned())] {
            let cursor: Cursor = text.parse().unwrap();
            assert_eq!(cursor.boot.as_deref(), boot);
            assert_eq!(cursor.to_string(), text);
            let json = serde_json::to_string(&cursor).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Cursor>(&json).unwrap(), cursor);
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let long = format!("{}:1", "a".repeat(65));
        for text in [
            "",
            "12",
            ":12",
            "-:",
            "b:",
            "b:x",
            "b:-1",
            "b:+1",
            "b:1:2",
            "a b:1",
            "a/b:1",
            "b:18446744073709551616",
            "2026-12-01T00:00:00Z",
            "10m",
            &long,
        ] {
            assert!(text.parse::<Cursor>().is_err(), "{text:?}");
        }
        let error = "10m".parse::<Cursor>().unwrap_err().to_string();
        assert!(error.starts_with("invalid cursor \"10m\": must be BOOT:SEQ"), "{error}");
    }
}
