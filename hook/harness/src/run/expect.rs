//! What scripts expect: each expectation says what it wanted and what it saw.

use super::Mismatch;
use super::World;
use super::commands::read;
use crate::host::HostSnapshot;
use crate::observe;
use crate::observe::Mount;
use crate::script::Engine;
use crate::script::Expectation;
use crate::script::Match;
use crate::script::Word;
use crate::script::inside;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use regex_lite::Regex;
use serde_json::Value;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// The kernel takes a dead container's mounts and loop devices down in the background.
const PATIENCE: Duration = Duration::from_secs(5);

impl World<'_> {
    pub(super) fn expect(&mut self, expectation: &Expectation) -> Result<()> {
        match expectation {
            Expectation::Exit(code) => {
                self.expect_end(&format!("exit status {code}"), |status| status.code() == Some(*code))
            }
            Expectation::Signal(signal) => self
                .expect_end(&format!("killed by signal {signal}"), |status| status.signal() == Some(*signal)),
            Expectation::Output { is_error, matches } => {
                let output = self.last()?;
                let (name, text) = if *is_error {
                    ("standard error", &output.stderr)
                } else {
                    ("standard output", &output.stdout)
                };
                self.compare(name, text, matches)
            }
            Expectation::Json { path, value } => self.expect_json(&self.text(path)?, &self.text(value)?),
            Expectation::File(path, matches) => {
                let path = self.path(path)?;
                self.compare(&path.display().to_string(), &read(&path)?, matches)
            }
            Expectation::Exists(path) => {
                let path = self.path(path)?;
                if path.symlink_metadata().is_err() {
                    return Err(Mismatch::new(format!("{} is not there", path.display())).into());
                }
                Ok(())
            }
            Expectation::Missing(path) => {
                let path = self.path(path)?;
                if path.symlink_metadata().is_ok() {
                    return Err(Mismatch::new(format!("{} is there", path.display())).into());
                }
                Ok(())
            }
            Expectation::Mount { target, id, fields } => {
                self.expect_mount(&self.text(target)?, &self.text(id)?, fields)
            }
            Expectation::NoMount { target, id } => {
                let (target, id) = (self.text(target)?, self.text(id)?);
                let (_, mounts) = self.mounts(&id)?;
                match mounts.iter().rfind(|mount| mount.target == target) {
                    Some(mount) => Err(Mismatch::between(
                        format!("there is a mount on {target}"),
                        "none",
                        mount.to_string(),
                    )
                    .into()),
                    None => Ok(()),
                }
            }
            Expectation::Lease(volume, id) => {
                let (volume, id) = (self.text(volume)?, self.text(id)?);
                let leases = self.leases()?;
                if leases.contains(&(volume.clone(), id.clone())) {
                    return Ok(());
                }
                let message = format!("container {id} does not hold volume {volume}");
                Err(Mismatch::between(message, format!("{volume} {id}"), listed(&leases)).into())
            }
            Expectation::NoLease(volume) => {
                let volume = volume.as_ref().map(|word| self.text(word)).transpose()?;
                let mut leases = self.leases()?;
                leases.retain(|(name, _)| volume.as_ref().is_none_or(|volume| volume == name));
                if leases.is_empty() {
                    return Ok(());
                }
                Err(Mismatch::between("there are leases", "none", listed(&leases)).into())
            }
            Expectation::Status(id, status) => {
                let (id, status) = (self.text(id)?, self.text(status)?);
                match self.status(&id) {
                    Some(seen) if seen == status => Ok(()),
                    Some(seen) => {
                        Err(Mismatch::between(format!("container {id} has another status"), status, seen)
                            .into())
                    }
                    None => Err(Mismatch::new(format!("the runtime knows no container {id}")).into()),
                }
            }
            Expectation::NoContainer(id) => {
                let id = self.text(id)?;
                match self.status(&id) {
                    None => Ok(()),
                    Some(status) => {
                        Err(Mismatch::new(format!("there is a container {id}, and it is {status}")).into())
                    }
                }
            }
            Expectation::HostUnchanged => self.expect_host(),
        }
    }

    fn expect_end(&self, expected: &str, holds: impl Fn(ExitStatus) -> bool) -> Result<()> {
        let status = self.last()?.status;
        if holds(status) {
            return Ok(());
        }
        Err(Mismatch::between("it ended otherwise", expected, ending(status)).into())
    }

    fn compare(&self, name: &str, seen: &str, matches: &Match) -> Result<()> {
        let mismatch = match matches {
            Match::Is(text) => {
                let expected = self.content(text)?;
                let same = expected.trim_end_matches('\n') == seen.trim_end_matches('\n');
                (!same).then(|| Mismatch::between(format!("{name} is something else"), expected, seen))
            }
            Match::Contains(text) => {
                let part = self.content(text)?;
                let part = part.trim_end_matches('\n');
                (!seen.contains(part))
                    .then(|| Mismatch::between(format!("{name} does not contain this"), part, seen))
            }
            Match::Lacks(text) => {
                let part = self.content(text)?;
                let part = part.trim_end_matches('\n');
                seen.contains(part).then(|| Mismatch {
                    message: format!("{name} contains {part:?}"),
                    expected: None,
                    seen: Some(seen.to_owned()),
                })
            }
            Match::Matches(word) => {
                let pattern = self.text(word)?;
                let regex = Regex::new(inside(&pattern)).context("this is no regular expression")?;
                (!regex.is_match(seen))
                    .then(|| Mismatch::between(format!("nothing in {name} matches this"), pattern, seen))
            }
            Match::Empty => (!seen.is_empty()).then(|| Mismatch {
                message: format!("{name} is not empty"),
                expected: None,
                seen: Some(seen.to_owned()),
            }),
        };
        mismatch.map_or(Ok(()), |mismatch| Err(mismatch.into()))
    }

    fn expect_json(&self, path: &str, expected: &str) -> Result<()> {
        let output = self.last()?;
        let Ok(document) = serde_json::from_str::<Value>(&output.stdout) else {
            return Err(Mismatch::new("standard output is no JSON").into());
        };
        let Some(seen) = find(&document, path)? else {
            let message = format!("there is no {path}");
            return Err(Mismatch { message, expected: None, seen: Some(format!("{document:#}")) }.into());
        };
        let wanted = serde_json::from_str(expected).unwrap_or_else(|_| Value::from(expected));
        if *seen == wanted || seen.as_str() == Some(expected) {
            return Ok(());
        }
        Err(Mismatch::between(format!("{path} is something else"), wanted.to_string(), seen.to_string())
            .into())
    }

    fn mounts(&self, id: &str) -> Result<(i32, Vec<Mount>)> {
        let pid = self.runtime_of(id).pid_of(id);
        let pid = pid.with_context(|| format!("container {id} has no process whose mounts could be seen"))?;
        let bundle = self.containers.get(id).and_then(|name| self.bundles.get(name));
        let rootfs = bundle.with_context(|| format!("container {id} is of no bundle"))?.rootfs();
        Ok((pid, observe::mounts(pid, &rootfs)?))
    }

    fn expect_mount(&self, target: &str, id: &str, fields: &[(String, Word)]) -> Result<()> {
        let (pid, mounts) = self.mounts(id)?;
        // The last one covers those before it.
        let Some(mount) = mounts.iter().rfind(|mount| mount.target == target) else {
            let seen: Vec<String> = mounts.iter().map(ToString::to_string).collect();
            let message = format!("nothing is mounted on {target} in container {id}");
            return Err(Mismatch { message, expected: None, seen: Some(seen.join("\n")) }.into());
        };
        for (key, word) in fields {
            let value = self.text(word)?;
            let has = |options: &[String]| {
                value.split(',').all(|option| match option.strip_prefix('!') {
                    Some(absent) => !options.iter().any(|other| other == absent),
                    None => options.iter().any(|other| other == option),
                })
            };
            let fits = match key.as_str() {
                "type" => mount.kind == value,
                "options" => has(&mount.options),
                "super" => has(&mount.super_options),
                _ => mount.source == value || self.shows(pid, id, target, &value),
            };
            if !fits {
                let message = format!("the mount on {target} is another");
                return Err(Mismatch::between(message, format!("{key}={value}"), mount.to_string()).into());
            }
        }
        Ok(())
    }

    /// Whether a container sees a host's path at `target`.
    fn shows(&self, pid: i32, id: &str, target: &str, source: &str) -> bool {
        let bundle = self.containers.get(id).and_then(|name| self.bundles.get(name));
        let rootfs = bundle.map(crate::bundle::Bundle::rootfs).unwrap_or_default();
        let source = self.settings.folder.join(source);
        // Before it has its root the container's own is the host's.
        observe::is_same(pid, target, Path::new(""), &source)
            || observe::is_same(pid, target, &rootfs, &source)
    }

    fn leases(&self) -> Result<Vec<(String, String)>> {
        let words = ["volhook", "lease", "ls", "--json"].map(str::to_owned);
        let output = self.exec(&words)?;
        if !output.status.success() {
            bail!("{} failed\n{output}", output.command);
        }
        let leases: Value = serde_json::from_str(&output.stdout).context("volhook's leases are no JSON")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let leases = leases.as_array().into_iter().flatten();
        Ok(leases.map(|lease| (text(&lease["volume"]), text(&lease["container"]))).collect())
    }

    fn expect_host(&self) -> Result<()> {
        let over = Instant::now() + PATIENCE;
        let folder = &self.settings.folder;
        loop {
            let mut now = if rustix::process::geteuid().is_root() && !super::in_user_namespace() {
                HostSnapshot::take()?
            } else {
                HostSnapshot::of_mounts()?
            };
            let mut before = self.host.clone();
            // Others attach meanwhile, and where the mount namespace is the host's also mount.
            if self.settings.engine == Engine::Fake {
                (before, now) = (before.with_loops_below([folder]), now.with_loops_below([folder]));
                before = before.without_removed_places(&now);
            } else {
                (before, now) = (before.below([folder]), now.below([folder]));
            }
            match before.difference(&now) {
                None => return Ok(()),
                Some(difference) if Instant::now() >= over => {
                    let message = "the host is not as before (- gone, + left over)".to_owned();
                    return Err(Mismatch { message, expected: None, seen: Some(difference) }.into());
                }
                Some(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// How a process ended, in words.
pub(super) fn ending(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("killed by signal {signal}"),
        None => format!("exit status {}", status.code().unwrap_or_default()),
    }
}

fn listed(leases: &[(String, String)]) -> String {
    leases.iter().map(|(volume, container)| format!("{volume} {container}\n")).collect()
}

/// The value at a path such as `.a[0].b`; `.` is the whole document.
fn find<'v>(document: &'v Value, path: &str) -> Result<Option<&'v Value>> {
    let mut value = Some(document);
    let mut rest = path.strip_prefix('.').context("a path begins with a dot, such as .a[0].b")?;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('[') {
            let (index, tail) = tail.split_once(']').context("an index ends with ]")?;
            let index: usize = index.parse().context("an index is a number")?;
            value = value.and_then(|value| value.get(index));
            rest = tail.strip_prefix('.').unwrap_or(tail);
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (key, tail) = rest.split_at(end);
            value = value.and_then(|value| value.get(key));
            rest = tail.strip_prefix('.').unwrap_or(tail);
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_values() {
        let document = json!({"a": [{"b": 1}, {"b": null}]});
        assert_eq!(find(&document, ".a[0].b").unwrap(), Some(&json!(1)));
        assert_eq!(find(&document, ".a[1].b").unwrap(), Some(&Value::Null));
        assert_eq!(find(&document, ".a[2]").unwrap(), None);
        assert_eq!(find(&document, ".").unwrap(), Some(&document));
        assert!(find(&document, "a").is_err() && find(&document, ".a[x]").is_err());
    }
}
