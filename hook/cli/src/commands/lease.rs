//! `volhook lease` and `volhook gc`: who holds what, and giving back what is dead.

use crate::context::Context;
use crate::error::Failure;
use crate::evidence;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use crate::record;
use jiff::Timestamp;
use serde_json::json;
use volhook_core::lease::LeaseRecord;

/// `volhook lease ls`.
pub(crate) fn ls(context: &Context, as_json: bool) -> Result<(), Failure> {
    let table = context.journal()?.read().map_err(Failure::new)?;
    let mut leases: Vec<_> =
        table.grants().flat_map(|grant| grant.leases.iter().map(move |l| (l, grant))).collect();
    leases.sort_by(|(a, x), (b, y)| {
        (&a.volume, &x.container, &x.attempt).cmp(&(&b.volume, &y.container, &y.attempt))
    });
    if as_json {
        let documents = leases.iter().map(|(lease, grant)| {
            json!({
                "volume": lease.volume.name.as_str(),
                "tenant": lease.volume.tenant.as_str(),
                "container": grant.container.as_str(),
                "driver": lease.driver,
                "access": lease.access.to_string(),
                "sharing": lease.sharing.to_string(),
                "target": lease.target.as_str(),
                "pid": grant.holder.as_ref().map(|holder| holder.pid),
                "attempt": grant.attempt,
                "since": grant.since.to_string(),
            })
        });
        return print_json(&documents.collect::<Vec<_>>().into());
    }
    let rows = leases.iter().map(|(lease, grant)| {
        vec![
            lease.volume.to_string(),
            grant.container.to_string(),
            lease.driver.clone(),
            format!("{} {}", lease.access, lease.sharing),
            lease.target.to_string(),
            grant.holder.as_ref().map_or("pending".to_owned(), |holder| holder.pid.to_string()),
            grant.since.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        ]
    });
    print_table(&["volume", "container", "driver", "access", "target", "pid", "since"], rows.collect())
}

/// `volhook gc`.
pub(crate) fn gc(context: &Context) -> Result<(), Failure> {
    let table = context.journal()?.read().map_err(Failure::new)?;
    let (dead, _) = evidence::dead(context, table.grants());
    let mut locked = context.journal()?.lock(context.deadline).map_err(Failure::new)?;
    let records: Vec<LeaseRecord> =
        dead.into_iter().filter(|over| over.stands_in(locked.table())).map(|over| over.record).collect();
    locked.append(Timestamp::now(), &records).map_err(Failure::new)?;
    drop(locked);
    for record in &records {
        if let LeaseRecord::Released { attempt, container, evidence, .. } = record {
            record::remove(context, attempt)?;
            out(&format!("{container}: {evidence}\n"))?;
        }
    }
    Ok(())
}
