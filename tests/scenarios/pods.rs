//! Pods as personal machines: what is kept over stops, package installations, crashes and changes of the image.

use crate::assert_contains;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use crate::volumes;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::DebianPackage;
use volhook_harness::HostSnapshot;
use volhook_harness::Output;
use volhook_harness::Program;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_a_stopped_machine_finds_its_files_again,
    privileged_the_runtime_wrapper_keeps_a_machine_too,
    privileged_the_volumes_of_a_machine_are_one_storage,
    privileged_packages_stay_installed,
    privileged_packages_stay_installed_in_copies,
    privileged_an_untouched_machine_sees_a_newer_image,
    privileged_a_changed_machine_is_asked_about_a_newer_image,
    privileged_what_becomes_of_a_newer_image_is_a_setting,
    privileged_what_was_synced_survives_a_crash,
    privileged_a_machine_starts_after_a_reboot,
    privileged_edited_configuration_is_kept,
    privileged_an_empty_machine_has_nothing_of_the_image,
    privileged_a_machine_is_no_larger_than_it_may_be,
    privileged_an_image_that_does_not_fit_is_refused,
    privileged_two_containers_share_a_copy,
    privileged_two_containers_do_not_share_an_overlay,
    privileged_a_machine_in_a_user_namespace,
);

/// What a machine keeps, and a little more of `/usr`. There is no `/workspace` in any image here.
const KEPT: [&str; 9] =
    ["/etc", "/var", "/home", "/root", "/srv", "/opt", "/usr/local", "/workspace", "/usr/share"];

/// Every way to have the image's files in a machine.
const POLICIES: [&str; 5] = [
    "",
    "universal,population=overlay,set=eight",
    "universal,population=overlay,size=1G",
    "universal,population=copy,set=eight",
    "universal,population=copy,set=eight,size=64M",
];

const IMAGE_HAS: &str = "of the image\n";

/// A container of the pod `name`, with the policy in an annotation unless it is empty.
pub(crate) fn pod(name: &str, policy: &str) -> BundleBuilder {
    let builder = BundleBuilder::new().annotation("dev.volhook.pod", name);
    if policy.is_empty() { builder } else { builder.annotation("dev.volhook.policy", policy) }
}

/// Builds it, with volhook's hooks.
pub(crate) fn built(volhook: &Volhook, builder: BundleBuilder) -> Result<Bundle> {
    let bundle = builder.build()?;
    volhook.install(&bundle)?.success();
    Ok(bundle)
}

/// Runs a script in a running container.
pub(crate) fn sh(runtime: &Runtime, id: &str, script: &str) -> Result<Output> {
    runtime.exec(id, &["/bin/sh", "-e", "-c", script])
}

/// Ends the container, and gives its bundle the root filesystem of a new one.
fn recreate(runtime: &Runtime, bundle: &Bundle, id: &str) -> Result<()> {
    runtime.delete_force(id)?.success();
    bundle.renew_rootfs()
}

/// Asserts that the container does not start, and returns why.
#[track_caller]
pub(crate) fn refusal(volhook: &Volhook, runtime: &Runtime, bundle: &Bundle, id: &str) -> Result<String> {
    // In the background, for a container that would stay.
    let output = runtime.run_detached(bundle, id)?;
    assert!(!output.status.success() && runtime.log(id)?.is_empty(), "it started: {output}");
    // runc may keep a container whose hook failed.
    let _ = runtime.delete_force(id);
    let text = last_refusal(volhook)?;
    assert_eq!(text.lines().count(), 1, "more than one line: {text}");
    Ok(text)
}

