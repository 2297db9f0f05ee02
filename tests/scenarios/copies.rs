//! Copies of volumes, and of files into volumes and out of them, with containers in the way and without.

use crate::assert_contains;
use crate::leases;
use crate::on_both_runtimes;
use crate::volumes;
use anyhow::Context as _;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use volhook_harness::BundleBuilder;
use volhook_harness::HostSnapshot;
use volhook_harness::Output;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_a_clone_is_a_volume_of_its_own,
    privileged_what_a_container_holds_exclusively_is_neither_cloned_nor_copied,
    privileged_shared_volumes_are_cloned_and_copied_while_they_are_used,
);

const BLOCK: &str = "source=mydb,target=/data,volume-driver=block,volume-opt=size=16M";

fn privileged_a_clone_is_a_volume_of_its_own(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    for (driver, options, name) in [("block", "volume-opt=size=16M,", "img"), ("local", "", "dir")] {
        let claim = |source: &str| {
            format!(
                "source={source},target=/data,volume-driver={driver},{options}volume-label=a=1,volume-label=b=1"
            )
        };
        let bundle = BundleBuilder::new().annotation("dev.volhook.mount.x", &claim(name)).build()?;
        volhook.install(&bundle)?.success();
        bundle.set_shell("echo precious > /data/note; chmod 600 /data/note; chown 5:6 /data/note")?;
        runtime.run(&bundle, "c1")?.success();
        let copy = format!("{name}-2");
        let cloned = volhook.run(&["volume", "clone", name, &copy, "--label", "b=2"])?;
        assert_eq!(cloned.stderr, "");
        assert_eq!(cloned.success(), format!("{copy}\n"));
        bundle.set_shell("echo changed > /data/note")?;
        runtime.run(&bundle, "c2")?.success();
        let other = BundleBuilder::new().annotation("dev.volhook.mount.x", &claim(&copy)).build()?;
        volhook.install(&other)?.success();
        other.set_shell("cat /data/note; stat -c '%a %u %g' /data/note")?;
        assert_eq!(runtime.run(&other, "c3")?.success(), "precious\n600 5 6\n");
        let inspected = volhook.run(&["volume", "inspect", name, &copy])?.json();
        assert_eq!(inspected[0]["driver"], inspected[1]["driver"]);
        assert_eq!(inspected[0]["options"], inspected[1]["options"]);
        assert_eq!(inspected[1]["labels"], serde_json::json!({"a": "1", "b": "2"}));
        assert_ne!(inspected[0]["uuid"], inspected[1]["uuid"]);
        let again = volhook.run(&["volume", "clone", name, &copy])?;
        assert_eq!(again.code(), Some(1));
        assert_contains(&again.stderr, &format!("volume \"{copy}\" exists already"));
    }
    assert_eq!(volhook.run(&["volume", "clone", "absent", "new"])?.code(), Some(3));
    assert_eq!(leases(&volhook)?, []);
    let events = volhook.run(&["events"])?.success();
    assert_contains(&events, "volhook:clone:");
    Ok(())
}

fn privileged_what_a_container_holds_exclusively_is_neither_cloned_nor_copied(
    kind: RuntimeKind,
) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = BundleBuilder::new().sleeping().annotation("dev.volhook.mount.x", BLOCK).build()?;
    volhook.install(&bundle)?.success();
    runtime.run_detached(&bundle, "c1")?.success();
    let local = volhook.folder().join("local");
    let local = local.to_str().context("a path in UTF-8")?;
    for command in [
        ["volume", "clone", "mydb", "copy"].as_slice(),
        &["volume", "cp", "mydb:/", local],
        &["volume", "cp", "/etc/hostname", "mydb:/"],
    ] {
        let refused = volhook.run(command)?;
        assert_eq!(refused.code(), Some(1), "{refused}");
        assert_contains(&refused.stderr, "volume \"mydb\" is held by container \"c1\"");
        assert_contains(&refused.stderr, "hint: stop that container");
    }
    assert_eq!(volumes(&volhook)?, ["mydb"]);
    assert!(!Path::new(local).exists());
    runtime.delete_force("c1")?.success();
    volhook.run(&["volume", "clone", "mydb", "copy"])?.success();
    Ok(())
}

