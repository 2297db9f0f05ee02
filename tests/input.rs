//! What people and hosts get wrong: names, values, rights, places, and terminals. Each ends in a plain sentence, and
//! nothing is changed.

use anyhow::Result;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use volhook_harness::Output;
use volhook_harness::Program;
use volhook_harness::Volhook;

/// A volume, an image, and one in the trash.
fn with_volumes() -> Result<Volhook> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v"])?.success();
    volhook.run(&["volume", "create", "img", "-d", "block", "-o", "size=16M"])?.success();
    volhook.run(&["volume", "create", "gone"])?.success();
    volhook.run(&["volume", "rm", "--force", "gone"])?.success();
    Ok(volhook)
}

/// What volumes there are, and which were removed.
fn state(volhook: &Volhook) -> Result<String> {
    Ok(volhook.run(&["volume", "ls", "-q"])?.success() + &volhook.run(&["trash", "ls"])?.success())
}

#[track_caller]
fn assert_plain(output: &Output, code: i32) {
    assert_eq!(output.code(), Some(code), "{}: {output}", output.command);
    assert!(output.stderr.starts_with("Error: "), "{}: {output}", output.command);
    assert!(!output.stderr.contains("panicked"), "{}: {output}", output.command);
}

#[test]
fn no_name_is_a_path() -> Result<()> {
    let volhook = Volhook::new()?;
    let long = "a".repeat(129);
    for name in ["../x", "/etc", "a/b/c", "", ".", "..", "-x", "a\nb", "ü", "a b", &long] {
        for line in [
            &["volume", "create", "--", name][..],
            &["volume", "create", "x", "--tenant", name][..],
            &["volume", "inspect", "--", name],
            &["volume", "rm", "--force", "--", name],
            &["volume", "resize", "--", name, "1G"],
            &["volume", "fsck", "--", name],
            &["volume", "mount", "--", name],
            &["volume", "umount", "--", name],
            &["volume", "rename", "--", name, "y"],
            &["volume", "adopt", "--", "/tmp", name],
            &["lease", "break", "--force", "--", name, "c1"],
        ] {
            // An option that looks like another one is the parser's to refuse.
            if name.starts_with('-') && line.contains(&"--tenant") {
                continue;
            }
            let output = volhook.run(line)?;
            assert_plain(&output, 2);
            assert!(output.stderr.contains(&format!("{name:?}")), "{output}");
            assert!(
                output.stderr.contains("hint: a ") && output.stderr.contains("1 to 128 letters"),
                "{output}"
            );
        }
    }
    for id in ["../c", "", ".."] {
        assert_plain(&volhook.run(&["explain", "--", id])?, 2);
        assert_plain(&volhook.run(&["lease", "break", "--force", "--", "v", id])?, 2);
    }
    let bytes = OsStr::from_bytes(b"v\xff");
    for line in
        [&["volume", "create"][..], &["volume", "rm", "--force"], &["volume", "inspect"], &["explain"]]
    {
        let output = volhook.command(line).arg(bytes).run()?;
        assert_plain(&output, 2);
        assert!(output.stderr.contains("UTF-8"), "{output}");
    }
    assert_plain(&volhook.run(&["trash", "restore", "../x"])?, 3);
    assert!(!volhook.root().exists(), "a wrong name made something");
    Ok(())
}