/// Writes everywhere, stops, and looks again in a new container of the same image.
fn stop_and_start(volhook: &Volhook, runtime: &Runtime, bundle: &Bundle) -> Result<()> {
    let before = HostSnapshot::take()?.below([volhook.folder(), bundle.path()]);
    let script = |each: fn(&str) -> String| KEPT.map(each).join("\n");
    bundle.edit(|spec| spec["process"]["args"] = serde_json::json!(["/bin/sleep", "1000"]))?;
    runtime.run_detached(bundle, "first")?.success();
    let write = script(|folder| {
        format!("echo from {folder} > {folder}/note; chmod 640 {folder}/note; chown 5:6 {folder}/note")
    });
    sh(runtime, "first", &write)?.success();
    sh(runtime, "first", "echo x > /tmp/note; echo x > /run/note; rm /etc/taken; mv /opt/from /srv/to")?
        .success();
    for path in ["tmp/note", "run/note"] {
        assert!(bundle.rootfs().join(path).exists(), "{path} does not lie in the container's own files");
    }
    for folder in KEPT {
        let path = bundle.rootfs().join(&folder[1..]).join("note");
        assert!(!path.exists(), "{} lies in the container's own files", path.display());
    }
    // As an engine stops a container.
    runtime.kill("first", "KILL")?.success();
    runtime.wait_for("first", "stopped")?;
    recreate(runtime, bundle, "first")?;
    assert_eq!(leases(volhook)?, []);
    before.assert_restored(&[volhook.folder(), bundle.path()])?;

    bundle.set_shell(&format!(
        "{}\nls -d /tmp/note /run/note /etc/taken /opt/from 2>/dev/null | wc -l; cat /srv/to /etc/stays",
        script(|folder| format!("cat {folder}/note; stat -c '%a %u %g' {folder}/note"))
    ))?;
    let seen = runtime.run(bundle, "second")?.success();
    let expected = KEPT.map(|folder| format!("from {folder}\n640 5 6\n")).concat();
    assert_eq!(seen, format!("{expected}0\n{IMAGE_HAS}{IMAGE_HAS}"));
    assert_eq!(leases(volhook)?, []);
    before.assert_restored(&[volhook.folder(), bundle.path()])
}

fn with_files(builder: BundleBuilder) -> BundleBuilder {
    builder.file("/etc/taken", IMAGE_HAS).file("/etc/stays", IMAGE_HAS).file("/opt/from", IMAGE_HAS)
}

fn privileged_a_stopped_machine_finds_its_files_again(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for builder in [pod("p1", "").debian(), pod("p1", "").directory("/usr/share")] {
        let volhook = Volhook::new()?;
        let bundle = built(&volhook, with_files(builder))?;
        stop_and_start(&volhook, &runtime, &bundle)?;
    }
    Ok(())
}

fn privileged_the_runtime_wrapper_keeps_a_machine_too(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = volhook.wrapped_runtime(kind)?;
    let bundle = with_files(pod("p1", "").directory("/usr/share")).build()?;
    stop_and_start(&volhook, &runtime, &bundle)
}

fn privileged_the_volumes_of_a_machine_are_one_storage(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for (policy, others) in [("", ["vol-p1-usr", "vol-p1-boot"].as_slice()), ("universal,set=eight", &[])] {
        let volhook = Volhook::new()?;
        let bundle = built(&volhook, pod("p1", policy).debian().sleeping())?;
        let plan = volhook.command(&["plan"]).arg(bundle.path()).run()?.success();
        let names: Vec<&str> = plan
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|w| w.starts_with("vol-"))
            .collect();
        let eight = ["etc", "home", "opt", "root", "srv", "usr-local", "var", "workspace"];
        for part in eight.map(|part| format!("vol-p1-{part}")).iter().map(String::as_str) {
            assert!(names.contains(&part), "{part} is not in the plan:\n{plan}");
        }
        for part in ["vol-p1-usr", "vol-p1-boot"] {
            assert_eq!(names.contains(&part), others.contains(&part), "{part}:\n{plan}");
        }
        for part in ["tmp", "proc", "sys", "dev", "run"].map(|part| format!("vol-p1-{part}")) {
            assert!(!names.contains(&part.as_str()), "{part} is in the plan:\n{plan}");
        }
        runtime.run_detached(&bundle, "c1")?.success();
        assert!(leases(&volhook)?.iter().any(|(volume, _)| volume == "vol-p1-storage"));
        runtime.delete_force("c1")?.success();
        assert!(volumes(&volhook)?.contains(&"vol-p1-storage".to_owned()));
    }
    Ok(())
}

