//! A pod's overlay as its container's root: what is made at `/` is kept, and nothing else of the container changes.

use crate::assert_contains;
use crate::crashes::set_failpoint;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use crate::pods::built;
use crate::pods::pod;
use crate::pods::sh;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use serde_json::json;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::HostSnapshot;
use volhook_harness::Program;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_what_is_made_at_the_top_is_kept,
    privileged_a_container_has_its_own_mounts_as_before,
    privileged_a_user_without_any_privilege_starts,
    privileged_the_top_is_kept_in_a_user_namespace,
    privileged_where_only_folders_can_be_kept_they_are_and_it_is_said,
    privileged_a_process_begins_in_a_folder_that_only_the_pod_has,
    privileged_a_folder_that_the_pod_removed_or_replaced_is_in_nobodys_way,
    privileged_what_goes_wrong_at_last_is_said_and_given_back,
    privileged_a_pod_starts_whatever_it_has_at_the_top,
    privileged_a_pod_starts_whatever_it_has_where_something_is_mounted,
    privileged_what_is_left_out_is_one_remark,
    privileged_a_pod_starts_where_no_place_can_be_made,
    privileged_a_failed_start_takes_nothing_from_others,
    privileged_without_the_waiting_process_no_start,
    privileged_a_container_that_is_never_started_leaves_nothing,
    privileged_an_entry_that_is_left_over_keeps_nobody_from_starting,
    privileged_nothing_of_the_last_step_is_left,
    privileged_a_runtime_that_does_not_pivot,
);

/// A change of a spec.
type Edit = fn(&mut Value);

/// How long something may take that takes milliseconds on a quiet host.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `done` says so.
fn wait_until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !done()? {
        if Instant::now() > end {
            bail!("{what}: not within a minute");
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// The pid of the process that waits for the container's last step, found by the mount namespace that it has open.
fn waiting(runtime: &Runtime, id: &str) -> Result<Option<i32>> {
    let namespace = fs::read_link(format!("/proc/{}/ns/mnt", runtime.pid(id)?))?;
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let is_it = fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "volhook-step\n");
        let Ok(open) = fs::read_dir(path.join("fd")) else { continue };
        let has = |entry: std::io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == namespace))
        };
        if is_it && open.into_iter().any(has) {
            let pid = path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse().ok());
            return Ok(Some(pid.context("a folder of /proc with a name")?));
        }
    }
    Ok(None)
}

