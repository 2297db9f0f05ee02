//! The options of all released versions of runc and crun, for the commands that start a container.
//!
//! A version that lacks one of them refuses it by itself. One word is an option's long name, one letter its short one.

use super::CallError;
use super::text;

/// A command that starts a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Create,
    Run,
    Restore,
}

impl Command {
    pub(super) const ALL: [(&'static str, Self); 3] =
        [("create", Self::Create), ("run", Self::Run), ("restore", Self::Restore)];

    pub(super) fn of(word: &[u8]) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| name.as_bytes() == word).map(|(_, command)| *command)
    }
}

/// The commands that start no container, of all versions.
const OTHER_COMMANDS: &str = "checkpoint delete events exec features h help init kill list mounts pause ps resume spec start \
                              state update";

/// Whether a word is a command that starts no container.
pub(super) fn is_other_command(word: &[u8]) -> bool {
    OTHER_COMMANDS.split_ascii_whitespace().any(|name| name.as_bytes() == word)
}

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    /// A value, in the same word or the next one.
    Value,
    /// Nothing, and the runtime prints something and is done.
    End,
}

/// Lists of options, separated by blanks.
struct Lists {
    flags: &'static str,
    values: &'static str,
    ends: &'static str,
}

const RUNC: Lists = Lists {
    flags: "debug systemd-cgroup",
    values: "log log-format root criu rootless",
    ends: "help h version v",
};

const RUNC_CREATE: Lists = Lists {
    flags: "no-pivot no-new-keyring",
    values: "bundle b console console-socket pidfd-socket pid-file preserve-fds",
    ends: "help h",
};

const RUNC_RUN: Lists = Lists {
    flags: "detach d keep no-subreaper no-pivot no-new-keyring",
    values: "bundle b console console-socket pidfd-socket pid-file preserve-fds",
    ends: "help h",
};

const RUNC_RESTORE: Lists = Lists {
    flags: "tcp-established ext-unix-sk shell-job file-locks detach d no-subreaper no-pivot auto-dedup lazy-pages",
    values: "bundle b console-socket image-path work-path manage-cgroups-mode pid-file empty-ns lsm-profile \
             lsm-mount-context",
    ends: "help h",
};

const CRUN: Lists = Lists {
    flags: "debug systemd-cgroup",
    values: "cgroup-manager log log-format log-level root rootless program-name",
    ends: "help ? usage version v V",
};

const CRUN_CREATE: Lists = Lists {
    flags: "no-subreaper no-new-keyring no-pivot",
    values: "bundle b config f console-socket preserve-fds pid-file program-name",
    ends: "help ? usage version V",
};

const CRUN_RUN: Lists = Lists {
    flags: "detach d keep no-subreaper no-new-keyring no-pivot",
    values: "bundle b config f console-socket preserve-fds pid-file program-name",
    ends: "help ? usage version V",
};

const CRUN_RESTORE: Lists = Lists {
    flags: "tcp-established tcp-close ext-unix-sk shell-job detach d file-locks",
    values: "bundle b image-path work-path pid-file console-socket manage-cgroups-mode network-lock lsm-profile \
             lsm-mount-context program-name",
    ends: "help ? usage version V",
};

/// The options that count for some words of a command line.
#[derive(Default)]
pub(super) struct Options {
    all: Vec<(&'static str, Takes)>,
}

/// An option that was found.
type Found = Option<(&'static str, Takes)>;

/// What runc knows behind a command, or before it.
pub(super) fn runc(command: Option<Command>) -> Options {
    let mut options = Options::default();
    match command {
        None => {}
        Some(Command::Create) => options.add_lists(&RUNC_CREATE),
        Some(Command::Run) => options.add_lists(&RUNC_RUN),
        Some(Command::Restore) => options.add_lists(&RUNC_RESTORE),
    }
    // Since its third version, runc's parser takes what belongs before a command behind it as well.
    options.add_lists(&RUNC);
    options
}

/// What crun knows behind a command, or before it.
pub(super) fn crun(command: Option<Command>) -> Options {
    let mut options = Options::default();
    options.add_lists(match command {
        None => &CRUN,
        Some(Command::Create) => &CRUN_CREATE,
        Some(Command::Run) => &CRUN_RUN,
        Some(Command::Restore) => &CRUN_RESTORE,
    });
    options
}

impl Options {
    fn add_lists(&mut self, lists: &Lists) {
        for (names, takes) in
            [(lists.flags, Takes::Nothing), (lists.values, Takes::Value), (lists.ends, Takes::End)]
        {
            self.all.extend(names.split_ascii_whitespace().map(|name| (name, takes)));
        }
    }

    /// Takes the options of another list as well.
    pub(super) fn add(&mut self, other: &Self) {
        self.all.extend(&other.all);
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> &[(&'static str, Takes)] {
        &self.all
    }

    /// The option of exactly that name.
    pub(super) fn exact(&self, name: &[u8]) -> Found {
        self.all.iter().find(|(known, _)| known.as_bytes() == name).copied()
    }

    /// The long option of that name or, if it is the beginning of one, that one. Where it is the beginning of several, a
    /// version that has only one of them would take it; that matters if they differ in what they take or mean.
    pub(super) fn shortened(&self, name: &[u8]) -> Result<Found, CallError> {
        let long = || self.all.iter().filter(|(known, _)| known.len() > 1).copied();
        if let Some(exact) = long().find(|(known, _)| known.as_bytes() == name) {
            return Ok(Some(exact));
        }
        let mut candidates = long().filter(|(known, _)| known.as_bytes().starts_with(name));
        let Some(first) = candidates.next() else { return Ok(None) };
        let matters = |known: &str| matches!(known, "bundle" | "config");
        let differs = |other: &(&str, Takes)| {
            other.0 != first.0 && (other.1 != first.1 || matters(first.0) || matters(other.0))
        };
        match candidates.find(differs) {
            None => Ok(Some(first)),
            Some(second) => {
                let option = format!("--{}", text(name));
                Err(CallError::Shortened { option, first: first.0, second: second.0 })
            }
        }
    }
}
