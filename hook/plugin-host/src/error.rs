//! What can go wrong with a plugin.

use std::fmt;
use std::path::PathBuf;
use volhook_core::decision::PluginKind;

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
        "plugin {plugin:?} was compiled for {compiled_for}, this volhook needs {needed}; install it again"
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
    /// It trapped, as by a panic; with the engine's words for it.
    Trap(String),
    /// It used more computation than a decision may take.
    Fuel,
    /// It took more time than a decision may take.
    Deadline,
    /// It wanted more memory, tables or instances than a plugin may have; with what it was.
    Memory(&'static str),
    /// It returned more data than a decision may be.
    ResultTooLarge,
    /// It returned something that breaks the rules of the interface; with which.
    Nonsense(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trap(what) => write!(f, "it trapped ({what})"),
            Self::Fuel => f.write_str("it computed for too long"),
            Self::Deadline => f.write_str("it took too long"),
            Self::Memory(what) => write!(f, "it wanted more {what} than a plugin may have"),
            Self::ResultTooLarge => f.write_str("its answer is too large"),
            Self::Nonsense(what) => write!(f, "its answer makes no sense: {what}"),
        }
    }
}
