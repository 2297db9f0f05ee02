//! The wrapper's reading of command lines: what the real runtimes make of theirs, and which spec they take.

use crate::assert_contains;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_a_container_gets_its_volumes_however_it_is_said,
    privileged_what_cannot_be_told_is_refused,
    privileged_other_names_of_the_program_are_no_wrapper,
    privileged_large_specs_without_claims_start,
    privileged_text_that_is_not_utf_8_matters_to_claims_alone,
    privileged_an_unreadable_spec_passes_over_no_policy,
);

const CLAIM: (&str, &str) = ("dev.volhook.mount.x", "source=v,target=/data");

/// The options before and behind `run`; `BUNDLE` stands for the bundle.
const RUNC_LINES: [&str; 7] = [
    "-log-format text run -bundle BUNDLE ID",
    "-log-format=text --debug=false run --b=BUNDLE ID",
    "run -b BUNDLE -no-pivot=false ID",
    "run ID --bundle BUNDLE",
    "run --no-new-keyring --preserve-fds 0 -bundle=BUNDLE -- ID",
    "-- run --bundle BUNDLE ID",
    "run -b elsewhere -b BUNDLE ID",
];
const CRUN_LINES: [&str; 7] = [
    "run -bBUNDLE ID",
    "run --bund BUNDLE ID",
    "run --bund=BUNDLE --no-n ID",
    "--log-f text run --preserve-fds 0 -b BUNDLE ID",
    "run -b elsewhere --bundle=BUNDLE -- ID",
    "-- run --bundle BUNDLE ID",
    "--cgroup-manager cgroupfs run -b BUNDLE ID",
];

fn words<'a>(line: &'a str, bundle: &'a str, id: &str) -> Vec<String> {
    line.split(' ').map(|word| word.replace("BUNDLE", bundle).replace("ID", id)).collect()
}

fn privileged_a_container_gets_its_volumes_however_it_is_said(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = volhook.wrapped_runtime(kind)?;
    let script = "echo x >> /data/note; wc -l < /data/note";
    let lines = if kind == RuntimeKind::Runc { RUNC_LINES } else { CRUN_LINES };
    for (at, line) in lines.iter().enumerate() {
        let bundle = BundleBuilder::new().shell(script).annotation(CLAIM.0, CLAIM.1).build()?;
        let path = bundle.path().to_string_lossy().into_owned();
        let seen = runtime.command(words(line, &path, &format!("c{at}"))).run()?;
        assert_eq!(seen.success().trim(), (at + 1).to_string(), "{line}");
    }
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}

fn privileged_what_cannot_be_told_is_refused(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = volhook.wrapped_runtime(kind)?;
    let bundle = BundleBuilder::new().shell("echo started").annotation(CLAIM.0, CLAIM.1).build()?;
    let path = bundle.path().to_string_lossy().into_owned();
    let refused =
        [("--new delete run ID", "cannot tell whether \"--new\""), ("run -b BUNDLE ID sh", "\"sh\" as well")];
    for (line, reason) in refused {
        let output = runtime.command(words(line, &path, "c1")).run()?;
        assert_contains(&output.failure(), reason);
    }
    if kind == RuntimeKind::Crun {
        let output = runtime.command(words("run --c BUNDLE ID", &path, "c1")).run()?;
        assert_contains(&output.failure(), "may be --config or --console-socket");
    }
    assert_eq!(leases(&volhook)?, []);
    // An option that only the real runtime refuses is its own affair.
    let output = runtime.command(words("run --new -b BUNDLE ID", &path, "c1")).run()?;
    let said = output.failure();
    assert!(!said.contains("volhook:"), "{said}");
    Ok(())
}

