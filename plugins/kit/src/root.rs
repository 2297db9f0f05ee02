//! The options that say whose a volume's top directory is: `uid`, `gid` and `mode`.

use crate::driver::Directory;
use crate::driver::OptionInfo;
use crate::driver::OptionKind;
use crate::driver::Refusal;
use crate::value;

const UID: &str = "uid";
const GID: &str = "gid";
const MODE: &str = "mode";

/// The lower 12 bits of a mode.
const MODE_BITS: u32 = 0o7777;

/// Their descriptions, for a driver whose volumes are as `default` says where nothing is given.
#[must_use]
pub fn options(default: &Directory) -> [OptionInfo; 3] {
    [
        OptionInfo::new(
            UID,
            OptionKind::Integer,
            "The user that the top directory belongs to, as the container sees it",
        )
        .with_default(default.uid.to_string()),
        OptionInfo::new(
            GID,
            OptionKind::Integer,
            "The group that the top directory belongs to, as the container sees it",
        )
        .with_default(default.gid.to_string()),
        OptionInfo::new(MODE, OptionKind::Text, "The top directory's permissions, in octal")
            .with_default(text(default.mode)),
    ]
}

/// The names of those options that are among `given`.
pub fn names(given: &[(String, String)]) -> impl Iterator<Item = &str> {
    given.iter().map(|(name, _)| name.as_str()).filter(|name| [UID, GID, MODE].contains(name))
}

/// The top directory that `given` asks for.
///
/// # Errors
/// A refusal that names the option whose value is none.
pub fn parse(given: &[(String, String)], default: Directory) -> Result<Directory, Refusal> {
    // The last number means "leave as it is" to chown(2).
    let id = |name: &str, default: u32| match value(given, name) {
        None => Ok(default),
        Some(text) => text.parse().ok().filter(|id| *id != u32::MAX).ok_or_else(|| {
            Refusal::new(format!("invalid {name} {text:?}: must be a number from 0 to {}", u32::MAX - 1))
        }),
    };
    let mode = match value(given, MODE) {
        None => default.mode,
        Some(text) => octal(text).ok_or_else(|| {
            Refusal::new(format!("invalid mode {text:?}: must be permissions in octal, up to 7777"))
                .with_hint("give for example mode=0750, or mode=1777 for a directory that anybody may write")
        })?,
    };
    Ok(Directory { mode, uid: id(UID, default.uid)?, gid: id(GID, default.gid)?, more: Vec::new() })
}

/// `root` as options, for the record.
#[must_use]
pub fn record(root: &Directory) -> [(String, String); 3] {
    [(UID, root.uid.to_string()), (GID, root.gid.to_string()), (MODE, text(root.mode))]
        .map(|(name, value)| (name.to_owned(), value))
}

fn text(mode: u32) -> String {
    format!("{mode:04o}")
}

fn octal(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = (1..=5).contains(&text.len()).then(|| u32::from_str_radix(text, 8).ok()).flatten();
    mode.filter(|mode| digits && *mode <= MODE_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn given(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn modes_are_octal() {
        for (text, mode) in [("0755", 0o755), ("755", 0o755), ("1777", 0o1777), ("07777", 0o7777), ("0", 0)] {
            assert_eq!(octal(text), Some(mode), "{text}");
        }
        for text in ["", "8", "0o755", "-755", "+755", "10000", "000755", "rwx", " 755"] {
            assert_eq!(octal(text), None, "{text}");
            let refusal = parse(&given(&[("mode", text)]), Directory::default()).unwrap_err();
            assert!(refusal.reason.contains(&format!("{text:?}")), "{}", refusal.reason);
        }
    }

    #[test]
    fn ids_are_whole_and_not_the_last_number() {
        for text in ["-1", "4294967295", "root", "99999999999"] {
            for name in ["uid", "gid"] {
                let refusal = parse(&given(&[(name, text)]), Directory::default()).unwrap_err();
                assert!(
                    refusal.reason.starts_with(&format!("invalid {name} {text:?}")),
                    "{}",
                    refusal.reason
                );
            }
        }
    }

    #[test]
    fn defaults_are_those_described() {
        let default = Directory { mode: 0o1777, uid: 1, gid: 2, more: Vec::new() };
        let described: Vec<_> =
            options(&default).into_iter().filter_map(|o| Some((o.name, o.default?))).collect();
        assert_eq!(described, record(&default));
    }

    proptest! {
        #[test]
        fn what_is_recorded_is_parsed_to_the_same(mode in 0_u32..=0o7777, uid in 0..u32::MAX, gid in 0..u32::MAX) {
            let root = Directory { mode, uid, gid, more: Vec::new() };
            prop_assert_eq!(parse(&record(&root), Directory::default()).unwrap(), root);
        }

        #[test]
        fn any_text_gets_an_answer(name in "uid|gid|mode", text in "\\PC{0,20}") {
            let _ = parse(&[(name, text)], Directory::default());
        }
    }
}
