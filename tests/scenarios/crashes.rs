//! Crashes of the real binary: killed at each named step of the way, and at random moments; damage to its journal.

use crate::assert_contains;
use crate::last_refusal;
use crate::leases;
use crate::on_both_runtimes;
use crate::stand_in;
use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use volhook_harness::Bundle;
use volhook_harness::BundleBuilder;
use volhook_harness::HostSnapshot;
use volhook_harness::Runtime;
use volhook_harness::RuntimeKind;
use volhook_harness::Volhook;

on_both_runtimes!(
    privileged_killed_at_each_step_of_the_live_stage,
    privileged_killed_at_each_step_of_the_spec_stage,
    privileged_killed_at_each_step_of_poststop,
    privileged_a_damaged_journal_is_rebuilt_while_containers_run,
    privileged_a_lost_grant_is_found_in_its_record,
    privileged_a_journal_that_is_removed_is_missed_while_containers_run,
    privileged_a_journal_that_is_removed_is_missed_at_the_spec_stage,
);

const BLOCK: &str = "source=mydb,target=/data,volume-driver=block,volume-opt=size=16M";

fn claiming() -> Result<Bundle> {
    BundleBuilder::new()
        .sleeping()
        .annotation("dev.volhook.mount.x", BLOCK)
        .annotation("dev.volhook.mount.y", "source=shared,target=/shared")
        .build()
}

/// Puts a variable into the environment of a bundle's hook entries at one stage, or takes it out.
pub(crate) fn set_failpoint(bundle: &Bundle, stage: &str, step: Option<&str>) -> Result<()> {
    bundle.edit(|spec| {
        for entry in spec["hooks"][stage].as_array_mut().into_iter().flatten() {
            if let Some(env) = entry["env"].as_array_mut() {
                env.retain(|text| !text.as_str().is_some_and(|text| text.starts_with("VOLHOOK_FAILPOINT=")));
                env.extend(step.map(|step| Value::from(format!("VOLHOOK_FAILPOINT={step}"))));
            }
        }
    })
}

/// What must hold after any crash: nothing is left on the host, the journal reads well, the same container starts
/// and has both volumes, and then nothing is held.
fn assert_recovered(
    volhook: &Volhook,
    runtime: &Runtime,
    bundle: &Bundle,
    before: &HostSnapshot,
) -> Result<()> {
    let roots = [volhook.folder(), bundle.path()];
    before.assert_restored(&roots)?;
    runtime.run_detached(bundle, "c1")?.success();
    runtime.exec("c1", &["/bin/sh", "-c", "touch /data/x /shared/x"])?.success();
    assert_eq!(leases(volhook)?.len(), 2);
    runtime.delete_force("c1")?.success();
    volhook.run(&["gc"])?.success();
    assert_eq!(leases(volhook)?, []);
    let run_dir = volhook.run_dir().join("attempts");
    assert_eq!(fs::read_dir(run_dir)?.count(), 0, "records are left");
    assert_eq!(volhook.run(&["journal", "check"])?.success().lines().last(), Some("ok"));
    before.assert_restored(&roots)
}

fn privileged_killed_at_each_step_of_the_live_stage(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for step in
        ["volumes-created", "locked", "granted-locked", "granted", "recorded", "sources-made", "mounted"]
    {
        let volhook = Volhook::new()?;
        let bundle = claiming()?;
        volhook.install(&bundle)?.success();
        let before = HostSnapshot::take()?.below([volhook.folder(), bundle.path()]);
        set_failpoint(&bundle, "prestart", Some(step))?;
        let output = runtime.run(&bundle, "c1")?;
        assert!(!output.status.success(), "{step}: the hook died and the container started");
        // crun forgets a container whose hook failed, runc may keep it.
        let _ = runtime.delete_force("c1");
        set_failpoint(&bundle, "prestart", None)?;
        assert_recovered(&volhook, &runtime, &bundle, &before)
            .with_context(|| format!("killed at {step}"))?;
    }
    Ok(())
}

