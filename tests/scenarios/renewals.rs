//! Pods that begin anew from another image, or follow it: nothing is done before everything is decided, what they had is in
//! the trash, and a start that fails changes nothing.

use crate::assert_contains;
use crate::crashes::set_failpoint;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use crate::pods::built;
use crate::pods::pod;
use crate::pods::refusal;
use crate::pods::sh;
use crate::stand_in;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::HostSnapshot;
use volhook_harness::Output;
use volhook_harness::Program;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_a_claim_that_is_refused_throws_no_pod_away,
    privileged_a_pod_begins_anew_and_what_it_had_is_in_the_trash,
    privileged_a_start_that_cannot_follow_leaves_no_lease,
    privileged_a_pod_is_not_thrown_away_ahead_of_its_start,
    privileged_what_a_pod_had_that_was_reset_can_be_had_back,
    privileged_a_pod_whose_renewal_fails_is_as_it_was,
    privileged_a_planned_spec_that_fails_later_is_undone,
    privileged_two_containers_that_come_together_begin_anew_once,
);

/// Every way in which a pod's storage is kept.
const RESET: [&str; 4] = [
    "universal,on-image-change=reset",
    "universal,on-image-change=reset,size=64M",
    "universal,on-image-change=reset,population=copy",
    "universal,on-image-change=reset,population=copy,set=eight,size=64M",
];

const PACKAGES: &str = "var/lib/dpkg/status";

/// A container of a pod on an image of which it can be told that it is another one.
fn imaged(policy: &str) -> BundleBuilder {
    pod("p1", policy)
        .file(&format!("/{PACKAGES}"), "Package: one\n")
        .file("/etc/image", "of the image\n")
        .directory("/srv/app")
}

/// Makes the image another one.
fn change_image(bundle: &Bundle) -> Result<()> {
    Ok(fs::write(bundle.rootfs().join(PACKAGES), "Package: another\n")?)
}

fn with_script(volhook: &Volhook, policy: &str, script: &str) -> Result<Bundle> {
    built(volhook, imaged(policy).shell(script))
}

/// The storages in the trash, by uuid.
fn trashed(volhook: &Volhook) -> Result<Vec<String>> {
    let trash = volhook.json(&["trash", "ls"])?;
    let storages = trash.as_array().into_iter().flatten().filter(|one| one["name"] == "vol-p1-storage");
    storages.map(|one| Ok(one["uuid"].as_str().context("a uuid")?.to_owned())).collect()
}

fn claim(bundle: &Bundle, claim: Option<&str>) -> Result<()> {
    bundle.edit(|spec| {
        let annotations = spec["annotations"].as_object_mut();
        annotations.map(|annotations| match claim {
            Some(claim) => annotations.insert("dev.volhook.mount.x".to_owned(), claim.into()),
            None => annotations.remove("dev.volhook.mount.x"),
        });
    })
}

fn privileged_a_claim_that_is_refused_throws_no_pod_away(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for policy in RESET {
        let volhook = Volhook::new()?;
        let bundle = with_script(&volhook, policy, "echo mine > /etc/mine")?;
        runtime.run(&bundle, "c1")?.success();
        change_image(&bundle)?;
        claim(&bundle, Some("source=x,target=/x,volume-driver=nosuch"))?;
        for _ in 0..2 {
            assert_contains(&refusal(&volhook, &runtime, &bundle, "c2")?, "nosuch");
            assert_eq!((trashed(&volhook)?, leases(&volhook)?), (vec![], vec![]), "{policy}");
        }
        // It is the pod of the image that it was made from.
        fs::write(bundle.rootfs().join(PACKAGES), "Package: one\n")?;
        claim(&bundle, None)?;
        bundle.set_shell("cat /etc/mine")?;
        assert_eq!(runtime.run(&bundle, "c3")?.success(), "mine\n", "{policy}");
    }
    Ok(())
}

