//! New projects in all languages: each builds as it is, decides as the others do, and alike in the sandbox and out of it.

use super::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Stdio;
use std::time::Instant;
use tempfile::TempDir;
use volhook_core::config::Limits;
use volhook_core::decision as core;
use volhook_plugin_host::Host;
use volhook_plugin_host::PluginError;
use wasmparser::Parser;
use wasmparser::Payload;

const WIT: [(&str, &str); 2] = [
    ("driver.wit", include_str!("../../../../wit/0.1.0/driver.wit")),
    ("policy.wit", include_str!("../../../../wit/0.1.0/policy.wit")),
];

/// A project in a folder of its own, as `volhook plugin new` makes one.
struct Workshop {
    folder: TempDir,
    project: Project,
}

impl Workshop {
    fn new(name: LanguageName, kind: PluginKind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let language = language(name);
        let write = |path: String, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text.replace("{{name}}", "scratch")).unwrap();
        };
        language.template(kind).iter().for_each(|(path, text)| write((*path).to_owned(), text));
        language.kit(kind).iter().for_each(|(path, text)| write(format!("kit/{path}"), text));
        WIT.iter().for_each(|(path, text)| write(format!("kit/wit/{path}"), text));
        fs::create_dir(folder.path().join("build")).unwrap();
        let project = Project {
            folder: folder.path().to_owned(),
            name: "scratch".to_owned(),
            kind,
            language: name,
            api: "0.1.0".to_owned(),
        };
        Self { folder, project }
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join(language(self.project.language).source())
    }

    /// Replaces a part of the author's code, which must be there.
    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.source()).unwrap();
        assert!(text.contains(from), "{} has no {from:?}", self.source().display());
        fs::write(self.source(), text.replacen(from, to, 1)).unwrap();
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("build")
    }

    #[track_caller]
    fn build(&self) -> Vec<u8> {
        succeed(language(self.project.language).build(&self.project, &self.out()))
    }

    #[track_caller]
    fn native(&self) -> Native {
        let mut command = succeed(language(self.project.language).native(&self.project, &self.out()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Native { child, answers }
    }
}

/// What a build made; a tool that is missing is no reason to pass.
#[track_caller]
fn succeed<T>(result: Result<T, BuildError>) -> T {
    result.unwrap_or_else(|error| match error {
        BuildError::MissingTool { .. } => panic!("{error}; run `cargo xtask setup`, which installs it"),
        BuildError::Failed { ref output, .. } => panic!("{error}:\n{output}"),
        error => panic!("{error:?}"),
    })
}

/// The plugin outside the sandbox.
struct Native {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Native {
    fn ask(&mut self, question: &Value) -> Value {
        let mut stdin = self.child.stdin.as_ref().unwrap();
        writeln!(stdin, "{question}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?} to {question}"));
        let (word, value) = answer.as_object().unwrap().iter().next().unwrap();
        let value = match word.as_str() {
            "info" => anew::<core::PluginInfo>(value),
            "creation" => anew::<core::Creation>(value),
            "attachment" => anew::<core::Attachment>(value),
            "grant" => anew::<core::PolicyGrant>(value),
            "refusal" => anew::<core::Refusal>(value),
            _ => value.clone(),
        };
        json!({ word: value })
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// The same value as volhook itself writes it.
fn anew<T: DeserializeOwned + Serialize>(value: &Value) -> Value {
    let read: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"));
    serde_json::to_value(read).unwrap()
}

/// The default, but for time: what is asked here is what a plugin answers, on however slow a machine.
fn limits() -> Limits {
    Limits { time: 60_000, total_time: 60_000, ..Limits::default() }
}

/// The plugin as volhook asks it, installed.
struct Sandboxed {
    folder: TempDir,
    kind: PluginKind,
}

impl Sandboxed {
    fn new(component: &[u8], kind: PluginKind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let entry =
            volhook_plugin_host::install(folder.path(), component, &limits(), volhook_compile::compile)
                .unwrap();
        eprintln!("component {} B, installed in {:?}", component.len(), begun.elapsed());
        assert_eq!((entry.name.as_str(), entry.kind), ("scratch", kind));
        Self { folder, kind }
    }

    fn ask(&self, question: &Value) -> Value {
        // A host of its own for each question: the time for all calls of one is limited.
        let host = Host::new(self.folder.path().to_owned(), limits(), None);
        let request = &question["request"];
        match (question["call"].as_str().unwrap(), self.kind) {
            ("describe", PluginKind::Driver) => {
                answered("info", host.driver("scratch").unwrap().describe().map(Ok::<_, core::Refusal>))
            }
            ("describe", PluginKind::Policy) => {
                answered("info", host.policy("scratch").unwrap().describe().map(Ok::<_, core::Refusal>))
            }
            ("create", _) => answered("creation", host.driver("scratch").unwrap().create(&read(request))),
            ("attach", _) => answered("attachment", host.driver("scratch").unwrap().attach(&read(request))),
            (_, _) => answered("grant", host.policy("scratch").unwrap().claims(&read(request))),
        }
    }
}

fn read<T: DeserializeOwned>(request: &Value) -> T {
    serde_json::from_value(request.clone()).unwrap()
}

fn answered<T: Serialize>(word: &str, answer: Result<Result<T, core::Refusal>, PluginError>) -> Value {
    match answer {
        Ok(Ok(answer)) => json!({ word: answer }),
        Ok(Err(refusal)) => json!({ "refusal": refusal }),
        Err(PluginError::Fault { fault, .. }) => json!({ "fault": fault.to_string() }),
        Err(error) => panic!("{error}"),
    }
}

fn create(options: &Value) -> Value {
    json!({ "call": "create", "request": {
        "volume": "v", "tenant": "default", "pod": null, "options": options, "labels": [], "settings": [],
        "usage": { "volumes": 1, "bytes": u64::MAX },
    }})
}

fn attach(options: &Value, holders: &Value, access: &str) -> Value {
    json!({ "call": "attach", "request": {
        "volume": "v", "options": options, "labels": [["a", "b"]], "holders": holders, "access": access,
        "container": { "id": "c2", "tenant": "default", "pod": "p1" }, "settings": [],
    }})
}

fn claims(pod: &Value, settings: &Value) -> Value {
    json!({ "call": "claims", "request": {
        "container": { "id": "c1", "tenant": "default", "pod": pod },
        "rootfs": [{ "name": "etc", "kind": "directory" }, { "name": "bin", "kind": "symlink" }],
        "settings": settings, "pod": null, "no_overlay": null,
    }})
}

fn refusal(reason: &str, hint: &str) -> Value {
    json!({ "refusal": { "reason": reason, "hint": hint } })
}

/// Questions and the answers that the templates of all languages give.
fn expected(kind: PluginKind) -> Vec<(Value, Value)> {
    let created = |mode: &str, bits: u32, sharing: &str| {
        json!({ "creation": {
            "backing": { "directory": { "mode": bits, "uid": 0, "gid": 0 } },
            "options": [["mode", mode], ["sharing", sharing]], "limit": null, "sharing": null, "notes": [],
        }})
    };
    let attached = |access: &str, sharing: &str| {
        json!({ "attachment": {
            "access": access, "sharing": sharing,
            "flags": { "nosuid": false, "nodev": false, "noexec": false }, "notes": [],
        }})
    };
    let granted = |claims: Value, notes: Value| json!({ "grant": { "storage": null, "claims": claims, "notes": notes } });
    let cache = |target: &str| {
        json!([{
            "volume": "cache-p1", "member": "cache", "target": target, "driver": "local", "options": [],
            "labels": [], "access": "read-write", "subpath": null, "no_copy": false,
        }])
    };
    let no_octal = |mode: &str| refusal(&format!("mode \"{mode}\" is not octal"), "such as 0755");
    let holders = json!([
        { "container": "c1", "access": "read-write", "sharing": "exclusive" },
        { "container": "c3", "access": "read-only", "sharing": "single-writer" },
    ]);
    let exclusive = json!([["sharing", "exclusive"]]);
    match kind {
        PluginKind::Driver => vec![
            (create(&json!([])), created("0755", 0o755, "shared")),
            (
                create(&json!([["sharing", "exclusive"], ["mode", "7777"]])),
                created("7777", 0o7777, "exclusive"),
            ),
            (create(&json!([["mode", "0001777"]])), created("0001777", 0o1777, "shared")),
            (create(&json!([["mode", "abc"]])), no_octal("abc")),
            (create(&json!([["mode", ""]])), no_octal("")),
            (create(&json!([["mode", "10000"]])), no_octal("10000")),
            (create(&json!([["mode", "777777777777777777777777"]])), no_octal("777777777777777777777777")),
            (create(&json!([["mode", "-7"]])), no_octal("-7")),
            (attach(&json!([]), &holders, "read-only"), attached("read-only", "shared")),
            (
                attach(&json!([["sharing", "shared"]]), &holders, "read-write"),
                attached("read-write", "shared"),
            ),
            (attach(&exclusive, &json!([]), "read-write"), attached("read-write", "exclusive")),
            (
                attach(&exclusive, &holders, "read-write"),
                refusal("held by \"c1\"", "stop that container first"),
            ),
        ],
        PluginKind::Policy => vec![
            (claims(&json!("p1"), &json!([])), granted(cache("/cache"), json!([]))),
            (claims(&json!("p1"), &json!([["target", "/ä/b"]])), granted(cache("/ä/b"), json!([]))),
            (claims(&Value::Null, &json!([])), granted(json!([]), json!(["no pod, nothing to give"]))),
            (
                claims(&json!("p1"), &json!([["target", "cache"]])),
                refusal("target \"cache\" is not absolute", "such as /cache"),
            ),
        ],
    }
}

/// Any question of a kind.
fn question(kind: PluginKind) -> BoxedStrategy<Value> {
    // What is not printable is no plugin's business: volhook replaces it in refusals.
    let text = || prop_oneof!["[ -~]{0,12}", "[äß€😀\"\\\\a]{0,6}"];
    let pairs = move || prop::collection::vec((text(), text()), 0..3);
    let pod = || prop::option::of("[a-zA-Z0-9][a-zA-Z0-9_.-]{0,40}");
    let name = || "[a-z0-9]{1,20}";
    match kind {
        PluginKind::Driver => {
            let mode = prop::option::of(prop_oneof!["[0-7]{1,6}", text()]);
            let sharing = prop::option::of("shared|exclusive");
            let options = (mode, sharing).prop_map(|(mode, sharing)| {
                let given = [("mode", mode), ("sharing", sharing)];
                let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
                json!(given.collect::<Vec<_>>())
            });
            let holder = (name(), "read-only|read-write", "shared|single-writer|exclusive").prop_map(
                |(container, access, sharing)| json!({ "container": container, "access": access, "sharing": sharing }),
            );
            let holders = prop::collection::vec(holder, 0..4);
            let usage = any::<(u64, u64)>();
            (options, holders, usage, (pairs(), pairs(), pod(), name()), any::<(bool, bool)>())
                .prop_map(|(options, holders, usage, (labels, settings, pod, name), (creates, writes))| {
                    let mut question = if creates {
                        let mut question = create(&options);
                        question["request"]["usage"] = json!({ "volumes": usage.0, "bytes": usage.1 });
                        question["request"]["pod"] = json!(pod);
                        question
                    } else {
                        attach(&options, &json!(holders), if writes { "read-write" } else { "read-only" })
                    };
                    question["request"]["volume"] = json!(name);
                    question["request"]["labels"] = json!(labels);
                    question["request"]["settings"] = json!(settings);
                    question
                })
                .boxed()
        }
        PluginKind::Policy => {
            let target = prop::option::of(prop_oneof!["(/[a-zäß]{1,9}){1,3}", "[a-zäß€\"\\\\][ -~]{0,9}"]);
            let entry = (name(), "directory|file|symlink|other")
                .prop_map(|(name, kind)| json!({ "name": name, "kind": kind }));
            let state = prop::option::of(("overlay|copy|empty", "same|changed|unknown", any::<bool>()));
            (pod(), target, prop::collection::vec(entry, 0..9), state, prop::option::of(text()))
                .prop_map(|(pod, target, rootfs, state, no_overlay)| {
                    let settings: Vec<_> = target.into_iter().map(|target| ("target", target)).collect();
                    let mut question = claims(&json!(pod), &json!(settings));
                    question["request"]["rootfs"] = json!(rootfs);
                    question["request"]["no_overlay"] = json!(no_overlay);
                    question["request"]["pod"] = state.map_or(Value::Null, |(population, image, installed)| {
                        json!({ "population": population, "image": image, "installed": installed })
                    });
                    question
                })
                .boxed()
        }
    }
}

fn imports_and_module_exports(component: &[u8]) -> (usize, Vec<String>) {
    let (mut depth, mut imports, mut exports) = (0_usize, 0, Vec::new());
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => imports += section.count(),
            Payload::ExportSection(section) => {
                exports.extend(section.into_iter().map(|export| export.unwrap().name.to_owned()));
            }
            _ => {}
        }
    }
    (imports as usize, exports)
}

/// A new project builds as it is, has no imports, and answers as all languages do: in the sandbox and out of it, what
/// is expected and what is not.
fn a_new_project_works(name: LanguageName, kind: PluginKind, random: usize) {
    let workshop = Workshop::new(name, kind);
    let begun = Instant::now();
    let component = workshop.build();
    eprintln!("{name:?} {kind} built in {:?}", begun.elapsed());
    assert_eq!(imports_and_module_exports(&component).0, 0);
    let sandboxed = Sandboxed::new(&component, kind);
    let mut native = workshop.native();

    let info = native.ask(&json!({ "call": "describe" }));
    assert_eq!(info, sandboxed.ask(&json!({ "call": "describe" })));
    let about = match kind {
        PluginKind::Driver => "A directory, for any number of containers or for one at a time",
        PluginKind::Policy => "A cache for each pod, which outlives its containers",
    };
    assert_eq!((&info["info"]["name"], &info["info"]["about"]), (&json!("scratch"), &json!(about)));

    for (question, answer) in expected(kind) {
        assert_eq!(native.ask(&question), answer, "native: {question}");
        assert_eq!(sandboxed.ask(&question), answer, "sandboxed: {question}");
    }
    let (mut runner, questions) = (TestRunner::default(), question(kind));
    for _ in 0..random {
        let question = questions.new_tree(&mut runner).unwrap().current();
        assert_eq!(sandboxed.ask(&question), native.ask(&question), "{question}");
    }
}

#[test]
fn a_new_driver_in_c_works() {
    a_new_project_works(LanguageName::C, PluginKind::Driver, 200);
}

#[test]
fn a_new_policy_in_c_works() {
    a_new_project_works(LanguageName::C, PluginKind::Policy, 200);
}

#[test]
fn a_new_driver_in_javascript_works() {
    a_new_project_works(LanguageName::Js, PluginKind::Driver, 40);
}

#[test]
fn a_new_policy_in_javascript_works() {
    a_new_project_works(LanguageName::Js, PluginKind::Policy, 40);
}

#[test]
fn a_new_driver_in_python_works() {
    a_new_project_works(LanguageName::Python, PluginKind::Driver, 10);
}

#[test]
fn a_new_policy_in_python_works() {
    a_new_project_works(LanguageName::Python, PluginKind::Policy, 10);
}

/// The plugin fails in `create`, and says so with the place, in the sandbox and out of it.
fn an_exception_is_told(name: LanguageName, faults: &[(&str, &str)]) {
    let workshop = Workshop::new(name, PluginKind::Driver);
    let (language, question) = (workshop.project.language, create(&json!([])));
    let hook = if language == LanguageName::Python { "    mode = value(" } else { "  const mode = value(" };
    // Which of them happens is what the volume is called.
    let cases: String = faults
        .iter()
        .enumerate()
        .map(|(index, (code, _))| match language {
            LanguageName::Python => format!("    if request.volume == 'v{index}': {code}\n"),
            _ => format!("  if (request.volume === 'v{index}') {{ {code} }}\n"),
        })
        .collect();
    workshop.edit(hook, &format!("{cases}{hook}"));
    let sandboxed = Sandboxed::new(&workshop.build(), PluginKind::Driver);
    let mut native = workshop.native();
    for (index, (_, wanted)) in faults.iter().enumerate() {
        let mut question = question.clone();
        question["request"]["volume"] = json!(format!("v{index}"));
        let told = native.ask(&question)["fault"].as_str().unwrap_or_default().to_owned();
        let sandboxed = sandboxed.ask(&question)["fault"].as_str().unwrap_or_default().to_owned();
        let line = fs::read_to_string(workshop.source())
            .unwrap()
            .lines()
            .position(|l| l.contains(&format!("'v{index}'")))
            .unwrap()
            + 1;
        for text in [told, sandboxed] {
            assert!(text.starts_with(wanted), "{text} is not {wanted}");
            let place = format!(" at {}:{line}", language_source(language));
            assert!(!wanted.ends_with(" at") || text.contains(&place), "{text} is not at line {line}");
        }
    }
    assert!(native.ask(&question)["creation"].is_object(), "and goes on");
}

fn language_source(name: LanguageName) -> &'static str {
    language(name).source()
}

