//! What runtimes do about hooks, and where they differ: the table that the fake runtime goes by. Pure.
//!
//! The stages, their order, their namespaces and the state are those of the OCI runtime-spec: "Runtime and Lifecycle" (`runtime.md`,
//! sections "State" and "Lifecycle") and "POSIX-platform Hooks" (`config.md`). What the specification leaves open, and where a runtime
//! does otherwise, is as runc 1.1.5 and crun 1.8.1 do it, which the tests compare. youki is as its sources (0.5.7, files `hooks.rs`,
//! `container_start.rs`, `container_delete.rs` of `libcontainer`) say; it was not compared.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::fmt;
use std::path::Path;

/// A stage at which hooks are called, in the order of a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The container's namespaces and mounts are there; called on the host. Deprecated, and much used.
    Prestart,
    /// The same, after `prestart`.
    CreateRuntime,
    /// In the container's namespaces, before its root is changed: paths are those of the host.
    CreateContainer,
    /// In the container, when `start` is called: paths are those of the container.
    StartContainer,
    /// On the host, when the container was started.
    Poststart,
    /// On the host, when the container was deleted.
    Poststop,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Self; 6] = [
        Self::Prestart,
        Self::CreateRuntime,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Poststart,
        Self::Poststop,
    ];

    /// Its name in a spec's `hooks`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// The stage of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }

    /// Whether its hooks run in the container's namespaces.
    #[must_use]
    pub fn is_inside(self) -> bool {
        matches!(self, Self::CreateContainer | Self::StartContainer)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What of a container stands in the state that hooks are given.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The bundle's absolute path.
    pub bundle: &'a Path,
    /// The first process, as the runtime sees it.
    pub pid: i32,
    /// The container's `config.json`.
    pub spec: &'a Value,
}

/// A runtime whose behaviour is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// runc 1.1.5.
    Runc,
    /// crun 1.8.1.
    Crun,
    /// youki 0.5.7, by its sources.
    Youki,
}

