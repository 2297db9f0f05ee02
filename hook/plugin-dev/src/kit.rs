//! What a project has of volhook: embedded here, and written to its `kit/` where it is missing or of another volhook.

use crate::error::BuildError;
use crate::lang;
use crate::project::Project;
use sha2::Digest as _;
use sha2::Sha256;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

include!(concat!(env!("OUT_DIR"), "/kit.rs"));

/// The file by which a kit is known to be whole and of this volhook.
const STAMP: &str = "VERSION";

/// The guest SDK for Rust, with its bindings generated.
pub(crate) fn rust_sdk() -> &'static [(&'static str, &'static str)] {
    &RUST_SDK
}

/// The entries of the lock file of a project in Rust, in cargo's order: what volhook itself is built with, so that a
/// first build needs no look at a registry's index.
pub(crate) fn rust_lock(name: &str) -> String {
    let own = |name: &str, dependencies: &[&str]| {
        let lines: String = dependencies.iter().map(|name| format!(" {name:?},\n")).collect();
        format!("[[package]]\nname = {name:?}\nversion = \"0.1.0\"\ndependencies = [\n{lines}]")
    };
    let kit = own("volhook-plugin", &["serde_json", "wit-bindgen"]);
    let mut entries = vec![own(name, &["volhook-plugin"]), kit];
    entries.extend(
        RUST_LOCK.split("\n\n").map(|entry| entry.trim_end().to_owned()).filter(|entry| !entry.is_empty()),
    );
    // The name stands first in each.
    entries.sort();
    entries.join("\n\n")
}

/// The kit of `project`: paths below `kit/`, and texts.
fn files(project: &Project) -> Vec<(String, Cow<'static, str>)> {
    let wit = WIT.iter().map(|(name, text)| (format!("wit/{name}"), Cow::Borrowed(*text)));
    let own = lang::language(project.language).kit(project.kind);
    wit.chain(own.into_iter().map(|(path, text)| (path.to_owned(), fill(&text, project).into()))).collect()
}

/// Replaces what stands in double braces in templates.
pub(crate) fn fill(text: &str, project: &Project) -> String {
    let name = &project.name;
    text.replace("{{name}}", name)
        .replace("{{crate}}", &crate::rust_name::of_crate(name))
        .replace("{{type}}", &crate::rust_name::of_type(name))
}

/// Writes the kit of `project`, unless it is there already.
pub(crate) fn refresh(project: &Project) -> Result<(), BuildError> {
    let files = files(project);
    let stamp = stamp(&files);
    let kit = project.folder.join("kit");
    if fs::read_to_string(kit.join(STAMP)).is_ok_and(|found| found == stamp)
        && files.iter().all(|(path, _)| kit.join(path).exists())
    {
        return Ok(());
    }
    match fs::remove_dir_all(&kit) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(BuildError::io("remove", &kit)(error));
        }
        _ => {}
    }
    for (path, text) in &files {
        write(&kit.join(path), text)?;
    }
    // Last: a kit without it is written again.
    write(&kit.join(STAMP), &stamp)
}

/// Writes a file and the folders above it.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), BuildError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(BuildError::io("make", folder))?;
    }
    fs::write(path, text).map_err(BuildError::io("write", path))
}

fn stamp(files: &[(String, Cow<'static, str>)]) -> String {
    let mut hash = Sha256::new();
    for (path, text) in files {
        hash.update(path.len().to_le_bytes());
        hash.update(path);
        hash.update(text.len().to_le_bytes());
        hash.update(text.as_bytes());
    }
    let mut stamp = concat!("volhook ", env!("CARGO_PKG_VERSION"), " ").to_owned();
    for byte in &hash.finalize()[..8] {
        let _ = write!(stamp, "{byte:02x}");
    }
    stamp.push('\n');
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::API_VERSION;
    use crate::project::LanguageName;
    use volhook_core::decision::PluginKind;

    fn project(folder: &Path) -> Project {
        let (name, api) = ("scratch".to_owned(), API_VERSION.to_owned());
        Project {
            folder: folder.to_owned(),
            name,
            kind: PluginKind::Driver,
            language: LanguageName::Rust,
            api,
        }
    }

    #[test]
    fn the_rust_sdk_needs_no_generator_and_has_no_tests() {
        let files = rust_sdk();
        let generated = files.iter().find(|(path, _)| *path == "src/generated/driver_world.rs").unwrap().1;
        assert!(generated.contains("fn attach(") && generated.contains("__export_driver"));
        for (path, text) in files {
            for word in ["proptest", "generate!", "{{"] {
                assert!(!text.contains(word) || path.contains("generated/"), "{path} has {word}");
            }
        }
        let lock = rust_lock("scratch");
        assert!(lock.contains("name = \"wit-bindgen\"") && !lock.contains("wit-bindgen-rust"));
    }

    #[test]
    fn a_kit_that_is_not_whole_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path());
        let kit = folder.path().join("kit");
        refresh(&project).unwrap();
        assert!(fs::read_to_string(kit.join("native.rs")).unwrap().contains("scratch::__volhook_native()"));
        assert!(kit.join("wit/driver.wit").exists());
        let source = kit.join("src/lib.rs");
        let before = fs::metadata(&source).unwrap().modified().unwrap();
        refresh(&project).unwrap();
        assert_eq!(fs::metadata(&source).unwrap().modified().unwrap(), before, "it was whole");
        fs::write(kit.join("left.rs"), "").unwrap();
        fs::write(kit.join(STAMP), "volhook 0.0.9").unwrap();
        refresh(&project).unwrap();
        assert!(!kit.join("left.rs").exists());
        fs::remove_file(&source).unwrap();
        refresh(&project).unwrap();
        assert!(source.exists());
    }
}
