//! The spec stage: the wrapper and the precreate hook, on bundles.

use crate::assert_contains;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use anyhow::Result;
use serde_json::Value;
use std::fs;
use volhook_harness::BundleBuilder;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_the_wrapper_gives_volumes,
    privileged_the_wrapper_passes_the_rest_through,
    privileged_precreate_rewrites_the_spec,
    privileged_mounts_of_our_type_are_rewritten,
    privileged_a_planned_spec_is_planned_anew,
    privileged_a_pending_lease_is_superseded,
    privileged_targets_below_a_bind_are_looked_at_in_the_container,
    privileged_a_bind_that_is_not_as_planned_is_refused,
);

const BLOCK: &str = "source=mydb,target=/data,volume-driver=block,volume-opt=size=16M";

fn destinations(spec: &Value) -> Vec<String> {
    let text = |mount: &Value| mount["destination"].as_str().unwrap_or_default().to_owned();
    spec["mounts"].as_array().into_iter().flatten().map(text).collect()
}

fn privileged_the_wrapper_gives_volumes(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let engine = tempfile::tempdir()?;
    fs::write(engine.path().join("resolv.conf"), "nameserver 192.0.2.1\n")?;
    let claiming = || {
        BundleBuilder::new()
            .sleeping()
            .file("/etc/resolv.conf", "")
            .bind(engine.path().join("resolv.conf"), "/etc/resolv.conf", &["rbind", "ro"])
            .annotation("dev.volhook.mount.etc", "source=etc,target=/etc")
            .annotation("dev.volhook.mount.root", "source=root,target=/root")
            .annotation("dev.volhook.mount.x", BLOCK)
            .build()
    };
    let (bundle, other) = (claiming()?, claiming()?);
    let runtime = volhook.wrapped_runtime(kind)?;
    runtime.run_detached(&bundle, "c1")?.success();
    let seen = runtime
        .exec("c1", &["/bin/sh", "-c", "cat /etc/resolv.conf; echo x > /data/note; echo y > /root/note"])?;
    assert_eq!(seen.success(), "nameserver 192.0.2.1\n");
    let held = leases(&volhook)?;
    assert_eq!(held.len(), 3);
    assert!(held.iter().all(|(_, container)| container == "c1"));
    let table = volhook.json(&["lease", "ls"])?;
    assert_eq!(table[0]["pid"].as_i64(), Some(i64::from(runtime.pid("c1")?)));
    let order = destinations(&bundle.config()?);
    let at =
        |what: &str| order.iter().position(|d| d == what).unwrap_or_else(|| panic!("no {what} in {order:?}"));
    assert!(at("/etc") < at("/etc/resolv.conf"));
    assert!(!order.contains(&"/data".to_owned()), "an image is injected, never named in a spec");

    runtime.run(&other, "c2")?.failure();
    assert_contains(&last_refusal(&volhook)?, "volume \"mydb\" is held exclusively by container \"c1\"");
    runtime.delete_force("c1")?.success();
    assert_eq!(leases(&volhook)?, []);
    other.set_shell("cat /data/note /root/note")?;
    assert_eq!(runtime.run(&other, "c2")?.success(), "x\ny\n");
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}

fn privileged_the_wrapper_passes_the_rest_through(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = BundleBuilder::new().shell("echo started").build()?;
    let spec = fs::read(bundle.path().join("config.json"))?;
    let runtime = volhook.wrapped_runtime(kind)?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "started\n");
    assert_eq!(fs::read(bundle.path().join("config.json"))?, spec);
    assert_contains(&runtime.command(["--version"]).run()?.success(), kind.program());
    volhook.configure("= nonsense [")?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "started\n");
    Ok(())
}

