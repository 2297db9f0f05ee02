//! `volhook volume create` and `inspect`: one volume, as people see it.

use crate::commands::listing;
use crate::output::dash;
use crate::output::object;
use crate::output::out;
use crate::output::pairs;
use crate::output::print_json;
use crate::progress;
use crate::template::Template;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;
use std::path::PathBuf;
use volhook_api::Kind;
use volhook_core::decision::Backing;
use volhook_core::decision::Pairs;
use volhook_core::lease::LeaseTable;
use volhook_core::lease::VolumeRecord;
use volhook_core::names::VolumeId;
use volhook_core::size;
use volhook_core::volume::Part;
use volhook_core::volume::Volume;
use volhook_engine::Context;
use volhook_engine::Failure;
use volhook_engine::ask;
use volhook_engine::ask::Wanted;
use volhook_engine::named;
use volhook_engine::start::storage;
use volhook_engine::start::storage::Top;
use volhook_leases::judge;
use volhook_volumes::Created;
use volhook_volumes::Size;
use volhook_volumes::StoreError;
use volhook_volumes::changes;

/// What `volhook volume create` is told.
pub(crate) struct Asked<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) tenant: &'a str,
    pub(crate) driver: Option<&'a str>,
    pub(crate) options: &'a [String],
    pub(crate) labels: &'a [String],
}

