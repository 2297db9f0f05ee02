//! New volumes get what the image has at their places, as docker gives it to named volumes.

use crate::leases;
use crate::on_both_runtimes;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_a_new_volume_has_what_the_image_has,
    privileged_nothing_is_copied_that_nobody_wants,
    privileged_an_empty_directory_of_the_image_does_not_use_the_chance_up,
    privileged_what_the_engine_mounts_is_not_copied,
    privileged_of_two_containers_one_fills_and_both_see_it,
    privileged_of_a_pod_s_first_containers_one_fills_and_all_see_it,
);

const BLOCK: &str = ",volume-driver=block,volume-opt=size=16M";

fn claiming(volhook: &Volhook, claim: &str, script: &str) -> Result<Bundle> {
    let bundle = BundleBuilder::new()
        .file("/app/conf/main.conf", "of the image\n")
        .file("/app/data", "file\n")
        .directory("/empty")
        .annotation("dev.volhook.mount.x", claim)
        .shell(script)
        .build()?;
    volhook.install(&bundle)?.success();
    Ok(bundle)
}

fn privileged_a_new_volume_has_what_the_image_has(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    volhook.run(&["volume", "create", "made"])?.success();
    volhook.run(&["volume", "create", "image", "-d", "block", "-o", "size=16M"])?.success();
    for (name, rest) in [("new", ""), ("made", ""), ("block", BLOCK), ("image", "")] {
        let claim = format!("source={name},target=/app{rest}");
        let bundle = claiming(
            &volhook,
            &claim,
            "cat /app/conf/main.conf; echo mine > /app/conf/main.conf; rm /app/data",
        )?;
        let before = fs::metadata(bundle.rootfs().join("app"))?.mtime();
        assert_eq!(runtime.run(&bundle, "c1")?.success(), "of the image\n", "{name}");
        bundle.set_shell("cat /app/conf/main.conf; ls /app")?;
        assert_eq!(
            runtime.run(&bundle, "c2")?.success(),
            "mine\nconf\n",
            "{name}: data is never written over"
        );
        assert_eq!(fs::read_to_string(bundle.rootfs().join("app/conf/main.conf"))?, "of the image\n");
        assert_eq!(fs::metadata(bundle.rootfs().join("app"))?.mtime(), before);
    }
    let told = volhook.json(&["events"])?;
    let of = |kind: &str| told.as_array().into_iter().flatten().filter(|event| event["kind"] == kind).count();
    assert_eq!(of("populated"), 4);
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}

fn privileged_nothing_is_copied_that_nobody_wants(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    for (name, rest) in
        [("nocopy", ",volume-nocopy"), ("block", ",volume-nocopy,volume-driver=block,volume-opt=size=16M")]
    {
        let bundle = claiming(&volhook, &format!("source={name},target=/app{rest}"), "ls /app")?;
        assert_eq!(runtime.run(&bundle, "c1")?.success(), "", "{name}");
    }
    // Who did not want it then may want it later; with something in it, it is too late.
    let later =
        claiming(&volhook, "source=nocopy,target=/app", "ls /app; touch /app/x; rm -r /app/conf /app/data")?;
    assert_eq!(runtime.run(&later, "c2")?.success(), "conf\ndata\n");
    later.set_shell("ls /app")?;
    assert_eq!(runtime.run(&later, "c3")?.success(), "x\n");
    let part = claiming(&volhook, "source=part,target=/app,volume-subpath=a", "ls /app")?;
    assert_eq!(runtime.run(&part, "c4")?.success(), "");
    Ok(())
}

fn privileged_an_empty_directory_of_the_image_does_not_use_the_chance_up(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    for name in ["v", "w"] {
        let driver = if name == "w" { BLOCK } else { "" };
        for target in ["/empty", "/missing"] {
            let bundle = claiming(&volhook, &format!("source={name},target={target}{driver}"), "ls /empty")?;
            assert_eq!(runtime.run(&bundle, "c1")?.success(), "");
        }
        let bundle = claiming(&volhook, &format!("source={name},target=/app"), "ls /app")?;
        assert_eq!(runtime.run(&bundle, "c2")?.success(), "conf\ndata\n");
    }
    Ok(())
}

/// What an engine mounts may be a secret, and the volume outlives the container.
fn privileged_what_the_engine_mounts_is_not_copied(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let engine = tempfile::tempdir()?;
    fs::write(engine.path().join("secret"), "secret\n")?;
    let bundle = BundleBuilder::new()
        .file("/app/own", "of the image\n")
        .file("/app/secret", "")
        .bind(engine.path().join("secret"), "/app/secret", &["ro"])
        .annotation("dev.volhook.mount.x", "source=v,target=/app")
        .shell("cat /app/secret /app/own")
        .build()?;
    volhook.install(&bundle)?.success();
    assert_eq!(runtime.run(&bundle, "c1")?.success(), "secret\nof the image\n");
    let data = volhook.root().join("volumes/default/v/data");
    assert_eq!(fs::read_to_string(data.join("secret"))?, "");
    assert_eq!(fs::read_to_string(data.join("own"))?, "of the image\n");
    Ok(())
}

fn privileged_of_two_containers_one_fills_and_both_see_it(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let bundles: Vec<Bundle> = (0..4)
        .map(|_| {
            let bundle = claiming(&volhook, "source=v,target=/app", "find /app -type f | wc -l")?;
            for number in 0..2000 {
                fs::write(bundle.rootfs().join(format!("app/{number}")), "content")?;
            }
            Ok(bundle)
        })
        .collect::<Result<_>>()?;
    thread::scope(|scope| -> Result<()> {
        let starting: Vec<_> = bundles
            .iter()
            .enumerate()
            .map(|(number, bundle)| {
                let runtime = &runtime;
                scope.spawn(move || runtime.run(bundle, &format!("c{number}")))
            })
            .collect();
        for started in starting {
            let output = started.join().expect("no starter panics")?;
            assert_eq!(output.success(), "2002\n");
        }
        Ok(())
    })?;
    let told = volhook.json(&["events"])?;
    let filled = told.as_array().into_iter().flatten().filter(|event| event["kind"] == "populated").count();
    assert_eq!(filled, 1);
    Ok(())
}

fn privileged_of_a_pod_s_first_containers_one_fills_and_all_see_it(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    for policy in ["universal,population=copy", "universal,population=copy,size=64M"] {
        let pod = format!("p{}", policy.len());
        let bundles: Vec<Bundle> = (0..4)
            .map(|_| {
                let bundle = BundleBuilder::new()
                    .annotation("dev.volhook.pod", &pod)
                    .annotation("dev.volhook.policy", policy)
                    .file("/etc/conf", "of the image\n")
                    .shell("cat /etc/conf; echo here >> /home/visitors")
                    .build()?;
                volhook.install(&bundle)?.success();
                Ok(bundle)
            })
            .collect::<Result<_>>()?;
        thread::scope(|scope| -> Result<()> {
            let start = |(number, bundle)| {
                let (runtime, id) = (&runtime, format!("{pod}-{number}"));
                scope.spawn(move || runtime.run(bundle, &id))
            };
            let starting: Vec<_> = bundles.iter().enumerate().map(start).collect();
            for started in starting {
                assert_eq!(
                    started.join().expect("no starter panics")?.success(),
                    "of the image\n",
                    "{policy}"
                );
            }
            Ok(())
        })?;
        bundles[0].set_shell("wc -l < /home/visitors")?;
        assert_eq!(runtime.run(&bundles[0], "last")?.success(), "4\n", "{policy}");
        assert_eq!(leases(&volhook)?, []);
    }
    Ok(())
}
