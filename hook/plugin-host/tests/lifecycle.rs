//! What becomes of an installed plugin: rolled back, verified, compiled anew, removed, and changed by several at once.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../../../tests/fixtures/plugins/component.rs"]
mod component;

use component::component;
use component::fixture;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use tempfile::TempDir;
use volhook_compile::compile;
use volhook_core::config::Limits;
use volhook_core::decision::PluginKind;
use volhook_core::question::Answer;
use volhook_core::question::Question;
use volhook_plugin_host::Host;
use volhook_plugin_host::LifecycleError;
use volhook_plugin_host::PluginEntry;
use volhook_plugin_host::PluginError;
use volhook_plugin_host::Trial;
use volhook_plugin_host::install;
use volhook_plugin_host::installed_names;
use volhook_plugin_host::refresh;
use volhook_plugin_host::remove;
use volhook_plugin_host::rollback;
use volhook_plugin_host::verify;

fn limits() -> Limits {
    Limits::default()
}

/// The fixture `trap`, of which each version has another digest.
fn version(number: u32) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/plugins/trap.wat");
    let text = fs::read_to_string(path).unwrap();
    component(&text.replacen("(unreachable)", &format!("(drop (i32.const {number})) (unreachable)"), 1))
}

fn put(installed: &Path, number: u32) -> PluginEntry {
    install(installed, &version(number), &limits(), compile).unwrap()
}

fn with(versions: &[u32]) -> (TempDir, PathBuf, Vec<PluginEntry>) {
    let folder = TempDir::new().unwrap();
    let installed = folder.path().join("plugins");
    let entries = versions.iter().map(|number| put(&installed, *number)).collect();
    (folder, installed, entries)
}

fn digest(installed: &Path) -> String {
    verify(installed, "trap", &limits()).unwrap().entry.digest
}

/// Lets an installed plugin look as if it was compiled for another engine.
fn make_stale(plugin: &Path) {
    let path = plugin.join("plugin.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"wasmtime-", "\"wasmtime-1");
    fs::write(path, text).unwrap();
}

#[test]
fn the_one_before_comes_back_and_goes_again() {
    let (_folder, installed, entries) = with(&[1, 2, 3]);
    assert_eq!(digest(&installed), entries[2].digest);
    assert_eq!(verify(&installed, "trap", &limits()).unwrap().previous.unwrap(), entries[1].digest);
    assert_eq!(rollback(&installed, "trap", &limits()).unwrap(), entries[1]);
    assert_eq!(digest(&installed), entries[1].digest);
    assert_eq!(rollback(&installed, "trap", &limits()).unwrap(), entries[2]);
    assert_eq!(digest(&installed), entries[2].digest);
}

#[test]
fn what_cannot_be_rolled_back_is_said() {
    let (_folder, installed, _) = with(&[1]);
    let error = rollback(&installed, "trap", &limits()).unwrap_err();
    assert!(matches!(error, LifecycleError::NoPrevious { .. }), "{error}");
    let error = rollback(&installed, "nothing", &limits()).unwrap_err();
    assert!(matches!(error, LifecycleError::NotInstalled { .. }), "{error}");
    let error = rollback(&installed, "local", &limits()).unwrap_err();
    assert!(matches!(error, LifecycleError::BuiltIn { .. }), "{error}");
}

#[test]
fn a_damaged_one_does_not_come_back() {
    let (_folder, installed, entries) = with(&[1, 2]);
    let code = installed.join(".previous-trap/plugin.cwasm");
    let mut bytes = fs::read(&code).unwrap();
    bytes[100] ^= 1;
    fs::write(&code, bytes).unwrap();
    let error = rollback(&installed, "trap", &limits()).unwrap_err();
    assert!(matches!(error, LifecycleError::Plugin(PluginError::Damaged { .. })), "{error}");
    assert_eq!(digest(&installed), entries[1].digest);
}

#[test]
fn verifying_finds_what_a_start_would_not() {
    let (_folder, installed, _) = with(&[1]);
    let component = installed.join("trap/plugin.wasm");
    let mut bytes = fs::read(&component).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&component, bytes).unwrap();
    // The machine code is what it was, and runs.
    let host = Host::new(installed.clone(), limits(), None);
    assert!(host.driver("trap").unwrap().describe().is_ok());
    let error = verify(&installed, "trap", &limits()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "plugin \"trap\" is damaged: plugin.wasm is not the file that was installed; install it again"
    );
    fs::set_permissions(&component, fs::Permissions::from_mode(0o666)).unwrap();
    let error = verify(&installed, "trap", &limits()).unwrap_err();
    assert!(matches!(error, LifecycleError::Plugin(PluginError::Untrusted { .. })), "{error}");
}

