//! Commands as people type them: whole outputs of a hermetic state. Only those that make images need root.

use anyhow::Result;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
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
        [
            built_in("block", "driver"),
            built_in("device", "driver"),
            built_in("host", "driver"),
            built_in("local", "driver"),
            built_in("rules", "policy"),
            built_in("tmpfs", "driver"),
            built_in("universal", "policy")
        ]
    );
    Ok(())
}

#[test]
fn drivers_show_their_options() -> Result<()> {
    let volhook = Volhook::new()?;
    insta::assert_snapshot!(volhook.run(&["driver", "ls"])?, @r"
    NAME     OPTIONS                                      ABOUT
    block    size,fs,mkfs,discard,prealloc,uid,gid,mode   A filesystem in an image file, exclusive to one container
    device   path,fs                                      A block device of the host, which [grants] of the configuration must name; exclusive
    host     path                                         A directory of the host, which [grants] of the configuration must name; shared
    local    size,path,uid,gid,mode                       A directory, shared by any number of containers
    tmpfs    size,inodes,uid,gid,mode                     Memory: an empty filesystem for each container that claims it, gone with the container
    ");
    insta::assert_snapshot!(volhook.run(&["driver", "inspect", "tmpfs"])?, @r"
    tmpfs: Memory: an empty filesystem for each container that claims it, gone with the container
    OPTION   TYPE      DEFAULT   ABOUT
    size     size      -         The most that one container can put into it; half of the host's memory where nothing is said
    inodes   integer   -         The most files, directories and links in it
    uid      integer   0         The user that the top directory belongs to, as the container sees it
    gid      integer   0         The group that the top directory belongs to, as the container sees it
    mode     text      1777      The top directory's permissions, in octal
    ");
    let block = volhook.json(&["driver", "inspect", "block"])?;
    let option = |name: &str| {
        let mut options = block["options"].as_array().into_iter().flatten();
        options.find(|option| option["name"] == name).cloned().unwrap_or_default()
    };
    let fs = option("fs");
    assert_eq!((fs["type"].as_str(), fs["default"].as_str()), (Some("choice"), Some("ext4")));
    assert_eq!(fs["choices"], serde_json::json!(["ext4", "xfs", "btrfs"]));
    assert_eq!(option("size")["type"], "size");
    assert_eq!(option("mkfs")["default"], serde_json::Value::Null);
    let listed = volhook.json(&["driver", "ls"])?;
    let names: Vec<_> =
        listed.as_array().into_iter().flatten().map(|driver| driver["name"].as_str()).collect();
    assert_eq!(names, ["block", "device", "host", "local", "tmpfs"].map(Some));
    assert!(listed.as_array().into_iter().flatten().any(|driver| *driver == block));

    let unknown = volhook.run(&["driver", "inspect", "universal"])?;
    assert_eq!(unknown.code(), Some(1));
    insta::assert_snapshot!(unknown.stderr, @r#"Error: unknown driver "universal"; installed: block, device, host, local, tmpfs"#);
    let help = volhook.run(&["volume", "create", "--help"])?.success();
    assert!(help.contains("`volhook driver inspect DRIVER`"), "{help}");
    assert!(!volhook.root().exists(), "looking made something");
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
    vol-p1-bin         local    create      rw exclusive   /bin                        -
    vol-p1-etc         local    create      rw exclusive   /etc                        -
    vol-p1-home        local    create      rw exclusive   /home                       -
    tools              local    create      rw shared      /opt                        -
    vol-p1-root        local    create      rw exclusive   /root                       -
    vol-p1-srv         local    create      rw exclusive   /srv                        -
    vol-p1-usr         local    create      rw exclusive   /usr                        -
    mods               local    create      rw shared      /lib/mods (/usr/lib/mods)   a/b
    vol-p1-usr-local   local    create      rw exclusive   /usr/local                  -
    vol-p1-var         local    create      rw exclusive   /var                        -
    mydb               block    create      ro exclusive   /var/lib/db                 -
    vol-p1-workspace   local    create      rw exclusive   /workspace                  -
    pod p1 is made, as volume "vol-p1-storage": the image is seen through its changes
    what is made at / itself is kept as well: the pod's files become the container's root
    note: volume "vol-p1-opt": not mounted on /opt: annotation "dev.volhook.mount.opt" already claims /opt
    "#);
    let plan = volhook.json(&["plan", &path])?;
    assert_eq!(plan["mounts"].as_array().map(Vec::len), Some(12));
    assert_eq!(plan["leases"].as_array().map(Vec::len), Some(4));
    assert!(!volhook.root().exists() && !volhook.run_dir().exists(), "planning made something");

    volhook.configure(
        "[[policies]]\nmatch = \"all\"\npolicy = \"rules\"\n[plugins.rules.claims]\ndata = \"source=data,target=/data\"\n",
    )?;
    let taken = BundleBuilder::new()
        .directory("/data")
        .edit(|spec| {
            let mount = serde_json::json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs"});
            spec["mounts"].as_array_mut().into_iter().for_each(|mounts| mounts.push(mount.clone()));
        })
        .build()?;
    insta::assert_snapshot!(volhook.run(&["plan", &taken.path().to_string_lossy()])?, @r#"
    The container gets no volumes: whatever was claimed for it stepped back.
    note: volume "data": not mounted on /data: the container's spec already mounts /data from "tmpfs"
    "#);
    volhook.configure("")?;
    let plain = BundleBuilder::new().build()?;
    insta::assert_snapshot!(volhook.run(&["plan", &plain.path().to_string_lossy()])?, @"The container claims nothing: it starts untouched.");
    Ok(())
}

/// Paths may be any bytes, and a spec holds text: what is to stand in it is refused by name, everything else is used as it is.
#[test]
fn paths_that_are_no_text_are_carried_through_or_refused() -> Result<()> {
    let volhook = Volhook::new()?;
    let odd = volhook.folder().join(OsStr::from_bytes(b"o\xffdd"));
    fs::create_dir(&odd)?;
    let bundle = BundleBuilder::new()
        .directory("/data")
        .annotation("dev.volhook.mount.x", "source=v,target=/data")
        .build()?;
    let before = fs::read(bundle.path().join("config.json"))?;
    for option in ["--root", "--run-dir", "--config"] {
        let place = odd.join(&option[2..]);
        let install = volhook.command(&["bundle", "install"]).arg(bundle.path()).arg(option).arg(&place);
        let refused = install.run()?;
        assert_eq!(refused.code(), Some(1), "{refused}");
        assert!(refused.stderr.contains(&format!("o\\xFFdd/{}\", is not UTF-8", &option[2..])), "{refused}");
        let precreate =
            volhook.command(&["hook", "precreate"]).directory(bundle.path()).arg(option).arg(&place);
        let refused = precreate.stdin(before.clone()).run()?;
        assert!(refused.code() == Some(1) && refused.stderr.contains("is not UTF-8"), "{refused}");
        let made = [place, volhook.root()].iter().any(|root| root.join("volumes").exists());
        assert!(!made, "a volume was made: {refused}");
    }
    assert_eq!(fs::read(bundle.path().join("config.json"))?, before);
    assert_eq!(volhook.json(&["lease", "ls"])?, serde_json::json!([]));

    // A directory that stays where it is is known by its path.
    let kept = odd.join("kept");
    fs::create_dir(&kept)?;
    let adopt =
        volhook.command(&["volume", "adopt", "--in-place", "-d", "host"]).arg(&kept).arg("v").run()?;
    assert!(adopt.code() == Some(1) && adopt.stderr.contains("o\\xFFdd/kept\", is not UTF-8"), "{adopt}");

    let moved = odd.join("bundle");
    assert!(Command::new("cp").arg("-a").args([bundle.path(), &moved]).status()?.success());
    let planned = volhook.command(&["plan"]).arg(&moved).run()?.success();
    assert!(planned.contains("/data"), "{planned}");
    volhook.command(&["bundle", "install"]).arg(&moved).run()?.success();

    // The wrapper: where the runtime is, and what it is told.
    let runtime = odd.join("runtime");
    fs::write(&runtime, "#!/bin/sh\nprintf '%s ' \"$@\" | od -An -c | tr -d ' \\n'\n")?;
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755))?;
    let state = volhook.command(&["runtime", "state"]).arg(OsStr::from_bytes(b"c\xff"));
    let told = state.env("VOLHOOK_RUNTIME", &runtime).run()?.success();
    assert_eq!(told, "statec377");
    let create =
        volhook.command(&["runtime", "create", "--bundle"]).arg(&moved).arg(OsStr::from_bytes(b"c\xff"));
    let refused = create.env("VOLHOOK_RUNTIME", &runtime).run()?;
    assert!(refused.code() == Some(1) && refused.stderr.contains("container id"), "{refused}");
    Ok(())
}

/// What is shown of a tenant's pods can be typed.
#[test]
fn privileged_pods_have_one_spelling() -> Result<()> {
    let volhook = Volhook::new()?;
    let image = volhook.folder().join("image");
    fs::create_dir_all(image.join("etc"))?;
    let prepare = |pod: &str, tenant: &[&str]| {
        let line = ["pod", "prepare", pod, "--policy", "universal,population=copy", "--rootfs"];
        volhook.command(&line).arg(&image).args(tenant).run()
    };
    assert_eq!(prepare("p", &[])?.success(), "p\n");
    assert_eq!(prepare("p", &["--tenant", "team"])?.success(), "team/p\n");
    let listed = volhook.run(&["pod", "ls", "-q"])?.success();
    assert_eq!(listed, "p\nteam/p\n");
    let seen = volhook.run(&["pod", "inspect", "team/p", "nope", "p"])?;
    assert_eq!(seen.code(), Some(3), "{seen}");
    let seen: serde_json::Value = serde_json::from_str(&seen.stdout)?;
    assert_eq!((&seen[0]["name"], &seen[0]["tenant"]), (&"team/p".into(), &"team".into()));
    assert_eq!((&seen[0]["storage"], &seen[1]["name"]), (&"team/vol-p-storage".into(), &"p".into()));
    volhook.run(&["pod", "reset", "team/p", "--volume", "team/vol-p-etc", "--force"])?.success();
    let rm: Vec<&str> = ["pod", "rm", "--force"].into_iter().chain(listed.lines()).collect();
    assert_eq!(volhook.run(&rm)?.success(), listed);
    assert_eq!(volhook.run(&["pod", "rm", "--force", "p"])?.code(), Some(3));
    let other = volhook.run(&["pod", "rm", "--force", "--tenant", "other", "team/p"])?;
    assert_eq!(other.code(), Some(2), "{other}");
    Ok(())
}

/// Whatever is listed or inspected can be printed as docker prints it.
#[test]
fn lists_take_json_tables_and_templates() -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = BundleBuilder::new()
        .directory("/data")
        .annotation("dev.volhook.mount.x", "source=v,target=/data")
        .build()?;
    let mut spec = bundle.config()?;
    spec["linux"]["cgroupsPath"] = format!("/machine/libpod-{}", "c1".repeat(32)).into();
    let precreate = volhook.command(&["hook", "precreate"]).directory(bundle.path());
    precreate.stdin(spec.to_string()).run()?.success();
    volhook.run(&["volume", "create", "gone"])?.success();
    volhook.run(&["volume", "rm", "--force", "gone"])?.success();
    let shown = |line: &[&str], format: &str| -> Result<String> {
        Ok(volhook.command(line).args(["--format", format]).run()?.success().trim_end().to_owned())
    };
    assert_eq!(shown(&["lease", "ls"], "{{.Volume}} {{.Access}} {{.State}}")?, "v rw pending");
    assert_eq!(shown(&["lease", "ls"], "table {{.Volume}}\t{{.Target}}")?, "VOLUME   TARGET\nv        /data");
    assert!(shown(&["lease", "ls"], "json")?.starts_with(r#"{"Volume":"v","Tenant":"default","#));
    assert!(shown(&["lease", "ls"], "table")?.starts_with("VOLUME   CONTAINER"));
    let events = shown(&["events"], "{{.Kind}} {{.Volume}}")?;
    assert!(events.contains("created v\n") && events.contains("granted v\n"), "{events}");
    assert_eq!(shown(&["driver", "ls"], "{{.Name}} {{len .Options}}")?.lines().last(), Some("tmpfs 5"));
    assert_eq!(shown(&["driver", "inspect", "host"], "{{.Source}}")?, "builtin");
    let plugins = shown(&["plugin", "ls"], "{{.Name}} {{.Kind}}")?;
    assert!(plugins.contains("universal policy"), "{plugins}");
    assert_eq!(shown(&["plugin", "inspect", "rules"], "{{.Kind}}")?, "policy");
    assert_eq!(shown(&["trash", "ls"], "{{.Name}}")?, "gone");
    assert_eq!(shown(&["pod", "ls"], "{{.Name}}")?, "");
    let doctor = volhook.run(&["doctor", "--format", "{{.Check}}={{.Verdict}}"])?;
    assert!(doctor.stdout.contains("journal=ok\n"), "{doctor}");
    for line in
        ["lease ls", "events", "driver ls", "plugin ls", "pod ls", "pod inspect p", "trash ls", "doctor"]
    {
        let line: Vec<&str> = line.split(' ').collect();
        let refused = volhook.command(&line).args(["--format", "{{range .}}"]).run()?;
        assert_eq!(refused.code(), Some(2), "{refused}");
    }
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
    Error: the configuration [FOLDER]/config.toml line 1 is not usable: unknown field `default_drivers`, expected one of `annotation_prefix`, `tenant_annotation`, `default_driver`, `policy`, `policies`, `runtime`, `history`, `trash`, `grants`, `limits`, `record`, `plugins`
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

#[test]
fn privileged_volumes_are_created_as_docker_s_users_expect() -> Result<()> {
    let volhook = Volhook::new()?;
    let create = ["volume", "create", "mydb", "-d", "block", "-o", "size=16M", "--label", "team=a"];
    insta::assert_snapshot!(volhook.run(&create)?, @"mydb");
    assert_eq!(volhook.run(&create)?.success(), "mydb\n");
    assert_eq!(volhook.run(&["volume", "create", "mydb"])?.success(), "mydb\n");
    let same = ["volume", "create", "mydb", "-d", "block", "-o", "size=16384K"];
    assert_eq!(volhook.run(&same)?.success(), "mydb\n");
    let other = ["volume", "create", "mydb", "-o", "size=32M", "--label", "team=b", "--label", "new=1"];
    insta::assert_snapshot!(volhook.run(&other)?, @r#"
    ------- stderr -------
    Error: volume "mydb" exists already, and has size=16M, not 32M, has label team=a, not b, has label new=nothing, not 1
    hint: choose another name, or ask for what it has
    [exit status: 1]
    "#);
    insta::assert_snapshot!(volhook.run(&["volume", "create", "mydb", "--driver", "local"])?, @r#"
    ------- stderr -------
    Error: volume "mydb" exists already, and has driver block, not local
    hint: choose another name, or ask for what it has
    [exit status: 1]
    "#);
    insta::assert_snapshot!(volhook.run(&["volume", "create", "x", "-o", "colour=red"])?, @r#"
    ------- stderr -------
    Error: option "colour" of driver local for volume "x": there is no such option
    hint: options of driver local: size=SIZE, path=TEXT, uid=NUMBER (default 0), gid=NUMBER (default 0), mode=TEXT (default 0755)
    [exit status: 1]
    "#);
    insta::assert_snapshot!(volhook.run(&["volume", "create", "x", "-d", "nfs"])?, @r#"
    ------- stderr -------
    Error: unknown driver "nfs" for volume "x"
    hint: installed: block, device, host, local, tmpfs
    [exit status: 1]
    "#);
    insta::assert_snapshot!(volhook.run(&["volume", "create", "../x"])?, @r#"
    ------- stderr -------
    Error: invalid volume name "../x": must match [a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}
    hint: a volume name is 1 to 128 letters, digits, `_`, `.` and `-`, and begins with a letter or digit
    [exit status: 2]
    "#);
    insta::assert_snapshot!(volhook.run(&["volume", "create", "x", "--label", "=a"])?, @r#"
    ------- stderr -------
    Error: --label "=a" has no name
    hint: an example: --label team=a
    [exit status: 2]
    "#);

    let generated = volhook.run(&["volume", "create"])?.success();
    assert!(
        generated.trim().len() == 64 && generated.trim().bytes().all(|b| b.is_ascii_hexdigit()),
        "{generated}"
    );
    assert_eq!(volhook.run(&["volume", "ls", "-q"])?.success(), format!("{generated}mydb\n"));
    let created = volhook.json(&["events"])?;
    assert_eq!(created.as_array().map(Vec::len), Some(2));
    Ok(())
}

#[test]
fn privileged_volumes_are_listed_by_filter_and_format() -> Result<()> {
    let volhook = Volhook::new()?;
    for (name, driver, label) in
        [("a1", "local", "team=a"), ("a2", "block", "team=a"), ("b1", "local", "team=b")]
    {
        let size: &[&str] = if driver == "block" { &["-o", "size=16M"] } else { &[] };
        let create = ["volume", "create", name, "-d", driver, "--label", label];
        volhook.run(&[&create[..], size].concat())?.success();
    }
    let listed = |filters: &[&str]| -> Result<String> {
        let mut args = vec!["volume", "ls", "-q"];
        args.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
        Ok(volhook.run(&args)?.success().replace('\n', " "))
    };
    assert_eq!(listed(&["label=team=a"])?, "a1 a2 ");
    assert_eq!(listed(&["label=team=a", "driver=block"])?, "a2 ");
    assert_eq!(listed(&["name=1", "dangling=true"])?, "a1 b1 ");
    assert_eq!(listed(&["dangling=false"])?, "");
    let formatted =
        volhook.run(&["volume", "ls", "--format", r"{{.Name}}\t{{.Driver}} {{.Limit}} {{.Labels}}"])?;
    assert_eq!(formatted.success(), "a1\tlocal - team=a\na2\tblock 16M team=a\nb1\tlocal - team=b\n");
    insta::assert_snapshot!(volhook.run(&["volume", "ls", "--filter", "colour=red"])?, @r#"
    ------- stderr -------
    Error: invalid filter "colour=red"
    hint: filters: driver=NAME, label=KEY or label=KEY=VALUE, label!=…, dangling=true or dangling=false, name=REGEX, pod=NAME
    [exit status: 2]
    "#);
    insta::assert_snapshot!(volhook.run(&["volume", "ls", "--format", "{{.Colour}}"])?, @r#"
    ------- stderr -------
    Error: the template has no field ".Colour"
    hint: fields: {{.Name}} {{.Tenant}} {{.Driver}} {{.Size}} {{.SizeCounted}} {{.Limit}} {{.Holders}} {{.Created}} {{.Labels}} {{.Options}} {{.Mountpoint}} {{.Pod}} {{.Storage}} {{.Uuid}} {{.CreatedAt}} {{.Scope}}
    [exit status: 2]
    "#);
    let inspected = volhook.run(&["volume", "inspect", "a2", "nope"])?;
    assert_eq!(inspected.code(), Some(3));
    insta::assert_snapshot!(inspected.stderr, @r#"
    Error: no such volume: "nope"
    hint: `volhook volume ls` shows which there are
    "#);
    let document: serde_json::Value = serde_json::from_str(&inspected.stdout)?;
    assert_eq!((document[0]["name"].as_str(), document[0]["limit"].as_u64()), (Some("a2"), Some(16 << 20)));
    assert_eq!(document.as_array().map(Vec::len), Some(1));
    Ok(())
}

#[test]
fn sizes_are_counted_once_a_minute_and_shown_with_their_age() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v"])?.success();
    let shown = || -> Result<String> {
        Ok(volhook.run(&["volume", "ls", "--format", "{{.Size}}"])?.success().trim().to_owned())
    };
    let data = volhook.root().join("volumes/default/v/data/large");
    assert_eq!(shown()?, "4K");
    std::fs::write(&data, vec![1; 1 << 20])?;
    assert_eq!(shown()?, "4K", "within a minute nothing is counted again");
    let counted = volhook.run(&["volume", "ls", "--count", "--format", "{{.Size}}"])?;
    assert_eq!(counted.success(), "1M\n");

    // A count of three hours ago, and a volume that cannot be counted now.
    let cache = volhook.root().join("sizes.json");
    let mut document: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&cache)?)?;
    let sizes = document["sizes"].as_object_mut().expect("sizes by uuid");
    let old = sizes.values_mut().next().expect("one size");
    *old = serde_json::json!({ "bytes": 5 << 20, "counted": "2026-01-01T00:00:00Z" });
    std::fs::write(&cache, document.to_string())?;
    assert_eq!(shown()?, "1M", "an old count is made anew where that is quick");
    let df = volhook.json(&["df"])?;
    assert_eq!(df["volumes"]["size"], serde_json::json!((1 << 20) + 4096));
    assert_eq!(df["volumes"]["reclaimable"], df["volumes"]["size"]);
    volhook.run(&["volume", "rm", "--force", "v"])?.success();
    let df = volhook.json(&["df"])?;
    assert_eq!((&df["volumes"]["total"], &df["trash"]["total"]), (&0.into(), &1.into()));
    assert!(df["trash"]["size"].as_u64() > Some(1 << 20), "{df:#}");
    Ok(())
}

#[test]
fn volumes_are_inspected_in_docker_s_words() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v", "--label", "team=a"])?.success();
    let shown = volhook.run(&["volume", "inspect", "--format", "docker", "v"])?.json();
    let mountpoint = volhook.root().join("volumes/default/v/data");
    assert_eq!(shown[0]["Mountpoint"], serde_json::json!(mountpoint));
    assert_eq!(shown[0]["Labels"], serde_json::json!({ "team": "a" }));
    assert_eq!(shown[0]["UsageData"], serde_json::json!({ "RefCount": 0, "Size": 4096 }));
    let keys: Vec<&String> = shown[0].as_object().into_iter().flat_map(|fields| fields.keys()).collect();
    let docker = ["CreatedAt", "Driver", "Labels", "Mountpoint", "Name", "Options", "Scope", "UsageData"];
    assert_eq!(keys, docker);
    let line = volhook.run(&["volume", "inspect", "-f", "{{.Name}} {{.Mountpoint}}", "v", "absent"])?;
    assert_eq!(
        (line.stdout.as_str(), line.code()),
        (format!("v {}\n", mountpoint.display()).as_str(), Some(3))
    );
    Ok(())
}

#[test]
fn the_help_of_create_has_the_drivers_options() -> Result<()> {
    let volhook = Volhook::new()?;
    // However it is broken into lines.
    let help = volhook.run(&["volume", "create", "--help"])?.success();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for driver in volhook.json(&["driver", "ls"])?.as_array().into_iter().flatten() {
        let name = driver["name"].as_str().unwrap_or_default();
        assert!(help.contains(&format!("Driver {name}: ")), "{name} is not in:\n{help}");
        for option in driver["options"].as_array().into_iter().flatten() {
            let about = option["about"].as_str().unwrap_or_default();
            assert!(help.contains(about), "{about:?} is not in:\n{help}");
        }
    }
    assert!(!volhook.run(&["volume", "ls", "--help"])?.success().contains("Driver block"));
    Ok(())
}
