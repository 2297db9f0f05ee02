//! The command line of `volhook harness`.

use crate::args::Output;
use crate::commands;
use crate::commands::harness::Running;
use clap::Subcommand;
use clap::ValueEnum;
use std::path::PathBuf;
use volhook_engine::Context;
use volhook_engine::Failure;

#[derive(Subcommand)]
pub(super) enum Harness {
    /// Run test scripts of OCI hooks, volhook's or any other. Exits with 1 if one fails, with 2 if one cannot be read or none is
    /// for this runtime.
    Run {
        /// The scripts.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// What runs the containers. The fake one needs neither a runtime nor root.
        #[arg(long, value_enum, default_value = "fake")]
        runtime: Engine,
        /// As which runtime the fake one acts; without it as the script says, or as runc.
        #[arg(long = "as", value_enum, value_name = "RUNTIME")]
        behaviour: Option<Behaviour>,
        /// A variable for the scripts, $NAME; a value that begins with ./ becomes an absolute path.
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = commands::harness::variable)]
        variables: Vec<(String, String)>,
        /// Keep the folders of scripts that fail.
        #[arg(long)]
        keep: bool,
        /// So many scripts at the same time.
        #[arg(short, long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
        jobs: u16,
        /// The most seconds that a script may take.
        #[arg(long, default_value_t = 300, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
        limit: u64,
        #[command(flatten)]
        output: Output,
    },
    /// Print the statements of the scripts.
    Statements,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Engine {
    Fake,
    Runc,
    Crun,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Behaviour {
    Runc,
    Crun,
    Youki,
}

pub(super) fn run(_: &Context<'_>, command: Harness) -> Result<(), Failure> {
    match command {
        Harness::Run { files, runtime, behaviour, variables, keep, jobs, limit, output } => {
            commands::harness::run(&Running {
                files: &files,
                engine: match runtime {
                    Engine::Fake => volhook_harness::script::Engine::Fake,
                    Engine::Runc => volhook_harness::script::Engine::Runc,
                    Engine::Crun => volhook_harness::script::Engine::Crun,
                },
                behaviour: behaviour.map(|behaviour| match behaviour {
                    Behaviour::Runc => volhook_harness::behaviour::Behaviour::Runc,
                    Behaviour::Crun => volhook_harness::behaviour::Behaviour::Crun,
                    Behaviour::Youki => volhook_harness::behaviour::Behaviour::Youki,
                }),
                variables,
                keeps: keep,
                jobs: usize::from(jobs),
                seconds: limit,
                as_json: output.json,
            })
        }
        Harness::Statements => commands::harness::statements(),
    }
}