fn privileged_killed_at_each_step_of_the_spec_stage(kind: RuntimeKind) -> Result<()> {
    for (stage, step) in [
        ("precreate", "volumes-created"),
        ("precreate", "granted"),
        ("precreate", "recorded"),
        ("createRuntime", "bound"),
        ("createRuntime", "sources-made"),
        ("createRuntime", "mounted"),
    ] {
        let volhook = Volhook::new()?;
        let runtime = volhook.wrapped_runtime(kind)?;
        let bundle = claiming()?;
        let before = HostSnapshot::take()?.below([volhook.folder(), bundle.path()]);
        let original = bundle.config()?;
        let precreate =
            volhook.command(&["hook", "precreate"]).directory(bundle.path()).stdin(original.to_string());
        if stage == "precreate" {
            let output = precreate.env("VOLHOOK_FAILPOINT", step).run()?;
            assert!(!output.status.success() && output.stdout.is_empty(), "{step}: {output}");
        } else {
            bundle.write_config(&precreate.run()?.json())?;
            set_failpoint(&bundle, "createRuntime", Some(step))?;
            let bare = Runtime::new(kind)?;
            assert!(!bare.run(&bundle, "c1")?.status.success(), "{step}: the container started");
            let _ = bare.delete_force("c1");
            bundle.write_config(&original)?;
        }
        // What the engine never comes back for is given up after a time; here it comes back with another name.
        for (_, container) in leases(&volhook)?.into_iter().filter(|(volume, _)| volume == "mydb") {
            volhook.run(&["lease", "break", "mydb", &container, "--force"])?.success();
        }
        for (_, container) in leases(&volhook)?.into_iter().filter(|(volume, _)| volume == "shared") {
            volhook.run(&["lease", "break", "shared", &container, "--force"])?.success();
        }
        assert_recovered(&volhook, &runtime, &bundle, &before)
            .with_context(|| format!("killed at {stage} {step}"))?;
    }
    Ok(())
}

fn privileged_killed_at_each_step_of_poststop(kind: RuntimeKind) -> Result<()> {
    let runtime = Runtime::new(kind)?;
    for step in ["judged", "released"] {
        let volhook = Volhook::new()?;
        let bundle = claiming()?;
        volhook.install(&bundle)?.success();
        let before = HostSnapshot::take()?.below([volhook.folder(), bundle.path()]);
        set_failpoint(&bundle, "poststop", Some(step))?;
        runtime.run_detached(&bundle, "c1")?.success();
        // Whatever a runtime makes of a poststop hook that dies, the container is gone.
        let _ = runtime.delete_force("c1");
        assert_eq!(leases(&volhook)?.len(), if step == "judged" { 2 } else { 0 });
        set_failpoint(&bundle, "poststop", None)?;
        let _ = runtime.delete_force("c1");
        assert_recovered(&volhook, &runtime, &bundle, &before)
            .with_context(|| format!("killed at {step}"))?;
    }
    Ok(())
}

fn leases_file(volhook: &Volhook) -> Result<PathBuf> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(volhook.root().join("journal").join(format!("leases-{}", boot.trim())))
}

/// Changes one byte of the first place where `text` stands in the file of leases.
fn damage(volhook: &Volhook, text: &str) -> Result<()> {
    let file = leases_file(volhook)?;
    let mut bytes = fs::read(&file)?;
    let at = bytes.windows(text.len()).position(|part| part == text.as_bytes());
    bytes[at.with_context(|| format!("no {text:?} in the journal"))?] ^= 0x20;
    // In place: the file stays the same one.
    fs::OpenOptions::new().write(true).open(&file)?.write_all(&bytes)?;
    Ok(())
}

