//! `volhook work`: what a server asks, and what it is told.

use anyhow::Result;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::process::Command;
use std::process::Stdio;
use volhook_harness::Output;
use volhook_harness::Volhook;

fn ask(volhook: &Volhook, request: &Value) -> Result<Output> {
    volhook.command(&["work"]).stdin(request.to_string()).run()
}

/// What is said last.
fn last(output: &Output) -> Result<Value> {
    Ok(serde_json::from_str(output.stdout.lines().last().unwrap_or_default())?)
}

#[test]
fn an_outcome_is_the_document_that_the_command_prints() -> Result<()> {
    let volhook = Volhook::new()?;
    let create = json!({"create": {"name": "team/v", "driver": null, "options": {}, "labels": {"a": "b"}}});
    assert_eq!(last(&ask(&volhook, &create)?)?, json!({"done": {"name": "team/v", "new": true}}));
    assert_eq!(last(&ask(&volhook, &create)?)?, json!({"done": {"name": "team/v", "new": false}}));
    // Counted once, so that both are told the same.
    let listed = volhook.json(&["volume", "ls"])?;
    let list = json!({"list": {"filter": {"drivers": [], "names": [], "pods": [], "labels": [], "without_labels": [], "dangling": null}, "sizes": "remembered"}});
    assert_eq!(last(&ask(&volhook, &list)?)?["done"], listed);
    let inspect = json!({"inspect": {"volumes": ["team/v"], "sizes": true}});
    assert_eq!(
        last(&ask(&volhook, &inspect)?)?["done"]["volumes"],
        serde_json::from_str::<Value>(&volhook.run(&["volume", "inspect", "team/v"])?.success())?
    );
    assert_eq!(last(&ask(&volhook, &json!("events"))?)?["done"], volhook.json(&["events"])?);
    let leases = json!({"leases": {"judged": true}});
    assert_eq!(last(&ask(&volhook, &leases)?)?["done"], volhook.json(&["lease", "ls"])?);
    Ok(())
}

#[test]
fn pods_and_plugins_are_looked_at_as_by_commands() -> Result<()> {
    let volhook = Volhook::new()?;
    let pods = json!({"pods": {"sizes": true}});
    assert_eq!(last(&ask(&volhook, &pods)?)?["done"], volhook.json(&["pod", "ls"])?);
    for (request, command) in [("plugins", "plugin"), ("drivers", "driver")] {
        assert_eq!(last(&ask(&volhook, &json!(request))?)?["done"], volhook.json(&[command, "ls"])?);
    }
    let rules = json!({"inspect_plugin": "rules"});
    assert_eq!(last(&ask(&volhook, &rules)?)?["done"], volhook.json(&["plugin", "inspect", "rules"])?);
    let removed = ask(&volhook, &json!({"removable_pods": {"pods": ["team/p"]}}))?;
    let failed = &last(&removed)?["done"]["failed"][0];
    assert_eq!(
        (&failed["kind"], &failed["cause"]),
        (&json!("no_such_pod"), &json!("no such pod: \"team/p\""))
    );
    Ok(())
}

#[test]
fn a_failure_is_told_with_its_kind() -> Result<()> {
    let volhook = Volhook::new()?;
    let rename = ask(&volhook, &json!({"rename": {"volume": "a", "to": "b"}}))?;
    assert_eq!(rename.code(), Some(3));
    let failed = &last(&rename)?["failed"];
    assert_eq!((&failed["kind"], &failed["volume"]), (&json!("no_such_volume"), &json!("a")));
    assert_eq!(failed["cause"], "no such volume: \"a\"");
    for (nonsense, code) in
        [("", 2), ("{}", 2), ("\"frobnicate\"", 2), ("{\"create\": {}}", 2), ("{\"usage\": null} x", 2)]
    {
        let output = volhook.command(&["work"]).stdin(nonsense).run()?;
        assert_eq!(
            (output.code(), &last(&output)?["failed"]["kind"]),
            (Some(code), &json!("usage")),
            "{output}"
        );
    }
    let endless = volhook.command(&["work"]).stdin(" ".repeat(5 << 20)).run()?;
    assert!(endless.stdout.contains("longer than") && endless.code() == Some(2), "{endless}");
    assert!(!volhook.root().exists(), "what is refused changes nothing");
    Ok(())
}

