//! The compiler as a process: what it answers, what ends it, and that it is only believed when it is the right one.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../../../tests/fixtures/plugins/component.rs"]
mod component;

use component::component;
use component::fixture;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use volhook_compile::compile;
use volhook_core::config::Limits;
use volhook_plugin_host::CompileError;
use volhook_plugin_host::InstallError;
use volhook_plugin_host::check_compiler;
use volhook_plugin_host::compile_in;
use volhook_plugin_host::compiling::identity;
use volhook_plugin_host::install;

fn compiler() -> Command {
    Command::new(env!("CARGO_BIN_EXE_volhook-compile"))
}

/// Later than any test is patient.
fn in_time() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

#[test]
fn another_process_compiles_the_same_code() {
    let plugin = fixture("trap");
    let mut bare = compiler();
    bare.env_clear();
    assert_eq!(compile_in(bare, &plugin, in_time()).unwrap(), compile(&plugin).unwrap());
}

#[test]
fn a_compiler_that_fails_is_reported() {
    let error = compile_in(compiler(), b"not wasm", in_time()).unwrap_err();
    assert!(matches!(error, CompileError::Refused { .. }), "{error:?}");
    // Larger than a pipe holds, so that writing it fails when nobody reads.
    let large = vec![0; 1 << 20];
    let error = compile_in(Command::new("false"), &large, in_time()).unwrap_err();
    let CompileError::Other { found, .. } = error else { panic!("{error:?}") };
    assert_eq!(found, "another program, which died (exit status: 1)");
    let error = compile_in(Command::new("/nonexistent/volhook"), &large, in_time()).unwrap_err();
    assert!(matches!(error, CompileError::Run { .. }), "{error:?}");
}

/// A program that says this, instead of the compiler.
fn saying(folder: &Path, text: &str) -> PathBuf {
    doing(folder, text, "")
}

