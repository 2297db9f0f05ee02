//! Volumes that containers get from the configuration alone: a developer's home that is kept.

use crate::assert_contains;
use crate::last_refusal;
use crate::on_both_runtimes;
use crate::volumes;
use anyhow::Result;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_a_developers_home_is_kept_by_rules,
    privileged_who_matches_no_rule_starts_whatever_is_broken,
    privileged_rules_can_be_for_all_containers,
);

/// Three volumes for all containers, and one file of a read-only folder that stays writable.
const RULES: &str = r#"
[[policies]]
policy = "rules"
match = { annotation = "org.example.devenv", value = "true" }

[plugins.rules.claims]
data = "source=devenv-data,target=/home/devuser/.local/share,volume-label=devenv=true,volume-opt=uid=1000"
cache = "source=devenv-cache,target=/home/devuser/.cache,volume-label=devenv=true,volume-opt=uid=1000"
state = "source=devenv-state,target=/home/devuser/.local/state,volume-label=devenv=true,volume-opt=uid=1000"
lock = "source=devenv-tvim-lock,target=/home/devuser/.config/tvim/lazy-lock.json,volume-subpath=lazy-lock.json,volume-label=devenv=true"
"#;

/// What the engine mounts read-only from the host.
fn host_files() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("tvim"))?;
    fs::write(folder.path().join("tvim/init.lua"), "-- settings\n")?;
    fs::write(folder.path().join("tvim/lazy-lock.json"), "{}\n")?;
    fs::write(folder.path().join("auth.json"), "token\n")?;
    Ok(folder)
}

fn devenv(host: &Path, script: &str) -> Result<Bundle> {
    BundleBuilder::new()
        .shell(script)
        .directory("/home/devuser/.config")
        .bind(host.join("tvim"), "/home/devuser/.config/tvim", &["ro"])
        .bind(host.join("auth.json"), "/home/devuser/.local/share/opencode/auth.json", &["ro"])
        .annotation("org.example.devenv", "true")
        .build()
}

fn privileged_a_developers_home_is_kept_by_rules(kind: RuntimeKind) -> Result<()> {
    let host = host_files()?;
    for stage in ["live", "spec"] {
        let volhook = Volhook::new()?;
        volhook.configure(RULES)?;
        let runtime = if stage == "live" { Runtime::new(kind)? } else { volhook.wrapped_runtime(kind)? };
        let started = |script: &str, id: &str| {
            let bundle = devenv(host.path(), script)?;
            if stage == "live" {
                volhook.install(&bundle)?.success();
            }
            anyhow::Ok(runtime.run(&bundle, id)?.success())
        };
        let first = "cd /home/devuser; echo kept > .local/share/a; echo kept > .cache/b; echo kept > .local/state/c; \
                     cat .local/share/opencode/auth.json; echo pinned > .config/tvim/lazy-lock.json; \
                     touch .config/tvim/x 2>/dev/null || echo read-only; \
                     (echo x > .local/share/opencode/auth.json) 2>/dev/null || echo read-only; stat -c %u .cache";
        assert_eq!(started(first, "project-one")?, "token\nread-only\nread-only\n1000\n", "{stage}");
        let second = "cd /home/devuser; cat .local/share/a .cache/b .local/state/c .config/tvim/lazy-lock.json; \
                      cat .config/tvim/init.lua .local/share/opencode/auth.json";
        assert_eq!(
            started(second, "project-two")?,
            "kept\nkept\nkept\npinned\n-- settings\ntoken\n",
            "{stage}"
        );
        let names = ["devenv-cache", "devenv-data", "devenv-state", "devenv-tvim-lock"];
        assert_eq!(volumes(&volhook)?, names);
        let labelled = volhook.run(&["volume", "ls", "-q", "--filter", "label=devenv=true"])?.success();
        assert_eq!(labelled.lines().collect::<Vec<_>>(), names);
        assert_eq!(fs::read_to_string(host.path().join("tvim/lazy-lock.json"))?, "{}\n");
        assert_eq!(fs::read_to_string(host.path().join("auth.json"))?, "token\n");
        assert!(!host.path().join("tvim/x").exists());
    }
    Ok(())
}

fn privileged_who_matches_no_rule_starts_whatever_is_broken(kind: RuntimeKind) -> Result<()> {
    let host = host_files()?;
    let runtime = Runtime::new(kind)?;
    for broken in ["journal", "state root", "plugin", "configuration", "other part of the configuration"] {
        let volhook = Volhook::new()?;
        volhook.configure(RULES)?;
        let matching = devenv(host.path(), "echo started")?;
        let other =
            BundleBuilder::new().shell("echo started").annotation("org.example.devenv", "false").build()?;
        let plain = BundleBuilder::new().shell("echo started").build()?;
        for bundle in [&matching, &other, &plain] {
            volhook.install(bundle)?.success();
        }
        match broken {
            "journal" => {
                fs::create_dir_all(volhook.root())?;
                fs::write(volhook.root().join("journal"), "not a folder")?;
            }
            "state root" => fs::write(volhook.root(), "not a folder")?,
            "plugin" => volhook.configure(&RULES.replace("policy = \"rules\"", "policy = \"absent\""))?,
            "configuration" => volhook.configure("= nonsense [")?,
            _ => volhook.configure(&format!("unknown = 1\n{RULES}"))?,
        }
        for bundle in [&other, &plain] {
            let output = runtime.run(bundle, "c1")?;
            assert!(output.status.success(), "with a broken {broken}: {output}");
            assert_eq!(output.stdout, "started\n");
        }
        // Where not even the rules can be read, nobody knows that one is for this container.
        let output = runtime.run(&matching, "c2")?;
        assert_eq!(output.status.success(), broken == "configuration", "with a broken {broken}: {output}");
    }
    Ok(())
}

fn privileged_rules_can_be_for_all_containers(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    volhook.configure(
        "[[policies]]\npolicy = \"rules\"\nmatch = \"all\"\n[policies.settings.claims]\ntools = \"source=tools,target=/opt,readonly\"\n",
    )?;
    let run = |builder: BundleBuilder, id: &str| {
        let bundle = builder.build()?;
        volhook.install(&bundle)?.success();
        runtime.run(&bundle, id)
    };
    let script = "touch /opt/x 2>/dev/null || echo read-only; grep -c ' /opt ' /proc/mounts || true";
    let plain = BundleBuilder::new().shell(script);
    assert_eq!(run(plain, "c1")?.success(), "read-only\n1\n");
    // What a container asks for itself goes first, and one with a policy of its own gets only that.
    let own = BundleBuilder::new()
        .shell("touch /opt/x && echo writable")
        .annotation("dev.volhook.mount.opt", "source=mine,target=/opt");
    assert_eq!(run(own, "c2")?.success(), "writable\n");
    let pod = BundleBuilder::new().shell("touch /opt/x && echo writable").annotation("dev.volhook.pod", "p1");
    assert_eq!(run(pod, "c3")?.success(), "writable\n");

    volhook.configure(
        "[[policies]]\npolicy = \"rules\"\nmatch = \"all\"\n[plugins.rules.claims]\ntools = \"source=tools\"\n",
    )?;
    assert!(!run(BundleBuilder::new(), "c4")?.status.success());
    assert_contains(&last_refusal(&volhook)?, "rule \"tools\" is not a valid claim: it names no target");
    Ok(())
}
