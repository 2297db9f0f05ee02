//! volhook's programs find each other: where they really are, whatever they are called by, and never by PATH.

use anyhow::Context as _;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use volhook_harness::Output;
use volhook_harness::Program;
use volhook_harness::Volhook;

/// A copy of the volhook program, alone in `bin` of a folder of its own, and that folder.
fn alone(name: &str) -> Result<(PathBuf, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("bin"))?;
    let program = folder.path().join("bin").join(name);
    fs::copy(Volhook::new()?.binary(), &program)?;
    Ok((program, folder))
}

/// A program that was built beside volhook's.
fn built(name: &str) -> Result<PathBuf> {
    Ok(Volhook::new()?.binary().parent().context("it lies in a folder")?.join(name))
}

fn shown(output: &Output, folder: &Path) -> String {
    output.to_string().replace(&*folder.to_string_lossy(), "[PREFIX]")
}

#[test]
fn a_program_that_is_not_installed_is_told_of_with_how_to_get_it() -> Result<()> {
    let (volhook, folder) = alone("volhook")?;
    let missing = Program::new(&volhook).args(["harness", "run", "x"]).run()?;
    insta::assert_snapshot!(shown(&missing, folder.path()), @r"
    ------- stderr -------
    Error: volhook-harness, which `volhook harness` starts, is not installed: it is neither in [PREFIX]/bin nor in [PREFIX]/libexec/volhook
    hint: install the package volhook-harness, or run `cargo xtask install` in volhook's sources, which installs all of its programs
    [exit status: 1]
    ");
    let missing = Program::new(&volhook).args(["--root", "/nonexistent", "plugin", "new", "x"]).run()?;
    insta::assert_snapshot!(shown(&missing, folder.path()), @r"
    ------- stderr -------
    Error: volhook-dev, which has the commands of authors of plugins, is not installed: it is neither in [PREFIX]/bin nor in [PREFIX]/libexec/volhook
    hint: install the package volhook-dev, or run `cargo xtask install` in volhook's sources, which installs all of its programs
    [exit status: 1]
    ");
    // What needs no other program works.
    Program::new(&volhook).args(["harness", "--root"]).run()?.failure();
    Program::new(&volhook).args(["plugin", "ls"]).run()?.success();
    Ok(())
}

#[test]
fn a_program_finds_the_others_by_their_names_whatever_its_own_is() -> Result<()> {
    let (volhook, folder) = alone("volhook-rel")?;
    let libexec = folder.path().join("libexec/volhook");
    fs::create_dir_all(&libexec)?;
    for program in ["volhook-harness", "volhook-dev"] {
        symlink(built(program)?, libexec.join(program))?;
    }
    let link = folder.path().join("volhook");
    symlink(&volhook, &link)?;
    for name in [&volhook, &link] {
        // Neither PATH nor anything else is in the environment.
        let told = Program::new(name).args(["--root", "/nonexistent", "harness", "statements"]).run()?;
        assert!(told.success().contains("expect no container ID"));
        let told = Program::new(name).args(["plugin", "--root", "/nonexistent", "native", "--help"]).run()?;
        assert!(told.success().contains("Usage: volhook-dev native"));
    }
    let script = folder.path().join("script.txt");
    fs::write(&script, "exec volhook --version\nexec readlink -f $VOLHOOK\nexpect stdout is $PROGRAM\n")?;
    let program = format!("PROGRAM={}", volhook.canonicalize()?.display());
    let tested = Program::new(&link).args(["harness", "run", "--set", &program]).arg(&script).run()?;
    assert!(tested.stdout.contains("1 passed"), "{tested}");
    Ok(())
}