#[test]
fn an_exception_in_javascript_is_told_with_its_place() {
    an_exception_is_told(
        LanguageName::Js,
        &[
            ("throw new RangeError('too far');", "RangeError: too far at"),
            ("throw 'a text';", "it threw \"a text\", which is no Error"),
            ("Date.now();", "Error: a plugin has no clock: it knows only what it is asked at"),
            ("new Date();", "Error: a plugin has no clock: it knows only what it is asked at"),
            ("Math.random();", "Error: a plugin has no randomness: it knows only what it is asked at"),
            ("return {};", "TypeError: creation.backing is missing, not { tag: \"directory\" or"),
            (
                "return { backing: { tag: 'directory', val: { mode: 1.5 } } };",
                "TypeError: creation.backing.val.mode is 1.5, not a whole number",
            ),
            (
                "return { backing: { tag: 'folder' } };",
                "TypeError: creation.backing is {\"tag\":\"folder\"}, not { tag: \"directory\" or",
            ),
            (
                "console.log('seen'); return { backing: { tag: 'directory', val: { mode: 1 } }, limt: 3 };",
                "TypeError: creation has no field limt",
            ),
            (
                "return { backing: { tag: 'directory', val: { mode: 1 } }, limit: 2n ** 62n + 1n };",
                "TypeError: creation.limit is ",
            ),
        ],
    );
}

