//! The harness itself, on real runtimes: if these fail, no other privileged test means anything.

use anyhow::Result;
use std::fs;
use std::time::Duration;
use volhook_harness::BundleBuilder;
use volhook_harness::DebianPackage;
use volhook_harness::HookEntry;
use volhook_harness::HostSnapshot;
use volhook_harness::Program;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;

#[test]
fn an_output_shows_all_that_was_printed() -> Result<()> {
    let output = Program::new("sh").args(["-c", "echo out; printf err >&2; exit 3"]).run()?;
    assert_eq!(output.to_string(), "out\n------- stderr -------\nerr\n[exit status: 3]\n");
    assert_eq!(output.code(), Some(3));
    let output = Program::new("sh").args(["-c", "kill -9 $$"]).run()?;
    assert_eq!(output.to_string(), "[killed by signal 9]\n");
    let output = Program::new("cat").stdin("{\"a\":1}").run()?;
    assert_eq!(output.clone().json()["a"], 1);
    assert_eq!(output.success(), "{\"a\":1}");
    Ok(())
}

#[test]
#[should_panic(expected = "should have succeeded: sh -c echo why >&2; exit 1\n------- stderr -------\nwhy\n")]
fn a_failed_assertion_shows_it_too() {
    let _ = Program::new("sh").args(["-c", "echo why >&2; exit 1"]).run().unwrap().success();
}

#[test]
fn a_program_gets_nothing_from_the_outside() -> Result<()> {
    let output = Program::new("env").env("A", "b").run()?.success();
    let mut names: Vec<&str> = output.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["A", "PATH"]);
    Ok(())
}

#[test]
fn a_hanging_program_is_killed_and_a_background_one_not_waited_for() -> Result<()> {
    let hanging = Program::new("sleep").arg("100").deadline(Duration::from_millis(50)).run();
    assert!(hanging.unwrap_err().to_string().contains("killed after 50ms: sleep 100"));
    // It would not end before its deadline if the background one were waited for.
    let started = Program::new("sh").args(["-c", "sleep 1000 & echo $!"]).run()?.success();
    Program::new("kill").arg(started.trim()).run()?.success();
    Ok(())
}

