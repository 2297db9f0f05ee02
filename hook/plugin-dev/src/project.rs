//! A project on disk: the folder with `plugin.toml`.

use crate::error::Error;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;
use volhook_core::decision::PluginKind;

/// The file that makes a folder a project.
pub(crate) const MANIFEST: &str = "plugin.toml";
/// The version of `wit/` that new projects are made for, and the only one that there is a kit for.
pub(crate) const API_VERSION: &str = "0.1.0";

/// A language in which plugins can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LanguageName {
    /// Rust.
    Rust,
    /// C.
    C,
    /// JavaScript.
    Js,
    /// Python.
    Python,
}

impl LanguageName {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rust, Self::C, Self::Js, Self::Python];

    /// The name as it is typed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::Js => "js",
            Self::Python => "python",
        }
    }
}

impl fmt::Display for LanguageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LanguageName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|language| language.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|language| language.as_str()).collect();
            format!("there is no kit for {text:?}; there is one for {}", known.join(", "))
        })
    }
}

/// A plugin's project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Where it is.
    pub folder: PathBuf,
    /// The plugin's name.
    pub name: String,
    /// What it is for.
    pub kind: PluginKind,
    /// What it is written in.
    pub language: LanguageName,
    /// The version of `wit/` that it is made for.
    pub api: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: String,
    kind: PluginKind,
    language: String,
    api: String,
}

impl Project {
    /// Reads the project in `folder`.
    ///
    /// # Errors
    /// [`Error::NoProject`], [`Error::Manifest`].
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let file = folder.join(MANIFEST);
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NoProject { folder: folder.to_owned() });
            }
            Err(error) => return Err(Error::io("read", &file)(error)),
        };
        let wrong = |problem: String| Error::Manifest { file: file.clone(), problem };
        let manifest: Manifest = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| crate::fixture::line_at(&text, span.start));
            wrong(format!("line {line}: {}", error.message()))
        })?;
        let language = manifest.language.parse().map_err(|problem| wrong(format!("language: {problem}")))?;
        if manifest.api != API_VERSION {
            let api = manifest.api;
            return Err(wrong(format!(
                "it is made for version {api:?} of the interface, and this volhook has the kit of {API_VERSION}"
            )));
        }
        let Manifest { name, kind, api, .. } = manifest;
        // Compilers run elsewhere and print paths of their own.
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Ok(Self { folder, name, kind, language, api })
    }

    /// Where what is built goes.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.folder.join("build")
    }

    /// The component.
    #[must_use]
    pub fn component(&self) -> PathBuf {
        self.out().join(format!("{}.wasm", self.name))
    }

    /// Where its fixtures are.
    #[must_use]
    pub fn fixtures(&self) -> PathBuf {
        self.folder.join("fixtures")
    }

    /// What `plugin.toml` says of it.
    pub(crate) fn manifest(&self) -> String {
        let Self { name, kind, language, api, .. } = self;
        format!(
            "# What volhook has to know to build this plugin.\n\
             name = {name:?}\nkind = \"{kind}\"\nlanguage = \"{language}\"\napi = {api:?}\n"
        )
    }
}
