//! Leases: what proves them dead, what does not, and what people see of them.

use crate::assert_contains;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use crate::stand_in;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Program;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_the_story_of_a_container_is_told,
    privileged_evidence_is_shown_and_garbage_collected,
    privileged_a_lease_is_broken_by_a_person_only,
    privileged_a_reused_pid_proves_death,
    privileged_a_zombie_holds_nothing,
    privileged_after_a_reboot_nothing_holds,
    privileged_another_pid_namespace_cannot_be_judged,
    privileged_a_dead_holder_of_a_part_is_found,
    privileged_two_runtimes_with_the_same_id,
    privileged_a_process_outside_may_keep_a_file_open,
    privileged_a_process_outside_may_keep_an_overlay_open,
);

const BLOCK: &str = "source=mydb,target=/data,volume-driver=block,volume-opt=size=16M";

fn claiming(volhook: &Volhook, claim: &str) -> Result<Bundle> {
    let bundle = BundleBuilder::new().sleeping().annotation("dev.volhook.mount.x", claim).build()?;
    volhook.install(&bundle)?.success();
    Ok(bundle)
}

/// Takes the poststop entry out: a runtime that never calls it, or that crashed.
fn without_poststop(bundle: &Bundle) -> Result<()> {
    bundle.edit(|spec| {
        spec["hooks"].as_object_mut().map(|hooks| hooks.remove("poststop"));
    })
}

fn kinds(story: &Value) -> Vec<&str> {
    story["events"].as_array().into_iter().flatten().filter_map(|event| event["kind"].as_str()).collect()
}

fn privileged_the_story_of_a_container_is_told(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let first = claiming(&volhook, BLOCK)?;
    runtime.run_detached(&first, "c1")?.success();
    let story = volhook.json(&["explain", "c1"])?;
    assert_eq!(kinds(&story), ["created", "planned", "asked", "planned", "granted", "mounted"]);
    assert_eq!(story["held"][0]["state"], "held");
    assert_contains(story["held"][0]["evidence"].as_str().unwrap_or_default(), "runs");

    let second = claiming(&volhook, BLOCK)?;
    runtime.run(&second, "c2")?.failure();
    let refused = volhook.run(&["explain", "c2"])?.success();
    assert_contains(&refused, "volume \"mydb\" on /data by annotation \"dev.volhook.mount.x\", driver block");
    assert_contains(&refused, "held exclusively by container \"c1\"");
    assert_contains(&refused, "It holds nothing now.");

    runtime.delete_force("c1")?.success();
    let gone = volhook.run(&["explain", "c1"])?.success();
    for part in [
        "on /data by annotation \"dev.volhook.mount.x\"",
        "driver block decided rw exclusive; on /data, mounted by volhook",
        "poststop: process",
        "It holds nothing now.",
    ] {
        assert_contains(&gone, part);
    }
    let unknown = volhook.run(&["explain", "nobody"])?;
    assert_eq!(unknown.code(), Some(1));
    assert_contains(&unknown.stderr, "never heard of container \"nobody\"");
    Ok(())
}

fn privileged_evidence_is_shown_and_garbage_collected(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = claiming(&volhook, BLOCK)?;
    without_poststop(&bundle)?;
    runtime.run_detached(&bundle, "c1")?.success();
    let pid = runtime.pid("c1")?;
    assert_contains(&volhook.run(&["lease", "ls", "--wide"])?.success(), &format!("process {pid} runs"));
    assert_eq!(volhook.run(&["gc"])?.success(), "");
    assert_eq!(fs::read_dir(volhook.run_dir().join("attempts"))?.count(), 1);

    runtime.delete_force("c1")?.success();
    // Gone, or a zombie for as long as nobody has noticed.
    assert_contains(
        &volhook.run(&["lease", "ls", "--wide"])?.success(),
        &format!("dead    process {pid} is "),
    );
    let dead = format!("c1: process {pid} is ");
    assert_contains(&volhook.run(&["gc", "--dry-run"])?.success(), &dead);
    assert_eq!(leases(&volhook)?.len(), 1);
    assert_contains(&volhook.run(&["gc"])?.success(), &dead);
    assert_eq!(leases(&volhook)?, []);
    assert_eq!(fs::read_dir(volhook.run_dir().join("attempts"))?.count(), 0);

    // What a hook left that was killed between its grant's end and its record's.
    let stale = volhook.run_dir().join("attempts/6f2c1a52-94b4-4c5f-8a6e-1f1d8c6f0b11.json");
    fs::write(&stale, "{}")?;
    volhook.run(&["gc"])?.success();
    assert!(!stale.exists());
    Ok(())
}

