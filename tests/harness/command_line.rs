//! The command: what it prints, its exit codes, and that it needs no root.

use crate::document;
use crate::harness;
use crate::run_text;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use volhook_harness::Program;
use volhook_harness::Volhook;

fn printed(output: &volhook_harness::Output) -> String {
    let mut text = output.to_string();
    // Folders that are named anew each time.
    while let Some(at) = text.find("/tmp/") {
        let end = text[at..]
            .find(|c: char| c.is_whitespace() || ":)\"".contains(c))
            .map_or(text.len(), |end| at + end);
        let path = text[at..end].to_owned();
        let last = path.rsplit('/').next().unwrap_or_default();
        text.replace_range(at..end, &format!("<{last}>"));
    }
    text
}

#[test]
fn privileged_a_failure_shows_the_line_and_all_that_was_seen() -> Result<()> {
    let output = run_text(
        "exec sh -c 'printf \"one\\ntwo\\n\"; echo oops >&2; exit 0'\nexpect stdout is <<END\none\nthree\nEND\n",
        &[],
    )?;
    insta::assert_snapshot!(printed(&output), @r#"
    FAILED <script.txt> (fake as runc)
      line 2: expect stdout is <<END
      standard output is something else
        - expected, + seen
          one
        - three
        + two
      the last command was: sh -c printf "one\ntwo\n"; echo oops >&2; exit 0
        one
        two
        ------- stderr -------
        oops
    0 passed, 1 failed
    ------- stderr -------
    Error: 1 of 1 scripts failed
    [exit status: 1]
    "#);
    Ok(())
}

#[test]
fn mistakes_in_a_script_are_found_before_anything_runs() -> Result<()> {
    let output = run_text("exec touch $WORK/x\n\nbundel b\n", &[])?;
    insta::assert_snapshot!(printed(&output), @r#"
    ------- stderr -------
    Error: <script.txt>:3:1: "bundel" is not a statement; "bundle" is
    [exit status: 2]
    "#);
    let output = harness(&["/nowhere/x.txt"])?.run()?;
    assert_eq!(output.code(), Some(2), "{output}");
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("binary.txt");
    fs::write(&path, [0xff, 0xfe, 0])?;
    let output = harness(&[&path.to_string_lossy()])?.run()?;
    assert_eq!((output.code(), output.stderr.contains("is no UTF-8 text")), (Some(2), true), "{output}");
    Ok(())
}

#[test]
fn privileged_scripts_for_other_runtimes_are_left_out() -> Result<()> {
    let output = run_text("runtime runc\n", &[])?;
    insta::assert_snapshot!(printed(&output), @r#"
    left out <script.txt> (fake as runc): it holds on runc only
    0 passed, 0 failed, 1 left out
    ------- stderr -------
    Error: none of these scripts is for this runtime
    hint: a script says with `runtime` and `as` on what it holds; see --runtime and --as
    [exit status: 2]
    "#);
    let output = run_text("as crun\n[crun] exec false\n", &["--as", "runc"])?;
    assert_eq!(output.code(), Some(2), "{output}");
    // Without a choice a script is run as it says.
    let output = run_text("as crun youki\n[!crun] exec false\n", &[])?;
    assert_eq!(output.code(), Some(0), "{output}");
    Ok(())
}

#[test]
fn privileged_folders_are_kept_when_asked_for() -> Result<()> {
    let output = run_text("write a/b text\nexpect no file a/b\n", &["--json", "--keep"])?;
    let report = document(&output);
    assert_eq!(report["failed"], 1);
    let folder = report["scripts"][0]["folder"].as_str().unwrap_or_default().to_owned();
    assert_eq!(fs::read_to_string(format!("{folder}/a/b"))?, "text");
    assert_eq!(report["scripts"][0]["failure"]["line"], 2);
    if let Some(parent) = std::path::Path::new(&folder).parent() {
        fs::remove_dir_all(parent)?;
    }
    Ok(())
}

/// A hook that binds a folder into the container, tested by somebody who is nobody.
#[test]
fn privileged_it_needs_no_root() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    // Nor does it need anything of volhook.
    let binary = folder.path().join("volhook-harness");
    fs::copy(Volhook::new()?.binary().with_file_name("volhook-harness"), &binary)?;
    let script = folder.path().join("script.txt");
    fs::write(
        &script,
        r#"
bundle b
shell 'cat /data/note; echo written > /data/by-container; id -u'
exec mkdir -p b/rootfs/data
write shared/note 'a note'
hook createRuntime env=PATH=/usr/bin:/bin ./bind.sh $WORK/shared
hook poststop env=PATH=/usr/bin:/bin ./count.sh
create c1
expect mount /data source=shared options=rw
start c1
wait c1 stopped
expect file c1.log is "a note0"
delete c1
expect file shared/by-container is written
expect file poststop is stopped
expect host unchanged
[root] exec false
-- bind.sh --
#!/bin/sh
set -e
state=$(cat)
pid=$(echo "$state" | sed 's/.*"pid":\([0-9]*\).*/\1/')
bundle=$(echo "$state" | sed 's/.*"bundle":"\([^"]*\)".*/\1/')
nsenter --mount=/proc/$pid/ns/mnt mount --bind "$1" "$bundle/rootfs/data"
-- count.sh --
#!/bin/sh
sed 's/.*"status":"\([a-z]*\)".*/\1/' > "${0%/*}/poststop"
"#,
    )?;
    for behaviour in ["runc", "crun", "youki"] {
        let output = Program::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&binary)
            .args(["run", "--as", behaviour])
            .arg(&script)
            .run()?;
        assert_eq!(output.code(), Some(0), "{output}");
    }
    fs::write(&script, "root\n")?;
    let output = Program::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&binary)
        .arg("run")
        .arg(&script)
        .run()?;
    assert_eq!(output.code(), Some(1), "{output}");
    assert!(output.stdout.contains("this script needs root"), "{output}");
    Ok(())
}