/// `volhook volume create [NAME]`: prints the volume's name. What exists already is fine if it is what was asked for.
pub(crate) fn create(context: &Context<'_>, asked: &Asked<'_>) -> Result<(), Failure> {
    let name = asked.name.map_or_else(generated_name, str::to_owned);
    let id = named::volume_id(asked.tenant, &name)?;
    let options = pairs("-o", asked.options)?;
    let labels = pairs("--label", asked.labels)?;
    let found = context.store.find(&id).map_err(|error| Failure::new(error).about(id.clone()))?;
    let driver = asked.driver.or(found.as_ref().map(|volume| volume.driver.as_str()));
    let (options, labels) = (&options, &labels);
    let wanted = Wanted { id: &id, driver, options, labels, member: None, before: &[] };
    let volume = ask::new_volume(context, &wanted)?;
    let existing = match found {
        Some(existing) => Some(existing),
        None => match progress::spinning("making the volume", || {
            context.store.create(&volume, context.long_deadline())
        }) {
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
                let is_too_large = matches!(error, StoreError::LargerThanFilesystem { .. });
                let failure = Failure::new(error).about(id.clone());
                return Err(if is_too_large {
                    failure.hint("ask for less, or put the state root on a larger filesystem")
                } else {
                    failure
                });
            }
        },
    };
    if let Some(existing) = existing {
        let different = difference(&existing, &volume, options, labels);
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
///
/// `format` is `docker` for docker's own field names, or a template; without one all that is known is shown.
pub(crate) fn inspect(
    context: &Context<'_>,
    tenant: &str,
    names: &[String],
    format: Option<&str>,
) -> Result<(), Failure> {
    let template = match format {
        None | Some("docker") => None,
        Some(text) => Some(Template::parse(text, &listing::FIELDS)?),
    };
    let table = context.grants()?;
    let mut volumes = Vec::new();
    let mut missing = Vec::new();
    for name in names {
        let id = named::volume_id(tenant, name)?;
        match Seen::find(context, &id)? {
            None => missing.push(format!("{id:?}")),
            Some(seen) => volumes.push(seen),
        }
    }
    if let Some(template) = template {
        for seen in &volumes {
            let holders = listing::holders(&table, seen.held());
            let now = Timestamp::now();
            let size = Size { bytes: seen.size(context)?, counted: now };
            let field = |name: &str| match name {
                "Mountpoint" => dash(seen.mountpoint(context).map(|path| path.display().to_string())),
                name => listing::field(context, &seen.volume, &holders, Some(size), now, name),
            };
            out(&format!("{}\n", template.render(field)))?;
        }
    } else {
        let describe = if format.is_some() { describe_as_docker } else { describe };
        let documents: Result<Vec<Value>, Failure> =
            volumes.iter().map(|seen| describe(context, &table, seen)).collect();
        print_json(&documents?.into())?;
    }
    if missing.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(format!("no such volume: {}", missing.join(", ")));
    Err(Failure { kind: Kind::NoSuchVolume, ..failure.hint("`volhook volume ls` shows which there are") })
}

/// A volume, or one of a pod, which lies in another.
struct Seen {
    volume: Volume,
    storage: Option<(Volume, Part)>,
}

impl Seen {
    fn find(context: &Context<'_>, id: &VolumeId) -> Result<Option<Self>, Failure> {
        if let Some((storage, part)) = context.store.find_part(id).map_err(Failure::new)? {
            let volume = listing::as_volume(&storage, &part);
            return Ok(Some(Self { volume, storage: Some((storage, part)) }));
        }
        let found = context.store.find(id).map_err(Failure::new)?;
        Ok(found.map(|volume| Self { volume, storage: None }))
    }

    /// On which containers have leases.
    fn held(&self) -> &Volume {
        self.storage.as_ref().map_or(&self.volume, |(storage, _)| storage)
    }

    fn size(&self, context: &Context<'_>) -> Result<u64, Failure> {
        let Some((storage, part)) = &self.storage else {
            return context.store.size(&self.volume).map_err(Failure::new);
        };
        let population = storage::of(storage)?.population;
        let top = Top::of(context, storage)?;
        let parts = std::slice::from_ref(part);
        let counted = changes(top.as_fd(), population, parts, None, context.long_deadline());
        let counted = counted.map_err(|error| {
            Failure::context(format!("cannot count what is in volume {:?}", self.volume.id), error)
        })?;
        Ok(counted.first().map_or(0, |changes| changes.bytes))
    }

    /// Its directory on the host.
    fn mountpoint(&self, context: &Context<'_>) -> Option<PathBuf> {
        match (&self.storage, &self.volume.backing) {
            (Some((storage, _)), _) => {
                listing::place_of_part(context, storage, &self.volume).map(PathBuf::from)
            }
            (None, Backing::Directory(_)) => Some(context.store.directory_path(&self.volume.id)),
            (None, Backing::HostPath(host)) => Some(PathBuf::from(host.path.as_str())),
            (None, Backing::Image(_) | Backing::Tmpfs(_) | Backing::Device(_)) => None,
        }
    }
}

/// With the fields of the Docker Engine API's `Volume`.
fn describe_as_docker(context: &Context<'_>, table: &LeaseTable, seen: &Seen) -> Result<Value, Failure> {
    let volume = &seen.volume;
    let place = seen.mountpoint(context).unwrap_or_else(|| context.store.place(seen.held()));
    Ok(json!({
        "CreatedAt": volume.created.to_string(),
        "Driver": volume.driver,
        "Labels": object(&volume.labels),
        "Mountpoint": place,
        "Name": volume.id.name.as_str(),
        "Options": object(&volume.options),
        "Scope": "local",
        "UsageData": {
            "RefCount": table.holders(&seen.held().id).count(),
            "Size": seen.size(context)?,
        },
    }))
}

fn describe(context: &Context<'_>, table: &LeaseTable, seen: &Seen) -> Result<Value, Failure> {
    let volume = &seen.volume;
    let (format, image, device) = match &volume.backing {
        Backing::Directory(_) | Backing::HostPath(_) => ("directory", None, None),
        Backing::Image(image) => {
            (image.filesystem.as_str(), Some(context.store.image_path(seen.held())), None)
        }
        Backing::Tmpfs(_) => ("tmpfs", None, None),
        Backing::Device(device) => (device.filesystem.as_str(), None, Some(device.path.as_str())),
    };
    let holders: Vec<Value> = table
        .holders(&seen.held().id)
        .map(|(grant, lease)| {
            let (state, evidence) = judge::standing(&context.ledger, grant);
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
        "mountpoint": seen.mountpoint(context),
        "image": image,
        "device": device,
        "created": volume.created.to_string(),
        "labels": object(&volume.labels),
        "options": object(&volume.options),
        "size": seen.size(context)?,
        "limit": volume.limit,
        "pod": volume.pod.as_ref().map(|member| member.pod.as_str()),
        "storage": seen.storage.as_ref().map(|(storage, _)| storage.id.name.as_str()),
        "holders": holders,
        "uuid": volume.uuid,
    }))
}
