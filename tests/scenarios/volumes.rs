//! Removing volumes while containers come and go, and taking that back.

use crate::assert_contains;
use crate::leases;
use crate::on_both_runtimes;
use crate::volumes;
use anyhow::Result;
use volhook_harness::BundleBuilder;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_what_is_held_is_not_removed,
    privileged_a_removed_volume_can_be_taken_back,
    privileged_all_volumes_but_those_of_pods,
    privileged_removing_races_with_starting,
    privileged_unused_volumes_are_pruned,
);

const BLOCK: &str = "source=mydb,target=/data,volume-driver=block,volume-opt=size=16M";

fn privileged_what_is_held_is_not_removed(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = BundleBuilder::new().sleeping().annotation("dev.volhook.mount.x", BLOCK).build()?;
    volhook.install(&bundle)?.success();
    volhook.run(&["volume", "create", "free"])?.success();
    runtime.run_detached(&bundle, "c1")?.success();

    let unasked = volhook.run(&["volume", "rm", "free"])?;
    assert_eq!(unasked.code(), Some(1));
    assert_contains(&unasked.stderr, "no terminal");
    let several = volhook.run(&["volume", "rm", "--force", "mydb", "free", "absent"])?;
    assert!(!several.status.success());
    assert_eq!(several.stdout, "free\n");
    assert_contains(&several.stderr, "volume \"mydb\" is held by container \"c1\"");
    assert!(!several.stderr.contains("absent"), "what is not there need not be removed: {several}");
    assert_eq!(volumes(&volhook)?, ["mydb"]);

    // Its holder died and nobody has noticed yet.
    bundle.edit(|spec| {
        spec["hooks"].as_object_mut().map(|hooks| hooks.remove("poststop"));
    })?;
    runtime.delete_force("c1")?.success();
    runtime.run_detached(&bundle, "c2")?.success();
    runtime.delete_force("c2")?.success();
    assert_eq!(leases(&volhook)?.len(), 1);
    assert_eq!(volhook.run(&["volume", "rm", "--force", "mydb"])?.success(), "mydb\n");
    assert_eq!(leases(&volhook)?, []);
    assert_eq!(volumes(&volhook)?, Vec::<String>::new());
    Ok(())
}

fn privileged_a_removed_volume_can_be_taken_back(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = BundleBuilder::new().annotation("dev.volhook.mount.x", BLOCK).build()?;
    volhook.install(&bundle)?.success();
    bundle.set_shell("echo precious > /data/note")?;
    runtime.run(&bundle, "c1")?.success();
    volhook.run(&["volume", "rm", "-f", "mydb"])?.success();
    let trash = volhook.json(&["trash", "ls"])?;
    assert_eq!((trash[0]["name"].as_str(), trash[0]["driver"].as_str()), (Some("mydb"), Some("block")));

    // The name is free: a container gets a new, empty volume. Then the old one cannot come back.
    bundle.set_shell("ls /data")?;
    assert_eq!(runtime.run(&bundle, "c2")?.success(), "");
    let taken = volhook.run(&["trash", "restore", "mydb"])?;
    assert_eq!(taken.code(), Some(1));
    assert_contains(&taken.stderr, "exists");
    volhook.run(&["volume", "rm", "-f", "mydb"])?.success();
    let first = trash[0]["uuid"].as_str().unwrap_or_default();
    assert_eq!(volhook.run(&["trash", "restore", first])?.success(), "mydb\n");
    bundle.set_shell("cat /data/note")?;
    assert_eq!(runtime.run(&bundle, "c3")?.success(), "precious\n");

    // The other one is kept for its time, and goes for good by a person's word.
    volhook.run(&["gc"])?.success();
    assert_eq!(volhook.json(&["trash", "ls"])?.as_array().map(Vec::len), Some(1));
    assert_eq!(volhook.run(&["trash", "empty"])?.code(), Some(1));
    assert_eq!(volhook.run(&["trash", "empty", "--force"])?.success(), "deleted mydb\n");
    assert_eq!(volhook.json(&["trash", "ls"])?, serde_json::json!([]));
    assert_eq!(volumes(&volhook)?, ["mydb"]);
    volhook.run(&["volume", "rm", "-f", "mydb"])?.success();
    volhook.configure("[trash]\ndays = 0\n")?;
    assert_eq!(volhook.run(&["gc"])?.success(), "deleted mydb\n");
    let told = volhook.json(&["events"])?;
    let of = |kind: &str| told.as_array().into_iter().flatten().filter(|event| event["kind"] == kind).count();
    assert_eq!((of("created"), of("removed"), of("restored"), of("deleted")), (2, 3, 1, 2));
    Ok(())
}

