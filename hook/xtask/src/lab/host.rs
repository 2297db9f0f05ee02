//! A host of the lab: a Linux kernel of its own that runs as a process (User Mode Linux), on a disk that is a file.
//!
//! All processes of a host are in one namespace of processes, which the kernel ends with its first one; and that one ends
//! with whoever started the lab, however that ends. So nothing of a host outlives the lab.

use super::channel::Message;
use super::channel::Output;
use super::channel::Request;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::sys::signal::killpg;
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::Sender;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

/// What a host may take before it counts as hung: to boot, to run one script, to halt. A busy machine takes a tenth of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// How often a wait looks whether a person wants the lab to end.
const LOOK: Duration = Duration::from_millis(200);

/// How many bytes of memory a host has.
const MEMORY: u64 = 512 << 20;

/// The kernel, of Debian's package `user-mode-linux`.
pub(crate) const KERNEL: &str = "linux.uml";

const INIT: &str = include_str!("init.sh");

/// What scripts in a host begin with that run containers: `. /run/lab/folder/containers.sh`.
const CONTAINERS: &str = include_str!("containers.sh");

/// Mounts the first disk. More disks and what lies between them and the filesystem need another script.
pub(crate) const PLAIN_DISK: &str = "mount -t ext4 /dev/ubda /mnt\n";

/// In a mount namespace of its own: of the root filesystem a host's kernel can write to nothing but the paths before `--`, whatever
/// is remounted in the host.
const SANDBOX: &str = r#"set -e
while [ "$1" != -- ]; do mount --bind "$1" "$1"; shift; done
shift
mount -o remount,bind,ro /
exec "$@""#;

/// What stays of a host while its power is off.
pub(crate) struct Machine {
    name: String,
    folder: PathBuf,
    programs: PathBuf,
    disks: Vec<PathBuf>,
    interrupted: Arc<AtomicBool>,
}