fn privileged_a_pod_begins_anew_and_what_it_had_is_in_the_trash(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for policy in RESET {
        let volhook = Volhook::new()?;
        let bundle = with_script(&volhook, policy, "echo mine > /etc/mine; rm /etc/image")?;
        runtime.run(&bundle, "c1")?.success();
        change_image(&bundle)?;
        let plan = volhook.command(&["plan"]).arg(bundle.path()).run()?.success();
        assert_contains(&plan, "pod p1's files go to the trash, with volume \"vol-p1-storage\"");
        assert_contains(&plan, "pod p1 begins anew: the image");
        assert_eq!(trashed(&volhook)?, Vec::<String>::new(), "{policy}: a plan changes nothing");
        bundle.set_shell(&format!("cat /etc/image /{PACKAGES}; ls /etc/mine 2> /dev/null || true"))?;
        let fresh = "of the image\nPackage: another\n";
        for id in ["c2", "c3"] {
            assert_eq!(runtime.run(&bundle, id)?.success(), fresh, "{policy}");
        }
        assert_contains(&volhook.run(&["events"])?.success(), "reset");
        let old = trashed(&volhook)?;
        assert_eq!(old.len(), 1, "{policy}: once");
        let taken = volhook.run(&["trash", "restore", "vol-p1-storage"])?;
        assert_eq!(taken.code(), Some(1));
        assert_contains(&taken.stderr, "volhook pod rm p1");
        assert_contains(&taken.stderr, &old[0]);
        volhook.run(&["pod", "rm", "--force", "p1"])?.success();
        volhook.run(&["trash", "restore", &old[0]])?.success();
        fs::write(bundle.rootfs().join(PACKAGES), "Package: one\n")?;
        bundle.set_shell("cat /etc/mine; ls /etc/image 2> /dev/null || true")?;
        assert_eq!(runtime.run(&bundle, "c4")?.success(), "mine\n", "{policy}");
        assert_eq!(leases(&volhook)?, []);
    }
    Ok(())
}

fn privileged_a_start_that_cannot_follow_leaves_no_lease(kind: RuntimeKind) -> Result<()> {
    for spec_stage in [false, true] {
        let volhook = Volhook::new()?;
        let runtime = if spec_stage { volhook.wrapped_runtime(kind)? } else { Runtime::new(kind)? };
        let builder = imaged("universal,on-image-change=follow").shell("echo started");
        let bundle = if spec_stage { builder.build()? } else { built(&volhook, builder)? };
        assert_eq!(runtime.run(&bundle, "c1")?.success(), "started\n");
        let known = volhook.run(&["pod", "inspect", "p1"])?.success();
        change_image(&bundle)?;
        if !spec_stage {
            let plan = volhook.command(&["plan"]).arg(bundle.path()).run()?.success();
            assert_contains(&plan, "pod p1 follows its image");
        }
        let failpoint = "folder:fail";
        let failing = if spec_stage {
            let env = volhook.env();
            let env = env.iter().map(|(name, value)| (*name, value.as_str()));
            let env: Vec<(&str, &str)> = env.chain([("VOLHOOK_FAILPOINT", failpoint)]).collect();
            Some(Runtime::wrapped(kind, &[volhook.binary(), Path::new("runtime")], &env)?)
        } else {
            set_failpoint(&bundle, "prestart", Some(failpoint))?;
            None
        };
        let failing = failing.as_ref().unwrap_or(&runtime);
        assert!(!failing.run(&bundle, "c2")?.status.success());
        let _ = failing.delete_force("c2");
        assert_contains(&last_refusal(&volhook)?, "cannot upgrade volume \"vol-p1-storage\"");
        assert_eq!(leases(&volhook)?, [], "the refused start keeps its lease");
        let image =
            |text: &str| -> Result<Value> { Ok(serde_json::from_str::<Value>(text)?[0]["image"].clone()) };
        assert_eq!(image(&volhook.run(&["pod", "inspect", "p1"])?.success())?, image(&known)?);
        if !spec_stage {
            // What it has followed to is taken back if the rest fails.
            set_failpoint(&bundle, "prestart", Some("sources-made:fail"))?;
            assert!(!runtime.run(&bundle, "c2")?.status.success());
            let _ = runtime.delete_force("c2");
            assert_eq!(image(&volhook.run(&["pod", "inspect", "p1"])?.success())?, image(&known)?);
            assert_eq!(leases(&volhook)?, []);
            set_failpoint(&bundle, "prestart", None)?;
        }
        assert_eq!(runtime.run(&bundle, "c3")?.success(), "started\n");
        assert_ne!(image(&volhook.run(&["pod", "inspect", "p1"])?.success())?, image(&known)?);
        assert_eq!(leases(&volhook)?, []);
    }
    Ok(())
}

