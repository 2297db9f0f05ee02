//! The rules of the house, asserted from the workspace itself. Each failure says how to mend it.

use cargo_metadata::DependencyKind;
use cargo_metadata::Metadata;
use cargo_metadata::MetadataCommand;
use cargo_metadata::Package;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Folder, crates of ours that it may import, and those that its own tests may import besides.
type ImportRule = (&'static str, &'static [&'static str], &'static [&'static str]);

/// The import table of `hook/docs/architecture.md`.
const IMPORTS: [ImportRule; 27] = [
    ("hook/api", &["volhook-core"], &[]),
    ("hook/core", &[], &[]),
    ("hook/locks", &[], &[]),
    ("hook/journal", &["volhook-core", "volhook-locks"], &[]),
    // Its tests compare what a plugin decides in the sandbox with what the same code decides outside.
    (
        "hook/plugin-host",
        &["volhook-core", "volhook-locks"],
        &[
            "volhook-plugin",
            "volhook-local",
            "volhook-block",
            "volhook-tmpfs",
            "volhook-host",
            "volhook-device",
            "volhook-universal",
            "volhook-rules",
            "volhook-compile",
        ],
    ),
    ("hook/compile", &["volhook-plugin-host"], &["volhook-core"]),
    ("hook/plugin-dev", &["volhook-core", "volhook-plugin-host"], &["volhook-compile"]),
    ("hook/mounts", &["volhook-core", "volhook-locks"], &[]),
    ("hook/volumes", &["volhook-core", "volhook-locks", "volhook-mounts"], &[]),
    (
        "hook/leases",
        &[
            "volhook-api",
            "volhook-core",
            "volhook-journal",
            "volhook-locks",
            "volhook-mounts",
            "volhook-volumes",
        ],
        &[],
    ),
    (
        "hook/engine",
        &[
            "volhook-api",
            "volhook-core",
            "volhook-journal",
            "volhook-leases",
            "volhook-locks",
            "volhook-mounts",
            "volhook-plugin-host",
            "volhook-volumes",
        ],
        &[],
    ),
    ("hook/face", &["volhook-core", "volhook-engine", "volhook-plugin-host"], &[]),
    (
        "hook/dev",
        &["volhook-core", "volhook-engine", "volhook-face", "volhook-plugin-dev", "volhook-plugin-host"],
        &[],
    ),
    ("hook/harness", &[], &[]),
    (
        "hook/cli",
        &[
            "volhook-api",
            "volhook-core",
            "volhook-engine",
            "volhook-face",
            "volhook-plugin-host",
            // What a process has inherited from its caller is set right before anything else.
            "volhook-mounts",
        ],
        &[],
    ),
    ("hook/xtask", &[], &[]),
    ("plugins/kit", &[], &[]),
    ("plugins/local", &["volhook-plugin"], &[]),
    ("plugins/block", &["volhook-plugin"], &[]),
    ("plugins/tmpfs", &["volhook-plugin"], &[]),
    ("plugins/host", &["volhook-plugin"], &[]),
    ("plugins/device", &["volhook-plugin"], &[]),
    ("plugins/universal", &["volhook-plugin"], &[]),
    ("plugins/rules", &["volhook-plugin"], &[]),
    ("plugins/single-writer", &["volhook-plugin"], &[]),
    ("plugins/team-quota", &["volhook-plugin"], &[]),
    ("tests", &[], &["volhook-core", "volhook-harness"]),
];

/// Crates behind every face.
const FACELESS: [&str; 3] = ["hook/api", "hook/engine", "hook/leases"];

/// Crates in whose files there are no circles of imports.
const WITHOUT_CIRCLES: [&str; 7] =
    ["hook/api", "hook/cli", "hook/core", "hook/dev", "hook/engine", "hook/face", "hook/leases"];

/// What a reader sees first, fixed: everything else is a folder deeper or a dotfile.
const TOP_LEVEL: [&str; 9] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "hook",
    "plugins",
    "tests",
    "wit",
];

/// The only places of `unsafe`: the system calls, the loading of compiled plugins, and what a plugin leaves of its panic.
const UNSAFE_HOMES: [&str; 4] =
    ["hook/mounts/src/", "hook/mounts/step/", "hook/plugin-host/src/load.rs", "plugins/kit/src/panic.rs"];

/// Longest file, in lines.
const LONGEST: usize = 700;

fn workspace() -> Metadata {
    MetadataCommand::new().no_deps().exec().expect("cargo metadata works in a cargo workspace")
}

fn folder(workspace: &Metadata, package: &Package) -> String {
    let manifest = package.manifest_path.strip_prefix(&workspace.workspace_root);
    let folder = manifest.ok().and_then(|path| path.parent());
    folder.map_or_else(|| package.manifest_path.to_string(), ToString::to_string)
}

/// A file of the repository, tracked or about to be.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// `path:line` of each line of code, comments left out, that holds one of `words`.
    fn find(&self, words: &[&str]) -> Vec<String> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index, line.split("//").next().unwrap_or_default()))
            .filter(|(_, code)| words.iter().any(|word| code.contains(word)))
            .map(|(index, code)| format!("{}:{}: {}", self.path, index + 1, code.trim()))
            .collect()
    }
}