/// The message of a start that fails because its hook is killed: what the hook does is in `script`.
fn killed_start(kind: RuntimeKind, script: &str, timeout: u32) -> Result<String> {
    let hook = HookEntry {
        path: "/bin/sh".to_owned(),
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: Some(vec!["PATH=/usr/bin:/bin".to_owned()]),
        timeout: Some(timeout),
    };
    let bundle = BundleBuilder::new().shell("true").hook("prestart", &hook).build()?;
    let runtime = Runtime::new(kind)?;
    let output = runtime.run(&bundle, "c1")?;
    let panic = std::panic::catch_unwind(|| output.success()).expect_err("the start fails");
    Ok(panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

#[test]
fn privileged_who_killed_a_hook_is_told() -> Result<()> {
    for kind in RuntimeKind::ALL {
        let message = killed_start(kind, "kill -9 $$", 30)?;
        assert!(message.contains("(the hook was killed, and not by its runtime"), "{kind}: {message}");
        let message = killed_start(kind, "exec sleep 1000", 1)?;
        assert!(message.contains("(the runtime killed the hook, at the timeout"), "{kind}: {message}");
        let message = killed_start(kind, "exit 1", 30)?;
        assert!(!message.contains("killed"), "{kind}: {message}");
    }
    // A hook's parent is crun.
    let stopped = "kill -STOP $PPID
                   until grep -q '^State:.T' /proc/$PPID/status; do sleep 0.01; done
                   kill -CONT $PPID; exec sleep 1000";
    let message = killed_start(RuntimeKind::Crun, stopped, 60)?;
    assert!(message.contains("(crun killed the hook, because it was itself stopped"), "{message}");
    Ok(())
}

#[test]
fn privileged_a_container_runs_as_described() -> Result<()> {
    for kind in RuntimeKind::ALL {
        let shared = tempfile::tempdir()?;
        let single = shared.path().join("single");
        fs::write(&single, "one file\n")?;
        let bundle = BundleBuilder::new()
            .shell(
                "cat /etc/note /etc/single /link; id -u; echo written > /shared/by-container
                 touch /etc/x 2> /dev/null || echo read-only; exit 7",
            )
            .file("/etc/note", "a note\n")
            .file("/etc/single", "")
            .symlink("/link", "etc/note")
            .directory("/shared")
            .bind(shared.path(), "/shared", &[])
            .bind(&single, "/etc/single", &["ro"])
            .readonly_root()
            .build()?;
        let runtime = Runtime::new(kind)?;
        let output = runtime.run(&bundle, "c1")?;
        assert_eq!(
            output.to_string(),
            "a note\none file\na note\n0\nread-only\n[exit status: 7]\n",
            "with {kind}"
        );
        assert_eq!(fs::read_to_string(shared.path().join("by-container"))?, "written\n");
    }
    Ok(())
}

#[test]
fn privileged_a_container_in_the_background() -> Result<()> {
    for kind in RuntimeKind::ALL {
        let bundle = BundleBuilder::new().shell("echo up; exec sleep 1000").build()?;
        let runtime = Runtime::new(kind)?;
        runtime.run_detached(&bundle, "c1")?.success();
        runtime.wait_for("c1", "running")?;
        assert!(runtime.pid("c1")? > 1);
        assert_eq!(runtime.exec("c1", &["hostname"])?.success(), "volhook\n");
        assert_eq!(runtime.log("c1")?, "up\n");
        runtime.kill("c1", "KILL")?.success();
        runtime.wait_for("c1", "stopped")?;
        runtime.delete("c1")?.success();
        runtime.state("c1")?.failure();
    }
    Ok(())
}

#[test]
fn privileged_created_then_started_and_hooks_are_called() -> Result<()> {
    for kind in RuntimeKind::ALL {
        let seen = tempfile::tempdir()?;
        let hook = |stage: &str| HookEntry {
            path: "/bin/sh".to_owned(),
            args: ["sh", "-c", "cat > $OUT"].map(str::to_owned).to_vec(),
            env: Some(vec![format!("OUT={}", seen.path().join(stage).display()), "PATH=/bin".to_owned()]),
            timeout: Some(10),
        };
        let bundle = BundleBuilder::new()
            .sleeping()
            .annotation("a", "b")
            .hook("prestart", &hook("prestart"))
            .hook("poststop", &hook("poststop"))
            .build()?;
        let runtime = Runtime::new(kind)?;
        runtime.create(&bundle, "c1")?.success();
        let state: serde_json::Value = serde_json::from_slice(&fs::read(seen.path().join("prestart"))?)?;
        assert_eq!((&state["id"], &state["annotations"]["a"]), (&"c1".into(), &"b".into()));
        runtime.wait_for("c1", "created")?;
        runtime.start("c1")?.success();
        runtime.wait_for("c1", "running")?;
        assert!(!seen.path().join("poststop").exists());
        drop(runtime);
        assert!(seen.path().join("poststop").exists(), "{kind} left the container behind");
    }
    Ok(())
}

#[test]
fn privileged_a_user_namespace() -> Result<()> {
    for kind in RuntimeKind::ALL {
        let bundle = BundleBuilder::new()
            .shell("id -u; stat -c %u /etc; head -1 /proc/self/uid_map | tr -s ' '")
            .user_namespace(100_000, 65_536)
            .build()?;
        let runtime = Runtime::new(kind)?;
        assert_eq!(runtime.run(&bundle, "c1")?.success(), "0\n0\n 0 100000 65536\n", "with {kind}");
    }
    Ok(())
}

#[test]
fn privileged_containers_of_one_name_run_at_the_same_time() -> Result<()> {
    for kind in RuntimeKind::ALL {
        let bundles = [BundleBuilder::new().sleeping().build()?, BundleBuilder::new().sleeping().build()?];
        let runtimes = [Runtime::new(kind)?, Runtime::new(kind)?];
        for (runtime, bundle) in runtimes.iter().zip(&bundles) {
            runtime.run_detached(bundle, "c1")?.success();
        }
        assert_ne!(runtimes[0].pid("c1")?, runtimes[1].pid("c1")?);
        runtimes[0].delete_force("c1")?.success();
        runtimes[1].exec("c1", &["true"])?.success();
    }
    Ok(())
}

#[test]
fn privileged_a_snapshot_sees_loop_devices_and_mounts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("image");
    fs::File::create(&image)?.set_len(1 << 20)?;
    let target = folder.path().join("target");
    fs::create_dir(&target)?;
    let before = HostSnapshot::take()?.below([folder.path()]);
    assert!(before.is_empty());
    let device = Program::new("losetup").args(["--find", "--show"]).arg(&image).run()?.success();
    let with_device = HostSnapshot::take()?.below([folder.path()]);
    let difference = before.difference(&with_device).unwrap_or_default();
    assert!(difference.starts_with("+ loop device: /dev/loop"), "{difference}");
    Program::new("losetup").args(["--detach", device.trim()]).run()?.success();
    Program::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&target).run()?.success();
    let with_mount = HostSnapshot::take()?.below([folder.path()]);
    Program::new("umount").arg(&target).run()?.success();
    let difference = before.difference(&with_mount).unwrap_or_default();
    assert!(difference.starts_with("+ mount: ") && difference.contains("target"), "{difference}");
    before.assert_restored(&[folder.path()])?;
    Ok(())
}

