//! Looking changes nothing: neither a sound journal nor a damaged one, of which is shown what can be read.

use anyhow::Context as _;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Volhook;

/// What is looked at, with what is to be seen of a damaged journal.
fn looks(bundle: &Bundle) -> Vec<(Vec<String>, String)> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let looks = [
        ("lease ls", "v2"),
        ("lease ls --wide", "v2"),
        ("lease ls --json", "v2"),
        ("gc --dry-run", ""),
        ("events", "v2"),
        ("events --json", "v2"),
        (&*format!("explain {}", id("c2")), "It holds v2, v3"),
        ("doctor", "4 volumes are held, none by the dead"),
        ("pod ls", &id("c2")),
        ("pod inspect p1", &id("c2")),
        ("volume ls", &id("c2")),
        ("volume inspect v2", &id("c2")),
        ("df", ""),
        ("plan", "v2"),
    ];
    let mut looks = looks.map(|(line, seen)| (words(line), seen.to_owned()));
    looks[13].0.push(bundle.path().to_string_lossy().into_owned());
    looks.into()
}

/// The whole id of a container.
fn id(short: &str) -> String {
    short.repeat(32)
}

/// A file or folder: its kind and mode, when it was changed, and what is in it.
type Entry = (u32, (i64, i64), Vec<u8>);

/// Everything below a folder. What volumes take is counted once and remembered; that counts for nothing.
fn everything(folder: &Path) -> Result<BTreeMap<PathBuf, Entry>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            let data = path.symlink_metadata()?;
            let content = if data.is_file() { fs::read(&path)? } else { Vec::new() };
            if data.is_dir() {
                folders.push(path.clone());
            }
            let remembers = path.join("sizes.json").exists();
            let changed = if remembers { (0, 0) } else { (data.mtime(), data.mtime_nsec()) };
            if path.file_name().is_some_and(|name| name != "sizes.json") {
                all.insert(path, (data.mode(), changed, content));
            }
        }
    }
    Ok(all)
}

/// Two planned containers, the second with two volumes.
fn planned(volhook: &Volhook) -> Result<Bundle> {
    let mut last = None;
    for (id, volumes) in [("c1", &["v1"][..]), ("c2", &["v2", "v3"])] {
        let mut builder = BundleBuilder::new();
        for volume in volumes {
            let claim = format!("source={volume},target=/{volume}");
            builder = builder
                .directory(&format!("/{volume}"))
                .annotation(&format!("dev.volhook.mount.{volume}"), &claim);
        }
        if id == "c2" {
            builder = builder
                .annotation("dev.volhook.pod", "p1")
                .annotation("dev.volhook.policy", "universal,population=copy");
        }
        let bundle = builder.build()?;
        let mut spec = bundle.config()?;
        spec["linux"]["cgroupsPath"] = format!("/machine/libpod-{}", self::id(id)).into();
        let precreate = volhook.command(&["hook", "precreate"]).directory(bundle.path());
        precreate.stdin(spec.to_string()).run()?.success();
        last = Some(bundle);
    }
    last.context("there are no containers")
}

/// This boot's file of leases.
fn leases_file(volhook: &Volhook) -> Result<PathBuf> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(volhook.root().join(format!("journal/leases-{}", boot.trim())))
}

#[test]
fn a_look_leaves_a_damaged_journal_as_it_is() -> Result<()> {
    // In the first record, past which the index would lead.
    assert_looks_change_nothing(|file| {
        fs::remove_file(file.with_extension("index"))?;
        let mut bytes = fs::read(file)?;
        bytes[100] ^= 0x55;
        Ok(fs::write(file, bytes)?)
    })
}

#[test]
fn a_look_begins_no_journal_where_one_was_removed() -> Result<()> {
    assert_looks_change_nothing(|file| {
        // What belongs to it would say so as well.
        let _ = fs::remove_file(file.with_extension("index"));
        Ok(fs::remove_file(file)?)
    })
}

