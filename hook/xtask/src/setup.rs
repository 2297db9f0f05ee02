//! Installs what is missing on a fresh Debian machine with a Rust toolchain, after saying so; where it may
//! not install, says exactly what to install. Where nothing is missing it prints nothing.

use crate::lab;
use crate::process;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

/// The target that plugins are compiled for.
const WASM: &str = "wasm32-unknown-unknown";

/// The C compiler for musl, in Debian's package musl-tools.
const MUSL_COMPILER: &str = "musl-gcc";

/// Programs that the containers of demo, tests and benchmarks need, and the Debian packages that have them.
const TOOLS: [(&str, &str); 8] = [
    ("runc", "runc"),
    ("crun", "crun"),
    ("busybox", "busybox-static"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("losetup", "mount"),
    ("unshare", "util-linux"),
];

/// Programs that only the tests need: what volhook copies is made and looked at with them, and packages for
/// containers are built.
const TEST_TOOLS: [(&str, &str); 7] = [
    ("dpkg-deb", "dpkg"),
    ("setfacl", "acl"),
    ("setfattr", "attr"),
    ("setcap", "libcap2-bin"),
    ("setpriv", "util-linux"),
    ("script", "bsdutils"),
    ("tar", "tar"),
];

/// Programs that hosts of the lab are made of. The kernel's modules come with it.
const LAB_TOOLS: [(&str, &str); 5] = [
    (lab::host::KERNEL, "user-mode-linux"),
    ("setpriv", "util-linux"),
    ("modprobe", "kmod"),
    ("setsid", "util-linux"),
    ("sha256sum", "coreutils"),
];

/// Programs that build plugins in C, JavaScript and Python and run them outside the sandbox.
const PLUGIN_TOOLS: [(&str, &str); 5] = [
    ("clang-22", "clang-22"),
    ("wasm-ld-22", "lld-22"),
    ("cc", "gcc"),
    ("node", "nodejs"),
    ("python3", "python3"),
];

/// What makes components of JavaScript and of Python. What they make depends on their version.
const COMPONENTIZE_QJS: &str = "componentize-qjs@0.4.5";
const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";

/// What Debian has for compiling plugins where rustup's target cannot be had.
const DEBIAN_WASM: [&str; 3] = ["rustc-web", "rust-web-src", "lld-22"];

/// What building volhook needs: a compiler for the built-in plugins.
pub(crate) fn for_building() -> Result<()> {
    if has_wasm_target() || has_debian_wasm() {
        return Ok(());
    }
    if process::find("rustup").is_some() {
        println!("The target {WASM}, for the built-in plugins, is missing: installing it with rustup.");
        match show_and_run(Command::new("rustup").args(["target", "add", WASM])) {
            Ok(()) => return Ok(()),
            Err(error) => println!("That did not work ({error:#}); Debian has a compiler for it, too."),
        }
    }
    install(&DEBIAN_WASM, &format!("or, where rustup works: rustup target add {WASM}"))?;
    ensure!(has_debian_wasm(), "Debian's compiler for {WASM} is still missing after its installation");
    Ok(())
}

/// What building volhook and running containers needs.
pub(crate) fn for_containers() -> Result<()> {
    need(&TOOLS)?;
    for_building()
}

/// Installs the packages of those programs that are not there.
pub(crate) fn need(tools: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<(&str, &str)> =
        tools.iter().copied().filter(|(program, _)| !is_there(program)).collect();
    if !missing.is_empty() {
        let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
        println!("Missing programs: {}.", programs.join(", "));
        let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
        install(&packages, "or the same programs from elsewhere; busybox must be a static one")?;
        let still: Vec<&str> = programs.into_iter().filter(|program| !is_there(program)).collect();
        ensure!(still.is_empty(), "still missing after the installation: {}", still.join(", "));
    }
    Ok(())
}

/// What a release build needs, and the target that it is for. musl's C library is preferred to glibc's: its start asks
/// the processor nothing, which in a virtual machine takes a good part of a hook's time. It is not a must.
pub(crate) fn for_release() -> Result<String> {
    for_building()?;
    let host = process::host_target()?;
    let Some(musl) = host.strip_suffix("-gnu").map(|rest| format!("{rest}-musl")) else { return Ok(host) };
    let ready = || has_target(&musl) && process::find(MUSL_COMPILER).is_some();
    if ready() {
        return Ok(musl);
    }
    println!("The target {musl} and its C compiler, for a binary that starts faster, are not all there.");
    let added = if has_target(&musl) {
        Ok(())
    } else {
        show_and_run(Command::new("rustup").args(["target", "add", &musl]))
    };
    let installed = added.and_then(|()| match process::find(MUSL_COMPILER) {
        Some(_) => Ok(()),
        None => install(&["musl-tools"], "or build without it"),
    });
    if installed.is_ok() && ready() {
        return Ok(musl);
    }
    if let Err(error) = installed {
        println!("{error:#}");
    }
    println!("Building for {host} instead.");
    Ok(host)
}

/// What hosts of the lab need beyond containers.
pub(crate) fn for_lab() -> Result<()> {
    need(&LAB_TOOLS)
}

/// What running the tests needs beyond that.
pub(crate) fn for_tests() -> Result<()> {
    need(&TEST_TOOLS)?;
    for_lab()?;
    for_plugins()?;
    if process::find("cargo-nextest").is_none() {
        println!("The test runner cargo-nextest is missing: building it, once; this takes some minutes.");
        show_and_run(process::cargo().args(["install", "--locked", "cargo-nextest"]))?;
    }
    Ok(())
}

/// What building plugins in other languages than Rust needs: compilers, and in `tools/` of the target directory, where
/// the tests look for them, what makes components of JavaScript and Python.
pub(crate) fn for_plugins() -> Result<()> {
    need(&PLUGIN_TOOLS)?;
    let tools = process::target_folder()?.join("tools");
    let qjs = tools.join("componentize-qjs");
    if !is_installed(&qjs, "node_modules/.bin/componentize-qjs", COMPONENTIZE_QJS) {
        println!(
            "{COMPONENTIZE_QJS}, for plugins in JavaScript, is missing in {}: installing it.",
            qjs.display()
        );
        need(&[("npm", "npm")])?;
        show_and_run(
            Command::new("npm")
                .args(["install", "--no-fund", "--no-audit", "--prefix"])
                .args([qjs.as_os_str(), COMPONENTIZE_QJS.as_ref()]),
        )?;
        fs::write(qjs.join(VERSION), COMPONENTIZE_QJS)?;
    }
    let py = tools.join("componentize-py");
    if !is_installed(&py, "bin/componentize-py", COMPONENTIZE_PY) {
        println!("{COMPONENTIZE_PY}, for plugins in Python, is missing in {}: installing it.", py.display());
        // Debian has pip's part of a virtual environment in a package of its own.
        if process::ask(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_err() {
            install(&["python3-venv"], "or another Python with the modules venv and ensurepip")?;
        }
        show_and_run(Command::new("python3").args(["-m", "venv"]).arg(&py))?;
        show_and_run(Command::new(py.join("bin").join("pip")).args(["install", COMPONENTIZE_PY]))?;
        fs::write(py.join(VERSION), COMPONENTIZE_PY)?;
    }
    Ok(())
}

/// The file that says, beside an installed tool, which version it is.
const VERSION: &str = "volhook-version";

fn is_installed(folder: &Path, program: &str, version: &str) -> bool {
    folder.join(program).exists()
        && fs::read_to_string(folder.join(VERSION)).is_ok_and(|found| found == version)
}

/// What fuzzing needs beyond that.
pub(crate) fn for_fuzzing() -> Result<()> {
    // libFuzzer is C++, compiled when the targets are.
    if process::find("c++").is_none() {
        println!("A C++ compiler, for libFuzzer, is missing.");
        install(&["g++"], "or another compiler that is called c++")?;
    }
    if process::find("cargo-fuzz").is_none() {
        println!("cargo-fuzz is missing: building it, once; this takes some minutes.");
        show_and_run(process::cargo().args(["install", "--locked", "cargo-fuzz"]))?;
    }
    Ok(())
}

fn is_there(program: &str) -> bool {
    process::find(program).is_some_and(|path| program != "busybox" || is_static(&path))
}

/// Whether a program runs without a dynamic loader, whose path would stand in the program's first page.
pub(crate) fn is_static(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut head));
    read.is_ok() && !head.windows(4).any(|part| part == b"/ld-")
}

