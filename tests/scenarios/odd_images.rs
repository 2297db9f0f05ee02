//! Images that are unusual, and no reason not to start: links to nothing, odd names.

use crate::assert_contains;
use crate::leases;
use crate::on_both_runtimes;
use anyhow::Result;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_a_pod_of_an_image_with_links_to_nothing,
    privileged_a_pod_of_an_image_with_odd_names,
);

fn pod(volhook: &Volhook, script: &str, prepare: impl FnOnce(&Bundle) -> Result<()>) -> Result<Bundle> {
    let bundle = BundleBuilder::new().shell(script).annotation("dev.volhook.pod", "alice").build()?;
    prepare(&bundle)?;
    volhook.install(&bundle)?.success();
    Ok(bundle)
}

/// As ostree lays its images out: what makes the links lead somewhere is made by the first boot.
fn privileged_a_pod_of_an_image_with_links_to_nothing(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    for expected in ["1\n", "2\n"] {
        let script = "mkdir -p /var/home; echo x >> /home/note; wc -l < /home/note";
        let bundle = pod(&volhook, script, |bundle| {
            for (link, leads) in [("home", "var/home"), ("srv", "/var/srv"), ("opt", "opt")] {
                let _ = fs::remove_dir(bundle.rootfs().join(link));
                std::os::unix::fs::symlink(leads, bundle.rootfs().join(link))?;
            }
            Ok(())
        })?;
        assert_eq!(runtime.run(&bundle, "c1")?.success(), expected);
        let events = volhook.run(&["events"])?.success();
        assert_contains(&events, "not mounted on /home");
    }
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}

fn privileged_a_pod_of_an_image_with_odd_names(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundle = pod(&volhook, "echo x > /etc/note; ls /", |bundle| {
        for name in [&b"a\nb"[..], b"caf\xe9", b"bell\x07"] {
            fs::create_dir(bundle.rootfs().join(OsStr::from_bytes(name)))?;
        }
        Ok(())
    })?;
    runtime.run(&bundle, "c1")?.success();
    let events = volhook.run(&["events"])?.success();
    assert_contains(&events, "its name is no plain text");
    Ok(())
}
