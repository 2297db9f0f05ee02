//! The languages in which a plugin can be written: what each brings to a project, and how it is built.

mod c;
mod fixtures;
mod js;
mod python;
mod rust;
#[cfg(test)]
mod tests;

use crate::error::BuildError;
use crate::project::LanguageName;
use crate::project::Project;
use crate::toolchain::DEBIAN_INSTALL;
use crate::toolchain::DEBIAN_RUSTC;
use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::process::Command;
use volhook_core::decision::PluginKind;

/// One of the languages in which a plugin can be written.
pub(crate) trait Language {
    /// Files of a new project, besides the kit: path relative to the project, content. `{{name}}` is replaced by the
    /// plugin's name, `{{crate}}` and `{{type}}` by what Rust calls a crate and a type of that name.
    fn template(&self, kind: PluginKind) -> Vec<(&'static str, &'static str)>;

    /// Files of the kit: what comes from volhook and is written anew by each build into the project's `kit/`. WIT is
    /// added by the caller as `kit/wit/…`.
    fn kit(&self, kind: PluginKind) -> Vec<(&'static str, Cow<'static, str>)>;

    /// Where the decisions are, for the project's README.
    fn source(&self) -> &'static str;

    /// Builds the project and returns the component's bytes, not yet checked. `out` is `build/` of the project.
    fn build(&self, project: &Project, out: &Path) -> Result<Vec<u8>, BuildError>;

    /// A command for the native runner: a process that reads one question per line (JSON) on standard input and answers
    /// one line (JSON) each on standard output.
    fn native(&self, project: &Project, out: &Path) -> Result<Command, BuildError>;

    /// Why `name`, which may be a plugin's, cannot be that of a project in this language, and a name that can.
    fn name_problem(&self, _name: &str) -> Option<(String, Option<String>)> {
        None
    }

    /// Runs the tests that the project has in its own language, if there is a usual way to.
    fn own_tests(&self, _project: &Project) -> Result<Option<OwnTests>, BuildError> {
        Ok(None)
    }
}

/// What came of the tests that a project has in its own language.
#[derive(Debug)]
pub(crate) struct OwnTests {
    /// The command that ran them.
    pub(crate) program: String,
    /// How many passed.
    pub(crate) passed: u64,
    /// How many failed.
    pub(crate) failed: u64,
    /// What they printed, where some failed.
    pub(crate) output: String,
}

/// Runs a program to its end and returns what it printed.
pub(crate) fn run(mut command: Command, program: &str) -> Result<String, BuildError> {
    let output = command.output().map_err(|error| cannot_run(program, error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(BuildError::Failed {
            program: program.to_owned(),
            status: output.status.to_string(),
            output: said,
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program that cannot be started.
pub(crate) fn cannot_run(program: &str, error: io::Error) -> BuildError {
    if error.kind() != io::ErrorKind::NotFound {
        return BuildError::io("run", Path::new(program))(error);
    }
    let (needed_for, install) = match program {
        "cargo" | "rustc" | DEBIAN_RUSTC => (
            "building plugins in Rust",
            vec![
                "install it as https://rustup.rs says".to_owned(),
                format!("or, on Debian: {DEBIAN_INSTALL} cargo"),
            ],
        ),
        _ => ("building the plugin", Vec::new()),
    };
    BuildError::MissingTool { tool: program.to_owned(), needed_for: needed_for.to_owned(), install }
}

/// The language of this name.
pub(crate) fn language(name: LanguageName) -> Box<dyn Language> {
    match name {
        LanguageName::Rust => Box::new(rust::Rust),
        LanguageName::C => Box::new(c::C),
        LanguageName::Js => Box::new(js::Js),
        LanguageName::Python => Box::new(python::Python),
    }
}

/// A file of a language's kit, with `{{kind}}` replaced.
fn of_kind(text: &str, kind: PluginKind) -> Cow<'static, str> {
    Cow::Owned(text.replace("{{kind}}", &kind.to_string()))
}