fn privileged_all_volumes_but_those_of_pods(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = BundleBuilder::new().shell("true").annotation("dev.volhook.pod", "p1").build()?;
    volhook.install(&bundle)?.success();
    runtime.run(&bundle, "c1")?.success();
    for (name, label) in [("a", "team=a"), ("b", "team=b"), ("c", "team=b")] {
        volhook.run(&["volume", "create", name, "--label", label])?.success();
    }
    let removed = volhook.run(&["volume", "rm", "--all", "--force", "--filter", "label=team=b"])?;
    assert_eq!(removed.success(), "b\nc\n");
    assert_eq!(volhook.run(&["volume", "rm", "--all", "--force"])?.success(), "a\n");
    let left = volumes(&volhook)?;
    assert!(left.len() == 11 && left.iter().all(|name| name.starts_with("vol-p1-")), "{left:?}");
    for of_pod in ["vol-p1-storage", "vol-p1-etc"] {
        let refused = volhook.run(&["volume", "rm", "--force", of_pod])?;
        assert_eq!(refused.code(), Some(1));
        assert_contains(&refused.stderr, "volhook pod rm p1");
    }
    assert_eq!(volumes(&volhook)?, left);
    assert_eq!(volhook.run(&["volume", "rm"])?.code(), Some(2));
    assert_eq!(volhook.run(&["volume", "rm", "--all", "a"])?.code(), Some(2));
    Ok(())
}

/// Whoever comes first: a container either has a volume that is there, or a new one; never one that is in the trash.
fn privileged_removing_races_with_starting(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle =
        BundleBuilder::new().sleeping().annotation("dev.volhook.mount.x", "source=v,target=/data").build()?;
    volhook.install(&bundle)?.success();
    for round in 0..6 {
        let id = format!("c{round}");
        std::thread::scope(|scope| -> Result<()> {
            let remover = scope.spawn(|| -> Result<u32> {
                let mut removed = 0;
                for _ in 0..20 {
                    removed += u32::from(volhook.run(&["volume", "rm", "--force", "v"])?.status.success());
                }
                Ok(removed)
            });
            runtime.run_detached(&bundle, &id)?.success();
            remover.join().expect("the remover does not panic")?;
            Ok(())
        })?;
        runtime.exec(&id, &["/bin/sh", "-c", "echo here > /data/note"])?.success();
        assert_eq!(volumes(&volhook)?, ["v"], "the container's volume is gone");
        let listed = volhook.json(&["volume", "ls"])?;
        assert_eq!(listed[0]["holders"], serde_json::json!([id]));
        let data = volhook.root().join("volumes/default/v/data/note");
        assert_eq!(std::fs::read_to_string(data)?, "here\n");
        runtime.delete_force(&id)?.success();
    }
    Ok(())
}

fn privileged_unused_volumes_are_pruned(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = BundleBuilder::new()
        .sleeping()
        .annotation("dev.volhook.pod", "p1")
        .annotation("dev.volhook.mount.x", "source=held,target=/data")
        .build()?;
    volhook.install(&bundle)?.success();
    runtime.run_detached(&bundle, "c1")?.success();
    let used = BundleBuilder::new()
        .shell("true")
        .annotation("dev.volhook.mount.x", "source=used,target=/d")
        .build()?;
    volhook.install(&used)?.success();
    runtime.run(&used, "c2")?.success();
    volhook.run(&["volume", "create", "fresh"])?.success();
    assert_eq!(volhook.run(&["volume", "prune", "--force"])?.success(), "");
    let shown = volhook.run(&["volume", "prune", "--unused-for", "0", "--dry-run"])?.success();
    assert_contains(&shown, "fresh: never claimed since it was created");
    assert_contains(&shown, "used: last claimed");
    assert_eq!(shown.lines().count(), 2);
    assert_eq!(volhook.run(&["volume", "prune", "--unused-for", "0"])?.code(), Some(1));
    let pruned = volhook.run(&["volume", "prune", "--unused-for", "0", "--force"])?.success();
    assert_eq!(pruned, "fresh\nused\n");
    assert_eq!(volumes(&volhook)?.len(), 12);
    runtime.delete_force("c1")?.success();
    Ok(())
}
