//! Where the programs are that build a plugin: in the folder that `VOLHOOK_TOOLS` names, and in PATH.

use crate::error::BuildError;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// The variable that names a folder with tools: programs in it, in its `bin`, and in `*/bin` and `*/node_modules/.bin`,
/// which is where Python's and node's package managers put them.
const FOLDER: &str = "VOLHOOK_TOOLS";

/// The program of this name.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    folders().into_iter().map(|folder| folder.join(program)).find(|path| is_program(path))
}

/// The program of this name with the highest version, which Debian appends as in `clang-22`; one without is the
/// distribution's choice and comes last.
pub(crate) fn find_newest(program: &str, least: u32) -> Option<PathBuf> {
    let version = |path: &Path| {
        let name = path.file_name()?.to_str()?.strip_prefix(program)?;
        match name.strip_prefix('-') {
            Some(number) => number.parse().ok().filter(|number| *number >= least),
            None => name.is_empty().then_some(0),
        }
    };
    let files = folders().into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let found = files.map(|file| file.path()).filter_map(|path| Some((version(&path)?, path)));
    found.filter(|(_, path)| is_program(path)).max_by_key(|(version, _)| *version).map(|(_, path)| path)
}

/// [`find`], or what to install.
pub(crate) fn need(program: &str, needed_for: &str, install: &[&str]) -> Result<PathBuf, BuildError> {
    find(program).ok_or_else(|| missing(program, needed_for, install))
}

pub(crate) fn missing(program: &str, needed_for: &str, install: &[&str]) -> BuildError {
    let install = install.iter().map(|command| (*command).to_owned()).collect();
    BuildError::MissingTool { tool: program.to_owned(), needed_for: needed_for.to_owned(), install }
}

/// Runs a program to its end. What it prints is only of interest where it fails.
pub(crate) fn run(command: &mut Command) -> Result<(), BuildError> {
    let path = PathBuf::from(command.get_program());
    let output = command.output().map_err(BuildError::io("run", &path))?;
    if output.status.success() {
        return Ok(());
    }
    let program = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let said = [output.stderr, output.stdout].concat();
    let output_text = String::from_utf8_lossy(&said).trim_end().to_owned();
    Err(BuildError::Failed { program, status: output.status.to_string(), output: output_text })
}

fn folders() -> Vec<PathBuf> {
    let chosen = env::var_os(FOLDER).map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    chosen
        .into_iter()
        .chain(of_the_tests())
        .flat_map(|folder| folders_of(&folder))
        .chain(env::split_paths(&path))
        .collect()
}

/// Where `cargo xtask setup` puts what our own tests need.
fn of_the_tests() -> Option<PathBuf> {
    if !cfg!(test) {
        return None;
    }
    let program = env::current_exe().ok()?;
    program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists()).map(|target| target.join("tools"))
}

fn folders_of(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned(), folder.join("bin")];
    let mut inner: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()).collect();
    inner.sort();
    for folder in inner {
        found.extend([folder.join("bin"), folder.join("node_modules").join(".bin")]);
    }
    found
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The files directly in `folder` whose names end so, by name.
pub(crate) fn files_in(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, BuildError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(BuildError::io("read", folder))? {
        let path = entry.map_err(BuildError::io("read", folder))?.path();
        if path.extension() == Some(OsStr::new(extension)) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn package_managers_put_programs_into_folders_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["one", "py/bin/two", "js/node_modules/.bin/three"] {
            program(&folder.path().join(path));
        }
        let folders = folders_of(folder.path());
        for name in ["one", "two", "three"] {
            assert!(folders.iter().any(|folder| is_program(&folder.join(name))), "{name}: {folders:?}");
        }
    }

    #[test]
    fn a_program_that_is_nowhere_is_missed_with_what_to_install() {
        let error = need("no-such-program", "a test", &["apt-get install it"]).unwrap_err();
        assert_eq!(error.to_string(), "no-such-program is not installed, which a test needs");
        let BuildError::MissingTool { install, .. } = error else { panic!("{error:?}") };
        assert_eq!(install, ["apt-get install it"]);
    }

    #[test]
    fn a_failure_says_what_the_program_printed() {
        let error = run(Command::new("/bin/sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        let BuildError::Failed { program, status, output } = error else { panic!("{error:?}") };
        assert_eq!((program.as_str(), status.as_str(), output.as_str()), ("sh", "exit status: 3", "why"));
    }
}
