//! The live stage: containers get their volumes while a runtime starts them.

use crate::assert_contains;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use crate::volumes;
use anyhow::Result;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use volhook_harness::BundleBuilder;
use volhook_harness::HostSnapshot;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

const BLOCK: &str = "source=mydb,target=/data,volume-driver=block,volume-opt=size=64M";

on_both_runtimes!(
    privileged_a_pod_finds_its_files_again,
    privileged_containers_share_a_local_volume,
    privileged_a_block_volume_has_one_holder,
    privileged_a_killed_container_leaves_nothing,
    privileged_engine_binds_stay_on_top,
    privileged_the_same_bundle_runs_twice,
    privileged_one_of_twenty_gets_the_block_volume,
    privileged_ten_share_a_local_volume_at_once,
    privileged_no_claims_no_dependence,
    privileged_claims_fail_closed_when_the_state_is_broken,
    privileged_both_stages_configured,
    privileged_a_user_namespace_sees_its_own_ids,
    privileged_a_read_only_root_gets_its_volumes,
    privileged_one_writable_file_in_a_read_only_bind,
    privileged_two_places_for_one_volume,
    privileged_settings_come_from_configuration_and_annotation,
    privileged_tenants_do_not_meet,
);

fn privileged_a_pod_finds_its_files_again(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let targets = ["/workspace", "/home", "/root", "/etc", "/usr/local", "/opt", "/var", "/srv"];
    let bundle = BundleBuilder::new().annotation("dev.volhook.pod", "p1").build()?;
    volhook.install(&bundle)?.success();
    let runtime = Runtime::new(kind)?;
    bundle.set_shell(&targets.map(|t| format!("echo from {t} > {t}/note")).join(" && "))?;
    runtime.run(&bundle, "first")?.success();
    bundle.set_shell(&targets.map(|t| format!("cat {t}/note")).join(" && "))?;
    let seen = runtime.run(&bundle, "second")?.success();
    assert_eq!(seen, targets.map(|t| format!("from {t}\n")).concat());
    let names =
        ["bin", "etc", "home", "opt", "root", "srv", "storage", "usr", "usr-local", "var", "workspace"];
    assert_eq!(volumes(&volhook)?, names.map(|name| format!("vol-p1-{name}")));
    assert_eq!(leases(&volhook)?, []);

    bundle.set_shell("for d in /tmp /run; do touch $d/x; done; grep -cE ' (/tmp|/run) ' /proc/mounts")?;
    let mounted = runtime.run(&bundle, "third")?;
    assert_eq!(mounted.stdout.trim(), "0", "{mounted}");
    Ok(())
}

fn privileged_containers_share_a_local_volume(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let claim = "source=shared,target=/data";
    let writer = BundleBuilder::new().sleeping().annotation("dev.volhook.mount.data", claim).build()?;
    let reader =
        BundleBuilder::new().shell("cat /data/note").annotation("dev.volhook.mount.data", claim).build()?;
    volhook.install(&writer)?.success();
    volhook.install(&reader)?.success();
    let runtime = Runtime::new(kind)?;
    runtime.run_detached(&writer, "writer")?.success();
    runtime.exec("writer", &["/bin/sh", "-c", "echo hello > /data/note"])?.success();
    assert_eq!(runtime.run(&reader, "reader")?.success(), "hello\n");
    assert_eq!(leases(&volhook)?, [("shared".to_owned(), "writer".to_owned())]);
    Ok(())
}

fn privileged_a_block_volume_has_one_holder(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let claiming = || BundleBuilder::new().sleeping().annotation("dev.volhook.mount.data", BLOCK).build();
    let (first, second) = (claiming()?, claiming()?);
    volhook.install(&first)?.success();
    volhook.install(&second)?.success();
    let runtime = Runtime::new(kind)?;
    runtime.run_detached(&first, "c1")?.success();
    runtime.exec("c1", &["/bin/sh", "-c", "echo precious > /data/note"])?.success();

    let refused = runtime.run(&second, "c2")?;
    let message = "volume \"mydb\" is held exclusively by container \"c1\" (driver block); stop that container, or use \
                   driver local for a volume that containers share";
    assert_eq!(last_refusal(&volhook)?, message);
    let printed = refused.failure();
    if kind == RuntimeKind::Runc {
        assert_contains(&printed.replace("\\\"", "\""), message);
    }
    assert_eq!(runtime.exec("c1", &["/bin/cat", "/data/note"])?.success(), "precious\n");

    runtime.delete_force("c1")?.success();
    assert_eq!(leases(&volhook)?, []);
    second.set_shell("cat /data/note; df -m /data | tail -1")?;
    let seen = runtime.run(&second, "c2")?.success();
    assert!(seen.starts_with("precious\n") && seen.contains("/dev/loop"), "{seen}");
    Ok(())
}