fn privileged_shared_volumes_are_cloned_and_copied_while_they_are_used(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = BundleBuilder::new()
        .sleeping()
        .annotation("dev.volhook.mount.x", "source=shared,target=/data")
        .build()?;
    volhook.install(&bundle)?.success();
    runtime.run_detached(&bundle, "c1")?.success();
    runtime.exec("c1", &["/bin/sh", "-c", "echo one > /data/note"])?.success();
    let cloned = volhook.run(&["volume", "clone", "shared", "copy"])?;
    assert_contains(&cloned.stderr, "container \"c1\" could write to volume \"shared\" meanwhile");
    assert_eq!(cloned.success(), "copy\n");
    assert_eq!(fs::read_to_string(data(&volhook, "copy").join("note"))?, "one\n");
    let file = volhook.folder().join("file");
    fs::write(&file, "from the host\n")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640))?;
    std::os::unix::fs::chown(&file, Some(1000), Some(1000))?;
    cp(&volhook, &[&text(&file)?, "shared:/note"])?.success();
    let seen = runtime.exec("c1", &["/bin/sh", "-c", "cat /data/note; stat -c '%a %u %g' /data/note"])?;
    assert_eq!(seen.success(), "from the host\n640 0 0\n");
    Ok(())
}

fn cp(volhook: &Volhook, arguments: &[&str]) -> Result<Output> {
    volhook.run(&[&["volume", "cp"], arguments].concat())
}

fn data(volhook: &Volhook, name: &str) -> PathBuf {
    volhook.root().join("volumes/default").join(name).join("data")
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context("a path in UTF-8")
}

/// Both kinds of volumes, and a folder of the host with files in it.
fn with_files() -> Result<(Volhook, PathBuf)> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "dir"])?.success();
    volhook.run(&["volume", "create", "img", "-d", "block", "-o", "size=32M"])?.success();
    let host = volhook.folder().join("host");
    fs::create_dir_all(host.join("src/sub"))?;
    fs::write(host.join("src/file"), "file")?;
    fs::write(host.join("src/sub/inner"), "inner")?;
    Ok((volhook, host))
}

/// What docker's documentation of `docker cp` says, rule by rule.
#[test]
fn privileged_files_are_copied_by_dockers_rules() -> Result<()> {
    let (volhook, host) = with_files()?;
    let before = HostSnapshot::take()?;
    let src = text(&host.join("src"))?;
    symlink("src/file", host.join("link"))?;
    let link = text(&host.join("link"))?;
    for volume in ["dir", "img"] {
        let at = |path: &str| format!("{volume}:{path}");
        let out = host.join(volume);
        let shown = |path: &str| -> Result<String> {
            let _ = if out.is_dir() { fs::remove_dir_all(&out) } else { fs::remove_file(&out) };
            cp(&volhook, &[&at(path), &text(&out)?])?.success();
            if out.is_file() {
                return Ok(fs::read_to_string(&out)?);
            }
            let mut names = Vec::new();
            let mut waiting = vec![out.clone()];
            while let Some(folder) = waiting.pop() {
                for entry in fs::read_dir(folder)? {
                    let path = entry?.path();
                    names.push(text(path.strip_prefix(&out)?)?);
                    waiting.extend(path.is_dir().then_some(path));
                }
            }
            names.sort();
            Ok(names.join(" "))
        };
        // A file: to a name, into a directory, over a file; not to what should be a directory and is not there.
        cp(&volhook, &[&format!("{src}/file"), &at("/new")])?.success();
        assert_eq!(shown("/new")?, "file");
        let missing = cp(&volhook, &[&format!("{src}/file"), &at("/absent/")])?;
        assert_eq!(missing.code(), Some(1));
        assert_contains(&missing.stderr, "must exist");
        cp(&volhook, &[&format!("{src}/sub/inner"), &at("new")])?.success();
        assert_eq!(shown("new")?, "inner");
        cp(&volhook, &[&format!("{src}/file"), &at("")])?.success();
        assert_eq!(shown("/")?, "file new");
        // A directory: made under the name, put into one that is there, only its content with /.
        cp(&volhook, &[&src, &at("/made/")])?.success();
        assert_eq!(shown("/made")?, "file sub sub/inner");
        cp(&volhook, &[&src, &at("/made")])?.success();
        assert_eq!(shown("/made/src")?, "file sub sub/inner");
        cp(&volhook, &[&format!("{src}/sub/."), &at("/made")])?.success();
        assert_eq!(shown("/made/.")?, "file inner src src/file src/sub src/sub/inner sub sub/inner");
        let onto_file = cp(&volhook, &[&src, &at("/new")])?;
        assert_contains(&onto_file.stderr, "is a directory and");
        assert_eq!(onto_file.code(), Some(1));
        assert_eq!(cp(&volhook, &[&at("/absent"), &src])?.code(), Some(1));
        assert_eq!(cp(&volhook, &[&at("/new/"), &src])?.code(), Some(1), "a file is no directory");
        // Symlinks are themselves, unless -L says otherwise, and stay inside.
        cp(&volhook, &[&link, &at("/link")])?.success();
        cp(&volhook, &["-L", &link, &at("/followed")])?.success();
        assert_eq!(shown("/followed")?, "file");
        let _ = fs::remove_file(host.join("copied-link"));
        cp(&volhook, &[&at("/link"), &text(&host.join("copied-link"))?])?.success();
        assert_eq!(fs::read_link(host.join("copied-link"))?, Path::new("src/file"));
        assert_eq!(leases(&volhook)?, []);
    }
    assert_eq!(cp(&volhook, &["dir:/", "img:/"])?.code(), Some(2));
    assert_eq!(cp(&volhook, &["a", "b"])?.code(), Some(2));
    assert_eq!(cp(&volhook, &["absent:/", "b"])?.code(), Some(3));
    before.assert_restored(&[volhook.folder()])
}

