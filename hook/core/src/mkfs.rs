//! Which settings of a filesystem's maker a volume may have, and the arguments that they become.
//!
//! Everything else about a new filesystem is volhook's own: block size, uuid, no reserved blocks, nothing discarded.
//! What is not in the lists here is refused, so that no setting reaches a program as an option of its own.

use crate::decision::Filesystem;
use crate::decision::Pairs;
use crate::names::shorten;

/// One setting that may be given.
struct Setting {
    name: &'static str,
    /// The option of the program, and what stands before the value.
    option: &'static str,
    before: &'static str,
    values: Values,
}

/// What a setting takes.
enum Values {
    /// A power of two from the first to the second.
    Power(u64, u64),
    /// A whole number from the first to the second.
    Number(u64, u64),
    /// A text of at most so many bytes that is no path and no option.
    Label(usize),
    /// Mebibytes from the first to the second; the program gets a unit behind them.
    Mebibytes(u64, u64, &'static str),
    /// One of these, each with what the program calls it.
    Words(&'static [(&'static str, &'static str)]),
}

const EXT4: [Setting; 5] = [
    Setting { name: "bytes-per-inode", option: "-i", before: "", values: Values::Power(4096, 64 << 20) },
    Setting { name: "inode-size", option: "-I", before: "", values: Values::Power(128, 4096) },
    Setting { name: "inodes", option: "-N", before: "", values: Values::Number(16, u32::MAX as u64) },
    Setting { name: "journal-size", option: "-J", before: "size=", values: Values::Mebibytes(4, 10240, "") },
    Setting { name: "label", option: "-L", before: "", values: Values::Label(16) },
];

const XFS: [Setting; 5] = [
    Setting { name: "inode-percent", option: "-i", before: "maxpct=", values: Values::Number(1, 100) },
    Setting { name: "inode-size", option: "-i", before: "size=", values: Values::Power(512, 2048) },
    Setting { name: "journal-size", option: "-l", before: "size=", values: Values::Mebibytes(64, 2047, "m") },
    Setting { name: "label", option: "-L", before: "", values: Values::Label(12) },
    Setting {
        name: "reflink",
        option: "-m",
        before: "reflink=",
        values: Values::Words(&[("true", "1"), ("false", "0")]),
    },
];

const BTRFS: [Setting; 4] = [
    Setting {
        name: "checksum",
        option: "--csum",
        before: "",
        values: Values::Words(&[
            ("crc32c", "crc32c"),
            ("xxhash", "xxhash"),
            ("sha256", "sha256"),
            ("blake2", "blake2"),
        ]),
    },
    Setting { name: "label", option: "--label", before: "", values: Values::Label(255) },
    Setting {
        name: "metadata",
        option: "--metadata",
        before: "",
        values: Values::Words(&[("dup", "dup"), ("single", "single")]),
    },
    Setting { name: "node-size", option: "--nodesize", before: "", values: Values::Power(4096, 65536) },
];

/// A setting that a filesystem's maker is not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mkfs setting {name:?} for {}: {reason}", filesystem.as_str())]
pub struct MkfsError {
    /// The filesystem.
    pub filesystem: Filesystem,
    /// The setting.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

impl MkfsError {
    /// What may be given.
    #[must_use]
    pub fn hint(&self) -> String {
        let known: Vec<String> = settings(self.filesystem)
            .iter()
            .map(|setting| format!("{}={}", setting.name, setting.values.describe()))
            .collect();
        format!("mkfs settings for {}: {}", self.filesystem.as_str(), known.join(", "))
    }
}

fn settings(filesystem: Filesystem) -> &'static [Setting] {
    match filesystem {
        Filesystem::Ext4 => &EXT4,
        Filesystem::Xfs => &XFS,
        Filesystem::Btrfs => &BTRFS,
    }
}

/// The arguments for the filesystem's maker that `given` stands for.
///
/// # Errors
/// [`MkfsError`] for the first that is unknown, stands twice or has a value that is not acceptable.
pub fn arguments(filesystem: Filesystem, given: &Pairs) -> Result<Vec<String>, MkfsError> {
    let mut arguments = Vec::new();
    for (index, (name, value)) in given.iter().enumerate() {
        let fail = |reason: String| MkfsError { filesystem, name: shorten(name), reason };
        if given[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(fail("it stands twice".to_owned()));
        }
        let Some(setting) = settings(filesystem).iter().find(|setting| setting.name == name) else {
            return Err(fail("it may not be given".to_owned()));
        };
        let Some(text) = setting.values.accept(value) else {
            let wanted = setting.values.describe();
            return Err(fail(format!("{:?} is not acceptable, {wanted} is", shorten(value))));
        };
        arguments.push(setting.option.to_owned());
        arguments.push(format!("{}{text}", setting.before));
    }
    Ok(arguments)
}

impl Values {
    /// What the program is given for `value`, if that is acceptable.
    fn accept(&self, value: &str) -> Option<String> {
        let number = || {
            let plain = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| value.parse::<u64>().ok()).flatten()
        };
        match self {
            Self::Power(least, most) => {
                number().filter(|n| n.is_power_of_two() && (least..=most).contains(&n)).map(|n| n.to_string())
            }
            Self::Number(least, most) => {
                number().filter(|n| (least..=most).contains(&n)).map(|n| n.to_string())
            }
            Self::Mebibytes(least, most, unit) => {
                let size = crate::size::parse(value).ok().filter(|size| size % (1 << 20) == 0)? >> 20;
                (least..=most).contains(&&size).then(|| format!("{size}{unit}"))
            }
            Self::Label(longest) => {
                let fits = (1..=*longest).contains(&value.len())
                    && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
                    && !value.starts_with('-');
                fits.then(|| value.to_owned())
            }
            Self::Words(words) => {
                words.iter().find(|(word, _)| *word == value).map(|(_, text)| (*text).to_owned())
            }
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Power(least, most) => format!("{least}..{most} (a power of two)"),
            Self::Number(least, most) => format!("{least}..{most}"),
            Self::Mebibytes(least, most, _) => format!("{least}M..{most}M"),
            Self::Label(longest) => format!("up to {longest} letters, digits, _ . -"),
            Self::Words(words) => words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join("|"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Filesystem; 3] = [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs];

    fn given(pairs: &[(&str, &str)]) -> Pairs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn settings_become_the_programs_options() {
        for (filesystem, pairs, wanted) in [
            (Filesystem::Ext4, given(&[]), ""),
            (
                Filesystem::Ext4,
                given(&[("inode-size", "512"), ("journal-size", "8M"), ("label", "db")]),
                "-I 512 -J size=8 -L db",
            ),
            (
                Filesystem::Xfs,
                given(&[("reflink", "false"), ("journal-size", "64M")]),
                "-m reflink=0 -l size=64m",
            ),
            (
                Filesystem::Btrfs,
                given(&[("metadata", "single"), ("checksum", "xxhash")]),
                "--metadata single --csum xxhash",
            ),
        ] {
            assert_eq!(arguments(filesystem, &pairs).unwrap().join(" "), wanted);
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_list() {
        for (filesystem, name, value) in [
            (Filesystem::Ext4, "d", "/etc"),
            (Filesystem::Ext4, "-d", "/etc"),
            (Filesystem::Ext4, "inode-size", "500"),
            (Filesystem::Ext4, "inode-size", "8192"),
            (Filesystem::Ext4, "inodes", "+16"),
            (Filesystem::Ext4, "label", "-U"),
            (Filesystem::Ext4, "label", "a b"),
            (Filesystem::Ext4, "label", ""),
            (Filesystem::Ext4, "label", "seventeen-letters"),
            (Filesystem::Ext4, "journal-size", "1500K"),
            (Filesystem::Xfs, "reflink", "1"),
            (Filesystem::Btrfs, "rootdir", "/"),
        ] {
            let error = arguments(filesystem, &given(&[(name, value)])).unwrap_err();
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
            assert!(error.hint().contains("label="), "{}", error.hint());
        }
        let error = arguments(Filesystem::Ext4, &given(&[("label", "a"), ("label", "b")])).unwrap_err();
        assert_eq!(error.to_string(), "mkfs setting \"label\" for ext4: it stands twice");
        let error = arguments(Filesystem::Xfs, &given(&[("inode-size", "256")])).unwrap_err();
        let wanted =
            "mkfs setting \"inode-size\" for xfs: \"256\" is not acceptable, 512..2048 (a power of two) is";
        assert_eq!(error.to_string(), wanted);
    }

    proptest! {
        #[test]
        fn no_value_becomes_an_option_or_a_path(
            filesystem in 0_usize..3,
            name in prop_oneof!["label|inode-size|inodes|metadata|reflink|checksum|journal-size", "\\PC{0,20}"],
            value in prop_oneof!["[0-9]{0,9}[MG]?", "-?[a-z/]{0,20}", "\\PC{0,40}"],
        ) {
            if let Ok(arguments) = arguments(ALL[filesystem], &vec![(name, value)]) {
                prop_assert_eq!(arguments.len(), 2);
                prop_assert!(arguments[0].starts_with('-') && !arguments[1].starts_with('-'));
                prop_assert!(arguments[1].bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-=".contains(&b)));
            }
        }
    }
}