impl Machine {
    /// A host with its own folder, made here, on disks that are files; `programs` is the folder with the tree's binaries.
    pub(crate) fn new(
        folder: &Path,
        name: &str,
        programs: &Path,
        disks: &[PathBuf],
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self> {
        let folder = folder.join(name);
        fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        fs::write(folder.join("containers.sh"), CONTAINERS).context("cannot write a host's scripts")?;
        let machine = Self {
            name: name.to_owned(),
            folder,
            programs: programs.to_owned(),
            disks: disks.to_owned(),
            interrupted,
        };
        machine.set_up_disks(PLAIN_DISK)?;
        Ok(machine)
    }

    /// Says how the host comes by what it mounts at `/mnt`, from its next boot on.
    pub(crate) fn set_up_disks(&self, script: &str) -> Result<()> {
        let path = self.folder.join("disks.sh");
        fs::write(&path, script).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The files that are its disks.
    pub(crate) fn disks(&self) -> &[PathBuf] {
        &self.disks
    }

    /// What the host's kernel and its init have said in all its boots.
    fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// Switches the host on and waits until it takes requests.
    pub(crate) fn boot(&self) -> Result<Host<'_>> {
        let console = File::options().create(true).append(true).open(self.console());
        let console = console.context("cannot open the console's file")?;
        let mut command = self.kernel(false)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(console).process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot run {KERNEL}"))?;
        let (Some(requests), Some(said)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the pipes of {KERNEL} are gone");
        };
        let (sender, messages) = mpsc::channel();
        let reader = thread::spawn(move || forward(said, &sender));
        let mut host = Host {
            machine: self,
            child,
            requests,
            messages,
            reader: Some(reader),
            done: BTreeMap::new(),
            next: 0,
            boot_id: String::new(),
            kernel: None,
            is_on: true,
        };
        match host.message(Instant::now() + PATIENCE)? {
            Some(Message::Up { boot }) => {
                host.boot_id = boot;
                host.kernel = Some(only_child(host.child.id())?);
            }
            Some(other) => bail!("host {} says {other:?} before it is up", self.name),
            None => bail!("host {} has not booted within {PATIENCE:?}{}", self.name, self.last_words()),
        }
        Ok(host)
    }

    /// Boots with the caller's standard streams as the host's terminal, and waits until the shell there has ended.
    pub(crate) fn shell(&self) -> Result<()> {
        let status = self.kernel(true)?.status().with_context(|| format!("cannot run {KERNEL}"))?;
        ensure!(status.success(), "host {} failed ({status}){}", self.name, self.last_words());
        Ok(())
    }

    /// The command by which a host's kernel runs.
    fn kernel(&self, shell: bool) -> Result<Command> {
        let init = self.folder.join("init");
        let text = fs::write(&init, INIT)
            .and_then(|()| fs::set_permissions(&init, fs::Permissions::from_mode(0o755)));
        text.with_context(|| format!("cannot write {}", init.display()))?;
        let word = |path: &Path| -> Result<String> {
            let text = path.to_str().filter(|text| !text.contains(char::is_whitespace));
            let text = text.with_context(|| {
                format!("a path with white space cannot be given to {KERNEL}: {}", path.display())
            })?;
            Ok(text.to_owned())
        };
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "--mount-proc",
        ]);
        command.args(["sh", "-c", SANDBOX, "lab"]).arg(&self.folder).args(&self.disks).arg("--");
        command.args([KERNEL, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"]);
        command.arg(format!("mem={MEMORY}"));
        command.args(["con=null", "ssl=null", "ssl0=fd:0,fd:1", "quiet"]);
        command.arg(if shell { "con0=null" } else { "con0=null,fd:2" });
        command.arg(format!("init={}", word(&init)?));
        command.arg(format!("uml_dir={}/", word(&self.folder)?)).arg(format!("umid={}", self.name));
        for (letter, disk) in ('a'..='h').zip(&self.disks) {
            command.arg(format!("ubd{letter}={}", word(disk)?));
        }
        // The kernel hands to init what it does not know itself.
        command.arg(format!("LAB_NAME={}", self.name));
        command.arg(format!("LAB_PROGRAMS={}", word(&self.programs)?));
        command.arg(format!("LAB_FOLDER={}", word(&self.folder)?));
        command.arg(format!("LAB_MACHINE={:032x}", fnv(self.name.as_bytes())));
        command.arg(format!("LAB_SHELL={}", u8::from(shell)));
        // Where the host's memory is: a file, which on a disk would be written out all the time.
        let in_memory = Path::new("/dev/shm");
        let room = statvfs(in_memory).map_or(0, |of| of.blocks_available() * of.fragment_size());
        command.env("TMPDIR", if room >= 2 * MEMORY { in_memory } else { &self.folder });
        Ok(command)
    }

    /// The end of what the console says, for an error.
    fn last_words(&self) -> String {
        let text = fs::read(self.console()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        format!("; its console ends with:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }
}

/// The process that a process has begun.
fn only_child(pid: u32) -> Result<Pid> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let child = children.split_whitespace().next().and_then(|child| child.parse().ok());
    child.map(Pid::from_raw).with_context(|| format!("process {pid} has no child: {children:?}"))
}

/// Two hosts of one lab are different machines, and each is the same at its next boot (FNV-1a).
fn fnv(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash: u128, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b)
    })
}

/// Hands on what a host says until its last process is gone.
fn forward(said: ChildStdout, to: &Sender<Result<Message>>) {
    let mut is_up = false;
    for line in BufReader::new(said).lines() {
        let message = match line {
            Ok(line) => match serde_json::from_str::<Message>(&line) {
                Ok(message) => Ok(message),
                // Of the kernel itself, before there is an init.
                Err(_) if !is_up => continue,
                Err(error) => Err(anyhow::anyhow!("the host says what makes no sense ({error}): {line}")),
            },
            Err(error) => Err(anyhow::Error::new(error).context("cannot read what the host says")),
        };
        is_up = true;
        if to.send(message).is_err() {
            return;
        }
    }
}

/// A host that runs. Dropped, its power is cut.
pub(crate) struct Host<'a> {
    machine: &'a Machine,
    child: Child,
    requests: ChildStdin,
    messages: Receiver<Result<Message>>,
    reader: Option<JoinHandle<()>>,
    /// What came of scripts for which nobody has waited yet.
    done: BTreeMap<u64, Output>,
    next: u64,
    boot_id: String,
    /// The kernel's first process, which leads a process group of its own with all that runs in the host.
    kernel: Option<Pid>,
    is_on: bool,
}

/// What is heard of a host.
enum Heard {
    Message(Message),
    /// Nothing in time.
    Nothing,
    /// Its last process has gone.
    End,
}

/// A script that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Started(u64);