fn privileged_a_killed_container_leaves_nothing(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = BundleBuilder::new()
        .sleeping()
        .annotation("dev.volhook.mount.data", BLOCK)
        .annotation("dev.volhook.pod", "p1")
        .build()?;
    volhook.install(&bundle)?.success();
    let runtime = Runtime::new(kind)?;
    let before = HostSnapshot::take()?.below([volhook.folder(), bundle.path()]);
    runtime.run_detached(&bundle, "c1")?.success();
    assert_eq!(leases(&volhook)?.len(), 2, "the block volume, and one for all volumes of the pod");
    runtime.kill("c1", "KILL")?.success();
    runtime.wait_for("c1", "stopped")?;
    runtime.delete("c1")?.success();
    before.assert_same(&HostSnapshot::take()?.below([volhook.folder(), bundle.path()]));
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}

fn privileged_engine_binds_stay_on_top(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let engine = tempfile::tempdir()?;
    let resolv = engine.path().join("resolv.conf");
    fs::write(&resolv, "nameserver 192.0.2.1\n")?;
    let nested = engine.path().join("secrets");
    fs::create_dir(&nested)?;
    fs::write(nested.join("token"), "secret\n")?;
    let bundle = BundleBuilder::new()
        .shell("cat /etc/resolv.conf /var/run/secrets/token; touch /var/run/secrets/x || echo read-only; touch /etc/new /var/new")
        .file("/etc/resolv.conf", "")
        .bind(&resolv, "/etc/resolv.conf", &["rbind", "ro"])
        .bind(&nested, "/var/run/secrets", &["rbind", "ro"])
        .annotation("dev.volhook.pod", "p1")
        .build()?;
    volhook.install(&bundle)?.success();
    let runtime = Runtime::new(kind)?;
    for id in ["first", "second"] {
        assert_eq!(runtime.run(&bundle, id)?.success(), "nameserver 192.0.2.1\nsecret\nread-only\n");
    }
    let etc = volhook.root().join("volumes/default/vol-p1-storage/data/upper/etc");
    assert!(etc.join("new").exists(), "the file went elsewhere than into the volume");
    assert!(!etc.join("resolv.conf").exists(), "the engine's file is not the pod's");
    assert!(!nested.join("x").exists());
    Ok(())
}

fn privileged_the_same_bundle_runs_twice(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = BundleBuilder::new()
        .shell("echo x >> /data/count; wc -l < /data/count")
        .annotation("dev.volhook.mount.data", BLOCK)
        .build()?;
    volhook.install(&bundle)?.success();
    let spec = fs::read(bundle.path().join("config.json"))?;
    let runtime = Runtime::new(kind)?;
    assert_eq!(runtime.run(&bundle, "c1")?.success().trim(), "1");
    assert_eq!(runtime.run(&bundle, "c1")?.success().trim(), "2");
    assert_eq!(fs::read(bundle.path().join("config.json"))?, spec, "the live stage changed the bundle");
    Ok(())
}

fn privileged_one_of_twenty_gets_the_block_volume(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundles: Vec<_> = (0..20)
        .map(|_| {
            let bundle =
                BundleBuilder::new().sleeping().annotation("dev.volhook.mount.data", BLOCK).build()?;
            volhook.install(&bundle)?.success();
            Ok(bundle)
        })
        .collect::<Result<_>>()?;
    let runtime = Runtime::new(kind)?;
    let started: Vec<bool> = thread::scope(|scope| {
        let runtime = &runtime;
        let starts: Vec<_> = bundles
            .iter()
            .enumerate()
            .map(|(i, bundle)| scope.spawn(move || runtime.run_detached(bundle, &format!("c{i}"))))
            .collect();
        starts
            .into_iter()
            .map(|start| Ok(start.join().expect("no panic")?.status.success()))
            .collect::<Result<_>>()
    })?;
    assert_eq!(started.iter().filter(|ok| **ok).count(), 1, "{started:?}");
    assert_eq!(leases(&volhook)?.len(), 1);
    Ok(())
}

