//! Scripts that say what is done to a hook and what must come of it. Pure: a script is read and checked before anything runs.

mod statements;
mod syntax;

use crate::behaviour::Behaviour;
use crate::behaviour::Stage;
pub use statements::EXPECTATIONS;
pub use statements::VERBS;
pub(crate) use statements::inside;
use std::time::Duration;
pub use syntax::Block;
pub use syntax::Line;
pub use syntax::Outline;
pub use syntax::Part;
pub use syntax::TextFile;
pub use syntax::Word;
pub use syntax::parts_of_block;

/// What is wrong with a script, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ScriptError {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters, from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl ScriptError {
    pub(crate) fn new(line: usize, column: usize, message: impl Into<String>) -> Self {
        Self { line, column, message: message.into() }
    }
}

/// A script: what it says about itself, its statements, and its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// On which runtimes it holds; empty for all.
    pub runtimes: Vec<Engine>,
    /// As which runtimes a fake one may act; empty for all. Without a choice from outside the first.
    pub behaviours: Vec<Behaviour>,
    /// Whether it needs to be run by root.
    pub needs_root: bool,
    /// Its statements, in order.
    pub statements: Vec<Statement>,
    /// The files that it starts with.
    pub files: Vec<TextFile>,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    /// At the first statement that makes no sense, with line and column.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let outline = Outline::parse(text)?;
        let mut script = Self { files: outline.files, ..Self::default() };
        for line in outline.lines {
            match statements::parse(line)? {
                statements::Parsed::Runtimes(engines) => script.runtimes.extend(engines),
                statements::Parsed::Behaviours(behaviours) => script.behaviours.extend(behaviours),
                statements::Parsed::Root => script.needs_root = true,
                statements::Parsed::Statement(statement) => script.statements.push(statement),
            }
        }
        Ok(script)
    }
}

/// What runs containers: the fake runtime or a real one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The one of the harness.
    Fake,
    /// runc.
    Runc,
    /// crun.
    Crun,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fake, Self::Runc, Self::Crun];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fake => "fake",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// The runtime of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }
}

/// A statement with what stands before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its line in the script.
    pub line: usize,
    /// As it is written.
    pub source: String,
    /// `[crun]`, `[!fake]`: it is left out unless all of these hold.
    pub conditions: Vec<Condition>,
    /// What must become of it.
    pub must: Must,
    /// `within 5s`: an expectation is tried again for so long.
    pub within: Option<Duration>,
    /// What is done.
    pub action: Action,
}

/// On which runs a statement counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// A runtime, its behaviour, `fake`, `real` or `root`.
    pub name: String,
    /// Whether it must not hold.
    pub negated: bool,
}

/// What must become of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Must {
    /// It succeeds.
    Succeed,
    /// `fails`: it does not.
    Fail,
    /// `try`: either.
    Either,
}

/// A text of a statement: a word, or the block behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// A word.
    Word(Word),
    /// A block.
    Block(Block),
}

