//! Configuration, state root and run directory: whether they are there and as they must be.

use super::AS_ROOT;
use super::Rights;
use super::unlooked;
use crate::context::Context;
use crate::failure::Failure;
use rustix::fs::Access;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::StatVfs;
use rustix::fs::StatVfsMountFlags;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use volhook_api::doctor::Finding;
use volhook_core::decision::Pairs;
use volhook_core::options;
use volhook_core::options::Given;
use volhook_core::question::Answer;
use volhook_core::question::Question;
use volhook_core::size;
use volhook_plugin_host::PluginError;

/// Filesystem types (statfs(2)).
const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;
const OVERLAY: u32 = 0x794c_7630;

/// Less than this is soon full.
const LITTLE: u64 = 256 << 20;

/// One in so many: less than this part of the filesystem is soon full, on a small one.
const SMALL_PART: u64 = 20;

/// Whether the configuration can be read, and whether the plugins that it names are there.
pub(super) fn configuration(context: &Context<'_>, rights: &Rights) -> Vec<Finding> {
    const CHECK: &str = "configuration";
    let path = context.places.config.display();
    let config = match context.config() {
        Ok(config) => config,
        Err(failure) => {
            let mend = format!("correct {path}; until then only containers without claims start");
            return vec![unlooked(CHECK, rights, &failure, &mend)];
        }
    };
    let mut findings = Vec::new();
    let mut name = |setting: &str, asked: Result<(), PluginError>| {
        if let Err(error @ PluginError::Unknown { .. }) = asked {
            let found = format!("{setting} in {path}: {error}");
            findings.push(Finding::problem(CHECK, found, "name one that is installed, or install it"));
        }
    };
    name("default_driver", context.plugins().driver(&config.default_driver).map(drop));
    name("policy", context.plugins().policy(&config.policy).map(drop));
    for plugin in config.plugins.keys() {
        match config.settings(plugin) {
            Ok(settings) => {
                if let Some((found, mend)) = misunderstood(context, plugin, &settings) {
                    findings.push(Finding::problem(
                        CHECK,
                        format!("[plugins.{plugin}] in {path}: {found}"),
                        &mend,
                    ));
                }
            }
            Err(error) => {
                let found = format!("{path}: {error}");
                findings.push(Finding::problem(CHECK, found, "write it as one of these"));
            }
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            match context.places.config.try_exists() {
                Ok(false) => format!("there is no {path}, and none is needed"),
                _ => format!("{path} is understood"),
            },
        ));
    }
    findings
}

/// What is wrong with the settings of a plugin, and what mends it. One that cannot be used is told of where plugins are.
fn misunderstood(context: &Context<'_>, plugin: &str, settings: &Pairs) -> Option<(String, String)> {
    let listed = context.plugins().list().ok()?;
    let Some(entry) = listed.into_iter().find(|entry| entry.name == plugin) else {
        let is_known = context.plugins().unusable().is_ok_and(|broken| !broken.is_empty());
        let found = "no such plugin is installed".to_owned();
        return (!is_known).then(|| (found, "install it, or remove its settings".to_owned()));
    };
    let asked = context.plugins().ask(plugin, entry.kind, &Question::Describe).ok()?;
    let Answer::Info(info) = asked.answer else { return None };
    let error = options::check((entry.kind, plugin), Given::Setting, None, &info.settings, settings).err()?;
    Some((error.to_string(), error.hint()))
}

/// A folder that volhook makes when it needs it.
struct Place<'a> {
    check: &'static str,
    /// What it is called.
    what: &'static str,
    path: &'a Path,
    option: &'static str,
}

/// The state root.
pub(super) fn root(context: &Context<'_>, rights: &Rights) -> Vec<Finding> {
    let place =
        Place { check: "state-root", what: "the state root", path: &context.places.root, option: "--root" };
    let (mut findings, there) = place.judge(rights);
    let Some(there) = there else { return findings };
    let shown = place.path.display();
    let kind = match rustix::fs::statfs(there).map(|stat| stat.f_type.cast_unsigned() as u32) {
        Ok(TMPFS | RAMFS) => Some("memory (tmpfs): volumes and plugins would not survive a reboot"),
        Ok(OVERLAY) => Some(
            "an overlay, as in a container: volumes go with the container, and overlays cannot be nested deeply",
        ),
        _ => None,
    };
    if let Some(kind) = kind {
        let mend = format!("put it on a disk's filesystem ({} or VOLHOOK_ROOT)", place.option);
        findings.push(Finding::warning(place.check, format!("{shown} is on {kind}"), mend));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(place.check, place.is_fine()));
    }
    if let Ok(stat) = rustix::fs::statvfs(there) {
        findings.push(space(&shown.to_string(), &stat));
    }
    findings
}

fn space(path: &str, stat: &StatVfs) -> Finding {
    const CHECK: &str = "free-space";
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    judge_space(path, bytes(stat.f_bavail), bytes(stat.f_blocks), stat.f_favail, stat.f_files)
        .unwrap_or_else(|found| {
            Finding::warning(
                CHECK,
                found,
                "`volhook df` shows what takes it; `volhook trash empty` and `volhook volume prune` give some back",
            )
        })
}

