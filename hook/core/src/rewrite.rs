//! Edits of the spec document: a plan's mounts and hooks, undone and done; hook entries of a bundle.
//!
//! A rewritten spec says in an annotation what was added. [`strip`] takes exactly that out again, so that
//! planning a planned spec starts from the original. Whoever starts a container can write that annotation too:
//! it is believed only as far as it concerns what is volhook's own.

use crate::decision::Access;
use crate::document;
use crate::last_step;
use crate::last_step::PodRoot;
use crate::names::VolumeId;
use crate::plan::Plan;
use crate::plan::PlannedMount;
use crate::plan::spec_position;
use crate::resolved::Resolved;
use crate::spec::Spec;
use crate::spec::SpecError;
use crate::spec::SpecMount;
use crate::spec::VOLHOOK_TYPE;
use crate::stage::Apply;
use oci_spec::runtime::Hook;
use oci_spec::runtime::Mount;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

/// What a rewriting did, kept in the annotation `<prefix>.planned`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// The attempt for which it was done.
    pub attempt: String,
    /// Destinations of the mounts that were added.
    added: Vec<String>,
    /// Mounts of type `volhook` that were taken out, with their places.
    removed: Vec<(usize, Value)>,
    /// JSON pointers (RFC 6901) of containers that were not there before.
    made: Vec<String>,
}

/// The name of the annotation under `prefix`.
#[must_use]
pub fn planned_key(prefix: &str) -> String {
    format!("{prefix}.planned")
}

/// Takes out of `spec` what an earlier rewriting put in. Returns what it was, if there was one. `is_ours` tells
/// whether a mount's source is a volume's: no other mount is taken out, and none but claims are put back.
///
/// # Errors
/// [`SpecError`] when the annotation is not one that volhook wrote.
pub fn strip(
    spec: &mut Spec,
    prefix: &str,
    is_ours: &dyn Fn(&str) -> bool,
) -> Result<Option<Planned>, SpecError> {
    let key = planned_key(prefix);
    let unusable = |reason: String| SpecError::Field {
        field: format!("annotations.{key}"),
        reason: crate::names::shorten(&reason),
    };
    let Some(text) = spec.annotations()?.remove(&key) else { return Ok(None) };
    let planned: Planned = serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
    let document = spec.document_mut();
    if let Some(annotations) = document["annotations"].as_object_mut() {
        annotations.remove(&key);
    }
    if let Some(mounts) = document["mounts"].as_array_mut() {
        mounts.retain(|mount| {
            let added = planned.added.iter().any(|added| mount["destination"] == added.as_str());
            !(added && mount["type"] == "bind" && mount["source"].as_str().is_some_and(is_ours))
        });
        for (index, mount) in &planned.removed {
            if mount["type"] != VOLHOOK_TYPE {
                return Err(unusable("it puts a mount back that is not of type volhook".to_owned()));
            }
            if *index > mounts.len() {
                return Err(unusable(format!("it puts a mount back at place {index} of {}", mounts.len())));
            }
            mounts.insert(*index, mount.clone());
        }
    }
    if let Some(hooks) = document["hooks"].as_object_mut() {
        for entries in hooks.values_mut().filter_map(Value::as_array_mut) {
            entries.retain(|entry| !belongs_to(entry, &planned.attempt));
        }
    }
    for pointer in planned.made.iter().rev() {
        let (parent, name) = pointer.rsplit_once('/').unwrap_or(("", pointer));
        if let Some(parent) = document.pointer_mut(parent).and_then(Value::as_object_mut)
            && parent.get(name).is_some_and(is_empty)
        {
            parent.remove(name);
        }
    }
    Ok(Some(planned))
}

