//! Bad claims and bad volumes: a clear error, nothing lost, nothing half-done.

use crate::assert_contains;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use crate::volumes;
use anyhow::Result;
use anyhow::ensure;
use std::fs;
use std::path::Path;
use std::process::Command;
use volhook_harness::BundleBuilder;
use volhook_harness::HostSnapshot;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_bad_claims_are_refused,
    privileged_another_driver_is_refused,
    privileged_a_policy_steps_back,
    privileged_broken_images_are_refused,
);

/// Starts a container with one annotation and returns why it was refused.
fn refusal(volhook: &Volhook, runtime: &Runtime, key: &str, value: &str) -> Result<String> {
    let bundle = BundleBuilder::new().shell("echo started").annotation(key, value).build()?;
    volhook.install(&bundle)?.success();
    let output = runtime.run(&bundle, "refused")?;
    assert!(!output.status.success() && output.stdout.is_empty(), "{key}={value}: {output}");
    assert_eq!(leases(volhook)?, [], "{key}={value}");
    last_refusal(volhook)
}

fn privileged_bad_claims_are_refused(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    for (key, value, part) in [
        ("dev.volhook.mnt.x", "source=v,target=/d", "unknown annotation \"dev.volhook.mnt.x\""),
        ("dev.volhook.mount.x", "source=v,target=/d,color=red", "unknown field \"color\""),
        ("dev.volhook.mount.x", "source=v,target=d", "must be an absolute path"),
        ("dev.volhook.mount.x", "source=v,target=/a/../../etc", "`..` is not allowed"),
        ("dev.volhook.mount.x", "source=v,target=/", "root cannot be a volume"),
        ("dev.volhook.mount.x", "source=v,target=/proc/sys", "belong to the kernel"),
        ("dev.volhook.mount.x", "source=../v,target=/d", "invalid volume name \"../v\""),
        ("dev.volhook.pod", "../../etc", "invalid pod"),
        ("dev.volhook.policy", "nobody", "unknown policy \"nobody\"; installed: rules, universal"),
        (
            "dev.volhook.mount.x",
            "source=x,target=/d,volume-driver=nfs",
            "unknown driver \"nfs\" for volume \"x\"; installed: block, device, host, local, tmpfs",
        ),
        (
            "dev.volhook.mount.x",
            "source=x,target=/d,volume-driver=block,volume-opt=sise=1G",
            "option \"sise\" of driver block for volume \"x\": there is no such option; options of driver block: size=",
        ),
        (
            "dev.volhook.mount.x",
            "source=x,target=/d,volume-driver=block,volume-opt=size=big",
            "invalid size \"big\"",
        ),
        ("dev.volhook.mount.x", "source=x,target=/d,volume-driver=block,volume-opt=size=1", "size"),
        (
            "dev.volhook.mount.x",
            "source=x,target=/d,volume-driver=block,volume-opt=fs=ntfs",
            "\"ntfs\" is not one of ext4",
        ),
        ("dev.volhook.mount.x", "source=x,target=/d,volume-opt=colour=red", "driver local"),
    ] {
        assert_contains(&refusal(&volhook, &runtime, key, value)?, part);
    }
    assert_eq!(volumes(&volhook)?, Vec::<String>::new(), "a refused claim created a volume");
    Ok(())
}

