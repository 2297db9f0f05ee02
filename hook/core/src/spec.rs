//! The container's spec, `config.json` (OCI runtime-spec, "Configuration").
//!
//! The document stays a JSON value, so that fields this version does not know survive an edit.

use crate::document;
use crate::names::is_below_or_at;
use oci_spec::runtime::Mount;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The most bytes of a spec of a container with volumes.
pub const MAX_SPEC_BYTES: usize = 16 << 20;

/// The most bytes that are looked through for what makes a spec that of a container with volumes.
pub const MAX_READ_BYTES: usize = 256 << 20;

/// The mount type that stands for a volume in a spec, at the spec stage.
pub const VOLHOOK_TYPE: &str = "volhook";

/// What of a spec says whether its container has volumes. It can be read of one that is too large to be edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// `annotations`.
    pub annotations: BTreeMap<String, String>,
    /// Whether a mount stands for a volume.
    pub volume_mounts: bool,
    /// `root.path`, if there is one.
    pub root_path: Option<String>,
}

impl Outline {
    /// Reads the outline of a spec, and nothing else of it. Text in it that is no Unicode is read as runc reads it.
    ///
    /// # Errors
    /// [`SpecError`] when it is larger than [`MAX_READ_BYTES`], not JSON or not a spec.
    pub fn parse(bytes: &[u8]) -> Result<Self, SpecError> {
        #[derive(Deserialize)]
        struct Wire {
            annotations: Option<BTreeMap<String, String>>,
            mounts: Option<Vec<Kind>>,
            root: Option<Root>,
        }
        #[derive(Deserialize)]
        struct Root {
            path: Option<Value>,
        }
        #[derive(Deserialize)]
        struct Kind {
            #[serde(rename = "type")]
            kind: Option<Value>,
        }
        if bytes.len() > MAX_READ_BYTES {
            return Err(SpecError::TooLarge { limit: MAX_READ_BYTES });
        }
        let (wire, _) = document::read_as_runc::<Wire>(bytes).map_err(SpecError::Parse)?;
        let ours = |mount: &Kind| mount.kind.as_ref().is_some_and(|kind| kind == VOLHOOK_TYPE);
        Ok(Self {
            annotations: wire.annotations.unwrap_or_default(),
            volume_mounts: wire.mounts.unwrap_or_default().iter().any(ours),
            root_path: wire.root.and_then(|root| root.path).and_then(|path| path.as_str().map(str::to_owned)),
        })
    }
}

/// Why a spec is not usable.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// More than a limit.
    #[error("the container spec is larger than {} MiB", limit >> 20)]
    TooLarge {
        /// [`MAX_SPEC_BYTES`] or [`MAX_READ_BYTES`].
        limit: usize,
    },
    /// Not JSON.
    #[error("the container spec is not valid JSON")]
    Parse(#[source] serde_json::Error),
    /// JSON for some, but with text that is no Unicode: it would be another one once the spec is written again.
    #[error("the container spec has an unusable {part:?}: it is not UTF-8")]
    NotText {
        /// Where, in dotted form.
        part: String,
    },
    /// A path that is to go into the spec, and cannot.
    #[error("{path:?} cannot be written into a container spec: it is not UTF-8")]
    PathNotText {
        /// The path.
        path: PathBuf,
    },
    /// JSON, but a field has another type than the OCI runtime-spec says.
    #[error("the container spec has an unusable {field:?}: {reason}")]
    Field {
        /// Where, in dotted form.
        field: String,
        /// What is wrong.
        reason: String,
    },
}

/// A parsed spec.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    document: Value,
}

/// One entry of `mounts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecMount {
    /// Where, normalized: absolute, `.` and `..` resolved as text, no doubled slashes. As written for a mount that
    /// stands for a volume.
    pub destination: String,
    /// `type`; empty when absent.
    pub kind: String,
    /// `source`; empty when absent.
    pub source: String,
    /// `options`.
    pub options: Vec<String>,
}