impl Host<'_> {
    /// The id of this boot, as its kernel made it.
    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Runs a script with the host's shell and waits for its end.
    pub(crate) fn run(&mut self, script: &str) -> Result<Output> {
        let started = self.start(script)?;
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(output) = self.done.remove(&started.0) {
                return Ok(output);
            }
            let Some((id, output)) = self.ended(until)? else {
                bail!("host {} hangs: after {PATIENCE:?} this had not ended: {script}", self.machine.name);
            };
            self.done.insert(id.0, output);
        }
    }

    /// Begins a script; several may run at once.
    pub(crate) fn start(&mut self, script: &str) -> Result<Started> {
        self.next += 1;
        self.ask(&Request::Run { id: self.next, script: script.to_owned() })?;
        Ok(Started(self.next))
    }

    /// The next script that ends, or none if that takes longer than `until`.
    pub(crate) fn ended(&mut self, until: Instant) -> Result<Option<(Started, Output)>> {
        match self.message(until)? {
            Some(Message::Done { id, output }) => Ok(Some((Started(id), output))),
            Some(other) => bail!("host {} says {other:?} in the middle", self.machine.name),
            None => Ok(None),
        }
    }

    /// Cuts the power: at this moment nothing of the host runs any more, and no disk is told.
    pub(crate) fn cut(mut self) -> Result<()> {
        self.kill()
    }

    /// Switches the host off in an orderly way.
    pub(crate) fn halt(mut self) -> Result<()> {
        self.ask(&Request::Halt)?;
        let until = Instant::now() + PATIENCE;
        match self.hear(until)? {
            // The end of what it says is the end of all its processes.
            Heard::End => {}
            Heard::Nothing => bail!("host {} does not halt{}", self.machine.name, self.machine.last_words()),
            Heard::Message(other) => bail!("host {} says {other:?} instead of halting", self.machine.name),
        }
        let status = self.child.wait().context("cannot wait for a host")?;
        self.is_on = false;
        ensure!(
            status.success(),
            "host {} failed ({status}){}",
            self.machine.name,
            self.machine.last_words()
        );
        Ok(())
    }

    /// Stops the host's clock and processors, as a virtual machine is paused.
    pub(crate) fn pause(&self) -> Result<()> {
        self.signal_kernel(Signal::SIGSTOP)
    }

    /// Lets a paused host go on.
    pub(crate) fn resume(&self) -> Result<()> {
        self.signal_kernel(Signal::SIGCONT)
    }

    /// To the kernel's first process alone: the others are its programs, which it traces, and do nothing for long without it. It
    /// takes a signal to one of these for one of its own, and then hangs.
    fn signal_kernel(&self, signal: Signal) -> Result<()> {
        kill(self.kernel()?, signal)
            .with_context(|| format!("cannot send {signal} to host {}", self.machine.name))
    }

    fn kernel(&self) -> Result<Pid> {
        // Its parent, which is ours, ends as soon as it has waited for it, and was not waited for: the number is still its own.
        self.kernel.with_context(|| format!("host {} is not up", self.machine.name))
    }

    fn ask(&mut self, request: &Request) -> Result<()> {
        let line = serde_json::to_string(request).context("a request is JSON")?;
        writeln!(self.requests, "{line}").and_then(|()| self.requests.flush()).with_context(|| {
            format!("host {} takes no requests{}", self.machine.name, self.machine.last_words())
        })
    }

    /// The next thing that the host says, or none if that takes longer than `until`.
    fn message(&mut self, until: Instant) -> Result<Option<Message>> {
        match self.hear(until)? {
            Heard::Message(message) => Ok(Some(message)),
            Heard::Nothing => Ok(None),
            Heard::End => bail!("host {} is gone{}", self.machine.name, self.machine.last_words()),
        }
    }

    fn hear(&mut self, until: Instant) -> Result<Heard> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left.min(LOOK)) {
                Ok(message) => return message.map(Heard::Message),
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(Heard::Nothing),
                Err(RecvTimeoutError::Timeout) => {
                    ensure!(!self.machine.interrupted.load(Ordering::Relaxed), "interrupted");
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(Heard::End),
            }
        }
    }

    fn kill(&mut self) -> Result<()> {
        if !self.is_on {
            return Ok(());
        }
        if !self.kernel().is_ok_and(|kernel| killpg(kernel, Signal::SIGKILL).is_ok()) {
            // The kernel's process ends with this one, and all others with that.
            self.child.kill().context("cannot kill a host")?;
        }
        self.child.wait().context("cannot wait for a host")?;
        self.is_on = false;
        // Only when the last process has gone that had the pipe, and with it the disk, is the pipe at its end.
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        Ok(())
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}