const PACKAGE: &str = "/run/package.deb";
const INSTALL: &str = "dpkg --install /run/package.deb > /dev/null";
/// What shows that it is installed: the program, dpkg's own list, its files and its script's work.
const INSTALLED: &str = "volhook-hello; dpkg --verify; dpkg-query --show --showformat '${Status}\\n' volhook-hello; cat \
                         /var/lib/volhook-hello/data /var/lib/volhook-hello/configured";
const IS_INSTALLED: &str =
    "volhook-hello 1.0: as delivered\ninstall ok installed\ndata of 1.0\n1.0 configure\n";

fn installing(volhook: &Volhook, package: &DebianPackage, name: &str, policy: &str) -> Result<Bundle> {
    built(volhook, pod(name, policy).debian().sleeping().bind(package.path(), PACKAGE, &["ro"]))
}

fn keeps_packages(kind: RuntimeKind, policy: &str) -> Result<()> {
    let volhook = Volhook::new()?;
    let package = DebianPackage::hello()?;
    let runtime = Runtime::new(kind)?;
    let bundle = installing(&volhook, &package, "p1", policy)?;
    runtime.run_detached(&bundle, "c1")?.success();
    sh(&runtime, "c1", INSTALL)?.success();
    for id in ["c1", "c2", "c3"] {
        if id != "c1" {
            runtime.run_detached(&bundle, id)?.success();
        }
        let seen = sh(&runtime, id, INSTALLED)?;
        assert_eq!((seen.stdout.as_str(), seen.stderr.as_str()), (IS_INSTALLED, ""), "{id}");
        recreate(&runtime, &bundle, id)?;
    }
    // Another pod has its own.
    let other = installing(&volhook, &package, "p2", policy)?;
    runtime.run_detached(&other, "c4")?.success();
    sh(&runtime, "c4", "volhook-hello")?.failure();
    assert_eq!(sh(&runtime, "c4", "dpkg --verify")?.success(), "");
    runtime.delete_force("c4")?.success();
    Ok(())
}

fn privileged_packages_stay_installed(kind: RuntimeKind) -> Result<()> {
    keeps_packages(kind, "")
}

fn privileged_packages_stay_installed_in_copies(kind: RuntimeKind) -> Result<()> {
    keeps_packages(kind, "universal,population=copy")
}

/// Makes the bundle's image a newer one: a package more is installed in it, on the host.
fn newer_image(bundle: &Bundle, package: &DebianPackage) -> Result<()> {
    let root = format!("--root={}", bundle.rootfs().display());
    Program::new("dpkg").arg(root).arg("--install").arg(package.path()).run()?.success();
    assert!(bundle.rootfs().join("usr/bin/volhook-newer").exists());
    Ok(())
}

fn privileged_an_untouched_machine_sees_a_newer_image(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let newer = DebianPackage::new("volhook-newer", "2.0")?;
    let runtime = Runtime::new(kind)?;
    let bundle = installing(&volhook, &newer, "p1", "")?;
    runtime.run_detached(&bundle, "c1")?.success();
    recreate(&runtime, &bundle, "c1")?;

    fs::write(bundle.rootfs().join("usr/share/newer"), "newer\n")?;
    runtime.run_detached(&bundle, "c2")?.success();
    assert_eq!(sh(&runtime, "c2", "cat /usr/share/newer")?.success(), "newer\n");
    recreate(&runtime, &bundle, "c2")?;

    newer_image(&bundle, &newer)?;
    runtime.run_detached(&bundle, "c3")?.success();
    let seen = sh(&runtime, "c3", "volhook-newer; dpkg --verify; dpkg-query --show volhook-newer")?.success();
    assert_eq!(seen, "volhook-newer 2.0: as delivered\nvolhook-newer\t2.0\n");
    runtime.delete_force("c3")?.success();
    Ok(())
}