/// All files that git does not ignore.
fn paths() -> Vec<String> {
    let root = PathBuf::from(workspace().workspace_root);
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(&root)
        .output()
        .expect("git can be run");
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let paths = String::from_utf8(listed.stdout).expect("paths in the repository are UTF-8");
    let there = |path: &&str| root.join(path).symlink_metadata().is_ok();
    paths.split_terminator('\0').filter(there).map(str::to_owned).collect()
}

/// Those that are text.
fn sources() -> Vec<Source> {
    let root = PathBuf::from(workspace().workspace_root);
    let source = |path: String| {
        let text = fs::read_to_string(root.join(&path)).ok()?;
        Some(Source { path, text })
    };
    let sources: Vec<Source> = paths().into_iter().filter_map(source).collect();
    assert!(sources.iter().any(|source| source.path == "tests/tidy.rs"), "git lists no sources");
    sources
}

#[track_caller]
fn check(mend: &str, problems: impl IntoIterator<Item = String>) {
    let problems: Vec<String> = problems.into_iter().collect();
    assert!(problems.is_empty(), "{mend}\n  {}\n", problems.join("\n  "));
}

#[test]
fn crates_import_what_the_table_allows() {
    let workspace = workspace();
    let ours: BTreeSet<&str> = workspace.packages.iter().map(|package| package.name.as_str()).collect();
    let mut problems = Vec::new();
    for package in &workspace.packages {
        let folder = folder(&workspace, package);
        let Some((_, allowed, in_tests)) = IMPORTS.iter().find(|(name, ..)| *name == folder) else {
            problems.push(format!("{folder} is not in the table"));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            let tested = dependency.kind == DependencyKind::Development && in_tests.contains(&name);
            if ours.contains(name) && !allowed.contains(&name) && !tested {
                problems.push(format!("{folder} imports {name} ({} dependency)", dependency.kind));
            }
        }
    }
    check(
        "move the code to a crate that may import what it needs, or pass the value in from hook/cli; a new \
         crate gets a line in IMPORTS and in the architecture's table:",
        problems,
    );
}

/// What a face has and nobody behind it: a person, an environment, an end of the process.
#[test]
fn only_faces_talk_and_look_around() {
    let mut problems = Vec::new();
    for package in &workspace().packages {
        let folder = folder(&workspace(), package);
        if !FACELESS.contains(&folder.as_str()) {
            continue;
        }
        let is_face = |name: &&str| ["clap", "indicatif", "anstream", "signal-hook"].contains(name);
        let dependencies = package.dependencies.iter().map(|dependency| dependency.name.as_str());
        problems.extend(dependencies.filter(is_face).map(|name| format!("{folder} imports {name}")));
    }
    let words = [
        "println!",
        "eprint",
        "print!(",
        "std::env",
        "ExitCode",
        "current_exe",
        "stdin()",
        "stdout()",
        "stderr()",
    ];
    let faceless = sources().into_iter().filter(|source| {
        let in_crate = |folder: &str| source.path.starts_with(&format!("{folder}/src/"));
        source.is_rust() && FACELESS.iter().any(|folder| in_crate(folder))
    });
    problems.extend(faceless.flat_map(|source| source.find(&words)));
    check("return it, tell the watcher of the work, or pass the value in from a face:", problems);
}

