//! The container's state, as a runtime gives it to a hook on standard input (OCI runtime-spec, "State").

use crate::document;
use crate::names::ContainerId;
use crate::names::NameError;
use crate::names::shorten;
use oci_spec::runtime;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

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
    /// A `bundle` whose path the runtime could not say.
    #[error("the container state of {id:?} has a `bundle` that is not UTF-8: {bundle:?}")]
    BundleNotText {
        /// The container.
        id: String,
        /// What can be read of it.
        bundle: String,
    },
    /// No `pid` where one is needed.
    #[error("the container state of {id:?} has no process: pid is {pid}")]
    NoProcess {
        /// The container.
        id: String,
        /// What the state said.
        pid: String,
    },
}

/// What volhook uses of the state. Fields that it does not use are not looked at, so an unusual `status` (crun's
/// `starting`) is no error, and an unusual `pid` only one where a process is needed.
#[derive(Debug, Clone)]
pub struct State {
    /// The container's id as the runtime says it; see [`State::id`].
    pub raw_id: String,
    seen: runtime::State,
    pid: Value,
    is_unicode: bool,
    /// Annotations as the runtime copied them; docker's state has none although its spec does.
    pub annotations: BTreeMap<String, String>,
    /// The spec's `root.path`, which crun says.
    pub root: Option<String>,
}

/// What is looked at of a state, as far as it may differ from the standard's type: what is null is not there, and a `pid` may be
/// anything. It is read without a document around it, because every container's start passes by here.
#[derive(Deserialize)]
struct Wire {
    id: String,
    pid: Option<Value>,
    bundle: Option<PathBuf>,
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
        let (wire, is_replaced) = document::read_as_runc::<Wire>(bytes).map_err(StateError::Parse)?;
        let mut seen = runtime::State::default();
        seen.set_bundle(wire.bundle.unwrap_or_default());
        Ok(Self {
            raw_id: wire.id,
            seen,
            pid: wire.pid.unwrap_or_default(),
            is_unicode: !is_replaced,
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
    /// [`StateError::NoBundle`], and [`StateError::BundleNotText`] where the path is another one than it seems.
    pub fn bundle(&self) -> Result<&Path, StateError> {
        let (bundle, id) = (self.seen.bundle(), shorten(&self.raw_id));
        let text = bundle.to_string_lossy();
        if text.is_empty() {
            return Err(StateError::NoBundle { id });
        }
        if !self.is_unicode && text.contains(char::REPLACEMENT_CHARACTER) {
            return Err(StateError::BundleNotText { id, bundle: shorten(&text) });
        }
        Ok(bundle)
    }

    /// The container's init process.
    ///
    /// # Errors
    /// [`StateError::NoProcess`] when the state has none (crun writes 0, runc leaves it out once the
    /// container is stopped).
    pub fn pid(&self) -> Result<i32, StateError> {
        self.pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0).ok_or_else(|| {
            let pid = if self.pid.is_null() { "missing".to_owned() } else { self.pid.to_string() };
            StateError::NoProcess { id: shorten(&self.raw_id), pid: shorten(&pid) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_both_runtimes() {
        let runc = br#"{"ociVersion":"1.0.2-dev","id":"c1","status":"creating","pid":42,"bundle":"/b","annotations":{"a":"b"}}"#;
        let state = State::parse(runc).unwrap();
        assert_eq!((state.pid().unwrap(), state.bundle().unwrap()), (42, Path::new("/b")));
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

    /// What other versions, and engines above them, write.
    #[test]
    fn states_that_are_odd_are_states() {
        for (text, pid) in [
            (
                r#"{"ociVersion":"1.2.1","id":"c1","status":"creating","pid":42,"bundle":"/b","annotations":null}"#,
                Some(42),
            ),
            (r#"{"ociVersion":"1.0.2-dev","id":"c1","status":"paused","pid":42,"bundle":"/b"}"#, Some(42)),
            (
                r#"{"ociVersion":"1.3.0","id":"c1","status":{"newer":1},"pid":42,"bundle":"/b","x":[1]}"#,
                Some(42),
            ),
            (r#"{"ociVersion":null,"id":"c1","status":null,"pid":null,"bundle":"/b","root":null}"#, None),
            (r#"{"id":"c1","pid":4294967297,"bundle":"/b"}"#, None),
            (r#"{"id":"c1","pid":42.5,"bundle":"/b"}"#, None),
            (r#"{"id":"c1","pid":"42","bundle":"/b"}"#, None),
        ] {
            let state = State::parse(text.as_bytes()).unwrap();
            assert_eq!((state.pid().ok(), state.bundle().unwrap()), (pid, Path::new("/b")), "{text}");
        }
    }

    #[test]
    fn a_path_that_is_no_text_is_never_another_path() {
        let state =
            State::parse(b"{\"id\":\"c1\",\"bundle\":\"/b\xff\",\"annotations\":{\"a\":\"b\"}}").unwrap();
        assert_eq!(state.annotations["a"], "b");
        let told = state.bundle().unwrap_err().to_string();
        assert!(told.contains("/b\u{fffd}") && told.contains("UTF-8"), "{told}");
        // Such a name is one.
        let state = State::parse("{\"id\":\"c1\",\"bundle\":\"/b\u{fffd}\"}".as_bytes()).unwrap();
        assert_eq!(state.bundle().unwrap(), Path::new("/b\u{fffd}"));
    }
}
