//! `volhook events`: a story that is printed as it is read, and gone on with.

use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use volhook_harness::BundleBuilder;
use volhook_harness::Volhook;

/// More events than are laid out together: containers with many volumes each.
fn long_story(volhook: &Volhook) -> Result<()> {
    for container in 0..6 {
        let mut builder = BundleBuilder::new();
        for volume in 0..100 {
            let claim = format!("source=v{container}-{volume},target=/v{volume}");
            builder = builder.annotation(&format!("dev.volhook.mount.x{volume}"), &claim);
        }
        let bundle = builder.build()?;
        let mut spec = bundle.config()?;
        // The last one has a name that needs more room than all before.
        let id = if container == 5 { "5".repeat(64) } else { format!("c{container}") };
        spec["linux"]["cgroupsPath"] = format!("/machine/libpod-{id}").into();
        let precreate = volhook.command(&["hook", "precreate"]).directory(bundle.path());
        precreate.stdin(spec.to_string()).run()?.success();
    }
    Ok(())
}

/// This boot's file of leases.
fn leases(volhook: &Volhook) -> Result<PathBuf> {
    let names = fs::read_dir(volhook.root().join("journal"))?.map(|entry| Ok(entry?.path()));
    let paths: Vec<PathBuf> = names.collect::<Result<_>>()?;
    let is_leases = |path: &&PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("leases-") && !name.contains('.')
    };
    Ok(paths.iter().find(is_leases).context("there is a file of leases")?.clone())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

#[test]
fn however_long_the_story_is_it_is_told_whole_in_every_shape() -> Result<()> {
    let volhook = Volhook::new()?;
    long_story(&volhook)?;
    let json = volhook.run(&["events", "--json"])?.success();
    let events: Vec<Value> = serde_json::from_str(&json)?;
    assert!(events.len() > 1200, "{} events are not many", events.len());
    assert_eq!(json, format!("{:#}\n", Value::from(events.clone())));

    let lines = volhook.run(&["events", "--format", "{{.Seq}} {{.Kind}} {{.Volume}}"])?.success();
    let expected: String = events
        .iter()
        .map(|event| format!("{} {} {}\n", event["seq"], text(&event["kind"]), text(&event["volume"])))
        .collect();
    assert_eq!(lines, expected);

    // A thousand rows are laid out together, and columns become wider behind them if they have to.
    let rows: Vec<[String; 5]> = events
        .iter()
        .map(|event| {
            let time = text(&event["time"]);
            let time = format!("{} {}", &time[..10], &time[11..19]);
            let fields = ["kind", "container", "volume", "what"].map(|key| text(&event[key]).to_owned());
            let [kind, container, volume, what] = fields;
            [time, kind, container, volume, what]
        })
        .collect();
    let titles = ["TIME", "KIND", "CONTAINER", "VOLUME", "WHAT"].map(str::to_owned);
    let mut expected = String::new();
    let mut widths = [0; 5];
    for (number, piece) in rows.chunks(1000).enumerate() {
        let header = (number == 0).then_some(&titles);
        for row in header.into_iter().chain(piece) {
            widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.len()));
        }
        for row in header.into_iter().chain(piece) {
            let cells: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            expected.push_str(cells.join("   ").trim_end());
            expected.push('\n');
        }
    }
    assert_eq!(volhook.run(&["events"])?.success(), expected);
    Ok(())
}

