//! The example plugins of the repository: one driver in all languages, which decides alike in each.

use crate::build;
use crate::fixture::fixtures_in;
use crate::new::NewProject;
use crate::new::create;
use crate::project::LanguageName;
use crate::project::Project;
use crate::subject;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use tempfile::TempDir;
use volhook_compile::compile;
use volhook_core::config::Limits;
use volhook_core::decision::PluginKind;
use volhook_core::question::Outcome;
use volhook_core::question::Question;
use volhook_plugin_host::Trial;

/// Questions besides the fixtures.
const RANDOM: usize = 300;

fn plugins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// The driver in a folder of its own, built and tried.
fn built(language: LanguageName) -> Trial {
    let scratch = TempDir::new().unwrap();
    let folder = scratch.path().join("team-quota");
    let project = if language == LanguageName::Rust {
        // The one in Rust is a crate of the workspace, with tests that need its crates.
        let (name, kind) = ("team-quota".to_owned(), PluginKind::Driver);
        let project = create(NewProject { name, kind, language, folder: Some(folder.clone()) }).unwrap();
        let source = fs::read_to_string(plugins().join("team-quota/src/lib.rs")).unwrap();
        let (source, _) = source.split_once("\n#[cfg(test)]\nmod tests {").unwrap();
        fs::write(folder.join("src/lib.rs"), source).unwrap();
        project
    } else {
        copy(&plugins().join(format!("team-quota-{language}")), &folder);
        Project::open(&folder).unwrap()
    };
    let built = build(&project).unwrap_or_else(|error| panic!("{language}: {error}"));
    // The sandbox of a debug build is slow, and not what is tested here.
    let limits = Limits { time: 60_000, ..Limits::default() };
    Trial::new(&built.component, &limits, compile).unwrap_or_else(|error| panic!("{language}: {error}"))
}

/// New volumes of teams, most of them sensible, with numbers that all languages hold exactly.
fn random() -> impl Iterator<Item = Question> {
    let text = "[a-zA-Z0-9 ._=\u{e4}\u{2713}-]{0,12}";
    // Mostly of this unit, so that about as many volumes are granted as refused.
    let amount = |unit: &'static str| {
        let likely =
            (0..2000_u64, unit, "(i?[bB])?").prop_map(|(number, unit, rest)| format!("{number}{unit}{rest}"));
        prop_oneof![16 => likely, 1 => "[0-9]{1,25}[KMGTPkmgtp]?", 1 => text]
    };
    let team = prop_oneof![16 => "[ab]", 1 => text];
    let pair = |name: &str, value: Option<String>| {
        value.map(|value| json!([name, value])).into_iter().collect::<Vec<_>>()
    };
    let strategy = (
        prop::option::weighted(0.9, team),
        prop::option::weighted(0.8, amount("[Mm]")),
        prop::option::of(amount("[Gg]")),
        prop::option::of(amount("[Gg]")),
        prop::option::of(0..1_u64 << 40),
        any::<bool>(),
    )
        .prop_map(move |(team, size, default, own, used, twice)| {
            let labels = pair("team", team.clone());
            let mut settings = pair("default", default);
            settings.extend(pair("teams.a", own));
            let usage = |name: &str, bytes: u64| json!({ "label": [name, team], "volumes": 1, "bytes": bytes });
            let mut used: Vec<_> = used.filter(|_| team.is_some()).map(|bytes| usage("team", bytes)).into_iter().collect();
            if twice && team.is_some() {
                used.insert(0, usage("app", 1 << 40));
            }
            let request = json!({
                "volume": "v", "tenant": "default", "pod": null, "options": pair("size", size), "labels": labels,
                "settings": settings, "usage": { "volumes": 1, "bytes": 1, "labels": used },
            });
            serde_json::from_value(json!({ "call": "create", "request": request })).expect("a question")
        });
    let mut runner = TestRunner::deterministic();
    (0..RANDOM).map(move |_| strategy.new_tree(&mut runner).expect("nothing is rejected").current())
}

#[test]
fn team_quota_in_c_js_and_python_decides_as_in_rust() {
    let fixtures = fixtures_in(&plugins().join("team-quota/fixtures"), None).unwrap();
    let known: Vec<(Question, Option<Outcome>)> = fixtures
        .into_iter()
        .map(|fixture| (fixture.question, fixture.expected.map(Outcome::Answer)))
        .chain([(Question::Describe, None)])
        .chain(random().map(|question| (question, None)))
        .collect();
    let [rust, others @ ..] = LanguageName::ALL.map(|language| (language, built(language)));
    let outcome = |trial: &Trial, question: &Question| subject::ask(trial, question).unwrap().0;
    let (mut granted, mut refused) = (0, 0);
    for (question, expected) in &known {
        let decided = outcome(&rust.1, question);
        if let Some(expected) = expected {
            assert_eq!(&decided, expected, "rust, {question:?}");
        }
        for (language, trial) in &others {
            assert_eq!(outcome(trial, question), decided, "{language}, {question:?}");
        }
        match serde_json::to_value(&decided).unwrap().pointer("/answer/refusal") {
            Some(_) => refused += 1,
            None => granted += 1,
        }
    }
    assert!(granted > RANDOM / 5 && refused > RANDOM / 5, "{granted} granted, {refused} refused");
}
