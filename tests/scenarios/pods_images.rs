//! Pods on images and specs that are not plain: what engines mount, overlays below overlays, files where directories
//! should be.

use crate::assert_contains;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use crate::pods::built;
use crate::pods::pod;
use crate::pods::refusal;
use crate::pods::sh;
use anyhow::Result;
use anyhow::ensure;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::HostSnapshot;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_what_the_engine_binds_stays_on_top,
    privileged_an_anonymous_volume_gives_way,
    privileged_a_database_in_an_image_s_volume_keeps_its_rows,
    privileged_an_overlay_on_an_engines_overlay,
    privileged_a_third_overlay_becomes_a_copy,
    privileged_links_and_files_in_place_of_directories,
);

/// Every kind of machine.
const POLICIES: [&str; 4] = [
    "",
    "universal,set=eight",
    "universal,population=copy",
    "universal,population=overlay,set=eight,size=64M",
];

fn privileged_what_the_engine_binds_stays_on_top(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    let engine = tempfile::tempdir()?;
    let resolv = engine.path().join("resolv.conf");
    fs::write(&resolv, "nameserver 192.0.2.1\n")?;
    let secrets = engine.path().join("secrets");
    fs::create_dir(&secrets)?;
    fs::write(secrets.join("token"), "secret\n")?;
    // In Debian /var/run leads to /run, which no machine keeps; in the other one it is a directory of /var.
    for (policy, debian) in POLICIES.into_iter().map(|policy| (policy, false)).chain([("", true)]) {
        let volhook = Volhook::new()?;
        let bundle = built(
            &volhook,
            if debian { pod("p1", policy).debian() } else { pod("p1", policy) }
                .file("/etc/resolv.conf", "of the image\n")
                .bind(&resolv, "/etc/resolv.conf", &["ro"])
                .bind(&secrets, "/var/run/secrets", &["ro"])
                .shell(
                    "cat /etc/resolv.conf /var/run/secrets/token
                     for f in /var/run/secrets/x /etc/resolv.conf; do (echo x >> $f) 2> /dev/null || echo read-only; done
                     echo x >> /etc/count; echo x >> /var/count; cat /etc/count /var/count",
                ),
        )?;
        for count in 1..=3 {
            let seen = runtime.run(&bundle, "c1")?.success();
            let counted = "x\n".repeat(count * 2);
            assert_eq!(
                seen,
                format!("nameserver 192.0.2.1\nsecret\nread-only\nread-only\n{counted}"),
                "{policy}"
            );
            bundle.renew_rootfs()?;
        }
        assert_eq!(fs::read_dir(&secrets)?.count(), 1);
        assert_eq!(fs::read_to_string(&resolv)?, "nameserver 192.0.2.1\n");
    }
    Ok(())
}

fn privileged_an_anonymous_volume_gives_way(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for policy in POLICIES {
        let volhook = Volhook::new()?;
        let engine = tempfile::tempdir()?;
        let named = engine.path().join("volumes/mine/_data");
        fs::create_dir_all(&named)?;
        // Each container gets an anonymous volume with a name of its own.
        let container = |digit: &str, script: &str| -> Result<(Bundle, PathBuf)> {
            let anonymous = engine.path().join("volumes").join(digit.repeat(64)).join("_data");
            fs::create_dir_all(&anonymous)?;
            let builder = pod("p1", policy)
                .file("/var/lib/db/initial", "of the image\n")
                .bind(&anonymous, "/var/lib/db", &[])
                .bind(&named, "/var/lib/mine", &[])
                .shell(script);
            Ok((built(&volhook, builder)?, anonymous))
        };
        let (first, first_volume) = container(
            "a",
            "echo row > /var/lib/db/table; sync; echo note > /var/lib/mine/note; cat /var/lib/db/initial",
        )?;
        assert_eq!(runtime.run(&first, "c1")?.success(), "of the image\n", "{policy}");
        let (second, second_volume) = container("b", "cat /var/lib/db/table /var/lib/mine/note")?;
        assert_eq!(runtime.run(&second, "c2")?.success(), "row\nnote\n", "{policy}");
        for volume in [first_volume, second_volume] {
            assert_eq!(fs::read_dir(volume)?.count(), 0, "{policy}: it went into the engine's volume");
        }
        assert_eq!(fs::read_to_string(named.join("note"))?, "note\n", "{policy}");
    }
    Ok(())
}

