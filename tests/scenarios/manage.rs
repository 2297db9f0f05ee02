//! Volumes that were made before, get other names, or are looked into on the host, with containers in the way.

use crate::assert_contains;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use crate::volumes;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use std::fs;
use std::path::Path;
use std::process::Command;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_what_was_made_before_is_adopted,
    privileged_a_renamed_volume_is_found_by_its_new_name,
    privileged_an_image_is_looked_into_on_the_host,
);

fn claiming(volhook: &Volhook, claim: &str, shell: &str) -> Result<Bundle> {
    let bundle = BundleBuilder::new().shell(shell).annotation("dev.volhook.mount.x", claim).build()?;
    volhook.install(&bundle)?.success();
    Ok(bundle)
}

fn ext4(path: &Path, block_size: &str) -> Result<()> {
    fs::File::create(path)?.set_len(16 << 20)?;
    let made = Command::new("mkfs.ext4").args(["-q", "-F", "-b", block_size]).arg(path).output()?;
    ensure!(made.status.success(), "{made:?}");
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("paths of tests are UTF-8")
}

fn privileged_what_was_made_before_is_adopted(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let old = |name: &str| volhook.folder().join(name);
    fs::create_dir(old("dir"))?;
    fs::write(old("dir").join("note"), "old\n")?;
    ext4(&old("small.img"), "1024")?;
    ext4(&old("legacy.img"), "4096")?;
    let adopt = |args: &[&str], path: &str| -> Result<String> {
        let path = old(path);
        let args: Vec<&str> = ["volume", "adopt"].iter().chain(args).copied().chain([text(&path)?]).collect();
        Ok(volhook
            .command(&args)
            .arg(format!(
                "v-{}",
                path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
            ))
            .run()?
            .success())
    };
    assert_eq!(adopt(&[], "dir")?, "v-dir\n");
    assert_eq!(adopt(&["--label", "from=before"], "small.img")?, "v-small\n");
    assert_eq!(adopt(&["--driver", "local"], "legacy.img")?, "v-legacy\n");
    assert!(!old("dir").exists() && !old("small.img").exists() && !old("legacy.img").exists());
    let shown = volhook.run(&["volume", "ls", "--format", "{{.Name}} {{.Driver}} {{.Limit}} {{.Labels}}"])?;
    assert_eq!(shown.success(), "v-dir local - \nv-legacy local 16M \nv-small block 16M from=before\n");

    let script = "cat /data/note; echo new >> /data/note";
    let dir = claiming(&volhook, "source=v-dir,target=/data", script)?;
    assert_eq!(runtime.run(&dir, "c1")?.success(), "old\n");
    assert_eq!(runtime.run(&dir, "c2")?.success(), "old\nnew\n");
    // Blocks of 1024 bytes need a loop device with such sectors.
    let small = claiming(&volhook, "source=v-small,target=/data", "echo kept > /data/note; cat /data/note")?;
    assert_eq!(runtime.run(&small, "c3")?.success(), "kept\n");
    // An old image of driver local stays an image, and has one holder at a time.
    let legacy = BundleBuilder::new()
        .sleeping()
        .annotation("dev.volhook.mount.x", "source=v-legacy,target=/data")
        .build()?;
    volhook.install(&legacy)?.success();
    runtime.run_detached(&legacy, "c4")?.success();
    assert!(!runtime.run_detached(&legacy, "c5")?.status.success());
    assert_contains(&last_refusal(&volhook)?, "volume \"v-legacy\" is held exclusively by container \"c4\"");
    runtime.delete_force("c4")?.success();

    // In place: a granted directory, and an image with two names.
    fs::create_dir(old("srv"))?;
    fs::write(old("srv").join("note"), "here\n")?;
    ext4(&old("stays.img"), "4096")?;
    let in_place = |path: &str, name: &str| {
        volhook.command(&["volume", "adopt", "--in-place"]).arg(old(path)).arg(name).run()
    };
    assert_contains(&in_place("srv", "srv")?.stderr, "is not granted");
    volhook.configure(&format!("[grants]\npaths = [{:?}]\n", old("srv")))?;
    assert_eq!(in_place("srv", "srv")?.success(), "srv\n");
    assert_eq!(in_place("stays.img", "stays")?.success(), "stays\n");
    let srv = claiming(&volhook, "source=srv,target=/data", "cat /data/note; echo seen > /data/note")?;
    assert_eq!(runtime.run(&srv, "c6")?.success(), "here\n");
    assert_eq!(fs::read_to_string(old("srv").join("note"))?, "seen\n");
    let stays = claiming(&volhook, "source=stays,target=/data", "echo kept > /data/note; cat /data/note")?;
    assert_eq!(runtime.run(&stays, "c7")?.success(), "kept\n");
    assert!(old("stays.img").exists());
    volhook.run(&["volume", "rm", "--force", "srv", "stays"])?.success();
    volhook.run(&["trash", "empty", "--force"])?.success();
    assert!(old("stays.img").exists() && old("srv").join("note").exists());

    let root = volhook.root();
    let refused = volhook.command(&["volume", "adopt"]).arg(root.join("volumes")).arg("x").run()?;
    assert_contains(&refused.stderr, "belongs to volhook's own root");
    let refused = volhook.command(&["volume", "adopt"]).arg(old("absent")).arg("x").run()?;
    assert_contains(&refused.stderr, "No such file or directory");
    Ok(())
}

