//! The storm on a disk that loses what was not flushed: the kernel of a host logs all its writes (dm-log-writes), and other
//! hosts boot on the disk as it may have been at moments in between.

use super::host::Machine;
use super::operation::Operation;
use super::power::BEGUN;
use super::power::DONE;
use super::power::Storm;
use super::write_log::WriteLog;
use crate::process;
use anyhow::Context;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// The filesystem lies on the disk `a`, and `b` gets the log. Without udev, dmsetup makes the device's node.
pub(super) const LOGGED_DISK: &str = "modprobe -d /run/lab/modules dm-log-writes\n\
    dmsetup create lab --table \"0 $(blockdev --getsz /dev/ubda) log-writes /dev/ubda /dev/ubdb\"\n\
    mount -t ext4 /dev/mapper/lab /mnt\n";

/// How much a log may hold; the file is sparse.
const LOG: u64 = 16 << 30;

/// How many moments of one host's work are tried.
const MOMENTS: usize = 4;

/// Goes on for so long, or until something is wrong; returns that. `logged` is a host with [`LOGGED_DISK`], and `after` one that
/// boots on the disks that are made of its log.
pub(super) fn run(
    storm: &mut Storm,
    logged: &Machine,
    after: &Machine,
    until: Instant,
) -> Result<Vec<String>> {
    let ([disk, log], [tried]) = (logged.disks(), after.disks()) else {
        anyhow::bail!("a host with a log has two disks, and the other one");
    };
    let base = disk.with_extension("base");
    storm.marks = true;
    while Instant::now() < until {
        copy(disk, &base)?;
        // Nothing of the log before may be taken for this one's.
        let file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        file.set_len(LOG).context("cannot enlarge a log")?;
        let (host, wrong) = storm.boot(logged)?;
        if !wrong.is_empty() {
            return Ok(wrong);
        }
        let (before, earlier) = (storm.state.clone(), storm.acknowledged.len());
        let wrong = storm.work(host)?;
        if !wrong.is_empty() {
            return Ok(wrong);
        }
        let begun = storm.begun.drain(..).map(|(number, operation, _)| (number, operation));
        let done = storm.acknowledged[earlier..].iter().cloned();
        let operations: BTreeMap<u64, Operation> = done.chain(begun).collect();

        let log = WriteLog::read(log)?;
        for _ in 0..MOMENTS {
            let moment = log.moment(&mut storm.dice);
            copy(&base, tried)?;
            log.replay(tried, moment, &mut storm.dice)?;
            storm.state = before.clone();
            storm.begun.clear();
            for mark in log.marks(moment) {
                let (what, number) =
                    mark.rsplit_once('-').with_context(|| format!("no mark of ours: {mark}"))?;
                let number: u64 = number.parse().with_context(|| format!("no mark of ours: {mark}"))?;
                let operation = operations.get(&number).with_context(|| format!("never begun: {mark}"))?;
                match what {
                    BEGUN => storm.begun.push((number, operation.clone(), None)),
                    DONE => {
                        storm.begun.retain(|(begun, ..)| *begun != number);
                        storm.state = operation.done(&storm.state);
                    }
                    _ => anyhow::bail!("no mark of ours: {mark}"),
                }
            }
            storm.counts.moments += 1;
            let (host, wrong) = storm.boot(after)?;
            if !wrong.is_empty() {
                return Ok(wrong);
            }
            host.halt()?;
        }
        // It goes on from the last of them.
        fs::rename(tried, disk).context("cannot move a disk")?;
    }
    Ok(Vec::new())
}

/// Copies a disk without what is empty of it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    process::ask(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).args([from, to])).map(drop)
}