impl Behaviour {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Runc, Self::Crun, Self::Youki];

    /// The runtime's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Youki => "youki",
        }
    }

    /// The behaviour of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|behaviour| behaviour.name() == name)
    }

    /// The state that hooks of a stage get on standard input.
    #[must_use]
    pub fn state(self, stage: Stage, facts: &Facts<'_>) -> Value {
        let annotations = facts.spec["annotations"].as_object().filter(|map| !map.is_empty());
        let mut state = Map::new();
        let mut put = |key: &str, value: Value| state.insert(key.to_owned(), value);
        match self {
            Self::Runc | Self::Youki => {
                let version = if self == Self::Runc { "1.0.2-dev" } else { "v1.0.2" };
                put("ociVersion", json!(version));
                put("id", json!(facts.id));
                put("status", json!(self.status(stage)));
                match stage {
                    // In its own pid namespace the init is the first process, and runc's asks itself.
                    _ if stage.is_inside() && self == Self::Runc => put("pid", json!(1)),
                    Stage::Poststop if self == Self::Runc => None,
                    _ => put("pid", json!(facts.pid)),
                };
                put("bundle", json!(facts.bundle));
                if let Some(annotations) = annotations {
                    put("annotations", json!(annotations));
                } else if self == Self::Youki {
                    put("annotations", json!({}));
                }
            }
            Self::Crun => {
                let has_pid = matches!(stage, Stage::Prestart | Stage::CreateRuntime | Stage::Poststart);
                put("ociVersion", json!("1.0"));
                put("id", json!(facts.id));
                put("pid", json!(if has_pid { facts.pid } else { 0 }));
                put("root", facts.spec["root"]["path"].clone());
                // It asks where it is, and is in the container by then.
                let bundle = if stage == Stage::StartContainer { Path::new("/") } else { facts.bundle };
                put("bundle", json!(bundle));
                put("status", json!(self.status(stage)));
                if let Some(annotations) = annotations {
                    put("annotations", json!(annotations));
                }
            }
        }
        Value::Object(state)
    }

    fn status(self, stage: Stage) -> &'static str {
        match (self, stage) {
            (_, Stage::Poststop) => "stopped",
            (Self::Crun, Stage::StartContainer) => "starting",
            (Self::Crun | Self::Youki, Stage::Poststart) => "running",
            (Self::Runc, Stage::Poststart | Stage::StartContainer) => "created",
            (Self::Youki, Stage::StartContainer) => "created",
            (Self::Crun, _) => "created",
            _ => "creating",
        }
    }

    /// Whether `poststart` is called when the container is created, before its process runs (runc before 1.6), and not when it is
    /// started.
    #[must_use]
    pub fn poststart_at_create(self) -> bool {
        self == Self::Runc
    }

    /// Whether a failed `poststart` fails the command.
    #[must_use]
    pub fn poststart_can_fail(self) -> bool {
        self != Self::Crun
    }

    /// Whether `poststop` is called for a container whose creation failed.
    #[must_use]
    pub fn poststop_after_failed_create(self) -> bool {
        self == Self::Runc
    }

    /// Whether a failed `poststop` makes `delete` fail and leaves the container's state, so that it can be tried again.
    #[must_use]
    pub fn poststop_can_be_retried(self) -> bool {
        self == Self::Youki
    }

    /// Whether a hook is over only when its standard output and error are closed: a child that keeps them holds the runtime up.
    #[must_use]
    pub fn waits_for_stdio(self) -> bool {
        self == Self::Runc
    }

    /// Whether what a hook printed is shown when it fails.
    #[must_use]
    pub fn shows_stderr(self) -> bool {
        self != Self::Crun
    }

    /// Whether an entry without `env` gets the environment of the process that calls it: the runtime's, inside the container
    /// the container's.
    #[must_use]
    pub fn inherits_environment(self) -> bool {
        self != Self::Youki
    }

    /// Variables that the runtime has set itself, and so what a hook inherits.
    #[must_use]
    pub fn own_variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Crun => &[("_LIBCONTAINER_CLONED_BINARY", "1")],
            Self::Runc | Self::Youki => &[],
        }
    }

    /// Whether a failed hook keeps the next ones of its stage from being called.
    #[must_use]
    pub fn ends_at_failure(self, stage: Stage) -> bool {
        self != Self::Crun || !matches!(stage, Stage::Poststart | Stage::Poststop)
    }

    /// Whether `start` and `delete` call their hooks in the bundle, and not where they were called themselves.
    #[must_use]
    pub fn goes_to_bundle(self) -> bool {
        self == Self::Crun
    }

    /// Whether hooks at `createContainer` run in the root filesystem, and not in the bundle. With some specs crun runs them
    /// there as well: a hook must not rely on either.
    #[must_use]
    pub fn creates_in_rootfs(self) -> bool {
        self != Self::Crun
    }

    /// The exit status of `create` and `run` when a hook of a stage has failed, other than by its timeout.
    #[must_use]
    pub fn failed_create(self, stage: Stage) -> u8 {
        match self {
            Self::Crun if !stage.is_inside() => 255,
            _ => 1,
        }
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_those_of_the_runtimes() {
        let spec = json!({"root": {"path": "rootfs"}, "annotations": {"a": "b"}});
        let facts = Facts { id: "c1", bundle: Path::new("/b"), pid: 7, spec: &spec };
        let state = |behaviour: Behaviour, stage| behaviour.state(stage, &facts).to_string();
        assert_eq!(
            state(Behaviour::Runc, Stage::Prestart),
            r#"{"ociVersion":"1.0.2-dev","id":"c1","status":"creating","pid":7,"bundle":"/b","annotations":{"a":"b"}}"#
        );
        assert_eq!(
            state(Behaviour::Crun, Stage::StartContainer),
            r#"{"ociVersion":"1.0","id":"c1","pid":0,"root":"rootfs","bundle":"/","status":"starting","annotations":{"a":"b"}}"#
        );
        assert!(!state(Behaviour::Runc, Stage::Poststop).contains("pid"));
        assert!(state(Behaviour::Crun, Stage::Poststop).contains("\"pid\":0"));
    }
}