fn privileged_other_names_of_the_program_are_no_wrapper(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let folder = tempfile::tempdir()?;
    for (name, is_wrapper) in [
        (format!("volhook-{kind}"), true),
        ("volhook-1.0.0".to_owned(), false),
        ("volhook-linux-amd64".to_owned(), false),
    ] {
        let path = folder.path().join(&name);
        symlink(volhook.binary(), &path)?;
        let output = Command::new(&path).arg("--version").envs(volhook.env()).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{name}: {output:?}");
        assert_eq!(said.starts_with("volhook"), !is_wrapper, "{name}: {said}");
    }
    Ok(())
}

fn privileged_large_specs_without_claims_start(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = volhook.wrapped_runtime(kind)?;
    let bundle = BundleBuilder::new().shell("echo started").build()?;
    bundle.edit(|spec| spec["x-padding"] = "y".repeat(17 << 20).into())?;
    let spec = fs::read(bundle.path().join("config.json"))?;
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "started\n");
    assert_eq!(fs::read(bundle.path().join("config.json"))?, spec);
    let passed = volhook.command(&["hook", "precreate"]).stdin(spec.clone()).run()?;
    assert!(passed.success().as_bytes() == spec, "precreate changed the spec");
    volhook.install(&BundleBuilder::new().build()?)?.success();

    bundle.edit(|spec| spec["annotations"][CLAIM.0] = CLAIM.1.into())?;
    runtime.run(&bundle, "c1")?.failure();
    assert_eq!(leases(&volhook)?, []);
    let refused =
        volhook.command(&["hook", "precreate"]).stdin(fs::read(bundle.path().join("config.json"))?).run()?;
    assert_contains(&refused.failure(), "larger than 16 MiB");
    Ok(())
}

/// runc starts with such a spec, with something else in place of that text; writing the spec again would do that as well.
fn privileged_text_that_is_not_utf_8_matters_to_claims_alone(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let wrapped = volhook.wrapped_runtime(kind)?;
    for (odd, is_crun_able) in [(&b"X=\xff"[..], false), (br"X=\udcff", true)] {
        let bundle = |claim: bool| -> Result<(Bundle, Vec<u8>)> {
            let builder = BundleBuilder::new().shell("echo started");
            let builder = if claim { builder.annotation(CLAIM.0, CLAIM.1) } else { builder };
            let bundle = builder.build()?;
            volhook.install(&bundle)?.success();
            bundle.edit(|spec| {
                spec["process"]["env"].as_array_mut().into_iter().for_each(|env| env.push("ODD".into()));
            })?;
            let file = bundle.path().join("config.json");
            let text = fs::read(&file)?;
            let at = text.windows(3).position(|part| part == b"ODD").context("the variable is there")?;
            let spec = [&text[..at], odd, &text[at + 3..]].concat();
            fs::write(&file, &spec)?;
            Ok((bundle, spec))
        };
        let (plain, spec) = bundle(false)?;
        if kind == RuntimeKind::Runc || is_crun_able {
            for (runtime, id) in [(&wrapped, "c1"), (&Runtime::new(kind)?, "c2")] {
                assert_eq!(runtime.run(&plain, id)?.success(), "started\n");
            }
        }
        assert!(fs::read(plain.path().join("config.json"))? == spec, "the wrapper changed the spec");
        let passed = Command::new(volhook.binary())
            .args(["hook", "precreate"])
            .envs(volhook.env())
            .stdin(fs::File::open(plain.path().join("config.json"))?)
            .output()?;
        assert!(passed.status.success() && passed.stdout == spec, "precreate changed the spec");

        let (claiming, spec) = bundle(true)?;
        let refused = volhook.command(&["hook", "precreate"]).stdin(spec).run()?;
        assert_contains(&refused.failure(), "unusable \"process.env[2]\": it is not UTF-8");
        for (runtime, id) in [(&wrapped, "c3"), (&Runtime::new(kind)?, "c4")] {
            runtime.run(&claiming, id)?.failure();
        }
        assert_contains(&volhook.install(&claiming)?.failure(), "process.env[2]");
        assert_eq!(leases(&volhook)?, []);
    }
    Ok(())
}