fn is_gone(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

/// The remarks about a container.
fn notes(volhook: &Volhook, id: &str) -> Result<Vec<String>> {
    let events = volhook.json(&["events"])?;
    let notes = events.as_array().into_iter().flatten();
    let notes = notes.filter(|event| event["kind"] == "note" && event["container"] == id);
    Ok(notes.map(|event| event["what"].as_str().unwrap_or_default().to_owned()).collect())
}

/// The image, with a folder whose name is no text.
fn renew(bundle: &Bundle) -> Result<()> {
    bundle.renew_rootfs()?;
    with_odd_folder(bundle)
}

fn with_odd_folder(bundle: &Bundle) -> Result<()> {
    Ok(fs::create_dir(bundle.rootfs().join(OsStr::from_bytes(b"odd\xff")))?)
}

fn privileged_what_is_made_at_the_top_is_kept(kind: RuntimeKind) -> Result<()> {
    for wraps in [false, true] {
        let volhook = Volhook::new()?;
        let builder = pod("p1", "").file("/of-image", "image\n").directory("/folder/of-image").sleeping();
        let (runtime, bundle) = match wraps {
            true => (volhook.wrapped_runtime(kind)?, builder.build()?),
            false => (Runtime::new(kind)?, built(&volhook, builder)?),
        };
        with_odd_folder(&bundle)?;
        let before = HostSnapshot::take()?.below([volhook.folder(), bundle.path()]);
        runtime.run_detached(&bundle, "c1")?.success();
        let made =
            "mkdir -p /data/deep; echo deep > /data/deep/file; echo top > /file; rm /of-image; rm -r /folder
                    ln -s /data /link; chmod 711 /; echo odd > \"$(printf '/odd\\377')/file\"
                    echo x > /tmp/x; echo x > /run/x; echo x > /etc/x; stat -c %a /";
        assert_eq!(sh(&runtime, "c1", made)?.success(), "711\n");
        for path in ["data", "file", "link", "etc/x"] {
            let path = bundle.rootfs().join(path);
            assert!(path.symlink_metadata().is_err(), "{} is in the container's own files", path.display());
        }
        assert!(bundle.rootfs().join("of-image").exists() && bundle.rootfs().join("folder").exists());
        runtime.delete_force("c1")?.success();
        assert_eq!(leases(&volhook)?, []);
        before.assert_restored(&[volhook.folder(), bundle.path()])?;

        for id in ["c2", "c3"] {
            renew(&bundle)?;
            runtime.run_detached(&bundle, id)?.success();
            let seen = "cat /data/deep/file /file /etc/x /link/deep/file \"$(printf '/odd\\377')/file\"
                        stat -c %a /; ls -d /of-image /folder /tmp/x /run/x 2> /dev/null || true
                        touch /again; rm /again; mkdir /again; rmdir /again
                        rm -r /data; mkdir -p /data/deep; echo deep > /data/deep/file";
            assert_eq!(
                sh(&runtime, id, seen)?.success(),
                "deep\ntop\nx\ndeep\nodd\n711\n",
                "wrapper: {wraps}"
            );
            let notes = notes(&volhook, id)?.concat();
            assert!(!notes.contains("not kept"), "{notes}");
            runtime.delete_force(id)?.success();
        }
        let story = volhook.run(&["explain", "c2"])?.success();
        assert_contains(&story, "become the container's root");
        assert_eq!(leases(&volhook)?, []);
        before.assert_restored(&[volhook.folder(), bundle.path()])?;
    }
    Ok(())
}

/// A container's mounts by their places, but its root and what the pod has there, and whether they are read-only.
const MOUNTS: &str = "while read -r id parent device root place options rest; do case $place in
    /|/tmp|/run|/etc|/var|/usr|/usr/local|/bin|/home|/root|/srv|/opt|/workspace) ;;
    *) echo $place ${options%%,*};; esac; done < /proc/self/mountinfo | sort";

fn privileged_a_container_has_its_own_mounts_as_before(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let engine = volhook.folder().join("engine");
    fs::create_dir_all(engine.join("nested"))?;
    fs::write(engine.join("resolv.conf"), "of the engine\n")?;
    let with_mounts = |builder: BundleBuilder| {
        builder
            .file("/etc/resolv.conf", "of the image\n")
            .file("/etc/secret/key", "secret\n")
            .file("/srv/fixed/file", "fixed\n")
            .bind(engine.join("resolv.conf"), "/etc/resolv.conf", &["ro"])
            .bind(&engine, "/mnt/engine", &["ro"])
            .mount("/mnt/engine/nested", "tmpfs", "tmpfs", &["nosuid", "size=64k"])
            .mount("/run/secrets", "tmpfs", "tmpfs", &["nosuid", "size=64k"])
            .edit(|spec| {
                spec["linux"]["maskedPaths"] =
                    json!(["/proc/kcore", "/proc/keys", "/sys/firmware", "/etc/secret"]);
                spec["linux"]["readonlyPaths"] = json!(["/proc/sys", "/srv/fixed"]);
            })
            .shell(&format!(
                "{MOUNTS}; head -c 1 /proc/keys | wc -c; ls -A /etc/secret | wc -l; cat /etc/resolv.conf
                 for place in /proc/sys/kernel/hostname /srv/fixed/file /mnt/engine/x; do
                     if ! (echo x > $place) 2> /dev/null; then echo $place stays; fi
                 done; df /run/secrets | tail -n 1 | cut -d ' ' -f 1"
            ))
    };
    let plain = with_mounts(BundleBuilder::new()).build()?;
    let expected = runtime.run(&plain, "plain")?.success();
    assert_contains(&expected, "/proc/keys");
    assert_contains(
        &expected,
        "\n0\n0\nof the engine\n/proc/sys/kernel/hostname stays\n/srv/fixed/file stays\n/mnt/engine/x stays\ntmpfs\n",
    );
    let bundle = built(&volhook, with_mounts(pod("p1", "")))?;
    for id in ["c1", "c2"] {
        assert_eq!(runtime.run(&bundle, id)?.success(), expected, "{id}");
        bundle.renew_rootfs()?;
    }
    Ok(())
}

