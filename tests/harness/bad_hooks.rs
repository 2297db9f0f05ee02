//! Hooks that misbehave: none of them holds up, floods or ends the harness, and each is told of.

use crate::document;
use crate::run_text;
use anyhow::Result;
use std::time::Duration;
use std::time::Instant;

/// A script with one hook at prestart.
fn with_hook(hook: &str, statements: &str) -> String {
    format!(
        "bundle b empty\nhook prestart env=PATH=/usr/bin:/bin timeout=20 ./hook.sh\n{statements}\n-- hook.sh --\n#!/bin/sh\n{hook}\n"
    )
}

fn contains(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in:\n{text}");
}

#[test]
fn privileged_a_hook_that_hangs_is_killed() -> Result<()> {
    let start = Instant::now();
    let script = "bundle b empty\nhook prestart timeout=1 /bin/sleep 100\ncreate c1\n";
    let output = run_text(script, &[])?;
    contains(&output.stdout, "prestart hook #0 (/bin/sleep) failed: killed after its timeout of 1 s");
    let output = run_text("bundle b empty\nhook prestart /bin/sleep 100\ndeadline 1s\ncreate c1\n", &[])?;
    contains(&output.stdout, "killed after 1s");
    assert!(start.elapsed() < Duration::from_secs(20));
    Ok(())
}

#[test]
fn privileged_a_script_that_takes_too_long_is_ended() -> Result<()> {
    let output = run_text("sleep 60s\n", &["--limit", "1"])?;
    assert_eq!(output.code(), Some(1), "{output}");
    contains(&output.stdout, "BROKEN");
    contains(&output.stdout, "the script was killed after 1 s");
    Ok(())
}

#[test]
fn privileged_gigabytes_of_output_are_counted_and_not_kept() -> Result<()> {
    let script = with_hook(
        "head -c 2000000000 /dev/zero | tr '\\0' x; exit 1",
        "fails call prestart\nexpect stdout matches '[0-9]+ more bytes'\nshow output",
    );
    let output = run_text(&script, &["--json"])?;
    let report = document(&output);
    let shown = report["scripts"][0]["shown"][0]["text"].as_str().unwrap_or_default();
    contains(shown, "[1999737856 more bytes]");
    assert!(shown.len() < 300_000);
    Ok(())
}

#[test]
fn privileged_a_program_that_never_stops_printing_is_ended() -> Result<()> {
    let output = run_text("exec yes\n", &[])?;
    contains(&output.stdout, "killed because it printed more than 256 MiB: yes");
    let output = run_text("exec sh -c 'yes | head -c 20000000'\nexpect stdout empty\n", &[])?;
    assert!(output.stdout.len() < 1_000_000 && output.stdout.contains("more bytes]"));
    Ok(())
}

#[test]
fn privileged_a_child_that_keeps_the_output_open_is_told_of() -> Result<()> {
    let start = Instant::now();
    let script = with_hook("sleep 1000 &", "create c1");
    let output = run_text(&script, &["--as", "runc"])?;
    contains(&output.stdout, "a child of it still held its standard output or error");
    contains(&output.stdout, "left running, and killed: sleep (");
    // crun does not wait for that.
    let output = run_text(&script, &["--as", "crun"])?;
    assert_eq!(output.code(), Some(0), "{output}");
    contains(&output.stdout, "left running, and killed: sleep (");
    assert!(start.elapsed() < Duration::from_secs(30));
    Ok(())
}

#[test]
fn privileged_a_mount_that_a_hook_leaves_is_found() -> Result<()> {
    let hook = "mount -t tmpfs left-over /mnt";
    let output = run_text(&with_hook(hook, "create c1\ndelete c1 force\nexpect host unchanged"), &[])?;
    assert_eq!(output.code(), Some(1), "{output}");
    contains(&output.stdout, "+ mount: ");
    contains(&output.stdout, "tmpfs left-over");
    assert!(!std::fs::read_to_string("/proc/self/mountinfo")?.contains("left-over"), "it is on the host");
    Ok(())
}

#[test]
fn privileged_a_hook_that_kills_its_group_or_parents_is_told_of() -> Result<()> {
    let script = with_hook("kill -9 0", "fails create c1\nexpect signal 9\nexpect no container c1");
    let output = run_text(&script, &[])?;
    assert_eq!(output.code(), Some(0), "{output}");
    let script = with_hook("kill -9 $(ps -o ppid= $PPID)", "create c1");
    let output = run_text(&script, &[])?;
    contains(&output.stdout, "the script's own process ended (killed by SIGKILL)");
    Ok(())
}

#[test]
fn privileged_bad_states_and_bundles() -> Result<()> {
    let output = run_text(
        "
bundle b empty
annotation nul \"a\\0b\"
hook prestart env=PATH=/usr/bin:/bin ./hook.sh
init c1
call prestart
expect json .annotations.nul \"a\\0b\"
expect json .pid $PID
state pid=-5 status=odd 'more={\"a\":[1]}'
call prestart
expect json .pid -5
expect json .more.a[0] 1
state without pid bundle
call prestart
expect stdout lacks pid
state text <<END
not json
END
call prestart
expect stdout is 'not json'
state spaces 64M
call prestart
expect stdout matches '[0-9]+ more bytes'
delete c1 force
-- hook.sh --
#!/bin/sh
cat
",
        &[],
    )?;
    assert_eq!(output.code(), Some(0), "{output}");
    let output = run_text("exec mkdir b\ncreate c1 b\n", &[])?;
    contains(&output.stdout, "cannot read");
    contains(&output.stdout, "config.json");
    let output = run_text("bundle b empty\nprocess \"a\\0b\"\ncreate c1\n", &[])?;
    assert_eq!(output.code(), Some(1), "{output}");
    Ok(())
}
