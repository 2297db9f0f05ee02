//! What authors of plugins type: a new project, its tests, and what is said of what is wrong with it.

#[path = "fixtures/plugins/author.rs"]
mod author;
#[path = "fixtures/plugins/component.rs"]
mod component;

use anyhow::Result;
use author::Author;
use serde_json::json;
use std::fs;
use std::path::Path;
use volhook_harness::Output;
use volhook_harness::Volhook;

/// Puts `to` in the place of `from` in a file.
fn edit(author: &Author, path: &str, from: &str, to: &str) -> Result<()> {
    let path = author.folder(path);
    let text = fs::read_to_string(&path)?;
    assert!(text.contains(from), "{} has no {from:?}", path.display());
    Ok(fs::write(path, text.replace(from, to))?)
}

fn shown(author: &Author, output: &Output) -> String {
    output.to_string().replace(&*author.volhook.folder().to_string_lossy(), "[FOLDER]")
}

#[test]
fn a_new_driver_passes_its_tests_and_is_fit_to_be_installed() -> Result<()> {
    let author = Author::new()?;
    let made =
        author.volhook.command(&["plugin", "new", "my-scratch"]).directory(author.volhook.folder()).run()?;
    insta::assert_snapshot!(made.success(), @r#"
    my-scratch: the driver my-scratch, in rust

      cd my-scratch
      volhook plugin test

    README.md there says the rest.
    "#);
    insta::assert_snapshot!(author.run("my-scratch", &["test"])?, @r#"
    ok    cargo test: 2 passed
    ok    attach-exclusive  a second holder of an exclusive volume is refused
    ok    attach-shared     what is shared has room for one more, who gets the access that it asks for
    ok    create-defaults   a new volume is a directory that containers share
    ok    create-mode       the directory gets the mode that was asked for
    ok    create-no-mode    a mode that is none is refused
    my-scratch: 5 fixtures outside and inside the sandbox, 5 passed
    "#);
    let locked = fs::read_to_string(author.folder("my-scratch/Cargo.lock"))?;
    let remade = author.volhook.folder().join("again");
    author.volhook.run(&["plugin", "new", "my-scratch", "--path", &remade.to_string_lossy()])?.success();
    assert_eq!(fs::read_to_string(remade.join("Cargo.lock"))?, locked, "cargo would write it so itself");

    let built = author.run("my-scratch", &["build"])?.success();
    assert!(built.starts_with("build/my-scratch.wasm  ") && built.ends_with("no imports\n"), "{built}");
    let component = fs::read(author.folder("my-scratch/build/my-scratch.wasm"))?;
    assert!(!String::from_utf8_lossy(&component).contains(env!("CARGO_MANIFEST_DIR")));
    let run = author
        .run("my-scratch", &["run", "build/my-scratch.wasm", "--fixture", "fixtures/create-no-mode.toml"])?;
    assert!(run.stderr.starts_with("fuel ") && run.stderr.trim_end().ends_with(" µs"), "{run}");
    insta::assert_snapshot!(run.success(), @r#"
    refusal.reason = "mode \"abc\" is not octal"
    refusal.hint = "such as 0755"
    "#);

    let checked = author.run("my-scratch", &["check"])?;
    let words: Vec<&str> = checked.stdout.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(
        words,
        [
            "imports",
            "kind",
            "size",
            "description",
            "decisions",
            "determinism",
            "fuel",
            "memory",
            "time",
            "cold"
        ],
        "{checked}"
    );
    assert!(checked.success().lines().all(|line| line.starts_with("ok ")));
    // Without the project there are no fixtures; the questions are made up.
    let path = author.folder("my-scratch/build/my-scratch.wasm").to_string_lossy().into_owned();
    let alone = author.volhook.run(&["plugin", "check", &path])?.success();
    assert!(alone.contains("12 made-up questions, a decision on each"), "{alone}");
    author.volhook.run(&["plugin", "install", &path])?.success();
    author.volhook.run(&["volume", "create", "v", "-d", "my-scratch", "-o", "mode=0700"])?.success();
    Ok(())
}

#[test]
fn a_new_policy_passes_its_tests() -> Result<()> {
    let author = Author::new()?;
    author.new_project("caches", "policy")?;
    insta::assert_snapshot!(author.run("caches", &["test"])?, @r#"
    ok    cargo test: 1 passed
    ok    no-pod    a container without a pod gets nothing, and the operator is told
    ok    pod       a pod has a cache
    ok    relative  a target that is not absolute is refused
    ok    target    the cache appears where the settings say
    caches: 4 fixtures outside and inside the sandbox, 4 passed
    "#);
    let checked = author.run("caches", &["check"])?.success();
    assert!(checked.contains("policy, volhook:plugin/policy@0.1.0"), "{checked}");
    Ok(())
}

#[test]
fn a_wrong_answer_is_shown_and_can_be_accepted() -> Result<()> {
    let author = Author::new()?;
    author.new_project("wrong", "driver")?;
    edit(&author, "wrong/src/lib.rs", "\"stop that container first\"", "\"wait\"")?;
    edit(
        &author,
        "wrong/src/lib.rs",
        "Sharing::Shared));",
        "if request.holders.len() > 1 { panic!(\"many\") } else { Sharing::SingleWriter }));",
    )?;
    edit(&author, "wrong/fixtures/attach-shared.toml", "holders = [", "holders = [{}, ")?;
    fs::write(author.folder("wrong/fixtures/first.toml"), "# Ask.\ncall = \"attach\"\n")?;
    let failed = author.run("wrong", &["test"])?;
    assert_eq!(failed.code(), Some(1));
    insta::assert_snapshot!(shown(&author, &failed), @r#"
    ok    cargo test: 2 passed
    FAIL  attach-exclusive  a second holder of an exclusive volume is refused
          native and sandbox: - expected, + answered
              refusal.reason = "held by \"c1\""
            - refusal.hint = "stop that container first"
            + refusal.hint = "wait"
    FAIL  attach-shared     what is shared has room for one more, who gets the access that it asks for
          native and sandbox: - expected, + answered
            - attachment.access = "read-only"
            + fault = "panicked at src/lib.rs:56:86: many"
    ok    create-defaults   a new volume is a directory that containers share
    ok    create-mode       the directory gets the mode that was asked for
    ok    create-no-mode    a mode that is none is refused
    FAIL  first
          native and sandbox: nothing is expected yet, + answered
            + attachment.sharing = "single-writer"
    wrong: 6 fixtures outside and inside the sandbox, 3 passed, 3 failed
    ------- stderr -------
    Error: 3 tests of plugin "wrong" failed
    hint: where the answers are right and the fixtures are not: `volhook plugin test --accept`
    [exit status: 1]
    "#);

    let only = author.run("wrong", &["test", "--only", "sandbox", "--filter", "second holder"])?;
    insta::assert_snapshot!(shown(&author, &only), @r#"
    FAIL  attach-exclusive  a second holder of an exclusive volume is refused
          sandbox: - expected, + answered
              refusal.reason = "held by \"c1\""
            - refusal.hint = "stop that container first"
            + refusal.hint = "wait"
    wrong: 1 fixture in the sandbox, 1 failed
    ------- stderr -------
    Error: 1 test of plugin "wrong" failed
    hint: where the answers are right and the fixtures are not: `volhook plugin test --accept`
    [exit status: 1]
    "#);
    let accepted = author.run("wrong", &["test", "--accept", "--json"])?;
    assert_eq!(accepted.code(), Some(1), "a fault is nothing to expect: {accepted}");
    let report: serde_json::Value = serde_json::from_str(&accepted.stdout)?;
    assert_eq!(
        (&report["accepted"], &report["failed"], &report["passed"]),
        (&json!(2), &json!(1), &json!(3))
    );
    insta::assert_snapshot!(fs::read_to_string(author.folder("wrong/fixtures/first.toml"))?, @r#"
    # Ask.
    call = "attach"

    [expect.attachment]
    sharing = "single-writer"
    "#);
    edit(&author, "wrong/src/lib.rs", "panic!(\"many\")", "Sharing::Shared")?;
    author.run("wrong", &["test"])?.success();
    Ok(())
}

/// A component cannot have them, whatever made it want them.
#[test]
fn an_import_is_told_with_the_way_to_it() -> Result<()> {
    let author = Author::new()?;
    author.new_project("imports", "driver")?;
    let source = author.folder("imports/src/lib.rs");
    let mut text = fs::read_to_string(&source)?;
    text = text.replace(
        "let mode = value(",
        "#[cfg(target_arch = \"wasm32\")]\n        if clock::read() == 0 { panic!() }\n        let mode = value(",
    );
    text.push_str(concat!(
        "\n#[cfg(target_arch = \"wasm32\")]\nmod clock {\n",
        "    #[link(wasm_import_module = \"wasi_snapshot_preview1\")]\n",
        "    uns",
        "afe extern \"C\" { fn clock_time_get() -> u32; }\n",
        "    #[inline(never)]\n    pub fn read() -> u32 { uns",
        "afe { clock_time_get() } }\n}\n"
    ));
    fs::write(&source, text)?;
    let output = author.run("imports", &["build"])?;
    assert_eq!(output.code(), Some(1));
    let told = "the module imports \"wasi_snapshot_preview1::clock_time_get\": a plugin must not import anything; it is called by ";
    assert!(output.stderr.contains(told), "{output}");
    assert!(output.stderr.contains("clock::read"), "{output}");
    assert!(output.stderr.contains("hint: something wants an operating system"), "{output}");
    assert!(!author.folder("imports/build/imports.wasm").exists());
    Ok(())
}

#[test]
fn names_that_cannot_be_are_respelled() -> Result<()> {
    let volhook = Volhook::new()?;
    let refused = |args: &[&str], code| -> Result<String> {
        let output = volhook.command(&["plugin", "new"]).args(args).directory(volhook.folder()).run()?;
        assert_eq!(output.code(), Some(code), "{output}");
        Ok(output.stderr.replace(&*volhook.folder().to_string_lossy(), "[FOLDER]"))
    };
    insta::assert_snapshot!(refused(&["my.disk"], 2)?, @r#"
    Error: "my.disk" cannot be the name of a plugin: the name of a crate has no dots
    hint: spell it my-disk
    "#);
    insta::assert_snapshot!(refused(&["../x"], 2)?, @r#"
    Error: "../x" cannot be the name of a plugin: a name is 1 to 128 letters, digits, `_`, `.` and `-`, and begins with a letter or digit
    hint: spell it x
    "#);
    insta::assert_snapshot!(refused(&["9p"], 2)?, @r#"
    Error: "9p" cannot be the name of a plugin: the name of a crate begins with a letter
    hint: spell it v9p
    "#);
    insta::assert_snapshot!(refused(&["match"], 2)?, @r#"
    Error: "match" cannot be the name of a plugin: Rust has the word for itself
    hint: spell it match-volumes
    "#);
    insta::assert_snapshot!(refused(&["local"], 2)?, @r#"
    Error: "local" cannot be the name of a plugin: a built-in plugin has it
    hint: spell it my-local
    "#);
    insta::assert_snapshot!(refused(&["x", "--lang", "cobol"], 2)?.lines().next().unwrap_or_default(), @r#"Error: invalid value 'cobol' for '--lang <LANG>': there is no kit for "cobol"; there is one for rust, c, js, python"#);
    fs::create_dir(volhook.folder().join("full"))?;
    fs::write(volhook.folder().join("full/file"), "")?;
    insta::assert_snapshot!(refused(&["full"], 1)?, @r#"
    Error: full is not empty
    hint: name another folder with --path
    "#);
    insta::assert_snapshot!(volhook.command(&["plugin", "test"]).directory(volhook.folder()).run()?.stderr.replace(&*volhook.folder().to_string_lossy(), "[FOLDER]"), @r#"
    Error: . is not a plugin's project: it has no plugin.toml
    hint: `volhook plugin new NAME` makes one
    "#);
    Ok(())
}

#[test]
fn what_is_no_plugin_fails_its_check() -> Result<()> {
    let volhook = Volhook::new()?;
    let checked = |name: &str, bytes: &[u8]| -> Result<String> {
        let file = volhook.folder().join(name);
        fs::write(&file, bytes)?;
        let output = volhook.run(&["plugin", "check", &file.to_string_lossy()])?;
        assert_eq!(output.code(), Some(1), "{output}");
        Ok(output.to_string().replace(&*volhook.folder().to_string_lossy(), "[FOLDER]"))
    };
    let component = |text: &str| wat::parse_str(text).expect("the component is valid");
    insta::assert_snapshot!(checked("text.wasm", b"no wasm")?, @r#"
    FAIL  component      it is not valid WebAssembly: it does not begin as WebAssembly does
                         → `volhook plugin build` makes one of a project
    ------- stderr -------
    Error: [FOLDER]/text.wasm is not fit to be installed: 1 failed
    [exit status: 1]
    "#);
    insta::assert_snapshot!(checked("module.wasm", &component("(module)"))?, @r#"
    FAIL  component      it is a WebAssembly module, not a component: `volhook plugin build` makes one of a project
                         → `volhook plugin build` makes one of a project
    ------- stderr -------
    Error: [FOLDER]/module.wasm is not fit to be installed: 1 failed
    [exit status: 1]
    "#);
    insta::assert_snapshot!(checked("imports.wasm", &component("(component (import \"wasi:clocks/wall-clock@0.2.0\" (instance)))"))?, @r#"
    FAIL  imports        wasi:clocks/wall-clock@0.2.0
                         → a plugin must not import anything: it knows what it is asked and nothing else
    FAIL  kind           it exports nothing of volhook:plugin
                         → build it for a world of `wit/`: `volhook plugin new` makes a project that does
    ------- stderr -------
    Error: [FOLDER]/imports.wasm is not fit to be installed: 2 failed
    [exit status: 1]
    "#);
    insta::assert_snapshot!(checked("empty.wasm", &component("(component)"))?, @r#"
    ok    imports        none
    FAIL  kind           it exports nothing of volhook:plugin
                         → build it for a world of `wit/`: `volhook plugin new` makes a project that does
    ------- stderr -------
    Error: [FOLDER]/empty.wasm is not fit to be installed: 1 failed
    [exit status: 1]
    "#);
    let file = volhook.folder().join("run.wasm");
    fs::write(&file, component("(module)"))?;
    let fixture = volhook.folder().join("f.toml");
    fs::write(&fixture, "call = \"describe\"\n[request]\n")?;
    let run = |fixture: &Path| {
        volhook.run(&["plugin", "run", &file.to_string_lossy(), "--fixture", &fixture.to_string_lossy()])
    };
    let shown = |output: Output| output.to_string().replace(&*volhook.folder().to_string_lossy(), "[FOLDER]");
    insta::assert_snapshot!(shown(run(&fixture)?), @r#"
    ------- stderr -------
    Error: [FOLDER]/f.toml:2: describe has no request
    [exit status: 1]
    "#);
    fs::write(&fixture, "call = \"describe\"\n")?;
    insta::assert_snapshot!(shown(run(&fixture)?), @r#"
    ------- stderr -------
    Error: [FOLDER]/run.wasm is not a plugin: it is a WebAssembly module, not a component: `volhook plugin build` makes one of a project
    [exit status: 1]
    "#);
    Ok(())
}

/// Components that misbehave when they are asked fail with what they did.
#[test]
fn a_faulty_plugin_fails_its_check() -> Result<()> {
    let volhook = Volhook::new()?;
    let file = volhook.folder().join("loop.wasm");
    fs::write(&file, component::fixture("loop"))?;
    let output = volhook.run(&["plugin", "check", &file.to_string_lossy()])?;
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.stdout.contains("FAIL  decisions ") && output.stdout.contains("limits.fuel"), "{output}");
    Ok(())
}

#[test]
fn without_cargo_it_is_told_how_to_get_it() -> Result<()> {
    let author = Author::new()?;
    author.new_project("lonely", "driver")?;
    let output =
        author.run_with("lonely", &["build"], |name| (name == "PATH").then(|| "/nonexistent".into()))?;
    assert_eq!(output.code(), Some(1));
    insta::assert_snapshot!(output.stderr, @r#"
    Error: cannot build the plugin: rustc is not installed, which building plugins in Rust needs
    hint: install it as https://rustup.rs says
    hint: or, on Debian: apt-get install rustc-web rust-web-src lld-22 cargo
    "#);
    Ok(())
}

#[test]
fn recorded_decisions_are_replayed() -> Result<()> {
    let author = Author::new()?;
    author.new_project("replayed", "driver")?;
    author.run("replayed", &["build"])?.success();
    let recorded = author.folder("recorded.jsonl");
    let line = |volume: &str, options: serde_json::Value, outcome: serde_json::Value| {
        json!({
            "time": "2026-11-21T10:00:00Z", "plugin": "replayed", "digest": "ab", "call": "attach",
            "request": {
                "volume": volume, "options": options, "labels": [], "settings": [], "access": "read-write",
                "container": { "id": "c9", "tenant": "default", "pod": null },
                "holders": [{ "container": "c1", "access": "read-write", "sharing": "exclusive" }],
            },
            "outcome": outcome, "consumed": { "fuel": 5, "memory": 65536 },
        })
        .to_string()
            + "\n"
    };
    let refusal = |hint| json!({ "answer": { "refusal": { "reason": "held by \"c1\"", "hint": hint } } });
    let exclusive = || json!([["sharing", "exclusive"]]);
    let file = recorded.to_string_lossy().into_owned();
    let replay = ["replay", "build/replayed.wasm", "--recorded", &file];

    fs::write(&recorded, line("a", exclusive(), refusal("stop that container first")))?;
    insta::assert_snapshot!(author.run("replayed", &replay)?, @"replayed: 1 decision replayed, 1 the same, 0 changed");
    let other = line("x", exclusive(), refusal("other")).replace("\"replayed\"", "\"else\"");
    let text = ["a", "b", "c", "d"].map(|volume| line(volume, exclusive(), refusal("wait"))).concat()
        + &line("e", json!([]), json!({ "fault": "it trapped (unreachable)" }))
        + &line("f", exclusive(), refusal("stop that container first"))
        + &other;
    fs::write(&recorded, text)?;
    let changed = author.run("replayed", &replay)?;
    assert_eq!(changed.code(), Some(1));
    insta::assert_snapshot!(changed, @r#"
    4 decisions on attach: - recorded, + now
      - refusal.hint = "wait"
      + refusal.hint = "stop that container first"
      2026-11-21T10:00:00Z  volume a, container c9
      2026-11-21T10:00:00Z  volume b, container c9
      2026-11-21T10:00:00Z  volume c, container c9
      and 1 more

    1 decision on attach: - recorded, + now
      - fault = "it trapped (unreachable)"
      + attachment
      2026-11-21T10:00:00Z  volume e, container c9

    replayed: 6 decisions replayed, 1 the same, 5 changed
    ------- stderr -------
    Error: 5 decisions of plugin "replayed" would be others
    [exit status: 1]
    "#);

    fs::write(&recorded, &other)?;
    insta::assert_snapshot!(shown(&author, &author.run("replayed", &replay)?), @r#"
    ------- stderr -------
    Error: [FOLDER]/recorded.jsonl has no decisions of the plugin "replayed"; there are some of else
    hint: --plugin names the one whose decisions are replayed
    [exit status: 1]
    "#);
    fs::write(&recorded, "{}\n")?;
    let wrong = author.run("replayed", &replay)?;
    assert!(wrong.stderr.contains("recorded.jsonl:1: this is not a recorded decision: "), "{wrong}");
    // Nothing is recorded on this host.
    let none = author.run("replayed", &["replay", "build/replayed.wasm"])?;
    assert!(none.stderr.contains("hint: `record.decisions = true`"), "{none}");
    Ok(())
}
