//! `volhook volume`: volumes, as people see them.

use crate::context::Context;
use crate::error::Failure;
use crate::error::Kind;
use crate::evidence;
use crate::output::dash;
use crate::output::object;
use crate::output::print_json;
use crate::output::print_table;
use serde_json::Value;
use serde_json::json;
use volhook_core::decision::Backing;
use volhook_core::lease::LeaseTable;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::size;
use volhook_core::volume::Volume;

/// `volhook volume ls`.
pub(crate) fn ls(context: &Context, as_json: bool) -> Result<(), Failure> {
    let listing = context.store.list().map_err(Failure::new)?;
    let table = context.grants()?;
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

/// `volhook volume inspect NAME…`: what is there is shown, and what is not there is told.
pub(crate) fn inspect(context: &Context, tenant: &str, names: &[String]) -> Result<(), Failure> {
    let tenant = Tenant::new(tenant).map_err(Failure::usage)?;
    let table = context.grants()?;
    let mut documents = Vec::new();
    let mut missing = Vec::new();
    for name in names {
        let id = VolumeId { tenant: tenant.clone(), name: VolumeName::new(name).map_err(Failure::usage)? };
        match context.store.find(&id).map_err(Failure::new)? {
            None => missing.push(format!("{id:?}")),
            Some(volume) => documents.push(describe(context, &table, &volume)?),
        }
    }
    print_json(&documents.into())?;
    if missing.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(format!("no such volume: {}", missing.join(", ")));
    Err(Failure { kind: Kind::NoSuchVolume, ..failure.hint("`volhook volume ls` shows which there are") })
}

fn describe(context: &Context, table: &LeaseTable, volume: &Volume) -> Result<Value, Failure> {
    let (format, mountpoint, image) = match &volume.backing {
        Backing::Directory(_) => {
            ("directory".to_owned(), Some(context.store.directory_path(&volume.id)), None)
        }
        Backing::Image(image) => {
            (image.filesystem.as_str().to_owned(), None, Some(context.store.image_path(volume)))
        }
    };
    let holders: Vec<Value> = table
        .holders(&volume.id)
        .map(|(grant, lease)| {
            let (state, evidence) = evidence::standing(context, grant);
            json!({
                "container": grant.container.as_str(),
                "access": lease.access.to_string(),
                "sharing": lease.sharing.to_string(),
                "target": lease.target.as_str(),
                "pid": grant.holder.as_ref().map(|holder| holder.pid),
                "since": grant.since.to_string(),
                "state": state,
                "evidence": evidence,
            })
        })
        .collect();
    Ok(json!({
        "name": volume.id.name.as_str(),
        "tenant": volume.id.tenant.as_str(),
        "driver": volume.driver,
        "format": format,
        "mountpoint": mountpoint,
        "image": image,
        "created": volume.created.to_string(),
        "labels": object(&volume.labels),
        "options": object(&volume.options),
        "size": context.store.size(volume).map_err(Failure::new)?,
        "limit": volume.limit,
        "pod": volume.pod.as_ref().map(|member| member.pod.as_str()),
        "holders": holders,
        "uuid": volume.uuid,
    }))
}
