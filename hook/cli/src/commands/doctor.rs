//! `volhook doctor`: whether this host can do what volhook needs, and what is left lying about.

use crate::output::Tone;
use crate::output::out_styled;
use crate::output::print_json;
use crate::watch::Watch;
use serde_json::json;
use std::fmt::Write as _;
use volhook_api::doctor::Examine;
use volhook_api::doctor::Finding;
use volhook_api::doctor::Verdict;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::doctor;

/// `volhook doctor`: looks, changes nothing, and fails if there is a problem.
pub(crate) fn doctor(engine: &Engine, watch: &Watch, as_json: bool) -> Result<(), Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let asked = Examine { folders: std::env::split_paths(&path).collect() };
    let examined = doctor::examine(engine, &asked, &watch.work());
    if as_json {
        print_json(&json!(examined))?;
    } else {
        out_styled(&for_people(&examined.checks))?;
    }
    match examined.checks.iter().filter(|finding| finding.verdict == Verdict::Problem).count() {
        0 => Ok(()),
        1 => Err(Failure::new("volhook found a problem on this host")),
        many => Err(Failure::new(format!("volhook found {many} problems on this host"))),
    }
}

fn for_people(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Finding { check, verdict, found, mend } in findings {
        let tone = match verdict {
            Verdict::Ok => Tone::Good,
            Verdict::Warning => Tone::Doubtful,
            Verdict::Problem => Tone::Bad,
        };
        let style = tone.style();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{style}{:<7}{style:#}  {check:<width$}  {found}", verdict.as_str());
        if let Some(mend) = mend {
            let _ = writeln!(text, "{:<7}  {:<width$}  hint: {mend}", "", "");
        }
    }
    text
}
