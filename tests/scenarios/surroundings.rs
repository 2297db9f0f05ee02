//! What a hook is started with: closed or unread descriptors, ignored and blocked signals, odd masks, tight limits.

use crate::assert_contains;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::Program;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_a_hook_works_whatever_it_is_started_with,
    privileged_the_wrapper_needs_no_default_signals,
);

const BLOCK: &str = "source=mydb,target=/data,volume-driver=block,volume-opt=size=16M";

/// What a shell does before it becomes the hook. `$1` is an empty folder.
const SURROUNDINGS: [(&str, &str); 11] = [
    ("closed", "exec 1>&- 2>&-"),
    ("full", r#"mkfifo "$1/full"; exec 2<>"$1/full"; head -c 65536 /dev/zero >&2"#),
    ("unread", r#"mkfifo "$1/unread"; : <"$1/unread" & exec 2>"$1/unread"; wait"#),
    ("closed, and much to tell", "exec 1>&- 2>&-; export VOLHOOK_LOG=trace"),
    (
        "unread, and much to tell",
        r#"mkfifo "$1/unread"; : <"$1/unread" & exec 2>"$1/unread"; wait; export VOLHOOK_LOG=trace"#,
    ),
    ("ignored", ":"),
    ("umask 0", "umask 0"),
    ("umask 777", "umask 777"),
    ("few files", "ulimit -n 64"),
    ("few files at first", "ulimit -S -n 16"),
    ("root", "cd /"),
];

/// Makes a bundle's hook entries call volhook by way of a script.
fn by_way_of(bundle: &Bundle, script: &Path) -> Result<()> {
    bundle.edit(|spec| {
        for stage in ["prestart", "poststop"] {
            for entry in spec["hooks"][stage].as_array_mut().into_iter().flatten() {
                entry["path"] = script.to_string_lossy().into();
            }
        }
    })
}

fn privileged_a_hook_works_whatever_it_is_started_with(kind: RuntimeKind) -> Result<()> {
    for (name, prelude) in SURROUNDINGS {
        let volhook = Volhook::new()?;
        let runtime = Runtime::new(kind)?;
        let folder = tempfile::tempdir()?;
        let script = folder.path().join("hook");
        // All signals that can be ignored, and all that can be blocked.
        let signals = if name == "ignored" { "env --ignore-signal --block-signal" } else { "" };
        let (own, binary) = (folder.path().display(), volhook.binary().display());
        let text = format!(
            "#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH\nstage=$2\nset -- {own}/$stage.$$\nmkdir \"$1\"\n\
             {prelude}\nexec {signals} {binary} hook $stage\n"
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let bundle = || -> Result<Bundle> {
            let bundle = BundleBuilder::new()
                .sleeping()
                .annotation("dev.volhook.mount.x", BLOCK)
                .annotation("dev.volhook.mount.y", "source=dir,target=/dir")
                .build()?;
            volhook.install(&bundle)?.success();
            by_way_of(&bundle, &script)?;
            Ok(bundle)
        };
        let (first, second) = (bundle()?, bundle()?);
        runtime.run_detached(&first, "c1")?.success();
        runtime.exec("c1", &["/bin/sh", "-c", "echo x > /data/x && echo x > /dir/x"])?.success();
        runtime.run(&second, "c2")?.failure();
        assert_contains(&last_refusal(&volhook)?, "held exclusively by container \"c1\"");
        runtime.delete_force("c1")?.success();
        // The kernel may let go of the image only after poststop has given up on waiting.
        let start = Instant::now();
        while !leases(&volhook)?.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(60), "{name}: still held");
            volhook.run(&["gc"])?.success();
        }
        assert!(!volhook.run(&["events"])?.success().contains("fault"), "{name}: poststop failed");
        let open = Program::new("find")
            .args([volhook.root(), volhook.run_dir()])
            .args(["-perm", "/o+w", "!", "-type", "l", "!", "-perm", "-1000"])
            .run()?;
        assert_eq!(open.success(), "", "{name}: others may write");
    }
    Ok(())
}

fn privileged_the_wrapper_needs_no_default_signals(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let bundle =
        BundleBuilder::new().shell("echo x > /data/x").annotation("dev.volhook.mount.x", BLOCK).build()?;
    let words = [
        Path::new("/usr/bin/env"),
        Path::new("--ignore-signal=CHLD"),
        volhook.binary(),
        Path::new("runtime"),
    ];
    let env = volhook.env();
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let runtime = Runtime::wrapped(kind, &words, &env)?;
    runtime.run(&bundle, "c1")?.success();
    assert_eq!(leases(&volhook)?, []);
    let resize = Program::new("/usr/bin/env")
        .args(["--ignore-signal=CHLD"])
        .arg(volhook.binary())
        .args(["volume", "resize", "mydb", "32M"]);
    let resize = volhook.env().into_iter().fold(resize, |resize, (name, value)| resize.env(name, value));
    resize.run()?.success();
    Ok(())
}