fn privileged_a_damaged_journal_is_rebuilt_while_containers_run(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let (first, second) = (claiming()?, claiming()?);
    volhook.install(&first)?.success();
    volhook.install(&second)?.success();
    runtime.run_detached(&first, "c1")?.success();
    damage(&volhook, "\"mounted\"")?;
    // It would lead past what nobody needs any more.
    fs::remove_file(leases_file(&volhook)?.with_extension("index"))?;
    let check = volhook.run(&["journal", "check"])?;
    assert_eq!(check.code(), Some(1));
    assert_contains(&check.stdout, "damaged at offset");
    assert!(!check.stdout.contains("\nok\n"), "{check}");
    assert_contains(
        &volhook.run(&["journal", "rebuild", "--dry-run"])?.success(),
        "held by container c1: mydb, shared",
    );

    // Nobody has to do anything: the next container finds the damage and mends it.
    runtime.run(&second, "c2")?.failure();
    assert_contains(&last_refusal(&volhook)?, "held exclusively by container \"c1\"");
    let checked = volhook.run(&["journal", "check"])?.success();
    assert_contains(&checked, "kept copy of a damaged file");
    assert_contains(&checked, "\nok\n");
    assert_contains(&volhook.run(&["events"])?.success(), "rebuilt");
    assert_contains(&volhook.run(&["journal", "rebuild"])?.success(), "nothing is damaged");

    runtime.delete_force("c1")?.success();
    assert_eq!(leases(&volhook)?, []);
    runtime.run_detached(&second, "c2")?.success();
    runtime.delete_force("c2")?.success();
    Ok(())
}

fn privileged_a_lost_grant_is_found_in_its_record(kind: RuntimeKind) -> Result<()> {
    let volhook = Volhook::new()?;
    let runtime = Runtime::new(kind)?;
    let (first, second) = (claiming()?, claiming()?);
    volhook.install(&first)?.success();
    volhook.install(&second)?.success();
    runtime.run_detached(&first, "c1")?.success();
    let pid = runtime.pid("c1")?;
    damage(&volhook, "\"granted\"")?;
    runtime.run(&second, "c2")?.failure();
    assert_contains(&last_refusal(&volhook)?, "held exclusively by container \"c1\"");
    let held = volhook.json(&["lease", "ls"])?;
    assert_eq!((held[0]["container"].as_str(), held[0]["pid"].as_i64()), (Some("c1"), Some(i64::from(pid))));
    assert_eq!(leases(&volhook)?.len(), 2);
    runtime.delete_force("c1")?.success();
    assert_eq!(leases(&volhook)?, []);
    Ok(())
}

/// Removes this boot's file of leases with what belongs to it, or the whole folder of the journal.
fn remove_journal(volhook: &Volhook, whole: bool) -> Result<()> {
    let file = leases_file(volhook)?;
    if whole {
        return Ok(fs::remove_dir_all(volhook.root().join("journal"))?);
    }
    fs::remove_file(&file)?;
    let index = file.with_extension("index");
    if index.exists() {
        fs::remove_file(index)?;
    }
    Ok(())
}

fn privileged_a_journal_that_is_removed_is_missed_while_containers_run(kind: RuntimeKind) -> Result<()> {
    for whole in [false, true] {
        let volhook = Volhook::new()?;
        let runtime = Runtime::new(kind)?;
        let (first, second) = (claiming()?, claiming()?);
        volhook.install(&first)?.success();
        volhook.install(&second)?.success();
        let before = HostSnapshot::take()?.below([volhook.folder(), first.path(), second.path()]);
        runtime.run_detached(&first, "c1")?.success();

        // Looks say so, show who holds what, and change nothing.
        remove_journal(&volhook, whole)?;
        let check = volhook.run(&["journal", "check"])?;
        assert_eq!(check.code(), Some(1));
        assert_contains(&check.stdout, "it is gone, and containers that began in this boot hold volumes");
        assert!(!check.stdout.contains("\nok\n"), "{check}");
        assert_contains(&volhook.run(&["doctor"])?.stdout, "it is gone, and containers");
        assert_eq!(leases(&volhook)?.len(), 2);
        assert_contains(
            &volhook.run(&["journal", "rebuild", "--dry-run"])?.success(),
            "held by container c1: mydb, shared\n  would be begun anew with 1 of its records\n",
        );
        assert!(!leases_file(&volhook)?.exists(), "a look has begun a journal");

        // Whoever needs something rebuilds it.
        runtime.run(&second, "c2")?.failure();
        assert_contains(&last_refusal(&volhook)?, "held exclusively by container \"c1\"");
        assert_contains(&volhook.run(&["journal", "check"])?.success(), "\nok\n");
        assert_contains(&volhook.run(&["events"])?.success(), "records kept; the file was gone");
        remove_journal(&volhook, whole)?;
        let removal = volhook.run(&["volume", "rm", "--force", "mydb"])?;
        assert_contains(&removal.stderr, "is held by container \"c1\"");
        remove_journal(&volhook, whole)?;
        volhook.run(&["gc"])?.success();
        assert_eq!(leases(&volhook)?.len(), 2);
        assert_eq!(fs::read_dir(volhook.run_dir().join("attempts"))?.count(), 1);

        // Its own poststop finds it as well, or finds it dead.
        remove_journal(&volhook, whole)?;
        runtime.delete_force("c1")?.success();
        assert_eq!(leases(&volhook)?, []);
        assert_recovered(&volhook, &runtime, &second, &before)?;
    }
    Ok(())
}

