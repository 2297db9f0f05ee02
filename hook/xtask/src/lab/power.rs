//! `cargo xtask lab power`: cuts a host's power at random moments while its volumes are worked on, and looks whether everything
//! that was acknowledged is there and nothing is half.
//!
//! An operation is acknowledged when its command has ended well and the lab was told. What the lab was told it keeps in its own
//! memory, outside of the host, so a cut takes nothing of it.

use super::dice::Dice;
use super::host::Host;
use super::host::Machine;
use super::host::Started;
use super::look;
use super::operation;
use super::operation::Operation;
use super::state;
use super::state::State;
#[cfg(test)]
use anyhow::Context;
use anyhow::Result;
use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// How many operations run at once.
const WIDTH: usize = 2;

/// The longest that a host works until its power is cut, in milliseconds.
const LONGEST: u64 = 8000;

/// What a storm came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) boots: u32,
    pub(super) cuts: u32,
    /// Of a log, at which a disk was looked at.
    pub(super) moments: u32,
    pub(super) acknowledged: u64,
    /// Cut off before they were acknowledged, and of these the ones that were done nevertheless.
    pub(super) cut_off: u64,
    pub(super) done_nevertheless: u64,
}

/// What hosts were told to do, and what came of it.
pub(super) struct Storm {
    pub(super) dice: Dice,
    /// What was acknowledged.
    pub(super) state: State,
    /// What was begun besides, with its number, and the script that does it, once there is one.
    pub(super) begun: Vec<(u64, Operation, Option<Started>)>,
    /// Acknowledged operations, oldest first, with their numbers.
    pub(super) acknowledged: Vec<(u64, Operation)>,
    number: u64,
    /// Whether each operation marks in the log of its disk's writes where it begins and ends.
    pub(super) marks: bool,
    pub(super) counts: Counts,
    /// For whoever has to find out what went wrong at the last boot.
    pub(super) context: [String; 3],
}

impl Storm {
    pub(super) fn new(seed: u64, state: State) -> Self {
        Self {
            dice: Dice::new(seed),
            state,
            begun: Vec::new(),
            acknowledged: Vec::new(),
            number: 0,
            marks: false,
            counts: Counts::default(),
            context: Default::default(),
        }
    }

    /// Switches a host on, and looks at what it has; returns what is wrong, a line each.
    pub(super) fn boot<'a>(&mut self, machine: &'a Machine) -> Result<(Host<'a>, Vec<String>)> {
        let mut host = machine.boot()?;
        self.counts.boots += 1;
        let wrong = self.judge(&mut host)?;
        Ok((host, wrong))
    }

    /// Compares what a host has with what it should have; from then on what was in doubt is known.
    pub(super) fn judge(&mut self, host: &mut Host<'_>) -> Result<Vec<String>> {
        let begun: Vec<Operation> = self.begun.drain(..).map(|(_, operation, _)| operation).collect();
        self.context = [
            format!("acknowledged last: {:#?}", self.acknowledged.iter().rev().take(8).collect::<Vec<_>>()),
            format!("cut off: {begun:#?}"),
            format!("volumes before these: {:#?}", self.state.volumes),
        ];
        let seen = match look::state(host) {
            Ok(seen) => seen,
            // That a host cannot be looked at is no fault of the lab.
            Err(error) => return Ok(vec![format!("{error:#}")]),
        };
        let possible = operation::possible(&self.state, &begun);
        let differing = |state: &State| state::differences(state, &seen);
        let Some(found) = possible.iter().min_by_key(|state| differing(state).len()) else {
            return Ok(Vec::new());
        };
        let mut wrong = differing(found);
        wrong.extend(look::troubles(host)?);
        if *found != self.state {
            self.counts.done_nevertheless += 1;
        }
        self.state = state::settled(found.clone(), &seen);
        Ok(wrong)
    }

    /// Works until a random moment, and cuts the power then; mostly the host is paused once before. Returns what is wrong, a line
    /// each.
    pub(super) fn work(&mut self, mut host: Host<'_>) -> Result<Vec<String>> {
        let mut wrong = self.work_for_a_while(&mut host)?;
        if wrong.is_empty() && self.dice.range(0, 3) > 0 {
            host.pause()?;
            thread::sleep(Duration::from_millis(self.dice.range(0, LONGEST / 4)));
            host.resume()?;
            wrong = self.work_for_a_while(&mut host)?;
        }
        host.cut()?;
        self.counts.cuts += 1;
        self.counts.cut_off += self.begun.len() as u64;
        Ok(wrong)
    }

    fn work_for_a_while(&mut self, host: &mut Host<'_>) -> Result<Vec<String>> {
        let until = Instant::now() + Duration::from_millis(self.dice.range(0, LONGEST / 2));
        loop {
            while self.begun.len() < WIDTH {
                let used: BTreeSet<String> =
                    self.begun.iter().flat_map(|(_, begun, _)| begun.uses()).collect();
                let next = operation::random(&mut self.dice, &self.state, &used, self.number + 1);
                let Some(next) = next else { break };
                self.begin(host, next)?;
            }
            let Some((started, output)) = host.ended(until)? else { return Ok(Vec::new()) };
            let index = self.begun.iter().position(|(_, _, script)| *script == Some(started));
            let Some((number, operation, _)) = index.map(|index| self.begun.remove(index)) else { continue };
            if output.code != 0 {
                return Ok(vec![format!(
                    "refused with {}, though nothing speaks against it: {operation:?}\n{}{}",
                    output.code, output.stdout, output.stderr
                )]);
            }
            self.done(number, operation);
        }
    }

    /// Begins an operation, of which nobody knows how far it is until it is acknowledged or seen.
    pub(super) fn begin(&mut self, host: &mut Host<'_>, operation: Operation) -> Result<()> {
        self.number += 1;
        let mut script = operation.script();
        if self.marks {
            let mark = |what: &str| format!("dmsetup message lab 0 mark {what}-{}", self.number);
            script = format!("{} && sh -c {} && {}", mark(BEGUN), quoted(&script), mark(DONE));
        }
        self.begun.push((self.number, operation, Some(host.start(&script)?)));
        Ok(())
    }

    /// Does an operation to its end.
    #[cfg(test)]
    pub(super) fn finish(&mut self, host: &mut Host<'_>, operation: Operation) -> Result<()> {
        host.run(&operation.script())?.success().with_context(|| format!("{operation:?}"))?;
        self.acknowledge(operation);
        Ok(())
    }

    /// Takes an operation for done.
    #[cfg(test)]
    pub(super) fn acknowledge(&mut self, operation: Operation) {
        self.number += 1;
        self.done(self.number, operation);
    }

    fn done(&mut self, number: u64, operation: Operation) {
        self.state = operation.done(&self.state);
        self.counts.acknowledged += 1;
        self.acknowledged.push((number, operation));
    }
}

/// What marks say, each with an operation's number behind it.
pub(super) const BEGUN: &str = "begun";
pub(super) const DONE: &str = "done";

fn quoted(script: &str) -> String {
    format!("'{}'", script.replace('\'', r"'\''"))
}

/// Goes on for so long, or until something is wrong; returns that.
pub(super) fn run(storm: &mut Storm, machine: &Machine, until: Instant) -> Result<Vec<String>> {
    loop {
        let (host, wrong) = storm.boot(machine)?;
        if !wrong.is_empty() {
            return Ok(wrong);
        }
        if Instant::now() >= until {
            host.halt()?;
            return Ok(Vec::new());
        }
        let wrong = storm.work(host)?;
        if !wrong.is_empty() {
            return Ok(wrong);
        }
    }
}