fn privileged_a_pod_is_not_thrown_away_ahead_of_its_start(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for policy in RESET {
        let volhook = Volhook::new()?;
        let bundle = with_script(&volhook, policy, "echo mine > /etc/mine")?;
        runtime.run(&bundle, "c1")?.success();
        let other = imaged(policy).build()?;
        change_image(&other)?;
        let rootfs = other.rootfs().to_string_lossy().into_owned();
        let prepared = volhook.run(&["pod", "prepare", "p1", "--rootfs", &rootfs, "--policy", policy])?;
        assert_eq!(prepared.code(), Some(1), "{prepared}");
        assert_contains(&prepared.stderr, "volhook pod reset p1");
        assert_eq!(trashed(&volhook)?, Vec::<String>::new());
        bundle.set_shell("cat /etc/mine")?;
        assert_eq!(runtime.run(&bundle, "c2")?.success(), "mine\n", "{policy}");
    }
    Ok(())
}

fn privileged_what_a_pod_had_that_was_reset_can_be_had_back(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for policy in RESET {
        let volhook = Volhook::new()?;
        let bundle = with_script(&volhook, policy, "echo mine > /etc/mine")?;
        runtime.run(&bundle, "c1")?.success();
        let said = volhook.run(&["pod", "reset", "p1", "--force"])?;
        assert_eq!((said.code(), said.stdout.as_str()), (Some(0), "p1\n"));
        let old = trashed(&volhook)?.pop().context("it is in the trash")?;
        assert_contains(&said.stderr, &format!("volhook trash restore {old}"));
        bundle.set_shell("cat /etc/mine 2> /dev/null || echo gone")?;
        assert_eq!(runtime.run(&bundle, "c2")?.success(), "gone\n", "{policy}");
        volhook.run(&["pod", "rm", "--force", "p1"])?.success();
        volhook.run(&["trash", "restore", &old])?.success();
        assert_eq!(runtime.run(&bundle, "c3")?.success(), "mine\n", "{policy}");
        assert_eq!(leases(&volhook)?, []);
    }
    Ok(())
}

fn privileged_a_pod_whose_renewal_fails_is_as_it_was(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for (policy, step) in [
        (RESET[0], "renew.discarded:fail"),
        (RESET[1], "settled:fail"),
        (RESET[3], "sources-made:fail"),
        (RESET[2], "mounted:fail"),
    ] {
        let volhook = Volhook::new()?;
        let bundle = with_script(&volhook, policy, "echo mine > /etc/mine")?;
        let before = HostSnapshot::take()?.below([volhook.folder(), bundle.path()]);
        runtime.run(&bundle, "c1")?.success();
        change_image(&bundle)?;
        claim(&bundle, Some("source=mydb,target=/data,volume-driver=block,volume-opt=size=16M"))?;
        set_failpoint(&bundle, "prestart", Some(step))?;
        assert!(!runtime.run(&bundle, "c2")?.status.success(), "{step}");
        let _ = runtime.delete_force("c2");
        assert_eq!((trashed(&volhook)?, leases(&volhook)?), (vec![], vec![]), "{policy}: {step}");
        before.assert_restored(&[volhook.folder(), bundle.path()])?;
        fs::write(bundle.rootfs().join(PACKAGES), "Package: one\n")?;
        set_failpoint(&bundle, "prestart", None)?;
        bundle.edit(|spec| spec["process"]["args"] = json!(["sleep", "1000"]))?;
        runtime.run_detached(&bundle, "c3")?.success();
        assert_eq!(
            sh(&runtime, "c3", "cat /etc/mine; touch /data/x")?.success(),
            "mine\n",
            "{policy}: {step}"
        );
        runtime.delete_force("c3")?.success();
    }
    Ok(())
}

