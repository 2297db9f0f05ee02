//! Two commands on one volume at once: one of them wins, nobody waits for a lock that the other has, and nothing stays locked.
//!
//! The first is stopped where it has its lease, or its first lock; then the second does what it can.

use crate::plugins::component;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Volhook;

/// Where the first is stopped: with its lease, or as a start with all of its leases.
const HELD: &str = "held:stop,granted:stop";

/// With the lock of the volume's folder as well.
const FOLDER: &str = "folder:stop";

/// So long nothing takes unless something hangs.
const LONG: Duration = Duration::from_secs(60);

/// How long a start that waits for somebody is left waiting.
const WAITING: Duration = Duration::from_millis(150);

/// A container's start.
const START: &str = "start";

/// A volume or pod, and what is done to it.
struct Subject {
    /// What makes it.
    making: fn(&Volhook, &Bundle) -> Result<()>,
    /// What is done to it, as it is typed.
    commands: &'static [&'static str],
    /// What a start claims.
    annotations: &'static [(&'static str, &'static str)],
}

const BLOCK: Subject = Subject {
    making: |volhook, _| {
        let create = ["volume", "create", "v", "-d", "block", "-o", "size=16M"];
        volhook.run(&create)?.success();
        Ok(())
    },
    commands: &[
        "volume rm -f v",
        "volume rename v w",
        "volume resize v 32M",
        "volume clone v c",
        "volume cp FILE v:/f",
        "volume fsck v",
        START,
    ],
    annotations: &[("dev.volhook.mount.v", "source=v,target=/v,volume-driver=block,volume-opt=size=16M")],
};

const POD: Subject = Subject {
    making: |volhook, bundle| {
        let rootfs = bundle.rootfs();
        let prepare = volhook.command(&["pod", "prepare", "p", "--rootfs"]).arg(&rootfs);
        prepare.args(["--policy", "universal,population=copy,size=64M"]).run()?.success();
        Ok(())
    },
    commands: &[
        "pod rm -f p",
        "pod reset -f p",
        "pod reset -f p --volume etc",
        "pod resize p 96M",
        "volume cp FILE vol-p-etc:/f",
        START,
    ],
    annotations: &[("dev.volhook.pod", "p"), ("dev.volhook.policy", "universal,population=copy,size=64M")],
};

#[test]
fn privileged_two_commands_on_one_volume() -> Result<()> {
    each_pair(&BLOCK)
}

#[test]
fn privileged_two_commands_on_one_pod() -> Result<()> {
    each_pair(&POD)
}

/// Plugins have little time for all their calls: who waits for somebody asks them when there is something to decide about.
#[test]
fn privileged_who_waits_asks_no_plugin_again_and_again() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.configure("[record]\ndecisions = true")?;
    let file = volhook.folder().join("readers.wasm");
    fs::write(&file, component::fixture("honest/readers"))?;
    volhook.run(&["plugin", "install", &file.to_string_lossy()])?.success();
    volhook.run(&["volume", "create", "v", "-d", "readers"])?.success();
    let claim = "source=v,target=/v,volume-driver=readers";
    let bundle = BundleBuilder::new().annotation("dev.volhook.mount.v", claim).build()?;
    let recorded = volhook.root().join("decisions/recorded.jsonl");
    let asked = || -> Result<usize> {
        Ok(fs::read_to_string(&recorded)?.lines().filter(|line| line.contains("\"attach\"")).count())
    };

    let mut removing = Running::begin(&volhook, &bundle, "volume rm -f v", Some("held:stop"))?;
    removing.until_stopped()?;
    let mut start = Running::begin(&volhook, &bundle, START, None)?;
    ensure!(!start.until_done(WAITING * 4)?, "it waits for the command that removes its volume");
    ensure!(asked()? <= 1, "asked {} times about the same", asked()?);
    Running::go_on(&mut [&mut removing])?;
    ensure!(start.end()?.status.success());
    ensure!(asked()? <= 4, "asked {} times", asked()?);
    Ok(())
}

