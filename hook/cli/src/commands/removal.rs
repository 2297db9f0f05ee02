//! `volhook volume rm` and `prune`: what would go is shown, somebody agrees, and it goes to the trash.

use crate::output::confirm;
use crate::output::note;
use crate::output::out;
use crate::output::printed;
use crate::typed;
use crate::watch::Watch;
use volhook_api::Kind;
use volhook_api::VolumeRef;
use volhook_api::volume::Removable;
use volhook_api::volume::Removal;
use volhook_api::volume::Selection;
use volhook_core::names::Tenant;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::named;
use volhook_engine::volumes::remove;

/// What `volhook volume rm` is told.
pub(crate) struct Removing<'a> {
    pub(crate) names: &'a [String],
    /// Instead of names: all volumes but those of pods.
    pub(crate) all: bool,
    pub(crate) filter: &'a [String],
    pub(crate) tenant: &'a str,
    /// Skips the question, never the guard; and what is not there need not be removed.
    pub(crate) force: bool,
}

/// `volhook volume rm`: all that can go goes to the trash, the rest is reported.
pub(crate) fn rm(engine: &Engine, watch: &Watch, told: &Removing<'_>) -> Result<(), Failure> {
    let meant = if told.all {
        let tenant = Tenant::new(told.tenant).map_err(Failure::usage)?;
        Selection::All { tenant, filter: typed::filter(told.filter)? }
    } else {
        let names = told.names.iter().map(|name| Ok(VolumeRef::from(named::volume_id(told.tenant, name)?)));
        Selection::Named(names.collect::<Result<_, Failure>>()?)
    };
    let removal = remove::removable(engine, &meant, &watch.work())?;
    let line = |volume: &Removable| {
        format!("{} (driver {}, created {})", volume.name, volume.driver, volume.created)
    };
    agreed_and_removed(engine, watch, removal, told.force, line)
}

/// What `volhook volume prune` is told.
pub(crate) struct Pruning<'a> {
    pub(crate) days: u32,
    pub(crate) filter: &'a [String],
    pub(crate) tenant: &'a str,
    pub(crate) dry_run: bool,
    pub(crate) force: bool,
}

/// `volhook volume prune`: removes what no container has had for some days and no pod owns.
pub(crate) fn prune(engine: &Engine, watch: &Watch, told: &Pruning<'_>) -> Result<(), Failure> {
    let tenant = Tenant::new(told.tenant).map_err(Failure::usage)?;
    let meant = Selection::Unused { tenant, filter: typed::filter(told.filter)?, days: told.days };
    let removal = remove::removable(engine, &meant, &watch.work())?;
    let line = |volume: &Removable| {
        let unused = volume.unused.as_deref().unwrap_or_default();
        format!("{}: {unused}", volume.name)
    };
    if told.dry_run {
        return removal.volumes.iter().try_for_each(|volume| out(&(line(volume) + "\n")));
    }
    agreed_and_removed(engine, watch, removal, told.force, line)
}

/// Removes what somebody agrees to; with `force` nobody is asked, and what is not there is no failure.
fn agreed_and_removed(
    engine: &Engine,
    watch: &Watch,
    mut removal: Removal,
    force: bool,
    line: impl Fn(&Removable) -> String,
) -> Result<(), Failure> {
    let mut failures: Vec<Failure> = removal.failed.drain(..).map(Failure::from).collect();
    if !removal.volumes.is_empty() && !force {
        removal.volumes.iter().for_each(|volume| note(&line(volume)));
        if !confirm("Remove these volumes?")? {
            return Err(Failure::new("nothing was removed"));
        }
    }
    let mut removed = Vec::new();
    if !removal.volumes.is_empty() {
        let outcome = remove::remove(engine, &removal, &watch.work())?;
        removed = outcome.removed;
        failures.extend(outcome.failed.into_iter().map(Failure::from));
    }
    failures.retain(|failure| !(force && failure.kind == Kind::NoSuchVolume));
    printed(removed.iter().map(ToString::to_string), failures)
}