fn privileged_precreate_rewrites_the_spec(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = BundleBuilder::new()
        .shell("echo x >> /data/note; echo y >> /dir/note; cat /data/note /dir/note")
        .edit(|spec| {
            spec["x-unknown"] = serde_json::json!({"kept": [1, 2.5, null]});
            spec["root"]["path"] = "rootfs".into();
        })
        .annotation("dev.volhook.mount.x", BLOCK)
        .annotation("dev.volhook.mount.dir", "source=dir,target=/dir")
        .build()?;
    let original = bundle.config()?;
    let precreate = |spec: &Value| -> Result<Value> {
        Ok(volhook
            .command(&["hook", "precreate"])
            .directory(bundle.path())
            .stdin(spec.to_string())
            .run()?
            .json())
    };
    for expected in ["x\ny\n", "x\nx\ny\ny\n"] {
        let rewritten = precreate(&original)?;
        assert_eq!(rewritten["x-unknown"], original["x-unknown"]);
        assert!(leases(&volhook)?.iter().all(|(_, container)| container.starts_with("unnamed-")));
        bundle.write_config(&rewritten)?;
        assert_eq!(runtime.run(&bundle, "c1")?.success(), expected);
        assert_eq!(leases(&volhook)?, []);
    }
    // Without claims the very same bytes come back.
    let plain = r#"{"ociVersion": "1.0.2",   "root": {"path": "rootfs"}}"#;
    assert_eq!(volhook.hook("precreate", plain)?.success(), plain);
    Ok(())
}

fn privileged_mounts_of_our_type_are_rewritten(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = BundleBuilder::new()
        .shell("touch /a/x /b/x && cat /proc/mounts")
        .mount("/a", "volhook", "dir", &["nosuid", "label=team=a"])
        .mount("/b", "volhook", "image", &["driver=block", "size=16M"])
        .build()?;
    let planned = volhook.json(&["plan", &bundle.path().to_string_lossy()])?;
    assert_eq!(planned["mounts"][0]["apply"], "spec");
    assert_eq!(planned["mounts"][1]["apply"], "inject");
    assert_eq!(leases(&volhook)?, []);

    let runtime = volhook.wrapped_runtime(kind)?;
    let mounts = runtime.run(&bundle, "c1")?.success();
    assert!(mounts.lines().any(|line| line.contains(" /a ") && line.contains("nosuid")), "{mounts}");
    assert!(mounts.lines().any(|line| line.contains(" /b ext4 ")), "{mounts}");
    let listed = volhook.json(&["volume", "ls"])?;
    assert_eq!(listed[0]["labels"]["team"], "a");
    Ok(())
}

fn privileged_a_planned_spec_is_planned_anew(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = BundleBuilder::new()
        .shell("echo x >> /data/note; wc -l < /data/note")
        .annotation("dev.volhook.mount.x", "source=v,target=/data")
        .build()?;
    let runtime = volhook.wrapped_runtime(kind)?;
    assert_eq!(runtime.run(&bundle, "c1")?.success().trim(), "1");
    let first = bundle.config()?;
    assert_eq!(runtime.run(&bundle, "c1")?.success().trim(), "2");
    let second = bundle.config()?;
    assert_eq!(destinations(&first), destinations(&second));
    assert_eq!(second["hooks"]["createRuntime"].as_array().map(Vec::len), Some(1));

    // Behind the wrapper's back: the attempt of that spec is over.
    let bare = Runtime::new(kind)?;
    bare.run(&bundle, "c1")?.failure();
    Ok(())
}

fn privileged_a_pending_lease_is_superseded(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle =
        BundleBuilder::new().shell("echo started").annotation("dev.volhook.mount.x", BLOCK).build()?;
    let runtime = volhook.wrapped_runtime(kind)?;
    runtime.run(&bundle, "c1")?.success();
    // A runtime that dies before its hooks: the lease stays pending, and holds against others only.
    bundle.edit(|spec| spec["process"]["cwd"] = "relative".into())?;
    let attempt = volhook
        .command(&["runtime", "create", "--bundle", &bundle.path().to_string_lossy(), "c1"])
        .env("VOLHOOK_RUNTIME", "/bin/false")
        .run()?;
    attempt.failure();
    let pending = volhook.json(&["lease", "ls"])?;
    assert_eq!((pending[0]["container"].as_str(), pending[0]["pid"].as_i64()), (Some("c1"), None));
    bundle.edit(|spec| spec["process"]["cwd"] = "/".into())?;
    runtime.run(&bundle, "c2")?.failure();
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "started\n");
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}