/// What a statement does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Sets a variable of the environment of everything that is run from then on.
    Env(String, Word),
    /// Gives volhook folders of its own.
    Volhook,
    /// Commands may take so long from then on.
    Deadline(Duration),
    /// Makes a bundle, and makes it the one that the next statements change.
    Bundle {
        /// Its name: a folder in the script's folder.
        name: Word,
        /// Without programs; otherwise with busybox where the host has it.
        empty: bool,
    },
    /// An annotation of the bundle.
    Annotation(Word, Word),
    /// A mount of the bundle: where, of which type, of what, how.
    Mount {
        /// Where in the container.
        target: Word,
        /// Of which type.
        kind: Word,
        /// Of what.
        source: Word,
        /// Its options.
        options: Vec<Word>,
    },
    /// What the container runs.
    Process(Vec<Word>),
    /// What the container runs, as a shell's script.
    Shell(Text),
    /// A change of `config.json`: a merge patch (RFC 7396).
    Config(Text),
    /// An entry of the bundle's hooks.
    Hook {
        /// At which stage.
        stage: Stage,
        /// After so many seconds the runtime kills it.
        timeout: Option<u32>,
        /// Its environment; without one it has none of its own.
        env: Option<Vec<Word>>,
        /// Program and arguments.
        command: Vec<Word>,
    },
    /// Creates a container without calling hooks, and leaves it as they find it at `prestart`.
    Init(Word),
    /// Creates a container.
    Create(Container),
    /// Creates and starts a container, and waits for its end unless it is detached.
    Run {
        /// Which.
        container: Container,
        /// Whether it is not waited for.
        detach: bool,
    },
    /// Starts a created container.
    Start(Word),
    /// Sends a container's process a signal.
    Kill {
        /// Which.
        id: Word,
        /// The signal.
        signal: Word,
    },
    /// Deletes a container.
    Delete {
        /// Which.
        id: Word,
        /// Even if it runs.
        force: bool,
    },
    /// Runs a program in a container.
    In(Word, Vec<Word>),
    /// Runs a program in the script's folder.
    Exec(Vec<Word>),
    /// Writes a file.
    Write(Word, Text),
    /// Changes the state that the next `call` gives to hooks.
    State(StateChange),
    /// Calls a stage's hooks once, without a runtime.
    Call {
        /// The stage.
        stage: Stage,
        /// For which container.
        id: Word,
    },
    /// The next command's hooks of a stage are killed.
    KillHook(Stage, Moment),
    /// Waits until a container has a status.
    Wait(Word, Word),
    /// Waits.
    Sleep(Duration),
    /// Must hold.
    Expect(Expectation),
    /// Puts something into the report, for people and for comparisons.
    Show(Shown),
}

/// A container of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: Word,
    /// The bundle's name; otherwise the one that was named last.
    pub bundle: Option<Word>,
}

/// When a hook is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// So long after its start.
    After(Duration),
    /// As soon as a path exists.
    Exists(Word),
}

/// How the state on a hook's standard input differs from what the runtime would say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateChange {
    /// Not at all.
    Default,
    /// In these fields: JSON, or else text.
    Set(Vec<(String, Word)>),
    /// These fields are missing.
    Without(Vec<Word>),
    /// It is this text.
    Text(Text),
    /// It is so many spaces.
    Spaces(u64),
}

/// What is put into the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// What the last command printed, and how it ended.
    Output,
    /// How the last command ended.
    Exit,
    /// A file.
    File(Word),
}

/// What must be in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// Exactly this, but for line ends at its end.
    Is(Text),
    /// This somewhere.
    Contains(Text),
    /// This nowhere.
    Lacks(Text),
    /// Something that this regular expression matches.
    Matches(Word),
    /// Nothing.
    Empty,
}

/// What must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    /// The last command's exit status.
    Exit(i32),
    /// The signal that killed the last command.
    Signal(i32),
    /// The last command's standard output (or error).
    Output {
        /// Standard error.
        is_error: bool,
        /// What it must be.
        matches: Match,
    },
    /// A value in the last command's standard output, which must be JSON.
    Json {
        /// Where, such as `.a[0].b`.
        path: Word,
        /// What it must be: JSON, or else text.
        value: Word,
    },
    /// A file's content.
    File(Word, Match),
    /// A path is there.
    Exists(Word),
    /// A path is not there.
    Missing(Word),
    /// A mount in a container.
    Mount {
        /// Where.
        target: Word,
        /// In which container.
        id: Word,
        /// `type=`, `source=`, `options=`, `super=`: what it must be, and have.
        fields: Vec<(String, Word)>,
    },
    /// No mount there.
    NoMount {
        /// Where.
        target: Word,
        /// In which container.
        id: Word,
    },
    /// A container holds a volume of volhook.
    Lease(Word, Word),
    /// Nobody holds the volume, or any.
    NoLease(Option<Word>),
    /// A container's status.
    Status(Word, Word),
    /// The runtime knows no such container.
    NoContainer(Word),
    /// Mounts and loop devices on the host are as when the script began.
    HostUnchanged,
}
