//! A Debian for bundles: copies of the root filesystem that `cargo xtask setup` builds, and packages to install.

use crate::output::Program;
use crate::scratch;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use tempfile::TempDir;

/// Names another root filesystem to use; `cargo xtask` reads it as well.
const VARIABLE: &str = "VOLHOOK_DEBIAN_ROOTFS";

/// Where it lies below cargo's target directory, as `cargo xtask setup` knows too.
const FOLDER: &str = "debian/minbase+sqlite3";

/// What every root filesystem of Debian has; a folder without it is something else.
const STATUS: &str = "var/lib/dpkg/status";

/// The one that `variable` names, or else the one in the target directory in which `program` was built.
fn find(variable: Option<OsString>, program: &Path) -> Result<PathBuf> {
    if let Some(path) = variable {
        let path = PathBuf::from(path);
        ensure!(path.join(STATUS).is_file(), "{VARIABLE} names no Debian: {}", path.display());
        return Ok(path);
    }
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    let path = target.map(|folder| folder.join(FOLDER)).filter(|path| path.join(STATUS).is_file());
    path.with_context(|| {
        format!(
            "no Debian root filesystem in the target directory of {}: run `cargo xtask setup`, or set {VARIABLE}",
            program.display()
        )
    })
}

/// Makes `rootfs`, a copy with owners, times and attributes. Files below `/usr` are hard links where the filesystem
/// allows it, unless the copy is to be `whole`: everything that changes a program puts a new file in its place,
/// while what lies elsewhere is also written to.
pub(crate) fn copy(rootfs: &Path, whole: bool) -> Result<()> {
    let program = env::current_exe().context("cannot tell where the running test lies")?;
    let original = find(env::var_os(VARIABLE), &program)?;
    fs::create_dir(rootfs).with_context(|| format!("cannot create {}", rootfs.display()))?;
    fs::set_permissions(rootfs, fs::Permissions::from_mode(0o755)).context("cannot set a mode")?;
    let device = |path: &Path| fs::metadata(path).map(|data| data.dev());
    let linked = !whole && device(&original)? == device(rootfs)?;
    let (mut shared, mut own) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(&original).with_context(|| format!("cannot read {}", original.display()))? {
        let entry = entry?;
        if linked && entry.file_name() == "usr" { &mut shared } else { &mut own }.push(entry.path());
    }
    for (options, paths) in [(["--archive", "--link"].as_slice(), shared), (&["--archive"], own)] {
        if !paths.is_empty() {
            run(Program::new("cp").args(options).arg("--target-directory").arg(rootfs).args(paths))?;
        }
    }
    Ok(())
}

fn run(program: Program) -> Result<()> {
    let output = program.run()?;
    if !output.status.success() {
        bail!("failed: {}\n{output}", output.command);
    }
    Ok(())
}

/// A Debian package to install in a container, as a file in a temporary folder.
///
/// It has a program `/usr/bin/NAME`, which prints name, version and the configuration; a configuration file
/// `/etc/NAME.conf`, which dpkg keeps when it was edited; `/var/lib/NAME/data`; and a script that makes
/// `/var/lib/NAME/configured` when the package is installed.
#[derive(Debug)]
pub struct DebianPackage {
    file: PathBuf,
    _folder: TempDir,
}

impl DebianPackage {
    /// The package that most tests install.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn hello() -> Result<Self> {
        Self::new("volhook-hello", "1.0")
    }

    /// Builds a package, for any architecture.
    ///
    /// # Errors
    /// When `dpkg-deb` is missing or refuses the name or the version.
    pub fn new(name: &str, version: &str) -> Result<Self> {
        let folder = scratch::folder("package")?;
        let tree = folder.path().join("tree");
        let program = format!("#!/bin/sh\necho {name} {version}: $(cat /etc/{name}.conf)\n");
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: volhook <volhook@example.org>\n\
             Description: made for a test\n"
        );
        let postinst = format!("#!/bin/sh\nset -e\necho \"{version} $1\" >> /var/lib/{name}/configured\n");
        for (path, content, mode) in [
            (format!("usr/bin/{name}"), program, 0o755),
            (format!("etc/{name}.conf"), "as delivered\n".to_owned(), 0o644),
            (format!("var/lib/{name}/data"), format!("data of {version}\n"), 0o644),
            ("DEBIAN/control".to_owned(), control, 0o644),
            ("DEBIAN/conffiles".to_owned(), format!("/etc/{name}.conf\n"), 0o644),
            ("DEBIAN/postinst".to_owned(), postinst, 0o755),
        ] {
            let path = tree.join(path);
            let parent = path.parent().context("a file has a folder")?;
            fs::create_dir_all(parent).context("cannot make a package's folders")?;
            fs::write(&path, content).context("cannot write a package's file")?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).context("cannot set a mode")?;
        }
        let file = folder.path().join(format!("{name}_{version}_all.deb"));
        run(Program::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(&file))
            .context("cannot build a Debian package; `cargo xtask setup` installs what that needs")?;
        Ok(Self { file, _folder: folder })
    }

    /// The package's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_what_to_do() -> Result<()> {
        let target = tempfile::tempdir()?;
        let program = target.path().join("debug/deps/test-1234");
        let message = |variable: Option<&Path>| {
            find(variable.map(|path| path.as_os_str().to_owned()), &program).unwrap_err().to_string()
        };
        assert!(message(None).contains("run `cargo xtask setup`"));
        fs::write(target.path().join("CACHEDIR.TAG"), "")?;
        fs::create_dir_all(target.path().join(FOLDER))?;
        assert!(message(None).contains("run `cargo xtask setup`"), "an empty folder is no Debian");
        assert!(message(Some(target.path())).contains("VOLHOOK_DEBIAN_ROOTFS names no Debian"));

        let status = target.path().join(FOLDER).join(STATUS);
        fs::create_dir_all(status.parent().context("it has a parent")?)?;
        fs::write(status, "")?;
        assert_eq!(find(None, &program)?, target.path().join(FOLDER));
        let other = target.path().join(FOLDER).into_os_string();
        assert_eq!(find(Some(other), Path::new("/elsewhere/test"))?, target.path().join(FOLDER));
        Ok(())
    }
}