/// Containers share a pod's storage, and it is resized while they have it, which may take seconds.
#[test]
fn privileged_a_start_that_follows_its_image_waits_for_who_resizes_the_pod() -> Result<()> {
    let volhook = Volhook::new()?;
    let policy = "universal,population=copy,size=64M,on-image-change=follow";
    let packages = "/var/lib/dpkg/status";
    let bundle = BundleBuilder::new()
        .annotation("dev.volhook.pod", "p")
        .annotation("dev.volhook.policy", policy)
        .file(packages, "Package: one\n")
        .build()?;
    let start = || Running::begin(&volhook, &bundle, START, None);
    let succeeded = |running: Running| -> Result<()> {
        let output = running.end()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    succeeded(start()?)?;
    let image = || -> Result<Value> {
        let inspected: Value = serde_json::from_str(&volhook.run(&["pod", "inspect", "p"])?.success())?;
        Ok(inspected[0]["image"].clone())
    };
    let before = image()?;
    fs::write(bundle.rootfs().join(packages.trim_start_matches('/')), "Package: another\n")?;

    let mut resizing = Running::begin(&volhook, &bundle, "pod resize p 96M", Some(FOLDER))?;
    resizing.until_stopped()?;
    let mut following = start()?;
    ensure!(!following.until_done(WAITING * 4)?, "it waits for the command that resizes the pod");
    Running::go_on(&mut [&mut resizing, &mut following])?;
    succeeded(following)?;
    ensure!(image()? != before, "it has followed its image");
    Ok(())
}

fn each_pair(subject: &Subject) -> Result<()> {
    let volhook = Volhook::new()?;
    let mut bundle = BundleBuilder::new().file("etc/hosts", "of the image\n");
    for (key, value) in subject.annotations {
        bundle = bundle.annotation(key, value);
    }
    let bundle = bundle.build()?;
    (subject.making)(&volhook, &bundle)?;
    let made = volhook.folder().join("made");
    copy(&volhook.root(), &made)?;
    for first in subject.commands {
        for second in subject.commands {
            let tried = |step: &str| -> Result<()> {
                fs::remove_dir_all(volhook.root())?;
                copy(&made, &volhook.root())?;
                let tried = pair(&volhook, &bundle, first, second, step);
                tried.with_context(|| format!("{second:?} while {first:?} is stopped at {step:?}"))
            };
            tried(HELD)?;
            // Those that work on the whole volume.
            if [" rm ", " resize ", START].iter().any(|word| second.contains(word)) {
                tried(FOLDER)?;
            }
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").args(["--archive", "--sparse=always"]).args([from, to]).status()?;
    ensure!(copied.success(), "{} is not copied", from.display());
    Ok(())
}

fn pair(volhook: &Volhook, bundle: &Bundle, first: &str, second: &str, step: &str) -> Result<()> {
    let mut one = Running::begin(volhook, bundle, first, Some(step))?;
    one.until_stopped()?;
    if step == FOLDER && one.until_done(Duration::ZERO)? {
        // It works without that lock.
        return Ok(());
    }
    let patience = if second == START { WAITING } else { LONG };
    let mut two = Running::begin(volhook, bundle, second, Some(step).filter(|step| *step == FOLDER))?;
    let done = two.until_stopped_or_done(patience)?;
    ensure!(done || second == START, "it waits");
    if step == FOLDER {
        // Whatever the two have, nobody else on this host waits for it.
        let mut other = Running::begin(volhook, bundle, "volume create other", None)?;
        ensure!(other.until_done(LONG)?, "another's command waits");
        let other = other.end()?;
        ensure!(other.status.success(), "{}", String::from_utf8_lossy(&other.stderr));
    }
    Running::go_on(&mut [&mut one, &mut two])?;
    let (one, two) = (one.end()?, two.end()?);

    for output in [&one, &two] {
        let said = String::from_utf8_lossy(&output.stderr);
        let code = output.status.code().with_context(|| format!("killed: {said}"))?;
        ensure!([0, 1, 3].contains(&code), "{code}: {said}");
        for waited in ["panicked", "in time", "timed out", "is changing it", "cannot lock"] {
            ensure!(!said.contains(waited), "{said}");
        }
    }
    ensure!(
        one.status.success() || two.status.success(),
        "both lost: {} {}",
        String::from_utf8_lossy(&one.stderr),
        String::from_utf8_lossy(&two.stderr)
    );
    nothing_is_left(volhook)
}

fn nothing_is_left(volhook: &Volhook) -> Result<()> {
    let held = crate::leases(volhook)?;
    ensure!(held.iter().all(|(_, container)| !container.starts_with("volhook:")), "{held:?}");
    ensure!(volhook.run(&["journal", "check"])?.success().lines().last() == Some("ok"));
    let root = volhook.root();
    ensure!(fs::read_dir(root.join("staging"))?.count() == 0, "something is left in staging");
    ensure!(fs::read_dir(root.join("journal"))?.flatten().all(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        !name.contains("damaged") && !name.contains("rebuilding")
    }));
    let mut locks = vec![root.join("journal/lock")];
    locks.extend(folders(&root.join("volumes/default"))?);
    locks.extend(folders(&root.join("trash"))?);
    for lock in locks {
        // That is flock(2), as volhook's own locks are.
        fs::File::open(&lock)?.try_lock().with_context(|| format!("{} is still locked", lock.display()))?;
    }
    Ok(())
}

fn folders(path: &Path) -> Result<Vec<std::path::PathBuf>> {
    let Ok(entries) = fs::read_dir(path) else { return Ok(Vec::new()) };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// A command that runs.
struct Running(Option<Child>);

impl Running {
    fn begin(volhook: &Volhook, bundle: &Bundle, command: &str, failpoint: Option<&str>) -> Result<Self> {
        let mut process = Command::new(volhook.binary());
        process.envs(volhook.env()).env_remove("VOLHOOK_FAILPOINT").current_dir(bundle.path());
        process.envs(failpoint.map(|step| ("VOLHOOK_FAILPOINT", step)));
        process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        if command == START {
            process.args(["hook", "precreate"]).stdin(fs::File::open(bundle.path().join("config.json"))?);
        } else {
            process.args(command.split(' ').map(|word| if word == "FILE" { "config.json" } else { word }));
        }
        Ok(Self(Some(process.spawn()?)))
    }

    fn child(&mut self) -> Result<&mut Child> {
        self.0.as_mut().context("it has ended")
    }

    /// Waits until it is stopped, or has ended without coming by that place.
    fn until_stopped(&mut self) -> Result<()> {
        ensure!(self.until_stopped_or_done(LONG)?, "it neither stops nor ends");
        Ok(())
    }

    /// Whether it is stopped or ends within this time.
    fn until_stopped_or_done(&mut self, patience: Duration) -> Result<bool> {
        let end = Instant::now() + patience;
        while !self.is_stopped()? && !self.until_done(Duration::from_millis(2))? {
            if Instant::now() >= end {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_stopped(&mut self) -> Result<bool> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child()?.id()))?;
        Ok(stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')))
    }

    /// Whether it ends within this time.
    fn until_done(&mut self, patience: Duration) -> Result<bool> {
        let end = Instant::now() + patience;
        loop {
            if self.child()?.try_wait()?.is_some() {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets all of them go on to their ends, wherever they stop once more: one may wait for another.
    fn go_on(all: &mut [&mut Self]) -> Result<()> {
        let end = Instant::now() + LONG;
        loop {
            let mut done = true;
            for running in &mut *all {
                if !running.until_done(Duration::ZERO)? {
                    done = false;
                    if running.is_stopped()? {
                        let pid = running.child()?.id().to_string();
                        Command::new("kill").args(["-CONT", &pid]).status()?;
                    }
                }
            }
            if done {
                return Ok(());
            }
            ensure!(Instant::now() < end, "they do not end");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn end(mut self) -> Result<Output> {
        ensure!(self.until_done(LONG)?, "it does not end");
        let child = self.0.take().context("it has ended")?;
        Ok(child.wait_with_output()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
