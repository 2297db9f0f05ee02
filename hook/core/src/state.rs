//! The container's state, as a runtime gives it to a hook on standard input (OCI runtime-spec, "State").

use crate::names::ContainerId;
use crate::names::NameError;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The most bytes of state that a hook reads. A state is an id, a few paths and the annotations; more than
/// this is not a state.
pub const MAX_STATE_BYTES: usize = 4 << 20;

/// Why a state is not usable.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// More than [`MAX_STATE_BYTES`].
    #[error("the container state on standard input is larger than {} MiB", MAX_STATE_BYTES >> 20)]
    TooLarge,
    /// Not JSON, or not a state.
    #[error("the container state on standard input is not valid JSON of an OCI state")]
    Parse(#[source] serde_json::Error),
    /// An id that is not a container id.
    #[error("the container state names no usable container")]
    Id(#[source] NameError),
    /// No `bundle`.
    #[error("the container state of {id:?} has no `bundle`")]
    NoBundle {
        /// The container.
        id: String,
    },
    /// No `pid` where one is needed.
    #[error("the container state of {id:?} has no process: pid is {}", pid.map_or("missing".to_owned(), |p| p.to_string()))]
    NoProcess {
        /// The container.
        id: String,
        /// What the state said.
        pid: Option<i64>,
    },
}

/// What volhook uses of the state. Fields that it does not use are not read, so an unusual `status` (crun's
/// `starting`) is no error.
#[derive(Debug, Clone)]
pub struct State {
    /// The container's id as the runtime says it; see [`State::id`].
    pub raw_id: String,
    pid: Option<i64>,
    bundle: Option<String>,
    /// Annotations as the runtime copied them; docker's state has none although its spec does.
    pub annotations: BTreeMap<String, String>,
    /// The spec's `root.path`, which crun says.
    pub root: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    pid: Option<i64>,
    bundle: Option<String>,
    root: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

impl State {
    /// Parses a state.
    ///
    /// # Errors
    /// [`StateError`] when it is too large or not JSON of a state.
    pub fn parse(bytes: &[u8]) -> Result<Self, StateError> {
        if bytes.len() > MAX_STATE_BYTES {
            return Err(StateError::TooLarge);
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(StateError::Parse)?;
        Ok(Self {
            raw_id: wire.id,
            pid: wire.pid,
            bundle: wire.bundle.filter(|b| !b.is_empty()),
            annotations: wire.annotations.unwrap_or_default(),
            root: wire.root,
        })
    }

    /// All annotations of the container's spec, where the state is crun's: that leaves out none, and it is the one runtime that
    /// can be told to read another spec than the bundle's `config.json`.
    #[must_use]
    pub fn spec_annotations(&self) -> Option<&BTreeMap<String, String>> {
        self.root.as_ref().map(|_| &self.annotations)
    }

    /// The container's id. Only asked for once there are claims: some runtime may take ids that nobody else does,
    /// and a container without claims starts all the same.
    ///
    /// # Errors
    /// [`StateError::Id`].
    pub fn id(&self) -> Result<ContainerId, StateError> {
        ContainerId::new(self.raw_id.as_str()).map_err(StateError::Id)
    }

    /// The bundle's path.
    ///
    /// # Errors
    /// [`StateError::NoBundle`].
    pub fn bundle(&self) -> Result<&str, StateError> {
        self.bundle.as_deref().ok_or_else(|| StateError::NoBundle { id: crate::names::shorten(&self.raw_id) })
    }

    /// The container's init process.
    ///
    /// # Errors
    /// [`StateError::NoProcess`] when the state has none (crun writes 0, runc leaves it out once the
    /// container is stopped).
    pub fn pid(&self) -> Result<i32, StateError> {
        self.pid
            .and_then(|pid| i32::try_from(pid).ok())
            .filter(|pid| *pid > 0)
            .ok_or_else(|| StateError::NoProcess { id: crate::names::shorten(&self.raw_id), pid: self.pid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_both_runtimes() {
        let runc = br#"{"ociVersion":"1.0.2-dev","id":"c1","status":"creating","pid":42,"bundle":"/b","annotations":{"a":"b"}}"#;
        let state = State::parse(runc).unwrap();
        assert_eq!((state.pid().unwrap(), state.bundle().unwrap()), (42, "/b"));
        let crun = br#"{"ociVersion":"1.0","id":"c1","pid":0,"root":"/r","bundle":"/b","status":"starting"}"#;
        let state = State::parse(crun).unwrap();
        assert!(matches!(state.pid(), Err(StateError::NoProcess { .. })));
        assert!(state.spec_annotations().is_some_and(BTreeMap::is_empty));
        let stopped = br#"{"ociVersion":"1.0","id":"c1","status":"stopped","bundle":"/b"}"#;
        let state = State::parse(stopped).unwrap();
        assert!(state.pid().is_err() && state.spec_annotations().is_none());
    }

    #[test]
    fn what_is_not_a_state() {
        assert!(matches!(State::parse(b"not json"), Err(StateError::Parse(_))));
        assert!(matches!(State::parse(b"{}"), Err(StateError::Parse(_))));
        assert!(matches!(State::parse(br#"{"id":"../c1"}"#).unwrap().id(), Err(StateError::Id(_))));
        assert!(matches!(
            State::parse(br#"{"id":"c1"}"#).unwrap().bundle(),
            Err(StateError::NoBundle { .. })
        ));
        assert!(matches!(State::parse(&vec![b' '; MAX_STATE_BYTES + 1]), Err(StateError::TooLarge)));
        let huge = br#"{"id":"c1","pid":4294967297}"#;
        assert!(State::parse(huge).unwrap().pid().is_err());
    }
}
