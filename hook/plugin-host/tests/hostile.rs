//! Plugins that misbehave: each is refused by name and in time, and what is no plugin is not installed.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../../../tests/fixtures/plugins/component.rs"]
mod component;

use component::component;
use component::fixture;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;
use volhook_compile::compile;
use volhook_core::config::Limits;
use volhook_core::decision::Access;
use volhook_core::decision::AttachRequest;
use volhook_core::decision::ClaimsRequest;
use volhook_core::decision::ContainerInfo;
use volhook_core::decision::PluginKind;
use volhook_plugin_host::Fault;
use volhook_plugin_host::Host;
use volhook_plugin_host::InstallError;
use volhook_plugin_host::NotAPlugin;
use volhook_plugin_host::PluginError;
use volhook_plugin_host::PluginSource;
use volhook_plugin_host::install;

/// Processor time that a call takes at the most: the 50 ms that it may, and what a build without optimizations needs
/// before and after it.
const CALL: Duration = Duration::from_secs(1);

/// Processor time that this process has used: a busy machine makes no difference to it.
fn processor_time() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).try_into().unwrap()
}

fn container() -> ContainerInfo {
    ContainerInfo { id: "c1".into(), tenant: "default".into(), pod: Some("p".into()) }
}

fn attach_request(access: Access) -> AttachRequest {
    AttachRequest {
        volume: "v".into(),
        options: vec![("size".into(), "10G".into())],
        labels: Vec::new(),
        container: container(),
        holders: Vec::new(),
        access,
        settings: Vec::new(),
    }
}

/// A folder in which the fixture `name` is installed.
fn with_installed(name: &str) -> (TempDir, Host) {
    let folder = TempDir::new().unwrap();
    let plugins = folder.path().join("plugins");
    let entry = install(&plugins, &fixture(name), &Limits::default(), compile).unwrap();
    assert_eq!((entry.name.as_str(), entry.source), (name, PluginSource::Installed));
    (folder, Host::new(plugins, Limits::default(), None))
}

/// What never ends is stopped by its fuel, or on a busy machine by the deadline before that.
#[track_caller]
fn assert_endless(fault: &Fault) {
    assert!(matches!(fault, Fault::Fuel { limit: 30_000_000 } | Fault::Deadline { .. }), "{fault:?}");
}

/// The fault of the fixture `name` when a container wants a volume.
#[track_caller]
fn fault(name: &str) -> Fault {
    let (_folder, host) = with_installed(name);
    let driver = host.driver(name).unwrap();
    let begin = processor_time();
    let error = driver.attach(&attach_request(Access::ReadOnly)).unwrap_err();
    let time = processor_time() - begin;
    println!("{name}: {time:?}: {error}");
    assert!(time < CALL, "{name} was stopped after {time:?}");
    assert!(error.to_string().starts_with(&format!("plugin {name:?} failed in attach: ")), "{error}");
    let PluginError::Fault { fault, .. } = error else { panic!("{error}") };
    fault
}