fn judge_space(path: &str, free: u64, all: u64, free_inodes: u64, inodes: u64) -> Result<Finding, String> {
    let told =
        format!("{} of {} are free on the filesystem of {path}", size::format(free), size::format(all));
    if free < LITTLE.min(all / SMALL_PART) || free < LITTLE / 16 {
        return Err(format!("only {told}"));
    }
    // Some filesystems make inodes as they need them, and say 0.
    if inodes > 0 && free_inodes < inodes / 100 {
        return Err(format!("{told}, and only {free_inodes} of {inodes} inodes"));
    }
    Ok(Finding::ok("free-space", told))
}

/// The run directory.
pub(super) fn run_dir(context: &Context<'_>, rights: &Rights) -> Vec<Finding> {
    let place = Place {
        check: "run-directory",
        what: "the run directory",
        path: &context.places.run_dir,
        option: "--run-dir",
    };
    let (mut findings, there) = place.judge(rights);
    let Some(there) = there else { return findings };
    let in_memory = rustix::fs::statfs(there)
        .is_ok_and(|stat| matches!(stat.f_type.cast_unsigned() as u32, TMPFS | RAMFS));
    if !in_memory {
        findings.push(Finding::warning(
            place.check,
            format!(
                "{} is not in memory (tmpfs): records of containers outlive the boot until gc",
                place.path.display()
            ),
            "put it below /run (--run-dir or VOLHOOK_RUN_DIR)",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(place.check, place.is_fine()));
    }
    findings
}

impl Place<'_> {
    fn is_fine(&self) -> String {
        let shown = self.path.display();
        if self.path.is_dir() { shown.to_string() } else { format!("{shown} will be made when it is needed") }
    }

    /// What is wrong with it; and its nearest folder that exists, unless nothing more can be said.
    fn judge(&self, rights: &Rights) -> (Vec<Finding>, Option<&Path>) {
        let Self { check, what, path, option } = *self;
        let shown = path.display();
        let elsewhere = format!("name another place with {option}, or put that away");
        let mut there = path;
        let data = loop {
            match there.metadata() {
                Ok(data) if data.is_dir() => break data,
                Ok(_) => {
                    let found = format!("{what} {shown} cannot be: {} is not a directory", there.display());
                    return (vec![Finding::problem(check, found, elsewhere)], None);
                }
                Err(error) if error.kind() == ErrorKind::NotADirectory => {}
                // A symlink to nowhere is there, and nothing can be made in its place.
                Err(error) if error.kind() == ErrorKind::NotFound && !there.is_symlink() => {}
                Err(error) => {
                    let failure = Failure::context(format!("cannot look at {what} {shown}"), error);
                    return (vec![unlooked(check, rights, &failure, &elsewhere)], None);
                }
            }
            match there.parent() {
                Some(parent) => there = parent,
                None => {
                    let found = format!("{what} {shown} is no path");
                    return (vec![Finding::problem(check, found, elsewhere)], None);
                }
            }
        };
        let mut findings = Vec::new();
        if rustix::fs::statvfs(there).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY)) {
            let found = format!("{what} {shown} is on a read-only filesystem");
            let mend = format!("remount it read-write, or name another place with {option}");
            findings.push(Finding::problem(check, found, mend));
        } else if let Err(errno) =
            rustix::fs::accessat(CWD, there, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
        {
            let found = format!("nothing can be written in {}: {errno}", there.display());
            findings.push(if rights.is_root {
                Finding::problem(check, found, elsewhere)
            } else {
                Finding::warning(check, found, AS_ROOT)
            });
        }
        if there == path {
            findings.extend(self.judge_owner(data.uid(), data.mode()));
        }
        (findings, Some(there))
    }

    /// Whoever may write there decides what containers get, and whoever may read sees what they hold.
    fn judge_owner(&self, owner: u32, mode: u32) -> Option<Finding> {
        let Self { check, path, .. } = *self;
        let shown = path.display();
        let mend = format!("chown root:root {shown} && chmod 700 {shown}");
        if owner != 0 && owner != rustix::process::geteuid().as_raw() {
            return Some(Finding::problem(
                check,
                format!("{shown} belongs to user {owner}, not to root"),
                mend,
            ));
        }
        if mode & 0o022 != 0 {
            let found = format!("{shown} can be written by others than root (mode {:04o})", mode & 0o7777);
            return Some(Finding::problem(check, found, mend));
        }
        if mode & 0o055 != 0 {
            let found = format!("{shown} can be read by others than root (mode {:04o})", mode & 0o7777);
            return Some(Finding::warning(check, found, format!("chmod 700 {shown}")));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::judge_space;

    #[test]
    fn space_is_scarce_by_amount_and_by_part() {
        const G: u64 = 1 << 30;
        let judged = |free, all, free_inodes, inodes| judge_space("/r", free, all, free_inodes, inodes);
        assert!(judged(10 * G, 100 * G, 0, 0).is_ok(), "inodes are made as they are needed");
        assert!(judged(G, 1000 * G, 10, 100).is_ok());
        assert!(judged(100 << 20, 500 << 20, 10, 100).is_ok(), "a small filesystem");
        assert_eq!(
            judged(100 << 20, 100 * G, 10, 100).unwrap_err(),
            "only 100M of 100G are free on the filesystem of /r"
        );
        assert!(judged(1 << 20, 10 << 20, 10, 100).is_err());
        assert!(judged(10 * G, 100 * G, 10, 10_000).unwrap_err().contains("10 of 10000 inodes"));
    }
}