fn privileged_a_user_without_any_privilege_starts(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let first = built(&volhook, pod("p1", "").shell("echo top > /file; mkdir -m 777 /data"))?;
    runtime.run(&first, "c1")?.success();
    let bare = pod("p1", "").user(1000, 1000).shell("cat /file; id -u; echo x > /data/x; cat /data/x").edit(
        |spec| {
            spec["process"]["capabilities"] = json!({});
            spec["process"]["noNewPrivileges"] = json!(true);
            spec["linux"]["resources"] = json!({"pids": {"limit": 20}});
            let refused = ["mount", "umount2", "pivot_root", "open_tree", "move_mount", "setns", "unshare"];
            spec["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
                "syscalls": [{"names": refused, "action": "SCMP_ACT_ERRNO"}],
            });
        },
    );
    let bundle = built(&volhook, bare)?;
    assert_eq!(runtime.run(&bundle, "c2")?.success(), "top\n1000\nx\n");
    Ok(())
}

fn privileged_the_top_is_kept_in_a_user_namespace(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for policy in ["", "universal,size=64M"] {
        let volhook = Volhook::new()?;
        let bundle = built(&volhook, pod("p1", policy).user_namespace(100_000, 65_536))?;
        let look =
            "stat -c '%n %u %g' / /data /file /data/mine; cat /file; ls -A /dev | grep volhook || true";
        bundle.set_shell(&format!(
            "mkdir /data; echo top > /file; touch /data/mine; chown 7:8 /data/mine /file; {look}"
        ))?;
        let expected = "/ 0 0\n/data 0 0\n/file 7 8\n/data/mine 7 8\ntop\n";
        assert_eq!(runtime.run(&bundle, "c1")?.success(), expected, "{policy}");
        bundle.renew_rootfs()?;
        bundle.set_shell(look)?;
        assert_eq!(runtime.run(&bundle, "c2")?.success(), expected, "{policy}");
    }
    Ok(())
}

fn privileged_where_only_folders_can_be_kept_they_are_and_it_is_said(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let first =
        built(&volhook, pod("p1", "").shell("mkdir /data; echo 0 > /data/n; echo top > /file; rm -r /srv"))?;
    runtime.run(&first, "c1")?.success();

    let count = "echo $(($(cat /data/n) + 1)) > /data/n; cat /data/n; echo x > /srv/x; ls -A /srv; ls /file 2> /dev/null || true";
    let no_entry: Edit = |spec| {
        spec["hooks"].as_object_mut().map(|hooks| hooks.remove("startContainer"));
    };
    let cases: [(&str, Edit, &str); 3] = [
        ("r", |spec| spec["root"]["readonly"] = json!(true), "the container's root is read-only"),
        ("m", |spec| spec["linux"]["rootfsPropagation"] = json!("rslave"), ""),
        ("e", no_entry, "volhook bundle install"),
    ];
    let mut n = 0;
    for (id, edit, why) in cases {
        let bundle = built(&volhook, pod("p1", "").file("/srv/of-image", "x").shell(count))?;
        bundle.edit(edit)?;
        n += 1;
        let top = if why.is_empty() { "/file\n" } else { "" };
        let expected = format!("{n}\nx\n{top}");
        if why.is_empty() {
            bundle.set_shell(&count.replace("echo x > /srv/x", "mkdir -p /srv; echo x > /srv/x"))?;
        }
        assert_eq!(runtime.run(&bundle, id)?.success(), expected, "{id}");
        let notes = notes(&volhook, id)?.concat();
        if why.is_empty() {
            assert!(!notes.contains("not kept"), "{notes}");
        } else {
            assert_contains(&notes, "what is made at / itself is not kept");
            assert_contains(&notes, why);
        }
        let plan = volhook.json(&["plan", &bundle.path().to_string_lossy()])?;
        assert_eq!(plan["root"] == "overlay", why.is_empty(), "{plan:#}");
    }
    // An entry that is written before its spec changes finds its program all the same.
    let bundle = built(&volhook, pod("p1", "").shell("cat /data/n"))?;
    bundle.edit(|spec| spec["root"]["readonly"] = json!(true))?;
    assert_contains(&bundle.config()?.to_string(), "/dev/.volhook/step");
    assert_eq!(runtime.run(&bundle, "late")?.success(), format!("{n}\n"));
    // Installed anew it has none.
    volhook.install(&bundle)?.success();
    assert!(!bundle.config()?.to_string().contains("last-step"));
    assert_eq!(runtime.run(&bundle, "again")?.success(), format!("{n}\n"));
    Ok(())
}

