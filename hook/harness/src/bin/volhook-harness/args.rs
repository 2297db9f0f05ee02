//! The command line.

use crate::commands;
use crate::commands::Running;
use crate::output::complain;
use clap::CommandFactory as _;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use clap_complete::env::CompleteEnv;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Tests OCI hooks, volhook's or any other.
#[derive(Parser)]
#[command(name = "volhook-harness", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = commands::variable)]
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
        /// One JSON document: sizes in bytes, times in RFC 3339.
        #[arg(long)]
        json: bool,
    },
    /// Print the statements of the scripts.
    Statements,
}

#[derive(Clone, Copy, ValueEnum)]
enum Engine {
    Fake,
    Runc,
    Crun,
}

impl From<Engine> for volhook_harness::script::Engine {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Fake => Self::Fake,
            Engine::Runc => Self::Runc,
            Engine::Crun => Self::Crun,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Behaviour {
    Runc,
    Crun,
    Youki,
}

impl From<Behaviour> for volhook_harness::behaviour::Behaviour {
    fn from(behaviour: Behaviour) -> Self {
        match behaviour {
            Behaviour::Runc => Self::Runc,
            Behaviour::Crun => Self::Crun,
            Behaviour::Youki => Self::Youki,
        }
    }
}

/// Parses the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = commands::helper(&args) {
        return code;
    }
    // Where a shell asks for completions, as volhook does for it.
    CompleteEnv::with_factory(Cli::command).var("VOLHOOK_COMPLETE").complete();
    let command = match Cli::try_parse_from(args) {
        Ok(cli) => cli.command,
        Err(error) => return misused(&error),
    };
    let result = match command {
        Command::Run { files, runtime, behaviour, variables, keep, jobs, limit, json } => {
            commands::run(&Running {
                files: &files,
                engine: runtime.into(),
                behaviour: behaviour.map(Into::into),
                variables,
                keeps: keep,
                jobs: usize::from(jobs),
                seconds: limit,
                as_json: json,
            })
        }
        Command::Statements => commands::statements(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            failure.code()
        }
    }
}

/// Prints what the parser says, which may be the help that was asked for.
fn misused(error: &clap::Error) -> ExitCode {
    let code = u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
    let text = error.render().ansi().to_string();
    // Where nobody reads any more nobody can be told.
    let _ = if error.use_stderr() {
        write!(anstream::stderr(), "{}", text.replacen("error:", "Error:", 1))
    } else {
        write!(anstream::stdout(), "{text}")
    };
    code
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
