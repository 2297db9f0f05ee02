//! Processes that do nothing, for looking at what a host with many of them costs.

use anyhow::Context;
use anyhow::Result;
use std::io::PipeWriter;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// Processes that wait for the end of their input. They end with this, and with the program that has it.
pub(crate) struct Idle {
    processes: Vec<Child>,
    /// Nobody writes into it; all of them read from its other end.
    input: Option<PipeWriter>,
}

impl Idle {
    pub(crate) fn start(count: usize) -> Result<Self> {
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        let mut idle = Self { processes: Vec::with_capacity(count), input: Some(writer) };
        for _ in 0..count {
            let reader = reader.try_clone().context("cannot share a pipe")?;
            let started = Command::new("cat").stdin(reader).stdout(Stdio::null()).spawn();
            idle.processes.push(started.context("cannot start an idle process")?);
        }
        Ok(idle)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.input = None;
        for process in &mut self.processes {
            // It has read the end of its input.
            let _ = process.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Idle;

    #[test]
    fn they_end_with_what_started_them() {
        let mut idle = Idle::start(3).unwrap();
        let pids: Vec<u32> = idle.processes.iter().map(std::process::Child::id).collect();
        assert!(idle.processes.iter_mut().all(|process| process.try_wait().unwrap().is_none()));
        drop(idle);
        assert!(pids.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()), "{pids:?}");
    }
}