#[test]
fn stale_ones_are_compiled_anew_and_stay_what_they_are() {
    let (_folder, installed, entries) = with(&[1, 2]);
    assert!(!refresh(&installed, "trap", &limits(), compile).unwrap(), "nothing is stale");
    make_stale(&installed.join("trap"));
    make_stale(&installed.join(".previous-trap"));
    let host = Host::new(installed.clone(), limits(), None);
    assert!(matches!(host.driver("trap"), Err(PluginError::Stale { .. })));
    assert!(refresh(&installed, "trap", &limits(), compile).unwrap());
    assert_eq!(digest(&installed), entries[1].digest);
    assert_eq!(rollback(&installed, "trap", &limits()).unwrap(), entries[0]);
    assert_eq!(installed_names(&installed).unwrap(), ["trap"]);
}

#[test]
fn what_does_not_compile_any_more_stays() {
    let (_folder, installed, _) = with(&[1]);
    make_stale(&installed.join("trap"));
    let before = fs::read(installed.join("trap/plugin.json")).unwrap();
    let refuse =
        |_: &[u8]| Err(volhook_plugin_host::CompileError::Refused { reason: "not today".to_owned() });
    let error = refresh(&installed, "trap", &limits(), refuse).unwrap_err();
    assert_eq!(error.to_string(), "cannot compile plugin \"trap\" anew");
    assert_eq!(fs::read(installed.join("trap/plugin.json")).unwrap(), before);
    assert_eq!(fs::read_dir(&installed).unwrap().count(), 1);
}

#[test]
fn removing_leaves_nothing() {
    let (_folder, installed, _) = with(&[1, 2]);
    remove(&installed, "trap").unwrap();
    assert_eq!(fs::read_dir(&installed).unwrap().count(), 0);
    assert!(matches!(remove(&installed, "trap"), Err(LifecycleError::NotInstalled { .. })));
    assert!(matches!(remove(&installed, "local"), Err(LifecycleError::BuiltIn { .. })));
    assert!(matches!(remove(&installed, "../x"), Err(LifecycleError::NotInstalled { .. })));
}

#[test]
fn what_is_not_usable_is_removed_all_the_same() {
    let (_folder, installed, _) = with(&[1]);
    fs::write(installed.join("trap/plugin.json"), "no json").unwrap();
    remove(&installed, "trap").unwrap();
    assert_eq!(fs::read_dir(&installed).unwrap().count(), 0);
}

#[test]
fn what_a_killed_change_has_left_goes_with_the_next() {
    let (_folder, installed, _) = with(&[1]);
    fs::create_dir(installed.join(".staging-dead")).unwrap();
    fs::write(installed.join(".staging-dead/plugin.wasm"), "half").unwrap();
    put(&installed, 2);
    assert!(!installed.join(".staging-dead").exists());
}

/// Whoever looks meanwhile finds the one or the other, whole.
#[test]
fn changes_at_once_leave_one_whole_plugin() {
    let (_folder, installed, _) = with(&[0]);
    std::thread::scope(|scope| {
        for thread in 1..4 {
            let installed = &installed;
            scope.spawn(move || {
                for round in 0..5 {
                    put(installed, thread * 10 + round);
                    // There is a previous one by now, whoever put it there.
                    rollback(installed, "trap", &limits()).unwrap();
                }
            });
        }
        for _ in 0..200 {
            let host = Host::new(installed.clone(), limits(), None);
            // Its folder is opened once: manifest and code are of one version.
            match host.driver("trap").and_then(|driver| driver.describe()) {
                Ok(info) => assert_eq!(info.name, "trap"),
                Err(error) => panic!("{error}"),
            }
        }
    });
    let left = fs::read_dir(&installed).unwrap().count();
    assert_eq!(left, 2);
    digest(&installed);
}

#[test]
fn a_trial_answers_and_leaves_nothing() {
    let trial = Trial::new(&fixture("trap"), &limits(), compile).unwrap();
    assert_eq!((trial.entry().name.as_str(), trial.entry().kind), ("trap", PluginKind::Driver));
    assert_eq!(trial.info().name, "trap");
    assert!(trial.code_size() > 1000);
    let asked = trial.ask(&Question::Describe).unwrap();
    assert!(matches!(asked.answer, Answer::Info(_)));
    assert_eq!(asked.consumed, trial.ask(&Question::Describe).unwrap().consumed);
    assert!(asked.consumed.fuel > 0 && asked.consumed.memory == 65536, "{asked:?}");
    let folder = trial.folder().to_owned();
    drop(trial);
    assert!(!folder.exists());
}
