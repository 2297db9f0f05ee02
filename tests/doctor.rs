//! `volhook doctor` on states that were broken on purpose. What of it depends on the host's own files is tried on a tree
//! of files in hook/cli, and here in a mount namespace of its own.

#[path = "fixtures/plugins/component.rs"]
mod component;

use anyhow::Context as _;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::SystemTime;
use volhook_harness::Output;
use volhook_harness::Program;
use volhook_harness::Volhook;

/// What doctor said: the exit code, and a line for each finding.
struct Told {
    code: Option<i32>,
    lines: Vec<String>,
}

impl Told {
    /// The findings of one check.
    fn of(&self, check: &str) -> Vec<&str> {
        self.lines.iter().filter_map(|line| line.strip_prefix(check)?.strip_prefix(": ")).collect()
    }

    #[track_caller]
    fn assert(&self, check: &str, verdict: &str, part: &str) {
        let found = self.of(check);
        let fits = |line: &&str| line.starts_with(verdict) && line.contains(part);
        assert!(found.iter().any(fits), "no {verdict} with {part:?} of {check} in {:#?}", self.lines);
    }
}

fn told(volhook: &Volhook, output: Output) -> Told {
    let document: serde_json::Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("no JSON ({error}):\n{output}"));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let findings = document["checks"].as_array().expect("a list of checks");
    let line = |finding: &serde_json::Value| {
        let [check, verdict, found, mend] =
            ["check", "verdict", "found", "mend"].map(|key| text(&finding[key]));
        assert_eq!(verdict != "ok", !mend.is_empty(), "what is not ok says how to mend it: {finding:#}");
        format!("{check}: {verdict}: {found}").replace(&*volhook.folder().to_string_lossy(), "[FOLDER]")
    };
    let told = Told { code: output.code(), lines: findings.iter().map(line).collect() };
    let problems = findings.iter().filter(|finding| finding["verdict"] == "problem").count();
    assert_eq!(told.code, Some(i32::from(problems > 0)), "the exit code says whether there is a problem");
    let worst = ["problem", "warning", "ok"]
        .into_iter()
        .find(|verdict| findings.iter().any(|finding| finding["verdict"] == *verdict));
    assert_eq!(document["verdict"].as_str(), worst);
    told
}

fn doctor(volhook: &Volhook) -> Result<Told> {
    Ok(told(volhook, volhook.run(&["doctor", "--json"])?))
}

/// Every path below `folder` with its length and the time of its last change.
fn tree(folder: &Path) -> BTreeMap<String, (u64, Option<SystemTime>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            if let Ok(data) = entry.metadata() {
                found.insert(entry.path().display().to_string(), (data.len(), data.modified().ok()));
                if data.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
    }
    found
}

