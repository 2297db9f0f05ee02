//! `volhook gc`: leases of the dead, what else is left of them, and what is past its time.

use crate::output::document;
use crate::output::print_json;
use crate::output::printed;
use crate::output::report_all;
use crate::progress;
use crate::watch::Watch;
use volhook_api::upkeep::Forgotten;
use volhook_api::upkeep::GivenBack;
use volhook_api::upkeep::Sweep;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::upkeep;

/// `volhook gc`: does what it can, and reports the rest.
pub(crate) fn gc(engine: &Engine, watch: &Watch, dry_run: bool, as_json: bool) -> Result<(), Failure> {
    let sweep = || upkeep::gc(engine, &Sweep { dry_run }, &watch.work());
    let swept = progress::spinning("cleaning up", sweep);
    if as_json {
        let mut failures: Vec<Failure> = swept.failed.iter().cloned().map(Failure::from).collect();
        failures.extend(document(&swept).and_then(|swept| print_json(&swept)).err());
        return report_all(failures);
    }
    let dead =
        swept.leases.iter().map(|GivenBack { container, evidence, .. }| format!("{container}: {evidence}"));
    let deleted = swept.deleted.iter().map(|volume| format!("deleted {volume}"));
    let forgotten = swept.history.iter().map(|Forgotten { name, .. }| format!("history {name}"));
    let done: Vec<String> = dead.chain(deleted).chain(forgotten).collect();
    printed(done, swept.failed.into_iter().map(Failure::from).collect())
}