#[track_caller]
fn assert_nonsense(name: &str, part: &str) {
    match fault(name) {
        Fault::Nonsense(text) => assert!(text.contains(part), "{text}"),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn trap() {
    assert_eq!(fault("trap"), Fault::Trap("wasm `unreachable` instruction executed".into()));
}

#[test]
fn a_panic_says_what_it_has_left() {
    assert_eq!(fault("panic"), Fault::Panic("panicked at src/lib.rs:27:15: no such thing".into()));
}

/// What is left of a panic is a hostile plugin's text like any other.
#[test]
fn a_panic_that_lies_about_where_its_message_is() {
    for (address, length) in
        [("\\ff\\ff\\ff\\ff", "\\ff\\ff\\ff\\ff"), ("\\00\\00\\00\\00", "\\00\\00\\00\\00")]
    {
        let text =
            text_of("panic").replacen("\\40\\01\\00\\00\\2b\\00\\00\\00", &format!("{address}{length}"), 1);
        assert_ne!(text, text_of("panic"));
        let folder = TempDir::new().unwrap();
        install(folder.path(), &component(&text), &Limits::default(), compile).unwrap();
        let host = Host::new(folder.path().to_owned(), Limits::default(), None);
        let error = host.driver("panic").unwrap().attach(&attach_request(Access::ReadOnly)).unwrap_err();
        let PluginError::Fault { fault, .. } = error else { panic!("{error}") };
        assert_eq!(fault, Fault::Trap("wasm `unreachable` instruction executed".into()));
    }
}

#[test]
fn a_failure_that_a_plugin_has_caught_is_a_failure() {
    assert_eq!(fault("caught"), Fault::Panic("TypeError at a.js:3".into()));
}

#[test]
fn limits_are_the_operators() {
    let folder = TempDir::new().unwrap();
    install(folder.path(), &fixture("eater"), &Limits::default(), compile).unwrap();
    let limits = |limits| {
        let host = Host::new(folder.path().to_owned(), limits, None);
        host.driver("eater").unwrap().attach(&attach_request(Access::ReadOnly)).unwrap_err().to_string()
    };
    assert_eq!(
        limits(Limits { memory: 1 << 20, ..Limits::default() }),
        "plugin \"eater\" failed in attach: it wanted 1114112 bytes of memory and may have 1048576 (limits.memory)"
    );
    assert_eq!(
        limits(Limits { fuel: 10, ..Limits::default() }),
        "plugin \"eater\" failed in attach: it used up 10 units of fuel (limits.fuel)"
    );
}

#[test]
fn endless_loop() {
    assert_endless(&fault("loop"));
}

#[test]
fn instructions_that_take_long() {
    assert_eq!(fault("crawl"), Fault::Deadline { limit: Duration::from_millis(50) });
}

/// A container asks a driver for each of its volumes: each call has time of its own, and slowness does not add up.
#[test]
fn all_calls_of_a_plugin_have_an_end() {
    let (_folder, host) = with_installed("crawl");
    let begin = processor_time();
    let faults: Vec<Fault> = (0..20)
        .map(|_| {
            let driver = host.driver("crawl").unwrap();
            match driver.attach(&attach_request(Access::ReadOnly)).unwrap_err() {
                PluginError::Fault { fault, .. } => fault,
                error => panic!("{error}"),
            }
        })
        .collect();
    let time = processor_time() - begin;
    let call = Fault::Deadline { limit: Duration::from_millis(50) };
    let total = Fault::TotalTime { limit: Duration::from_millis(500) };
    let calls = faults.iter().take_while(|fault| **fault == call).count();
    assert!((1..=10).contains(&calls), "{faults:?}");
    assert!(faults[calls..].iter().all(|fault| *fault == total), "{faults:?}");
    assert!(time < 2 * CALL, "twenty calls took {time:?}");
    assert_eq!(total.to_string(), "its calls together used up 500 ms of processor time (limits.total_time)");
}

/// What it says of itself is asked when it is installed, and no more.
#[test]
fn a_description_costs_no_time() {
    let folder = TempDir::new().unwrap();
    let plugins = folder.path().join("plugins");
    install(&plugins, &fixture("crawl"), &Limits::default(), compile).unwrap();
    let limits = Limits { time: 0, ..Limits::default() };
    let host = Host::new(plugins.clone(), limits.clone(), None);
    let info = host.driver("crawl").unwrap().describe().unwrap();
    assert_eq!(info.name, "crawl");
    // As it was before descriptions were kept.
    let manifest = plugins.join("crawl/plugin.json");
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    assert!(text.as_object_mut().unwrap().remove("info").is_some());
    fs::write(&manifest, text.to_string()).unwrap();
    let error = Host::new(plugins.clone(), limits, None).driver("crawl").unwrap().describe().unwrap_err();
    assert!(error.to_string().contains("it used up 0 ms of processor time (limits.time)"), "{error}");
    let host = Host::new(plugins, Limits::default(), None);
    assert_eq!(host.driver("crawl").unwrap().describe().unwrap(), info);
}

#[test]
fn memory() {
    assert_eq!(fault("eater"), Fault::Memory { wanted: 64 << 20 | 1 << 16, limit: 64 << 20 });
}

#[test]
fn a_hundred_megabytes_of_answer() {
    assert_eq!(fault("flood"), Fault::AnswerTooLarge { limit: 1 << 20 });
}

#[test]
fn recursion() {
    assert_eq!(fault("recursion"), Fault::Trap("call stack exhausted".into()));
}

#[test]
fn a_loop_after_the_answer() {
    assert_endless(&fault("after"));
}

/// All of it would be read and checked on a container's way.
#[test]
fn machine_code_that_is_too_large() {
    let folder = TempDir::new().unwrap();
    let error = install(folder.path(), &fixture("trap"), &Limits::default(), |_| Ok(vec![0; (64 << 20) + 1]))
        .unwrap_err();
    assert!(matches!(error, InstallError::CodeTooLarge { size: 67_108_865 }), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn addresses_outside_its_memory() {
    assert_nonsense("pointer", "pointer");
    assert_nonsense("realloc", "realloc");
}

#[test]
fn values_that_are_none() {
    assert_nonsense("garbage", "discriminant");
    assert_nonsense("utf8", "utf-8");
}

#[test]
fn more_access_than_was_asked_for() {
    assert_nonsense("greedy", "write access");
    let (_folder, host) = with_installed("greedy");
    let answer = host.driver("greedy").unwrap().attach(&attach_request(Access::ReadWrite)).unwrap();
    assert_eq!(answer.unwrap().access, Access::ReadWrite);
}

#[test]
fn a_target_outside_the_container() {
    let (_folder, host) = with_installed("escape");
    let request = ClaimsRequest {
        container: container(),
        rootfs: Vec::new(),
        settings: Vec::new(),
        pod: None,
        no_overlay: None,
    };
    let error = host.policy("escape").unwrap().claims(&request).unwrap_err();
    assert!(error.to_string().starts_with("plugin \"escape\" failed in claims: "), "{error}");
    assert!(error.to_string().contains("\"/../etc\""), "{error}");
}

#[test]
fn text_that_would_take_over_a_terminal_is_made_harmless() {
    let (_folder, host) = with_installed("shout");
    let refusal =
        host.driver("shout").unwrap().attach(&attach_request(Access::ReadOnly)).unwrap().unwrap_err();
    assert_eq!(refusal.reason, "no [2J   really");
}

#[test]
fn every_fixture_has_a_test() {
    let tests = include_str!("hostile.rs");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/plugins");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        if let Some(name) = file.strip_suffix(".wat") {
            assert!(tests.contains(&format!("(\"{name}\"")), "no test uses {file}");
            seen += 1;
        }
    }
    assert_eq!(seen, 16);
}

/// Installs what must not be installed, and returns why it was not.
#[track_caller]
fn refused(component: &[u8]) -> InstallError {
    let folder = TempDir::new().unwrap();
    let begin = Instant::now();
    let error = install(folder.path(), component, &Limits::default(), compile).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(5), "{error}");
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "something was left behind");
    error
}

