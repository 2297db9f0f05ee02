//! The filesystems in images: checked, repaired, made larger and smaller, with containers in the way and without.

use crate::assert_contains;
use crate::leases;
use crate::on_both_runtimes;
use anyhow::Context as _;
use anyhow::Result;
use std::fs;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_an_image_gets_another_size,
    privileged_a_held_image_only_grows,
    privileged_xfs_and_btrfs_grow_under_their_container,
);

const BLOCK: &str = "source=mydb,target=/data,volume-driver=block,volume-opt=size=16M";
const M: u64 = 1 << 20;

fn claiming(volhook: &Volhook) -> Result<Bundle> {
    let bundle = BundleBuilder::new().sleeping().annotation("dev.volhook.mount.x", BLOCK).build()?;
    volhook.install(&bundle)?.success();
    Ok(bundle)
}

/// Limit, size option and file size of `mydb`, which all tell the same.
fn size(volhook: &Volhook) -> Result<u64> {
    let inspected = &volhook.run(&["volume", "inspect", "mydb"])?.json()[0];
    let limit = inspected["limit"].as_u64().context("the volume has a limit")?;
    let option = inspected["options"]["size"].as_str().context("the volume has the option size")?;
    assert_eq!(option, format!("{}M", limit / M));
    let file = fs::metadata(volhook.root().join("volumes/default/mydb/volume.img"))?.len();
    assert_eq!(file, limit);
    Ok(limit)
}

fn kilobytes_inside(runtime: &Runtime, id: &str) -> Result<u64> {
    let df = runtime.exec(id, &["/bin/sh", "-c", "df -k /data | tail -n 1"])?.success();
    Ok(df.split_whitespace().nth(1).context("df tells the size")?.parse()?)
}

fn privileged_an_image_gets_another_size(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = claiming(&volhook)?;
    volhook.run(&["volume", "create", "mydb", "-d", "block", "-o", "size=16M"])?.success();
    for (wanted, least, most) in [("64M", 50 * 1024, 64 * 1024), ("12M", 6 * 1024, 12 * 1024)] {
        assert_eq!(volhook.run(&["volume", "resize", "mydb", wanted])?.success(), format!("mydb {wanted}\n"));
        runtime.run_detached(&bundle, "c1")?.success();
        let inside = kilobytes_inside(&runtime, "c1")?;
        assert!((least..=most).contains(&inside), "{wanted}: {inside} KiB");
        // What is there stays, and nothing appears that was not there.
        let script = "ls -A /data; echo more >> /data/note";
        let listed = runtime.exec("c1", &["/bin/sh", "-c", script])?.success();
        assert!(matches!(listed.as_str(), "" | "note\n"), "{listed:?}");
        runtime.delete_force("c1")?.success();
        assert_eq!(size(&volhook)?, wanted.trim_end_matches('M').parse::<u64>()? * M);
        assert_eq!(volhook.run(&["volume", "fsck", "mydb"])?.success(), "mydb: clean\n");
    }
    for (wanted, code, why) in [
        ("1M", 1, "what is in it needs at least"),
        ("900T", 1, "more than the host's filesystem has"),
        ("0", 2, "must not be 0"),
        ("-5G", 2, ""),
        ("much", 2, "must be a whole number"),
    ] {
        let refused = volhook.run(&["volume", "resize", "mydb", wanted])?;
        assert_eq!(refused.code(), Some(code), "{wanted}");
        assert_contains(&refused.stderr, why);
        assert_eq!(size(&volhook)?, 12 * M);
    }
    let directory = volhook.run(&["volume", "create", "dir"])?.success();
    let refused = volhook.run(&["volume", "resize", directory.trim(), "1G"])?;
    assert_contains(&refused.stderr, "is a directory and has no size of its own");
    assert_eq!(leases(&volhook)?, []);
    let events = volhook.run(&["events"])?.success();
    assert_contains(&events, "to 64M");
    assert_contains(&events, "volhook:resize:");
    Ok(())
}

fn privileged_a_held_image_only_grows(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = claiming(&volhook)?;
    runtime.run_detached(&bundle, "c1")?.success();
    for command in [["volume", "resize", "mydb", "12M"].as_slice(), &["volume", "fsck", "mydb"]] {
        let refused = volhook.run(command)?;
        assert_eq!(refused.code(), Some(1));
        assert_contains(&refused.stderr, "volume \"mydb\" is held by container \"c1\"");
    }
    let before = kilobytes_inside(&runtime, "c1")?;
    let grown = volhook.run(&["volume", "resize", "mydb", "64M"])?;
    if has_sys_resource()? {
        grown.success();
        assert!(kilobytes_inside(&runtime, "c1")? > 3 * before);
        assert_eq!(size(&volhook)?, 64 * M);
    } else {
        assert_eq!(grown.code(), Some(1));
        assert_contains(&grown.stderr, "needs CAP_SYS_RESOURCE");
        assert_eq!(kilobytes_inside(&runtime, "c1")?, before);
    }
    runtime.exec("c1", &["/bin/sh", "-c", "echo written > /data/note"])?.success();
    runtime.delete_force("c1")?.success();
    volhook.run(&["volume", "resize", "mydb", "64M"])?.success();
    assert_eq!(size(&volhook)?, 64 * M);
    assert_eq!(volhook.run(&["volume", "fsck", "mydb"])?.success(), "mydb: clean\n");
    bundle.set_shell("cat /data/note")?;
    assert_eq!(runtime.run(&bundle, "c2")?.success(), "written\n");
    Ok(())
}

