//! What the programs' command lines share: where things are, how output is wanted, and what is said of a wrong one.

use crate::output::complain;
use crate::places::engine_at;
use clap::Args;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use volhook_engine::Engine;
use volhook_engine::Failure;

/// Options that say where things are on this host.
#[derive(Debug, Args)]
pub struct Places {
    /// Volumes, plugins and the journal.
    #[arg(long, global = true, env = "VOLHOOK_ROOT", value_name = "DIR", default_value = "/var/lib/volhook")]
    root: PathBuf,
    /// Records of running containers.
    #[arg(long, global = true, env = "VOLHOOK_RUN_DIR", value_name = "DIR", default_value = "/run/volhook")]
    run_dir: PathBuf,
    /// The configuration; need not exist.
    #[arg(
        long,
        global = true,
        env = "VOLHOOK_CONFIG",
        value_name = "FILE",
        default_value = "/etc/volhook/config.toml"
    )]
    config: PathBuf,
}

impl Places {
    /// The engine for these places.
    #[must_use]
    pub fn engine(self) -> Engine {
        engine_at(self.root, self.run_dir, self.config)
    }
}

/// The option of commands that have something to say to scripts.
#[derive(Debug, Args)]
pub struct Output {
    /// One JSON document: sizes in bytes, times in RFC 3339.
    #[arg(long)]
    pub json: bool,
}

/// Prints what the parser says, which may be the help that was asked for; the exit code.
#[must_use]
pub fn misused(error: &clap::Error) -> ExitCode {
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

/// Says why a command failed; the exit code.
#[must_use]
pub fn report(failure: &Failure, verbose: bool) -> ExitCode {
    complain(failure, verbose);
    ExitCode::from(failure.kind.exit_code())
}