#[test]
fn what_is_sound_is_told_and_nothing_is_changed() -> Result<()> {
    let volhook = Volhook::new()?;
    let told = doctor(&volhook)?;
    assert!(!volhook.root().exists() && !volhook.run_dir().exists(), "looking made something");
    told.assert("configuration", "ok", "[FOLDER]/config.toml is understood");
    told.assert("journal", "ok", "[FOLDER]/root/journal is sound");
    volhook.run(&["volume", "create", "v1"])?.success();
    volhook.run(&["volume", "create", "v2"])?.success();
    volhook.run(&["volume", "rm", "--force", "v2"])?.success();
    fs::remove_file(volhook.config())?;
    let before = tree(volhook.folder());
    let told = doctor(&volhook)?;
    assert_eq!(tree(volhook.folder()), before, "looking changed something");
    let of_the_state = ["configuration", "journal", "plugins", "leases", "volumes", "staging", "trash"]
        .map(|check| told.of(check).join("\n"));
    insta::assert_snapshot!(of_the_state.join("\n"), @r"
    ok: there is no [FOLDER]/config.toml, and none is needed
    ok: [FOLDER]/root/journal is sound
    ok: block, device, host, local, rules, tmpfs, universal can be used
    ok: 0 volumes are held, none by the dead
    ok: 1 volume
    ok: nothing is left over
    ok: 1 removed volume
    ");
    Ok(())
}

#[test]
fn configurations_that_cannot_be_used() -> Result<()> {
    let volhook = Volhook::new()?;
    for (text, found) in [
        ("# a comment\ndefault_drivers = \"local\"\n", "line 2 is not usable: unknown field"),
        (
            "default_driver = \"nfs\"\n",
            "default_driver in [FOLDER]/config.toml: unknown driver \"nfs\"; installed: block, device, host, local, tmpfs",
        ),
        (
            "policy = \"block\"\n",
            "policy in [FOLDER]/config.toml: unknown policy \"block\"; installed: rules, universal",
        ),
        ("[plugins.local]\nx = [1]\n", "setting \"x\" of [plugins.local] must be"),
    ] {
        volhook.configure(text)?;
        let told = doctor(&volhook)?;
        told.assert("configuration", "problem", found);
        assert_eq!(told.code, Some(1));
    }
    Ok(())
}

#[test]
fn a_journal_that_is_damaged_is_told_of_and_left_alone() -> Result<()> {
    let volhook = Volhook::new()?;
    for name in ["v1", "v2"] {
        volhook.run(&["volume", "create", name])?.success();
    }
    let file = volhook.root().join("journal/volumes");
    let sound = fs::read(&file)?;
    fs::write(&file, &sound[..sound.len() - 3])?;
    doctor(&volhook)?.assert("journal", "warning", "volumes is torn at offset");

    let mut damaged = sound.clone();
    let middle = sound.len() / 2;
    damaged[middle] ^= 0x55;
    fs::write(&file, &damaged)?;
    let told = doctor(&volhook)?;
    told.assert("journal", "problem", "volumes is damaged at offset");
    assert_eq!((told.code, fs::read(&file)?), (Some(1), damaged), "looking mends nothing");

    volhook.run(&["journal", "rebuild"])?.success();
    let told = doctor(&volhook)?;
    told.assert("journal", "ok", "is sound");
    told.assert(
        "journal",
        "warning",
        "1 copy of damaged files kept in [FOLDER]/root/journal: volumes.damaged-",
    );
    assert_eq!(told.code, Some(0));
    Ok(())
}

/// Nobody rebuilds it, and nobody needs it.
#[test]
fn damage_of_an_earlier_boot_is_a_warning_of_its_own() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v1"])?.success();
    volhook.run(&["volume", "rm", "--force", "v1"])?.success();
    let journal = volhook.root().join("journal");
    let names: Vec<String> = fs::read_dir(&journal)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    let this = names.iter().find(|name| name.starts_with("leases-") && !name.contains('.'));
    let this = this.context("the removal held the volume")?;
    // A file says whose it is: under another name it is damaged.
    let bytes = fs::read(journal.join(this))?;
    let earlier = "leases-8d1c4f0e-5b0f-4f6e-9d0a-3a1c2b7e9f10";
    fs::write(journal.join(earlier), &bytes)?;

    for _ in 0..2 {
        let told = doctor(&volhook)?;
        let found = format!("{earlier}, leases of an earlier boot, is damaged at offset");
        told.assert("journal", "warning", &found);
        assert_eq!((told.of("journal").len(), told.code), (1, Some(0)), "{:#?}", told.lines);
        let checked = volhook.run(&["journal", "check"])?;
        assert_eq!(checked.code(), Some(1), "{checked}");
        assert!(checked.stderr.contains(&format!("hint: of {earlier}: no lease depends on it")), "{checked}");
        assert!(!checked.stderr.contains("journal rebuild"), "{checked}");
        // What is said of it is so.
        let rebuilt = volhook.run(&["journal", "rebuild"])?.success();
        assert_eq!(rebuilt, "nothing is damaged\n");
        volhook.run(&["volume", "create", "v2"])?.success();
        volhook.run(&["events"])?.success();
    }
    assert_eq!(fs::read(journal.join(earlier))?, bytes);
    volhook.configure("[history]\nsize = 0\n")?;
    volhook.run(&["gc"])?.success();
    assert!(!journal.join(earlier).exists());
    volhook.run(&["journal", "check"])?.success();
    Ok(())
}