fn privileged_a_changed_machine_is_asked_about_a_newer_image(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let (package, newer) = (DebianPackage::hello()?, DebianPackage::new("volhook-newer", "2.0")?);
    let runtime = Runtime::new(kind)?;
    let bundle = installing(&volhook, &package, "p1", "")?;
    runtime.run_detached(&bundle, "c1")?.success();
    sh(&runtime, "c1", INSTALL)?.success();
    recreate(&runtime, &bundle, "c1")?;

    // A newer file is no other image.
    fs::write(bundle.rootfs().join("usr/share/newer"), "newer\n")?;
    runtime.run_detached(&bundle, "c2")?.success();
    assert_eq!(sh(&runtime, "c2", "cat /usr/share/newer; volhook-hello")?.success().lines().count(), 2);
    recreate(&runtime, &bundle, "c2")?;

    newer_image(&bundle, &newer)?;
    for id in ["c3", "c4"] {
        let text = refusal(&volhook, &runtime, &bundle, id)?;
        assert_contains(&text, "volhook pod upgrade p1");
        assert_contains(&text, "volhook pod reset p1");
        assert_eq!(leases(&volhook)?, []);
    }
    // With the image that it knows it starts as before.
    bundle.renew_rootfs()?;
    runtime.run_detached(&bundle, "c5")?.success();
    assert_eq!(sh(&runtime, "c5", INSTALLED)?.success(), IS_INSTALLED);
    recreate(&runtime, &bundle, "c5")?;

    newer_image(&bundle, &newer)?;
    refusal(&volhook, &runtime, &bundle, "c6")?;
    volhook.run(&["pod", "upgrade", "p1"])?.success();
    for id in ["c7", "c8"] {
        runtime.run_detached(&bundle, id)?.success();
        let seen = sh(&runtime, id, "volhook-hello; volhook-newer")?.success();
        assert_eq!(seen, "volhook-hello 1.0: as delivered\nvolhook-newer 2.0: as delivered\n");
        recreate(&runtime, &bundle, id)?;
        newer_image(&bundle, &newer)?;
    }
    Ok(())
}

fn privileged_what_becomes_of_a_newer_image_is_a_setting(kind: RuntimeKind) -> Result<()> {
    let (package, newer) = (DebianPackage::hello()?, DebianPackage::new("volhook-newer", "2.0")?);
    for (setting, hello) in [("follow", "volhook-hello 1.0: as delivered\n"), ("reset", "none\n")] {
        let volhook = Volhook::new()?;
        let runtime = Runtime::new(kind)?;
        let policy = format!("universal,on-image-change={setting}");
        let bundle = installing(&volhook, &package, "p1", &policy)?;
        runtime.run_detached(&bundle, "c1")?.success();
        sh(&runtime, "c1", INSTALL)?.success();
        sh(&runtime, "c1", "echo mine > /home/note")?.success();
        recreate(&runtime, &bundle, "c1")?;
        newer_image(&bundle, &newer)?;
        runtime.run_detached(&bundle, "c2")?.success();
        let seen = sh(&runtime, "c2", "volhook-newer; volhook-hello 2> /dev/null || echo none")?.success();
        assert_eq!(seen, format!("volhook-newer 2.0: as delivered\n{hello}"), "{setting}");
        if setting == "reset" {
            assert_eq!(
                sh(&runtime, "c2", "dpkg --verify; dpkg-query --show volhook-newer")?.success(),
                "volhook-newer\t2.0\n"
            );
        }
        runtime.delete_force("c2")?.success();
    }
    Ok(())
}

/// Counts for ever; a number is printed when it is on the disk, in two directories.
const COUNT: &str = "n=0; while :; do n=$((n + 1)); for d in /var /home; do echo $n > $d/next; sync $d/next; mv $d/next \
                     $d/count; sync $d; done; echo $n; done";

const LOOK: &str = "cat /var/count /home/count";

/// The last number that a container which runs [`COUNT`] has printed.
fn counted(runtime: &Runtime, id: &str) -> Result<u64> {
    let log = runtime.log(id)?;
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().last().unwrap_or("0").parse().context("numbers are printed")
}

