//! `volhook trash`: the time in which removing volumes can be taken back.

use crate::output::confirm;
use crate::output::dash;
use crate::output::note;
use crate::output::out;
use crate::output::print_table;
use crate::output::printed;
use crate::progress;
use crate::shape::Shape;
use crate::watch::Watch;
use jiff::Timestamp;
use volhook_api::volume::Emptied;
use volhook_api::volume::Restore;
use volhook_api::volume::Trashed;
use volhook_core::names::Tenant;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::volumes::trash;

/// `volhook trash ls`.
pub(crate) fn ls(engine: &Engine, watch: &Watch, shape: &Shape) -> Result<(), Failure> {
    let removed = trash::list(engine, &watch.work())?;
    let row = |volume: &Trashed| {
        vec![
            volume.name.to_string(),
            volume.driver.clone(),
            volume.removed.strftime("%Y-%m-%d %H:%M").to_string(),
            dash(volume.kept_until.map(|until| until.strftime("%Y-%m-%d %H:%M").to_string())),
            volume.uuid.clone(),
        ]
    };
    let header = ["name", "driver", "removed", "kept until", "uuid"];
    shape.print(&removed, || print_table(&header, removed.iter().map(row).collect()))
}

/// `volhook trash restore NAME`: the newest of that name, or the one with this uuid.
pub(crate) fn restore(engine: &Engine, watch: &Watch, tenant: &str, name: String) -> Result<(), Failure> {
    let tenant = Tenant::new(tenant).map_err(Failure::usage)?;
    let restored = trash::restore(engine, &Restore { which: name, tenant }, &watch.work())?;
    out(&format!("{restored}\n"))
}

/// `volhook trash empty`: what is in the trash is deleted for good; what gets there while somebody thinks stays.
pub(crate) fn empty(engine: &Engine, watch: &Watch, force: bool) -> Result<(), Failure> {
    let now = Timestamp::now();
    let removed = trash::list(engine, &watch.work())?;
    if removed.is_empty() {
        return Ok(());
    }
    if !force {
        for volume in &removed {
            note(&format!("{} (removed {})", volume.name, volume.removed));
        }
        if !confirm("Delete these volumes for good?")? {
            return Err(Failure::new("nothing was deleted"));
        }
    }
    report(progress::spinning("deleting", || trash::empty(engine, now, &watch.work()))?)
}

fn report(emptied: Emptied) -> Result<(), Failure> {
    let deleted = emptied.deleted.iter().map(|volume| format!("deleted {volume}"));
    printed(deleted, emptied.failed.into_iter().map(Failure::from).collect())
}
