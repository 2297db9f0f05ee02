//! What a command is about: a component's file, or a project's folder, which is built first.

use crate::build;
use crate::error::Error;
use crate::fixture;
use crate::fixture::Fixture;
use crate::probe;
use crate::project::Project;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::config::Limits;
use volhook_core::question::Outcome;
use volhook_core::question::Question;
use volhook_plugin_host::Asked;
use volhook_plugin_host::CompileError;
use volhook_plugin_host::MAX_COMPONENT_BYTES;
use volhook_plugin_host::NotAPlugin;
use volhook_plugin_host::PluginError;
use volhook_plugin_host::Trial;

/// Compiles a component to machine code in a process of its own.
pub type Compile<'a> = &'a dyn Fn(&[u8]) -> Result<Vec<u8>, CompileError>;

/// A component, and the project that it comes from if it was named by that.
#[derive(Debug)]
pub struct Subject {
    /// The component's file.
    pub file: PathBuf,
    /// Its bytes.
    pub component: Vec<u8>,
    /// Its project.
    pub project: Option<Project>,
}

impl Subject {
    /// Reads the component `path`, or builds the project in the folder `path`.
    ///
    /// # Errors
    /// When it cannot be read or built.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            let project = Project::open(path)?;
            let built = build::build(&project)?;
            return Ok(Self { file: built.file, component: built.component, project: Some(project) });
        }
        // One byte more than a plugin may have is enough to be refused.
        let most = MAX_COMPONENT_BYTES as u64 + 1;
        let mut component = Vec::new();
        let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut component));
        read.map_err(Error::io("read", path))?;
        Ok(Self { file: path.to_owned(), component, project: None })
    }

    /// Compiles it and tries it.
    ///
    /// # Errors
    /// [`Error::NotAPlugin`], [`Error::Try`].
    pub fn trial(&self, limits: &Limits, compile: Compile<'_>) -> Result<Trial, Error> {
        let file = || self.file.clone();
        match probe::outline(&self.component) {
            Err(reason) => return Err(Error::NotAPlugin { file: file(), reason }),
            Ok(outline) => {
                if let Some(import) = outline.imports.into_iter().next() {
                    return Err(Error::NotAPlugin { file: file(), reason: NotAPlugin::Import { import } });
                }
            }
        }
        Trial::new(&self.component, limits, compile).map_err(|source| Error::Try { file: file(), source })
    }

    /// The fixtures in `folder`, or else those of its project; none where there is neither.
    ///
    /// # Errors
    /// When there are none where they should be, or one is wrong.
    pub fn fixtures(&self, folder: Option<&Path>) -> Result<Vec<Fixture>, Error> {
        let own = self.project.as_ref().map(Project::fixtures);
        match folder.map(Path::to_owned).or(own.filter(|folder| folder.exists())) {
            Some(folder) => fixture::fixtures_in(&folder, None),
            None => Ok(Vec::new()),
        }
    }
}

/// What came of a question in the sandbox, and what it took where there is a decision.
///
/// # Errors
/// When the sandbox itself fails.
pub(crate) fn ask(trial: &Trial, question: &Question) -> Result<(Outcome, Option<Asked>), Error> {
    match trial.ask(question) {
        Ok(asked) => Ok((Outcome::Answer(asked.answer.clone()), Some(asked))),
        Err(PluginError::Fault { fault, .. }) => Ok((Outcome::Fault(fault.to_string()), None)),
        Err(error) => Err(error.into()),
    }
}