#[test]
fn what_would_be_removed_goes_only_as_it_was_seen() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v"])?.success();
    let seen = last(&ask(&volhook, &json!({"removable": {"named": ["v", "v", "nope"]}}))?)?["done"].clone();
    assert_eq!(
        (seen["volumes"].as_array().map(Vec::len), seen["failed"].as_array().map(Vec::len)),
        (Some(1), Some(1))
    );
    // Another one takes its name.
    volhook.run(&["volume", "rm", "--force", "v"])?.success();
    volhook.run(&["volume", "create", "v"])?.success();
    let outcome = last(&ask(&volhook, &json!({"remove": seen}))?)?["done"].clone();
    assert_eq!(outcome["removed"], json!([]));
    assert_eq!(outcome["failed"][0]["cause"], "volume \"v\" is another one by now, and stays");
    let seen = last(&ask(&volhook, &json!({"removable": {"named": ["v"]}}))?)?["done"].clone();
    assert_eq!(last(&ask(&volhook, &json!({"remove": seen}))?)?["done"]["removed"], json!(["v"]));
    Ok(())
}

#[test]
fn work_that_nobody_wants_any_more_ends() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v"])?.success();
    let data = volhook.root().join("volumes/default/v/data");
    for number in 0..20_000 {
        fs::write(data.join(number.to_string()), "x")?;
    }
    let request = json!({"clone": {"original": "v", "name": "copy", "labels": {}}}).to_string();
    let mut child = Command::new(volhook.binary())
        .envs(volhook.env())
        .arg("work")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    child.stdin.take().expect("a pipe").write_all(request.as_bytes())?;
    let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut first = String::new();
    said.read_line(&mut first)?;
    assert_eq!(first, "{\"copying\":null}\n");
    // Whoever asked has died.
    drop(said);
    let status = child.wait()?;
    assert_eq!(volhook.run(&["volume", "ls", "-q"])?.success(), "v\n", "{status}");
    assert_eq!(fs::read_dir(volhook.root().join("staging"))?.count(), 0, "it has cleaned up behind itself");
    Ok(())
}

#[test]
fn what_is_given_back_is_what_was_seen() -> Result<()> {
    let volhook = Volhook::new()?;
    for leases in [
        json!([]),
        json!([{
            "volume": "other", "tenant": "default", "uuid": "u", "container": "c1", "driver": "local", "access": "rw",
            "sharing": "shared", "target": null, "pid": null, "attempt": "a", "since": "2026-01-01T00:00:00Z", "state": null,
            "evidence": null,
        }]),
    ] {
        let asked = json!({"break_leases": {"volume": "v", "container": "c1", "leases": leases}});
        let output = ask(&volhook, &asked)?;
        assert_eq!(
            last(&output)?["failed"]["cause"],
            "these are no leases of container \"c1\" on volume \"v\""
        );
    }
    Ok(())
}

#[test]
fn paths_of_a_request_are_whole() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v"])?.success();
    let around = format!("{}/../root/volumes/default/v/data", volhook.run_dir().display());
    for path in ["data", around.as_str()] {
        let adopt =
            json!({"adopt": {"path": path, "name": "w", "driver": null, "labels": {}, "in_place": false}});
        assert_eq!(last(&ask(&volhook, &adopt)?)?["failed"]["kind"], "usage", "{path}");
    }
    let copy = json!({"copy": {"volume": "v", "path": "/", "host": "out", "way": "out", "archive": false, "follow": false}});
    assert_eq!(last(&ask(&volhook, &copy)?)?["failed"]["kind"], "usage");
    assert!(!std::path::Path::new("/out").exists());
    Ok(())
}