fn privileged_a_process_begins_in_a_folder_that_only_the_pod_has(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = built(&volhook, pod("p1", ""))?;
    let from = |bundle: &Bundle, directory: &str, args: &[&str]| {
        bundle.renew_rootfs()?;
        bundle.edit(|spec| {
            spec["process"]["cwd"] = json!(directory);
            spec["process"]["args"] = json!(args);
        })
    };
    bundle.set_shell("mkdir -p /data/deep; cp /bin/busybox /data/sh; echo top > /file; rm -r /home")?;
    runtime.run(&bundle, "c1")?.success();
    let script = "pwd; ls -A; cat /file; cd ..; pwd";
    from(&bundle, "/data", &["/data/sh", "-c", script])?;
    assert_eq!(runtime.run(&bundle, "c2")?.success(), "/data\ndeep\nsh\ntop\n/\n");
    from(&bundle, "/data/deep", &["/bin/sh", "-c", "echo x > here; pwd; cat /data/deep/here"])?;
    assert_eq!(runtime.run(&bundle, "c3")?.success(), "/data/deep\nx\n");
    // Nobody has it yet: the runtime makes it, in the pod.
    from(&bundle, "/new/deep", &["/bin/sh", "-c", "echo new > here; pwd"])?;
    assert_eq!(runtime.run(&bundle, "c4")?.success(), "/new/deep\n");
    from(&bundle, "/tmp", &["/bin/sh", "-c", "pwd; cat /new/deep/here; ls -A"])?;
    assert_eq!(runtime.run(&bundle, "c5")?.success(), "/tmp\nnew\n");
    from(
        &bundle,
        "/etc",
        &["/bin/sh", "-c", "pwd; echo x > in-etc; cat /etc/in-etc; ls -d /home 2> /dev/null || echo none"],
    )?;
    assert_eq!(runtime.run(&bundle, "c6")?.success(), "/etc\nx\nnone\n");
    Ok(())
}

fn privileged_a_folder_that_the_pod_removed_or_replaced_is_in_nobodys_way(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let first =
        "mkdir /data; mv /home /data/home; ln -s /data/home /home; rm -r /opt; echo x > /opt; rm -r /srv
                 echo mine > /home/mine";
    let bundle = built(&volhook, pod("p1", "").file("/srv/of-image", "x").shell(first))?;
    runtime.run(&bundle, "c1")?.success();
    let look = "cat /home/mine /opt; readlink /home; ls -d /srv 2> /dev/null || echo no /srv";
    for id in ["c2", "c3"] {
        bundle.renew_rootfs()?;
        bundle.set_shell(look)?;
        assert_eq!(runtime.run(&bundle, id)?.success(), "mine\nx\n/data/home\nno /srv\n", "{id}");
    }
    for command in [["pod", "inspect", "p1"].as_slice(), &["pod", "ls"], &["volume", "ls"], &["doctor"]] {
        let output = volhook.run(command)?;
        assert!(!output.stderr.contains("vol-p1"), "{output}");
    }
    // With the folders alone: what is no folder in the pod is not mounted, and what was removed is there again, empty.
    let other = built(
        &volhook,
        pod("p1", "")
            .file("/srv/of-image", "x")
            .shell("cat /data/home/mine; ls -A /srv; echo x > /srv/kept; ls /opt"),
    )?;
    other.edit(|spec| {
        spec["hooks"].as_object_mut().map(|hooks| hooks.remove("startContainer"));
    })?;
    assert_eq!(runtime.run(&other, "f1")?.success(), "mine\n");
    let notes = notes(&volhook, "f1")?;
    for folder in ["/home", "/opt"] {
        let text = format!("not mounted on {folder}: in the pod that is no directory");
        assert!(notes.contains(&text), "{notes:?}");
    }
    bundle.renew_rootfs()?;
    bundle.set_shell("ls /srv; cat /home/mine /opt")?;
    assert_eq!(runtime.run(&bundle, "c4")?.success(), "kept\nmine\nx\n");
    volhook.run(&["pod", "reset", "p1", "--volume", "home", "--force"])?.success();
    bundle.renew_rootfs()?;
    bundle.set_shell("test -d /home; test ! -L /home; cat /opt")?;
    assert_eq!(runtime.run(&bundle, "c5")?.success(), "x\n");
    Ok(())
}

