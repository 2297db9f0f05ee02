//! A state root or run directory on a disk that is full to the last byte: what is held can be given back, and nothing new
//! begins.

use crate::assert_contains;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use crate::volumes;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::HostSnapshot;
use volhook_harness::Output;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_a_full_ext4,
    privileged_a_full_tmpfs,
    privileged_a_full_run_directory,
    privileged_a_run_directory_without_inodes,
);

const EXT4: &str = "export PATH=\"$PATH:/usr/sbin:/sbin\"; truncate -s 16M \"$1.image\"; \
                    mkfs.ext4 -q -F \"$1.image\"; mount -o loop \"$1.image\" \"$1\"";
const NO_SPACE: &str = "No space left on device";
const SLEEP: &str = "exec sleep 1000";
const TMPFS: &str = "mount -t tmpfs -o size=4m volhook-full-disk \"$1\"";
const SMALL: &str = "mount -t tmpfs -o size=64k volhook-full-disk \"$1\"";
const FEW_INODES: &str = "mount -t tmpfs -o nr_inodes=8 volhook-full-disk \"$1\"";

/// So much is left when the first container starts: enough for it, and little that the journal can set aside in advance
/// for containers that are still to come.
const LEFT: u64 = 144 << 10;

/// How many containers may find room in what was set aside in advance.
const MOST: usize = 100;

/// A filesystem that is mounted until this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(script: &str, folder: PathBuf) -> Result<Self> {
        fs::create_dir(&folder).context("cannot make a mount point")?;
        let status = Command::new("sh").args(["-ec", script, "sh"]).arg(&folder).status();
        ensure!(status.context("cannot run sh")?.success(), "cannot mount a small filesystem");
        Ok(Self(folder))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A container that a failed test left behind keeps it busy.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// What takes the room on a disk, in two files.
struct Filler {
    most: PathBuf,
    rest: PathBuf,
}

impl Filler {
    /// Leaves so many bytes.
    fn new(disk: &Path) -> Result<Self> {
        let filler = Self { most: disk.join("most"), rest: disk.join("rest") };
        File::create(&filler.rest)?.write_all(&vec![b'x'; usize::try_from(LEFT)?])?;
        fill(&filler.most)?;
        fs::remove_file(&filler.rest)?;
        Ok(filler)
    }

    fn fill_to_the_last_byte(&self) -> Result<()> {
        fill(&self.rest)
    }

    fn free(&self) -> Result<()> {
        fs::remove_file(&self.most)?;
        Ok(fs::remove_file(&self.rest)?)
    }
}

/// Writes to a file until not one more byte has room.
fn fill(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
    let mut chunk = 64 << 10;
    while chunk > 0 {
        if let Err(error) = file.write_all(&vec![b'x'; chunk]) {
            ensure!(error.kind() == ErrorKind::StorageFull, "cannot fill the disk: {error}");
            // What the filesystem has only promised so far is written, so that it knows what is left.
            file.sync_data()?;
            chunk /= 2;
        }
    }
    Ok(())
}

/// Everything below a folder, by path.
fn everything(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
            found.insert(entry.path());
        }
    }
    Ok(found)
}

fn claiming(volhook: &Volhook, volume: &str, script: &str) -> Result<Bundle> {
    let claim = format!("source={volume},target=/data");
    let bundle = BundleBuilder::new().shell(script).annotation("dev.volhook.mount.x", &claim).build()?;
    volhook.install(&bundle)?.success();
    Ok(bundle)
}

fn held_by(container: &str) -> Vec<(String, String)> {
    vec![("shared".to_owned(), container.to_owned())]
}

fn on_a_full_disk(kind: RuntimeKind, mount: &str) -> Result<()> {
    let volhook = Volhook::new()?;
    let disk = Mounted::new(mount, volhook.root())?;
    let filler = Filler::new(&disk.0)?;
    let runtime = Runtime::new(kind)?;
    let first = claiming(&volhook, "shared", SLEEP)?;
    runtime.run_detached(&first, "c1")?.success();
    filler.fill_to_the_last_byte()?;
    assert_eq!(leases(&volhook)?, held_by("c1"));

    let before = HostSnapshot::take()?;
    let there = everything(&volhook.root())?;
    let assert_refused = |bundle: &Bundle, id: &str, refused: Output| -> Result<()> {
        let stderr = refused.failure();
        if kind == RuntimeKind::Runc {
            assert_contains(&stderr, NO_SPACE);
        }
        assert_contains(&last_refusal(&volhook)?, NO_SPACE);
        assert_contains(&volhook.run(&["explain", id])?.success(), NO_SPACE);
        assert!(runtime.state(id)?.code() != Some(0), "{id} is there");
        assert_eq!(leases(&volhook)?, held_by("c1"));
        assert_eq!(volumes(&volhook)?, ["shared"]);
        assert_eq!(everything(&volhook.root())?, there);
        assert_eq!(fs::read_dir(volhook.run_dir().join("attempts"))?.count(), 1);
        before.assert_restored(&[volhook.folder(), bundle.path()])
    };
    let fresh = claiming(&volhook, "fresh", SLEEP)?;
    assert_refused(&fresh, "c2", runtime.run(&fresh, "c2")?)?;
    // One that needs nothing but a lease starts as long as the journal has room for it.
    let shared = claiming(&volhook, "shared", "exit 0")?;
    let mut started = 0;
    let refused = loop {
        let output = runtime.run(&shared, "c3")?;
        if output.code() != Some(0) {
            break output;
        }
        started += 1;
        ensure!(started < MOST, "containers start on a full disk for ever");
    };
    assert_refused(&shared, "c3", refused)?;

    volhook.run(&["gc"])?.success();
    assert_eq!(leases(&volhook)?, held_by("c1"));
    runtime.delete_force("c1")?.success();
    assert_eq!(leases(&volhook)?, []);
    let events = volhook.json(&["events"])?;
    let kinds: Vec<_> = events.as_array().into_iter().flatten().filter_map(|e| e["kind"].as_str()).collect();
    assert_eq!(kinds.last(), Some(&"released"), "{kinds:?}");
    assert!(!kinds.contains(&"fault"), "{kinds:?}");
    assert_eq!(fs::read_dir(volhook.run_dir().join("attempts"))?.count(), 0);
    assert_eq!(volhook.run(&["journal", "check"])?.success().lines().last(), Some("ok"));

    filler.free()?;
    for (volume, id) in [("shared", "c3"), ("fresh", "c2")] {
        let bundle = claiming(&volhook, volume, SLEEP)?;
        runtime.run_detached(&bundle, id)?.success();
        runtime.exec(id, &["/bin/sh", "-c", "echo hello > /data/greeting"])?.success();
        runtime.delete_force(id)?.success();
    }
    assert_eq!(leases(&volhook)?, []);
    assert_eq!(volumes(&volhook)?, ["fresh", "shared"]);
    assert_eq!(volhook.run(&["journal", "check"])?.success().lines().last(), Some("ok"));
    Ok(())
}

