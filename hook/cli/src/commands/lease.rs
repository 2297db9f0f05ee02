//! `volhook lease`: who holds what, and giving back what nobody can prove to be dead.

use crate::output::Shown;
use crate::output::Tone;
use crate::output::confirm;
use crate::output::dash;
use crate::output::note;
use crate::output::out;
use crate::output::print_table;
use crate::shape::Shape;
use crate::watch::Watch;
use volhook_api::lease::Break;
use volhook_api::lease::Lease;
use volhook_api::lease::Leases;
use volhook_api::lease::Standing;
use volhook_core::names::ContainerId;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::held;
use volhook_engine::named;

/// `volhook lease ls`; with `wide`, and always as JSON, with how each stands.
pub(crate) fn ls(engine: &Engine, watch: &Watch, wide: bool, shape: &Shape) -> Result<(), Failure> {
    let judged = shape.shows("State", wide) || shape.shows("Evidence", wide);
    let leases = held::list(engine, &Leases { judged }, &watch.work())?;
    shape.print(&leases, || {
        let mut header = vec!["volume", "container", "driver", "access", "target", "pid", "since"];
        if wide {
            header.extend(["state", "evidence"]);
        }
        print_table(&header, leases.iter().map(row).collect())
    })
}

fn row(lease: &Lease) -> Vec<Shown> {
    let cells = [
        lease.volume.to_string(),
        lease.container.to_string(),
        lease.driver.clone(),
        format!("{} {}", lease.access, lease.sharing),
        dash(lease.target.as_ref().map(ToString::to_string)),
        lease.pid.map_or("pending".to_owned(), |pid| pid.to_string()),
        lease.since.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    ];
    let mut row: Vec<Shown> = cells.into_iter().map(Shown::from).collect();
    if let (Some(state), Some(evidence)) = (lease.state, &lease.evidence) {
        let tone = if state == Standing::Held { Tone::Good } else { Tone::Doubtful };
        row.extend([Shown::new(state.to_string(), Some(tone)), evidence.clone().into()]);
    }
    row
}

/// `volhook lease break VOLUME CONTAINER`: gives back what nobody can prove to be dead.
pub(crate) fn break_lease(
    engine: &Engine,
    watch: &Watch,
    (tenant, volume): (&str, &str),
    container: &str,
    force: bool,
) -> Result<(), Failure> {
    let asked = Break {
        volume: named::volume_id(tenant, volume)?.into(),
        container: ContainerId::recorded(container).map_err(Failure::usage)?,
    };
    let breakable = held::breakable(engine, &asked, &watch.work())?;
    for Lease { volume, container, access, sharing, since, state, evidence, .. } in &breakable.leases {
        let (state, evidence) = (dash(state.map(|state| state.to_string())), dash(evidence.clone()));
        note(&format!(
            "{volume}: {access} {sharing} by container {container} since {since}; {state}: {evidence}"
        ));
    }
    note(
        "If the container still runs, it keeps the volume mounted, and the next one that gets it may destroy its data.",
    );
    if !force && !confirm("Break the lease all the same?")? {
        return Err(Failure::new("nothing was changed"));
    }
    held::break_leases(engine, &breakable, &watch.work())?;
    out(&format!("{}\n", asked.volume))
}
