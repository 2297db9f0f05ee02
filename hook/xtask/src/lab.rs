//! `cargo xtask lab`: hosts with a kernel of their own, so that a power cut, a reboot and an old kernel are real.
//!
//! What it is made of, what can be done with it and what it cannot show stands in `hook/docs/lab.md`.

mod agent;
mod channel;
mod dice;
mod disk;
pub(crate) mod host;
mod look;
mod lossy;
mod operation;
mod power;
mod reboot;
mod state;
#[cfg(test)]
mod tests;
mod write_log;

use crate::process;
use crate::setup;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use clap::Subcommand;
use host::Machine;
use signal_hook::consts::SIGHUP;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use state::State;
use std::fs;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::io::Write as _;
use std::io::stdout;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use std::time::Instant;
use tempfile::TempDir;

/// The hidden command that runs in hosts.
pub(crate) const AGENT: &str = "lab-agent";

#[derive(Subcommand)]
pub(crate) enum Lab {
    /// Work in a host with a kernel of its own; leave its shell with `exit`
    Shell {
        /// A disk to go on with, such as one that `lab power` has kept; otherwise a new one that goes with the host
        #[arg(long)]
        disk: Option<PathBuf>,
    },
    /// Run a command in a host with a kernel of its own
    Run {
        /// A disk to go on with; it is made if it is not there. Otherwise a new one that goes with the host
        #[arg(long)]
        disk: Option<PathBuf>,
        /// At the end cut the power instead of switching the host off
        #[arg(long)]
        cut: bool,
        /// The command, for the host's shell
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Reboot a host with containers running, and cut its power; what they held is free afterwards
    Reboot,
    /// Cut a host's power at random moments, and look whether everything that volhook acknowledged is there
    Power {
        /// How long
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Which operations and moments; a random one is taken and printed
        #[arg(long)]
        seed: Option<u64>,
        /// On a disk that loses what it was not told to keep, and keeps the rest in any order
        #[arg(long)]
        lossy: bool,
    },
}

pub(crate) fn run(command: Lab) -> Result<()> {
    process::need_root("lab")?;
    setup::for_containers()?;
    setup::for_lab()?;
    // All of them, since with fewer packages their dependencies have other features and are built anew.
    process::run(process::cargo().args(["build", "--quiet", "--workspace", "--bins"]))?;
    let bench = Bench::new()?;
    match command {
        Lab::Shell { disk } => {
            let (machine, _) = bench.machine("lab", disk.as_deref())?;
            machine.shell()
        }
        Lab::Run { disk, cut, command } => {
            bench.ends_on_signals()?;
            let (machine, _) = bench.machine("lab", disk.as_deref())?;
            let mut host = machine.boot()?;
            let output = host.run(&command.join(" "))?;
            let _ = stdout().write_all(output.stdout.as_bytes());
            eprint!("{}", output.stderr);
            if cut {
                host.cut()?;
            } else {
                host.halt()?;
            }
            ensure!(output.code == 0, "exit code {}", output.code);
            Ok(())
        }
        Lab::Reboot => {
            bench.ends_on_signals()?;
            let (machine, _) = bench.machine("lab", None)?;
            reboot::run(&machine)
        }
        Lab::Power { seconds, seed, lossy } => {
            if lossy {
                setup::need(&[("dmsetup", "dmsetup")])?;
            }
            bench.ends_on_signals()?;
            let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0) % 1_000_000);
            storm(&bench, Duration::from_secs(seconds), seed, lossy)
        }
    }
}

/// Runs in a host.
pub(crate) fn agent() -> Result<()> {
    agent::run()
}

fn storm(bench: &Bench, time: Duration, seed: u64, lossy: bool) -> Result<()> {
    println!("seed {seed}");
    let (machine, state) = bench.machine("lab", None)?;
    let mut storm = power::Storm::new(seed, state);
    let until = Instant::now() + time;
    let (wrong, machine) = if lossy {
        let [disk] = machine.disks() else { bail!("a host has one disk") };
        let disks = [disk.clone(), disk.with_extension("log")];
        let logged = bench.host("logged", &disks)?;
        logged.set_up_disks(lossy::LOGGED_DISK)?;
        let after = bench.host("after", &[disk.with_extension("after")])?;
        (lossy::run(&mut storm, &logged, &after, until)?, after)
    } else {
        (power::run(&mut storm, &machine, until)?, machine)
    };
    let power::Counts { boots, cuts, moments, acknowledged, cut_off, done_nevertheless } = storm.counts;
    if lossy {
        println!("{moments} moments of logs");
    }
    println!(
        "{cuts} cuts, {boots} boots, {acknowledged} operations acknowledged, {cut_off} cut off; at {done_nevertheless} \
         boots some of these were done nevertheless"
    );
    println!("violations: {}", wrong.len());
    if wrong.is_empty() {
        return Ok(());
    }
    for line in &wrong {
        println!("  {line}");
    }
    for line in &storm.context {
        println!("{line}");
    }
    let kept = bench.keep(&machine)?;
    bail!(
        "a promise was broken (seed {seed}); look at the disk: cargo xtask lab shell --disk {}",
        kept.display()
    )
}

/// Where hosts of the lab have what is theirs; it goes with this.
struct Bench {
    folder: TempDir,
    /// The folder with the tree's binaries.
    programs: PathBuf,
    interrupted: Arc<AtomicBool>,
}

impl Bench {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("volhook-lab-").tempdir();
        let folder = folder.context("cannot make a temporary folder")?;
        let programs = process::target_folder()?.join("debug");
        for program in ["volhook", "volhook-compile", "xtask"] {
            let path = programs.join(program);
            ensure!(path.is_file(), "there is no {}: run `cargo build --workspace --bins`", path.display());
        }
        Ok(Self { folder, programs, interrupted: Arc::default() })
    }

    /// From now on Ctrl-C and its like end what waits for a host, so that all that was begun is ended as after a failure.
    fn ends_on_signals(&self) -> Result<()> {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&self.interrupted))
                .context("cannot be told of signals")?;
        }
        Ok(())
    }

    /// A host, and what a new disk has; nothing is known of one that was there.
    fn machine(&self, name: &str, disk: Option<&Path>) -> Result<(Machine, State)> {
        let own = self.folder.path().join(format!("{name}.img"));
        let path = match disk {
            Some(disk) => std::path::absolute(disk).context("cannot tell which disk that is")?,
            None => own,
        };
        let state = if path.exists() {
            State::default()
        } else {
            let scratch = self.folder.path().join(format!("{name}.new"));
            fs::create_dir(&scratch).context("cannot make a folder")?;
            disk::make(&path, &scratch)?
        };
        Ok((self.host(name, &[path])?, state))
    }

    /// A host on disks that there are, or will be when it boots.
    fn host(&self, name: &str, disks: &[PathBuf]) -> Result<Machine> {
        Machine::new(self.folder.path(), name, &self.programs, disks, Arc::clone(&self.interrupted))
    }

    /// Keeps a host's disk, and returns where it is now.
    fn keep(&self, machine: &Machine) -> Result<PathBuf> {
        let disk = machine.disks().first().context("a host without a disk")?;
        let kept = tempfile::Builder::new().prefix("volhook-lab-kept-").suffix(".img").tempfile();
        let (_, kept) =
            kept.and_then(|file| file.keep().map_err(|error| error.error)).context("cannot keep a disk")?;
        fs::rename(disk, &kept).with_context(|| format!("cannot move {}", disk.display()))?;
        Ok(kept)
    }
}