#[test]
fn an_exception_in_python_is_told_with_its_place() {
    an_exception_is_told(
        LanguageName::Python,
        &[
            ("raise ValueError('too far')", "ValueError: too far at"),
            ("[].pop()", "IndexError: pop from empty list at"),
            ("open('/etc/passwd')", "RuntimeError: a plugin has no files: it knows only what it is asked at"),
            (
                "__import__('time').time()",
                "RuntimeError: a plugin has no clock: it knows only what it is asked at",
            ),
            ("return None", "TypeError: creation is None, not a Creation"),
            ("return Creation(backing=Directory(mode=1))", "TypeError: creation.backing is Directory(mode=1"),
            (
                "print('seen'); return Creation(backing=Backing_Directory(Directory(mode=-1)))",
                "ValueError: creation.backing.value.mode is -1",
            ),
            ("exit()", "RuntimeError: a plugin has no process to end: it knows only what it is asked at"),
            ("raise SystemExit(3)", "SystemExit: 3 at"),
        ],
    );
}

#[test]
fn a_panic_in_c_says_where_and_leaves_its_text_for_the_host() {
    let workshop = Workshop::new(LanguageName::C, PluginKind::Driver);
    workshop.edit(
        "    uint32_t bits;\n",
        "    if (mode.len == 3) VOLHOOK_PANIC(\"three letters\");\n    uint32_t bits;\n",
    );
    let component = workshop.build();
    assert!(imports_and_module_exports(&component).1.contains(&"__VOLHOOK_PANIC".to_owned()));
    let question = create(&json!([["mode", "abc"]]));
    let line = fs::read_to_string(workshop.source())
        .unwrap()
        .lines()
        .position(|line| line.contains("three"))
        .unwrap()
        + 1;
    let mut native = workshop.native();
    assert_eq!(native.ask(&question), json!({ "fault": format!("three letters at plugin.c:{line}") }));
    assert!(native.ask(&create(&json!([])))["creation"].is_object(), "and goes on");
    let told = Sandboxed::new(&component, PluginKind::Driver).ask(&question);
    assert_eq!(told, json!({ "fault": format!("three letters at plugin.c:{line}") }));
}