/// A program that says `text` and then does what `script` says, instead of the compiler.
fn doing(folder: &Path, text: &str, script: &str) -> PathBuf {
    let program = folder.join("volhook-compile");
    fs::write(folder.join("text"), text).unwrap();
    let text = folder.join("text");
    fs::write(&program, format!("#!/bin/sh\ncat '{}'\n{script}\n", text.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// What never ends, and what writes without end, ends all the same; and first it is looked at who it is.
#[test]
fn the_compiler_is_not_waited_for_for_ever() {
    let folder = TempDir::new().unwrap();
    let (right, large) = (format!("{}\n", identity()), vec![0; 1 << 20]);
    let soon = || Instant::now() + Duration::from_millis(300);
    for script in ["exec sleep 1000", "exec >&-; exec sleep 1000"] {
        let error = compile_in(Command::new(doing(folder.path(), &right, script)), &large, soon());
        assert!(matches!(error, Err(CompileError::Late { .. })), "{script}: {error:?}");
        let error = compile_in(Command::new(doing(folder.path(), "", script)), &large, soon());
        assert!(matches!(error, Err(CompileError::Other { .. })), "{script}: {error:?}");
    }
    let endless = "exec cat /dev/zero";
    let error = compile_in(Command::new(doing(folder.path(), &right, endless)), &large, in_time());
    assert!(matches!(error, Err(CompileError::TooMuch { .. })), "{error:?}");
    for error in [
        compile_in(Command::new(doing(folder.path(), "", endless)), &large, in_time()).map(drop),
        check_compiler(Command::new(doing(folder.path(), "hello\n", endless))),
        compile_in(Command::new(doing(folder.path(), "hello\n", "exec sleep 1000")), &large, in_time())
            .map(drop),
    ] {
        assert!(matches!(error, Err(CompileError::Other { .. })), "{error:?}");
    }
    let error = compile_in(Command::new(doing(folder.path(), &right, "exit 3")), &large, in_time());
    assert!(matches!(error, Err(CompileError::Died { .. })), "{error:?}");
    let error = compile_in(Command::new(doing(folder.path(), "hello", "exit 3")), &large, in_time());
    let Err(CompileError::Other { found, .. }) = error else { panic!("{error:?}") };
    assert_eq!(found, "another program, which died (exit status: 3)");
}

#[test]
fn only_the_compiler_of_the_same_version_and_settings_is_believed() {
    check_compiler(compiler()).unwrap();
    let folder = TempDir::new().unwrap();
    let right = identity();
    for (said, found) in [
        (format!("{right}9\n\0code"), format!("{right}9")),
        (
            right.replace("volhook-compile ", "volhook-compile 9"),
            right.replace("volhook-compile ", "volhook-compile 9"),
        ),
        ("hello\n\0code".to_owned(), "another program".to_owned()),
        (String::new(), "another program".to_owned()),
        (right[..right.len() - 1].to_owned(), right[..right.len() - 1].to_owned()),
    ] {
        let program = saying(folder.path(), &said);
        for error in [
            compile_in(Command::new(&program), &[0; 1 << 18], in_time()).unwrap_err(),
            check_compiler(Command::new(&program)).unwrap_err(),
        ] {
            let hint = error.hint();
            let CompileError::Other { program: named, found: told, needed } = error else {
                panic!("{error:?}")
            };
            assert_eq!((&named, &told, &needed), (&program, &found, &right));
            assert!(hint.is_some_and(|hint| hint.contains("of one version")));
        }
    }
    // One that says who it is, and nothing else.
    let program = saying(folder.path(), &format!("{right}\n"));
    let error = compile_in(Command::new(&program), b"x", in_time()).unwrap_err();
    assert!(matches!(error, CompileError::Died { .. }), "{error:?}");
}

#[test]
fn who_types_it_is_told_what_it_is() {
    let told = compiler().arg("--help").stdin(Stdio::null()).output().unwrap();
    assert_eq!(told.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&told.stderr).contains("`volhook plugin install FILE`"), "{told:?}");
}

/// A component that is small and takes long to compile: one function in which every value depends on every other.
fn slow_to_compile() -> Vec<u8> {
    const LOCALS: usize = 300;
    let steps = (0..20_000_usize).map(|step| {
        let [a, b, c] = [7, 13, 29].map(|factor| step * factor % LOCALS);
        format!(
            "(block (br_if 0 (local.get {a})) (local.set {b} (i32.add (local.get {c}) (i32.mul (local.get {a}) \
             (local.get {b})))))"
        )
    });
    let function = format!(
        "(func (param i32) (result i32) (local {}) {} (local.get 3))",
        "i32 ".repeat(LOCALS),
        steps.collect::<String>()
    );
    let trap = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/plugins/trap.wat");
    let text = fs::read_to_string(trap).unwrap();
    component(&text.replacen("(memory ", &format!("{function}\n(memory "), 1))
}

/// The compiler's limits end it, whatever it is doing. They are lower here, for the test's sake.
#[test]
fn what_takes_long_to_compile_is_given_up() {
    let bomb = slow_to_compile();
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    for limit in ["ulimit -t 1", "ulimit -t 5; ulimit -v 100000"] {
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("{limit}; exec \"$0\"")]).arg(compiler().get_program());
        let begin = Instant::now();
        let folder = TempDir::new().unwrap();
        let error = install(folder.path(), &bomb, &Limits::default(), |component| {
            compile_in(limited, component, in_time())
        });
        println!("{limit}: {:?}: {error:?}", begin.elapsed());
        assert!(matches!(error, Err(InstallError::Compile(CompileError::Died { .. }))), "{error:?}");
        assert!(begin.elapsed() < Duration::from_secs(60), "{limit}: {:?}", begin.elapsed());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn the_compiler_is_limited() {
    let mut child = compiler();
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let path = format!("/proc/{}/limits", child.id());
    let begin = Instant::now();
    let limited = loop {
        let limits = fs::read_to_string(&path).unwrap();
        let line = |name: &str| limits.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        if line("Max cpu time").contains(" 120 ") && line("Max address space").contains(" 1610612736 ") {
            break true;
        }
        if begin.elapsed() > Duration::from_secs(10) {
            break false;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(limited, "the process did not limit itself");
}
