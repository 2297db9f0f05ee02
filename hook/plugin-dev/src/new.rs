//! A new project: a small plugin that builds and passes its own tests as it is.

use crate::error::Error;
use crate::kit;
use crate::lang;
use crate::project::API_VERSION;
use crate::project::LanguageName;
use crate::project::MANIFEST;
use crate::project::Project;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use volhook_core::config::Limits;
use volhook_core::decision::PluginKind;
use volhook_core::names::VolumeName;
use volhook_core::names::shorten;
use volhook_plugin_host::Host;

/// What all projects have, unless a language brings its own.
const COMMON: [(&str, &str); 2] = [
    ("README.md", include_str!("../languages/common/README.md.in")),
    (".gitignore", include_str!("../languages/common/gitignore")),
];

/// What a new project is to be.
#[derive(Debug, Clone)]
pub struct NewProject {
    /// The plugin's name.
    pub name: String,
    /// What it is for.
    pub kind: PluginKind,
    /// What it is written in.
    pub language: LanguageName,
    /// The folder to make, named after the plugin where none is given.
    pub folder: Option<PathBuf>,
}

/// Makes a project.
///
/// # Errors
/// [`Error::Name`], [`Error::NotEmpty`], or when a file cannot be written.
pub fn create(new: NewProject) -> Result<Project, Error> {
    let NewProject { name, kind, language, folder } = new;
    let lang = lang::language(language);
    check_name(&name, &*lang)?;
    let folder = folder.unwrap_or_else(|| PathBuf::from(&name));
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    if !is_free(&folder)? {
        return Err(Error::NotEmpty { folder });
    }
    let project = Project { folder, name, kind, language, api: API_VERSION.to_owned() };
    let own = lang.template(kind);
    let common = COMMON.iter().copied().filter(|(path, _)| own.iter().all(|(other, _)| other != path));
    for (path, text) in own.iter().copied().chain(common) {
        let text = kit::fill(text, &project)
            .replace("{{kind}}", &kind.to_string())
            .replace("{{source}}", lang.source())
            .replace("{{lock}}", &kit::rust_lock(&project.name));
        kit::write(&project.folder.join(path), &text)?;
    }
    kit::refresh(&project)?;
    // Last: a folder without it is no project.
    kit::write(&project.folder.join(MANIFEST), &project.manifest())?;
    Ok(project)
}

fn check_name(name: &str, language: &dyn lang::Language) -> Result<(), Error> {
    let wrong = |reason: String, spelling| Error::Name { name: shorten(name), reason, spelling };
    if VolumeName::new(name).is_err() {
        let spelled: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '-' })
            .collect();
        let spelled = spelled.trim_matches(['-', '.', '_']).to_owned();
        let spelling = VolumeName::new(spelled.as_str())
            .ok()
            .map(|_| language.name_problem(&spelled).and_then(|(_, spelling)| spelling).unwrap_or(spelled));
        let reason =
            "a name is 1 to 128 letters, digits, `_`, `.` and `-`, and begins with a letter or digit";
        return Err(wrong(reason.to_owned(), spelling));
    }
    // Where nothing is installed there are the built-in plugins only.
    if Host::new(PathBuf::new(), Limits::default(), None)
        .list()
        .is_ok_and(|plugins| plugins.iter().any(|plugin| plugin.name == name))
    {
        return Err(wrong("a built-in plugin has it".to_owned(), Some(format!("my-{name}"))));
    }
    match language.name_problem(name) {
        Some((reason, spelling)) => Err(wrong(reason, spelling)),
        None => Ok(()),
    }
}

/// Whether nothing is in the folder, or nothing is there at all.
fn is_free(folder: &Path) -> Result<bool, Error> {
    match fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(Error::io("read", folder)(error)),
    }
}