/// The spec stage takes the leases, and the runtime calls for the rest: in another process.
fn privileged_a_planned_spec_that_fails_later_is_undone(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for (policy, step) in [
        (RESET[0], "bound:fail"),
        (RESET[1], "sources-made:fail"),
        (RESET[2], "mounted:fail"),
        (RESET[0], "no process"),
    ] {
        let volhook = Volhook::new()?;
        let bundle = with_script(&volhook, policy, "echo mine > /etc/mine")?;
        runtime.run(&bundle, "c1")?.success();
        change_image(&bundle)?;
        let plain = imaged(policy).shell("cat /etc/mine").build_in(bundle.path().join("again"))?;
        change_image(&plain)?;
        let original = plain.config()?;
        let precreate = volhook.command(&["hook", "precreate"]).directory(plain.path());
        plain.write_config(&precreate.stdin(original.to_string()).run()?.json())?;
        assert_eq!((trashed(&volhook)?.len(), leases(&volhook)?.len()), (1, 1), "{policy}");
        if step == "no process" {
            let entry = plain.config()?["hooks"]["createRuntime"][0].clone();
            let words = entry["args"].as_array().context("arguments")?.iter().filter_map(Value::as_str);
            let words: Vec<&str> = words.skip(1).collect();
            let state = json!({"ociVersion": "1.0.2", "id": "c2", "pid": 0, "status": "creating", "bundle": plain.path()});
            volhook.command(&words).stdin(state.to_string()).run()?.failure();
        } else {
            set_failpoint(&plain, "createRuntime", Some(step))?;
            assert!(!runtime.run(&plain, "c2")?.status.success(), "{step}");
            let _ = runtime.delete_force("c2");
        }
        assert_eq!((trashed(&volhook)?, leases(&volhook)?), (vec![], vec![]), "{policy}: {step}");
        fs::write(bundle.rootfs().join(PACKAGES), "Package: one\n")?;
        bundle.set_shell("cat /etc/mine")?;
        assert_eq!(runtime.run(&bundle, "c3")?.success(), "mine\n", "{policy}: {step}");
    }
    Ok(())
}

fn privileged_two_containers_that_come_together_begin_anew_once(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    let policy = RESET[2];
    let volhook = Volhook::new()?;
    let first = with_script(&volhook, policy, "echo mine > /etc/mine")?;
    runtime.run(&first, "c1")?.success();
    let both = [built(&volhook, imaged(policy).sleeping())?, built(&volhook, imaged(policy).sleeping())?];
    both.iter().try_for_each(change_image)?;
    thread::scope(|scope| {
        let starts: Vec<_> = both
            .iter()
            .zip(["c2", "c3"])
            .map(|(bundle, id)| scope.spawn(|| runtime.run_detached(bundle, id)))
            .collect();
        starts.into_iter().try_for_each(|start| {
            start.join().expect("no start panics")?.success();
            anyhow::Ok(())
        })
    })?;
    assert_eq!(trashed(&volhook)?.len(), 1);
    sh(&runtime, "c2", "test ! -e /etc/mine; echo two > /etc/two")?.success();
    assert_eq!(sh(&runtime, "c3", "cat /etc/two")?.success(), "two\n");
    let held = volhook.json(&["lease", "ls"])?;
    let shared = held.as_array().into_iter().flatten().filter(|lease| lease["sharing"] == "shared");
    assert_eq!(shared.count(), 2, "{held:#}");
    for id in ["c2", "c3"] {
        runtime.delete_force(id)?.success();
    }
    Ok(())
}

