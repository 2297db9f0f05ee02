//! What docker's users type out of habit: aliases, filters, labels and formats.

use anyhow::Result;
use serde_json::Value;
use volhook_harness::Volhook;

/// A host with volumes `a1` and `a2` of one team, and `b1` of tenant `team`.
fn host() -> Result<Volhook> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "a1", "--label", "team=a", "--label", "only"])?.success();
    volhook
        .run(&["volume", "create", "a2", "--label", "team=a", "--label", "env=x", "--label", "env=y"])?
        .success();
    volhook.run(&["volume", "create", "team/b1"])?.success();
    Ok(volhook)
}

#[test]
fn the_other_words_for_ls_and_rm_are_understood() -> Result<()> {
    let volhook = host()?;
    assert_eq!(volhook.run(&["volume", "list", "-q"])?.success(), "a1\na2\nteam/b1\n");
    assert_eq!(volhook.run(&["volume", "remove", "--force", "a1"])?.success(), "a1\n");
    Ok(())
}

#[test]
fn what_is_shown_can_be_typed() -> Result<()> {
    let volhook = host()?;
    let shown = volhook.run(&["volume", "ls", "-q"])?.success();
    let names: Vec<&str> = shown.lines().collect();
    for document in [
        volhook.json(&[&["volume", "ls"][..]].concat())?,
        serde_json::from_str(&volhook.run(&[&["volume", "inspect"], &names[..]].concat())?.success())?,
    ] {
        let same: Vec<&str> =
            document.as_array().into_iter().flatten().filter_map(|v| v["name"].as_str()).collect();
        assert_eq!(same, names);
    }
    volhook.run(&["volume", "clone", "team/b1", "team/b2"])?.success();
    assert_eq!(volhook.run(&["volume", "rename", "team/b2", "b3"])?.success(), "team/b3\n");
    volhook.run(&["volume", "cp", "team/b3:/", "-"])?.success();
    assert_eq!(volhook.run(&["volume", "rm", "--force", "team/b3"])?.success(), "team/b3\n");
    assert_eq!(volhook.run(&["trash", "restore", "team/b3"])?.success(), "team/b3\n");
    let removed = volhook.run(&[&["volume", "rm", "--force"], &names[..]].concat())?.success();
    assert_eq!(removed, shown);
    Ok(())
}

