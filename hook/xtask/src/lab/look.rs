//! What there is on a host of the lab, by the word of its volhook and of the files themselves.

use super::host::Host;
use super::state::Content;
use super::state::Files;
use super::state::State;
use super::state::Volume;
use anyhow::Context;
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Where volhook keeps everything in a host, as `init.sh` says.
const ROOT: &str = "/mnt/volhook";

/// All that can be lost, with each file's content.
pub(super) fn state(host: &mut Host<'_>) -> Result<State> {
    let mut state = State::default();
    for volume in list(host, "volume ls")? {
        if volume["pod"].is_null() {
            let limit = volume["limit"].as_u64();
            state.volumes.insert(name(&volume), Volume { limit, files: Files::new() });
        }
    }
    for removed in list(host, "trash ls")? {
        state.trash.insert(name(&removed), Volume::default());
    }
    for plugin in list(host, "plugin ls")? {
        if plugin["source"] == "installed" {
            state.plugins.insert(name(&plugin));
        }
    }
    for pod in list(host, "pod ls")? {
        state.pods.insert(name(&pod), Files::new());
    }

    let mut script =
        ". /run/lab/folder/containers.sh\nfiles() { find . -type f -exec sha256sum {} +; }\n".to_owned();
    for (name, volume) in &state.volumes {
        let _ = writeln!(
            script,
            "echo '@ volume {name}'; rm -rf /tmp/look; volhook volume cp {name}:/. /tmp/look && (cd /tmp/look && files) || exit 1"
        );
        if volume.limit.is_some() {
            let _ = writeln!(script, "volhook volume fsck {name} >&2 || exit 1");
        }
    }
    for name in state.pods.keys() {
        let _ = writeln!(
            script,
            "echo '@ pod {name}'; container look-{name} pod {name} 'cd / && find root app -type f -exec sha256sum {{}} +' || exit 1"
        );
    }
    // Of what is adopted, and of nothing else, a cut may leave all in a place of volhook's own, from where it comes back.
    let _ =
        writeln!(script, "ls -d {ROOT}/staging/adopt-* >/dev/null 2>&1 && {{ volhook gc >&2 || exit 1; }}");
    script.push_str("echo '@ folders'; cd /mnt/folders && files\n");
    for (place, files) in digests(&host.run(&script)?.success()?)? {
        match place.split_once(' ') {
            Some(("volume", name)) => state.volumes.entry(name.to_owned()).or_default().files = files,
            Some((_, name)) => drop(state.pods.insert(name.to_owned(), files)),
            None => {
                for (path, content) in files {
                    let (folder, path) =
                        path.split_once('/').with_context(|| format!("in no folder: {path}"))?;
                    state.folders.entry(folder.to_owned()).or_default().insert(path.to_owned(), content);
                }
            }
        }
    }
    Ok(state)
}

/// What sha256sum says, under the place that a line with `@` names.
fn digests(text: &str) -> Result<BTreeMap<String, Files>> {
    let mut found: BTreeMap<String, Files> = BTreeMap::new();
    let mut place = String::new();
    for line in text.lines() {
        if let Some(next) = line.strip_prefix("@ ") {
            next.clone_into(&mut place);
            found.entry(place.clone()).or_default();
            continue;
        }
        let (digest, path) = line.split_once("  ").with_context(|| format!("no digest: {line}"))?;
        let path = path.trim_start_matches("./").to_owned();
        found.entry(place.clone()).or_default().insert(path, Content::Is(digest.to_owned()));
    }
    Ok(found)
}

pub(super) fn list(host: &mut Host<'_>, command: &str) -> Result<Vec<Value>> {
    let text = host.run(&format!("volhook {command} --json"))?.success()?;
    let document: Value =
        serde_json::from_str(&text).with_context(|| format!("no JSON of {command}: {text}"))?;
    document.as_array().cloned().with_context(|| format!("no list of {command}: {text}"))
}

fn name(item: &Value) -> String {
    item["name"].as_str().unwrap_or_default().to_owned()
}

/// What a person would have to do something about after a boot, a line each: there should be nothing. `gc` is what may run by
/// itself, and mends what is only left over.
pub(super) fn troubles(host: &mut Host<'_>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for command in ["gc", "journal check", "doctor"] {
        let output = host.run(&format!("volhook {command}"))?;
        if output.code != 0 {
            // Doctor begins a line with what it thinks of it.
            let told = output.stdout.lines().filter(|line| !line.starts_with("ok "));
            let told = told.chain(output.stderr.lines()).collect::<Vec<_>>().join("\n");
            found.push(format!("volhook {command} fails with {}:\n{told}", output.code));
        }
    }
    let leases = list(host, "lease ls")?;
    if !leases.is_empty() {
        found.push(format!("after a boot something is held: {leases:?}"));
    }
    let left = host.run(&format!("cd {ROOT} 2>/dev/null && find . || true"))?.success()?;
    found.extend(left.lines().filter(|path| is_left_over(path)).map(|path| format!("left over: {path}")));
    Ok(found)
}

/// Whether a path below volhook's root is none that stays. Not a list of what volhook knows itself: that is to be found out.
fn is_left_over(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches("./").split('/').collect();
    match parts[..] {
        ["staging", _] => true,
        ["volumes", _, _, part] | ["trash", _, part] => ![
            "volume.json",
            "data",
            "volume.img",
            "trashed.json",
            "upper",
            "work",
            "files",
            "identity",
            "sizes.json",
        ]
        .contains(&part),
        _ => false,
    }
}