#[test]
fn what_is_no_usable_volume_is_told_of() -> Result<()> {
    let volhook = Volhook::new()?;
    for name in ["damaged", "newer", "sound"] {
        volhook.run(&["volume", "create", name])?.success();
    }
    let volumes = volhook.root().join("volumes/default");
    fs::create_dir(volumes.join("foreign"))?;
    fs::write(volumes.join("damaged/volume.json"), "{\"format\": 1,")?;
    fs::write(volumes.join("newer/volume.json"), "{\"format\": 99}")?;
    let told = doctor(&volhook)?;
    insta::assert_snapshot!(told.of("volumes").join("\n"), @r#"
    problem: [FOLDER]/root/volumes/default/damaged is no usable volume: the sidecar [FOLDER]/root/volumes/default/damaged/volume.json of volume "damaged" is damaged: EOF while parsing a value at line 1 column 13
    warning: [FOLDER]/root/volumes/default/foreign is no usable volume: [FOLDER]/root/volumes/default/foreign is in the place of volume "foreign" and is none: it has no volume.json
    problem: [FOLDER]/root/volumes/default/newer is no usable volume: the sidecar [FOLDER]/root/volumes/default/newer/volume.json of volume "newer" has format 99, this volhook reads up to 1
    "#);
    Ok(())
}

#[test]
fn what_is_left_over_is_told_of_and_gone_after_gc() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.configure("[trash]\ndays = 0\n")?;
    for name in ["v1", "v2"] {
        volhook.run(&["volume", "create", name])?.success();
    }
    volhook.run(&["volume", "rm", "--force", "v1", "v2"])?.success();
    const ATTEMPT: &str = "6a1f0f2e-9a52-4be1-8f0e-0e6d7c1c9a01";
    let unfinished = volhook.root().join("staging").join(ATTEMPT);
    fs::create_dir(&unfinished)?;
    fs::File::open(&unfinished)?.set_modified(SystemTime::now() - Duration::from_secs(3600))?;
    let records = volhook.run_dir().join("attempts");
    fs::create_dir_all(&records)?;
    fs::write(records.join(format!("{ATTEMPT}.json")), "{}")?;
    fs::write(volhook.root().join("trash/notes.txt"), "not volhook's")?;
    let left = |told: &Told| ["leases", "staging", "trash"].map(|check| told.of(check).join("\n")).join("\n");
    insta::assert_snapshot!(left(&doctor(&volhook)?), @r"
    warning: 1 record of containers that hold nothing
    warning: 1 unfinished thing of commands and hooks that were killed
    warning: removed more than 0 days ago and still there: v1, v2
    warning: [FOLDER]/root/trash/notes.txt is no removed volume: its name is not the uuid of a volume
    ");
    volhook.run(&["gc"])?.success();
    insta::assert_snapshot!(left(&doctor(&volhook)?), @r"
    ok: 0 volumes are held, none by the dead
    ok: nothing is left over
    warning: [FOLDER]/root/trash/notes.txt is no removed volume: its name is not the uuid of a volume
    ");
    Ok(())
}

#[test]
fn plugins_that_cannot_be_used_are_told_of() -> Result<()> {
    let volhook = Volhook::new()?;
    let mut installed = Vec::new();
    for fixture in ["shout", "trap"] {
        let file = volhook.folder().join("component.wasm");
        fs::write(&file, component::fixture(fixture))?;
        let line = volhook.run(&["plugin", "install", &file.to_string_lossy()])?.success();
        let name = line.split(' ').nth(1).expect("kind, name and digest");
        installed.push(volhook.root().join("plugins").join(name));
    }
    let told = doctor(&volhook)?;
    told.assert("plugins", "ok", "can be used");

    let manifest = installed[0].join("plugin.json");
    let mut document: serde_json::Value = serde_json::from_slice(&fs::read(&manifest)?)?;
    document["profile"] = "an older engine".into();
    fs::write(&manifest, document.to_string())?;
    fs::write(installed[1].join("plugin.cwasm"), "cut")?;
    let told = doctor(&volhook)?;
    told.assert("plugins", "problem", "was compiled for an older engine");
    told.assert("plugins", "problem", "is damaged: plugin.cwasm is not the file that was installed");

    // The hint does what it promises.
    let hint = volhook.run(&["doctor"])?.stdout;
    assert!(hint.contains("hint: `volhook plugin refresh` compiles it"), "{hint}");
    let told = volhook.run(&["plugin", "refresh"])?.success();
    assert_eq!(told, "shout: compiled anew\ntrap: up to date\n");
    let told = doctor(&volhook)?;
    assert_eq!(told.of("plugins").len(), 1, "{:#?}", told.lines);
    fs::set_permissions(&installed[0], fs::Permissions::from_mode(0o777))?;
    doctor(&volhook)?.assert("plugins", "problem", "is not trusted");
    Ok(())
}

#[test]
fn places_that_cannot_be_used_are_told_of() -> Result<()> {
    let volhook = Volhook::new()?;
    let [root, run_dir] = [volhook.root(), volhook.run_dir()];
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    fs::create_dir(&root)?;
    fs::create_dir(&run_dir)?;
    mode(&root, 0o755)?;
    mode(&run_dir, 0o777)?;
    let told = doctor(&volhook)?;
    told.assert("state-root", "warning", "[FOLDER]/root can be read by others than root (mode 0755)");
    told.assert("run-directory", "problem", "[FOLDER]/run can be written by others than root (mode 0777)");
    fs::remove_dir(&root)?;
    fs::remove_dir(&run_dir)?;
    fs::write(&root, "a file")?;
    std::os::unix::fs::symlink("/nowhere", &run_dir)?;
    let told = doctor(&volhook)?;
    told.assert("state-root", "problem", "cannot be: [FOLDER]/root is not a directory");
    told.assert("run-directory", "problem", "cannot look at the run directory [FOLDER]/run: No such file");
    let below = volhook.command(&["doctor", "--json"]).env("VOLHOOK_TIMEOUT", "5");
    assert_eq!(below.run()?.code(), Some(1));
    Ok(())
}

#[test]
fn state_in_memory_is_told_of() -> Result<()> {
    let volhook = Volhook::new()?;
    let memory = tempfile::tempdir_in("/dev/shm")?;
    let output = Program::new(volhook.binary())
        .args(["doctor", "--json", "--root"])
        .arg(memory.path().join("root"))
        .arg("--run-dir")
        .arg(memory.path().join("run"))
        .run()?;
    let told = told(&volhook, output);
    told.assert("state-root", "warning", "is on memory (tmpfs)");
    told.assert("run-directory", "ok", "will be made when it is needed");
    Ok(())
}

/// Worth a remark, and no reason to complain: most hosts have but one.
#[test]
fn a_state_root_on_the_host_s_own_filesystem_is_told_of() -> Result<()> {
    let volhook = Volhook::new()?;
    let told = doctor(&volhook)?;
    let device = |path: &Path| fs::metadata(path).map(|data| data.dev());
    let remarks = told.of("state-root");
    let expected = device(Path::new("/"))? == device(volhook.folder())?;
    let remark = remarks.iter().find(|line| line.contains("shares the host's root filesystem"));
    assert_eq!(remark.is_some(), expected, "{remarks:?}");
    assert!(remark.is_none_or(|line| line.starts_with("ok: [FOLDER]/root shares")), "{remarks:?}");
    Ok(())
}

/// Runs a shell script in a mount namespace of its own, in which `$VOLHOOK` is the command line of volhook.
fn in_own_namespace(volhook: &Volhook, script: &str) -> Result<Output> {
    let line = volhook.command(&[]).to_string();
    Program::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", script])
        .env("VOLHOOK", line)
        .env("FOLDER", volhook.folder())
        .run()
}

const HOST: &str = r#"
mount -t tmpfs tmpfs "$FOLDER"
mount -t tmpfs tmpfs /etc
mount -t tmpfs tmpfs /usr/sbin
[ -L /sbin ] || mount -t tmpfs tmpfs /sbin
[ ! -d /usr/local/sbin ] || mount -t tmpfs tmpfs /usr/local/sbin
[ ! -d /usr/share/containers ] || mount -t tmpfs tmpfs /usr/share/containers
"#;

#[test]
fn privileged_a_bare_host_is_described_as_a_whole() -> Result<()> {
    let volhook = Volhook::new()?;
    let bare = in_own_namespace(
        &volhook,
        &format!(
            "{HOST}\nexec setpriv --bounding-set -sys_resource env PATH=\"$FOLDER/bin\" $VOLHOOK doctor"
        ),
    )?;
    let equipped = in_own_namespace(
        &volhook,
        &format!(
            r#"{HOST}
            mkdir -p "$FOLDER/bin" /etc/containers/oci/hooks.d /etc/docker
            for name in runc podman; do
                printf '#!/bin/sh\necho %s version 1.2.3\n' "$name" > "$FOLDER/bin/$name"
                chmod 755 "$FOLDER/bin/$name"
            done
            echo 0123456789abcdef0123456789abcdef > /etc/machine-id
            echo '{{"hook": {{"path": "/opt/volhook"}}, "stages": ["precreate"]}}' > /etc/containers/oci/hooks.d/a.json
            echo '{{"runtimes": {{"volumes": {{"path": "'"$FOLDER/bin/runc"'"}}}}}}' > /etc/docker/daemon.json
            exec setpriv --bounding-set -sys_resource env PATH="$FOLDER/bin" $VOLHOOK doctor"#
        ),
    )?;
    let folder = volhook.folder().to_string_lossy().into_owned();
    insta::with_settings!({ filters => [
        (r"Linux \S+", "Linux [VERSION]"),
        (r"\S+ of \S+ are free", "[FREE] are free"),
        (folder.as_str(), "[FOLDER]"),
    ] }, {
        insta::assert_snapshot!(bare, @r"
        ok       kernel         Linux [VERSION]
        ok       mount-calls    openat2, open_tree, mount_setattr, fsopen, move_mount, fsmount were tried and work
        ok       loop-devices   /dev/loop-control can be used
        warning  rights         root without CAP_SYS_RESOURCE: an ext4 image cannot grow while a container uses it
                                hint: resize while no container uses the volume, or give volhook that capability
        warning  machine-id     /etc/machine-id is missing or none: leases of an earlier boot cannot be told from another machine's, and are held
                                hint: `systemd-machine-id-setup` writes one
        problem  programs       mkfs.ext4 is missing: volumes with images cannot be created
                                hint: install the package e2fsprogs (on Debian: apt-get install e2fsprogs)
        problem  programs       e2fsck is missing: images cannot be checked or made smaller
                                hint: install the package e2fsprogs (on Debian: apt-get install e2fsprogs)
        problem  programs       resize2fs is missing: images cannot be resized
                                hint: install the package e2fsprogs (on Debian: apt-get install e2fsprogs)
        problem  programs       debugfs is missing: images cannot be cloned, repaired or made smaller
                                hint: install the package e2fsprogs (on Debian: apt-get install e2fsprogs)
        ok       own-programs   volhook-compile, volhook-dev, volhook-harness of this version
        warning  runtimes       none of runc, crun, podman, docker is in PATH
                                hint: install one, such as the package runc or crun
        ok       registration   no engine is told of volhook; bundles may have its entries all the same (`volhook bundle install`)
        ok       configuration  there is no [FOLDER]/config.toml, and none is needed
        warning  state-root     [FOLDER]/root is on memory (tmpfs): volumes and plugins would not survive a reboot
                                hint: put it on a disk's filesystem (--root or VOLHOOK_ROOT)
        ok       free-space     [FREE] are free on the filesystem of [FOLDER]/root
        ok       run-directory  [FOLDER]/run will be made when it is needed
        ok       journal        [FOLDER]/root/journal is sound
        ok       plugins        block, device, host, local, rules, tmpfs, universal can be used
        ok       leases         0 volumes are held, none by the dead
        ok       volumes        0 volumes
        ok       staging        nothing is left over
        ok       trash          0 removed volumes
        ------- stderr -------
        Error: volhook found 4 problems on this host
        [exit status: 1]
        ");
        insta::assert_snapshot!(equipped, @r"
        ok       kernel         Linux [VERSION]
        ok       mount-calls    openat2, open_tree, mount_setattr, fsopen, move_mount, fsmount were tried and work
        ok       loop-devices   /dev/loop-control can be used
        warning  rights         root without CAP_SYS_RESOURCE: an ext4 image cannot grow while a container uses it
                                hint: resize while no container uses the volume, or give volhook that capability
        ok       machine-id     0123456789abcdef0123456789abcdef
        problem  programs       mkfs.ext4 is missing: volumes with images cannot be created
                                hint: install the package e2fsprogs (on Debian: apt-get install e2fsprogs)
        problem  programs       e2fsck is missing: images cannot be checked or made smaller
                                hint: install the package e2fsprogs (on Debian: apt-get install e2fsprogs)
        problem  programs       resize2fs is missing: images cannot be resized
                                hint: install the package e2fsprogs (on Debian: apt-get install e2fsprogs)
        problem  programs       debugfs is missing: images cannot be cloned, repaired or made smaller
                                hint: install the package e2fsprogs (on Debian: apt-get install e2fsprogs)
        ok       own-programs   volhook-compile, volhook-dev, volhook-harness of this version
        ok       runtimes       runc version 1.2.3 ([FOLDER]/bin/runc)
        ok       runtimes       podman version 1.2.3 ([FOLDER]/bin/podman)
        problem  registration   /etc/containers/oci/hooks.d/a.json names /opt/volhook, which is not there or cannot be run
                                hint: install volhook there, or correct the path in that file
        ok       configuration  there is no [FOLDER]/config.toml, and none is needed
        warning  state-root     [FOLDER]/root is on memory (tmpfs): volumes and plugins would not survive a reboot
                                hint: put it on a disk's filesystem (--root or VOLHOOK_ROOT)
        ok       free-space     [FREE] are free on the filesystem of [FOLDER]/root
        ok       run-directory  [FOLDER]/run will be made when it is needed
        ok       journal        [FOLDER]/root/journal is sound
        ok       plugins        block, device, host, local, rules, tmpfs, universal can be used
        ok       leases         0 volumes are held, none by the dead
        ok       volumes        0 volumes
        ok       staging        nothing is left over
        ok       trash          0 removed volumes
        ------- stderr -------
        Error: volhook found 5 problems on this host
        [exit status: 1]
        ");
    });
    Ok(())
}

#[test]
fn privileged_filesystems_that_are_read_only_or_full() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v"])?.success();
    let script = "mount --bind \"$FOLDER\" \"$FOLDER\" && mount -o remount,bind,ro \"$FOLDER\" && exec $VOLHOOK doctor --json";
    let told_ro = told(&volhook, in_own_namespace(&volhook, script)?);
    told_ro.assert("state-root", "problem", "the state root [FOLDER]/root is on a read-only filesystem");
    told_ro.assert("volumes", "ok", "1 volume");
    let script = "mount -t tmpfs -o size=1M,nr_inodes=500 tmpfs \"$FOLDER\" && head -c 1000000 /dev/zero > \"$FOLDER/x\" && \
                  exec $VOLHOOK doctor --json";
    let told_full = told(&volhook, in_own_namespace(&volhook, script)?);
    told_full.assert("free-space", "warning", "of 1M are free");
    Ok(())
}

#[test]
fn privileged_rights_that_are_missing() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v"])?.success();
    let with = |args: &[&str]| -> Result<Told> {
        let line = volhook.command(&["doctor", "--json"]).to_string();
        let words: Vec<&str> = args.iter().copied().chain(line.split(' ')).collect();
        Ok(told(&volhook, Program::new(words[0]).args(&words[1..]).run()?))
    };
    let bare = with(&["setpriv", "--bounding-set", "-sys_admin"])?;
    bare.assert("rights", "problem", "root without CAP_SYS_ADMIN");
    bare.assert("mount-calls", "problem", "denied: open_tree, mount_setattr, fsopen, move_mount");
    with(&["setpriv", "--bounding-set", "-sys_resource"])?.assert("rights", "warning", "CAP_SYS_RESOURCE");
    let rootless = with(&["unshare", "--user", "--map-root-user"])?;
    rootless.assert("rights", "problem", "this is a user namespace");
    rootless.assert("mount-calls", "problem", "denied");

    let nobody = with(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"])?;
    assert_eq!(nobody.code, Some(0), "what cannot be looked at is no problem: {:#?}", nobody.lines);
    nobody.assert("rights", "warning", "this is user 65534");
    nobody.assert("mount-calls", "warning", "could not be tried");
    for check in ["journal", "plugins", "leases", "volumes", "staging", "trash"] {
        assert!(nobody.of(check)[0].contains("not looked at"), "{check}: {:#?}", nobody.lines);
    }
    Ok(())
}

/// A hook's container that has died, without anybody having noticed.
#[test]
fn privileged_leases_of_the_dead_are_told_of() -> Result<()> {
    use std::io::BufRead as _;
    let volhook = Volhook::new()?;
    let bundle = volhook_harness::BundleBuilder::new()
        .directory("/data")
        .annotation("dev.volhook.mount.x", "source=v,target=/data")
        .build()?;
    let mut process = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount --bind \"$0\" \"$0\" && echo ready && exec sleep 1000")
        .arg(bundle.rootfs())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    std::io::BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut line)?;
    let state = serde_json::json!({
        "ociVersion": "1.0.2", "id": "c1", "status": "created", "pid": process.id(), "bundle": bundle.path(),
    });
    let started = volhook.hook("prestart", state.to_string())?;
    let alive = doctor(&volhook);
    process.kill()?;
    process.wait()?;
    started.success();
    alive?.assert("leases", "ok", "1 volume is held, none by the dead");
    doctor(&volhook)?.assert("leases", "warning", "leases of the dead: c1");
    volhook.run(&["gc"])?.success();
    doctor(&volhook)?.assert("leases", "ok", "0 volumes are held");
    Ok(())
}

/// Under filters of system calls, which runc puts on a container that is otherwise allowed to mount.
#[test]
fn privileged_system_calls_that_are_filtered() -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = volhook_harness::Runtime::new(volhook_harness::RuntimeKind::Runc)?;
    let line = volhook.command(&["doctor", "--json"]).to_string();
    let filtered = |call: &str, errno: u32| -> Result<Told> {
        let binaries = volhook.binary().parent().expect("it lies in a folder");
        let folders = ["/usr", "/bin", "/sbin", "/lib", "/lib64"].map(Path::new);
        let folders = folders.into_iter().chain([binaries, volhook.folder()]).filter(|path| path.is_dir());
        let mut builder = volhook_harness::BundleBuilder::new().args(line.split(' '));
        for folder in folders {
            builder = builder.bind(folder, &folder.to_string_lossy(), &["bind", "private"]);
        }
        let bundle = builder
            .edit(|spec| {
                let capabilities = serde_json::json!(["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_DAC_OVERRIDE"]);
                for set in ["bounding", "effective", "permitted"] {
                    spec["process"]["capabilities"][set] = capabilities.clone();
                }
                spec["linux"]["seccomp"] = serde_json::json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{ "names": [call], "action": "SCMP_ACT_ERRNO", "errnoRet": errno }],
                });
            })
            .build()?;
        Ok(told(&volhook, runtime.run(&bundle, &format!("filtered-{call}"))?))
    };
    const EPERM: u32 = 1;
    const ENOSYS: u32 = 38;
    filtered("mount_setattr", ENOSYS)?.assert("mount-calls", "problem", "not there (ENOSYS): mount_setattr");
    let denied = filtered("fsopen", EPERM)?;
    denied.assert("mount-calls", "problem", "denied: fsopen");
    assert_eq!(denied.code, Some(1));
    Ok(())
}