#[test]
fn values_that_cannot_be() -> Result<()> {
    let volhook = with_volumes()?;
    let before = state(&volhook)?;
    let mut told = String::new();
    for line in [
        "volume create x -o size",
        "volume create x --label =team",
        "volume create x -d block -o size=lots",
        "volume create x -d block -o size=-1",
        "volume create x -d block -o size=1",
        "volume create x -d block -o size=99999T",
        "volume create x -d block -o nope=1",
        "volume create x -d nfs",
        "volume create x -d universal",
        "volume create x -d ../../etc",
        "volume resize img x",
        "volume resize img 0",
        "volume resize v 1G",
        "volume resize nope 1G",
        "volume fsck v",
        "volume ls --filter size",
        "volume ls --filter dangling=maybe",
        "volume rm --all --force --filter colour=red",
        "volume ls --format {{.Nme}}",
        "volume rm v",
        "volume prune --unused-for soon",
        "volume rename v img",
        "lease break v c1",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let output = volhook.run(&words)?;
        assert!(matches!(output.code(), Some(1..=3)) && output.stdout.is_empty(), "{line}: {output}");
        told += &format!("$ {line}\n{}[{}]\n", output.stderr, output.code().unwrap_or_default());
    }
    assert_eq!(state(&volhook)?, before);
    let folder = volhook.folder().to_string_lossy().into_owned();
    insta::with_settings!({ filters => [
        (folder.as_str(), "[FOLDER]"),
        (r"staging/[0-9a-f-]{36}", "staging/[UUID]"),
        (r"has \([0-9.]+[A-Z]?\)", "has ([SIZE])"),
        (r"created [0-9TZ:.-]+\)", "created [TIME])"),
        ("options of driver block: .*", "options of driver block: …"),
        ("installed: .*", "installed: …"),
    ] }, {
        insta::assert_snapshot!(told, @r#"
        $ volume create x -o size
        Error: -o "size" is not KEY=VALUE
        hint: an example: -o size=10G
        [2]
        $ volume create x --label =team
        Error: --label "=team" has no name
        hint: an example: --label team=a
        [2]
        $ volume create x -d block -o size=lots
        Error: option "size" of driver block for volume "x": invalid size "lots": must be a whole number with an optional unit, such as 512M or 10G
        hint: options of driver block: …
        [1]
        $ volume create x -d block -o size=-1
        Error: option "size" of driver block for volume "x": invalid size "-1": must be a whole number with an optional unit, such as 512M or 10G
        hint: options of driver block: …
        [1]
        $ volume create x -d block -o size=1
        Error: driver block refuses to create volume "x": a size of 1 is too small for ext4 with a journal
        hint: give a size of 8M or more
        [1]
        $ volume create x -d block -o size=99999T
        Error: cannot create volume "x": 97.6P is more than the whole filesystem of [FOLDER]/root/staging/[UUID]/volume.img has ([SIZE])
        hint: ask for less, or put the state root on a larger filesystem
        [1]
        $ volume create x -d block -o nope=1
        Error: option "nope" of driver block for volume "x": there is no such option
        hint: options of driver block: …
        [1]
        $ volume create x -d nfs
        Error: unknown driver "nfs" for volume "x"
        hint: installed: …
        [1]
        $ volume create x -d universal
        Error: unknown driver "universal" for volume "x"
        hint: installed: …
        [1]
        $ volume create x -d ../../etc
        Error: unknown driver "../../etc" for volume "x"
        hint: installed: …
        [1]
        $ volume resize img x
        Error: cannot resize volume "img" to "x": invalid size "x": must be a whole number with an optional unit, such as 512M or 10G
        [2]
        $ volume resize img 0
        Error: cannot resize volume "img" to "0": invalid size "0": must not be 0
        [2]
        $ volume resize v 1G
        Error: volume "v" is a directory and has no size of its own
        hint: `volhook volume create -o size=SIZE` makes volumes with a limit
        [1]
        $ volume resize nope 1G
        Error: no such volume: "nope"
        hint: `volhook volume ls` shows which there are
        [3]
        $ volume fsck v
        Error: cannot check volume "v": it is a directory of the host's filesystem and has none of its own
        [1]
        $ volume ls --filter size
        Error: invalid filter "size"
        hint: filters: driver=NAME, label=KEY or label=KEY=VALUE, label!=…, dangling=true or dangling=false, name=REGEX, pod=NAME
        [2]
        $ volume ls --filter dangling=maybe
        Error: invalid filter "dangling=maybe"
        hint: filters: driver=NAME, label=KEY or label=KEY=VALUE, label!=…, dangling=true or dangling=false, name=REGEX, pod=NAME
        [2]
        $ volume rm --all --force --filter colour=red
        Error: invalid filter "colour=red"
        hint: filters: driver=NAME, label=KEY or label=KEY=VALUE, label!=…, dangling=true or dangling=false, name=REGEX, pod=NAME
        [2]
        $ volume ls --format {{.Nme}}
        Error: the template has no field ".Nme"
        hint: fields: {{.Name}} {{.Tenant}} {{.Driver}} {{.Size}} {{.SizeCounted}} {{.Limit}} {{.Holders}} {{.Created}} {{.Labels}} {{.Options}} {{.Mountpoint}} {{.Pod}} {{.Storage}} {{.Uuid}} {{.CreatedAt}} {{.Scope}}
        [2]
        $ volume rm v
        v (driver local, created [TIME])
        Error: cannot ask "Remove these volumes?": there is no terminal to answer it
        hint: --force does it without asking
        [1]
        $ volume prune --unused-for soon
        Error: invalid value 'soon' for '--unused-for <DAYS>': invalid digit found in string

        For more information, try '--help'.
        [2]
        $ volume rename v img
        Error: cannot rename volume "v": there is a volume "img" already
        [1]
        $ lease break v c1
        Error: container "c1" holds no lease on volume "v"
        hint: `volhook lease ls` shows who holds what
        [1]
        "#);
    });
    Ok(())
}

/// Commands that only look.
const LOOKS: [&str; 8] =
    ["volume ls", "volume inspect v", "lease ls", "events", "df", "trash ls", "journal check", "plugin ls"];

/// Commands that change something.
const CHANGES: [&str; 11] = [
    "volume create new",
    "volume create new -d block -o size=16M",
    "volume rm --force v",
    "volume resize img 32M",
    "volume fsck img",
    "volume rename v w",
    "volume mount img",
    "volume prune --unused-for 0 --force",
    "trash restore gone",
    "trash empty --force",
    "gc",
];

#[test]
fn a_state_root_that_is_a_file() -> Result<()> {
    let volhook = Volhook::new()?;
    fs::write(volhook.root(), "a file")?;
    for line in LOOKS.iter().chain(&CHANGES) {
        let output = volhook.run(&line.split(' ').collect::<Vec<_>>())?;
        assert_plain(&output, 1);
        assert!(output.stderr.contains("Not a directory"), "{line}: {output}");
        assert!(output.stderr.contains("hint: a part of that path is a file"), "{line}: {output}");
    }
    assert_eq!(fs::read_to_string(volhook.root())?, "a file");
    Ok(())
}

#[test]
fn privileged_a_read_only_state_root_can_be_looked_at() -> Result<()> {
    let volhook = with_volumes()?;
    let before = state(&volhook)?;
    let run = |line: &str| {
        let script = r#"mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@""#;
        let volhook_line = volhook.command(&[]).to_string();
        Program::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-euc", script, "sh"])
            .arg(volhook.folder())
            .args(volhook_line.split(' '))
            .args(line.split(' '))
            .run()
    };
    for line in LOOKS {
        let output = run(line)?;
        assert!(output.stderr.is_empty() || line == "df", "{line}: {output}");
        assert!(!output.success().is_empty(), "{line}");
    }
    let mut told = String::new();
    // gc finds nothing to do.
    for line in CHANGES.into_iter().filter(|line| *line != "gc") {
        let output = run(line)?;
        assert_plain(&output, 1);
        assert!(output.stderr.contains("Read-only file system"), "{line}: {output}");
        told += &format!("$ {line}\n{}", output.stderr);
    }
    assert_eq!(state(&volhook)?, before);
    let folder = volhook.folder().to_string_lossy().into_owned();
    insta::with_settings!({ filters => [
        (folder.as_str(), "[FOLDER]"),
        (r"(staging|trash)/[0-9a-f-]{36}", "$1/[UUID]"),
    ] }, {
        insta::assert_snapshot!(told, @r#"
        $ volume create new
        Error: cannot create volume "new": cannot make [FOLDER]/root/staging/[UUID]: Read-only file system (os error 30)
        hint: the filesystem is mounted read-only: remount it, or name another place with --root
        $ volume create new -d block -o size=16M
        Error: cannot create volume "new": cannot make [FOLDER]/root/staging/[UUID]: Read-only file system (os error 30)
        hint: the filesystem is mounted read-only: remount it, or name another place with --root
        $ volume rm --force v
        Error: cannot remove volume "v": cannot hold volume "v" for this command: cannot lock the journal with [FOLDER]/root/journal/lock: Read-only file system (os error 30)
        hint: the filesystem is mounted read-only: remount it, or name another place with --root
        $ volume resize img 32M
        Error: cannot hold volume "img" for this command: cannot lock the journal with [FOLDER]/root/journal/lock: Read-only file system (os error 30)
        hint: the filesystem is mounted read-only: remount it, or name another place with --root
        $ volume fsck img
        Error: cannot hold volume "img" for this command: cannot lock the journal with [FOLDER]/root/journal/lock: Read-only file system (os error 30)
        hint: the filesystem is mounted read-only: remount it, or name another place with --root
        $ volume rename v w
        Error: cannot hold volume "v" for this command: cannot lock the journal with [FOLDER]/root/journal/lock: Read-only file system (os error 30)
        hint: the filesystem is mounted read-only: remount it, or name another place with --root
        $ volume mount img
        Error: cannot make [FOLDER]/run/mounts/default/img: Read-only file system (os error 30)
        hint: the filesystem is mounted read-only: remount it, or name another place with --root
        $ volume prune --unused-for 0 --force
        Error: cannot remove volume "img": cannot hold volume "img" for this command: cannot lock the journal with [FOLDER]/root/journal/lock: Read-only file system (os error 30)
        hint: the filesystem is mounted read-only: remount it, or name another place with --root
        Error: cannot remove volume "v": cannot hold volume "v" for this command: cannot lock the journal with [FOLDER]/root/journal/lock: Read-only file system (os error 30)
        hint: the filesystem is mounted read-only: remount it, or name another place with --root
        $ trash restore gone
        Error: cannot restore volume "gone": cannot move it to [FOLDER]/root/volumes/default/gone: Read-only file system (os error 30)
        hint: the filesystem is mounted read-only: remount it, or name another place with --root
        $ trash empty --force
        Error: [FOLDER]/root/trash/[UUID] cannot be deleted: cannot write "[FOLDER]/root/trash/[UUID]/deleting": Read-only file system (os error 30)
        "#);
    });
    Ok(())
}

#[test]
fn privileged_without_rights_a_sentence_says_so() -> Result<()> {
    let volhook = with_volumes()?;
    let before = state(&volhook)?;
    for line in LOOKS.iter().chain(&CHANGES) {
        let volhook_line = volhook.command(&[]).to_string();
        let output = Program::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .args(volhook_line.split(' '))
            .args(line.split(' '))
            .run()?;
        assert_plain(&output, 1);
        assert!(output.stderr.contains("Permission denied"), "{line}: {output}");
        assert!(
            output.stderr.contains("hint: what volhook keeps is root's: run this as root"),
            "{line}: {output}"
        );
    }
    assert_eq!(state(&volhook)?, before);
    Ok(())
}

/// Runs a shell script in which `$V` is the command line of volhook.
fn shell(volhook: &Volhook, script: &str) -> Result<Output> {
    Program::new("bash")
        .args(["-uc", script])
        .env("V", volhook.command(&[]).to_string())
        .env("FOLDER", volhook.folder())
        .run()
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() -> Result<()> {
    let volhook = with_volumes()?;
    for line in LOOKS.iter().chain(&["doctor", "--help", "man", "completions bash"]) {
        // Whoever reads has gone before anything is written.
        let piped = shell(&volhook, &format!("{{ sleep 0.1; $V {line}; echo $? >&2; }} | true"))?;
        assert!(piped.stderr.ends_with("0\n") || *line == "doctor", "{line}: {piped}");
        assert!(!piped.stderr.contains("panicked"), "{line}: {piped}");
        let closed = shell(&volhook, &format!("$V {line} >&- 2>&-; test $? -lt 2"))?;
        assert_eq!(closed.code(), Some(0), "{line}: {closed}");
    }
    let full = shell(&volhook, "$V volume ls > /dev/full")?;
    assert_plain(&full, 1);
    assert!(full.stderr.contains("cannot write to standard output: No space left"), "{full}");
    // Where nobody can be told either, the exit code says it.
    assert_eq!(shell(&volhook, "$V volume inspect nope 2> /dev/full")?.code(), Some(3));
    assert_eq!(shell(&volhook, "$V volume frobnicate 2> /dev/full")?.code(), Some(2));
    Ok(())
}

#[test]
fn a_question_that_is_not_answered_changes_nothing() -> Result<()> {
    let volhook = with_volumes()?;
    let before = state(&volhook)?;
    // A shell has its background jobs ignore SIGINT. The answer comes when the question has been asked; 003 is Ctrl-C, 004 is Ctrl-D.
    let answered = |answer: &str| {
        let script = format!(
            r#"
            mkfifo "$FOLDER/keys"
            exec 3<>"$FOLDER/keys"
            script -qefc "env --default-signal=INT $V volume rm v" "$FOLDER/log" <&3 &
            until grep -q 'y/N' "$FOLDER/log" 2>/dev/null; do sleep 0.02; done
            printf '{answer}' >&3
            wait $!
            code=$?
            rm "$FOLDER/keys" "$FOLDER/log"
            exit $code"#
        );
        shell(&volhook, &script)
    };
    assert_eq!(answered(r"\003")?.code(), Some(130), "as a shell counts a death by SIGINT");
    assert_eq!(state(&volhook)?, before);
    for answer in [r"\004", r"\n", r"no\n", r"yesterday\n"] {
        let output = answered(answer)?;
        assert!(
            output.code() == Some(1) && output.stdout.contains("nothing was removed"),
            "{answer}: {output}"
        );
    }
    assert_eq!(state(&volhook)?, before);
    assert_eq!(answered(r"y\n")?.code(), Some(0));
    assert_ne!(state(&volhook)?, before);
    Ok(())
}
