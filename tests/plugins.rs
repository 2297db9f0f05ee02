//! `volhook plugin`: what becomes of installed plugins, and what is kept of their decisions.

#[path = "fixtures/plugins/component.rs"]
mod component;

use anyhow::Result;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Output;
use volhook_harness::Volhook;

/// Installs a component under whatever name it says, and returns what the command did.
fn install(volhook: &Volhook, component: &[u8]) -> Result<Output> {
    let file = volhook.folder().join("component.wasm");
    fs::write(&file, component)?;
    volhook.run(&["plugin", "install", &file.to_string_lossy()])
}

/// The fixture `shout`, with another word in its refusal.
fn shout(word: &str) -> Vec<u8> {
    assert_eq!(word.len(), 6);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/plugins/shout.wat");
    component::component(&fs::read_to_string(path).expect("it is there").replacen("really", word, 1))
}

fn claiming(driver: &str) -> Result<Bundle> {
    let claim = format!("source=v,target=/data,volume-driver={driver}");
    BundleBuilder::new().annotation("dev.volhook.mount.x", &claim).build()
}

/// What planning a container says whose volume has this driver.
fn plan(volhook: &Volhook, driver: &str) -> Result<Output> {
    let bundle = claiming(driver)?;
    volhook.run(&["plan", &bundle.path().to_string_lossy()])
}

