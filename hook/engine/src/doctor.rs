//! Whether this host can do what volhook needs, and what is left lying about. It looks and changes
//! nothing.

mod engines;
mod host;
mod places;
mod state;

use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;
use volhook_api::doctor::Examine;
use volhook_api::doctor::Examined;
use volhook_api::doctor::Finding;
use volhook_api::doctor::Verdict;
use volhook_leases::Work;

/// A check that failed itself: without root that says nothing about the host.
fn unlooked(check: &str, rights: &Rights, failure: &Failure, mend: &str) -> Finding {
    if rights.is_root {
        Finding::problem(check, failure.cause_line(), mend)
    } else {
        Finding::warning(check, format!("not looked at: {}", failure.cause_line()), AS_ROOT)
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
    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn read(&self, path: impl AsRef<Path>) -> std::io::Result<String> {
        std::fs::read_to_string(self.at(path))
    }
}

/// Looks at everything, and changes nothing.
#[must_use]
pub fn examine(engine: &Engine, asked: &Examine, work: &Work<'_>) -> Examined {
    let context = &Context::new(engine, *work);
    let files = Files(PathBuf::from("/"));
    let (rights, of_rights) = host::rights(&files);
    let mut checks = host::kernel(&files, &rights);
    checks.extend(host::loop_devices(&files, &rights));
    checks.extend(of_rights);
    checks.extend(host::identity(context));
    checks.extend(host::programs(&volhook_volumes::find_program));
    checks.extend(engines::found(&asked.folders, context.deadline));
    checks.extend(engines::registered(&files, &rights));
    checks.extend(places::configuration(context, &rights));
    checks.extend(places::root(context, &rights));
    checks.extend(places::run_dir(context, &rights));
    checks.extend(state::all(context, &rights));
    let verdict = checks.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
    Examined { verdict, checks }
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
