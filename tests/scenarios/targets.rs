//! Hostile and awkward targets: resolved inside the root filesystem or refused; the host is never touched.

use crate::assert_contains;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use anyhow::Result;
use std::fs;
use volhook_harness::BundleBuilder;
use volhook_harness::HostSnapshot;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_symlinks_stay_inside,
    privileged_symlinks_that_lead_nowhere,
    privileged_shared_mounts_are_refused,
    privileged_missing_in_a_read_only_bind,
    privileged_order_follows_the_resolved_targets,
);

fn privileged_symlinks_stay_inside(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    for (link, inside) in
        [("/../../etc", "/etc"), ("/etc", "/etc"), ("../../../../../etc", "/etc"), ("/etc/../opt", "/opt")]
    {
        let bundle = BundleBuilder::new()
            .shell(&format!("touch /data/x && test -e {inside}/x && grep -c ' {inside} ' /proc/mounts"))
            .directory("/etc")
            .directory("/opt")
            .symlink("/data", link)
            .annotation("dev.volhook.mount.x", "source=v,target=/data")
            .build()?;
        volhook.install(&bundle)?.success();
        let before = HostSnapshot::take()?.below([volhook.folder(), bundle.path(), "/etc".as_ref()]);
        assert_eq!(runtime.run(&bundle, "c1")?.success().trim(), "1", "{link}");
        before.assert_same(&HostSnapshot::take()?.below([volhook.folder(), bundle.path(), "/etc".as_ref()]));
        assert!(!fs::exists("/etc/x")? && !bundle.rootfs().join("etc/x").exists());
        assert!(volhook.root().join("volumes/default/v/data/x").exists());
    }
    Ok(())
}

fn privileged_symlinks_that_lead_nowhere(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    for (from, to, target) in [
        ("/data", "/data", "/data"),
        ("/data", "/nowhere/at/all", "/data"),
        ("/data", "/proc/sys", "/data"),
        ("/data", "/", "/data"),
        ("/data", "/data", "/data/below"),
    ] {
        let bundle = BundleBuilder::new()
            .shell("echo started")
            .symlink(from, to)
            .annotation("dev.volhook.mount.x", &format!("source=v,target={target}"))
            .build()?;
        volhook.install(&bundle)?.success();
        let output = runtime.run(&bundle, "c1")?;
        assert!(!output.status.success() && output.stdout.is_empty(), "{from} -> {to}: {output}");
        let text = last_refusal(&volhook)?;
        assert_contains(&text, &format!("target \"{target}\" of volume \"v\""));
        assert_eq!(leases(&volhook)?, []);
        assert!(!bundle.rootfs().join("nowhere").exists());
    }
    Ok(())
}

fn privileged_shared_mounts_are_refused(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let host = tempfile::tempdir()?;
    let bundle = BundleBuilder::new()
        .shell("echo started")
        .bind(host.path(), "/shared", &["rbind", "rshared"])
        .annotation("dev.volhook.mount.x", "source=v,target=/shared/data")
        .build()?;
    volhook.install(&bundle)?.success();
    let runtime = Runtime::new(kind)?;
    let before = HostSnapshot::take()?.below([volhook.folder(), host.path()]);
    let output = runtime.run(&bundle, "c1")?;
    assert!(!output.status.success(), "{output}");
    assert_contains(&last_refusal(&volhook)?, "propagates to the host");
    before.assert_same(&HostSnapshot::take()?.below([volhook.folder(), host.path()]));
    assert_eq!(fs::read_dir(host.path())?.count(), 0);
    Ok(())
}

fn privileged_missing_in_a_read_only_bind(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let host = tempfile::tempdir()?;
    let bundle = BundleBuilder::new()
        .shell("echo started")
        .bind(host.path(), "/cfg", &["rbind", "ro"])
        .annotation("dev.volhook.mount.x", "source=v,target=/cfg/new")
        .build()?;
    volhook.install(&bundle)?.success();
    let runtime = Runtime::new(kind)?;
    runtime.run(&bundle, "c1")?.failure();
    assert_contains(&last_refusal(&volhook)?, "read-only mount /cfg");
    assert_eq!(fs::read_dir(host.path())?.count(), 0, "something was created on the host");
    fs::create_dir(host.path().join("new"))?;
    bundle.set_shell("touch /cfg/new/x && touch /cfg/y 2>/dev/null || echo read-only")?;
    assert_eq!(runtime.run(&bundle, "c2")?.success(), "read-only\n");
    assert_eq!(fs::read_dir(host.path().join("new"))?.count(), 0);
    Ok(())
}

fn privileged_order_follows_the_resolved_targets(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = BundleBuilder::new()
        .shell("touch /lib/mods/x /usr/y && ls /usr/lib/mods /usr")
        .directory("/usr/lib")
        .symlink("/lib", "usr/lib")
        .annotation("dev.volhook.mount.a", "source=mods,target=/lib/mods")
        .annotation("dev.volhook.mount.b", "source=usr,target=/usr,volume-nocopy")
        .build()?;
    volhook.install(&bundle)?.success();
    let runtime = Runtime::new(kind)?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "/usr:\nlib\ny\n\n/usr/lib/mods:\nx\n");
    assert!(volhook.root().join("volumes/default/mods/data/x").exists());
    Ok(())
}