/// Every step on the way of a start whose pod begins anew, and those of the way back.
const STEPS: [&str; 26] = [
    "volumes-created",
    "copy_up.copied",
    "copy_up.synced",
    "copy_up.replaced",
    "copy_up.begun",
    "filled",
    "sidecar.written",
    "sidecar.renamed",
    "renew.built",
    "fill.copied",
    "fill.synced",
    "fill.moved",
    "fill.placed",
    "renew.filled",
    "locked",
    "granted-locked",
    "granted",
    "renew.locked",
    "renew.discarded",
    "renew.placed",
    "settled",
    "recorded",
    "sources-made",
    "mounted",
    "recorded:fail,renew.emptied",
    "sources-made:fail,renew.emptied:fail",
];

/// Those of them where files are copied.
const OF_COPIES: [&str; 5] = ["fill.copied", "fill.synced", "fill.moved", "fill.placed", "renew.filled"];

/// A start as a runtime makes it, without a runtime: a process with a mount namespace, and the hook.
struct Start<'a> {
    volhook: &'a Volhook,
    bundle: &'a Bundle,
}

impl Start<'_> {
    fn hook(&self, failpoint: &str) -> Result<(Child, Output)> {
        let init = stand_in(self.bundle)?;
        let state = json!({
            "ociVersion": "1.0.2", "id": "c1", "pid": init.id(), "status": "creating", "bundle": self.bundle.path(),
        });
        let command = self.volhook.command(&["hook", "prestart"]).stdin(state.to_string());
        Ok((init, command.env("VOLHOOK_FAILPOINT", failpoint).run()?))
    }

    /// Where the pod has its file: in its place (`true`), or in the trash.
    fn mine(&self, population: &str) -> Result<Vec<bool>> {
        let within = if population == "copy" { "data/files/etc/mine" } else { "data/upper/etc/mine" };
        let is_whole =
            |folder: &Path| fs::read_to_string(folder.join(within)).is_ok_and(|text| text == "mine\n");
        let in_place = is_whole(&self.volhook.root().join("volumes/default/vol-p1-storage"));
        let in_trash = self.trashed()?.into_iter().filter(|folder| is_whole(folder));
        Ok(in_place.then_some(true).into_iter().chain(in_trash.map(|_| false)).collect())
    }

    fn trashed(&self) -> Result<Vec<PathBuf>> {
        let trash = self.volhook.root().join("trash");
        if !trash.exists() {
            return Ok(Vec::new());
        }
        let folders = fs::read_dir(trash)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        // What can be restored says since when it is there.
        Ok(folders.into_iter().filter(|folder| folder.join("trashed.json").exists()).collect())
    }

    fn nothing_is_left(&self) -> Result<()> {
        let attempts = self.volhook.run_dir().join("attempts");
        let count = |folder: &Path| fs::read_dir(folder).map_or(0, Iterator::count);
        ensure!(count(&attempts) == 0, "records are left");
        ensure!(count(&self.volhook.root().join("staging")) == 0, "something is left in the staging folder");
        Ok(())
    }
}

fn end(mut init: Child) -> Result<()> {
    init.kill()?;
    init.wait()?;
    Ok(())
}

/// A pod with a file of its own on an image that is another one by now, and two new volumes that get what the image has.
struct Scene {
    population: &'static str,
    /// The state before the start.
    before: Volhook,
    bundle: Bundle,
}