fn wait_until_counted(runtime: &Runtime, id: &str, number: u64) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    while counted(runtime, id)? < number {
        ensure!(Instant::now() < end, "it counts too slowly: {}", runtime.log(id)?);
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn privileged_what_was_synced_survives_a_crash(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for policy in POLICIES {
        let volhook = Volhook::new()?;
        let bundle = built(&volhook, pod("p1", policy))?;
        let before = HostSnapshot::take()?.below([volhook.folder(), bundle.path()]);
        for id in ["c1", "c2"] {
            bundle.set_shell(COUNT)?;
            runtime.run_detached(&bundle, id)?.success();
            wait_until_counted(&runtime, id, 5)?;
            runtime.kill(id, "KILL")?.success();
            runtime.wait_for(id, "stopped")?;
            recreate(&runtime, &bundle, id)?;
            bundle.set_shell(LOOK)?;
            let kept = runtime.run(&bundle, "look")?.success();
            // It may have died between the work and the word.
            let printed = counted(&runtime, id)?;
            let right = |line: &str| line.parse().is_ok_and(|n| (printed..=printed + 1).contains(&n));
            assert!(
                kept.lines().count() == 2 && kept.lines().all(right),
                "{policy}: {printed} printed, kept: {kept}"
            );
        }
        assert_eq!(leases(&volhook)?, []);
        before.assert_restored(&[volhook.folder(), bundle.path()])?;
    }
    Ok(())
}

/// The runtime as after a reboot: the kernel's boot id is another one.
fn after_a_reboot(volhook: &Volhook, kind: RuntimeKind) -> Result<Runtime> {
    let boot = volhook.folder().join("boot_id");
    fs::write(&boot, "0d9a7e0c-1111-4222-8333-944455556666\n")?;
    let script = "mount --bind \"$BOOT\" /proc/sys/kernel/random/boot_id && exec \"$VOLHOOK_RUNTIME\" \"$@\"";
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"];
    Runtime::wrapped(kind, &words, &[("BOOT", &boot.to_string_lossy())])
}

fn privileged_a_machine_starts_after_a_reboot(kind: RuntimeKind) -> Result<()> {
    for policy in POLICIES {
        let volhook = Volhook::new()?;
        let runtime = Runtime::new(kind)?;
        let bundle = built(&volhook, pod("p1", policy))?;
        bundle.set_shell(COUNT)?;
        // A power cut calls no hook: the leases of this boot stay.
        bundle.edit(|spec| {
            spec["hooks"].as_object_mut().map(|hooks| hooks.remove("poststop"));
        })?;
        runtime.run_detached(&bundle, "c1")?.success();
        wait_until_counted(&runtime, "c1", 3)?;
        recreate(&runtime, &bundle, "c1")?;
        assert_ne!(leases(&volhook)?, [], "{policy}");

        volhook.install(&bundle)?.success();
        bundle.set_shell(LOOK)?;
        let kept = after_a_reboot(&volhook, kind)?.run(&bundle, "c1")?.success();
        let printed = counted(&runtime, "c1")?;
        let right = |line: &str| line.parse().is_ok_and(|n: u64| n >= printed);
        assert!(
            kept.lines().count() == 2 && kept.lines().all(right),
            "{policy}: {printed} printed, kept: {kept}"
        );
    }
    Ok(())
}

fn privileged_edited_configuration_is_kept(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for policy in POLICIES {
        let volhook = Volhook::new()?;
        let bundle = built(&volhook, pod("p1", policy).debian().sleeping())?;
        runtime.run_detached(&bundle, "c1")?.success();
        // What useradd changes is made anew beside the old and renamed; the rest is written in place, or linked.
        sh(
            &runtime,
            "c1",
            "useradd --create-home --uid 1234 alice; echo '# edited' >> /etc/profile; chmod 600 /etc/issue
             sed -i s/root:x:/root:y:/ /etc/passwd; ln -sf /usr/share/zoneinfo /etc/localtime; ln /etc/fstab /etc/linked
             rm -r /etc/skel; mkdir /etc/skel; echo new > /etc/skel/new; mv /etc/pam.d /etc/pam.moved",
        )?
        .success();
        recreate(&runtime, &bundle, "c1")?;
        runtime.run_detached(&bundle, "c2")?.success();
        let seen = sh(
            &runtime,
            "c2",
            "id --user alice; stat --format '%n %u' /home/alice; stat --format %a /etc/issue; tail --lines=1 /etc/profile
             head --bytes=7 /etc/passwd; readlink /etc/localtime; stat --format %h /etc/fstab; ls -A /etc/skel
             ls --directory /etc/pam.d /etc/pam.moved/su 2> /dev/null || true",
        )?;
        let expected = "1234\n/home/alice 1234\n600\n# edited\nroot:y:/usr/share/zoneinfo\n2\nnew\n\
                        /etc/pam.moved/su\n";
        assert_eq!(seen.success(), expected, "{policy}");
        runtime.delete_force("c2")?.success();
        // The image is as it was.
        assert!(bundle.rootfs().join("etc/pam.d").is_dir());
    }
    Ok(())
}

fn privileged_an_empty_machine_has_nothing_of_the_image(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = built(&volhook, with_files(pod("p1", "universal,population=empty,set=eight")))?;
    bundle.set_shell("ls -A /etc /opt | grep -E 'taken|stays|from' || true; echo mine > /etc/mine")?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "");
    bundle.renew_rootfs()?;
    bundle.set_shell("cat /etc/mine; ls -A /etc /opt | grep -E 'taken|stays|from' || true")?;
    assert_eq!(runtime.run(&bundle, "c2")?.success(), "mine\n");
    Ok(())
}