fn privileged_a_lease_is_broken_by_a_person_only(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = BundleBuilder::new()
        .sleeping()
        .annotation("dev.volhook.mount.x", BLOCK)
        .annotation("dev.volhook.mount.y", "source=other,target=/other")
        .build()?;
    volhook.install(&bundle)?.success();
    runtime.run_detached(&bundle, "c1")?.success();
    let asked = volhook.run(&["lease", "break", "mydb", "c1"])?;
    assert_eq!(asked.code(), Some(1));
    assert_contains(&asked.stderr, &format!("held: process {} runs", runtime.pid("c1")?));
    assert_contains(&asked.stderr, "no terminal");
    let answered = |answer: &str| {
        // script(1) gives the command a terminal.
        let line = format!("{} lease break mydb c1", volhook.binary().display());
        let mut program = Program::new("script").args(["-qec", &line, "/dev/null"]).stdin(answer);
        for (name, value) in volhook.env() {
            program = program.env(name, value);
        }
        program.run()
    };
    assert_eq!(answered("n\n")?.code(), Some(1));
    assert_eq!(leases(&volhook)?.len(), 2);
    assert_eq!(answered("y\n")?.code(), Some(0));
    assert_eq!(leases(&volhook)?, [("other".to_owned(), "c1".to_owned())]);
    let events = volhook.run(&["events"])?.success();
    assert_contains(&events, "broken");
    assert_contains(&events, "kept");

    // The kernel still knows better.
    let second = claiming(&volhook, BLOCK)?;
    runtime.run(&second, "c2")?.failure();
    assert_contains(&last_refusal(&volhook)?, "is in use");
    assert_eq!(volhook.run(&["lease", "break", "mydb", "c1", "--force"])?.code(), Some(1));
    volhook.run(&["lease", "break", "other", "c1", "--force"])?.success();
    assert_eq!(leases(&volhook)?, []);
    runtime.delete_force("c1")?.success();
    Ok(())
}

fn privileged_a_reused_pid_proves_death(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = claiming(&volhook, BLOCK)?;
    without_poststop(&bundle)?;
    runtime.run_detached(&bundle, "c1")?.success();
    let pid = runtime.pid("c1")?;
    runtime.delete_force("c1")?.success();
    let mut reused = process_with_pid(pid)?;
    let table = volhook.run(&["lease", "ls", "--wide"])?.success();
    let second = claiming(&volhook, BLOCK)?;
    let started = runtime.run_detached(&second, "c2");
    reused.kill()?;
    reused.wait()?;
    assert_contains(&table, &format!("pid {pid} is another process now"));
    started?.success();
    assert_eq!(leases(&volhook)?, [("mydb".to_owned(), "c2".to_owned())]);
    runtime.delete_force("c2")?.success();
    Ok(())
}

/// A process that has this pid. The kernel is told which pid it gave last; other tests start processes as well, so that
/// it takes several attempts.
fn process_with_pid(pid: i32) -> Result<Child> {
    let patience = Instant::now() + Duration::from_secs(30);
    // The kernel gives it to nobody before pid 1 has reaped the process that had it.
    while Path::new(&format!("/proc/{pid}")).exists() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(10));
    }
    while Instant::now() < patience {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())?;
        let mut child = Command::new("sleep").arg("1000").spawn()?;
        if i32::try_from(child.id())? == pid {
            return Ok(child);
        }
        child.kill()?;
        child.wait()?;
    }
    bail!("no process got the pid {pid}")
}

fn privileged_a_zombie_holds_nothing(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = claiming(&volhook, "source=v,target=/data,volume-driver=block,volume-opt=size=16M")?;
    // A child of this test that nobody waits for.
    let mut init = stand_in(&bundle)?;
    let state = |id: &str, pid: u32| {
        let annotations = serde_json::json!({});
        serde_json::json!({"ociVersion": "1.0.2", "id": id, "pid": pid, "status": "creating",
                           "bundle": bundle.path(), "annotations": annotations})
        .to_string()
    };
    volhook.hook("prestart", state("stand-in", init.id()))?.success();
    assert_eq!(leases(&volhook)?.len(), 1);
    init.kill()?;
    let zombie = format!("process {} is a zombie", init.id());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !volhook.run(&["lease", "ls", "--wide"])?.success().contains(&zombie) {
        assert!(std::time::Instant::now() < deadline, "{}", volhook.run(&["lease", "ls", "--wide"])?);
    }
    let runtime = Runtime::new(kind)?;
    let second = claiming(&volhook, BLOCK.replace("mydb", "v").as_str())?;
    runtime.run_detached(&second, "c2")?.success();
    assert_eq!(leases(&volhook)?, [("v".to_owned(), "c2".to_owned())]);
    runtime.delete_force("c2")?.success();
    init.wait()?;
    Ok(())
}

