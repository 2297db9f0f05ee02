//! Runtimes and engines: which there are, and which are told of volhook.

use super::Files;
use super::Rights;
use super::is_program;
use super::unlooked;
use crate::failure::Failure;
use serde_json::Value;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;
use volhook_api::doctor::Finding;

/// What may run containers with volhook.
const PROGRAMS: [&str; 4] = ["runc", "crun", "podman", "docker"];

/// Where PATH of an ordinary user often does not lead.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where podman and CRI-O find hooks (oci-hooks(5)).
const HOOK_FOLDERS: [&str; 2] = ["/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"];

/// Where dockerd finds its runtimes (dockerd(8)).
const DAEMON_JSON: &str = "/etc/docker/daemon.json";

/// The runtimes and engines in `folders` and the system's, with their versions.
pub(super) fn found(folders: &[PathBuf], deadline: Instant) -> Vec<Finding> {
    const CHECK: &str = "runtimes";
    let folders = || folders.iter().map(PathBuf::as_path).chain(SYSTEM_FOLDERS.iter().map(Path::new));
    let programs = PROGRAMS.iter().filter_map(|name| {
        folders().map(|folder| folder.join(name)).find(|path| path.is_absolute() && is_program(path))
    });
    let findings: Vec<Finding> = programs
        .map(|program| {
            let shown = program.display();
            match version(&program, deadline.max(Instant::now() + PATIENCE)) {
                Ok(version) => Finding::ok(CHECK, format!("{version} ({shown})")),
                Err(reason) => Finding::warning(
                    CHECK,
                    format!("{shown} does not tell its version: {reason}"),
                    format!("see what `{shown} --version` says"),
                ),
            }
        })
        .collect();
    if findings.is_empty() {
        let found = format!("none of {} is in PATH", PROGRAMS.join(", "));
        return vec![Finding::warning(CHECK, found, "install one, such as the package runc or crun")];
    }
    findings
}

fn version(program: &Path, deadline: Instant) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg("--version");
    let output =
        volhook_mounts::child::run(command, deadline).map_err(|error| Failure::new(error).cause_line())?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.trim().to_owned()),
        _ => Err(output.status.to_string()),
    }
}

/// The engines that are told of volhook. Bundles that have its entries cannot be known.
pub(super) fn registered(files: &Files, rights: &Rights) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        HOOK_FOLDERS.iter().flat_map(|folder| in_hook_folder(files, folder, rights)).collect();
    findings.extend(in_daemon_json(files, rights));
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            "no engine is told of volhook; bundles may have its entries all the same (`volhook bundle install`)",
        ));
    }
    findings
}

const CHECK: &str = "registration";

fn in_hook_folder(files: &Files, folder: &str, rights: &Rights) -> Vec<Finding> {
    let failed = |error| {
        let failure = Failure::context(format!("cannot list the hooks in {folder}"), error);
        unlooked(CHECK, rights, &failure, "make the folder readable")
    };
    let entries = match std::fs::read_dir(files.at(folder)) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Vec::new();
        }
        Err(error) => return vec![failed(error)],
    };
    let mut names: Vec<OsString> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    names.retain(|name| name.as_encoded_bytes().ends_with(b".json"));
    names.sort();
    names.iter().filter_map(|name| hook_file(files, &Path::new(folder).join(name), rights)).collect()
}

