//! `cargo xtask lab reboot`: containers whose host is rebooted, or loses its power. What they held is free at once, and what they
//! wrote is there.

use super::host::Host;
use super::host::Machine;
use super::look;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A container that goes on running, the volume that it holds, and where it writes.
pub(super) struct Container {
    name: &'static str,
    /// The annotation, and its value.
    claim: (&'static str, &'static str),
    volume: &'static str,
    note: &'static str,
}

/// An exclusive image, a pod, which is exclusive as well, and a directory.
pub(super) const CONTAINERS: [Container; 3] = [
    Container {
        name: "first",
        claim: ("mount.x", "source=db,target=/data,volume-driver=block,volume-opt=size=16M"),
        volume: "db",
        note: "/data/note",
    },
    Container { name: "alice", claim: ("pod", "alice"), volume: "vol-alice-storage", note: "/root/note" },
    Container {
        name: "reader",
        claim: ("mount.x", "source=news,target=/news"),
        volume: "news",
        note: "/news/note",
    },
];

/// A power cut and a reboot with containers running, told as it goes on.
pub(super) fn run(machine: &Machine) -> Result<()> {
    let mut host = machine.boot()?;
    let kernel = host.run("uname -r")?.success()?;
    println!("boot {}, Linux {}", host.boot_id(), kernel.trim_end());
    start(&mut host, &CONTAINERS, "one")?;
    println!("containers hold an image, a pod and a directory; another container does not get the image");
    host.cut()?;

    let mut host = machine.boot()?;
    println!("boot {}, after a power cut", host.boot_id());
    look(&mut host, &CONTAINERS, "one")?;
    println!("nothing is held; other containers have all of it at once, and read what was written");
    start(&mut host, &CONTAINERS, "two")?;
    let before = host.boot_id().to_owned();
    host.halt()?;

    let mut host = machine.boot()?;
    println!("boot {}, after a reboot", host.boot_id());
    ensure!(host.boot_id() != before, "the host has not rebooted");
    look(&mut host, &CONTAINERS, "two")?;
    println!("nothing is held; other containers have all of it at once, and read what was written");
    host.halt()
}

/// Starts containers that write a note and go on running, and sees that they hold what they should.
pub(super) fn start(host: &mut Host<'_>, containers: &[Container], note: &str) -> Result<()> {
    let mut script = ". /run/lab/folder/containers.sh\nset -e\n".to_owned();
    for Container { name, claim: (key, value), note: path, .. } in containers {
        let _ =
            writeln!(script, "detached {name} {key} {value} 'echo {note} > {path}; sync; exec sleep 100000'");
    }
    for Container { name, note: path, .. } in containers {
        let _ = writeln!(script, "until runc exec {name} grep -qs {note} {path}; do sleep 0.1; done");
    }
    host.run(&script)?.success().context("containers do not start")?;
    let held: BTreeSet<(String, String)> = held(host)?.into_iter().collect();
    let expected =
        containers.iter().map(|container| (container.volume.to_owned(), container.name.to_owned()));
    ensure!(held == expected.collect(), "held is {held:?}");
    let (key, value) = containers[0].claim;
    let refused =
        host.run(&format!(". /run/lab/folder/containers.sh\ncontainer refused {key} {value} true"))?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("is held exclusively by container"),
        "a second container got what the first holds: {refused:?}"
    );
    Ok(())
}

/// Looks, after another boot, whether nothing is held, other containers get everything, and all that was written is there.
pub(super) fn look(host: &mut Host<'_>, containers: &[Container], note: &str) -> Result<()> {
    // Before anything else, that might mend it.
    let held = held(host)?;
    ensure!(held.is_empty(), "after a boot is held: {held:?}");
    let mut script = ". /run/lab/folder/containers.sh\nset -e\n".to_owned();
    for Container { name, claim: (key, value), note: path, .. } in containers {
        let _ = writeln!(script, "container after-{name} {key} {value} 'cat {path}'");
    }
    let text = host.run(&script)?.success().context("what was held is not free after a boot")?;
    ensure!(
        text == format!("{note}\n").repeat(containers.len()),
        "after a boot the containers read {text:?}"
    );
    let troubles = look::troubles(host)?;
    ensure!(troubles.is_empty(), "after a boot: {troubles:#?}");
    Ok(())
}

fn held(host: &mut Host<'_>) -> Result<Vec<(String, String)>> {
    let text = |item: &serde_json::Value, key: &str| item[key].as_str().unwrap_or_default().to_owned();
    let leases = look::list(host, "lease ls")?;
    Ok(leases.iter().map(|lease| (text(lease, "volume"), text(lease, "container"))).collect())
}
