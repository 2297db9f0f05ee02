//! What runs in a host of the lab and does what the lab asks: `xtask lab-agent`, started by the host's init.

use super::channel::Message;
use super::channel::Output;
use super::channel::Request;
use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::Write;
use std::io::stdin;
use std::io::stdout;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::process::Stdio;
use std::thread;

/// The most that is kept of each of a script's streams.
const LONGEST: u64 = 4 << 20;

/// Runs what is asked for, each script in a thread of its own, until the lab wants the host to halt or is gone.
pub(crate) fn run() -> Result<()> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("cannot read the boot id")?;
    say(&Message::Up { boot: boot.trim().to_owned() })?;
    for line in stdin().lock().lines() {
        let line = line.context("cannot read what the lab asks")?;
        match serde_json::from_str(&line)
            .with_context(|| format!("the lab asks what makes no sense: {line}"))?
        {
            Request::Halt => return Ok(()),
            Request::Run { id, script } => {
                thread::spawn(move || {
                    let failed = |error: anyhow::Error| Output {
                        code: 127,
                        stdout: String::new(),
                        stderr: format!("{error:#}\n"),
                    };
                    // Whoever cannot be told is gone.
                    let _ = say(&Message::Done { id, output: shell(&script).unwrap_or_else(failed) });
                });
            }
        }
    }
    Ok(())
}

fn say(message: &Message) -> Result<()> {
    let line = serde_json::to_string(message).context("a message is JSON")?;
    // Locked for the whole line, since several scripts may end at once.
    let mut out = stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot answer the lab")
}

/// Output goes to files: what stays in the background keeps no pipe open.
fn shell(script: &str) -> Result<Output> {
    let [(out, stdout), (err, stderr)] = [stream()?, stream()?];
    let status = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .status()
        .context("cannot run a shell")?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(127);
    Ok(Output { code, stdout: read(out)?, stderr: read(err)? })
}

/// A file for output, and the same for whoever writes.
fn stream() -> Result<(File, Stdio)> {
    let file = tempfile::tempfile().context("cannot make a file for output")?;
    let shared = file.try_clone().context("cannot share a file")?;
    Ok((file, shared.into()))
}

fn read(mut file: File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.take(LONGEST).read_to_end(&mut bytes)).context("cannot read output")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
