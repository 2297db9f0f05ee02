//! The ground for asking plugins: which one is meant, how a new volume is to be made, and their failures in words.

use crate::context::Context;
use crate::failure::Failure;
use crate::host_grants;
use jiff::Timestamp;
use volhook_api::Kind;
use volhook_core::decision::Backing;
use volhook_core::decision::CreateRequest;
use volhook_core::decision::Pairs;
use volhook_core::decision::PluginKind;
use volhook_core::decision::Refusal;
use volhook_core::decision::Usage;
use volhook_core::mkfs;
use volhook_core::names::VolumeId;
use volhook_core::options;
use volhook_core::options::Given;
use volhook_core::plan;
use volhook_core::volume::PodMember;
use volhook_core::volume::Volume;
use volhook_plugin_host::Driver;
use volhook_plugin_host::PluginError;

pub(crate) fn driver(context: &Context<'_>, name: &str, id: &VolumeId) -> Result<Driver, Failure> {
    context.plugins().driver(name).map_err(|error| plugin_failure(context, error, Some(id)))
}

/// A volume that is to be made.
pub struct Wanted<'a> {
    /// Its name.
    pub id: &'a VolumeId,
    /// The driver; the default one where none is named.
    pub driver: Option<&'a str>,
    /// Options for the driver.
    pub options: &'a Pairs,
    /// Its labels.
    pub labels: &'a Pairs,
    /// The pod that it belongs to, and what it is there.
    pub member: Option<&'a PodMember>,
    /// Those that are to be made before it and are not there yet: they count already for a driver that rations.
    pub before: &'a [Volume],
}

/// Asks the driver how a new volume is to be made.
pub fn new_volume(context: &Context<'_>, wanted: &Wanted<'_>) -> Result<Volume, Failure> {
    let Wanted { id, options, labels, member, .. } = *wanted;
    let config = context.config()?;
    let name = wanted.driver.unwrap_or(&config.default_driver);
    let driver = driver(context, name, id)?;
    let info = driver.describe().map_err(|error| plugin_failure(context, error, Some(id)))?;
    let whose = format!("volume {id:?}");
    options::check((PluginKind::Driver, name), Given::Option, Some(&whose), &info.options, options).map_err(
        |error| {
            let mut failure = option_failure(error).about(id.clone());
            failure.hints.extend(docker_habit(options));
            failure
        },
    )?;
    let settings = config.settings(name)?;
    options::check((PluginKind::Driver, name), Given::Setting, None, &info.settings, &settings)
        .map_err(option_failure)?;
    let usage = if driver.rations() {
        let mut usage = context.store.usage(&id.tenant, labels).map_err(Failure::new)?;
        wanted.before.iter().for_each(|volume| volume.add_to(&mut usage));
        usage
    } else {
        Usage::default()
    };
    let request = CreateRequest {
        volume: id.name.to_string(),
        tenant: id.tenant.to_string(),
        pod: member.map(|member| member.pod.to_string()),
        options: options.clone(),
        labels: labels.clone(),
        settings,
        usage,
    };
    let answer = driver.create(&request).map_err(|error| plugin_failure(context, error, Some(id)))?;
    let creation = answer.map_err(|refusal| {
        refused(&refusal, format!("driver {name} refuses to create volume {id:?}"), Some(id))
    })?;
    let uuid = uuid::Uuid::new_v4().to_string();
    let volume = plan::new_volume(id.clone(), labels, member, name, creation, uuid, Timestamp::now());
    host_grants::check_new(context, &volume)?;
    if let Backing::Image(image) = &volume.backing {
        mkfs::arguments(image.filesystem, &image.mkfs).map_err(|error| {
            let hint = error.hint();
            Failure::context(format!("cannot create volume {id:?}"), error).hint(hint).about(id.clone())
        })?;
    }
    Ok(volume)
}

/// What is meant by the options of docker's own local driver, which hands them to mount(8); the driver's own error stands
/// above it.
fn docker_habit(options: &Pairs) -> Option<String> {
    let value = |name: &str| options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let flags: Vec<&str> = value("o").into_iter().flat_map(|flags| flags.split(',')).collect();
    let bind = flags.iter().any(|flag| matches!(*flag, "bind" | "rbind"));
    match (value("type"), value("device")) {
        (Some("tmpfs"), _) => Some("docker's `-o type=tmpfs` is driver tmpfs here: `volhook volume create -d tmpfs NAME`".to_owned()),
        (_, Some(device)) if bind => Some(format!(
            "docker's `-o o=bind -o device=PATH` is driver host here: `volhook volume create -d host -o path={device} NAME`, with a grant for the path in the configuration"
        )),
        (Some(filesystem @ ("ext4" | "xfs" | "btrfs")), Some(device)) => Some(format!(
            "docker's `-o type={filesystem} -o device={device}` is driver device here: `volhook driver inspect device` lists its options"
        )),
        (Some(_), _) | (_, Some(_)) => Some(
            "these are options of docker's local driver, which hands them to mount(8); here drivers host, device and tmpfs do what can be done of that".to_owned(),
        ),
        (None, None) => None,
    }
}

pub(crate) fn refused(refusal: &Refusal, who: String, volume: Option<&VolumeId>) -> Failure {
    let mut failure = Failure::new(format!("{who}: {}", refusal.reason));
    failure.hints.extend(refusal.hint.clone());
    failure.volume = volume.cloned();
    failure
}

pub(crate) fn option_failure(error: Box<options::OptionError>) -> Failure {
    let hint = error.hint();
    Failure::new(error).hint(hint)
}

pub(crate) fn plugin_failure(
    context: &Context<'_>,
    error: PluginError,
    volume: Option<&VolumeId>,
) -> Failure {
    let hint = match &error {
        PluginError::Fault { plugin, .. } => {
            Some(format!("what it was asked: {}", context.decisions().failure(plugin).display()))
        }
        _ => None,
    };
    let mut failure = match (error, volume) {
        (PluginError::Unknown { kind, name, installed }, volume) => {
            let whose = volume.map_or(String::new(), |id| format!(" for volume {id:?}"));
            let unknown = Failure::new(format!("unknown {kind} {name:?}{whose}"));
            Failure { kind: Kind::NoSuchPlugin, ..unknown }
                .hint(format!("installed: {}", installed.join(", ")))
        }
        (error, Some(id)) => Failure::context(format!("cannot decide about volume {id:?}"), error),
        (error, None) => Failure::new(error),
    };
    failure.hints.extend(hint);
    failure.volume = volume.cloned();
    failure
}