fn not_a_plugin(text: &str) -> NotAPlugin {
    match refused(&wat::parse_str(text).unwrap()) {
        InstallError::NotAPlugin { reason } => reason,
        error => panic!("{error:?}"),
    }
}

#[test]
fn what_is_no_plugin_is_not_installed() {
    assert!(matches!(not_a_plugin("(module)"), NotAPlugin::Module));
    assert!(matches!(not_a_plugin("(component)"), NotAPlugin::NoInterface));
    for bytes in [&b""[..], b"\0asm", b"not wasm at all", b"(component)"] {
        let error = refused(bytes);
        assert!(
            matches!(error, InstallError::NotAPlugin { reason: NotAPlugin::Invalid { .. } }),
            "{error:?}"
        );
    }
    let good = fixture("trap");
    assert!(matches!(refused(&good[..good.len() / 2]), InstallError::NotAPlugin { .. }));
    assert!(matches!(refused(&vec![0; (64 << 20) + 1]), InstallError::TooLarge));
}

#[test]
fn imports_are_refused_by_name() {
    let text = r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#;
    match not_a_plugin(text) {
        NotAPlugin::Import { import } => assert_eq!(import, "wasi:cli/environment@0.2.0"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn other_versions_are_refused_by_name() {
    for version in ["0.1.1", "0.2.0", "1.0.0"] {
        let text =
            format!(r#"(component (instance $i) (export "volhook:plugin/driver@{version}" (instance $i)))"#);
        match not_a_plugin(&text) {
            NotAPlugin::Version { found } => assert_eq!(found, format!("volhook:plugin/driver@{version}")),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn two_kinds_in_one_are_refused() {
    let text = r#"(component (instance $i)
        (export "volhook:plugin/driver@0.1.0" (instance $i))
        (export "volhook:plugin/policy@0.1.0" (instance $i)))"#;
    assert!(matches!(not_a_plugin(text), NotAPlugin::TwoKinds));
}

#[test]
fn the_right_name_with_other_types_is_refused() {
    let text = r#"(component (instance $i) (export "volhook:plugin/driver@0.1.0" (instance $i)))"#;
    let error = refused(&wat::parse_str(text).unwrap());
    assert!(matches!(error, InstallError::Try(_)), "{error:?}");
}

fn text_of(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/plugins");
    fs::read_to_string(folder.join(name).with_extension("wat")).unwrap()
}

/// The fixture `trap` with `more` in its module, which then misbehaves before it has said its name.
fn trap_with(more: &str) -> Vec<u8> {
    component(&text_of("trap").replacen("(memory ", &format!("{more}\n(memory "), 1))
}

#[track_caller]
fn fault_at_install(component: &[u8]) -> Fault {
    match refused(component) {
        InstallError::Try(PluginError::Fault { fault, .. }) => fault,
        error => panic!("{error:?}"),
    }
}

#[test]
fn what_misbehaves_at_once_is_not_installed() {
    let start = "(func $start (loop $again (br $again))) (start $start)";
    assert_endless(&fault_at_install(&trap_with(start)));
    let table = "(table 10000000 funcref)";
    assert_eq!(fault_at_install(&trap_with(table)), Fault::Tables { wanted: 10_000_000, limit: 100_000 });
    let big = text_of("trap").replacen("(export \"memory\") 1)", "(export \"memory\") 2000)", 1);
    assert!(big.contains("2000"));
    assert_eq!(fault_at_install(&component(&big)), Fault::Memory { wanted: 2000 << 16, limit: 64 << 20 });
}

#[test]
fn names_that_are_not_free_or_no_names_are_refused() {
    let named = |name: &str| {
        let text = text_of("trap").replacen("\"trap\"", &format!("{name:?}"), 1);
        let length = format!("\\{:02x}", name.len());
        component(&text.replacen("\\10\\00\\00\\00\\04", &format!("\\10\\00\\00\\00{length}"), 1))
    };
    match refused(&named("local")) {
        InstallError::BuiltInName { name } => assert_eq!(name, "local"),
        error => panic!("{error:?}"),
    }
    for name in ["../x", ".x", "a b", ""] {
        assert!(matches!(fault_at_install(&named(name)), Fault::Nonsense(_)), "{name}");
    }
}

#[test]
fn installing_again_replaces() {
    let (folder, host) = with_installed("trap");
    let before = host.list().unwrap();
    let other = component(&text_of("trap").replacen("(unreachable)", "(i32.const 256)", 1));
    let entry = install(&folder.path().join("plugins"), &other, &Limits::default(), compile).unwrap();
    let after = Host::new(folder.path().join("plugins"), Limits::default(), None);
    assert_eq!(before.len(), after.list().unwrap().len());
    let listed = after.list().unwrap().into_iter().find(|e| e.name == "trap").unwrap();
    assert_eq!(listed, entry);
    assert!(!before.contains(&listed));
    assert!(after.driver("trap").unwrap().attach(&attach_request(Access::ReadOnly)).unwrap().is_ok());
    let mut left: Vec<_> = fs::read_dir(folder.path().join("plugins"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, [".previous-trap", "trap"]);
}

#[test]
fn an_installed_driver_is_no_policy_and_is_listed_among_the_drivers() {
    let (_folder, host) = with_installed("trap");
    assert_eq!(
        host.driver("nfs").unwrap_err().to_string(),
        "unknown driver \"nfs\"; installed: block, device, host, local, tmpfs, trap"
    );
    assert!(matches!(host.policy("trap"), Err(PluginError::Unknown { kind: PluginKind::Policy, .. })));
}

/// Why the installed fixture `trap` is not usable after `spoil` has had its folder.
#[track_caller]
fn spoilt(spoil: impl FnOnce(&Path)) -> PluginError {
    let (folder, host) = with_installed("trap");
    spoil(&folder.path().join("plugins/trap"));
    let error = host.driver("trap").unwrap_err();
    let built_in =
        Host::new(Path::new("/nonexistent/plugins").to_owned(), Limits::default(), None).list().unwrap();
    assert_eq!(host.list().unwrap(), built_in, "it is listed although unusable");
    assert_eq!(host.unusable().unwrap().len(), 1);
    assert!(error.to_string().contains("\"trap\""), "{error}");
    error
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn code_that_somebody_else_could_write_is_not_run() {
    let untrusted = |error| assert!(matches!(error, PluginError::Untrusted { .. }), "{error}");
    untrusted(spoilt(|plugin| set_mode(plugin, 0o775)));
    untrusted(spoilt(|plugin| set_mode(&plugin.join("plugin.cwasm"), 0o666)));
    untrusted(spoilt(|plugin| set_mode(&plugin.join("plugin.json"), 0o664)));
    untrusted(spoilt(|plugin| set_mode(plugin.parent().unwrap(), 0o777)));
    untrusted(spoilt(|plugin| {
        let elsewhere = plugin.parent().unwrap().join(".elsewhere");
        fs::rename(plugin, &elsewhere).unwrap();
        symlink(&elsewhere, plugin).unwrap();
    }));
}

#[test]
fn privileged_code_of_another_user_is_not_run() {
    assert!(rustix::process::geteuid().is_root(), "run this test as root: it gives a file to another user");
    let error = spoilt(|plugin| {
        std::os::unix::fs::chown(plugin.join("plugin.cwasm"), Some(65534), None).unwrap();
    });
    assert!(matches!(error, PluginError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("belongs to user 65534"), "{error}");
}

#[test]
fn damaged_code_is_not_run() {
    let damaged = |error| assert!(matches!(error, PluginError::Damaged { .. }), "{error}");
    damaged(spoilt(|plugin| {
        let path = plugin.join("plugin.cwasm");
        let mut code = fs::read(&path).unwrap();
        let middle = code.len() / 2;
        code[middle] ^= 1;
        fs::write(&path, code).unwrap();
    }));
    damaged(spoilt(|plugin| fs::remove_file(plugin.join("plugin.cwasm")).unwrap()));
    damaged(spoilt(|plugin| fs::remove_file(plugin.join("plugin.json")).unwrap()));
    damaged(spoilt(|plugin| fs::write(plugin.join("plugin.json"), "{}").unwrap()));
    damaged(spoilt(|plugin| {
        fs::remove_file(plugin.join("plugin.cwasm")).unwrap();
        symlink("plugin.wasm", plugin.join("plugin.cwasm")).unwrap();
    }));
    damaged(spoilt(|plugin| {
        fs::remove_file(plugin.join("plugin.cwasm")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, plugin.join("plugin.cwasm"), 0o644.into()).unwrap();
    }));
}

#[test]
fn code_for_another_engine_is_not_run() {
    let error = spoilt(|plugin| {
        let path = plugin.join("plugin.json");
        let text = fs::read_to_string(&path).unwrap().replace("\"wasmtime-", "\"wasmtime-1");
        fs::write(path, text).unwrap();
    });
    assert!(matches!(error, PluginError::Stale { .. }), "{error}");
    assert!(error.to_string().ends_with("`volhook plugin refresh` compiles it anew"), "{error}");
}

#[test]
fn machine_code_from_outside_is_refused_by_what_it_is() {
    let code = compile(&fixture("trap")).unwrap();
    assert!(matches!(refused(&code), InstallError::NotAPlugin { reason: NotAPlugin::MachineCode }));
}