fn privileged_an_unreadable_spec_passes_over_no_policy(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle = tempfile::tempdir()?;
    fs::write(bundle.path().join("config.json"), "{")?;
    let mut state =
        serde_json::json!({"id": "c1", "pid": 1, "bundle": bundle.path(), "annotations": {"a": "b"}});
    if kind == RuntimeKind::Crun {
        state["root"] = "rootfs".into();
    }
    volhook.hook("prestart", state.to_string())?.success();
    volhook.configure("[[policies]]\npolicy = \"rules\"\nmatch = \"all\"\n")?;
    volhook.hook("prestart", state.to_string())?.failure();
    assert_contains(&last_refusal(&volhook)?, "config.json is not usable");
    Ok(())
}

/// A bundle whose `config.json` and whose `other.json` claim something, or nothing.
fn two_specs(plain: bool, other: bool) -> Result<volhook_harness::Bundle> {
    let script = "if [ -d /data ]; then echo volume; else echo plain; fi";
    let mut builder = BundleBuilder::new().shell(script);
    if plain {
        builder = builder.annotation(CLAIM.0, CLAIM.1);
    }
    let bundle = builder.build()?;
    let mut spec = bundle.config()?;
    spec["annotations"] = if other { serde_json::json!({CLAIM.0: CLAIM.1}) } else { Value::Null };
    if !other {
        spec.as_object_mut().map(|spec| spec.remove("annotations"));
    }
    fs::write(bundle.path().join("other.json"), spec.to_string())?;
    Ok(bundle)
}

#[test]
fn privileged_crun_is_told_another_spec() -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = volhook.wrapped_runtime(RuntimeKind::Crun)?;
    for (plain, other) in [(false, true), (true, false), (true, true), (false, false)] {
        let bundle = two_specs(plain, other)?;
        let path = bundle.path().to_string_lossy().into_owned();
        let expected = if other { "volume\n" } else { "plain\n" };
        let spec = format!("{path}/other.json");
        for (option, directory) in [(spec.as_str(), "/"), ("other.json", path.as_str())] {
            let command = runtime.command(["run", "-b", &path, "--conf", option, "c1"]).directory(directory);
            assert_eq!(command.run()?.success(), expected, "{plain} {other} {option}");
            assert_eq!(leases(&volhook)?, []);
        }
    }
    let folder = tempfile::tempdir()?;
    let bundle = two_specs(false, true)?;
    let path = bundle.path().to_string_lossy().into_owned();
    let missing = folder.path().join("missing.json").to_string_lossy().into_owned();
    for spec in [missing.as_str(), "/dev/null"] {
        let output = runtime.command(["run", "-b", &path, "-f", spec, "c1"]).run()?;
        assert_contains(&output.failure(), &format!("the container's spec {spec}"));
    }
    Ok(())
}

#[test]
fn privileged_a_hook_notices_that_crun_was_told_another_spec() -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(RuntimeKind::Crun)?;
    for (plain, other) in [(false, true), (true, false), (true, true), (false, false)] {
        let bundle = two_specs(plain, other)?;
        let path = bundle.path().to_string_lossy().into_owned();
        volhook.install(&bundle)?.success();
        let hooks = bundle.config()?["hooks"].clone();
        let spec = format!("{path}/other.json");
        let mut document: Value = serde_json::from_str(&fs::read_to_string(&spec)?)?;
        document["hooks"] = hooks;
        fs::write(&spec, document.to_string())?;
        let output = runtime.command(["run", "-b", &path, "-f", &spec, "c1"]).run()?;
        match (plain, other) {
            (false, true) => {
                output.failure();
                assert_contains(&last_refusal(&volhook)?, "was not made from");
                let _ = runtime.command(["delete", "--force", "c1"]).run()?;
            }
            (true, true) => assert_eq!(output.success(), "volume\n"),
            _ => assert_eq!(output.success(), "plain\n", "{plain} {other}"),
        }
        assert_eq!(leases(&volhook)?, []);
    }
    Ok(())
}