fn privileged_xfs_and_btrfs_grow_under_their_container(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    for (fs, size, larger) in [("xfs", "320M", "640M"), ("btrfs", "300M", "640M")] {
        let claim =
            format!("source={fs},target=/data,volume-driver=block,volume-opt=size={size},volume-opt=fs={fs}");
        let bundle = BundleBuilder::new().sleeping().annotation("dev.volhook.mount.x", &claim).build()?;
        volhook.install(&bundle)?.success();
        runtime.run_detached(&bundle, "c1")?.success();
        runtime.exec("c1", &["/bin/sh", "-c", "echo kept > /data/note"])?.success();
        let before = kilobytes_inside(&runtime, "c1")?;
        assert_eq!(volhook.run(&["volume", "resize", fs, larger])?.success(), format!("{fs} {larger}\n"));
        let after = kilobytes_inside(&runtime, "c1")?;
        assert!(after > before * 3 / 2, "{fs}: {before} KiB, then {after} KiB");
        runtime.delete_force("c1")?.success();

        assert_eq!(volhook.run(&["volume", "fsck", fs])?.success(), format!("{fs}: clean\n"));
        let smaller = volhook.run(&["volume", "resize", fs, size])?;
        if fs == "xfs" {
            assert_contains(&smaller.stderr, "an XFS filesystem cannot be made smaller");
        } else {
            assert_eq!(smaller.success(), format!("{fs} {size}\n"));
            let least = volhook.run(&["volume", "resize", fs, "128M"])?;
            assert_contains(&least.stderr, "cannot be made smaller than 256M");
            assert_eq!(volhook.run(&["volume", "fsck", fs])?.success(), format!("{fs}: clean\n"));
            assert_contains(
                &volhook.run(&["volume", "fsck", "--repair", fs])?.stderr,
                "makers of btrfs warn",
            );
        }
        bundle.set_shell("cat /data/note")?;
        assert_eq!(runtime.run(&bundle, "c2")?.success(), "kept\n");
    }
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}

/// Whether this process, and what it starts, may resize a mounted ext4 filesystem (capabilities(7)).
fn has_sys_resource() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let effective =
        status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("a capability set")?;
    Ok(u64::from_str_radix(effective.trim(), 16)? & (1 << 24) != 0)
}

#[test]
fn privileged_damage_is_found_and_mended() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "mydb", "-d", "block", "-o", "size=16M"])?.success();
    let image = volhook.root().join("volumes/default/mydb/volume.img");
    let file = OpenOptions::new().write(true).open(&image)?;
    // The block bitmap of the first group, wherever it is: some block behind the superblock's.
    for block in 3..40 {
        file.write_all_at(&[0xff; 64], block * 4096)?;
    }
    let found = volhook.run(&["volume", "fsck", "mydb"])?;
    assert_eq!(found.code(), Some(1));
    assert_contains(&found.stderr, "has errors");
    assert_contains(&found.stderr, "fsck --repair mydb");
    assert_eq!(volhook.run(&["volume", "fsck", "mydb"])?.code(), Some(1), "checking repairs nothing");
    assert_contains(&volhook.run(&["volume", "fsck", "--repair", "mydb"])?.success(), "mydb: repaired: ");
    assert_eq!(volhook.run(&["volume", "fsck", "mydb"])?.success(), "mydb: clean\n");
    volhook.run(&["volume", "create", "dir"])?.success();
    let refused = volhook.run(&["volume", "fsck", "dir"])?;
    assert_contains(&refused.stderr, "it is a directory of the host's filesystem");
    assert_eq!(volhook.run(&["volume", "fsck", "absent"])?.code(), Some(3));
    Ok(())
}

#[test]
fn privileged_killed_while_it_is_resized_a_volume_is_whole() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "mydb", "-d", "block", "-o", "size=192M"])?.success();
    let note = |place: &str| format!("{}/note", place.trim());
    let place = volhook.run(&["volume", "mount", "mydb"])?.success();
    let content: Vec<u8> = (0..24 * M).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
    fs::write(note(&place), &content)?;
    volhook.run(&["volume", "umount", "mydb"])?.success();
    let (mut killed, mut life) = (0, std::time::Duration::from_millis(10));
    for round in 0..16_u64 {
        let wanted = if round % 2 == 0 { "64M" } else { "192M" };
        let mut resize = std::process::Command::new(volhook.binary());
        resize.args(["volume", "resize", "mydb", wanted]).env_clear().envs(volhook.env());
        let mut resize =
            resize.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn()?;
        std::thread::sleep(life);
        resize.kill()?;
        // Later and later, as far as this host's speed allows.
        if resize.wait()?.success() {
            life = life.mul_f64(0.6);
        } else {
            killed += 1;
            life += std::time::Duration::from_millis(8);
        }
        assert_eq!(volhook.run(&["volume", "fsck", "mydb"])?.success(), "mydb: clean\n", "round {round}");
        let place = volhook.run(&["volume", "mount", "--read-only", "mydb"])?.success();
        assert!(fs::read(note(&place))? == content, "round {round}: the content has changed");
        volhook.run(&["volume", "umount", "mydb"])?.success();
        volhook.run(&["volume", "resize", "mydb", wanted])?.success();
    }
    assert!(killed > 4, "only {killed} of 16 were killed");
    assert_eq!(size(&volhook)?, 192 * M);
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}