fn privileged_ten_share_a_local_volume_at_once(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let claim = "source=shared,target=/data";
    let bundle = BundleBuilder::new().sleeping().annotation("dev.volhook.mount.data", claim).build()?;
    volhook.install(&bundle)?.success();
    let runtime = Runtime::new(kind)?;
    thread::scope(|scope| {
        let (runtime, bundle) = (&runtime, &bundle);
        let starts: Vec<_> =
            (0..10).map(|i| scope.spawn(move || runtime.run_detached(bundle, &format!("c{i}")))).collect();
        starts.into_iter().try_for_each(|start| {
            start.join().expect("no panic")?.success();
            anyhow::Ok(())
        })
    })?;
    let holders: BTreeSet<String> = leases(&volhook)?.into_iter().map(|(_, container)| container).collect();
    assert_eq!(holders.len(), 10);
    assert_eq!(volumes(&volhook)?, ["shared"]);
    Ok(())
}

/// What a container may find broken.
const BREAKABLE: [&str; 3] = ["configuration", "journal", "state root"];

/// Puts nonsense where one of [`BREAKABLE`] should be.
fn break_it(volhook: &Volhook, what: &str) -> Result<()> {
    match what {
        "configuration" => fs::write(volhook.config(), "= nonsense [")?,
        "journal" => {
            let journal = volhook.root().join("journal");
            if journal.exists() {
                fs::remove_dir_all(&journal)?;
            }
            fs::create_dir_all(volhook.root())?;
            fs::write(journal, "not a folder")?;
        }
        _ => {
            fs::remove_dir_all(volhook.root())?;
            fs::write(volhook.root(), "not a folder")?;
        }
    }
    Ok(())
}

fn privileged_no_claims_no_dependence(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = BundleBuilder::new().shell("echo started").annotation("org.example.title", "x").build()?;
    volhook.install(&bundle)?.success();
    let runtime = Runtime::new(kind)?;
    for what in BREAKABLE {
        break_it(&volhook, what)?;
        let output = runtime.run(&bundle, "c1")?;
        assert!(output.status.success(), "with a broken {what}: {output}");
        assert_eq!(output.stdout, "started\n");
    }
    Ok(())
}

fn privileged_claims_fail_closed_when_the_state_is_broken(kind: RuntimeKind) -> Result<()> {
    for what in BREAKABLE {
        let volhook = Volhook::new()?;
        let bundle = BundleBuilder::new()
            .shell("echo started")
            .annotation("dev.volhook.mount.data", "source=v,target=/data")
            .build()?;
        volhook.install(&bundle)?.success();
        let runtime = Runtime::new(kind)?;
        runtime.run(&bundle, "c1")?.success();
        break_it(&volhook, what)?;
        let output = runtime.run(&bundle, "c1")?;
        assert!(!output.status.success() && output.stdout.is_empty(), "with a broken {what}: {output}");
    }
    Ok(())
}

fn privileged_both_stages_configured(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = BundleBuilder::new().sleeping().annotation("dev.volhook.mount.data", BLOCK).build()?;
    volhook.install(&bundle)?.success();
    bundle.edit(|spec| {
        let mut entry = spec["hooks"]["prestart"][0].clone();
        entry["args"][2] = "createRuntime".into();
        spec["hooks"]["createRuntime"] = serde_json::json!([entry]);
    })?;
    let runtime = Runtime::new(kind)?;
    runtime.run_detached(&bundle, "c1")?.success();
    assert_eq!(leases(&volhook)?.len(), 1);
    let mounts = runtime.exec("c1", &["/bin/grep", "-c", " /data ", "/proc/mounts"])?.success();
    assert_eq!(mounts.trim(), "1");
    Ok(())
}

fn privileged_a_user_namespace_sees_its_own_ids(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = BundleBuilder::new()
        .shell("touch /data/mine /dir/mine && stat -c %u:%g /data/mine /dir/mine /data")
        .user_namespace(100_000, 65_536)
        .annotation("dev.volhook.mount.data", BLOCK)
        .annotation("dev.volhook.mount.dir", "source=dir,target=/dir")
        .build()?;
    volhook.install(&bundle)?.success();
    let runtime = Runtime::new(kind)?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "0:0\n0:0\n0:0\n");
    let file = fs::metadata(volhook.root().join("volumes/default/dir/data/mine"))?;
    assert_eq!(
        (file.uid(), file.gid()),
        (0, 0),
        "the volume stores the container's ids, not the shifted ones"
    );
    Ok(())
}

fn privileged_a_read_only_root_gets_its_volumes(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = BundleBuilder::new()
        .shell("touch /x 2>/dev/null || echo root is read-only; touch /new/place/x && echo volume is not; touch /ro/x 2>/dev/null || echo as asked")
        .readonly_root()
        .annotation("dev.volhook.mount.data", "source=v,target=/new/place")
        .annotation("dev.volhook.mount.ro", "source=w,target=/ro,readonly")
        .build()?;
    volhook.install(&bundle)?.success();
    let runtime = Runtime::new(kind)?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "root is read-only\nvolume is not\nas asked\n");
    Ok(())
}