fn privileged_what_goes_wrong_at_last_is_said_and_given_back(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let first = built(&volhook, pod("p1", "").shell("echo mine > /data"))?;
    runtime.run(&first, "c1")?.success();
    // The runtime masks a folder of the image, when hooks are over, where the pod has a file.
    let masked = pod("p1", "").directory("/data").shell("echo started").edit(|spec| {
        spec["linux"]["maskedPaths"] = json!(["/data"]);
    });
    let bundle = built(&volhook, masked)?;
    let refused = runtime.run(&bundle, "c2")?;
    let _ = runtime.delete_force("c2");
    assert!(!refused.status.success() && !refused.stdout.contains("started"), "{refused}");
    assert_contains(&last_refusal(&volhook)?, "the container has a mount at \"/data\"");
    assert_contains(&volhook.run(&["explain", "c2"])?.success(), "the pod something of another kind");
    assert_eq!(leases(&volhook)?, []);
    let third = built(&volhook, pod("p1", "").shell("cat /data"))?;
    assert_eq!(runtime.run(&third, "c3")?.success(), "mine\n");
    Ok(())
}

/// What a user may do at the top of a machine is no reason for it not to start again.
fn privileged_a_pod_starts_whatever_it_has_at_the_top(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("mounted"), "mounted\n")?;
    let image =
        |builder: BundleBuilder| builder.directory("/app").directory("/srv/w").symlink("/work", "/srv/w");
    let first =
        "mv /app /home/app; ln -s /home/app /app; rm -r /srv; ln -s /etc /mnt; mkdir /zz; echo top > /top";
    runtime.run(&built(&volhook, image(pod("p1", "").shell(first)))?, "c1")?.success();
    let starts = |id: &str, builder: BundleBuilder, seen: &str, why: &str| {
        let bundle = built(&volhook, image(builder))?;
        assert_eq!(runtime.run(&bundle, id)?.success(), seen, "{id}");
        let notes = notes(&volhook, id)?.concat();
        assert!(notes.contains(why) && notes.contains("not kept") != why.is_empty(), "{id}: {notes}");
        assert_eq!(leases(&volhook)?, [], "{id}");
        anyhow::Ok(())
    };
    let directory = "the working directory";
    let inside = |path: &'static str, script: &str| {
        pod("p1", "").shell(script).edit(move |spec| spec["process"]["cwd"] = json!(path))
    };
    starts("c2", inside("/app", "pwd; cat /top 2> /dev/null || echo no top"), "/app\nno top\n", directory)?;
    starts("c3", inside("/work", "pwd -P; cat /top"), "/srv/w\ntop\n", "")?;
    starts("c4", inside("/zz", "pwd; cat /top"), "/zz\ntop\n", "")?;
    starts("c5", inside("/lost+found/x", "pwd"), "/lost+found/x\n", directory)?;
    let bound = pod("p1", "").bind(folder.path(), "/mnt", &[]).shell("cat /mnt/mounted; ls -d /zz");
    starts("c6", bound, "mounted\n/zz\n", "a file or link where the container has a mount")?;
    // Nothing can be written into the image, and the runtime made no mount of its own of that kind.
    let odd_dev = pod("p1", "").shell("ls -d /zz").edit(|spec| {
        for mount in spec["mounts"].as_array_mut().into_iter().flatten() {
            if mount["destination"] == "/dev" {
                mount["options"] = json!(["nosuid", "mode=755", "ro"]);
            }
        }
    });
    starts("c7", odd_dev, "/zz\n", "/dev of its own")?;
    Ok(())
}

