//! Looking changes nothing: neither a sound journal nor a damaged one, of which is shown what can be read.

use anyhow::Context as _;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Volhook;

/// What is looked at, with what is to be seen of a damaged journal.
fn looks(bundle: &Bundle) -> Vec<(Vec<String>, &'static str)> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let _ = bundle;
    vec![
        (words("lease ls"), "v2"),
        (words("lease ls --wide"), "v2"),
        (words("lease ls --json"), "v2"),
        (words("gc --dry-run"), ""),
    ]
}

/// A file or folder: its kind and mode, when it was changed, and what is in it.
type Entry = (u32, (i64, i64), Vec<u8>);

/// Everything below a folder.
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
            all.insert(path, (data.mode(), (data.mtime(), data.mtime_nsec()), content));
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
        let bundle = builder.build()?;
        let mut spec = bundle.config()?;
        spec["linux"]["cgroupsPath"] = format!("/x/{id}").into();
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
    let volhook = Volhook::new()?;
    let bundle = planned(&volhook)?;
    let looks = looks(&bundle);
    let look = |line: &[String]| volhook.run(&line.iter().map(String::as_str).collect::<Vec<_>>());

    let sound = everything(volhook.folder())?;
    for (line, _) in &looks {
        let output = look(line)?;
        assert!(!output.stderr.contains("damaged"), "{line:?}: {output}");
        assert!(everything(volhook.folder())? == sound, "{line:?} changed a sound journal");
    }

    // In the first record.
    let file = leases_file(&volhook)?;
    let mut bytes = fs::read(&file)?;
    bytes[100] ^= 0x55;
    fs::write(&file, bytes)?;
    let damaged = everything(volhook.folder())?;
    for (line, seen) in &looks {
        let output = look(line)?;
        assert!(everything(volhook.folder())? == damaged, "{line:?} changed a damaged journal: {output}");
        assert!(output.stdout.contains(seen), "{line:?} does not show what can be read: {output}");
        let told = output.stderr.matches("is damaged at offset").count();
        assert_eq!(told, 1, "{line:?}: {output}");
        assert!(output.stderr.contains("`volhook journal rebuild` mends it"), "{line:?}: {output}");
    }

    // Nobody who changes something has lost that.
    let leases = look(&["lease".to_owned(), "ls".to_owned()])?.success();
    assert!(volhook.run(&["gc"])?.stderr.contains("rebuilt it"));
    assert_eq!(look(&["lease".to_owned(), "ls".to_owned()])?.success(), leases);
    Ok(())
}
