//! Components that were built for the released versions of the interface: each still installs, and decides as it did.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../../../tests/fixtures/api/cases.rs"]
mod cases;

use cases::Case;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::decision::PluginKind;
use volhook_core::question::Outcome;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn folders(path: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// The frozen components and their cases, by version.
fn frozen() -> Vec<(String, PluginKind, Vec<u8>, Vec<Case>)> {
    let api = repository().join("tests/fixtures/api");
    let versions = folders(&api);
    assert_eq!(
        versions,
        folders(&repository().join("wit")),
        "`cargo xtask freeze VERSION` makes what is missing"
    );
    let kinds = [PluginKind::Driver, PluginKind::Policy];
    let both = versions.iter().flat_map(|version| kinds.map(|kind| (version.clone(), kind)));
    let read = |(version, kind): (String, PluginKind)| {
        let file = api.join(&version).join(kind.to_string());
        let component = fs::read(file.with_extension("wasm")).unwrap();
        let cases = serde_json::from_slice(&fs::read(file.with_extension("json")).unwrap()).unwrap();
        (version, kind, component, cases)
    };
    both.map(read).collect()
}

/// Whether `whole` has all of `part`: later versions of volhook know more fields, and must not forget one.
fn has(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, value)| whole.get(name).is_some_and(|found| has(found, value)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| has(whole, part))
        }
        (whole, part) => whole == part,
    }
}

#[test]
fn what_was_built_for_a_released_version_decides_as_it_did() {
    for (version, kind, component, cases) in frozen() {
        let trial = cases::installed(&component).unwrap();
        assert_eq!((trial.entry().kind, trial.entry().api_version.as_str()), (kind, version.as_str()));
        assert!(cases.len() > 10, "{version} {kind}: {} cases", cases.len());
        for case in &cases {
            let what = format!("{version} {kind}, {}", case.about);
            let outcome = cases::ask(&trial, &case.question().unwrap()).unwrap();
            // What volhook makes of the recorded one, and that this is all of it.
            let recorded: Outcome = serde_json::from_value(case.outcome.clone()).unwrap();
            assert_eq!(outcome, recorded, "{what}");
            let shown = serde_json::to_value(&outcome).unwrap();
            assert!(has(&shown, &case.outcome), "{what}: {shown} lacks something of {}", case.outcome);
        }
    }
}

/// A case that no question reaches could change without a test.
#[test]
fn every_word_of_the_interface_is_in_a_case() {
    for (version, kind, _, cases) in frozen() {
        let text =
            cases.iter().map(|case| format!("{:?} {:?}", case.request, case.outcome)).collect::<String>();
        let wit = fs::read_to_string(repository().join(format!("wit/{version}/{kind}.wit"))).unwrap();
        let members =
            wit.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| !line.starts_with('/'));
        let names = members.filter_map(|line| line.split([':', '(', ',']).next());
        // JSON has another name for one, and none for the room for additions.
        let in_json = |name: &str| match name {
            "restrictions" => "flags".to_owned(),
            name => name.replace('-', "_"),
        };
        let missing: Vec<&str> = names
            .filter(|name| *name != "more" && !text.contains(*name) && !text.contains(&in_json(name)))
            .collect();
        assert_eq!(missing, [""; 0], "{version} {kind}");
    }
}

#[test]
fn they_are_small() {
    for (version, kind, component, _) in frozen() {
        assert!(component.len() < 100 << 10, "{version} {kind}: {} bytes", component.len());
    }
}
