//! Released versions of the interface stay as they are: `wit/frozen.toml` has what they were.

use super::Package;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde::Deserialize;
use sha2::Digest;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The file, in `wit/`.
const FILE: &str = "frozen.toml";

const HEAD: &str = "\
# The versions of the interface that were released. Nothing but documentation may change in their folders any more:
# `sha256` is of a version's canonical form (hook/xtask/src/wit.rs). `cargo xtask freeze VERSION` adds one.
# README.md beside this file says what a version is, and how another is made.
";

/// What is known of a released version.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Release {
    /// The first day.
    released: String,
    /// Of its canonical form, in hexadecimal.
    sha256: String,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.released)
    }
}

/// The released versions, by version.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn releases(wit: &Path) -> Result<BTreeMap<String, Release>> {
    let file = wit.join(FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not what it should be", file.display()))
}

/// Writes down that the version in `wit/VERSION` is released.
///
/// # Errors
/// When it is no valid version, or the file cannot be written.
pub(crate) fn release(wit: &Path, version: &str, today: &str) -> Result<()> {
    let package = Package::read(&wit.join(version))?;
    ensure!(package.is(version), "wit/{version} holds {}", package.name);
    let mut all = if wit.join(FILE).exists() { releases(wit)? } else { BTreeMap::new() };
    let sha256 = digest(&package);
    all.insert(version.to_owned(), Release { released: today.to_owned(), sha256 });
    let mut text = HEAD.to_owned();
    for (version, Release { released, sha256 }) in &all {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n[{version:?}]\nreleased = {released:?}\nsha256 = {sha256:?}\n");
    }
    let file = wit.join(FILE);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn digest(package: &Package) -> String {
    Sha256::digest(package.canonical()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

impl Package {
    fn is(&self, version: &str) -> bool {
        self.name == format!("volhook:plugin@{version}")
    }
}

/// The versions that have a folder.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn versions(wit: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(wit).with_context(|| format!("cannot read {}", wit.display()))?;
    let mut found = BTreeSet::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", wit.display()))?;
        if entry.path().is_dir() {
            found.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// What of the versions in `wit` is not as it was released, each with what to do.
///
/// # Errors
/// When they cannot be read.
#[cfg(test)]
fn problems(wit: &Path) -> Result<Vec<String>> {
    let released = releases(wit)?;
    let versions = versions(wit)?;
    let mut problems = Vec::new();
    for version in released.keys().filter(|version| !versions.contains(*version)) {
        problems.push(format!(
            "wit/{version} is missing, and plugins are built for it: bring it back (git checkout -- wit/{version})"
        ));
    }
    for version in &versions {
        let package = match Package::read(&wit.join(version)) {
            Ok(package) => package,
            Err(error) => {
                problems.push(format!("wit/{version}: {error:#}"));
                continue;
            }
        };
        match released.get(version) {
            _ if !package.is(version) => problems.push(format!("wit/{version} holds {}", package.name)),
            None => problems.push(format!(
                "wit/{version} is not in wit/{FILE}: release it with `cargo xtask freeze {version}`"
            )),
            Some(release) if release.sha256 != digest(&package) => problems.push(format!(
                "wit/{version} is not what was released on {}: plugins that were built for it would not load, or be \
                 misunderstood. Only its documentation may change. Take the edit back (git diff wit/{version}), and put \
                 it into a version of its own: wit/README.md, \"Adding a version\"",
                release.released
            )),
            Some(_) => {}
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::workspace;
    use tempfile::TempDir;

    const VERSION: &str = "0.1.0";

    /// A copy of `wit/`, to be altered.
    fn copy() -> TempDir {
        let copy = TempDir::new().unwrap();
        let wit = workspace().join("wit");
        fs::copy(wit.join(FILE), copy.path().join(FILE)).unwrap();
        fs::create_dir(copy.path().join(VERSION)).unwrap();
        for name in ["driver.wit", "policy.wit"] {
            fs::copy(wit.join(VERSION).join(name), copy.path().join(VERSION).join(name)).unwrap();
        }
        copy
    }

    /// What is said of a copy in which `from` was replaced.
    fn edited(from: &str, to: &str) -> Vec<String> {
        let copy = copy();
        let file = copy.path().join(VERSION).join("driver.wit");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "driver.wit has no {from:?}");
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        problems(copy.path()).unwrap()
    }

    #[track_caller]
    fn refused(from: &str, to: &str) {
        let problems = edited(from, to);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("wit/0.1.0 is not what was released on "), "{problems:?}");
        assert!(problems[0].ends_with("\"Adding a version\""), "{problems:?}");
    }

    #[test]
    fn released_versions_are_as_they_were() {
        let problems = problems(&workspace().join("wit")).unwrap();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    #[test]
    fn what_a_plugin_could_notice_is_no_edit() {
        refused("    nosuid: bool,", "    no-suid: bool,");
        refused("    nosuid: bool,", "    nosuid: u8,");
        refused(
            "    /// Its owner.\n    uid: u32,\n    /// Its group.\n    gid: u32,",
            "    gid: u32,\n    uid: u32,",
        );
        refused("    btrfs,", "    btrfs,\n    bcachefs,");
        refused(
            "  describe: func() -> info;",
            "  describe: func() -> info;\n  remove: func(volume: string);",
        );
        refused("attach: func(request: attach-request)", "attach: func(asked: attach-request)");
        refused("-> result<attachment, refusal>", "-> result<attachment>");
        refused("    host-path(host-path),", "    host-path(string),");
        refused("type pair = tuple<string, string>", "type pair = tuple<string, list<u8>>");
        refused("export driver;", "export driver;\n  import policy;");
    }

    #[test]
    fn documentation_may_change() {
        for (from, to) in [
            ("/// Its owner.", "/// The user that it belongs to."),
            ("/// Its owner.\n", ""),
            ("    nosuid: bool,", "    // Never set by default.\n    nosuid:   bool ,"),
        ] {
            assert_eq!(edited(from, to), [""; 0], "{from}");
        }
    }

    #[test]
    fn a_version_is_in_both_places() {
        let copy = copy();
        let folder = copy.path().join("0.2.0");
        fs::create_dir(&folder).unwrap();
        let text = fs::read_to_string(copy.path().join("0.1.0/policy.wit")).unwrap();
        fs::write(folder.join("policy.wit"), text.replace("@0.1.0", "@0.2.0")).unwrap();
        let unlisted = "wit/0.2.0 is not in wit/frozen.toml: release it with `cargo xtask freeze 0.2.0`";
        assert_eq!(problems(copy.path()).unwrap(), [unlisted]);
        release(copy.path(), "0.2.0", "2027-01-01").unwrap();
        assert_eq!(problems(copy.path()).unwrap(), [""; 0]);
        assert_eq!(releases(copy.path()).unwrap().len(), 2);

        fs::write(folder.join("policy.wit"), text).unwrap();
        assert_eq!(problems(copy.path()).unwrap(), ["wit/0.2.0 holds volhook:plugin@0.1.0"]);
        fs::remove_dir_all(&folder).unwrap();
        let gone = problems(copy.path()).unwrap();
        assert!(gone[0].starts_with("wit/0.2.0 is missing, and plugins are built for it"), "{gone:?}");
    }

    #[test]
    fn what_is_no_wit_is_told() {
        let problems = edited("record info {", "record info");
        assert!(
            problems[0].starts_with("wit/0.1.0: ") && problems[0].contains("is no valid WIT"),
            "{problems:?}"
        );
        let gated = edited("  record restrictions {", "  @since(version = 0.1.0)\n  record restrictions {");
        assert!(gated[0].contains("restrictions has a `@since`"), "{gated:?}");
    }
}