/// Runs volhook where the kernel seems to have been booted anew.
fn in_another_boot(volhook: &Volhook, args: &str) -> Result<String> {
    let boot = volhook.folder().join("boot_id");
    fs::write(&boot, "0d9a7e0c-1111-4222-8333-944455556666\n")?;
    let script = format!(
        "mount --bind \"$BOOT\" /proc/sys/kernel/random/boot_id && {} {args}",
        volhook.binary().display()
    );
    let mut program = Program::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .env("BOOT", &boot);
    for (name, value) in volhook.env() {
        program = program.env(name, value);
    }
    Ok(program.run()?.success())
}

fn privileged_after_a_reboot_nothing_holds(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = claiming(&volhook, BLOCK)?;
    runtime.run_detached(&bundle, "c1")?.success();
    assert_eq!(in_another_boot(&volhook, "lease ls --json")?.trim(), "[]");
    // History is told over boots, in order.
    let events = in_another_boot(&volhook, "explain c1")?;
    assert_contains(&events, "granted");
    // So is what is behind a place that somebody kept.
    let all = volhook.json(&["events"])?;
    let all = all.as_array().context("events are a list")?;
    let kept = all.iter().find(|event| event["kind"] == "planned").context("it was planned")?;
    let place = format!("{}:{}", kept["boot"].as_str().context("leases have a boot")?, kept["seq"]);
    let behind: Vec<Value> =
        all.iter().filter(|event| event["seq"].as_u64() > kept["seq"].as_u64()).cloned().collect();
    assert!(!behind.is_empty());
    let told = in_another_boot(&volhook, &format!("events --since {place} --json"))?;
    assert_eq!(serde_json::from_str::<Value>(&told)?, Value::from(behind));
    assert_eq!(leases(&volhook)?.len(), 1, "the boot that really runs has lost its lease");
    runtime.delete_force("c1")?.success();
    Ok(())
}

fn privileged_another_pid_namespace_cannot_be_judged(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = claiming(&volhook, BLOCK)?;
    without_poststop(&bundle)?;
    runtime.run_detached(&bundle, "c1")?.success();
    runtime.delete_force("c1")?.success();
    let nested = |args: &[&str]| {
        let mut program = Program::new("unshare").args(["--pid", "--fork", "--mount-proc"]);
        program = program.arg(volhook.binary()).args(args);
        for (name, value) in volhook.env() {
            program = program.env(name, value);
        }
        program.run()
    };
    assert_contains(&nested(&["lease", "ls", "--wide"])?.success(), "counts in another pid namespace");
    assert_eq!(nested(&["gc"])?.success(), "");
    assert_eq!(leases(&volhook)?.len(), 1);
    assert_contains(&volhook.run(&["gc"])?.success(), "c1: process ");
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}

/// The lease is on the storage of the pod, whatever the next one calls what it wants of it.
fn privileged_a_dead_holder_of_a_part_is_found(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.configure("default_driver = \"block\"")?;
    let runtime = Runtime::new(kind)?;
    let pod = |name: &str| {
        BundleBuilder::new()
            .sleeping()
            .annotation("dev.volhook.pod", "p")
            .annotation("dev.volhook.policy", &format!("universal,population=copy,size=64M,name={name}"))
    };
    let bundle = pod("vol-{pod}-{name}").build()?;
    volhook.install(&bundle)?.success();
    without_poststop(&bundle)?;
    let by_name = BundleBuilder::new()
        .shell("ls -d /part/hosts")
        .file("etc/hosts", "")
        .annotation("dev.volhook.mount.x", "source=vol-p-etc,target=/part")
        .build()?;
    volhook.install(&by_name)?.success();
    fs::write(bundle.rootfs().join("etc/hosts"), "of the image")?;
    for id in ["c1", "c2"] {
        runtime.run_detached(&bundle, id)?.success();
        runtime.run(&by_name, "c3")?.failure();
        let _ = runtime.delete_force("c3");
        assert_contains(&last_refusal(&volhook)?, &format!("is held exclusively by container {id:?}"));
        runtime.delete_force(id)?.success();
        assert_eq!(leases(&volhook)?, [("vol-p-storage".to_owned(), id.to_owned())]);
        assert_eq!(runtime.run(&by_name, "c4")?.success(), "/part/hosts\n");
        let _ = runtime.delete_force("c4");
    }
    // A policy that calls things otherwise by now finds the storage that there is.
    runtime.run_detached(&bundle, "c5")?.success();
    runtime.delete_force("c5")?.success();
    let other = pod("{pod}.{name}").build()?;
    volhook.install(&other)?.success();
    runtime.run_detached(&other, "c6")?.success();
    runtime.delete_force("c6")?.success();
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}