/// Editors that keep a lock file beside a read-only configuration: the file exists in the bind only, not in the image.
fn privileged_targets_below_a_bind_are_looked_at_in_the_container(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let host = tempfile::tempdir()?;
    fs::write(host.path().join("lock.json"), "from the host\n")?;
    fs::create_dir(host.path().join("cache"))?;
    let bundle = |options: &[&str], claim: &str, command: &str| {
        BundleBuilder::new()
            .shell(command)
            .bind(host.path(), "/conf", options)
            .annotation("dev.volhook.mount.x", claim)
            .build()
    };
    let runtime = volhook.wrapped_runtime(kind)?;
    let lock = "source=locks,target=/conf/lock.json,volume-subpath=lock.json";
    let write = bundle(&["rbind", "ro"], lock, "cat /conf/lock.json; echo mine > /conf/lock.json")?;
    assert_eq!(runtime.run(&write, "c1")?.success(), "");
    let read = bundle(&["rbind", "rw"], lock, "cat /conf/lock.json")?;
    assert_eq!(runtime.run(&read, "c1")?.success(), "mine\n");
    let whole =
        bundle(&["rbind", "ro"], "source=v,target=/conf/cache", "echo x > /conf/cache/x; ls /conf/cache")?;
    assert_eq!(runtime.run(&whole, "c1")?.success(), "x\n");
    let new = bundle(&["rbind", "rw"], "source=v,target=/conf/new", "ls /conf/new")?;
    assert_eq!(runtime.run(&new, "c1")?.success(), "x\n");

    for (claim, reason) in [
        ("source=v,target=/conf/absent", "it does not exist inside the read-only mount /conf"),
        ("source=v,target=/conf/lock.json", "only a volume-subpath can cover a file"),
    ] {
        let refused = bundle(&["rbind", "ro"], claim, "echo started")?;
        runtime.run(&refused, "c1")?.failure();
        assert_contains(&last_refusal(&volhook)?, reason);
    }
    assert_eq!(fs::read_to_string(host.path().join("lock.json"))?, "from the host\n");
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}

/// A change of a spec's mounts.
type Edit<'a> = &'a dyn Fn(&mut Vec<Value>);

/// Whoever edits the spec behind volhook's back gets no container that only seems to have its volume.
fn privileged_a_bind_that_is_not_as_planned_is_refused(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let elsewhere = tempfile::tempdir()?;
    let bundle = BundleBuilder::new()
        .shell("echo started")
        .annotation("dev.volhook.mount.dir", "source=dir,target=/dir")
        .build()?;
    let original = bundle.config()?.to_string();
    let planned = |edit: Edit<'_>| -> Result<()> {
        let command = volhook.command(&["hook", "precreate"]).directory(bundle.path());
        let mut spec = command.stdin(original.clone()).run()?.json();
        edit(spec["mounts"].as_array_mut().expect("the bundle has mounts"));
        bundle.write_config(&spec)
    };
    let ours = |mount: &Value| mount["destination"] == "/dir";
    let other = Value::from(elsewhere.path().to_string_lossy());
    let change = |mounts: &mut Vec<Value>, field: &str, value: &Value| {
        for mount in mounts.iter_mut().filter(|mount| ours(mount)) {
            mount[field] = value.clone();
        }
    };
    let propagating = serde_json::json!(["bind", "rshared", "rw"]);
    let cover = serde_json::json!({"destination": "/dir", "type": "tmpfs", "source": "tmpfs"});
    let edits: [(&str, Edit<'_>); 4] = [
        ("/dir", &|mounts| mounts.retain(|mount| !ours(mount))),
        ("something else", &|mounts| change(mounts, "source", &other)),
        ("propagates", &|mounts| change(mounts, "options", &propagating)),
        ("something else", &|mounts| mounts.push(cover.clone())),
    ];
    for (reason, edit) in edits {
        planned(edit)?;
        let output = runtime.run(&bundle, "c1")?;
        assert!(!output.status.success() && output.stdout.is_empty(), "{reason}: {output}");
        let refusal = last_refusal(&volhook)?;
        assert_contains(&refusal, "the runtime has not mounted volume \"dir\" as its spec says");
        assert_contains(&refusal, reason);
        assert_eq!(leases(&volhook)?, []);
    }
    planned(&|_| {})?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "started\n");
    Ok(())
}
