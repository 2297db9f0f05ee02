//! Building a project: its language makes a component, which is checked before it is written.

use crate::error::BuildError;
use crate::error::Error;
use crate::kit;
use crate::lang;
use crate::probe;
use crate::project::Project;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A component that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Where it is.
    pub file: PathBuf,
    /// Its bytes.
    pub component: Vec<u8>,
}

/// Builds the project's component and writes it to [`Project::component`].
///
/// # Errors
/// [`Error::Build`].
pub fn build(project: &Project) -> Result<Built, Error> {
    kit::refresh(project)?;
    let out = project.out();
    fs::create_dir_all(&out).map_err(Error::io("make", &out))?;
    let component = lang::language(project.language).build(project, &out)?;
    let wrong = |reason: String| BuildError::NotThePlugin { reason };
    let outline = probe::outline(&component).map_err(|reason| wrong(reason.to_string()))?;
    if let Some(import) = outline.imports.first() {
        return Err(BuildError::Import { import: import.clone(), calls: Vec::new() }.into());
    }
    if probe::kind(&outline) != Some(project.kind) {
        let exports = outline.hook_points.join(", ");
        let reason = format!("plugin.toml says that it is a {}, and it exports [{exports}]", project.kind);
        return Err(wrong(reason).into());
    }
    let file = project.component();
    // Whoever reads it meanwhile has the old one or the new one.
    let new = out.join(".new.wasm");
    fs::write(&new, &component).map_err(Error::io("write", &new))?;
    fs::rename(&new, &file).map_err(Error::io("write", &file))?;
    Ok(Built { file, component })
}

/// Builds what runs the project as an ordinary program, and says how it is started: it reads a question per line (JSON) from
/// standard input and answers each in a line.
///
/// # Errors
/// [`Error::Build`].
pub fn native(project: &Project) -> Result<Command, Error> {
    kit::refresh(project)?;
    let out = project.out();
    fs::create_dir_all(&out).map_err(Error::io("make", &out))?;
    Ok(lang::language(project.language).native(project, &out)?)
}
