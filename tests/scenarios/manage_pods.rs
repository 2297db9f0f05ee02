//! Managing pods: lists, what is in them, putting them back to the image, and removing them.

use crate::assert_contains;
use crate::leases;
use crate::pods::built;
use crate::pods::pod;
use crate::volumes;
use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use std::fs;
use volhook_harness::Bundle;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

const COPY: &str = "universal,population=copy,set=eight";

/// A machine of a pod with something of its own beside the image's.
fn used(volhook: &Volhook, runtime: &Runtime, policy: &str) -> Result<Bundle> {
    let builder = pod("p1", policy).file("/etc/stays", "of the image\n").file("/etc/goes", "of the image\n");
    let bundle = built(volhook, builder.shell("echo mine > /etc/mine; rm /etc/goes; echo mine > /var/mine"))?;
    runtime.run(&bundle, "c1")?.success();
    bundle.set_shell("cd /; ls etc/stays etc/goes etc/mine var/mine 2>/dev/null || true")?;
    Ok(bundle)
}

fn part<'a>(pod: &'a Value, member: &str) -> Result<&'a Value> {
    let volumes = pod["volumes"].as_array().context("a list")?;
    volumes
        .iter()
        .find(|volume| volume["member"] == member)
        .with_context(|| format!("no {member} in {pod:#}"))
}

#[test]
fn privileged_a_pod_is_listed_with_what_it_changed() -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(RuntimeKind::Runc)?;
    used(&volhook, &runtime, "")?;
    let listed = volhook.json(&["pod", "ls"])?;
    assert_eq!((&listed[0]["name"], &listed[0]["population"]), (&"p1".into(), &"overlay".into()));
    assert_eq!(volhook.run(&["pod", "ls", "-q"])?.success(), "p1\n");
    let seen = volhook.run(&["pod", "inspect", "p1"])?.success();
    let seen: Value = serde_json::from_str(&seen)?;
    let etc = part(&seen[0], "etc")?;
    assert_eq!((etc["entries"].as_u64(), etc["hidden"].as_u64()), (Some(1), Some(1)), "{etc:#}");
    assert_eq!((etc["name"].as_str(), etc["path"].as_str()), (Some("vol-p1-etc"), Some("/etc")));
    assert_eq!(part(&seen[0], "home")?["entries"], 0);

    let missing = volhook.run(&["pod", "inspect", "p1", "nobody"])?;
    assert_eq!(missing.code(), Some(3));
    assert_contains(&missing.stdout, "\"p1\"");
    for name in ["../p1", "p1/../../etc", ".", "a b", ""] {
        assert_eq!(volhook.run(&["pod", "rm", "--force", name])?.code(), Some(2), "{name}");
    }
    Ok(())
}

#[test]
fn privileged_a_pod_goes_back_to_its_image() -> Result<()> {
    let runtime = Runtime::new(RuntimeKind::Runc)?;
    for policy in ["", COPY, "universal,size=64M"] {
        let volhook = Volhook::new()?;
        let bundle = used(&volhook, &runtime, policy)?;
        assert_eq!(runtime.run(&bundle, "c2")?.success(), "etc/mine\netc/stays\nvar/mine\n", "{policy}");
        // Without a terminal nobody can be asked.
        assert_eq!(volhook.run(&["pod", "reset", "p1"])?.code(), Some(1));
        volhook.run(&["pod", "reset", "p1", "--force", "--volume", "etc"])?.success();
        assert_eq!(runtime.run(&bundle, "c3")?.success(), "etc/goes\netc/stays\nvar/mine\n", "{policy}");
        let unknown = volhook.run(&["pod", "reset", "p1", "--force", "--volume", "proc"])?;
        assert_eq!(unknown.code(), Some(3));
        assert_contains(&unknown.stderr, "it has ");
        volhook.run(&["pod", "reset", "p1", "--force"])?.success();
        assert_eq!(runtime.run(&bundle, "c4")?.success(), "etc/goes\netc/stays\n", "{policy}");
        assert_eq!(leases(&volhook)?, []);
    }
    Ok(())
}