fn privileged_a_full_ext4(kind: RuntimeKind) -> Result<()> {
    on_a_full_disk(kind, EXT4)
}

fn privileged_a_full_tmpfs(kind: RuntimeKind) -> Result<()> {
    on_a_full_disk(kind, TMPFS)
}

/// Makes empty files until there can be no more.
fn use_up_inodes(folder: &Path) -> Result<()> {
    for number in 0.. {
        if let Err(error) = File::create_new(folder.join(number.to_string())) {
            ensure!(error.kind() == ErrorKind::StorageFull, "cannot use up the inodes: {error}");
            break;
        }
    }
    Ok(())
}

fn with_a_full_run_directory(kind: RuntimeKind, mount: &str, fill: fn(&Path) -> Result<()>) -> Result<()> {
    let volhook = Volhook::new()?;
    let disk = Mounted::new(mount, volhook.run_dir())?;
    let runtime = Runtime::new(kind)?;
    for volume in ["dir", "other", "idle"] {
        volhook.run(&["volume", "create", volume])?.success();
    }
    for volume in ["image", "other-image"] {
        volhook.run(&["volume", "create", volume, "-d", "block", "-o", "size=16M"])?.success();
    }
    let claiming = |directory: &str, image: &str, installed: bool| -> Result<Bundle> {
        let bundle = BundleBuilder::new()
            .shell(SLEEP)
            .annotation("dev.volhook.mount.x", &format!("source={directory},target=/dir"))
            .annotation("dev.volhook.mount.y", &format!("source={image},target=/data"))
            .build()?;
        if installed {
            volhook.install(&bundle)?.success();
        }
        Ok(bundle)
    };
    let first = claiming("dir", "image", true)?;
    runtime.run_detached(&first, "c1")?.success();
    let filled = disk.0.join("filled");
    fs::create_dir(&filled)?;
    fill(&filled)?;
    let held = [("dir".to_owned(), "c1".to_owned()), ("image".to_owned(), "c1".to_owned())];
    assert_eq!(leases(&volhook)?, held);

    let before = HostSnapshot::take()?;
    let wrapped = volhook.wrapped_runtime(kind)?;
    for (runtime, id, installed) in [(&runtime, "c2", true), (&wrapped, "c3", false)] {
        let bundle = claiming("other", "other-image", installed)?;
        let stderr = runtime.run(&bundle, id)?.failure();
        if kind == RuntimeKind::Runc {
            assert_contains(&stderr, NO_SPACE);
        }
        assert_contains(&last_refusal(&volhook)?, NO_SPACE);
        assert_contains(&volhook.run(&["explain", id])?.success(), NO_SPACE);
        assert!(runtime.state(id)?.code() != Some(0), "{id} is there");
        assert_eq!(leases(&volhook)?, held);
        assert_eq!(fs::read_dir(volhook.run_dir().join("attempts"))?.count(), 1, "{id} left something");
        before.assert_restored(&[volhook.folder(), bundle.path()])?;
    }
    assert_contains(
        &runtime.exec("c1", &["/bin/sh", "-c", "echo x > /data/x && cat /data/x"])?.success(),
        "x",
    );

    volhook.run(&["volume", "rm", "--force", "idle"])?.success();
    volhook.run(&["gc"])?.success();
    runtime.delete_force("c1")?.success();
    assert_eq!(leases(&volhook)?, []);
    let events = volhook.json(&["events"])?;
    assert!(events.as_array().into_iter().flatten().all(|event| event["kind"] != "fault"), "{events:#}");
    assert_eq!(fs::read_dir(volhook.run_dir().join("attempts"))?.count(), 0);

    fs::remove_dir_all(&filled)?;
    let again = claiming("other", "other-image", true)?;
    runtime.run_detached(&again, "c2")?.success();
    runtime.delete_force("c2")?.success();
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}

fn privileged_a_full_run_directory(kind: RuntimeKind) -> Result<()> {
    with_a_full_run_directory(kind, SMALL, |folder| fill(&folder.join("most")))
}

fn privileged_a_run_directory_without_inodes(kind: RuntimeKind) -> Result<()> {
    with_a_full_run_directory(kind, FEW_INODES, use_up_inodes)
}