/// The same for what this start mounts.
fn privileged_a_pod_starts_whatever_it_has_where_something_is_mounted(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = built(&volhook, pod("p1", "").directory("/srv/w"))?;
    fs::remove_dir(bundle.rootfs().join("tmp"))?;
    bundle.set_shell("echo mine > /data; rm -r /srv; ln -s /home /srv; ln -s /var /tmp; echo top > /top")?;
    runtime.run(&bundle, "c1")?.success();
    let mounted: [(&str, &str, bool); 4] = [
        ("c2", "source=d,target=/data", false),
        ("c3", "source=d,target=/srv/w", false),
        ("c4", "", false),
        ("c5", "source=d,target=/opt", true),
    ];
    for (id, claim, is_root) in mounted {
        bundle.renew_rootfs()?;
        // Where the image has no /tmp, the pod's is nobody else's.
        if !claim.is_empty() {
            fs::remove_dir(bundle.rootfs().join("tmp"))?;
        }
        let place = claim.split_once("target=").map_or("/tmp", |(_, place)| place);
        bundle.edit(|spec| {
            spec["annotations"].as_object_mut().map(|all| all.remove("dev.volhook.mount.d"));
            if !claim.is_empty() {
                spec["annotations"]["dev.volhook.mount.d"] = json!(claim);
            }
        })?;
        bundle.set_shell(&format!(
            "echo x > {place}/x; cat {place}/x; test -d {place}; test ! -L {place}; cat /top 2> /dev/null || echo no top"
        ))?;
        let top = if is_root { "top" } else { "no top" };
        assert_eq!(runtime.run(&bundle, id)?.success(), format!("x\n{top}\n"), "{id}");
        let notes = notes(&volhook, id)?.concat();
        assert_eq!(
            notes.contains("a file or link where the container has a mount"),
            !is_root,
            "{id}: {notes}"
        );
        let story = volhook.run(&["explain", id])?.success();
        assert!(is_root || !story.contains("files become the container's root"), "{story}");
        assert_eq!(leases(&volhook)?, [], "{id}");
    }
    Ok(())
}

/// How much is recorded of a start is nobody's choice.
fn privileged_what_is_left_out_is_one_remark(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let image = |builder: BundleBuilder| builder.directory("/app");
    let hostile = "long=$(head -c 200 /dev/zero | tr '\\0' '\\1'); i=0
                   while [ $i -lt 300 ]; do mkdir \"/$i$long\"; i=$((i + 1)); done
                   mv /app /home/app; ln -s /home/app /app";
    runtime.run(&built(&volhook, image(pod("p1", "").shell(hostile)))?, "c1")?.success();
    let again = image(pod("p1", "").shell("echo started"));
    let bundle = built(&volhook, again.edit(|spec| spec["process"]["cwd"] = json!("/app")))?;
    assert_eq!(runtime.run(&bundle, "c2")?.success(), "started\n");
    let notes = notes(&volhook, "c2")?;
    assert!(notes.len() <= 4 && notes.iter().all(|note| note.len() < 1500), "{} remarks", notes.len());
    let left_out: Vec<&String> =
        notes.iter().filter(|note| note.contains("its name is no plain text")).collect();
    assert!(left_out.len() == 1 && left_out[0].contains("300 folders of the pod"), "{notes:?}");
    Ok(())
}

/// A folder whose entries stay what they are (chattr(1)) until this is dropped.
struct Fixed(PathBuf);

impl Fixed {
    fn at(path: PathBuf) -> Result<Self> {
        Program::new("chattr").args(["+i".as_ref(), path.as_os_str()]).run()?.success();
        Ok(Self(path))
    }
}