/// Bytes that files below a folder take on the disk.
fn taken(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let data = entry.metadata()?;
        sum += data.blocks() * 512 + if data.is_dir() { taken(&entry.path())? } else { 0 };
    }
    Ok(sum)
}

fn privileged_a_machine_is_no_larger_than_it_may_be(kind: RuntimeKind) -> Result<()> {
    const SIZE: u64 = 64 << 20;
    let runtime = Runtime::new(kind)?;
    for population in ["overlay,set=full", "overlay,set=eight", "copy,set=eight"] {
        let volhook = Volhook::new()?;
        let policy = format!("universal,population={population},size=64M");
        let bundle = built(&volhook, pod("p1", &policy).debian().sleeping())?;
        runtime.run_detached(&bundle, "c1")?.success();
        // Also for the file itself there may be no room.
        let full = "No space left on device\n";
        for folder in ["/var", "/home"] {
            let wrote = sh(&runtime, "c1", &format!("head --bytes=100M /dev/zero | cat > {folder}/zeros"))?;
            let said = wrote.failure();
            assert!(said.ends_with(full) && said.lines().count() == 1, "{population}: {folder}: {said}");
        }
        // One image holds all of it, so what one directory took the other one had not.
        let sizes = sh(&runtime, "c1", "sync; cat /var/zeros /home/zeros | wc --bytes")?.success();
        let written: u64 = sizes.trim().parse()?;
        assert!((SIZE / 2..SIZE).contains(&written), "{population}: {written}");
        assert!(taken(&volhook.root())? < SIZE + (4 << 20), "{population}: {}", taken(&volhook.root())?);
        assert!(!bundle.rootfs().join("var/zeros").exists() && !bundle.rootfs().join("home/zeros").exists());

        // It is still usable, and what was there is there; for the second file itself there may have been no room.
        sh(&runtime, "c1", "rm /var/zeros; echo note > /etc/note")?.success();
        let there = sh(&runtime, "c1", "ls /var /home")?.success();
        recreate(&runtime, &bundle, "c1")?;
        runtime.run_detached(&bundle, "c2")?.success();
        assert_eq!(sh(&runtime, "c2", "ls /var /home")?.success(), there, "{population}");
        sh(&runtime, "c2", "rm -f /home/zeros")?.success();
        assert_eq!(sh(&runtime, "c2", "cat /etc/note")?.success(), "note\n");
        runtime.delete_force("c2")?.success();
    }
    Ok(())
}

fn privileged_an_image_that_does_not_fit_is_refused(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let builder = pod("p1", "universal,population=copy,size=32M").file("/opt/large", &"x".repeat(40 << 20));
    let bundle = built(&volhook, builder.shell("echo started"))?;
    let before = HostSnapshot::take()?.below([volhook.folder(), bundle.path()]);
    let text = refusal(&volhook, &runtime, &bundle, "c1")?;
    assert_contains(&text, "p1");
    assert_eq!(leases(&volhook)?, []);
    assert_contains(&text, "volhook pod resize p1");
    assert_eq!(volumes(&volhook)?, ["vol-p1-storage"], "half a copy is left");
    before.assert_restored(&[volhook.folder(), bundle.path()])?;

    volhook.run(&["pod", "resize", "p1", "128M"])?.success();
    assert_eq!(runtime.run(&bundle, "c2")?.success(), "started\n");
    Ok(())
}

