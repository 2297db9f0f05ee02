//! volhook's programs find each other: where they really are, whatever they are called by, and never by PATH.

#[path = "fixtures/plugins/component.rs"]
mod component;

use anyhow::Context as _;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
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

/// `volhook` in a folder of its own, with `compiler` as what lies beside it as the compiler, and a plugin to install.
fn with_compiler(compiler: Option<&Path>) -> Result<(Program, tempfile::TempDir)> {
    let (volhook, folder) = alone("volhook-rel")?;
    if let Some(compiler) = compiler {
        symlink(compiler, folder.path().join("bin/volhook-compile"))?;
    }
    fs::write(folder.path().join("trap.wasm"), component::fixture("trap"))?;
    let root = folder.path().join("root");
    Ok((Program::new(volhook).arg("--root").arg(root).directory(folder.path()), folder))
}

#[test]
fn without_a_compiler_nothing_is_installed_and_what_is_installed_works() -> Result<()> {
    let (volhook, folder) = with_compiler(None)?;
    let refused = volhook.clone().args(["plugin", "install", "trap.wasm"]).run()?;
    insta::assert_snapshot!(shown(&refused, folder.path()), @r"
    ------- stderr -------
    Error: cannot install trap.wasm: the component cannot be compiled: volhook-compile, which compiles plugins, is not installed: it is neither in [PREFIX]/bin nor in [PREFIX]/libexec/volhook
    hint: install the package volhook-compile, or run `cargo xtask install` in volhook's sources, which installs all of its programs
    [exit status: 1]
    ");
    symlink(built("volhook-compile")?, folder.path().join("bin/volhook-compile"))?;
    volhook.clone().args(["plugin", "install", "trap.wasm"]).run()?.success();

    fs::remove_file(folder.path().join("bin/volhook-compile"))?;
    volhook.clone().args(["plugin", "verify"]).run()?.success();
    let told = volhook.clone().args(["plugin", "refresh"]).run()?;
    assert_eq!(told.success(), "trap: up to date\n");
    let manifest = folder.path().join("root/plugins/trap/plugin.json");
    let text = fs::read_to_string(&manifest)?;
    fs::write(&manifest, text.replace("\"wasmtime-", "\"wasmtime-1"))?;
    let refused = volhook.clone().args(["plugin", "refresh"]).run()?;
    assert!(refused.stderr.contains("hint: install the package volhook-compile"), "{refused}");

    let told = volhook.clone().arg("doctor").run()?;
    let lines: Vec<&str> = told.stdout.lines().filter(|line| line.contains("own-programs")).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("warning"), "{told}");
    Ok(())
}

#[test]
fn a_compiler_of_another_version_is_refused_by_what_it_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let other = folder.path().join("other");
    fs::write(&other, "#!/bin/sh\necho volhook-compile 0.0.9 wasmtime-1+volhook-1\n")?;
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755))?;
    let (volhook, folder) = with_compiler(Some(&other))?;
    let refused = volhook.clone().args(["plugin", "install", "trap.wasm"]).run()?;
    let needed = Program::new(built("volhook-compile")?).arg("--version").run()?.success();
    let text = shown(&refused, folder.path()).replace(needed.trim_end(), "[OURS]");
    insta::assert_snapshot!(text, @r"
    ------- stderr -------
    Error: cannot install trap.wasm: the component cannot be compiled: [PREFIX]/bin/volhook-compile is not the compiler of this volhook: it is volhook-compile 0.0.9 wasmtime-1+volhook-1, and [OURS] is needed
    hint: install volhook and volhook-compile together, of one version
    [exit status: 1]
    ");
    assert!(!folder.path().join("root/plugins/trap").exists());
    let told = volhook.clone().arg("doctor").run()?;
    let lines: Vec<&str> = told.stdout.lines().filter(|line| line.contains("own-programs")).collect();
    assert!(lines.len() == 1 && lines[0].contains("0.0.9"), "{told}");
    Ok(())
}

#[test]
fn all_programs_are_here_and_fit() -> Result<()> {
    let told = Volhook::new()?.run(&["doctor"])?.stdout;
    assert!(
        told.contains("own-programs   volhook-compile, volhook-dev, volhook-harness of this version\n"),
        "{told}"
    );
    Ok(())
}
