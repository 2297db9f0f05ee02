//! The programs that are installed beside this one: found by where this program really is, never by PATH, which says what its
//! caller likes.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use volhook_engine::Failure;

/// Where programs lie that nobody types, beside a folder `bin`.
const LIBEXEC: &str = "libexec/volhook";

/// A program of the same installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// Its file's name, whatever this program's is.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

/// Tests OCI hooks.
pub const HARNESS: Beside = Beside { name: "volhook-harness", purpose: "which `volhook harness` starts" };

/// Has the commands of authors of plugins.
pub const DEV: Beside =
    Beside { name: "volhook-dev", purpose: "which has the commands of authors of plugins" };

/// Why a program is not there.
#[derive(Debug, thiserror::Error)]
pub enum NotThere {
    /// Nobody can tell where this program is, so nobody can tell what is beside it.
    #[error("cannot tell where the volhook program is")]
    Nowhere(#[source] io::Error),
    /// It is in none of the folders.
    #[error("{name}, {purpose}, is not installed: it is neither in {} nor in {}", folders[0].display(), folders[1].display())]
    Missing {
        /// The program.
        name: &'static str,
        /// What it is for.
        purpose: &'static str,
        /// Where it was looked for.
        folders: [PathBuf; 2],
    },
    /// Others could have put it there.
    #[error("{} belongs to somebody else than the volhook program, or anybody may write to it", path.display())]
    Foreign {
        /// Where it is.
        path: PathBuf,
    },
}

/// Whether nobody has put a program there but who has put this one, or root: it gets all of this one's rights.
fn is_trusted(path: &Path, own: &Path) -> bool {
    let (Ok(file), Ok(own)) = (path.metadata(), own.metadata()) else { return false };
    (file.uid() == 0 || file.uid() == own.uid()) && file.mode() & 0o002 == 0
}

impl NotThere {
    /// It and what is behind it, in one line.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Nowhere(source) => format!("{self}: {source}"),
            Self::Missing { .. } | Self::Foreign { .. } => self.to_string(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Nowhere(_) => "/proc/self/exe tells it: is /proc mounted?".to_owned(),
            Self::Foreign { .. } => {
                "install all of volhook's programs as one user, and nobody else may write to them".to_owned()
            }
            Self::Missing { name, .. } => format!(
                "install the package {name}, or run `cargo xtask install` in volhook's sources, which installs all of its programs"
            ),
        }
    }
}

impl From<NotThere> for Failure {
    fn from(error: NotThere) -> Self {
        let hint = error.hint();
        Self::new(error).hint(hint)
    }
}

impl Beside {
    /// Its path.
    ///
    /// # Errors
    /// [`NotThere`].
    pub fn path(self) -> Result<PathBuf, NotThere> {
        let own = std::env::current_exe().map_err(NotThere::Nowhere)?;
        let path = self.path_from(&own)?;
        if is_trusted(&path, Path::new("/proc/self/exe")) {
            Ok(path)
        } else {
            Err(NotThere::Foreign { path })
        }
    }

    fn path_from(self, own: &Path) -> Result<PathBuf, NotThere> {
        let Self { name, purpose } = self;
        let folder = own.parent().unwrap_or(own);
        let folders = [folder.to_owned(), folder.parent().unwrap_or(folder).join(LIBEXEC)];
        let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        found.ok_or(NotThere::Missing { name, purpose, folders })
    }

    /// Becomes it: returns only where that failed.
    #[must_use]
    pub fn take_over(self, args: &[OsString], variables: &[(&str, &Path)]) -> Failure {
        let path = match self.path() {
            Ok(path) => path,
            Err(error) => return error.into(),
        };
        let error = Command::new(&path).args(args).envs(variables.iter().copied()).exec();
        Failure::context(format!("cannot start {}", path.display()), error)
    }
}

#[cfg(test)]
mod tests {
    use super::HARNESS;
    use super::NotThere;
    use std::fs;
    use std::path::Path;
    use volhook_engine::Failure;

    fn put(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    #[test]
    fn a_program_is_beside_this_one_or_in_libexec() {
        let prefix = tempfile::tempdir().unwrap();
        let own = prefix.path().join("bin/volhook-rel");
        let missing = HARNESS.path_from(&own).unwrap_err();
        assert!(matches!(&missing, NotThere::Missing { name: "volhook-harness", .. }), "{missing:?}");
        let told = Failure::from(missing);
        assert!(told.cause_line().contains("/libexec/volhook"), "{}", told.cause_line());
        assert!(told.hints[0].contains("package volhook-harness"), "{:?}", told.hints);

        let hidden = prefix.path().join("libexec/volhook/volhook-harness");
        put(&hidden);
        assert_eq!(HARNESS.path_from(&own).unwrap(), hidden);
        let beside = prefix.path().join("bin/volhook-harness");
        fs::create_dir_all(&beside).unwrap();
        assert_eq!(HARNESS.path_from(&own).unwrap(), hidden, "a folder is no program");
        fs::remove_dir(&beside).unwrap();
        put(&beside);
        assert_eq!(HARNESS.path_from(&own).unwrap(), beside);
    }
}