/// What a file of podman's says about volhook, if anything.
fn hook_file(files: &Files, path: &Path, rights: &Rights) -> Option<Finding> {
    let document = match read_json(files, path, rights)? {
        Ok(document) => document,
        Err(finding) => return Some(finding),
    };
    let program = document["hook"]["path"].as_str()?;
    let args = document["hook"]["args"].as_array();
    let first = args.and_then(|args| args.first()).and_then(Value::as_str);
    if ![Some(program), first].into_iter().flatten().any(is_ours) {
        return None;
    }
    let stages: Vec<&str> =
        document["stages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    Some(told(files, path, program, &format!("podman calls {program} at {}", stages.join(", "))))
}

/// What docker is told of volhook.
fn in_daemon_json(files: &Files, rights: &Rights) -> Vec<Finding> {
    let document = match read_json(files, Path::new(DAEMON_JSON), rights) {
        None => return Vec::new(),
        Some(Err(finding)) => return vec![finding],
        Some(Ok(document)) => document,
    };
    let default = document["default-runtime"].as_str();
    let runtimes = document["runtimes"].as_object().into_iter().flatten();
    runtimes
        .filter_map(|(name, runtime)| {
            let program = runtime["path"].as_str().filter(|program| is_ours(program))?;
            let use_of = if default == Some(name) { "its default" } else { "for `docker run --runtime`" };
            let text = format!("docker has the runtime {name:?}, {program}, {use_of}");
            Some(told(files, Path::new(DAEMON_JSON), program, &text))
        })
        .collect()
}

/// Whether a program is volhook under one of its names.
fn is_ours(program: &str) -> bool {
    let name = Path::new(program).file_name().and_then(OsStr::to_str).unwrap_or_default();
    name == "volhook" || name.starts_with("volhook-")
}

fn told(files: &Files, file: &Path, program: &str, text: &str) -> Finding {
    let file = file.display();
    if is_program(&files.at(program)) {
        return Finding::ok(CHECK, format!("{text} ({file})"));
    }
    Finding::problem(
        CHECK,
        format!("{file} names {program}, which is not there or cannot be run"),
        "install volhook there, or correct the path in that file",
    )
}

/// A JSON document that may concern volhook; `None` where there is no such file, or where it is broken without naming
/// volhook.
fn read_json(files: &Files, path: &Path, rights: &Rights) -> Option<Result<Value, Finding>> {
    let shown = path.display();
    let text = match files.read(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return None,
        Err(error) => {
            let failure = Failure::context(format!("cannot read {shown}"), error);
            return Some(Err(unlooked(CHECK, rights, &failure, "make the file readable")));
        }
    };
    match serde_json::from_str(&text) {
        Ok(document) => Some(Ok(document)),
        Err(_) if !text.contains("volhook") => None,
        Err(error) => Some(Err(Finding::problem(
            CHECK,
            format!("{shown} names volhook and is no JSON: {error}"),
            "correct that file; its engine cannot read it either",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use volhook_api::doctor::Verdict;

    const ROOT: Rights = Rights { is_root: true, may_mount: true, filtered: false };

    fn write(files: &Files, path: &str, text: &str) {
        std::fs::create_dir_all(files.at(path).parent().unwrap()).unwrap();
        std::fs::write(files.at(path), text).unwrap();
    }

    fn program(files: &Files, path: &str, text: &str) {
        write(files, path, text);
        std::fs::set_permissions(files.at(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn lines(findings: &[Finding]) -> String {
        let line = |f: &Finding| format!("{}: {}\n", f.verdict.as_str(), f.found);
        findings.iter().map(line).collect()
    }

    #[test]
    fn hooks_and_runtimes_that_name_volhook_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files(folder.path().to_owned());
        assert!(registered(&files, &ROOT)[0].found.contains("no engine is told"));

        write(
            &files,
            "/usr/share/containers/oci/hooks.d/10-other.json",
            r#"{"hook": {"path": "/usr/bin/other"}}"#,
        );
        write(&files, "/usr/share/containers/oci/hooks.d/README", "volhook {");
        let hook = r#"{"version": "1.0.0", "hook": {"path": "/usr/local/bin/volhook", "args": ["volhook", "hook", "precreate"]},
            "when": {"always": true}, "stages": ["precreate"]}"#;
        write(&files, "/etc/containers/oci/hooks.d/volhook.json", hook);
        write(&files, "/etc/containers/oci/hooks.d/zz-broken.json", "{volhook");
        let docker = r#"{"default-runtime": "volumes", "runtimes": {"plain": {"path": "/usr/bin/runc"},
            "volumes": {"path": "/usr/local/bin/volhook-runc"}, "other": {"path": "/opt/volhook-crun"}}}"#;
        write(&files, DAEMON_JSON, docker);
        insta::assert_snapshot!(lines(&registered(&files, &ROOT)), @r"
        problem: /etc/containers/oci/hooks.d/volhook.json names /usr/local/bin/volhook, which is not there or cannot be run
        problem: /etc/containers/oci/hooks.d/zz-broken.json names volhook and is no JSON: key must be a string at line 1 column 2
        problem: /etc/docker/daemon.json names /usr/local/bin/volhook-runc, which is not there or cannot be run
        problem: /etc/docker/daemon.json names /opt/volhook-crun, which is not there or cannot be run
        ");
        program(&files, "/usr/local/bin/volhook", "");
        program(&files, "/usr/local/bin/volhook-runc", "");
        insta::assert_snapshot!(lines(&registered(&files, &ROOT)), @r#"
        ok: podman calls /usr/local/bin/volhook at precreate (/etc/containers/oci/hooks.d/volhook.json)
        problem: /etc/containers/oci/hooks.d/zz-broken.json names volhook and is no JSON: key must be a string at line 1 column 2
        ok: docker has the runtime "volumes", /usr/local/bin/volhook-runc, its default (/etc/docker/daemon.json)
        problem: /etc/docker/daemon.json names /opt/volhook-crun, which is not there or cannot be run
        "#);
        write(&files, DAEMON_JSON, "{ not json");
        assert!(!lines(&registered(&files, &ROOT)).contains("docker"), "docker's own trouble");
        write(&files, DAEMON_JSON, "{ volhook-runc");
        assert!(
            lines(&registered(&files, &ROOT))
                .contains("problem: /etc/docker/daemon.json names volhook and is no JSON")
        );
    }

    #[test]
    fn runtimes_tell_their_versions() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files(folder.path().to_owned());
        program(&files, "/runc", "#!/bin/sh\necho runc version 1.9\necho more\n");
        program(&files, "/podman", "#!/bin/sh\nexit 3\n");
        write(&files, "/crun", "not a program");
        let findings = found(&[folder.path().to_owned()], Instant::now());
        let told = lines(&findings).replace(&*folder.path().to_string_lossy(), "[PATH]");
        let ours: Vec<&str> = told.lines().filter(|line| line.contains("[PATH]")).collect();
        assert_eq!(
            ours,
            [
                "ok: runc version 1.9 ([PATH]/runc)",
                "warning: [PATH]/podman does not tell its version: exit status: 3"
            ]
        );
        assert!(findings.iter().all(|finding| finding.verdict != Verdict::Problem));
    }
}
