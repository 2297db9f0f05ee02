//! `volhook volume`: volumes, as people see them.

use crate::context::Context;
use crate::error::Failure;
use crate::output::dash;
use crate::output::object;
use crate::output::print_json;
use crate::output::print_table;
use serde_json::json;
use volhook_core::size;

/// `volhook volume ls`.
pub(crate) fn ls(context: &Context, as_json: bool) -> Result<(), Failure> {
    let listing = context.store.list().map_err(Failure::new)?;
    let table = context.journal()?.read().map_err(Failure::new)?;
    let mut documents = Vec::new();
    let mut rows = Vec::new();
    for volume in &listing.volumes {
        let used = match context.store.size(volume) {
            Ok(used) => Some(used),
            Err(error) => {
                eprintln!("Warning: {}", Failure::new(error).cause_line());
                None
            }
        };
        let mut holders: Vec<String> =
            table.holders(&volume.id).map(|(grant, _)| grant.container.to_string()).collect();
        holders.sort();
        holders.dedup();
        rows.push(vec![
            volume.id.to_string(),
            volume.driver.clone(),
            used.map_or("?".to_owned(), size::format),
            dash(volume.limit.map(size::format)),
            dash(Some(holders.join(","))),
            volume.created.strftime("%Y-%m-%d %H:%M").to_string(),
        ]);
        documents.push(json!({
            "name": volume.id.name.as_str(),
            "tenant": volume.id.tenant.as_str(),
            "driver": volume.driver,
            "size": used,
            "limit": volume.limit,
            "holders": holders,
            "created": volume.created.to_string(),
            "labels": object(&volume.labels),
            "options": object(&volume.options),
            "pod": volume.pod.as_ref().map(|member| member.pod.as_str()),
            "uuid": volume.uuid,
        }));
    }
    for other in &listing.others {
        eprintln!("Warning: {} is no usable volume: {}", other.path.display(), other.reason);
    }
    if as_json {
        print_json(&documents.into())
    } else {
        print_table(&["name", "driver", "size", "limit", "held by", "created"], rows)
    }
}