fn privileged_two_runtimes_with_the_same_id(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let (one, other) = (Runtime::new(kind)?, Runtime::new(kind)?);
    let claim = |name: &str| BLOCK.replace("mydb", name);
    let (first, second) = (claiming(&volhook, &claim("v1"))?, claiming(&volhook, &claim("v2"))?);
    for bundle in [&first, &second] {
        let path = format!("/volhook-{}", bundle.path().file_name().and_then(|n| n.to_str()).unwrap_or("x"));
        bundle.edit(|spec| spec["linux"]["cgroupsPath"] = path.into())?;
    }
    one.run_detached(&first, "c1")?.success();
    other.run_detached(&second, "c1")?.success();
    assert_eq!(leases(&volhook)?.len(), 2);
    other.delete_force("c1")?.success();
    assert_eq!(leases(&volhook)?, [("v1".to_owned(), "c1".to_owned())]);
    one.delete_force("c1")?.success();
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}

/// Nothing can be done against a process of the host that looks into a container; it must not make the lease die
/// before the kernel lets go of the image, nor keep it for ever.
fn privileged_a_process_outside_may_keep_a_file_open(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = claiming(&volhook, BLOCK)?;
    runtime.run_detached(&bundle, "c1")?.success();
    let inside = format!("/proc/{}/root/data", runtime.pid("c1")?);
    let open = fs::File::open(&inside).with_context(|| format!("cannot open {inside}"))?;
    runtime.delete_force("c1")?.success();
    assert_contains(&volhook.run(&["lease", "ls", "--wide"])?.success(), "its image is still attached");
    let hasty = BundleBuilder::new().annotation("dev.volhook.mount.x", BLOCK).build()?;
    volhook.command(&["bundle", "install", "--timeout", "10"]).arg(hasty.path()).run()?.success();
    runtime.run(&hasty, "c2")?.failure();
    assert_contains(&last_refusal(&volhook)?, "held exclusively by container \"c1\"");
    // A hook that has time waits, as for a slow disk.
    let patient = claiming(&volhook, BLOCK)?;
    thread::scope(|scope| -> Result<()> {
        let started = scope.spawn(|| runtime.run_detached(&patient, "c3"));
        thread::sleep(Duration::from_secs(3));
        drop(open);
        started.join().expect("no starter panics")?.success();
        Ok(())
    })?;
    assert_eq!(leases(&volhook)?, [("mydb".to_owned(), "c3".to_owned())]);
    runtime.delete_force("c3")?.success();
    Ok(())
}

/// A pod with an image's files in it: as long as the kernel writes changes, nobody else gets them.
fn privileged_a_process_outside_may_keep_an_overlay_open(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let machine = || BundleBuilder::new().sleeping().annotation("dev.volhook.pod", "alice").build();
    let bundle = machine()?;
    volhook.install(&bundle)?.success();
    runtime.run_detached(&bundle, "c1")?.success();
    let inside = format!("/proc/{}/root/root", runtime.pid("c1")?);
    let open = fs::File::open(&inside).with_context(|| format!("cannot open {inside}"))?;
    runtime.delete_force("c1")?.success();
    assert_contains(
        &volhook.run(&["lease", "ls", "--wide"])?.success(),
        "its overlay is still open somewhere",
    );
    let hasty = machine()?;
    volhook.command(&["bundle", "install", "--timeout", "5"]).arg(hasty.path()).run()?.success();
    runtime.run_detached(&hasty, "c2")?.failure();
    let _ = runtime.delete_force("c2");
    assert_contains(&last_refusal(&volhook)?, "held exclusively by container \"c1\"");
    drop(open);
    runtime.run_detached(&hasty, "c3")?.success();
    assert_eq!(leases(&volhook)?, [("vol-alice-storage".to_owned(), "c3".to_owned())]);
    runtime.delete_force("c3")?.success();
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}