fn privileged_two_containers_share_a_copy(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for policy in ["universal,population=copy", "universal,population=copy,set=eight,size=64M"] {
        let volhook = Volhook::new()?;
        let bundles = [
            built(&volhook, with_files(pod("p1", policy)).sleeping())?,
            built(&volhook, with_files(pod("p1", policy)).sleeping())?,
        ];
        runtime.run_detached(&bundles[0], "c1")?.success();
        runtime.run_detached(&bundles[1], "c2")?.success();
        sh(&runtime, "c1", "echo one > /var/one; rm /etc/taken")?.success();
        let seen = sh(&runtime, "c2", "cat /var/one /etc/stays; test ! -e /etc/taken; echo two > /home/two")?;
        assert_eq!(seen.success(), format!("one\n{IMAGE_HAS}"), "{policy}");
        assert_eq!(sh(&runtime, "c1", "cat /home/two")?.success(), "two\n", "{policy}");
        // The first one's end takes nothing from the second.
        runtime.delete_force("c1")?.success();
        assert_eq!(sh(&runtime, "c2", "cat /var/one; echo x > /srv/x; cat /srv/x")?.success(), "one\nx\n");
        runtime.delete_force("c2")?.success();
        assert_eq!(leases(&volhook)?, []);
    }
    Ok(())
}

fn privileged_two_containers_do_not_share_an_overlay(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for policy in ["", "universal,set=eight", "universal,size=64M"] {
        let volhook = Volhook::new()?;
        let (first, second) = (
            built(&volhook, pod("p1", policy).sleeping())?,
            built(&volhook, pod("p1", policy).shell("echo started"))?,
        );
        runtime.run_detached(&first, "c1")?.success();
        sh(&runtime, "c1", "echo mine > /var/note")?.success();
        let held = leases(&volhook)?;
        let text = refusal(&volhook, &runtime, &second, "c2")?;
        assert_contains(&text, "population=copy");
        assert_contains(&text, "\"c1\"");
        assert_eq!(leases(&volhook)?, held, "{policy}");
        assert_eq!(sh(&runtime, "c1", "cat /var/note; echo x > /etc/x; cat /etc/x")?.success(), "mine\nx\n");
        // Another pod does not mind.
        let other = built(&volhook, pod("p2", policy).shell("ls /var/note 2>/dev/null || echo another"))?;
        assert_eq!(runtime.run(&other, "c3")?.success(), "another\n");
        runtime.delete_force("c1")?.success();
        assert_eq!(runtime.run(&second, "c2")?.success(), "started\n");
    }
    Ok(())
}

fn privileged_a_machine_in_a_user_namespace(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    let shifted = |volhook: &Volhook, policy| {
        built(volhook, with_files(pod("p1", policy)).user_namespace(100_000, 65_536))
    };
    // On the host the image's files belong to others than in the pod.
    let volhook = Volhook::new()?;
    let bundle = shifted(&volhook, "universal,population=copy")?;
    let text = refusal(&volhook, &runtime, &bundle, "c1")?;
    assert_contains(&text, "user namespace");
    assert_contains(&text, "population=overlay");
    for policy in ["", "universal,population=overlay,size=64M"] {
        let volhook = Volhook::new()?;
        let bundle = shifted(&volhook, policy)?;
        let look = "stat -c '%n %u %g' /etc /etc/stays /etc/mine /opt/from; cat /etc/mine";
        bundle
            .set_shell(&format!("echo mine > /etc/mine; chown 7:8 /etc/mine; echo x >> /opt/from; {look}"))?;
        let expected = "/etc 0 0\n/etc/stays 0 0\n/etc/mine 7 8\n/opt/from 0 0\nmine\n";
        assert_eq!(runtime.run(&bundle, "c1")?.success(), expected, "{policy}");
        bundle.renew_rootfs()?;
        bundle.set_shell(look)?;
        assert_eq!(runtime.run(&bundle, "c2")?.success(), expected, "{policy}");
    }
    Ok(())
}
