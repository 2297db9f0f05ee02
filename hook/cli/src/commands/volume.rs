//! `volhook volume create` and `inspect`: one volume, as people see it.

use crate::format::Format;
use crate::output::document;
use crate::output::object;
use crate::output::out;
use crate::output::print_json;
use crate::output::report_all;
use crate::progress;
use crate::typed;
use crate::watch::Watch;
use serde_json::Value;
use serde_json::json;
use volhook_api::VolumeRef;
use volhook_api::volume::Create;
use volhook_api::volume::Details;
use volhook_api::volume::Inspect;
use volhook_core::names::Tenant;
use volhook_core::names::VolumeId;
use volhook_engine::Engine;
use volhook_engine::Failure;
use volhook_engine::named;
use volhook_engine::volumes::create;
use volhook_engine::volumes::inspect;

/// What `volhook volume create` is told.
pub(crate) struct Asked<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) tenant: &'a str,
    pub(crate) driver: Option<String>,
    pub(crate) options: &'a [String],
    pub(crate) labels: &'a [String],
}

/// `volhook volume create [NAME]`: prints the volume's name. What exists already is fine if it is what was asked for.
pub(crate) fn create(engine: &Engine, watch: &Watch, asked: Asked<'_>) -> Result<(), Failure> {
    let id = match asked.name {
        Some(name) => named::volume_id(asked.tenant, name)?,
        None => VolumeId {
            tenant: Tenant::new(asked.tenant).map_err(Failure::usage)?,
            name: create::generated_name().map_err(Failure::internal)?,
        },
    };
    let request = Create {
        name: VolumeRef::from(id),
        driver: asked.driver,
        options: typed::options(asked.options)?,
        labels: typed::labels(asked.labels)?,
    };
    let created =
        progress::spinning("making the volume", || create::create(engine, &request, &watch.work()))?;
    out(&format!("{}\n", created.name))
}

/// `volhook volume inspect NAME…`: what is there is shown, and what is not there is told.
///
/// `format` is `docker` for docker's own field names, or a template; without one all that is known is shown.
pub(crate) fn inspect(
    engine: &Engine,
    watch: &Watch,
    tenant: &str,
    names: &[String],
    format: Option<&str>,
) -> Result<(), Failure> {
    let for_docker = format == Some("docker");
    let format = format.filter(|_| !for_docker).map(Format::parse).transpose()?;
    let volumes = names.iter().map(|name| Ok(VolumeRef::from(named::volume_id(tenant, name)?)));
    let request = Inspect {
        volumes: volumes.collect::<Result<_, Failure>>()?,
        sizes: format.as_ref().is_none_or(|format| format.shows("Size") || format.shows("UsageData")),
    };
    let seen = progress::spinning("counting", || inspect::inspect(engine, &request, &watch.work()))?;
    match &format {
        Some(format) => {
            let documents: Result<Vec<Value>, Failure> = seen.volumes.iter().map(named_as_docker).collect();
            format.print_inspected(&documents?)?;
        }
        None if for_docker => {
            print_json(&seen.volumes.iter().map(as_docker).collect::<Vec<_>>().into())?;
        }
        None => print_json(&document(&seen.volumes)?)?,
    }
    report_all(seen.failed.into_iter().map(Failure::from).collect())
}

/// The document, with those of docker's fields besides that have another name.
fn named_as_docker(volume: &Details) -> Result<Value, Failure> {
    let mut document = document(volume)?;
    let Value::Object(map) = as_docker(volume) else { return Ok(document) };
    for (name, value) in
        map.into_iter().filter(|(name, _)| ["CreatedAt", "Scope", "UsageData"].contains(&name.as_str()))
    {
        document[name] = value;
    }
    Ok(document)
}

/// With the fields of the Docker Engine API's `Volume`.
fn as_docker(volume: &Details) -> Value {
    json!({
        "CreatedAt": volume.created,
        "Driver": volume.driver,
        "Labels": object(&volume.labels),
        "Mountpoint": volume.mountpoint.as_ref().or(volume.place.as_ref()),
        "Name": volume.name,
        "Options": object(&volume.options),
        "Scope": "local",
        "UsageData": {
            "RefCount": volume.holders.len(),
            "Size": volume.size,
        },
    })
}