impl Drop for Fixed {
    fn drop(&mut self) {
        let _ = std::process::Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

fn privileged_a_pod_starts_where_no_place_can_be_made(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let first = built(&volhook, pod("p1", "").shell("mkdir /zz; echo mine > /zz/file; echo top > /top"))?;
    runtime.run(&first, "c1")?.success();
    let bundle = built(&volhook, pod("p1", "").shell("cat /zz/file /top"))?;
    let fixed = Fixed::at(bundle.rootfs())?;
    assert_eq!(runtime.run(&bundle, "c2")?.success(), "mine\ntop\n");
    bundle.edit(|spec| {
        spec["hooks"].as_object_mut().map(|hooks| hooks.remove("startContainer"));
    })?;
    bundle.set_shell("ls -d /zz 2> /dev/null || echo no /zz")?;
    assert_eq!(runtime.run(&bundle, "c3")?.success(), "no /zz\n");
    drop(fixed);
    assert_contains(&notes(&volhook, "c3")?.concat(), "there is no place for it in the image");
    Ok(())
}

/// What it made on the way may be the place of another container's mount by then.
fn privileged_a_failed_start_takes_nothing_from_others(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let failing = built(&volhook, pod("p1", "").shell("mkdir /zz"))?;
    let other = built(&volhook, pod("p2", "").shell("mkdir /zz"))?;
    runtime.run(&failing, "c1")?.success();
    runtime.run(&other, "c2")?.success();
    failing.renew_rootfs()?;
    let shared = failing.rootfs();
    other.edit(|spec| {
        spec["root"]["path"] = json!(shared.to_string_lossy());
        spec["hooks"].as_object_mut().map(|hooks| hooks.remove("startContainer"));
        spec["process"]["args"] = json!(["/bin/sleep", "1000"]);
    })?;
    let paused = volhook.folder().join("paused");
    set_failpoint(
        &failing,
        "prestart",
        Some(&format!("sources-made:pause={},mounted:fail", paused.display())),
    )?;
    thread::scope(|scope| {
        let start = scope.spawn(|| runtime.run(&failing, "c3"));
        let started = wait_until("it comes by its sources", || Ok(paused.exists()))
            .and_then(|()| Ok(runtime.run_detached(&other, "c4")?.success()))
            .and_then(|_| Ok(sh(&runtime, "c4", "echo mine > /zz/file")?.success()));
        fs::remove_file(&paused)?;
        let failed = start.join().map_err(|_| anyhow::anyhow!("the start panicked"))??;
        started?;
        assert!(!failed.status.success(), "{failed}");
        anyhow::Ok(())
    })?;
    assert_contains(&last_refusal(&volhook)?, "\"mounted\"");
    let seen = sh(&runtime, "c4", "cat /zz/file; grep -c ' /zz ' /proc/self/mountinfo")?;
    assert_eq!(seen.success(), "mine\n1\n");
    let _ = runtime.delete_force("c3");
    runtime.delete_force("c4")?.success();
    Ok(())
}

fn privileged_without_the_waiting_process_no_start(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = built(&volhook, pod("p1", "").shell("echo started"))?;
    runtime.create(&bundle, "c1")?.success();
    let pid = waiting(&runtime, "c1")?.context("nobody waits")?;
    Program::new("kill").args(["-9", &pid.to_string()]).run()?.success();
    wait_until("it ends", || Ok(is_gone(pid)))?;
    // A runtime may return before its container's process has ended.
    let _ = runtime.start("c1")?;
    runtime.wait_for("c1", "stopped")?;
    assert_eq!(runtime.log("c1")?, "");
    runtime.delete_force("c1")?.success();
    assert_eq!(leases(&volhook)?, []);
    bundle.renew_rootfs()?;
    assert_eq!(runtime.run(&bundle, "c2")?.success(), "started\n");
    Ok(())
}

fn privileged_a_container_that_is_never_started_leaves_nothing(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = built(&volhook, pod("p1", "").shell("echo started"))?;
    let before = HostSnapshot::take()?.below([volhook.folder(), bundle.path()]);
    for _ in 0..3 {
        runtime.create(&bundle, "c1")?.success();
        let pid = waiting(&runtime, "c1")?.context("nobody waits")?;
        assert_ne!(leases(&volhook)?, []);
        // It has nothing open that somebody could wait for.
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            let to = fs::read_link(entry?.path())?;
            let is_ours = |path: &Path| path.starts_with(volhook.folder()) || path.starts_with(bundle.path());
            assert!(!is_ours(&to) && !to.to_string_lossy().starts_with("pipe:"), "{}", to.display());
        }
        runtime.delete_force("c1")?.success();
        assert_eq!(leases(&volhook)?, []);
        wait_until("the waiting process ends", || Ok(is_gone(pid)))?;
        bundle.renew_rootfs()?;
    }
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "started\n");
    before.assert_restored(&[volhook.folder(), bundle.path()])
}