#[test]
fn a_step_beyond_a_text_in_c_is_found_outside_the_sandbox() {
    let workshop = Workshop::new(LanguageName::C, PluginKind::Driver);
    workshop.edit("    uint32_t bits;\n", "    mode.len += mode.ptr[mode.len];\n    uint32_t bits;\n");
    let mut command = succeed(language(LanguageName::C).native(&workshop.project, &workshop.out()));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", create(&json!([["mode", "0755"]]))).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("heap-buffer-overflow") && said.contains("plugin.c:"),
        "{said}"
    );
}

/// What the compiler of a language says of a mistake: with the file and the line.
fn a_mistake_is_shown(name: LanguageName, from: &str, to: &str, wanted: &[&str]) {
    let workshop = Workshop::new(name, PluginKind::Policy);
    workshop.edit(from, to);
    let error = language(name).build(&workshop.project, &workshop.out()).unwrap_err();
    let BuildError::Failed { output, .. } = &error else { panic!("{error:?}") };
    for wanted in wanted {
        assert!(output.contains(wanted), "{wanted:?} is not in:\n{output}");
    }
}

#[test]
fn a_mistake_in_c_is_shown() {
    a_mistake_is_shown(LanguageName::C, "return true;", "return true", &["plugin.c:", "expected ';'"]);
}