/// A real one, killed while it has a transaction open, in the directory that its image calls a `VOLUME`.
fn privileged_a_database_in_an_image_s_volume_keeps_its_rows(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for policy in ["", "universal,population=copy,set=eight,size=64M"] {
        let volhook = Volhook::new()?;
        let engine = tempfile::tempdir()?;
        let container = |digit: &str, script: &str| -> Result<Bundle> {
            let anonymous = engine.path().join("volumes").join(digit.repeat(64)).join("_data");
            fs::create_dir_all(&anonymous)?;
            let builder = pod("p1", policy).debian().directory("/var/lib/db");
            built(&volhook, builder.bind(&anonymous, "/var/lib/db", &[]).shell(script))
        };
        let first = container(
            "a",
            "sqlite3 /var/lib/db/rows 'pragma journal_mode = wal; create table rows (x); insert into rows values (1), (2);'
             (echo 'begin; insert into rows values (3);'; sleep 1000) | sqlite3 /var/lib/db/rows",
        )?;
        runtime.run_detached(&first, "c1")?.success();
        let rows = "sqlite3 /var/lib/db/rows 'select count(*) from rows' 2> /dev/null || true";
        let patience = Instant::now() + Duration::from_secs(20);
        while sh(&runtime, "c1", rows)?.success() != "2\n" {
            ensure!(Instant::now() < patience, "the database does not get its rows");
            thread::sleep(Duration::from_millis(50));
        }
        runtime.kill("c1", "KILL")?.success();
        runtime.wait_for("c1", "stopped")?;
        runtime.delete("c1")?.success();
        let second =
            container("b", "sqlite3 /var/lib/db/rows 'pragma integrity_check; select sum(x) from rows'")?;
        assert_eq!(runtime.run(&second, "c2")?.success(), "ok\n3\n", "{policy}");
    }
    Ok(())
}

/// Overlays over a bundle's root filesystem, as engines make them; unmounted when this is dropped.
struct Layers<'a> {
    bundle: &'a Bundle,
    mounts: usize,
}

impl<'a> Layers<'a> {
    /// Puts so many overlays over the root filesystem that the bundle has. Their changes are lost with this, as the
    /// changes in a container are when an engine removes it.
    fn new(bundle: &'a Bundle, count: usize) -> Result<Self> {
        let rootfs = bundle.rootfs();
        let mut layers = Self { bundle, mounts: 0 };
        for number in 0..count {
            let folder = bundle.path().join(format!("layer{number}"));
            for name in ["upper", "work"] {
                fs::create_dir_all(folder.join(name))?;
            }
            let options = format!(
                "lowerdir={},upperdir={},workdir={}",
                rootfs.display(),
                folder.join("upper").display(),
                folder.join("work").display()
            );
            let mount = Command::new("mount")
                .args(["-t", "overlay", "overlay", "-o", &options])
                .arg(&rootfs)
                .output()?;
            ensure!(mount.status.success(), "cannot mount: {mount:?}");
            layers.mounts += 1;
        }
        Ok(layers)
    }

    fn upper(&self) -> PathBuf {
        self.bundle.path().join(format!("layer{}/upper", self.mounts - 1))
    }
}

impl Drop for Layers<'_> {
    fn drop(&mut self) {
        for number in (0..self.mounts).rev() {
            // A container that a failed test left behind keeps it busy.
            let _ = Command::new("umount").arg("--lazy").arg(self.bundle.rootfs()).status();
            let _ = fs::remove_dir_all(self.bundle.path().join(format!("layer{number}")));
        }
    }
}

fn privileged_an_overlay_on_an_engines_overlay(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for policy in ["", "universal,set=eight", "universal,on-no-overlay=refuse", "universal,size=64M"] {
        let volhook = Volhook::new()?;
        let bundle = built(&volhook, pod("p1", policy).file("/etc/stays", "of the image\n").sleeping())?;
        for (id, script) in [
            ("c1", "echo note > /etc/note; echo more >> /etc/stays; touch /opt/x /tmp/gone"),
            (
                "c2",
                "grep note /etc/note; grep more /etc/stays; test -e /opt/x; test ! -e /tmp/gone; touch /tmp/gone",
            ),
        ] {
            let layers = Layers::new(&bundle, 1)?;
            runtime.run_detached(&bundle, id)?.success();
            sh(&runtime, id, script)?.success();
            let upper = layers.upper();
            assert!(upper.join("tmp/gone").exists(), "what is not kept goes into the engine's layer");
            assert!(!upper.join("etc/note").exists() && !upper.join("opt/x").exists(), "{policy}");
            let place = if policy.contains("eight") { "/etc" } else { "/" };
            let count = format!("grep -c '^volhook {place} overlay ' /proc/mounts");
            assert_eq!(sh(&runtime, id, &count)?.success(), "1\n", "{policy}");
            runtime.delete_force(id)?.success();
        }
        assert_eq!(leases(&volhook)?, []);
    }
    Ok(())
}

