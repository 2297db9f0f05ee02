//! Programs that the hook runs.

use std::process::Command;
use std::process::Output;
use std::time::Duration;
use std::time::Instant;
use volhook_mounts::Error;
use volhook_mounts::child::run;

fn shell(script: &str, limit: Duration) -> Result<Output, Error> {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    run(command, Instant::now() + limit)
}

const LONG: Duration = Duration::from_secs(30);

#[test]
fn output_and_status_are_returned() {
    let output = shell("echo out; echo err >&2; exit 3", LONG).unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn nothing_is_inherited() {
    let output = shell("read line; echo \"$line\"; env | sort; ls -l /proc/self/fd", LONG).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with('\n'), "there is no input: {text}");
    assert!(text.contains("PATH=/usr/sbin:/usr/bin:/sbin:/bin\n") && !text.contains("HOME="), "{text}");
}

#[test]
fn the_deadline_kills_the_whole_group() {
    let start = Instant::now();
    let error = shell("sleep 1000 & echo $!; wait", Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, Error::ProgramDeadline { .. }), "{error}");
    assert!(start.elapsed() < LONG);
    let error = shell("while :; do echo flood; done", Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, Error::ProgramDeadline { .. }), "{error}");
}

#[test]
fn what_is_left_behind_is_not_waited_for() {
    // It would end this program at its deadline if it were.
    let output = shell("sleep 1000 & echo $!", LONG).unwrap();
    let left = String::from_utf8(output.stdout).unwrap();
    let killed = Command::new("kill").arg(left.trim()).status().unwrap();
    assert!(killed.success(), "it is still there");
}

#[test]
fn much_output_is_cut() {
    let output = shell("head -c 1000000 /dev/zero; echo end >&2", LONG).unwrap();
    assert_eq!(output.stdout.len(), 64 * 1024);
    assert_eq!(output.stderr, b"end\n");
    assert!(output.status.success());
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let error = run(Command::new("no-such-program-at-all"), Instant::now() + LONG).unwrap_err();
    assert!(matches!(error, Error::RunProgram { .. }), "{error}");
}

/// The test starts itself as the hook, kills that, and looks whether the hook's program is still there.
#[test]
fn the_program_dies_with_the_hook() {
    if let Some(note) = std::env::var_os("TEST_AS_HOOK") {
        let script = format!("echo $$ >{0}.new; mv {0}.new {0}; exec sleep 1000", note.display());
        let _ = shell(&script, LONG);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("pid");
    let mut hook = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child::the_program_dies_with_the_hook"])
        .env("TEST_AS_HOOK", &note)
        .spawn()
        .unwrap();
    let start = Instant::now();
    let pid = loop {
        match std::fs::read_to_string(&note) {
            Ok(text) => break text.trim().to_owned(),
            Err(error) => assert!(start.elapsed() < LONG, "the hook's program did not start: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let runs =
        || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(runs());
    hook.kill().unwrap();
    hook.wait().unwrap();
    let start = Instant::now();
    while runs() {
        assert!(start.elapsed() < Duration::from_secs(5), "process {pid} outlived the hook");
        std::thread::sleep(Duration::from_millis(5));
    }
}