#[test]
fn a_mistake_in_javascript_is_shown() {
    a_mistake_is_shown(LanguageName::Js, "const TARGET =", "const const =", &["plugin.js:"]);
}

#[test]
fn a_mistake_in_python_is_shown() {
    a_mistake_is_shown(
        LanguageName::Python,
        "TARGET = \"/cache\"",
        "TARGET = cache",
        &["plugin.py", "NameError", "cache"],
    );
}

#[test]
fn amounts_of_storage_are_read_alike_in_all_languages() {
    let sizes = [
        "1",
        "1b",
        "4K",
        "4kib",
        "10G",
        "10gb",
        "2T",
        "1P",
        "",
        "G",
        "-1",
        "1.5G",
        "10X",
        "10GG",
        "10Gi",
        "1ib",
        "10BB",
        "0",
        "00G",
        "9000000P",
        "9223372036854775808",
        "٣G",
        "1 G",
    ];
    let own = |size: &&str| volhook_core::size::parse(size).map_or(Value::Null, |bytes| json!(bytes));
    let wanted: Vec<Value> = sizes.iter().map(own).collect();
    for (name, edits) in [
        (
            LanguageName::C,
            vec![(
                "    uint32_t bits;\n",
                "    creation->limit.is_some = parse_size(mode, &creation->limit.val);\n    return true;\n    uint32_t bits;\n",
            )],
        ),
        (
            LanguageName::Js,
            vec![
                ("import { refuse,", "import { parseSize, refuse,"),
                (
                    "  const bits =",
                    "  return { backing: { tag: 'directory', val: { mode: 0 } }, limit: parseSize(mode) };\n  const bits =",
                ),
            ],
        ),
        (
            LanguageName::Python,
            vec![
                ("    refuse,\n", "    parse_size,\n    refuse,\n"),
                (
                    "    bits = octal",
                    "    return Creation(backing=Backing_Directory(Directory(mode=0)), limit=parse_size(mode))\n    bits = octal",
                ),
            ],
        ),
    ] {
        let workshop = Workshop::new(name, PluginKind::Driver);
        edits.iter().for_each(|(from, to)| workshop.edit(from, to));
        let mut native = workshop.native();
        let mut limit =
            |size: &&str| native.ask(&create(&json!([["mode", size]])))["creation"]["limit"].clone();
        assert_eq!(sizes.iter().map(&mut limit).collect::<Vec<_>>(), wanted, "{name:?}");
    }
}
