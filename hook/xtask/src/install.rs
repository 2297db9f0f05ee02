//! `cargo xtask install`: the release programs, the names under which volhook is an OCI runtime, and what shells and man(1) are
//! to know of it.

use crate::process;
use crate::setup;
use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// The programs, and their folders below the prefix: where volhook looks for the others.
const PROGRAMS: [(&str, &str); 4] = [
    ("volhook", "bin"),
    ("volhook-harness", "bin"),
    ("volhook-dev", "bin"),
    ("volhook-compile", "libexec/volhook"),
];

/// Called by one of these names, the binary wraps the runtime that the name ends with.
const WRAPPERS: [&str; 2] = ["volhook-runc", "volhook-crun"];

/// Where plugins are installed, unless a command says otherwise.
const PLUGINS: &str = "/var/lib/volhook/plugins";

/// Where each shell looks for completions, below the prefix.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/volhook"),
    ("zsh", "share/zsh/site-functions/_volhook"),
    ("fish", "share/fish/vendor_completions.d/volhook.fish"),
];

/// Builds and installs below `prefix`. Each file is put in place by a rename, so that a hook that starts
/// meanwhile finds either the old one or the new one.
pub(crate) fn run(prefix: &Path) -> Result<()> {
    let target = setup::for_release()?;
    let built = process::build_release(&PROGRAMS.map(|(program, _)| program), &target)?;
    for ((program, folder), built) in PROGRAMS.iter().zip(&built) {
        let folder = prefix.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let path = folder.join(program);
        put(&path, |new| {
            fs::copy(built, new)?;
            fs::set_permissions(new, fs::Permissions::from_mode(0o755))
        })?;
        println!("{}", path.display());
    }
    let bin = prefix.join("bin");
    let binary = bin.join("volhook");
    for wrapper in WRAPPERS {
        let path = bin.join(wrapper);
        put(&path, |new| symlink("volhook", new))?;
        println!("{} -> volhook", path.display());
    }
    for (shell, path) in COMPLETIONS {
        let path = prefix.join(path);
        let code = process::ask(Command::new(&binary).args(["completions", shell]))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        put(&path, |new| fs::write(new, &code))?;
        println!("{}", path.display());
    }
    let manuals = prefix.join("share/man/man8");
    process::ask(Command::new(&binary).args(["man", "--out"]).arg(&manuals))?;
    println!("{}/volhook*.8", manuals.display());
    if Path::new(PLUGINS).exists() {
        // The new binary may have another version of the engine.
        print!("{}", process::ask(Command::new(&binary).args(["plugin", "refresh"]))?);
    }
    Ok(())
}

fn put(path: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let new = path.with_extension("new");
    let made = match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => make(&new).and_then(|()| fs::rename(&new, path)),
    };
    made.with_context(|| format!("cannot install {} (--prefix names another place)", path.display()))
}