fn privileged_a_journal_that_is_removed_is_missed_at_the_spec_stage(kind: RuntimeKind) -> Result<()> {
    for whole in [false, true] {
        let volhook = Volhook::new()?;
        let wrapped = volhook.wrapped_runtime(kind)?;
        let (first, second) = (claiming()?, claiming()?);
        let before = HostSnapshot::take()?.below([volhook.folder(), first.path(), second.path()]);
        // A grant that waits for its container.
        let original = first.config()?;
        let precreate =
            volhook.command(&["hook", "precreate"]).directory(first.path()).stdin(original.to_string());
        first.write_config(&precreate.run()?.json())?;
        remove_journal(&volhook, whole)?;
        wrapped.run(&second, "c2")?.failure();
        assert_contains(&last_refusal(&volhook)?, "held exclusively by container");
        remove_journal(&volhook, whole)?;
        let bare = Runtime::new(kind)?;
        bare.run_detached(&first, "c1")?.success();
        assert_eq!(leases(&volhook)?.len(), 2);
        remove_journal(&volhook, whole)?;
        wrapped.run(&second, "c2")?.failure();
        assert_contains(&last_refusal(&volhook)?, "held exclusively by container \"c1\"");
        bare.delete_force("c1")?.success();
        assert_eq!(leases(&volhook)?, []);
        assert_recovered(&volhook, &wrapped, &second, &before)?;
    }
    Ok(())
}