fn privileged_a_renamed_volume_is_found_by_its_new_name(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let claim = "source=old,target=/data,volume-driver=block,volume-opt=size=16M";
    let bundle = claiming(&volhook, claim, "echo precious > /data/note; sleep 1000")?;
    runtime.run_detached(&bundle, "c1")?.success();
    let held = volhook.run(&["volume", "rename", "old", "new"])?;
    assert_eq!(held.code(), Some(1));
    assert_contains(&held.stderr, "volume \"old\" is held by container \"c1\"");
    runtime.exec("c1", &["/bin/sh", "-c", "while ! [ -s /data/note ]; do sleep 0.01; done"])?.success();
    runtime.delete_force("c1")?.success();
    assert_eq!(volhook.run(&["volume", "rename", "old", "new"])?.success(), "new\n");
    assert_eq!(volumes(&volhook)?, ["new"]);
    let renamed = claiming(&volhook, "source=new,target=/data", "cat /data/note")?;
    assert_eq!(runtime.run(&renamed, "c2")?.success(), "precious\n");
    assert_contains(&volhook.run(&["events"])?.success(), "renamed");
    for (names, code) in [(["new", "../x"], 2), (["absent", "x"], 3), (["new", "new"], 1)] {
        assert_eq!(volhook.run(&["volume", "rename", names[0], names[1]])?.code(), Some(code), "{names:?}");
    }
    assert_eq!((volumes(&volhook)?, leases(&volhook)?), (vec!["new".to_owned()], vec![]));
    Ok(())
}

fn privileged_an_image_is_looked_into_on_the_host(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let claim = "source=mydb,target=/data,volume-driver=block,volume-opt=size=16M";
    let bundle = claiming(
        &volhook,
        claim,
        "[ -e /data/note ] && cat /data/note; echo from the container > /data/note",
    )?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "");
    let mounts = || -> Result<String> { Ok(fs::read_to_string("/proc/self/mountinfo")?) };
    let place = volhook.run(&["volume", "mount", "mydb"])?.success();
    let place = Path::new(place.trim()).to_owned();
    let mounted = mounts()?;
    let line = mounted.lines().find(|line| line.contains(text(&place).unwrap_or_default()));
    assert_contains(line.context("it is mounted")?, "nosuid,nodev");
    assert_eq!(fs::read_to_string(place.join("note"))?, "from the container\n");
    fs::write(place.join("note"), "from the host\n")?;

    // As long as it is mounted nobody gets it, by the kernel's word: the command that mounted it is long gone.
    assert!(!runtime.run(&bundle, "c2")?.status.success());
    assert_contains(
        &last_refusal(&volhook)?,
        "volume \"mydb\" is held exclusively by `volhook volume mount`",
    );
    assert_contains(&volhook.run(&["lease", "ls", "--wide"])?.success(), "its image is mounted on");
    for command in [["volume", "rm", "--force", "mydb"].as_slice(), &["volume", "mount", "mydb"]] {
        let refused = volhook.run(command)?;
        assert_eq!(refused.code(), Some(1));
        assert_contains(&refused.stderr, "`volhook volume umount` gives it back");
    }
    // Something is open there.
    let open = fs::File::open(place.join("note"))?;
    assert_contains(&volhook.run(&["volume", "umount", "mydb"])?.stderr, "cannot unmount");
    drop(open);
    volhook.run(&["volume", "umount", "mydb"])?.success();
    assert_eq!(leases(&volhook)?, []);
    assert!(!place.exists());
    assert_eq!(runtime.run(&bundle, "c3")?.success(), "from the host\n");
    assert_contains(&volhook.run(&["volume", "umount", "mydb"])?.stderr, "is not mounted on the host");

    // Unmounted by hand: whoever needs the volume finds out.
    let by_hand = volhook.folder().join("look");
    fs::create_dir(&by_hand)?;
    let directory = text(&by_hand)?;
    volhook.run(&["volume", "mount", "--read-only", "mydb", directory])?.success();
    assert!(fs::write(by_hand.join("note"), "no").is_err());
    ensure!(Command::new("umount").arg(&by_hand).status()?.success(), "umount failed");
    assert_eq!(runtime.run(&bundle, "c4")?.success(), "from the container\n");

    // Mounted past all leases: the kernel knows.
    volhook.run(&["volume", "mount", "mydb", directory])?.success();
    let holder = leases(&volhook)?.pop().context("a lease")?.1;
    volhook.run(&["lease", "break", "--force", "mydb", &holder])?.success();
    let refused = volhook.run(&["volume", "rm", "--force", "mydb"])?;
    assert_contains(&refused.stderr, "cannot be removed now");
    ensure!(Command::new("umount").arg(&by_hand).status()?.success(), "umount failed");
    volhook.run(&["volume", "rm", "--force", "mydb"])?.success();
    let files = volhook.run(&["volume", "create", "files"])?.success();
    assert_contains(&volhook.run(&["volume", "mount", files.trim()])?.stderr, "its files are in ");
    Ok(())
}