/// Output without what differs from run to run.
fn shown(volhook: &Volhook, output: &Output) -> String {
    let text = output.to_string().replace(&*volhook.folder().to_string_lossy(), "[FOLDER]");
    let is_digest = |word: &str| word.len() == 64 && word.chars().all(|c| c.is_ascii_hexdigit());
    let word = |word: &str| match word {
        digest if is_digest(digest.trim_end_matches([':', ',', '\n'])) => {
            format!("[DIGEST]{}", &digest[64..])
        }
        word => word.to_owned(),
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_update_is_rolled_back_and_verified() -> Result<()> {
    let volhook = Volhook::new()?;
    install(&volhook, &shout("really"))?.success();
    let before = volhook.json(&["plugin", "inspect", "shout"])?;
    assert_eq!(before["previous"], Value::Null);
    install(&volhook, &shout("surely"))?.success();
    let after = volhook.json(&["plugin", "inspect", "shout"])?;
    assert_eq!(after["previous"], before["digest"]);
    assert!(plan(&volhook, "shout")?.stderr.contains("surely"));
    volhook.run(&["plugin", "rollback", "shout"])?.success();
    assert!(plan(&volhook, "shout")?.stderr.contains("really"));
    assert_eq!(volhook.json(&["plugin", "inspect", "shout"])?["digest"], before["digest"]);
    let verified = volhook.run(&["plugin", "verify"])?;
    insta::assert_snapshot!(shown(&volhook, &verified), @"shout: sound, [DIGEST]");
    fs::write(volhook.root().join("plugins/shout/plugin.cwasm"), "other code")?;
    let verified = volhook.run(&["plugin", "verify"])?;
    insta::assert_snapshot!(shown(&volhook, &verified), @r#"
    ------- stderr -------
    Error: plugin "shout" is damaged: plugin.cwasm is not the file that was installed; install it again
    [exit status: 1]
    "#);
    Ok(())
}

#[test]
fn a_driver_that_volumes_need_stays() -> Result<()> {
    let volhook = Volhook::new()?;
    install(&volhook, &component::fixture("trap"))?.success();
    volhook.run(&["volume", "create", "-d", "trap", "v1"])?.success();
    let refused = volhook.run(&["plugin", "rm", "trap"])?;
    insta::assert_snapshot!(shown(&volhook, &refused), @r#"
    ------- stderr -------
    Error: plugin "trap" stays: it is the driver of 1 volume: v1
    hint: `volhook volume rm` removes volumes, `volhook trash empty` what was removed
    [exit status: 1]
    "#);
    volhook.run(&["volume", "rm", "--force", "v1"])?.success();
    let refused = volhook.run(&["plugin", "rm", "trap"])?;
    assert!(refused.stderr.contains("1 volume: v1 (in the trash)"), "{refused}");
    volhook.run(&["trash", "empty", "--force"])?.success();
    volhook.configure("default_driver = \"trap\"")?;
    let refused = volhook.run(&["plugin", "rm", "trap"])?;
    assert!(refused.stderr.contains("names it in default_driver"), "{refused}");
    volhook.configure("")?;
    volhook.run(&["plugin", "rm", "trap"])?.success();
    let refused = volhook.run(&["plugin", "rm", "trap", "local", "../x"])?;
    insta::assert_snapshot!(shown(&volhook, &refused), @r#"
    ------- stderr -------
    Error: no plugin "trap" is installed
    Error: plugin "local" is built in
    Error: no plugin "../x" is installed
    [exit status: 1]
    "#);
    Ok(())
}

#[test]
fn a_failure_is_shown_with_what_caused_it() -> Result<()> {
    let volhook = Volhook::new()?;
    install(&volhook, &component::fixture("panic"))?.success();
    let refused = plan(&volhook, "panic")?;
    insta::assert_snapshot!(shown(&volhook, &refused), @r#"
    ------- stderr -------
    Error: cannot decide about volume "v": plugin "panic" failed in attach: panicked at src/lib.rs:27:15: no such thing
    hint: what it was asked: [FOLDER]/root/decisions/failed-panic.json
    [exit status: 1]
    "#);
    let kept = volhook.root().join("decisions/failed-panic.json");
    let decision: Value = serde_json::from_slice(&fs::read(&kept)?)?;
    assert_eq!(decision["call"], "attach");
    assert_eq!(decision["request"]["volume"], "v");
    assert_eq!(volhook.json(&["plugin", "inspect", "panic"])?["last_failure"], decision);
    let inspected = volhook.run(&["plugin", "inspect", "panic"])?.success();
    assert!(inspected.contains("in attach: panicked at src/lib.rs:27:15: no such thing"), "{inspected}");
    // What containers are called and want is not everybody's business.
    let mode = fs::metadata(volhook.root().join("decisions"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(!volhook.root().join("decisions/recorded.jsonl").exists(), "nobody wanted a record");
    Ok(())
}

#[test]
fn decisions_are_recorded_where_that_is_wanted() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.configure("[record]\ndecisions = true\nsize = 4096")?;
    install(&volhook, &component::fixture("shout"))?.success();
    plan(&volhook, "shout")?.failure();
    let recorded = volhook.root().join("decisions/recorded.jsonl");
    let lines = |path| -> Result<Vec<Value>> {
        Ok(fs::read_to_string(path)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    };
    let calls: Vec<String> = lines(&recorded)?.iter().map(|line| line["call"].to_string()).collect();
    assert_eq!(calls, ["\"create\"", "\"attach\""]);
    let last = lines(&recorded)?.pop().expect("two lines");
    assert_eq!(last["outcome"]["answer"]["refusal"]["reason"], "no [2J   really");
    assert!(last["consumed"]["fuel"].as_u64() > Some(0));
    for _ in 0..20 {
        plan(&volhook, "shout")?.failure();
    }
    let folder = volhook.root().join("decisions");
    let sizes = ["recorded.jsonl", "recorded.1.jsonl"].map(|name| fs::metadata(folder.join(name)));
    let mut total = 0;
    for size in sizes {
        total += size?.len();
    }
    assert!(total < 4096 + 1024, "{total} bytes are kept");
    Ok(())
}

/// A container cannot claim its way past a quota: what it gets besides counts, although it is not there yet.
#[test]
fn new_volumes_of_one_container_count_for_each_other() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.configure("[record]\ndecisions = true")?;
    let component = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/api/0.1.0/driver.wasm");
    volhook.run(&["plugin", "install", component])?.success();
    let claim =
        |volume: &str| format!("source={volume},target=/{volume},volume-driver=echo,volume-label=team=web");
    let bundle = BundleBuilder::new()
        .annotation("dev.volhook.mount.a", &claim("v1"))
        .annotation("dev.volhook.mount.b", &claim("v2"))
        .build()?;
    volhook.run(&["plan", &bundle.path().to_string_lossy()])?.success();
    let recorded = fs::read_to_string(volhook.root().join("decisions/recorded.jsonl"))?;
    let lines = recorded.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let asked = lines.iter().filter(|line| line["call"] == "create");
    let usage: Vec<String> = asked.map(|line| line["request"]["usage"].to_string()).collect();
    assert_eq!(
        usage,
        [
            r#"{"volumes":0,"bytes":0,"labels":[{"label":["team","web"],"volumes":0,"bytes":0}]}"#,
            r#"{"volumes":1,"bytes":0,"labels":[{"label":["team","web"],"volumes":1,"bytes":0}]}"#,
        ]
    );
    Ok(())
}

#[test]
fn settings_are_checked_against_what_the_plugin_says() -> Result<()> {
    let volhook = Volhook::new()?;
    install(&volhook, &component::fixture("shout"))?.success();
    volhook.configure("[plugins.shout]\nloud = true")?;
    let refused = plan(&volhook, "shout")?;
    insta::assert_snapshot!(shown(&volhook, &refused), @r#"
    ------- stderr -------
    Error: setting "loud" of driver shout: there is no such setting
    hint: driver shout has no settings
    [exit status: 1]
    "#);
    let told = volhook.run(&["doctor"])?.stdout;
    assert!(told.contains("setting \"loud\" of driver shout: there is no such setting"), "{told}");
    volhook.configure("[plugins.nobody]\nloud = true")?;
    let told = volhook.run(&["doctor"])?.stdout;
    assert!(told.contains("[plugins.nobody] in") && told.contains("no such plugin is installed"), "{told}");
    Ok(())
}

/// A file that is too large to be a plugin costs nothing to refuse.
#[test]
fn what_is_too_large_is_not_read() -> Result<()> {
    let volhook = Volhook::new()?;
    let file = volhook.folder().join("large.wasm");
    fs::File::create(&file)?.set_len(200 << 20)?;
    let refused = volhook.run(&["plugin", "install", &file.to_string_lossy()])?;
    insta::assert_snapshot!(shown(&volhook, &refused), @r#"
    ------- stderr -------
    Error: [FOLDER]/large.wasm is larger than 64M, as no plugin may be
    [exit status: 1]
    "#);
    Ok(())
}

/// What is kept for people is worth a word when it cannot be kept, and no failure.
#[test]
fn a_decision_that_cannot_be_written_down_is_told() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.configure("[record]\ndecisions = true\n")?;
    fs::create_dir_all(volhook.root())?;
    fs::write(volhook.root().join("decisions"), "")?;
    let output = volhook.run(&["volume", "create", "v"])?;
    assert!(output.stderr.contains("Warning: cannot record a decision in "), "{output}");
    assert_eq!(output.success(), "v\n");
    Ok(())
}
