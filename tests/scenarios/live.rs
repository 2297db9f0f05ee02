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
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

const BLOCK: &str = "source=mydb,target=/data,volume-driver=block,volume-opt=size=64M";

on_both_runtimes!(
    privileged_a_pod_finds_its_files_again,
    privileged_engine_binds_stay_on_top,
    privileged_one_of_twenty_gets_the_block_volume,
    privileged_ten_share_a_local_volume_at_once,
    privileged_no_claims_no_dependence,
    privileged_claims_fail_closed_when_the_state_is_broken,
    privileged_a_user_namespace_sees_its_own_ids,
    privileged_settings_come_from_configuration_and_annotation,
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

    bundle.set_shell("for d in /tmp /run; do touch $d/x; done")?;
    runtime.run(&bundle, "third")?.success();
    for folder in ["tmp", "run"] {
        assert!(bundle.rootfs().join(folder).join("x").exists(), "{folder} is the container's own");
    }
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