fn privileged_another_driver_is_refused(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let local = BundleBuilder::new()
        .shell("echo kept > /d/note")
        .annotation("dev.volhook.mount.x", "source=v,target=/d")
        .build()?;
    volhook.install(&local)?.success();
    runtime.run(&local, "c1")?.success();
    let text = refusal(&volhook, &runtime, "dev.volhook.mount.x", "source=v,target=/d,volume-driver=block")?;
    assert_contains(
        &text,
        "volume \"v\" has driver local, and annotation \"dev.volhook.mount.x\" asks for driver block",
    );
    assert_eq!(fs::read_to_string(volhook.root().join("volumes/default/v/data/note"))?, "kept\n");

    let host = tempfile::tempdir()?;
    for (claims, part) in [
        (vec!["source=v,target=/same", "source=w,target=/same/"], "both claim target \"/same\""),
        (vec!["source=v,target=/bound"], "already mounts from"),
    ] {
        let mut builder = BundleBuilder::new().shell("echo started").bind(host.path(), "/bound", &["rbind"]);
        for (i, claim) in claims.iter().enumerate() {
            builder = builder.annotation(&format!("dev.volhook.mount.m{i}"), claim);
        }
        let bundle = builder.build()?;
        volhook.install(&bundle)?.success();
        runtime.run(&bundle, "c2")?.failure();
        assert_contains(&last_refusal(&volhook)?, part);
    }
    Ok(())
}

fn privileged_a_policy_steps_back(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let host = tempfile::tempdir()?;
    fs::write(host.path().join("mine"), "")?;
    let bundle = BundleBuilder::new()
        .shell("ls /srv; touch /opt/x")
        .bind(host.path(), "/srv", &["rbind"])
        .annotation("dev.volhook.pod", "p1")
        .annotation("dev.volhook.mount.opt", "source=tools,target=/opt")
        .build()?;
    volhook.install(&bundle)?.success();
    let runtime = Runtime::new(kind)?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "mine\n");
    assert!(volhook.root().join("volumes/default/tools/data/x").exists());
    let events = volhook.json(&["events"])?;
    let mut notes: Vec<_> = events
        .as_array()
        .into_iter()
        .flatten()
        .filter(|event| event["kind"] == "note")
        .map(|event| event["volume"].as_str().unwrap_or_default())
        .collect();
    notes.sort_unstable();
    assert_eq!(notes, ["vol-p1-opt", "vol-p1-srv"]);
    assert_eq!(volumes(&volhook)?.len(), 10);
    Ok(())
}

/// An image attached to a loop device by hand, until it is dropped.
struct Attached {
    device: String,
}

impl Attached {
    fn new(image: &Path) -> Result<Self> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(image).output()?;
        let device = String::from_utf8(output.stdout)?.trim().to_owned();
        ensure!(device.starts_with("/dev/loop"), "losetup: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Self { device })
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let detached = Command::new("losetup").args(["--detach", &self.device]).status();
        assert!(detached.is_ok_and(|status| status.success()), "{} is still attached", self.device);
    }
}

fn privileged_broken_images_are_refused(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let claim = "source=mydb,target=/data,volume-driver=block,volume-opt=size=16M";
    let good = BundleBuilder::new()
        .shell("cat /data/note || echo kept > /data/note")
        .annotation("dev.volhook.mount.x", claim)
        .build()?;
    volhook.install(&good)?.success();
    runtime.run(&good, "c1")?.success();
    let image = volhook.root().join("volumes/default/mydb/volume.img");
    let refused = || refusal(&volhook, &runtime, "dev.volhook.mount.x", claim);

    let attached = Attached::new(&image)?;
    assert_contains(&refused()?, &attached.device);
    drop(attached);

    let before = HostSnapshot::take()?.below([volhook.folder()]);
    let aside = image.with_extension("aside");
    fs::rename(&image, &aside)?;
    let text = refused()?;
    assert_contains(&text, "mydb");
    assert_contains(&text, "volume.img");
    fs::copy(&aside, &image)?;
    fs::OpenOptions::new().write(true).open(&image)?.set_len(8 << 20)?;
    assert_contains(&refused()?, "mydb");
    fs::write(&image, vec![0; 16 << 20])?;
    assert_contains(&refused()?, "mydb");
    fs::rename(&aside, &image)?;
    before.assert_same(&HostSnapshot::take()?.below([volhook.folder()]));
    assert_eq!(runtime.run(&good, "c2")?.success(), "kept\n");
    Ok(())
}
