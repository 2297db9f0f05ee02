//! What `volhook gc` does when something is in its way: everything else.

use anyhow::Result;
use std::fs;
use std::thread;
use std::time::Duration;
use std::time::SystemTime;
use volhook_harness::Volhook;

const ATTEMPTS: [&str; 2] = ["6a1f0f2e-9a52-4be1-8f0e-0e6d7c1c9a01", "6a1f0f2e-9a52-4be1-8f0e-0e6d7c1c9a02"];

#[test]
fn trouble_with_one_thing_is_in_the_way_of_no_other() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v"])?.success();
    // The record of an attempt that cannot be removed, and one that can.
    let records = volhook.run_dir().join("attempts");
    fs::create_dir_all(records.join(format!("{}.json", ATTEMPTS[0])).join("in-the-way"))?;
    fs::write(records.join(format!("{}.json", ATTEMPTS[1])), "{}")?;
    let unfinished = volhook.root().join("staging").join(ATTEMPTS[1]);
    fs::create_dir(&unfinished)?;
    fs::File::open(&unfinished)?.set_modified(SystemTime::now() - Duration::from_secs(3600))?;
    // How long things are kept cannot be told.
    volhook.configure("[trash")?;

    let swept = volhook.run(&["gc"])?;
    assert_eq!(swept.code(), Some(1), "{swept}");
    let errors = swept.stderr.lines().filter(|line| line.starts_with("Error: ")).collect::<Vec<_>>();
    assert_eq!(errors.len(), 3, "{swept}");
    assert!(errors[0].contains("cannot remove") && errors[0].contains(ATTEMPTS[0]), "{swept}");
    assert!(errors[1..].iter().all(|line| line.contains("the configuration")), "{swept}");
    assert!(!records.join(format!("{}.json", ATTEMPTS[1])).exists(), "{swept}");
    assert!(!unfinished.exists(), "{swept}");
    Ok(())
}

#[test]
fn whoever_needs_room_need_not_mend_the_configuration_first() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v"])?.success();
    volhook.run(&["volume", "rm", "--force", "v"])?.success();
    std::fs::write(volhook.config(), "no = [configuration")?;
    let listed = volhook.run(&["trash", "ls", "--json"])?;
    assert!(listed.stderr.contains("nobody can tell until when"), "{listed}");
    let document: serde_json::Value = serde_json::from_str(&listed.stdout)?;
    assert_eq!(document[0]["kept_until"], serde_json::Value::Null);
    assert_eq!(volhook.run(&["trash", "empty", "--force"])?.stdout, "deleted v\n");
    Ok(())
}

#[test]
fn what_failed_is_told_though_nothing_can_be_printed() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v"])?.success();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full")?;
    let output = std::process::Command::new(volhook.binary())
        .envs(volhook.env())
        .args(["volume", "rm", "--force", "v", "../x", "nope/../y"])
        .stdout(full.try_clone()?)
        .output()?;
    assert_eq!(output.status.code(), Some(2), "what cannot be named is wrong usage, and nothing is done");
    let output = std::process::Command::new(volhook.binary())
        .envs(volhook.env())
        .args(["volume", "rm", "v", "nope"])
        .stdin(std::process::Stdio::null())
        .stdout(full.try_clone()?)
        .output()?;
    assert_eq!(output.status.code(), Some(1), "there is no terminal");
    std::fs::write(volhook.root().join("volumes/default/v/volume.json"), "{}")?;
    volhook.run(&["volume", "create", "w"])?.success();
    let output = std::process::Command::new(volhook.binary())
        .envs(volhook.env())
        .args(["volume", "rm", "--force", "w", "v"])
        .stdout(full)
        .output()?;
    let told = String::from_utf8(output.stderr)?;
    assert!(
        told.contains("volume \"v\" is damaged") && told.contains("cannot write to standard output"),
        "{told}"
    );
    assert_eq!(output.status.code(), Some(1));
    Ok(())
}

