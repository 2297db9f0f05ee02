//! The lab in the suite: one host that is cut off, lied about and rebooted. The storm is `cargo xtask lab power`.

use super::Bench;
use super::operation::Operation;
use super::power::Storm;
use super::reboot;
use super::reboot::CONTAINERS;
use super::state::Text;
use anyhow::Result;
use std::time::Duration;
use std::time::Instant;

fn text(path: &str) -> Text {
    Text { path: path.to_owned(), line: format!("a line of {path}"), length: 3000 }
}

fn name(name: &str) -> String {
    name.to_owned()
}

#[test]
fn privileged_a_host_keeps_what_was_acknowledged_over_power_cuts_and_a_reboot() -> Result<()> {
    let bench = Bench::new()?;
    let (machine, state) = bench.machine("test", None)?;
    let mut storm = Storm::new(1, state);

    let (mut host, wrong) = storm.boot(&machine)?;
    assert_eq!(wrong, [""; 0]);
    let first = host.boot_id().to_owned();
    let kernel = host.run("uname -r")?.success()?;
    let mut numbers = kernel.split('.').map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next(), numbers.next());
    assert!(
        version < (Some(6), Some(8)),
        "{kernel} has statmount(2), and shows no longer that nothing needs it"
    );
    for operation in [
        Operation::Create { name: name("image"), driver: "block", size: Some(16) },
        Operation::Write { name: name("image"), texts: vec![text("f1"), text("f2")] },
        Operation::Clone { from: name("image"), to: name("copy") },
        Operation::Adopt { folder: name("d0"), name: name("adopted") },
        Operation::Rename { from: name("adopted"), to: name("renamed") },
        Operation::Start { name: name("filled"), text: text("f3") },
        Operation::Remove { name: name("copy") },
    ] {
        storm.finish(&mut host, operation)?;
    }
    host.pause()?;
    storm.begin(&mut host, Operation::Clone { from: name("image"), to: name("begun") })?;
    let soon = Instant::now() + Duration::from_millis(300);
    assert!(host.ended(soon)?.is_none(), "a paused host does nothing");
    host.resume()?;
    host.cut()?;

    let (mut host, wrong) = storm.boot(&machine)?;
    assert_eq!(wrong, [""; 0], "what was acknowledged is there, and nothing is half");
    assert_ne!(host.boot_id(), first);
    reboot::start(&mut host, &CONTAINERS, "one")?;
    // What is acknowledged before it is done is what all this is there to find: this succeeds at once, and is done never.
    let early = Operation::Rename { from: name("image"), to: name("early") };
    host.run(&format!("(sleep 100000; {}) >/dev/null 2>&1 &", early.script()))?.success()?;
    storm.acknowledge(early);
    host.cut()?;

    let mut host = machine.boot()?;
    reboot::look(&mut host, &CONTAINERS, "one")?;
    let wrong = storm.judge(&mut host)?;
    let of_it = |line: &&String| line.starts_with("volume image ") || line.starts_with("volume early ");
    let told: Vec<&String> = wrong.iter().filter(of_it).collect();
    assert_eq!(told, ["volume early is gone", "volume image should not be there"], "{wrong:#?}");
    let image = &CONTAINERS[..1];
    reboot::start(&mut host, image, "two")?;
    host.halt()?;

    let mut host = machine.boot()?;
    reboot::look(&mut host, image, "two")?;
    host.halt()
}
