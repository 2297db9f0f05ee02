//! What can go wrong for an author, with what helps.

use std::io;
use std::path::Path;
use std::path::PathBuf;
use volhook_plugin_host::InstallError;
use volhook_plugin_host::NotAPlugin;
use volhook_plugin_host::PluginError;

/// Why a component was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A program is not installed.
    #[error("{tool} is not installed, which {needed_for} needs")]
    MissingTool {
        /// The program, or the part of one.
        tool: String,
        /// What needs it.
        needed_for: String,
        /// Commands to choose from.
        install: Vec<String>,
    },
    /// A program that builds has failed.
    #[error("{program} failed ({status})")]
    Failed {
        /// The program.
        program: String,
        /// Its exit status.
        status: String,
        /// What it printed.
        output: String,
    },
    /// What was built imports something.
    #[error("the module imports {import:?}: a plugin must not import anything{}", by(.calls))]
    Import {
        /// The first import.
        import: String,
        /// Who calls it: functions, the caller first.
        calls: Vec<String>,
    },
    /// What was built is no plugin of the project's kind.
    #[error("what was built is not the project's plugin: {reason}")]
    NotThePlugin {
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {intention} {}", shown(path))]
    Io {
        /// Such as `write`.
        intention: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A path as its author would type it.
fn shown(path: &Path) -> std::path::Display<'_> {
    let here = std::env::current_dir().ok();
    let below =
        here.and_then(|here| path.strip_prefix(here).ok()).filter(|below| !below.as_os_str().is_empty());
    below.unwrap_or(path).display()
}

/// How an import is reached, for a message.
fn by(calls: &[String]) -> String {
    if calls.is_empty() { String::new() } else { format!("; it is called by {}", calls.join(" → ")) }
}

impl BuildError {
    /// An I/O error with what was intended.
    pub(crate) fn io(intention: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { intention, path: path.to_owned(), source }
    }

    /// What helps, one line each.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::MissingTool { install, .. } => install.clone(),
            Self::Import { import, .. } => vec![import_hint(import)],
            _ => Vec::new(),
        }
    }
}

fn import_hint(import: &str) -> String {
    let what = if import.contains("wbindgen") {
        "a crate expects a JavaScript engine around it: turn off its feature for that, such as `js` or `wasm-bindgen`"
    } else if import.contains("wasi") {
        "something wants an operating system: files, clocks, randomness and printing are not there for a plugin"
    } else {
        "what calls it wants something from outside: a plugin knows only what it is asked"
    };
    what.to_owned()
}

/// What is wrong with a fixture, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {problem}", shown(file))]
pub struct FixtureError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, with the field.
    pub problem: String,
}

/// Why a command of an author failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that a new project cannot have.
    #[error("{name:?} cannot be the name of a plugin: {reason}")]
    Name {
        /// The name, cut to a printable length.
        name: String,
        /// Why not.
        reason: String,
        /// A name that would do.
        spelling: Option<String>,
    },
    /// A folder for a new project has something in it.
    #[error("{} is not empty", shown(folder))]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder that is no project.
    #[error("{} is not a plugin's project: it has no plugin.toml", shown(folder))]
    NoProject {
        /// The folder.
        folder: PathBuf,
    },
    /// `plugin.toml` is wrong.
    #[error("{}: {problem}", shown(file))]
    Manifest {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, with the line.
        problem: String,
    },
    /// A fixture is wrong.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
    /// There are no fixtures.
    #[error("there are no fixtures{} in {}", matching.as_ref().map_or(String::new(), |text| format!(" with {text:?} in the name or about")), shown(folder))]
    NoFixtures {
        /// Where they would be.
        folder: PathBuf,
        /// What they had to match.
        matching: Option<String>,
    },
    /// The build failed.
    #[error("cannot build the plugin")]
    Build(#[from] BuildError),
    /// A file is no plugin.
    #[error("{} is not a plugin: {reason}", shown(file))]
    NotAPlugin {
        /// The file.
        file: PathBuf,
        /// What it is.
        reason: NotAPlugin,
    },
    /// The plugin cannot be compiled, or does not describe itself.
    #[error("cannot try {}", shown(file))]
    Try {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: InstallError,
    },
    /// A plugin gave no decision.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The program that answers natively does not do so.
    #[error("the native runner {problem}")]
    Native {
        /// What it did instead.
        problem: String,
    },
    /// A file of recorded decisions is none.
    #[error("{}:{line}: this is not a recorded decision: {reason}", shown(file))]
    Record {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why not.
        reason: String,
    },
    /// Nothing recorded is of the plugin.
    #[error("{} has no decisions of the plugin {plugin:?}{}", shown(file), others(.recorded))]
    NothingRecorded {
        /// The file.
        file: PathBuf,
        /// The plugin's name.
        plugin: String,
        /// The plugins of which there are.
        recorded: Vec<String>,
    },
    /// A process that measures cold starts failed.
    #[error("a fresh process did not decide: {reason}")]
    Cold {
        /// What it said.
        reason: String,
    },
}

fn others(recorded: &[String]) -> String {
    if recorded.is_empty() { String::new() } else { format!("; there are some of {}", recorded.join(", ")) }
}

impl Error {
    /// An I/O error with what was intended.
    pub(crate) fn io(intention: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let build = BuildError::io(intention, path);
        move |source| Self::Build(build(source))
    }

    /// What helps, one line each.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Name { spelling: Some(spelling), .. } => vec![format!("spell it {spelling}")],
            Self::NotEmpty { .. } => vec!["name another folder with --path".to_owned()],
            Self::NoProject { .. } => vec!["`volhook plugin new NAME` makes one".to_owned()],
            Self::NoFixtures { matching: None, folder } => {
                let file = folder.join("first.toml");
                vec![format!(
                    "write one: `call = \"describe\"` in {}, then `volhook plugin test --accept`",
                    shown(&file)
                )]
            }
            Self::Build(error) => error.hints(),
            Self::NothingRecorded { .. } => {
                vec!["--plugin names the one whose decisions are replayed".to_owned()]
            }
            _ => Vec::new(),
        }
    }

    /// What a program that builds has printed, for people to read before the error.
    #[must_use]
    pub fn output(&self) -> Option<&str> {
        match self {
            Self::Build(BuildError::Failed { output, .. }) => Some(output),
            _ => None,
        }
    }

    /// Whether the command line is at fault.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Name { .. })
    }
}
