//! `cargo xtask`: everything that a contributor runs, with the set-up that it needs.

mod bench_hook;
mod bench_journal;
mod bench_plugins;
mod bench_universal;
mod bench_volumes;
mod bundle;
mod debian;
mod demo;
mod engines;
mod figures;
mod freeze;
mod fuzz;
mod hook_figures;
mod hook_timer;
mod idle;
mod install;
mod lab;
mod process;
mod setup;
mod wit;

use anyhow::Result;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "What a contributor runs; each command installs what it needs and lacks"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the other commands need, and nothing else
    Setup,
    /// Run all tests; further arguments go to `cargo nextest run`
    Test {
        /// Arguments for `cargo nextest run`, such as part of a test's name
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Show the main job with real containers, and check each step
    Demo {
        /// The runtime to show it with
        #[arg(long, default_value = "runc")]
        runtime: Runtime,
    },
    /// Build for release and install volhook and its other programs, with completions and manual pages
    Install {
        /// They go to `bin`, `libexec` and `share` below this
        #[arg(long, default_value = "/usr/local")]
        prefix: PathBuf,
    },
    /// Measure
    #[command(subcommand)]
    Bench(Bench),
    /// Look for inputs that break the journal, and for moments at which a killed hook does
    Fuzz {
        /// How long, the building left out: a third each for two fuzz targets and a storm of killed hooks
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(3..))]
        seconds: u64,
    },
    /// Hosts with a kernel of their own, whose power can be cut
    #[command(subcommand)]
    Lab(lab::Lab),
    /// Write the reference of each version of the plugins' interface, from its WIT
    Reference,
    /// Release a version of the plugins' interface: from then on nothing but its documentation may change
    Freeze {
        /// The version, a folder of `wit/`
        version: String,
        /// Also one that is released already
        #[arg(long)]
        force: bool,
    },
    /// What continuous integration runs: format, lints, documentation, tests
    Ci,
    /// Do what the lab asks, in one of its hosts
    #[command(name = lab::AGENT, hide = true)]
    LabAgent,
    /// Run a program and write what it took to a file
    #[command(name = hook_timer::NAME, hide = true)]
    Timed {
        file: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<OsString>,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// A container's whole run with volhook's hooks, against plain hooks and binds, and the hooks by themselves
    Hook {
        /// How often each is run
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(3..))]
        rounds: u32,
        /// The runtime, or both
        #[arg(long, default_value = "both")]
        runtime: BenchRuntime,
        /// Another volhook, built for release and statically, to run in turns with this one
        #[arg(long)]
        old: Option<PathBuf>,
        /// Once more beside so many idle processes; 0: not
        #[arg(long, default_value_t = 1000)]
        processes: usize,
        /// A folder on the filesystem to measure on, instead of the one for temporary files
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// The journal's share: acquire and release of nine leases, beside a bare append and beside SQLite
    Journal {
        /// How often each is measured
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(3..))]
        rounds: u32,
        /// Milliseconds of each measurement
        #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(50..))]
        time: u32,
    },
    /// A decision in the built-in plugins and in each language, cold and warm, beside a program that makes the same one
    Plugins {
        /// How often each is measured
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(3..))]
        rounds: u32,
    },
    /// First and later starts of pods on a Debian, beside docker's and podman's volumes and cp
    Universal {
        /// How often each is measured
        #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(3..))]
        rounds: u32,
        /// How many files the large tree has
        #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
        files: u32,
        /// The runtime
        #[arg(long, default_value = "runc")]
        runtime: Runtime,
        /// A folder on the filesystem to measure on, instead of the one for temporary files
        #[arg(long)]
        folder: Option<PathBuf>,
    },
    /// Listing, creating and removing volumes, beside docker, podman, mkfs and rm
    Volumes {
        /// How often each is measured
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(3..))]
        rounds: u32,
        /// How many volumes are listed
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        volumes: u32,
        /// How many files they have together
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
        files: u32,
    },
}

/// An OCI runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Runtime {
    Runc,
    Crun,
}

impl Runtime {
    /// The program's name.
    fn program(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BenchRuntime {
    Both,
    Runc,
    Crun,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Setup => {
            setup::for_containers()?;
            setup::for_tests()?;
            debian::rootfs().map(drop)
        }
        Command::Test { args } => test(&args),
        Command::Demo { runtime } => demo::run(runtime),
        Command::Install { prefix } => install::run(&prefix),
        Command::Bench(Bench::Hook { rounds, runtime, old, processes, folder }) => {
            bench_hook::run(&bench_hook::Wanted {
                rounds: rounds as usize,
                runtimes: match runtime {
                    BenchRuntime::Both => &[Runtime::Runc, Runtime::Crun],
                    BenchRuntime::Runc => &[Runtime::Runc],
                    BenchRuntime::Crun => &[Runtime::Crun],
                },
                old: old.as_deref(),
                processes,
                folder: folder.as_deref(),
            })
        }
        Command::Bench(Bench::Journal { rounds, time }) => bench_journal::run(rounds, time),
        Command::Bench(Bench::Plugins { rounds }) => bench_plugins::run(rounds as usize),
        Command::Bench(Bench::Universal { rounds, files, runtime, folder }) => {
            bench_universal::run(runtime, rounds as usize, files as usize, folder.as_deref())
        }
        Command::Bench(Bench::Volumes { rounds, volumes, files }) => {
            bench_volumes::run(rounds as usize, volumes as usize, files as usize)
        }
        Command::Fuzz { seconds } => fuzz::run(seconds),
        Command::Lab(command) => lab::run(command),
        Command::LabAgent => lab::agent(),
        Command::Reference => freeze::references(),
        Command::Freeze { version, force } => freeze::run(&version, force),
        Command::Timed { file, program } => hook_timer::run(&file, &program),
        Command::Ci => process::run(&mut process::command(".ci/run")),
    }
}

/// The documentation's examples run first, so that the last lines are the summary of the whole suite.
fn test(args: &[String]) -> Result<()> {
    setup::for_containers()?;
    setup::for_tests()?;
    // Most tests do without it; those that need it fail and say what is missing.
    if let Err(error) = debian::rootfs() {
        println!("{error:#}");
    }
    // With the tests, because what they depend on turns on features: programs built without them would be built of other
    // dependencies, and all of these twice.
    process::run(process::cargo().args(["build", "--workspace", "--bins", "--tests"]))?;
    if args.is_empty() {
        process::run(process::cargo().args(["test", "--quiet", "--doc", "--workspace"]))?;
    }
    process::run(process::cargo().args(["nextest", "run", "--workspace"]).args(args))
}