/// What is looked at of a mount.
const MOUNT_PARTS: [&str; 4] = ["destination", "type", "source", "options"];

impl From<&Mount> for SpecMount {
    fn from(mount: &Mount) -> Self {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let kind = mount.typ().clone().unwrap_or_default();
        let destination = text(mount.destination());
        Self {
            // A claim is checked as it was written; the runtime will never see it.
            destination: if kind == VOLHOOK_TYPE { destination } else { clean(&destination) },
            kind,
            source: mount.source().as_ref().map(text).unwrap_or_default(),
            options: mount.options().clone().unwrap_or_default(),
        }
    }
}

impl SpecMount {
    /// Whether the mount ends up read-only: the last of `ro` and `rw` counts.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.options
            .iter()
            .rev()
            .find(|o| matches!(o.as_str(), "ro" | "rw" | "rro"))
            .is_some_and(|o| o != "rw")
    }

    /// Whether what is mounted below it reaches the mount's source on the host (mount_namespaces(7)).
    #[must_use]
    pub fn propagates(&self) -> bool {
        self.options.iter().any(|option| matches!(option.as_str(), "shared" | "rshared"))
    }

    /// Whether an engine made this for an image's `VOLUME`, with a name of its own: such a volume dies with
    /// its container and gives way to a volume of ours. Both docker and podman name it with 64 hex digits.
    #[must_use]
    pub fn is_anonymous_volume(&self) -> bool {
        let Some(rest) = self.source.strip_suffix("/_data") else { return false };
        let Some((folder, name)) = rest.rsplit_once('/') else { return false };
        folder.ends_with("/volumes") && name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
    }
}

impl Spec {
    /// Parses a spec.
    ///
    /// # Errors
    /// [`SpecError`] when it is too large, not JSON, not an object, or cannot be written again as it is.
    pub fn parse(bytes: &[u8]) -> Result<Self, SpecError> {
        if bytes.len() > MAX_SPEC_BYTES {
            return Err(SpecError::TooLarge { limit: MAX_SPEC_BYTES });
        }
        let (document, is_replaced) = document::read_as_runc::<Value>(bytes).map_err(SpecError::Parse)?;
        if is_replaced {
            let part = document::replaced_part(&document).unwrap_or_default();
            return Err(SpecError::NotText { part: crate::names::shorten(&part) });
        }
        if document.is_object() {
            Ok(Self { document })
        } else {
            Err(field("(top level)", "must be an object"))
        }
    }