/// Puts the plan's spec mounts into `spec`, and `hooks` (stage → entry) beside the ones that it has.
/// `source` tells the host directory of a volume. Mounts of type `volhook` are taken out; an anonymous volume at a
/// planned target stays and is covered.
///
/// # Errors
/// [`SpecError`] when a part of the spec to be edited has an unusable type, and when a path cannot be written into a spec.
pub fn apply(
    spec: &mut Spec,
    plan: &Plan,
    prefix: &str,
    resolved: &BTreeMap<String, Result<Resolved, String>>,
    source: &dyn Fn(&VolumeId) -> PathBuf,
    hooks: &[(&str, Hook)],
) -> Result<(), SpecError> {
    let place = |destination: &str| match resolved.get(destination) {
        Some(Ok(resolved)) => resolved.path.clone(),
        _ => destination.to_owned(),
    };
    let mut placed: Vec<(String, SpecMount)> =
        spec.mounts()?.into_iter().map(|mount| (place(&mount.destination), mount)).collect();
    let had_last_step = last_step::has_entry(spec);
    let mut planned = Planned { attempt: plan.attempt.clone(), added: vec![], removed: vec![], made: vec![] };
    let document = spec.document_mut();
    let mounts = array_at(document, &["mounts"], &mut planned.made)?;
    let mut kept = 0;
    for original in 0..placed.len() {
        if placed[kept].1.kind == VOLHOOK_TYPE {
            planned.removed.push((original, mounts.remove(kept)));
            placed.remove(kept);
        } else {
            kept += 1;
        }
    }
    for mount in plan.mounts.iter().filter(|mount| mount.apply == Apply::Spec) {
        let at = spec_position(&mount.resolved.path, &placed);
        let written = spec_mount(mount, source(&mount.volume));
        let entry = SpecMount::from(&written);
        mounts.insert(at, written_as(&written, written.source().as_deref())?);
        planned.added.push(entry.destination.clone());
        placed.insert(at, (mount.resolved.path.clone(), entry));
    }
    for (stage, entry) in hooks {
        // Only what becomes a root has a last step, and a bundle may have the entry for it already.
        let is_last_step = entry.path() == Path::new(last_step::PROGRAM);
        if is_last_step && (plan.root != Some(PodRoot::Overlay) || had_last_step) {
            continue;
        }
        let entries = array_at(document, &["hooks", stage], &mut planned.made)?;
        // What else runs just before the container's process finds the pod's files.
        let at = if is_last_step { 0 } else { entries.len() };
        entries.insert(at, written_as(entry, Some(entry.path()))?);
    }
    let annotations = object_at(document, "annotations", &mut planned.made)?;
    // The record of what was made must be complete before it is written down.
    let text = json!(planned).to_string();
    annotations.insert(planned_key(prefix), Value::String(text));
    Ok(())
}

/// Whether `spec` has the createRuntime entry of `attempt`, without which its injected volumes would not come.
#[must_use]
pub fn has_entry(spec: &Spec, attempt: &str) -> bool {
    let entries = spec.document()["hooks"]["createRuntime"].as_array();
    entries.is_some_and(|entries| entries.iter().any(|entry| belongs_to(entry, attempt)))
}

/// Whether a hook entry was written for `attempt`.
fn belongs_to(entry: &Value, attempt: &str) -> bool {
    let token = token(attempt);
    arguments(entry).is_some_and(|args| match args.as_slice() {
        [_, word, _, of] if word == "hook" => *of == token,
        [_, word, of] if word == last_step::WORD => *of == token,
        _ => false,
    })
}

/// Whether `spec` has an entry of ours in a live stage, as [`install_hooks`] puts one there.
#[must_use]
pub fn has_live_entry(spec: &Spec) -> bool {
    let entries = ["prestart", "createRuntime"].map(|stage| spec.document()["hooks"][stage].as_array());
    let mut entries = entries.into_iter().flatten().flatten();
    entries.any(|entry| {
        arguments(entry).is_some_and(|args| args.len() >= 3 && args[0] == "volhook" && args[1] == "hook")
    })
}

/// The arguments of a hook entry, if it is one that volhook may have written.
fn arguments(entry: &Value) -> Option<Vec<String>> {
    document::view::<Hook>(entry, &["path", "args"]).ok()?.args().clone()
}

/// The argument by which a hook entry belongs to an attempt.
#[must_use]
pub fn token(attempt: &str) -> String {
    format!("--attempt={attempt}")
}

