//! `volhook gc`: leases of the dead, what else is left of them, and what is past its time.

use crate::output::out;
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
pub(crate) fn gc(engine: &Engine, watch: &Watch, dry_run: bool) -> Result<(), Failure> {
    let sweep = || upkeep::gc(engine, &Sweep { dry_run }, &watch.work());
    let swept = progress::spinning("cleaning up", sweep);
    for GivenBack { container, evidence, .. } in &swept.leases {
        out(&format!("{container}: {evidence}\n"))?;
    }
    for volume in &swept.deleted {
        out(&format!("deleted {volume}\n"))?;
    }
    for Forgotten { name, .. } in &swept.history {
        out(&format!("history {name}\n"))?;
    }
    report_all(swept.failed.into_iter().map(Failure::from).collect())
}