#[test]
fn what_another_restored_meanwhile_is_not_told_as_deleted() -> Result<()> {
    let volhook = Volhook::new()?;
    for name in ["v", "w"] {
        volhook.run(&["volume", "create", name])?.success();
        volhook.run(&["volume", "rm", "--force", name])?.success();
    }
    let paused = volhook.folder().join("paused");
    let empty = volhook.command(&["trash", "empty", "--force"]);
    let empty = empty.env("VOLHOOK_FAILPOINT", format!("trash.listed:pause={}", paused.display()));
    let emptied = thread::scope(|scope| {
        let empty = scope.spawn(|| empty.run());
        while !paused.exists() && !empty.is_finished() {
            thread::sleep(Duration::from_millis(1));
        }
        volhook.run(&["trash", "restore", "v"])?.success();
        fs::remove_file(&paused)?;
        empty.join().expect("it does not panic")
    })?;
    assert_eq!(emptied.success(), "deleted w\n");
    let events = volhook.json(&["events"])?;
    let of = |kind: &str| -> Vec<&str> {
        let events = events.as_array().into_iter().flatten();
        events.filter(|event| event["kind"] == kind).filter_map(|event| event["volume"].as_str()).collect()
    };
    assert_eq!((of("restored"), of("deleted")), (vec!["v"], vec!["w"]), "{events:#}");
    assert_eq!(volhook.run(&["volume", "ls", "-q"])?.success(), "v\n");
    Ok(())
}

#[test]
fn what_was_done_is_one_document() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v"])?.success();
    volhook.run(&["volume", "rm", "--force", "v"])?.success();
    let records = volhook.run_dir().join("attempts");
    fs::create_dir_all(records.join(format!("{}.json", ATTEMPTS[0])).join("in-the-way"))?;
    volhook.configure("[trash]\ndays = 0\n")?;
    let swept = volhook.run(&["gc", "--json"])?;
    let document: serde_json::Value = serde_json::from_str(&swept.stdout)?;
    assert_eq!(document["deleted"], serde_json::json!(["v"]), "{swept}");
    assert_eq!(document["failed"].as_array().map(Vec::len), Some(1), "{swept}");
    assert!(swept.stderr.contains(ATTEMPTS[0]) && swept.code() == Some(1), "{swept}");
    Ok(())
}

/// What is adopted when the command is killed comes back by itself, or is told of until a person has moved what is in its way.
#[test]
fn an_adoption_that_was_killed_is_put_back_or_told() -> Result<()> {
    let volhook = Volhook::new()?;
    let path = volhook.folder().join("made-before");
    std::fs::create_dir(&path)?;
    std::fs::write(path.join("file"), "kept")?;
    let adopt = || volhook.command(&["volume", "adopt"]).arg(&path).arg("v");
    assert_eq!(adopt().env("VOLHOOK_FAILPOINT", "adopt.moved").run()?.code(), None, "it was killed");
    assert!(!path.exists() && volhook.run(&["volume", "ls", "-q"])?.success().is_empty());

    std::fs::write(&path, "another's")?;
    let told = "made-before\" lies at ";
    let doctor = volhook.run(&["doctor"])?;
    assert!(doctor.stdout.contains(told) && doctor.code() == Some(1), "{doctor}");
    for output in [volhook.run(&["gc"])?, adopt().run()?] {
        assert_eq!(output.code(), Some(1), "{output}");
        assert!(output.stderr.contains(told), "{output}");
        assert!(
            output.stderr.contains("since its adoption was killed: something else has its place"),
            "{output}"
        );
        assert!(output.stderr.contains("hint: nobody deletes it"), "{output}");
    }
    std::fs::remove_file(&path)?;
    volhook.run(&["gc"])?.success();
    assert_eq!(std::fs::read_to_string(path.join("file"))?, "kept");
    assert!(!volhook.run(&["doctor"])?.stdout.contains(told));

    // Once more, and adopted by the next try.
    assert_eq!(adopt().env("VOLHOOK_FAILPOINT", "adopt.moved").run()?.code(), None);
    assert_eq!(adopt().run()?.success(), "v\n");
    assert_eq!(std::fs::read_to_string(volhook.root().join("volumes/default/v/data/file"))?, "kept");
    assert_eq!(std::fs::read_dir(volhook.root().join("staging"))?.count(), 0);
    Ok(())
}