/// A hook that starts in two milliseconds serves nobody, waits for nobody and compiles nothing.
#[test]
fn the_hook_has_no_server_and_no_compiler_in_it() {
    let tree = Command::new("cargo")
        .args(["tree", "--package", "volhook", "--edges", "normal", "--prefix", "none", "--offline"])
        .current_dir(workspace().workspace_root)
        .output()
        .expect("cargo can be run");
    assert!(tree.status.success(), "cargo tree: {}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8_lossy(&tree.stdout);
    assert!(tree.contains("serde_json"), "cargo tree lists nothing:\n{tree}");
    let servers = ["tokio", "async-std", "smol", "hyper", "tonic", "axum"];
    let compilers =
        ["cranelift", "winch", "wasmtime-internal-cranelift", "wasmtime-internal-winch", "regalloc2"];
    let named = |line: &&str| {
        let name = line.split(' ').next().unwrap_or_default();
        // Their tables and sets are what the engine keeps its own things in.
        let is_data = ["cranelift-bforest", "cranelift-bitset", "cranelift-entity"].contains(&name);
        servers.contains(&name) || (!is_data && compilers.iter().any(|compiler| name.starts_with(compiler)))
    };
    check("leave it to a program of its own:", tree.lines().filter(named).map(str::to_owned));
}

/// Files that import each other cannot be understood one after the other.
#[test]
fn files_import_each_other_in_no_circle() {
    let sources = sources();
    let mut problems = Vec::new();
    for folder in WITHOUT_CIRCLES {
        let prefix = format!("{folder}/src/");
        let files: BTreeMap<&str, &str> = sources
            .iter()
            .filter_map(|source| {
                let file = source.path.strip_prefix(&prefix)?.strip_suffix(".rs")?;
                (!file.ends_with("tests")).then_some((file, source.text.as_str()))
            })
            .collect();
        assert!(!files.is_empty(), "there are no files in {prefix}");
        let mut imports: BTreeMap<&str, BTreeSet<&str>> =
            files.iter().map(|(file, text)| (*file, imported(file, text, &files))).collect();
        // Whoever imports nothing that is left is in no circle.
        while let Some(free) = imports
            .iter()
            .find(|(_, used)| used.iter().all(|used| !imports.contains_key(used)))
            .map(|(file, _)| *file)
        {
            imports.remove(free);
        }
        problems
            .extend(imports.into_iter().map(|(file, used)| format!("{prefix}{file}.rs imports {used:?}")));
    }
    check("move what both need into a file of its own:", problems);
}

/// The files among `files` of which `file` imports something outside of its tests. A file that only lists its own parts imports
/// none.
fn imported<'a>(file: &str, text: &str, files: &BTreeMap<&'a str, &str>) -> BTreeSet<&'a str> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let paths = code.lines().filter_map(|line| line.trim().strip_prefix("use crate::"));
    let place = |path: &str| {
        let path = path.trim_end_matches(';').split(" as ").next().unwrap_or_default().replace("::", "/");
        // The longest beginning of the path that is a file.
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let ends: Vec<usize> = ends.collect();
        ends.into_iter().rev().find_map(|end| files.get_key_value(&path[..end]).map(|(file, _)| *file))
    };
    // A file and its own parts are one.
    let parent = file.rsplit_once('/').map_or(file, |(parent, _)| parent);
    let is_own = |used: &str| used == file || used == parent || used.starts_with(&format!("{file}/"));
    paths.filter_map(place).filter(|used| !is_own(used)).collect()
}

#[test]
fn every_crate_takes_the_workspaces_lints_and_licence() {
    let workspace = workspace();
    let mut problems = Vec::new();
    for package in &workspace.packages {
        let manifest = fs::read_to_string(&package.manifest_path).expect("a manifest that cargo has read");
        if !manifest.replace(' ', "").contains("[lints]\nworkspace=true") {
            problems.push(format!("{}: add `[lints]` with `workspace = true`", package.manifest_path));
        }
        if package.license.as_deref() != Some("MIT OR Apache-2.0") {
            problems.push(format!("{}: add `license.workspace = true`", package.manifest_path));
        }
    }
    check("complete these manifests:", problems);
}

#[test]
fn the_visible_top_level_is_fixed() {
    let visible: BTreeSet<String> = paths()
        .iter()
        .filter_map(|path| path.split('/').next().map(str::to_owned))
        .filter(|name| !name.starts_with('.'))
        .collect();
    let fixed: BTreeSet<String> = TOP_LEVEL.map(str::to_owned).into();
    check(
        "put new things into hook, plugins, wit or tests, and settings of tools into dotfiles:",
        visible.symmetric_difference(&fixed).map(|name| {
            if visible.contains(name) {
                format!("{name} does not belong there")
            } else {
                format!("{name} is missing")
            }
        }),
    );
}

/// What was built for a released version of the interface is the one kind of binary that nobody can build again.
#[test]
fn nothing_built_is_kept_but_plugins_of_released_versions() {
    let texts: BTreeSet<String> = sources().into_iter().map(|source| source.path).collect();
    let root = PathBuf::from(workspace().workspace_root);
    let others = paths().into_iter().filter(|path| {
        !texts.contains(path) && root.join(path).is_file() && !path.starts_with("tests/fixtures/api/")
    });
    check("let a build make it:", others.map(|path| format!("{path} is no text")));
}