    /// What says whether the container has volumes.
    ///
    /// # Errors
    /// [`SpecError::Field`] when annotations are none.
    pub fn outline(&self) -> Result<Outline, SpecError> {
        // What else is odd about mounts matters where there are claims.
        let mut mounts = self.document["mounts"].as_array().into_iter().flatten();
        let volume_mounts = mounts.any(|mount| mount["type"] == VOLHOOK_TYPE);
        let root_path = self.root_path().ok().map(str::to_owned);
        Ok(Outline { annotations: self.annotations()?, volume_mounts, root_path })
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The document, without the spec around it.
    #[must_use]
    pub fn into_document(self) -> Value {
        self.document
    }

    /// The document, to be edited.
    pub fn document_mut(&mut self) -> &mut Value {
        &mut self.document
    }

    /// `root.path`.
    ///
    /// # Errors
    /// [`SpecError::Field`] when there is none.
    pub fn root_path(&self) -> Result<&str, SpecError> {
        self.document["root"]["path"]
            .as_str()
            .filter(|path| !path.is_empty())
            .ok_or_else(|| field("root.path", "is missing"))
    }

    /// `annotations`.
    ///
    /// # Errors
    /// [`SpecError::Field`] when they are not texts.
    pub fn annotations(&self) -> Result<BTreeMap<String, String>, SpecError> {
        match &self.document["annotations"] {
            Value::Null => Ok(BTreeMap::new()),
            value => BTreeMap::<String, String>::deserialize(value)
                .map_err(|error| field("annotations", &error.to_string())),
        }
    }

    /// `mounts`, in order.
    ///
    /// # Errors
    /// [`SpecError::Field`] when they are not mounts.
    pub fn mounts(&self) -> Result<Vec<SpecMount>, SpecError> {
        let mounts = match &self.document["mounts"] {
            Value::Null => return Ok(Vec::new()),
            value => value.as_array().ok_or_else(|| field("mounts", "must be a list"))?,
        };
        let seen = |(index, mount)| {
            let seen = document::view::<Mount>(mount, &MOUNT_PARTS);
            seen.map(|mount| SpecMount::from(&mount))
                .map_err(|error| field(&format!("mounts[{index}]"), &error.to_string()))
        };
        mounts.iter().enumerate().map(seen).collect()
    }

    /// `process.cwd`, as the runtime will have it; the root where there is none.
    #[must_use]
    pub fn working_directory(&self) -> String {
        clean(self.document["process"]["cwd"].as_str().unwrap_or_default())
    }

    /// Whether the container gets or joins a user namespace, so that ids differ inside it.
    #[must_use]
    pub fn has_user_namespace(&self) -> bool {
        self.document["linux"]["namespaces"]
            .as_array()
            .is_some_and(|list| list.iter().any(|ns| ns["type"] == "user"))
    }
}

fn field(field: &str, reason: &str) -> SpecError {
    SpecError::Field { field: field.to_owned(), reason: crate::names::shorten(reason) }
}

/// An absolute path with `.`, `..` and doubled slashes resolved as text, which is what runtimes do with a
/// mount's destination before they look at the root filesystem.
#[must_use]
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The innermost of `mounts` on which the resolved `path` lies: of those at or above it the last one, because
/// later mounts cover earlier ones.
#[must_use]
pub fn mount_above<'a>(path: &str, mounts: &'a [(String, SpecMount)]) -> Option<&'a SpecMount> {
    mounts.iter().rev().find(|(at, _)| is_below_or_at(path, at)).map(|(_, mount)| mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(options: &[&str]) -> SpecMount {
        SpecMount {
            destination: "/x".into(),
            kind: "bind".into(),
            source: "/s".into(),
            options: options.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn last_of_ro_and_rw_counts() {
        assert!(mount(&["bind", "ro"]).read_only());
        assert!(!mount(&["ro", "rw"]).read_only());
        assert!(!mount(&["bind"]).read_only());
    }

    #[test]
    fn destinations_are_cleaned_as_runtimes_do() {
        for (given, cleaned) in [("/a//b/", "/a/b"), ("a/./b", "/a/b"), ("/../../etc", "/etc"), ("/", "/")] {
            assert_eq!(clean(given), cleaned);
        }
    }

    #[test]
    fn anonymous_volumes_are_known_by_their_source() {
        let hex = "0123456789abcdef".repeat(4);
        let mut anonymous = mount(&[]);
        anonymous.source = format!("/var/lib/docker/volumes/{hex}/_data");
        assert!(anonymous.is_anonymous_volume());
        anonymous.source = "/var/lib/docker/volumes/mydb/_data".into();
        assert!(!anonymous.is_anonymous_volume());
    }

    #[test]
    fn an_outline_is_read_of_what_is_too_large() {
        let padded =
            |text: &str| format!(r#"{{"x": "{}", {text}}}"#, "y".repeat(MAX_SPEC_BYTES)).into_bytes();
        let plain = padded(r#""mounts": [{"destination": "/x", "type": "bind"}], "annotations": {"a": "b"}"#);
        assert!(matches!(Spec::parse(&plain), Err(SpecError::TooLarge { .. })));
        let outline = Outline::parse(&plain).unwrap();
        assert_eq!((outline.annotations["a"].as_str(), outline.volume_mounts), ("b", false));
        let ours = padded(r#""mounts": [{"destination": "/x", "type": "volhook"}], "annotations": null"#);
        assert!(Outline::parse(&ours).unwrap().volume_mounts);
        for odd in [r#"{"annotations": [1]}"#, "[1]", "{", r#"{"annotations": {}, "annotations": {}}"#] {
            assert!(Outline::parse(odd.as_bytes()).is_err(), "{odd}");
        }
    }

    #[test]
    fn wrong_types_are_named() {
        let spec = Spec::parse(br#"{"mounts":[{"destination":5}],"annotations":{"a":1}}"#).unwrap();
        assert!(spec.mounts().unwrap_err().to_string().contains("mounts[0]"));
        assert!(spec.annotations().unwrap_err().to_string().contains("annotations"));
        assert!(Spec::parse(b"[]").is_err());
        assert!(spec.root_path().is_err());
    }

    /// What newer specs have, and what Go writes of what is not there.
    #[test]
    fn parts_that_nobody_looks_at_may_be_newer_than_the_types() {
        let text = r#"{
            "ociVersion": "1.9.0-newer", "hooks": null, "annotations": null, "root": {"path": "rootfs", "newer": {}},
            "process": {"scheduler": {"policy": "SCHED_NEWER"}, "user": {"uid": 4294967296}, "args": null},
            "linux": {
                "namespaces": [{"type": "newer"}, {"type": "time"}, {"type": "user", "path": null}, {"type": 1}],
                "seccomp": {"defaultAction": "SCMP_ACT_NEWER", "flags": null}, "uidMappings": [{"size": -1}],
                "personality": {"domain": "NEWER"}, "resources": {"memory": {"limit": 18446744073709551615}}
            },
            "mounts": [
                {"destination": "/a/../b", "type": null, "source": null, "options": null, "uidMappings": [{"hostID": -5}]},
                {"destination": "c", "type": "bind", "source": "/s", "options": ["ro"], "newer": [null]}
            ]
        }"#;
        let spec = Spec::parse(text.as_bytes()).unwrap();
        let seen: Vec<_> =
            spec.mounts().unwrap().into_iter().map(|m| (m.destination, m.kind, m.source)).collect();
        let expected = [("/b", "", ""), ("/c", "bind", "/s")];
        assert_eq!(seen, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
        assert!(spec.has_user_namespace() && spec.annotations().unwrap().is_empty());
        assert_eq!(spec.root_path().unwrap(), "rootfs");
        assert!(!spec.outline().unwrap().volume_mounts);
    }

    /// A container without claims starts with what its runtime reads.
    #[test]
    fn odd_mounts_are_no_claims() {
        for mounts in ["5", r#"[5, {"type": 7}, {"destination": null}, ["/x"]]"#] {
            let spec = Spec::parse(format!(r#"{{"mounts": {mounts}}}"#).as_bytes()).unwrap();
            assert!(!spec.outline().unwrap().volume_mounts, "{mounts}");
            assert!(spec.mounts().is_err(), "{mounts}");
        }
    }

    #[test]
    fn text_that_is_not_utf_8_is_named_and_no_claim() {
        for (text, part) in [
            (
                &b"{\"annotations\": {\"a\": \"b\"}, \"mounts\": [{\"source\": \"/v\xff\"}]}"[..],
                "mounts[0].source",
            ),
            (&br#"{"annotations": {"a": "b"}, "process": {"args": ["x", "\udcff"]}}"#[..], "process.args[1]"),
            (&b"{\"annotations\": {\"a\": \"b\", \"c\xff\": \"\"}}"[..], "annotations.c\u{fffd}"),
        ] {
            let told = Spec::parse(text).unwrap_err();
            assert!(matches!(&told, SpecError::NotText { part: named } if named == part), "{told}");
            let outline = Outline::parse(text).unwrap();
            assert_eq!((outline.annotations["a"].as_str(), outline.volume_mounts), ("b", false));
        }
        assert!(matches!(Spec::parse(b"{\"a\": \"\xff\""), Err(SpecError::Parse(_))));
    }
}