impl Scene {
    fn new(population: &'static str) -> Result<Self> {
        let before = Volhook::new()?;
        let policy = format!("universal,set=eight,on-image-change=reset,population={population}");
        let builder = imaged(&policy)
            .without_programs()
            .file("/mnt/data/note", "of the image\n")
            .file("/mnt/db/note", "of the image\n");
        let bundle = builder.build()?;
        let (init, first) = Start { volhook: &before, bundle: &bundle }.hook("")?;
        first.success();
        end(init)?;
        before.run(&["gc"])?.success();
        let data = before.root().join("volumes/default/vol-p1-storage/data");
        let etc = data.join(if population == "copy" { "files/etc" } else { "upper/etc" });
        fs::create_dir_all(&etc)?;
        fs::write(etc.join("mine"), "mine\n")?;
        change_image(&bundle)?;
        bundle.edit(|spec| {
            spec["annotations"]["dev.volhook.mount.a"] = "source=files,target=/mnt/data".into();
            spec["annotations"]["dev.volhook.mount.b"] =
                "source=mydb,target=/mnt/db,volume-driver=block,volume-opt=size=16M".into();
        })?;
        Ok(Self { population, before, bundle })
    }

    /// What must hold whatever step of the start fails or kills the hook. `false`: it never comes by there.
    fn holds_after(&self, step: &str, fails: bool) -> Result<bool> {
        let volhook = Volhook::new()?;
        Program::new("cp").arg("--archive").arg(self.before.root()).arg(volhook.folder()).run()?.success();
        let Self { population, bundle, .. } = self;
        let start = Start { volhook: &volhook, bundle };
        let before = HostSnapshot::take()?.below([volhook.folder(), bundle.path()]);
        let failpoint = if fails { format!("{step}:fail") } else { step.to_owned() };
        let (init, output) = start.hook(&failpoint)?;
        let reached = !output.status.success();
        if reached && fails {
            let left = leases(&volhook)?;
            ensure!(left.is_empty(), "leases are left: {left:?}\n{output}");
            let mine = start.mine(population)?;
            ensure!(mine == [true], "the pod is not as it was: {mine:?}\n{output}");
            ensure!(start.trashed()?.is_empty(), "something went to the trash\n{output}");
        }
        end(init)?;
        if reached {
            ensure!(start.mine(population)?.len() == 1, "the pod's file is nowhere\n{output}");
            before.assert_restored(&[volhook.folder(), bundle.path()])?;
            // Nobody has to do anything.
            let (init, again) = start.hook("")?;
            again.success();
            end(init)?;
        }
        let mine = start.mine(population)?;
        ensure!(mine == [false], "the pod's file is not in the trash: {mine:?}\n{output}");
        before.assert_restored(&[volhook.folder(), bundle.path()])?;
        volhook.run(&["gc"])?.success();
        ensure!(leases(&volhook)?.is_empty(), "a lease is left");
        start.nothing_is_left()?;
        Ok(reached)
    }
}

fn no_step_loses_anything(population: &'static str) -> Result<()> {
    let scene = Scene::new(population)?;
    let mut reached = 0;
    let mut never = Vec::new();
    for step in STEPS {
        let ways: &[bool] = if step.contains(',') { &[false] } else { &[false, true] };
        let mut by = false;
        for fails in ways {
            let case = format!("{population}: {step} {}", if *fails { "fails" } else { "dies" });
            let came_by = scene.holds_after(step, *fails).context(case)?;
            reached += u32::from(came_by);
            by |= came_by;
        }
        if !by {
            never.push(step);
        }
    }
    println!("{population}: {reached} starts failed or were killed; no lease, mount or file was lost");
    let elsewhere = if population == "copy" { &[][..] } else { &OF_COPIES };
    assert_eq!(never, elsewhere, "steps that no start comes by");
    Ok(())
}

#[test]
fn privileged_no_step_of_a_renewal_loses_anything_under_an_overlay() -> Result<()> {
    no_step_loses_anything("overlay")
}

#[test]
fn privileged_no_step_of_a_renewal_loses_anything_in_copies() -> Result<()> {
    no_step_loses_anything("copy")
}
