//! hook/docs/commands.md against the binary: every command and every key of `--json`, and no others.

#[path = "fixtures/plugins/author.rs"]
mod author;

use anyhow::Result;
use author::Author;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use volhook_harness::BundleBuilder;
use volhook_harness::Volhook;

const CONTAINER: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hook/docs/commands.md");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of the rows of a table whose first cell is code, that code first.
fn rows(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Option<Vec<String>> {
        let line = line.strip_prefix("| `")?;
        let (code, rest) = line.split_once("` |")?;
        let rest = rest.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned());
        Some([code.to_owned()].into_iter().chain(rest).collect())
    };
    text.lines().filter_map(cells).collect()
}

/// Every command, as it is typed; those that only hold others are left out.
fn commands(volhook: &Volhook) -> Result<BTreeSet<String>> {
    let folder = volhook.folder().join("man");
    let written = volhook.run(&["man", "--out", &folder.to_string_lossy()])?.success();
    let names: BTreeSet<String> = written
        .lines()
        .filter_map(|line| Some(line.rsplit('/').next()?.strip_suffix(".8")?.replace('-', " ")))
        .collect();
    let is_leaf = |name: &&String| !names.iter().any(|other| other.starts_with(&format!("{name} ")));
    Ok(names.iter().filter(is_leaf).cloned().collect())
}

#[test]
fn every_command_is_in_the_document_and_no_other() -> Result<()> {
    let volhook = Volhook::new()?;
    let text = document();
    let (table, _) = text.split_once("## What goes where").expect("the table of commands comes first");
    let names = rows(table).into_iter().map(|row| row[0].clone());
    let documented: BTreeSet<String> = names.filter(|name| name.starts_with("volhook ")).collect();
    assert_eq!(documented, commands(&volhook)?, "complete the table in hook/docs/commands.md");
    Ok(())
}

/// What a document of a command must look like: the type of each key.
type Shape = BTreeMap<String, String>;

/// The documented shapes, by command.
fn shapes() -> BTreeMap<String, Shape> {
    let text = document();
    let sections = text.split("\n### `").skip(1);
    sections
        .map(|section| {
            let (title, body) = section.split_once('`').expect("a title is code");
            let (body, _other_chapter) = body.split_once("\n## ").unwrap_or((body, ""));
            let shape = rows(body).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
            (title.trim_end_matches(" --json").to_owned(), shape)
        })
        .collect()
}

/// What the commands of an author of plugins print.
fn documents_of_an_author() -> Result<Vec<(&'static str, Value)>> {
    let author = Author::new()?;
    author.new_project("documented", "driver")?;
    // What is measured of one fixture has the shape of all.
    for name in ["create-defaults", "create-mode", "create-no-mode", "attach-shared"] {
        fs::remove_file(author.folder(&format!("documented/fixtures/{name}.toml")))?;
    }
    let container = serde_json::json!({ "id": "c1", "tenant": "default", "pod": null });
    let recorded = serde_json::json!({
        "time": "2026-11-21T10:00:00Z", "plugin": "documented", "digest": "ab", "call": "attach",
        "request": {
            "volume": "v", "options": [], "labels": [], "settings": [], "access": "read-write",
            "container": container, "holders": [],
        },
        "outcome": { "fault": "it trapped" }, "consumed": { "fuel": 5, "memory": 65536 },
    });
    fs::write(author.folder("documented/recorded.jsonl"), recorded.to_string())?;
    let mut documents = Vec::new();
    for (command, args) in [
        ("volhook plugin test", &["test", "--json"][..]),
        (
            "volhook plugin run",
            &["run", "build/documented.wasm", "--fixture", "fixtures/attach-exclusive.toml", "--json"],
        ),
        ("volhook plugin check", &["check", "--json"]),
        ("volhook plugin bench", &["bench", "--json"]),
        (
            "volhook plugin replay",
            &["replay", "build/documented.wasm", "--recorded", "recorded.jsonl", "--json"],
        ),
    ] {
        let output = author.run("documented", args)?;
        let value = serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output}"));
        documents.push((command, value));
    }
    Ok(documents)
}

/// Compares a value with its documented shape, and notes what was seen.
fn compare(value: &Value, path: &str, shape: &Shape, seen: &mut BTreeSet<String>, wrong: &mut Vec<String>) {
    let documented = shape.get(path);
    if let Some(kind) = documented {
        seen.insert(path.to_owned());
        let (types, _) = kind.split_once(',').unwrap_or((kind, ""));
        let is_time = |text: &str| text.ends_with('Z') && text.len() > 19 && text.as_bytes()[10] == b'T';
        let fits = types.split(" or ").any(|kind| match (kind, value) {
            ("text", Value::String(_))
            | ("number", Value::Number(_))
            | ("null", Value::Null)
            | ("list", Value::Array(_))
            | ("map", Value::Object(_))
            | ("true" | "false", Value::Bool(_)) => true,
            ("time", Value::String(text)) => is_time(text),
            _ => false,
        });
        if !fits {
            wrong.push(format!("{path} is documented as {kind:?} and is {value}"));
        }
        if types == "map" || kind.contains("open") {
            return;
        }
    }
    match value {
        Value::Array(values) => {
            for value in values {
                compare(value, &format!("{path}[]"), shape, seen, wrong);
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(value, &path, shape, seen, wrong);
            }
        }
        _ if documented.is_none() => wrong.push(format!("{path} is not documented")),
        _ => {}
    }
}