fn has_wasm_target() -> bool {
    has_target(WASM)
}

fn has_target(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    process::ask(process::command(rustc).args(["--print", "target-libdir", "--target", target]))
        .is_ok_and(|folder| Path::new(folder.trim()).is_dir())
}

/// Debian's compiler, the sources of its standard library, and LLVM's linker in any version.
fn has_debian_wasm() -> bool {
    let linker = |name: &str| name.starts_with("wasm-ld-");
    Path::new("/usr/bin/rustc").exists()
        && Path::new("/usr/lib/rustlib/src/rust/library/std/Cargo.toml").exists()
        && fs::read_dir("/usr/bin")
            .is_ok_and(|files| files.flatten().any(|file| file.file_name().to_str().is_some_and(linker)))
}

fn install(packages: &[&str], otherwise: &str) -> Result<()> {
    let list = packages.join(" ");
    if !process::is_root() || process::find("apt-get").is_none() {
        bail!("please install Debian's packages {list} (sudo apt-get install --yes {list}), {otherwise}");
    }
    println!("Installing Debian's packages {list}.");
    show_and_run(apt_get().arg("update"))?;
    show_and_run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

pub(crate) fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

pub(crate) fn show_and_run(command: &mut Command) -> Result<()> {
    println!("$ {}", process::line(command));
    process::run(command)
}
