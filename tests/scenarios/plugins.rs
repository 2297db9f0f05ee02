//! Plugins of others: hostile ones are refused by name and in time, with no lease and no volume left behind; what honest
//! ones answer is put together with care.

#[path = "../fixtures/plugins/component.rs"]
pub(crate) mod component;

use crate::assert_contains;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use crate::volumes;
use anyhow::Result;
use std::fs;
use std::path::Path;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_hostile_plugins_are_refused_in_time,
    privileged_a_writer_is_alone_whatever_else_it_reads,
);

/// What a hook that asks a hostile plugin may take, in microseconds. The aim is 100 ms on an idle machine; tests
/// run beside others.
const PATIENCE_MICROSECONDS: u64 = 1_000_000;

fn privileged_hostile_plugins_are_refused_in_time(kind: RuntimeKind) -> Result<()> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/plugins");
    let mut names: Vec<String> = fs::read_dir(fixtures)?
        .filter_map(|entry| entry.ok()?.path().file_name()?.to_str()?.strip_suffix(".wat").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() > 10, "{names:?}");
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let timings = volhook.folder().join("timings");
    for name in names {
        let file = volhook.folder().join(format!("{name}.wasm"));
        fs::write(&file, component::fixture(&name))?;
        volhook.run(&["plugin", "install", &file.to_string_lossy()])?.success();
        let builder = BundleBuilder::new()
            .shell("echo started")
            .annotation("dev.volhook.mount.y", "source=w,target=/other");
        let is_policy = volhook
            .json(&["plugin", "ls"])?
            .as_array()
            .into_iter()
            .flatten()
            .any(|plugin| plugin["name"] == name.as_str() && plugin["kind"] == "policy");
        let builder = if is_policy {
            builder.annotation("dev.volhook.pod", "p1").annotation("dev.volhook.policy", &name)
        } else {
            // Read-only, because one of them answers with more access than it was asked for.
            let claim = format!("source=v,target=/data,readonly,volume-driver={name}");
            builder.annotation("dev.volhook.mount.x", &claim)
        };
        let bundle = builder.build()?;
        volhook.install(&bundle)?.success();
        bundle.edit(|spec| {
            if let Some(env) = spec["hooks"]["prestart"][0]["env"].as_array_mut() {
                env.push(format!("VOLHOOK_TIMINGS={}", timings.display()).into());
            }
        })?;
        let _ = fs::remove_file(&timings);
        let output = runtime.run(&bundle, "c1")?;
        assert!(!output.status.success() && output.stdout.is_empty(), "{name}: {output}");
        let text = last_refusal(&volhook)?;
        assert_contains(&text, &name);
        let line: serde_json::Value = serde_json::from_str(&fs::read_to_string(&timings)?)?;
        let took = line["total"].as_u64().unwrap_or(u64::MAX);
        println!("{name}: {took} µs, {text}");
        assert!(took < PATIENCE_MICROSECONDS, "{name} kept the hook for {took} µs");
    }
    assert_eq!(leases(&volhook)?, []);
    assert_eq!(volumes(&volhook)?, Vec::<String>::new());
    Ok(())
}

/// The driver says "shared" of the first claim and "exclusive" of the second; the volume is one.
fn privileged_a_writer_is_alone_whatever_else_it_reads(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let file = volhook.folder().join("readers.wasm");
    fs::write(&file, component::fixture("honest/readers"))?;
    volhook.run(&["plugin", "install", &file.to_string_lossy()])?.success();
    let (read, write) = ("source=v,target=/a,readonly", "source=v,target=/b");
    let bundle = |claims: &[(&str, &str)]| -> Result<Bundle> {
        let mut builder = BundleBuilder::new().sleeping();
        for (label, claim) in claims {
            let key = format!("dev.volhook.mount.{label}");
            builder = builder.annotation(&key, &format!("{claim},volume-driver=readers"));
        }
        let bundle = builder.build()?;
        volhook.install(&bundle)?.success();
        Ok(bundle)
    };
    let (both, reader) = (bundle(&[("a", read), ("b", write)])?, bundle(&[("a", read)])?);

    runtime.run_detached(&both, "c1")?.success();
    let leases = volhook.json(&["lease", "ls"])?;
    assert_eq!((&leases[0]["access"], &leases[0]["sharing"]), (&"rw".into(), &"exclusive".into()));
    assert_contains(&volhook.run(&["explain", "c1"])?.success(), "decided ro exclusive; on /a");
    runtime.run(&reader, "c2")?.failure();
    assert_contains(&last_refusal(&volhook)?, "is held exclusively by container \"c1\" (driver readers)");
    runtime.delete_force("c1")?.success();

    runtime.run_detached(&reader, "c2")?.success();
    runtime.run_detached(&bundle(&[("a", read)])?, "c3")?.success();
    runtime.run(&both, "c1")?.failure();
    assert_contains(&last_refusal(&volhook)?, "is held in common by container \"c");
    Ok(())
}
