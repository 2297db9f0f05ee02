//! `volhook volume`: volumes, as people see them.

use crate::context::Context;
use crate::error::Failure;
use crate::error::Kind;
use crate::evidence;
use crate::filter::Filter;
use crate::gather;
use crate::gather::Wanted;
use crate::output::dash;
use crate::output::object;
use crate::output::out;
use crate::output::print_json;
use crate::output::print_table;
use crate::template::Template;
use serde_json::Value;
use serde_json::json;
use volhook_core::decision::Backing;
use volhook_core::decision::Pairs;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::VolumeRecord;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_core::names::VolumeName;
use volhook_core::size;
use volhook_core::volume::Volume;
use volhook_volumes::Created;

/// What `--format` may name.
const FIELDS: [&str; 8] = ["Name", "Tenant", "Driver", "Size", "Limit", "Holders", "Created", "Labels"];

/// How `volhook volume ls` is to print.
pub(crate) struct Listed<'a> {
    pub(crate) filter: &'a [String],
    pub(crate) quiet: bool,
    pub(crate) format: Option<&'a str>,
    pub(crate) as_json: bool,
}

/// `volhook volume ls`.
pub(crate) fn ls(context: &Context, how: &Listed<'_>) -> Result<(), Failure> {
    let filter = Filter::parse(how.filter)?;
    let template = how.format.map(|text| Template::parse(text, &FIELDS)).transpose()?;
    let listing = context.store.list().map_err(Failure::new)?;
    let table = context.grants()?;
    let mut documents = Vec::new();
    let mut rows = Vec::new();
    for volume in &listing.volumes {
        let mut holders: Vec<String> =
            table.holders(&volume.id).map(|(grant, _)| grant.container.to_string()).collect();
        holders.sort();
        holders.dedup();
        if !filter.matches(volume, !holders.is_empty()) {
            continue;
        }
        if how.quiet {
            out(&format!("{}\n", volume.id))?;
            continue;
        }
        let used = match context.store.size(volume) {
            Ok(used) => Some(used),
            Err(error) => {
                eprintln!("Warning: {}", Failure::new(error).cause_line());
                None
            }
        };
        let row = vec![
            volume.id.to_string(),
            volume.driver.clone(),
            used.map_or("?".to_owned(), size::format),
            dash(volume.limit.map(size::format)),
            dash(Some(holders.join(","))),
            volume.created.strftime("%Y-%m-%d %H:%M").to_string(),
        ];
        if let Some(template) = &template {
            let labels: Vec<String> =
                volume.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let text = template.render(|field| match field {
                "Name" => volume.id.name.to_string(),
                "Tenant" => volume.id.tenant.to_string(),
                "Driver" => row[1].clone(),
                "Size" => row[2].clone(),
                "Limit" => row[3].clone(),
                "Holders" => row[4].clone(),
                "Created" => volume.created.to_string(),
                _ => labels.join(","),
            });
            out(&format!("{text}\n"))?;
        }
        rows.push(row);
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
    if how.quiet || template.is_some() {
        Ok(())
    } else if how.as_json {
        print_json(&documents.into())
    } else {
        print_table(&["name", "driver", "size", "limit", "held by", "created"], rows)
    }
}

/// What `volhook volume create` is told.
pub(crate) struct Asked<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) tenant: &'a str,
    pub(crate) driver: Option<&'a str>,
    pub(crate) options: &'a [String],
    pub(crate) labels: &'a [String],
}

/// `volhook volume create [NAME]`: prints the volume's name. What exists already is fine if it is what was asked for.
pub(crate) fn create(context: &Context, asked: &Asked<'_>) -> Result<(), Failure> {
    let name = asked.name.map_or_else(generated_name, str::to_owned);
    let id = VolumeId {
        tenant: Tenant::new(asked.tenant).map_err(Failure::usage)?,
        name: VolumeName::new(name).map_err(Failure::usage)?,
    };
    let options = pairs("-o", asked.options)?;
    let labels = pairs("--label", asked.labels)?;
    let found = context.store.find(&id).map_err(|error| Failure::new(error).about(id.clone()))?;
    let driver = asked.driver.or(found.as_ref().map(|volume| volume.driver.as_str()));
    let wanted = Wanted { id: &id, driver, options: &options, labels: &labels, member: None };
    let volume = gather::new_volume(context, &wanted)?;
    let existing = match found {
        Some(existing) => Some(existing),
        None => match context.store.create(&volume, context.deadline) {
            Ok(Created::New(volume)) => {
                context.append_volumes(&[VolumeRecord::Created {
                    volume: volume.id,
                    uuid: volume.uuid,
                    driver: volume.driver,
                    container: None,
                }])?;
                None
            }
            Ok(Created::Existing(existing)) => Some(existing),
            Err(error) => {
                let intention = format!("cannot create volume {id:?}");
                return Err(Failure::context(intention, error).about(id.clone()));
            }
        },
    };
    if let Some(existing) = existing {
        let different = difference(&existing, &volume, &options, &labels);
        if !different.is_empty() {
            return Err(Failure::new(format!("volume {id:?} exists already, and {}", different.join(", ")))
                .hint("choose another name, or ask for what it has"));
        }
    }
    out(&format!("{}\n", id.name))
}

/// As docker names volumes that nobody named.
fn generated_name() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

fn pairs(flag: &str, texts: &[String]) -> Result<Pairs, Failure> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(Failure::usage(format!("{flag} {text:?} is not KEY=VALUE"))),
        })
        .collect()
}

/// In what `existing` is not what was asked for: only what was said counts.
fn difference(existing: &Volume, asked: &Volume, options: &Pairs, labels: &Pairs) -> Vec<String> {
    let value =
        |pairs: &Pairs, name: &str| pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    let mut found = Vec::new();
    if existing.driver != asked.driver {
        found.push(format!("has driver {}, not {}", existing.driver, asked.driver));
        return found;
    }
    for (name, _) in options {
        let (has, wants) = (value(&existing.options, name), value(&asked.options, name));
        // 1G is 1024M.
        let bytes = |value: &Option<String>| value.as_ref().and_then(|text| size::parse(text).ok());
        if has != wants && (bytes(&has).is_none() || bytes(&has) != bytes(&wants)) {
            let text = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
            found.push(format!("has {name}={}, not {}", text(has), text(wants)));
        }
    }
    for (name, wants) in labels {
        let has = value(&existing.labels, name);
        if has.as_ref() != Some(wants) {
            found.push(format!(
                "has label {name}={}, not {wants}",
                has.unwrap_or_else(|| "nothing".to_owned())
            ));
        }
    }
    found
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
                "target": lease.target,
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