/// How long the storm blows: short where all tests run, longer by `cargo xtask fuzz --seconds N`.
fn seconds() -> u64 {
    std::env::var("VOLHOOK_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

/// How hooks ended.
#[derive(Debug, Default)]
struct Ends {
    succeeded: u32,
    refused: u32,
    killed: u32,
}

/// Starts `volhook hook STAGE` and kills it after `life`, if it lives so long.
fn hook_with_a_life(
    volhook: &Volhook,
    stage: &str,
    state: &Value,
    life: Duration,
    ends: &mut Ends,
) -> Result<()> {
    let mut command = Command::new(volhook.binary());
    command.env_clear().args(["hook", stage]).envs(volhook.env());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().context("cannot start a hook")?;
    child.stdin.take().context("its input is piped")?.write_all(state.to_string().as_bytes())?;
    let end = Instant::now() + life;
    loop {
        if let Some(status) = child.try_wait()? {
            *if status.success() { &mut ends.succeeded } else { &mut ends.refused } += 1;
            return Ok(());
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            ends.killed += 1;
            return Ok(());
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// Whether enough happened to show something.
fn is_storm(ends: &[Ends]) -> bool {
    let sum = |count: fn(&Ends) -> u32| ends.iter().map(count).sum::<u32>();
    sum(|e| e.succeeded) > 20 && sum(|e| e.refused) > 0 && sum(|e| e.killed) > 5
}

/// Hundreds of hooks on a handful of exclusive volumes, killed at random moments; then the history is checked.
#[test]
fn privileged_a_storm_of_kills_breaks_no_lease() -> Result<()> {
    const WORKERS: u64 = 4;
    const VOLUMES: u64 = 3;
    const ROUNDS: u32 = 40;
    let volhook = Volhook::new()?;
    let mut ends = Vec::new();
    // On a busy host a storm takes longer to become one.
    for _ in 0..ROUNDS {
        let end = Instant::now() + Duration::from_secs(seconds());
        ends.extend(thread::scope(|scope| -> Result<Vec<Ends>> {
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    let volhook = &volhook;
                    scope.spawn(move || blow(volhook, worker, VOLUMES, end))
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().expect("no worker panics")).collect()
        })?);
        if is_storm(&ends) {
            break;
        }
    }
    let sum = |count: fn(&Ends) -> u32| ends.iter().map(count).sum::<u32>();
    let (succeeded, refused, killed) = (sum(|e| e.succeeded), sum(|e| e.refused), sum(|e| e.killed));
    volhook.run(&["gc"])?.success();
    assert_eq!(leases(&volhook)?, []);
    let violations = violations(&volhook.json(&["events"])?);
    println!(
        "{succeeded} hooks succeeded, {refused} were refused, {killed} were killed; violations: {}",
        violations.len()
    );
    assert_eq!(violations, Vec::<String>::new());
    assert!(is_storm(&ends), "that was no storm");
    let check = volhook.run(&["journal", "check"])?;
    // The last hook may have been killed while it wrote.
    assert!(check.stdout.ends_with("ok\n") || check.stdout.contains("torn at offset"), "{check}");
    Ok(())
}

/// One worker's containers, one after the other.
fn blow(volhook: &Volhook, worker: u64, volumes: u64, end: Instant) -> Result<Ends> {
    let (mut ends, mut dice) = (Ends::default(), 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(worker + 1));
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    let mut round = 0;
    while Instant::now() < end {
        round += 1;
        let claim = format!("source=v{},target=/data,volume-driver=block,volume-opt=size=16M", roll(volumes));
        let bundle = BundleBuilder::new().annotation("dev.volhook.mount.x", &claim).build()?;
        let mut init = stand_in(&bundle)?;
        let id = format!("w{worker}-{round}");
        let state = |pid: u32| json!({"ociVersion": "1.0.2", "id": id, "pid": pid, "status": "creating", "bundle": bundle.path()});
        let life = |roll: &mut dyn FnMut(u64) -> u64| match roll(3) {
            0 => Duration::from_secs(20),
            _ => Duration::from_micros(500 + roll(60_000)),
        };
        hook_with_a_life(volhook, "prestart", &state(init.id()), life(&mut roll), &mut ends)?;
        init.kill()?;
        init.wait()?;
        if roll(2) == 0 {
            hook_with_a_life(volhook, "poststop", &state(0), life(&mut roll), &mut ends)?;
        }
    }
    Ok(ends)
}

/// What in the history breaks the rule that an exclusive volume has one holder at a time.
fn violations(events: &Value) -> Vec<String> {
    let mut holders: BTreeMap<String, String> = BTreeMap::new();
    let mut found = Vec::new();
    let mut last = 0;
    for event in events.as_array().into_iter().flatten() {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let seq = event["seq"].as_u64().unwrap_or_default();
        if seq < last {
            found.push(format!("event {seq} comes behind {last}"));
        }
        last = seq;
        match text("kind").as_str() {
            "granted" => {
                let (volume, container) = (text("volume"), text("container"));
                if let Some(holder) = holders.insert(volume.clone(), container.clone()) {
                    found.push(format!("event {seq}: {container} got {volume} while {holder} held it"));
                }
            }
            "released" => {
                let container = text("container");
                holders.retain(|_, holder| *holder != container);
            }
            "rebuilt" => found.push(format!("event {seq}: the journal was damaged")),
            _ => {}
        }
    }
    found.extend(holders.iter().map(|(volume, holder)| format!("{holder} never gave {volume} back")));
    found
}