/// In the container, with what dpkg thinks of all its files afterwards.
const INSTALL: &str = "dpkg --install /run/package.deb > /dev/null && volhook-hello && dpkg --verify | sort && cat \
                       /var/lib/volhook-hello/configured";

#[test]
fn privileged_a_debian_installs_packages_and_is_renewed() -> Result<()> {
    let package = DebianPackage::hello()?;
    for kind in RuntimeKind::ALL {
        let bundle = BundleBuilder::new()
            .debian()
            .bind(package.path(), "/run/package.deb", &["ro"])
            .file("/usr/bin/tset", "of the bundle")
            .file("/etc/debian_version", "of the bundle")
            .shell(INSTALL)
            .build()?;
        let runtime = Runtime::new(kind)?;
        // dpkg sees files that are not as they were delivered.
        assert_eq!(
            runtime.run(&bundle, "c1")?.success(),
            "volhook-hello 1.0: as delivered\n??5??????   /usr/bin/tset\n??5?????? c /etc/debian_version\n1.0 configure\n",
            "with {kind}"
        );
        assert!(bundle.rootfs().join("usr/bin/volhook-hello").exists());
        bundle.renew_rootfs()?;
        assert!(!bundle.rootfs().join("usr/bin/volhook-hello").exists());
        assert_eq!(fs::read_to_string(bundle.rootfs().join("usr/bin/tset"))?, "of the bundle");
    }
    // Neither has reached the original; nor does what a user namespace needs.
    let runtime = Runtime::new(RuntimeKind::Runc)?;
    let shifted = BundleBuilder::new()
        .debian()
        .bind(package.path(), "/run/package.deb", &["ro"])
        .user_namespace(100_000, 65_536)
        .shell(&format!("{INSTALL} && stat --format '%u %g %a' /usr/bin/passwd /usr/bin/apt"))
        .build()?;
    assert_eq!(
        runtime.run(&shifted, "c2")?.success(),
        "volhook-hello 1.0: as delivered\n1.0 configure\n0 0 4755\n0 0 755\n"
    );
    let last = BundleBuilder::new().debian().shell("dpkg --verify; stat --format %u /usr/bin/apt").build()?;
    assert_eq!(runtime.run(&last, "c3")?.success(), "0\n");
    Ok(())
}
