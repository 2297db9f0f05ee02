//! What is told of a start while it goes on: its steps and their times, and what the host's log gets of a failure.

use crate::assert_contains;
use crate::last_refusal;
use crate::on_both_runtimes;
use crate::pods::built;
use crate::pods::pod;
use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_steps_are_told_with_what_they_are_about,
    privileged_the_hosts_log_says_what_failed,
    privileged_the_hosts_log_says_why_a_last_step_failed,
);

/// What a hook may be asked to tell, and whether that makes sense.
const ASKED: [(&str, bool); 4] =
    [("debug", true), ("volhook_engine=debug", true), ("everything\u{1b}[2J", false), ("sshd=debug", false)];

/// A bundle whose hooks are called by way of a shell that does `prelude` first; `$1` is the file `told`.
fn bundle_by_way_of(volhook: &Volhook, claim: &str, prelude: &str) -> Result<Bundle> {
    let builder = BundleBuilder::new().sleeping().annotation("dev.volhook.mount.x", claim);
    let bundle = built(volhook, builder)?;
    go_by_way_of(volhook, &bundle, prelude)?;
    Ok(bundle)
}

/// Has a bundle's hooks called by way of a shell that does `prelude` first; `$1` is volhook's folder in the test.
fn go_by_way_of(volhook: &Volhook, bundle: &Bundle, prelude: &str) -> Result<()> {
    let (folder, binary) = (volhook.folder().display(), volhook.binary().display());
    for stage in ["prestart", "poststop"] {
        let script = volhook.folder().join(stage);
        let text = format!(
            "#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH\nset -- {folder}\n{prelude}\n\
             exec {binary} hook {stage} 2>>{folder}/told\n"
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    }
    bundle.edit(|spec| {
        for stage in ["prestart", "poststop"] {
            spec["hooks"][stage][0]["path"] = volhook.folder().join(stage).to_string_lossy().into();
        }
    })
}

fn privileged_steps_are_told_with_what_they_are_about(kind: RuntimeKind) -> Result<()> {
    for (asked, makes_sense) in ASKED {
        let volhook = Volhook::new()?;
        let runtime = Runtime::new(kind)?;
        let prelude = format!("export VOLHOOK_LOG='{asked}' VOLHOOK_TIMINGS=$1/timings");
        let bundle = bundle_by_way_of(&volhook, "source=mydb,target=/data", &prelude)?;
        runtime.run_detached(&bundle, "c1")?.success();
        let leases = volhook.json(&["lease", "ls"])?;
        let attempt = leases[0]["attempt"].as_str().context("a lease has an attempt")?.to_owned();
        runtime.delete_force("c1")?.success();

        let told = fs::read_to_string(volhook.folder().join("told"))?;
        if makes_sense {
            let is_there =
                |parts: &[&str]| told.lines().any(|line| parts.iter().all(|part| line.contains(part)));
            let whom = format!("container=c1 attempt={attempt}");
            for step in ["pod", "resolve", "plan", "journal", "record", "mounts", "start"] {
                assert!(is_there(&[&format!(": {step} took "), &whom]), "{step}:\n{told}");
            }
            for step in ["volumes", "plugins", "sources"] {
                assert!(is_there(&[&format!(": {step} took "), &whom, "volume=mydb"]), "{step}:\n{told}");
            }
            assert!(is_there(&[": release took ", "container=c1"]), "{told}");
        } else {
            assert!(told.lines().count() == 2 && !told.contains('\u{1b}'), "each hook says it once:\n{told}");
            assert_contains(&told, "volhook: VOLHOOK_LOG is passed over: ");
        }
        let timings = fs::read_to_string(volhook.folder().join("timings"))?;
        let lines: Vec<Value> = timings.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let names = |line: &Value| {
            let mut names: Vec<String> =
                line.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!((&lines[0]["stage"], &lines[1]["stage"]), (&"prestart".into(), &"poststop".into()));
        assert_eq!(
            names(&lines[0]),
            "journal mounts plan plugins pod process record resolve rest sources spec stage total volumes"
        );
        assert_eq!(names(&lines[1]), "release rest spec stage total");
    }
    Ok(())
}

/// What has come to a logger, one text a message.
fn heard(logger: &UnixDatagram) -> Result<String> {
    let mut bytes = vec![0; 1 << 16];
    let length = logger.recv(&mut bytes).context("the logger was not told")?;
    Ok(String::from_utf8(bytes[..length].to_vec())?)
}

fn logger(path: &Path) -> Result<UnixDatagram> {
    let logger = UnixDatagram::bind(path)?;
    logger.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(logger)
}

/// The loggers of a host of its own, for the hook alone.
const OWN: &str = "[ -n \"$OWN\" ] || OWN=1 exec unshare --mount -- \"$0\"\n\
                   mount -t tmpfs none /run && mkdir -p /run/systemd/journal\n\
                   mount -t tmpfs none /dev\n\
                   mknod -m 666 /dev/null c 1 3";

/// Puts a logger of the test to where a host has one.
fn with(place: &str, logger: &str) -> String {
    format!(": >{place} && mount --bind \"$1/{logger}\" {place}")
}

fn privileged_the_hosts_log_says_what_failed(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let journald = with("/run/systemd/journal/socket", "journald");
    let syslog = with("/dev/log", "syslog");
    let loggers = (logger(&volhook.folder().join("journald"))?, logger(&volhook.folder().join("syslog"))?);

    volhook.run(&["volume", "create", "mydb", "-d", "block", "-o", "size=16M"])?.success();
    let claim = "source=mydb,target=/data,volume-driver=local";
    let bundle = bundle_by_way_of(&volhook, claim, &format!("{OWN}\n{journald}\n{syslog}"))?;
    runtime.run(&bundle, "c1")?.failure();
    let reason = last_refusal(&volhook)?;
    let entry = heard(&loggers.0)?;
    let is_field = |field: &str| entry.lines().any(|line| line == field);
    assert!(is_field(&format!("MESSAGE=container \"c1\": {reason}")), "{entry}");
    assert!(is_field("VOLHOOK_CONTAINER=c1") && is_field("VOLHOOK_VOLUME=mydb"), "{entry}");
    assert!(entry.lines().any(|line| line.starts_with("VOLHOOK_ATTEMPT=")), "{entry}");
    // Nothing else is listened to, and nothing else has failed.
    let told = fs::read_to_string(volhook.folder().join("told"))?;
    assert_eq!(told, format!("volhook: {reason}\n"));

    let bundle = bundle_by_way_of(&volhook, claim, &format!("{OWN}\n{syslog}"))?;
    runtime.run(&bundle, "c2")?.failure();
    let line = heard(&loggers.1)?;
    assert!(line.starts_with("<27>volhook["), "{line}");
    assert_contains(&line, &format!("]: container \"c2\": {reason} container=c2 attempt="));
    Ok(())
}

/// The process that does it has been left behind by the hook, and has nobody else who would hear it.
fn privileged_the_hosts_log_says_why_a_last_step_failed(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    runtime.run(&built(&volhook, pod("p1", "").shell("echo mine > /data"))?, "c1")?.success();
    // The runtime masks a folder of the image, when hooks are over, where the pod has a file.
    let masked = pod("p1", "").directory("/data").sleeping();
    let bundle = built(&volhook, masked.edit(|spec| spec["linux"]["maskedPaths"] = json!(["/data"])))?;
    go_by_way_of(&volhook, &bundle, &format!("{OWN}\n{}", with("/dev/log", "syslog")))?;
    let syslog = logger(&volhook.folder().join("syslog"))?;
    runtime.run(&bundle, "c2")?.failure();
    let reason = last_refusal(&volhook)?;
    let line = heard(&syslog)?;
    assert_contains(&line, &format!("]: container \"c2\": {reason} container=c2 attempt="));
    Ok(())
}