fn privileged_an_entry_that_is_left_over_keeps_nobody_from_starting(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = built(&volhook, pod("p1", "").shell("echo started"))?;
    let pod_less: Edit = |spec| spec["annotations"] = json!({});
    bundle.edit(pod_less)?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "started\n");
    bundle.edit(|spec| spec["annotations"] = json!({"dev.volhook.mount.x": "source=x,target=/x"}))?;
    assert_eq!(runtime.run(&bundle, "c2")?.success(), "started\n");
    bundle.edit(|spec| {
        spec["annotations"] = json!({"dev.volhook.pod": "p1", "dev.volhook.policy": "universal,set=eight"});
    })?;
    assert_eq!(runtime.run(&bundle, "c3")?.success(), "started\n");
    bundle.edit(pod_less)?;
    volhook.configure("not = [toml")?;
    fs::remove_dir_all(volhook.root())?;
    fs::write(volhook.root(), "no folder")?;
    assert_eq!(runtime.run(&bundle, "c4")?.success(), "started\n");
    let shifted =
        built_broken(&volhook, pod("p1", "").user_namespace(100_000, 65_536).shell("echo started"))?;
    assert_eq!(runtime.run(&shifted, "c5")?.success(), "started\n");
    Ok(())
}

/// A bundle that was a pod's when its entries were written.
fn built_broken(volhook: &Volhook, builder: BundleBuilder) -> Result<Bundle> {
    volhook.configure("")?;
    let bundle = built(volhook, builder)?;
    bundle.edit(|spec| spec["annotations"] = json!({}))?;
    volhook.configure("not = [toml")?;
    Ok(bundle)
}

fn privileged_nothing_of_the_last_step_is_left(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = built(&volhook, pod("p1", "").sleeping())?;
    runtime.create(&bundle, "c1")?.success();
    let pid = waiting(&runtime, "c1")?.context("nobody waits")?;
    runtime.start("c1")?.success();
    runtime.wait_for("c1", "running")?;
    wait_until("the waiting process ends", || Ok(is_gone(pid)))?;
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", runtime.pid("c1")?))?;
    assert!(!mounts.contains("volhook/") && !mounts.contains(".volhook"), "{mounts}");
    let roots = mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/")).collect::<Vec<_>>();
    assert!(roots.len() == 1 && roots[0].contains(" - overlay "), "{mounts}");
    let seen = sh(&runtime, "c1", "ls -A /dev | grep volhook || true; echo x > /x; cat /x; pwd")?;
    assert_eq!(seen.success(), "x\n/\n");
    runtime.delete_force("c1")?.success();
    Ok(())
}

/// It moves the root filesystem over the host's and changes into it.
fn privileged_a_runtime_that_does_not_pivot(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle =
        built(&volhook, pod("p1", "").shell("cat /x 2> /dev/null || true; echo top > /x; echo started"))?;
    let bundle_path = bundle.path().to_string_lossy().into_owned();
    for (id, expected) in [("c1", "started\n"), ("c2", "top\nstarted\n")] {
        let run = ["run", "--no-pivot", "--bundle", &bundle_path, id];
        assert_eq!(runtime.command(run).run()?.success(), expected);
        bundle.renew_rootfs()?;
    }
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}
