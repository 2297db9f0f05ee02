//! What can go wrong with a plugin.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use volhook_core::decision::PluginKind;
use volhook_core::question::Consumed;

/// Why a plugin gave no decision.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No plugin of this kind has the name.
    #[error("unknown {kind} {name:?}; installed: {}", installed.join(", "))]
    Unknown {
        /// The kind that was looked for.
        kind: PluginKind,
        /// The name, cut to a printable length.
        name: String,
        /// The names of those that there are.
        installed: Vec<String>,
    },
    /// The plugin did not give a usable answer: a bug of the plugin, or malice.
    #[error("plugin {plugin:?} failed in {call}: {fault}")]
    Fault {
        /// The plugin.
        plugin: String,
        /// The function that was called.
        call: &'static str,
        /// What happened.
        fault: Fault,
        /// What it had used until then.
        consumed: Consumed,
    },
    /// Somebody else than us could have changed the installed plugin.
    #[error("plugin {plugin:?} is not trusted: {}: {reason}", path.display())]
    Untrusted {
        /// The plugin.
        plugin: String,
        /// The folder or file at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The installed plugin is incomplete or damaged.
    #[error("plugin {plugin:?} is damaged: {reason}; install it again")]
    Damaged {
        /// The plugin.
        plugin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The installed plugin was compiled by another volhook.
    #[error(
        "plugin {plugin:?} was compiled for {compiled_for}, this volhook needs {needed}: `volhook plugin refresh` compiles it anew"
    )]
    Stale {
        /// The plugin.
        plugin: String,
        /// The engine and settings it was compiled for.
        compiled_for: String,
        /// The engine and settings of this volhook.
        needed: String,
    },
    /// The folder of installed plugins cannot be read.
    #[error("cannot read the installed plugins in {}", path.display())]
    Read {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The plugin's code cannot be loaded.
    #[error("cannot load plugin {plugin:?}: {reason}")]
    Load {
        /// The plugin.
        plugin: String,
        /// What the engine says.
        reason: String,
    },
    /// The engine cannot be set up, or the thread that limits the plugin's time cannot be started.
    #[error("cannot run plugins: {reason}")]
    Engine {
        /// Why.
        reason: String,
    },
}

/// What a plugin did instead of answering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It panicked; with its message, file and line, as far as it has left them.
    Panic(String),
    /// It trapped otherwise; with the engine's words for it.
    Trap(String),
    /// It used more computation than a decision may take.
    Fuel {
        /// Units that it may use.
        limit: u64,
    },
    /// It took more time than a decision may take.
    Deadline {
        /// Processor time that a call may take.
        limit: Duration,
    },
    /// It took more time than all decisions of one process together may take.
    TotalTime {
        /// Processor time that all its calls in one process may take.
        limit: Duration,
    },
    /// The host was too busy: the call had too little of the processor to be done.
    Starved {
        /// How long it was waited for.
        waited: Duration,
        /// Processor time that it had.
        used: Duration,
    },
    /// It wanted more memory than a plugin may have.
    Memory {
        /// Bytes that it would have had.
        wanted: u64,
        /// Bytes that it may have.
        limit: u64,
    },
    /// It wanted larger tables than a plugin may have.
    Tables {
        /// Elements that they would have had.
        wanted: u64,
        /// Elements that they may have.
        limit: u64,
    },
    /// It returned more data than a decision may be.
    AnswerTooLarge {
        /// Bytes that an answer may have.
        limit: u64,
    },
    /// It returned something that breaks the rules of the interface; with which.
    Nonsense(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(message) => f.write_str(message),
            Self::Trap(what) => write!(f, "it trapped ({what})"),
            Self::Fuel { limit } => write!(f, "it used up {limit} units of fuel (limits.fuel)"),
            Self::Deadline { limit } => {
                write!(f, "it used up {} ms of processor time (limits.time)", limit.as_millis())
            }
            Self::TotalTime { limit } => {
                let limit = limit.as_millis();
                write!(f, "its calls together used up {limit} ms of processor time (limits.total_time)")
            }
            Self::Starved { waited, used } => {
                let (waited, used) = (waited.as_secs(), used.as_millis());
                write!(f, "the host is too busy: it had {used} ms of processor time in {waited} s")
            }
            Self::Memory { wanted, limit } => {
                write!(f, "it wanted {wanted} bytes of memory and may have {limit} (limits.memory)")
            }
            Self::Tables { wanted, limit } => {
                write!(f, "it wanted {wanted} elements in its tables and may have {limit}")
            }
            Self::AnswerTooLarge { limit } => {
                write!(f, "its answer has more than {limit} bytes (limits.answer)")
            }
            Self::Nonsense(what) => write!(f, "its answer makes no sense: {what}"),
        }
    }
}
