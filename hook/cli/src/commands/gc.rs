//! `volhook gc`: leases of the dead, what else is left of them, and what is past its time.

use crate::commands::removal;
use crate::output::out;
use crate::watch::Watch;
use volhook_api::upkeep::Forgotten;
use volhook_api::upkeep::GivenBack;
use volhook_api::upkeep::Sweep;
use volhook_engine::Context;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::upkeep;

/// `volhook gc`: does what it can, and reports the rest.
pub(crate) fn gc(engine: &Engine, watch: &Watch, dry_run: bool) -> Result<(), Failure> {
    let swept = upkeep::gc(engine, &Sweep { dry_run }, &watch.work());
    for GivenBack { container, evidence, .. } in &swept.leases {
        out(&format!("{container}: {evidence}\n"))?;
    }
    for Forgotten { name, .. } in &swept.history {
        out(&format!("history {name}\n"))?;
    }
    let mut failures: Vec<Failure> = swept.failed.into_iter().map(Failure::from).collect();
    if !dry_run {
        failures.extend(removal::delete_expired(&Context::new(engine, watch.work())).err());
    }
    removal::report_all(failures)
}
