//! Completions and manual pages: made from the command line, and right about what is on the host.

use anyhow::Result;
use std::collections::BTreeSet;
use std::fs;
use volhook_harness::BundleBuilder;
use volhook_harness::Program;
use volhook_harness::Volhook;

/// What bash offers for the last of `words`, by the code that it reads.
fn offered(volhook: &Volhook, words: &[&str]) -> Result<BTreeSet<String>> {
    let script = r#"
        source <(volhook completions bash)
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9
        "$(complete -p volhook | sed 's/.*-F \([^ ]*\) .*/\1/')" volhook "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let path = format!("{}:/usr/bin:/bin", volhook.binary().parent().expect("it lies in a folder").display());
    let mut program =
        Program::new("bash").args(["-euc", script, "bash", "volhook"]).args(words).env("PATH", path);
    for (name, value) in volhook.env() {
        program = program.env(name, value);
    }
    Ok(program.run()?.success().lines().map(str::to_owned).filter(|line| !line.starts_with('-')).collect())
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn bash_completes_what_is_there() -> Result<()> {
    let volhook = Volhook::new()?;
    assert_eq!(offered(&volhook, &["volume", "inspect", ""])?, set(&[]));
    for name in ["mydb", "myweb", "other"] {
        volhook.run(&["volume", "create", name])?.success();
    }
    volhook.run(&["volume", "create", "theirs", "--tenant", "team-b"])?.success();
    volhook.run(&["volume", "rm", "--force", "other"])?.success();
    assert_eq!(offered(&volhook, &["volume", "inspect", ""])?, set(&["mydb", "myweb", "theirs"]));
    assert_eq!(offered(&volhook, &["volume", "rm", "mydb", "myw"])?, set(&["myweb"]));
    assert_eq!(offered(&volhook, &["lease", "break", "myd"])?, set(&["mydb"]));
    assert_eq!(offered(&volhook, &["volume", "rename", "myd"])?, set(&["mydb"]));
    assert_eq!(offered(&volhook, &["trash", "restore", ""])?, set(&["other"]));
    assert_eq!(
        offered(&volhook, &["volume", "create", "x", "-d", ""])?,
        set(&["block", "device", "host", "local", "tmpfs"])
    );
    assert_eq!(offered(&volhook, &["volume", "create", "x", "-o", "s"])?, set(&["size="]));
    assert_eq!(offered(&volhook, &["volume", "ls", "--tenant", ""])?, set(&[]), "ls has no tenant");
    assert_eq!(offered(&volhook, &["volume", "rm", "--tenant", "t"])?, set(&["team-b"]));
    assert_eq!(offered(&volhook, &["volume", "ls", "--filter", "d"])?, set(&["driver=", "dangling="]));
    assert_eq!(offered(&volhook, &["vol"])?, set(&["volume"]));
    // What other programs do, by their own word.
    assert_eq!(offered(&volhook, &["plugin", "ne"])?, set(&["new"]));
    assert_eq!(offered(&volhook, &["plugin", "new", "x", "--kind", ""])?, set(&["driver", "policy"]));
    assert_eq!(offered(&volhook, &["harness", ""])?, set(&["help", "run", "statements"]));
    assert_eq!(offered(&volhook, &["harness", "run", "--as", "r"])?, set(&["runc"]));
    assert_eq!(offered(&volhook, &["completions", ""])?, set(&["bash", "fish", "zsh"]));
    // A container that was refused.
    let bundle = BundleBuilder::new().annotation("dev.volhook.mount.x", "nonsense").build()?;
    let state = serde_json::json!({
        "ociVersion": "1.0.2", "id": "web-1", "status": "created", "pid": 1, "bundle": bundle.path(),
    });
    volhook.hook("prestart", state.to_string())?.failure();
    assert_eq!(offered(&volhook, &["explain", "w"])?, set(&["web-1"]));
    Ok(())
}

#[test]
fn every_shell_gets_code_of_its_own() -> Result<()> {
    let volhook = Volhook::new()?;
    for (shell, parts) in [
        ("bash", ["complete -o nospace", "VOLHOOK_COMPLETE=\"bash\""]),
        ("zsh", ["#compdef volhook", "VOLHOOK_COMPLETE=\"zsh\""]),
        ("fish", ["complete --keep-order", "VOLHOOK_COMPLETE=fish"]),
    ] {
        let code = volhook.run(&["completions", shell])?.success();
        assert!(parts.iter().all(|part| code.contains(part)), "{shell}:\n{code}");
    }
    assert_eq!(volhook.run(&["completions", "csh"])?.code(), Some(2));
    // What asks for completions changes nothing for a hook.
    let bundle = BundleBuilder::new().build()?;
    let state = serde_json::json!({
        "ociVersion": "1.0.2", "id": "c1", "status": "created", "pid": 1, "bundle": bundle.path(),
    });
    let hook = volhook.command(&["hook", "prestart"]).env("VOLHOOK_COMPLETE", "").stdin(state.to_string());
    hook.run()?.success();
    Ok(())
}

#[test]
fn manual_pages_are_written_for_every_command() -> Result<()> {
    let volhook = Volhook::new()?;
    let page = volhook.run(&["man", "volume", "create"])?.success();
    assert!(page.contains(".TH volhook-volume-create 8") && page.contains("\\-\\-driver"), "{page}");
    let whole = volhook.run(&["man"])?.success();
    assert!(whole.contains("Exit codes: 0 done"), "{whole}");
    insta::assert_snapshot!(volhook.run(&["man", "trash", "empy"])?, @r#"
    ------- stderr -------
    Error: volhook trash has no command "empy"
    hint: commands: ls, restore, empty
    [exit status: 2]
    "#);
    insta::assert_snapshot!(volhook.run(&["man", "df", "x"])?, @r#"
    ------- stderr -------
    Error: volhook df has no command "x"
    [exit status: 2]
    "#);

    let folder = volhook.folder().join("share/man8");
    let written = volhook.run(&["man", "--out", &folder.to_string_lossy()])?.success();
    let named: BTreeSet<String> = written.lines().map(str::to_owned).collect();
    let there: BTreeSet<String> =
        fs::read_dir(&folder)?.map(|entry| Ok(entry?.path().display().to_string())).collect::<Result<_>>()?;
    assert_eq!(named, there);
    for command in ["volhook", "volhook-volume", "volhook-volume-create", "volhook-doctor", "volhook-man"] {
        assert!(
            there.contains(&folder.join(format!("{command}.8")).display().to_string()),
            "{command}: {there:?}"
        );
    }
    assert!(!written.contains("compile"), "a command that is not for people:\n{written}");
    let some = volhook.folder().join("some");
    volhook.run(&["man", "trash", "--out", &some.to_string_lossy()])?.success();
    assert_eq!(fs::read_dir(&some)?.count(), 4);
    fs::write(volhook.folder().join("file"), "")?;
    let failed = volhook.run(&["man", "--out", &volhook.folder().join("file").to_string_lossy()])?.failure();
    assert!(failed.contains("cannot write the manual pages to"), "{failed}");
    Ok(())
}
