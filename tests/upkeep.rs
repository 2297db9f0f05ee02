//! What `volhook gc` does when something is in its way: everything else.

use anyhow::Result;
use std::fs;
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