#[test]
fn privileged_a_volumes_content_leads_nowhere_and_gives_no_rights() -> Result<()> {
    let (volhook, host) = with_files()?;
    let data = data(&volhook, "dir");
    let secret = host.join("secret");
    fs::write(&secret, "the host's")?;
    symlink(&secret, data.join("file-link"))?;
    symlink(&host, data.join("dir-link"))?;
    symlink("../../../../../../../../etc", data.join("up"))?;
    fs::write(data.join("program"), "#!/bin/sh\n")?;
    fs::set_permissions(data.join("program"), fs::Permissions::from_mode(0o6755))?;
    for (name, arguments) in [("fifo", ["p"].as_slice()), ("device", &["c", "1", "3"])] {
        assert!(Command::new("mknod").arg(data.join(name)).args(arguments).status()?.success());
    }
    let src = text(&host.join("src"))?;
    // Into: not through a symlink that leads out.
    for target in ["dir:/file-link", "dir:/dir-link/new", "dir:/up/passwd"] {
        assert_eq!(cp(&volhook, &[&format!("{src}/file"), target])?.code(), Some(1), "{target}");
    }
    assert_eq!(fs::read_to_string(&secret)?, "the host's");
    assert!(!host.join("new").exists());
    // Out of: what the symlinks point to in the volume, which is nothing.
    for source in ["dir:/dir-link/secret", "dir:/up/passwd"] {
        assert_eq!(cp(&volhook, &[source, &text(&host.join("got"))?])?.code(), Some(1), "{source}");
    }
    assert_eq!(cp(&volhook, &["-L", "dir:/file-link", &text(&host.join("got"))?])?.code(), Some(1));
    assert!(!host.join("got").exists());
    let all = cp(&volhook, &["dir:/", &text(&host.join("out"))?])?;
    assert_contains(&all.stderr, "1 devices were left out; --archive copies them");
    all.success();
    assert_eq!(fs::read_link(host.join("out/file-link"))?, secret);
    assert_eq!(host.join("out/program").metadata()?.mode() & 0o7777, 0o755);
    assert!(!host.join("out/device").exists() && host.join("out/fifo").symlink_metadata().is_ok());
    cp(&volhook, &["-a", "dir:/.", &text(&host.join("out"))?])?.success();
    assert_eq!(host.join("out/program").metadata()?.mode() & 0o7777, 0o6755);
    assert_eq!(host.join("out/device").metadata()?.rdev(), 259);
    Ok(())
}

