//! What the built-in drivers give containers: limits, owners, filesystems, memory, the host's directories and devices.

use crate::assert_contains;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::symlink;
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
    privileged_two_containers_share_a_local_volume_with_a_size,
    privileged_whose_the_top_directory_is,
    privileged_every_filesystem_of_block,
    privileged_what_is_deleted_is_given_back_or_kept,
    privileged_a_disk_too_small_gets_no_volume,
    privileged_each_container_has_its_own_memory,
    privileged_granted_directories_of_the_host,
    privileged_a_grant_counts_until_a_planned_spec_is_used,
    privileged_nothing_leads_out_of_a_granted_directory,
    privileged_a_device_belongs_to_one_container,
    privileged_a_device_that_the_host_uses_is_refused,
);

const M: u64 = 1 << 20;

fn bundle(volhook: &Volhook, script: Option<&str>, claim: &str) -> Result<Bundle> {
    let builder = BundleBuilder::new().annotation("dev.volhook.mount.data", claim);
    let bundle = match script {
        Some(script) => builder.shell(script),
        None => builder.sleeping(),
    }
    .build()?;
    volhook.install(&bundle)?.success();
    Ok(bundle)
}

fn host(program: &str, args: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(args).output().with_context(|| format!("cannot run {program}"))?;
    ensure!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

fn privileged_two_containers_share_a_local_volume_with_a_size(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let claim = "source=shared,target=/data,volume-opt=size=16M";
    let (first, second) = (bundle(&volhook, None, claim)?, bundle(&volhook, None, claim)?);
    let runtime = Runtime::new(kind)?;
    runtime.run_detached(&first, "c1")?.success();
    runtime.run_detached(&second, "c2")?.success();
    assert_eq!(leases(&volhook)?.len(), 2);
    let shell = |id: &str, script: &str| runtime.exec(id, &["/bin/sh", "-c", script]);
    shell("c1", "echo hello > /data/note")?.success();
    assert_eq!(shell("c2", "cat /data/note; echo back > /data/note")?.success(), "hello\n");
    assert_eq!(shell("c1", "cat /data/note")?.success(), "back\n");

    let full = shell("c2", "dd if=/dev/zero of=/data/big bs=1M count=64")?;
    assert_contains(&format!("{}{}", full.stdout, full.stderr), "No space left on device");
    let written = shell("c1", "stat -c %s /data/big")?.success().trim().parse::<u64>()?;
    assert!((8 * M..16 * M).contains(&written), "{written} bytes fit");
    assert!(!shell("c1", "dd if=/dev/zero of=/data/more bs=1M count=8")?.status.success());
    runtime.delete_force("c2")?.success();
    shell("c1", "rm /data/big && dd if=/dev/zero of=/data/more bs=1M count=8")?.success();

    let inspected = &volhook.run(&["volume", "inspect", "shared"])?.json()[0];
    assert_eq!(
        (inspected["driver"].as_str(), inspected["format"].as_str(), inspected["limit"].as_u64()),
        (Some("local"), Some("ext4"), Some(16 * M))
    );
    Ok(())
}

fn privileged_whose_the_top_directory_is(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let owned = "volume-opt=uid=1000,volume-opt=gid=100,volume-opt=mode=2770";
    for (name, more) in [
        ("directory", ""),
        ("image", ",volume-opt=size=16M"),
        ("block", ",volume-driver=block,volume-opt=size=16M"),
        ("xfs", ",volume-driver=block,volume-opt=size=300M,volume-opt=fs=xfs"),
        ("btrfs", ",volume-driver=block,volume-opt=size=109M,volume-opt=fs=btrfs"),
        ("memory", ",volume-driver=tmpfs"),
    ] {
        let claim = format!("source={name},target=/data,{owned}{more}");
        let script = "stat -c '%u:%g %a' /data; touch /data/x; stat -c %u:%g /data/x; ls -A /data";
        let bundle = BundleBuilder::new()
            .shell(script)
            .user(1000, 1000)
            .annotation("dev.volhook.mount.data", &claim)
            .build()?;
        volhook.install(&bundle)?.success();
        let seen = runtime.run(&bundle, "c1")?.success();
        assert_eq!(seen, "1000:100 2770\n1000:100\nx\n", "{name}");
    }
    for (option, why) in [("mode=rwx", "invalid mode \"rwx\""), ("uid=-1", "invalid uid \"-1\"")] {
        let refused = volhook.run(&["volume", "create", "v", "-o", option])?;
        assert_contains(&refused.failure(), why);
    }
    Ok(())
}

fn privileged_every_filesystem_of_block(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let before = HostSnapshot::take()?.below([volhook.folder()]);
    for (fs, size, mkfs) in
        [("ext4", "16M", "label=db"), ("xfs", "300M", "label=db"), ("btrfs", "109M", "label=db")]
    {
        let claim = format!(
            "source={fs},target=/data,volume-driver=block,volume-opt=fs={fs},volume-opt=size={size},volume-opt=mkfs={mkfs}"
        );
        let script = "grep ' /data ' /proc/mounts | cut -d ' ' -f 3; ls -A /data; echo x >> /data/count; wc -l < /data/count";
        let twice = bundle(&volhook, Some(script), &claim)?;
        assert_eq!(runtime.run(&twice, "c1")?.success(), format!("{fs}\n1\n"));
        assert_eq!(runtime.run(&twice, "c1")?.success(), format!("{fs}\ncount\n2\n"));
        // Its lock holds as an image's, whatever the filesystem.
        let sleeping = bundle(&volhook, None, &claim)?;
        runtime.run_detached(&sleeping, "c2")?.success();
        assert!(!runtime.run(&twice, "c3")?.status.success());
        assert_contains(&last_refusal(&volhook)?, "is held exclusively by container \"c2\"");
        runtime.kill("c2", "KILL")?.success();
        runtime.wait_for("c2", "stopped")?;
        runtime.delete("c2")?.success();
        assert_eq!(volhook.run(&["volume", "resize", fs, "400M"])?.success(), format!("{fs} 400M\n"));
        let df = bundle(&volhook, Some("df -m /data | tail -n 1"), &claim)?;
        let df = runtime.run(&df, "c4")?.success();
        let size = df.split_whitespace().nth(1).and_then(|size| size.parse::<u64>().ok());
        assert!(size.is_some_and(|size| (300..=400).contains(&size)), "{fs}: {df}");
        assert_eq!(volhook.run(&["volume", "fsck", fs])?.success(), format!("{fs}: clean\n"));
    }
    before.assert_restored(&[volhook.folder()])?;
    for (fs, size, least) in [("ext4", "7M", "8M"), ("xfs", "299M", "300M"), ("btrfs", "108M", "109M")] {
        let args = [
            "volume",
            "create",
            "v",
            "-d",
            "block",
            "-o",
            &format!("fs={fs}"),
            "-o",
            &format!("size={size}"),
        ];
        assert_contains(&volhook.run(&args)?.failure(), &format!("give a size of {least} or more"));
    }
    let refused =
        volhook.run(&["volume", "create", "v", "-d", "block", "-o", "size=16M", "-o", "mkfs=d=/etc"])?;
    let refused = refused.failure();
    assert_contains(&refused, "mkfs setting \"d\" for ext4: it may not be given");
    assert_contains(&refused, "inode-size=128..4096");
    assert_eq!(fs::read_dir(volhook.root().join("staging"))?.count(), 0);
    Ok(())
}

fn privileged_what_is_deleted_is_given_back_or_kept(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    for (discard, kept) in [("true", false), ("false", true)] {
        let claim = format!(
            "source=v{discard},target=/data,volume-driver=block,volume-opt=size=64M,volume-opt=discard={discard}"
        );
        let sleeping = bundle(&volhook, None, &claim)?;
        runtime.run_detached(&sleeping, "c1")?.success();
        let image = volhook.root().join(format!("volumes/default/v{discard}/volume.img"));
        let taken = || anyhow::Ok(fs::metadata(&image)?.blocks() * 512);
        let shell = |script: &str| anyhow::Ok(runtime.exec("c1", &["/bin/sh", "-c", script])?.success());
        shell("dd if=/dev/zero of=/data/big bs=1M count=32 && sync")?;
        assert!(taken()? > 32 * M, "{} bytes taken", taken()?);
        shell("rm /data/big && sync")?;
        let end = Instant::now() + Duration::from_secs(if kept { 1 } else { 10 });
        while Instant::now() < end && taken()? > 8 * M {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(taken()? > 32 * M, kept, "discard={discard}: {} bytes taken", taken()?);
        runtime.delete_force("c1")?.success();
    }
    let args = ["volume", "create", "v", "-d", "block", "-o", "discard=true", "-o", "prealloc=full"];
    assert_contains(&volhook.run(&args)?.failure(), "would give back what prealloc=full has taken");
    Ok(())
}

/// A mount on the host that goes with it.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn privileged_a_disk_too_small_gets_no_volume(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let root = volhook.root();
    fs::create_dir(&root)?;
    host("mount", &["-t", "tmpfs", "-o", "size=128M", "none", text(&root)])?;
    let _mounted = Mounted(root.clone());
    let create = |name: &str, size: &str, prealloc: &str| {
        let (size, prealloc) = (format!("size={size}"), format!("prealloc={prealloc}"));
        volhook.run(&["volume", "create", name, "-d", "block", "-o", &size, "-o", &prealloc])
    };
    create("whole", "32M", "full")?.success();
    let image = root.join("volumes/default/whole/volume.img");
    assert!(fs::metadata(&image)?.blocks() * 512 >= 32 * M, "mkfs has left holes");
    volhook.run(&["volume", "resize", "whole", "36M"])?.success();
    assert!(fs::metadata(&image)?.blocks() * 512 >= 36 * M, "what was added is sparse");
    assert_contains(&volhook.run(&["volume", "resize", "whole", "127M"])?.failure(), "cannot allocate");
    assert_contains(&create("second", "100M", "full")?.failure(), "more than are free");
    assert_contains(&create("second", "129M", "none")?.failure(), "more than the whole filesystem of");
    create("sparse", "48M", "none")?.success();

    let claim =
        "source=second,target=/data,volume-driver=block,volume-opt=size=100M,volume-opt=prealloc=full";
    assert!(!runtime.run(&bundle(&volhook, Some("true"), claim)?, "c1")?.status.success());
    assert_contains(&last_refusal(&volhook)?, "more than are free");
    assert_eq!(fs::read_dir(root.join("staging"))?.count(), 0, "something was left behind");
    assert!(!root.join("volumes/default/second").exists());
    let claim = "source=whole,target=/data";
    let script = "dd if=/dev/zero of=/data/big bs=1M count=20";
    runtime.run(&bundle(&volhook, Some(script), claim)?, "c2")?.success();
    Ok(())
}

fn privileged_each_container_has_its_own_memory(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let claim = "source=scratch,target=/data,volume-driver=tmpfs,volume-opt=size=8M,volume-opt=inodes=100";
    let builder = || {
        BundleBuilder::new()
            .sleeping()
            .annotation("dev.volhook.mount.data", claim)
            .annotation("dev.volhook.mount.part", "source=scratch,target=/part,volume-subpath=sub")
    };
    for (stage, runtime) in [("live", Runtime::new(kind)?), ("spec", volhook.wrapped_runtime(kind)?)] {
        let (first, second) = (builder().build()?, builder().build()?);
        if stage == "live" {
            volhook.install(&first)?.success();
            volhook.install(&second)?.success();
        }
        runtime.run_detached(&first, "c1")?.success();
        runtime.run_detached(&second, "c2")?.success();
        let shell = |id: &str, script: &str| runtime.exec(id, &["/bin/sh", "-c", script]);
        let seen = shell(
            "c1",
            "stat -f -c %T /data; stat -c %a /data; touch /data/sub/x; ls /part; touch /data/mine",
        )?;
        assert_eq!(seen.success(), "tmpfs\n1777\nx\n", "{stage}");
        assert_eq!(shell("c2", "ls /data /part")?.success(), "/data:\nsub\n\n/part:\n", "{stage}");
        let full = shell("c1", "dd if=/dev/zero of=/data/big bs=1M count=16")?;
        assert_contains(&format!("{}{}", full.stdout, full.stderr), "No space left on device");
        assert!(!shell("c2", "for i in $(seq 200); do touch /data/$i || exit 1; done")?.status.success());
        for id in ["c1", "c2"] {
            runtime.delete_force(id)?.success();
        }
        runtime.run_detached(&first, "c3")?.success();
        assert_eq!(shell("c3", "ls /data")?.success(), "sub\n", "{stage}: it outlived its container");
        runtime.delete_force("c3")?.success();
    }
    let inspected = &volhook.run(&["volume", "inspect", "scratch"])?.json()[0];
    assert_eq!((inspected["format"].as_str(), inspected["limit"].as_u64()), (Some("tmpfs"), Some(8 * M)));
    volhook.run(&["volume", "rm", "--force", "scratch"])?.success();
    Ok(())
}

fn privileged_granted_directories_of_the_host(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let folder = tempfile::tempdir()?;
    let granted = folder.path().join("shared");
    fs::create_dir_all(granted.join("a"))?;
    fs::create_dir_all(granted.join("keys"))?;
    fs::write(granted.join("keys/one"), "secret\n")?;
    volhook.configure(&format!(
        "[grants]\npaths = [{:?}, {{ path = {:?}, read_only = true }}]\n",
        text(&granted),
        text(&granted.join("keys"))
    ))?;
    let claim = |name: &str, driver: &str, path: &Path| {
        format!("source={name},target=/data,volume-driver={driver},volume-opt=path={}", path.display())
    };
    for (stage, runtime) in [("live", Runtime::new(kind)?), ("spec", volhook.wrapped_runtime(kind)?)] {
        for driver in ["host", "local"] {
            let claim = claim(&format!("{driver}-a"), driver, &granted.join("a"));
            let writing = BundleBuilder::new()
                .shell("echo hello >> /data/note; cat /data/note")
                .annotation("dev.volhook.mount.data", &claim)
                .build()?;
            if stage == "live" {
                volhook.install(&writing)?.success();
            }
            assert_eq!(runtime.run(&writing, "c1")?.success(), "hello\n", "{stage} {driver}");
            assert_eq!(fs::read_to_string(granted.join("a/note"))?, "hello\n");
            fs::remove_file(granted.join("a/note"))?;
        }
    }
    let runtime = Runtime::new(kind)?;
    let reading = bundle(
        &volhook,
        Some("cat /data/one; touch /data/x 2>/dev/null || echo read-only"),
        &claim("keys", "host", &granted.join("keys")),
    )?;
    assert_eq!(runtime.run(&reading, "c1")?.success(), "secret\nread-only\n");

    let inspected = &volhook.run(&["volume", "inspect", "host-a"])?.json()[0];
    assert_eq!(
        (inspected["format"].as_str(), inspected["mountpoint"].as_str()),
        (Some("directory"), granted.join("a").to_str())
    );
    for (path, why) in [
        (folder.path().to_owned(), "is not granted"),
        (PathBuf::from("/etc"), "is not granted"),
        (granted.join("absent"), "does not exist; make the directory"),
        (granted.join("keys/one"), "is not a directory"),
    ] {
        let refused = bundle(&volhook, Some("true"), &claim("other", "host", &path))?;
        assert!(!runtime.run(&refused, "c2")?.status.success());
        assert_contains(&last_refusal(&volhook)?, why);
    }
    // A grant that is taken back counts at the next start.
    volhook.configure("")?;
    assert!(!runtime.run(&reading, "c3")?.status.success());
    assert_contains(&last_refusal(&volhook)?, "is not granted to tenant \"default\"");

    volhook.run(&["volume", "rm", "--force", "keys", "host-a"])?.success();
    volhook.run(&["trash", "empty", "--force"])?.success();
    assert_eq!(fs::read_to_string(granted.join("keys/one"))?, "secret\n");
    Ok(())
}

fn privileged_a_grant_counts_until_a_planned_spec_is_used(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let folder = tempfile::tempdir()?;
    let granted = |more: &str| {
        volhook.configure(&format!("[grants]\npaths = [{{ path = {:?}{more} }}]\n", text(folder.path())))
    };
    let claim =
        format!("source=v,target=/data,volume-driver=host,volume-opt=path={}", folder.path().display());
    let bundle = BundleBuilder::new()
        .shell("echo written > /data/note")
        .annotation("dev.volhook.mount.data", &claim)
        .build()?;
    let plain = bundle.config()?;
    for (then, why) in [
        (Some(", read_only = true"), "volume \"v\" became read-only while its container started"),
        (Some(", tenants = [\"other\"]"), "is not granted to tenant \"default\""),
        (None, ""),
    ] {
        granted("")?;
        let precreate = volhook.command(&["hook", "precreate"]).directory(bundle.path());
        bundle.write_config(&precreate.stdin(plain.to_string()).run()?.json())?;
        if let Some(then) = then {
            granted(then)?;
        }
        assert_eq!(runtime.run(&bundle, "c1")?.status.success(), then.is_none(), "{why}");
        if !why.is_empty() {
            assert_contains(&last_refusal(&volhook)?, why);
        }
        assert_eq!(folder.path().join("note").exists(), then.is_none());
        assert_eq!(leases(&volhook)?, []);
    }
    Ok(())
}

fn privileged_nothing_leads_out_of_a_granted_directory(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let folder = tempfile::tempdir()?;
    let granted = folder.path().join("shared");
    let secret = folder.path().join("secret");
    fs::create_dir_all(granted.join("a/b"))?;
    fs::create_dir(&secret)?;
    volhook.configure(&format!(
        "[grants]\npaths = [{:?}, {:?}]\n",
        text(&granted),
        text(volhook.folder())
    ))?;
    let claim =
        |path: &Path| format!("source=v,target=/data,volume-driver=host,volume-opt=path={}", path.display());
    for (stage, runtime) in [("live", Runtime::new(kind)?), ("spec", volhook.wrapped_runtime(kind)?)] {
        let writing = BundleBuilder::new()
            .shell("touch /data/x")
            .annotation("dev.volhook.mount.data", &claim(&granted.join("a/b")))
            .build()?;
        if stage == "live" {
            volhook.install(&writing)?.success();
        }
        runtime.run(&writing, "c1")?.success();
        // Somebody who may write there plants a link after the volume was made.
        fs::rename(granted.join("a"), granted.join("was"))?;
        for link in [secret.parent().context("it has one")?, Path::new("../")] {
            symlink(link, granted.join("a"))?;
            assert!(!runtime.run(&writing, "c2")?.status.success());
            assert_contains(&last_refusal(&volhook)?, "passes a symlink below");
            fs::remove_file(granted.join("a"))?;
        }
        fs::rename(granted.join("was"), granted.join("a"))?;
        assert_eq!(fs::read_dir(&secret)?.count(), 0);
    }
    // volhook's own folders are nobody's volume, whatever is granted.
    let runtime = Runtime::new(kind)?;
    for own in
        [volhook.folder().to_owned(), volhook.root(), volhook.root().join("volumes"), volhook.run_dir()]
    {
        let claim = claim(&own).replace("source=v", "source=own");
        assert!(!runtime.run(&bundle(&volhook, Some("true"), &claim)?, "c3")?.status.success());
        assert_contains(&last_refusal(&volhook)?, "which is volhook's own");
    }
    Ok(())
}

/// A loop device of the host's with an ext4 on it, under a name of its own in `/dev`.
struct LoopDevice {
    device: String,
    folder: PathBuf,
}

impl LoopDevice {
    fn new(folder: &Path) -> Result<Self> {
        let file = folder.join("disk");
        fs::File::create(&file)?.set_len(16 * M)?;
        host("mkfs.ext4", &["-q", "-F", text(&file)])?;
        let device = host("losetup", &["--find", "--show", text(&file)])?;
        let name =
            folder.file_name().context("a temporary folder has a name")?.to_string_lossy().replace('.', "");
        let folder = PathBuf::from("/dev").join(format!("volhook-{name}"));
        let made = Self { device, folder };
        fs::create_dir(&made.folder)?;
        symlink(&made.device, made.named())?;
        Ok(made)
    }

    fn named(&self) -> PathBuf {
        self.folder.join("lv")
    }

    fn claim(&self) -> String {
        format!("source=disk,target=/data,volume-driver=device,volume-opt=path={}", self.named().display())
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

fn privileged_a_device_belongs_to_one_container(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let folder = tempfile::tempdir()?;
    let disk = LoopDevice::new(folder.path())?;
    let (first, second) = (bundle(&volhook, None, &disk.claim())?, bundle(&volhook, None, &disk.claim())?);
    assert!(!runtime.run(&first, "c0")?.status.success());
    assert_contains(&last_refusal(&volhook)?, "is not granted to tenant \"default\"");
    volhook.configure(&format!("[grants]\ndevices = [\"{}/*\"]\n", disk.folder.display()))?;

    runtime.run_detached(&first, "c1")?.success();
    runtime.exec("c1", &["/bin/sh", "-c", "echo precious > /data/note"])?.success();
    assert!(!runtime.run(&second, "c2")?.status.success());
    assert_contains(&last_refusal(&volhook)?, "volume \"disk\" is held exclusively by container \"c1\"");
    // Another volume on the same device has no lease in its way; the kernel is.
    let other = disk.claim().replace("source=disk", "source=other");
    assert!(!runtime.run(&bundle(&volhook, None, &other)?, "c2")?.status.success());
    assert_contains(&last_refusal(&volhook)?, "is in use");
    let inspected = &volhook.run(&["volume", "inspect", "disk"])?.json()[0];
    assert_eq!(
        (inspected["format"].as_str(), inspected["device"].as_str()),
        (Some("ext4"), disk.named().to_str())
    );
    assert_eq!(inspected["holders"][0]["sharing"].as_str(), Some("exclusive"));

    // A holder that died unnoticed holds nothing.
    first.edit(|spec| {
        spec["hooks"].as_object_mut().map(|hooks| hooks.remove("poststop"));
    })?;
    runtime.delete_force("c1")?.success();
    runtime.run_detached(&second, "c2")?.success();
    assert_eq!(runtime.exec("c2", &["/bin/cat", "/data/note"])?.success(), "precious\n");
    runtime.kill("c2", "KILL")?.success();
    runtime.wait_for("c2", "stopped")?;
    runtime.delete("c2")?.success();
    assert_eq!(leases(&volhook)?, []);
    volhook.run(&["volume", "rm", "--force", "disk"])?.success();
    volhook.run(&["trash", "empty", "--force"])?.success();
    host("e2fsck", &["-fn", &disk.device])?;
    Ok(())
}

fn privileged_a_device_that_the_host_uses_is_refused(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let folder = tempfile::tempdir()?;
    let disk = LoopDevice::new(folder.path())?;
    volhook.configure(&format!("[grants]\ndevices = [\"{}\", \"/dev/null\"]\n", disk.named().display()))?;
    let sleeping = bundle(&volhook, None, &disk.claim())?;
    let place = folder.path().join("mounted");
    fs::create_dir(&place)?;
    host("mount", &[&disk.device, text(&place)])?;
    {
        let _mounted = Mounted(place.clone());
        assert!(!runtime.run(&sleeping, "c1")?.status.success());
        assert_contains(
            &last_refusal(&volhook)?,
            &format!("is in use: it is mounted on {place:?}; unmount it"),
        );
    }
    // Mount namespaces that other tests made meanwhile have a copy of that mount, as long as they last.
    let patience = Instant::now() + Duration::from_secs(30);
    let mut started = runtime.run_detached(&sleeping, "c1")?;
    while !started.status.success() && Instant::now() < patience {
        assert_contains(&last_refusal(&volhook)?, "is in use");
        thread::sleep(Duration::from_millis(100));
        started = runtime.run_detached(&sleeping, "c1")?;
    }
    started.success();
    runtime.delete_force("c1")?.success();

    // volhook makes no filesystem where there is none.
    host("dd", &["if=/dev/zero", &format!("of={}", disk.device), "bs=1M", "count=16", "conv=fsync"])?;
    assert!(!runtime.run(&sleeping, "c2")?.status.success());
    assert_contains(&last_refusal(&volhook)?, "volhook never formats a device");
    assert!(fs::read(folder.path().join("disk"))?.iter().all(|byte| *byte == 0));

    let null = disk.claim().replace(text(&disk.named()), "/dev/null").replace("source=disk", "source=null");
    assert!(!runtime.run(&bundle(&volhook, None, &null)?, "c3")?.status.success());
    assert_contains(&last_refusal(&volhook)?, "is not a block device");
    Ok(())
}
