//! Starts other programs from the workspace's root, and finds what is in PATH.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

/// Where PATH of an ordinary user often does not lead, although system tools lie there.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The workspace's root.
pub(crate) fn workspace() -> PathBuf {
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.ancestors().nth(2).map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// The target directory in which cargo has built this program.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let program = env::current_exe().context("cannot find this program")?;
    let folder = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    folder
        .map(Path::to_path_buf)
        .with_context(|| format!("{} does not lie in a target directory of cargo", program.display()))
}

/// A command in the workspace's root.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace());
    command
}

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    let mut command = command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo sets for this program describes this program; a build script would see it and build again.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO_BIN_NAME" {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command; its output is the user's.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", line(command)))?;
    ensure!(status.success(), "failed ({status}): {}", line(command));
    Ok(())
}

/// Runs a command quietly and returns what it printed on standard output; a failure shows the rest.
pub(crate) fn ask(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", line(command)))?;
    if !output.status.success() {
        bail!("failed ({}): {}\n{}", output.status, line(command), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Milliseconds from starting a program to its end.
pub(crate) fn time(command: &mut Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let started = Instant::now();
    let status = command.status().with_context(|| format!("cannot run {}", line(command)))?;
    let took = started.elapsed().as_secs_f64() * 1000.0;
    ensure!(status.success(), "failed ({status}): {}", line(command));
    Ok(took)
}

/// A command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The file that `program` would be, in PATH or in the folders of system tools.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| {
            fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        })
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
}

/// Refuses to go on without root.
pub(crate) fn need_root(command: &str) -> Result<()> {
    ensure!(
        is_root(),
        "containers need root; run this: sudo --preserve-env env \"PATH=$PATH\" cargo xtask {command}"
    );
    Ok(())
}

/// Builds the `volhook` binary and returns its path; with a target, for release.
pub(crate) fn build_volhook(release_for: Option<&str>) -> Result<PathBuf> {
    build(&["volhook"], release_for)?.pop().context("cargo built no binary named volhook")
}

/// The program with the compiler of plugins in it.
const COMPILER: &str = "volhook-compile";

/// Builds programs for release, and returns their paths. The compiler is built by itself: what is built together shares the
/// features of its dependencies, and would have the code generator in it.
pub(crate) fn build_release(programs: &[&str], target: &str) -> Result<Vec<PathBuf>> {
    let (compiler, others): (Vec<&str>, Vec<&str>) =
        programs.iter().copied().partition(|program| *program == COMPILER);
    let mut built = BTreeMap::new();
    for together in [others, compiler] {
        if !together.is_empty() {
            let paths = build(&together, Some(target))?;
            built.extend(together.into_iter().zip(paths));
        }
    }
    Ok(programs.iter().filter_map(|program| built.remove(program)).collect())
}

/// Builds programs, which are called as their packages are, and returns their paths; with a target, for release.
fn build(programs: &[&str], release_for: Option<&str>) -> Result<Vec<PathBuf>> {
    let mut build = cargo();
    build.args(["build", "--message-format", "json-render-diagnostics"]);
    for program in programs {
        build.args(["--package", program]);
    }
    if let Some(target) = release_for {
        // A hook is a program of two milliseconds: without a dynamic linker and its relocations it starts in half
        // the time. With the target named, the flags stay away from build scripts and macros.
        build.args(["--release", "--target", target]);
        build.env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    }
    let output =
        build.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {}", line(&build)))?;
    ensure!(output.status.success(), "failed ({}): {}", output.status, line(&build));
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = messages.lines().filter_map(|message| serde_json::from_str::<Value>(message).ok());
    let built: Vec<(Value, PathBuf)> = messages
        .filter_map(|message| {
            let path = PathBuf::from(message["executable"].as_str()?);
            Some((message["target"]["name"].clone(), path))
        })
        .collect();
    let path = |program: &&str| {
        let found = built.iter().find(|(name, _)| name == program).map(|(_, path)| path.clone());
        found.with_context(|| format!("cargo built no binary named {program}"))
    };
    programs.iter().map(path).collect()
}

/// The target for which rustc builds by default.
pub(crate) fn host_target() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// Set for a process that already runs in its own mount namespace.
const PRIVATE: &str = "VOLHOOK_XTASK_PRIVATE";

/// Runs this program again, from its start, in a mount namespace of its own, and returns in that one.
///
/// crun refuses to run where both cgroup hierarchies are mounted, as systemd's hybrid layout has it; in the
/// new namespace the second one is unmounted.
pub(crate) fn enter_private_mounts() -> Result<()> {
    if env::var_os(PRIVATE).is_none() {
        let program = env::current_exe().context("cannot find this program")?;
        let error = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .arg(program)
            .args(env::args_os().skip(1))
            .env(PRIVATE, "1")
            .exec();
        return Err(error).context("cannot run unshare");
    }
    if Path::new("/sys/fs/cgroup/unified/cgroup.controllers").exists() {
        run(Command::new("umount").arg("/sys/fs/cgroup/unified"))?;
    }
    Ok(())
}