#[test]
fn a_name_and_a_tenant_must_agree() -> Result<()> {
    let volhook = host()?;
    assert_eq!(
        volhook.run(&["volume", "inspect", "--tenant", "team", "team/b1", "-f", "{{.Name}}"])?.success(),
        "team/b1\n"
    );
    insta::assert_snapshot!(volhook.run(&["volume", "rm", "--tenant", "other", "team/b1"])?, @r#"
    ------- stderr -------
    Error: volume "team/b1" is named as tenant "team"'s, and tenant "other" is meant
    [exit status: 2]
    "#);
    Ok(())
}

#[test]
fn labels_may_be_empty_and_the_last_counts() -> Result<()> {
    let volhook = host()?;
    let labels = volhook.run(&["volume", "inspect", "a1", "a2", "--format", "{{json .Labels}}"])?.success();
    assert_eq!(labels, "{\"team\":\"a\",\"only\":\"\"}\n{\"team\":\"a\",\"env\":\"y\"}\n");
    assert_eq!(volhook.run(&["volume", "create", "a2", "--label", "env=y"])?.success(), "a2\n");
    Ok(())
}

#[test]
fn filters_are_regular_expressions_and_may_exclude() -> Result<()> {
    let volhook = host()?;
    for (filter, names) in [
        ("name=^a", "a1 a2 "),
        ("name=1$", "a1 team/b1 "),
        ("name=^x", ""),
        ("label!=only", "a2 team/b1 "),
        ("label!=team=a", "team/b1 "),
        ("label=only=", "a1 "),
    ] {
        let listed = volhook.run(&["volume", "ls", "-q", "--filter", filter])?.success();
        assert_eq!(listed.replace('\n', " "), names, "{filter}");
    }
    insta::assert_snapshot!(volhook.run(&["volume", "ls", "--filter", "name=("])?, @r#"
    ------- stderr -------
    Error: invalid filter "name=(": found open group without closing ')'
    hint: name= takes a regular expression, such as name=^db- or name=cache
    [exit status: 2]
    "#);
    Ok(())
}

#[test]
fn removing_what_is_not_there_by_force_is_no_failure() -> Result<()> {
    let volhook = host()?;
    let forced = volhook.run(&["volume", "rm", "-f", "nope", "a1"])?;
    assert_eq!((forced.code(), forced.stdout.as_str(), forced.stderr.as_str()), (Some(0), "a1\n", ""));
    insta::assert_snapshot!(volhook.run(&["volume", "rm", "nope"])?, @r#"
    ------- stderr -------
    Error: no such volume: "nope"
    hint: `volhook volume ls` shows which there are
    [exit status: 3]
    "#);
    assert_eq!(volhook.run(&["volume", "rm", "-f", "a2", "a2"])?.success(), "a2\n", "it is one volume");
    Ok(())
}

#[test]
fn formats_are_json_tables_and_templates() -> Result<()> {
    let volhook = host()?;
    let lines = volhook.run(&["volume", "ls", "--format", "json"])?.success();
    let documents: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let names: Vec<&str> = documents.iter().filter_map(|document| document["Name"].as_str()).collect();
    assert_eq!(names, ["a1", "a2", "team/b1"]);
    assert!(
        documents
            .iter()
            .all(|d| d["Scope"] == "local" && d["CreatedAt"].is_string() && d["Driver"] == "local")
    );
    assert_eq!(volhook.run(&["volume", "ls", "--format", "{{json .}}"])?.success(), lines);
    insta::assert_snapshot!(volhook.run(&["volume", "ls", "--format", r"table {{.Name}}\t{{.Driver}}\t{{.Labels}}"])?, @r#"
    NAME      DRIVER   LABELS
    a1        local    team=a,only=
    a2        local    team=a,env=y
    team/b1   local
    "#);
    let inspected = volhook.run(&["volume", "inspect", "-f", "json", "a1"])?.success();
    let inspected: Value = serde_json::from_str(&inspected)?;
    assert_eq!(inspected[0]["UsageData"]["RefCount"], 0);
    let usage = volhook.run(&["volume", "inspect", "-f", "{{.UsageData.Size}} {{.Options.mode}}", "a1"])?;
    assert_eq!(usage.success(), "4096 0755\n");
    insta::assert_snapshot!(volhook.run(&["volume", "ls", "--format", "{{range .Labels}}"])?, @r#"
    ------- stderr -------
    Error: the template is not usable: it has no "range"
    hint: a template has fields and functions, as in '{{.Name}} {{json .Labels}}'; functions: json join index len lower upper title split truncate; for more there is --json
    [exit status: 2]
    "#);
    Ok(())
}

#[test]
fn what_can_be_told_of_volumes_is_told() -> Result<()> {
    let volhook = host()?;
    std::fs::write(volhook.root().join("volumes/default/a1/volume.json"), "{}")?;
    let inspected = volhook.run(&["volume", "inspect", "a1", "a2", "nope"])?;
    assert_eq!(inspected.code(), Some(3), "{inspected}");
    let documents: Value = serde_json::from_str(&inspected.stdout)?;
    let of = |index: usize| (documents[index]["name"].as_str(), documents[index]["driver"].as_str());
    assert_eq!((of(0), of(1)), ((Some("a1"), None), (Some("a2"), Some("local"))));
    assert!(inspected.stderr.contains("a1/volume.json of volume \"a1\" is damaged"), "{inspected}");
    assert_eq!(volhook.run(&["volume", "inspect", "a1"])?.code(), Some(1));
    Ok(())
}

#[test]
fn only_what_is_asked_for_is_counted() -> Result<()> {
    let volhook = host()?;
    // It cannot be counted any more.
    std::fs::remove_dir(volhook.root().join("volumes/default/a1/data"))?;
    let place = volhook.run(&["volume", "inspect", "-f", "{{.Mountpoint}}", "a1"])?;
    assert!(place.stdout.ends_with("volumes/default/a1/data\n") && place.stderr.is_empty(), "{place}");
    let names = volhook.run(&["volume", "ls", "--format", "{{.Name}}"])?;
    assert_eq!((names.stdout.as_str(), names.stderr.as_str()), ("a1\na2\nteam/b1\n", ""));
    let all = volhook.run(&["volume", "inspect", "a1"])?;
    assert_eq!(all.code(), Some(1));
    let documents: Value = serde_json::from_str(&all.stdout)?;
    assert_eq!((&documents[0]["size"], &documents[0]["driver"]), (&Value::Null, &"local".into()));
    Ok(())
}

#[test]
fn options_of_dockers_local_driver_lead_to_the_driver_that_is_meant() -> Result<()> {
    let volhook = Volhook::new()?;
    let bind = ["volume", "create", "x", "-o", "type=none", "-o", "o=bind", "-o", "device=/srv/x"];
    insta::assert_snapshot!(volhook.run(&bind)?, @r#"
    ------- stderr -------
    Error: option "type" of driver local for volume "x": there is no such option
    hint: options of driver local: size=SIZE, path=TEXT, uid=NUMBER (default 0), gid=NUMBER (default 0), mode=TEXT (default 0755)
    hint: docker's `-o o=bind -o device=PATH` is driver host here: `volhook volume create -d host -o path=/srv/x NAME`, with a grant for the path in the configuration
    [exit status: 1]
    "#);
    let tmpfs = volhook.run(&["volume", "create", "x", "-o", "type=tmpfs", "-o", "device=tmpfs"])?;
    assert!(tmpfs.stderr.contains("`volhook volume create -d tmpfs NAME`"), "{tmpfs}");
    let nfs = volhook.run(&[
        "volume",
        "create",
        "x",
        "-o",
        "type=nfs",
        "-o",
        "device=:/x",
        "-o",
        "o=addr=1.2.3.4",
    ])?;
    assert!(nfs.stderr.contains("which hands them to mount(8)"), "{nfs}");
    Ok(())
}

#[test]
fn a_fresh_host_has_room_too() -> Result<()> {
    let volhook = Volhook::new()?;
    let usage = volhook.json(&["df"])?;
    assert!(usage["filesystem"]["size"].as_u64() > Some(0), "{usage:#}");
    assert!(!volhook.root().exists(), "looking made something");
    Ok(())
}

#[test]
fn a_root_behind_a_link_is_adopted_by_neither_of_its_names() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v"])?.success();
    let link = volhook.folder().join("link");
    std::os::unix::fs::symlink(volhook.root(), &link)?;
    for root in [&link, &volhook.root()] {
        for path in [&link, &volhook.root()] {
            let data = path.join("volumes/default/v/data");
            let adopt = ["--root", &root.to_string_lossy(), "volume", "adopt", &data.to_string_lossy(), "w"];
            let output =
                std::process::Command::new(volhook.binary()).envs(volhook.env()).args(adopt).output()?;
            assert_eq!(output.status.code(), Some(1), "{adopt:?}");
            assert!(String::from_utf8(output.stderr)?.contains("belongs to volhook's own root"), "{adopt:?}");
        }
    }
    Ok(())
}