fn privileged_one_writable_file_in_a_read_only_bind(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let config = tempfile::tempdir()?;
    fs::write(config.path().join("init.lua"), "-- settings\n")?;
    fs::write(config.path().join("lazy-lock.json"), "{}\n")?;
    let bundle = BundleBuilder::new()
        .shell("cat /cfg/lazy-lock.json; echo pinned > /cfg/lazy-lock.json; touch /cfg/x 2>/dev/null || echo read-only")
        .bind(config.path(), "/cfg", &["rbind", "ro"])
        .annotation(
            "dev.volhook.mount.lock",
            "source=lock,target=/cfg/lazy-lock.json,volume-subpath=lazy-lock.json",
        )
        .build()?;
    volhook.install(&bundle)?.success();
    let runtime = Runtime::new(kind)?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "read-only\n");
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "pinned\nread-only\n");
    assert_eq!(fs::read_to_string(config.path().join("lazy-lock.json"))?, "{}\n");
    Ok(())
}

fn privileged_two_places_for_one_volume(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = BundleBuilder::new()
        .shell("echo x > /data/sub/note && cat /part/note; touch /part/y 2>/dev/null || echo read-only")
        .annotation("dev.volhook.mount.all", BLOCK)
        .annotation("dev.volhook.mount.part", "source=mydb,target=/part,volume-subpath=sub,readonly")
        .build()?;
    volhook.install(&bundle)?.success();
    let runtime = Runtime::new(kind)?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "x\nread-only\n");
    Ok(())
}

fn privileged_settings_come_from_configuration_and_annotation(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.configure(
        "annotation_prefix = \"org.example.volumes\"\ndefault_driver = \"block\"\n\n[plugins.universal]\nname = \"machine-{pod}-{name}\"\n",
    )?;
    let bundle = BundleBuilder::new()
        .shell("echo started")
        .annotation("dev.volhook.mount.ignored", "nonsense")
        .annotation("org.example.volumes.mount.data", "source=v,target=/data,volume-opt=size=8M")
        .build()?;
    volhook.install(&bundle)?.success();
    let runtime = Runtime::new(kind)?;
    runtime.run(&bundle, "c1")?.success();
    let listed = volhook.json(&["volume", "ls"])?;
    assert_eq!((listed[0]["driver"].as_str(), listed[0]["limit"].as_u64()), (Some("block"), Some(8 << 20)));

    volhook.configure("[plugins.universal]\nname = \"machine-{pod}-{name}\"\n")?;
    let pod = BundleBuilder::new()
        .shell("true")
        .annotation("dev.volhook.pod", "p1")
        .annotation("dev.volhook.policy", "universal,set=eight,name=mine-{pod}-{name}")
        .build()?;
    volhook.install(&pod)?.success();
    runtime.run(&pod, "c2")?.success();
    assert!(volumes(&volhook)?.contains(&"mine-p1-etc".to_owned()));
    pod.edit(|spec| spec["annotations"]["dev.volhook.policy"] = "universal,sets=eight".into())?;
    runtime.run(&pod, "c3")?.failure();
    assert_contains(&last_refusal(&volhook)?, "setting \"sets\" of policy universal");
    Ok(())
}

fn privileged_tenants_do_not_meet(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.configure("tenant_annotation = \"io.kubernetes.pod.namespace\"\n")?;
    let runtime = Runtime::new(kind)?;
    let bundle = |tenant: Option<&str>, script: &str| {
        let mut builder =
            BundleBuilder::new().shell(script).annotation("dev.volhook.mount.d", "source=v,target=/data");
        if let Some(tenant) = tenant {
            builder = builder.annotation("io.kubernetes.pod.namespace", tenant);
        }
        let bundle = builder.build()?;
        volhook.install(&bundle)?.success();
        anyhow::Ok(bundle)
    };
    runtime.run(&bundle(Some("team-a"), "echo a > /data/note")?, "c1")?.success();
    assert_eq!(runtime.run(&bundle(Some("team-b"), "ls /data")?, "c2")?.success(), "");
    assert_eq!(runtime.run(&bundle(Some("team-a"), "cat /data/note")?, "c3")?.success(), "a\n");
    runtime.run(&bundle(None, "true")?, "c4")?.failure();
    assert_contains(&last_refusal(&volhook)?, "io.kubernetes.pod.namespace");
    Ok(())
}
