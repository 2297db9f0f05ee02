//! volhook's other programs: whether they are beside this one, and of its version.

use std::path::Path;
use std::process::Command;
use volhook_api::doctor::Finding;
use volhook_face::beside::Beside;
use volhook_face::beside::DEV;
use volhook_face::beside::HARNESS;
use volhook_face::beside::NotThere;
use volhook_face::compiler;
use volhook_face::compiler::COMPILER;
use volhook_plugin_host::CompileError;
use volhook_plugin_host::compiling;

const CHECK: &str = "own-programs";

/// Whether they are there and fit.
pub(super) fn beside() -> Vec<Finding> {
    let mut there = Vec::new();
    let mut missing = Vec::new();
    let mut findings = Vec::new();
    match compiler::check() {
        Ok(_) => there.push(COMPILER.name),
        Err(error) => findings.push(no_compiler(error)),
    }
    for program in [DEV, HARNESS] {
        match program.path() {
            Ok(path) => match version(program, &path) {
                Ok(()) => there.push(program.name),
                Err(finding) => findings.push(finding),
            },
            Err(NotThere::Missing { .. }) => missing.push(program.name),
            Err(error @ NotThere::Foreign { .. }) => {
                findings.push(Finding::warning(CHECK, error.to_string(), error.hint()));
            }
            // The compiler's finding says so already.
            Err(NotThere::Nowhere(_)) => {}
        }
    }
    if findings.is_empty() {
        let mut found = format!("{} of this version", there.join(", "));
        if !missing.is_empty() {
            found += &format!("; not there, and only needed by authors: {}", missing.join(", "));
        }
        findings.push(Finding::ok(CHECK, found));
    }
    findings
}

fn no_compiler(error: CompileError) -> Finding {
    let mend = error.hint().unwrap_or_else(|| INSTALL.to_owned());
    let cause = volhook_engine::Failure::new(error).cause_line();
    Finding::warning(CHECK, format!("{cause}; what is installed works, and nothing can be installed"), mend)
}

const INSTALL: &str = "install all of volhook's programs of one version";

/// Whether a program says that it is of this version.
fn version(program: Beside, path: &Path) -> Result<(), Finding> {
    let needed = format!("{} {}", program.name, env!("CARGO_PKG_VERSION"));
    let mut command = Command::new(path);
    command.env_clear();
    let said = compiling::version_of(command).map_err(|error| {
        Finding::warning(CHECK, format!("{} cannot be run: {error}", path.display()), INSTALL)
    })?;
    if said.trim_end() == needed {
        return Ok(());
    }
    Err(Finding::warning(CHECK, format!("{} is not {needed}", path.display()), INSTALL))
}
