//! What must not change on the host: loop devices and mounts.

use crate::output::Program;
use anyhow::Context;
use anyhow::Result;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// The host's attached loop devices (`losetup -a`) and this process's mounts (`/proc/self/mountinfo`), at one
/// moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSnapshot {
    loops: BTreeSet<String>,
    mounts: BTreeSet<String>,
}

impl HostSnapshot {
    /// Looks at the whole host.
    ///
    /// # Errors
    /// When `losetup` cannot be run or mountinfo cannot be read.
    pub fn take() -> Result<Self> {
        let loops = Program::new("losetup").arg("-a").run()?;
        anyhow::ensure!(loops.status.success(), "losetup -a failed\n{loops}");
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
        let lines = |text: &str| text.lines().map(str::to_owned).collect();
        Ok(Self { loops: lines(&loops.stdout), mounts: lines(&mounts) })
    }

    /// Looks at mounts only, for who may not look at loop devices.
    ///
    /// # Errors
    /// When mountinfo cannot be read.
    pub fn of_mounts() -> Result<Self> {
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
        Ok(Self { loops: BTreeSet::new(), mounts: mounts.lines().map(str::to_owned).collect() })
    }

    /// Only what names a path at or below one of `paths`: other tests attach and mount in parallel.
    #[must_use]
    pub fn below<P: AsRef<Path>>(&self, paths: impl IntoIterator<Item = P>) -> Self {
        let paths: Vec<String> =
            paths.into_iter().map(|path| path.as_ref().to_string_lossy().into_owned()).collect();
        let keep = |lines: &BTreeSet<String>| {
            lines.iter().filter(|line| paths.iter().any(|path| names(line, path))).cloned().collect()
        };
        Self { loops: keep(&self.loops), mounts: keep(&self.mounts) }
    }

    /// All mounts, and of the loop devices only those that name a path at or below one of `paths`.
    #[must_use]
    pub fn with_loops_below<P: AsRef<Path>>(&self, paths: impl IntoIterator<Item = P>) -> Self {
        Self { loops: self.below(paths).loops, mounts: self.mounts.clone() }
    }

    /// Without the mounts that `after` lacks together with their directory: that was removed in another mount namespace, and
    /// the kernel took along what was mounted on it here. In this one nobody can remove it.
    #[must_use]
    pub fn without_removed_places(&self, after: &Self) -> Self {
        // The kernel writes unusual characters of a path in octal; such a one stays.
        let is_there = |point: &str| point.contains('\\') || Path::new(point).symlink_metadata().is_ok();
        let stays =
            |line: &&String| after.mounts.contains(*line) || line.split(' ').nth(4).is_none_or(is_there);
        Self { loops: self.loops.clone(), mounts: self.mounts.iter().filter(stays).cloned().collect() }
    }

    /// Whether there is nothing: no loop device and no mount.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.loops.is_empty() && self.mounts.is_empty()
    }

    /// What is in `after` and not in `self` (`+`), and the other way round (`-`); `None` if they are alike.
    #[must_use]
    pub fn difference(&self, after: &Self) -> Option<String> {
        let mut text = String::new();
        for (what, old, new) in
            [("loop device", &self.loops, &after.loops), ("mount", &self.mounts, &after.mounts)]
        {
            for line in old.difference(new) {
                let _ = writeln!(text, "- {what}: {line}");
            }
            for line in new.difference(old) {
                let _ = writeln!(text, "+ {what}: {line}");
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// Asserts that `after` is like this.
    ///
    /// # Panics
    /// When it is not, with the differences.
    #[track_caller]
    pub fn assert_same(&self, after: &Self) {
        if let Some(difference) = self.difference(after) {
            panic!("the host is not as before:\n{difference}");
        }
    }

    /// Asserts that what lies at or below `paths` is again as this snapshot has it. The kernel takes a dead
    /// container's mounts and loop devices down in the background, so they are given five seconds.
    ///
    /// # Errors
    /// When the host cannot be looked at.
    ///
    /// # Panics
    /// When something is different after five seconds, with the differences.
    #[track_caller]
    pub fn assert_restored<P: AsRef<Path>>(&self, paths: &[P]) -> Result<()> {
        let before = self.below(paths);
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let now = Self::take()?.below(paths);
            if now == before || Instant::now() >= deadline {
                before.assert_same(&now);
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether `line` holds `path` as a whole, or followed by a slash.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(start, _)| {
        line[start + path.len()..]
            .chars()
            .next()
            .is_none_or(|next| !(next.is_alphanumeric() || "_-.".contains(next)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(loops: &[&str], mounts: &[&str]) -> HostSnapshot {
        let set = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        HostSnapshot { loops: set(loops), mounts: set(mounts) }
    }

    #[test]
    fn only_what_lies_below() {
        let all = snapshot(
            &["/dev/loop0: [65024]:12 (/tmp/a/volume.img)", "/dev/loop1: [65024]:13 (/tmp/ab/volume.img)"],
            &["30 27 0:3 / /tmp/a rw - tmpfs tmpfs rw", "31 27 0:3 / /tmp/a.b rw - tmpfs tmpfs rw"],
        );
        let some = snapshot(
            &["/dev/loop0: [65024]:12 (/tmp/a/volume.img)"],
            &["30 27 0:3 / /tmp/a rw - tmpfs tmpfs rw"],
        );
        assert_eq!(all.below(["/tmp/a"]), some);
        assert!(all.below(["/tmp/c"]).is_empty());
    }

    #[test]
    fn a_mount_that_went_with_its_directory_is_not_missed() {
        let before =
            snapshot(&[], &["1 0 0:3 / / rw - tmpfs t rw", "2 1 0:4 / /no/such/place rw - tmpfs t rw"]);
        let after = snapshot(&[], &["1 0 0:3 / / rw - tmpfs t rw"]);
        assert_eq!(before.without_removed_places(&after), after);
        assert_eq!(before.without_removed_places(&before), before);
        assert_eq!(after.without_removed_places(&snapshot(&[], &[])), after);
    }

    #[test]
    fn differences_read_as_a_diff() {
        let before = snapshot(&["loop0"], &["m1"]);
        let after = snapshot(&[], &["m1", "m2"]);
        assert_eq!(before.difference(&after).unwrap(), "- loop device: loop0\n+ mount: m2\n");
        assert_eq!(before.difference(&before), None);
    }

    #[test]
    #[should_panic(expected = "+ mount: m2")]
    fn an_assertion_shows_them() {
        snapshot(&[], &[]).assert_same(&snapshot(&[], &["m2"]));
    }
}