/// Notes in what a command's document differs from its documented shape.
fn look_at(command: &str, value: &Value, shapes: &BTreeMap<String, Shape>, wrong: &mut Vec<String>) {
    let shape = shapes.get(command).unwrap_or_else(|| panic!("{command} --json is not documented"));
    let mut seen = BTreeSet::new();
    let before = wrong.len();
    compare(value, "", shape, &mut seen, wrong);
    for (key, kind) in shape {
        if !seen.contains(key) && !kind.contains(", where") {
            wrong.push(format!("{key} is documented and not there"));
        }
    }
    wrong[before..].iter_mut().for_each(|line| *line = format!("{command}: {line}"));
}

#[test]
fn every_key_of_json_is_as_documented() -> Result<()> {
    let volhook = Volhook::new()?;
    for args in [
        &["volume", "create", "mydb", "-d", "block", "-o", "size=16M", "--label", "team=a"][..],
        &["volume", "create", "gone"],
        &["volume", "rm", "--force", "gone"],
    ] {
        volhook.run(args)?.success();
    }
    let bundle = BundleBuilder::new()
        .directory("/data")
        .directory("/opt")
        .annotation("dev.volhook.mount.x", "source=shared,target=/data")
        .annotation("dev.volhook.pod", "p1")
        .annotation("dev.volhook.policy", "universal,population=copy")
        .build()?;
    let mut spec = bundle.config()?;
    spec["linux"]["cgroupsPath"] = format!("/machine/libpod-{CONTAINER}").into();
    let precreate = volhook.command(&["hook", "precreate"]).directory(bundle.path());
    precreate.stdin(spec.to_string()).run()?.success();

    let script = volhook.folder().join("script.txt");
    fs::write(&script, "exec echo x\nshow output\nexpect stdout is y\n")?;
    let script = script.to_string_lossy().into_owned();

    let shapes = shapes();
    let path = bundle.path().to_string_lossy().into_owned();
    let mut checked = BTreeSet::new();
    let mut wrong = Vec::new();
    // One after the other: the last look is at a journal with a torn file.
    for (command, args) in [
        ("volhook volume ls", vec!["volume", "ls", "--count", "--json"]),
        ("volhook volume inspect", vec!["volume", "inspect", "mydb", "shared", "vol-p1-etc"]),
        ("volhook pod ls", vec!["pod", "ls", "--json"]),
        ("volhook pod inspect", vec!["pod", "inspect", "p1"]),
        ("volhook df", vec!["df", "--json"]),
        ("volhook trash ls", vec!["trash", "ls", "--json"]),
        ("volhook lease ls", vec!["lease", "ls", "--json"]),
        ("volhook events", vec!["events", "--json"]),
        ("volhook explain", vec!["explain", CONTAINER, "--json"]),
        ("volhook driver ls", vec!["driver", "ls", "--json"]),
        ("volhook driver inspect", vec!["driver", "inspect", "block", "--json"]),
        ("volhook plugin ls", vec!["plugin", "ls", "--json"]),
        ("volhook plugin inspect", vec!["plugin", "inspect", "universal", "--json"]),
        ("volhook plan", vec!["plan", &path, "--json"]),
        ("volhook journal check", vec!["journal", "check", "--json"]),
        ("volhook harness run", vec!["harness", "run", "--json", &script]),
        ("volhook gc", vec!["gc", "--json"]),
        ("volhook doctor", vec!["doctor", "--json"]),
        ("volhook journal check", vec!["journal", "check", "--json"]),
    ] {
        let output = volhook.run(&args)?;
        let value: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output}"));
        look_at(command, &value, &shapes, &mut wrong);
        checked.insert(command.to_owned());
        if command == "volhook doctor" {
            let file = volhook.root().join("journal/volumes");
            let bytes = fs::read(&file)?;
            fs::write(&file, &bytes[..bytes.len() - 3])?;
        }
    }
    for (command, value) in documents_of_an_author()? {
        look_at(command, &value, &shapes, &mut wrong);
        checked.insert(command.to_owned());
    }
    assert!(wrong.is_empty(), "hook/docs/commands.md or the output is wrong:\n  {}", wrong.join("\n  "));
    assert_eq!(checked, shapes.into_keys().collect::<BTreeSet<_>>(), "every documented shape is looked at");
    Ok(())
}

#[test]
fn every_command_with_json_has_its_shape_documented() -> Result<()> {
    let volhook = Volhook::new()?;
    let shapes = shapes();
    for command in commands(&volhook)? {
        let mut words: Vec<&str> = command.split(' ').skip(1).collect();
        words.push("--help");
        if volhook.run(&words)?.success().contains("--json") {
            assert!(
                shapes.contains_key(&command),
                "add the keys of `{command} --json` to hook/docs/commands.md"
            );
        }
    }
    Ok(())
}