#[test]
fn unsafe_code_has_three_homes() {
    // In two parts each, so that this file does not find itself.
    let words = [
        concat!("uns", "afe {"),
        concat!("uns", "afe fn"),
        concat!("uns", "afe impl"),
        concat!("uns", "afe extern"),
        concat!("uns", "afe trait"),
        concat!("allow(uns", "afe_code"),
        concat!("expect(uns", "afe_code"),
    ];
    let elsewhere = sources()
        .into_iter()
        .filter(|source| source.is_rust() && !UNSAFE_HOMES.iter().any(|home| source.path.starts_with(home)));
    check(
        "use rustix or nix, or put a safe function for it into hook/mounts:",
        elsewhere.flat_map(|source| source.find(&words)),
    );
}

/// Locks are taken in one order and nobody waits under the journal's lock: debug builds assert that where it is told.
#[test]
fn locks_and_flushes_go_through_one_crate() {
    let words = ["fs::flock", "fs::fsync", "fs::fdatasync", "fs::syncfs", ".sync_all(", ".sync_data("];
    let others = sources().into_iter().filter(|source| {
        let home = source.path.strip_prefix("hook/").and_then(|path| path.split_once('/'));
        source.is_rust() && home.is_some_and(|(name, path)| name != "locks" && path.starts_with("src/"))
    });
    check(
        "call hook/locks, which knows what may be done under which lock:",
        others.flat_map(|source| source.find(&words)),
    );
}

#[test]
fn every_source_file_says_its_purpose_first() {
    check(
        "begin the file with `//!` and its one purpose:",
        sources()
            .into_iter()
            .filter(|source| source.is_rust() && !source.text.starts_with("//! "))
            .map(|source| source.path),
    );
}

#[test]
fn no_file_is_too_long() {
    check(
        &format!(
            "more than {LONGEST} lines tell more than one story; split the file where the second begins:"
        ),
        sources()
            .into_iter()
            .filter(|source| source.path != "Cargo.lock" && !source.path.ends_with(".snap"))
            .map(|source| (source.text.lines().count(), source.path))
            .filter(|(lines, _)| *lines > LONGEST)
            .map(|(lines, path)| format!("{path}: {lines} lines")),
    );
}

#[test]
fn nothing_is_left_unfinished_or_skipped() {
    // In two parts each, so that this file does not find itself.
    let words = [
        concat!("#[", "ignore"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("d", "bg!("),
        concat!("FIX", "ME"),
    ];
    check(
        "finish it, or delete it; a test that cannot run fails with what to do:",
        sources().into_iter().filter(Source::is_rust).flat_map(|source| source.find(&words)),
    );
}

/// A path of this machine in a file would be wrong on any other.
#[test]
fn no_paths_of_one_machine() {
    let mut places = vec![workspace().workspace_root.to_string(), concat!("/Us", "ers/").to_owned()];
    places.extend(
        ["CARGO_HOME", "RUSTUP_HOME", "CARGO_TARGET_DIR"].into_iter().filter_map(|name| env::var(name).ok()),
    );
    if let Ok(home) = env::var("HOME") {
        places.extend(["cargo", "rustup"].map(|tool| format!("{home}/.{tool}")));
    }
    // A place such as /src is a word that any text may use.
    places.retain(|place| place.matches('/').count() > 1);
    let mut problems = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            problems.extend(
                places
                    .iter()
                    .filter(|place| line.contains(place.as_str()))
                    .map(|place| format!("{}:{}: {place}", source.path, index + 1)),
            );
        }
    }
    check("derive the path from the environment, or use a temporary folder:", problems);
}

#[test]
fn the_core_is_pure() {
    let words = [
        "std::fs",
        "std::env",
        "std::process",
        "std::net",
        "std::os",
        "std::thread",
        "SystemTime::now",
        "Instant::now",
        "Timestamp::now",
        "Zoned::now",
        // What oci-spec reads and writes by itself.
        "Spec::load",
        "State::load",
        "Features::load",
        ".save(",
    ];
    let core =
        sources().into_iter().filter(|source| source.is_rust() && source.path.starts_with("hook/core/"));
    check(
        "hook/core decides about facts that it is given: read the file, clock or environment in hook/cli and \
         pass the value in:",
        core.flat_map(|source| source.find(&words)),
    );

    let workspace = workspace();
    let allowed = ["jiff", "oci-spec", "serde", "serde_json", "thiserror", "toml"];
    let core = workspace.packages.iter().filter(|package| package.name.as_str() == "volhook-core");
    let dependencies = core.flat_map(|package| &package.dependencies);
    check(
        "hook/core depends on data formats only, so that the compiler keeps it pure:",
        dependencies
            .filter(|dependency| dependency.kind != DependencyKind::Development)
            .filter(|dependency| !allowed.contains(&dependency.name.as_str()))
            .map(|dependency| dependency.name.clone()),
    );
}