/// Looks at a sound journal, has `damage` damage its file of leases, and looks again.
fn assert_looks_change_nothing(damage: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = planned(&volhook)?;
    let looks = looks(&bundle);
    let look = |line: &[String]| volhook.run(&line.iter().map(String::as_str).collect::<Vec<_>>());

    look(&["pod".to_owned(), "ls".to_owned()])?.success();
    let sound = everything(volhook.folder())?;
    for (line, _) in &looks {
        let output = look(line)?;
        assert!(!output.stderr.contains("damaged"), "{line:?}: {output}");
        assert!(everything(volhook.folder())? == sound, "{line:?} changed a sound journal");
    }

    damage(&leases_file(&volhook)?)?;
    let damaged = everything(volhook.folder())?;
    for (line, seen) in &looks {
        let output = look(line)?;
        assert!(everything(volhook.folder())? == damaged, "{line:?} changed a damaged journal: {output}");
        assert!(output.stdout.contains(seen), "{line:?} does not show what can be read: {output}");
        let told = output.stdout.clone() + &output.stderr;
        assert_eq!(told.matches("is damaged at offset").count(), 1, "{line:?}: {output}");
        assert!(told.contains("`volhook journal rebuild`"), "{line:?}: {output}");
    }

    // Nobody who changes something has lost that.
    let leases = look(&["lease".to_owned(), "ls".to_owned()])?.success();
    assert!(volhook.run(&["gc"])?.stderr.contains("rebuilt it"));
    assert_eq!(look(&["lease".to_owned(), "ls".to_owned()])?.success(), leases);
    Ok(())
}

#[test]
fn a_damaged_file_of_volumes_is_told_of_and_shown() -> Result<()> {
    let volhook = Volhook::new()?;
    for name in ["v1", "v2", "v3"] {
        volhook.run(&["volume", "create", name])?.success();
    }
    let dry_run = || volhook.run(&["journal", "rebuild", "--dry-run"]);
    assert_eq!(dry_run()?.success().trim(), "nothing is damaged");
    let file = volhook.root().join("journal/volumes");
    let mut bytes = fs::read(&file)?;
    bytes[100] ^= 0x55;
    fs::write(&file, bytes)?;
    let damaged = everything(volhook.folder())?;
    let events = volhook.run(&["events"])?;
    assert!(events.stderr.contains("journal/volumes is damaged at offset 32"), "{events}");
    let shown = events.success();
    assert!(!shown.contains("v1") && shown.contains("v2") && shown.contains("v3"), "{shown}");
    let told = dry_run()?.success();
    assert!(told.contains("would be begun anew with 2 of its records"), "{told}");
    assert!(everything(volhook.folder())? == damaged, "a look has changed something");
    let told = volhook.run(&["journal", "rebuild"])?.success();
    assert!(told.contains("2 records kept"), "{told}");
    Ok(())
}

/// A reader that has enough closes its end: then there is nobody to wait for further events with.
#[test]
fn who_follows_events_ends_with_the_reader() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v1"])?.success();
    let mut command = Command::new(volhook.binary());
    command.args(["events", "--follow"]).envs(volhook.env()).stdout(Stdio::piped());
    let mut follower = command.spawn()?;
    let mut line = String::new();
    let mut reader = BufReader::new(follower.stdout.take().context("it has a pipe")?);
    reader.read_line(&mut line)?;
    assert!(line.contains("created"), "{line}");
    assert_eq!(follower.try_wait()?, None, "it waits for more");
    drop(reader);
    assert!(follower.wait()?.success());
    Ok(())
}

#[test]
fn who_follows_a_damaged_journal_sees_everything_once() -> Result<()> {
    let volhook = Volhook::new()?;
    for name in ["v1", "v2"] {
        volhook.run(&["volume", "create", name])?.success();
    }
    let file = volhook.root().join("journal/volumes");
    let mut bytes = fs::read(&file)?;
    bytes[100] ^= 0x55;
    fs::write(&file, bytes)?;
    let mut command = Command::new(volhook.binary());
    command.args(["events", "--follow"]).envs(volhook.env());
    let mut follower = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(follower.stdout.take().context("it has a pipe")?).lines();
    let mut next = || lines.next().context("there is no more")?.map_err(anyhow::Error::from);
    assert!(next()?.contains("v2"));
    volhook.run(&["journal", "rebuild"])?.success();
    volhook.run(&["volume", "create", "v3"])?.success();
    let (rebuilt, created) = (next()?, next()?);
    assert!(rebuilt.contains("rebuilt") && created.contains("v3"), "{rebuilt}\n{created}");
    drop(lines);
    assert!(follower.wait()?.success());
    Ok(())
}

#[test]
fn who_follows_a_table_reads_its_header_once() -> Result<()> {
    let volhook = Volhook::new()?;
    for name in ["v1", "v2"] {
        volhook.run(&["volume", "create", name])?.success();
    }
    let mut command = Command::new(volhook.binary());
    command.args(["events", "--follow", "--format", r"table {{.Kind}}\t{{.Volume}}"]).envs(volhook.env());
    let mut follower = command.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(follower.stdout.take().context("it has a pipe")?).lines();
    for expected in ["KIND  VOLUME", "created  v1", "created  v2"] {
        assert_eq!(lines.next().context("there is no more")??, expected);
    }
    drop(lines);
    assert!(follower.wait()?.success());
    Ok(())
}
