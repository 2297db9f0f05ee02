//! Commands as people type them: whole outputs of a hermetic state, without any privilege of the kernel's.

use anyhow::Result;
use volhook_harness::BundleBuilder;
use volhook_harness::Volhook;

fn in_snapshot(volhook: &Volhook, output: &volhook_harness::Output) -> String {
    output.to_string().replace(&*volhook.folder().to_string_lossy(), "[FOLDER]")
}

#[test]
fn an_empty_state_lists_nothing() -> Result<()> {
    let volhook = Volhook::new()?;
    for list in ["volume", "lease"] {
        assert_eq!(volhook.json(&[list, "ls"])?, serde_json::json!([]));
    }
    assert_eq!(volhook.json(&["events"])?, serde_json::json!([]));
    insta::assert_snapshot!(volhook.run(&["volume", "ls"])?, @"NAME   DRIVER   SIZE   LIMIT   HELD BY   CREATED");
    insta::assert_snapshot!(volhook.run(&["lease", "ls"])?, @"VOLUME   CONTAINER   DRIVER   ACCESS   TARGET   PID   SINCE");
    assert!(!volhook.root().exists(), "looking made something");
    Ok(())
}

#[test]
fn the_built_in_plugins_are_listed() -> Result<()> {
    let volhook = Volhook::new()?;
    let listed = volhook.json(&["plugin", "ls"])?;
    let names: Vec<_> = listed
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| (p["name"].as_str(), p["kind"].as_str(), p["source"].as_str(), p["api_version"].as_str()))
        .collect();
    let built_in = |name, kind| (Some(name), Some(kind), Some("builtin"), Some("0.1.0"));
    assert_eq!(
        names,
        [built_in("block", "driver"), built_in("local", "driver"), built_in("universal", "policy")]
    );
    Ok(())
}

#[test]
fn a_plan_does_nothing() -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = BundleBuilder::new()
        .directory("/usr/lib")
        .symlink("/lib", "usr/lib")
        .annotation("dev.volhook.pod", "p1")
        .annotation("dev.volhook.mount.db", "source=mydb,target=/var/lib/db,volume-driver=block,readonly")
        .annotation("dev.volhook.mount.lib", "source=mods,target=/lib/mods,volume-subpath=a/b")
        .annotation("dev.volhook.mount.opt", "source=tools,target=/opt")
        .build()?;
    let path = bundle.path().to_string_lossy().into_owned();
    insta::assert_snapshot!(volhook.run(&["plan", &path])?, @r#"
    VOLUME             DRIVER   VOLUME IS   ACCESS         TARGET                      SUBPATH
    vol-p1-etc         local    create      rw shared      /etc                        -
    vol-p1-home        local    create      rw shared      /home                       -
    tools              local    create      rw shared      /opt                        -
    vol-p1-root        local    create      rw shared      /root                       -
    vol-p1-srv         local    create      rw shared      /srv                        -
    mods               local    create      rw shared      /lib/mods (/usr/lib/mods)   a/b
    vol-p1-usr-local   local    create      rw shared      /usr/local                  -
    vol-p1-var         local    create      rw shared      /var                        -
    mydb               block    create      ro exclusive   /var/lib/db                 -
    vol-p1-workspace   local    create      rw shared      /workspace                  -
    note: volume "vol-p1-opt": not mounted on /opt: annotation "dev.volhook.mount.opt" already claims /opt
    "#);
    let plan = volhook.json(&["plan", &path])?;
    assert_eq!(plan["mounts"].as_array().map(Vec::len), Some(10));
    assert_eq!(plan["leases"].as_array().map(Vec::len), Some(10));
    assert!(!volhook.root().exists() && !volhook.run_dir().exists(), "planning made something");

    let plain = BundleBuilder::new().build()?;
    insta::assert_snapshot!(volhook.run(&["plan", &plain.path().to_string_lossy()])?, @"The container claims nothing: it starts untouched.");
    Ok(())
}

#[test]
fn entries_are_installed_once_and_beside_what_is_there() -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = BundleBuilder::new()
        .edit(|spec| {
            spec["x-unknown"] = serde_json::json!({"kept": [1, null, "ü"]});
            spec["hooks"]["poststop"] = serde_json::json!([{"path": "/bin/true", "x-also": 1}]);
        })
        .build()?;
    let before = bundle.config()?;
    volhook.install(&bundle)?.success();
    let once = bundle.config()?;
    volhook.install(&bundle)?.success();
    assert_eq!(bundle.config()?, once);
    assert_eq!(once["x-unknown"], before["x-unknown"]);
    assert_eq!(once["hooks"]["poststop"][0], before["hooks"]["poststop"][0]);
    let entry = &once["hooks"]["prestart"][0];
    assert_eq!(entry["path"].as_str(), Some(&*volhook.binary().to_string_lossy()));
    assert!(entry["timeout"].as_u64().is_some_and(|seconds| seconds > 0));
    let env: Vec<_> = entry["env"].as_array().into_iter().flatten().filter_map(|v| v.as_str()).collect();
    assert!(env.contains(&&*format!("VOLHOOK_ROOT={}", volhook.root().display())), "{env:?}");
    Ok(())
}

#[test]
fn wrong_usage_and_failures_have_their_exit_codes() -> Result<()> {
    let volhook = Volhook::new()?;
    assert_eq!(volhook.run(&["frobnicate"])?.code(), Some(2));
    assert_eq!(volhook.run(&["hook", "poststart"])?.code(), Some(2));
    let missing = volhook.folder().join("nowhere");
    let output = volhook.run(&["plan", &missing.to_string_lossy()])?;
    insta::assert_snapshot!(in_snapshot(&volhook, &output), @r"
    ------- stderr -------
    Error: cannot read the container's spec [FOLDER]/nowhere/config.json: No such file or directory (os error 2)
    [exit status: 1]
    ");
    let bundle = BundleBuilder::new().annotation("dev.volhook.mont.x", "source=v").build()?;
    insta::assert_snapshot!(volhook.run(&["plan", &bundle.path().to_string_lossy()])?, @r#"
    ------- stderr -------
    Error: unknown annotation "dev.volhook.mont.x"
    hint: known are dev.volhook.mount.<label>, dev.volhook.pod and dev.volhook.policy
    [exit status: 1]
    "#);
    volhook.configure("default_drivers = \"local\"\n")?;
    let output = volhook.run(&["plan", &bundle.path().to_string_lossy()])?;
    insta::assert_snapshot!(in_snapshot(&volhook, &output), @r"
    ------- stderr -------
    Error: the configuration [FOLDER]/config.toml line 1 is not usable: unknown field `default_drivers`, expected one of `annotation_prefix`, `tenant_annotation`, `default_driver`, `policy`, `runtime`, `history`, `plugins`
    [exit status: 1]
    ");
    let verbose = volhook.run(&["-v", "plan", &missing.to_string_lossy()])?;
    insta::assert_snapshot!(in_snapshot(&volhook, &verbose), @r"
    ------- stderr -------
    Error: cannot read the container's spec [FOLDER]/nowhere/config.json
      caused by: No such file or directory (os error 2)
    [exit status: 1]
    ");
    Ok(())
}
