//! What a host's volhook should have, and what it was seen to have: volumes and their content, the trash, pods, plugins.

use sha2::Digest;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Debug;

/// What is known of a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Its SHA-256, in hexadecimal.
    Is(String),
    /// Whoever wrote it was cut off: it may have any content, and may not be there.
    Any,
}

/// Files by their path in the volume.
pub(super) type Files = BTreeMap<String, Content>;

/// A volume as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Volume {
    /// The most that it can hold, in bytes; such a volume is an image.
    pub(super) limit: Option<u64>,
    pub(super) files: Files,
}

/// Everything that should be there, or that is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct State {
    pub(super) volumes: BTreeMap<String, Volume>,
    /// Removed volumes. Of what was seen only the names are known.
    pub(super) trash: BTreeMap<String, Volume>,
    /// Directories beside the store that may be adopted.
    pub(super) folders: BTreeMap<String, Files>,
    /// Pods, with the files that their containers have made.
    pub(super) pods: BTreeMap<String, Files>,
    pub(super) plugins: BTreeSet<String>,
}

/// A file that an operation makes: a line, again and again, up to a length. Host and lab both can make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) path: String,
    pub(super) line: String,
    pub(super) length: usize,
}

impl Text {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let line = format!("{}\n", self.line);
        line.bytes().cycle().take(self.length).collect()
    }

    pub(super) fn content(&self) -> Content {
        let digest = Sha256::digest(self.bytes());
        Content::Is(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// What is not as expected, a line each.
pub(super) fn differences(expected: &State, seen: &State) -> Vec<String> {
    let mut found = Vec::new();
    pairs("volume", &expected.volumes, &seen.volumes, &mut found, |name, expected, seen, found| {
        if expected.limit != seen.limit {
            found.push(format!("volume {name} can hold {:?} and not {:?}", seen.limit, expected.limit));
        }
        files(&format!("volume {name}"), &expected.files, &seen.files, found);
    });
    pairs("removed volume", &expected.trash, &seen.trash, &mut found, |_, _, _, _| {});
    pairs("folder", &expected.folders, &seen.folders, &mut found, |name, expected, seen, found| {
        files(&format!("folder {name}"), expected, seen, found);
    });
    pairs("pod", &expected.pods, &seen.pods, &mut found, |name, expected, seen, found| {
        files(&format!("pod {name}"), expected, seen, found);
    });
    for plugin in expected.plugins.symmetric_difference(&seen.plugins) {
        let is = if seen.plugins.contains(plugin) { "was never installed" } else { "is gone" };
        found.push(format!("plugin {plugin} {is}"));
    }
    found
}

/// Compares what has the same name.
fn pairs<T>(
    kind: &str,
    expected: &BTreeMap<String, T>,
    seen: &BTreeMap<String, T>,
    found: &mut Vec<String>,
    compare: impl Fn(&str, &T, &T, &mut Vec<String>),
) {
    let names: BTreeSet<&String> = expected.keys().chain(seen.keys()).collect();
    for name in names {
        match (expected.get(name), seen.get(name)) {
            (Some(expected), Some(seen)) => compare(name, expected, seen, found),
            (Some(_), None) => found.push(format!("{kind} {name} is gone")),
            (None, Some(_)) => found.push(format!("{kind} {name} should not be there")),
            (None, None) => {}
        }
    }
}

fn files(place: &str, expected: &Files, seen: &Files, found: &mut Vec<String>) {
    let paths: BTreeSet<&String> = expected.keys().chain(seen.keys()).collect();
    for path in paths {
        match (expected.get(path), seen.get(path)) {
            (Some(Content::Any), _) => {}
            (Some(expected), Some(seen)) if expected == seen => {}
            (Some(_), Some(_)) => found.push(format!("{path} of {place} has another content")),
            (Some(_), None) => found.push(format!("{path} of {place} is gone")),
            (None, _) => found.push(format!("{path} of {place} should not be there")),
        }
    }
}

/// What is expected with what was unknown of it as it was seen.
pub(super) fn settled(mut expected: State, seen: &State) -> State {
    let settle = |expected: &mut Files, seen: Option<&Files>| {
        let unknown: Vec<String> = expected
            .iter()
            .filter(|(_, content)| **content == Content::Any)
            .map(|(path, _)| path.clone())
            .collect();
        for path in unknown {
            match seen.and_then(|seen| seen.get(&path)) {
                Some(content) => expected.insert(path, content.clone()),
                None => expected.remove(&path),
            };
        }
    };
    for (name, volume) in &mut expected.volumes {
        settle(&mut volume.files, seen.volumes.get(name).map(|volume| &volume.files));
    }
    for (name, files) in &mut expected.pods {
        settle(files, seen.pods.get(name));
    }
    expected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[(&str, Content)]) -> State {
        let files = files.iter().map(|(path, content)| ((*path).to_owned(), content.clone())).collect();
        let volume = Volume { limit: Some(1), files };
        State { volumes: [("v".to_owned(), volume)].into(), ..State::default() }
    }

    fn is(text: &str) -> Content {
        Text { path: String::new(), line: text.to_owned(), length: 9 }.content()
    }

    #[test]
    fn every_difference_is_told() {
        let mut expected = with(&[("a", is("1")), ("b", is("2")), ("c", is("3"))]);
        let mut seen = with(&[("a", is("1")), ("b", is("3")), ("d", is("4"))]);
        assert_eq!(differences(&expected, &expected), Vec::<String>::new());
        expected.trash = [("t".to_owned(), Volume::default())].into();
        expected.pods = [("p".to_owned(), Files::new())].into();
        seen.plugins = ["x".to_owned()].into();
        seen.folders = [("f".to_owned(), Files::new())].into();
        seen.volumes.entry("v".to_owned()).or_default().limit = None;
        let told = differences(&expected, &seen);
        let wanted = [
            "volume v can hold None and not Some(1)",
            "b of volume v has another content",
            "c of volume v is gone",
            "d of volume v should not be there",
            "removed volume t is gone",
            "folder f should not be there",
            "pod p is gone",
            "plugin x was never installed",
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn what_was_cut_off_may_be_anything_and_is_known_once_it_was_seen() {
        let expected = with(&[("a", Content::Any), ("b", Content::Any)]);
        let seen = with(&[("a", is("1"))]);
        assert_eq!(differences(&expected, &seen), Vec::<String>::new());
        assert_eq!(settled(expected, &seen), seen);
    }

    /// The digest is that of sha256sum.
    #[test]
    fn a_text_has_the_content_that_the_shell_makes() {
        let text = Text { path: "f".to_owned(), line: "ab".to_owned(), length: 7 };
        assert_eq!(text.bytes(), b"ab\nab\na");
        let Content::Is(digest) = Text { length: 0, ..text }.content() else { panic!("it is known") };
        assert!(digest.starts_with("e3b0c44298fc1c14"), "{digest}");
    }
}