fn privileged_a_third_overlay_becomes_a_copy(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    let volhook = Volhook::new()?;
    let bundle =
        built(&volhook, pod("p1", "universal,on-no-overlay=copy").file("/etc/stays", "of the image\n"))?;
    for (script, expected) in [
        ("cat /etc/stays; echo note > /etc/note; echo more > /etc/stays", "of the image\n"),
        ("cat /etc/stays /etc/note", "more\nnote\n"),
    ] {
        let _layers = Layers::new(&bundle, 2)?;
        let plan = volhook.command(&["plan"]).arg(bundle.path()).run()?.success();
        // Afterwards the pod is one that has copies.
        if expected == "of the image\n" {
            assert_contains(&plan, "the image is copied, because no overlay can lie over it");
        }
        bundle.set_shell(script)?;
        assert_eq!(runtime.run(&bundle, "c1")?.success(), expected);
    }
    let events = volhook.json(&["events"])?;
    let told = events.as_array().into_iter().flatten().any(|event| {
        event["what"].as_str().is_some_and(|what| what.contains("overlay") && what.contains("cop"))
    });
    assert!(told, "the events do not say that it was copied: {events:#}");

    let refusing = Volhook::new()?;
    let bundle = built(&refusing, pod("p1", "universal,on-no-overlay=refuse").shell("echo started"))?;
    let layers = Layers::new(&bundle, 2)?;
    let text = refusal(&refusing, &runtime, &bundle, "c2")?;
    assert_contains(&text, "overlay");
    assert_contains(&text, "on-no-overlay=copy");
    assert_eq!(leases(&refusing)?, []);
    drop(layers);
    assert_eq!(runtime.run(&bundle, "c3")?.success(), "started\n");
    Ok(())
}

/// What lies in a folder, in order.
fn names(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

/// A machine on it starts, with its other volumes, or is refused with one line that names the directory.
fn privileged_links_and_files_in_place_of_directories(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    let outside = tempfile::tempdir()?;
    fs::create_dir(outside.path().join("etc"))?;
    fs::write(outside.path().join("etc/sentinel"), "the host's\n")?;
    let away = outside.path().join("etc").to_string_lossy().into_owned();
    let up = format!("../../../../../../../..{away}");
    let broken: [fn(BundleBuilder, &str) -> BundleBuilder; 2] =
        [|builder, link| builder.symlink("/etc", link), |builder, content| builder.file("/etc", content)];
    for policy in POLICIES {
        for (breaking, what) in [
            (broken[0], "opt/etc"),
            (broken[0], "/opt/etc"),
            (broken[0], away.as_str()),
            (broken[0], up.as_str()),
            (broken[0], "/etc"),
            (broken[0], "home/../etc"),
            (broken[0], "/proc/1/root/etc"),
            (broken[0], "/"),
            (broken[1], "a file\n"),
        ] {
            let volhook = Volhook::new()?;
            let builder =
                breaking(pod("p1", policy).file("/opt/etc/inside", "x").file("/srv/sub/inside", "x"), what);
            let bundle = built(&volhook, builder)?;
            let roots = [volhook.folder(), bundle.path(), outside.path(), Path::new("/etc")];
            let before = HostSnapshot::take()?.below(roots);
            bundle.set_shell(
                "(echo x > /etc/probe) 2> /dev/null || true; echo note > /home/note; cat /srv/sub/inside",
            )?;
            let output = runtime.run(&bundle, "c1")?;
            if output.status.success() {
                assert_eq!(output.stdout, "x", "{policy}: {what}");
                // Nothing of the machine lies in the container's own files, which go with it.
                bundle.renew_rootfs()?;
                bundle.set_shell("cat /home/note")?;
                assert_eq!(runtime.run(&bundle, "c2")?.success(), "note\n", "{policy}: {what}");
            } else {
                assert_eq!(output.stdout, "", "{policy}: {what}");
                let _ = runtime.delete_force("c1");
                let text = last_refusal(&volhook)?;
                assert_eq!(text.lines().count(), 1, "{text}");
                assert_contains(&text, "/etc");
            }
            assert_eq!(leases(&volhook)?, [], "{policy}: {what}");
            before.assert_restored(&roots)?;
            assert!(!Path::new("/etc/probe").exists(), "{policy}: {what}");
            assert_eq!(names(&outside.path().join("etc"))?, [outside.path().join("etc/sentinel")]);
            assert_eq!(names(outside.path())?, [outside.path().join("etc")]);
        }
    }
    Ok(())
}
