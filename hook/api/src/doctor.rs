//! Whether a host can do what volhook needs, and what is left lying about.

use serde::Deserialize;
use serde::Serialize;
use std::path::PathBuf;

/// Asks for an examination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examine {
    /// The folders in which runtimes and engines are looked for, besides those of the system.
    pub folders: Vec<PathBuf>,
}

/// What an examination found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examined {
    /// The worst of them.
    pub verdict: Verdict,
    /// What each check found.
    pub checks: Vec<Finding>,
}

/// What a check comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Containers get their volumes all the same; or it could not be looked at.
    Warning,
    /// Some or all containers do not get their volumes.
    Problem,
}

impl Verdict {
    /// As it stands in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was checked; the same from version to version.
    pub check: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// What was found, one line.
    pub found: String,
    /// What to do about it, one line.
    pub mend: Option<String>,
}

impl Finding {
    /// Something is as it should be.
    #[must_use]
    pub fn ok(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), verdict: Verdict::Ok, found: found.into(), mend: None }
    }

    /// Something is worth a look.
    #[must_use]
    pub fn warning(check: &str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        let mend = Some(mend.into());
        Self { check: check.to_owned(), verdict: Verdict::Warning, found: found.into(), mend }
    }

    /// Something is wrong.
    #[must_use]
    pub fn problem(check: &str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        let mend = Some(mend.into());
        Self { check: check.to_owned(), verdict: Verdict::Problem, found: found.into(), mend }
    }
}