#[test]
fn privileged_tar_streams_go_in_and_out() -> Result<()> {
    let (volhook, host) = with_files()?;
    let src = text(&host.join("src"))?;
    cp(&volhook, &[&format!("{src}/."), "img:/"])?.success();
    let archive = host.join("out.tar");
    volhook.command(&["volume", "cp", "img:/.", "-"]).log(&archive).run()?.success();
    let listed = Command::new("tar").arg("-tf").arg(&archive).output()?;
    let mut listed: Vec<_> = String::from_utf8(listed.stdout)?.lines().map(str::to_owned).collect();
    listed.sort();
    assert_eq!(listed, ["./", "file", "sub/", "sub/inner"]);
    volhook.command(&["volume", "cp", "-", "dir:/"]).stdin(fs::read(&archive)?).run()?.success();
    assert_eq!(fs::read_to_string(data(&volhook, "dir").join("sub/inner"))?, "inner");
    let into_file = volhook.command(&["volume", "cp", "-", "dir:/file"]).stdin(fs::read(&archive)?).run()?;
    assert_contains(&into_file.stderr, "is no directory to unpack into");
    let broken = volhook.command(&["volume", "cp", "-", "dir:/"]).stdin("no tar at all".repeat(200)).run()?;
    assert_contains(&broken.stderr, "cannot read the archive");
    Ok(())
}

#[test]
fn one_ctrl_c_ends_a_copy_that_waits_for_others() -> Result<()> {
    let (volhook, _host) = with_files()?;
    // Nobody writes into the one, nobody reads from the other.
    for args in [["volume", "cp", "-", "dir:/"], ["volume", "cp", "dir:/", "-"]] {
        fs::write(data(&volhook, "dir").join("large"), vec![7; 1 << 20])?;
        let mut child = Command::new(volhook.binary())
            .envs(volhook.env())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let end = Instant::now() + Duration::from_secs(60);
        while leases(&volhook)?.is_empty() {
            anyhow::ensure!(Instant::now() < end, "{args:?} never began");
        }
        let sent = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status()?;
        assert!(sent.success());
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            anyhow::ensure!(Instant::now() < end, "{args:?} goes on");
            thread::sleep(Duration::from_millis(10));
        };
        // Before it copies a signal does what it always does.
        assert!(status.code() == Some(130) || status.signal() == Some(2), "{args:?}: {status}");
        volhook.run(&["gc"])?.success();
        assert_eq!(leases(&volhook)?, []);
    }
    Ok(())
}