/// What is wrong with the last record is told to who comes to it.
#[test]
fn who_has_read_enough_is_not_told_the_rest() -> Result<()> {
    let volhook = Volhook::new()?;
    long_story(&volhook)?;
    let leases = leases(&volhook)?;
    let mut bytes = fs::read(&leases)?;
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    fs::write(&leases, bytes)?;
    assert!(volhook.run(&["events"])?.stderr.contains("is damaged at offset"));
    for shape in [&["--json"][..], &["--format", "json"], &[], &["--follow"]] {
        let mut command = Command::new(volhook.binary());
        command.arg("events").args(shape).envs(volhook.env()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut events = command.spawn()?;
        let mut reader = BufReader::new(events.stdout.take().context("it has a pipe")?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        drop(reader);
        let output = events.wait_with_output()?;
        assert!(output.status.success(), "{shape:?}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shape:?}");
    }
    Ok(())
}

/// Events as lines, with their places.
const PLACES: &str = "{{.Boot}}:{{.Seq}} {{.Kind}} {{.Volume}}";

#[test]
fn whoever_kept_a_place_is_told_what_is_behind_it() -> Result<()> {
    let volhook = Volhook::new()?;
    for name in ["v1", "v2"] {
        volhook.run(&["volume", "create", name])?.success();
    }
    let bundle = BundleBuilder::new().annotation("dev.volhook.mount.x", "source=v1,target=/v").build()?;
    let precreate = volhook.command(&["hook", "precreate"]).directory(bundle.path());
    precreate.stdin(bundle.config()?.to_string()).run()?.success();
    volhook.run(&["volume", "create", "v3"])?.success();

    let all = volhook.run(&["events", "--format", PLACES])?.success();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let boot = boot.trim();
    let expected =
        format!("-:1 created v1\n-:2 created v2\n{boot}:3 planned -\n{boot}:4 granted v1\n-:5 created v3\n");
    assert_eq!(all, expected);
    let lines: Vec<&str> = all.split_inclusive('\n').collect();
    for (number, line) in lines.iter().enumerate() {
        let place = line.split(' ').next().unwrap_or_default();
        let rest = volhook.run(&["events", "--since", place, "--format", PLACES])?;
        assert_eq!(rest.stderr, "");
        assert_eq!(rest.success(), lines[number + 1..].concat());
    }
    let json = volhook.json(&["events", "--since", "-:5"])?;
    assert_eq!(json, serde_json::json!([]));

    // Who follows goes on with what comes.
    let place = format!("{boot}:3");
    let mut command = Command::new(volhook.binary());
    command.args(["events", "--follow", "--since", &place, "--format", PLACES]).envs(volhook.env());
    let mut follower = command.stdout(Stdio::piped()).spawn()?;
    let mut told = BufReader::new(follower.stdout.take().context("it has a pipe")?).lines();
    let mut next = || told.next().context("there is no more")?.map_err(anyhow::Error::from);
    assert_eq!([next()?, next()?], [format!("{boot}:4 granted v1"), "-:5 created v3".to_owned()]);
    volhook.run(&["volume", "create", "v4"])?.success();
    assert_eq!(next()?, "-:6 created v4");
    drop(told);
    assert!(follower.wait()?.success());
    Ok(())
}

#[test]
fn a_place_that_is_gone_is_no_beginning() -> Result<()> {
    let volhook = Volhook::new()?;
    volhook.run(&["volume", "create", "v1"])?.success();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let lost = "it was deleted with old history, or a power cut took it before it reached the disk";
    let other = "nothing of that boot is kept: its history was deleted, or it is another host's";
    let behind = "without --since, `volhook events` tells what there is";
    for (place, hint) in [
        (format!("{}:7", boot.trim()), lost),
        ("-:2".to_owned(), lost),
        ("0d9a7e0c-1111:1".to_owned(), other),
    ] {
        for follow in [&["--follow"][..], &[]] {
            let output = volhook.run(&[&["events", "--json", "--since", &place], follow].concat())?;
            let told = format!("Error: the journal has no event {place}\nhint: {hint}; {behind}\n");
            assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", told.as_str()));
            assert_eq!(output.status.code(), Some(3));
        }
    }
    let output = volhook.run(&["events", "--since", "2026-12-01T00:00:00Z"])?;
    assert_eq!(output.status.code(), Some(2));
    let told = "must be BOOT:SEQ, the boot and the number of an event, or -:SEQ for one without a boot";
    assert!(output.stderr.contains(told), "{output}");
    Ok(())
}
