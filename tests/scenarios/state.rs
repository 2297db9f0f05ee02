//! Bad states on standard input: the hook called by hand, as a broken runtime would.

use crate::assert_contains;
use crate::leases;
use anyhow::Result;
use serde_json::json;
use std::process::Command;
use std::time::Instant;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Volhook;

fn claiming_bundle() -> Result<Bundle> {
    BundleBuilder::new().annotation("dev.volhook.mount.x", "source=v,target=/data").build()
}

fn gone_pid() -> Result<u32> {
    let mut child = Command::new("/bin/true").spawn()?;
    let pid = child.id();
    child.wait()?;
    Ok(pid)
}

#[test]
fn privileged_bad_states_are_refused_by_name() -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = claiming_bundle()?;
    let state = |pid: serde_json::Value| {
        json!({"ociVersion": "1.0.2", "id": "c1", "status": "creating", "pid": pid, "bundle": bundle.path()})
            .to_string()
    };
    for (text, part) in [
        ("not json".to_owned(), "not valid JSON"),
        (String::new(), "not valid JSON"),
        ("[]".to_owned(), "not valid JSON"),
        (json!({"id": "c1", "pid": 1}).to_string(), "has no `bundle`"),
        (json!({"id": "../c1", "pid": 1, "bundle": bundle.path()}).to_string(), "names no usable container"),
        (json!({"id": "c1", "pid": 1, "bundle": "/nowhere"}).to_string(), "/nowhere/config.json"),
        (state(json!(null)), "has no process: pid is missing"),
        (state(json!(0)), "has no process: pid is 0"),
        (state(json!(-5)), "has no process: pid is -5"),
        (state(json!(gone_pid()?)), "cannot use the process of container \"c1\""),
        (state(json!(1)), "cannot use the process of container \"c1\""),
        (state(json!(std::process::id())), "cannot use the process of container \"c1\""),
    ] {
        for stage in ["prestart", "createRuntime"] {
            let output = volhook.hook(stage, text.clone())?;
            assert_eq!(output.code(), Some(1), "{text}: {output}");
            let printed = output.failure();
            assert_contains(&printed, part);
            assert_eq!(printed.lines().count(), 1, "more than one line: {printed}");
        }
        assert_eq!(volhook.hook("poststop", text)?.code(), Some(0));
    }
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}

#[test]
fn privileged_too_much_input_is_refused_unread() -> Result<()> {
    let volhook = Volhook::new()?;
    let start = Instant::now();
    for stage in ["prestart", "createRuntime", "poststop"] {
        let output = volhook.hook(stage, vec![b' '; 64 << 20])?;
        assert_eq!(output.code(), Some(if stage == "poststop" { 0 } else { 1 }), "{output}");
        assert_contains(&output.stderr, "larger than 4 MiB");
    }
    assert_contains(&volhook.hook("precreate", vec![b' '; 64 << 20])?.failure(), "larger than 16 MiB");
    assert!(start.elapsed().as_secs() < 20);
    Ok(())
}

#[test]
fn privileged_poststop_of_strangers_is_quiet() -> Result<()> {
    let volhook = Volhook::new()?;
    for state in [
        json!({"ociVersion": "1.0.2", "id": "c1", "status": "stopped", "bundle": "/b"}),
        json!({"ociVersion": "1.0", "id": "c1", "pid": 0, "status": "stopped", "bundle": "/b", "root": "/r"}),
    ] {
        let output = volhook.hook("poststop", state.to_string())?;
        assert_eq!((output.stderr.as_str(), output.code()), ("", Some(0)));
    }
    assert!(!volhook.root().join("journal").exists(), "a stranger's poststop made a journal");
    Ok(())
}
