//! `volhook doctor`: whether this host can do what volhook needs, and what is left lying about. It looks and changes
//! nothing.

mod engines;
mod host;
mod places;
mod programs;
mod state;

use crate::output::Tone;
use crate::output::out_styled;
use crate::output::print_json;
use serde::Serialize;
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;
use volhook_engine::Context;
use volhook_engine::Failure;

/// What a check comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// Containers get their volumes all the same; or it could not be looked at.
    Warning,
    /// Some or all containers do not get their volumes.
    Problem,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Ok => Tone::Good,
            Self::Warning => Tone::Doubtful,
            Self::Problem => Tone::Bad,
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was checked; the same from version to version.
    check: &'static str,
    verdict: Verdict,
    /// What was found, one line.
    found: String,
    /// What to do about it, one line.
    mend: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), mend: None }
    }

    fn warning(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warning, found: found.into(), mend: Some(mend.into()) }
    }

    fn problem(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Problem, found: found.into(), mend: Some(mend.into()) }
    }

    /// A check that failed itself: without root that says nothing about the host.
    fn unlooked(check: &'static str, rights: &Rights, failure: &Failure, mend: &str) -> Self {
        if rights.is_root {
            Self::problem(check, failure.cause_line(), mend)
        } else {
            Self::warning(check, format!("not looked at: {}", failure.cause_line()), AS_ROOT)
        }
    }
}

/// What to do about what an ordinary user cannot look at.
const AS_ROOT: &str = "run `volhook doctor` as root";

/// What this process may do, as far as checks depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rights {
    is_root: bool,
    /// CAP_SYS_ADMIN (capabilities(7)).
    may_mount: bool,
    /// Whether a filter of system calls is in force (seccomp(2)).
    filtered: bool,
}

/// Where the files of the host's own are found; the root of a tree of files in tests.
struct Files(PathBuf);

impl Files {
    /// `path` is absolute.
    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> std::io::Result<String> {
        std::fs::read_to_string(self.at(path))
    }
}

/// `volhook doctor`.
pub(crate) fn doctor(context: &Context<'_>, as_json: bool) -> Result<(), Failure> {
    let files = Files(PathBuf::from("/"));
    let (rights, of_rights) = host::rights(&files);
    let mut findings = host::kernel(&files, &rights);
    findings.extend(host::loop_devices(&files, &rights));
    findings.extend(of_rights);
    findings.extend(host::identity(context));
    findings.extend(host::programs(&volhook_volumes::find_program));
    findings.extend(programs::beside());
    findings.extend(engines::found(&std::env::var_os("PATH").unwrap_or_default(), context.deadline));
    findings.extend(engines::registered(&files, &rights));
    findings.extend(places::configuration(context, &rights));
    findings.extend(places::root(context, &rights));
    findings.extend(places::run_dir(context, &rights));
    findings.extend(state::all(context, &rights));
    if as_json {
        let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
        print_json(&json!({ "verdict": worst, "checks": findings }))?;
    } else {
        out_styled(&for_people(&findings))?;
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    match count(Verdict::Problem) {
        0 => Ok(()),
        1 => Err(Failure::new("volhook found a problem on this host")),
        many => Err(Failure::new(format!("volhook found {many} problems on this host"))),
    }
}

fn for_people(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { check, verdict, found, mend } in findings {
        let style = verdict.tone().style();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{style}{:<7}{style:#}  {check:<width$}  {found}", verdict.word());
        if let Some(mend) = mend {
            let _ = writeln!(text, "{:<7}  {:<width$}  hint: {mend}", "", "");
        }
    }
    text
}

/// Several names in one line; of many only the first.
fn named<T: ToString>(all: &[T]) -> String {
    const SHOWN: usize = 5;
    let mut text = all.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN {
        let _ = write!(text, " and {} more", all.len() - SHOWN);
    }
    text
}

/// `1 lease`, `2 leases`.
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Whether a file can be run.
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}