/// Puts hook entries (stage → entry) into a bundle's spec, each in the place of an earlier one of ours. An
/// entry is ours when its program has the same file name and its arguments call a hook, or when it is that of the last step.
/// Returns whether anything changed.
///
/// # Errors
/// [`SpecError`] when `hooks` has an unusable type, and when a path cannot be written into a spec.
pub fn install_hooks(spec: &mut Spec, hooks: &[(&str, Hook)]) -> Result<bool, SpecError> {
    let before = spec.document().clone();
    let ours = |value: &Value, entry: &Hook| {
        if value["path"] == last_step::PROGRAM {
            return true;
        }
        let same = |path: &str| Path::new(path).file_name() == entry.path().file_name();
        value["path"].as_str().is_some_and(same)
            && arguments(value).is_some_and(|args| args.len() >= 2 && args[1] == "hook")
    };
    for stage in ["prestart", "createRuntime", "startContainer", "poststop"] {
        let of_stage = hooks.iter().filter(|(name, _)| *name == stage);
        let wanted = of_stage.map(|(_, entry)| written_as(entry, Some(entry.path())));
        let wanted: Vec<Value> = wanted.collect::<Result<_, _>>()?;
        if let Some(entries) =
            spec.document_mut().pointer_mut(&format!("/hooks/{stage}")).and_then(Value::as_array_mut)
        {
            entries
                .retain(|value| !hooks.iter().any(|(_, entry)| ours(value, entry)) || wanted.contains(value));
        }
        for value in wanted {
            let entries = array_at(spec.document_mut(), &["hooks", stage], &mut Vec::new())?;
            if !entries.contains(&value) {
                let at = if value["path"] == last_step::PROGRAM { 0 } else { entries.len() };
                entries.insert(at, value);
            }
        }
    }
    Ok(*spec.document() != before)
}

/// What goes into the document. It has one path that could be anything, and only that may not fit into JSON.
fn written_as(entry: &impl Serialize, path: Option<&Path>) -> Result<Value, SpecError> {
    let path = || path.map(Path::to_owned).unwrap_or_default();
    serde_json::to_value(entry).map_err(|_| SpecError::PathNotText { path: path() })
}

/// The bind mount that stands for a planned mount. Private, so that nothing mounted in the container reaches
/// the host or another container through the volume.
fn spec_mount(mount: &PlannedMount, source: PathBuf) -> Mount {
    let mut options = vec!["bind", "private", if mount.access == Access::ReadOnly { "ro" } else { "rw" }];
    let flags =
        [(mount.flags.nosuid, "nosuid"), (mount.flags.nodev, "nodev"), (mount.flags.noexec, "noexec")];
    options.extend(flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name));
    let mut written = Mount::default();
    written
        .set_destination(mount.target.to_string().into())
        .set_typ(Some("bind".to_owned()))
        .set_source(Some(source))
        .set_options(Some(options.into_iter().map(str::to_owned).collect()));
    written
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn object_at<'a>(
    document: &'a mut Value,
    name: &str,
    made: &mut Vec<String>,
) -> Result<&'a mut Map<String, Value>, SpecError> {
    let wrong = SpecError::Field { field: name.to_owned(), reason: "must be an object".to_owned() };
    let Some(parent) = document.as_object_mut() else { return Err(wrong) };
    let value = parent.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
        made.push(format!("/{name}"));
    }
    value.as_object_mut().ok_or(wrong)
}

fn array_at<'a>(
    document: &'a mut Value,
    path: &[&str],
    made: &mut Vec<String>,
) -> Result<&'a mut Vec<Value>, SpecError> {
    let wrong = || SpecError::Field { field: path.join("."), reason: "must be a list".to_owned() };
    let (name, parents) = path.split_last().ok_or_else(wrong)?;
    let mut at = document;
    for parent in parents {
        object_at(at, parent, made)?;
        at = &mut at[*parent];
    }
    let Some(map) = at.as_object_mut() else { return Err(wrong()) };
    let value = map.entry(*name).or_insert(Value::Null);
    if value.is_null() {
        *value = json!([]);
        made.push(format!("/{}", path.join("/")));
    }
    value.as_array_mut().ok_or_else(wrong)
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