/// A clone that takes long enough to be stopped in its middle.
fn slow_clone(volhook: &Volhook, from: &str) -> Result<Child> {
    let child = Command::new(volhook.binary())
        .envs(volhook.env())
        .args(["volume", "clone", from, "copy"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let staging = volhook.root().join("staging");
    let end = Instant::now() + Duration::from_secs(20);
    // Its content is on its way.
    while !fs::read_dir(&staging).is_ok_and(|folders| {
        folders.flatten().any(|folder| {
            fs::read_dir(folder.path().join("data")).is_ok_and(|mut entries| entries.next().is_some())
                || folder.path().join("volume.img").metadata().is_ok_and(|image| image.blocks() > 2048)
        })
    }) {
        anyhow::ensure!(Instant::now() < end, "the clone never began");
    }
    Ok(child)
}

#[test]
fn privileged_a_stopped_clone_leaves_nothing_half() -> Result<()> {
    let (volhook, _host) = with_files()?;
    let data = data(&volhook, "dir");
    for number in 0..20_000 {
        fs::write(data.join(number.to_string()), "x")?;
    }
    volhook.run(&["volume", "create", "large", "-d", "block", "-o", "size=1G"])?.success();
    let image = volhook.root().join("volumes/default/large/volume.img");
    let content = vec![7; 300 << 20];
    let file = volhook.folder().join("content");
    fs::write(&file, &content)?;
    cp(&volhook, &[&text(&file)?, "large:/"])?.success();
    drop(content);
    assert!(image.metadata()?.blocks() * 512 > 300 << 20);
    let before = HostSnapshot::take()?;
    let staging = volhook.root().join("staging");
    for from in ["dir", "large"] {
        for signal in ["INT", "TERM", "KILL"] {
            let child = slow_clone(&volhook, from)?;
            let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status()?;
            assert!(sent.success(), "the clone was done before it was stopped");
            let output = child.wait_with_output()?;
            let code = match signal {
                "INT" => Some(130),
                "TERM" => Some(143),
                _ => None,
            };
            assert_eq!(output.status.code(), code, "{from} {signal}: {output:?}");
            if code.is_some() {
                assert_contains(&String::from_utf8(output.stderr)?, "interrupted");
                assert_eq!(fs::read_dir(&staging)?.count(), 0, "{from} {signal}");
            }
            assert_eq!(volumes(&volhook)?, ["dir", "img", "large"]);
            // Whoever comes next takes the dead one's lease and clears up behind it.
            volhook.run(&["gc"])?.success();
            assert_eq!(leases(&volhook)?, []);
            let end = Instant::now() + Duration::from_secs(10);
            while fs::read_dir(&staging)?.count() > 0 {
                anyhow::ensure!(Instant::now() < end, "leftovers stay");
                thread::sleep(Duration::from_millis(50));
                volhook.run(&["gc"])?.success();
            }
        }
        volhook.run(&["volume", "clone", from, "copy"])?.success();
        volhook.run(&["volume", "rm", "-f", "copy"])?.success();
    }
    // An image that is being copied out of, too.
    let mut child = Command::new(volhook.binary())
        .envs(volhook.env())
        .args(["volume", "cp", "large:/", "-"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut first = [0; 1];
    std::io::Read::read_exact(child.stdout.as_mut().context("piped")?, &mut first)?;
    assert_eq!(leases(&volhook)?.len(), 1);
    child.kill()?;
    child.wait()?;
    before.assert_restored(&[volhook.folder()])?;
    volhook.run(&["volume", "clone", "large", "copy"])?.success();
    assert_eq!(volhook.run(&["volume", "fsck", "copy"])?.success(), "copy: clean\n");
    Ok(())
}

#[test]
fn privileged_every_filesystem_is_cloned_and_copied_and_what_is_elsewhere_is_told() -> Result<()> {
    let volhook = Volhook::new()?;
    let granted = volhook.folder().join("granted");
    fs::create_dir(&granted)?;
    fs::write(granted.join("file"), "file")?;
    let path = text(&granted)?;
    volhook.configure(&format!("[grants]\npaths = [{{ path = {path:?}, read_only = true }}]\n"))?;
    for (filesystem, size) in [("ext4", "16M"), ("xfs", "320M"), ("btrfs", "128M")] {
        let (size, fs) = (format!("size={size}"), format!("fs={filesystem}"));
        volhook.run(&["volume", "create", filesystem, "-d", "block", "-o", &size, "-o", &fs])?.success();
        cp(&volhook, &[&format!("{path}/file"), &format!("{filesystem}:/")])?.success();
        let copy = format!("{filesystem}-2");
        volhook.run(&["volume", "clone", filesystem, &copy])?.success();
        let out = volhook.folder().join(filesystem);
        cp(&volhook, &[&format!("{copy}:/file"), &text(&out)?])?.success();
        assert_eq!(fs::read_to_string(out)?, "file");
    }
    volhook.run(&["volume", "create", "host", "-d", "host", "-o", &format!("path={path}")])?.success();
    cp(&volhook, &["host:/file", &text(&volhook.folder().join("got"))?])?.success();
    let refused = cp(&volhook, &[&format!("{path}/file"), "host:/new"])?;
    assert_contains(&refused.stderr, "is granted for reading only");
    let refused = volhook.run(&["volume", "clone", "host", "new"])?;
    assert_contains(&refused.stderr, "is not backed by anything that volhook keeps");
    volhook.run(&["volume", "create", "memory", "-d", "tmpfs"])?.success();
    assert_contains(&cp(&volhook, &["memory:/", "."])?.stderr, "is memory");
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}
