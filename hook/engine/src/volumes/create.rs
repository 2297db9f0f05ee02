//! A volume that is asked for by name, new or there already.

use crate::ask;
use crate::ask::Wanted;
use crate::context::Context;
use crate::engine::Engine;
use crate::failure::Failure;
use volhook_api::Kind;
use volhook_api::volume::Create;
use volhook_api::volume::Created;
use volhook_core::decision::Pairs;
use volhook_core::decision::last_of_each;
use volhook_core::names::NameError;
use volhook_core::names::VolumeName;
use volhook_core::record::VolumeRecord;
use volhook_core::size;
use volhook_core::volume::Volume;
use volhook_leases::Work;
use volhook_volumes::StoreError;

/// A name for a volume that nobody named, as docker makes them.
///
/// # Errors
/// Never: the type wants it.
pub fn generated_name() -> Result<VolumeName, NameError> {
    VolumeName::new(format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()))
}

/// Makes the volume. What exists already is fine if it is what was asked for.
///
/// # Errors
/// When one of that name is something else ([`Kind::Exists`]), when the driver refuses it, and when it cannot be made.
pub fn create(engine: &Engine, asked: &Create, work: &Work<'_>) -> Result<Created, Failure> {
    let context = &Context::new(engine, *work);
    let id = asked.name.id();
    let (options, labels) = (last_of_each(&asked.options), last_of_each(&asked.labels));
    let found = context.store.find(id).map_err(|error| Failure::new(error).about(id.clone()))?;
    let driver = asked.driver.as_deref().or(found.as_ref().map(|volume| volume.driver.as_str()));
    let wanted = Wanted { id, driver, options: &options, labels: &labels, member: None, before: &[] };
    let volume = ask::new_volume(context, &wanted)?;
    let existing = match found {
        Some(existing) => existing,
        None => match context.store.create(&volume, context.long_deadline()) {
            Ok(volhook_volumes::Created::New(volume)) => {
                context.append_volumes(&[VolumeRecord::created(&volume, None)])?;
                return Ok(Created { name: asked.name.clone(), new: true });
            }
            Ok(volhook_volumes::Created::Existing(existing)) => existing,
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
    let different = difference(&existing, &volume, &options, &labels);
    if different.is_empty() {
        return Ok(Created { name: asked.name.clone(), new: false });
    }
    let failure = Failure::new(format!("volume {id:?} exists already, and {}", different.join(", ")));
    let failure = failure.hint("choose another name, or ask for what it has").about(id.clone());
    Err(Failure { kind: Kind::Exists, ..failure })
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
            let has = has.unwrap_or_else(|| "nothing".to_owned());
            found.push(format!("has label {name}={has}, not {wants}"));
        }
    }
    found
}