#[test]
fn privileged_what_a_machine_holds_stays_and_what_is_removed_can_be_restored() -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(RuntimeKind::Runc)?;
    let bundle = used(&volhook, &runtime, "universal,size=64M")?;
    bundle.edit(|spec| spec["process"]["args"] = serde_json::json!(["sleep", "1000"]))?;
    runtime.run_detached(&bundle, "c2")?.success();
    for args in [
        &["pod", "rm", "--force", "p1"][..],
        &["pod", "reset", "--force", "p1"],
        &["pod", "resize", "p1", "16M"],
    ] {
        let refused = volhook.run(args)?;
        assert_eq!(refused.code(), Some(1), "{args:?}");
        assert_contains(&refused.stderr, "\"c2\"");
    }
    runtime.delete_force("c2")?.success();
    bundle.set_shell("cat /etc/mine")?;
    assert_eq!(volhook.run(&["pod", "resize", "p1", "96M"])?.success(), "vol-p1-storage 96M\n");
    assert_eq!(runtime.run(&bundle, "c3")?.success(), "mine\n");
    assert_eq!(volhook.run(&["pod", "rm", "p1"])?.code(), Some(1), "nobody can be asked");
    assert_eq!(volhook.run(&["pod", "rm", "--force", "p1"])?.success(), "p1\n");
    assert_eq!(volumes(&volhook)?, Vec::<String>::new());
    assert_eq!(volhook.run(&["pod", "rm", "--force", "p1"])?.code(), Some(3));
    volhook.run(&["trash", "restore", "vol-p1-storage"])?.success();
    assert_eq!(runtime.run(&bundle, "c4")?.success(), "mine\n");
    Ok(())
}

#[test]
fn privileged_a_pod_is_prepared_ahead_of_its_first_start() -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(RuntimeKind::Runc)?;
    let bundle =
        built(&volhook, pod("p1", COPY).file("/etc/stays", "of the image\n").shell("cat /etc/stays"))?;
    let rootfs = bundle.rootfs().to_string_lossy().into_owned();
    for _ in 0..2 {
        let prepared = volhook.run(&["pod", "prepare", "p1", "--rootfs", &rootfs, "--policy", COPY])?;
        assert_eq!(prepared.success(), "p1\n");
    }
    let place = volhook.json(&["volume", "ls"])?;
    assert!(place.as_array().is_some_and(|all| all.iter().any(|one| one["name"] == "vol-p1-etc")));
    // What is there is not copied again.
    fs::write(bundle.rootfs().join("etc/stays"), "another\n")?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "of the image\n");
    assert_eq!(leases(&volhook)?, []);
    let absent = volhook.run(&["pod", "prepare", "p2", "--rootfs", "/nowhere/at/all"])?;
    assert_eq!(absent.code(), Some(1));
    assert_contains(&absent.stderr, "/nowhere/at/all");
    Ok(())
}

#[test]
fn privileged_files_go_in_and_out_of_copies_and_an_overlay_says_why_not() -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(RuntimeKind::Runc)?;
    used(&volhook, &runtime, COPY)?;
    let out = volhook.folder().join("out");
    let out = out.to_string_lossy().into_owned();
    volhook.run(&["volume", "cp", "vol-p1-etc:/mine", &out])?.success();
    assert_eq!(fs::read_to_string(&out)?, "mine\n");
    let other = Volhook::new()?;
    used(&other, &runtime, "")?;
    let refused = other.run(&["volume", "cp", "vol-p1-etc:/mine", &out])?;
    assert_eq!(refused.code(), Some(1));
    assert_contains(&refused.stderr, "only its containers have it");
    for command in ["fsck", "umount"] {
        let refused = other.run(&["volume", command, "vol-p1-etc"])?;
        assert_eq!(refused.code(), Some(1));
        assert_contains(&refused.stderr, "volhook pod inspect p1");
    }
    Ok(())
}

#[test]
fn privileged_only_a_start_offers_another_image_and_a_plan_changes_nothing() -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(RuntimeKind::Runc)?;
    let builder =
        pod("p1", "universal,on-image-change=refuse").file("/var/lib/dpkg/status", "Package: one\n");
    let bundle = built(&volhook, builder.shell("echo started"))?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "started\n");
    fs::write(bundle.rootfs().join("var/lib/dpkg/status"), "Package: another\n")?;
    let offered = || -> Result<Value> {
        let seen: Value = serde_json::from_str(&volhook.run(&["pod", "inspect", "p1"])?.success())?;
        Ok(seen[0]["refused_image"].clone())
    };
    let plan = volhook.command(&["plan"]).arg(bundle.path()).run()?.failure();
    assert_contains(&plan, "volhook pod upgrade p1");
    assert_eq!(offered()?, Value::Null);
    let nothing = volhook.run(&["pod", "upgrade", "p1"])?;
    assert_eq!(nothing.code(), Some(1));
    assert_contains(&nothing.stderr, "--rootfs DIR");
    runtime.run(&bundle, "c2")?.failure();
    assert_eq!(offered()?["packages"]["path"], "/var/lib/dpkg/status");
    volhook.run(&["pod", "upgrade", "p1"])?.success();
    assert_eq!(offered()?, Value::Null);
    assert_eq!(runtime.run(&bundle, "c3")?.success(), "started\n");
    Ok(())
}
