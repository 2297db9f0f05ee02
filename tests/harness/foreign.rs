//! A hook that is not volhook: a shell script that shares a cache. One has planted mistakes, and the scripts find them.

use crate::folder;
use crate::harness;
use crate::scripts;
use anyhow::Result;
use volhook_harness::Output;

/// Runs scripts on a hook, and takes out what is another one each time.
fn on_hook(hook: &str, args: &[&str], files: &[String]) -> Result<(Output, String)> {
    let hook = format!("HOOK={}", folder("fixtures/hooks").join(hook).display());
    let mut all = vec!["--set", &hook];
    all.extend(args);
    all.extend(files.iter().map(String::as_str));
    let output = harness(&all)?.run()?;
    let hooks = folder("fixtures/hooks").to_string_lossy().into_owned();
    let text = output.to_string().replace(&hooks, "HOOKS");
    Ok((output, text))
}

fn script(name: &str) -> Vec<String> {
    vec![folder("fixtures/hooks").join(name).to_string_lossy().into_owned()]
}

#[test]
fn privileged_the_hook_without_mistakes_passes_everywhere() -> Result<()> {
    for args in [
        &["--runtime", "fake", "--as", "runc"][..],
        &["--runtime", "fake", "--as", "crun"],
        &["--runtime", "fake", "--as", "youki"],
        &["--runtime", "runc"],
        &["--runtime", "crun"],
    ] {
        let (output, text) = on_hook("cache.sh", args, &scripts("fixtures/hooks")?)?;
        assert_eq!(output.code(), Some(0), "with {args:?}: {text}");
    }
    Ok(())
}

#[test]
fn privileged_the_usual_test_does_not_find_the_mistakes() -> Result<()> {
    let (output, text) = on_hook("cache-counting.sh", &[], &script("lifecycle.txt"))?;
    assert_eq!(output.code(), Some(0), "{text}");
    Ok(())
}

#[test]
fn privileged_a_kill_between_two_steps_finds_the_leak() -> Result<()> {
    let (output, text) = on_hook("cache-counting.sh", &[], &script("killed.txt"))?;
    assert_eq!(output.code(), Some(1));
    insta::assert_snapshot!(text, @r#"
    FAILED HOOKS/killed.txt (fake as crun)
      line 22: expect stdout is 1
      standard output is something else
        expected: 1
        seen:     2
      the last command was: HOOKS/cache-counting.sh users
        2
    0 passed, 1 failed
    ------- stderr -------
    Error: 1 of 1 scripts failed
    [exit status: 1]
    "#);
    Ok(())
}

#[test]
fn privileged_a_second_poststop_finds_the_miscount() -> Result<()> {
    let (output, text) = on_hook("cache-counting.sh", &[], &script("twice.txt"))?;
    assert_eq!(output.code(), Some(1));
    insta::assert_snapshot!(text, @r#"
    FAILED HOOKS/twice.txt (fake as runc)
      line 17: expect stdout is 1
      standard output is something else
        expected: 1
        seen:     -1
      the last command was: HOOKS/cache-counting.sh users
        -1
    0 passed, 1 failed
    ------- stderr -------
    Error: 1 of 1 scripts failed
    [exit status: 1]
    "#);
    Ok(())
}
